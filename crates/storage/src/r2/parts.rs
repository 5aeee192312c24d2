//! Values that lie in several blobs: the parts of a multipart upload.
//!
//! Such an object may have 10,000 parts, which is more descriptors than a process has, so
//! a reader opens them one after the other. It *pins* the object first: a writer that
//! replaces or deletes a pinned object leaves the blobs to the last of its readers.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::blobs::{BlobFolder, BlobId, BlobIo};
use crate::seal::{CustomerKey, Salt, Seal};
use crate::{BlobReader, Error};

/// The objects of all buckets that are being read in parts, by upload id.
#[derive(Debug, Clone, Default)]
pub(super) struct Pins(Arc<Mutex<HashMap<String, Pinned>>>);

#[derive(Debug, Default)]
struct Pinned {
    readers: usize,
    /// No row names them any more.
    doomed: Vec<BlobId>,
}

impl Pins {
    /// Keeps an upload's blobs until the pin is dropped. It holds for what a transaction
    /// that begins *after* this call still finds.
    pub(super) fn pin(&self, upload: &str, folder: &BlobFolder) -> Pin {
        self.lock().entry(upload.to_owned()).or_default().readers += 1;
        Pin {
            pins: self.clone(),
            upload: upload.to_owned(),
            folder: folder.clone(),
        }
    }

    /// Gives back the blobs of an upload that no row names any more, for removal, unless
    /// somebody reads them: then the last reader removes them. Called after the commit.
    pub(super) fn doom(&self, upload: &str, blobs: Vec<BlobId>) -> Vec<BlobId> {
        match self.lock().get_mut(upload) {
            Some(pinned) => {
                pinned.doomed.extend(blobs);
                Vec::new()
            }
            None => blobs,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Pinned>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps the blobs of one upload.
pub(super) struct Pin {
    pins: Pins,
    upload: String,
    folder: BlobFolder,
}

impl std::fmt::Debug for Pin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pin({})", self.upload)
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let doomed = {
            let mut pins = self.pins.lock();
            let Some(pinned) = pins.get_mut(&self.upload) else {
                return;
            };
            pinned.readers -= 1;
            if pinned.readers > 0 {
                return;
            }
            pins.remove(&self.upload)
                .map(|pinned| pinned.doomed)
                .unwrap_or_default()
        };
        if doomed.is_empty() {
            return;
        }
        let folder = self.folder.clone();
        let remove = move || remove_all(&folder, &doomed);
        // A body is dropped on an async thread as a rule. What a shutdown leaves undone
        // here is garbage that a later start collects.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }
}

/// Removes blobs that no row names. Blocking. A failure is only logged: what stays is
/// garbage.
pub(super) fn remove_all(folder: &BlobFolder, blobs: &[BlobId]) {
    for blob in blobs {
        if let Err(error) = folder.remove(*blob) {
            tracing::warn!(%error, "cannot remove a blob that is not needed");
        }
    }
}

/// The bytes of one part that are wanted.
#[derive(Clone)]
pub(super) struct PartRange {
    pub(super) blob: BlobId,
    /// Of its plain bytes.
    pub(super) range: Range<u64>,
    /// Of a part under a customer's key.
    pub(super) salt: Option<Salt>,
}

/// What opens the parts of an object under a customer's key.
#[derive(Clone)]
pub(super) struct Unseal {
    pub(super) key: CustomerKey,
    /// The identity of the object's key.
    pub(super) object: String,
}

/// Reads parts one after the other.
pub(super) struct PartsReader {
    pub(super) io: BlobIo,
    pub(super) folder: BlobFolder,
    pub(super) waiting: VecDeque<PartRange>,
    pub(super) unseal: Option<Unseal>,
    pub(super) current: Option<BlobReader>,
    pub(super) _pin: Pin,
}

impl std::fmt::Debug for PartsReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PartsReader({} waiting)", self.waiting.len())
    }
}

impl PartsReader {
    pub(super) async fn next_chunk(&mut self) -> Option<Result<Bytes, Error>> {
        loop {
            if let Some(current) = &mut self.current {
                match current.next_chunk().await {
                    None => self.current = None,
                    Some(Err(error)) => return Some(self.fail(error)),
                    chunk => return chunk,
                }
            }
            let PartRange { blob, range, salt } = self.waiting.front().cloned()?;
            let folder = self.folder.clone();
            let seal = salt
                .zip(self.unseal.as_ref())
                .map(|(salt, Unseal { key, object })| Seal::new(key, salt, object));
            let open = move || folder.open_sealed(blob, Some(range), seal);
            let opened = self.io.run(open).await;
            // Only now, so that a caller who stops waiting loses nothing.
            self.waiting.pop_front();
            match opened {
                Ok(reader) => self.current = Some(reader),
                Err(error) => return Some(self.fail(error)),
            }
        }
    }

    /// After an error there is nothing more.
    fn fail(&mut self, error: Error) -> Result<Bytes, Error> {
        self.waiting.clear();
        self.current = None;
        Err(error)
    }
}
