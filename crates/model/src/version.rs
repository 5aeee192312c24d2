//! A version of a project: everything that is needed to serve it, and immutable once
//! made. `engawa dev` makes one for each edit; a deployment points at one.

use std::sync::Arc;

use bytes::Bytes;
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::{
    AccountId, AssetsConfig, BucketName, DatabaseId, DatasetName, DeploymentId, NamespaceId,
    ProjectName, RoutesJson, Secret,
};

/// Which rules a project follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProjectKind {
    /// `pages_build_output_dir` with `functions/` or `_worker.js`.
    Pages,
    /// `main`, with or without `[assets]`.
    Workers,
}

/// Which of a project's two environments a version belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    /// The production branch.
    Production,
    /// Every other branch.
    Preview,
}

impl Environment {
    /// Cloudflare's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Production => "production",
            Self::Preview => "preview",
        }
    }
}

/// One immutable version of a project, ready to be served.
#[derive(Debug, Clone, PartialEq)]
pub struct Version {
    /// The deployment that this version was made for.
    pub deployment: DeploymentId,
    /// Whose it is.
    pub account: AccountId,
    /// The project's name.
    pub project: ProjectName,
    /// Pages or Workers rules.
    pub kind: ProjectKind,
    /// Production or preview.
    pub environment: Environment,
    /// The code, if there is any.
    pub worker: Option<WorkerCode>,
    /// What `env` holds, apart from `ASSETS` of a Pages project, which every Pages
    /// worker has. Names are unique.
    pub bindings: Vec<Binding>,
    /// The static files.
    pub assets: AssetManifest,
    /// Workers: how the static files are served; `None` without `assets` in the wrangler
    /// file.
    pub assets_config: Option<AssetsConfig>,
    /// Pages: which paths go to the worker. `None` with a worker: all of them.
    pub routes: Option<RoutesJson>,
    /// `_headers` as it was uploaded.
    pub headers_file: Option<String>,
    /// `_redirects` as it was uploaded.
    pub redirects_file: Option<String>,
}

/// The bundled code of a worker.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerCode {
    /// The modules; the first one is the entry point.
    pub modules: Vec<Module>,
    /// The date as the user wrote it, `YYYY-MM-DD`.
    pub compatibility_date: String,
    /// The date that workerd is given: the same, or the newest that the pinned workerd
    /// knows, if that is older.
    pub effective_compatibility_date: String,
    /// Flags as written, checked against those that need `--experimental`.
    pub compatibility_flags: Vec<String>,
}

/// A module of a worker.
#[derive(Debug, Clone, PartialEq)]
pub struct Module {
    /// Its specifier: a path that relative imports resolve against.
    pub name: String,
    /// How workerd reads it.
    pub kind: ModuleKind,
    /// Its content.
    pub body: Bytes,
    /// The source map of an ES module, to show positions in the user's own files.
    pub source_map: Option<Bytes>,
}

/// The module kinds of `workerd.capnp` that a project can contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModuleKind {
    /// `import`/`export`.
    EsModule,
    /// `require`/`module.exports`.
    CommonJs,
    /// A string.
    Text,
    /// An `ArrayBuffer`.
    Data,
    /// A `WebAssembly.Module`.
    Wasm,
    /// A parsed JSON value.
    Json,
}

/// A property of `env`.
#[derive(Debug, Clone, PartialEq)]
pub struct Binding {
    /// The property's name.
    pub name: String,
    /// What it holds.
    pub kind: BindingKind,
}

/// What a binding holds.
#[derive(Debug, Clone, PartialEq)]
pub enum BindingKind {
    /// A string from `vars`.
    PlainText(String),
    /// Any other JSON value from `vars`.
    Json(serde_json::Value),
    /// A secret string.
    SecretText(Secret),
    /// A KV namespace.
    KvNamespace(NamespaceId),
    /// A D1 database.
    D1(DatabaseId),
    /// An R2 bucket.
    R2Bucket(BucketName),
    /// An Analytics Engine dataset.
    AnalyticsEngine(DatasetName),
    /// Another project of the same account.
    Service(ProjectName),
    /// The version's own static files.
    Assets,
}

/// The static files of a version: path (with a leading `/`, decoded) to file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AssetManifest {
    /// In the order of discovery.
    pub entries: IndexMap<Arc<str>, AssetEntry>,
}

/// One static file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssetEntry {
    /// The asset key: 32 hex digits (pages.md 1.10), also its `ETag`.
    pub key: Arc<str>,
    /// The value of `Content-Type`, fixed at upload. Workers: `None` for an unknown
    /// extension; Pages always has one.
    pub content_type: Option<Arc<str>>,
    /// Length of the file.
    pub size_bytes: u64,
}
