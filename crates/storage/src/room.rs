//! Room for deletions on a full disk.
//!
//! A deletion is a write too: it needs a few pages of a `-wal`. On a disk without a free
//! byte nothing could be deleted, and so no room ever be made. So a data folder holds a
//! reserve, the file `reserve`. When a deletion finds the disk full, the reserve is given
//! up and the deletion is tried once more; from then on puts are refused, so that they do
//! not eat what deletions need, until the reserve could be made again.
//!
//! D1 has no part in it: its statements are its users', and deleted rows give SQLite's
//! pages back to their file, not to the disk.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use engawa_model::ErrorKind;
use rustix::fs::{FallocateFlags, fallocate};

use crate::Error;
use crate::blobs::BlobIo;

/// Some hundred deletions, and then each that removes a blob makes room for the next.
const RESERVE_BYTES: u64 = 4 * 1024 * 1024;
/// With less free than this, a failed deletion has failed for want of it.
const FULL_BYTES: u64 = 1024 * 1024;

/// The reserve of a data folder.
#[derive(Debug)]
pub(crate) struct Room {
    path: PathBuf,
    /// There is none: puts are refused.
    is_short: AtomicBool,
    changing: Mutex<()>,
}

impl Room {
    /// Nothing is made yet.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            is_short: AtomicBool::new(false),
            changing: Mutex::default(),
        }
    }

    /// Makes the reserve, unless it is there. Blocking; at start, and to end a shortage.
    pub(crate) fn keep(&self) {
        let _changing = self.lock();
        let made = self.make();
        if let Err(error) = &made {
            // Its name alone is worth nothing.
            let _ = fs::remove_file(&self.path);
            if !is_full(error) {
                tracing::debug!(%error, "no room can be reserved for deletions");
            }
        }
        // A file system that cannot reserve is none that is full.
        let is_short = made.is_err_and(|error| is_full(&error));
        self.is_short.store(is_short, Ordering::Relaxed);
    }

    /// For what stores something: an error while there is no reserve. Costs nothing else.
    pub(crate) async fn check(&self, io: &BlobIo, layout: &LayoutRef) -> Result<(), Error> {
        if !self.is_short.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.end_shortage(io, layout).await?;
        if self.is_short.load(Ordering::Relaxed) {
            let message = "no space left on the disk; deletions make room";
            return Err(Error::new(ErrorKind::DiskFull, message));
        }
        Ok(())
    }

    /// After a deletion: ends the shortage, if there is one.
    pub(crate) async fn end_shortage(&self, io: &BlobIo, layout: &LayoutRef) -> Result<(), Error> {
        if !self.is_short.load(Ordering::Relaxed) {
            return Ok(());
        }
        let layout = layout.clone();
        io.run(move || {
            layout.room().keep();
            Ok(())
        })
        .await
    }

    /// After a deletion failed: whether the disk was full and now has room for another
    /// try.
    pub(crate) async fn give_up(&self, io: &BlobIo, layout: &LayoutRef) -> bool {
        let layout = layout.clone();
        let given = io.run(move || Ok(layout.room().give_up_now())).await;
        given.unwrap_or(false)
    }

    fn give_up_now(&self) -> bool {
        let _changing = self.lock();
        let folder = self.path.parent().unwrap_or(&self.path);
        let is_full = rustix::fs::statvfs(folder)
            .is_ok_and(|found| found.f_bavail.saturating_mul(found.f_frsize) < FULL_BYTES);
        if !is_full {
            return false;
        }
        self.is_short.store(true, Ordering::Relaxed);
        fs::remove_file(&self.path).is_ok()
    }

    fn make(&self) -> io::Result<()> {
        if let Ok(metadata) = fs::metadata(&self.path)
            && metadata.blocks() * 512 >= RESERVE_BYTES
        {
            return Ok(());
        }
        let file = File::create(&self.path)?;
        Ok(fallocate(&file, FallocateFlags::empty(), 0, RESERVE_BYTES)?)
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What holds the [`Room`], for work on other threads.
type LayoutRef = std::sync::Arc<crate::layout::Layout>;

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}
