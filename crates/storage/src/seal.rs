//! Values under a customer's key (R2's SSE-C).
//!
//! The key comes with each request and is never stored; its MD5 is, which Cloudflare shows
//! so that people can tell their keys apart. What encrypts a value is a key derived from
//! the customer's, from 16 random bytes of this one value (its *salt*, stored beside it),
//! and from the object's key: so no two values share a key, and a value that was moved to
//! another object's row does not open there.
//!
//! A value is cut into chunks, each sealed by AES-256-GCM with its number as the nonce.
//! The nonce of the last one is marked, so a value that was cut off at the end of a chunk
//! does not open either. A chunk and its tag fill one checksummed block of a blob, so a
//! range is read, checked and opened without what lies before it.

use std::fmt;

use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::aead::{AeadInOut as _, KeyInit as _};
use aes_gcm::{Aes256Gcm, Key, Nonce, Tag};
use bytes::Bytes;
use engawa_model::ErrorKind;
use md5::{Digest as _, Md5};

use crate::Error;
use crate::blobs::{BLOCK_BYTES, TempBlob, to_usize};

/// What GCM adds to a chunk.
const TAG_BYTES: u64 = 16;
/// The plain bytes of a chunk, except the last.
pub(crate) const CHUNK_BYTES: u64 = BLOCK_BYTES - TAG_BYTES;

/// A customer's key: 256 bits. It does not print.
#[derive(Clone)]
pub struct CustomerKey([u8; 32]);

impl CustomerKey {
    /// A key of these bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// What tells it apart from others: shown to users, stored beside each value.
    pub fn md5(&self) -> [u8; 16] {
        Md5::digest(self.0).into()
    }
}

impl fmt::Debug for CustomerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CustomerKey(…)")
    }
}

/// Random bytes that make a value's key its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Salt(pub(crate) [u8; 16]);

impl Salt {
    pub(crate) fn random() -> Result<Self, Error> {
        let mut salt = [0; 16];
        getrandom::fill(&mut salt).map_err(|error| {
            Error::new(ErrorKind::Internal, format!("no random numbers: {error}"))
        })?;
        Ok(Self(salt))
    }
}

/// Seals and opens the chunks of one value.
pub(crate) struct Seal(Aes256Gcm);

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal(…)")
    }
}

impl Seal {
    /// `object` is the identity of the key that the value is stored under.
    pub(crate) fn new(key: &CustomerKey, salt: Salt, object: &str) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("engawa r2 sse-c value key v1");
        hasher
            .update(&key.0)
            .update(&salt.0)
            .update(object.as_bytes());
        Self(Aes256Gcm::new(&Key::<Aes256Gcm>::from(
            *hasher.finalize().as_bytes(),
        )))
    }

    /// Seals a value that fits into one chunk.
    pub(crate) fn seal_whole(&self, value: &[u8]) -> Result<Bytes, Error> {
        let mut chunk = value.to_vec();
        self.seal(0, true, &mut chunk)?;
        Ok(chunk.into())
    }

    /// Opens what [`Seal::seal_whole`] sealed.
    pub(crate) fn open_whole(&self, sealed: Bytes) -> Result<Bytes, Error> {
        self.open(0, true, sealed)
    }

    fn seal(&self, number: u64, is_last: bool, chunk: &mut Vec<u8>) -> Result<(), Error> {
        let tag = self
            .0
            .encrypt_inout_detached(
                &nonce(number, is_last),
                &[],
                InOutBuf::from(chunk.as_mut_slice()),
            )
            .map_err(|_| Error::new(ErrorKind::Internal, "a value could not be encrypted"))?;
        chunk.extend_from_slice(&tag);
        Ok(())
    }

    /// The plain bytes of chunk `number`.
    pub(crate) fn open(&self, number: u64, is_last: bool, sealed: Bytes) -> Result<Bytes, Error> {
        let damaged = || {
            let message = "an encrypted value does not open with its key: it is damaged; restore it from a \
                 backup";
            Error::new(ErrorKind::Corrupt, message)
        };
        let length = sealed
            .len()
            .checked_sub(to_usize(TAG_BYTES))
            .ok_or_else(damaged)?;
        // A block that was just read has no other owner, and is opened where it lies.
        let mut chunk = sealed
            .try_into_mut()
            .unwrap_or_else(|shared| shared[..].into());
        let tag = chunk.split_off(length);
        let tag = Tag::try_from(&tag[..]).map_err(|_| damaged())?;
        self.0
            .decrypt_inout_detached(
                &nonce(number, is_last),
                &[],
                InOutBuf::from(&mut chunk[..]),
                &tag,
            )
            .map_err(|_| damaged())?;
        Ok(chunk.freeze())
    }
}

fn nonce(number: u64, is_last: bool) -> Nonce<aes_gcm::aead::consts::U12> {
    let mut nonce = [0; 12];
    nonce[..8].copy_from_slice(&number.to_be_bytes());
    nonce[8] = u8::from(is_last);
    nonce.into()
}

/// The length of a value whose sealed form has this length.
pub(crate) fn plain_len(sealed_len: u64) -> u64 {
    sealed_len.saturating_sub(sealed_len.div_ceil(BLOCK_BYTES) * TAG_BYTES)
}

/// Seals a value on its way into a blob.
#[derive(Debug)]
pub(crate) struct Sealer {
    seal: Seal,
    chunk: Vec<u8>,
    number: u64,
}

impl Sealer {
    pub(crate) fn new(seal: Seal) -> Self {
        Self {
            seal,
            chunk: Vec::new(),
            number: 0,
        }
    }

    /// Takes the next plain bytes. Blocking.
    pub(crate) fn write(&mut self, bytes: &[u8], blob: &mut TempBlob) -> Result<(), Error> {
        let full = to_usize(CHUNK_BYTES);
        let mut rest = bytes;
        while !rest.is_empty() {
            // Only now, when more is there, is it known not to be the last one.
            if self.chunk.len() == full {
                self.flush(false, blob)?;
            }
            let (now, later) = rest.split_at(rest.len().min(full - self.chunk.len()));
            self.chunk.extend_from_slice(now);
            rest = later;
        }
        Ok(())
    }

    /// Writes the last chunk. Blocking.
    pub(crate) fn finish(&mut self, blob: &mut TempBlob) -> Result<(), Error> {
        self.flush(true, blob)
    }

    /// A value that never left memory.
    pub(crate) fn seal_whole(&self, value: &[u8]) -> Result<Bytes, Error> {
        self.seal.seal_whole(value)
    }

    fn flush(&mut self, is_last: bool, blob: &mut TempBlob) -> Result<(), Error> {
        self.seal.seal(self.number, is_last, &mut self.chunk)?;
        blob.write(&self.chunk)?;
        self.chunk.clear();
        self.number += 1;
        Ok(())
    }
}
