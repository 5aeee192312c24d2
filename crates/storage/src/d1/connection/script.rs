//! Executing a file of SQL in constant memory (`d1 execute --file`).
//!
//! A window slides over the file. Where a statement ends is for SQLite to say, so nothing
//! here has to know triggers, `CASE … END` or strings: the window's beginning is compiled,
//! and if SQLite stopped before the window's end, it saw a whole statement. If it reached
//! the end, or found an error, the window may have cut the statement, so it is made longer
//! and compiled anew; an error counts once the statement is longer than one may be, or the
//! file is at its end.
//!
//! The caller has a transaction open and commits or undoes it. Two things of SQLite's own
//! dumps are taken, as wrangler and D1 take them:
//! - `BEGIN TRANSACTION;` and `COMMIT;`, once, are skipped;
//! - `PRAGMA foreign_keys = …` at the beginning acts (within a transaction SQLite ignores
//!   it), so that a dump may list children before parents.

use std::ffi::CString;

use engawa_model::ErrorKind;
use rusqlite::ffi as sqlite;

use super::{
    Connection, Facts, Failure, InsertExtras, Prepared, SqlError, Statement, limits, lock,
};
use crate::d1::{D1Job, lexer};
use crate::{Error, Scratch};

/// A statement of a file. An export writes a row as one statement, and a row of 2 MB is
/// twice as long in hex, with its columns' names before it (docs: 100 KB; see
/// compatibility.md).
const STATEMENT_BYTES: usize = 8 * 1024 * 1024;

/// What the statements of a file did.
#[derive(Debug, Default)]
pub(in crate::d1) struct ScriptCounts {
    pub(in crate::d1) statements: u64,
    pub(in crate::d1) rows_read: u64,
    pub(in crate::d1) rows_written: u64,
}

impl Connection {
    /// Executes every statement of a file within the open transaction.
    pub(in crate::d1) fn run_script(
        &mut self,
        script: &Scratch,
        job: &D1Job,
    ) -> Result<ScriptCounts, Failure> {
        self.spill_to_files()?;
        let length = i32::try_from(STATEMENT_BYTES).unwrap_or(i32::MAX);
        self.db.set_limit(sqlite::SQLITE_LIMIT_SQL_LENGTH, length);
        let outcome = self.run_window(&mut Window::new(script, self.limits.script_read_bytes), job);
        self.db
            .set_limit(sqlite::SQLITE_LIMIT_SQL_LENGTH, limits::D1_SQL_BYTES);
        outcome
    }

    /// Makes sorts of the open transaction, which has done nothing yet, use files instead
    /// of memory, until the request ends.
    pub(in crate::d1) fn spill_to_files(&mut self) -> Result<(), SqlError> {
        self.pragma_used = true;
        self.rollback()?;
        {
            let _trusted = self.trust();
            self.db.pragma("PRAGMA temp_store = FILE")?;
        }
        self.begin()
    }

    fn run_window(
        &mut self,
        window: &mut Window<'_>,
        job: &D1Job,
    ) -> Result<ScriptCounts, Failure> {
        let mut counts = ScriptCounts::default();
        let mut wrapped = Wrapped::default();
        // Whether nothing but pragmas ran so far.
        let mut untouched = true;
        while window.skip_blanks()? {
            job.report(window.position_bytes())?;
            if wrapped.take(window)? {
                continue;
            }
            let (statement, used, facts) = self.compile_next(window)?;
            let text = &window.rest().to_bytes()[..used];
            if std::str::from_utf8(text).is_err() {
                return Err(SqlError::plain("the SQL text is not UTF-8").into());
            }
            let Some(mut statement) = statement else {
                // A semicolon alone.
                window.advance(used);
                continue;
            };
            self.pragma_used |= facts.pragma;
            if facts.foreign_keys && untouched {
                drop(statement);
                self.rollback()?;
                statement = match self.db.prepare_next(window.rest())? {
                    (Some(statement), _) => statement,
                    (None, _) => return Err(SqlError::plain("not a statement").into()),
                };
                self.run_scripted(statement, facts, &mut counts)?;
                self.begin()?;
            } else {
                untouched &= facts.pragma;
                self.run_scripted(statement, facts, &mut counts)?;
            }
            window.advance(used);
        }
        job.report(window.position_bytes())?;
        Ok(counts)
    }

    /// Compiles the statement at the window's beginning, and makes the window long enough
    /// for it.
    fn compile_next(
        &mut self,
        window: &mut Window<'_>,
    ) -> Result<(Option<Statement>, usize, Facts), Failure> {
        loop {
            *lock(&self.control.facts) = Facts::default();
            lock(&self.control.rows).take_updates();
            let rest = window.rest();
            let visible = rest.to_bytes().len();
            let compiled = self.db.prepare_next(rest);
            match compiled {
                Ok((statement, used)) if used < visible || window.sees_the_end() => {
                    return Ok((statement, used, *lock(&self.control.facts)));
                }
                _ if visible <= STATEMENT_BYTES && !window.sees_the_end() => window.grow()?,
                Ok(_) => {
                    return Err(SqlError::new(sqlite::SQLITE_TOOBIG, "statement too long").into());
                }
                Err(error) => return Err(self.explain(error).into()),
            }
        }
    }

    fn run_scripted(
        &mut self,
        statement: Statement,
        facts: Facts,
        counts: &mut ScriptCounts,
    ) -> Result<(), Failure> {
        if self.schema_changed && !statement.is_readonly() {
            self.read_weights()?;
        }
        let updates = lock(&self.control.rows).take_updates();
        lock(&self.control.rows).begin(&updates);
        let mut prepared = Prepared {
            statement,
            facts,
            extras: InsertExtras::default(),
            updates,
        };
        if prepared.statement.parameter_count() > 0 {
            let text = "Wrong number of parameter bindings for SQL query.";
            return Err(SqlError::plain(text).into());
        }
        let schema_before = self.schema_version_if(facts)?;
        while self.explain_timeout(prepared.statement.step())? {}
        let outcome = (Vec::new(), 0, None);
        let (read, written) = self.rows(&mut prepared, Some(&outcome), schema_before);
        counts.rows_read += read;
        counts.rows_written += written;
        counts.statements += 1;
        drop(prepared);
        self.after(facts)
    }
}

/// The transaction that SQLite's `.dump` writes around its statements.
#[derive(Default)]
struct Wrapped {
    begun: bool,
    committed: bool,
}

impl Wrapped {
    const BEGIN: &[u8] = b"BEGIN TRANSACTION;";
    const COMMIT: &[u8] = b"COMMIT;";

    /// Skips its statements. wrangler: `trimmer.ts`.
    fn take(&mut self, window: &mut Window<'_>) -> Result<bool, Failure> {
        window.see(Self::BEGIN.len())?;
        let rest = window.rest().to_bytes();
        if rest.starts_with(Self::BEGIN) {
            if self.begun {
                let text = "The SQL text contains several transactions. D1 runs your SQL in a \
                            transaction for you: remove BEGIN TRANSACTION and COMMIT.";
                return Err(SqlError::plain(text).into());
            }
            self.begun = true;
            window.advance(Self::BEGIN.len());
            return Ok(true);
        }
        if self.begun && !self.committed && rest.starts_with(Self::COMMIT) {
            self.committed = true;
            window.advance(Self::COMMIT.len());
            return Ok(true);
        }
        Ok(false)
    }
}

/// A part of a file, with a zero byte behind it.
struct Window<'a> {
    script: &'a Scratch,
    text: CString,
    /// What of `text` is done with.
    position: usize,
    /// Where in the file `text` ends.
    end_bytes: u64,
    /// What is read at once.
    read_bytes: usize,
}

impl<'a> Window<'a> {
    fn new(script: &'a Scratch, read_bytes: usize) -> Self {
        Self {
            script,
            text: CString::default(),
            position: 0,
            end_bytes: 0,
            read_bytes,
        }
    }

    /// What is still to be executed, as far as it was read.
    fn rest(&self) -> &std::ffi::CStr {
        &self.text.as_c_str()[self.position..]
    }

    fn advance(&mut self, bytes: usize) {
        self.position += bytes;
    }

    /// Whether the window reaches to the end of the file.
    fn sees_the_end(&self) -> bool {
        self.end_bytes >= self.script.len_bytes()
    }

    /// How much of the file is done with.
    fn position_bytes(&self) -> u64 {
        self.end_bytes - self.rest().to_bytes().len() as u64
    }

    /// Steps over blanks and comments. `false`: nothing else is left.
    fn skip_blanks(&mut self) -> Result<bool, Failure> {
        loop {
            let rest = self.rest().to_bytes();
            let (blank, cut) = lexer::skip_blanks(rest);
            let has_more = blank < rest.len();
            // The two signs that begin a comment may lie on both sides of the end.
            let may_begin = has_more && rest.len() - blank < 2;
            if (has_more && !may_begin) || self.sees_the_end() {
                self.position += blank;
                return Ok(has_more);
            }
            if cut {
                // A comment may be longer than any window: only its signs are kept.
                self.cut_comment(blank)?;
            } else {
                self.position += blank;
                self.grow()?;
            }
        }
    }

    /// The rest begins with blanks and comments, `length` bytes to its end, of which the
    /// last is a comment that goes on.
    fn cut_comment(&mut self, length: usize) -> Result<(), Failure> {
        let rest = self.rest().to_bytes();
        debug_assert_eq!(rest.len(), length, "it reaches to the end");
        let mut start = 0;
        while let (_, piece, true) = lexer::next(&rest[start..]) {
            start += piece;
        }
        self.position += start;
        if length - start > self.read_bytes.max(8) {
            // `--` or `/*` before, and a last sign that may be half of `*/`, are enough.
            let rest = self.rest().to_bytes();
            let mut kept = rest[..2].to_vec();
            kept.push(b' ');
            kept.extend(&rest[rest.len() - 1..]);
            self.text = CString::new(kept).map_err(|_| zero_byte())?;
            self.position = 0;
        }
        self.grow()
    }

    /// Sees at least so many bytes, if there are any.
    fn see(&mut self, bytes: usize) -> Result<(), Failure> {
        while self.rest().to_bytes().len() < bytes && !self.sees_the_end() {
            self.grow()?;
        }
        Ok(())
    }

    /// Reads on. What is done with goes.
    fn grow(&mut self) -> Result<(), Failure> {
        let mut bytes = std::mem::take(&mut self.text).into_bytes();
        bytes.drain(..self.position);
        self.position = 0;
        // Doubling: a long statement is not compiled more than a few times.
        let more = bytes.len().max(self.read_bytes);
        let read = self
            .script
            .read_at(self.end_bytes, more)
            .map_err(Failure::Own)?;
        self.end_bytes += read.len() as u64;
        bytes.extend(read);
        self.text = CString::new(bytes).map_err(|_| zero_byte())?;
        Ok(())
    }
}

fn zero_byte() -> Failure {
    SqlError::plain("the SQL text contains a zero byte").into()
}

impl D1Job {
    /// Notes how far the work is; ends it if nobody wants it any more.
    pub(in crate::d1) fn report(&self, done_bytes: u64) -> Result<(), Failure> {
        use std::sync::atomic::Ordering::Relaxed;
        self.done_bytes.store(done_bytes, Relaxed);
        if self.given_up.load(Relaxed) {
            let text = "it was given up before it was complete, and has changed nothing";
            return Err(Failure::Own(Error::new(ErrorKind::Unavailable, text)));
        }
        Ok(())
    }
}
