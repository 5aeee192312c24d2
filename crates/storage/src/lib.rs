//! Durable state: catalog, blobs, KV, D1, R2, assets, events. Knows nothing of HTTP.
//!
//! One process owns a data folder ([`Owner`]) and opens it once ([`Storage::open`]).
//! Every operation takes the account; whatever is acknowledged is durable. What an
//! operation cost comes back with its result (`engawa_model::Metered`).

mod assets;
mod blobs;
mod body;
mod cache;
mod catalog;
pub mod d1;
mod deployments;
mod doctor;
mod error;
mod events;
mod kv;
mod layout;
mod owner;
mod pool;
pub mod r2;
mod room;
mod scratch;
mod scrub;
mod seal;
mod sqlite;
mod stamp;
#[cfg(test)]
mod tests;
mod ticker;

use std::path::PathBuf;
use std::sync::Arc;

use engawa_model::{AccountId, BucketName, Clock, ErrorKind};

pub use assets::{Assets, EncodedForms, NewAsset};
pub use body::{BlobReader, Body, DigestKind, Digests, Stage, Staged};
pub use cache::{Cache, CacheEntry, CacheLimits, CacheWrite};
pub use catalog::{Account, Catalog, D1Database, KvNamespace, R2Bucket};
pub use d1::D1;
pub use deployments::{DeploymentManifest, DeploymentSummary, Deployments};
pub use doctor::{Examination, Finding, Level, examine};
pub use error::Error;
pub use events::{BatchKey, EventBatch, EventPoint, EventReader, Events};
pub use kv::{Kv, KvEntry, KvList, KvListKey, KvListOptions, KvPutOptions, check_cache_ttl};
pub use owner::{Owner, OwnerError, connect_control, create_data_dir};
pub use r2::R2;
pub use scratch::{Scratch, ScratchReader, ScratchUpload};
pub use scrub::ScrubStatus;
pub use stamp::Stamp;

use blobs::BlobIo;
use layout::{Layout, Resource};
use pool::{Pool, PoolOptions};
use scrub::Scrubber;
use stamp::Stamps;
use ticker::Ticker;

/// How to open a data folder.
#[derive(Debug, Clone)]
pub struct StorageOptions {
    /// The folder; the one that the [`Owner`] holds.
    pub data_dir: PathBuf,
    /// The time, for expirations and stamps.
    pub clock: Clock,
    /// Files of KV namespaces that are open at once, and as many of R2 buckets and of D1
    /// databases; the least recently used goes. One costs up to eleven descriptors (three
    /// for its writer, two for each of up to four readers), so that the default stays below
    /// 9,000 in all. With 10,000 buckets those in use stay open; to open another costs about
    /// a millisecond.
    pub max_open_files: usize,
    /// Memory for hot KV values.
    pub kv_cache_bytes: usize,
    /// What workers may keep with the Cache API.
    pub cache: CacheLimits,
    /// Memory for SQLite's page caches, of all files together.
    pub sqlite_memory_bytes: u64,
    /// How fast stored blobs are verified in the background, in bytes a second; 0: not.
    pub scrub_bytes_per_s: u64,
}

impl StorageOptions {
    /// The defaults for a folder.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            clock: Clock::system(),
            max_open_files: 256,
            kv_cache_bytes: 64 * 1024 * 1024,
            cache: CacheLimits::default(),
            sqlite_memory_bytes: 256 * 1024 * 1024,
            scrub_bytes_per_s: 4 * 1024 * 1024,
        }
    }
}

/// An open data folder. Cheap to clone.
#[derive(Clone)]
pub struct Storage {
    core: Arc<Core>,
    kv: Kv,
    d1: D1,
    r2: R2,
    catalog: Catalog,
    assets: Assets,
    cache: Cache,
    deployments: Deployments,
    events: Events,
    lifecycle: Arc<Ticker>,
    scrubber: Arc<Scrubber>,
}

/// What every part of the store shares.
pub(crate) struct Core {
    pub(crate) layout: Arc<Layout>,
    pub(crate) clock: Clock,
    pub(crate) stamps: Arc<Stamps>,
    /// The threads of KV and R2 metadata.
    pub(crate) pool: Pool,
    pub(crate) blob_io: BlobIo,
    pub(crate) max_open_files: usize,
    pub(crate) kv_cache_bytes: usize,
}

impl Storage {
    /// Opens the folder that `owner` holds. Blocking, at start.
    pub fn open(owner: &Owner, options: StorageOptions) -> Result<Self, Error> {
        if options.data_dir.canonicalize().ok().as_deref() != Some(owner.data_dir()) {
            let message = format!(
                "{} is not the data folder that this process owns ({})",
                options.data_dir.display(),
                owner.data_dir().display()
            );
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
        let core = Arc::new(Core::open(owner.data_dir().to_owned(), &options)?);
        let kv = Kv::new(core.clone())?;
        let r2 = R2::new(
            core.layout.clone(),
            core.clock.clone(),
            core.stamps.clone(),
            core.blob_io.clone(),
            core.pool.clone(),
            core.max_open_files,
        );
        let d1 = D1::open(
            core.layout.clone(),
            core.stamps.clone(),
            core.blob_io.clone(),
            core.max_open_files,
        )?;
        let catalog = {
            let (kv, d1, r2) = (kv.clone(), d1.clone(), r2.clone());
            Catalog::open(
                core.clone(),
                Box::new(move |resource, account, id| match resource {
                    Resource::Kv => kv.remove(account, id),
                    Resource::D1 => d1.remove(account, id),
                    Resource::R2 => r2.remove_files(account, &BucketName::from(id)),
                }),
            )?
        };
        let scrubber = Scrubber::start(&core, options.scrub_bytes_per_s)?;
        let assets = Assets::new(core.clone());
        Ok(Self {
            lifecycle: Arc::new(r2::sweep::start(r2.clone(), catalog.clone())?),
            scrubber: Arc::new(scrubber),
            deployments: Deployments::new(core.clone(), catalog.clone(), assets.clone()),
            assets,
            cache: Cache::new(core.clone(), options.cache),
            events: Events::new(core.clone()),
            kv,
            d1,
            r2,
            catalog,
            core,
        })
    }

    /// The time by which things expire.
    pub fn clock(&self) -> &Clock {
        &self.core.clock
    }

    /// KV namespaces.
    pub fn kv(&self) -> &Kv {
        &self.kv
    }

    /// D1 databases.
    pub fn d1(&self) -> &D1 {
        &self.d1
    }

    /// R2 buckets.
    pub fn r2(&self) -> &R2 {
        &self.r2
    }

    /// Resources by id and name.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Static files of projects.
    pub fn assets(&self) -> &Assets {
        &self.assets
    }

    /// The deployments that projects keep.
    pub fn deployments(&self) -> &Deployments {
        &self.deployments
    }

    /// What workers keep with the Cache API.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Analytics Engine points.
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// What the verification of stored blobs has found so far.
    pub fn scrub_status(&self) -> ScrubStatus {
        self.scrubber.status()
    }

    /// Begins an upload: up to `inline_limit_bytes` (at most 1 MiB) stay in memory, more
    /// goes to a blob.
    pub fn stage(&self, account: &AccountId, inline_limit_bytes: u64) -> Stage {
        Stage::new(
            self.core.layout.clone(),
            self.core.blob_io.clone(),
            account.clone(),
            inline_limit_bytes,
        )
    }

    /// Begins a file that nobody names, of at most `limit_bytes`: for what is to be
    /// imported.
    pub async fn scratch(
        &self,
        account: &AccountId,
        limit_bytes: u64,
    ) -> Result<ScratchUpload, Error> {
        let (layout, io) = (self.core.layout.clone(), self.core.blob_io.clone());
        ScratchUpload::create(layout, io, account.clone(), limit_bytes).await
    }

    /// Executes and answers all that waits, closes every file, ends every thread. Later
    /// calls (of clones) are refused with `Unavailable`.
    pub async fn close(self) {
        let blob_io = self.core.blob_io.clone();
        // Uploads may still be on their way into a queue.
        let done = tokio::task::spawn_blocking(move || {
            self.lifecycle.stop();
            self.scrubber.stop();
            self.kv.close();
            self.d1.close();
            self.r2.close();
            self.core.pool.stop();
        });
        if let Err(error) = done.await {
            tracing::error!(%error, "closing the storage failed");
        }
        blob_io.close().await;
    }
}

impl Core {
    fn open(data_dir: PathBuf, options: &StorageOptions) -> Result<Self, Error> {
        let layout = Arc::new(Layout::new(data_dir));
        blobs::clear_uploads(&layout)?;
        layout.room().keep();
        let clock = options.clock.clone();
        let stamps = catalog::open_stamps(&layout, clock.clone(), options.sqlite_memory_bytes)?;
        let pool = Pool::start(PoolOptions::metadata()).map_err(|error| {
            let message = format!("cannot start the storage threads: {error}");
            Error::with_source(ErrorKind::Internal, message, error)
        })?;
        Ok(Self {
            layout,
            clock,
            stamps: Arc::new(stamps),
            pool,
            blob_io: BlobIo::default(),
            max_open_files: options.max_open_files,
            kv_cache_bytes: options.kv_cache_bytes,
        })
    }
}
