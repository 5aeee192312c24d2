//! Reads of a bucket.

use std::collections::VecDeque;

use bytes::Bytes;
use engawa_model::ErrorKind;
use rusqlite::{OptionalExtension as _, params};

use super::{
    DueObject, DuePage, Place, Read, Reader, columns, object, optional_blob, place, salt,
    storage_class, unsigned,
};
use crate::r2::IS_NAMED_BLOB;
use crate::r2::conditional::{self, Checked, Subject};
use crate::r2::error::R2Error;
use crate::r2::lifecycle;
use crate::r2::list::{Entry, Ordered};
use crate::r2::parts::{PartRange, PartsReader, Unseal};
use crate::r2::types::{BodySource, HttpMetadata, R2Body, R2Get, R2GetRequest, R2Object, R2Range};
use crate::r2::{range, rules};
use crate::seal::{Salt, Seal};
use crate::{Error, sqlite};

/// How often a read looks again when its value went between row and file. Each time
/// another write to the same key has won, so more than a few mean that a file is missing.
const ATTEMPTS: usize = 16;

pub(super) fn run(reader: &mut Reader, request: Read) {
    // Nobody listens any more: then there is nobody to tell.
    let _ = match request {
        Read::Head { key, reply } => reply.send(head(reader, &key)).is_ok(),
        Read::Get { request, reply } => reply.send(get(reader, &request)).is_ok(),
        Read::List {
            plan,
            http_metadata,
            custom_metadata,
            reply,
        } => {
            let mut keys = Keys {
                reader,
                http_metadata,
                custom_metadata,
                from: Vec::new(),
                ready: VecDeque::new(),
                batch: FIRST_BATCH,
                at_end: false,
            };
            let page = plan.run(&mut keys).map_err(R2Error::from);
            reply.send(page).is_ok()
        }
        Read::Due {
            plan,
            prefix,
            from,
            reply,
        } => reply.send(due(reader, &plan, &prefix, &from)).is_ok(),
    };
}

impl Reader {
    /// Removes blobs that a crash left without a name.
    pub(super) fn collect_garbage(&self) {
        let collected = self.shared.folder.collect_garbage(|blob| {
            self.connection
                .prepare_cached(IS_NAMED_BLOB)
                .and_then(|mut select| select.exists([blob.as_bytes()]))
                .map_err(|error| self.failed(error))
        });
        match collected {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, "removed blobs that a crash had left"),
            Err(error) => tracing::warn!(%error, "cannot look for blobs that a crash left"),
        }
    }

    fn failed(&self, error: rusqlite::Error) -> Error {
        sqlite::map(&self.shared.path, "read", error)
    }
}

fn head(reader: &Reader, key: &str) -> Result<Option<R2Object>, R2Error> {
    let sql = concat!("SELECT ", columns!(), " FROM objects WHERE key = ?1");
    let found = reader
        .connection
        .prepare_cached(sql)
        .and_then(|mut select| {
            select
                .query_row([rules::identity(key).as_bytes()], object)
                .optional()
        })
        .map_err(|error| reader.failed(error))?;
    Ok(found)
}

fn get(reader: &Reader, request: &R2GetRequest) -> Result<R2Get, R2Error> {
    let identity = rules::identity(&request.key);
    for _ in 0..ATTEMPTS {
        let Some(Found {
            object,
            place,
            salt,
            inline,
        }) = find(reader, identity.as_bytes())?
        else {
            return Ok(R2Get::NoSuchKey);
        };
        rules::check_customer_key(object.ssec_key_md5, request.customer_key.as_ref())?;
        let seal = salt
            .zip(request.customer_key.as_ref())
            .map(|(salt, key)| Seal::new(key, salt, &identity));
        if let Some(conditions) = &request.only_if {
            let subject = Subject {
                etag: &object.etag,
                uploaded_ms: object.uploaded_ms,
            };
            let checked = conditional::check(conditions, Some(subject));
            if checked != Checked::Holds {
                return Ok(R2Get::PreconditionFailed {
                    object,
                    not_modified: checked == Checked::NotModified,
                });
            }
        }
        let range = range::resolve(request.range.as_ref(), object.size_bytes)?;
        let source = match place {
            Place::Inline(_) => {
                let value = match &seal {
                    Some(seal) => seal.open_whole(inline)?,
                    None => inline,
                };
                Some(BodySource::Bytes(inline_range(&value, range)?))
            }
            Place::Blob(blob) => {
                let bytes = range.offset..range.offset + range.length;
                match reader.shared.folder.open_sealed(blob, Some(bytes), seal) {
                    Ok(blob) => Some(BodySource::Blob(blob)),
                    Err(error) if error.kind() == ErrorKind::NotFound => None,
                    Err(error) => return Err(error.into()),
                }
            }
            Place::Parts(upload) => {
                let unseal = request.customer_key.as_ref().map(|key| Unseal {
                    key: key.clone(),
                    object: identity.clone().into_owned(),
                });
                open_parts(reader, identity.as_bytes(), &upload, range, unseal)?
            }
        };
        if let Some(source) = source {
            let body = R2Body {
                len_bytes: range.length,
                source,
            };
            return Ok(R2Get::Found {
                object,
                range,
                body,
            });
        }
    }
    let message = format!(
        "the value of an object in {} is missing; restore it from a backup",
        reader.shared.path.display()
    );
    Err(Error::new(ErrorKind::Corrupt, message).into())
}

struct Found {
    object: R2Object,
    place: Place,
    /// Of a value under a customer's key that is not in parts.
    salt: Option<Salt>,
    /// The value as it lies in a row; empty if it lies elsewhere.
    inline: Bytes,
}

/// The object and, if it lies in a row, its value: one statement, so one state.
fn find(reader: &Reader, identity: &[u8]) -> Result<Option<Found>, Error> {
    let sql = concat!(
        "SELECT ",
        columns!(),
        ", value FROM objects LEFT JOIN inline_values ON id = inline_id WHERE key = ?1"
    );
    reader
        .connection
        .prepare_cached(sql)
        .and_then(|mut select| {
            select
                .query_row([identity], |row| {
                    let value = row.get_ref(19)?.as_blob_or_null()?;
                    Ok(Found {
                        object: object(row)?,
                        place: place(row)?,
                        salt: salt(row, 18)?,
                        inline: Bytes::copy_from_slice(value.unwrap_or_default()),
                    })
                })
                .optional()
        })
        .map_err(|error| reader.failed(error))
}

fn inline_range(value: &Bytes, range: R2Range) -> Result<Bytes, Error> {
    usize::try_from(range.offset)
        .ok()
        .zip(usize::try_from(range.length).ok())
        .and_then(|(offset, length)| Some(offset..offset.checked_add(length)?))
        .filter(|range| range.end <= value.len())
        .map(|range| value.slice(range))
        .ok_or_else(|| {
            let message = "an object is shorter than its row says; restore it from a backup";
            Error::new(ErrorKind::Corrupt, message)
        })
}

/// The parts of an object that a range touches. `None` if the object has changed since
/// its row was read.
fn open_parts(
    reader: &Reader,
    identity: &[u8],
    upload: &str,
    range: R2Range,
    unseal: Option<Unseal>,
) -> Result<Option<BodySource>, Error> {
    let shared = &reader.shared;
    let pin = shared.context.pins.pin(upload, &shared.folder);
    let failed = |error| reader.failed(error);
    let read = reader.connection.unchecked_transaction().map_err(failed)?;
    let is_same = read
        .prepare_cached("SELECT 1 FROM objects WHERE key = ?1 AND upload = ?2")
        .and_then(|mut select| select.exists(params![identity, upload]))
        .map_err(failed)?;
    if !is_same {
        return Ok(None);
    }
    let mut waiting = VecDeque::new();
    let end = range.offset + range.length;
    let mut select = read
        .prepare_cached("SELECT size, blob, ssec_salt FROM parts WHERE upload = ?1 ORDER BY number")
        .map_err(failed)?;
    let mut rows = select.query([upload]).map_err(failed)?;
    let mut start = 0;
    while let Some(row) = rows.next().map_err(failed)? {
        let size = row.get(0).map(unsigned).map_err(failed)?;
        let (from, to) = (range.offset.max(start), end.min(start + size));
        if from < to {
            let blob = optional_blob(row, 1)
                .and_then(|blob| blob.ok_or(rusqlite::Error::InvalidQuery))
                .map_err(failed)?;
            waiting.push_back(PartRange {
                blob,
                range: from - start..to - start,
                salt: salt(row, 2).map_err(failed)?,
            });
        }
        start += size;
    }
    drop(rows);
    drop(select);
    read.finish().map_err(failed)?;
    Ok(Some(BodySource::Parts(Box::new(PartsReader {
        io: shared.context.io.clone(),
        folder: shared.folder.clone(),
        waiting,
        unseal,
        current: None,
        _pin: pin,
    }))))
}

/// Keys that a sweep looks at in one turn.
const SWEPT_KEYS: usize = 1000;

/// The objects from a place on whose time has come.
fn due(
    reader: &Reader,
    plan: &lifecycle::Plan,
    prefix: &[u8],
    from: &[u8],
) -> Result<DuePage, R2Error> {
    let failed = |error| R2Error::from(reader.failed(error));
    let mut select = reader
        .connection
        .prepare_cached(
            "SELECT key, version, uploaded_ms, storage_class FROM objects WHERE key >= ?1 \
             ORDER BY key LIMIT ?2",
        )
        .map_err(failed)?;
    let limit = i64::try_from(SWEPT_KEYS).unwrap_or(i64::MAX);
    let mut rows = select.query(params![from, limit]).map_err(failed)?;
    let mut page = DuePage {
        due: Vec::new(),
        next: None,
    };
    let (mut seen, mut last) = (0, Vec::new());
    while let Some(row) = rows.next().map_err(failed)? {
        let identity: Vec<u8> = row.get(0).map_err(failed)?;
        if !identity.starts_with(prefix) {
            return Ok(page);
        }
        let uploaded_ms = row.get(2).map(unsigned).map_err(failed)?;
        let class = row.get(3).map(storage_class).map_err(failed)?;
        if let Some(fate) = plan.fate(&identity, uploaded_ms, class) {
            page.due.push(DueObject {
                identity: identity.clone(),
                version: row.get(1).map_err(failed)?,
                fate,
            });
        }
        seen += 1;
        last = identity;
    }
    if seen == SWEPT_KEYS {
        last.push(0);
        page.next = Some(last);
    }
    Ok(page)
}

/// Rows that a list asks for at once: few at first, since a delimiter may jump.
const FIRST_BATCH: usize = 16;
const LARGEST_BATCH: usize = 256;

/// The keys of a bucket in order, read in batches.
struct Keys<'a> {
    reader: &'a Reader,
    http_metadata: bool,
    custom_metadata: bool,
    /// Where the next batch begins.
    from: Vec<u8>,
    ready: VecDeque<Entry>,
    batch: usize,
    at_end: bool,
}

impl Ordered for Keys<'_> {
    fn seek(&mut self, from: &[u8]) -> Result<(), Error> {
        // A small group may end within what was read already.
        while let Some(entry) = self.ready.front() {
            if entry.identity.as_slice() >= from {
                return Ok(());
            }
            self.ready.pop_front();
        }
        self.from = from.to_vec();
        self.batch = FIRST_BATCH;
        Ok(())
    }

    fn next(&mut self) -> Result<Option<Entry>, Error> {
        if self.ready.is_empty() && !self.at_end {
            self.fill()?;
        }
        Ok(self.ready.pop_front())
    }
}

impl Keys<'_> {
    fn fill(&mut self) -> Result<(), Error> {
        let sql = concat!(
            "SELECT ",
            columns!(),
            " FROM objects WHERE key >= ?1 ORDER BY key LIMIT ?2"
        );
        let (http, custom) = (self.http_metadata, self.custom_metadata);
        let batch = i64::try_from(self.batch).unwrap_or(i64::MAX);
        let entries = self
            .reader
            .connection
            .prepare_cached(sql)
            .and_then(|mut select| {
                select
                    .query_map(params![self.from, batch], |row| {
                        let mut object = object(row)?;
                        if !http {
                            object.http_metadata = HttpMetadata::default();
                        }
                        if !custom {
                            object.custom_metadata = Vec::new();
                        }
                        let identity = row.get_ref(0)?.as_blob()?.to_vec();
                        Ok(Entry { identity, object })
                    })?
                    .collect::<rusqlite::Result<VecDeque<_>>>()
            })
            .map_err(|error| self.reader.failed(error))?;
        self.at_end = entries.len() < self.batch;
        self.batch = (self.batch * 2).min(LARGEST_BATCH);
        if let Some(last) = entries.back() {
            self.from.clone_from(&last.identity);
            self.from.push(0);
        }
        self.ready = entries;
        Ok(())
    }
}
