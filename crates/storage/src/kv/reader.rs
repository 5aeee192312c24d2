//! How a namespace's readers answer.

use std::sync::Arc;

use bytes::Bytes;
use engawa_model::ErrorKind;
use rusqlite::{OptionalExtension as _, Row, params};

use super::cache::{Fill, Hot};
use super::file::{Namespace, Reader};
use super::rules::{self, ListRange};
use super::{KvEntry, KvList, KvListKey};
use crate::blobs::BlobId;
use crate::{Body, Error, Stamp, sqlite};

/// How often a read starts again because its blob was replaced under it.
const BLOB_RETRIES: usize = 16;

impl Reader {
    pub(super) fn get(&self, key: &str, fill: Fill) -> Result<Option<KvEntry>, Error> {
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

    pub(super) fn list(&self, range: ListRange) -> Result<KvList, Error> {
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

    pub(super) fn collect_garbage(&self) -> Result<u64, Error> {
        self.shared.blobs.collect_garbage(|blob| {
            self.connection
                .prepare_cached(super::IS_NAMED_BLOB)
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
