//! `engawa dev`: a project folder, served; each edit is a deployment.
//!
//! It is the platform with one account, one project and no tokens, and a watcher that
//! deploys. An edit is built beside the version that serves, started, checked, and only
//! then published; a broken one changes nothing but what the terminal and the browser
//! say.

use std::collections::VecDeque;
use std::net::{IpAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, bail};
use engawa_gateway::{BuildState, DevSignals, ListenerGuard, Place, RouteTable};
use engawa_model::{AccountId, Clock, Environment, Version};
use engawa_project::Diagnostic;
use engawa_runtime::{CapacityLimits, Egress, LogLevel, Pool, RuntimeOptions, WorkerTimes};
use engawa_storage::{Owner, OwnerError, Storage, StorageOptions};
use tokio::task::JoinHandle;

use crate::build::{Prepared, Projects};
use crate::control::{self, Control};
use crate::platform::{DRAIN, Deployment, Platform, drain};
use crate::precompress::Precompressor;
use crate::state;
use crate::terminal;
use crate::tools::Tools;
use crate::watch::Watcher;

/// Old versions that may linger for what is left of their requests; the oldest of more
/// goes early.
const LINGERING: usize = 3;

/// Deployments that are kept for `engawa workerd-config`, the one that is served included.
const DEPLOYMENTS_KEPT: usize = 5;

/// What is written beside the lock on the state folder.
const PURPOSE: &str = "engawa dev";
/// A command that has the state folder is waited for this long: most take no second.
const COMMAND_ENDS_WITHIN: Duration = Duration::from_secs(5);
/// Between two looks at it.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A worker that takes longer to start than this gives way to the next edit, which may well
/// mend what it waits for.
const START_UNDISTURBED: Duration = Duration::from_secs(1);

/// What the command line asks for.
#[derive(Debug, Clone)]
pub(crate) struct DevOptions {
    /// The project's folder.
    pub dir: PathBuf,
    /// The address to listen at.
    pub ip: IpAddr,
    /// The port; 0 for any.
    pub port: u16,
    /// The environment whose bindings are used.
    pub env: Option<Environment>,
    /// The state folder, if not `.engawa` in the project.
    pub persist_to: Option<PathBuf>,
    /// What of the worker's log is shown; `None` also switches its gathering off.
    pub log_level: Option<LogLevel>,
    /// Further names that may be asked for.
    pub hosts: Vec<String>,
    /// A JSON file of fields that `request.cf` says of a visitor's place.
    pub cf: Option<PathBuf>,
}

/// Runs until it is told to stop.
///
/// # Errors
/// When it cannot start; the text says what to do.
pub(crate) async fn dev(options: DevOptions) -> anyhow::Result<()> {
    if !options.dir.is_dir() {
        bail!(
            "{} is not a folder: give the folder of a project.",
            options.dir.display()
        );
    }
    let project_dir = options
        .dir
        .canonicalize()
        .context("cannot find the project's folder")?;
    let listener = listen(options.ip, options.port)?;
    let tools = {
        let dir = options.dir.clone();
        tokio::task::spawn_blocking(move || Tools::find_or_install(Some(&dir))).await??
    };
    let state_dir = state::dir(&options.dir, options.persist_to.as_deref())?;
    let owner = own(&state_dir).await?;
    let storage = Storage::open(&owner, StorageOptions::new(&state_dir))?;
    let control = control::serve(&owner, &storage).context("cannot serve the control socket")?;
    let place = read_place(options.cf.as_deref())?;
    let platform = Platform::new(
        storage,
        RuntimeOptions {
            workerd: tools.workerd.clone(),
            egress: Egress::development(),
            capacity: CapacityLimits::default(),
            times: WorkerTimes::default(),
        },
        place,
    )?;

    let precompressor =
        Precompressor::start(platform.storage().clone()).context("cannot start a thread")?;
    let mut session = Session {
        platform,
        precompressor,
        projects: Projects::new(&tools, project_dir, options.env, Clock::system())?,
        signals: DevSignals::new(),
        live: None,
        lingering: VecDeque::new(),
        generation: 0,
        failed_before: false,
        told: Vec::new(),
        options,
    };
    session.publish();
    let address = listener
        .local_addr()
        .context("the listening socket has no address")?;
    let guard = session
        .platform
        .serve(listener)
        .context("cannot serve the listening socket")?;

    let mut stop = Stop::listen()?;
    let mut watcher = Watcher::new().context("cannot watch files")?;
    let first = async {
        session.rebuild(&mut watcher).await;
        while session.live.is_none() && !session.failed_before {
            watcher.changed().await;
            session.rebuild(&mut watcher).await;
        }
    };
    let stopped = tokio::select! {
        () = first => false,
        () = stop.requested() => true,
    };
    if !stopped {
        session.name_pending_migrations().await;
        terminal::output(&format!("Ready on http://{address}"));
        loop {
            // A build that takes long, or a worker that does not come up, must not keep
            // anyone from leaving.
            let edited = async {
                watcher.changed().await;
                session.rebuild(&mut watcher).await;
            };
            tokio::select! {
                () = edited => {}
                () = stop.requested() => break,
            }
        }
    }
    terminal::note(
        "Stopping: letting requests and their waitUntil end. Press Ctrl-C again to cut that short.",
    );
    session.stop(guard, control, &mut stop).await;
    drop(owner);
    Ok(())
}

/// Takes the state folder. Another server keeps it, and is named at once; a command gives
/// it back soon.
async fn own(state_dir: &Path) -> anyhow::Result<Owner> {
    let deadline = Instant::now() + COMMAND_ENDS_WITHIN;
    let mut told = false;
    loop {
        match Owner::acquire(state_dir, PURPOSE) {
            Err(OwnerError::Held { what, pid, .. })
                if what != PURPOSE && Instant::now() < deadline =>
            {
                if !told {
                    let pid = pid.map_or(String::new(), |pid| format!(" (process {pid})"));
                    terminal::note(&format!(
                        "Waiting for {what}{pid}, which has the state folder."
                    ));
                    told = true;
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            outcome => return Ok(outcome?),
        }
    }
}

struct Session {
    platform: Platform,
    precompressor: Precompressor,
    projects: Projects,
    signals: DevSignals,
    live: Option<Deployment>,
    /// Versions that are published no more, oldest first.
    lingering: VecDeque<Lingering>,
    generation: u64,
    /// Whether some build has failed: then the first good one is news.
    failed_before: bool,
    /// The findings that were shown last: they are news only when they change.
    told: Vec<String>,
    options: DevOptions,
}

/// A version that is published no more, while it ends.
struct Lingering {
    pool: Option<Arc<Pool>>,
    gone: JoinHandle<()>,
}

impl Session {
    /// Builds what lies in the folder now, and serves it if it is sound. If it was changed
    /// meanwhile, nothing comes of it, and the watcher has another edit.
    async fn rebuild(&mut self, watcher: &mut Watcher) {
        let began = SystemTime::now();
        let built = self.projects.build(AccountId::local()).await;
        watcher.watch(&self.projects.watched(), began);
        let deployed = match built {
            Ok(built) => {
                self.tell(&built.diagnostics);
                if self.is_served(&built.version) {
                    return;
                }
                match self.projects.prepare(self.platform.storage(), &built).await {
                    Ok(Prepared::Outdated) => {
                        watcher.look_again();
                        return;
                    }
                    Ok(Prepared::Stored) => {
                        let deploy = self.platform.deploy(built.version, self.options.log_level);
                        let edited = async {
                            tokio::time::sleep(START_UNDISTURBED).await;
                            watcher.changed().await;
                        };
                        tokio::select! {
                            deployed = deploy => deployed,
                            () = edited => {
                                watcher.look_again();
                                return;
                            }
                        }
                    }
                    Err(error) => Err(error),
                }
            }
            Err(error) => Err(error),
        };
        match deployed {
            Ok(deployment) => {
                for warning in deployment.site.warnings() {
                    terminal::note(&warning.to_string());
                }
                self.generation += 1;
                let site = Arc::clone(&deployment.site);
                let old = self.live.replace(deployment);
                self.publish();
                self.precompressor.turn_to(site);
                self.signals.set(BuildState::Ok {
                    generation: self.generation,
                });
                if self.generation > 1 || self.failed_before {
                    terminal::note("Reloaded.");
                }
                if let Some(old) = old {
                    self.let_go(old);
                }
                self.keep().await;
            }
            Err(error) => {
                let text = format!("{error:#}");
                terminal::error(&text);
                if self.live.is_some() {
                    terminal::note("The last good version goes on serving.");
                }
                self.failed_before = true;
                self.signals.set(BuildState::Failed { text: text.into() });
            }
        }
    }

    fn tell(&mut self, diagnostics: &[Diagnostic]) {
        let texts: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
        if texts != self.told {
            diagnostics.iter().for_each(terminal::diagnostic);
            self.told = texts;
        }
    }

    /// Whether an edit has changed nothing, as one that only touches a file. After a
    /// failed build the good version is published again, so that the error goes away.
    fn is_served(&self, version: &Version) -> bool {
        let served = self.live.as_ref().is_some_and(|live| {
            let served = live.site.version();
            Version {
                deployment: served.deployment.clone(),
                ..version.clone()
            } == **served
        });
        if served && matches!(self.signals.state(), BuildState::Failed { .. }) {
            self.signals.set(BuildState::Ok {
                generation: self.generation,
            });
            terminal::note("The project is as it was: what is served is the newest version.");
        }
        served
    }

    fn publish(&self) {
        self.platform.table().publish(RouteTable {
            fallback: self.live.as_ref().map(|live| Arc::clone(&live.site)),
            allowed_hosts: self
                .options
                .hosts
                .iter()
                .map(|host| host.to_lowercase())
                .collect(),
            dev: Some(self.signals.clone()),
            ..RouteTable::default()
        });
    }

    /// Keeps what is served among the last deployments. It is served already, and whatever
    /// goes wrong here does not change that.
    async fn keep(&self) {
        let Some(live) = &self.live else {
            return;
        };
        let (version, deployments) = (live.site.version(), self.platform.storage().deployments());
        let kept = async {
            deployments.record(version).await?;
            let (account, project) = (&version.account, &version.project);
            deployments
                .keep_last(account, project, DEPLOYMENTS_KEPT)
                .await
        };
        if let Err(error) = kept.await {
            terminal::error(&format!(
                "This deployment is served and could not be kept: {error}"
            ));
        }
    }

    fn let_go(&mut self, old: Deployment) {
        self.lingering
            .retain(|lingering| !lingering.gone.is_finished());
        self.lingering.push_back(Lingering::new(old));
        let surplus = self.lingering.len().saturating_sub(LINGERING);
        self.lingering
            .iter()
            .take(surplus)
            .for_each(Lingering::hurry);
    }

    async fn name_pending_migrations(&self) {
        for line in self
            .projects
            .pending_migrations(self.platform.storage())
            .await
        {
            terminal::note(&line);
        }
    }

    /// The order matters: visitors and commands first, then the workers they wait for, then
    /// the store that the workers write to.
    async fn stop(mut self, guard: ListenerGuard, control: Control, stop: &mut Stop) {
        let drained = async {
            tokio::join!(drain(guard), control.leave(DRAIN));
        };
        let mut cut_short = tokio::select! {
            () = drained => false,
            () = stop.requested() => true,
        };
        if let Some(live) = self.live.take() {
            self.lingering.push_back(Lingering::new(live));
        }
        for lingering in &mut self.lingering {
            if !cut_short {
                tokio::select! {
                    // An error means that it panicked, which has been told.
                    _ = &mut lingering.gone => {}
                    () = stop.requested() => cut_short = true,
                }
            }
        }
        if cut_short {
            self.lingering.iter().for_each(Lingering::hurry);
        }
        self.platform.table().publish(RouteTable::default());
        drop(self.precompressor);
        self.platform.close().await;
    }
}

impl Lingering {
    fn new(old: Deployment) -> Self {
        let pool = old.pool.clone();
        let gone = tokio::spawn(old.retire());
        Self { pool, gone }
    }

    /// Cuts its waiting short.
    fn hurry(&self) {
        if let Some(pool) = &self.pool {
            pool.hurry();
        }
    }
}

/// Where visitors appear to be: a stand-in, with the fields of a file over it.
fn read_place(file: Option<&Path>) -> anyhow::Result<Place> {
    let Some(file) = file else {
        return Ok(Place::default());
    };
    let text = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    serde_json::from_slice(&text).with_context(|| {
        format!(
            "{} is not a JSON object of fields of request.cf, as in \
             {{\"colo\": \"NRT\", \"country\": \"JP\", \"asn\": 64512}}",
            file.display()
        )
    })
}

fn listen(ip: IpAddr, port: u16) -> anyhow::Result<TcpListener> {
    let address = std::net::SocketAddr::new(ip, port);
    TcpListener::bind(address).map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => anyhow::anyhow!(
            "Port {port} of {ip} is in use by another program.\n\
             Choose another with --port, or let the system choose one with --port 0."
        ),
        std::io::ErrorKind::AddrNotAvailable => {
            anyhow::anyhow!("{ip} is not an address of this machine: give one of its own with --ip.")
        }
        std::io::ErrorKind::PermissionDenied => {
            anyhow::anyhow!("Port {port} needs rights that this user does not have: choose one above 1023 with --port.")
        }
        _ => anyhow::anyhow!("cannot listen on {address}: {error}"),
    })
}

/// Ctrl-C and SIGTERM.
struct Stop {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Stop {
    fn listen() -> anyhow::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).context("cannot listen for Ctrl-C")?,
            terminate: signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?,
        })
    }

    async fn requested(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
