//! Starting, watching and ending workerd processes.
//!
//! All children are spawned by one thread that lives as long as the program:
//! `PR_SET_PDEATHSIG` fires when the *spawning thread* ends, and it is what takes the
//! children along when `engawa` itself is killed. A child that was born after that
//! moment sees another parent and ends itself.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use command_fds::{CommandFdExt as _, FdMapping};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::AsyncReadExt as _;
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe;

use crate::config::{ChildFds, WorkerdConfig};

/// How long a process may take from its start to its listening sockets.
const READY_WITHIN: Duration = Duration::from_secs(20);
/// How much of the end of a process's standard error is kept to explain its end.
const STDERR_KEPT_BYTES: usize = 16 * 1024;
/// Requests that may wait in a socket's backlog; the pool admits fewer.
pub(crate) const LISTEN_BACKLOG: i32 = 1024;

/// Spawns children from a thread of its own. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Spawner {
    jobs: mpsc::SyncSender<Job>,
}

type Job = (Command, tokio::sync::oneshot::Sender<io::Result<Child>>);

impl Spawner {
    /// Starts the spawning thread; it ends with the last clone.
    pub(crate) fn start() -> io::Result<Self> {
        let (jobs, queue) = mpsc::sync_channel::<Job>(64);
        std::thread::Builder::new().name("engawa-spawner".to_owned()).spawn(move || {
            for (mut command, reply) in queue {
                if let Err(Ok(mut orphan)) = reply.send(command.spawn()) {
                    // Nobody waits for it any more.
                    let _ = orphan.kill();
                    let _ = orphan.wait();
                }
            }
        })?;
        Ok(Self { jobs })
    }

    async fn spawn(&self, command: Command) -> io::Result<Child> {
        let (reply, answer) = tokio::sync::oneshot::channel();
        self.jobs
            .try_send((command, reply))
            .map_err(|_| io::Error::other("too many processes are being started at once"))?;
        answer.await.map_err(|_| io::Error::other("the spawning thread has ended"))?
    }
}

/// Why a process did not become ready.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// It could not be started at all.
    #[error("cannot start {}: {source}", path.display())]
    Spawn { path: PathBuf, source: io::Error },
    /// It ended before it listened. The text is what it said on standard error.
    #[error("{0}")]
    Ended(String),
    /// It was still not listening after [`READY_WITHIN`].
    #[error("it did not listen within {limit_s} s. {0}", limit_s = READY_WITHIN.as_secs())]
    TooSlow(String),
}

/// A workerd process that listens.
#[derive(Debug)]
pub(crate) struct Process {
    pid: u32,
    pidfd: AsyncFd<OwnedFd>,
    stderr: Arc<Mutex<StderrTail>>,
}

impl Process {
    /// Starts workerd and waits until both sockets listen.
    pub(crate) async fn start(
        spawner: &Spawner,
        workerd: &Path,
        config: &WorkerdConfig,
        main: &UnixListener,
        ping: &UnixListener,
    ) -> Result<Self, StartError> {
        let spawn_error = |source| StartError::Spawn { path: workerd.to_owned(), source };
        let (control_reader, control_writer) = std::io::pipe().map_err(spawn_error)?;
        let command = command(workerd, config, main, ping, control_writer.into()).map_err(spawn_error)?;
        let mut child = spawner.spawn(command).await.map_err(spawn_error)?;

        let pid = child.id();
        let stderr = Arc::new(Mutex::new(StderrTail::default()));
        if let Some(pipe) = child.stderr.take() {
            let receiver = pipe::Receiver::from_owned_fd(pipe.into()).map_err(spawn_error)?;
            tokio::spawn(keep_stderr(receiver, Arc::clone(&stderr)));
        }
        let raw_pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(|| {
            spawn_error(io::Error::other("the system gave an unusable process number"))
        })?;
        let pidfd = pidfd_open(raw_pid, PidfdFlags::NONBLOCK).map_err(|error| spawn_error(error.into()))?;
        let process = Self { pid, pidfd: watch_pidfd(pidfd).map_err(spawn_error)?, stderr };

        let control = pipe::Receiver::from_owned_fd(control_reader.into()).map_err(spawn_error)?;
        let ready = tokio::time::timeout(READY_WITHIN, both_listen(control)).await;
        match ready {
            Ok(true) => Ok(process),
            Ok(false) => {
                process.kill();
                process.ended().await;
                Err(StartError::Ended(process.last_words().await))
            }
            Err(_) => {
                process.kill();
                process.ended().await;
                Err(StartError::TooSlow(process.last_words().await))
            }
        }
    }

    /// Its process number.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Asks it to finish what it has and end.
    pub(crate) fn terminate(&self) {
        // An error means that it has ended already.
        let _ = pidfd_send_signal(self.pidfd.get_ref(), Signal::TERM);
    }

    /// Ends it at once.
    pub(crate) fn kill(&self) {
        let _ = pidfd_send_signal(self.pidfd.get_ref(), Signal::KILL);
    }

    /// Waits until it has ended, and reaps it.
    pub(crate) async fn ended(&self) {
        // A pidfd is readable once the process is a zombie.
        let _ = self.pidfd.readable().await;
        let _ = rustix::process::waitid(
            rustix::process::WaitId::PidFd(self.pidfd.get_ref().as_fd()),
            rustix::process::WaitIdOptions::EXITED,
        );
    }

    /// The end of what it wrote on standard error.
    pub(crate) async fn last_words(&self) -> String {
        // The reader ends shortly after the process; a child of its own could keep the
        // pipe open, so the wait is bounded.
        for _ in 0..20 {
            if self.stderr.lock().is_ok_and(|tail| tail.complete) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.stderr.lock().map(|tail| tail.text()).unwrap_or_default()
    }

    /// CPU time that it has used, in milliseconds. Zero when it is gone.
    pub(crate) fn cpu_ms(&self) -> u64 {
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)) else { return 0 };
        // The second field is the program's name in parentheses; utime and stime are the
        // 14th and 15th, in ticks of 10 ms (USER_HZ is 100 on every Linux we run on).
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let mut ticks = after_name.split_whitespace().skip(11).take(2).map(|field| field.parse().unwrap_or(0));
        (ticks.next().unwrap_or(0) + ticks.next().unwrap_or(0)) * 10
    }

    /// Memory of its own, in bytes (the rest of what `ps` shows is shared program text).
    pub(crate) fn memory_bytes(&self) -> u64 {
        let Ok(status) = std::fs::read_to_string(format!("/proc/{}/status", self.pid)) else { return 0 };
        status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"))
            .and_then(|rest| rest.trim().trim_end_matches(" kB").trim().parse::<u64>().ok())
            .map_or(0, |kib| kib * 1024)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A dropped process is one that nobody will wait for.
        self.kill();
    }
}

fn command(
    workerd: &Path,
    config: &WorkerdConfig,
    main: &UnixListener,
    ping: &UnixListener,
    control: OwnedFd,
) -> io::Result<Command> {
    let mut command = Command::new(workerd);
    command
        .args(["serve", "-I", "/"])
        .arg(format!("--control-fd={}", ChildFds::CONTROL))
        .arg(format!("--socket-fd=main={}", ChildFds::MAIN))
        .arg(format!("--socket-fd=ping={}", ChildFds::PING))
        .arg(format!("/proc/self/fd/{}", ChildFds::CONFIG))
        .env_clear()
        .env("TZ", "UTC")
        .env("FORCE_COLOR", "0")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut mappings = vec![
        FdMapping { parent_fd: control, child_fd: ChildFds::CONTROL },
        FdMapping { parent_fd: main.as_fd().try_clone_to_owned()?, child_fd: ChildFds::MAIN },
        FdMapping { parent_fd: ping.as_fd().try_clone_to_owned()?, child_fd: ChildFds::PING },
    ];
    for (fd, child_fd) in config.fds() {
        mappings.push(FdMapping { parent_fd: fd.try_clone()?, child_fd });
    }
    command.fd_mappings(mappings).map_err(io::Error::other)?;
    die_with_parent(&mut command);
    Ok(command)
}

#[expect(unsafe_code, reason = "pre_exec runs between fork and exec; only two system calls are made there")]
fn die_with_parent(command: &mut Command) {
    use std::os::unix::process::CommandExt as _;
    let parent = rustix::process::getpid();
    // SAFETY: the closure only makes system calls, which is all that is allowed there:
    // no allocation, no lock.
    unsafe {
        command.pre_exec(move || {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            if rustix::process::getppid() == Some(parent) {
                Ok(())
            } else {
                Err(io::Error::from_raw_os_error(rustix::io::Errno::SRCH.raw_os_error()))
            }
        });
    }
}

#[expect(unsafe_code, reason = "tokio cannot know that a descriptor stays what it is")]
fn watch_pidfd(pidfd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` names the same open descriptor for as long as it lives, and
    // the `AsyncFd` owns it.
    Ok(unsafe { AsyncFd::register(pidfd) }?)
}

/// Reads the control channel until both sockets listen; `false` when it ends before.
async fn both_listen(mut control: pipe::Receiver) -> bool {
    let mut text = Vec::new();
    let mut chunk = [0; 512];
    loop {
        match control.read(&mut chunk).await {
            Ok(0) | Err(_) => return false,
            Ok(read) => text.extend_from_slice(&chunk[..read]),
        }
        let listening = text
            .split(|byte| *byte == b'\n')
            .filter_map(|line| serde_json::from_slice::<serde_json::Value>(line).ok())
            .filter(|event| event["event"] == "listen")
            .count();
        if listening >= 2 {
            return true;
        }
        if text.len() > 64 * 1024 {
            return false;
        }
    }
}

#[derive(Debug, Default)]
struct StderrTail {
    bytes: Vec<u8>,
    complete: bool,
}

impl StderrTail {
    fn push(&mut self, chunk: &[u8]) {
        self.bytes.extend_from_slice(chunk);
        if self.bytes.len() > 2 * STDERR_KEPT_BYTES {
            let cut = self.bytes.len() - STDERR_KEPT_BYTES;
            self.bytes.drain(..cut);
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).trim().to_owned()
    }
}

/// Drains standard error for as long as the process lives: a full pipe would stop it.
async fn keep_stderr(mut stderr: pipe::Receiver, tail: Arc<Mutex<StderrTail>>) {
    let mut chunk = vec![0; 4096];
    while let Ok(read) = stderr.read(&mut chunk).await {
        if read == 0 {
            break;
        }
        if let Ok(mut tail) = tail.lock() {
            tail.push(&chunk[..read]);
        }
    }
    if let Ok(mut tail) = tail.lock() {
        tail.complete = true;
    }
}
