//! One process of a worker as requests see it, and their places at it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::Instant;

use engawa_model::{Lease, LeaseGuard};
use tokio::sync::Notify;

use super::Queue;
use crate::life::Load;
use crate::process::Process;

/// Where requests go: a socket's path, and who is under way there. When a process ends
/// unasked, the next one takes its socket over, and with it who waits in the backlog.
#[derive(Debug)]
pub(super) struct Slot {
    socket: Arc<PathBuf>,
    unanswered: AtomicUsize,
    streaming: AtomicUsize,
    /// When the last request ended, in milliseconds of [`uptime_ms`].
    last_used_ms: AtomicU64,
    queue: Arc<Queue>,
}

impl Slot {
    pub(super) fn new(socket: PathBuf, queue: Arc<Queue>) -> Self {
        Self {
            socket: Arc::new(socket),
            unanswered: AtomicUsize::new(0),
            streaming: AtomicUsize::new(0),
            last_used_ms: AtomicU64::new(uptime_ms()),
            queue,
        }
    }
}

/// A process that starts, serves or leaves.
#[derive(Debug)]
pub(crate) struct Instance {
    number: u64,
    slot: Arc<Slot>,
    /// Requests ever sent here, and how many of them are known to be over, `waitUntil`
    /// included (only while a tail counts them).
    sent: AtomicU64,
    finished: AtomicU64,
    /// The watcher killed it because it burnt CPU without answering.
    exceeded_limits: AtomicBool,
    /// Set once it listens.
    process: OnceLock<Arc<Process>>,
    /// Asks whoever looks after the process to kill it, or to give up its start.
    kill: Notify,
}

impl Instance {
    pub(super) fn new(number: u64, slot: Arc<Slot>) -> Self {
        // Those in the backlog may or may not be answered by this process. Counted as sent,
        // they can only make it stay longer.
        let sent = slot.unanswered.load(Ordering::SeqCst) as u64;
        Self {
            number,
            slot,
            sent: AtomicU64::new(sent),
            finished: AtomicU64::new(0),
            exceeded_limits: AtomicBool::new(false),
            process: OnceLock::new(),
            kill: Notify::new(),
        }
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }

    pub(super) fn process(&self) -> Option<&Process> {
        self.process.get().map(Arc::as_ref)
    }

    pub(super) fn set_process(&self, process: Arc<Process>) {
        // It starts once.
        let _ = self.process.set(process);
    }

    pub(super) fn kill(&self) {
        self.kill.notify_one();
    }

    /// Waits for [`Instance::kill`], also for one that came before.
    pub(super) async fn killed(&self) {
        self.kill.notified().await;
    }

    pub(super) fn set_exceeded_limits(&self) {
        self.exceeded_limits.store(true, Ordering::SeqCst);
    }

    /// Requests ever sent here.
    pub(super) fn requests(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Requests under way.
    pub(crate) fn in_flight(&self) -> usize {
        self.slot.unanswered.load(Ordering::SeqCst) + self.slot.streaming.load(Ordering::SeqCst)
    }

    pub(super) fn idle_ms(&self) -> u64 {
        uptime_ms().saturating_sub(self.slot.last_used_ms.load(Ordering::Relaxed))
    }

    /// Whether some request that was sent here may still have a `waitUntil`.
    pub(crate) fn unsettled(&self) -> bool {
        self.finished.load(Ordering::Relaxed) < self.sent.load(Ordering::Relaxed)
    }

    /// Takes the number of finished requests; `true` when it has grown.
    pub(crate) fn note_finished(&self, count: u64) -> bool {
        self.finished.swap(count, Ordering::Relaxed) != count
    }

    pub(super) fn load(&self, counts_finished: bool) -> Load {
        let never_used = self.sent.load(Ordering::Relaxed) == 0;
        Load {
            unanswered: self.slot.unanswered.load(Ordering::SeqCst),
            streaming: self.slot.streaming.load(Ordering::SeqCst),
            // A worker that never had a request has nothing pending, tail or not.
            settled: never_used || (counts_finished && !self.unsettled()),
            idle_ms: self.idle_ms(),
        }
    }
}

/// A place for one request.
pub(super) fn lease(instance: &Arc<Instance>) -> Lease {
    instance.slot.unanswered.fetch_add(1, Ordering::SeqCst);
    instance.sent.fetch_add(1, Ordering::Relaxed);
    Lease {
        socket: Arc::clone(&instance.slot.socket),
        instance: instance.number,
        guard: Box::new(Place {
            instance: Arc::clone(instance),
            answered: AtomicBool::new(false),
        }),
    }
}

struct Place {
    instance: Arc<Instance>,
    answered: AtomicBool,
}

impl LeaseGuard for Place {
    fn exceeded_limits(&self) -> bool {
        self.instance.exceeded_limits.load(Ordering::SeqCst)
    }

    fn answered(&self) {
        if !self.answered.swap(true, Ordering::Relaxed) {
            let slot = &self.instance.slot;
            slot.streaming.fetch_add(1, Ordering::SeqCst);
            slot.unanswered.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let slot = &self.instance.slot;
        let counter = if *self.answered.get_mut() {
            &slot.streaming
        } else {
            &slot.unanswered
        };
        slot.last_used_ms.store(uptime_ms(), Ordering::Relaxed);
        counter.fetch_sub(1, Ordering::SeqCst);
        slot.queue.place_freed();
    }
}

/// Milliseconds since the first call: a clock that never jumps.
pub(super) fn uptime_ms() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(START.elapsed().as_millis()).unwrap_or(u64::MAX)
}
