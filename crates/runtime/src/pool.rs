//! The instances of one deployment's worker: the shell around [`Life`](crate::life::Life).
//!
//! An actor (`actor.rs`) owns the state machine and the processes. Requests read an
//! immutable list of live instances and count themselves in and out (`instance.rs`); they
//! reach the actor only when there is no instance for them.
//!
//! What the actor is asked for lies in a set of flags and not in a queue: it is bounded,
//! nothing in it can be lost, and a thousand requests that want an instance are one wish.

mod actor;
mod gauge;
mod instance;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use engawa_model::{AccountId, Lease, ProjectName, WorkerPool, WorkerUnavailable};
use tokio::sync::{Notify, watch};

use crate::capacity::Capacity;
use crate::config::WorkerdConfig;
use crate::life::{Availability, Event, WorkerTimes};
use crate::process::{Process, Spawner};
use crate::sockets::SocketDir;

pub(crate) use instance::Instance;
use instance::uptime_ms;

/// Requests under way at one instance. Below the backlog of its socket, since a connect
/// to a full one fails at once.
const IN_FLIGHT_MAX: usize = 900;
/// Requests that may wait for an instance.
const WAITING_MAX: usize = 1000;
/// How long one may wait.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// What every pool of a runtime shares.
#[derive(Debug)]
pub(crate) struct PoolContext {
    pub(crate) spawner: Spawner,
    pub(crate) workerd: std::path::PathBuf,
    pub(crate) sockets: SocketDir,
    pub(crate) capacity: Arc<Capacity>,
    pub(crate) times: WorkerTimes,
}

/// How a pool runs.
#[derive(Debug, Clone)]
pub(crate) struct PoolOptions {
    /// Whose worker it is.
    pub(crate) account: AccountId,
    pub(crate) project: ProjectName,
    /// Whether a tail worker counts finished requests.
    pub(crate) logging: bool,
}

/// The instances of one deployment's worker. Dropping it retires them.
#[derive(Debug)]
pub struct Pool {
    shared: Arc<Shared>,
}

/// What requests, the actor and [`Capacity`] see of a pool.
#[derive(Debug)]
pub(crate) struct Shared {
    live: ArcSwap<Vec<Arc<Instance>>>,
    queue: Arc<Queue>,
    orders: Orders,
    availability: watch::Receiver<Availability>,
    gone: watch::Receiver<bool>,
}

impl Pool {
    /// A cold pool. Must be called inside the runtime that is to run its actor.
    pub(crate) fn new(
        context: Arc<PoolContext>,
        config: WorkerdConfig,
        options: PoolOptions,
    ) -> Arc<Self> {
        let (set_availability, availability) = watch::channel(Availability::Cold);
        let (set_gone, gone) = watch::channel(false);
        let shared = Arc::new(Shared {
            live: ArcSwap::default(),
            queue: Arc::default(),
            orders: Orders::default(),
            availability,
            gone,
        });
        context
            .capacity
            .register(&options.account, &options.project, &shared);
        let actor = actor::Actor::new(
            Arc::clone(&shared),
            context,
            config,
            options,
            set_availability,
        );
        tokio::spawn(async move {
            actor.run().await;
            let _ = set_gone.send(true);
        });
        Arc::new(Self { shared })
    }

    /// Starts an instance if there is none and waits for it: a deployment's check.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn check(&self) -> Result<(), WorkerUnavailable> {
        self.shared
            .wait_for(|| (!self.shared.live.load().is_empty()).then_some(()))
            .await
    }

    /// Lets the pool end: requests under way, then `waitUntil`, then the processes.
    pub fn retire(&self) {
        self.shared.orders.give(Order::Retire);
    }

    /// Ends everything at once.
    pub fn hurry(&self) {
        self.shared.orders.give(Order::Hurry);
    }

    /// Exchanges every live instance for a new one without dropping a request.
    pub fn replace(&self) {
        self.shared.replace();
    }

    /// Waits until no process is left, after [`Pool::retire`] or [`Pool::hurry`].
    pub async fn gone(&self) {
        let mut gone = self.shared.gone.clone();
        // The sender goes with the actor, which means the same.
        let _ = gone.wait_for(|gone| *gone).await;
    }

    /// The process numbers of its live instances.
    pub fn pids(&self) -> Vec<u32> {
        self.shared
            .live
            .load()
            .iter()
            .filter_map(|instance| Some(instance.process()?.pid()))
            .collect()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.retire();
    }
}

impl WorkerPool for Pool {
    fn try_acquire(&self) -> Option<Lease> {
        self.shared.try_acquire()
    }

    fn acquire(
        &self,
    ) -> Pin<Box<dyn Future<Output = Result<Lease, WorkerUnavailable>> + Send + '_>> {
        Box::pin(self.shared.wait_for(|| self.shared.try_acquire()))
    }
}

impl Shared {
    fn try_acquire(&self) -> Option<Lease> {
        let live = self.live.load();
        let (in_flight, instance) = live
            .iter()
            .map(|instance| (instance.in_flight(), instance))
            .min_by_key(|(in_flight, _)| *in_flight)?;
        (in_flight < IN_FLIGHT_MAX).then(|| instance::lease(instance))
    }

    /// Waits until `found` finds something, in its turn among those who wait.
    async fn wait_for<T>(&self, found: impl Fn() -> Option<T>) -> Result<T, WorkerUnavailable> {
        let _waiting = self.queue.enter().ok_or(WorkerUnavailable::Busy)?;
        tokio::time::timeout(WAIT_MAX, self.keep_asking(found))
            .await
            .unwrap_or(Err(WorkerUnavailable::Busy))
    }

    async fn keep_asking<T>(&self, found: impl Fn() -> Option<T>) -> Result<T, WorkerUnavailable> {
        let mut availability = self.availability.clone();
        let mut asked_for_more = false;
        loop {
            // Read before the list of instances, which is always published first: what is
            // missed in the list is a change that wakes us.
            let now = availability.borrow_and_update().clone();
            if let Some(found) = found() {
                self.queue.pass_on();
                return Ok(found);
            }
            match now {
                Availability::Retired => return Err(WorkerUnavailable::Stopping),
                Availability::Failing { until_ms, reason } if uptime_ms() < until_ms => {
                    return Err(WorkerUnavailable::Failing(reason));
                }
                Availability::Cold | Availability::Failing { .. } => self.orders.give(Order::Want),
                Availability::Live if !asked_for_more => {
                    asked_for_more = true;
                    self.orders.give(Order::Want);
                }
                Availability::Live | Availability::Starting => {}
            }
            tokio::select! {
                changed = availability.changed() => changed.map_err(|_| WorkerUnavailable::Stopping)?,
                () = self.queue.freed.notified() => {}
            }
        }
    }

    /// Asks the worker to become cold, if it is idle.
    pub(crate) fn evict(&self) {
        self.orders.give(Order::Evict);
    }

    /// Time since its last request ended, or `None` while it has one, or no live process.
    pub(crate) fn idle_for(&self) -> Option<Duration> {
        let live = self.live.load();
        if live.iter().any(|instance| instance.in_flight() > 0) {
            return None;
        }
        live.iter()
            .map(|instance| Duration::from_millis(instance.idle_ms()))
            .min()
    }

    /// Asks for the exchange of every instance.
    pub(crate) fn replace(&self) {
        self.orders.give(Order::Replace);
    }

    /// Asks for one instance fewer, if there are several.
    pub(crate) fn spare_one(&self) {
        self.orders.give(Order::Fewer);
    }

    /// How many live instances there are beyond the one that serves.
    pub(crate) fn extras(&self) -> usize {
        self.live.load().len().saturating_sub(1)
    }

    /// Memory of its live processes.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let live = self.live.load();
        live.iter()
            .filter_map(|instance| instance.process())
            .map(Process::memory_bytes)
            .sum()
    }
}

/// Those who wait for a place.
#[derive(Debug, Default)]
struct Queue {
    waiting: AtomicUsize,
    /// Wakes the one who has waited longest.
    freed: Notify,
}

struct Waiting<'a>(&'a Queue);

impl Queue {
    fn enter(&self) -> Option<Waiting<'_>> {
        let waiting = Waiting(self);
        (self.waiting.fetch_add(1, Ordering::SeqCst) < WAITING_MAX).then_some(waiting)
    }

    /// A place has become free. Sequentially consistent with [`Queue::enter`]: either the
    /// one who waits sees the place, or he is seen here.
    fn place_freed(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.freed.notify_one();
        }
    }

    /// Several places may have become free under one notice.
    fn pass_on(&self) {
        if self.waiting.load(Ordering::SeqCst) > 1 {
            self.freed.notify_one();
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What can be asked of the actor, the most urgent first.
#[derive(Debug, Clone, Copy)]
enum Order {
    Hurry,
    Retire,
    Evict,
    Replace,
    Fewer,
    Want,
}

impl Order {
    const ALL: [Self; 6] = [
        Self::Hurry,
        Self::Retire,
        Self::Evict,
        Self::Replace,
        Self::Fewer,
        Self::Want,
    ];

    fn bit(self) -> u8 {
        1 << self as u8
    }

    fn event(self) -> Event {
        match self {
            Self::Hurry => Event::Hurry,
            Self::Retire => Event::Retire,
            Self::Evict => Event::Evict,
            Self::Replace => Event::Replace,
            Self::Fewer => Event::Fewer,
            Self::Want => Event::Wanted,
        }
    }
}

#[derive(Debug, Default)]
struct Orders {
    open: AtomicU8,
    given: Notify,
}

impl Orders {
    fn give(&self, order: Order) {
        self.open.fetch_or(order.bit(), Ordering::SeqCst);
        self.given.notify_one();
    }

    /// The next one; may be dropped at any time. Only the actor calls it.
    async fn next(&self) -> Event {
        loop {
            let open = self.open.load(Ordering::SeqCst);
            if let Some(order) = Order::ALL.into_iter().find(|order| open & order.bit() != 0) {
                self.open.fetch_and(!order.bit(), Ordering::SeqCst);
                return order.event();
            }
            self.given.notified().await;
        }
    }
}

#[cfg(test)]
mod tests;
