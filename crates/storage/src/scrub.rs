//! Verifies stored blobs in the background, so that a disk's silent damage is found while
//! there still is a backup of before it.
//!
//! One thread reads one blob after the other, in the order of their paths, and never more
//! bytes a second than [`crate::StorageOptions::scrub_bytes_per_s`]; what it has read the
//! kernel may forget at once, so it takes no memory from those who serve. A round begins a
//! week after the last one began. Its place is kept in `scrub.json`, written now and then
//! and not synced: a start goes on from there, and after a power cut some blobs are read
//! once more, or the round begins anew.
//!
//! It needs no database: a damaged blob is told by path in the log, where
//! `engawa doctor` says which key it belongs to. A blob that goes while it is being read
//! is nothing to tell.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use engawa_model::{Clock, ErrorKind};
use serde::{Deserialize, Serialize};

use crate::blobs::{BLOCK_BYTES, BlobFile, read_folder};
use crate::layout::Layout;
use crate::{Core, Error};

/// From the beginning of a round to that of the next.
const ROUND_MS: u64 = 7 * 24 * 60 * 60 * 1000;
/// A start has better things to do.
const FIRST_AFTER: Duration = Duration::from_secs(30);
/// While there is nothing to do.
const LOOK_EVERY: Duration = Duration::from_mins(10);
/// How often the place is written.
const KEEP_EVERY: Duration = Duration::from_secs(10);
/// Damaged blobs that are remembered by path.
const DAMAGED: usize = 1000;

/// What was verified, and found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubStatus {
    /// When the round under way, or the last one, began: milliseconds since 1970.
    pub began_ms: u64,
    /// When the last whole round ended.
    pub ended_ms: Option<u64>,
    /// Blobs of this round that were verified.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Blobs of this round that are damaged; at most 1,000.
    pub damaged: Vec<PathBuf>,
    /// The last blob that this round has looked at.
    place: Option<PathBuf>,
}

/// The thread that verifies.
pub(crate) struct Scrubber {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    layout: Arc<Layout>,
    clock: Clock,
    bytes_per_s: u64,
    state: Mutex<State>,
    /// Signalled when it is to stop.
    stop: Condvar,
}

#[derive(Default)]
struct State {
    stopping: bool,
    status: ScrubStatus,
}

impl Scrubber {
    /// Starts the thread, unless `bytes_per_s` is 0.
    pub(crate) fn start(core: &Core, bytes_per_s: u64) -> Result<Self, Error> {
        let shared = Arc::new(Shared::new(
            core.layout.clone(),
            core.clock.clone(),
            bytes_per_s,
        ));
        let mut thread = None;
        if bytes_per_s > 0 {
            let shared = Arc::clone(&shared);
            let spawned = std::thread::Builder::new()
                .name("scrub".to_owned())
                .spawn(move || shared.run());
            thread = Some(spawned.map_err(|error| {
                let message = format!("cannot start the thread that verifies blobs: {error}");
                Error::with_source(ErrorKind::Internal, message, error)
            })?);
        }
        Ok(Self {
            shared,
            thread: Mutex::new(thread),
        })
    }

    pub(crate) fn status(&self) -> ScrubStatus {
        self.shared.state().status.clone()
    }

    /// Ends the thread. Blocks for one block of a blob.
    pub(crate) fn stop(&self) {
        self.shared.state().stopping = true;
        self.shared.stop.notify_all();
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Scrubber {
    fn drop(&mut self) {
        // A storage that is not closed; the process ends, perhaps.
        self.shared.state().stopping = true;
        self.shared.stop.notify_all();
    }
}

/// It is to stop.
struct Stopped;

impl Shared {
    /// Goes on where an earlier process was.
    fn new(layout: Arc<Layout>, clock: Clock, bytes_per_s: u64) -> Self {
        let status = std::fs::read(layout.scrub_file()).ok();
        let status = status.and_then(|text| serde_json::from_slice(&text).ok());
        Self {
            layout,
            clock,
            bytes_per_s,
            state: Mutex::new(State {
                stopping: false,
                status: status.unwrap_or_default(),
            }),
            stop: Condvar::new(),
        }
    }

    fn run(&self) {
        let mut pause = FIRST_AFTER;
        while self.sleep(pause).is_ok() {
            pause = LOOK_EVERY;
            if self.is_due() && self.round().is_err() {
                break;
            }
        }
        self.keep();
    }

    /// Whether a round is under way, or is to begin; begins it.
    fn is_due(&self) -> bool {
        let now_ms = self.clock.now_ms();
        let mut state = self.state();
        let status = &mut state.status;
        let is_over = status.ended_ms.is_some_and(|end| end >= status.began_ms);
        let is_new = status.began_ms == 0;
        // A clock that was set back must not put the next round off for years.
        let is_old = now_ms.abs_diff(status.began_ms) >= ROUND_MS;
        if is_new || (is_over && is_old) {
            *status = ScrubStatus {
                began_ms: now_ms,
                ended_ms: status.ended_ms,
                ..ScrubStatus::default()
            };
            return true;
        }
        !is_over
    }

    /// Verifies everything behind the place where the round is.
    fn round(&self) -> Result<(), Stopped> {
        let place = self.state().status.place.clone();
        let mut kept = Instant::now();
        let place = place.as_deref();
        for account in sorted(&self.layout.accounts_dir()) {
            for folder in below(&account.join("blobs"), place) {
                if folder.ends_with("tmp") {
                    continue;
                }
                for half in below(&folder, place) {
                    for resource in below(&half, place) {
                        for blobs in below(&resource, place) {
                            for blob in below(&blobs, place) {
                                self.verify(&blob)?;
                                if kept.elapsed() >= KEEP_EVERY {
                                    self.keep();
                                    kept = Instant::now();
                                }
                            }
                        }
                    }
                }
            }
        }
        let now_ms = self.clock.now_ms();
        let mut state = self.state();
        state.status.ended_ms = Some(now_ms.max(state.status.began_ms));
        state.status.place = None;
        drop(state);
        self.keep();
        Ok(())
    }

    fn verify(&self, path: &Path) -> Result<(), Stopped> {
        let outcome = BlobFile::open(path.to_owned());
        let outcome = match outcome {
            Ok(blob) => {
                let mut read = Ok(());
                for block in 0..blob.blocks() {
                    read = blob.read_block(block).map(|_| ());
                    // Also after damage: a disk that fails is not to be read fast.
                    self.sleep(self.cost(BLOCK_BYTES.min(blob.len_bytes)))?;
                    if read.is_err() {
                        break;
                    }
                }
                blob.forget();
                read.map(|()| blob.len_bytes)
            }
            Err(error) => Err(error),
        };
        let mut state = self.state();
        let status = &mut state.status;
        status.place = Some(path.to_owned());
        match outcome {
            Ok(len_bytes) => {
                status.blobs += 1;
                status.bytes += len_bytes;
            }
            // It was replaced or deleted.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                if status.damaged.len() < DAMAGED {
                    status.damaged.push(path.to_owned());
                }
                drop(state);
                tracing::error!(%error, "a stored value is damaged; `engawa doctor` says which");
            }
        }
        Ok(())
    }

    /// How long bytes are to take.
    fn cost(&self, bytes: u64) -> Duration {
        let micros = bytes.saturating_mul(1_000_000) / self.bytes_per_s.max(1);
        Duration::from_micros(micros)
    }

    fn sleep(&self, time: Duration) -> Result<(), Stopped> {
        let (state, _) = self
            .stop
            .wait_timeout_while(self.state(), time, |state| !state.stopping)
            .unwrap_or_else(PoisonError::into_inner);
        if state.stopping { Err(Stopped) } else { Ok(()) }
    }

    /// Writes the place down. If that fails, blobs are read once more after a restart.
    fn keep(&self) {
        let status = self.state().status.clone();
        if status == ScrubStatus::default() {
            return;
        }
        let path = self.layout.scrub_file();
        let new = path.with_extension("new");
        let written = serde_json::to_vec(&status)
            .map_err(std::io::Error::from)
            .and_then(|text| std::fs::write(&new, text))
            .and_then(|()| std::fs::rename(&new, &path));
        if let Err(error) = written {
            tracing::warn!(%error, "cannot keep the place of the verification of blobs");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What lies in a folder and is not before `place`, sorted: the branch that `place` is on,
/// and all that comes after it. A folder that cannot be read is told, and passed over.
fn below(folder: &Path, place: Option<&Path>) -> Vec<PathBuf> {
    let mut paths = sorted(folder);
    if let Some(place) = place {
        paths.retain(|path| path.as_path() > place || (place.starts_with(path) && path != place));
    }
    paths
}

fn sorted(folder: &Path) -> Vec<PathBuf> {
    let mut paths = read_folder(folder).unwrap_or_else(|error| {
        tracing::error!(%error, "stored values cannot be verified");
        Vec::new()
    });
    paths.sort_unstable();
    paths
}

#[cfg(test)]
mod tests;
