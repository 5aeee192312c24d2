//! The SQLite file of one namespace: its schema, its writer's groups, its readers.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use engawa_model::{AccountId, ErrorKind, NamespaceId};
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use tokio::sync::oneshot;

use super::cache::{Cache, Fill, Hot};
use super::reaper::Open;
use super::rules::{self, ListRange};
use super::{KvEntry, KvList, KvListKey};
use crate::blobs::{BlobFolder, BlobId, Published};
use crate::layout::Resource;
use crate::pool::{File, Group};
use crate::sqlite::{self, Schema};
use crate::{Body, Core, Error, Stamp};

/// `value` comes last, so that a list reads no value's pages. `history` and `parent`
/// (old versions, forks) will be tables of their own: lists never walk over them.
const SCHEMA: Schema = Schema {
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

/// Dead rows that one group removes at most.
const REAPED_ROWS: i64 = 500;
/// How often a group looks for dead rows, in seconds.
const REAP_EVERY_S: u64 = 60;
/// How often a read starts again because its blob was replaced under it.
const BLOB_RETRIES: usize = 16;

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
    cache: Arc<Cache>,
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
    connection: Connection,
    shared: Arc<Shared>,
    next_reap_s: u64,
}

pub(super) struct Shared {
    context: Arc<Context>,
    namespace: Namespace,
    path: PathBuf,
    blobs: BlobFolder,
}

pub(super) struct Reader {
    connection: Connection,
    shared: Arc<Shared>,
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
        let mut done = Vec::new();
        match self.execute(group, &mut done) {
            Ok(()) => {
                for done in done {
                    self.committed(done);
                }
                true
            }
            Err(error) => {
                let is_known = error.kind() != ErrorKind::Unknown;
                for done in done {
                    self.failed(done, is_known, &error);
                }
                // What is still queued would fail alike, and must be answered if no
                // transaction can be had.
                if is_known && group.taken() == 0 {
                    while let Some(write) = group.next() {
                        Self::refuse_write(write, &error);
                    }
                }
                is_known
            }
        }
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

/// A request that was executed and waits for the commit.
struct Done {
    reply: DoneReply,
    /// The blob that a row now names.
    published: Option<Published>,
    /// Blobs that no row names any more.
    dropped: Vec<BlobId>,
    /// Keys that changed, with what the cache may hold of them.
    changed: Vec<(String, Option<Hot>)>,
}

enum DoneReply {
    Unit(Reply<()>),
    Reaped(Reply<bool>, bool),
    /// The dead rows that a group removes by the way.
    Nobody,
}

impl NamespaceFile {
    /// Executes a group in one transaction. What is in `done` stands or falls with it.
    fn execute(&mut self, group: &mut Group<'_, Self>, done: &mut Vec<Done>) -> Result<(), Error> {
        self.run("BEGIN IMMEDIATE")?;
        while let Some(write) = group.next() {
            if let Err(error) = self.savepoint(write, done) {
                // The transaction is gone, or cannot be trusted.
                let _ = self.run("ROLLBACK");
                return Err(error);
            }
        }
        let now_s = self.shared.context.core.clock.now_s();
        if now_s >= self.next_reap_s {
            self.next_reap_s = now_s + REAP_EVERY_S;
            match self.reap(now_s) {
                Ok((reaped, _)) => done.push(reaped),
                Err(error) => {
                    let _ = self.run("ROLLBACK");
                    return Err(error);
                }
            }
        }
        self.run("COMMIT").inspect_err(|_| {
            if !self.connection.is_autocommit() {
                let _ = self.run("ROLLBACK");
            }
        })
    }

    /// Executes a request by itself: if it fails, it alone is undone and answered. An
    /// error means that the whole transaction was lost.
    fn savepoint(&mut self, write: Write, done: &mut Vec<Done>) -> Result<(), Error> {
        if let Err(error) = self.run("SAVEPOINT request") {
            Self::refuse_write(write, &error);
            return Err(error);
        }
        let (failed, fail): (Error, Box<dyn FnOnce(Error)>) = match write {
            Write::Put {
                key,
                value,
                len_bytes,
                metadata,
                expiration_s,
                reply,
            } => match self.put(key, value, len_bytes, metadata, expiration_s) {
                Ok(put) => {
                    done.push(Done {
                        reply: DoneReply::Unit(reply),
                        ..put
                    });
                    return self.run("RELEASE request");
                }
                Err(error) => (error, Box::new(|error| drop(reply.send(Err(error))))),
            },
            Write::Delete { keys, reply } => match self.delete(keys) {
                Ok(deleted) => {
                    done.push(Done {
                        reply: DoneReply::Unit(reply),
                        ..deleted
                    });
                    return self.run("RELEASE request");
                }
                Err(error) => (error, Box::new(|error| drop(reply.send(Err(error))))),
            },
            Write::Reap { reply } => match self.reap(self.shared.context.core.clock.now_s()) {
                Ok((reaped, more)) => {
                    done.push(Done {
                        reply: DoneReply::Reaped(reply, more),
                        ..reaped
                    });
                    return self.run("RELEASE request");
                }
                Err(error) => (error, Box::new(|error| drop(reply.send(Err(error))))),
            },
        };
        // A full disk or a failing one makes SQLite roll back everything at once.
        let lost = self.connection.is_autocommit();
        fail(failed.clone());
        if lost {
            return Err(failed);
        }
        self.run("ROLLBACK TO request")?;
        self.run("RELEASE request")
    }

    fn put(
        &self,
        key: String,
        value: PutValue,
        len_bytes: u64,
        metadata: Option<String>,
        expiration_s: Option<u64>,
    ) -> Result<Done, Error> {
        let stamp = self.shared.context.core.stamps.next()?;
        let dropped = self.blob_of(&key)?;
        let (inline, published) = match value {
            PutValue::Inline(bytes) => (Some(bytes), None),
            PutValue::Blob(published) => (None, Some(published)),
        };
        let blob_id = published.as_ref().map(Published::id);
        self.connection
            .prepare_cached(
                "INSERT INTO entries
                     (key, stamp, expiration_s, metadata, value_bytes, blob_id, value)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
                 ON CONFLICT (key) DO UPDATE SET
                     stamp = ?2, expiration_s = ?3, metadata = ?4, value_bytes = ?5,
                     blob_id = ?6, value = ?7",
            )
            .and_then(|mut insert| {
                insert.execute(params![
                    key,
                    stamp.to_sql(),
                    expiration_s.map(u64::cast_signed),
                    metadata,
                    len_bytes.cast_signed(),
                    blob_id.as_ref().map(|id| &id.as_bytes()[..]),
                    inline.as_deref(),
                ])
            })
            .map_err(|error| self.write_error(error))?;
        let hot = inline.map(|value| Hot {
            stamp,
            value,
            metadata: metadata.map(Arc::from),
            expiration_s,
        });
        Ok(Done {
            reply: DoneReply::Nobody,
            published,
            dropped: dropped.into_iter().collect(),
            changed: vec![(key, hot)],
        })
    }

    fn delete(&self, keys: Vec<String>) -> Result<Done, Error> {
        let mut done = Done {
            reply: DoneReply::Nobody,
            published: None,
            dropped: Vec::new(),
            changed: Vec::with_capacity(keys.len()),
        };
        for key in keys {
            let blob = self
                .connection
                .prepare_cached("DELETE FROM entries WHERE key = ?1 RETURNING blob_id")
                .and_then(|mut delete| {
                    delete
                        .query_row([&key], |row| row.get::<_, Option<Vec<u8>>>(0))
                        .optional()
                })
                .map_err(|error| self.write_error(error))?;
            done.dropped
                .extend(blob.flatten().and_then(|id| BlobId::from_bytes(&id)));
            done.changed.push((key, None));
        }
        Ok(done)
    }

    /// Deletes dead rows, and says whether there may be more.
    fn reap(&self, now_s: u64) -> Result<(Done, bool), Error> {
        let dead: Vec<String> = self
            .connection
            .prepare_cached(
                "SELECT key FROM entries WHERE expiration_s <= ?1
                 ORDER BY expiration_s LIMIT ?2",
            )
            .and_then(|mut select| {
                select
                    .query_map([now_s.cast_signed(), REAPED_ROWS], |row| row.get(0))?
                    .collect()
            })
            .map_err(|error| self.write_error(error))?;
        let more = i64::try_from(dead.len()).is_ok_and(|rows| rows >= REAPED_ROWS);
        Ok((self.delete(dead)?, more))
    }

    fn blob_of(&self, key: &str) -> Result<Option<BlobId>, Error> {
        self.connection
            .prepare_cached("SELECT blob_id FROM entries WHERE key = ?1")
            .and_then(|mut select| {
                select
                    .query_row([key], |row| row.get::<_, Option<Vec<u8>>>(0))
                    .optional()
            })
            .map(|id| id.flatten().and_then(|id| BlobId::from_bytes(&id)))
            .map_err(|error| self.write_error(error))
    }

    /// After the synced commit: first the cache, then the answer, then the files that
    /// nothing names any more.
    fn committed(&self, done: Done) {
        if let Some(published) = done.published {
            published.keep();
        }
        self.change_cache(done.changed);
        match done.reply {
            DoneReply::Unit(reply) => drop(reply.send(Ok(()))),
            DoneReply::Reaped(reply, more) => drop(reply.send(Ok(more))),
            DoneReply::Nobody => {}
        }
        for blob in done.dropped {
            if let Err(error) = self.shared.blobs.remove(blob) {
                // It is garbage that the next start collects.
                tracing::warn!(%error, "cannot remove a KV value that was replaced");
            }
        }
    }

    fn failed(&self, done: Done, is_known: bool, error: &Error) {
        if !is_known {
            // The rows may be there after all.
            if let Some(published) = done.published {
                published.keep();
            }
            let keys = done.changed.into_iter().map(|(key, _)| (key, None));
            self.change_cache(keys.collect());
        }
        match done.reply {
            DoneReply::Unit(reply) => drop(reply.send(Err(error.clone()))),
            DoneReply::Reaped(reply, _) => drop(reply.send(Err(error.clone()))),
            DoneReply::Nobody => {}
        }
    }

    fn change_cache(&self, changed: Vec<(String, Option<Hot>)>) {
        let Namespace { account, id } = &self.shared.namespace;
        let cache = &self.shared.context.cache;
        for (key, hot) in changed {
            cache.change(&cache.place(account, id, &key), hot);
        }
    }

    fn run(&self, sql: &str) -> Result<(), Error> {
        self.connection
            .prepare_cached(sql)
            .and_then(|mut statement| statement.execute([]))
            .map(|_| ())
            .map_err(|error| self.write_error(error))
    }

    fn write_error(&self, error: rusqlite::Error) -> Error {
        sqlite::map(&self.shared.path, "write", error)
    }
}

impl Reader {
    fn get(&self, key: &str, fill: Fill) -> Result<Option<KvEntry>, Error> {
        let mut last_missing = None;
        for _ in 0..BLOB_RETRIES {
            let Some(row) = self.row(key)? else {
                return Ok(None);
            };
            let now_s = || self.shared.context.core.clock.now_s();
            if !rules::is_live(row.expiration_s, now_s) {
                return Ok(None);
            }
            let Some(blob) = row.blob else {
                let hot = Hot {
                    stamp: row.stamp,
                    value: row.value.unwrap_or_default(),
                    metadata: row.metadata,
                    expiration_s: row.expiration_s,
                };
                let Namespace { account, id } = &self.shared.namespace;
                let cache = &self.shared.context.cache;
                cache.fill(&cache.place(account, id, key), fill, hot.clone());
                return Ok(Some(hot.into_entry()));
            };
            match self.shared.blobs.open(blob, None) {
                Ok(reader) => {
                    return Ok(Some(KvEntry {
                        value: Body::Blob(reader),
                        metadata: row.metadata,
                        expiration_s: row.expiration_s,
                    }));
                }
                // Replaced between the row and here: look again. The same blob twice is
                // no race any more.
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    if last_missing == Some(blob) {
                        let message = format!("the value of a key is lost: {error}");
                        return Err(Error::with_source(ErrorKind::Corrupt, message, error));
                    }
                    last_missing = Some(blob);
                }
                Err(error) => return Err(error),
            }
        }
        Err(Error::new(
            ErrorKind::Unavailable,
            "the key is being replaced too fast; try again",
        ))
    }

    fn row(&self, key: &str) -> Result<Option<EntryRow>, Error> {
        self.connection
            .prepare_cached(
                "SELECT stamp, expiration_s, metadata, blob_id, value FROM entries
                 WHERE key = ?1",
            )
            .and_then(|mut select| select.query_row([key], EntryRow::read).optional())
            .map_err(|error| self.read_error(error))
    }

    fn list(&self, range: ListRange) -> Result<KvList, Error> {
        let now_s = self.shared.context.core.clock.now_s();
        // The comparison with `after` is left out rather than made true for all, so that
        // SQLite seeks to it instead of walking there.
        let (from, strictly) = match range.after {
            Some(after) if after >= range.from => (after, ">"),
            _ => (range.from, ">="),
        };
        let below = match &range.below {
            Some(_) => "key < ?4",
            None => "?4 IS NULL",
        };
        let sql = format!(
            "SELECT key, expiration_s, metadata FROM entries
             WHERE key {strictly} ?1 AND {below}
               AND (expiration_s IS NULL OR expiration_s > ?2)
             ORDER BY key LIMIT ?3"
        );
        // One more than asked for tells whether there are more.
        let limit = i64::try_from(range.limit + 1).unwrap_or(i64::MAX);
        let mut keys: Vec<KvListKey> = self
            .connection
            .prepare_cached(&sql)
            .and_then(|mut select| {
                select
                    .query_map(
                        params![from, now_s.cast_signed(), limit, range.below],
                        |row| {
                            Ok(KvListKey {
                                name: row.get(0)?,
                                expiration_s: row.get::<_, Option<i64>>(1)?.map(i64::cast_unsigned),
                                metadata: row.get(2)?,
                            })
                        },
                    )?
                    .collect()
            })
            .map_err(|error| self.read_error(error))?;
        let more = keys.len() > range.limit;
        keys.truncate(range.limit);
        let cursor = keys
            .last()
            .filter(|_| more)
            .map(|last| rules::cursor(&last.name));
        Ok(KvList { keys, cursor })
    }

    fn collect_garbage(&self) -> Result<u64, Error> {
        self.shared.blobs.collect_garbage(|blob| {
            self.connection
                .prepare_cached("SELECT 1 FROM entries WHERE blob_id = ?1")
                .and_then(|mut select| select.exists([&blob.as_bytes()[..]]))
                .map_err(|error| self.read_error(error))
        })
    }

    fn read_error(&self, error: rusqlite::Error) -> Error {
        sqlite::map(&self.shared.path, "read", error)
    }
}

struct EntryRow {
    stamp: Stamp,
    expiration_s: Option<u64>,
    metadata: Option<Arc<str>>,
    blob: Option<BlobId>,
    value: Option<Bytes>,
}

impl EntryRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let blob: Option<Vec<u8>> = row.get(3)?;
        let value: Option<Vec<u8>> = row.get(4)?;
        Ok(Self {
            stamp: Stamp::from_sql(row.get(0)?),
            expiration_s: row.get::<_, Option<i64>>(1)?.map(i64::cast_unsigned),
            metadata: row.get::<_, Option<String>>(2)?.map(Arc::from),
            blob: blob.and_then(|id| BlobId::from_bytes(&id)),
            value: value.map(Bytes::from),
        })
    }
}
