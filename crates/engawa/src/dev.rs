//! `engawa dev`: a project folder, served; each edit is a deployment.
//!
//! It is the platform with one account, one project and no tokens, and a watcher that
//! deploys. An edit is built beside the version that serves, started, checked, and only
//! then published; a broken one changes nothing but what the terminal and the browser
//! say.

use std::net::{IpAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use engawa_gateway::{BuildState, DevSignals, ListenerGuard, RouteTable};
use engawa_model::{AccountId, Clock, Environment, Version};
use engawa_runtime::{CapacityLimits, Egress, LogLevel, RuntimeOptions};
use engawa_storage::{Owner, Storage, StorageOptions};
use tokio::task::JoinSet;

use crate::build::Projects;
use crate::control;
use crate::platform::{Deployment, Platform, drain};
use crate::state;
use crate::terminal;
use crate::tools::Tools;
use crate::watch::Watcher;

/// Old versions that may linger for what is left of their requests; the oldest of more
/// goes early.
const LINGERING: usize = 3;

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
    let owner = Owner::acquire(&state_dir, "engawa dev")?;
    let storage = Storage::open(&owner, StorageOptions::new(&state_dir))?;
    let control = control::serve(&owner, &storage).context("cannot serve the control socket")?;
    let platform = Platform::new(
        storage,
        RuntimeOptions {
            workerd: tools.workerd.clone(),
            egress: Egress::development(),
            capacity: CapacityLimits::default(),
        },
    )?;

    let mut session = Session {
        platform,
        projects: Projects::new(&tools, project_dir, options.env, Clock::system())?,
        signals: DevSignals::new(),
        live: None,
        lingering: JoinSet::new(),
        generation: 0,
        failed_before: false,
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
    tokio::select! {
        () = session.rebuild(&mut watcher) => {}
        () = stop.requested() => return Ok(()),
    }
    session.name_pending_migrations().await;
    terminal::output(&format!("Ready on http://{address}"));
    loop {
        tokio::select! {
            () = watcher.changed() => session.rebuild(&mut watcher).await,
            () = stop.requested() => break,
        }
    }
    terminal::note(
        "Stopping: letting requests and their waitUntil end. Press Ctrl-C again to cut that short.",
    );
    session.stop(guard, &mut stop).await;
    drop(control);
    drop(owner);
    Ok(())
}

struct Session {
    platform: Platform,
    projects: Projects,
    signals: DevSignals,
    live: Option<Deployment>,
    lingering: JoinSet<()>,
    generation: u64,
    /// Whether some build has failed: then the first good one is news.
    failed_before: bool,
    options: DevOptions,
}

impl Session {
    /// Builds what lies in the folder now, and serves it if it is sound.
    async fn rebuild(&mut self, watcher: &mut Watcher) {
        let built = self.projects.build(AccountId::local()).await;
        let (root, paths) = self.projects.watched();
        watcher.watch(root, paths);
        let deployed = match built {
            Ok(built) => {
                for diagnostic in &built.diagnostics {
                    terminal::diagnostic(diagnostic);
                }
                if self.is_served(&built.version) {
                    return;
                }
                match self.projects.prepare(self.platform.storage(), &built).await {
                    Ok(()) => {
                        self.platform
                            .deploy(built.version, self.options.log_level)
                            .await
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
                let old = self.live.replace(deployment);
                self.publish();
                self.signals.set(BuildState::Ok {
                    generation: self.generation,
                });
                if self.generation > 1 || self.failed_before {
                    terminal::note("Reloaded.");
                }
                if let Some(old) = old {
                    self.let_go(old);
                }
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

    fn let_go(&mut self, old: Deployment) {
        while self.lingering.try_join_next().is_some() {}
        if self.lingering.len() >= LINGERING
            && let Some(pool) = &old.pool
        {
            pool.hurry();
        }
        self.lingering.spawn(old.retire());
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

    /// The order matters: visitors first, then the workers they wait for, then the store
    /// that the workers write to.
    async fn stop(mut self, guard: ListenerGuard, stop: &mut Stop) {
        let pools: Vec<_> = self
            .live
            .iter()
            .filter_map(|live| live.pool.clone())
            .collect();
        let graceful = async {
            drain(guard).await;
            if let Some(live) = self.live.take() {
                self.lingering.spawn(live.retire());
            }
            while self.lingering.join_next().await.is_some() {}
        };
        tokio::select! {
            () = graceful => {}
            () = stop.requested() => {
                for pool in pools {
                    pool.hurry();
                }
            }
        }
        self.platform.table().publish(RouteTable::default());
        self.platform.close().await;
    }
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
