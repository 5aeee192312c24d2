//! One connection to a database and the execution of a request's statements on it.
//!
//! A connection belongs either to the writer or to a reader. Both compile a user's SQL
//! under the same authorizer and limits; our own statements (`BEGIN`, `PRAGMA
//! page_count`) run with the authorizer told to stand aside.

mod rows;
mod script;

use std::ffi::{CString, c_int};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use engawa_model::limits;
use rusqlite::ffi as sqlite;

use self::rows::{InsertExtras, RowCounter, Updates, starts_with_insert};
use super::authorize::{self, Facts, TRANSACTION_DENIED};
use super::errors::SqlError;
use super::ffi::{Column, Db, Statement, Wal};
use super::json::Rows;
use super::{D1Format, D1Limits, D1Meta, D1Result, D1Statement, D1Value};
use crate::Error;

pub(super) use self::script::ScriptCounts;

/// Compiled statements that a connection keeps, the least recently used one goes.
const KEPT_STATEMENTS: usize = 32;
/// A longer text is compiled each time.
const KEPT_SQL_BYTES: usize = 4096;
/// [`limits::D1_SQL_BYTES`] as a length.
const SQL_BYTES: usize = limits::D1_SQL_BYTES.cast_unsigned() as usize;
/// Virtual machine steps between two looks at the clock: some 10 µs.
const PROGRESS_STEPS: c_int = 1000;
/// A `-wal` that grew past this behind a long read is cut when it starts anew.
const WAL_LIMIT_BYTES: u32 = 64 * 1024 * 1024;

/// Who uses a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Writer,
    Reader,
}

/// A connection, ready for requests.
pub(super) struct Connection {
    // Before `db`, though the order would not matter (see `ffi`).
    kept: Vec<Kept>,
    begin: Statement,
    commit: Statement,
    rollback: Statement,
    page_count: Statement,
    freelist_count: Statement,
    page_size: i64,
    pub(super) db: Db,
    pub(super) control: Arc<Control>,
    role: Role,
    limits: D1Limits,
    /// The schema changed since the weights of tables were read.
    schema_changed: bool,
    /// The request at hand changed the schema.
    request_changed_schema: bool,
    /// A pragma of the request at hand may have changed the connection.
    pragma_used: bool,
}

/// See [`Control::tick`].
pub(super) type Tick = Box<dyn FnMut(&Wal<'_>) + Send>;

/// What the hooks of a connection share with it.
pub(super) struct Control {
    /// Our own statement is being compiled.
    trusted: AtomicBool,
    facts: Mutex<Facts>,
    rows: Mutex<RowCounter>,
    deadline: Mutex<Option<Instant>>,
    timed_out: AtomicBool,
    /// Called now and then while a statement runs.
    pub(super) tick: Mutex<Option<Tick>>,
}

struct Kept {
    sql: Box<str>,
    statement: Prepared,
}

struct Prepared {
    statement: Statement,
    facts: Facts,
    /// Of an INSERT.
    extras: InsertExtras,
    /// What it sets with UPDATE, also in triggers.
    updates: Updates,
}

/// Why a request was not executed here.
#[derive(Debug)]
pub(super) enum Failure {
    Sql(SqlError),
    /// On a reader: it writes, or needs the writer's connection.
    NeedsWriter,
    /// Not SQL failed, but something around it.
    Own(Error),
}

impl From<SqlError> for Failure {
    fn from(error: SqlError) -> Self {
        Self::Sql(error)
    }
}

impl Connection {
    /// Opens a connection; the writer's creates the file if need be.
    pub(super) fn open(path: &Path, role: Role, limits: &D1Limits) -> Result<Self, SqlError> {
        let flags = match role {
            Role::Writer => sqlite::SQLITE_OPEN_READWRITE | sqlite::SQLITE_OPEN_CREATE,
            Role::Reader => sqlite::SQLITE_OPEN_READWRITE,
        };
        let mut db = Db::open(path, flags | sqlite::SQLITE_OPEN_NOMUTEX)?;
        // Nobody else writes; a checkpoint or a recovery of this process is over soon.
        db.busy_timeout(10_000);
        let control = Arc::new(Control::new());
        if role == Role::Writer {
            let (statement, _) = db.prepare("PRAGMA journal_mode = WAL", false)?;
            let mut is_wal = false;
            if let Some(mut statement) = statement {
                is_wal = statement.step()? && statement.column(0) == Column::Text(b"wal");
            }
            if !is_wal {
                let text = "the file system cannot hold a write-ahead log (shared memory)";
                return Err(SqlError::plain(text));
            }
        }
        for pragma in [
            "PRAGMA synchronous = NORMAL",
            "PRAGMA wal_autocheckpoint = 0",
            "PRAGMA foreign_keys = ON",
            "PRAGMA temp_store = MEMORY",
        ] {
            db.pragma(pragma)?;
        }
        db.pragma(&format!("PRAGMA journal_size_limit = {WAL_LIMIT_BYTES}"))?;
        let page_size = db.pragma("PRAGMA page_size")?.unwrap_or(4096);
        let pages = (limits.database_bytes / page_size.cast_unsigned()).max(1);
        db.pragma(&format!("PRAGMA max_page_count = {pages}"))?;
        db.configure(sqlite::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        db.configure(sqlite::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        for (limit, value) in [
            (sqlite::SQLITE_LIMIT_LENGTH, limits::D1_VALUE_BYTES),
            (sqlite::SQLITE_LIMIT_SQL_LENGTH, limits::D1_SQL_BYTES),
            (sqlite::SQLITE_LIMIT_COLUMN, limits::D1_COLUMNS),
            (sqlite::SQLITE_LIMIT_EXPR_DEPTH, 100),
            (sqlite::SQLITE_LIMIT_COMPOUND_SELECT, 5),
            (sqlite::SQLITE_LIMIT_VDBE_OP, 25_000),
            (sqlite::SQLITE_LIMIT_FUNCTION_ARG, 127),
            (sqlite::SQLITE_LIMIT_ATTACHED, 0),
            (sqlite::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 50),
            (sqlite::SQLITE_LIMIT_VARIABLE_NUMBER, limits::D1_PARAMETERS),
            (sqlite::SQLITE_LIMIT_TRIGGER_DEPTH, 10),
            (sqlite::SQLITE_LIMIT_WORKER_THREADS, 0),
        ] {
            db.set_limit(limit, value);
        }
        if role == Role::Reader {
            db.pragma("PRAGMA query_only = ON")?;
        }
        let hook = Arc::clone(&control);
        db.set_authorizer(Box::new(move |action, first, second, schema| {
            if hook.trusted.load(Ordering::Relaxed) {
                return true;
            }
            if let (sqlite::SQLITE_UPDATE, Some(table), Some(column)) = (action, first, second) {
                lock(&hook.rows).note_update(table, column);
            }
            authorize::is_allowed(&mut lock(&hook.facts), action, first, second, schema)
        }))?;
        let hook = Arc::clone(&control);
        db.set_progress(PROGRESS_STEPS, Box::new(move |wal| hook.on_progress(wal)));
        if role == Role::Writer {
            let hook = Arc::clone(&control);
            db.set_row_hook(Box::new(move |change, table| {
                lock(&hook.rows).count(change, table);
            }));
        }
        let trusted = Trusted::new(&control);
        let prepare = |sql| {
            let (statement, _) = db.prepare(sql, true)?;
            statement.ok_or_else(|| SqlError::plain("not a statement"))
        };
        let connection = Self {
            begin: prepare("BEGIN")?,
            commit: prepare("COMMIT")?,
            rollback: prepare("ROLLBACK")?,
            page_count: prepare("PRAGMA page_count")?,
            freelist_count: prepare("PRAGMA freelist_count")?,
            kept: Vec::new(),
            page_size,
            role,
            limits: limits.clone(),
            schema_changed: true,
            request_changed_schema: false,
            pragma_used: false,
            control: Arc::clone(&control),
            db,
        };
        drop(trusted);
        Ok(connection)
    }

    /// From here on statements are interrupted when `deadline` has passed.
    pub(super) fn set_deadline(&self, deadline: Option<Instant>) {
        *lock(&self.control.deadline) = deadline;
        self.control.timed_out.store(false, Ordering::Relaxed);
    }

    /// Executes a request's statements in order. On a reader without side effects. With
    /// `each` a text gives as many results as it has statements.
    pub(super) fn run(
        &mut self,
        statements: &[D1Statement],
        format: D1Format,
        each: bool,
    ) -> Result<Vec<D1Result>, Failure> {
        let mut results = Vec::with_capacity(statements.len());
        let mut budget = self.limits.result_bytes;
        for statement in statements {
            if each {
                self.run_each(statement, format, &mut budget, &mut results)?;
                continue;
            }
            let result = self.run_one(statement, format, budget)?;
            budget = budget.saturating_sub(result.results_json.len());
            results.push(result);
        }
        Ok(results)
    }

    /// The statements of a text, one by one. SQLite says where each ends, so triggers,
    /// comments and strings may hold semicolons; a text may be longer than a statement.
    fn run_each(
        &mut self,
        query: &D1Statement,
        format: D1Format,
        budget: &mut usize,
        results: &mut Vec<D1Result>,
    ) -> Result<(), Failure> {
        let text = CString::new(query.sql.as_str())
            .map_err(|_| SqlError::plain("the SQL text contains a zero byte"))?;
        let (mut position, first) = (0, results.len());
        loop {
            *lock(&self.control.facts) = Facts::default();
            let (statement, used) = self
                .db
                .prepare_next(&text.as_c_str()[position..])
                .map_err(|error| self.explain(error))?;
            let sql = &query.sql[position..position + used];
            position += used;
            let Some(statement) = statement else {
                if position < query.sql.len() && used > 0 {
                    continue;
                }
                if results.len() == first {
                    return Err(SqlError::plain("No SQL statements detected.").into());
                }
                return Ok(());
            };
            let takes_params = statement.parameter_count() > 0;
            drop(statement);
            let is_last = super::first_word(&query.sql[position..]).is_empty();
            if takes_params && !is_last {
                return Err(SqlError::plain(
                    "When executing multiple SQL statements in a single call, only the last \
                     statement can have parameters.",
                )
                .into());
            }
            let params = if is_last {
                query.params.clone()
            } else {
                Vec::new()
            };
            let one = D1Statement::with(sql, params);
            let result = self.run_one(&one, format, *budget)?;
            *budget = budget.saturating_sub(result.results_json.len());
            results.push(result);
        }
    }

    /// One element of a request: all statements of its text, with the result of the last.
    fn run_one(
        &mut self,
        query: &D1Statement,
        format: D1Format,
        budget: usize,
    ) -> Result<D1Result, Failure> {
        let started = Instant::now();
        let changes_before = self.db.total_changes();
        let rowid_before = self.db.last_insert_rowid();
        let size_before = match self.role {
            Role::Writer => self.size_bytes()?,
            Role::Reader => 0,
        };
        let mut rest = query.sql.as_str();
        let mut is_single = true;
        let mut prepared = loop {
            let (prepared, used) = self.take(rest)?;
            let Some(mut prepared) = prepared else {
                // workerd: also for a comment after the last semicolon.
                return Err(SqlError::plain("SQL code did not contain a statement.").into());
            };
            self.guard(&prepared)?;
            rest = skip_blanks(&rest[used..]);
            if rest.is_empty() {
                break prepared;
            }
            if prepared.statement.parameter_count() > 0 {
                return Err(SqlError::plain(
                    "When executing multiple SQL statements in a single call, only the last \
                     statement can have parameters.",
                )
                .into());
            }
            // workerd steps once: enough for everything that has an effect.
            is_single = false;
            let stepped = prepared.statement.step();
            self.explain_timeout(stepped)?;
            self.after(prepared.facts)?;
        };
        let schema_before = self.schema_version_if(prepared.facts)?;
        let results_json = self.run_last(&mut prepared, &query.params, format, budget);
        let (read, written) = self.rows(&mut prepared, results_json.as_ref().ok(), schema_before);
        prepared.statement.reset();
        let facts = prepared.facts;
        if is_single {
            self.keep(&query.sql, prepared);
        }
        let (results_json, _, _) = results_json?;
        self.after(facts)?;
        let changes = self.db.total_changes() - changes_before;
        let last_row_id = self.db.last_insert_rowid();
        let size_after = match self.role {
            Role::Writer => self.size_bytes()?,
            Role::Reader => 0,
        };
        Ok(D1Result {
            results_json: results_json.into(),
            meta: D1Meta {
                duration_ms: started.elapsed().as_secs_f64() * 1000.0,
                changes: changes.cast_unsigned(),
                last_row_id,
                changed_db: changes != 0
                    || last_row_id != rowid_before
                    || size_after != size_before,
                size_after_bytes: size_after,
                rows_read: read,
                rows_written: written,
            },
        })
    }

    /// Binds, steps to the end and collects. Gives the text, the number of rows, and what
    /// the first row has in its first column if that is a number.
    fn run_last(
        &mut self,
        prepared: &mut Prepared,
        params: &[D1Value],
        format: D1Format,
        budget: usize,
    ) -> Result<(Vec<u8>, u64, Option<u64>), SqlError> {
        let statement = &mut prepared.statement;
        if statement.parameter_count() != params.len() {
            return Err(SqlError::plain(
                "Wrong number of parameter bindings for SQL query.",
            ));
        }
        for (index, value) in params.iter().enumerate() {
            statement.bind(index, value.as_column())?;
        }
        if self.role == Role::Writer {
            lock(&self.control.rows).begin(&prepared.updates);
        }
        let mut has_row = self.explain_timeout(statement.step())?;
        // After the first step, since that may compile the statement anew.
        let mut rows = Rows::new(format, statement);
        let (mut count, mut first) = (0, None);
        while has_row {
            if count == 0
                && let Column::Integer(number) = statement.column(0)
            {
                first = u64::try_from(number).ok();
            }
            count += 1;
            rows.push(statement);
            if rows.len_bytes() > budget {
                return Err(SqlError::plain(
                    "D1 DB's isolate exceeded its memory limit and was reset.",
                ));
            }
            has_row = self.explain_timeout(statement.step())?;
        }
        Ok((rows.finish(), count, first))
    }

    /// Refuses on a reader what is for the writer.
    fn guard(&mut self, prepared: &Prepared) -> Result<(), Failure> {
        self.pragma_used |= prepared.facts.pragma;
        if self.role == Role::Writer {
            return Ok(());
        }
        if !prepared.statement.is_readonly() || prepared.facts.connection_state {
            return Err(Failure::NeedsWriter);
        }
        Ok(())
    }

    /// What is to be checked once a statement has run.
    fn after(&mut self, facts: Facts) -> Result<(), Failure> {
        if !facts.schema {
            return Ok(());
        }
        self.schema_changed = true;
        self.request_changed_schema = true;
        self.kept.clear();
        if facts.alters {
            // The authorizer of stock SQLite is not told the new name.
            let _trusted = Trusted::new(&self.control);
            let reserved = self.db.pragma(
                "SELECT 1 FROM sqlite_schema WHERE lower(substr(name, 1, 4)) = '_cf_' LIMIT 1",
            )?;
            if reserved.is_some() {
                return Err(SqlError::new(sqlite::SQLITE_AUTH, "not authorized").into());
            }
        }
        Ok(())
    }

    /// Compiles the first statement of a text, or takes it from those that were kept.
    fn take(&mut self, sql: &str) -> Result<(Option<Prepared>, usize), SqlError> {
        // Also for a kept statement: SQLite may compile it anew when it runs.
        *lock(&self.control.facts) = Facts::default();
        lock(&self.control.rows).take_updates();
        if let Some(place) = self.kept.iter().position(|kept| *kept.sql == *sql) {
            return Ok((Some(self.kept.remove(place).statement), sql.len()));
        }
        if sql.len() > SQL_BYTES {
            // SQLite says so too, but with the offset of an earlier error.
            return Err(SqlError::new(sqlite::SQLITE_TOOBIG, "statement too long"));
        }
        let (statement, used) = self
            .db
            .prepare(sql, sql.len() <= KEPT_SQL_BYTES)
            .map_err(|error| self.explain(error))?;
        let facts = *lock(&self.control.facts);
        let Some(statement) = statement else {
            return Ok((None, used));
        };
        let mut prepared = Prepared {
            statement,
            facts,
            extras: InsertExtras::default(),
            updates: lock(&self.control.rows).take_updates(),
        };
        if self.role == Role::Writer && facts.inserts && starts_with_insert(sql) {
            prepared.extras = self.insert_extras(&sql[..used]);
        }
        if self.schema_changed && !prepared.statement.is_readonly() {
            self.read_weights()?;
        }
        Ok((Some(prepared), used))
    }

    /// Keeps a statement for the next request with the same text.
    fn keep(&mut self, sql: &str, prepared: Prepared) {
        if prepared.facts.pragma || prepared.facts.schema || sql.len() > KEPT_SQL_BYTES {
            return;
        }
        if self.kept.len() >= KEPT_STATEMENTS {
            self.kept.remove(0);
        }
        self.kept.push(Kept {
            sql: sql.into(),
            statement: prepared,
        });
    }

    /// While the result lives, what is compiled on this connection is ours.
    pub(super) fn trust(&self) -> Trusted {
        Trusted::new(&self.control)
    }

    pub(super) fn begin(&mut self) -> Result<(), SqlError> {
        Self::run_own(&self.control, &mut self.begin)
    }

    pub(super) fn commit(&mut self) -> Result<(), SqlError> {
        Self::run_own(&self.control, &mut self.commit)
    }

    /// Undoes the transaction, unless SQLite did.
    pub(super) fn rollback(&mut self) -> Result<(), SqlError> {
        if self.request_changed_schema {
            // What was created is gone, so nothing known about tables holds.
            self.schema_changed = true;
            self.kept.clear();
        }
        if self.db.is_autocommit() {
            return Ok(());
        }
        Self::run_own(&self.control, &mut self.rollback)
    }

    fn run_own(control: &Arc<Control>, statement: &mut Statement) -> Result<(), SqlError> {
        let _trusted = Trusted::new(control);
        let outcome = statement.step();
        statement.reset();
        outcome.map(|_| ())
    }

    /// After a request: no pragma of it stays in force (docs: d1 sql statements).
    pub(super) fn finish_request(&mut self) -> Result<(), SqlError> {
        self.set_deadline(None);
        self.request_changed_schema = false;
        if !std::mem::replace(&mut self.pragma_used, false) {
            return Ok(());
        }
        let _trusted = Trusted::new(&self.control);
        for pragma in [
            "PRAGMA foreign_keys = ON",
            "PRAGMA defer_foreign_keys = OFF",
            "PRAGMA case_sensitive_like = OFF",
            "PRAGMA ignore_check_constraints = OFF",
            "PRAGMA legacy_alter_table = OFF",
            "PRAGMA recursive_triggers = OFF",
            "PRAGMA reverse_unordered_selects = OFF",
            "PRAGMA temp_store = MEMORY",
        ] {
            self.db.pragma(pragma)?;
        }
        Ok(())
    }

    /// The length of a page.
    pub(super) fn page_bytes(&self) -> u32 {
        u32::try_from(self.page_size).unwrap_or(4096)
    }

    /// Something else than a statement changed all of the database: what is known of
    /// tables is void, and SQLite tells its hook of the commit.
    pub(super) fn content_replaced(&mut self) -> Result<(), SqlError> {
        self.schema_changed = true;
        self.kept.clear();
        let _trusted = Trusted::new(&self.control);
        self.db.pragma("PRAGMA page_count").map(|_| ())
    }

    /// Pages in use, in bytes.
    pub(super) fn size_bytes(&mut self) -> Result<u64, SqlError> {
        let _trusted = Trusted::new(&self.control);
        let pages = read_number(&mut self.page_count)?;
        let free = read_number(&mut self.freelist_count)?;
        Ok(((pages - free) * self.page_size).max(0).cast_unsigned())
    }

    fn explain_timeout<T>(&self, outcome: Result<T, SqlError>) -> Result<T, SqlError> {
        outcome.map_err(|error| self.explain(error))
    }

    /// D1's own words where it has some.
    fn explain(&self, error: SqlError) -> SqlError {
        match error.code {
            sqlite::SQLITE_AUTH if lock(&self.control.facts).transaction => {
                SqlError::plain(TRANSACTION_DENIED)
            }
            sqlite::SQLITE_INTERRUPT if self.control.timed_out.load(Ordering::Relaxed) => {
                SqlError::plain(
                    "D1 DB storage operation exceeded timeout which caused object to be reset.",
                )
            }
            // Where no transaction is open it is refused for its ATTACH.
            sqlite::SQLITE_ERROR if error.message.starts_with("cannot VACUUM") => {
                SqlError::new(sqlite::SQLITE_AUTH, "not authorized")
            }
            _ => error,
        }
    }
}

impl Control {
    fn new() -> Self {
        Self {
            trusted: AtomicBool::new(false),
            facts: Mutex::default(),
            rows: Mutex::default(),
            deadline: Mutex::new(None),
            timed_out: AtomicBool::new(false),
            tick: Mutex::new(None),
        }
    }

    fn on_progress(&self, wal: &Wal<'_>) -> bool {
        if let Some(tick) = lock(&self.tick).as_mut() {
            tick(wal);
        }
        let over = lock(&self.deadline).is_some_and(|deadline| Instant::now() >= deadline);
        if over {
            self.timed_out.store(true, Ordering::Relaxed);
        }
        over
    }
}

/// While it lives, what is compiled is ours.
pub(super) struct Trusted {
    control: Arc<Control>,
    before: bool,
}

impl Trusted {
    fn new(control: &Arc<Control>) -> Self {
        Self {
            before: control.trusted.swap(true, Ordering::Relaxed),
            control: Arc::clone(control),
        }
    }
}

impl Drop for Trusted {
    fn drop(&mut self) {
        self.control.trusted.store(self.before, Ordering::Relaxed);
    }
}

impl D1Value {
    fn as_column(&self) -> Column<'_> {
        match self {
            Self::Null => Column::Null,
            Self::Integer(number) => Column::Integer(*number),
            Self::Real(number) => Column::Real(*number),
            Self::Text(text) => Column::Text(text.as_bytes()),
            Self::Blob(bytes) => Column::Blob(bytes),
        }
    }
}

fn read_number(statement: &mut Statement) -> Result<i64, SqlError> {
    let has_row = statement.step()?;
    let number = match statement.column(0) {
        Column::Integer(number) if has_row => number,
        _ => 0,
    };
    statement.reset();
    Ok(number)
}

/// workerd skips these between statements.
fn skip_blanks(sql: &str) -> &str {
    sql.trim_start_matches([' ', '\t', '\n', '\r', '\u{b}', '\u{c}'])
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
