//! What the tests of several modules share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use engawa_model::Clock;

use crate::{Owner, Storage, StorageOptions};

/// A storage over a temporary folder, with a clock that stands still.
pub(crate) struct Fixture {
    pub(crate) storage: Storage,
    pub(crate) now_ms: Arc<AtomicU64>,
    owner: Owner,
    data: tempfile::TempDir,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let data = tempfile::tempdir().unwrap();
        let now_ms = Arc::new(AtomicU64::new(1_700_000_000_000));
        let owner = Owner::acquire(data.path(), "a test").unwrap();
        Self {
            storage: open(&owner, &now_ms),
            now_ms,
            owner,
            data,
        }
    }

    /// Closes the storage and opens it again, as a restart does.
    pub(crate) async fn restart(self) -> Self {
        self.storage.close().await;
        Self {
            storage: open(&self.owner, &self.now_ms),
            ..self
        }
    }

    pub(crate) fn data_dir(&self) -> &std::path::Path {
        self.data.path()
    }

    pub(crate) fn pass_s(&self, seconds: u64) {
        self.now_ms.fetch_add(seconds * 1000, Ordering::SeqCst);
    }
}

fn open(owner: &Owner, now_ms: &Arc<AtomicU64>) -> Storage {
    let now_ms = now_ms.clone();
    let options = StorageOptions {
        clock: Clock::from_fn(move || now_ms.load(Ordering::SeqCst)),
        ..StorageOptions::new(owner.data_dir())
    };
    Storage::open(owner, options).unwrap()
}
