//! What bounds a journal's space: snapshots, and the removal of what none needs any more.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use engawa_model::ErrorKind;

use super::Journal;
use super::image::Snapshotting;
use crate::{Error, Stamp};

/// Snapshots made at once, of all databases together.
const SNAPSHOTS_AT_ONCE: usize = 2;

impl Journal {
    /// Starts the next snapshot, once the segments since the last one are long enough.
    pub(super) fn begin_snapshot(&mut self, database_bytes: u64) -> Result<(), Error> {
        let enough = self
            .limits
            .segment_bytes
            .max(database_bytes.saturating_mul(2));
        if self.snapshotting.is_some() || self.inventory()?.bytes_since_base() < enough {
            return Ok(());
        }
        let Some(permit) = Permit::take(&self.snapshots) else {
            // Others are being made; the next long segment asks again.
            return Ok(());
        };
        let started = Snapshotting::start(self.folder.clone(), self.last_stamp, permit);
        self.snapshotting = Some(started.map_err(|error| {
            let text = format!("cannot start the thread of a snapshot: {error}");
            Error::with_source(ErrorKind::Internal, text, error)
        })?);
        Ok(())
    }

    /// Removes what no moment within the bounds needs.
    pub(super) fn trim(&self) -> Result<(), Error> {
        let all = self.inventory()?;
        let now = Stamp::from_sql(self.last_stamp.cast_signed()).ms();
        let horizon = Stamp::last_of_ms(now.saturating_sub(self.limits.kept_ms));
        let horizon = horizon.to_sql().cast_unsigned();
        let old = all.snapshots.iter().rfind(|one| one.stamp <= horizon);
        let mut base = old.map_or(0, |snapshot| snapshot.stamp);
        let bytes_from = |base: u64| -> u64 {
            let segments = all.segments.iter().filter(|one| one.start >= base);
            let snapshots = all.snapshots.iter().filter(|one| one.stamp >= base);
            segments.map(|one| one.bytes).sum::<u64>() + snapshots.map(|one| one.bytes).sum::<u64>()
        };
        for snapshot in &all.snapshots {
            if snapshot.stamp > base && bytes_from(base) > self.limits.bytes {
                base = snapshot.stamp;
                let folder = self.folder.display();
                tracing::warn!(
                    %folder,
                    "the journal of a D1 database is full: Time Travel reaches less far back"
                );
            }
        }
        if base == 0 {
            return Ok(());
        }
        // Oldest first, so that a crash leaves a history without gaps. A snapshot goes
        // before the segments that continue it.
        let snapshots = all.snapshots.iter().filter(|one| one.stamp < base);
        let segments = all.segments.iter().filter(|one| one.start < base);
        for path in snapshots
            .map(|one| &one.path)
            .chain(segments.map(|one| &one.path))
        {
            fs::remove_file(path).map_err(|error| Error::io("remove", path, error))?;
        }
        Ok(())
    }
}

/// The right to make a snapshot now.
pub(super) struct Permit(Arc<AtomicUsize>);

impl Permit {
    pub(super) fn take(running: &Arc<AtomicUsize>) -> Option<Self> {
        if running.fetch_add(1, Ordering::SeqCst) >= SNAPSHOTS_AT_ONCE {
            running.fetch_sub(1, Ordering::SeqCst);
            return None;
        }
        Some(Self(Arc::clone(running)))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
