//! Bindings: which names and ids are taken, what is refused.

use super::*;

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
