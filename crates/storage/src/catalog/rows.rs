//! The tables of `catalog.sqlite` and the statements on them.

use engawa_model::{AccountId, BucketName, DatabaseId, ErrorKind, NamespaceId};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{D1Database, KvNamespace, R2Bucket};
use crate::Error;
use crate::layout::Resource;
use crate::sqlite::Schema;

pub(crate) const SCHEMA: Schema = Schema {
    what: "a catalog",
    application_id: *b"EgCt",
    migrations: &[
        "
        CREATE TABLE accounts (
            id TEXT PRIMARY KEY,
            created_at_ms INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE kv_namespaces (
            account TEXT NOT NULL,
            id TEXT NOT NULL,
            title TEXT NOT NULL,
            created_at_ms INTEGER NOT NULL,
            PRIMARY KEY (account, id)
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX kv_namespaces_title ON kv_namespaces (account, title);
        CREATE TABLE d1_databases (
            account TEXT NOT NULL,
            id TEXT NOT NULL,
            name TEXT NOT NULL,
            created_at_ms INTEGER NOT NULL,
            PRIMARY KEY (account, id)
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX d1_databases_name ON d1_databases (account, name);
        CREATE TABLE r2_buckets (
            account TEXT NOT NULL,
            name TEXT NOT NULL,
            created_at_ms INTEGER NOT NULL,
            storage_class TEXT NOT NULL,
            PRIMARY KEY (account, name)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE doomed (
            account TEXT NOT NULL,
            resource TEXT NOT NULL,
            id TEXT NOT NULL,
            PRIMARY KEY (account, resource, id)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE stamp_ceiling (
            only INTEGER PRIMARY KEY CHECK (only = 1),
            stamp INTEGER NOT NULL
        ) STRICT;
        INSERT INTO stamp_ceiling VALUES (1, 0);
    ",
        "
        -- Rules as JSON. lifecycle: NULL for the default one; cors: NULL for none.
        -- swept_at_ms: when the lifecycle rules were applied last; NULL: never.
        ALTER TABLE r2_buckets ADD COLUMN lifecycle TEXT;
        ALTER TABLE r2_buckets ADD COLUMN cors TEXT;
        ALTER TABLE r2_buckets ADD COLUMN swept_at_ms INTEGER;
        CREATE INDEX r2_buckets_swept ON r2_buckets (swept_at_ms);
    ",
        "
        CREATE TABLE deployments (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            account TEXT NOT NULL,
            id TEXT NOT NULL,
            project TEXT NOT NULL,
            environment TEXT NOT NULL,
            created_at_ms INTEGER NOT NULL,
            manifest TEXT NOT NULL,
            UNIQUE (account, id)
        ) STRICT;
        CREATE INDEX deployments_project ON deployments (account, project, number);
    ",
    ],
};

/// Why a transaction is rolled back.
pub(super) enum Failed {
    Sqlite(rusqlite::Error),
    Refused(Error),
}

impl From<rusqlite::Error> for Failed {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

pub(super) const KV_TAKEN: &str = "a namespace with this account ID and title already exists";
pub(super) const KV_BY_ID: &str =
    "SELECT id, title, created_at_ms FROM kv_namespaces WHERE account = ?1 AND id = ?2";
pub(super) const KV_BY_TITLE: &str = "SELECT id, title, created_at_ms FROM kv_namespaces
    WHERE account = ?1 AND title = ?2 ORDER BY created_at_ms LIMIT 1";
pub(super) const D1_BY_ID: &str =
    "SELECT id, name, created_at_ms FROM d1_databases WHERE account = ?1 AND id = ?2";
pub(super) const D1_BY_NAME: &str = "SELECT id, name, created_at_ms FROM d1_databases
    WHERE account = ?1 AND name = ?2 ORDER BY created_at_ms LIMIT 1";
pub(super) const R2_BY_NAME: &str =
    "SELECT name, created_at_ms, storage_class FROM r2_buckets WHERE account = ?1 AND name = ?2";

pub(super) fn note_account(
    db: &Connection,
    account: &AccountId,
    now_ms: u64,
) -> Result<(), Failed> {
    db.execute(
        "INSERT OR IGNORE INTO accounts (id, created_at_ms) VALUES (?1, ?2)",
        params![account.as_str(), now_ms.cast_signed()],
    )?;
    Ok(())
}

/// What precedes every new row: its account is known, and nothing of its id is still
/// being removed.
pub(super) fn ensure(
    db: &Connection,
    resource: Resource,
    account: &AccountId,
    id: &str,
    now_ms: u64,
) -> Result<(), Failed> {
    note_account(db, account, now_ms)?;
    let doomed = db
        .query_row(
            "SELECT 1 FROM doomed WHERE account = ?1 AND resource = ?2 AND id = ?3",
            [account.as_str(), resource.folder(), id],
            |_| Ok(()),
        )
        .optional()?;
    match doomed {
        None => Ok(()),
        Some(()) => Err(Error::new(
            ErrorKind::Unavailable,
            format!(
                "the {} \"{id}\" is still being deleted; try again",
                noun(resource)
            ),
        )
        .into()),
    }
}

pub(super) fn insert_kv(
    db: &Connection,
    account: &AccountId,
    id: &NamespaceId,
    title: &str,
    now_ms: u64,
) -> Result<(), Failed> {
    db.execute(
        "INSERT OR IGNORE INTO kv_namespaces (account, id, title, created_at_ms)
         VALUES (?1, ?2, ?3, ?4)",
        params![account.as_str(), id.as_str(), title, now_ms.cast_signed()],
    )?;
    Ok(())
}

pub(super) fn insert_d1(
    db: &Connection,
    account: &AccountId,
    id: &DatabaseId,
    name: &str,
    now_ms: u64,
) -> Result<(), Failed> {
    db.execute(
        "INSERT OR IGNORE INTO d1_databases (account, id, name, created_at_ms)
         VALUES (?1, ?2, ?3, ?4)",
        params![account.as_str(), id.as_str(), name, now_ms.cast_signed()],
    )?;
    Ok(())
}

pub(super) fn insert_r2(
    db: &Connection,
    account: &AccountId,
    name: &BucketName,
    storage_class: &str,
    now_ms: u64,
) -> Result<(), Failed> {
    db.execute(
        "INSERT OR IGNORE INTO r2_buckets (account, name, created_at_ms, storage_class)
         VALUES (?1, ?2, ?3, ?4)",
        params![
            account.as_str(),
            name.as_str(),
            now_ms.cast_signed(),
            storage_class
        ],
    )?;
    Ok(())
}

pub(super) fn refuse_taken(
    db: &Connection,
    sql: &str,
    account: &AccountId,
    name: &str,
    message: &str,
) -> Result<(), Failed> {
    match one(db, sql, account, name, |_| Ok(()))? {
        None => Ok(()),
        Some(()) => Err(Error::new(ErrorKind::Conflict, message).into()),
    }
}

pub(super) fn kv_row(row: &Row<'_>) -> rusqlite::Result<KvNamespace> {
    Ok(KvNamespace {
        id: NamespaceId::new(row.get::<_, String>(0)?),
        title: row.get(1)?,
        created_at_ms: ms(row, 2)?,
    })
}

pub(super) fn d1_row(row: &Row<'_>) -> rusqlite::Result<D1Database> {
    Ok(D1Database {
        id: DatabaseId::new(row.get::<_, String>(0)?),
        name: row.get(1)?,
        created_at_ms: ms(row, 2)?,
    })
}

pub(super) fn r2_row(row: &Row<'_>) -> rusqlite::Result<R2Bucket> {
    Ok(R2Bucket {
        name: BucketName::new(row.get::<_, String>(0)?),
        created_at_ms: ms(row, 1)?,
        storage_class: row.get(2)?,
    })
}

/// A column of JSON text, or what stands for NULL.
pub(super) fn json<T: serde::de::DeserializeOwned>(
    row: &Row<'_>,
    column: usize,
    default: impl FnOnce() -> T,
) -> rusqlite::Result<T> {
    match row.get_ref(column)?.as_str_or_null()? {
        None => Ok(default()),
        Some(text) => serde_json::from_str(text).map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(
                column,
                rusqlite::types::Type::Text,
                Box::new(error),
            )
        }),
    }
}

pub(super) fn ms(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(row.get::<_, i64>(column)?.cast_unsigned())
}

pub(super) fn one<T>(
    db: &Connection,
    sql: &str,
    account: &AccountId,
    name: &str,
    row: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Option<T>> {
    db.prepare_cached(sql)?
        .query_row([account.as_str(), name], row)
        .optional()
}

pub(super) fn rows<T>(
    db: &Connection,
    sql: &str,
    params: impl rusqlite::Params,
    row: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    db.prepare_cached(sql)?.query_map(params, row)?.collect()
}

pub(super) fn noun(resource: Resource) -> &'static str {
    match resource {
        Resource::Kv => "KV namespace",
        Resource::D1 => "D1 database",
        Resource::R2 => "R2 bucket",
    }
}

pub(super) fn missing(resource: Resource, id: &str) -> Error {
    Error::new(
        ErrorKind::NotFound,
        format!("there is no {} \"{id}\"", noun(resource)),
    )
}
