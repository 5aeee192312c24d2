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
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use command_fds::{CommandFdExt as _, FdMapping};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::AsyncReadExt as _;
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot, watch};

use crate::config::{ChildFds, WorkerdConfig};

/// How long a process may take from its start to its listening sockets.
const READY_WITHIN: Duration = Duration::from_secs(20);
/// How long a process's last words are waited for after its end.
const LAST_WORDS_WITHIN: Duration = Duration::from_millis(500);
/// How much of the end of a process's standard error is kept to explain its end.
const STDERR_KEPT_BYTES: usize = 16 * 1024;
/// Requests that may wait in a socket's backlog; the pool admits fewer.
pub(crate) const LISTEN_BACKLOG: i32 = 1024;

/// Spawns children from a thread of its own. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Spawner {
    jobs: mpsc::Sender<Job>,
}

type Job = (Command, oneshot::Sender<io::Result<Born>>);

impl Spawner {
    /// Starts the spawning thread; it ends with the last clone.
    pub(crate) fn start() -> io::Result<Self> {
        let (jobs, mut queue) = mpsc::channel::<Job>(16);
        std::thread::Builder::new()
            .name("engawa-spawner".to_owned())
            .spawn(move || {
                while let Some((mut command, reply)) = queue.blocking_recv() {
                    if !reply.is_closed() {
                        // A child that nobody takes is reaped as it is dropped.
                        let _ = reply.send(command.spawn().map(Born::new));
                    }
                }
            })?;
        Ok(Self { jobs })
    }

    async fn spawn(&self, command: Command) -> io::Result<Born> {
        let ended = || io::Error::other("the spawning thread has ended");
        let (reply, answer) = oneshot::channel();
        self.jobs
            .send((command, reply))
            .await
            .map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }
}

/// A child that is killed and reaped when it is dropped, unless it has been reaped.
#[derive(Debug)]
struct Born {
    child: Option<Child>,
    reaped: AtomicBool,
}

impl Born {
    fn new(child: Child) -> Self {
        Self {
            child: Some(child),
            reaped: AtomicBool::new(false),
        }
    }
}

impl Drop for Born {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        if self.reaped.load(Ordering::SeqCst) {
            return;
        }
        let _ = child.kill();
        // It ends within moments, but this may be an async thread.
        let _ = std::thread::Builder::new()
            .name("engawa-reaper".to_owned())
            .spawn(move || child.wait());
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

/// A workerd process that listens. It is killed and reaped when it is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    pid: u32,
    pidfd: AsyncFd<OwnedFd>,
    born: Born,
    stderr: watch::Receiver<bool>,
    last_words: Arc<Mutex<StderrTail>>,
}

impl Process {
    /// Starts workerd and waits until both sockets listen. May be dropped at any time.
    pub(crate) async fn start(
        spawner: &Spawner,
        workerd: &Path,
        config: &WorkerdConfig,
        main: UnixListener,
        ping: &UnixListener,
    ) -> Result<Self, StartError> {
        let spawn_error = |source| StartError::Spawn {
            path: workerd.to_owned(),
            source,
        };
        let (control_reader, control_writer) = std::io::pipe().map_err(spawn_error)?;
        let command =
            command(workerd, config, main, ping, control_writer.into()).map_err(spawn_error)?;
        let mut born = spawner.spawn(command).await.map_err(spawn_error)?;
        let child = born
            .child
            .as_mut()
            .expect("a child is taken only as it is dropped");
        let pid = child.id();
        let pidfd = open_pidfd(pid).map_err(spawn_error)?;
        let last_words = Arc::default();
        let (complete, stderr) = watch::channel(false);
        if let Some(pipe) = child.stderr.take() {
            let receiver = pipe::Receiver::from_owned_fd(pipe.into()).map_err(spawn_error)?;
            tokio::spawn(keep_stderr(
                receiver,
                pid,
                Arc::clone(&last_words),
                complete,
            ));
        }
        let process = Self {
            pid,
            pidfd,
            born,
            stderr,
            last_words,
        };

        let control = pipe::Receiver::from_owned_fd(control_reader.into()).map_err(spawn_error)?;
        let ready = tokio::time::timeout(READY_WITHIN, both_listen(control)).await;
        if matches!(ready, Ok(true)) {
            return Ok(process);
        }
        process.kill();
        process.ended().await;
        let words = process.last_words().await;
        Err(if ready.is_ok() {
            StartError::Ended(words)
        } else {
            StartError::TooSlow(words)
        })
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
        let reaped = rustix::process::waitid(
            rustix::process::WaitId::PidFd(self.pidfd.get_ref().as_fd()),
            rustix::process::WaitIdOptions::EXITED,
        );
        if reaped.is_ok_and(|status| status.is_some()) {
            self.born.reaped.store(true, Ordering::SeqCst);
        }
    }

    /// The end of what it wrote on standard error.
    pub(crate) async fn last_words(&self) -> String {
        // The reader ends shortly after the process; should something else hold the pipe
        // open, there is no waiting for that.
        let mut complete = self.stderr.clone();
        let _ =
            tokio::time::timeout(LAST_WORDS_WITHIN, complete.wait_for(|complete| *complete)).await;
        self.last_words
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .text()
    }

    /// CPU time that it has used. Zero when it is gone.
    pub(crate) fn cpu_time(&self) -> Duration {
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)) else {
            return Duration::ZERO;
        };
        // The second field is the program's name in parentheses; utime and stime are the
        // 14th and 15th, in ticks of 10 ms (USER_HZ is 100 on every Linux we run on).
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks = after_name
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(|field| field.parse().unwrap_or(0));
        Duration::from_millis(10 * ticks.sum::<u64>())
    }

    /// Memory of its own, in bytes (the rest of what `ps` shows is shared program text).
    pub(crate) fn memory_bytes(&self) -> u64 {
        let Ok(status) = std::fs::read_to_string(format!("/proc/{}/status", self.pid)) else {
            return 0;
        };
        status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"))
            .and_then(|rest| {
                rest.trim()
                    .trim_end_matches(" kB")
                    .trim()
                    .parse::<u64>()
                    .ok()
            })
            .map_or(0, |kib| kib * 1024)
    }
}

fn command(
    workerd: &Path,
    config: &WorkerdConfig,
    main: UnixListener,
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
        FdMapping {
            parent_fd: control,
            child_fd: ChildFds::CONTROL,
        },
        FdMapping {
            parent_fd: main.into(),
            child_fd: ChildFds::MAIN,
        },
        FdMapping {
            parent_fd: ping.as_fd().try_clone_to_owned()?,
            child_fd: ChildFds::PING,
        },
    ];
    let files = config.memory_files()?.into_iter().zip(ChildFds::CONFIG..);
    mappings.extend(files.map(|(parent_fd, child_fd)| FdMapping {
        parent_fd,
        child_fd,
    }));
    command.fd_mappings(mappings).map_err(io::Error::other)?;
    die_with_parent(&mut command);
    Ok(command)
}

#[expect(
    unsafe_code,
    reason = "pre_exec runs between fork and exec; only two system calls are made there"
)]
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
                Err(io::Error::from_raw_os_error(
                    rustix::io::Errno::SRCH.raw_os_error(),
                ))
            }
        });
    }
}

#[expect(
    unsafe_code,
    reason = "tokio cannot know that a descriptor stays what it is"
)]
fn open_pidfd(pid: u32) -> io::Result<AsyncFd<OwnedFd>> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::other("the system gave an unusable process number"))?;
    let pidfd = pidfd_open(pid, PidfdFlags::NONBLOCK)?;
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
async fn keep_stderr(
    mut stderr: pipe::Receiver,
    pid: u32,
    tail: Arc<Mutex<StderrTail>>,
    complete: watch::Sender<bool>,
) {
    let mut chunk = vec![0; 4096];
    while let Ok(read @ 1..) = stderr.read(&mut chunk).await {
        // The details of an `internal error; reference = …` are said only here.
        tracing::debug!(target: "engawa::workerd", pid, "{}", String::from_utf8_lossy(&chunk[..read]).trim_end());
        tail.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(&chunk[..read]);
    }
    let _ = complete.send(true);
}
