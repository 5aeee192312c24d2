//! The bad and the unusual, as the user sees it; and what is read where all is well.

use std::fs;
use std::path::Path;

use engawa_model::{BindingKind, Environment, ProjectKind, Secret};
use insta::assert_snapshot;
use proptest::prelude::*;

use super::*;

mod specification;

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
    "#);
}

// wrangler: dev/dev-vars.ts
#[test]
fn dev_vars_come_over_vars_and_never_over_other_bindings() {
    let config = loaded(
        &pages("[vars]\nA = \"file\"\nB = 1\n[[kv_namespaces]]\nbinding = \"KV\"\nid = \"x\""),
        &options(),
    );
    let mut dev_vars = DevVars::default();
    for name in ["B", "NEW", "KV", "ASSETS"] {
        dev_vars
            .values
            .insert(name.to_owned(), Secret::new("secret"));
    }
    let bindings = config.bindings(&dev_vars);
    let kind = |name: &str| {
        let mut found = bindings.iter().filter(|binding| binding.name == name);
        let kind = found.next().map(|binding| binding.kind.clone());
        assert!(found.next().is_none(), "{name} twice");
        kind
    };
    assert!(matches!(kind("A"), Some(BindingKind::PlainText(_))));
    assert!(matches!(kind("B"), Some(BindingKind::SecretText(_))));
    assert!(matches!(kind("NEW"), Some(BindingKind::SecretText(_))));
    assert!(matches!(kind("KV"), Some(BindingKind::KvNamespace(_))));
    assert!(kind("ASSETS").is_none());
    assert_eq!(config.shadowed_dev_vars(&dev_vars), ["KV", "ASSETS"]);
}

// wrangler: dev/dev-vars.ts, `secrets.required`
#[test]
fn with_required_secrets_only_those_and_vars_are_taken() {
    let text = worker("[vars]\nA = \"1\"\n[secrets]\nrequired = [\"KEY\", \"GONE\"]");
    let config = loaded(&text, &options());
    let mut dev_vars = DevVars::default();
    for name in ["A", "KEY", "OTHER"] {
        dev_vars
            .values
            .insert(name.to_owned(), Secret::new("secret"));
    }
    let names: Vec<String> = config
        .bindings(&dev_vars)
        .into_iter()
        .map(|binding| binding.name)
        .collect();
    assert_eq!(names, ["A", "KEY"]);
    assert_eq!(config.missing_secrets(&dev_vars), ["GONE"]);
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
fn names_of_bindings_are_unique_and_assets_is_reserved() {
    assert_snapshot!(shown(&pages(r#"
vars = { DATA = "x", ASSETS = "y" }
[[kv_namespaces]]
binding = "DATA"
id = "a"
[[kv_namespaces]]
binding = "TWICE"
id = "b"
[[kv_namespaces]]
binding = "TWICE"
id = "c"
"#)), @r#"
    [refused]
    error: The name 'ASSETS' is reserved in Pages projects. Please use a different name for your Environment Variable binding.
     --> ./wrangler.toml:5:22
      |
    5 | vars = { DATA = "x", ASSETS = "y" }
      |                      ^^^^^^

    error: DATA assigned to KV Namespace and Environment Variable bindings.
     --> ./wrangler.toml:7:11
      |
    7 | binding = "DATA"
      |           ^^^^^^
      = help: Bindings must have unique names, so that they can all be referenced in the worker.

    error: TWICE assigned to multiple KV Namespace bindings.
      --> ./wrangler.toml:13:11
       |
    13 | binding = "TWICE"
       |           ^^^^^^^
       = help: Bindings must have unique names, so that they can all be referenced in the worker.
    "#);
}

// control-plane-api.md 12.2
#[test]
fn what_a_pages_file_may_not_have_is_refused() {
    assert_snapshot!(shown(&pages(r#"
main = "src/index.ts"
account_id = "0123"
[triggers]
crons = ["* * * * *"]
[observability]
enabled = true
"#)), @r#"
    [refused]
    error: Configuration file cannot contain both "main" and "pages_build_output_dir" configuration keys.
     --> ./wrangler.toml:5:1
      |
    5 | main = "src/index.ts"
      | ^^^^
      = help: Please use "main" if you are deploying a Worker, or "pages_build_output_dir" if you are deploying a Pages project.

    error: Configuration file for Pages projects does not support "account_id"
     --> ./wrangler.toml:6:1
      |
    6 | account_id = "0123"
      | ^^^^^^^^^^
      = help: remove it

    error: Configuration file for Pages projects does not support "triggers"
     --> ./wrangler.toml:7:2
      |
    7 | [triggers]
      |  ^^^^^^^^
      = help: remove it
    "#);
}

#[test]
fn kinds_of_bindings_that_engawa_lacks_are_refused_by_name_unless_empty() {
    assert_snapshot!(shown(&pages(r#"
ai = { binding = "AI" }
[[durable_objects.bindings]]
name = "ROOM"
class_name = "Room"
script_name = "rooms"
[[queues.producers]]
binding = "Q"
queue = "q"
"#)), @r#"
    [refused]
    error: Engawa does not support "ai" (AI) yet.
     --> ./wrangler.toml:5:1
      |
    5 | ai = { binding = "AI" }
      | ^^
      = help: remove it here; supported are vars, kv_namespaces, d1_databases, r2_buckets, analytics_engine_datasets and services

    error: Engawa does not support "durable_objects" (Durable Object) yet.
     --> ./wrangler.toml:6:3
      |
    6 | [[durable_objects.bindings]]
      |   ^^^^^^^^^^^^^^^
      = help: remove it here; supported are vars, kv_namespaces, d1_databases, r2_buckets, analytics_engine_datasets and services

    error: Engawa does not support "queues" (Queue) yet.
      --> ./wrangler.toml:10:3
       |
    10 | [[queues.producers]]
       |   ^^^^^^
       = help: remove it here; supported are vars, kv_namespaces, d1_databases, r2_buckets, analytics_engine_datasets and services
    "#);
    assert_eq!(
        shown(&pages(
            "vectorize = []\n[queues]\nproducers = []\n[durable_objects]\nbindings = []"
        )),
        "fine"
    );
}

#[test]
fn a_refused_kind_in_a_table_that_does_not_count_is_no_error() {
    let text = pages("[env.preview]\nvars = {}\n[env.production.ai]\nbinding = \"AI\"");
    assert_eq!(toml(&text).shown(&preview()), "fine");
}

#[test]
fn unknown_keys_warn_with_what_was_probably_meant() {
    assert_snapshot!(shown(&pages(r#"
compatability_flags = []
whatever = 1
[[kv_namespace]]
binding = "KV"
[[r2_buckets]]
binding = "R2"
bucket_name = "bucket"
bucket-name = "bucket"
[env.preview]
pages_build_output_dir = "x"
"#)), @r#"
    [loads]
    warning: Unexpected fields found in top-level field: "compatability_flags"
     --> ./wrangler.toml:5:1
      |
    5 | compatability_flags = []
      | ^^^^^^^^^^^^^^^^^^^
      = help: did you mean "compatibility_flags"?

    warning: Unexpected fields found in top-level field: "whatever"
     --> ./wrangler.toml:6:1
      |
    6 | whatever = 1
      | ^^^^^^^^
      = help: it is ignored; remove it

    warning: Unexpected fields found in top-level field: "kv_namespace"
     --> ./wrangler.toml:7:3
      |
    7 | [[kv_namespace]]
      |   ^^^^^^^^^^^^
      = help: did you mean "kv_namespaces"?

    warning: Unexpected fields found in r2_buckets[0] field: "bucket-name"
      --> ./wrangler.toml:12:1
       |
    12 | bucket-name = "bucket"
       | ^^^^^^^^^^^
       = help: did you mean "bucket_name"?

    warning: "pages_build_output_dir" has no effect inside "env.preview".
      --> ./wrangler.toml:14:1
       |
    14 | pages_build_output_dir = "x"
       | ^^^^^^^^^^^^^^^^^^^^^^
       = help: move it to the top level, before the first [table]
    "#);
}

#[test]
fn keys_without_effect_warn_once() {
    assert_snapshot!(shown(&pages(r#"
[limits]
cpu_ms = 50
[placement]
mode = "smart"
[env.preview.limits]
cpu_ms = 10
"#)), @r#"
    [loads]
    warning: "limits" has no effect in Engawa: limits are not enforced yet.
     --> ./wrangler.toml:5:2
      |
    5 | [limits]
      |  ^^^^^^
      = help: it may stay for Cloudflare

    warning: "placement" has no effect in Engawa: a worker runs on the machine that Engawa runs on.
     --> ./wrangler.toml:7:2
      |
    7 | [placement]
      |  ^^^^^^^^^
      = help: it may stay for Cloudflare
    "#);
    let config = loaded(&pages("limits = { cpu_ms = 50 }"), &options());
    assert_eq!(config.limits.unwrap().cpu_ms, Some(50.0));
}

#[test]
fn removed_keys_are_refused_with_their_successor() {
    assert_snapshot!(shown(&worker("node_compat = true")), @r#"
    [refused]
    error: The "node_compat" field is no longer supported.
     --> ./wrangler.toml:4:1
      |
    4 | node_compat = true
      | ^^^^^^^^^^^
      = help: use compatibility_flags = ["nodejs_compat"] instead
    "#);
}

// pages.md 6; workers-sdk: validation-helpers.ts `notInheritable`
#[test]
fn an_environments_table_loses_the_bindings_that_it_does_not_repeat() {
    let text = pages(
        r#"
compatibility_flags = ["nodejs_compat"]
[vars]
A = "top"
B = "top"
[[kv_namespaces]]
binding = "KV"
id = "kv"
[[d1_databases]]
binding = "DB"
database_id = "db"
[env.preview]
compatibility_date = "2026-02-02"
[env.preview.vars]
A = "preview"
[[env.preview.kv_namespaces]]
binding = "KV"
id = "kv-preview"
"#,
    );
    assert_snapshot!(toml(&text).shown(&preview()), @r#"
    [loads]
    warning: The following bindings are at the top level, but not on "env.preview", and are lost there: DB (D1 Database), B (Environment Variable).
      --> ./wrangler.toml:15:6
       |
    15 | [env.preview]
       |      ^^^^^^^
       = help: bindings and vars are not inherited by environments: repeat each inside "env.preview", or remove that table
    "#);
    let config = loaded(&text, &preview());
    assert!(config.has_environment_table);
    assert_eq!(config.vars.len(), 1);
    assert_eq!(config.vars["A"], Var::Text("preview".to_owned()));
    assert_eq!(config.kv_namespaces[0].local_id.as_str(), "kv-preview");
    assert!(config.d1_databases.is_empty());
    assert_eq!(config.compatibility.date, "2026-02-02");
    assert_eq!(config.compatibility.flags, ["nodejs_compat"]);
    assert_eq!(config.name.as_str(), "app");

    // Without a table of its own, production has the top level.
    let production = LoadOptions {
        env: Some(Environment::Production),
        ..options()
    };
    assert_eq!(toml(&text).shown(&production), "fine");
    assert_eq!(loaded(&text, &production).d1_databases.len(), 1);
}

#[test]
fn a_workers_environment_is_a_worker_of_its_own() {
    let text = worker("[env.preview]\n[env.other]\nname = \"x\"");
    let config = loaded(&text, &preview());
    assert_eq!(config.kind, ProjectKind::Workers);
    assert_eq!(config.name.as_str(), "app-preview");
    let named = worker("[env.preview]\nname = \"mine\"");
    assert_eq!(loaded(&named, &preview()).name.as_str(), "mine");
    assert_snapshot!(toml(&worker("[env.staging]")).shown(&preview()), @r#"
    [refused]
    error: No environment found in configuration with name "preview".
     --> ./wrangler.toml:4:6
      |
    4 | [env.staging]
      |      ^^^^^^^
      = help: The available configured environment names are: ["staging"]
    "#);
    assert_snapshot!(toml(&worker("")).shown(&preview()), @r#"
    [loads]
    warning: No environment found in configuration with name "preview".
     --> ./wrangler.toml:1:1
      |
    1 | name = "app"
      | ^
      = help: add [env.preview], or leave --env out
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
run_worker_first = ["/api/*"]
"#,
    );
    assert_eq!(shown(&text), "fine");
    let config = loaded(&text, &options());
    let assets = config.assets.clone().unwrap();
    assert!(assets.directory.unwrap().ends_with("app/public"));
    assert_eq!(assets.html_handling, HtmlHandling::None);
    assert_eq!(
        assets.not_found_handling,
        NotFoundHandling::SinglePageApplication
    );
    assert_eq!(
        assets.run_worker_first,
        RunWorkerFirst::Patterns(vec!["/api/*".to_owned()])
    );
    assert_eq!(config.bundling.rules[0].kind, RuleKind::Text);
    assert_eq!(config.bundling.define["VERSION"], "'1'");
    let bindings = config.bindings(&DevVars::default());
    assert!(matches!(bindings[0].kind, BindingKind::Assets));
    assert_snapshot!(shown(&worker("[assets]\nhtml_handling = \"nonee\"\nrun_worker_first = 1\nbinding = \"X\"\n[vars]\nX = 1")), @r#"
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
     --> ./wrangler.toml:9:1
      |
    9 | X = 1
      | ^
      = help: Bindings must have unique names, so that they can all be referenced in the worker.
    "#);
}

// miniflare: plugins/core/index.ts `validateCompatibilityDate`
#[test]
fn a_date_after_today_is_an_error() {
    let text = pages("").replace("2026-01-01", "2026-11-25");
    assert_snapshot!(shown(&text), @r#"
    [refused]
    error: Compatibility date "2026-11-25" is in the future and unsupported
     --> ./wrangler.toml:3:22
      |
    3 | compatibility_date = "2026-11-25"
      |                      ^^^^^^^^^^^^
      = help: write "2026-11-24", which is today in UTC, or an earlier day
    "#);
}

#[test]
fn a_date_past_the_newest_of_workerd_runs_at_the_newest_and_stays_as_written() {
    let month_back = LoadOptions {
        newest_compatibility_date: "2026-10-24".to_owned(),
        ..options()
    };
    let text = pages("").replace("2026-01-01", "2026-11-24");
    assert_snapshot!(toml(&text).shown(&month_back), @r#"
    [loads]
    warning: The latest compatibility date supported by the installed workerd is "2026-10-24", but you've requested "2026-11-24". Falling back to "2026-10-24".
     --> ./wrangler.toml:3:22
      |
    3 | compatibility_date = "2026-11-24"
      |                      ^^^^^^^^^^^^
      = help: a newer Engawa knows newer dates; a deployment keeps the date as written
    "#);
    let config = loaded(&text, &month_back);
    assert_eq!(config.compatibility.date, "2026-11-24");
    assert_eq!(config.compatibility.effective_date, "2026-10-24");
}

#[test]
fn dates_that_are_none() {
    for (written, wanted) in [
        ("\"2026–01–01\"", "ISO-8601 accepted hyphens"),
        ("\"2026-02-30\"", "valid ISO-8601 date"),
        ("2026-01-01", "to be of type string"),
    ] {
        let text = format!(
            "name = \"app\"\npages_build_output_dir = \"dist\"\ncompatibility_date = {written}"
        );
        let shown = shown(&text);
        assert!(
            shown.starts_with("[refused]") && shown.contains(wanted),
            "{shown}"
        );
    }
}

// workerd.md 1.9
#[test]
fn experimental_and_repeated_flags_are_refused() {
    assert_snapshot!(shown(&pages(
        "compatibility_flags = [\n  \"nodejs_compat\",\n  \"unsafe_module\",\n  \"nodejs_compat\",\n]"
    )), @r#"
    [refused]
    error: The compatibility flag unsafe_module is experimental and cannot be used in Workers deployed to Cloudflare, nor here.
     --> ./wrangler.toml:6:3
      |
    6 |   "unsafe_module",
      |   ^^^^^^^^^^^^^^^
      = help: remove it

    error: Compatibility flag specified multiple times: nodejs_compat
     --> ./wrangler.toml:7:3
      |
    7 |   "nodejs_compat",
      |   ^^^^^^^^^^^^^^^
      = help: remove one of them
    "#);
}

#[test]
fn missing_name_output_folder_and_date() {
    assert_snapshot!(shown("pages_build_output_dir = \"gone\""), @r#"
    [refused]
    error: Missing top-level field "name" in configuration file.
     --> ./wrangler.toml:1:1
      |
    1 | pages_build_output_dir = "gone"
      | ^
      = help: add name = "app" at the top of the file

    warning: No compatibility_date was specified. Using today's date: 2026-11-24.
     --> ./wrangler.toml:1:1
      |
    1 | pages_build_output_dir = "gone"
      | ^
      = help: add compatibility_date = "2026-11-24"

    warning: "pages_build_output_dir" does not exist: ./gone
     --> ./wrangler.toml:1:26
      |
    1 | pages_build_output_dir = "gone"
      |                          ^^^^^^
      = help: run your build, or name the folder that it writes
    "#);
    assert_snapshot!(shown("# nothing"), @r#"
    [loads]
    warning: The file has no "name"; the project is called "app" after its folder.
     --> ./wrangler.toml:1:1
      |
    1 | # nothing
      | ^
      = help: add name = "app" at the top of the file

    warning: No compatibility_date was specified. Using today's date: 2026-11-24.
     --> ./wrangler.toml:1:1
      |
    1 | # nothing
      | ^
      = help: add compatibility_date = "2026-11-24"

    warning: The file has no "pages_build_output_dir"; static files are served from "dist", which exists.
     --> ./wrangler.toml:1:1
      |
    1 | # nothing
      | ^
      = help: add pages_build_output_dir = "dist"
    "#);
    let bare = Folder::new(&[(
        "wrangler.toml",
        "name = \"app\"\ncompatibility_date = \"2026-01-01\"",
    )]);
    assert_snapshot!(bare.shown(&options()), @r#"
    [loads]
    warning: The file has no "pages_build_output_dir"; none of out, dist, build, public, .vercel/output/static exists, so there are no static files.
     --> ./wrangler.toml:1:1
      |
    1 | name = "app"
      | ^
      = help: add pages_build_output_dir = "dist"
    "#);
    assert_eq!(
        bare.load(&options()).unwrap().0.pages_build_output_dir,
        None
    );
}

#[test]
fn ids_may_be_missing_and_remote_has_no_effect() {
    assert_snapshot!(shown(&pages("[[d1_databases]]\nbinding = \"DB\"\nremote = true")), @r#"
    [loads]
    warning: "d1_databases[0]" has no "database_id"; here it is named after its binding, "DB".
     --> ./wrangler.toml:4:1
      |
    4 | [[d1_databases]]
      | ^^^^^^^^^^^^^^^^
      = help: add database_id = "…" before you deploy it to Cloudflare

    warning: "d1_databases[0].remote" has no effect: Engawa keeps the data itself.
     --> ./wrangler.toml:6:1
      |
    6 | remote = true
      | ^^^^^^
      = help: remove it, or set it to false
    "#);
    let config = loaded(&pages("[[d1_databases]]\nbinding = \"DB\""), &options());
    assert_eq!(config.d1_databases[0].local_id.as_str(), "DB");
}

// wrangler 4.164.0 takes an empty database_id, and no empty KV id
#[test]
fn empty_ids() {
    assert_snapshot!(shown(&pages(
        "[[d1_databases]]\nbinding = \"DB\"\ndatabase_id = \"\"\n[[kv_namespaces]]\nbinding = \"\"\nid = \"\""
    )), @r#"
    [refused]
    warning: "d1_databases[0].database_id" is empty; it counts as not written.
     --> ./wrangler.toml:6:15
      |
    6 | database_id = ""
      |               ^^
      = help: give it a text, or remove the line

    error: "kv_namespaces[0]" bindings should have a string "binding" field but got "".
     --> ./wrangler.toml:8:11
      |
    8 | binding = ""
      |           ^^
      = help: add binding = "…"

    error: "kv_namespaces[0]" bindings should, optionally, have a string "id" field but got "".
     --> ./wrangler.toml:9:6
      |
    9 | id = ""
      |      ^^
      = help: give it a text, or remove the line
    "#);
}

#[test]
fn services_with_an_entrypoint_are_refused_with_the_reason() {
    assert_snapshot!(shown(&pages(
        "[[services]]\nbinding = \"API\"\nservice = \"other\"\nentrypoint = \"Admin\"\nenvironment = \"production\""
    )), @r#"
    [refused]
    error: "services[0]" has an "entrypoint", which Engawa does not support: each project runs in a process of its own, and RPC does not cross processes.
     --> ./wrangler.toml:7:1
      |
    7 | entrypoint = "Admin"
      | ^^^^^^^^^^
      = help: remove it and call the other project with fetch()

    warning: "services[0].environment" has no effect in Engawa.
     --> ./wrangler.toml:8:1
      |
    8 | environment = "production"
      | ^^^^^^^^^^^
      = help: the binding reaches the other project's deployment of the same environment
    "#);
}

#[test]
fn a_toml_date_or_infinity_is_no_var() {
    assert_snapshot!(shown(&pages("[vars]\nDAY = 2026-01-01\nDEEP = [{ x = inf }]")), @r#"
    [refused]
    error: The field "vars.DAY" is a TOML date, which is not supported. Please use a string instead.
     --> ./wrangler.toml:5:7
      |
    5 | DAY = 2026-01-01
      |       ^^^^^^^^^^
      = help: put it in quotes: "2026-01-01"

    error: The field "vars.DEEP" is a number that JSON cannot hold, which is not supported. Please use a string instead.
     --> ./wrangler.toml:6:15
      |
    6 | DEEP = [{ x = inf }]
      |               ^^^
      = help: put it in quotes: "inf"
    "#);
}

#[test]
fn wrong_shapes() {
    assert_snapshot!(shown(&pages("kv_namespaces = \"x\"\nd1_databases = [1]\nvars = []\nenv = 3")), @r#"
    [refused]
    error: The field "kv_namespaces" should be an array but got "x".
     --> ./wrangler.toml:4:17
      |
    4 | kv_namespaces = "x"
      |                 ^^^
      = help: write [[kv_namespaces]]

    error: "d1_databases" bindings should be objects, but got 1
     --> ./wrangler.toml:5:17
      |
    5 | d1_databases = [1]
      |                 ^
      = help: write [[d1_databases]]

    error: The field "vars" should be an object but got [].
     --> ./wrangler.toml:6:8
      |
    6 | vars = []
      |        ^^

    error: The field "env" should be an object but got 3.
     --> ./wrangler.toml:7:7
      |
    7 | env = 3
      |       ^
    "#);
}

#[test]
fn what_is_not_toml() {
    assert_snapshot!(shown("name = \"app\"\n[vars\nA = 1"), @r#"
    [refused]
    error: This is not TOML: unclosed table, expected `]`
     --> ./wrangler.toml:2:6
      |
    2 | [vars
      |      ^
    "#);
    assert_snapshot!(shown("name = \"app\"\nname = \"b\""), @r#"
    [refused]
    error: This is not TOML: duplicate key
     --> ./wrangler.toml:2:1
      |
    2 | name = "b"
      | ^^^^
    "#);
}

#[test]
fn json_takes_comments_and_trailing_commas_and_nothing_looser() {
    let json = |name: &str, text: &str| {
        Folder::new(&[(name, text), ("dist/index.html", "")]).shown(&options())
    };
    let good = r#"{
  // a comment
  "$schema": "x",
  "name": "app", /* another */
  "pages_build_output_dir": "./dist",
  "compatibility_date": "2026-01-01",
  "vars": { "A": 1e2, "B": null, },
}"#;
    assert_eq!(json("wrangler.json", good), "fine");
    assert_eq!(json("wrangler.jsonc", good), "fine");
    assert_snapshot!(json("wrangler.json", "{ name: \"app\" }"), @r#"
    [refused]
    error: This is not JSON: Expected string for object property
     --> ./wrangler.json:1:3
      |
    1 | { name: "app" }
      |   ^^^^
    "#);
    assert_snapshot!(json("wrangler.json", "[]"), @r#"
    [refused]
    error: The file should hold one JSON object.
     --> ./wrangler.json:1:1
      |
    1 | []
      | ^
      = help: begin with {"name": "my-project", …}
    "#);
    assert_snapshot!(json("wrangler.jsonc", r#"{
  "name": "app",
  "pages_build_output_dir": "dist",
  "compatibility_date": "2025-01-01",
  "compatibility_date": "2026-01-01",
  "kv_namespaces": { "binding": "KV", "id": "x" }
}"#), @r#"
    [loads]
    warning: "compatibility_date" is written twice; this one counts, the one on line 4 does not.
     --> ./wrangler.jsonc:5:3
      |
    5 |   "compatibility_date": "2026-01-01",
      |   ^^^^^^^^^^^^^^^^^^^^
      = help: remove one of them

    warning: The field "kv_namespaces" is a single table where wrangler wants a list; it is read as a list of one.
     --> ./wrangler.jsonc:6:20
      |
    6 |   "kv_namespaces": { "binding": "KV", "id": "x" }
      |                    ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      = help: write "kv_namespaces": [{ … }]
    "#);
}

#[test]
fn a_byte_order_mark_is_skipped() {
    assert_eq!(shown(&format!("\u{feff}{}", pages(""))), "fine");
}

#[test]
fn files_that_are_no_text() {
    let folder = toml("");
    folder.write("wrangler.toml", b"name = \"\xff\"");
    let error = folder.load(&options()).unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(source, "byte 8 is not UTF-8; save the file as UTF-8");
    folder.write("wrangler.toml", vec![b' '; 2 * 1024 * 1024]);
    assert!(matches!(
        folder.load(&options()),
        Err(ConfigError::Read { .. })
    ));
    let error = Project::load(&folder.path().join("gone"), &options()).unwrap_err();
    assert!(matches!(error, ConfigError::NotAFolder { .. }));
}

// control-plane-api.md 12.1
#[test]
fn json_is_read_before_jsonc_before_toml_and_the_folder_before_those_above() {
    let folder = Folder::new(&[
        ("wrangler.toml", &pages("")),
        ("wrangler.jsonc", "{\"name\": \"jsonc\"}"),
        ("sub/wrangler.toml", "name = \"sub\""),
        ("other/readme", ""),
    ]);
    let (config, warnings) = folder.load(&options()).unwrap();
    assert_eq!(config.name.as_str(), "jsonc");
    assert!(
        warnings[0]
            .message
            .contains("wrangler.toml beside it is not")
    );

    let searching = LoadOptions {
        search_parents: true,
        ..options()
    };
    let (config, _) = Project::load(&folder.path().join("sub"), &searching).unwrap();
    assert_eq!(config.name.as_str(), "sub");
    let (config, warnings) = Project::load(&folder.path().join("other"), &searching).unwrap();
    assert_eq!(config.name.as_str(), "jsonc");
    assert_eq!(config.root, fs::canonicalize(folder.path()).unwrap());
    assert!(
        warnings[0].message.contains("has no wrangler file"),
        "{}",
        warnings[0]
    );
}

// wrangler: pages dev <directory>
#[test]
fn a_folder_without_a_file_is_a_pages_project() {
    let folder = Folder::new(&[("index.html", "")]);
    assert_snapshot!(folder.shown(&options()), @r#"
    [loads]
    warning: . has no wrangler file: it is served as the Pages project "app", with static files from the folder itself, today's compatibility date (2026-11-24) and no bindings.
      = help: add a wrangler.toml with name, pages_build_output_dir and compatibility_date
    "#);
    let (config, _) = folder.load(&options()).unwrap();
    assert_eq!(config.name.as_str(), "app");
    assert_eq!(config.pages_build_output_dir, Some(folder.path()));
    folder.write("public/index.html", "");
    let (config, _) = folder.load(&options()).unwrap();
    assert_eq!(
        config.pages_build_output_dir,
        Some(folder.path().join("public"))
    );
}

#[test]
fn a_long_line_is_cut_around_the_place() {
    let text = pages(&format!(
        "vars = {{ A = \"{}\", D = 2026-01-01, B = \"{}\" }}",
        "x".repeat(300),
        "y".repeat(300)
    ));
    let shown = shown(&text);
    assert!(
        shown.lines().all(|line| line.chars().count() < 140),
        "{shown}"
    );
    let lines: Vec<&str> = shown.lines().collect();
    let under = lines.iter().position(|line| line.contains("^^^")).unwrap();
    let start = lines[under].find('^').unwrap();
    assert_eq!(&lines[under - 1][start..start + 10], "2026-01-01");
}

#[test]
fn every_key_has_one_row() {
    let mut names: Vec<&str> = keys::KEYS.iter().map(|key| key.name).collect();
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count);
}

proptest! {
    #[test]
    fn no_text_makes_the_loader_panic(text in "\\PC{0,200}", json: bool) {
        load_any(&text, json);
    }

    /// Text that is likely to parse, with all of wrangler's keys over all shapes.
    #[test]
    fn no_shape_makes_the_loader_panic(
        entries in prop::collection::vec(
            (prop::sample::select(keys::KEYS.iter().map(|key| key.name).collect::<Vec<_>>()),
             prop::sample::select(vec!["1", "\"x\"", "[]", "{}", "[{}]", "[1]", "true", "inf",
                 "2026-01-01", "{ bindings = [{}] }", "[{ binding = \"X\", id = 3 }]",
                 "{ binding = \"X\" }", "{ preview = { name = 1 }, x = 2 }", "\"２０２６\"", "[\"a\", \"a\"]"])),
            0..8,
        ),
        inside: bool,
    ) {
        let mut text = String::from(if inside { "[env.preview]\n" } else { "" });
        let mut seen = std::collections::HashSet::new();
        for (key, value) in entries {
            if seen.insert(key) {
                text.extend([key, " = ", value, "\n"]);
            }
        }
        load_any(&text, false);
    }
}

#[test]
fn deep_nesting_is_an_error_and_no_overflow() {
    for open in ["[", "{\"a\":", "a = ["] {
        let text = open.repeat(100_000);
        load_any(&text, true);
        load_any(&text, false);
        load_any(&format!("a = {text}"), false);
    }
    load_any(&format!("[{}]", vec!["a"; 50_000].join(".")), false);
}

fn load_any(text: &str, json: bool) {
    let source = Source {
        file: PathBuf::from(if json {
            "wrangler.json"
        } else {
            "wrangler.toml"
        }),
        text: text.to_owned(),
        format: if json { Format::Json } else { Format::Toml },
    };
    for options in [options(), preview()] {
        let context = Context {
            root: Path::new("/nonexistent"),
            folder_name: "app",
            options: &options,
        };
        let (config, diagnostics) = validate(&source, &context);
        let errors = diagnostics.iter().any(Diagnostic::is_error);
        assert_eq!(config.is_none(), errors, "{text}");
        for diagnostic in diagnostics {
            assert!(!diagnostic.to_string().is_empty());
        }
    }
}
