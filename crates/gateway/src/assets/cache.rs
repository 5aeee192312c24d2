//! Small hot files in memory, within one budget for the whole process.
//!
//! Each asset holds its own bytes, so a hit needs no look-up beyond the one that found the
//! asset, and no project can reach another's file by its hash. What the cache holds is a
//! queue of those that have bytes: when the budget is exceeded the oldest that was not
//! asked for since it was last looked at loses its bytes (the "second chance" rule).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arc_swap::ArcSwapOption;
use bytes::Bytes;

/// The largest file that is kept in memory.
pub(crate) const CACHED_FILE_BYTES: u64 = 256 * 1024;
/// The budget unless another is given.
const DEFAULT_BUDGET_BYTES: u64 = 64 * 1024 * 1024;

/// The budget, shared by all sites. Cheap to clone.
#[derive(Clone)]
pub struct FileCache(Arc<Inner>);

struct Inner {
    budget_bytes: u64,
    used_bytes: AtomicU64,
    queue: Mutex<VecDeque<Weak<Slot>>>,
}

impl FileCache {
    /// A cache of at most this many bytes of file content.
    pub fn new(budget_bytes: u64) -> Self {
        Self(Arc::new(Inner {
            budget_bytes,
            used_bytes: AtomicU64::new(0),
            queue: Mutex::default(),
        }))
    }

    /// Bytes of content held now.
    pub fn used_bytes(&self) -> u64 {
        self.0.used_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn insert(&self, slot: &Arc<Slot>, bytes: Bytes) {
        let mut queue = self.0.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.bytes.load().is_some() {
            return;
        }
        self.0
            .used_bytes
            .fetch_add(bytes.len() as u64, Ordering::Relaxed);
        slot.bytes.store(Some(Arc::new(Held {
            bytes,
            cache: self.clone(),
        })));
        queue.push_back(Arc::downgrade(slot));
        // Twice round at the most: the first round takes every second chance away.
        let mut looks = queue.len() * 2;
        while self.used_bytes() > self.0.budget_bytes && looks > 0 {
            looks -= 1;
            let Some(oldest) = queue.pop_front() else {
                break;
            };
            let Some(slot) = oldest.upgrade() else {
                continue;
            };
            if slot.touched.swap(false, Ordering::Relaxed) {
                queue.push_back(oldest);
            } else {
                slot.bytes.store(None);
            }
        }
    }
}

impl Default for FileCache {
    fn default() -> Self {
        Self::new(DEFAULT_BUDGET_BYTES)
    }
}

/// The place of one asset's bytes.
#[derive(Default)]
pub(crate) struct Slot {
    bytes: ArcSwapOption<Held>,
    touched: AtomicBool,
}

impl Slot {
    pub(crate) fn get(&self) -> Option<Bytes> {
        let held = self.bytes.load();
        let bytes = held.as_ref()?.bytes.clone();
        // Looked at first, so that a hot file's line is not written by every core.
        if !self.touched.load(Ordering::Relaxed) {
            self.touched.store(true, Ordering::Relaxed);
        }
        Some(bytes)
    }
}

/// Bytes that count against the budget until they are dropped.
struct Held {
    bytes: Bytes,
    cache: FileCache,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.cache
            .0
            .used_bytes
            .fetch_sub(self.bytes.len() as u64, Ordering::Relaxed);
    }
}
