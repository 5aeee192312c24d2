//! What Engawa says about a user's file: the place, the line, and what to write instead.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Severity {
    /// It works, but probably not as meant, or not on Cloudflare.
    Warning,
    /// It cannot work.
    Error,
}

/// One finding. `Display` gives a compact code frame without colour and without a
/// newline at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Warning or error.
    pub severity: Severity,
    /// What is the matter; may have several lines.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
    /// Where, unless it is about something that is absent altogether.
    pub location: Option<Location>,
}

/// A place in a text file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The file, as the user named its folder.
    pub file: PathBuf,
    /// From 1.
    pub line: u32,
    /// From 1, counted in characters.
    pub column: u32,
    /// Characters to underline, on this line only; at least 1.
    pub width: u32,
    /// The line itself, without its newline.
    pub source_line: String,
}

/// A longer line is cut around the place that matters, in characters.
const FRAME_WIDTH: usize = 120;

impl Diagnostic {
    /// A warning that has no place yet.
    pub fn warning(message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, message)
    }

    /// An error that has no place yet.
    pub fn error(message: impl Into<String>) -> Self {
        Self::new(Severity::Error, message)
    }

    fn new(severity: Severity, message: impl Into<String>) -> Self {
        Self {
            severity,
            message: message.into(),
            hint: None,
            location: None,
        }
    }

    /// The same with what to write instead.
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..self
        }
    }

    /// The same with its place.
    pub fn at(self, location: Location) -> Self {
        Self {
            location: Some(location),
            ..self
        }
    }

    /// Whether it is an error.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl Location {
    /// The place of the bytes `start..end` of `text`. Offsets outside of the text or
    /// inside a character are moved to the nearest place that exists.
    pub fn in_text(file: impl Into<PathBuf>, text: &str, start: usize, end: usize) -> Self {
        let start = text.floor_char_boundary(start.min(text.len()));
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = text[start..]
            .find('\n')
            .map_or(text.len(), |newline| start + newline);
        let end = text.ceil_char_boundary(end.clamp(start, line_end));
        let count = |part: &str| u32::try_from(part.chars().count()).unwrap_or(u32::MAX);
        let newlines = text[..start].bytes().filter(|byte| *byte == b'\n').count();
        Self {
            file: file.into(),
            line: u32::try_from(newlines)
                .unwrap_or(u32::MAX)
                .saturating_add(1),
            column: count(&text[line_start..start]).saturating_add(1),
            width: count(text[start..end].trim_end()).max(1),
            source_line: text[line_start..line_end].trim_end_matches('\r').to_owned(),
        }
    }

    /// The source line as it is shown (control characters blanked, a long line cut) with
    /// the column at which the underline begins, from 0.
    fn frame(&self) -> (String, usize, usize) {
        let column = self.column.saturating_sub(1) as usize;
        let total = self.source_line.chars().count();
        let skipped = if total > FRAME_WIDTH && column > FRAME_WIDTH / 2 {
            column - FRAME_WIDTH / 2
        } else {
            0
        };
        let shown: String = self
            .source_line
            .chars()
            .skip(skipped)
            .take(FRAME_WIDTH)
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        let at = column - skipped;
        let room = shown.chars().count().saturating_sub(at).max(1);
        (shown, at, (self.width as usize).min(room))
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.severity, printable(&self.message))?;
        let gutter = self
            .location
            .as_ref()
            .map_or(1, |location| location.line.to_string().len());
        if let Some(location) = &self.location {
            let (shown, at, width) = location.frame();
            let Location {
                file, line, column, ..
            } = location;
            let file = file.to_string_lossy();
            let file = printable(&file);
            write!(f, "\n{:gutter$}--> {file}:{line}:{column}", "")?;
            write!(f, "\n{:gutter$} |", "")?;
            write!(f, "\n{line} | {}", shown.trim_end())?;
            write!(f, "\n{:gutter$} | {:at$}{:^<width$}", "", "", "")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n{:gutter$} = help: {}", "", printable(hint))?;
        }
        Ok(())
    }
}

/// A text of a stranger's project without what could steer a terminal.
fn printable(text: &str) -> Cow<'_, str> {
    let steers = |c: char| c.is_control() && c != '\n';
    if text.contains(steers) {
        Cow::Owned(text.replace(steers, "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str, start: usize, end: usize) -> (u32, u32, u32, String) {
        let location = Location::in_text("f", text, start, end);
        (
            location.line,
            location.column,
            location.width,
            location.source_line,
        )
    }

    #[test]
    fn a_place_is_counted_in_characters_from_one() {
        let text = "a\r\n日本 = x\nlast";
        assert_eq!(place(text, 0, 1), (1, 1, 1, "a".to_owned()));
        assert_eq!(place(text, 3, 9), (2, 1, 2, "日本 = x".to_owned()));
        assert_eq!(place(text, 12, 13), (2, 6, 1, "日本 = x".to_owned()));
        // Past the end of its line, or of the text, it is cut.
        assert_eq!(place(text, 12, 99), (2, 6, 1, "日本 = x".to_owned()));
        assert_eq!(place(text, 99, 99), (3, 5, 1, "last".to_owned()));
        // Inside a character: that character.
        assert_eq!(place(text, 4, 5), (2, 1, 1, "日本 = x".to_owned()));
        assert_eq!(place("", 0, 0), (1, 1, 1, String::new()));
    }

    #[test]
    fn a_frame_without_a_place_is_message_and_hint() {
        let shown = Diagnostic::error("no").with_hint("yes").to_string();
        assert_eq!(shown, "error: no\n  = help: yes");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let location = Location::in_text("f", "a\u{1b}[31m = 1", 0, 1);
        let shown = Diagnostic::warning("unknown \u{1b}[31m")
            .with_hint("no \u{9b}")
            .at(location)
            .to_string();
        assert!(!shown.contains('\u{9b}'), "{shown:?}");
        assert!(!shown.contains('\u{1b}'), "{shown:?}");
    }
}
