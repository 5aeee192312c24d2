//! The system calls behind the recorder that neither std nor rustix offers.
#![expect(
    unsafe_code,
    reason = "ptrace, seccomp and wait for threads have no safe door in our dependencies"
)]

use std::io;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, ExitStatus};

use libc::{c_int, c_long, pid_t};

/// How a process that is followed came to a halt.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stop {
    Ended(ExitStatus),
    /// Before a call that the filter names.
    Call,
    /// After it.
    CallEnd,
    /// A thread, a process or a program was begun.
    Begun,
    Signal(c_int),
}

/// What is known of a stop before or after a call.
#[derive(Debug, Clone, Copy)]
pub(super) struct CallInfo {
    /// The call's number, or its result after it.
    pub(super) value: i64,
    pub(super) args: [u64; 6],
}

/// Has the program of a command stop at these system calls, for the thread that spawns it.
pub(super) fn follow(command: &mut Command, calls: &[c_long]) {
    let mut filter = filter(calls);
    // SAFETY: between fork and exec this makes three system calls and allocates nothing.
    unsafe {
        command.pre_exec(move || {
            let program = libc::sock_fprog {
                len: u16::try_from(filter.len()).unwrap_or(0),
                filter: filter.as_mut_ptr(),
            };
            check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0).into())?;
            check(libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0))?;
            let mode = libc::SECCOMP_MODE_FILTER;
            check(libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program).into())
        });
    }
}

/// Once after the first stop.
pub(super) fn set_options(pid: pid_t) -> io::Result<()> {
    let options = libc::PTRACE_O_TRACESYSGOOD
        | libc::PTRACE_O_TRACESECCOMP
        | libc::PTRACE_O_TRACECLONE
        | libc::PTRACE_O_TRACEFORK
        | libc::PTRACE_O_TRACEVFORK
        | libc::PTRACE_O_TRACEEXEC
        | libc::PTRACE_O_EXITKILL;
    // SAFETY: sets flags of a process that is stopped; no memory is involved.
    check(unsafe { libc::ptrace(libc::PTRACE_SETOPTIONS, pid, 0, options) })
}

/// Lets a stopped thread go on. One that was killed meanwhile is reported by [`wait`].
pub(super) fn go_on(tid: pid_t, signal: c_int) {
    // SAFETY: as above.
    unsafe { libc::ptrace(libc::PTRACE_CONT, tid, 0, signal) };
}

/// Lets a stopped thread go on to the end of its call.
pub(super) fn finish_call(tid: pid_t) {
    // SAFETY: as above.
    unsafe { libc::ptrace(libc::PTRACE_SYSCALL, tid, 0, 0) };
}

/// The call that a thread is stopped at.
pub(super) fn call_info(tid: pid_t) -> Option<CallInfo> {
    // `struct ptrace_syscall_info`: op and architecture, instruction, stack, then number
    // and arguments, or the result.
    let mut info = [0_u64; 11];
    let bytes = size_of_val(&info);
    // SAFETY: the kernel writes at most `bytes` into `info`.
    let got = unsafe { libc::ptrace(libc::PTRACE_GET_SYSCALL_INFO, tid, bytes, info.as_mut_ptr()) };
    (got > 0).then(|| CallInfo {
        value: info[3].cast_signed(),
        args: [info[4], info[5], info[6], info[7], info[8], info[9]],
    })
}

/// Waits for a thread that this thread follows, or (-1) for any. `None`: there is none.
pub(super) fn wait(tid: pid_t) -> Option<(pid_t, Stop)> {
    let mut status = 0;
    let got = loop {
        // SAFETY: `status` is written while the call runs, and not after it.
        let got = unsafe { libc::waitpid(tid, &raw mut status, libc::__WALL | libc::__WNOTHREAD) };
        if got >= 0 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            break got;
        }
    };
    if got < 0 {
        return None;
    }
    let stop = if !libc::WIFSTOPPED(status) {
        Stop::Ended(ExitStatus::from_raw(status))
    } else if status >> 16 == libc::PTRACE_EVENT_SECCOMP {
        Stop::Call
    } else if status >> 16 != 0 {
        Stop::Begun
    } else if libc::WSTOPSIG(status) == libc::SIGTRAP | 0x80 {
        Stop::CallEnd
    } else {
        Stop::Signal(libc::WSTOPSIG(status))
    };
    Some((got, stop))
}

/// Stops at `calls` of this machine's own kind; all others run at full speed.
fn filter(calls: &[c_long]) -> Vec<libc::sock_filter> {
    const ARCHITECTURE: u32 = if cfg!(target_arch = "x86_64") {
        0xc000_003e
    } else {
        0xc000_00b7
    };
    const LOAD: u16 = 0x20;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const ALLOW: u32 = 0x7fff_0000;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut filter = vec![
        step(LOAD, 0, 0, 4),
        step(JUMP_IF_EQUAL, 1, 0, ARCHITECTURE),
        step(RETURN, 0, 0, ALLOW),
        step(LOAD, 0, 0, 0),
    ];
    for call in calls {
        let number = u32::try_from(*call).unwrap_or(u32::MAX);
        filter.push(step(JUMP_IF_EQUAL, 0, 1, number));
        filter.push(step(RETURN, 0, 0, libc::SECCOMP_RET_TRACE));
    }
    filter.push(step(RETURN, 0, 0, ALLOW));
    filter
}

fn check(result: c_long) -> io::Result<()> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
