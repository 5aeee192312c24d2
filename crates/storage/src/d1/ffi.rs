//! SQLite's C interface, as far as D1 needs it. The only unsafe code of D1.
//!
//! `rusqlite`'s safe interface lacks what decides D1's behaviour: the tail of a prepared
//! text, the exact error with its byte offset, row counters of a statement (scan status,
//! the preupdate hook), authorizer arguments as bytes, and the sync of a `-wal` through
//! SQLite's own handle (a descriptor of ours would drop SQLite's locks when closed).
//!
//! What keeps this sound:
//! - A [`Db`] closes with `sqlite3_close_v2`, which keeps the connection alive until its
//!   last statement is finalised, so a [`Statement`] may outlive its `Db`.
//! - The closures behind hooks are owned by the `Db`; it takes the hooks off before it
//!   drops them. None of them uses the connection.
//! - Connections are opened with `NOMUTEX`. `Db` and `Statement` are `Send` but not
//!   `Sync`, and a `Db` with its statements is owned by one entry of the pool, which only
//!   one thread has at a time.
#![expect(unsafe_code, reason = "SQLite's C interface; see the text above")]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::path::Path;
use std::ptr::{NonNull, null_mut};
use std::{slice, str};

use rusqlite::ffi;

use super::errors::SqlError;

unsafe extern "C" {
    // Not among the bindings of `libsqlite3-sys`.
    fn sqlite3_close_v2(db: *mut ffi::sqlite3) -> c_int;
}

/// Asked when a statement is prepared: action code, its two arguments, the schema's name.
/// `false` denies it.
pub(super) type Authorizer =
    Box<dyn FnMut(c_int, Option<&str>, Option<&str>, Option<&str>) -> bool + Send>;
/// Asked every so many virtual machine steps. `true` interrupts the statement.
pub(super) type Progress = Box<dyn FnMut(&Wal<'_>) -> bool + Send>;
/// Told of a row that is about to change: how, and its table.
pub(super) type RowHook = Box<dyn FnMut(c_int, &[u8]) + Send>;
/// Told after a commit that wrote to the `-wal`: its length in pages.
pub(super) type WalHook = Box<dyn FnMut(u32) + Send>;

struct OnProgress {
    hook: Progress,
    db: *mut ffi::sqlite3,
}

/// A connection.
pub(super) struct Db {
    raw: NonNull<ffi::sqlite3>,
    // Boxed twice: C sees a thin pointer.
    authorizer: Option<Box<Authorizer>>,
    progress: Option<Box<OnProgress>>,
    rows: Option<Box<RowHook>>,
    wal: Option<Box<WalHook>>,
}

// SAFETY: SQLite is built thread-safe; a connection may move between threads as long as
// two do not use it at once, which `&mut`/non-`Sync` ownership ensures.
unsafe impl Send for Db {}

impl Db {
    /// Opens a file, with `SQLITE_OPEN_…` flags.
    pub(super) fn open(path: &Path, flags: c_int) -> Result<Self, SqlError> {
        use std::os::unix::ffi::OsStrExt as _;
        let path = CString::new(path.as_os_str().as_bytes())
            .map_err(|_| SqlError::plain("the path contains a zero byte"))?;
        let mut raw = null_mut();
        // SAFETY: `path` ends in zero and outlives the call; `raw` is a valid place.
        let code = unsafe { ffi::sqlite3_open_v2(path.as_ptr(), &raw mut raw, flags, null_mut()) };
        let Some(raw) = NonNull::new(raw) else {
            return Err(SqlError::plain("out of memory"));
        };
        let db = Self {
            raw,
            authorizer: None,
            progress: None,
            rows: None,
            wal: None,
        };
        if code == ffi::SQLITE_OK {
            Ok(db)
        } else {
            Err(db.error(code))
        }
    }

    fn ptr(&self) -> *mut ffi::sqlite3 {
        self.raw.as_ptr()
    }

    /// The last error of this connection, whose primary code is `code`.
    pub(super) fn error(&self, code: c_int) -> SqlError {
        error(self.ptr(), code)
    }

    pub(super) fn set_limit(&self, limit: c_int, value: c_int) {
        // SAFETY: the connection is open.
        unsafe { ffi::sqlite3_limit(self.ptr(), limit, value) };
    }

    /// A `SQLITE_DBCONFIG_…` switch.
    pub(super) fn configure(&self, switch: c_int, on: bool) -> Result<(), SqlError> {
        // SAFETY: switches take an int and a pointer that may be null.
        let code = unsafe {
            ffi::sqlite3_db_config(self.ptr(), switch, c_int::from(on), null_mut::<c_int>())
        };
        self.check(code)
    }

    pub(super) fn busy_timeout(&self, milliseconds: c_int) {
        // SAFETY: the connection is open.
        unsafe { ffi::sqlite3_busy_timeout(self.ptr(), milliseconds) };
    }

    fn check(&self, code: c_int) -> Result<(), SqlError> {
        if code == ffi::SQLITE_OK {
            Ok(())
        } else {
            Err(self.error(code & 0xff))
        }
    }

    pub(super) fn total_changes(&self) -> i64 {
        // SAFETY: the connection is open.
        unsafe { ffi::sqlite3_total_changes64(self.ptr()) }
    }

    /// Rows changed by the last statement itself, without triggers.
    pub(super) fn changes(&self) -> i64 {
        // SAFETY: the connection is open.
        unsafe { ffi::sqlite3_changes64(self.ptr()) }
    }

    pub(super) fn last_insert_rowid(&self) -> i64 {
        // SAFETY: the connection is open.
        unsafe { ffi::sqlite3_last_insert_rowid(self.ptr()) }
    }

    /// Whether no transaction is open.
    pub(super) fn is_autocommit(&self) -> bool {
        // SAFETY: the connection is open.
        unsafe { ffi::sqlite3_get_autocommit(self.ptr()) != 0 }
    }

    /// Whether the open transaction has written.
    pub(super) fn is_writing(&self) -> bool {
        // SAFETY: the connection is open, the name ends in zero.
        unsafe { ffi::sqlite3_txn_state(self.ptr(), c"main".as_ptr()) == ffi::SQLITE_TXN_WRITE }
    }

    /// Compiles the first statement of `sql`. `None` if there is only blank or comment.
    /// Also how many bytes were used.
    pub(super) fn prepare(
        &self,
        sql: &str,
        persistent: bool,
    ) -> Result<(Option<Statement>, usize), SqlError> {
        let Ok(length) = c_int::try_from(sql.len()) else {
            return Err(SqlError::new(ffi::SQLITE_TOOBIG, "statement too long"));
        };
        // SAFETY: pointer and length are those of `sql`.
        unsafe { self.prepare_raw(sql.as_ptr().cast(), length, persistent) }
    }

    /// The same for a text of any length: `sql` ends in zero, and SQLite's limit then
    /// counts the statement instead of the text.
    pub(super) fn prepare_next(&self, sql: &CStr) -> Result<(Option<Statement>, usize), SqlError> {
        // SAFETY: a length below zero means up to the zero byte.
        unsafe { self.prepare_raw(sql.as_ptr(), -1, false) }
    }

    /// # Safety
    /// `sql` has `length` bytes, or ends in zero if that is negative.
    unsafe fn prepare_raw(
        &self,
        sql: *const c_char,
        length: c_int,
        persistent: bool,
    ) -> Result<(Option<Statement>, usize), SqlError> {
        let flags = if persistent {
            ffi::SQLITE_PREPARE_PERSISTENT
        } else {
            0
        };
        let (mut raw, mut tail) = (null_mut(), std::ptr::null());
        // SAFETY: by the caller's promise; the places are valid.
        let code = unsafe {
            ffi::sqlite3_prepare_v3(self.ptr(), sql, length, flags, &raw mut raw, &raw mut tail)
        };
        self.check(code)?;
        // SAFETY: the tail points into the same text.
        let used = unsafe { tail.offset_from(sql) };
        let statement = NonNull::new(raw).map(|raw| Statement {
            raw,
            _not_sync: PhantomData,
        });
        Ok((statement, usize::try_from(used).unwrap_or(0)))
    }

    /// Runs a statement of ours that gives at most one number.
    pub(super) fn pragma(&self, sql: &str) -> Result<Option<i64>, SqlError> {
        let (statement, _) = self.prepare(sql, false)?;
        let mut value = None;
        if let Some(mut statement) = statement {
            while statement.step()? {
                if let Column::Integer(number) = statement.column(0) {
                    value = Some(number);
                }
            }
        }
        Ok(value)
    }

    pub(super) fn set_authorizer(&mut self, hook: Authorizer) -> Result<(), SqlError> {
        unsafe extern "C" fn call(
            hook: *mut c_void,
            action: c_int,
            first: *const c_char,
            second: *const c_char,
            schema: *const c_char,
            _trigger: *const c_char,
        ) -> c_int {
            // SAFETY: the pointer is the boxed closure that `Db` owns while the hook is on;
            // the texts end in zero or are null, and live during the call.
            let allowed = unsafe {
                let hook = &mut *hook.cast::<Authorizer>();
                match (text(first), text(second), text(schema)) {
                    (Ok(first), Ok(second), Ok(schema)) => hook(action, first, second, schema),
                    _ => false,
                }
            };
            if allowed {
                ffi::SQLITE_OK
            } else {
                ffi::SQLITE_DENY
            }
        }
        let mut hook = Box::new(hook);
        let pointer: *mut Authorizer = &raw mut *hook;
        // SAFETY: the closure's address does not change and it is kept below.
        let code = unsafe { ffi::sqlite3_set_authorizer(self.ptr(), Some(call), pointer.cast()) };
        self.authorizer = Some(hook);
        self.check(code)
    }

    pub(super) fn set_progress(&mut self, steps: c_int, hook: Progress) {
        unsafe extern "C" fn call(hook: *mut c_void) -> c_int {
            // SAFETY: as above; the connection is open while it calls back.
            let OnProgress { hook, db } = unsafe { &mut *hook.cast::<OnProgress>() };
            let wal = Wal {
                db: *db,
                _open: PhantomData,
            };
            c_int::from(hook(&wal))
        }
        let mut hook = Box::new(OnProgress {
            hook,
            db: self.ptr(),
        });
        let pointer: *mut OnProgress = &raw mut *hook;
        // SAFETY: as above.
        unsafe { ffi::sqlite3_progress_handler(self.ptr(), steps, Some(call), pointer.cast()) };
        self.progress = Some(hook);
    }

    pub(super) fn set_row_hook(&mut self, hook: RowHook) {
        unsafe extern "C" fn call(
            hook: *mut c_void,
            _db: *mut ffi::sqlite3,
            operation: c_int,
            _schema: *const c_char,
            table: *const c_char,
            _old: ffi::sqlite3_int64,
            _new: ffi::sqlite3_int64,
        ) {
            if table.is_null() {
                return;
            }
            // SAFETY: as above; the table's name ends in zero.
            unsafe {
                let hook = &mut *hook.cast::<RowHook>();
                hook(operation, CStr::from_ptr(table).to_bytes());
            }
        }
        let mut hook = Box::new(hook);
        let pointer: *mut RowHook = &raw mut *hook;
        // SAFETY: as above.
        unsafe { ffi::sqlite3_preupdate_hook(self.ptr(), Some(call), pointer.cast()) };
        self.rows = Some(hook);
    }

    pub(super) fn set_wal_hook(&mut self, hook: WalHook) {
        unsafe extern "C" fn call(
            hook: *mut c_void,
            _db: *mut ffi::sqlite3,
            _schema: *const c_char,
            pages: c_int,
        ) -> c_int {
            // SAFETY: as above.
            let hook = unsafe { &mut *hook.cast::<WalHook>() };
            hook(u32::try_from(pages).unwrap_or(0));
            ffi::SQLITE_OK
        }
        let mut hook = Box::new(hook);
        let pointer: *mut WalHook = &raw mut *hook;
        // SAFETY: as above. This replaces SQLite's own automatic checkpoint.
        unsafe { ffi::sqlite3_wal_hook(self.ptr(), Some(call), pointer.cast()) };
        self.wal = Some(hook);
    }

    /// The `-wal` of this connection.
    pub(super) fn wal(&self) -> Wal<'_> {
        Wal {
            db: self.ptr(),
            _open: PhantomData,
        }
    }

    /// Replaces the content of `to` with that of this connection, as one transaction.
    /// `to` has no transaction open.
    pub(super) fn copy_to(&self, to: &Self) -> Result<(), SqlError> {
        // SAFETY: both connections are open and, since `Db` is not `Sync`, used by this
        // thread alone; the names end in zero. The copy is finished before either closes.
        let code = unsafe {
            let copy =
                ffi::sqlite3_backup_init(to.ptr(), c"main".as_ptr(), self.ptr(), c"main".as_ptr());
            if copy.is_null() {
                return Err(error(to.ptr(), ffi::sqlite3_errcode(to.ptr())));
            }
            let stepped = ffi::sqlite3_backup_step(copy, -1);
            match ffi::sqlite3_backup_finish(copy) {
                ffi::SQLITE_OK if stepped != ffi::SQLITE_DONE => stepped,
                code => code,
            }
        };
        to.check(code)
    }

    /// Pages in the `-wal` up to its last commit.
    pub(super) fn wal_frames(&self) -> Result<u32, SqlError> {
        let (frames, _) = self.checkpoint(ffi::SQLITE_CHECKPOINT_NOOP)?;
        Ok(u32::try_from(frames).unwrap_or(0))
    }

    /// Copies what it can from the `-wal` into the file without waiting for anybody.
    /// Gives the pages in the `-wal` and how many of them are in the file now.
    pub(super) fn checkpoint(&self, mode: c_int) -> Result<(i32, i32), SqlError> {
        let (mut pages, mut done) = (0, 0);
        // SAFETY: the places are valid, the name ends in zero.
        let code = unsafe {
            ffi::sqlite3_wal_checkpoint_v2(
                self.ptr(),
                c"main".as_ptr(),
                mode,
                &raw mut pages,
                &raw mut done,
            )
        };
        self.check(code)?;
        Ok((pages, done))
    }
}

impl Drop for Db {
    fn drop(&mut self) {
        // SAFETY: the hooks are taken off before their closures are dropped with the
        // fields; a statement that is still alive keeps the connection's memory.
        unsafe {
            let db = self.ptr();
            ffi::sqlite3_set_authorizer(db, None, null_mut());
            ffi::sqlite3_progress_handler(db, 0, None, null_mut());
            ffi::sqlite3_preupdate_hook(db, None, null_mut());
            ffi::sqlite3_wal_hook(db, None, null_mut());
            sqlite3_close_v2(db);
        }
    }
}

/// The `-wal` of a connection, on the thread that uses the connection: between two calls,
/// or inside of its progress callback.
pub(super) struct Wal<'a> {
    db: *mut ffi::sqlite3,
    _open: PhantomData<&'a Db>,
}

impl Wal<'_> {
    /// Makes all that was written to the `-wal` durable.
    pub(super) fn sync(&self) -> Result<(), SqlError> {
        let code = self.with_file(|file, methods| {
            let sync = methods.xSync?;
            // SAFETY: the handle is SQLite's own and open. This does not touch the state of
            // a statement that is running, so it may happen in a progress callback.
            Some(unsafe { sync(file, ffi::SQLITE_SYNC_NORMAL) })
        });
        wal_result(code, "the write-ahead log could not be synced")
    }

    /// Fills `bytes` with what the `-wal` has from `offset` on. `false`: it ends before.
    pub(super) fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<bool, SqlError> {
        let (Ok(length), Ok(offset)) = (c_int::try_from(bytes.len()), i64::try_from(offset)) else {
            return Err(SqlError::plain(
                "too much is read of the write-ahead log at once",
            ));
        };
        let code = self.with_file(|file, methods| {
            let read = methods.xRead?;
            // SAFETY: as above; pointer and length are those of `bytes`.
            Some(unsafe { read(file, bytes.as_mut_ptr().cast(), length, offset) })
        });
        if code == ffi::SQLITE_IOERR_SHORT_READ {
            return Ok(false);
        }
        wal_result(code, "the write-ahead log could not be read").map(|()| true)
    }

    fn with_file(
        &self,
        call: impl FnOnce(*mut ffi::sqlite3_file, &ffi::sqlite3_io_methods) -> Option<c_int>,
    ) -> c_int {
        let mut file: *mut ffi::sqlite3_file = null_mut();
        // SAFETY: the connection is open for as long as `self`. The operation stores a
        // pointer to SQLite's handle, which is used at once.
        unsafe {
            let code = ffi::sqlite3_file_control(
                self.db,
                c"main".as_ptr(),
                ffi::SQLITE_FCNTL_JOURNAL_POINTER,
                (&raw mut file).cast(),
            );
            if code != ffi::SQLITE_OK {
                return code;
            }
            if file.is_null() {
                return ffi::SQLITE_NOTFOUND;
            }
            (*file)
                .pMethods
                .as_ref()
                .and_then(|methods| call(file, methods))
                .unwrap_or(ffi::SQLITE_NOTFOUND)
        }
    }
}

fn wal_result(code: c_int, message: &str) -> Result<(), SqlError> {
    if code == ffi::SQLITE_OK {
        return Ok(());
    }
    Err(SqlError {
        extended: code,
        ..SqlError::new(code & 0xff, message)
    })
}

/// A compiled statement.
pub(super) struct Statement {
    raw: NonNull<ffi::sqlite3_stmt>,
    _not_sync: PhantomData<*mut ()>,
}

// SAFETY: as for `Db`; both move together.
unsafe impl Send for Statement {}

/// A value of a row, as long as the statement is not stepped.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Column<'a> {
    Null,
    Integer(i64),
    Real(f64),
    Text(&'a [u8]),
    Blob(&'a [u8]),
}

impl Statement {
    fn ptr(&self) -> *mut ffi::sqlite3_stmt {
        self.raw.as_ptr()
    }

    fn check(&self, code: c_int) -> Result<(), SqlError> {
        if code == ffi::SQLITE_OK {
            return Ok(());
        }
        // SAFETY: the statement keeps its connection alive.
        let db = unsafe { ffi::sqlite3_db_handle(self.ptr()) };
        Err(error(db, code & 0xff))
    }

    /// Moves to the next row; `false` at the end.
    pub(super) fn step(&mut self) -> Result<bool, SqlError> {
        // SAFETY: the statement is alive.
        match unsafe { ffi::sqlite3_step(self.ptr()) } {
            ffi::SQLITE_ROW => Ok(true),
            ffi::SQLITE_DONE => Ok(false),
            code => Err(self
                .check(code)
                .err()
                .unwrap_or_else(|| SqlError::new(code, ""))),
        }
    }

    /// Ready to run again: no row, no parameters, counters at zero.
    pub(super) fn reset(&mut self) {
        // SAFETY: the statement is alive. The code repeats an error that was reported.
        unsafe {
            ffi::sqlite3_reset(self.ptr());
            ffi::sqlite3_clear_bindings(self.ptr());
            ffi::sqlite3_stmt_scanstatus_reset(self.ptr());
        }
    }

    /// Whether it writes nothing.
    pub(super) fn is_readonly(&self) -> bool {
        // SAFETY: the statement is alive.
        unsafe { ffi::sqlite3_stmt_readonly(self.ptr()) != 0 }
    }

    pub(super) fn parameter_count(&self) -> usize {
        // SAFETY: the statement is alive.
        let count = unsafe { ffi::sqlite3_bind_parameter_count(self.ptr()) };
        usize::try_from(count).unwrap_or(0)
    }

    /// Sets a parameter, counted from 0. SQLite keeps a copy.
    pub(super) fn bind(&mut self, index: usize, value: Column<'_>) -> Result<(), SqlError> {
        let position = c_int::try_from(index + 1).unwrap_or(c_int::MAX);
        let transient = ffi::SQLITE_TRANSIENT();
        // SAFETY: pointers and lengths belong together and outlive the call, which copies.
        let code = unsafe {
            match value {
                Column::Null => ffi::sqlite3_bind_null(self.ptr(), position),
                Column::Integer(number) => ffi::sqlite3_bind_int64(self.ptr(), position, number),
                Column::Real(number) => ffi::sqlite3_bind_double(self.ptr(), position, number),
                Column::Text(text) => ffi::sqlite3_bind_text64(
                    self.ptr(),
                    position,
                    text.as_ptr().cast(),
                    text.len() as u64,
                    transient,
                    ffi::SQLITE_UTF8.cast_unsigned().try_into().unwrap_or(1),
                ),
                // An empty slice has a pointer that is not null, so it stays a BLOB.
                Column::Blob(blob) => ffi::sqlite3_bind_blob64(
                    self.ptr(),
                    position,
                    blob.as_ptr().cast(),
                    blob.len() as u64,
                    transient,
                ),
            }
        };
        self.check(code)
    }

    pub(super) fn column_count(&self) -> usize {
        // SAFETY: the statement is alive.
        usize::try_from(unsafe { ffi::sqlite3_column_count(self.ptr()) }).unwrap_or(0)
    }

    pub(super) fn column_name(&self, index: usize) -> String {
        // SAFETY: a name ends in zero and lives until the next call about this statement.
        unsafe {
            let name = ffi::sqlite3_column_name(self.ptr(), position(index));
            if name.is_null() {
                String::new()
            } else {
                String::from_utf8_lossy(CStr::from_ptr(name).to_bytes()).into_owned()
            }
        }
    }

    /// A value of the current row.
    pub(super) fn column(&self, index: usize) -> Column<'_> {
        let index = position(index);
        // SAFETY: pointer and length are asked for in the order that SQLite prescribes,
        // and stay valid until the statement is stepped, which takes `&mut self`.
        unsafe {
            match ffi::sqlite3_column_type(self.ptr(), index) {
                ffi::SQLITE_INTEGER => {
                    Column::Integer(ffi::sqlite3_column_int64(self.ptr(), index))
                }
                ffi::SQLITE_FLOAT => Column::Real(ffi::sqlite3_column_double(self.ptr(), index)),
                ffi::SQLITE_TEXT => {
                    let start = ffi::sqlite3_column_text(self.ptr(), index);
                    Column::Text(self.bytes(start, index))
                }
                ffi::SQLITE_BLOB => {
                    let start = ffi::sqlite3_column_blob(self.ptr(), index);
                    Column::Blob(self.bytes(start.cast(), index))
                }
                _ => Column::Null,
            }
        }
    }

    /// # Safety
    /// `start` is what SQLite gave for this column just now.
    unsafe fn bytes(&self, start: *const u8, index: c_int) -> &[u8] {
        // SAFETY: by the caller's promise `start` has that many bytes, or is null.
        unsafe {
            let length = ffi::sqlite3_column_bytes(self.ptr(), index);
            match usize::try_from(length) {
                Ok(length) if !start.is_null() => slice::from_raw_parts(start, length),
                _ => &[],
            }
        }
    }

    /// How many rows the loops of the statement visited since its last reset, and whether
    /// it has any loop.
    pub(super) fn rows_visited(&self) -> (u64, bool) {
        let mut total = 0;
        for number in 0.. {
            let mut visits: i64 = 0;
            // SAFETY: this counter is a 64-bit number; past the last loop nothing is stored.
            let code = unsafe {
                ffi::sqlite3_stmt_scanstatus(
                    self.ptr(),
                    number,
                    ffi::SQLITE_SCANSTAT_NVISIT,
                    (&raw mut visits).cast(),
                )
            };
            if code != 0 {
                return (total, number > 0);
            }
            total += u64::try_from(visits).unwrap_or(0);
        }
        (total, true)
    }
}

impl Drop for Statement {
    fn drop(&mut self) {
        // SAFETY: finalised once.
        unsafe { ffi::sqlite3_finalize(self.ptr()) };
    }
}

fn position(index: usize) -> c_int {
    c_int::try_from(index).unwrap_or(c_int::MAX)
}

/// # Safety
/// `text` is null or ends in zero, and lives for `'a`.
unsafe fn text<'a>(text: *const c_char) -> Result<Option<&'a str>, str::Utf8Error> {
    if text.is_null() {
        return Ok(None);
    }
    // SAFETY: by the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_str().map(Some)
}

fn error(db: *mut ffi::sqlite3, code: c_int) -> SqlError {
    // SAFETY: the connection is alive; its message ends in zero and is copied at once.
    unsafe {
        let message = ffi::sqlite3_errmsg(db);
        let message = if message.is_null() {
            String::new()
        } else {
            String::from_utf8_lossy(CStr::from_ptr(message).to_bytes()).into_owned()
        };
        SqlError {
            code,
            extended: ffi::sqlite3_extended_errcode(db),
            offset: ffi::sqlite3_error_offset(db),
            message,
        }
    }
}
