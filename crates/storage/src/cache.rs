//! What workers keep with the Cache API: bytes that may be lost at any time.
//!
//! An entry is one file below its project, named by a hash of its key: a header (when it
//! expires, and what the caller stores beside the bytes), then the bytes, with the
//! checksums of a blob. It is written under a temporary name and renamed, but never
//! synced: after a power cut a file that is not whole fails its checksums, and that is a
//! miss. What an upload leaves behind in a crash is removed at the next start, as all
//! uploads are.
//!
//! How much there may be is bounded in all and for each project. An [`Index`] in memory
//! knows the size of every entry and when it was used last; the least recently used goes
//! first. It is filled from the folders when the cache is used first, and files say more
//! than it does: an entry that it does not know is served all the same.

mod index;

use std::fs::{self, DirBuilder, File, FileTimes};
use std::io;
use std::ops::Range;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use engawa_model::{AccountId, ErrorKind, ProjectName};
use tokio::sync::OnceCell;

use crate::blobs::{BLOCK_BYTES, BlobFile, BlobIo, read_folder, to_usize};
use crate::body::Content;
use crate::{BlobReader, Body, Core, Error, Stage};
use index::{Id, Index, Place};

/// The header of a file: the time at which it expires in milliseconds (8 bytes) and the
/// length of the head (4 bytes), little-endian.
const HEADER_BYTES: usize = 12;
/// Heads are read with the first block.
const HEAD_BYTES: usize = 128 * 1024;

/// How much the cache may hold.
#[derive(Debug, Clone)]
pub struct CacheLimits {
    /// Of all projects together, in bytes.
    pub bytes: u64,
    /// Of one project.
    pub bytes_per_project: u64,
    /// Of one entry (docs: workers platform/limits, Cache API: 512 MB).
    pub entry_bytes: u64,
}

impl Default for CacheLimits {
    fn default() -> Self {
        Self {
            bytes: 2 * 1024 * 1024 * 1024,
            bytes_per_project: 1024 * 1024 * 1024,
            entry_bytes: 512 * 1024 * 1024,
        }
    }
}

/// The caches of all projects. Cheap to clone.
#[derive(Clone)]
pub struct Cache {
    shared: Arc<Shared>,
}

struct Shared {
    core: Arc<Core>,
    limits: CacheLimits,
    index: Mutex<Index>,
    loaded: OnceCell<()>,
}

/// An entry on its way in. Dropping it leaves nothing behind.
#[derive(Debug)]
pub struct CacheWrite {
    stage: Stage,
    head_bytes: u64,
    expires_ms: u64,
    place: Place,
}

/// An entry that was found. It stays readable, whatever happens to its key.
#[derive(Debug)]
pub struct CacheEntry {
    head: Bytes,
    /// The first block, of which the bytes begin at `offset`.
    first: Bytes,
    offset: u64,
    file: Arc<BlobFile>,
    io: BlobIo,
}

impl Cache {
    pub(crate) fn new(core: Arc<Core>, limits: CacheLimits) -> Self {
        Self {
            shared: Arc::new(Shared {
                index: Mutex::new(Index::new(limits.bytes, limits.bytes_per_project)),
                core,
                limits,
                loaded: OnceCell::new(),
            }),
        }
    }

    /// The entry of a key that has not expired. One that cannot be read is none.
    pub async fn get(
        &self,
        account: &AccountId,
        project: &ProjectName,
        key: &[u8],
    ) -> Result<Option<CacheEntry>, Error> {
        let place = self.place(account, project, key);
        self.run(move |shared| Ok(shared.find(&place))).await
    }

    /// Begins an entry that is to expire at `expires_ms`. `head` is what the caller wants
    /// back beside the bytes, at most 128 KiB less some.
    ///
    /// # Errors
    /// `TooLarge` when the head is too long; else when it cannot be written.
    pub async fn begin(
        &self,
        account: &AccountId,
        project: &ProjectName,
        key: &[u8],
        head: &[u8],
        expires_ms: u64,
    ) -> Result<CacheWrite, Error> {
        let too_large = || {
            Error::new(
                ErrorKind::TooLarge,
                "the head of a cached response is too long",
            )
        };
        let len = u32::try_from(head.len()).map_err(|_| too_large())?;
        let head_bytes = HEADER_BYTES + head.len();
        if head_bytes > HEAD_BYTES {
            return Err(too_large());
        }
        let core = &self.shared.core;
        let mut stage = Stage::new(
            core.layout.clone(),
            core.blob_io.clone(),
            account.clone(),
            0,
        )
        .with_limit(self.shared.limits.entry_bytes)
        .unsynced();
        let mut start = Vec::with_capacity(head_bytes);
        start.extend(expires_ms.to_le_bytes());
        start.extend(len.to_le_bytes());
        start.extend(head);
        stage.write(start.into()).await?;
        Ok(CacheWrite {
            stage,
            head_bytes: head_bytes as u64,
            expires_ms,
            place: self.place(account, project, key),
        })
    }

    /// Ends an entry, which takes the place of an earlier one, and of others if there is no
    /// room. `false` when it is larger than an entry may be: then there is none.
    pub async fn put(&self, entry: CacheWrite) -> Result<bool, Error> {
        let CacheWrite {
            stage,
            expires_ms,
            place,
            ..
        } = entry;
        let staged = stage.finish().await?;
        let len_bytes = staged.len_bytes;
        let Content::Blob(blob) = staged.content else {
            self.run(move |shared| Ok(shared.remove(&place))).await?;
            return Ok(false);
        };
        self.run(move |shared| {
            let path = place.path();
            make_folders(&path)?;
            // With the lock held, so that the index and the file say the same.
            let mut index = shared.index();
            blob.move_to(&path)?;
            set_expiry(&path, expires_ms);
            let evicted = index.insert(&place, len_bytes);
            remove_files(&evicted);
            Ok(true)
        })
        .await
    }

    /// Removes an entry; `false` when there is none.
    pub async fn delete(
        &self,
        account: &AccountId,
        project: &ProjectName,
        key: &[u8],
    ) -> Result<bool, Error> {
        let place = self.place(account, project, key);
        self.run(move |shared| {
            let found = shared.find(&place).is_some();
            Ok(shared.remove(&place) && found)
        })
        .await
    }

    /// The bytes on disk that the index knows of, for tests and figures.
    pub async fn len_bytes(&self) -> Result<u64, Error> {
        self.run(|shared| Ok(shared.index().len_bytes())).await
    }

    fn place(&self, account: &AccountId, project: &ProjectName, key: &[u8]) -> Place {
        let folder = self.shared.core.layout.cache_dir(account, project);
        Place::new(folder, Id::of(key))
    }

    /// Runs blocking work, after the index was filled.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let io = &self.shared.core.blob_io;
        self.shared
            .loaded
            .get_or_try_init(|| {
                let shared = self.shared.clone();
                io.run(move || shared.load())
            })
            .await?;
        let shared = self.shared.clone();
        io.run(move || work(&shared)).await
    }
}

impl CacheWrite {
    /// Takes the next bytes. What is beyond the limit is not kept.
    pub async fn write(&mut self, chunk: Bytes) -> Result<(), Error> {
        self.stage.write(chunk).await
    }

    /// How many bytes came in so far.
    pub fn len_bytes(&self) -> u64 {
        self.stage.len_bytes() - self.head_bytes
    }
}

impl CacheEntry {
    /// What was stored beside the bytes.
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// How many bytes there are.
    pub fn len_bytes(&self) -> u64 {
        self.file.len_bytes - self.offset
    }

    /// These bytes, cut at the end.
    pub fn body(&self, range: Range<u64>) -> Body {
        let end = self.file.len_bytes;
        let from = (self.offset + range.start).min(end);
        let to = self.offset.saturating_add(range.end).min(end).max(from);
        if to <= self.first.len() as u64 {
            return Body::Bytes(self.first.slice(to_usize(from)..to_usize(to)));
        }
        Body::Blob(BlobReader::new(
            self.io.clone(),
            self.file.clone(),
            from..to,
            None,
        ))
    }
}

/// All of this blocks.
impl Shared {
    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, place: &Place) -> Option<CacheEntry> {
        let found = self.read(place);
        let mut index = self.index();
        // A new one may have come since: only what is still no entry goes.
        let Some(entry) = found.or_else(|| self.read(place)) else {
            Self::remove_known(&mut index, place);
            return None;
        };
        index.used(place, entry.file.len_bytes);
        Some(entry)
    }

    /// An entry that is whole and has not expired.
    fn read(&self, place: &Place) -> Option<CacheEntry> {
        let file = match BlobFile::open(place.path()) {
            Ok(file) => file,
            Err(error) => {
                if error.kind() != ErrorKind::NotFound {
                    tracing::debug!(%error, "a cached entry is lost");
                }
                return None;
            }
        };
        let now_ms = self.core.clock.now_ms();
        let first = file.read_block(0).ok()?;
        let (header, rest) = first.split_at_checked(HEADER_BYTES)?;
        let (expires_ms, len) = header.split_at(8);
        let expires_ms = u64::from_le_bytes(expires_ms.try_into().ok()?);
        let len = u32::from_le_bytes(len.try_into().ok()?) as usize;
        if expires_ms <= now_ms || len > rest.len() {
            return None;
        }
        let offset = HEADER_BYTES + len;
        debug_assert!(offset as u64 <= BLOCK_BYTES, "heads are short");
        Some(CacheEntry {
            head: first.slice(HEADER_BYTES..offset),
            offset: offset as u64,
            first,
            file: Arc::new(file),
            io: self.core.blob_io.clone(),
        })
    }

    fn remove(&self, place: &Place) -> bool {
        Self::remove_known(&mut self.index(), place)
    }

    fn remove_known(index: &mut Index, place: &Place) -> bool {
        index.remove(place);
        match fs::remove_file(place.path()) {
            Ok(()) => true,
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(path = %place.path().display(), %error, "cannot remove a cached entry");
                }
                false
            }
        }
    }

    /// Fills the index from the folders; removes what has expired, what is no entry, and
    /// what is too much.
    fn load(&self) -> Result<(), Error> {
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(self.core.clock.now_ms());
        let mut found = Vec::new();
        for account in read_folder(&self.core.layout.accounts_dir())? {
            for project in read_folder(&account.join("cache"))? {
                for part in read_folder(&project)? {
                    for path in read_folder(&part)? {
                        let id = path
                            .file_name()
                            .and_then(|name| name.to_str())
                            .and_then(Id::from_hex);
                        let (Some(id), Ok(metadata)) = (id, fs::metadata(&path)) else {
                            remove_files(&[path]);
                            continue;
                        };
                        // Its time of modification says when it expires.
                        if metadata.modified().is_ok_and(|expires| expires <= now) {
                            remove_files(&[path]);
                            continue;
                        }
                        let used = metadata.accessed().unwrap_or(SystemTime::UNIX_EPOCH);
                        found.push((used, Place::new(project.clone(), id), metadata.len()));
                    }
                }
            }
        }
        found.sort_by_key(|(used, ..)| *used);
        let mut index = self.index();
        for (_, place, len_bytes) in found {
            remove_files(&index.insert(&place, len_bytes));
        }
        Ok(())
    }
}

/// Entries may be lost, so their folders are not synced either.
fn make_folders(file: &Path) -> Result<(), Error> {
    let Some(folder) = file.parent() else {
        return Ok(());
    };
    DirBuilder::new()
        .mode(0o700)
        .recursive(true)
        .create(folder)
        .map_err(|error| Error::io("create the folder", folder, error))
}

/// So that a start can tell without reading it. A failure only keeps an expired file for
/// longer.
fn set_expiry(path: &Path, expires_ms: u64) {
    let expires = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(expires_ms));
    if let (Some(expires), Ok(file)) = (expires, File::options().write(true).open(path)) {
        let _ = file.set_times(FileTimes::new().set_modified(expires));
    }
}

fn remove_files(paths: &[PathBuf]) {
    for path in paths {
        if let Err(error) = fs::remove_file(path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "cannot remove a cached entry");
        }
    }
}

#[cfg(test)]
mod tests;
