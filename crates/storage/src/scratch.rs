//! Large texts on their way in or out: a file to import, an export that is still to be
//! fetched. They are held on disk and never whole in memory.
//!
//! A scratch file has no name: it is removed from its folder when it is made, and the disk
//! gets its room back when the last handle is dropped, also after a crash. (A crash
//! between the two leaves it among the unfinished uploads, which are removed at start.)
//! Nothing is synced: what it holds was not acknowledged.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use engawa_model::{AccountId, ErrorKind};
use md5::{Digest as _, Md5};

use crate::Error;
use crate::blobs::{BlobId, BlobIo};
use crate::layout::Layout;

/// What is collected before it is written.
const WRITE_BYTES: usize = 1024 * 1024;
/// The longest chunk that a [`ScratchReader`] hands out.
const CHUNK_BYTES: usize = 256 * 1024;

/// A complete scratch file. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Scratch(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    file: File,
    /// Where it was, for messages.
    path: PathBuf,
    io: BlobIo,
    len_bytes: u64,
    md5: [u8; 16],
}

impl Scratch {
    /// Its length.
    pub fn len_bytes(&self) -> u64 {
        self.0.len_bytes
    }

    /// The MD5 of its bytes.
    pub fn md5(&self) -> [u8; 16] {
        self.0.md5
    }

    /// Reads it from its beginning.
    pub fn reader(&self) -> ScratchReader {
        ScratchReader {
            scratch: self.clone(),
            position: 0,
        }
    }

    /// Bytes from `position` on, as many as there are up to `len`. Blocks.
    pub(crate) fn read_at(&self, position: u64, len: usize) -> Result<Vec<u8>, Error> {
        let left = self.0.len_bytes.saturating_sub(position);
        let mut bytes = vec![0; usize::try_from(left).unwrap_or(len).min(len)];
        self.0
            .file
            .read_exact_at(&mut bytes, position)
            .map_err(|error| Error::io("read", &self.0.path, error))?;
        Ok(bytes)
    }
}

/// See [`Scratch::reader`].
#[derive(Debug)]
pub struct ScratchReader {
    scratch: Scratch,
    position: u64,
}

impl ScratchReader {
    /// The next bytes, at most 256 KiB; `None` at the end. After an error there is nothing
    /// more.
    pub async fn next_chunk(&mut self) -> Option<Result<Bytes, Error>> {
        if self.position >= self.scratch.len_bytes() {
            return None;
        }
        let (scratch, position) = (self.scratch.clone(), self.position);
        let io = scratch.0.io.clone();
        let read = io.run(move || scratch.read_at(position, CHUNK_BYTES)).await;
        match read {
            Ok(bytes) => {
                self.position += bytes.len() as u64;
                Some(Ok(bytes.into()))
            }
            Err(error) => {
                self.position = u64::MAX;
                Some(Err(error))
            }
        }
    }
}

/// A scratch file that is being written by async code.
#[derive(Debug)]
pub struct ScratchUpload {
    io: BlobIo,
    pending: Vec<Bytes>,
    pending_bytes: usize,
    len_bytes: u64,
    limit_bytes: u64,
    /// `None` while a write is under way, and after it failed or was given up.
    writer: Option<ScratchWriter>,
}

impl ScratchUpload {
    pub(crate) async fn create(
        layout: Arc<Layout>,
        io: BlobIo,
        account: AccountId,
        limit_bytes: u64,
    ) -> Result<Self, Error> {
        let for_writer = io.clone();
        let writer = io
            .run(move || ScratchWriter::create(&layout, for_writer, &account))
            .await?;
        Ok(Self {
            io,
            pending: Vec::new(),
            pending_bytes: 0,
            len_bytes: 0,
            limit_bytes,
            writer: Some(writer),
        })
    }

    /// Takes the next bytes. Waits while the disk is behind. `TooLarge` past the limit.
    pub async fn write(&mut self, chunk: Bytes) -> Result<(), Error> {
        self.len_bytes = self.len_bytes.saturating_add(chunk.len() as u64);
        if self.len_bytes > self.limit_bytes {
            let message = format!("the file has more than {} bytes", self.limit_bytes);
            return Err(Error::new(ErrorKind::TooLarge, message));
        }
        self.pending_bytes += chunk.len();
        self.pending.push(chunk);
        if self.pending_bytes >= WRITE_BYTES {
            self.flush().await?;
        }
        Ok(())
    }

    /// Ends the upload.
    pub async fn finish(mut self) -> Result<Scratch, Error> {
        self.flush().await?;
        self.writer.map(ScratchWriter::finish).ok_or_else(given_up)
    }

    async fn flush(&mut self) -> Result<(), Error> {
        let mut writer = self.writer.take().ok_or_else(given_up)?;
        let chunks = std::mem::take(&mut self.pending);
        self.pending_bytes = 0;
        let write = move || {
            for chunk in chunks {
                writer.write(&chunk)?;
            }
            Ok(writer)
        };
        self.writer = Some(self.io.run(write).await?);
        Ok(())
    }
}

fn given_up() -> Error {
    Error::new(ErrorKind::Internal, "the upload was given up before")
}

/// A scratch file that is being written by a storage thread. All methods block.
#[derive(Debug)]
pub(crate) struct ScratchWriter {
    file: File,
    path: PathBuf,
    io: BlobIo,
    len_bytes: u64,
    md5: Md5,
}

impl ScratchWriter {
    pub(crate) fn create(layout: &Layout, io: BlobIo, account: &AccountId) -> Result<Self, Error> {
        let folder = layout.blobs_tmp_dir(account);
        layout.ensure_folder(&folder)?;
        let path = folder.join(BlobId::random()?.to_string());
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| Error::io("create", &path, error))?;
        fs::remove_file(&path).map_err(|error| Error::io("remove", &path, error))?;
        Ok(Self {
            file,
            path,
            io,
            len_bytes: 0,
            md5: Md5::new(),
        })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file
            .write_all(bytes)
            .map_err(|error: io::Error| Error::io("write", &self.path, error))?;
        self.md5.update(bytes);
        self.len_bytes += bytes.len() as u64;
        Ok(())
    }

    pub(crate) fn finish(self) -> Scratch {
        Scratch(Arc::new(Inner {
            file: self.file,
            path: self.path,
            io: self.io,
            len_bytes: self.len_bytes,
            md5: self.md5.finalize().into(),
        }))
    }
}
