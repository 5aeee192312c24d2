//! Durable state: catalog, blobs, KV, D1, R2, assets, events. Knows nothing of HTTP.
//!
//! One process owns a data folder ([`Owner`]) and opens it once ([`Storage::open`]).
//! Every operation takes the account; whatever is acknowledged is durable. What an
//! operation cost comes back with its result (`engawa_model::Metered`).

mod blobs;
mod body;
mod error;
mod layout;
mod owner;
mod pool;
mod stamp;

use std::path::PathBuf;
use std::sync::Arc;

use engawa_model::{AccountId, Clock};

pub use body::{BlobReader, Body, DigestKind, Digests, Stage, Staged};
pub use error::Error;
pub use owner::{Owner, OwnerError, connect_control};
pub use stamp::Stamp;

use blobs::BlobIo;
use layout::Layout;

/// How to open a data folder.
#[derive(Debug, Clone)]
pub struct StorageOptions {
    /// The folder; the one that the [`Owner`] holds.
    pub data_dir: PathBuf,
    /// The time, for expirations and stamps.
    pub clock: Clock,
}

impl StorageOptions {
    /// The defaults for a folder.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            clock: Clock::system(),
        }
    }
}

/// An open data folder. Cheap to clone.
#[derive(Clone)]
pub struct Storage {
    core: Arc<Core>,
}

/// What every part of the store shares.
pub(crate) struct Core {
    pub(crate) layout: Arc<Layout>,
    pub(crate) clock: Clock,
    pub(crate) blob_io: BlobIo,
}

impl Storage {
    /// Opens the folder that `owner` holds. Blocking, at start.
    pub fn open(owner: &Owner, options: StorageOptions) -> Result<Self, Error> {
        let layout = Arc::new(Layout::new(owner.data_dir().to_owned()));
        blobs::clear_uploads(&layout)?;
        Ok(Self {
            core: Arc::new(Core {
                layout,
                clock: options.clock,
                blob_io: BlobIo::default(),
            }),
        })
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
}
