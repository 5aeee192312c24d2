//! What a wrangler file says, checked and with every path made absolute or relative to
//! the caller's folder.

use std::path::PathBuf;

use engawa_model::{
    AssetsConfig, BucketName, DatabaseId, DatasetName, Environment, NamespaceId, ProjectKind,
    ProjectName,
};
use indexmap::IndexMap;

use crate::compat::Compatibility;

/// A project's configuration for one environment.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The folder that paths of the file are relative to: the file's own, or the project
    /// folder if there is no file.
    pub root: PathBuf,
    /// The wrangler file; `None` if the project has none.
    pub config_file: Option<PathBuf>,
    /// The project's name. Without one in the file: the folder's.
    pub name: ProjectName,
    /// Pages or Workers rules.
    pub kind: ProjectKind,
    /// The environment asked for.
    pub environment: Option<Environment>,
    /// Whether the file has a table for that environment, so that its top-level bindings
    /// do not count.
    pub has_environment_table: bool,
    /// Pages: the folder of the static files, below or beside `root`. `None`: the project
    /// has Functions only.
    ///
    /// It is `root` itself where a folder without a wrangler file is served: then it may
    /// also hold `functions/`, `node_modules/`, `.dev.vars` and `.engawa/`, which are no
    /// static files.
    pub pages_build_output_dir: Option<PathBuf>,
    /// Workers: the entry point.
    pub main: Option<PathBuf>,
    /// Workers: the static files.
    pub assets: Option<Assets>,
    /// Date and flags.
    pub compatibility: Compatibility,
    /// `vars`, in the order of the file.
    pub vars: IndexMap<String, Var>,
    /// Workers, `secrets.required`: if present, only these and names of `vars` are taken
    /// from `.dev.vars` or `.env`.
    pub required_secrets: Option<Vec<String>>,
    /// `kv_namespaces`.
    pub kv_namespaces: Vec<KvNamespace>,
    /// `d1_databases`.
    pub d1_databases: Vec<D1Database>,
    /// `r2_buckets`.
    pub r2_buckets: Vec<R2Bucket>,
    /// `analytics_engine_datasets`.
    pub analytics_engine_datasets: Vec<AnalyticsEngineDataset>,
    /// `services`.
    pub services: Vec<Service>,
    /// `limits`: read, not enforced yet.
    pub limits: Option<Limits>,
    /// `placement`: read, without effect on one machine.
    pub placement: Option<Placement>,
    /// What the file says about bundling.
    pub bundling: Bundling,
}

/// A value of `vars`.
#[derive(Debug, Clone, PartialEq)]
pub enum Var {
    /// A string.
    Text(String),
    /// Any other JSON value.
    Json(serde_json::Value),
}

/// An entry of `kv_namespaces`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvNamespace {
    /// The property of `env`.
    pub binding: String,
    /// `id` as written.
    pub id: Option<String>,
    /// `preview_id` as written. Only `wrangler dev --remote` and `kv --preview` use it.
    pub preview_id: Option<String>,
    /// The namespace here: `id`, else the binding's name (wrangler
    /// `dev/miniflare/index.ts`).
    pub local_id: NamespaceId,
}

/// An entry of `d1_databases`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct D1Database {
    /// The property of `env`.
    pub binding: String,
    /// `database_name` as written.
    pub database_name: Option<String>,
    /// `database_id` as written.
    pub database_id: Option<String>,
    /// `preview_database_id` as written.
    pub preview_database_id: Option<String>,
    /// The database here: `preview_database_id`, else `database_id`, else the binding's
    /// name (wrangler `dev/miniflare/index.ts` and `d1/execute.ts`).
    pub local_id: DatabaseId,
    /// `migrations_dir` as written; `migrations` by default.
    pub migrations_dir: Option<String>,
    /// `migrations_pattern` as written; `<migrations_dir>/*.sql` by default.
    pub migrations_pattern: Option<String>,
    /// `migrations_table`; `d1_migrations` by default.
    pub migrations_table: String,
}

/// An entry of `r2_buckets`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct R2Bucket {
    /// The property of `env`.
    pub binding: String,
    /// `bucket_name` as written.
    pub bucket_name: Option<String>,
    /// `preview_bucket_name` as written. Only `wrangler dev --remote` uses it.
    pub preview_bucket_name: Option<String>,
    /// `jurisdiction` as written.
    pub jurisdiction: Option<String>,
    /// The bucket here: `bucket_name`, else the binding's name (wrangler
    /// `dev/miniflare/index.ts`).
    pub local_name: BucketName,
}

/// An entry of `analytics_engine_datasets`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnalyticsEngineDataset {
    /// The property of `env`.
    pub binding: String,
    /// `dataset`; the binding's name by default.
    pub dataset: DatasetName,
}

/// An entry of `services`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// The property of `env`.
    pub binding: String,
    /// The other project.
    pub service: ProjectName,
}

/// `limits`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Limits {
    /// CPU time of a request, in milliseconds.
    pub cpu_ms: Option<f64>,
    /// Requests that a request may make.
    pub subrequests: Option<f64>,
}

/// `placement`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Placement {
    /// `off`, `smart` or `targeted`.
    pub mode: Option<String>,
}

/// `assets` of a Workers project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assets {
    /// The folder.
    pub directory: PathBuf,
    /// The property of `env` through which the worker reaches the files.
    pub binding: Option<String>,
    /// How they are served.
    pub config: AssetsConfig,
}

/// Settings of the bundler, as written.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Bundling {
    /// `no_bundle`: take the files as they are.
    pub no_bundle: bool,
    /// `minify`.
    pub minify: bool,
    /// `define`: names replaced by JavaScript expressions.
    pub define: IndexMap<String, String>,
    /// `alias`: module names replaced by others.
    pub alias: IndexMap<String, String>,
    /// `rules`: kinds of modules by file name.
    pub rules: Vec<Rule>,
    /// `jsx_factory`; `React.createElement` by default.
    pub jsx_factory: Option<String>,
    /// `jsx_fragment`; `React.Fragment` by default.
    pub jsx_fragment: Option<String>,
    /// `tsconfig`.
    pub tsconfig: Option<PathBuf>,
}

/// An entry of `rules`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// What files of these names become.
    pub kind: RuleKind,
    /// File names, relative to the entry point's folder.
    pub globs: Vec<String>,
    /// Whether the rules that follow, the built-in ones included, still count for this
    /// kind.
    pub fallthrough: bool,
}

/// The module kinds that a rule can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleKind {
    /// `ESModule`.
    EsModule,
    /// `CommonJS`.
    CommonJs,
    /// `CompiledWasm`.
    CompiledWasm,
    /// `Text`.
    Text,
    /// `Data`.
    Data,
}
