//! The bad and the unusual, as the user sees it; and what is read where all is well.

use std::fs;
use std::path::Path;

use engawa_model::{
    AssetsConfig, BasePath, BindingKind, Environment, HtmlHandling, NotFoundHandling, ProjectKind,
    RunWorkerFirst, Secret, StaticRouting,
};
use insta::assert_snapshot;

use super::*;

mod bindings;
mod rules;

mod specification;
mod syntax;

fn options() -> LoadOptions {
    LoadOptions {
        env: None,
        today: "2026-11-24".to_owned(),
        newest_compatibility_date: "2026-11-24".to_owned(),
        kind: None,
        search_parents: false,
    }
}

fn preview() -> LoadOptions {
    LoadOptions {
        env: Some(Environment::Preview),
        ..options()
    }
}

/// A project folder named `app` with files in it.
struct Folder {
    temporary: tempfile::TempDir,
}

impl Folder {
    fn new(files: &[(&str, &str)]) -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Self { temporary };
        fs::create_dir(folder.path()).unwrap();
        for (name, text) in files {
            folder.write(name, text);
        }
        folder
    }

    fn path(&self) -> PathBuf {
        self.temporary.path().join("app")
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let file = self.path().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    fn load(&self, options: &LoadOptions) -> Result<(Config, Vec<Diagnostic>), ConfigError> {
        Project::load(&self.path(), options)
    }

    /// What the user sees, with the folder's path replaced by `.`.
    fn shown(&self, options: &LoadOptions) -> String {
        let (outcome, text) = match self.load(options) {
            Ok((_, warnings)) if warnings.is_empty() => return "fine".to_owned(),
            Ok((_, warnings)) => ("loads", render(&warnings)),
            Err(error) => ("refused", error.to_string()),
        };
        let here = self.path().display().to_string();
        format!("[{outcome}]\n{}", text.replace(&here, "."))
    }
}

fn toml(text: &str) -> Folder {
    Folder::new(&[("wrangler.toml", text), ("dist/index.html", "")])
}

fn shown(text: &str) -> String {
    toml(text).shown(&options())
}

fn loaded(text: &str, options: &LoadOptions) -> Config {
    let folder = toml(text);
    match folder.load(options) {
        Ok((config, _)) => config,
        Err(error) => panic!("{error}"),
    }
}

/// A Pages file that is beyond reproach, followed by `rest`.
fn pages(rest: &str) -> String {
    format!(
        "name = \"app\"\npages_build_output_dir = \"dist\"\ncompatibility_date = \"2026-01-01\"\n{rest}"
    )
}

fn worker(rest: &str) -> String {
    format!("name = \"app\"\nmain = \"src/index.ts\"\ncompatibility_date = \"2026-01-01\"\n{rest}")
}

#[test]
fn a_plain_pages_file_is_fine() {
    assert_eq!(shown(&pages("")), "fine");
    let config = loaded(&pages(""), &options());
    assert_eq!(config.kind, ProjectKind::Pages);
    assert_eq!(config.name.as_str(), "app");
    let dir = config.pages_build_output_dir.unwrap();
    assert!(dir.ends_with("app/dist"), "{}", dir.display());
    assert_eq!(config.compatibility.date, "2026-01-01");
    assert_eq!(config.compatibility.effective_date, "2026-01-01");
}

#[test]
fn every_kind_of_binding_is_read() {
    let text = pages(
        r#"
compatibility_flags = ["nodejs_compat"]
[vars]
TEXT = "t"
LIST = [1, 2.5, { a = true }]
[[kv_namespaces]]
binding = "KV"
id = "kv-id"
preview_id = "kv-preview"
[[d1_databases]]
binding = "DB"
database_name = "db"
database_id = "db-id"
migrations_dir = "sql"
migrations_table = "done"
[[d1_databases]]
binding = "DB2"
database_id = "db-id"
preview_database_id = "db-preview"
[[r2_buckets]]
binding = "R2"
bucket_name = "my-bucket"
preview_bucket_name = "other-bucket"
jurisdiction = "eu"
[[analytics_engine_datasets]]
binding = "AE"
dataset = "points"
[[services]]
binding = "API"
service = "other"
"#,
    );
    assert_eq!(shown(&text), "fine");
    let config = loaded(&text, &options());
    assert_eq!(config.compatibility.flags, ["nodejs_compat"]);
    assert_eq!(config.d1_database("db").unwrap().binding, "DB");
    assert_eq!(
        config.d1_database("DB2").unwrap().migrations_table,
        "d1_migrations"
    );
    let bindings: Vec<String> = config
        .bindings(&DevVars::default())
        .iter()
        .map(|binding| format!("{} {:?}", binding.name, binding.kind))
        .collect();
    // wrangler: dev/miniflare/index.ts (which id counts locally)
    assert_snapshot!(bindings.join("\n"), @r#"
    KV KvNamespace("kv-id")
    DB D1("db-id")
    DB2 D1("db-preview")
    R2 R2Bucket("my-bucket")
    AE AnalyticsEngine("points")
    API Service("other")
    TEXT PlainText("t")
    LIST Json(Array [Number(1), Number(2.5), Object {"a": Bool(true)}])
    CF_PAGES PlainText("1")
    CF_PAGES_BRANCH PlainText("local")
    CF_PAGES_COMMIT_SHA PlainText("0000000000000000000000000000000000000000")
    CF_PAGES_URL PlainText("https://00000000.app.pages.dev")
    "#);
}

#[test]
fn all_errors_of_a_file_are_told_at_once() {
    assert_snapshot!(shown(r#"name = "Demo_X"
pages_build_output_dir = 7
compatibility_date = "20-1"
compatibility_flags = "nodejs_compat"
[limits]
cpu_ms = "x"
[placement]
mode = "fast"
[[kv_namespaces]]
id = "x"
[[r2_buckets]]
binding = "R2"
bucket_name = "Upper_Case"
[env.staging]
"#), @r#"
    [refused]
    error: Expected "name" to be of type string, alphanumeric and lowercase with dashes only but got "Demo_X".
     --> ./wrangler.toml:1:8
      |
    1 | name = "Demo_X"
      |        ^^^^^^^^
      = help: write "demo-x"

    error: Expected "pages_build_output_dir" to be of type string but got 7.
     --> ./wrangler.toml:2:26
      |
    2 | pages_build_output_dir = 7
      |                          ^

    error: "compatibility_date" field should be a valid ISO-8601 date (YYYY-MM-DD), but got "20-1".
     --> ./wrangler.toml:3:22
      |
    3 | compatibility_date = "20-1"
      |                      ^^^^^^
      = help: write a day as "2026-11-24"

    error: Expected "compatibility_flags" to be of type string array but got "nodejs_compat".
     --> ./wrangler.toml:4:23
      |
    4 | compatibility_flags = "nodejs_compat"
      |                       ^^^^^^^^^^^^^^^

    warning: "limits" has no effect in Engawa: limits are not enforced yet.
     --> ./wrangler.toml:5:2
      |
    5 | [limits]
      |  ^^^^^^
      = help: it may stay for Cloudflare

    error: Expected "limits.cpu_ms" to be of type number but got "x".
     --> ./wrangler.toml:6:10
      |
    6 | cpu_ms = "x"
      |          ^^^

    warning: "placement" has no effect in Engawa: a worker runs on the machine that Engawa runs on.
     --> ./wrangler.toml:7:2
      |
    7 | [placement]
      |  ^^^^^^^^^
      = help: it may stay for Cloudflare

    error: Expected "placement.mode" field to be one of ["off","smart","targeted"] but got "fast".
     --> ./wrangler.toml:8:8
      |
    8 | mode = "fast"
      |        ^^^^^^

    error: "kv_namespaces[0]" bindings should have a string "binding" field but got none.
     --> ./wrangler.toml:9:1
      |
    9 | [[kv_namespaces]]
      | ^^^^^^^^^^^^^^^^^
      = help: add binding = "…"

    error: r2_buckets[0].bucket_name="Upper_Case" is invalid. Bucket names must begin and end with an alphanumeric character, only contain lowercase letters, numbers, and hyphens, and be between 3 and 63 characters long.
      --> ./wrangler.toml:13:15
       |
    13 | bucket_name = "Upper_Case"
       |               ^^^^^^^^^^^^

    error: Configuration file contains the following environment names that are not supported by Pages projects: "staging".
      --> ./wrangler.toml:14:6
       |
    14 | [env.staging]
       |      ^^^^^^^
       = help: The supported named-environments for Pages are "preview" and "production".
    "#);
}

#[test]
fn workers_assets_and_bundling_are_read() {
    let text = worker(
        r#"
minify = true
tsconfig = "./tsconfig.app.json"
alias = { "lodash" = "./shim" }
define = { VERSION = "'1'" }
rules = [{ type = "Text", globs = ["**/*.md"], fallthrough = true }]
[assets]
directory = "./public"
binding = "FILES"
html_handling = "none"
not_found_handling = "single-page-application"
run_worker_first = ["/api/*", "!/api/docs"]
base_path = "app"
"#,
    );
    assert_eq!(shown(&text), "fine");
    let config = loaded(&text, &options());
    let assets = config.assets.clone().unwrap();
    assert!(assets.directory.ends_with("app/public"));
    assert_eq!(
        assets.config,
        AssetsConfig {
            html_handling: HtmlHandling::None,
            not_found_handling: NotFoundHandling::SinglePageApplication,
            run_worker_first: RunWorkerFirst::Rules(StaticRouting {
                assets: vec!["/api/docs".to_owned()],
                worker: vec!["/api/*".to_owned()],
            }),
            base_path: BasePath::parse("/app/").unwrap(),
            navigation_prefers_assets: true,
        }
    );
    assert_eq!(config.bundling.rules[0].kind, RuleKind::Text);
    assert_eq!(config.bundling.define["VERSION"], "'1'");
    let bindings = config.bindings(&DevVars::default());
    assert!(matches!(bindings[0].kind, BindingKind::Assets));
    assert_snapshot!(shown(&worker("[assets]\nhtml_handling = \"nonee\"\nrun_worker_first = 1\nbinding = \"X\"\ndirectory = \"d\"\n[vars]\nX = 1")), @r#"
    [refused]
    error: Expected "assets.html_handling" field to be one of ["auto-trailing-slash","force-trailing-slash","drop-trailing-slash","none"] but got "nonee".
     --> ./wrangler.toml:5:17
      |
    5 | html_handling = "nonee"
      |                 ^^^^^^^
      = help: write "none"

    error: The field "assets.run_worker_first" should be an array of strings or a boolean, but got 1.
     --> ./wrangler.toml:6:20
      |
    6 | run_worker_first = 1
      |                    ^

    error: X assigned to Environment Variable and Assets bindings.
      --> ./wrangler.toml:10:1
       |
    10 | X = 1
       | ^
       = help: Bindings must have unique names, so that they can all be referenced in the worker.
    "#);
}
