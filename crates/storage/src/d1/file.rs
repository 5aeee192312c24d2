//! One database as an entry of the D1 pool: its writer, its readers, and the commit.
//!
//! **The commit.** Every request is a transaction of its own: sharing one would let
//! `INSERT OR ROLLBACK` or `RAISE(ROLLBACK)` in one request undo all. With
//! `synchronous=NORMAL` a COMMIT in WAL mode syncs nothing, so the writer executes what is
//! queued, syncs the `-wal` *once*, and only then answers all of it. No answer, not even
//! an SQL error, leaves before the commits that it may have seen are durable. A request
//! that runs long does not hold back those before it in its group: while it runs, its
//! progress callback syncs and answers them.
//!
//! **Reads** see a commit before it is synced. So the number of the newest commit is
//! raised before COMMIT runs, a read takes it after its last row, and the answer waits
//! until that number is synced.
//!
//! **A failed sync** is never tried again (the kernel may have dropped the pages and would
//! report success). Everything that waited gets [`ErrorKind::Unknown`], the file is closed
//! and distrusted: the next request opens it, has SQLite copy the `-wal` into the file
//! with a sync of that, and checks it, before anything else is done.
//!
//! **Checkpoints** are ours: passive, after a group, once the `-wal` has
//! [`D1Limits::checkpoint_pages`], and never before the [`Journal`] holds, durably, all that
//! they copy. Closing makes none.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use engawa_model::{AccountId, DatabaseId, ErrorKind};
use rusqlite::ffi as sqlite;
use tokio::sync::oneshot;

use super::bookmark::{self, Lineage};
use super::connection::{Connection, Failure, Role, ScriptCounts};
use super::errors::SqlError;
use super::export;
use super::ffi::{Column, Db, Wal};
use super::journal::{Journal, Opening};
use super::{D1ExportOptions, D1Format, D1Job, D1Limits, D1Moment, D1Result, D1Statement};
use crate::Error;
use crate::blobs::BlobIo;
use crate::layout::{Layout, Resource};
use crate::pool::{File, Group};
use crate::scratch::{Scratch, ScratchWriter};

/// The next stamp of the data folder. Blocks for a sync now and then.
pub(super) type NextStamp = Arc<dyn Fn() -> Result<u64, Error> + Send + Sync>;

/// A database of an account.
pub(super) type Key = (AccountId, DatabaseId);

/// What opening a database needs.
pub(super) struct Context {
    pub(super) layout: Arc<Layout>,
    pub(super) blob_io: BlobIo,
    pub(super) next_stamp: NextStamp,
    pub(super) limits: D1Limits,
    /// Databases whose sync failed: to be checked when they are opened.
    pub(super) distrusted: Mutex<HashSet<Key>>,
    /// Snapshots being made.
    pub(super) snapshots: Arc<AtomicUsize>,
    /// Stands in for a sync; a test counts or fails with it.
    pub(super) sync_hook: Option<SyncHook>,
}

/// Runs before each sync; `false` makes it fail.
pub(super) type SyncHook = Arc<dyn Fn() -> bool + Send + Sync>;

/// A request with the channel of its answer.
pub(super) struct Request {
    pub(super) work: Work,
    pub(super) session: Option<String>,
    pub(super) answer: oneshot::Sender<Result<Answer, Error>>,
}

pub(super) enum Work {
    Query {
        statements: Vec<D1Statement>,
        format: D1Format,
        /// Every statement of a text has a result, not only the last.
        each: bool,
    },
    Import {
        script: Scratch,
        job: Arc<D1Job>,
    },
    Export {
        options: D1ExportOptions,
        /// Where its file belongs.
        account: AccountId,
        job: Arc<D1Job>,
    },
    /// The bookmark of a moment (milliseconds since 1970), or of now.
    Bookmark(Option<u64>),
    Restore(D1Moment),
}

/// What a request gave.
pub(super) struct Answer {
    pub(super) output: Output,
    pub(super) bookmark: String,
}

pub(super) enum Output {
    Results(Vec<D1Result>),
    Imported {
        counts: ScriptCounts,
        changes: u64,
        size_bytes: u64,
    },
    Exported(Scratch),
    Bookmark(String),
    Restored {
        bookmark: String,
        previous: String,
    },
}

/// An open database.
pub(super) struct D1File {
    key: Key,
    pub(super) connection: Connection,
    pub(super) context: Arc<Context>,
    pub(super) shared: Arc<Shared>,
    pub(super) unsynced: Arc<Mutex<Unsynced>>,
    /// Pages in the `-wal` after the last commit.
    wal_pages: Arc<AtomicU32>,
    /// Pages that the `-wal` had after the last checkpoint that could not finish.
    wal_pages_kept: u32,
}

/// What the writer and the readers of a database have in common.
pub(super) struct Shared {
    context: Arc<Context>,
    path: PathBuf,
    pub(super) lineage: Lineage,
    /// Number of the newest commit: its stamp. Raised before COMMIT.
    pub(super) committed: AtomicU64,
    /// Every commit up to this one is durable.
    synced: AtomicU64,
    /// Reads that saw a commit which is not durable yet.
    waiting: Mutex<Vec<(u64, Pending)>>,
    /// As of the last request of the writer: what a read reports.
    last_row_id: AtomicI64,
    size_bytes: AtomicU64,
    /// A sync failed: nothing is answered any more.
    pub(super) broken: AtomicBool,
}

/// An answer that waits for a sync.
struct Pending {
    result: Result<Answer, Error>,
    answer: oneshot::Sender<Result<Answer, Error>>,
}

/// What the group under way has executed and not answered.
pub(super) struct Unsynced {
    pub(super) journal: Journal,
    pending: Vec<Pending>,
    /// A commit wrote to the `-wal` since the last sync.
    wrote: bool,
    /// Between raising the number of a commit and the end of COMMIT: no sync may run.
    pub(super) committing: bool,
    /// When the oldest of `pending` was executed.
    since: Option<Instant>,
}

impl File for D1File {
    type Key = Key;
    type Context = Arc<Context>;
    type Write = Request;
    type Read = Request;
    type Shared = Shared;
    type Reader = Reader;
    type Error = Error;

    fn account(key: &Key) -> &AccountId {
        &key.0
    }

    fn open(context: &Arc<Context>, key: &Key) -> Result<Self, Error> {
        let path = context
            .layout
            .database_file(Resource::D1, &key.0, key.1.as_str());
        if let Some(folder) = path.parent() {
            context.layout.ensure_folder(folder)?;
        }
        let is_new = !path.exists();
        let failed = |error: SqlError| open_error(&key.1, error);
        let mut connection =
            Connection::open(&path, Role::Writer, &context.limits).map_err(failed)?;
        let is_distrusted = lock(&context.distrusted).contains(key);
        if is_distrusted {
            recheck(&connection).map_err(failed)?;
            lock(&context.distrusted).remove(key);
        }
        let size_bytes = connection.size_bytes().map_err(failed)?;
        let journal = Journal::open(Opening {
            layout: &context.layout,
            folder: context.layout.journal_dir(&key.0, key.1.as_str()),
            limits: &context.limits.journal,
            next_stamp: &context.next_stamp,
            snapshots: &context.snapshots,
            page_bytes: connection.page_bytes(),
            db: &connection.db,
            is_new,
            is_distrusted,
        });
        // Not smaller than any number that was given out before.
        let committed = (context.next_stamp)()?;
        let shared = Arc::new(Shared {
            context: Arc::clone(context),
            lineage: bookmark::lineage(&key.0, &key.1),
            path,
            committed: AtomicU64::new(committed),
            synced: AtomicU64::new(committed),
            waiting: Mutex::default(),
            last_row_id: AtomicI64::new(0),
            size_bytes: AtomicU64::new(size_bytes),
            broken: AtomicBool::new(false),
        });
        let unsynced = Arc::new(Mutex::new(Unsynced {
            journal,
            pending: Vec::new(),
            wrote: false,
            committing: false,
            since: None,
        }));
        let wal_pages = Arc::new(AtomicU32::new(0));
        let (pages, wrote) = (Arc::clone(&wal_pages), Arc::clone(&unsynced));
        let wal_shared = Arc::clone(&shared);
        connection.db.set_wal_hook(Box::new(move |count| {
            pages.store(count, Ordering::Relaxed);
            let mut unsynced = lock(&wrote);
            unsynced.wrote = true;
            let number = wal_shared.committed.load(Ordering::SeqCst);
            unsynced.journal.note(count, number);
        }));
        let (tick_shared, tick_unsynced) = (Arc::clone(&shared), Arc::clone(&unsynced));
        let group_time = context.limits.group_time;
        *lock(&connection.control.tick) = Some(Box::new(move |wal| {
            let mut unsynced = lock(&tick_unsynced);
            let is_due = |since: Instant| since.elapsed() >= group_time;
            if !unsynced.committing && unsynced.since.is_some_and(is_due) {
                tick_shared.settle(&mut unsynced, wal);
            }
        }));
        Ok(Self {
            key: key.clone(),
            connection,
            context: Arc::clone(context),
            shared,
            unsynced,
            wal_pages,
            wal_pages_kept: 0,
        })
    }

    fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    fn open_reader(shared: &Arc<Shared>) -> Result<Reader, Error> {
        let connection = Connection::open(&shared.path, Role::Reader, &shared.context.limits)
            .map_err(|error| {
                let text = format!("the D1 database could not be opened for reading: {error}");
                Error::with_source(ErrorKind::Internal, text, error)
            })?;
        Ok(Reader {
            connection,
            shared: Arc::clone(shared),
        })
    }

    fn run_group(&mut self, group: &mut Group<'_, Self>) -> bool {
        while let Some(request) = group.next() {
            let result = self.execute(&request);
            let mut unsynced = lock(&self.unsynced);
            unsynced.since.get_or_insert_with(Instant::now);
            unsynced.pending.push(Pending {
                result,
                answer: request.answer,
            });
            if self.shared.broken.load(Ordering::Relaxed) {
                break;
            }
        }
        self.shared
            .settle(&mut lock(&self.unsynced), &self.connection.db.wal());
        if self.shared.broken.load(Ordering::Relaxed) {
            lock(&self.context.distrusted).insert(self.key.clone());
            return false;
        }
        if !lock(&self.unsynced).journal.sync_if_due() {
            // The next request opens the file anew, and a new history with it.
            lock(&self.context.distrusted).insert(self.key.clone());
            return false;
        }
        self.checkpoint();
        true
    }

    fn run_read(reader: &mut Reader, request: Request) -> Option<Request> {
        reader.run(request)
    }

    fn refuse_write(request: Request, error: &Error) {
        let _ = request.answer.send(Err(error.clone()));
    }

    fn refuse_read(request: Request, error: &Error) {
        let _ = request.answer.send(Err(error.clone()));
    }
}

impl D1File {
    /// Executes one request as one transaction. It is not durable yet.
    fn execute(&mut self, request: &Request) -> Result<Answer, Error> {
        self.shared.check_session(request.session.as_deref())?;
        let is_query = matches!(request.work, Work::Query { .. });
        self.connection
            .set_deadline(is_query.then(|| Instant::now() + self.context.limits.query_time));
        let outcome = match &request.work {
            Work::Bookmark(at_ms) => self.bookmark(*at_ms).map_err(Stopped::Own),
            Work::Restore(moment) => self.restore(moment),
            work => self.transact(work),
        };
        if let Err(error) = self.connection.finish_request() {
            tracing::error!(database = ?self.key, %error, "a connection could not be reset");
            self.shared.broken.store(true, Ordering::Relaxed);
        }
        let shared = &self.shared;
        shared
            .last_row_id
            .store(self.connection.db.last_insert_rowid(), Ordering::Relaxed);
        let size_bytes = self.connection.size_bytes().unwrap_or(0);
        shared.size_bytes.store(size_bytes, Ordering::Relaxed);
        match outcome {
            Ok(output) => Ok(Answer {
                output,
                bookmark: shared.bookmark(shared.committed.load(Ordering::SeqCst)),
            }),
            Err(Stopped::Own(error)) => Err(error),
            Err(Stopped::Sql(error)) => Err(self.map_error(&error)),
        }
    }

    fn transact(&mut self, work: &Work) -> Result<Output, Stopped> {
        self.connection.begin()?;
        let outcome = self.run(work).and_then(|output| {
            self.raise_commit_number().map_err(Stopped::Own)?;
            let committed = self.connection.commit();
            lock(&self.unsynced).committing = false;
            committed?;
            Ok(output)
        });
        if outcome.is_err()
            && let Err(error) = self.connection.rollback()
        {
            // The next request must not find this one's transaction open.
            tracing::error!(database = ?self.key, %error, "a transaction could not be undone");
            self.shared.broken.store(true, Ordering::Relaxed);
        }
        outcome
    }

    fn run(&mut self, work: &Work) -> Result<Output, Stopped> {
        match work {
            Work::Query {
                statements,
                format,
                each,
            } => {
                let results = self.connection.run(statements, *format, *each);
                Ok(Output::Results(results.map_err(into_stopped)?))
            }
            Work::Import { script, job } => {
                let changes_before = self.connection.db.total_changes();
                let counts = self.connection.run_script(script, job);
                let changes = self.connection.db.total_changes() - changes_before;
                Ok(Output::Imported {
                    counts: counts.map_err(into_stopped)?,
                    changes: changes.cast_unsigned(),
                    size_bytes: self.connection.size_bytes()?,
                })
            }
            Work::Export {
                options,
                account,
                job,
            } => export_to_file(&mut self.connection, &self.context, options, account, job)
                .map(Output::Exported)
                .map_err(into_stopped),
            Work::Bookmark(_) | Work::Restore(_) => {
                Err(SqlError::plain("not a transaction's work").into())
            }
        }
    }

    /// Before COMMIT of a transaction that wrote: a read that sees the commit must find its
    /// number.
    fn raise_commit_number(&mut self) -> Result<(), Error> {
        if self.connection.db.is_writing() {
            let number = (self.context.next_stamp)()?;
            lock(&self.unsynced).committing = true;
            self.shared.committed.store(number, Ordering::SeqCst);
        }
        Ok(())
    }

    /// Folds an SQL error into the kinds of this crate.
    fn map_error(&mut self, error: &SqlError) -> Error {
        let sync_failed = matches!(
            error.extended,
            sqlite::SQLITE_IOERR_FSYNC | sqlite::SQLITE_IOERR_DIR_FSYNC
        );
        if sync_failed {
            self.shared.broken.store(true, Ordering::Relaxed);
            return unknown();
        }
        if error.code == sqlite::SQLITE_FULL {
            let size = self.shared.size_bytes.load(Ordering::Relaxed);
            let limit = self.context.limits.database_bytes;
            let is_limit = disk_has_room(&self.shared.path) || size >= limit;
            if is_limit {
                return Error::new(ErrorKind::Sql, "Exceeded maximum DB size.");
            }
        }
        sql_error(error)
    }

    /// Copies the `-wal` into the file once it is long. Nothing waits for this.
    fn checkpoint(&mut self) {
        let pages = self.wal_pages.load(Ordering::Relaxed);
        let limit = self.wal_pages_kept + self.context.limits.checkpoint_pages;
        if pages < limit {
            return;
        }
        let may_checkpoint = lock(&self.unsynced).journal.before_checkpoint(
            &self.connection.db,
            pages,
            self.context.limits.checkpoint_pages,
        );
        if !may_checkpoint {
            self.wal_pages_kept = pages;
            return;
        }
        match self
            .connection
            .db
            .checkpoint(sqlite::SQLITE_CHECKPOINT_PASSIVE)
        {
            Ok((pages, done)) if done >= pages => {
                self.wal_pages.store(0, Ordering::Relaxed);
                self.wal_pages_kept = 0;
            }
            // A reader still needs a part: try again when it has grown as much once more.
            Ok((pages, _)) => self.wal_pages_kept = u32::try_from(pages).unwrap_or(0),
            // What was acknowledged is in the `-wal`, which stays until a checkpoint was
            // synced.
            Err(error) => {
                tracing::warn!(database = ?self.key, %error, "a checkpoint failed");
                self.wal_pages_kept = pages;
            }
        }
        let size_bytes = self.shared.size_bytes.load(Ordering::Relaxed);
        lock(&self.unsynced).journal.tidy(size_bytes);
    }
}

/// Why a transaction was undone.
pub(super) enum Stopped {
    Sql(SqlError),
    Own(Error),
}

impl From<SqlError> for Stopped {
    fn from(error: SqlError) -> Self {
        Self::Sql(error)
    }
}

fn into_stopped(failure: Failure) -> Stopped {
    match failure {
        Failure::Sql(error) => Stopped::Sql(error),
        Failure::Own(error) => Stopped::Own(error),
        // Only readers say so.
        Failure::NeedsWriter => Stopped::Sql(SqlError::plain("the database is read-only")),
    }
}

impl Shared {
    pub(super) fn bookmark(&self, commit: u64) -> String {
        bookmark::format(commit, &self.lineage)
    }

    fn check_session(&self, session: Option<&str>) -> Result<(), Error> {
        let commit = self.committed.load(Ordering::SeqCst);
        match session {
            Some(constraint) if !bookmark::is_satisfied(constraint, commit, &self.lineage) => {
                let text = "invalid bookmark or constraint";
                Err(Error::new(ErrorKind::InvalidArgument, text))
            }
            _ => Ok(()),
        }
    }

    /// Syncs what the group has committed, then answers it and the reads that waited.
    pub(super) fn settle(&self, unsynced: &mut Unsynced, wal: &Wal<'_>) {
        let committed = self.committed.load(Ordering::SeqCst);
        unsynced.since = None;
        let wrote = std::mem::replace(&mut unsynced.wrote, false);
        if wrote && !self.broken.load(Ordering::Relaxed) {
            let hook = self.context.sync_hook.as_ref();
            let outcome = if hook.is_none_or(|hook| hook()) {
                wal.sync()
            } else {
                Err(SqlError::new(
                    sqlite::SQLITE_IOERR,
                    "a test made the sync fail",
                ))
            };
            if let Err(error) = outcome {
                tracing::error!(path = %self.path.display(), %error, "a sync failed");
                self.broken.store(true, Ordering::Relaxed);
            } else {
                unsynced.journal.append(wal);
            }
        }
        let is_broken = self.broken.load(Ordering::Relaxed);
        let ready = {
            let mut waiting = lock(&self.waiting);
            if is_broken {
                std::mem::take(&mut *waiting)
            } else {
                self.synced.store(committed, Ordering::SeqCst);
                let (ready, rest) = std::mem::take(&mut *waiting)
                    .into_iter()
                    .partition(|(number, _)| *number <= committed);
                *waiting = rest;
                ready
            }
        };
        let answers = unsynced
            .pending
            .drain(..)
            .chain(ready.into_iter().map(|(_, pending)| pending));
        for Pending { result, answer } in answers {
            let _ = answer.send(if is_broken { Err(unknown()) } else { result });
        }
    }

    /// Answers a read that saw the commits up to `number`, when those are durable.
    fn answer_read(&self, number: u64, pending: Pending) {
        if number > self.synced.load(Ordering::SeqCst) {
            let mut waiting = lock(&self.waiting);
            if self.broken.load(Ordering::Relaxed) {
                let _ = pending.answer.send(Err(unknown()));
                return;
            }
            if number > self.synced.load(Ordering::SeqCst) {
                waiting.push((number, pending));
                return;
            }
        }
        let _ = pending.answer.send(pending.result);
    }
}

/// A connection for requests that only read.
pub(super) struct Reader {
    connection: Connection,
    shared: Arc<Shared>,
}

impl Reader {
    /// Executes a request, or gives it back if it is for the writer.
    fn run(&mut self, request: Request) -> Option<Request> {
        if request.answer.is_closed() {
            // Nobody waits for it any more.
            return None;
        }
        if self.shared.broken.load(Ordering::Relaxed) {
            // The writer's turn opens the file anew.
            return Some(request);
        }
        if let Err(error) = self.shared.check_session(request.session.as_deref()) {
            let _ = request.answer.send(Err(error));
            return None;
        }
        let outcome = self.execute(&request.work);
        let number = self.shared.committed.load(Ordering::SeqCst);
        let result = match outcome {
            Ok(output) => Ok(Answer {
                output,
                bookmark: self.shared.bookmark(number),
            }),
            Err(Failure::NeedsWriter) => return Some(request),
            Err(Failure::Sql(error)) => Err(sql_error(&error)),
            Err(Failure::Own(error)) => Err(error),
        };
        let pending = Pending {
            result,
            answer: request.answer,
        };
        self.shared.answer_read(number, pending);
        None
    }

    fn execute(&mut self, work: &Work) -> Result<Output, Failure> {
        let limits = &self.shared.context.limits;
        let connection = &mut self.connection;
        let one_snapshot = match work {
            Work::Query { statements, .. } => {
                connection.set_deadline(Some(Instant::now() + limits.query_time));
                statements.len() > 1 || statements.iter().any(|one| one.sql.contains(';'))
            }
            Work::Export { .. } => true,
            Work::Import { .. } | Work::Bookmark(_) | Work::Restore(_) => {
                return Err(Failure::NeedsWriter);
            }
        };
        if one_snapshot {
            connection.begin()?;
        }
        let outcome = match work {
            Work::Query {
                statements,
                format,
                each,
            } => connection
                .run(statements, *format, *each)
                .map(Output::Results),
            Work::Export {
                options,
                account,
                job,
            } => export_to_file(connection, &self.shared.context, options, account, job)
                .map(Output::Exported),
            Work::Import { .. } | Work::Bookmark(_) | Work::Restore(_) => Err(Failure::NeedsWriter),
        };
        // Also after an error: a reader must not hold on to an old snapshot.
        let ended = connection.rollback();
        let finished = connection.finish_request();
        let mut output = outcome?;
        ended?;
        finished?;
        if let Output::Results(results) = &mut output {
            for result in results {
                result.meta.last_row_id = self.shared.last_row_id.load(Ordering::Relaxed);
                result.meta.size_after_bytes = self.shared.size_bytes.load(Ordering::Relaxed);
                result.meta.changed_db = false;
            }
        }
        Ok(output)
    }
}

/// Writes a database as SQL, as of the transaction that is open.
fn export_to_file(
    connection: &mut Connection,
    context: &Context,
    options: &D1ExportOptions,
    account: &AccountId,
    job: &D1Job,
) -> Result<Scratch, Failure> {
    let io = context.blob_io.clone();
    let file = ScratchWriter::create(&context.layout, io, account).map_err(Failure::Own)?;
    export::dump(connection, options, file, job)
}

/// After a failed sync: brings everything that is readable into the file, durably, and
/// looks whether it is sound.
fn recheck(connection: &Connection) -> Result<(), SqlError> {
    connection
        .db
        .checkpoint(sqlite::SQLITE_CHECKPOINT_TRUNCATE)?;
    let text = "the database is damaged after a failed sync";
    let _trusted = connection.trust();
    if is_sound(&connection.db)? {
        return Ok(());
    }
    Err(SqlError::new(sqlite::SQLITE_CORRUPT, text))
}

/// Whether SQLite finds nothing wrong with a database.
pub(super) fn is_sound(db: &Db) -> Result<bool, SqlError> {
    let (statement, _) = db.prepare("PRAGMA quick_check(1)", false)?;
    let Some(mut statement) = statement else {
        return Ok(false);
    };
    Ok(statement.step()? && statement.column(0) == Column::Text(b"ok"))
}

fn open_error(database: &DatabaseId, error: SqlError) -> Error {
    let kind = match error.code {
        sqlite::SQLITE_CORRUPT | sqlite::SQLITE_NOTADB => ErrorKind::Corrupt,
        sqlite::SQLITE_FULL => ErrorKind::DiskFull,
        _ => ErrorKind::Internal,
    };
    let text = format!("the D1 database {database} could not be opened: {error}");
    Error::with_source(kind, text, error)
}

fn sql_error(error: &SqlError) -> Error {
    let kind = match error.code {
        sqlite::SQLITE_FULL => ErrorKind::DiskFull,
        sqlite::SQLITE_CORRUPT | sqlite::SQLITE_NOTADB => ErrorKind::Corrupt,
        sqlite::SQLITE_IOERR | sqlite::SQLITE_CANTOPEN | sqlite::SQLITE_NOMEM => {
            ErrorKind::Internal
        }
        sqlite::SQLITE_BUSY => ErrorKind::Unavailable,
        _ => ErrorKind::Sql,
    };
    Error::new(kind, error.to_string())
}

pub(super) fn unknown() -> Error {
    Error::new(
        ErrorKind::Unknown,
        "the disk failed to sync: it is not known whether the last changes will survive",
    )
}

/// Whether the folder's disk has room for a page or two, so that a full database can be
/// told from a full disk.
fn disk_has_room(path: &std::path::Path) -> bool {
    path.parent()
        .and_then(|folder| rustix::fs::statvfs(folder).ok())
        .is_some_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) > 1024 * 1024)
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
