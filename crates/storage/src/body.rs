//! Bytes in and out of the store, streamed: a value is never whole in memory unless it is
//! small enough to lie in a row.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use engawa_model::{AccountId, ErrorKind};
use md5::Digest as _;

use crate::Error;
use crate::blobs::{BLOCK_BYTES, BlobFile, BlobIo, Started, TempBlob, to_usize};
use crate::layout::Layout;
use crate::seal::{self, Seal, Sealer};

/// The longest chunk that a [`BlobReader`] hands out.
const CHUNK_BYTES: usize = 256 * 1024;
/// What a [`Stage`] collects before it writes to its blob.
const WRITE_BYTES: usize = 1024 * 1024;

/// A value on its way out.
#[derive(Debug)]
pub enum Body {
    /// All of it, from a row or from memory.
    Bytes(Bytes),
    /// A blob, or a range of one, still to be read.
    Blob(BlobReader),
}

impl Body {
    /// What is still to come.
    pub fn len_bytes(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Blob(reader) => reader.len_bytes(),
        }
    }

    /// Whether nothing is still to come.
    pub fn is_empty(&self) -> bool {
        self.len_bytes() == 0
    }

    /// The next bytes; `None` at the end.
    pub async fn next_chunk(&mut self) -> Option<Result<Bytes, Error>> {
        match self {
            Self::Bytes(bytes) => (!bytes.is_empty()).then(|| Ok(std::mem::take(bytes))),
            Self::Blob(reader) => reader.next_chunk().await,
        }
    }

    /// The whole value in memory, if it is not longer than `limit_bytes`; else `TooLarge`.
    pub async fn collect(mut self, limit_bytes: u64) -> Result<Bytes, Error> {
        let len = self.len_bytes();
        if len > limit_bytes {
            let message = format!("{len} bytes exceed the limit of {limit_bytes}");
            return Err(Error::new(ErrorKind::TooLarge, message));
        }
        if let Self::Bytes(bytes) = self {
            return Ok(bytes);
        }
        let mut whole = Vec::with_capacity(usize::try_from(len).unwrap_or_default());
        while let Some(chunk) = self.next_chunk().await {
            whole.extend_from_slice(&chunk?);
        }
        Ok(whole.into())
    }
}

/// Reads a blob, or a range of one. It holds the file open, so what it reads does not
/// change or go, whatever happens to its key.
#[derive(Debug)]
pub struct BlobReader {
    file: Arc<BlobFile>,
    /// What is still to be read.
    range: Range<u64>,
    /// What opens the blocks, of a value under a customer's key.
    seal: Option<Arc<Seal>>,
    io: BlobIo,
    /// Bytes that were read and checked, and not handed out yet.
    ready: Bytes,
}

impl BlobReader {
    /// `range` lies within the value.
    pub(crate) fn new(
        io: BlobIo,
        file: Arc<BlobFile>,
        range: Range<u64>,
        seal: Option<Arc<Seal>>,
    ) -> Self {
        Self {
            file,
            range,
            seal,
            io,
            ready: Bytes::new(),
        }
    }

    /// What is still to come.
    pub fn len_bytes(&self) -> u64 {
        self.range.end - self.range.start + self.ready.len() as u64
    }

    /// The next bytes, at most 256 KiB, checked; `None` at the end. After an error there
    /// is nothing more. A caller who stops waiting for it loses nothing.
    pub async fn next_chunk(&mut self) -> Option<Result<Bytes, Error>> {
        if self.ready.is_empty() {
            if self.range.is_empty() {
                return None;
            }
            match self.read_block().await {
                Ok(block) => self.ready = block,
                Err(error) => {
                    self.range.start = self.range.end;
                    return Some(Err(error));
                }
            }
        }
        let len = self.ready.len().min(CHUNK_BYTES);
        Some(Ok(self.ready.split_to(len)))
    }

    async fn read_block(&mut self) -> Result<Bytes, Error> {
        let unit = match self.seal {
            Some(_) => seal::CHUNK_BYTES,
            None => BLOCK_BYTES,
        };
        let block = self.range.start / unit;
        let first = block * unit;
        let end = self.range.end.min(first + unit);
        let wanted = to_usize(self.range.start - first)..to_usize(end - first);
        let (file, seal) = (self.file.clone(), self.seal.clone());
        let read = move || {
            let bytes = file.read_block(block)?;
            match seal {
                Some(seal) => seal.open(block, (block + 1) * BLOCK_BYTES >= file.len_bytes, bytes),
                None => Ok(bytes),
            }
        };
        let bytes = self.io.run(read).await?;
        self.range.start = end;
        Ok(bytes.slice(wanted))
    }
}

/// The digests that R2 can check and store beside an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DigestKind {
    /// MD5, which is also an object's etag.
    Md5,
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

/// The digests of a value that were asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Digests {
    /// MD5.
    pub md5: Option<[u8; 16]>,
    /// SHA-1.
    pub sha1: Option<[u8; 20]>,
    /// SHA-256.
    pub sha256: Option<[u8; 32]>,
    /// SHA-384.
    pub sha384: Option<[u8; 48]>,
    /// SHA-512.
    pub sha512: Option<[u8; 64]>,
}

/// Collects an upload: in memory up to a limit, then in a blob. Dropping it at any moment
/// leaves nothing behind.
#[derive(Debug)]
pub struct Stage {
    layout: Arc<Layout>,
    io: BlobIo,
    account: AccountId,
    inline_limit_bytes: u64,
    limit_bytes: u64,
    is_synced: bool,
    len_bytes: u64,
    pending: Vec<Bytes>,
    pending_bytes: usize,
    sink: Sink,
    /// The write under way: while the disk works, the next chunks come in.
    write: Option<Started<Sink>>,
    /// The write that failed: the stage cannot be completed any more.
    failed: Option<Error>,
}

/// Where an upload's bytes go, and what is computed of them on the way.
#[derive(Debug, Default)]
struct Sink {
    blob: Option<TempBlob>,
    /// Of a value under a customer's key. Digests are those of the plain bytes.
    sealer: Option<Box<Sealer>>,
    hashers: Hashers,
}

#[derive(Debug, Default)]
struct Hashers {
    md5: Option<md5::Md5>,
    sha1: Option<sha1::Sha1>,
    sha256: Option<sha2::Sha256>,
    sha384: Option<sha2::Sha384>,
    sha512: Option<sha2::Sha512>,
}

impl Stage {
    pub(crate) fn new(
        layout: Arc<Layout>,
        io: BlobIo,
        account: AccountId,
        inline_limit_bytes: u64,
    ) -> Self {
        Self {
            layout,
            io,
            account,
            inline_limit_bytes: inline_limit_bytes.min(WRITE_BYTES as u64),
            limit_bytes: u64::MAX,
            is_synced: true,
            len_bytes: 0,
            pending: Vec::new(),
            pending_bytes: 0,
            sink: Sink::default(),
            write: None,
            failed: None,
        }
    }

    /// Bytes past `limit_bytes` are counted and not kept, so that the error can name the
    /// length. Whoever takes the [`Staged`] compares.
    pub fn with_limit(self, limit_bytes: u64) -> Self {
        Self {
            limit_bytes,
            ..self
        }
    }

    /// What is written may be lost: it is not synced.
    pub(crate) fn unsynced(self) -> Self {
        Self {
            is_synced: false,
            ..self
        }
    }

    /// Computes a digest on the way. To be called before the first write.
    pub fn with_digest(mut self, kind: DigestKind) -> Self {
        let hashers = &mut self.sink.hashers;
        match kind {
            DigestKind::Md5 => hashers.md5 = Some(md5::Md5::new()),
            DigestKind::Sha1 => hashers.sha1 = Some(sha1::Sha1::new()),
            DigestKind::Sha256 => hashers.sha256 = Some(sha2::Sha256::new()),
            DigestKind::Sha384 => hashers.sha384 = Some(sha2::Sha384::new()),
            DigestKind::Sha512 => hashers.sha512 = Some(sha2::Sha512::new()),
        }
        self
    }

    /// Encrypts on the way. To be called before the first write.
    pub(crate) fn with_seal(mut self, seal: Option<Seal>) -> Self {
        self.sink.sealer = seal.map(|seal| Box::new(Sealer::new(seal)));
        self
    }

    /// Takes the next bytes. Waits while the disk is behind.
    pub async fn write(&mut self, chunk: Bytes) -> Result<(), Error> {
        self.len_bytes = self.len_bytes.saturating_add(chunk.len() as u64);
        if self.len_bytes > self.limit_bytes {
            self.pending.clear();
            self.pending_bytes = 0;
            self.sink.blob = None;
            return Ok(());
        }
        self.pending_bytes += chunk.len();
        self.pending.push(chunk);
        if self.pending_bytes >= WRITE_BYTES {
            self.start_write().await?;
        }
        Ok(())
    }

    /// How much came in so far.
    pub fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    /// Whether more came in than the limit: nothing is kept any more.
    pub fn is_over_limit(&self) -> bool {
        self.len_bytes > self.limit_bytes
    }

    /// Ends the upload. A blob is synced, and lies under its temporary name until a
    /// transaction takes it.
    pub async fn finish(mut self) -> Result<Staged, Error> {
        if self.is_over_limit() {
            // Whatever a write under way made goes with its result.
            let _ = self.end_write().await;
            return Ok(Staged {
                len_bytes: self.len_bytes,
                digests: Digests::default(),
                content: Content::OverLimit,
            });
        }
        let is_inline = self.len_bytes <= self.inline_limit_bytes;
        if is_inline {
            let bytes = match &mut self.pending[..] {
                [] => Bytes::new(),
                [one] => std::mem::take(one),
                many => many.concat().into(),
            };
            let mut hashers = std::mem::take(&mut self.sink.hashers);
            hashers.update(&bytes);
            let bytes = match &self.sink.sealer {
                Some(sealer) => sealer.seal_whole(&bytes)?,
                None => bytes,
            };
            return Ok(Staged {
                len_bytes: self.len_bytes,
                digests: hashers.finish(),
                content: Content::Inline(bytes),
            });
        }
        self.start_write().await?;
        self.end_write().await?;
        let is_synced = self.is_synced;
        let mut sink = std::mem::take(&mut self.sink);
        let (blob, digests) = self
            .io
            .run(move || {
                if let Some(blob) = &mut sink.blob {
                    if let Some(sealer) = &mut sink.sealer {
                        sealer.finish(blob)?;
                    }
                    if is_synced {
                        blob.finish()?;
                    } else {
                        blob.seal()?;
                    }
                }
                Ok((sink.blob, sink.hashers.finish()))
            })
            .await?;
        let content = blob.map_or(Content::OverLimit, Content::Blob);
        Ok(Staged {
            len_bytes: self.len_bytes,
            digests,
            content,
        })
    }

    async fn start_write(&mut self) -> Result<(), Error> {
        self.end_write().await?;
        let place = self.io.place().await?;
        // From here on without waiting, so that a caller who gives up a `write` leaves
        // the stage as it was or with the write under way.
        let chunks = std::mem::take(&mut self.pending);
        self.pending_bytes = 0;
        let mut sink = std::mem::take(&mut self.sink);
        let (layout, account) = (self.layout.clone(), self.account.clone());
        self.write = Some(place.start(move || {
            for chunk in chunks {
                sink.hashers.update(&chunk);
                let blob = match &mut sink.blob {
                    Some(blob) => blob,
                    none => none.insert(TempBlob::create(&layout, &account)?),
                };
                match &mut sink.sealer {
                    Some(sealer) => sealer.write(&chunk, blob)?,
                    None => blob.write(&chunk)?,
                }
            }
            Ok(sink)
        }));
        Ok(())
    }

    async fn end_write(&mut self) -> Result<(), Error> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        if let Some(write) = &mut self.write {
            let written = write.end().await;
            self.write = None;
            self.sink = written.inspect_err(|error| self.failed = Some(error.clone()))?;
        }
        Ok(())
    }
}

impl Hashers {
    fn update(&mut self, bytes: &[u8]) {
        if let Some(hasher) = &mut self.md5 {
            hasher.update(bytes);
        }
        if let Some(hasher) = &mut self.sha1 {
            hasher.update(bytes);
        }
        if let Some(hasher) = &mut self.sha256 {
            hasher.update(bytes);
        }
        if let Some(hasher) = &mut self.sha384 {
            hasher.update(bytes);
        }
        if let Some(hasher) = &mut self.sha512 {
            hasher.update(bytes);
        }
    }

    fn finish(self) -> Digests {
        Digests {
            md5: self.md5.map(|hasher| hasher.finalize().into()),
            sha1: self.sha1.map(|hasher| hasher.finalize().into()),
            sha256: self.sha256.map(|hasher| hasher.finalize().into()),
            sha384: self.sha384.map(|hasher| hasher.finalize().into()),
            sha512: self.sha512.map(|hasher| hasher.finalize().into()),
        }
    }
}

/// A complete upload that no key names yet. Dropping it leaves nothing behind.
#[derive(Debug)]
pub struct Staged {
    /// How much came in.
    pub len_bytes: u64,
    /// What was asked for with [`Stage::with_digest`].
    pub digests: Digests,
    pub(crate) content: Content,
}

#[derive(Debug)]
pub(crate) enum Content {
    /// Small enough for a row.
    Inline(Bytes),
    /// Synced, under its temporary name.
    Blob(TempBlob),
    /// More than the stage's limit: nothing was kept.
    OverLimit,
}

impl Staged {
    /// A value that is in memory already and may lie in a row.
    pub(crate) fn inline(bytes: Bytes) -> Self {
        Self {
            len_bytes: bytes.len() as u64,
            digests: Digests::default(),
            content: Content::Inline(bytes),
        }
    }
}

#[cfg(test)]
mod tests;
