//! How a namespace's writer executes a group, and what follows the commit.

use std::sync::Arc;

use engawa_model::ErrorKind;
use rusqlite::{OptionalExtension as _, params};

use super::cache::Hot;
use super::file::{Namespace, NamespaceFile, PutValue, Reply, Write};
use crate::Error;
use crate::blobs::{BlobId, Published};
use crate::pool::{File as _, Group};
use crate::sqlite;

/// Dead rows that one group removes at most.
const REAPED_ROWS: i64 = 500;
/// How often a group looks for dead rows, in seconds.
const REAP_EVERY_S: u64 = 60;

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
    /// Executes, commits and answers a group. `false`: the file is not to be trusted.
    pub(super) fn write_group(&mut self, group: &mut Group<'_, Self>) -> bool {
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
