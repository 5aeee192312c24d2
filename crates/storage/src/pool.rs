//! Storage threads: a few OS threads that serve many SQLite files.
//!
//! SQLite blocks, so it never runs on the async threads. A thread for each file would
//! not do either: with 10,000 databases most are idle. Here an open file is an *entry*
//! with two bounded queues, one of writes and one of reads, and a [`Pool`] of threads
//! goes from entry to entry:
//!
//! - Whoever submits the first request to an idle entry puts a *turn* for it into the
//!   pool's list and wakes one parked thread; there is no polling. Requests that come
//!   while a turn is waiting or running join its queue.
//! - A **write turn** has the entry's file object to itself and hands it a [`Group`]:
//!   requests until the queue is empty, 64 were taken or 2 ms have passed. The file
//!   decides about transactions and syncs, and answers through the channels inside of
//!   its requests. There is one write turn at a time for an entry.
//! - A **read turn** takes one of the entry's idle reader connections (or opens one, up
//!   to [`FilesOptions::readers`]) and answers reads one by one. Reads never wait behind
//!   the writer. A read that turns out to write is handed on to the write queue.
//! - After its turn an entry with work left goes to the end of the list, so that a busy
//!   file delays others by one group at most.
//!
//! Files are opened by the first turn that needs them and stay open. Past
//! [`FilesOptions::max_open`] the least recently used one that no turn is using is
//! closed first. If all are in use the number is exceeded, by no more than there are
//! threads. A full queue refuses at once ([`Refused::Full`]): a caller can tell its
//! client to come back, and memory stays bounded.
//!
//! **Long turns** (only where [`PoolOptions::long_after`] is set, since only D1 runs SQL
//! that is not ours). A watching thread marks a turn that lasts longer than that as
//! long and starts a spare thread in its place, up to [`PoolOptions::max_threads`].
//! While an account has [`PoolOptions::long_per_account`] long turns, its further turns
//! are set aside until one of them ends, so that one account's slow queries do not take
//! the spare threads of all. (Turns that run already when the limit is reached go on:
//! an account can exceed it by [`PoolOptions::threads`].) The watcher looks every half
//! `long_after` while turns are being started, and sleeps when there were none for a
//! second.
//!
//! **Closing** ([`Files::close`]) refuses new requests, lets every queue run empty,
//! closes the files and then returns; [`Pool::stop`] ends the threads.
//!
//! Locks, in the order in which they may be taken: an entry's `opening`, the registry,
//! an entry's `state`, the pool's `state`. None but `opening` is held while SQLite runs.

mod entry;
mod threads;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use engawa_model::{AccountId, ErrorKind};

use entry::{Enqueued, Entry, FilesInner, Registry, Request};
pub(crate) use threads::{Pool, PoolOptions};

/// A kind of SQLite file: how one is opened, written and read.
///
/// Every method runs on a pool thread and may block.
pub(crate) trait File: Send + Sized + 'static {
    /// Which file: holds the account, so that two accounts never meet in one entry.
    type Key: Clone + Eq + Hash + Debug + Send + Sync + 'static;
    /// What opening needs: the data folder, the clock, settings.
    type Context: Send + Sync + 'static;
    /// A request for the writer, with the channel of its answer inside.
    type Write: Send + 'static;
    /// A request for a reader.
    type Read: Send + 'static;
    /// What the writer and the readers of one open file have in common.
    type Shared: Send + Sync + 'static;
    /// A reader connection.
    type Reader: Send + 'static;
    /// Why a file could not be opened.
    type Error: From<Refused> + Send + 'static;

    /// Whose file it is.
    fn account(key: &Self::Key) -> &AccountId;

    /// Opens or creates the file.
    fn open(context: &Self::Context, key: &Self::Key) -> Result<Self, Self::Error>;

    /// Asked once after [`File::open`].
    fn shared(&self) -> Arc<Self::Shared>;

    /// Opens one more reader of an open file.
    fn open_reader(shared: &Arc<Self::Shared>) -> Result<Self::Reader, Self::Error>;

    /// Executes requests until [`Group::next`] gives none, makes them durable and answers
    /// them. `false`: the file is not to be trusted any more and is closed; the next
    /// request opens it again.
    fn run_group(&mut self, group: &mut Group<'_, Self>) -> bool;

    /// Executes and answers a read. `Some`: it would write, here it is for the writer.
    fn run_read(reader: &mut Self::Reader, request: Self::Read) -> Option<Self::Write>;

    /// Answers a write that cannot be executed.
    fn refuse_write(request: Self::Write, error: &Self::Error);

    /// Answers a read that cannot be executed.
    fn refuse_read(request: Self::Read, error: &Self::Error);
}

/// Why a request was not accepted. Nothing of it was executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// The entry's queue is full.
    #[error("too many requests are waiting for this file; try again")]
    Full,
    /// The files are being closed, or this one is being removed.
    #[error("the file is being closed; try again")]
    Stopping,
    /// The file's own code panicked before it looked at the request.
    #[error("the file could not be used because of a defect in Engawa; its log says more")]
    Panicked,
}

impl Refused {
    /// Repeating is safe unless there is a defect.
    pub(crate) fn kind(self) -> ErrorKind {
        match self {
            Self::Full | Self::Stopping => ErrorKind::Unavailable,
            Self::Panicked => ErrorKind::Internal,
        }
    }
}

/// The open files of one kind, over a [`Pool`]. Cheap to clone.
pub(crate) struct Files<F: File> {
    inner: Arc<FilesInner<F>>,
}

/// Bounds of a [`Files`].
#[derive(Debug, Clone)]
pub(crate) struct FilesOptions {
    /// How many files are open at most (see the module's text).
    pub(crate) max_open: usize,
    /// Requests that may wait in each of an entry's two queues.
    pub(crate) queue: usize,
    /// Reader connections of an entry.
    pub(crate) readers: usize,
    /// Requests of a group.
    pub(crate) group_requests: usize,
    /// After this much execution a group takes no further request.
    pub(crate) group_time: Duration,
}

impl Default for FilesOptions {
    fn default() -> Self {
        Self {
            max_open: 256,
            queue: 1024,
            readers: 4,
            group_requests: 64,
            group_time: Duration::from_millis(2),
        }
    }
}

impl<F: File> Clone for Files<F> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<F: File> Files<F> {
    /// No file is opened yet.
    pub(crate) fn new(pool: Pool, context: F::Context, options: FilesOptions) -> Self {
        Self {
            inner: Arc::new(FilesInner {
                pool,
                context,
                options,
                uses: AtomicU64::new(0),
                registry: Mutex::new(Registry {
                    entries: HashMap::new(),
                    open: 0,
                    stopping: false,
                }),
            }),
        }
    }

    /// Queues a write. Returns at once.
    pub(crate) fn write(&self, key: &F::Key, request: F::Write) -> Result<(), Refused> {
        self.submit(key, Request::Write(request))
    }

    /// Queues a read. Returns at once.
    pub(crate) fn read(&self, key: &F::Key, request: F::Read) -> Result<(), Refused> {
        self.submit(key, Request::Read(request))
    }

    fn submit(&self, key: &F::Key, mut request: Request<F>) -> Result<(), Refused> {
        loop {
            let entry = self.inner.entry(key)?;
            match Entry::enqueue(&entry, request) {
                Enqueued::Done => return Ok(()),
                Enqueued::Refused(refused) => return Err(refused),
                // Closed and forgotten between the look-up and here: look again.
                Enqueued::Retired(back) => request = back,
            }
        }
    }

    /// Closes one file for good and runs `then`, with nobody able to open the file
    /// meanwhile: for deleting it. Queued requests are refused, running turns are waited
    /// for. Blocks.
    pub(crate) fn remove<T>(&self, key: &F::Key, then: impl FnOnce() -> T) -> Result<T, Refused> {
        let entry = self.inner.entry(key)?;
        let (writes, reads) = {
            let mut state = lock(&entry.state);
            if state.removing || state.retired {
                return Err(Refused::Stopping);
            }
            state.removing = true;
            (
                std::mem::take(&mut state.writes),
                std::mem::take(&mut state.reads),
            )
        };
        let error = F::Error::from(Refused::Stopping);
        for request in writes {
            F::refuse_write(request, &error);
        }
        for request in reads {
            F::refuse_read(request, &error);
        }
        let mut state = lock(&entry.state);
        while state.running > 0 {
            state = entry.wait_quiet(state);
        }
        // From here on a turn that is still listed does nothing.
        drop(state);
        let _opening = lock(&entry.opening);
        let closed = lock(&entry.state).take_open();
        self.inner.closed(closed);
        let result = then();
        let mut registry = lock(&self.inner.registry);
        registry.entries.remove(key);
        lock(&entry.state).retired = true;
        Ok(result)
    }

    /// Refuses further requests, executes all that are queued, closes every file. Blocks.
    pub(crate) fn close(&self) {
        let entries: Vec<_> = {
            let mut registry = lock(&self.inner.registry);
            registry.stopping = true;
            registry.entries.drain().map(|(_, entry)| entry).collect()
        };
        for entry in entries {
            let mut state = lock(&entry.state);
            while !state.is_idle() || state.running > 0 {
                state = entry.wait_quiet(state);
            }
            state.retired = true;
            let closed = state.take_open();
            drop(state);
            self.inner.closed(closed);
        }
    }

    /// Waits until no turn is listed or running.
    #[cfg(test)]
    pub(crate) fn settle(&self) {
        let entries: Vec<_> = lock(&self.inner.registry)
            .entries
            .values()
            .cloned()
            .collect();
        for entry in entries {
            let mut state = lock(&entry.state);
            while !state.is_idle() || state.running > 0 {
                state = entry.wait_quiet(state);
            }
        }
    }

    /// How many files are open now.
    #[cfg(test)]
    pub(crate) fn open_files(&self) -> usize {
        lock(&self.inner.registry).open
    }
}

/// The requests of one write turn, taken from the queue one at a time, so that what
/// arrives meanwhile still joins.
pub(crate) struct Group<'a, F: File> {
    entry: &'a Entry<F>,
    taken: usize,
    started: Instant,
    /// So that `next` does not read the clock before the first request ran.
    limits: &'a FilesOptions,
}

impl<F: File> Group<'_, F> {
    /// The next request; `None` when the group is complete.
    pub(crate) fn next(&mut self) -> Option<F::Write> {
        if self.taken >= self.limits.group_requests
            || (self.taken > 0 && self.started.elapsed() >= self.limits.group_time)
        {
            return None;
        }
        let request = lock(&self.entry.state).writes.pop_front()?;
        self.taken += 1;
        Some(request)
    }

    /// How many requests were taken so far.
    pub(crate) fn taken(&self) -> usize {
        self.taken
    }
}

/// A panic is caught per turn and its file closed, so a poisoned lock holds sound data.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
