//! The program as its users meet it: real HTTP, real workerd.

mod bad_input;
mod bindings;
mod chat;
mod compare;
mod crash;
mod d1;
mod deployments;
mod dev;
mod doctor;
mod edge;
mod frameworks;
mod functions;
mod http;
mod life;
mod load;
mod local;
mod migrations;
mod overlay;
mod plugins;
mod power;
mod precompressed;
mod time_travel;
mod upstream_cache;
mod upstream_d1;
mod workers;
mod workers_assets;
mod wrangler_r2;

use std::path::Path;

use engawa_testkit::{Dev, TestProject};

/// The program under test.
pub(crate) fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_engawa"))
}

/// A project with every kind of binding.
pub(crate) const WRANGLER: &str = r#"
name = "it"
compatibility_date = "2026-08-01"
pages_build_output_dir = "public"

[vars]
GREETING = "hello"

[[kv_namespaces]]
binding = "KV"
id = "my/ Namespace"

[[d1_databases]]
binding = "DB"
database_name = "it-db"
database_id = "my-database"

[[r2_buckets]]
binding = "BUCKET"
bucket_name = "it-bucket"

[[analytics_engine_datasets]]
binding = "AE"
"#;

/// Serves a project with [`WRANGLER`], a page, and these further files.
pub(crate) fn project(files: &[(&str, &str)]) -> TestProject {
    let project = TestProject::new(&[
        ("wrangler.toml", WRANGLER),
        ("public/index.html", "<h1>It</h1>"),
    ]);
    for (name, text) in files {
        project.write(name, text);
    }
    project
}

pub(crate) fn start(project: &TestProject) -> Dev {
    Dev::start(program(), project)
}
