//! Hot values in memory: a bounded number of bytes, the least recently used goes first.
//!
//! **Never stale.** The writer of a namespace changes the cache after its commit is
//! synced and before it answers, so nobody who waited for a write finds an older value.
//! A reader that missed fills the cache with what it read from the file, which another
//! write may have replaced meanwhile. So each shard counts the changes by writers: a
//! reader notes the count before it reads the file ([`Cache::before_read`]) and fills
//! only if it is still the same. Every commit that its snapshot does not contain has
//! raised the count by then, or will replace the entry afterwards. The count also covers
//! deletions, of which no entry remains whose stamp could be compared.
//!
//! A hit takes one short lock of one of 64 shards and copies no bytes.

use std::hash::{BuildHasher as _, Hash as _, Hasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use engawa_model::{AccountId, NamespaceId};
use hashlink::LruCache;

use super::KvEntry;
use super::file::Namespace;
use crate::{Body, Stamp};

const SHARDS: usize = 64;
/// What an entry costs beside its texts and value, roughly.
const ENTRY_BYTES: usize = 256;

pub(super) struct Cache {
    hasher: RandomState,
    shards: Box<[Mutex<Shard>]>,
    shard_bytes: usize,
}

struct Shard {
    /// By hash of the place, which the entry itself confirms: two places of one hash
    /// merely push each other out.
    entries: LruCache<u64, Entry>,
    bytes: usize,
    /// Changes by writers so far.
    changes: u64,
}

struct Entry {
    account: AccountId,
    namespace: NamespaceId,
    key: Box<str>,
    hot: Hot,
}

/// What the cache holds of a key: its newest value.
#[derive(Debug, Clone)]
pub(super) struct Hot {
    pub(super) stamp: Stamp,
    pub(super) value: Bytes,
    pub(super) metadata: Option<Arc<str>>,
    pub(super) expiration_s: Option<u64>,
}

impl Hot {
    pub(super) fn into_entry(self) -> KvEntry {
        KvEntry {
            value: Body::Bytes(self.value),
            metadata: self.metadata,
            expiration_s: self.expiration_s,
        }
    }
}

/// A key, hashed once.
pub(super) struct Place<'a> {
    hash: u64,
    account: &'a AccountId,
    namespace: &'a NamespaceId,
    key: &'a str,
}

/// The right to fill a place, if no writer changes its shard before.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fill {
    changes: u64,
}

impl Cache {
    /// Holds about `bytes` at most.
    pub(super) fn new(bytes: usize) -> Self {
        let shard = || {
            Mutex::new(Shard {
                entries: LruCache::new_unbounded(),
                bytes: 0,
                changes: 0,
            })
        };
        Self {
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| shard()).collect(),
            shard_bytes: bytes / SHARDS,
        }
    }

    pub(super) fn place<'a>(
        &self,
        account: &'a AccountId,
        namespace: &'a NamespaceId,
        key: &'a str,
    ) -> Place<'a> {
        let mut hasher = self.hasher.build_hasher();
        account.hash(&mut hasher);
        namespace.hash(&mut hasher);
        key.hash(&mut hasher);
        Place {
            hash: hasher.finish(),
            account,
            namespace,
            key,
        }
    }

    pub(super) fn get(&self, place: &Place<'_>) -> Option<Hot> {
        let mut shard = self.shard(place);
        let entry = shard.entries.get(&place.hash)?;
        entry.is_at(place).then(|| entry.hot.clone())
    }

    /// To be called before the file is read.
    pub(super) fn before_read(&self, place: &Place<'_>) -> Fill {
        Fill {
            changes: self.shard(place).changes,
        }
    }

    /// Fills a place with what a reader found.
    pub(super) fn fill(&self, place: &Place<'_>, fill: Fill, hot: Hot) {
        let mut shard = self.shard(place);
        if shard.changes == fill.changes {
            shard.put(place, hot, self.shard_bytes);
        }
    }

    /// What a writer committed: the new value, or that there is none that may be held.
    pub(super) fn change(&self, place: &Place<'_>, hot: Option<Hot>) {
        let mut shard = self.shard(place);
        shard.changes += 1;
        match hot {
            Some(hot) => shard.put(place, hot, self.shard_bytes),
            None => shard.remove(place),
        }
    }

    /// Forgets a namespace.
    pub(super) fn remove_namespace(&self, namespace: &Namespace) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            shard.changes += 1;
            let gone: Vec<u64> = shard
                .entries
                .iter()
                .filter(|(_, entry)| {
                    entry.account == namespace.account && entry.namespace == namespace.id
                })
                .map(|(hash, _)| *hash)
                .collect();
            for hash in gone {
                if let Some(entry) = shard.entries.remove(&hash) {
                    shard.bytes -= entry.bytes();
                }
            }
        }
    }

    fn shard(&self, place: &Place<'_>) -> MutexGuard<'_, Shard> {
        // The low bits choose within the shard's table, so the high ones choose the shard.
        let index = usize::try_from(place.hash >> 58).unwrap_or_default();
        lock(&self.shards[index % SHARDS])
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).bytes).sum()
    }
}

impl Shard {
    fn put(&mut self, place: &Place<'_>, hot: Hot, limit_bytes: usize) {
        let entry = Entry {
            account: place.account.clone(),
            namespace: place.namespace.clone(),
            key: place.key.into(),
            hot,
        };
        if let Some(old) = self.entries.peek(&place.hash)
            && old.is_at(place)
            && old.hot.stamp > entry.hot.stamp
        {
            return;
        }
        self.bytes += entry.bytes();
        if let Some(old) = self.entries.insert(place.hash, entry) {
            self.bytes -= old.bytes();
        }
        while self.bytes > limit_bytes
            && let Some((_, old)) = self.entries.remove_lru()
        {
            self.bytes -= old.bytes();
        }
    }

    fn remove(&mut self, place: &Place<'_>) {
        let is_there = self
            .entries
            .peek(&place.hash)
            .is_some_and(|entry| entry.is_at(place));
        if is_there && let Some(old) = self.entries.remove(&place.hash) {
            self.bytes -= old.bytes();
        }
    }
}

impl Entry {
    fn is_at(&self, place: &Place<'_>) -> bool {
        *self.key == *place.key
            && self.namespace == *place.namespace
            && self.account == *place.account
    }

    fn bytes(&self) -> usize {
        let metadata = self.hot.metadata.as_ref().map_or(0, |text| text.len());
        ENTRY_BYTES + self.key.len() + metadata + self.hot.value.len()
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hot(stamp: i64, value: &'static str) -> Hot {
        Hot {
            stamp: Stamp::from_sql(stamp),
            value: Bytes::from_static(value.as_bytes()),
            metadata: None,
            expiration_s: None,
        }
    }

    #[test]
    fn a_reader_that_was_overtaken_by_a_writer_fills_nothing() {
        let cache = Cache::new(1 << 20);
        let (account, namespace) = (AccountId::local(), NamespaceId::from("n"));
        let place = cache.place(&account, &namespace, "k");
        let value = || cache.get(&place).map(|hot| hot.value);

        let fill = cache.before_read(&place);
        cache.fill(&place, fill, hot(1, "read"));
        assert_eq!(value().unwrap(), "read");

        // Overtaken by a put.
        let fill = cache.before_read(&place);
        cache.change(&place, Some(hot(3, "put")));
        cache.fill(&place, fill, hot(2, "late"));
        assert_eq!(value().unwrap(), "put");

        // Overtaken by a deletion, of which nothing remains.
        let fill = cache.before_read(&place);
        cache.change(&place, None);
        cache.fill(&place, fill, hot(3, "late"));
        assert_eq!(value(), None);

        // Overtaken by the namespace's removal.
        let fill = cache.before_read(&place);
        cache.remove_namespace(&Namespace::new(&account, &namespace));
        cache.fill(&place, fill, hot(3, "late"));
        assert_eq!(value(), None);
    }

    #[test]
    fn its_bytes_are_bounded_and_the_least_recently_used_goes() {
        let cache = Cache::new(64 * 4096);
        let (account, namespace) = (AccountId::local(), NamespaceId::from("n"));
        let keys: Vec<String> = (0..10_000).map(|i| format!("key {i}")).collect();
        let kept = cache.place(&account, &namespace, "kept");
        cache.change(&kept, Some(hot(1, "x")));
        for key in &keys {
            cache.change(
                &cache.place(&account, &namespace, key),
                Some(hot(1, "some value")),
            );
            assert!(cache.get(&kept).is_some());
            assert!(cache.bytes() <= 64 * 4096);
        }
        assert!(
            cache
                .get(&cache.place(&account, &namespace, &keys[0]))
                .is_none()
        );
        for key in &keys {
            cache.change(&cache.place(&account, &namespace, key), None);
        }
        cache.remove_namespace(&Namespace::new(&account, &namespace));
        assert_eq!(cache.bytes(), 0);
    }
}
