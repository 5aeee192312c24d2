//! Keys: unknown, without effect, removed; and what a file of each kind needs.

use super::*;

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

// wrangler: deploy-helpers `assets.ts`, workers-shared `base-path.ts`
#[test]
fn assets_that_can_not_work_are_refused() {
    let only = |rest: &str| {
        format!("name = \"app\"\ncompatibility_date = \"2026-01-01\"\n[assets]\n{rest}")
    };
    for (text, said) in [
        (
            only("binding = \"A\""),
            "missing the required `directory` property",
        ),
        (
            only("directory = \"\""),
            "missing the required `directory` property",
        ),
        (
            only("directory = \"d\"\nbinding = \"A\""),
            "Cannot use assets with a binding in an assets-only Worker.",
        ),
        (
            only("directory = \"d\"\nrun_worker_first = true"),
            "Cannot set run_worker_first without a Worker script.",
        ),
        (
            worker("[assets]\ndirectory = \"d\"\nrun_worker_first = [\"/a/*\", \"/a/b\", \"c\"]"),
            "Invalid routes in `run_worker_first`:\n'c': rules must start with '/' or '!/'\n'/a/b': rule '/a/*' makes it redundant",
        ),
        (
            worker("[assets]\ndirectory = \"d\"\nbase_path = \"https://x.test/\""),
            "The value must be a pathname, not a URL.",
        ),
    ] {
        let given = shown(&text);
        assert!(
            given.starts_with("[refused]") && given.contains(said),
            "{text}\n{given}"
        );
    }
    assert_eq!(shown(&only("directory = \"d\"")), "fine");
    let first = shown(&worker(
        "[assets]\ndirectory = \"d\"\nrun_worker_first = true",
    ));
    assert!(first.starts_with("[loads]"), "{first}");
    assert!(
        first.contains("run_worker_first=true set without an assets binding"),
        "{first}"
    );
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
fn every_key_has_one_row() {
    let mut names: Vec<&str> = keys::KEYS.iter().map(|key| key.name).collect();
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count);
}
