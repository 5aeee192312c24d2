//! The threads of a pool and the list of turns they take from.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use engawa_model::AccountId;

use super::lock;

/// Something that pool threads give turns to: an entry of a [`super::Files`].
pub(super) trait Work: Send + Sync {
    /// Whose turn it is.
    fn account(&self) -> &AccountId;

    /// One turn. Does not panic.
    fn run(self: Arc<Self>, kind: TurnKind);
}

/// A listed turn.
pub(super) struct Turn {
    pub(super) work: Arc<dyn Work>,
    pub(super) kind: TurnKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TurnKind {
    Write,
    Read,
}

/// Bounds of a [`Pool`].
#[derive(Debug, Clone)]
pub(crate) struct PoolOptions {
    /// Part of the threads' names.
    pub(crate) name: &'static str,
    /// Threads, not counting those that stand in for long turns.
    pub(crate) threads: usize,
    /// Threads, counting those.
    pub(crate) max_threads: usize,
    /// A turn longer than this is long. `None`: none is.
    pub(crate) long_after: Option<Duration>,
    /// Long turns of one account before its further turns wait.
    pub(crate) long_per_account: usize,
}

impl PoolOptions {
    /// The pool of catalog, KV and R2 metadata, which runs only our own SQL.
    pub(crate) fn metadata() -> Self {
        Self {
            name: "storage",
            threads: 8,
            max_threads: 8,
            long_after: None,
            long_per_account: usize::MAX,
        }
    }

    /// The pool of D1, which runs anybody's SQL.
    pub(crate) fn d1() -> Self {
        Self {
            name: "d1",
            threads: 8,
            max_threads: 64,
            long_after: Some(Duration::from_millis(20)),
            long_per_account: 4,
        }
    }
}

/// Threads that serve any number of [`super::Files`]. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Pool {
    inner: Arc<Inner>,
}

struct Inner {
    options: PoolOptions,
    state: Mutex<State>,
    /// A turn was listed, or the pool stops.
    listed: Condvar,
    /// Turns are being started again, or the pool stops.
    watch: Condvar,
}

struct State {
    ready: VecDeque<Turn>,
    /// Turns of accounts that have too many long ones.
    held: HashMap<AccountId, VecDeque<Turn>>,
    /// Long turns under way, by account. No zeros.
    long: HashMap<AccountId, usize>,
    long_total: usize,
    /// By worker number.
    running: HashMap<u64, Running>,
    next_worker: u64,
    /// Live threads.
    threads: usize,
    parked: usize,
    turns_started: u64,
    watcher_parked: bool,
    stopping: bool,
    handles: Vec<JoinHandle<()>>,
}

struct Running {
    account: AccountId,
    started: Instant,
    long: bool,
}

impl Pool {
    /// Starts the threads.
    pub(crate) fn start(options: PoolOptions) -> std::io::Result<Self> {
        let pool = Self {
            inner: Arc::new(Inner {
                state: Mutex::new(State {
                    ready: VecDeque::new(),
                    held: HashMap::new(),
                    long: HashMap::new(),
                    long_total: 0,
                    running: HashMap::new(),
                    next_worker: 0,
                    threads: 0,
                    parked: 0,
                    turns_started: 0,
                    watcher_parked: false,
                    stopping: false,
                    handles: Vec::new(),
                }),
                options,
                listed: Condvar::new(),
                watch: Condvar::new(),
            }),
        };
        let mut state = lock(&pool.inner.state);
        for _ in 0..pool.inner.options.threads {
            pool.inner.spawn_worker(&mut state)?;
        }
        if let Some(long_after) = pool.inner.options.long_after {
            let inner = Arc::clone(&pool.inner);
            state.handles.push(
                std::thread::Builder::new()
                    .name(format!("{}-watch", inner.options.name))
                    .spawn(move || inner.watch(long_after))?,
            );
        }
        drop(state);
        Ok(pool)
    }

    /// Lists a turn and wakes a thread for it.
    pub(super) fn list(&self, turn: Turn) {
        let mut state = lock(&self.inner.state);
        state.ready.push_back(turn);
        if state.parked > 0 {
            drop(state);
            self.inner.listed.notify_one();
        }
    }

    /// Ends the threads after the turns that are listed. Every [`super::Files`] is to be
    /// closed before. Blocks.
    pub(crate) fn stop(&self) {
        let handles = {
            let mut state = lock(&self.inner.state);
            state.stopping = true;
            std::mem::take(&mut state.handles)
        };
        self.inner.listed.notify_all();
        self.inner.watch.notify_all();
        for handle in handles {
            // Not from one of the pool's own threads, which could not end itself.
            if handle.thread().id() != std::thread::current().id() {
                let _ = handle.join();
            }
        }
    }

    /// Live threads, long turns.
    #[cfg(test)]
    pub(super) fn counts(&self) -> (usize, usize) {
        let state = lock(&self.inner.state);
        (state.threads, state.long_total)
    }
}

impl Inner {
    fn spawn_worker(self: &Arc<Self>, state: &mut State) -> std::io::Result<()> {
        let number = state.next_worker;
        let inner = Arc::clone(self);
        let handle = std::thread::Builder::new()
            .name(format!("{}-{number}", self.options.name))
            .spawn(move || inner.work(number))?;
        state.next_worker += 1;
        state.threads += 1;
        state.handles.retain(|handle| !handle.is_finished());
        state.handles.push(handle);
        Ok(())
    }

    fn work(&self, number: u64) {
        let mut state = lock(&self.state);
        loop {
            // A spare thread goes when the turn that it stood in for has ended.
            if state.threads - state.long_total > self.options.threads {
                break;
            }
            if let Some(turn) = self.admit(&mut state) {
                state.turns_started += 1;
                state.running.insert(
                    number,
                    Running {
                        account: turn.work.account().clone(),
                        started: Instant::now(),
                        long: false,
                    },
                );
                let wake_watcher = std::mem::replace(&mut state.watcher_parked, false);
                drop(state);
                if wake_watcher {
                    self.watch.notify_one();
                }
                turn.work.run(turn.kind);
                state = lock(&self.state);
                Self::finish(&mut state, number);
                continue;
            }
            if state.stopping {
                break;
            }
            state.parked += 1;
            state = self
                .listed
                .wait(state)
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            state.parked -= 1;
        }
        state.threads -= 1;
        // Its wake-up may have been meant for a turn that is still listed.
        drop(state);
        self.listed.notify_one();
    }

    /// The next turn whose account may have one; others are set aside.
    fn admit(&self, state: &mut State) -> Option<Turn> {
        while let Some(turn) = state.ready.pop_front() {
            let account = turn.work.account();
            let long = state.long.get(account).copied().unwrap_or(0);
            if long < self.options.long_per_account {
                return Some(turn);
            }
            let account = account.clone();
            state.held.entry(account).or_default().push_back(turn);
        }
        None
    }

    fn finish(state: &mut State, number: u64) {
        let Some(running) = state.running.remove(&number) else {
            return;
        };
        if !running.long {
            return;
        }
        state.long_total -= 1;
        if let Some(long) = state.long.get_mut(&running.account) {
            *long -= 1;
            if *long == 0 {
                state.long.remove(&running.account);
            }
        }
        // They waited longest, so they go first; `admit` sets aside again what is too much.
        if let Some(mut held) = state.held.remove(&running.account) {
            held.append(&mut state.ready);
            state.ready = held;
        }
    }

    /// Marks long turns and starts a thread for each.
    fn watch(self: Arc<Self>, long_after: Duration) {
        const SLEEP_AFTER: Duration = Duration::from_secs(1);
        let mut state = lock(&self.state);
        let mut seen = 0;
        let mut active = Instant::now();
        while !state.stopping {
            if state.turns_started != seen || !state.running.is_empty() {
                seen = state.turns_started;
                active = Instant::now();
            }
            state.watcher_parked = active.elapsed() >= SLEEP_AFTER;
            state = if state.watcher_parked {
                self.watch
                    .wait(state)
                    .unwrap_or_else(std::sync::PoisonError::into_inner)
            } else {
                self.watch
                    .wait_timeout(state, long_after / 2)
                    .unwrap_or_else(std::sync::PoisonError::into_inner)
                    .0
            };
            self.mark_long(&mut state, long_after);
        }
    }

    fn mark_long(self: &Arc<Self>, state: &mut State, long_after: Duration) {
        let mut accounts = Vec::new();
        for running in state.running.values_mut() {
            if !running.long && running.started.elapsed() >= long_after {
                running.long = true;
                accounts.push(running.account.clone());
            }
        }
        for account in accounts {
            *state.long.entry(account).or_default() += 1;
            state.long_total += 1;
            if state.threads < self.options.max_threads
                && let Err(error) = self.spawn_worker(state)
            {
                // Fewer threads for a while; the next long turn tries again.
                tracing::warn!(%error, "no spare storage thread could be started");
            }
        }
    }
}
