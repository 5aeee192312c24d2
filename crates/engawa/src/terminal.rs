//! What people see: the one place that prints.
//!
//! Standard output carries what a program may read (the ready line, results of
//! commands); everything told to people goes to standard error.
#![expect(clippy::print_stderr, reason = "this is the module that prints")]

use std::io::{IsTerminal as _, Write as _};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use engawa_project::{Diagnostic, Severity};
use engawa_runtime::{LogLevel, WorkerLog};

static COLOUR: LazyLock<bool> =
    LazyLock::new(|| std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none());

/// A line for programs, at once visible also in a pipe.
pub(crate) fn output(line: &str) {
    let mut stdout = std::io::stdout().lock();
    // A reader that has gone away is no reason to end a server.
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}

/// Whether standard output is read by a person. wrangler prints JSON otherwise.
pub(crate) fn is_for_people() -> bool {
    std::io::stdout().is_terminal()
}

/// Bytes for programs, as they are.
///
/// # Errors
/// When they cannot be written.
pub(crate) fn output_bytes(bytes: &[u8]) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()
}

/// A line for people.
pub(crate) fn note(line: &str) {
    eprintln!("{line}");
}

/// How far something is, as one line that is written over: on a terminal only. It goes
/// when this is dropped.
pub(crate) struct Progress {
    what: String,
    total_bytes: Option<u64>,
    /// `None` where standard error is no terminal.
    state: Option<Mutex<Drawn>>,
}

struct Drawn {
    done_bytes: u64,
    at: Option<Instant>,
}

impl Progress {
    /// The least time between two pictures.
    const PAUSE: Duration = Duration::from_millis(100);
    const WIDTH: u64 = 30;

    /// Nothing is shown before something is done.
    pub(crate) fn new(what: String, total_bytes: Option<u64>) -> Self {
        let drawn = Drawn {
            done_bytes: 0,
            at: None,
        };
        let state = std::io::stderr().is_terminal().then(|| Mutex::new(drawn));
        Self {
            what,
            total_bytes,
            state,
        }
    }

    /// So much is done in all.
    pub(crate) fn set(&self, done_bytes: u64) {
        self.change(|_| done_bytes);
    }

    /// So much more is done.
    pub(crate) fn add(&self, more_bytes: u64) {
        self.change(|done_bytes| done_bytes + more_bytes);
    }

    fn change(&self, change: impl FnOnce(u64) -> u64) {
        let Some(state) = &self.state else { return };
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        state.done_bytes = change(state.done_bytes);
        if state.at.is_some_and(|at| at.elapsed() < Self::PAUSE) {
            return;
        }
        state.at = Some(Instant::now());
        eprint!("\r\x1b[K{}", self.line(state.done_bytes));
    }

    fn line(&self, done_bytes: u64) -> String {
        let megabytes = |bytes: u64| format!("{}.{}", bytes / 1_000_000, bytes / 100_000 % 10);
        let done = megabytes(done_bytes);
        let Some(total_bytes) = self.total_bytes.filter(|bytes| *bytes > 0) else {
            return format!("{}: {done} MB", self.what);
        };
        let part = |whole: u64| done_bytes.min(total_bytes) * whole / total_bytes;
        let (bar, rest) = (part(Self::WIDTH), Self::WIDTH - part(Self::WIDTH));
        let cells = |cell: &str, count: u64| cell.repeat(usize::try_from(count).unwrap_or(0));
        let (bar, rest) = (cells("━", bar), cells("─", rest));
        let (percent, total) = (part(100), megabytes(total_bytes));
        format!("{} {bar}{rest} {percent}% {done} of {total} MB", self.what)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        let Some(state) = &self.state else { return };
        let state = state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.at.is_some() {
            eprint!("\r\x1b[K");
        }
    }
}

/// Something that went wrong.
pub(crate) fn error(text: &str) {
    eprintln!("{}", paint("31", text));
}

/// A finding about a user's file.
pub(crate) fn diagnostic(diagnostic: &Diagnostic) {
    let colour = match diagnostic.severity {
        Severity::Error => "31",
        Severity::Warning => "33",
    };
    let text = diagnostic.to_string();
    match text.split_once('\n') {
        Some((first, rest)) => eprintln!("{}\n{rest}", paint(colour, first)),
        None => eprintln!("{}", paint(colour, &text)),
    }
}

/// What a request of a worker has logged.
pub(crate) fn worker_log(log: &WorkerLog, least: LogLevel) {
    let lines: Vec<_> = log
        .lines
        .iter()
        .filter(|line| line.level >= least)
        .collect();
    if lines.is_empty() {
        return;
    }
    let status = log
        .status
        .map_or_else(|| log.outcome.clone(), |status| status.to_string());
    let ray = log
        .ray
        .as_deref()
        .map_or(String::new(), |ray| format!(" {ray}"));
    let mut text = paint("2", &format!("{} → {status}{ray}", log.trigger));
    for line in lines {
        let colour = match line.level {
            LogLevel::Error => "31",
            LogLevel::Warn => "33",
            LogLevel::Debug => "2",
            LogLevel::Log | LogLevel::Info => "0",
        };
        text.push_str("\n  ");
        text.push_str(&paint(colour, &line.text.replace('\n', "\n  ")));
    }
    eprintln!("{text}");
}

fn paint(code: &str, text: &str) -> String {
    if *COLOUR {
        format!("\x1b[{code}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}
