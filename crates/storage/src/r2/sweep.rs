//! Lifecycle rules in force: every bucket is looked at every six hours.
//!
//! One thread for all buckets takes those that are due from the catalog, the one that
//! waits longest first. A bucket's keys are read in pages by its readers, and what is due
//! goes in small groups through its ordinary queue, so that its users never wait long. An
//! object that was replaced between the page and the group is left alone: its version has
//! changed. That a bucket was swept is noted when it is done, so a crash repeats a sweep
//! and never skips one. Rules that change make their bucket due at once.

use std::sync::Arc;
use std::time::Duration;

use engawa_model::{AccountId, BucketName};
use tokio::sync::oneshot;

use super::R2;
use super::error::R2Error;
use super::file::{Read, Write};
use super::lifecycle::{LifecycleRule, Plan};
use crate::Error;
use crate::catalog::Catalog;
use crate::ticker::Ticker;

/// How often the thread looks whether buckets are due.
const EVERY: Duration = Duration::from_mins(1);
/// How old a bucket's last sweep may become (docs: r2 object lifecycles: objects go within
/// 24 hours of their time).
const SWEEP_EVERY_MS: u64 = 6 * 60 * 60 * 1000;
/// When a bucket that could not be swept is tried again.
const RETRY_MS: u64 = 30 * 60 * 1000;
/// Buckets that are taken from the catalog at once.
const BUCKETS: usize = 64;
/// Objects that one transaction deletes or changes.
const GROUP: usize = 100;

/// What a sweep did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Swept {
    pub(crate) deleted: u64,
    pub(crate) moved: u64,
    pub(crate) aborted: u64,
}

/// Starts the thread.
pub(crate) fn start(r2: R2, catalog: Catalog) -> Result<Ticker, Error> {
    Ticker::start("engawa-r2-sweep", EVERY, move |stop| {
        if let Err(error) = sweep_due(&r2, &catalog, || stop.is_set()) {
            tracing::warn!(%error, "cannot look for buckets whose lifecycle rules are due");
        }
    })
}

/// Sweeps every bucket that is due. Blocking, and not on a storage thread.
pub(crate) fn sweep_due(r2: &R2, catalog: &Catalog, stop: impl Fn() -> bool) -> Result<(), Error> {
    loop {
        let now_ms = r2.context.clock.now_ms();
        let before_ms = now_ms.saturating_sub(SWEEP_EVERY_MS);
        let due = catalog.r2_buckets_to_sweep(before_ms, now_ms, BUCKETS)?;
        if due.is_empty() {
            return Ok(());
        }
        for (account, name, rules) in due {
            if stop() {
                return Ok(());
            }
            let swept_at_ms = match r2.sweep(&account, &name, &rules, &stop) {
                Ok(swept) => {
                    if swept != Swept::default() {
                        tracing::info!(bucket = %name, ?swept, "lifecycle rules were applied");
                    }
                    now_ms
                }
                Err(error) => {
                    tracing::warn!(bucket = %name, %error, "cannot apply lifecycle rules");
                    before_ms + RETRY_MS
                }
            };
            if stop() {
                // Perhaps it was not looked at to the end.
                return Ok(());
            }
            catalog.note_r2_sweep(&account, &name, &rules, swept_at_ms)?;
        }
    }
}

impl R2 {
    /// Applies rules to a bucket once. Blocking.
    pub(crate) fn sweep(
        &self,
        account: &AccountId,
        bucket: &BucketName,
        rules: &[LifecycleRule],
        stop: impl Fn() -> bool,
    ) -> Result<Swept, R2Error> {
        let key = (account.clone(), bucket.clone());
        let mut swept = Swept::default();
        // A bucket that nobody has used has no file, and needs none for this.
        if !self.context.path(&key).exists() {
            return Ok(swept);
        }
        let plan = Arc::new(Plan::new(rules, self.context.clock.now_ms()));
        while !stop() {
            let (reply, answer) = oneshot::channel();
            let aborts = plan.aborts.clone();
            self.files
                .write(&key, Write::SweepUploads { aborts, reply })?;
            let done = answer.blocking_recv().map_err(|_| super::lost())??;
            swept.aborted += done.aborted;
            if !done.has_more {
                break;
            }
        }
        for prefix in plan.prefixes() {
            let mut from = Some(prefix.clone());
            while let Some(place) = from.filter(|_| !stop()) {
                let (reply, answer) = oneshot::channel();
                let read = Read::Due {
                    plan: plan.clone(),
                    prefix: prefix.clone(),
                    from: place,
                    reply,
                };
                self.files.read(&key, read)?;
                let page = answer.blocking_recv().map_err(|_| super::lost())??;
                for due in page.due.chunks(GROUP) {
                    let (reply, answer) = oneshot::channel();
                    let due = due.to_vec();
                    self.files.write(&key, Write::SweepObjects { due, reply })?;
                    let done = answer.blocking_recv().map_err(|_| super::lost())??;
                    swept.deleted += done.deleted;
                    swept.moved += done.moved;
                }
                from = page.next;
            }
        }
        Ok(swept)
    }
}
