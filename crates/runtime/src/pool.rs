//! The instances of one deployment's worker: the shell around [`Life`].
//!
//! An actor owns the state machine and the processes. Requests read an immutable list of
//! live instances and count themselves in and out; they reach the actor only when there
//! is no instance for them.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use engawa_model::{AccountId, Lease, LeaseGuard, ProjectName, WorkerPool, WorkerUnavailable};
use tokio::sync::{mpsc, watch};

use crate::capacity::Capacity;
use crate::config::WorkerdConfig;
use crate::life::{Availability, Effect, Event, Life, Load};
use crate::ping;
use crate::process::{LISTEN_BACKLOG, Process, Spawner};

/// Requests under way at one instance. Below the backlog of its socket, since a connect
/// to a full one fails at once.
const IN_FLIGHT_MAX: usize = 900;
/// Requests that may wait for an instance.
const WAITING_MAX: usize = 1000;
/// How long one may wait.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// How often a leaving instance is looked at.
const TICK: Duration = Duration::from_millis(50);

/// What every pool of a runtime shares.
#[derive(Debug)]
pub(crate) struct PoolContext {
    pub(crate) spawner: Spawner,
    pub(crate) workerd: PathBuf,
    pub(crate) socket_dir: PathBuf,
    pub(crate) capacity: Arc<Capacity>,
}

/// The instances of one deployment's worker.
#[derive(Debug)]
pub struct Pool {
    live: ArcSwap<Vec<Arc<Instance>>>,
    waiting: AtomicUsize,
    commands: mpsc::Sender<Event>,
    availability: watch::Receiver<Availability>,
    gone: watch::Receiver<bool>,
}

#[derive(Debug)]
pub(crate) struct Instance {
    number: u64,
    socket: Arc<PathBuf>,
    unanswered: AtomicUsize,
    streaming: AtomicUsize,
    /// Requests ever sent here, and how many of them are known to be over, `waitUntil`
    /// included (only while a tail counts them).
    sent: AtomicU64,
    finished: AtomicU64,
    /// When the last request ended, in milliseconds of [`uptime_ms`].
    last_used_ms: AtomicU64,
    /// The watcher killed it because it burnt CPU without answering.
    exceeded_limits: AtomicBool,
    /// Set once it listens.
    process: OnceLock<Arc<Process>>,
}

impl Instance {
    /// Requests under way.
    pub(crate) fn in_flight(&self) -> usize {
        self.unanswered.load(Ordering::Relaxed) + self.streaming.load(Ordering::Relaxed)
    }

    /// Whether some request that was sent here may still have a `waitUntil`.
    pub(crate) fn unsettled(&self) -> bool {
        self.finished.load(Ordering::Relaxed) < self.sent.load(Ordering::Relaxed)
    }

    /// Takes the number of finished requests; `true` when it has grown.
    pub(crate) fn note_finished(&self, count: u64) -> bool {
        self.finished.swap(count, Ordering::Relaxed) != count
    }
}

impl Pool {
    /// A cold pool. Must be called inside the runtime that is to run its actor.
    pub(crate) fn new(context: Arc<PoolContext>, config: WorkerdConfig, options: PoolOptions) -> Arc<Self> {
        static POOLS: AtomicU64 = AtomicU64::new(1);
        let first_number = POOLS.fetch_add(1, Ordering::Relaxed) << 32;
        let (commands, inbox) = mpsc::channel(256);
        let (set_availability, availability) = watch::channel(Availability::Cold);
        let (set_gone, gone) = watch::channel(false);
        let pool = Arc::new(Self {
            live: ArcSwap::default(),
            waiting: AtomicUsize::new(0),
            commands,
            availability,
            gone,
        });
        context.capacity.register(&options.account, &options.project, &pool);
        let actor = Actor {
            pool: Arc::clone(&pool),
            context,
            config: Arc::new(config),
            life: Life::new(options.instances, first_number),
            options,
            running: HashMap::new(),
            set_availability,
            set_gone,
        };
        tokio::spawn(actor.run(inbox));
        pool
    }

    /// Starts an instance if there is none and waits for it: a deployment's check.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn check(&self) -> Result<(), WorkerUnavailable> {
        self.wait_for(|| (!self.live.load().is_empty()).then_some(())).await
    }

    /// Lets the pool end: requests under way, then `waitUntil`, then the processes.
    pub fn retire(&self) {
        self.send(Event::Retire);
    }

    /// Cuts all waiting short.
    pub fn hurry(&self) {
        self.send(Event::Hurry);
    }

    /// Exchanges every live instance for a new one without dropping a request.
    pub fn replace(&self) {
        self.send(Event::Replace);
    }

    /// Waits until no process is left, after [`Pool::retire`].
    pub async fn gone(&self) {
        let mut gone = self.gone.clone();
        // The sender goes with the actor, which means the same.
        let _ = gone.wait_for(|gone| *gone).await;
    }

    /// Makes the pool cold. Only an idle one is asked to.
    pub(crate) fn evict(&self) {
        self.send(Event::Evict);
    }

    /// Time since its last request ended, or `None` while it has one, or no process.
    pub(crate) fn idle_for(&self) -> Option<Duration> {
        let live = self.live.load();
        if live.is_empty() || live.iter().any(|instance| instance.in_flight() > 0) {
            return None;
        }
        let last_used_ms = live.iter().map(|instance| instance.last_used_ms.load(Ordering::Relaxed)).max()?;
        Some(Duration::from_millis(uptime_ms().saturating_sub(last_used_ms)))
    }

    /// Memory of its live processes.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let live = self.live.load();
        live.iter().filter_map(|instance| instance.process.get()).map(|process| process.memory_bytes()).sum()
    }

    /// The process numbers of its live instances.
    pub fn pids(&self) -> Vec<u32> {
        let live = self.live.load();
        live.iter().filter_map(|instance| instance.process.get()).map(|process| process.pid()).collect()
    }

    fn send(&self, event: Event) {
        // A full inbox belongs to an actor that has plenty to do; `Wanted` is repeated by
        // whoever waits, and the others are sent again by their callers' own deadlines.
        let _ = self.commands.try_send(event);
    }

    fn lease(&self, instance: &Arc<Instance>) -> Lease {
        instance.unanswered.fetch_add(1, Ordering::Relaxed);
        instance.sent.fetch_add(1, Ordering::Relaxed);
        Lease {
            socket: Arc::clone(&instance.socket),
            instance: instance.number,
            guard: Box::new(Place { instance: Arc::clone(instance), answered: AtomicBool::new(false) }),
        }
    }
}

/// How a pool runs.
#[derive(Debug, Clone)]
pub(crate) struct PoolOptions {
    /// Whose worker it is.
    pub(crate) account: AccountId,
    pub(crate) project: ProjectName,
    /// Processes when it is live.
    pub(crate) instances: usize,
    /// Whether a tail worker counts finished requests.
    pub(crate) logging: bool,
}

impl WorkerPool for Pool {
    fn try_acquire(&self) -> Option<Lease> {
        let live = self.live.load();
        let instance = live.iter().min_by_key(|instance| instance.in_flight())?;
        if instance.in_flight() >= IN_FLIGHT_MAX {
            return None;
        }
        Some(self.lease(instance))
    }

    fn acquire(&self) -> Pin<Box<dyn Future<Output = Result<Lease, WorkerUnavailable>> + Send + '_>> {
        Box::pin(self.wait_for(|| self.try_acquire()))
    }
}

impl Pool {
    /// Waits until `found` finds something, in its turn among those who wait.
    async fn wait_for<T>(&self, found: impl Fn() -> Option<T>) -> Result<T, WorkerUnavailable> {
        let _waiting = Waiting::enter(&self.waiting).ok_or(WorkerUnavailable::Busy)?;
        tokio::time::timeout(WAIT_MAX, self.keep_asking(found)).await.unwrap_or(Err(WorkerUnavailable::Busy))
    }

    async fn keep_asking<T>(&self, found: impl Fn() -> Option<T>) -> Result<T, WorkerUnavailable> {
        let mut availability = self.availability.clone();
        // The first failure seen may be an old one whose wait is over: only the answer to
        // our own `Wanted` counts.
        let mut asked = false;
        loop {
            if let Some(found) = found() {
                return Ok(found);
            }
            let now = availability.borrow_and_update().clone();
            match now {
                Availability::Retired => return Err(WorkerUnavailable::Stopping),
                Availability::Failing(reason) if asked => return Err(WorkerUnavailable::Failing(reason)),
                Availability::Starting => {}
                Availability::Live | Availability::Cold | Availability::Failing(_) => {
                    asked = true;
                    self.commands.send(Event::Wanted).await.map_err(|_| WorkerUnavailable::Stopping)?;
                }
            }
            // A live pool that is full has no event for a place that becomes free.
            let pause = if matches!(now, Availability::Live) { Duration::from_millis(5) } else { WAIT_MAX };
            match tokio::time::timeout(pause, availability.changed()).await {
                Ok(Ok(())) | Err(_) => {}
                Ok(Err(_)) => return Err(WorkerUnavailable::Stopping),
            }
        }
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize) -> Option<Self> {
        let waiting = Self(count);
        (count.fetch_add(1, Ordering::Relaxed) < WAITING_MAX).then_some(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One request's place at an instance.
struct Place {
    instance: Arc<Instance>,
    answered: AtomicBool,
}

impl LeaseGuard for Place {
    fn exceeded_limits(&self) -> bool {
        self.instance.exceeded_limits.load(Ordering::Relaxed)
    }

    fn answered(&self) {
        if !self.answered.swap(true, Ordering::Relaxed) {
            self.instance.streaming.fetch_add(1, Ordering::Relaxed);
            self.instance.unanswered.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let counter =
            if *self.answered.get_mut() { &self.instance.streaming } else { &self.instance.unanswered };
        self.instance.last_used_ms.store(uptime_ms(), Ordering::Relaxed);
        counter.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Actor {
    pool: Arc<Pool>,
    context: Arc<PoolContext>,
    config: Arc<WorkerdConfig>,
    options: PoolOptions,
    life: Life,
    running: HashMap<u64, Arc<Instance>>,
    set_availability: watch::Sender<Availability>,
    set_gone: watch::Sender<bool>,
}

impl Actor {
    async fn run(mut self, mut inbox: mpsc::Receiver<Event>) {
        let (processes, mut news) = mpsc::unbounded_channel();
        while !self.life.gone() {
            let event = tokio::select! {
                Some(event) = inbox.recv() => event,
                Some(news) = news.recv() => self.learn(news),
                () = tokio::time::sleep(TICK), if self.life.ticking() => Event::Tick,
            };
            self.step(event, &processes);
        }
        let _ = self.set_gone.send(true);
    }

    fn step(&mut self, event: Event, news: &mpsc::UnboundedSender<News>) {
        let now_ms = uptime_ms();
        let running = &self.running;
        let counts_finished = self.options.logging;
        let effects = self.life.on(event, now_ms, |number| load(running.get(&number).map(Arc::as_ref), counts_finished));
        for effect in effects {
            self.perform(&effect, news);
        }
        let live: Vec<_> = self
            .life
            .live()
            .filter_map(|number| self.running.get(&number))
            .map(Arc::clone)
            .collect();
        self.pool.live.store(Arc::new(live));
        let availability = self.life.availability(now_ms);
        // Sent even when it is equal: whoever asked must learn that nothing has changed.
        let _ = self.set_availability.send(availability);
    }

    fn perform(&mut self, effect: &Effect, news: &mpsc::UnboundedSender<News>) {
        match *effect {
            Effect::Start(number) => self.start(number, news.clone()),
            Effect::Terminate(number) => {
                if let Some(process) = self.process(number) {
                    process.terminate();
                }
            }
            Effect::Kill(number) => {
                if let Some(process) = self.process(number) {
                    process.kill();
                }
            }
        }
    }

    fn process(&self, number: u64) -> Option<&Process> {
        self.running.get(&number)?.process.get().map(Arc::as_ref)
    }

    /// Everything that happens to one process, told in order.
    fn start(&mut self, number: u64, news: mpsc::UnboundedSender<News>) {
        let instance = Arc::new(Instance {
            number,
            socket: Arc::new(self.context.socket_dir.join(format!("w{number:x}"))),
            unanswered: AtomicUsize::new(0),
            streaming: AtomicUsize::new(0),
            sent: AtomicU64::new(0),
            finished: AtomicU64::new(0),
            last_used_ms: AtomicU64::new(uptime_ms()),
            exceeded_limits: AtomicBool::new(false),
            process: OnceLock::new(),
        });
        self.running.insert(number, Arc::clone(&instance));
        let context = Arc::clone(&self.context);
        let config = Arc::clone(&self.config);
        let options = self.options.clone();
        tokio::spawn(async move {
            let ping_socket = context.socket_dir.join(format!("p{number:x}"));
            let _sockets = Unlink([instance.socket.as_ref().clone(), ping_socket.clone()]);
            let started = async {
                let room = context.capacity.admit(&options.account, &options.project).await?;
                let main = listen(&instance.socket).map_err(|error| error.to_string())?;
                let ping = listen(&ping_socket).map_err(|error| error.to_string())?;
                let process = Process::start(&context.spawner, &context.workerd, &config, &main, &ping)
                    .await
                    .map_err(|error| error.to_string())?;
                Ok::<_, String>((Arc::new(process), room))
            };
            let (process, room) = match started.await {
                Ok(started) => started,
                Err(reason) => {
                    let _ = news.send(News::Failed(number, reason.into()));
                    return;
                }
            };
            let _ = instance.process.set(Arc::clone(&process));
            let _ = news.send(News::Ready(number));
            let watcher = async {
                if ping::watch(&ping_socket, &process, &instance, options.logging).await {
                    instance.exceeded_limits.store(true, Ordering::Relaxed);
                    tracing::warn!(target: "engawa::worker", "a worker used CPU for 30 s without a pause and was ended (error 1102)");
                    process.kill();
                }
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = process.ended() => {}
                () = watcher => {}
            }
            let words = process.last_words().await;
            drop(room);
            let _ = news.send(News::Ended(number, words));
        });
    }

    fn learn(&mut self, news: News) -> Event {
        match news {
            News::Ready(number) => Event::Started(number),
            News::Failed(number, reason) => {
                self.running.remove(&number);
                tracing::error!(target: "engawa::worker", "the worker does not start: {reason}");
                Event::StartFailed(number, reason)
            }
            News::Ended(number, words) => {
                self.running.remove(&number);
                if self.life.live().any(|live| live == number) && !words.is_empty() {
                    tracing::error!(target: "engawa::worker", "the worker's process has ended: {words}");
                }
                Event::Ended(number)
            }
        }
    }
}

enum News {
    Ready(u64),
    Failed(u64, Arc<str>),
    Ended(u64, String),
}

fn load(instance: Option<&Instance>, counts_finished: bool) -> Load {
    let Some(instance) = instance else { return Load::default() };
    let never_used = instance.sent.load(Ordering::Relaxed) == 0;
    Load {
        unanswered: instance.unanswered.load(Ordering::Relaxed),
        streaming: instance.streaming.load(Ordering::Relaxed),
        // A worker that never had a request has nothing pending, tail or not.
        settled: never_used || (counts_finished && !instance.unsettled()),
    }
}

/// Milliseconds since the first call: a clock that never jumps.
fn uptime_ms() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(START.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// A listening socket that only its owner can reach.
fn listen(path: &Path) -> io::Result<UnixListener> {
    let address = rustix::net::SocketAddrUnix::new(path)?;
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::STREAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, LISTEN_BACKLOG)?;
    Ok(UnixListener::from(socket))
}

/// Removes socket files when their process is over.
struct Unlink([PathBuf; 2]);

impl Drop for Unlink {
    fn drop(&mut self) {
        for path in &self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}
