//! `catalog.sqlite`: which accounts there are, and which KV namespaces, D1 databases and
//! R2 buckets they have; which deployments projects keep. (Projects join them here later.)
//!
//! Nothing on a request's path reads the catalog. `ensure_*` is what a configuration
//! needs ("this id is mine, make it if it is new"), `create_*` what the API needs (a new
//! id; a name that is taken is a conflict). Only `create_*` insists on unique names:
//! wrangler configurations give a preview database the name of the production one.
//!
//! **Deletion**: one transaction drops the row and notes the resource as *doomed*; then
//! its files are removed; then the note. A start finishes what a crash cut off, and until
//! then the id cannot be made again, so old data never shows up under a new resource.

mod bucket_rules;
mod deployments;
mod rows;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use engawa_model::{AccountId, BucketName, DatabaseId, NamespaceId};
use rusqlite::{Connection, Transaction, params};

use crate::blobs::BlobIo;
use crate::layout::Resource;
use crate::sqlite;
use crate::stamp::Stamps;
use crate::{Core, Error, Stamp};
pub(crate) use deployments::DeploymentRow;
use rows::{
    D1_BY_ID, D1_BY_NAME, Failed, KV_BY_ID, KV_BY_TITLE, KV_TAKEN, R2_BY_NAME, d1_row, ensure,
    insert_d1, insert_kv, insert_r2, kv_row, missing, ms, note_account, one, r2_row, refuse_taken,
    rows,
};

pub(crate) use rows::SCHEMA;

/// An account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its id.
    pub id: AccountId,
    /// When it was first seen, in milliseconds since 1970.
    pub created_at_ms: u64,
}

/// A KV namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvNamespace {
    /// Its id, unique in the account.
    pub id: NamespaceId,
    /// Its name for people.
    pub title: String,
    /// When it was made, in milliseconds since 1970.
    pub created_at_ms: u64,
}

/// A D1 database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct D1Database {
    /// Its id, unique in the account.
    pub id: DatabaseId,
    /// Its name.
    pub name: String,
    /// When it was made, in milliseconds since 1970.
    pub created_at_ms: u64,
}

/// An R2 bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct R2Bucket {
    /// Its name, unique in the account.
    pub name: BucketName,
    /// When it was made, in milliseconds since 1970.
    pub created_at_ms: u64,
    /// `Standard` or `InfrequentAccess`: what objects get that say nothing else.
    pub storage_class: String,
}

/// The resources of all accounts, by id and by name. Cheap to clone.
#[derive(Clone)]
pub struct Catalog {
    inner: Arc<Inner>,
}

/// Removes a resource's files, and whatever is open of them. Blocking.
pub(crate) type RemoveFiles =
    Box<dyn Fn(Resource, &AccountId, &str) -> Result<(), Error> + Send + Sync>;

struct Inner {
    core: Arc<Core>,
    path: PathBuf,
    connection: Mutex<Connection>,
    remove_files: RemoveFiles,
}

impl Catalog {
    /// Finishes the deletions that a crash cut off. Blocking, at start.
    pub(crate) fn open(core: Arc<Core>, remove_files: RemoveFiles) -> Result<Self, Error> {
        let path = core.layout.catalog_file();
        let connection = sqlite::open(&path, &SCHEMA)?;
        let catalog = Self {
            inner: Arc::new(Inner {
                core,
                path,
                connection: Mutex::new(connection),
                remove_files,
            }),
        };
        let doomed = catalog.inner.with(|db| {
            rows(db, "SELECT account, resource, id FROM doomed", [], |row| {
                let account: String = row.get(0)?;
                Ok((AccountId::new(account), row.get(1)?, row.get(2)?))
            })
        })?;
        for (account, resource, id) in doomed {
            let (resource, id): (String, String) = (resource, id);
            if let Some(resource) = Resource::from_folder(&resource) {
                catalog.inner.finish_deletion(resource, &account, &id)?;
            }
        }
        Ok(catalog)
    }

    /// Makes the account known.
    pub async fn ensure_account(&self, account: &AccountId) -> Result<(), Error> {
        let account = account.clone();
        self.write(move |db, now_ms| note_account(db, &account, now_ms))
            .await
    }

    /// All accounts, by id.
    pub async fn list_accounts(&self) -> Result<Vec<Account>, Error> {
        self.read(|db| {
            let sql = "SELECT id, created_at_ms FROM accounts ORDER BY id";
            rows(db, sql, [], |row| {
                Ok(Account {
                    id: AccountId::new(row.get::<_, String>(0)?),
                    created_at_ms: ms(row, 1)?,
                })
            })
        })
        .await
    }

    /// Makes a namespace with a given id, unless it exists (then its title stays).
    pub async fn ensure_kv_namespace(
        &self,
        account: &AccountId,
        id: &NamespaceId,
        title: &str,
    ) -> Result<(), Error> {
        let (account, id, title) = (account.clone(), id.clone(), title.to_owned());
        self.write(move |db, now_ms| {
            ensure(db, Resource::Kv, &account, id.as_str(), now_ms)?;
            insert_kv(db, &account, &id, &title, now_ms)
        })
        .await
    }

    /// Makes a namespace with a new id (32 hex digits). `Conflict` if the title is taken.
    pub async fn create_kv_namespace(
        &self,
        account: &AccountId,
        title: &str,
    ) -> Result<KvNamespace, Error> {
        let (account, title) = (account.clone(), title.to_owned());
        let id = NamespaceId::new(uuid::Uuid::new_v4().simple().to_string());
        self.write(move |db, now_ms| {
            refuse_taken(db, KV_BY_TITLE, &account, &title, KV_TAKEN)?;
            ensure(db, Resource::Kv, &account, id.as_str(), now_ms)?;
            insert_kv(db, &account, &id, &title, now_ms)?;
            Ok(KvNamespace {
                id,
                title,
                created_at_ms: now_ms,
            })
        })
        .await
    }

    /// Gives a namespace another title. `NotFound`, or `Conflict` if the title is taken.
    pub async fn rename_kv_namespace(
        &self,
        account: &AccountId,
        id: &NamespaceId,
        title: &str,
    ) -> Result<KvNamespace, Error> {
        let (account, id, title) = (account.clone(), id.clone(), title.to_owned());
        self.write(move |db, _| {
            let found = one(db, KV_BY_ID, &account, id.as_str(), kv_row)?;
            let mut found = found.ok_or_else(|| missing(Resource::Kv, id.as_str()))?;
            if found.title != title {
                refuse_taken(db, KV_BY_TITLE, &account, &title, KV_TAKEN)?;
                db.execute(
                    "UPDATE kv_namespaces SET title = ?3 WHERE account = ?1 AND id = ?2",
                    params![account.as_str(), id.as_str(), title],
                )?;
                found.title = title;
            }
            Ok(found)
        })
        .await
    }

    /// An account's namespaces, by title.
    pub async fn list_kv_namespaces(&self, account: &AccountId) -> Result<Vec<KvNamespace>, Error> {
        let account = account.clone();
        self.read(move |db| {
            let sql = "SELECT id, title, created_at_ms FROM kv_namespaces
                       WHERE account = ?1 ORDER BY title, id";
            rows(db, sql, [account.as_str()], kv_row)
        })
        .await
    }

    /// A namespace by its id.
    pub async fn get_kv_namespace(
        &self,
        account: &AccountId,
        id: &NamespaceId,
    ) -> Result<Option<KvNamespace>, Error> {
        let (account, id) = (account.clone(), id.clone());
        self.read(move |db| one(db, KV_BY_ID, &account, id.as_str(), kv_row))
            .await
    }

    /// A namespace by its title; the oldest, if several have it.
    pub async fn get_kv_namespace_by_title(
        &self,
        account: &AccountId,
        title: &str,
    ) -> Result<Option<KvNamespace>, Error> {
        let (account, title) = (account.clone(), title.to_owned());
        self.read(move |db| one(db, KV_BY_TITLE, &account, &title, kv_row))
            .await
    }

    /// Deletes a namespace with all its keys. `NotFound` if there is none.
    pub async fn delete_kv_namespace(
        &self,
        account: &AccountId,
        id: &NamespaceId,
    ) -> Result<(), Error> {
        self.delete(Resource::Kv, account, id.as_str()).await
    }

    /// Makes a database with a given id, unless it exists (then its name stays).
    pub async fn ensure_d1_database(
        &self,
        account: &AccountId,
        id: &DatabaseId,
        name: &str,
    ) -> Result<(), Error> {
        let (account, id, name) = (account.clone(), id.clone(), name.to_owned());
        self.write(move |db, now_ms| {
            ensure(db, Resource::D1, &account, id.as_str(), now_ms)?;
            insert_d1(db, &account, &id, &name, now_ms)
        })
        .await
    }

    /// Makes a database with a new id (a UUID). `Conflict` if the name is taken.
    pub async fn create_d1_database(
        &self,
        account: &AccountId,
        name: &str,
    ) -> Result<D1Database, Error> {
        let (account, name) = (account.clone(), name.to_owned());
        let id = DatabaseId::new(uuid::Uuid::new_v4().hyphenated().to_string());
        self.write(move |db, now_ms| {
            let taken = "a database with this name already exists";
            refuse_taken(db, D1_BY_NAME, &account, &name, taken)?;
            ensure(db, Resource::D1, &account, id.as_str(), now_ms)?;
            insert_d1(db, &account, &id, &name, now_ms)?;
            Ok(D1Database {
                id,
                name,
                created_at_ms: now_ms,
            })
        })
        .await
    }

    /// An account's databases, by name.
    pub async fn list_d1_databases(&self, account: &AccountId) -> Result<Vec<D1Database>, Error> {
        let account = account.clone();
        self.read(move |db| {
            let sql = "SELECT id, name, created_at_ms FROM d1_databases
                       WHERE account = ?1 ORDER BY name, id";
            rows(db, sql, [account.as_str()], d1_row)
        })
        .await
    }

    /// A database by its id.
    pub async fn get_d1_database(
        &self,
        account: &AccountId,
        id: &DatabaseId,
    ) -> Result<Option<D1Database>, Error> {
        let (account, id) = (account.clone(), id.clone());
        self.read(move |db| one(db, D1_BY_ID, &account, id.as_str(), d1_row))
            .await
    }

    /// A database by its name; the oldest, if several have it.
    pub async fn get_d1_database_by_name(
        &self,
        account: &AccountId,
        name: &str,
    ) -> Result<Option<D1Database>, Error> {
        let (account, name) = (account.clone(), name.to_owned());
        self.read(move |db| one(db, D1_BY_NAME, &account, &name, d1_row))
            .await
    }

    /// Deletes a database with all its data. `NotFound` if there is none.
    pub async fn delete_d1_database(
        &self,
        account: &AccountId,
        id: &DatabaseId,
    ) -> Result<(), Error> {
        self.delete(Resource::D1, account, id.as_str()).await
    }

    /// Makes a bucket of class `Standard`, unless it exists.
    pub async fn ensure_r2_bucket(
        &self,
        account: &AccountId,
        name: &BucketName,
    ) -> Result<(), Error> {
        let (account, name) = (account.clone(), name.clone());
        self.write(move |db, now_ms| {
            ensure(db, Resource::R2, &account, name.as_str(), now_ms)?;
            insert_r2(db, &account, &name, "Standard", now_ms)
        })
        .await
    }

    /// Makes a bucket. `Conflict` if the account has one of that name.
    pub async fn create_r2_bucket(
        &self,
        account: &AccountId,
        name: &BucketName,
        storage_class: &str,
    ) -> Result<R2Bucket, Error> {
        let (account, name) = (account.clone(), name.clone());
        let storage_class = storage_class.to_owned();
        self.write(move |db, now_ms| {
            let taken = "The bucket you tried to create already exists, and you own it.";
            refuse_taken(db, R2_BY_NAME, &account, name.as_str(), taken)?;
            ensure(db, Resource::R2, &account, name.as_str(), now_ms)?;
            insert_r2(db, &account, &name, &storage_class, now_ms)?;
            Ok(R2Bucket {
                name,
                created_at_ms: now_ms,
                storage_class,
            })
        })
        .await
    }

    /// An account's buckets, by name.
    pub async fn list_r2_buckets(&self, account: &AccountId) -> Result<Vec<R2Bucket>, Error> {
        let account = account.clone();
        self.read(move |db| {
            let sql = "SELECT name, created_at_ms, storage_class FROM r2_buckets
                       WHERE account = ?1 ORDER BY name";
            rows(db, sql, [account.as_str()], r2_row)
        })
        .await
    }

    /// A bucket by its name.
    pub async fn get_r2_bucket(
        &self,
        account: &AccountId,
        name: &BucketName,
    ) -> Result<Option<R2Bucket>, Error> {
        let (account, name) = (account.clone(), name.clone());
        self.read(move |db| one(db, R2_BY_NAME, &account, name.as_str(), r2_row))
            .await
    }

    /// Changes what class objects get that say nothing else. `NotFound` if there is none.
    pub async fn set_r2_storage_class(
        &self,
        account: &AccountId,
        name: &BucketName,
        storage_class: &str,
    ) -> Result<(), Error> {
        let (account, name) = (account.clone(), name.clone());
        let storage_class = storage_class.to_owned();
        self.write(move |db, _| {
            let changed = db.execute(
                "UPDATE r2_buckets SET storage_class = ?3 WHERE account = ?1 AND name = ?2",
                params![account.as_str(), name.as_str(), storage_class],
            )?;
            if changed == 0 {
                return Err(missing(Resource::R2, name.as_str()).into());
            }
            Ok(())
        })
        .await
    }

    /// Deletes a bucket with all its objects. `NotFound` if there is none. That it must be
    /// empty is for the caller to ask first.
    pub async fn delete_r2_bucket(
        &self,
        account: &AccountId,
        name: &BucketName,
    ) -> Result<(), Error> {
        self.delete(Resource::R2, account, name.as_str()).await
    }

    async fn delete(&self, resource: Resource, account: &AccountId, id: &str) -> Result<(), Error> {
        let (account, id) = (account.clone(), id.to_owned());
        self.blocking(move |inner| {
            inner.transaction(|db| {
                let (table, column) = match resource {
                    Resource::Kv => ("kv_namespaces", "id"),
                    Resource::D1 => ("d1_databases", "id"),
                    Resource::R2 => ("r2_buckets", "name"),
                };
                let sql = format!("DELETE FROM {table} WHERE account = ?1 AND {column} = ?2");
                if db.execute(&sql, [account.as_str(), &id])? == 0 {
                    return Err(missing(resource, &id).into());
                }
                db.execute(
                    "INSERT OR IGNORE INTO doomed (account, resource, id) VALUES (?1, ?2, ?3)",
                    [account.as_str(), resource.folder(), &id],
                )?;
                Ok(())
            })?;
            inner.finish_deletion(resource, &account, &id)
        })
        .await
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        self.blocking(move |inner| inner.with(work)).await
    }

    /// Runs `work` in a transaction, with the time.
    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>, u64) -> Result<T, Failed> + Send + 'static,
    ) -> Result<T, Error> {
        self.blocking(move |inner| {
            let now_ms = inner.core.clock.now_ms();
            inner.transaction(|db| work(db, now_ms))
        })
        .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let inner = self.inner.clone();
        let io: &BlobIo = &self.inner.core.blob_io;
        io.run(move || work(&inner)).await
    }
}

impl Inner {
    fn with<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, Error> {
        let db = self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        work(&db).map_err(|error| sqlite::map(&self.path, "read", error))
    }

    fn transaction<T>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Failed>,
    ) -> Result<T, Error> {
        let failed = |error| sqlite::map(&self.path, "write", error);
        let mut db = self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let behavior = rusqlite::TransactionBehavior::Immediate;
        let transaction = db.transaction_with_behavior(behavior).map_err(failed)?;
        match work(&transaction) {
            Ok(value) => transaction.commit().map_err(failed).map(|()| value),
            Err(Failed::Sqlite(error)) => Err(failed(error)),
            Err(Failed::Refused(error)) => Err(error),
        }
    }

    fn finish_deletion(
        &self,
        resource: Resource,
        account: &AccountId,
        id: &str,
    ) -> Result<(), Error> {
        (self.remove_files)(resource, account, id)?;
        self.transaction(|db| {
            db.execute(
                "DELETE FROM doomed WHERE account = ?1 AND resource = ?2 AND id = ?3",
                [account.as_str(), resource.folder(), id],
            )?;
            Ok(())
        })
    }
}

/// The stamps of a data folder. They have a connection of their own, since any storage
/// thread may ask for one while the catalog is busy. Blocking, at start.
pub(crate) fn open_stamps(
    layout: &crate::layout::Layout,
    clock: engawa_model::Clock,
    memory_bytes: u64,
) -> Result<Stamps, Error> {
    let path = layout.catalog_file();
    let connection = sqlite::open(&path, &SCHEMA)?;
    let reserved = connection
        .query_row("SELECT stamp FROM stamp_ceiling", [], |row| row.get(0))
        .and_then(|reserved| {
            sqlite::limit_memory(&connection, memory_bytes)?;
            Ok(Stamp::from_sql(reserved))
        })
        .map_err(|error| sqlite::map(&path, "read", error))?;
    let connection = Mutex::new(connection);
    let reserve = move |stamp: Stamp| {
        connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .execute("UPDATE stamp_ceiling SET stamp = ?1", [stamp.to_sql()])
            .map(|_| ())
            .map_err(|error| sqlite::map(&path, "write", error))
    };
    Ok(Stamps::new(clock, reserved, Box::new(reserve)))
}

#[cfg(test)]
mod tests;
