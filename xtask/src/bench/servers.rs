//! The peers, each started through its own door: a clean environment, a free port of the
//! loopback address, fresh state in a folder that goes when the server has gone.

use std::fs::{self, File};
use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;

use super::ceiling::{self, WorkerFiles};
use super::processes::Processes;
use super::{Peer, Work, copy_folder};
use crate::{root, setup};

/// wrangler on a busy machine.
const START: Duration = Duration::from_secs(90);
/// What a polite end may take.
const STOP: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

/// The programs that are compared.
pub(super) struct Programs {
    pub(super) engawa: PathBuf,
    /// Where Engawa has installed workerd and esbuild.
    tools: PathBuf,
    pub(super) workerd: PathBuf,
    /// The folder of the esbuild program.
    esbuild: PathBuf,
    nginx: Option<PathBuf>,
    /// Packages with wrangler and its Node.js.
    npm: Option<PathBuf>,
    /// What Engawa gives its workerd, for the ceiling.
    worker: Option<WorkerFiles>,
}

impl Programs {
    /// Finds or installs what the peers need.
    pub(super) fn find(engawa: PathBuf, peers: &[Peer]) -> anyhow::Result<Self> {
        let tools = setup::tools(&engawa)?;
        let (workerd, esbuild) = match std::env::consts::ARCH {
            "aarch64" => ("linux-arm64", "linux-arm64"),
            _ => ("linux-64", "linux-x64"),
        };
        let has = |wanted: &[Peer]| peers.iter().any(|peer| wanted.contains(peer));
        let mut programs = Self {
            engawa,
            workerd: tools.join(format!(
                "node_modules/@cloudflare/workerd-{workerd}/bin/workerd"
            )),
            esbuild: tools.join(format!("node_modules/@esbuild/{esbuild}/bin")),
            tools,
            nginx: has(&[Peer::Nginx, Peer::Ceiling])
                .then(|| setup::debian_program("nginx", "nginx-light"))
                .transpose()?,
            npm: has(&[Peer::Wrangler])
                .then(|| setup::test_packages().map(|dir| dir.join("node_modules")))
                .transpose()?,
            worker: None,
        };
        if has(&[Peer::Ceiling]) {
            let server = Server::start(Peer::Engawa, &programs)?;
            let pid = server
                .processes()?
                .of_program("workerd")
                .next()
                .context("Engawa runs no workerd")?;
            programs.worker = Some(WorkerFiles::of_process(pid)?);
            server.stop();
        }
        Ok(programs)
    }

    pub(super) fn wrangler_version(&self) -> Option<String> {
        let manifest = fs::read_to_string(self.npm.as_ref()?.join("wrangler/package.json")).ok()?;
        let manifest: serde_json::Value = serde_json::from_str(&manifest).ok()?;
        Some(manifest["version"].as_str()?.to_owned())
    }

    pub(super) fn nginx(&self) -> anyhow::Result<&Path> {
        self.nginx.as_deref().context("nginx was not looked for")
    }
}

/// A running peer. Its processes end with this.
pub(super) struct Server {
    // Before `dir`: whoever writes into the folder ends before it goes.
    children: Vec<Child>,
    address: SocketAddr,
    log: PathBuf,
    _dir: TempDir,
}

impl Server {
    /// Starts a peer with fresh state, and fills in what the reads read.
    pub(super) fn start(peer: Peer, programs: &Programs) -> anyhow::Result<Self> {
        // On the disk that the target folder is on: `/tmp` may be memory, where a sync
        // costs nothing.
        let base = setup::target_dir().join("bench");
        fs::create_dir_all(&base).with_context(|| format!("cannot create {}", base.display()))?;
        let dir = tempfile::Builder::new()
            .prefix("run-")
            .tempdir_in(&base)
            .context("cannot create a folder")?;
        let dir_path = dir.path().canonicalize()?;
        let mut start = Start {
            dir: &dir_path,
            log: dir_path.join("log"),
            children: Vec::new(),
        };
        let address = match peer {
            Peer::Engawa => start.engawa(programs, &["--log-level", "none"]),
            Peer::EngawaLogs => start.engawa(programs, &[]),
            Peer::Wrangler => start.wrangler(programs),
            Peer::WorkerdDev => start.workerd_dev(programs),
            Peer::Workerd => start.workerd(programs),
            Peer::Nginx => start.nginx(programs),
            Peer::Ceiling => start.ceiling(programs),
        };
        let mut server = Self {
            children: start.children,
            log: start.log,
            // Until it is known.
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            _dir: dir,
        };
        let fill = address.and_then(|address| {
            server.address = address;
            server.wait_for(match peer {
                Peer::Nginx => "/",
                Peer::Workerd | Peer::Ceiling => "/hello",
                _ => "/set-up",
            })
        });
        fill.with_context(|| {
            format!(
                "{peer:?} did not become ready; it said:\n{}",
                server.log_tail()
            )
        })?;
        Ok(server)
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(super) fn processes(&self) -> anyhow::Result<Processes> {
        Processes::below(&self.children.iter().map(Child::pid).collect::<Vec<_>>())
    }

    /// Whether the answer of a path is what the work gives: nobody is fast by doing
    /// something else.
    pub(super) fn check(&self, work: Work) -> anyhow::Result<()> {
        let path = work.path();
        let body = self.get(&path)?;
        let is_right = match work {
            Work::Static => body.starts_with(b"<!doctype html>"),
            Work::Script => body.len() == 22 * 1024,
            Work::Hello | Work::Point => body == b"Hello, world!",
            Work::KvRead => body.len() == 1024,
            Work::D1Read => body.starts_with(b"{\"id\":"),
            Work::R2Read => body.len() == 16 * 1024,
            Work::KvWrite | Work::R2Write => body == b"written",
            Work::D1Insert => body == b"inserted",
        };
        if !is_right {
            bail!(
                "the answer to {path} is not what it should be: {}",
                String::from_utf8_lossy(&body[..body.len().min(500)])
            );
        }
        Ok(())
    }

    /// The end of what the server printed.
    pub(super) fn log_tail(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(4000)..]).into_owned()
    }

    pub(super) fn stop(self) {
        drop(self);
    }

    fn wait_for(&mut self, path: &str) -> anyhow::Result<()> {
        let deadline = Instant::now() + START;
        loop {
            match self.get(path) {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => {}
            }
            for child in &mut self.children {
                if let Some(status) = child.0.try_wait()? {
                    bail!("it ended ({status})");
                }
            }
            sleep(POLL);
        }
    }

    fn get(&self, path: &str) -> anyhow::Result<Vec<u8>> {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .timeout_global(Some(START))
            .build()
            .into();
        Ok(agent.get(self.url(path)).call()?.body_mut().read_to_vec()?)
    }
}

/// A peer on its way up.
struct Start<'a> {
    dir: &'a Path,
    log: PathBuf,
    children: Vec<Child>,
}

impl Start<'_> {
    fn engawa(&mut self, programs: &Programs, options: &[&str]) -> anyhow::Result<SocketAddr> {
        let mut command = self.command(&programs.engawa);
        command
            .env("ENGAWA_TOOLS_DIR", &programs.tools)
            .arg("dev")
            .arg(self.project()?)
            .args(["--port", "0", "--persist-to"])
            .arg(self.dir.join("state"))
            .args(options);
        self.spawn(command)?;
        let deadline = Instant::now() + START;
        loop {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            let ready = log
                .split_inclusive('\n')
                .find_map(|line| line.strip_prefix("Ready on http://")?.strip_suffix('\n'));
            if let Some(address) = ready {
                return address
                    .parse()
                    .with_context(|| format!("{address} is no address"));
            }
            if let Some(status) = self.children[0].0.try_wait()? {
                bail!("it ended ({status})");
            }
            if Instant::now() > deadline {
                bail!("it did not say where it listens");
            }
            sleep(POLL);
        }
    }

    fn wrangler(&mut self, programs: &Programs) -> anyhow::Result<SocketAddr> {
        let npm = programs
            .npm
            .as_ref()
            .context("wrangler was not looked for")?;
        let address = free_address()?;
        let mut command = self.command(&npm.join("node/bin/node"));
        command
            .env("PATH", path_with(&npm.join("node/bin"))?)
            .env("CI", "1")
            .env("WRANGLER_SEND_METRICS", "false")
            // Nothing is asked of the internet.
            .env("CLOUDFLARE_CF_FETCH_ENABLED", "false")
            .current_dir(self.project()?)
            .arg(npm.join("wrangler/bin/wrangler.js"))
            .args([
                "pages",
                "dev",
                "--ip",
                "127.0.0.1",
                "--port",
                &address.port().to_string(),
            ])
            .args(["--log-level", "error", "--persist-to"])
            .arg(self.dir.join("state"));
        self.spawn(command)?;
        Ok(address)
    }

    fn workerd_dev(&mut self, programs: &Programs) -> anyhow::Result<SocketAddr> {
        let address = free_address()?;
        let worker = self.dir.join("worker");
        copy_folder(&root().join("bench/worker"), &worker)?;
        fs::copy(root().join("bench/project/lib.js"), worker.join("lib.js"))?;
        let mut command = self.command(&programs.workerd);
        command
            .env("PATH", path_with(&programs.esbuild)?)
            .current_dir(worker)
            .args(["serve", "wrangler.json", "--experimental", "--socket-addr"])
            .arg(format!("http={address}"));
        self.spawn(command)?;
        Ok(address)
    }

    fn workerd(&mut self, programs: &Programs) -> anyhow::Result<SocketAddr> {
        let address = free_address()?;
        let mut command = self.command(&programs.workerd);
        command
            .arg("serve")
            .arg(root().join("bench/workerd.capnp"))
            .arg("--socket-addr")
            .arg(format!("http={address}"));
        self.spawn(command)?;
        Ok(address)
    }

    fn nginx(&mut self, programs: &Programs) -> anyhow::Result<SocketAddr> {
        let address = free_address()?;
        let files = root().join("bench/project/public");
        let config = include_str!("../../../bench/nginx.conf")
            .replace("@ADDRESS@", &address.to_string())
            .replace("@FILES@", &files.display().to_string());
        self.run_nginx(programs, &config)?;
        Ok(address)
    }

    fn ceiling(&mut self, programs: &Programs) -> anyhow::Result<SocketAddr> {
        let worker = programs
            .worker
            .as_ref()
            .context("Engawa was not asked for its worker")?;
        let address = free_address()?;
        let sockets = ceiling::Sockets::new(self.dir);
        let config = ceiling::nginx_config(self.dir, &sockets, address)?;
        self.run_nginx(programs, &config)?;
        let config = worker.write(&self.dir.join("worker"), &sockets.backend)?;
        let mut command = self.command(&programs.workerd);
        command
            .args(["serve", "-I", "/"])
            .arg(config)
            .arg(format!(
                "--socket-addr=main=unix:{}",
                sockets.worker.display()
            ))
            .arg(format!(
                "--socket-addr=ping=unix:{}",
                sockets.ping.display()
            ));
        self.spawn(command)?;
        Ok(address)
    }

    fn run_nginx(&mut self, programs: &Programs, config: &str) -> anyhow::Result<()> {
        let file = self.dir.join("nginx.conf");
        // Its processes else become a user's who may not read these folders.
        let user = if geteuid().is_root() {
            "user root;"
        } else {
            ""
        };
        let config = config.replace("@USER@", user);
        fs::write(
            &file,
            config.replace("@DIR@", &self.dir.display().to_string()),
        )?;
        let mut command = self.command(programs.nginx()?);
        command
            .arg("-p")
            .arg(self.dir)
            .arg("-c")
            .arg(&file)
            .args(["-e", "stderr"]);
        self.spawn(command)
    }

    /// The fixture, in a place where a server may write.
    fn project(&self) -> anyhow::Result<PathBuf> {
        let project = self.dir.join("project");
        copy_folder(&root().join("bench/project"), &project)?;
        Ok(project)
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("HOME", self.dir)
            .env("NO_COLOR", "1")
            .env("TZ", "UTC")
            .current_dir(self.dir);
        for name in ["PATH", "TMPDIR"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
    }

    fn spawn(&mut self, mut command: Command) -> anyhow::Result<()> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        self.children.push(Child::spawn(command)?);
        Ok(())
    }
}

/// A process of ours, ended with all below it when this is dropped.
pub(super) struct Child(std::process::Child);

impl Child {
    pub(super) fn spawn(mut command: Command) -> anyhow::Result<Self> {
        let child = command
            .spawn()
            .with_context(|| format!("cannot run {}", command.get_program().display()))?;
        Ok(Self(child))
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Waits for its end, and gives what it printed: little, since it is read last.
    pub(super) fn output_within(mut self, time: Duration) -> anyhow::Result<Vec<u8>> {
        let deadline = Instant::now() + time;
        while self.0.try_wait()?.is_none() {
            if Instant::now() > deadline {
                bail!("a program did not end within {} s", time.as_secs());
            }
            sleep(POLL);
        }
        let mut output = Vec::new();
        if let Some(mut pipe) = self.0.stdout.take() {
            pipe.read_to_end(&mut output)?;
        }
        Ok(output)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(Some(_))) {
            return;
        }
        let family = Processes::below(&[self.pid()]);
        signal(self.pid(), Signal::TERM);
        let deadline = Instant::now() + STOP;
        while matches!(self.0.try_wait(), Ok(None)) && Instant::now() < deadline {
            sleep(POLL);
        }
        for process in family
            .iter()
            .flat_map(Processes::iter)
            .filter(|process| process.runs())
        {
            signal(process.pid, Signal::KILL);
        }
        let _ = self.0.wait();
    }
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = pid.try_into().ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// A port that was free a moment ago: not all of the peers can choose one and tell it.
fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr())?)
}

fn path_with(first: &Path) -> anyhow::Result<std::ffi::OsString> {
    let rest = std::env::var_os("PATH").unwrap_or_default();
    Ok(std::env::join_paths(
        [first.to_owned()]
            .into_iter()
            .chain(std::env::split_paths(&rest)),
    )?)
}
