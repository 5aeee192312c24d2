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

mod threads;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::fmt::Debug;
use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use engawa_model::{AccountId, ErrorKind};

pub(crate) use threads::{Pool, PoolOptions};
use threads::{Turn, TurnKind, Work};

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

struct FilesInner<F: File> {
    pool: Pool,
    context: F::Context,
    options: FilesOptions,
    /// Counts turns: an entry's last one says how recently it was used.
    uses: AtomicU64,
    registry: Mutex<Registry<F>>,
}

struct Registry<F: File> {
    entries: HashMap<F::Key, Arc<Entry<F>>>,
    open: usize,
    stopping: bool,
}

/// One file, open or not.
struct Entry<F: File> {
    files: Arc<FilesInner<F>>,
    key: F::Key,
    /// Held while the file is being opened or closed.
    opening: Mutex<()>,
    last_use: AtomicU64,
    state: Mutex<State<F>>,
    /// Signalled when a turn ends.
    quiet: Condvar,
}

struct State<F: File> {
    writes: VecDeque<F::Write>,
    reads: VecDeque<F::Read>,
    /// A write turn is listed or running.
    write_turn: bool,
    /// Read turns listed or running.
    read_turns: usize,
    /// Turns running now.
    running: usize,
    /// The file, when it is open and no write turn has it.
    file: Option<F>,
    /// Set while the file is open.
    shared: Option<Arc<F::Shared>>,
    /// Reader connections that no turn has.
    readers: Vec<F::Reader>,
    /// [`Files::remove`] is under way.
    removing: bool,
    /// No longer in the registry.
    retired: bool,
}

/// What an open file consists of. Dropping it closes the file.
struct OpenFile<F: File> {
    readers: Vec<F::Reader>,
    file: Option<F>,
    shared: Option<Arc<F::Shared>>,
}

enum Request<F: File> {
    Write(F::Write),
    Read(F::Read),
}

enum Enqueued<F: File> {
    Done,
    Refused(Refused),
    Retired(Request<F>),
}

impl<F: File> FilesInner<F> {
    fn entry(self: &Arc<Self>, key: &F::Key) -> Result<Arc<Entry<F>>, Refused> {
        let mut registry = lock(&self.registry);
        if registry.stopping {
            return Err(Refused::Stopping);
        }
        if let Some(entry) = registry.entries.get(key) {
            return Ok(Arc::clone(entry));
        }
        let entry = Arc::new(Entry {
            files: Arc::clone(self),
            key: key.clone(),
            opening: Mutex::new(()),
            last_use: AtomicU64::new(0),
            state: Mutex::new(State {
                writes: VecDeque::new(),
                reads: VecDeque::new(),
                write_turn: false,
                read_turns: 0,
                running: 0,
                file: None,
                shared: None,
                readers: Vec::new(),
                removing: false,
                retired: false,
            }),
            quiet: Condvar::new(),
        });
        registry.entries.insert(key.clone(), Arc::clone(&entry));
        Ok(entry)
    }

    /// Closes what was taken out of an entry, and counts it.
    fn closed(&self, open: Option<OpenFile<F>>) {
        if let Some(open) = open {
            drop(open.readers);
            drop(open.file);
            drop(open.shared);
            lock(&self.registry).open -= 1;
        }
    }

    /// Makes room for one more open file and counts it.
    fn make_room(&self) {
        let mut tried = Vec::new();
        loop {
            let victim = {
                let mut registry = lock(&self.registry);
                let victim = (registry.open >= self.options.max_open)
                    .then(|| registry.least_recently_used(&tried))
                    .flatten();
                let Some(victim) = victim else {
                    registry.open += 1;
                    return;
                };
                victim
            };
            if !self.close_idle(&victim) {
                tried.push(victim.key.clone());
            }
        }
    }

    /// Closes an entry's file if no turn is using it.
    fn close_idle(&self, entry: &Arc<Entry<F>>) -> bool {
        // Never waits: its holder may be waiting to close *our* entry.
        let Ok(_opening) = entry.opening.try_lock() else {
            return false;
        };
        let open = {
            let mut state = lock(&entry.state);
            if state.running > 0 {
                return false;
            }
            state.take_open()
        };
        let Some(open) = open else { return false };
        self.closed(Some(open));
        let mut registry = lock(&self.registry);
        let mut state = lock(&entry.state);
        if state.is_idle() && state.running == 0 && !state.removing && !registry.stopping {
            state.retired = true;
            registry.entries.remove(&entry.key);
        }
        true
    }
}

impl<F: File> Registry<F> {
    fn least_recently_used(&self, except: &[F::Key]) -> Option<Arc<Entry<F>>> {
        let mut candidates: Vec<_> = self
            .entries
            .values()
            .map(|entry| (entry.last_use.load(Ordering::Relaxed), entry))
            .collect();
        candidates.sort_unstable_by_key(|(used, _)| *used);
        candidates
            .into_iter()
            .map(|(_, entry)| entry)
            .find(|entry| {
                !except.contains(&entry.key) && {
                    let state = lock(&entry.state);
                    state.running == 0 && state.shared.is_some()
                }
            })
            .map(Arc::clone)
    }
}

impl<F: File> State<F> {
    fn is_idle(&self) -> bool {
        self.writes.is_empty() && self.reads.is_empty() && !self.write_turn && self.read_turns == 0
    }

    fn take_open(&mut self) -> Option<OpenFile<F>> {
        let shared = self.shared.take()?;
        Some(OpenFile {
            readers: std::mem::take(&mut self.readers),
            file: self.file.take(),
            shared: Some(shared),
        })
    }
}

impl<F: File> Entry<F> {
    fn enqueue(entry: &Arc<Self>, request: Request<F>) -> Enqueued<F> {
        let options = &entry.files.options;
        let mut state = lock(&entry.state);
        if state.retired {
            return Enqueued::Retired(request);
        }
        if state.removing {
            return Enqueued::Refused(Refused::Stopping);
        }
        let kind = match request {
            Request::Write(request) => {
                if state.writes.len() >= options.queue {
                    return Enqueued::Refused(Refused::Full);
                }
                state.writes.push_back(request);
                if std::mem::replace(&mut state.write_turn, true) {
                    return Enqueued::Done;
                }
                TurnKind::Write
            }
            Request::Read(request) => {
                if state.reads.len() >= options.queue {
                    return Enqueued::Refused(Refused::Full);
                }
                state.reads.push_back(request);
                if state.read_turns >= options.readers {
                    return Enqueued::Done;
                }
                state.read_turns += 1;
                TurnKind::Read
            }
        };
        drop(state);
        entry.files.pool.list(Turn {
            work: Arc::clone(entry) as Arc<dyn Work>,
            kind,
        });
        Enqueued::Done
    }

    /// Waits until a turn has ended.
    fn wait_quiet<'a>(&self, state: MutexGuard<'a, State<F>>) -> MutexGuard<'a, State<F>> {
        self.quiet
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the file if it is not open.
    fn ensure_open(&self) -> Result<Arc<F::Shared>, F::Error> {
        if let Some(shared) = &lock(&self.state).shared {
            return Ok(Arc::clone(shared));
        }
        let _opening = lock(&self.opening);
        if let Some(shared) = &lock(&self.state).shared {
            return Ok(Arc::clone(shared));
        }
        self.files.make_room();
        let opened = catch_unwind(AssertUnwindSafe(|| F::open(&self.files.context, &self.key)))
            .unwrap_or_else(|_| {
                tracing::error!(file = ?self.key, "opening a storage file panicked");
                Err(Refused::Panicked.into())
            });
        match opened {
            Ok(file) => {
                let shared = file.shared();
                let mut state = lock(&self.state);
                state.file = Some(file);
                state.shared = Some(Arc::clone(&shared));
                Ok(shared)
            }
            Err(error) => {
                lock(&self.files.registry).open -= 1;
                Err(error)
            }
        }
    }

    /// Answers everything in a queue with an error.
    fn refuse_writes(&self, error: &F::Error) {
        let requests = std::mem::take(&mut lock(&self.state).writes);
        for request in requests {
            F::refuse_write(request, error);
        }
    }

    fn refuse_reads(&self, error: &F::Error) {
        let requests = std::mem::take(&mut lock(&self.state).reads);
        for request in requests {
            F::refuse_read(request, error);
        }
    }

    fn write_turn(&self) {
        if let Err(error) = self.ensure_open() {
            self.refuse_writes(&error);
            return;
        }
        let Some(mut file) = lock(&self.state).file.take() else {
            // Only a write turn takes it, and there is one at a time, so it is there.
            return self.distrust();
        };
        let mut group = Group {
            entry: self,
            taken: 0,
            started: Instant::now(),
            limits: &self.files.options,
        };
        let sound = catch_unwind(AssertUnwindSafe(|| file.run_group(&mut group)));
        let untouched = (group.taken == 0).then(|| group.next()).flatten();
        if let Some(request) = untouched {
            // Whatever went wrong before the first request would go wrong for ever.
            F::refuse_write(request, &Refused::Panicked.into());
        }
        let mut state = lock(&self.state);
        state.file = Some(file);
        if matches!(sound, Ok(true)) {
            return;
        }
        drop(state);
        if sound.is_err() {
            tracing::error!(file = ?self.key, "a storage file panicked and is closed");
        }
        self.distrust();
    }

    /// Closes a file after a failed sync or a panic, so that the next request opens and
    /// checks it anew. Readers that are in use close with the end of their turns.
    fn distrust(&self) {
        let _opening = lock(&self.opening);
        let open = lock(&self.state).take_open();
        self.files.closed(open);
    }

    fn read_turn(&self) {
        let shared = match self.ensure_open() {
            Ok(shared) => shared,
            Err(error) => return self.refuse_reads(&error),
        };
        let idle = lock(&self.state).readers.pop();
        let reader = match idle {
            Some(reader) => Ok(reader),
            None => F::open_reader(&shared),
        };
        let mut reader = match reader {
            Ok(reader) => reader,
            Err(error) => return self.refuse_reads(&error),
        };
        let options = &self.files.options;
        let started = Instant::now();
        for taken in 0..options.group_requests {
            if taken > 0 && started.elapsed() >= options.group_time {
                break;
            }
            let Some(request) = lock(&self.state).reads.pop_front() else {
                break;
            };
            match catch_unwind(AssertUnwindSafe(|| F::run_read(&mut reader, request))) {
                Ok(None) => {}
                Ok(Some(write)) => self.hand_to_writer(write),
                Err(_) => {
                    tracing::error!(file = ?self.key, "a storage reader panicked and is closed");
                    return;
                }
            }
        }
        let mut state = lock(&self.state);
        // Not into a file that was closed, and perhaps opened again, meanwhile.
        if state
            .shared
            .as_ref()
            .is_some_and(|now| Arc::ptr_eq(now, &shared))
        {
            state.readers.push(reader);
        }
    }

    fn hand_to_writer(&self, request: F::Write) {
        let mut state = lock(&self.state);
        let refused = if state.removing {
            Refused::Stopping
        } else if state.writes.len() >= self.files.options.queue {
            Refused::Full
        } else {
            state.writes.push_back(request);
            return;
        };
        drop(state);
        F::refuse_write(request, &refused.into());
    }
}

impl<F: File> Work for Entry<F> {
    fn account(&self) -> &AccountId {
        F::account(&self.key)
    }

    fn run(self: Arc<Self>, kind: TurnKind) {
        let now = self.files.uses.fetch_add(1, Ordering::Relaxed);
        self.last_use.store(now, Ordering::Relaxed);
        let has_work = {
            let mut state = lock(&self.state);
            state.running += 1;
            match kind {
                TurnKind::Write => !state.writes.is_empty(),
                TurnKind::Read => !state.reads.is_empty(),
            }
        };
        match kind {
            // Another turn answered everything, or the file is being removed.
            _ if !has_work => {}
            TurnKind::Write => self.write_turn(),
            TurnKind::Read => self.read_turn(),
        }
        let (mut again_write, mut again_read) = (false, false);
        {
            let mut state = lock(&self.state);
            state.running -= 1;
            match kind {
                TurnKind::Write => state.write_turn = false,
                TurnKind::Read => state.read_turns -= 1,
            }
            // A read turn may have left work for the writer.
            if !state.writes.is_empty() && !state.write_turn {
                state.write_turn = true;
                again_write = true;
            }
            if !state.reads.is_empty() && state.read_turns < self.files.options.readers {
                state.read_turns += 1;
                again_read = true;
            }
        }
        self.quiet.notify_all();
        if again_write {
            self.files.pool.list(Turn {
                work: Arc::clone(&self) as Arc<dyn Work>,
                kind: TurnKind::Write,
            });
        }
        if again_read {
            let pool = self.files.pool.clone();
            pool.list(Turn {
                work: self,
                kind: TurnKind::Read,
            });
        }
    }
}

/// A panic is caught per turn and its file closed, so a poisoned lock holds sound data.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
