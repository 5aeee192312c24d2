//! Every key that wrangler knows: who may write it where, and what Engawa does with it.
//! One row a key, so that a new wrangler release is a change of this table.
//!
//! Source: workers-sdk `packages/workers-utils/src/config/{validation,validation-pages}.ts`.

/// A key of a wrangler file.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) scope: Scope,
    /// Whether a Pages file may contain it (`validation-pages.ts`).
    pub(super) pages: bool,
    pub(super) usage: Usage,
}

/// Where a key may stand and what an environment's table does to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// An environment takes it from the top level unless it sets it.
    Inherited,
    /// An environment has only its own.
    Own,
    /// Not in an environment at all.
    TopLevel,
}

/// What Engawa does with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Usage {
    /// Read into `Config`.
    Read,
    /// Means nothing here, and nobody needs to hear of it.
    Silent,
    /// Known and without effect: a warning with the reason.
    Ignored(&'static str),
    /// A kind of binding that Engawa lacks, by wrangler's name for it: an error.
    Refused(&'static str),
}

use Scope::{Inherited, Own, TopLevel};
use Usage::{Ignored, Read, Refused, Silent};

const fn pages(name: &'static str, scope: Scope, usage: Usage) -> Key {
    Key {
        name,
        scope,
        pages: true,
        usage,
    }
}

const fn workers(name: &'static str, scope: Scope, usage: Usage) -> Key {
    Key {
        name,
        scope,
        pages: false,
        usage,
    }
}

/// The table.
pub(super) const KEYS: &[Key] = &[
    pages("$schema", TopLevel, Silent),
    pages("name", Inherited, Read),
    pages("pages_build_output_dir", TopLevel, Read),
    pages("compatibility_date", Inherited, Read),
    pages("compatibility_flags", Inherited, Read),
    pages("vars", Own, Read),
    pages("kv_namespaces", Own, Read),
    pages("d1_databases", Own, Read),
    pages("r2_buckets", Own, Read),
    pages("analytics_engine_datasets", Own, Read),
    pages("services", Own, Read),
    pages("env", TopLevel, Read),
    pages("no_bundle", Inherited, Read),
    pages("limits", Inherited, Ignored("limits are not enforced yet")),
    pages(
        "placement",
        Inherited,
        Ignored("a worker runs on the machine that Engawa runs on"),
    ),
    pages("send_metrics", TopLevel, Silent),
    pages("upload_source_maps", Inherited, Silent),
    pages(
        "dev",
        TopLevel,
        Ignored("the options --ip, --port and --host say where `engawa dev` listens"),
    ),
    pages("durable_objects", Own, Refused("Durable Object")),
    pages("queues", Own, Refused("Queue")),
    pages("vectorize", Own, Refused("Vectorize Index")),
    pages("hyperdrive", Own, Refused("Hyperdrive Config")),
    pages("ai", Own, Refused("AI")),
    pages("browser", Own, Refused("Browser Run")),
    pages("mtls_certificates", Own, Refused("mTLS Certificate")),
    pages("version_metadata", Own, Refused("Worker Version Metadata")),
    workers("main", Inherited, Read),
    workers("assets", Inherited, Read),
    workers("secrets", Own, Read),
    workers("rules", Inherited, Read),
    workers("define", Own, Read),
    workers("alias", TopLevel, Read),
    workers("minify", Inherited, Read),
    workers("tsconfig", Inherited, Read),
    workers("jsx_factory", Inherited, Read),
    workers("jsx_fragment", Inherited, Read),
    workers("account_id", Inherited, Silent),
    workers("workers_dev", Inherited, Silent),
    workers("preview_urls", Inherited, Silent),
    workers("keep_vars", TopLevel, Silent),
    workers("keep_names", Inherited, Silent),
    workers("dependencies_instrumentation", TopLevel, Silent),
    workers(
        "route",
        Inherited,
        Ignored("a project is served at its own address"),
    ),
    workers(
        "routes",
        Inherited,
        Ignored("a project is served at its own address"),
    ),
    workers(
        "triggers",
        Inherited,
        Ignored("cron triggers do not run yet"),
    ),
    workers(
        "migrations",
        Inherited,
        Ignored("it belongs to Durable Objects, which Engawa lacks"),
    ),
    workers(
        "exports",
        Inherited,
        Ignored("it belongs to Durable Objects, which Engawa lacks"),
    ),
    workers(
        "build",
        Inherited,
        Ignored("run your build command before `engawa dev`"),
    ),
    workers(
        "observability",
        Inherited,
        Ignored("the terminal shows all logs"),
    ),
    workers("logpush", Inherited, Ignored("the terminal shows all logs")),
    workers(
        "tail_consumers",
        Own,
        Ignored("tail workers do not run yet"),
    ),
    workers(
        "streaming_tail_consumers",
        Own,
        Ignored("tail workers do not run yet"),
    ),
    workers(
        "base_dir",
        Inherited,
        Ignored("modules are found from the folder of `main`"),
    ),
    workers(
        "find_additional_modules",
        Inherited,
        Ignored("only imported modules are bundled"),
    ),
    workers(
        "preserve_file_names",
        Inherited,
        Ignored("module names are chosen by the bundler"),
    ),
    workers(
        "first_party_worker",
        Inherited,
        Ignored("it is Cloudflare's own"),
    ),
    workers(
        "compliance_region",
        Inherited,
        Ignored("there is one region"),
    ),
    workers(
        "access",
        Inherited,
        Ignored("Cloudflare Access is not part of Engawa"),
    ),
    workers(
        "cache",
        Inherited,
        Ignored("there is no cache before a worker yet"),
    ),
    workers(
        "python_modules",
        Inherited,
        Ignored("workers are JavaScript"),
    ),
    workers(
        "previews",
        Inherited,
        Ignored("it is for Cloudflare's preview service"),
    ),
    workers(
        "addresses",
        TopLevel,
        Ignored("Email Routing is not part of Engawa"),
    ),
    workers("connect", Own, Ignored("a worker takes HTTP only")),
    workers("site", TopLevel, Refused("Workers Site")),
    workers("wasm_modules", TopLevel, Refused("Wasm Module")),
    workers("text_blobs", TopLevel, Refused("Text Blob")),
    workers("data_blobs", TopLevel, Refused("Data Blob")),
    workers("containers", Inherited, Refused("Container")),
    workers("cloudchamber", Own, Refused("Container")),
    workers("workflows", Own, Refused("Workflow")),
    workers("send_email", Own, Refused("Send Email")),
    workers("ai_search_namespaces", Own, Refused("AI Search Namespace")),
    workers("ai_search", Own, Refused("AI Search Instance")),
    workers("websearch", Own, Refused("Web Search")),
    workers("agent_memory", Own, Refused("Agent Memory")),
    workers("images", Own, Refused("Images")),
    workers("stream", Own, Refused("Stream")),
    workers("media", Own, Refused("Media")),
    workers("dispatch_namespaces", Own, Refused("Dispatch Namespace")),
    workers("pipelines", Own, Refused("Pipeline")),
    workers(
        "secrets_store_secrets",
        Own,
        Refused("Secrets Store Secret"),
    ),
    workers("artifacts", Own, Refused("Artifacts")),
    workers("ratelimits", Own, Refused("Rate Limit")),
    workers("worker_loaders", Own, Refused("Worker Loader")),
    workers("vpc_services", Own, Refused("VPC Service")),
    workers("vpc_networks", Own, Refused("VPC Network")),
    workers("flagship", Own, Refused("Flagship")),
    workers("logfwdr", Own, Refused("logfwdr")),
    workers("unsafe", Own, Refused("Unsafe Metadata")),
    workers("unsafe_hello_world", Own, Refused("Hello World")),
];

/// Keys that wrangler has removed, and what to write today.
pub(super) const REMOVED: &[(&str, &str)] = &[
    (
        "node_compat",
        r#"use compatibility_flags = ["nodejs_compat"] instead"#,
    ),
    (
        "legacy_env",
        "remove it: each environment is a Worker named <name>-<environment>",
    ),
];

/// The row of a key.
pub(super) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// The known name nearest to `written`, if it is near enough to be a slip.
pub(super) fn nearest<'a>(
    written: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let allowed = (written.chars().count() / 3).clamp(1, 3);
    let normal = written.to_lowercase().replace('-', "_");
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&normal, name), name))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}
