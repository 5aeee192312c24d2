//! The actor of a pool, and what looks after each of its processes.

use std::collections::HashMap;
use std::io;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;

use super::gauge::{self, Gauge};
use super::instance::{Instance, Slot, uptime_ms};
use super::{PoolContext, PoolOptions, Shared};
use crate::capacity::Room;
use crate::config::WorkerdConfig;
use crate::life::{Availability, Effect, Event, Life, Load, Purpose};
use crate::ping;
use crate::process::{LISTEN_BACKLOG, Process};

/// How often a leaving instance is looked at.
const TICK: Duration = Duration::from_millis(50);

pub(super) struct Actor {
    shared: Arc<Shared>,
    context: Arc<PoolContext>,
    config: Arc<WorkerdConfig>,
    options: PoolOptions,
    life: Life,
    gauge: Gauge,
    running: HashMap<u64, Running>,
    /// Sockets of processes that ended unasked, for the next one.
    spare: Vec<(Arc<Slot>, Listener)>,
    set_availability: watch::Sender<Availability>,
    report: mpsc::Sender<News>,
    news: mpsc::Receiver<News>,
}

struct Running {
    instance: Arc<Instance>,
    listener: Listener,
}

enum News {
    Ready(u64),
    Failed(u64, Arc<str>),
    NoRoom(u64),
    Ended(u64, String),
}

impl Actor {
    pub(super) fn new(
        shared: Arc<Shared>,
        context: Arc<PoolContext>,
        config: WorkerdConfig,
        options: PoolOptions,
        set_availability: watch::Sender<Availability>,
    ) -> Self {
        static POOLS: AtomicU64 = AtomicU64::new(1);
        let first_number = POOLS.fetch_add(1, Ordering::Relaxed) << 32;
        let (report, news) = mpsc::channel(16);
        Self {
            life: Life::new(
                context.capacity.limits().instances_per_deployment,
                first_number,
                context.times.clone(),
            ),
            gauge: Gauge::new(context.capacity.limits(), &context.times),
            shared,
            context,
            config: Arc::new(config),
            options,
            running: HashMap::new(),
            spare: Vec::new(),
            set_availability,
            report,
            news,
        }
    }

    pub(super) async fn run(mut self) {
        let mut looks = tokio::time::interval(gauge::EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.life.gone() {
            let event = tokio::select! {
                event = self.shared.orders.next() => event,
                Some(news) = self.news.recv() => self.learn(news),
                () = tokio::time::sleep(TICK), if self.life.ticking() => Event::Tick,
                _ = looks.tick(), if self.life.live().next().is_some() => {
                    let live = self.shared.live.load_full();
                    for event in self.gauge.look(&live) {
                        self.note(&event);
                        self.step(event);
                    }
                    continue;
                }
            };
            self.step(event);
        }
    }

    /// Says what happens to a worker by itself.
    fn note(&self, event: &Event) {
        let project = self.options.project.as_str();
        match event {
            Event::More => tracing::debug!(project, "a busy worker gets another instance"),
            Event::Fewer => tracing::debug!(project, "a worker has an instance too many"),
            Event::ReplaceOne(_) => {
                tracing::debug!(
                    project,
                    "a worker's memory has grown: its process is replaced"
                );
            }
            _ => {}
        }
    }

    fn learn(&mut self, news: News) -> Event {
        match news {
            News::Ready(number) => Event::Started(number),
            News::NoRoom(number) => Event::NoRoom(number),
            News::Failed(number, reason) => {
                tracing::error!(target: "engawa::worker", "the worker does not start: {reason}");
                Event::StartFailed(number, reason)
            }
            News::Ended(number, words) => {
                if self.life.live().any(|live| live == number) && !words.is_empty() {
                    tracing::error!(target: "engawa::worker", "the worker's process has ended: {words}");
                }
                Event::Ended(number)
            }
        }
    }

    fn step(&mut self, event: Event) {
        let over = match event {
            Event::Ended(number) | Event::StartFailed(number, _) | Event::NoRoom(number) => {
                Some(number)
            }
            _ => None,
        };
        let unasked = over.is_some_and(|number| self.life.live().any(|live| live == number));
        if let Some(number) = over {
            // Nobody chooses it any more when its load is looked at.
            self.publish_instances(self.life.live().filter(|live| *live != number));
        }
        let now_ms = uptime_ms();
        let effects = {
            let (running, counts_finished) = (&self.running, self.options.logging);
            self.life.on(event, now_ms, |number| {
                running.get(&number).map_or_else(Load::default, |running| {
                    running.instance.load(counts_finished)
                })
            })
        };
        if let Some(Running { instance, listener }) =
            over.and_then(|number| self.running.remove(&number))
            && unasked
        {
            self.spare.push((Arc::clone(instance.slot()), listener));
        }
        for effect in effects {
            self.perform(&effect);
        }
        if !self.life.starting() {
            // Nobody would ever answer those in their backlogs: closing tells them.
            self.spare.clear();
        }
        self.publish_instances(self.life.live());
        let availability = self.life.availability(now_ms);
        self.set_availability.send_if_modified(|current| {
            let changed = *current != availability;
            *current = availability;
            changed
        });
    }

    fn publish_instances(&self, live: impl Iterator<Item = u64>) {
        let live = live.filter_map(|number| Some(Arc::clone(&self.running.get(&number)?.instance)));
        self.shared.live.store(Arc::new(live.collect()));
    }

    fn perform(&mut self, effect: &Effect) {
        match *effect {
            Effect::Start(number) => self.start(number),
            Effect::Terminate(number) => {
                if let Some(process) = self
                    .running
                    .get(&number)
                    .and_then(|running| running.instance.process())
                {
                    process.terminate();
                }
            }
            Effect::Kill(number) => {
                if let Some(running) = self.running.get(&number) {
                    running.instance.kill();
                }
            }
        }
    }

    fn start(&mut self, number: u64) {
        let report = self.report.clone();
        let (slot, listener) = match self.socket_for(number) {
            Ok(socket) => socket,
            Err(error) => {
                let reason = format!("cannot make a socket for the worker: {error}");
                tokio::spawn(async move { report.send(News::Failed(number, reason.into())).await });
                return;
            }
        };
        let instance = Arc::new(Instance::new(number, slot));
        let main = listener.socket.try_clone();
        self.running.insert(
            number,
            Running {
                instance: Arc::clone(&instance),
                listener,
            },
        );
        let keeper = Keeper {
            instance,
            purpose: self.life.purpose(number),
            context: Arc::clone(&self.context),
            config: Arc::clone(&self.config),
            options: self.options.clone(),
            report,
        };
        tokio::spawn(keeper.keep(main));
    }

    fn socket_for(&mut self, number: u64) -> io::Result<(Arc<Slot>, Listener)> {
        if let Some(spare) = self.spare.pop() {
            return Ok(spare);
        }
        let listener = Listener::bind(self.context.sockets.path().join(format!("w{number:x}")))?;
        let slot = Slot::new(listener.path.clone(), Arc::clone(&self.shared.queue));
        Ok((Arc::new(slot), listener))
    }
}

/// Looks after one process from its start to its end.
struct Keeper {
    instance: Arc<Instance>,
    purpose: Purpose,
    context: Arc<PoolContext>,
    config: Arc<WorkerdConfig>,
    options: PoolOptions,
    report: mpsc::Sender<News>,
}

enum NotStarted {
    GivenUp,
    NoRoom,
    Failed(String),
}

impl Keeper {
    async fn keep(self, main: io::Result<UnixListener>) {
        let number = self.instance.number();
        let news = match self.start(main).await {
            Ok((process, ping, room)) => {
                let words = self.watch(process, &ping).await;
                drop(room);
                News::Ended(number, words)
            }
            Err(NotStarted::GivenUp) => News::Ended(number, String::new()),
            Err(NotStarted::NoRoom) => News::NoRoom(number),
            Err(NotStarted::Failed(reason)) => News::Failed(number, reason.into()),
        };
        // Without an actor there is nobody to tell.
        let _ = self.report.send(news).await;
    }

    async fn start(
        &self,
        main: io::Result<UnixListener>,
    ) -> Result<(Arc<Process>, Listener, Room), NotStarted> {
        let context = &self.context;
        let start = async {
            let (account, project) = (&self.options.account, &self.options.project);
            // Held until the new process listens, so that not all are started at once.
            let mut _turn = None;
            let room = match self.purpose {
                Purpose::Needed => context.capacity.admit(account, project).await,
                Purpose::Extra => context.capacity.admit_extra(account, project),
                Purpose::Replacement => {
                    _turn = Some(context.capacity.turn().await);
                    Some(context.capacity.admit_replacement(account, project))
                }
            };
            let room = room.ok_or(NotStarted::NoRoom)?;
            let failed = |error: io::Error| NotStarted::Failed(error.to_string());
            let main = main.map_err(failed)?;
            let ping = Listener::bind(
                context
                    .sockets
                    .path()
                    .join(format!("p{:x}", self.instance.number())),
            );
            let ping = ping.map_err(failed)?;
            let process = Process::start(
                &context.spawner,
                &context.workerd,
                &self.config,
                main,
                &ping.socket,
            )
            .await;
            let process = process.map_err(|error| NotStarted::Failed(error.to_string()))?;
            Ok((Arc::new(process), ping, room))
        };
        tokio::select! {
            started = start => started,
            // What has been started by then is killed and reaped as it is dropped.
            () = self.instance.killed() => Err(NotStarted::GivenUp),
        }
    }

    /// Waits until the process has ended, whoever ended it; returns its last words.
    async fn watch(&self, process: Arc<Process>, ping: &Listener) -> String {
        self.instance.set_process(Arc::clone(&process));
        let _ = self.report.send(News::Ready(self.instance.number())).await;
        let cpu_limit = self.context.times.cpu;
        tokio::select! {
            () = process.ended() => {}
            () = self.instance.killed() => process.kill(),
            () = ping::exhausted(&ping.path, &process, &self.instance, self.options.logging, cpu_limit) => {
                self.instance.set_exceeded_limits();
                process.kill();
                tracing::warn!(
                    target: "engawa::worker",
                    "a worker used CPU for {} s without a pause and was ended (error 1102)",
                    cpu_limit.as_secs_f32()
                );
            }
        }
        process.ended().await;
        process.last_words().await
    }
}

/// A listening socket in the runtime's folder, which only its owner can enter. The file
/// goes with it.
struct Listener {
    socket: UnixListener,
    path: PathBuf,
}

impl Listener {
    fn bind(path: PathBuf) -> io::Result<Self> {
        Ok(Self {
            socket: listen(&path)?,
            path,
        })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// As `UnixListener::bind`, with a backlog that is known.
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
