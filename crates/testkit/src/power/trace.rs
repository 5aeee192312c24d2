//! Follows a program and all that it starts.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::process::{ChildStderr, ChildStdout, Command, ExitStatus};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, OnceLock};
use std::{io, thread};

use libc::pid_t;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::calls::{self, CALLS};
use super::sys::{self, Stop};
use super::{Log, lock};

/// A program that is being recorded.
#[derive(Debug)]
pub struct Recorded {
    pid: u32,
    process: OwnedFd,
    /// Standard output, if it was to be piped.
    pub stdout: Option<ChildStdout>,
    /// Standard error, if it was to be piped.
    pub stderr: Option<ChildStderr>,
    status: Arc<OnceLock<ExitStatus>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Recorded {
    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Ends it as `kill -9` does.
    pub fn kill(&self) {
        // It has ended already, perhaps.
        let _ = pidfd_send_signal(&self.process, Signal::KILL);
    }

    /// Its status, if it has ended.
    pub fn try_wait(&self) -> Option<ExitStatus> {
        self.status.get().copied()
    }

    /// Waits until everything that it has started has ended too.
    ///
    /// # Panics
    /// When the recorder did.
    pub fn wait_for_all(&mut self) {
        if let Some(thread) = self.thread.take() {
            // A panic there was printed, and its record is not complete.
            assert!(thread.join().is_ok(), "the recorder has failed");
        }
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        self.kill();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Starts the program on a thread of its own: the kernel lets only the thread that has
/// started it follow it.
pub(super) fn start(mut command: Command, log: Arc<Mutex<Log>>) -> io::Result<Recorded> {
    let (send_started, started) = channel();
    let status = Arc::new(OnceLock::new());
    let ended = Arc::clone(&status);
    let thread = thread::spawn(move || {
        sys::follow(&mut command, CALLS);
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => return drop(send_started.send(Err(error))),
        };
        let pid = pid_t::try_from(child.id()).expect("the kernel's own number");
        // Nobody waits for it before the loop below does, so the number is still its own.
        let process = Pid::from_raw(pid)
            .ok_or(io::ErrorKind::NotFound.into())
            .and_then(|pid| Ok(pidfd_open(pid, PidfdFlags::empty())?));
        let begun = process.map(|process| {
            (
                child.id(),
                process,
                child.stdout.take(),
                child.stderr.take(),
            )
        });
        let is_stopped = matches!(sys::wait(pid), Some((_, Stop::Signal(libc::SIGTRAP))));
        assert!(is_stopped, "a followed program stops at its beginning");
        sys::set_options(pid).expect("the kernel can follow programs");
        let _ = send_started.send(begun);
        sys::go_on(pid, 0);
        let mut tracer = Tracer {
            log,
            pid,
            seen: HashSet::from([pid]),
            status: ended,
        };
        while let Some((tid, stop)) = sys::wait(-1) {
            tracer.stopped(tid, stop);
        }
    });
    let (pid, process, stdout, stderr) = started
        .recv()
        .map_err(|_| io::Error::other("the recorder has failed"))??;
    Ok(Recorded {
        pid,
        process,
        stdout,
        stderr,
        status,
        thread: Some(thread),
    })
}

struct Tracer {
    log: Arc<Mutex<Log>>,
    pid: pid_t,
    /// Threads that have had their first stop.
    seen: HashSet<pid_t>,
    status: Arc<OnceLock<ExitStatus>>,
}

impl Tracer {
    fn stopped(&mut self, tid: pid_t, stop: Stop) {
        match stop {
            Stop::Ended(status) => {
                self.seen.remove(&tid);
                if tid == self.pid {
                    self.status.get_or_init(|| status);
                }
            }
            Stop::Call => self.call(tid),
            Stop::CallEnd | Stop::Begun => sys::go_on(tid, 0),
            // A new thread's first stop is the kernel's doing, not a signal of anybody.
            Stop::Signal(libc::SIGSTOP) if self.seen.insert(tid) => sys::go_on(tid, 0),
            Stop::Signal(signal) => sys::go_on(tid, signal),
        }
    }

    /// Lets one call run to its end while all others wait, and records it.
    fn call(&mut self, tid: pid_t) {
        let Some(info) = sys::call_info(tid) else {
            return sys::go_on(tid, 0);
        };
        let Some(call) = calls::before(&lock(&self.log), tid, info) else {
            return sys::go_on(tid, 0);
        };
        sys::finish_call(tid);
        match sys::wait(tid) {
            Some((_, Stop::CallEnd)) => {
                if let Some(after) = sys::call_info(tid) {
                    calls::after(&mut lock(&self.log), tid, call, after.value);
                }
                sys::go_on(tid, 0);
            }
            Some((tid, stop)) => self.stopped(tid, stop),
            None => {}
        }
    }
}
