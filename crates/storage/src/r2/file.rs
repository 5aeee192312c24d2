//! The SQLite file of a bucket.
//!
//! Objects lie in one table by key, so that a list walks nothing but keys and metadata;
//! values up to 32 KiB lie in a table of their own, larger ones in blobs, and an object
//! that was uploaded in parts points at its upload, whose parts are blobs.
//!
//! Writes share one transaction a group, each in a savepoint; a put checks its conditions
//! inside of it, so of any number of puts with `If-None-Match: *` one wins. Blobs are in
//! place before the transaction names them, and go after the commit that dropped them.
//! When a commit fails so that nobody knows whether it happened, both stay: garbage may
//! be left, never a name without its file.

mod read;
mod write;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use engawa_model::{AccountId, BucketName, Clock};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};
use tokio::sync::oneshot;

use super::error::R2Error;
use super::lifecycle::{self, Due, Fate};
use super::list;
use super::parts::Pins;
use super::sweep::Swept;
use super::types::{
    HttpMetadata, R2Get, R2GetRequest, R2List, R2Object, R2Put, R2PutRequest, R2UploadedPart,
    StorageClass,
};
use crate::blobs::{BlobFolder, BlobId, BlobIo, Published};
use crate::layout::{Layout, Resource};
use crate::pool::{self, Group, Refused};
use crate::seal::Salt;
use crate::sqlite::{self, Schema};
use crate::stamp::Stamps;
use crate::{Digests, Error};

pub(crate) const SCHEMA: Schema = Schema {
    what: "an R2 bucket",
    application_id: *b"EgR2",
    migrations: &[
        "
        -- key: the canonical composition, as bytes; name: as uploaded, if that differs.
        -- One of inline_id, blob, upload says where the value is.
        CREATE TABLE objects (
            key BLOB NOT NULL PRIMARY KEY,
            name TEXT,
            version TEXT NOT NULL,
            size INTEGER NOT NULL,
            etag TEXT NOT NULL,
            uploaded_ms INTEGER NOT NULL,
            stamp INTEGER NOT NULL,
            md5 BLOB, sha1 BLOB, sha256 BLOB, sha384 BLOB, sha512 BLOB,
            http_metadata TEXT,
            custom_metadata TEXT,
            storage_class INTEGER NOT NULL,
            inline_id INTEGER,
            blob BLOB,
            upload TEXT
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX objects_blob ON objects (blob) WHERE blob IS NOT NULL;
        CREATE TABLE inline_values (id INTEGER PRIMARY KEY, value BLOB NOT NULL) STRICT;
        -- parts.blob: NULL for a part of no bytes. state: 0 open, 1 completed, 2 aborted.
        CREATE TABLE uploads (
            id TEXT NOT NULL PRIMARY KEY,
            key BLOB NOT NULL,
            name TEXT,
            http_metadata TEXT,
            custom_metadata TEXT,
            storage_class INTEGER NOT NULL,
            state INTEGER NOT NULL,
            created_ms INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX uploads_age ON uploads (state, created_ms);
        CREATE TABLE parts (
            upload TEXT NOT NULL,
            number INTEGER NOT NULL,
            size INTEGER NOT NULL,
            md5 BLOB NOT NULL,
            blob BLOB,
            PRIMARY KEY (upload, number)
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX parts_blob ON parts (blob) WHERE blob IS NOT NULL;
    ",
        "
        -- Values under a customer's key: the MD5 of the key, and the salt of a value that
        -- is not in parts (see `seal`); each part has its own.
        ALTER TABLE objects ADD COLUMN ssec_md5 BLOB;
        ALTER TABLE objects ADD COLUMN ssec_salt BLOB;
        ALTER TABLE uploads ADD COLUMN ssec_md5 BLOB;
        ALTER TABLE parts ADD COLUMN ssec_salt BLOB;
    ",
    ],
};

pub(super) type Key = (AccountId, BucketName);
pub(super) type Reply<T> = oneshot::Sender<Result<T, R2Error>>;

/// What every bucket needs.
pub(super) struct Context {
    pub(super) layout: Arc<Layout>,
    pub(super) clock: Clock,
    pub(super) stamps: Arc<Stamps>,
    pub(super) io: BlobIo,
    pub(super) pins: Pins,
    pub(super) part_min_bytes: u64,
    /// Buckets whose garbage was looked for in this process.
    pub(super) collected: Mutex<HashSet<Key>>,
}

impl Context {
    pub(super) fn path(&self, (account, bucket): &Key) -> PathBuf {
        self.layout
            .database_file(Resource::R2, account, bucket.as_str())
    }

    /// Whether this process opens a bucket for the first time.
    fn is_first_open(&self, key: &Key) -> bool {
        self.collected
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key.clone())
    }

    pub(super) fn folder(&self, (account, bucket): &Key) -> BlobFolder {
        let path = self
            .layout
            .blobs_dir(Resource::R2, account, bucket.as_str());
        BlobFolder::new(self.layout.clone(), self.io.clone(), path)
    }
}

/// The writer of one bucket.
pub(super) struct Bucket {
    connection: Connection,
    shared: Arc<Shared>,
}

/// What the writer and the readers of one bucket have in common.
pub(super) struct Shared {
    context: Arc<Context>,
    path: PathBuf,
    folder: BlobFolder,
    /// Whether garbage is still to be looked for.
    garbage: AtomicBool,
}

/// A reader of one bucket.
pub(super) struct Reader {
    connection: Connection,
    shared: Arc<Shared>,
}

/// A value in its place, that no row names yet.
#[derive(Debug)]
pub(super) enum Value {
    Inline(bytes::Bytes),
    Blob(Published),
}

pub(super) enum Write {
    Put {
        request: Box<R2PutRequest>,
        value: Value,
        /// Of a value under the request's customer key.
        salt: Option<Salt>,
        size_bytes: u64,
        digests: Box<Digests>,
        reply: Reply<R2Put>,
    },
    Delete {
        keys: Vec<String>,
        reply: Reply<()>,
    },
    CreateUpload {
        id: String,
        request: Box<super::types::R2CreateMultipartRequest>,
        reply: Reply<()>,
    },
    PutPart {
        key: String,
        upload: String,
        number: u32,
        size_bytes: u64,
        md5: [u8; 16],
        /// The MD5 of the customer's key that it is under.
        key_md5: Option<[u8; 16]>,
        salt: Option<Salt>,
        /// `None`: a part of no bytes.
        blob: Option<Published>,
        reply: Reply<()>,
    },
    Complete {
        key: String,
        upload: String,
        parts: Vec<R2UploadedPart>,
        reply: Reply<R2Object>,
    },
    Abort {
        key: String,
        upload: String,
        reply: Reply<()>,
    },
    /// Aborts unfinished uploads that are due, and forgets finished ones; not all at once.
    SweepUploads {
        aborts: Vec<Due>,
        reply: Reply<SweptUploads>,
    },
    /// Deletes or changes objects that are still of these versions.
    SweepObjects {
        due: Vec<DueObject>,
        reply: Reply<Swept>,
    },
}

pub(super) struct SweptUploads {
    pub(super) aborted: u64,
    /// There may be more.
    pub(super) has_more: bool,
}

/// An object whose time has come.
#[derive(Debug, Clone)]
pub(super) struct DueObject {
    pub(super) identity: Vec<u8>,
    pub(super) version: String,
    pub(super) fate: Fate,
}

/// A page of a bucket's keys, looked through.
pub(super) struct DuePage {
    pub(super) due: Vec<DueObject>,
    /// Where the next page begins.
    pub(super) next: Option<Vec<u8>>,
}

pub(super) enum Read {
    Head {
        key: String,
        reply: Reply<Option<R2Object>>,
    },
    Get {
        request: R2GetRequest,
        reply: Reply<R2Get>,
    },
    List {
        plan: list::Plan,
        http_metadata: bool,
        custom_metadata: bool,
        reply: Reply<R2List>,
    },
    /// Looks through a page of keys for objects whose time has come.
    Due {
        plan: Arc<lifecycle::Plan>,
        prefix: Vec<u8>,
        from: Vec<u8>,
        reply: Reply<DuePage>,
    },
}

impl pool::File for Bucket {
    type Key = Key;
    type Context = Arc<Context>;
    type Write = Write;
    type Read = Read;
    type Shared = Shared;
    type Reader = Reader;
    type Error = Error;

    fn account(key: &Key) -> &AccountId {
        &key.0
    }

    fn open(context: &Arc<Context>, key: &Key) -> Result<Self, Error> {
        let path = context.path(key);
        if let Some(folder) = path.parent() {
            context.layout.ensure_folder(folder)?;
        }
        let connection = sqlite::open(&path, &SCHEMA)?;
        let shared = Arc::new(Shared {
            folder: context.folder(key),
            context: context.clone(),
            path,
            garbage: AtomicBool::new(context.is_first_open(key)),
        });
        Ok(Self { connection, shared })
    }

    fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    fn open_reader(shared: &Arc<Shared>) -> Result<Reader, Error> {
        Ok(Reader {
            connection: sqlite::open_reader(&shared.path)?,
            shared: shared.clone(),
        })
    }

    fn run_group(&mut self, group: &mut Group<'_, Self>) -> bool {
        write::run_group(self, group)
    }

    fn run_read(reader: &mut Reader, request: Read) -> Option<Write> {
        read::run(reader, request);
        // Behind an answer, so that no request waits for it; others find other readers.
        if reader.shared.garbage.swap(false, Ordering::Relaxed) {
            reader.collect_garbage();
        }
        None
    }

    fn refuse_write(request: Write, error: &Error) {
        let error = R2Error::from(error.clone());
        // Nobody listens any more: then there is nobody to tell.
        let _ = match request {
            Write::Put { reply, .. } => reply.send(Err(error)).is_ok(),
            Write::Complete { reply, .. } => reply.send(Err(error)).is_ok(),
            Write::SweepUploads { reply, .. } => reply.send(Err(error)).is_ok(),
            Write::SweepObjects { reply, .. } => reply.send(Err(error)).is_ok(),
            Write::Delete { reply, .. }
            | Write::CreateUpload { reply, .. }
            | Write::PutPart { reply, .. }
            | Write::Abort { reply, .. } => reply.send(Err(error)).is_ok(),
        };
    }

    fn refuse_read(request: Read, error: &Error) {
        let error = R2Error::from(error.clone());
        let _ = match request {
            Read::Head { reply, .. } => reply.send(Err(error)).is_ok(),
            Read::Get { reply, .. } => reply.send(Err(error)).is_ok(),
            Read::List { reply, .. } => reply.send(Err(error)).is_ok(),
            Read::Due { reply, .. } => reply.send(Err(error)).is_ok(),
        };
    }
}

impl From<Refused> for R2Error {
    fn from(refused: Refused) -> Self {
        Error::from(refused).into()
    }
}

/// Columns of an object, in the order that [`object`] and [`place`] read.
macro_rules! columns {
    () => {
        "key, name, version, size, etag, uploaded_ms, \
         md5, sha1, sha256, sha384, sha512, http_metadata, custom_metadata, storage_class, \
         ssec_md5, inline_id, blob, upload, ssec_salt"
    };
}
use columns;

/// Where an object's value is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Inline(i64),
    Blob(BlobId),
    Parts(String),
}

/// Reads an object from a row that begins with [`columns`].
fn object(row: &Row<'_>) -> rusqlite::Result<R2Object> {
    let key = match row.get_ref(1)? {
        ValueRef::Null => String::from_utf8_lossy(row.get_ref(0)?.as_blob()?).into_owned(),
        name => name.as_str()?.to_owned(),
    };
    Ok(R2Object {
        key,
        version: row.get(2)?,
        size_bytes: unsigned(row.get(3)?),
        etag: row.get(4)?,
        uploaded_ms: unsigned(row.get(5)?),
        checksums: Digests {
            md5: row.get(6)?,
            sha1: row.get(7)?,
            sha256: row.get(8)?,
            sha384: digest(row, 9)?,
            sha512: digest(row, 10)?,
        },
        http_metadata: from_json(row, 11)?,
        custom_metadata: from_json(row, 12)?,
        storage_class: storage_class(row.get(13)?),
        ssec_key_md5: row.get(14)?,
    })
}

/// Reads where the value is from a row that begins with [`columns`].
fn place(row: &Row<'_>) -> rusqlite::Result<Place> {
    if let Some(id) = row.get(15)? {
        return Ok(Place::Inline(id));
    }
    if let Some(blob) = optional_blob(row, 16)? {
        return Ok(Place::Blob(blob));
    }
    row.get(17).map(Place::Parts)
}

fn salt(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Salt>> {
    Ok(row.get::<_, Option<[u8; 16]>>(column)?.map(Salt))
}

fn blob_id(bytes: &[u8]) -> rusqlite::Result<BlobId> {
    BlobId::from_bytes(bytes).ok_or(rusqlite::Error::InvalidQuery)
}

fn optional_blob(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<BlobId>> {
    row.get_ref(column)?
        .as_blob_or_null()?
        .map(blob_id)
        .transpose()
}

fn digest<const N: usize>(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<[u8; N]>> {
    let bytes = row.get_ref(column)?.as_blob_or_null()?;
    Ok(bytes.and_then(|bytes| bytes.try_into().ok()))
}

fn from_json<T: serde::de::DeserializeOwned + Default>(
    row: &Row<'_>,
    column: usize,
) -> rusqlite::Result<T> {
    match row.get_ref(column)?.as_str_or_null()? {
        None => Ok(T::default()),
        Some(text) => serde_json::from_str(text).map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(
                column,
                rusqlite::types::Type::Text,
                Box::new(error),
            )
        }),
    }
}

fn http_json(http: &HttpMetadata) -> Option<String> {
    (!http.is_empty()).then(|| serde_json::json!(http).to_string())
}

fn custom_json(custom: &[(String, String)]) -> Option<String> {
    (!custom.is_empty()).then(|| serde_json::json!(custom).to_string())
}

fn storage_class(stored: i64) -> StorageClass {
    match stored {
        1 => StorageClass::InfrequentAccess,
        _ => StorageClass::Standard,
    }
}

fn stored_class(class: StorageClass) -> i64 {
    match class {
        StorageClass::Standard => 0,
        StorageClass::InfrequentAccess => 1,
    }
}

/// The spelling of a key, where its identity does not show it.
fn spelling<'a>(key: &'a str, identity: &str) -> Option<&'a str> {
    (key != identity).then_some(key)
}

fn unsigned(stored: i64) -> u64 {
    u64::try_from(stored).unwrap_or_default()
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
