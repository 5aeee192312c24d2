//! The durable log of Analytics Engine points, one an account.
//!
//! A batch of points is one record. Whoever appends queues its record; one blocking job
//! at a time writes all that is queued, syncs once, and answers. Records lie in segment
//! files of about 64 MiB, `<number>.log`, that are only ever appended to; whoever turns
//! points into tables reads them in order ([`Events::read`]).
//!
//! **Format.** A segment begins with `EngawaE1`. A record is the length of its payload,
//! the CRC32C of length and payload, and the payload (all numbers little-endian). What a crash
//! leaves of a record at the end of the last segment was never acknowledged: it is cut off
//! when the log is opened.
//!
//! **Repeats.** The runtime sends a batch again when it got no answer. Its key (what
//! boot of a worker, which number, which dataset) is in the record, the newest 4,096 keys
//! are remembered and found again at open, and a known key is answered without being
//! stored twice. Repeats come within seconds, so that is far more than can be under way.

mod record;
mod segment;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use engawa_model::{AccountId, DatasetName, ErrorKind, Metered, Usage, UsageClass};
use tokio::sync::oneshot;

use crate::{Core, Error};
use segment::Segments;

pub use segment::EventReader;

/// What may wait for the disk, of one account. More is refused: `Unavailable`.
const QUEUED_BYTES: usize = 8 * 1024 * 1024;
/// A batch (the runtime sends at most 256 KiB at once).
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Keys that are remembered.
const REMEMBERED_KEYS: usize = 4096;

/// The logs of all accounts. Cheap to clone.
#[derive(Clone)]
pub struct Events {
    core: Arc<Core>,
    logs: Arc<Mutex<HashMap<AccountId, Arc<Log>>>>,
}

/// Tells a batch from every other one of its dataset.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BatchKey {
    /// Which start of a worker made it.
    pub boot_id: String,
    /// Counts that worker's batches.
    pub number: u64,
}

/// A data point.
#[derive(Debug, Clone, PartialEq)]
pub struct EventPoint {
    /// When it was written, in milliseconds since 1970.
    pub timestamp_ms: u64,
    /// The sampling key, at most 96 bytes.
    pub index: Option<Vec<u8>>,
    /// At most 20.
    pub doubles: Vec<f64>,
    /// At most 20; a null keeps its place.
    pub blobs: Vec<Option<Vec<u8>>>,
}

/// A batch as it was stored.
#[derive(Debug, Clone, PartialEq)]
pub struct EventBatch {
    /// When it was stored, in milliseconds since 1970.
    pub received_ms: u64,
    /// Whose points these are.
    pub dataset: DatasetName,
    /// What it was sent as.
    pub key: BatchKey,
    /// The points.
    pub points: Vec<EventPoint>,
}

impl Events {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self {
            core,
            logs: Arc::default(),
        }
    }

    /// Stores a batch, unless it was stored before; says whether it is new.
    pub async fn append(
        &self,
        account: &AccountId,
        dataset: &DatasetName,
        key: BatchKey,
        points: Vec<EventPoint>,
    ) -> Result<Metered<bool>, Error> {
        let operations = points.len() as u64;
        let batch = EventBatch {
            received_ms: self.core.clock.now_ms(),
            dataset: dataset.clone(),
            key,
            points,
        };
        let record = record::encode(&batch);
        if record.len() > BATCH_BYTES {
            let message = format!(
                "a batch of {} bytes of data points exceeds the limit of {BATCH_BYTES}",
                record.len()
            );
            return Err(Error::new(ErrorKind::TooLarge, message));
        }
        let usage = Usage {
            operations,
            ..Usage::one(UsageClass::AnalyticsWrite).with_bytes_in(record.len() as u64)
        };
        let (reply, answer) = oneshot::channel();
        let waiting = Waiting {
            key: (batch.dataset, batch.key),
            record,
            reply,
        };
        let log = self.log(account);
        if log.queue(waiting)? {
            let (io, layout) = (self.core.blob_io.clone(), self.core.layout.clone());
            // A task of its own: the batches of others wait for it too, so it must not
            // end with this caller. `Storage::close` waits for it through `blob_io`.
            tokio::spawn(async move {
                let job = log.clone();
                let done = io.run(move || {
                    layout.ensure_folder(&job.folder)?;
                    job.drain();
                    Ok(())
                });
                if let Err(error) = done.await {
                    log.refuse(&error);
                }
            });
        }
        let value = answer.await.unwrap_or_else(|_| {
            let message = "a defect: the log of data points gave no answer";
            Err(Error::new(ErrorKind::Internal, message))
        })?;
        Ok(Metered { value, usage })
    }

    /// All batches of an account, oldest first. Opening and iterating block.
    pub fn read(&self, account: &AccountId) -> Result<EventReader, Error> {
        EventReader::open(self.core.layout.events_dir(account))
    }

    fn log(&self, account: &AccountId) -> Arc<Log> {
        let mut logs = lock(&self.logs);
        if let Some(log) = logs.get(account) {
            return log.clone();
        }
        let folder = self.core.layout.events_dir(account);
        let log = Arc::new(Log {
            folder,
            queue: Mutex::default(),
            open: Mutex::default(),
        });
        logs.insert(account.clone(), log.clone());
        log
    }
}

type FullKey = (DatasetName, BatchKey);

struct Waiting {
    key: FullKey,
    record: Vec<u8>,
    reply: oneshot::Sender<Result<bool, Error>>,
}

/// The log of one account.
struct Log {
    folder: PathBuf,
    queue: Mutex<Queue>,
    /// Held by the one job that writes. `None` until the first write, and after an error
    /// that leaves the end of the file in doubt.
    open: Mutex<Option<Open>>,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Waiting>,
    bytes: usize,
    /// A job writes, or is about to.
    is_draining: bool,
}

struct Open {
    segments: Segments,
    known: Known,
}

impl Log {
    /// `true`: the caller has to start a job.
    fn queue(&self, waiting: Waiting) -> Result<bool, Error> {
        let mut queue = lock(&self.queue);
        if queue.bytes + waiting.record.len() > QUEUED_BYTES {
            let message = "too many data points are waiting for the disk; try again";
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        queue.bytes += waiting.record.len();
        queue.waiting.push(waiting);
        Ok(!std::mem::replace(&mut queue.is_draining, true))
    }

    fn refuse(&self, error: &Error) {
        let mut queue = lock(&self.queue);
        queue.is_draining = false;
        queue.bytes = 0;
        refuse(std::mem::take(&mut queue.waiting), error);
    }

    /// Writes, syncs and answers until nothing waits.
    fn drain(&self) {
        let mut open = lock(&self.open);
        loop {
            let group = {
                let mut queue = lock(&self.queue);
                if queue.waiting.is_empty() {
                    queue.is_draining = false;
                    return;
                }
                queue.bytes = 0;
                std::mem::take(&mut queue.waiting)
            };
            self.write(&mut open, group);
        }
    }

    fn write(&self, slot: &mut Option<Open>, group: Vec<Waiting>) {
        if slot.is_none() {
            match Open::at(self.folder.clone()) {
                Ok(open) => *slot = Some(open),
                Err(error) => return refuse(group, &error),
            }
        }
        let Some(open) = slot else { return };
        let mut new = HashSet::new();
        let mut records = Vec::new();
        for waiting in &group {
            if !open.known.contains(&waiting.key) && new.insert(waiting.key.clone()) {
                records.push(waiting.record.as_slice());
            }
        }
        let written = open.segments.append(&records);
        if let Err(error) = written {
            // Opened again, the file is read again and its end cut off where it must be.
            *slot = None;
            return refuse(group, &error);
        }
        for waiting in group {
            let is_new = new.remove(&waiting.key);
            if is_new {
                open.known.add(waiting.key);
            }
            let _ = waiting.reply.send(Ok(is_new));
        }
    }
}

fn refuse(group: Vec<Waiting>, error: &Error) {
    for waiting in group {
        let _ = waiting.reply.send(Err(error.clone()));
    }
}

impl Open {
    fn at(folder: PathBuf) -> Result<Self, Error> {
        let mut known = Known::default();
        let segments = Segments::open(folder, |batch| known.add((batch.dataset, batch.key)))?;
        Ok(Self { segments, known })
    }
}

/// The keys of the newest batches.
#[derive(Default)]
struct Known {
    keys: HashSet<FullKey>,
    order: VecDeque<FullKey>,
}

impl Known {
    fn contains(&self, key: &FullKey) -> bool {
        self.keys.contains(key)
    }

    fn add(&mut self, key: FullKey) {
        if self.keys.insert(key.clone()) {
            self.order.push_back(key);
        }
        if self.order.len() > REMEMBERED_KEYS
            && let Some(oldest) = self.order.pop_front()
        {
            self.keys.remove(&oldest);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
