//! A bucket over real files, on a clock of the test's own.

mod lifecycle;
mod lists;
mod objects;
mod parts;
mod rules;
mod ssec;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use engawa_model::Clock;
use tempfile::TempDir;

use super::*;
use crate::pool::PoolOptions;
use crate::{Digests, Stamp};

const NOW_MS: u64 = 1_700_000_000_500;
/// miniflare `constants.ts`, `MIN_MULTIPART_PART_SIZE_TEST`.
const PART_MIN: u64 = 50;
const MAX_OPEN: usize = 4;

struct World {
    r2: R2,
    pool: Pool,
    now_ms: Arc<AtomicU64>,
    account: AccountId,
    bucket: BucketName,
    data: Arc<TempDir>,
}

impl World {
    fn new() -> Self {
        Self::at(Arc::new(TempDir::new().unwrap()))
    }

    fn at(data: Arc<TempDir>) -> Self {
        let now_ms = Arc::new(AtomicU64::new(NOW_MS));
        let clock = {
            let now_ms = now_ms.clone();
            Clock::from_fn(move || now_ms.load(Ordering::SeqCst))
        };
        let stamps = Stamps::new(clock.clone(), Stamp::from_sql(0), Box::new(|_| Ok(())));
        let pool = Pool::start(PoolOptions::metadata()).unwrap();
        let layout = Arc::new(Layout::new(data.path().to_owned()));
        layout.ensure_folder(&layout.accounts_dir()).unwrap();
        let r2 = R2::with_part_min(
            layout,
            clock,
            Arc::new(stamps),
            BlobIo::default(),
            pool.clone(),
            MAX_OPEN,
            PART_MIN,
        );
        Self {
            r2,
            pool,
            now_ms,
            account: AccountId::local(),
            bucket: "bucket".into(),
            data,
        }
    }

    /// Closes everything and opens it again.
    fn restart(self) -> Self {
        let data = self.data.clone();
        drop(self);
        Self::at(data)
    }

    fn later(&self, ms: u64) {
        self.now_ms.fetch_add(ms, Ordering::SeqCst);
    }

    async fn put(&self, key: &str, value: impl Into<Bytes>) -> R2Object {
        match self.put_with(request(key), value).await.unwrap() {
            R2Put::Stored(object) => object,
            R2Put::PreconditionFailed => panic!("no condition was given"),
        }
    }

    async fn put_with(
        &self,
        request: R2PutRequest,
        value: impl Into<Bytes>,
    ) -> Result<R2Put, R2Error> {
        let put = self
            .r2
            .put(&self.account, &self.bucket, request, value.into());
        put.await.map(|put| put.value)
    }

    async fn get_with(&self, request: R2GetRequest) -> Result<R2Get, R2Error> {
        let get = self.r2.get(&self.account, &self.bucket, request);
        get.await.map(|get| get.value)
    }

    /// The value; `None` if there is no such object.
    async fn get(&self, key: &str) -> Option<Vec<u8>> {
        let request = R2GetRequest {
            key: key.to_owned(),
            ..R2GetRequest::default()
        };
        match self.get_with(request).await.unwrap() {
            R2Get::Found { body, .. } => Some(collect(body).await.unwrap()),
            R2Get::NoSuchKey => None,
            R2Get::PreconditionFailed { .. } => panic!("no condition was given"),
        }
    }

    async fn head(&self, key: &str) -> Option<R2Object> {
        let head = self.r2.head(&self.account, &self.bucket, key);
        head.await.unwrap().value
    }

    async fn delete(&self, keys: &[&str]) {
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        let delete = self.r2.delete(&self.account, &self.bucket, keys);
        delete.await.unwrap();
    }

    async fn list(&self, request: R2ListRequest) -> Result<R2List, R2Error> {
        let list = self.r2.list(&self.account, &self.bucket, request);
        list.await.map(|list| list.value)
    }

    /// The blob files of the account, uploads under way included, once the writers are
    /// idle: what was replaced is removed after its answer.
    fn blobs(&self) -> Vec<PathBuf> {
        self.r2.files.settle();
        let mut found = Vec::new();
        files(self.data.path().join("accounts/local/blobs"), &mut found);
        found
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.r2.close();
        self.pool.stop();
    }
}

fn request(key: &str) -> R2PutRequest {
    R2PutRequest {
        key: key.to_owned(),
        ..R2PutRequest::default()
    }
}

async fn collect(mut body: R2Body) -> Result<Vec<u8>, Error> {
    let expected = body.len_bytes();
    let mut value = Vec::new();
    while let Some(chunk) = body.next_chunk().await {
        let chunk = chunk?;
        assert!((1..=256 * 1024).contains(&chunk.len()));
        value.extend_from_slice(&chunk);
    }
    assert_eq!(value.len() as u64, expected);
    assert_eq!(body.len_bytes(), 0);
    Ok(value)
}

/// Bytes that differ everywhere.
fn noise(len: usize, seed: u8) -> Vec<u8> {
    (0..len)
        .map(|at| (at.wrapping_mul(31) ^ (at >> 8)).to_le_bytes()[0] ^ seed)
        .collect()
}

fn files(folder: PathBuf, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(path, found);
        } else {
            found.push(path);
        }
    }
}
