//! Entries: one file each, with its queues, its turns, and its opening and closing.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use engawa_model::AccountId;

use super::threads::{Turn, TurnKind, Work};
use super::{File, FilesOptions, Group, Pool, Refused, lock};

pub(super) struct FilesInner<F: File> {
    pub(super) pool: Pool,
    pub(super) context: F::Context,
    pub(super) options: FilesOptions,
    /// Counts turns: an entry's last one says how recently it was used.
    pub(super) uses: AtomicU64,
    pub(super) registry: Mutex<Registry<F>>,
}

pub(super) struct Registry<F: File> {
    pub(super) entries: HashMap<F::Key, Arc<Entry<F>>>,
    pub(super) open: usize,
    pub(super) stopping: bool,
}

/// One file, open or not.
pub(super) struct Entry<F: File> {
    pub(super) files: Arc<FilesInner<F>>,
    pub(super) key: F::Key,
    /// Held while the file is being opened or closed.
    pub(super) opening: Mutex<()>,
    pub(super) last_use: AtomicU64,
    pub(super) state: Mutex<State<F>>,
    /// Signalled when a turn ends.
    pub(super) quiet: Condvar,
}

pub(super) struct State<F: File> {
    pub(super) writes: VecDeque<F::Write>,
    pub(super) reads: VecDeque<F::Read>,
    /// A write turn is listed or running.
    pub(super) write_turn: bool,
    /// Read turns listed or running.
    pub(super) read_turns: usize,
    /// Turns running now.
    pub(super) running: usize,
    /// The file, when it is open and no write turn has it.
    pub(super) file: Option<F>,
    /// Set while the file is open.
    pub(super) shared: Option<Arc<F::Shared>>,
    /// Reader connections that no turn has.
    pub(super) readers: Vec<F::Reader>,
    /// [`Files::remove`] is under way.
    pub(super) removing: bool,
    /// No longer in the registry.
    pub(super) retired: bool,
}

/// What an open file consists of. Dropping it closes the file.
pub(super) struct OpenFile<F: File> {
    readers: Vec<F::Reader>,
    file: Option<F>,
    shared: Option<Arc<F::Shared>>,
}

pub(super) enum Request<F: File> {
    Write(F::Write),
    Read(F::Read),
}

pub(super) enum Enqueued<F: File> {
    Done,
    Refused(Refused),
    Retired(Request<F>),
}

impl<F: File> FilesInner<F> {
    pub(super) fn entry(self: &Arc<Self>, key: &F::Key) -> Result<Arc<Entry<F>>, Refused> {
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
    pub(super) fn closed(&self, open: Option<OpenFile<F>>) {
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
    pub(super) fn is_idle(&self) -> bool {
        self.writes.is_empty() && self.reads.is_empty() && !self.write_turn && self.read_turns == 0
    }

    pub(super) fn take_open(&mut self) -> Option<OpenFile<F>> {
        let shared = self.shared.take()?;
        Some(OpenFile {
            readers: std::mem::take(&mut self.readers),
            file: self.file.take(),
            shared: Some(shared),
        })
    }
}

impl<F: File> Entry<F> {
    pub(super) fn enqueue(entry: &Arc<Self>, request: Request<F>) -> Enqueued<F> {
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
    pub(super) fn wait_quiet<'a>(
        &self,
        state: MutexGuard<'a, State<F>>,
    ) -> MutexGuard<'a, State<F>> {
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
