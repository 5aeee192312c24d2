//! Lifecycle and CORS rules of buckets, and when the former were applied last.

use engawa_model::{AccountId, BucketName, ErrorKind};
use rusqlite::params;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Catalog;
use super::rows::{json, missing, one, rows};
use crate::Error;
use crate::layout::Resource;
use crate::r2::{CorsRule, LifecycleRule, default_lifecycle};

impl Catalog {
    /// A bucket's lifecycle rules. `None`: there is no such bucket.
    pub async fn get_r2_lifecycle(
        &self,
        account: &AccountId,
        name: &BucketName,
    ) -> Result<Option<Vec<LifecycleRule>>, Error> {
        self.bucket_json(account, name, "lifecycle", default_lifecycle)
            .await
    }

    /// Replaces a bucket's lifecycle rules, which were checked. They are applied within
    /// minutes. `NotFound` if there is no such bucket.
    pub async fn set_r2_lifecycle(
        &self,
        account: &AccountId,
        name: &BucketName,
        rules: &[LifecycleRule],
    ) -> Result<(), Error> {
        let sql = "UPDATE r2_buckets SET lifecycle = ?3, swept_at_ms = NULL
                   WHERE account = ?1 AND name = ?2";
        self.set_bucket_json(account, name, sql, Some(rules)).await
    }

    /// A bucket's CORS rules, empty if it has none. `None`: there is no such bucket.
    pub async fn get_r2_cors(
        &self,
        account: &AccountId,
        name: &BucketName,
    ) -> Result<Option<Vec<CorsRule>>, Error> {
        self.bucket_json(account, name, "cors", Vec::new).await
    }

    /// Replaces a bucket's CORS rules, which were checked; with none it has none any more.
    /// `NotFound` if there is no such bucket.
    pub async fn set_r2_cors(
        &self,
        account: &AccountId,
        name: &BucketName,
        rules: &[CorsRule],
    ) -> Result<(), Error> {
        let sql = "UPDATE r2_buckets SET cors = ?3 WHERE account = ?1 AND name = ?2";
        let rules = (!rules.is_empty()).then_some(rules);
        self.set_bucket_json(account, name, sql, rules).await
    }

    async fn bucket_json<T: DeserializeOwned + Send + 'static>(
        &self,
        account: &AccountId,
        name: &BucketName,
        column: &'static str,
        default: fn() -> Vec<T>,
    ) -> Result<Option<Vec<T>>, Error> {
        let (account, name) = (account.clone(), name.clone());
        self.read(move |db| {
            let sql = format!("SELECT {column} FROM r2_buckets WHERE account = ?1 AND name = ?2");
            one(db, &sql, &account, name.as_str(), |row| {
                json(row, 0, default)
            })
        })
        .await
    }

    async fn set_bucket_json<T: Serialize + ?Sized>(
        &self,
        account: &AccountId,
        name: &BucketName,
        sql: &'static str,
        value: Option<&T>,
    ) -> Result<(), Error> {
        let text = value
            .map(serde_json::to_string)
            .transpose()
            .map_err(|error| Error::new(ErrorKind::Internal, format!("a defect: {error}")))?;
        let (account, name) = (account.clone(), name.clone());
        self.write(move |db, _| {
            let changed = db.execute(sql, params![account.as_str(), name.as_str(), text])?;
            if changed == 0 {
                return Err(missing(Resource::R2, name.as_str()).into());
            }
            Ok(())
        })
        .await
    }

    /// Buckets whose rules were last applied before some time (or, since clocks are set
    /// back, later than now), with their rules; the one that waits longest first.
    /// Blocking.
    pub(crate) fn r2_buckets_to_sweep(
        &self,
        before_ms: u64,
        now_ms: u64,
        limit: usize,
    ) -> Result<Vec<(AccountId, BucketName, Vec<LifecycleRule>)>, Error> {
        self.inner.with(|db| {
            let sql = "SELECT account, name, lifecycle FROM r2_buckets
                       WHERE swept_at_ms IS NULL OR swept_at_ms <= ?1 OR swept_at_ms > ?2
                       ORDER BY swept_at_ms LIMIT ?3";
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let params = params![before_ms.cast_signed(), now_ms.cast_signed(), limit];
            rows(db, sql, params, |row| {
                Ok((
                    AccountId::new(row.get::<_, String>(0)?),
                    BucketName::new(row.get::<_, String>(1)?),
                    json(row, 2, default_lifecycle)?,
                ))
            })
        })
    }

    /// Notes when a bucket's rules were applied, unless they have changed meanwhile.
    /// Blocking.
    pub(crate) fn note_r2_sweep(
        &self,
        account: &AccountId,
        name: &BucketName,
        rules: &[LifecycleRule],
        at_ms: u64,
    ) -> Result<(), Error> {
        self.inner.transaction(|db| {
            let sql = "SELECT lifecycle FROM r2_buckets WHERE account = ?1 AND name = ?2";
            let current = one(db, sql, account, name.as_str(), |row| {
                json(row, 0, default_lifecycle)
            })?;
            if current.as_deref() == Some(rules) {
                db.execute(
                    "UPDATE r2_buckets SET swept_at_ms = ?3 WHERE account = ?1 AND name = ?2",
                    params![account.as_str(), name.as_str(), at_ms.cast_signed()],
                )?;
            }
            Ok(())
        })
    }
}
