//! Every TOML fragment of the specification, as it is written there.

use super::*;

const DEPLOY: &str = r#"# wrangler.toml
name = "next-mastra-chat"
compatibility_date = "2024-12-15"

[env.production]
name = "next-mastra-chat"

[env.preview]
name = "next-mastra-chat-preview"
"#;

const D1: &str = r#"# wrangler.toml
[[d1_databases]]
binding = "DB"
database_name = "next-mastra-chat"
database_id = "your-database-id"

[env.preview.d1_databases]
binding = "DB"
database_name = "next-mastra-chat-preview"
database_id = "your-preview-database-id"
"#;

const R2: &str = r#"# wrangler.toml
[[r2_buckets]]
binding = "R2_BUCKET"
bucket_name = "next-mastra-files"

[env.preview.r2_buckets]
binding = "R2_BUCKET"
bucket_name = "next-mastra-files-preview"
"#;

const KV: &str = r#"# wrangler.toml
[[kv_namespaces]]
binding = "KV_CACHE"
id = "your-cache-namespace-id"

[[kv_namespaces]]
binding = "KV_SESSIONS"
id = "your-sessions-namespace-id"

[env.preview.kv_namespaces]
binding = "KV_CACHE"
id = "your-preview-cache-namespace-id"
"#;

const ANALYTICS: &str = r#"# wrangler.toml
[[analytics_engine_datasets]]
binding = "ANALYTICS_ENGINE"
"#;

#[test]
fn deploy_settings() {
    let folder = Folder::new(&[("wrangler.toml", DEPLOY), ("out/index.html", "")]);
    assert_snapshot!(folder.shown(&options()), @r#"
    [loads]
    warning: The file has no "pages_build_output_dir"; static files are served from "out", which exists.
     --> ./wrangler.toml:1:1
      |
    1 | # wrangler.toml
      | ^
      = help: add pages_build_output_dir = "out"
    "#);
    assert_eq!(
        folder.load(&options()).unwrap().0.name.as_str(),
        "next-mastra-chat"
    );
    let (config, _) = folder.load(&preview()).unwrap();
    assert_eq!(config.name.as_str(), "next-mastra-chat-preview");
    assert_eq!(config.compatibility.date, "2024-12-15");
    assert_eq!(config.kind, ProjectKind::Pages);
}

#[test]
fn d1_with_a_single_table_for_preview() {
    assert_snapshot!(toml(D1).shown(&preview()), @r#"
    [loads]
    warning: The file has no "name"; the project is called "app" after its folder.
     --> ./wrangler.toml:1:1
      |
    1 | # wrangler.toml
      | ^
      = help: add name = "app" at the top of the file

    warning: No compatibility_date was specified. Using today's date: 2026-11-24.
     --> ./wrangler.toml:1:1
      |
    1 | # wrangler.toml
      | ^
      = help: add compatibility_date = "2026-11-24"

    warning: The file has no "pages_build_output_dir"; static files are served from "dist", which exists.
     --> ./wrangler.toml:1:1
      |
    1 | # wrangler.toml
      | ^
      = help: add pages_build_output_dir = "dist"

    warning: The field "env.preview.d1_databases" is a single table where wrangler wants a list; it is read as a list of one.
     --> ./wrangler.toml:7:1
      |
    7 | [env.preview.d1_databases]
      | ^^^^^^^^^^^^^^^^^^^^^^^^^^
      = help: write [[env.preview.d1_databases]]
    "#);
    let top = loaded(D1, &options());
    assert_eq!(top.d1_databases[0].local_id.as_str(), "your-database-id");
    let preview = loaded(D1, &preview());
    assert_eq!(
        preview.d1_databases[0].local_id.as_str(),
        "your-preview-database-id"
    );
}

#[test]
fn r2_with_a_single_table_for_preview() {
    let top = loaded(R2, &options());
    assert_eq!(top.r2_buckets[0].local_name.as_str(), "next-mastra-files");
    let preview = loaded(R2, &preview());
    assert_eq!(
        preview.r2_buckets[0].local_name.as_str(),
        "next-mastra-files-preview"
    );
}

#[test]
fn kv_with_fewer_namespaces_for_preview() {
    assert_snapshot!(toml(KV).shown(&preview()), @r#"
    [loads]
    warning: The file has no "name"; the project is called "app" after its folder.
     --> ./wrangler.toml:1:1
      |
    1 | # wrangler.toml
      | ^
      = help: add name = "app" at the top of the file

    warning: No compatibility_date was specified. Using today's date: 2026-11-24.
     --> ./wrangler.toml:1:1
      |
    1 | # wrangler.toml
      | ^
      = help: add compatibility_date = "2026-11-24"

    warning: The file has no "pages_build_output_dir"; static files are served from "dist", which exists.
     --> ./wrangler.toml:1:1
      |
    1 | # wrangler.toml
      | ^
      = help: add pages_build_output_dir = "dist"

    warning: The field "env.preview.kv_namespaces" is a single table where wrangler wants a list; it is read as a list of one.
      --> ./wrangler.toml:10:1
       |
    10 | [env.preview.kv_namespaces]
       | ^^^^^^^^^^^^^^^^^^^^^^^^^^^
       = help: write [[env.preview.kv_namespaces]]

    warning: The following bindings are at the top level, but not on "env.preview", and are lost there: KV_SESSIONS (KV Namespace).
      --> ./wrangler.toml:10:6
       |
    10 | [env.preview.kv_namespaces]
       |      ^^^^^^^
       = help: bindings and vars are not inherited by environments: repeat each inside "env.preview", or remove that table
    "#);
    assert_eq!(loaded(KV, &options()).kv_namespaces.len(), 2);
    let preview = loaded(KV, &preview());
    assert_eq!(preview.kv_namespaces.len(), 1);
    assert_eq!(
        preview.kv_namespaces[0].local_id.as_str(),
        "your-preview-cache-namespace-id"
    );
}

#[test]
fn analytics_with_only_a_binding() {
    let config = loaded(ANALYTICS, &options());
    assert_eq!(
        config.analytics_engine_datasets[0].dataset.as_str(),
        "ANALYTICS_ENGINE"
    );
}

#[test]
fn all_fragments_as_one_file() {
    let all = [DEPLOY, D1, R2, KV, ANALYTICS].concat();
    let top = loaded(&all, &options());
    let names: Vec<String> = top
        .bindings(&DevVars::default())
        .into_iter()
        .map(|binding| binding.name)
        .collect();
    assert_eq!(
        names,
        [
            "KV_CACHE",
            "KV_SESSIONS",
            "DB",
            "R2_BUCKET",
            "ANALYTICS_ENGINE",
            "CF_PAGES",
            "CF_PAGES_BRANCH",
            "CF_PAGES_COMMIT_SHA",
            "CF_PAGES_URL"
        ]
    );
    assert_snapshot!(toml(&all).shown(&preview()), @r#"
    [loads]
    warning: The file has no "pages_build_output_dir"; static files are served from "dist", which exists.
     --> ./wrangler.toml:1:1
      |
    1 | # wrangler.toml
      | ^
      = help: add pages_build_output_dir = "dist"

    warning: The following bindings are at the top level, but not on "env.preview", and are lost there: KV_SESSIONS (KV Namespace), ANALYTICS_ENGINE (Analytics Engine Dataset).
     --> ./wrangler.toml:8:6
      |
    8 | [env.preview]
      |      ^^^^^^^
      = help: bindings and vars are not inherited by environments: repeat each inside "env.preview", or remove that table

    warning: The field "env.preview.d1_databases" is a single table where wrangler wants a list; it is read as a list of one.
      --> ./wrangler.toml:16:1
       |
    16 | [env.preview.d1_databases]
       | ^^^^^^^^^^^^^^^^^^^^^^^^^^
       = help: write [[env.preview.d1_databases]]

    warning: The field "env.preview.r2_buckets" is a single table where wrangler wants a list; it is read as a list of one.
      --> ./wrangler.toml:25:1
       |
    25 | [env.preview.r2_buckets]
       | ^^^^^^^^^^^^^^^^^^^^^^^^
       = help: write [[env.preview.r2_buckets]]

    warning: The field "env.preview.kv_namespaces" is a single table where wrangler wants a list; it is read as a list of one.
      --> ./wrangler.toml:37:1
       |
    37 | [env.preview.kv_namespaces]
       | ^^^^^^^^^^^^^^^^^^^^^^^^^^^
       = help: write [[env.preview.kv_namespaces]]
    "#);
    // pages.md 6: a table with nothing but a name still drops every binding.
    let production = LoadOptions {
        env: Some(Environment::Production),
        ..options()
    };
    let config = loaded(&all, &production);
    assert!(
        config
            .bindings(&DevVars::default())
            .iter()
            .all(|binding| binding.name.starts_with("CF_PAGES"))
    );
    assert!(
        toml(&all)
            .shown(&production)
            .contains("are lost there: KV_CACHE")
    );
}
