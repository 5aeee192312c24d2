//! Running the esbuild binary: no files in the user's project, nothing of our environment,
//! a bound on its time, and its messages as [`Diagnostic`]s.

use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use crate::diagnostic::{Diagnostic, Location};

/// One run of esbuild.
pub(crate) struct Run<'a> {
    /// The binary.
    pub(crate) esbuild: &'a Path,
    /// Relative paths of flags and messages start here.
    pub(crate) working_dir: &'a Path,
    /// Flags and entry points.
    pub(crate) args: Vec<OsString>,
    /// The entry point's text, if it is no file.
    pub(crate) stdin: Option<&'a str>,
}

/// What esbuild printed.
pub(crate) struct Output {
    pub(crate) warnings: Vec<Message>,
}

/// Why there is no result.
#[derive(Debug)]
pub(crate) enum RunError {
    /// It could not be started, or went away without a message.
    Failed(String),
    /// It found errors in the user's files.
    Messages(Vec<Message>),
}

/// An error or a warning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) diagnostic: Diagnostic,
}

/// Far above what the largest project takes (seconds), since a project on a slow disk must
/// still build; it only has to end.
const TIME_LIMIT: Duration = Duration::from_mins(2);
/// What is read of each stream; more is cut off.
const OUTPUT_BYTES: u64 = 256 * 1024 * 1024;
/// Messages shown; the rest would be noise.
const MESSAGES: usize = 20;

impl Run<'_> {
    /// Runs esbuild to its end.
    pub(crate) fn run(&self) -> Result<Output, RunError> {
        let mut child = Command::new(self.esbuild)
            .args(&self.args)
            .args(["--color=false", "--log-level=warning"])
            .arg(format!("--log-limit={MESSAGES}"))
            .current_dir(self.working_dir)
            .env_clear()
            .stdin(if self.stdin.is_some() {
                Stdio::piped()
            } else {
                Stdio::null()
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| {
                RunError::Failed(format!("cannot start {}: {error}", self.esbuild.display()))
            })?;

        let input = child.stdin.take().zip(self.stdin);
        let stdout = child.stdout.take().expect("stdout is piped");
        let stderr = child.stderr.take().expect("stderr is piped");
        let (done, finished) = mpsc::channel();
        let in_time = std::thread::scope(|scope| {
            let out_done = done.clone();
            let out = scope.spawn(move || {
                let mut bytes = Vec::new();
                let result = stdout.take(OUTPUT_BYTES).read_to_end(&mut bytes);
                let _ = out_done.send(());
                result.map(|_| bytes)
            });
            let err = scope.spawn(move || {
                let mut bytes = Vec::new();
                let result = stderr.take(OUTPUT_BYTES).read_to_end(&mut bytes);
                let _ = done.send(());
                result.map(|_| bytes)
            });
            if let Some((mut pipe, text)) = input {
                scope.spawn(move || {
                    // An esbuild that ended early says why on its other pipe.
                    let _ = pipe.write_all(text.as_bytes());
                });
            }
            // Both streams end when the process does.
            let ended = (0..2).all(|_| finished.recv_timeout(TIME_LIMIT).is_ok());
            if !ended {
                let _ = child.kill();
            }
            let streams = (
                out.join().expect("the reader does not panic"),
                err.join().expect("the reader does not panic"),
            );
            ended.then_some(streams)
        });
        let status = child
            .wait()
            .map_err(|error| RunError::Failed(format!("cannot wait for esbuild: {error}")))?;
        let Some((stdout, stderr)) = in_time else {
            return Err(RunError::Failed(format!(
                "esbuild did not finish within {} seconds",
                TIME_LIMIT.as_secs()
            )));
        };
        let read = |result: std::io::Result<Vec<u8>>| {
            result.map_err(|error| RunError::Failed(format!("cannot read from esbuild: {error}")))
        };
        read(stdout)?;
        let stderr = read(stderr)?;
        let stderr = String::from_utf8_lossy(&stderr);
        let messages = parse_messages(&stderr, self.working_dir);
        let (errors, warnings): (Vec<_>, Vec<_>) = messages
            .into_iter()
            .partition(|message| message.diagnostic.is_error());
        if status.success() {
            Ok(Output { warnings })
        } else if errors.is_empty() {
            Err(RunError::Failed(format!(
                "esbuild ended with {status}: {}",
                stderr.trim()
            )))
        } else {
            Err(RunError::Messages(errors))
        }
    }
}

/// Reads esbuild's messages. Each begins with a line `✘ [ERROR] text` or `▲ [WARNING] text`;
/// then, apart from blank lines, `    file:line:column:` with a frame, and notes, which are
/// indented by two.
fn parse_messages(text: &str, working_dir: &Path) -> Vec<Message> {
    let mut messages: Vec<Message> = Vec::new();
    let mut state = Part::Text;
    for line in text.lines() {
        let start = line
            .strip_prefix("✘ [ERROR] ")
            .map(Diagnostic::error)
            .or_else(|| line.strip_prefix("▲ [WARNING] ").map(Diagnostic::warning));
        if let Some(diagnostic) = start {
            messages.push(Message { diagnostic });
            state = Part::Text;
            continue;
        }
        let Some(Message { diagnostic }) = messages.last_mut() else {
            continue;
        };
        let place = line
            .strip_prefix("    ")
            .filter(|rest| !rest.starts_with(' '))
            .and_then(parse_place);
        if let Some((file, line, column)) = place {
            let path = normalize(&working_dir.join(file));
            if diagnostic.location.is_none() && state == Part::Text {
                diagnostic.location = location(&path, line, column);
                state = Part::Frame;
            } else {
                append_hint(diagnostic, &format!("({}:{line})", path.display()));
                state = Part::NoteFrame;
            }
        } else if let Some(width) = underline_width(line) {
            if let (Part::Frame, Some(location)) = (state, &mut diagnostic.location) {
                location.width = width;
            }
            state = Part::Notes;
        } else if line.trim().is_empty() || line.contains(" │ ") || line.contains(" ╵ ") {
            // A frame, which is drawn anew from the file itself.
        } else if let Some(note) = line.strip_prefix("  ") {
            append_hint(diagnostic, note.trim());
            state = Part::Notes;
        } else if state == Part::Text {
            diagnostic.message.push('\n');
            diagnostic.message.push_str(line);
        }
    }
    messages
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Text,
    Frame,
    NoteFrame,
    Notes,
}

fn append_hint(diagnostic: &mut Diagnostic, text: &str) {
    let hint = diagnostic.hint.get_or_insert_default();
    if !hint.is_empty() {
        hint.push(' ');
    }
    hint.push_str(text);
}

fn parse_place(line: &str) -> Option<(&str, usize, usize)> {
    let mut parts = line.strip_suffix(':')?.rsplitn(3, ':');
    let column = parts.next()?.parse().ok()?;
    let line = parts.next()?.parse().ok()?;
    Some((parts.next()?, line, column))
}

/// `        ╵        ~~~~~`.
fn underline_width(line: &str) -> Option<u32> {
    let marks = line.trim_start().strip_prefix('╵')?.trim();
    marks
        .chars()
        .all(|c| matches!(c, '~' | '^'))
        .then(|| u32::try_from(marks.chars().count().max(1)).unwrap_or(1))
}

/// esbuild counts lines from 1 and columns, in bytes, from 0.
fn location(file: &Path, line: usize, column: usize) -> Option<Location> {
    let text = std::fs::read_to_string(file).ok()?;
    let start: usize = text
        .split_inclusive('\n')
        .take(line.checked_sub(1)?)
        .map(str::len)
        .sum();
    Some(Location::in_text(
        file,
        &text,
        start + column,
        start + column + 1,
    ))
}

/// Resolves `.` and `..` without asking the file system.
pub(crate) fn normalize(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                normal.pop();
            }
            other => normal.push(other),
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::parse_messages;

    #[test]
    fn messages_have_place_frame_and_notes() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.ts"), "\nimport \"foo\";\n").unwrap();
        let text = "✘ [ERROR] Could not resolve \"foo\"\n\n    a.ts:2:7:\n      2 │ import \"foo\";\n        ╵        ~~~~~\n\n  You can mark it.\n\n▲ [WARNING] Odd [odd]\n\n1 warning and 1 error\n";
        let messages = parse_messages(text, folder.path());
        assert_eq!(messages.len(), 2);
        let error = &messages[0].diagnostic;
        let place = error.location.as_ref().unwrap();
        assert_eq!((place.line, place.column, place.width), (2, 8, 5));
        assert_eq!(place.source_line, "import \"foo\";");
        assert_eq!(error.hint.as_deref(), Some("You can mark it."));
        assert!(!messages[1].diagnostic.is_error());
    }

    #[test]
    fn a_message_about_no_file_is_kept() {
        let messages = parse_messages("✘ [ERROR] Invalid alias\n", Path::new("/"));
        assert_eq!(messages[0].diagnostic.message, "Invalid alias");
        assert_eq!(messages[0].diagnostic.location, None);
    }
}
