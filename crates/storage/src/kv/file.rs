//! The SQLite file of one namespace: its schema, its writer's groups, its readers.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use engawa_model::{AccountId, NamespaceId};
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::cache::{Cache, Fill};
use super::reaper::Open;
use super::rules::ListRange;
use super::{KvEntry, KvList};
use crate::blobs::{BlobFolder, Published};
use crate::layout::Resource;
use crate::pool::{File, Group};
use crate::sqlite::{self, Schema};
use crate::{Core, Error};

/// `value` comes last, so that a list reads no value's pages. `history` and `parent`
/// (old versions, forks) will be tables of their own: lists never walk over them.
pub(crate) const SCHEMA: Schema = Schema {
    what: "a KV namespace",
    application_id: *b"EgKv",
    migrations: &["
        CREATE TABLE entries (
            key TEXT NOT NULL PRIMARY KEY,
            stamp INTEGER NOT NULL,
            expiration_s INTEGER,
            metadata TEXT,
            value_bytes INTEGER NOT NULL,
            blob_id BLOB,
            value BLOB
        ) STRICT;
        CREATE INDEX entries_expiration ON entries (expiration_s)
            WHERE expiration_s IS NOT NULL;
        CREATE INDEX entries_blob ON entries (blob_id) WHERE blob_id IS NOT NULL;
    "],
};

/// Which namespace, and whose.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Namespace {
    pub(super) account: AccountId,
    pub(super) id: NamespaceId,
}

impl Namespace {
    pub(super) fn new(account: &AccountId, id: &NamespaceId) -> Self {
        Self {
            account: account.clone(),
            id: id.clone(),
        }
    }
}

/// What all namespaces share.
pub(super) struct Context {
    pub(super) core: Arc<Core>,
    pub(super) cache: Arc<Cache>,
    /// The namespaces whose files are open now.
    pub(super) open: Open,
    #[cfg(test)]
    pub(super) probe: super::tests::Probe,
}

impl Context {
    pub(super) fn new(core: Arc<Core>, cache: Arc<Cache>) -> Self {
        Self {
            core,
            cache,
            open: Open::default(),
            #[cfg(test)]
            probe: super::tests::Probe::default(),
        }
    }

    pub(super) fn blobs(&self, namespace: &Namespace) -> BlobFolder {
        let layout = &self.core.layout;
        let (account, id) = (&namespace.account, namespace.id.as_str());
        let path = layout.blobs_dir(Resource::Kv, account, id);
        BlobFolder::new(layout.clone(), self.core.blob_io.clone(), path)
    }
}

pub(super) type Reply<T> = oneshot::Sender<Result<T, Error>>;

pub(super) enum Write {
    Put {
        key: String,
        value: PutValue,
        len_bytes: u64,
        metadata: Option<String>,
        expiration_s: Option<u64>,
        reply: Reply<()>,
    },
    Delete {
        keys: Vec<String>,
        reply: Reply<()>,
    },
    /// Removes dead rows; says whether there may be more.
    Reap {
        reply: Reply<bool>,
    },
}

pub(super) enum PutValue {
    Inline(Bytes),
    Blob(Published),
}

pub(super) enum Read {
    Get {
        key: String,
        fill: Fill,
        reply: Reply<Option<KvEntry>>,
    },
    List {
        range: ListRange,
        reply: Reply<KvList>,
    },
    /// Removes blobs that a crash left behind; says how many.
    CollectGarbage { reply: Reply<u64> },
}

/// An open namespace: its writer.
pub(super) struct NamespaceFile {
    pub(super) connection: Connection,
    pub(super) shared: Arc<Shared>,
    pub(super) next_reap_s: u64,
}

pub(super) struct Shared {
    pub(super) context: Arc<Context>,
    pub(super) namespace: Namespace,
    pub(super) path: PathBuf,
    pub(super) blobs: BlobFolder,
}

pub(super) struct Reader {
    pub(super) connection: Connection,
    pub(super) shared: Arc<Shared>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.context.open.remove(&self.namespace);
    }
}

impl File for NamespaceFile {
    type Key = Namespace;
    type Context = Arc<Context>;
    type Write = Write;
    type Read = Read;
    type Shared = Shared;
    type Reader = Reader;
    type Error = Error;

    fn account(key: &Namespace) -> &AccountId {
        &key.account
    }

    fn open(context: &Arc<Context>, key: &Namespace) -> Result<Self, Error> {
        let layout = &context.core.layout;
        let path = layout.database_file(Resource::Kv, &key.account, key.id.as_str());
        layout.ensure_parent(&path)?;
        #[cfg_attr(not(test), expect(unused_mut, reason = "the probe needs it"))]
        let mut connection = sqlite::open(&path, &SCHEMA)?;
        #[cfg(test)]
        context.probe.watch(&mut connection);
        context.open.add(key);
        Ok(Self {
            connection,
            shared: Arc::new(Shared {
                context: context.clone(),
                namespace: key.clone(),
                path,
                blobs: context.blobs(key),
            }),
            next_reap_s: 0,
        })
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
        #[cfg(test)]
        self.shared.context.probe.wait();
        self.write_group(group)
    }

    fn run_read(reader: &mut Reader, request: Read) -> Option<Write> {
        match request {
            Read::Get { key, fill, reply } => {
                let _ = reply.send(reader.get(&key, fill));
            }
            Read::List { range, reply } => {
                let _ = reply.send(reader.list(range));
            }
            Read::CollectGarbage { reply } => {
                let _ = reply.send(reader.collect_garbage());
            }
        }
        None
    }

    fn refuse_write(request: Write, error: &Error) {
        match request {
            Write::Put { reply, .. } | Write::Delete { reply, .. } => {
                let _ = reply.send(Err(error.clone()));
            }
            Write::Reap { reply } => {
                let _ = reply.send(Err(error.clone()));
            }
        }
    }

    fn refuse_read(request: Read, error: &Error) {
        match request {
            Read::Get { reply, .. } => drop(reply.send(Err(error.clone()))),
            Read::List { reply, .. } => drop(reply.send(Err(error.clone()))),
            Read::CollectGarbage { reply } => drop(reply.send(Err(error.clone()))),
        }
    }
}
