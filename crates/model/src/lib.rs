//! The vocabulary that every other crate of Engawa shares: what things are called,
//! how large they may be, and what a version of a project consists of.
//!
//! No IO happens here and nothing of ours is depended on. A name is Cloudflare's
//! own wherever Cloudflare has one.

mod asset_key;
mod assets_config;
mod clock;
mod encoding;
mod error;
mod ids;
pub mod limits;
mod routes;
mod secret;
mod usage;
mod version;
pub mod wiring;
mod worker;

pub use asset_key::{AssetKeyHasher, asset_key, is_asset_key};
pub use assets_config::{
    AssetsConfig, BasePath, BasePathError, HtmlHandling, NotFoundHandling, RunWorkerFirst,
    StaticRouting, StaticRoutingError,
};
pub use clock::Clock;
pub use encoding::{EncodedSizes, Encoding};
pub use error::ErrorKind;
pub use ids::{
    AccountId, BucketName, DatabaseId, DatasetName, DeploymentId, NamespaceId, ProjectName,
};
pub use routes::{RoutesError, RoutesJson};
pub use secret::Secret;
pub use usage::{Metered, Usage, UsageClass};
pub use version::{
    AssetEntry, AssetManifest, Binding, BindingKind, Environment, Module, ModuleKind, ProjectKind,
    Version, WorkerCode,
};
pub use worker::{Lease, LeaseGuard, WorkerPool, WorkerUnavailable};
