//! Immutable files for values that are too large for a row.
//!
//! **Life of a blob.** An upload writes to a temporary name in its account's `blobs/tmp`
//! and syncs the file ([`TempBlob`]). When its key is about to be written, the blob is
//! *published*: renamed into the folder of its namespace or bucket, and that folder is
//! synced ([`BlobFolder::publish`]). Only then does a transaction name it. A blob that is
//! no longer named is removed after the transaction that dropped it. So a crash can leave
//! a file that nothing names, never a name without its file.
//!
//! **Garbage.** `blobs/tmp` is emptied at start. A published blob that nothing names is
//! found by [`BlobFolder::collect_garbage`], which looks only at blobs of earlier
//! processes: the second half of a blob's id is drawn once a process, so those that are
//! being written right now are never in question and no lock is needed.
//!
//! **Format.** The bytes, then the CRC32C of each 1 MiB of them (little-endian), then the
//! footer: `EngawaB1`, the length of the bytes, and the CRC32C of the table and of the
//! footer so far. A reader checks each block before it hands out any byte of it, also
//! when only a range is asked for.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use engawa_model::{AccountId, ErrorKind};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

use crate::layout::{Layout, sync_folder};
use crate::seal::{self, Seal};
use crate::{BlobReader, Error};

/// What a checksum covers.
pub(crate) const BLOCK_BYTES: u64 = 1024 * 1024;
const MAGIC: &[u8; 8] = b"EngawaB1";
const FOOTER_BYTES: usize = 20;
/// Blob files read or written at the same moment.
const IO_THREADS: usize = 32;

/// The name of a blob: 16 random bytes, of which the last eight are the process's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct BlobId([u8; 16]);

impl BlobId {
    pub(crate) fn random() -> Result<Self, Error> {
        let mut id = [0; 16];
        id[8..].copy_from_slice(&this_process()?);
        fill_random(&mut id[..8])?;
        Ok(Self(id))
    }

    /// The id as a row stores it.
    pub(crate) fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The id that a row stored.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    fn from_hex(text: &str) -> Option<Self> {
        if text.len() != 32
            || text
                .bytes()
                .any(|b| !matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        {
            return None;
        }
        u128::from_str_radix(text, 16)
            .ok()
            .map(|id| Self(id.to_be_bytes()))
    }

    fn is_of_this_process(&self) -> Result<bool, Error> {
        Ok(self.0[8..] == this_process()?)
    }
}

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn fill_random(bytes: &mut [u8]) -> Result<(), Error> {
    getrandom::fill(bytes)
        .map_err(|error| Error::new(ErrorKind::Internal, format!("no random numbers: {error}")))
}

fn this_process() -> Result<[u8; 8], Error> {
    static ID: OnceLock<[u8; 8]> = OnceLock::new();
    if let Some(id) = ID.get() {
        return Ok(*id);
    }
    let mut id = [0; 8];
    fill_random(&mut id)?;
    Ok(*ID.get_or_init(|| id))
}

/// Runs blocking file work for async callers, so many at a time.
#[derive(Debug, Clone)]
pub(crate) struct BlobIo(Arc<Semaphore>);

impl Default for BlobIo {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(IO_THREADS)))
    }
}

impl BlobIo {
    /// Runs `work` on a blocking thread. It ends even if the caller has gone.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.place().await?.start(work).end().await
    }

    /// Waits for a place among the blocking threads.
    pub(crate) async fn place(&self) -> Result<IoPlace, Error> {
        let permit = self.0.clone().acquire_owned().await;
        permit.map(IoPlace).map_err(|_| stopped())
    }

    /// Waits for all work under way; later work is refused.
    pub(crate) async fn close(&self) {
        let all = u32::try_from(IO_THREADS).unwrap_or(u32::MAX);
        let _ = self.0.acquire_many(all).await;
        self.0.close();
    }
}

/// The right to start one piece of blocking work.
pub(crate) struct IoPlace(OwnedSemaphorePermit);

impl IoPlace {
    pub(crate) fn start<T: Send + 'static>(
        self,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Started<T> {
        Started(tokio::task::spawn_blocking(move || {
            let done = work();
            drop(self.0);
            done
        }))
    }
}

/// Blocking work under way. It goes on if this is dropped.
#[derive(Debug)]
pub(crate) struct Started<T>(JoinHandle<Result<T, Error>>);

impl<T> Started<T> {
    /// Waits for its end. To be called once; may be dropped and called again before that.
    pub(crate) async fn end(&mut self) -> Result<T, Error> {
        (&mut self.0)
            .await
            .map_err(|error| match error.try_into_panic() {
                Ok(_) => Error::new(
                    ErrorKind::Internal,
                    "a defect: reading or writing a blob panicked",
                ),
                Err(_) => stopped(),
            })?
    }
}

fn stopped() -> Error {
    Error::new(ErrorKind::Unavailable, "the server is shutting down")
}

/// A blob that is being written, under its temporary name. Dropping it removes it. All
/// methods block.
#[derive(Debug)]
pub(crate) struct TempBlob {
    id: BlobId,
    file: File,
    path: RemovedOnDrop,
    len_bytes: u64,
    block_crc: u32,
    crcs: Vec<u8>,
}

impl TempBlob {
    pub(crate) fn create(layout: &Layout, account: &AccountId) -> Result<Self, Error> {
        let folder = layout.blobs_tmp_dir(account);
        layout.ensure_folder(&folder)?;
        let id = BlobId::random()?;
        let path = folder.join(id.to_string());
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| Error::io("create", &path, error))?;
        Ok(Self {
            id,
            file,
            path: RemovedOnDrop(Some(path)),
            len_bytes: 0,
            block_crc: 0,
            crcs: Vec::new(),
        })
    }

    pub(crate) fn write(&mut self, chunk: &[u8]) -> Result<(), Error> {
        self.write_raw(chunk)?;
        let mut rest = chunk;
        while !rest.is_empty() {
            let room = BLOCK_BYTES - self.len_bytes % BLOCK_BYTES;
            let (now, later) = rest.split_at(rest.len().min(to_usize(room)));
            self.block_crc = crc32c::crc32c_append(self.block_crc, now);
            self.len_bytes += now.len() as u64;
            if self.len_bytes.is_multiple_of(BLOCK_BYTES) {
                self.end_block();
            }
            rest = later;
        }
        Ok(())
    }

    /// Writes the checksums and syncs the file. Nothing may be written after it.
    pub(crate) fn finish(&mut self) -> Result<(), Error> {
        self.seal()?;
        self.file
            .sync_data()
            .map_err(|error| Error::io("sync", self.path.get(), error))
    }

    /// The same without a sync, for what may be lost.
    pub(crate) fn seal(&mut self) -> Result<(), Error> {
        if !self.len_bytes.is_multiple_of(BLOCK_BYTES) {
            self.end_block();
        }
        let mut tail = std::mem::take(&mut self.crcs);
        tail.extend(MAGIC);
        tail.extend(self.len_bytes.to_le_bytes());
        tail.extend(crc32c::crc32c(&tail).to_le_bytes());
        self.write_raw(&tail)
    }

    /// Gives it a place outside of every [`BlobFolder`], which outlives no power cut.
    pub(crate) fn move_to(mut self, path: &Path) -> Result<(), Error> {
        fs::rename(self.path.get(), path).map_err(|error| Error::io("create", path, error))?;
        self.path.0 = None;
        Ok(())
    }

    fn end_block(&mut self) {
        self.crcs.extend(self.block_crc.to_le_bytes());
        self.block_crc = 0;
    }

    fn write_raw(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file
            .write_all(bytes)
            .map_err(|error| Error::io("write", self.path.get(), error))
    }
}

/// A blob that lies in its folder but that no transaction names yet. Dropping it removes
/// it, unless [`Published::keep`] said that a transaction now names it.
#[derive(Debug)]
pub(crate) struct Published {
    id: BlobId,
    path: RemovedOnDrop,
}

impl Published {
    pub(crate) fn id(&self) -> BlobId {
        self.id
    }

    pub(crate) fn keep(mut self) {
        self.path.0 = None;
    }
}

/// The blobs of one namespace or bucket. Cheap to make; all methods block.
#[derive(Clone)]
pub(crate) struct BlobFolder {
    layout: Arc<Layout>,
    io: BlobIo,
    path: PathBuf,
}

impl BlobFolder {
    /// `path` is [`Layout::blobs_dir`].
    pub(crate) fn new(layout: Arc<Layout>, io: BlobIo, path: PathBuf) -> Self {
        Self { layout, io, path }
    }

    /// Gives a finished blob its place, durably.
    pub(crate) fn publish(&self, mut blob: TempBlob) -> Result<Published, Error> {
        let path = self.file(blob.id);
        let folder = path.parent().unwrap_or(&self.path);
        self.layout.ensure_folder(folder)?;
        fs::rename(blob.path.get(), &path).map_err(|error| Error::io("create", &path, error))?;
        blob.path.0 = None;
        let published = Published {
            id: blob.id,
            path: RemovedOnDrop(Some(path.clone())),
        };
        sync_folder(folder)?;
        Ok(published)
    }

    /// Opens a blob, to be read whole or from `range` (which is cut at its end).
    /// `NotFound` if it is not there: the row that named it may just have been replaced.
    pub(crate) fn open(&self, id: BlobId, range: Option<Range<u64>>) -> Result<BlobReader, Error> {
        self.open_sealed(id, range, None)
    }

    /// The same for a value that may be sealed: the range is one of its plain bytes.
    pub(crate) fn open_sealed(
        &self,
        id: BlobId,
        range: Option<Range<u64>>,
        seal: Option<Seal>,
    ) -> Result<BlobReader, Error> {
        let file = BlobFile::open(self.file(id))?;
        let end = match seal {
            Some(_) => seal::plain_len(file.len_bytes),
            None => file.len_bytes,
        };
        let range = range.map_or(0..end, |range| range.start.min(end)..range.end.min(end));
        let (io, seal) = (self.io.clone(), seal.map(Arc::new));
        Ok(BlobReader::new(io, Arc::new(file), range, seal))
    }

    /// Opens a blob to look at it.
    pub(crate) fn open_file(&self, id: BlobId) -> Result<BlobFile, Error> {
        BlobFile::open(self.file(id))
    }

    /// Removes a blob that no transaction names any more; one that is gone is fine.
    pub(crate) fn remove(&self, id: BlobId) -> Result<(), Error> {
        let path = self.file(id);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::io("remove", &path, error))
            }
            _ => Ok(()),
        }
    }

    /// Removes the blobs of earlier processes that nothing names, and says how many.
    pub(crate) fn collect_garbage(
        &self,
        mut is_named: impl FnMut(BlobId) -> Result<bool, Error>,
    ) -> Result<u64, Error> {
        let mut removed = 0;
        for folder in read_folder(&self.path)? {
            for path in read_folder(&folder)? {
                let name = path.file_name().and_then(|name| name.to_str());
                let Some(id) = name.and_then(BlobId::from_hex) else {
                    continue;
                };
                if !id.is_of_this_process()? && !is_named(id)? {
                    self.remove(id)?;
                    removed += 1;
                }
            }
        }
        Ok(removed)
    }

    /// Gives a stored blob the name that an earlier process would have given it.
    #[cfg(test)]
    pub(crate) fn make_older(&self, id: BlobId) -> BlobId {
        let mut older = id;
        older.0[15] ^= 1;
        fs::rename(self.file(id), self.file(older)).unwrap();
        older
    }

    /// Where a blob lies.
    pub(crate) fn file(&self, id: BlobId) -> PathBuf {
        let name = id.to_string();
        let mut path = self.path.join(&name[..2]);
        path.push(name);
        path
    }
}

/// Removes uploads that an earlier process did not finish. Blocking, at start.
pub(crate) fn clear_uploads(layout: &Layout) -> Result<(), Error> {
    for account in read_folder(&layout.accounts_dir())? {
        for upload in read_folder(&account.join("blobs/tmp"))? {
            fs::remove_file(&upload).map_err(|error| Error::io("remove", &upload, error))?;
        }
    }
    Ok(())
}

/// What lies in a folder, in no order; nothing, if it is not there.
pub(crate) fn read_folder(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries,
    };
    entries
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
        .map_err(|error| Error::io("read the folder", folder, error))
}

/// An open blob with its checksums.
#[derive(Debug)]
pub(crate) struct BlobFile {
    path: PathBuf,
    file: File,
    pub(crate) len_bytes: u64,
    crcs: Vec<u8>,
}

impl BlobFile {
    /// `NotFound` if it is not there; `Corrupt` if it is cut short or its end is damaged.
    pub(crate) fn open(path: PathBuf) -> Result<Self, Error> {
        let file = File::open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::with_source(
                ErrorKind::NotFound,
                format!("the blob {} is missing", path.display()),
                error,
            ),
            _ => Error::io("open", &path, error),
        })?;
        let size = file
            .metadata()
            .map_err(|error| Error::io("read", &path, error))?
            .len();
        let corrupt = || corrupt(&path, "its footer is damaged");
        let footer_at = size.checked_sub(FOOTER_BYTES as u64).ok_or_else(corrupt)?;
        let mut footer = [0; FOOTER_BYTES];
        file.read_exact_at(&mut footer, footer_at)
            .map_err(|error| Error::io("read", &path, error))?;
        let (magic, rest) = footer.split_at(8);
        let (len, crc) = rest.split_at(8);
        let len_bytes = u64::from_le_bytes(len.try_into().expect("eight bytes"));
        let table_bytes = len_bytes.div_ceil(BLOCK_BYTES).saturating_mul(4);
        if magic != MAGIC || len_bytes.saturating_add(table_bytes) != footer_at {
            return Err(corrupt());
        }
        let mut crcs = vec![0; to_usize(table_bytes)];
        file.read_exact_at(&mut crcs, len_bytes)
            .map_err(|error| Error::io("read", &path, error))?;
        let found = crc32c::crc32c_append(crc32c::crc32c(&crcs), &footer[..16]);
        if found.to_le_bytes() != crc {
            return Err(corrupt());
        }
        Ok(Self {
            path,
            file,
            len_bytes,
            crcs,
        })
    }

    /// How many blocks it has.
    pub(crate) fn blocks(&self) -> u64 {
        self.len_bytes.div_ceil(BLOCK_BYTES)
    }

    /// Lets the kernel forget what was read, so that others' pages stay in memory.
    pub(crate) fn forget(&self) {
        let _ = rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::DontNeed);
    }

    /// The bytes of block `number`, checked.
    pub(crate) fn read_block(&self, number: u64) -> Result<Bytes, Error> {
        let start = number * BLOCK_BYTES;
        let mut block = vec![0; to_usize(BLOCK_BYTES.min(self.len_bytes - start))];
        self.file
            .read_exact_at(&mut block, start)
            .map_err(|error| Error::io("read", &self.path, error))?;
        let at = to_usize(number) * 4;
        if crc32c::crc32c(&block).to_le_bytes() != self.crcs[at..at + 4] {
            let what = format!("the bytes from {start} on do not match their checksum");
            return Err(corrupt(&self.path, &what));
        }
        Ok(block.into())
    }
}

fn corrupt(path: &Path, what: &str) -> Error {
    let message = format!("the stored file {} is corrupt: {what}", path.display());
    Error::new(ErrorKind::Corrupt, message)
}

/// Lengths of what is held in memory; this program runs on 64-bit machines only.
pub(crate) fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).expect("a 64-bit machine")
}

/// The path of a file that goes when this is dropped, unless it was taken out. A failure
/// is only logged: what stays is collected later.
#[derive(Debug)]
struct RemovedOnDrop(Option<PathBuf>);

impl RemovedOnDrop {
    fn get(&self) -> &Path {
        self.0.as_deref().unwrap_or(Path::new(""))
    }
}

impl Drop for RemovedOnDrop {
    fn drop(&mut self) {
        if let Some(path) = &self.0
            && let Err(error) = fs::remove_file(path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "cannot remove a blob that is not needed");
        }
    }
}

#[cfg(test)]
mod tests;
