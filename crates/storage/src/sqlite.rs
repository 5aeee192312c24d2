//! SQLite files that are ours: the catalog, KV namespaces, R2 buckets. (D1's belong to
//! their users, and `d1` opens them its own way.)
//!
//! Each carries an `application_id` that says which kind it is, the number of migrations
//! that it has seen (`user_version`), and in `engawa_meta` the version of Engawa that
//! wrote it last. It is migrated forward when it is opened; one that a newer Engawa wrote
//! is refused, naming that version, since an older program must not guess.
//!
//! The files run in WAL mode with `synchronous=FULL`: a commit is one sync of the `-wal`.
//! Checkpoints are SQLite's own, and the last close makes one and removes the `-wal`:
//! nothing follows these files' WAL as D1's journal does. No code opens such a file but
//! through SQLite, since closing any descriptor of it would drop SQLite's locks.
//!
//! Memory: each connection may cache 2 MiB of pages; [`limit_memory`] bounds all caches
//! of the process together, under pressure they recycle their own pages.

use std::path::Path;

use engawa_model::ErrorKind;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use crate::Error;

/// A kind of file.
pub(crate) struct Schema {
    /// What the file is, in a message: "a KV namespace".
    pub(crate) what: &'static str,
    /// Tells kinds apart: four letters.
    pub(crate) application_id: [u8; 4],
    /// The steps that lead from an empty file to the newest form. Only ever appended to.
    pub(crate) migrations: &'static [&'static str],
}

/// Opens or creates a file for writing, in its newest form. Its folder exists.
pub(crate) fn open(path: &Path, schema: &Schema) -> Result<Connection, Error> {
    let failed = |error| map(path, "open", error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    configure(&connection).map_err(failed)?;
    connection
        .pragma_update(None, "journal_mode", "WAL")
        .and_then(|()| connection.pragma_update(None, "synchronous", "FULL"))
        .map_err(failed)?;
    migrate(&mut connection, path, schema)?;
    Ok(connection)
}

/// Opens one more connection to a file that [`open`] has open, for reading only.
pub(crate) fn open_reader(path: &Path) -> Result<Connection, Error> {
    let failed = |error| map(path, "open", error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    configure(&connection).map_err(failed)?;
    connection
        .pragma_update(None, "query_only", true)
        .map_err(failed)?;
    Ok(connection)
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    // Only a checkpoint of another connection of this process is ever waited for.
    connection.busy_timeout(std::time::Duration::from_secs(10))?;
    connection.set_prepared_statement_cache_capacity(32);
    // No plan depends on a parameter's value. Else SQLite marks a statement like
    // `WHERE key = ?1` as one whose plan may, and compiles it anew whenever its bindings
    // were cleared, which the cache of statements does after each use.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "trusted_schema", false)
}

/// Bounds the memory of all SQLite connections of this process together.
pub(crate) fn limit_memory(connection: &Connection, bytes: u64) -> rusqlite::Result<()> {
    let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
    connection.query_row(&format!("PRAGMA soft_heap_limit = {bytes}"), [], |_| Ok(()))
}

fn migrate(connection: &mut Connection, path: &Path, schema: &Schema) -> Result<(), Error> {
    let failed = |error| map(path, "migrate", error);
    let (id, version, tables) = identity(connection).map_err(failed)?;
    let expected_id = i32::from_be_bytes(schema.application_id);
    let is_new = id == 0 && version == 0 && tables == 0;
    if !is_new && id != expected_id {
        let message = format!(
            "{} is not {} of Engawa; move it away",
            path.display(),
            schema.what
        );
        return Err(Error::new(ErrorKind::Corrupt, message));
    }
    if version == schema.migrations.len() {
        return Ok(());
    }
    if version > schema.migrations.len() {
        let writer: String = connection
            .query_row("SELECT written_by FROM engawa_meta", [], |row| row.get(0))
            .map_err(failed)?;
        let message = format!(
            "{} was written by Engawa {writer}, which is newer than this one ({}): \
             use that version or a later one",
            path.display(),
            env!("CARGO_PKG_VERSION")
        );
        return Err(Error::new(ErrorKind::Conflict, message));
    }
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(failed)?;
    for migration in schema.migrations.iter().skip(version) {
        transaction.execute_batch(migration).map_err(failed)?;
    }
    transaction
        .execute_batch(
            "CREATE TABLE IF NOT EXISTS engawa_meta (written_by TEXT NOT NULL) STRICT;
             DELETE FROM engawa_meta;",
        )
        .and_then(|()| {
            let writer = env!("CARGO_PKG_VERSION");
            transaction.execute("INSERT INTO engawa_meta VALUES (?1)", [writer])
        })
        .and_then(|_| transaction.pragma_update(None, "application_id", expected_id))
        .and_then(|()| {
            let version = i64::try_from(schema.migrations.len()).unwrap_or(i64::MAX);
            transaction.pragma_update(None, "user_version", version)
        })
        .map_err(failed)?;
    transaction.commit().map_err(failed)
}

/// The kind of a file, how many migrations it has seen, and how many tables it has.
pub(crate) fn identity(connection: &Connection) -> rusqlite::Result<(i32, usize, i64)> {
    let id = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let tables =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    Ok((id, usize::try_from(version).unwrap_or(usize::MAX), tables))
}

/// Folds SQLite's error in a file of ours into a kind, with a text that says what to do.
/// `step` is a verb: "read", "write".
pub(crate) fn map(path: &Path, step: &str, error: rusqlite::Error) -> Error {
    let shown = path.display();
    let (code, extended) = match &error {
        rusqlite::Error::SqliteFailure(failure, _) => (failure.code, failure.extended_code),
        _ => (ErrorCode::Unknown, 0),
    };
    let (kind, message) = match code {
        ErrorCode::DiskFull => (
            ErrorKind::DiskFull,
            format!("no space left on the disk to {step} {shown}"),
        ),
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => (
            ErrorKind::Corrupt,
            format!("the stored file {shown} is corrupt ({error}); restore it from a backup"),
        ),
        ErrorCode::SystemIoFailure
            if extended == rusqlite::ffi::SQLITE_IOERR_FSYNC
                || extended == rusqlite::ffi::SQLITE_IOERR_DIR_FSYNC =>
        {
            (
                ErrorKind::Unknown,
                format!(
                    "the disk failed to sync {shown}: whether the last write survives is not known"
                ),
            )
        }
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => (
            ErrorKind::Unavailable,
            format!("{shown} is in use; try again"),
        ),
        _ => (
            ErrorKind::Internal,
            format!("cannot {step} {shown}: {error}"),
        ),
    };
    Error::with_source(kind, message, error)
}

#[cfg(test)]
mod tests {
    use rusqlite::StatementStatus;

    use super::*;

    fn schema(migrations: &'static [&'static str]) -> Schema {
        Schema {
            what: "a thing",
            application_id: *b"EgTs",
            migrations,
        }
    }

    const FIRST: &str = "CREATE TABLE a (x INTEGER) STRICT;";
    const SECOND: &str = "ALTER TABLE a ADD COLUMN y INTEGER; UPDATE a SET y = x + 1;";

    #[test]
    fn a_kept_statement_is_compiled_once() {
        const TABLES: &str =
            "CREATE TABLE a (k BLOB NOT NULL PRIMARY KEY, x INTEGER) STRICT, WITHOUT ROWID;
                      CREATE TABLE b (id INTEGER PRIMARY KEY, v BLOB NOT NULL) STRICT;";
        let folder = tempfile::tempdir().unwrap();
        let connection = open(&folder.path().join("f.sqlite"), &schema(&[TABLES])).unwrap();
        let sql = "SELECT v FROM a LEFT JOIN b ON id = x WHERE k = ?1";
        for key in [b"one", b"two", b"one"] {
            let mut select = connection.prepare_cached(sql).unwrap();
            assert!(!select.exists([key]).unwrap());
            assert_eq!(select.get_status(StatementStatus::RePrepare), 0);
        }
    }

    #[test]
    fn a_file_is_migrated_forward_and_keeps_its_rows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.sqlite");
        let old = open(&path, &schema(&[FIRST])).unwrap();
        old.execute("INSERT INTO a VALUES (1)", []).unwrap();
        drop(old);
        for _ in 0..2 {
            let new = open(&path, &schema(&[FIRST, SECOND])).unwrap();
            let y: i64 = new
                .query_row("SELECT y FROM a", [], |row| row.get(0))
                .unwrap();
            assert_eq!(y, 2);
        }
    }

    #[test]
    fn a_failed_migration_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.sqlite");
        drop(open(&path, &schema(&[FIRST])).unwrap());
        open(
            &path,
            &schema(&[FIRST, "CREATE TABLE b (x) STRICT; nonsense"]),
        )
        .unwrap_err();
        let again = open(&path, &schema(&[FIRST, SECOND])).unwrap();
        again.execute("INSERT INTO a VALUES (1, 2)", []).unwrap();
    }

    #[test]
    fn a_newer_file_is_refused_by_the_name_of_its_writer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.sqlite");
        let newer = open(&path, &schema(&[FIRST, SECOND])).unwrap();
        newer
            .execute("UPDATE engawa_meta SET written_by = '99.1.2'", [])
            .unwrap();
        drop(newer);
        let error = open(&path, &schema(&[FIRST])).unwrap_err();
        assert!(
            error.message().contains("written by Engawa 99.1.2"),
            "{error}"
        );
        assert!(error.message().contains("f.sqlite"), "{error}");
    }

    #[test]
    fn a_foreign_or_damaged_file_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.sqlite");
        drop(open(&path, &schema(&[FIRST])).unwrap());
        let other = Schema {
            application_id: *b"EgXX",
            ..schema(&[FIRST])
        };
        let error = open(&path, &other).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        let damaged = folder.path().join("g.sqlite");
        std::fs::write(&damaged, [7; 8192]).unwrap();
        let error = open(&damaged, &schema(&[FIRST])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.message().contains("g.sqlite"), "{error}");
    }

    #[test]
    fn a_full_disk_is_said_in_plain_words() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.sqlite");
        let file = open(&path, &schema(&[FIRST])).unwrap();
        file.query_row("PRAGMA max_page_count = 4", [], |_| Ok(()))
            .unwrap();
        let error = file
            .execute(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
                 INSERT INTO a SELECT i FROM n",
                [],
            )
            .unwrap_err();
        let error = map(&path, "write", error);
        assert_eq!(error.kind(), ErrorKind::DiskFull);
        assert!(
            error.message().starts_with("no space left on the disk"),
            "{error}"
        );
    }

    #[test]
    fn a_reader_sees_commits_and_cannot_write() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.sqlite");
        let writer = open(&path, &schema(&[FIRST])).unwrap();
        let reader = open_reader(&path).unwrap();
        writer.execute("INSERT INTO a VALUES (1)", []).unwrap();
        let rows: i64 = reader
            .query_row("SELECT count(*) FROM a", [], |row| row.get(0))
            .unwrap();
        assert_eq!(rows, 1);
        reader.execute("INSERT INTO a VALUES (2)", []).unwrap_err();
    }
}
