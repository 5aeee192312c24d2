//! D1: one SQLite file for each database, with nothing of ours inside.
//!
//! A call of [`D1::query`] is one request of a binding or of the REST API, and one
//! transaction. What it does is told in the parts:
//!
//! - [`file`]: a database as an entry of the thread pool, grouped commits, reads that wait
//!   for durability, checkpoints;
//! - [`connection`]: executing statements, limits, counting rows;
//! - [`authorize`]: what SQL may do; [`errors`]: how its errors read;
//! - [`journal`]: every commit, kept for Time Travel ([`time_travel`]);
//! - [`json`]: results as text; [`bookmark`]: sessions;
//! - [`export`] (with [`vtab`]): a database as SQL; `connection::script`: SQL of a file,
//!   executed; [`lexer`]: where comments and strings end, for both;
//! - [`ffi`]: all unsafe code.
//!
//! Rules come from workerd (`util/sqlite.c++`, `internal/d1-api.ts`), miniflare
//! (`workers/d1/`) and the docs; `storage.md` section 2 and `workerd.md` section 4 gather
//! them. What differs on purpose: values are limited to the 2,000,000 bytes of the docs
//! (workerd: 4 MiB), integers beyond 2^53 keep their digits on the way out, and
//! `DELETE … LIMIT` is a syntax error (the bundled SQLite is an amalgamation).

mod authorize;
mod bookmark;
mod connection;
mod errors;
mod export;
mod ffi;
mod file;
mod journal;
mod json;
mod lexer;
mod time_travel;
mod vtab;

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use engawa_model::{AccountId, DatabaseId, ErrorKind, Metered, Usage, UsageClass, limits};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::blobs::BlobIo;
use crate::layout::{Layout, Resource};
use crate::pool::{Files, FilesOptions, Pool, PoolOptions, Refused};
use crate::stamp::Stamps;
use crate::{Error, Scratch};

use file::{Answer, Context, D1File, Key, NextStamp, Output, Request, Work};

/// The D1 databases of a data folder. Cheap to clone.
#[derive(Clone)]
pub struct D1 {
    files: Files<D1File>,
    pool: Pool,
    context: Arc<Context>,
    jobs: Arc<Jobs>,
}

/// A statement of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct D1Statement {
    /// One statement, or several of which only the last may have parameters.
    pub sql: String,
    /// Values for `?` and `?NNN`, by position.
    pub params: Vec<D1Value>,
}

/// A parameter.
#[derive(Debug, Clone, PartialEq)]
pub enum D1Value {
    /// `null`.
    Null,
    /// A boolean, as 1 or 0. Numbers of JavaScript are [`D1Value::Real`].
    Integer(i64),
    /// A number. Columns of INTEGER or NUMERIC affinity turn whole ones into integers.
    Real(f64),
    /// A string.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

/// The form of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum D1Format {
    /// `{"columns":[…],"rows":[[…],…]}`: `ROWS_AND_COLUMNS`.
    RowsAndColumns,
    /// `[{…},…]`: `ARRAY_OF_OBJECTS`, and also `NONE`.
    #[default]
    Objects,
}

/// How to answer a request.
#[derive(Debug, Clone, Default)]
pub struct D1QueryOptions {
    /// The form of the results.
    pub format: D1Format,
    /// The value of `x-cf-d1-session-commit-token`: `first-unconstrained`,
    /// `first-primary` or a bookmark.
    pub session: Option<String>,
}

/// The answer to a request.
#[derive(Debug, Clone)]
pub struct D1Answer {
    /// One for each statement.
    pub results: Vec<D1Result>,
    /// The newest commit that the request made or could see.
    pub bookmark: String,
}

/// The result of a statement.
#[derive(Debug, Clone)]
pub struct D1Result {
    /// JSON in the form that was asked for.
    pub results_json: Bytes,
    /// What else is reported.
    pub meta: D1Meta,
}

/// The numbers that come with a result (storage.md 2.7).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct D1Meta {
    /// Time of execution, in milliseconds.
    pub duration_ms: f64,
    /// Rows changed, by triggers and foreign keys too.
    pub changes: u64,
    /// `last_insert_rowid()`.
    pub last_row_id: i64,
    /// Whether anything changed.
    pub changed_db: bool,
    /// Size of the pages in use.
    pub size_after_bytes: u64,
    /// Rows read, as billed (storage.md 2.8).
    pub rows_read: u64,
    /// Rows written, as billed.
    pub rows_written: u64,
}

/// What an import did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct D1Import {
    /// Statements executed.
    pub statements: u64,
    /// Rows read.
    pub rows_read: u64,
    /// Rows written.
    pub rows_written: u64,
    /// Rows changed, by triggers and foreign keys too.
    pub changes: u64,
    /// Size of the pages in use afterwards.
    pub size_after_bytes: u64,
    /// The commit.
    pub bookmark: String,
}

/// How far an import or export is, for whoever watches it.
#[derive(Debug, Default)]
pub struct D1Job {
    done_bytes: AtomicU64,
    /// Nobody waits for it any more.
    given_up: AtomicBool,
}

impl D1Job {
    /// Bytes of SQL text that were executed, or written.
    pub fn done_bytes(&self) -> u64 {
        self.done_bytes.load(Ordering::Relaxed)
    }
}

/// What an export contains.
#[derive(Debug, Clone, Default)]
pub struct D1ExportOptions {
    /// Rows only.
    pub no_schema: bool,
    /// Definitions only.
    pub no_data: bool,
    /// Only these tables (and indexes, triggers, views of these names); all if empty.
    pub tables: Vec<String>,
}

pub use time_travel::{D1Moment, D1Restore};

/// Bounds that a test may want smaller.
#[derive(Debug, Clone)]
struct D1Limits {
    /// A request's statements together (docs: d1 limits).
    query_time: Duration,
    /// A database (docs: d1 limits, 10 GB).
    database_bytes: u64,
    /// The JSON of a request's results.
    result_bytes: usize,
    /// What is read at once of a file to import.
    script_read_bytes: usize,
    /// How long an executed request waits for others to share its sync.
    group_time: Duration,
    /// The history.
    journal: journal::JournalLimits,
    /// Pages in a `-wal` that start a checkpoint: 4 MiB of 4 KiB pages, as in SQLite.
    checkpoint_pages: u32,
}

impl Default for D1Limits {
    fn default() -> Self {
        Self {
            query_time: Duration::from_millis(limits::D1_QUERY_MS),
            database_bytes: 10_000_000_000,
            result_bytes: 128 * 1024 * 1024,
            script_read_bytes: 256 * 1024,
            group_time: Duration::from_millis(2),
            journal: journal::JournalLimits::default(),
            checkpoint_pages: 1024,
        }
    }
}

impl D1 {
    /// Starts the threads and checks that SQLite is built as D1 needs it. Opens no database.
    pub(crate) fn open(
        layout: Arc<Layout>,
        stamps: Arc<Stamps>,
        blob_io: BlobIo,
        max_open_files: usize,
    ) -> Result<Self, Error> {
        let pool = Pool::start(PoolOptions::d1()).map_err(|error| {
            let message = format!("cannot start the threads of D1: {error}");
            Error::with_source(ErrorKind::Internal, message, error)
        })?;
        let next_stamp: NextStamp =
            Arc::new(move || stamps.next().map(|stamp| stamp.to_sql().cast_unsigned()));
        let files = FilesOptions {
            max_open: max_open_files,
            ..FilesOptions::default()
        };
        let limits = D1Limits::default();
        Self::new(pool, layout, blob_io, next_stamp, limits, files, None)
    }

    fn new(
        pool: Pool,
        layout: Arc<Layout>,
        blob_io: BlobIo,
        next_stamp: NextStamp,
        limits: D1Limits,
        files: FilesOptions,
        sync_hook: Option<file::SyncHook>,
    ) -> Result<Self, Error> {
        check_build()?;
        let context = Arc::new(Context {
            layout,
            blob_io,
            next_stamp,
            limits,
            distrusted: Mutex::new(HashSet::new()),
            snapshots: Arc::default(),
            sync_hook,
        });
        Ok(Self {
            files: Files::new(pool.clone(), Arc::clone(&context), files),
            pool,
            context,
            jobs: Arc::default(),
        })
    }

    /// Executes statements as one transaction. Any error undoes all of it.
    ///
    /// Errors of kind [`ErrorKind::Sql`] have the complete text that follows `D1_ERROR: `;
    /// a session's constraint that cannot be met is [`ErrorKind::InvalidArgument`]; too
    /// many waiting requests are [`ErrorKind::Unavailable`].
    pub async fn query(
        &self,
        account: &AccountId,
        database: &DatabaseId,
        statements: Vec<D1Statement>,
        options: D1QueryOptions,
    ) -> Result<Metered<D1Answer>, Error> {
        self.run_query(account, database, statements, options, false)
            .await
    }

    /// The same, but every statement of a text has a result of its own, and a text may be
    /// longer than a statement (REST `/query`, control-plane-api.md 6.2).
    pub async fn query_each(
        &self,
        account: &AccountId,
        database: &DatabaseId,
        statements: Vec<D1Statement>,
        options: D1QueryOptions,
    ) -> Result<Metered<D1Answer>, Error> {
        self.run_query(account, database, statements, options, true)
            .await
    }

    async fn run_query(
        &self,
        account: &AccountId,
        database: &DatabaseId,
        mut statements: Vec<D1Statement>,
        options: D1QueryOptions,
        each: bool,
    ) -> Result<Metered<D1Answer>, Error> {
        // miniflare: statements that are only comments are dropped.
        statements.retain(|statement| !first_word(&statement.sql).is_empty());
        if statements.is_empty() {
            return Err(Error::new(ErrorKind::Sql, "No SQL statements detected."));
        }
        let bytes_in = statements.iter().map(D1Statement::len_bytes).sum();
        // Only where to begin: a reader gives back what it finds to write.
        let seems_to_read = statements
            .iter()
            .all(|statement| is_reading_word(first_word(&statement.sql)));
        let work = Work::Query {
            statements,
            format: options.format,
            each,
        };
        let answer = self
            .submit(account, database, work, options.session, seems_to_read)
            .await?;
        let Output::Results(results) = answer.output else {
            return Err(unexpected());
        };
        let sum = |number: fn(&D1Result) -> u64| results.iter().map(number).sum();
        let usage = Usage {
            rows_read: sum(|result| result.meta.rows_read),
            rows_written: sum(|result| result.meta.rows_written),
            bytes_in,
            bytes_out: sum(|result| result.results_json.len() as u64),
            ..Usage::one(UsageClass::D1Query)
        };
        Ok(Metered {
            value: D1Answer {
                results,
                bookmark: answer.bookmark,
            },
            usage,
        })
    }

    /// Executes a file of any number of statements as one transaction, all or nothing
    /// (`d1 execute --file`). Statements have no parameters, and each is bound by the
    /// same limits as in a query, except for time and for its length (8 MiB). Memory does
    /// not grow with the file. If the future is dropped, the import is undone.
    ///
    /// An account's further imports and exports wait while two of them are under way, so
    /// that its queries go on.
    pub async fn import(
        &self,
        account: &AccountId,
        database: &DatabaseId,
        script: Scratch,
        job: &Arc<D1Job>,
    ) -> Result<Metered<D1Import>, Error> {
        let bytes_in = script.len_bytes();
        let _place = self.jobs.place(account, database, job).await?;
        let _giving_up = GivesUp(job);
        let job = Arc::clone(job);
        let work = Work::Import { script, job };
        let answer = self.submit(account, database, work, None, false).await?;
        let Output::Imported {
            counts,
            changes,
            size_bytes,
        } = answer.output
        else {
            return Err(unexpected());
        };
        Ok(Metered {
            value: D1Import {
                statements: counts.statements,
                rows_read: counts.rows_read,
                rows_written: counts.rows_written,
                changes,
                size_after_bytes: size_bytes,
                bookmark: answer.bookmark,
            },
            usage: Usage {
                rows_read: counts.rows_read,
                rows_written: counts.rows_written,
                bytes_in,
                ..Usage::one(UsageClass::D1Query)
            },
        })
    }

    /// The database as SQL text, as of one moment. Writes and reads go on meanwhile, and
    /// memory does not grow with the text. If the future is dropped, the export stops.
    pub async fn export(
        &self,
        account: &AccountId,
        database: &DatabaseId,
        options: D1ExportOptions,
        job: &Arc<D1Job>,
    ) -> Result<Metered<Scratch>, Error> {
        let _place = self.jobs.place(account, database, job).await?;
        let _giving_up = GivesUp(job);
        let work = Work::Export {
            options,
            account: account.clone(),
            job: Arc::clone(job),
        };
        let answer = self.submit(account, database, work, None, true).await?;
        let Output::Exported(text) = answer.output else {
            return Err(unexpected());
        };
        let usage = Usage::one(UsageClass::D1Query).with_bytes_out(text.len_bytes());
        Ok(Metered { value: text, usage })
    }

    /// The legacy `dump()`, which Cloudflare offers for alpha databases only: always an
    /// error.
    pub fn dump(&self) -> Error {
        Error::new(
            ErrorKind::InvalidArgument,
            "dump() is only for legacy alpha databases; use `engawa d1 export` instead",
        )
    }

    /// Closes a database and removes its file. Requests that wait are refused; one that
    /// comes afterwards begins an empty database. Blocks: the catalog calls it.
    pub(crate) fn remove(&self, account: &AccountId, database: &str) -> Result<(), Error> {
        let key = (account.clone(), DatabaseId::from(database));
        self.jobs.give_up(Some(&key));
        let layout = &self.context.layout;
        self.files.remove(&key, || {
            layout.remove_database(Resource::D1, account, database)?;
            layout.remove_folder(&layout.journal_dir(account, database))
        })?
    }

    /// Executes what is queued, closes every file, ends the threads. An import or export
    /// under way is given up. Blocks.
    pub(crate) fn close(&self) {
        self.jobs.give_up(None);
        self.files.close();
        self.pool.stop();
    }

    async fn submit(
        &self,
        account: &AccountId,
        database: &DatabaseId,
        work: Work,
        session: Option<String>,
        seems_to_read: bool,
    ) -> Result<Answer, Error> {
        let (answer, answered) = oneshot::channel();
        let key = (account.clone(), database.clone());
        let request = Request {
            work,
            session,
            answer,
        };
        let accepted = if seems_to_read {
            self.files.read(&key, request)
        } else {
            self.files.write(&key, request)
        };
        accepted.map_err(|refused| match refused {
            // docs: d1 debug. ORMs know this text.
            Refused::Full => Error::new(
                ErrorKind::Unavailable,
                "D1 DB is overloaded. Too many requests queued.",
            ),
            refused => refused.into(),
        })?;
        answered.await.unwrap_or_else(|_| {
            let text = "the request was lost because of a defect in Engawa; its log says more";
            Err(Error::new(ErrorKind::Internal, text))
        })
    }
}

/// Imports and exports under way.
#[derive(Default)]
struct Jobs {
    places: Mutex<HashMap<AccountId, Arc<Semaphore>>>,
    under_way: Mutex<Vec<(Key, Weak<D1Job>)>>,
}

impl Jobs {
    /// At once in an account. Each is a long turn of the pool, which gives an account four.
    const AT_ONCE: usize = 2;

    /// Waits until this job may begin.
    async fn place(
        &self,
        account: &AccountId,
        database: &DatabaseId,
        job: &Arc<D1Job>,
    ) -> Result<OwnedSemaphorePermit, Error> {
        let places = {
            let mut accounts = self.places.lock().unwrap_or_else(PoisonError::into_inner);
            // Those that nobody uses or waits for.
            accounts.retain(|_, places| Arc::strong_count(places) > 1);
            let places = accounts.entry(account.clone());
            Arc::clone(places.or_insert_with(|| Arc::new(Semaphore::new(Self::AT_ONCE))))
        };
        // It is never closed.
        let place = places.acquire_owned().await.map_err(|_| unexpected())?;
        let mut under_way = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        under_way.retain(|(_, job)| job.strong_count() > 0);
        let key = (account.clone(), database.clone());
        under_way.push((key, Arc::downgrade(job)));
        Ok(place)
    }

    /// Ends those of a database, or all: an import that is not complete changes nothing.
    fn give_up(&self, database: Option<&Key>) {
        let under_way = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let of_it = |key: &Key| database.is_none_or(|database| key == database);
        for (_, job) in under_way.iter().filter(|(key, _)| of_it(key)) {
            if let Some(job) = job.upgrade() {
                job.given_up.store(true, Ordering::Relaxed);
            }
        }
    }
}

/// Whoever waits for a job goes away with this.
struct GivesUp<'a>(&'a D1Job);

impl Drop for GivesUp<'_> {
    fn drop(&mut self) {
        self.0.given_up.store(true, Ordering::Relaxed);
    }
}

impl D1Statement {
    /// A statement without parameters.
    pub fn new(sql: impl Into<String>) -> Self {
        Self::with(sql, Vec::new())
    }

    /// A statement with parameters.
    pub fn with(sql: impl Into<String>, params: Vec<D1Value>) -> Self {
        Self {
            sql: sql.into(),
            params,
        }
    }

    fn len_bytes(&self) -> u64 {
        let params = self.params.iter().map(|value| match value {
            D1Value::Null => 0,
            D1Value::Integer(_) | D1Value::Real(_) => 8,
            D1Value::Text(text) => text.len() as u64,
            D1Value::Blob(bytes) => bytes.len() as u64,
        });
        self.sql.len() as u64 + params.sum::<u64>()
    }
}

/// The first word or sign of a text behind blanks and comments; empty if there is none.
fn first_word(sql: &str) -> &str {
    let mut rest = sql;
    loop {
        rest = rest.trim_start();
        rest = if let Some(comment) = rest.strip_prefix("--") {
            comment.split_once('\n').map_or("", |(_, rest)| rest)
        } else if let Some(comment) = rest.strip_prefix("/*") {
            comment.split_once("*/").map_or("", |(_, rest)| rest)
        } else {
            break;
        };
    }
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80;
    let letters = rest.bytes().take_while(|byte| is_letter(*byte)).count();
    // Not a letter: the sign alone (it is ASCII, so it is one byte).
    &rest[..letters.max(1).min(rest.len())]
}

fn is_reading_word(word: &str) -> bool {
    ["SELECT", "WITH", "VALUES", "EXPLAIN", "PRAGMA"]
        .iter()
        .any(|known| word.eq_ignore_ascii_case(known))
}

/// A test or a program built without the flags of `.cargo/config.toml` would count rows
/// wrongly and silently.
fn check_build() -> Result<(), Error> {
    let needed = [
        "ENABLE_STMT_SCANSTATUS",
        "ENABLE_PREUPDATE_HOOK",
        "ENABLE_FTS5",
        "ENABLE_RTREE",
        "ENABLE_MATH_FUNCTIONS",
        "ENABLE_NORMALIZE",
    ];
    let failed = |error: errors::SqlError| {
        let text = format!("SQLite cannot be asked for its options: {error}");
        Error::with_source(ErrorKind::Internal, text, error)
    };
    let flags = rusqlite::ffi::SQLITE_OPEN_READWRITE | rusqlite::ffi::SQLITE_OPEN_MEMORY;
    let db = ffi::Db::open(Path::new(":memory:"), flags).map_err(failed)?;
    let (statement, _) = db
        .prepare("PRAGMA compile_options", false)
        .map_err(failed)?;
    let mut missing: BTreeSet<&str> = needed.into();
    if let Some(mut statement) = statement {
        while statement.step().map_err(failed)? {
            if let ffi::Column::Text(option) = statement.column(0) {
                missing.retain(|name| name.as_bytes() != option);
            }
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let missing: Vec<_> = missing.into_iter().collect();
    let text = format!(
        "this program was built with an SQLite that lacks {}; build it with the flags in \
         .cargo/config.toml",
        missing.join(", ")
    );
    Err(Error::new(ErrorKind::Internal, text))
}

fn unexpected() -> Error {
    Error::new(
        ErrorKind::Internal,
        "a D1 request got another request's answer",
    )
}
