//! The text of an SQL error, byte for byte as D1 gives it (workerd `dbErrorMessage`):
//! `<message>[ at offset N]: SQLITE_X[ (extended: SQLITE_X_Y)]`.

use std::ffi::c_int;
use std::fmt;

use rusqlite::ffi;

/// What SQLite said, or a refusal of our own in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SqlError {
    /// The primary code; `SQLITE_OK` where the text stands alone.
    pub(super) code: c_int,
    pub(super) extended: c_int,
    /// Byte of the statement where the error is; negative if SQLite does not say.
    pub(super) offset: c_int,
    pub(super) message: String,
}

impl SqlError {
    /// A text without a code.
    pub(super) fn plain(message: impl Into<String>) -> Self {
        Self::new(ffi::SQLITE_OK, message)
    }

    /// A text with a primary code.
    pub(super) fn new(code: c_int, message: impl Into<String>) -> Self {
        Self {
            code,
            extended: code,
            offset: -1,
            message: message.into(),
        }
    }
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if self.code == ffi::SQLITE_OK {
            return Ok(());
        }
        // workerd: only -1 means unknown.
        if self.offset != -1 {
            write!(f, " at offset {}", self.offset)?;
        }
        match primary_name(self.code) {
            Some(name) => write!(f, ": {name}")?,
            None => write!(f, ": SQLITE_UNKNOWN_ERROR_CODE({})", self.code)?,
        }
        if self.extended != self.code
            && let Some(name) = extended_name(self.extended)
        {
            write!(f, " (extended: {name})")?;
        }
        Ok(())
    }
}

impl std::error::Error for SqlError {}

macro_rules! names {
    ($function:ident: $($name:ident)*) => {
        fn $function(code: c_int) -> Option<&'static str> {
            match code {
                $(ffi::$name => Some(stringify!($name)),)*
                _ => None,
            }
        }
    };
}

names! { primary_name:
    SQLITE_OK SQLITE_ERROR SQLITE_INTERNAL SQLITE_PERM SQLITE_ABORT SQLITE_BUSY SQLITE_LOCKED
    SQLITE_NOMEM SQLITE_READONLY SQLITE_INTERRUPT SQLITE_IOERR SQLITE_CORRUPT SQLITE_NOTFOUND
    SQLITE_FULL SQLITE_CANTOPEN SQLITE_PROTOCOL SQLITE_EMPTY SQLITE_SCHEMA SQLITE_TOOBIG
    SQLITE_CONSTRAINT SQLITE_MISMATCH SQLITE_MISUSE SQLITE_NOLFS SQLITE_AUTH SQLITE_FORMAT
    SQLITE_RANGE SQLITE_NOTADB SQLITE_NOTICE SQLITE_WARNING SQLITE_ROW SQLITE_DONE
}

names! { extended_name:
    SQLITE_ABORT_ROLLBACK SQLITE_AUTH_USER SQLITE_BUSY_RECOVERY SQLITE_BUSY_SNAPSHOT
    SQLITE_BUSY_TIMEOUT SQLITE_CANTOPEN_CONVPATH SQLITE_CANTOPEN_DIRTYWAL
    SQLITE_CANTOPEN_FULLPATH SQLITE_CANTOPEN_ISDIR SQLITE_CANTOPEN_NOTEMPDIR
    SQLITE_CANTOPEN_SYMLINK SQLITE_CONSTRAINT_CHECK SQLITE_CONSTRAINT_COMMITHOOK
    SQLITE_CONSTRAINT_DATATYPE SQLITE_CONSTRAINT_FOREIGNKEY SQLITE_CONSTRAINT_FUNCTION
    SQLITE_CONSTRAINT_NOTNULL SQLITE_CONSTRAINT_PINNED SQLITE_CONSTRAINT_PRIMARYKEY
    SQLITE_CONSTRAINT_ROWID SQLITE_CONSTRAINT_TRIGGER SQLITE_CONSTRAINT_UNIQUE
    SQLITE_CONSTRAINT_VTAB SQLITE_CORRUPT_INDEX SQLITE_CORRUPT_SEQUENCE SQLITE_CORRUPT_VTAB
    SQLITE_ERROR_MISSING_COLLSEQ SQLITE_ERROR_RETRY SQLITE_ERROR_SNAPSHOT
    SQLITE_IOERR_ACCESS SQLITE_IOERR_AUTH SQLITE_IOERR_BEGIN_ATOMIC SQLITE_IOERR_BLOCKED
    SQLITE_IOERR_CHECKRESERVEDLOCK SQLITE_IOERR_CLOSE SQLITE_IOERR_COMMIT_ATOMIC
    SQLITE_IOERR_CONVPATH SQLITE_IOERR_CORRUPTFS SQLITE_IOERR_DATA SQLITE_IOERR_DELETE
    SQLITE_IOERR_DELETE_NOENT SQLITE_IOERR_DIR_CLOSE SQLITE_IOERR_DIR_FSYNC
    SQLITE_IOERR_FSTAT SQLITE_IOERR_FSYNC SQLITE_IOERR_GETTEMPPATH SQLITE_IOERR_LOCK
    SQLITE_IOERR_MMAP SQLITE_IOERR_NOMEM SQLITE_IOERR_RDLOCK SQLITE_IOERR_READ
    SQLITE_IOERR_ROLLBACK_ATOMIC SQLITE_IOERR_SEEK SQLITE_IOERR_SHMLOCK SQLITE_IOERR_SHMMAP
    SQLITE_IOERR_SHMOPEN SQLITE_IOERR_SHMSIZE SQLITE_IOERR_SHORT_READ SQLITE_IOERR_TRUNCATE
    SQLITE_IOERR_UNLOCK SQLITE_IOERR_VNODE SQLITE_IOERR_WRITE SQLITE_LOCKED_SHAREDCACHE
    SQLITE_LOCKED_VTAB SQLITE_NOTICE_RECOVER_ROLLBACK SQLITE_NOTICE_RECOVER_WAL
    SQLITE_OK_LOAD_PERMANENTLY SQLITE_READONLY_CANTINIT SQLITE_READONLY_CANTLOCK
    SQLITE_READONLY_DBMOVED SQLITE_READONLY_DIRECTORY SQLITE_READONLY_RECOVERY
    SQLITE_READONLY_ROLLBACK SQLITE_WARNING_AUTOINDEX
}
