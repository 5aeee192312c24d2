//! What lifecycle rules do to a bucket, in transactions that are never large.

use rusqlite::params;

use super::super::{DueObject, SweptUploads, signed, stored_class};
use super::Writer;
use crate::r2::error::R2Error;
use crate::r2::lifecycle::{Due, Fate};
use crate::r2::sweep::Swept;
use crate::r2::types::StorageClass;

/// How long it is known of a finished upload that it was there: a client that completes it
/// again is told so.
const FORGOTTEN_AFTER_MS: u64 = 14 * 24 * 60 * 60 * 1000;
/// How many uploads a sweep aborts or forgets in one transaction.
const SWEPT_UPLOADS: usize = 64;

impl Writer<'_> {
    /// Aborts uploads whose time has come, and forgets finished ones.
    pub(super) fn sweep_uploads(&mut self, aborts: &[Due]) -> Result<SweptUploads, R2Error> {
        let limit = i64::try_from(SWEPT_UPLOADS).unwrap_or(i64::MAX);
        let mut old: Vec<String> = Vec::new();
        for Due { prefix, until_ms } in aborts {
            let found = self
                .transaction
                .prepare_cached(
                    "SELECT id FROM uploads WHERE state = 0 AND created_ms <= ?1 \
                     AND substr(key, 1, length(?2)) = ?2 LIMIT ?3",
                )
                .and_then(|mut select| {
                    select
                        .query_map(params![signed(*until_ms), prefix, limit], |row| row.get(0))?
                        .collect::<rusqlite::Result<Vec<String>>>()
                })
                .map_err(|error| self.failed(error))?;
            old.extend(found);
            if old.len() >= SWEPT_UPLOADS {
                break;
            }
        }
        old.sort_unstable();
        old.dedup();
        for upload in &old {
            self.drop_parts(upload)?;
            self.finish_upload(upload, 2)?;
        }
        let now_ms = self.shared.context.clock.now_ms();
        let before = signed(now_ms.saturating_sub(FORGOTTEN_AFTER_MS));
        let forgotten = self.change(
            "DELETE FROM uploads WHERE id IN \
             (SELECT id FROM uploads WHERE state > 0 AND created_ms < ?1 LIMIT ?2)",
            [before, limit],
        )?;
        Ok(SweptUploads {
            aborted: old.len() as u64,
            has_more: old.len() >= SWEPT_UPLOADS || forgotten >= SWEPT_UPLOADS,
        })
    }

    /// Deletes or changes objects that are still what they were when they were looked at.
    pub(super) fn sweep_objects(&mut self, due: &[DueObject]) -> Result<Swept, R2Error> {
        let mut swept = Swept::default();
        for DueObject {
            identity,
            version,
            fate,
        } in due
        {
            let Some((_, place)) = self
                .find(identity)?
                .filter(|(object, _)| object.version == *version)
            else {
                continue;
            };
            match fate {
                Fate::Delete => {
                    self.drop_value(place)?;
                    self.change("DELETE FROM objects WHERE key = ?1", [identity])?;
                    swept.deleted += 1;
                }
                Fate::ToInfrequentAccess => {
                    let stamp = self.shared.context.stamps.next()?;
                    let class = stored_class(StorageClass::InfrequentAccess);
                    self.change(
                        "UPDATE objects SET storage_class = ?2, stamp = ?3 WHERE key = ?1",
                        params![identity, class, stamp.to_sql()],
                    )?;
                    swept.moved += 1;
                }
            }
        }
        Ok(swept)
    }
}
