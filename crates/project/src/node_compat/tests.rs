use super::{Environment, Mode, is_builtin, table};

fn mode(date: &str, flags: &[&str]) -> Mode {
    let flags: Vec<String> = flags.iter().map(|&flag| flag.to_owned()).collect();
    Mode::of(date, &flags)
}

fn environment(date: &str, flags: &[&str]) -> Environment {
    let flags: Vec<String> = flags.iter().map(|&flag| flag.to_owned()).collect();
    Environment::of(date, &flags)
}

// miniflare: node-compat.spec.ts; pages.md 5.8
#[test]
fn the_mode_follows_date_and_flags() {
    assert_eq!(mode("2024-01-01", &[]), Mode::Off);
    assert_eq!(mode("2026-08-03", &[]), Mode::Off);
    assert_eq!(mode("2026-08-04", &[]), Mode::V2);
    assert_eq!(
        mode("2026-08-04", &["no_nodejs_compat", "no_nodejs_compat_v2"]),
        Mode::Off
    );
    assert_eq!(mode("2024-09-22", &["nodejs_compat"]), Mode::V1);
    assert_eq!(mode("2024-09-23", &["nodejs_compat"]), Mode::V2);
    assert_eq!(
        mode("2025-01-01", &["nodejs_compat", "no_nodejs_compat_v2"]),
        Mode::V1
    );
    assert_eq!(mode("2024-01-01", &["nodejs_compat_v2"]), Mode::V2);
    assert_eq!(mode("2024-01-01", &["nodejs_als"]), Mode::Als);
}

// unenv-preset: `getFsOverrides` and the like
#[test]
fn a_date_moves_modules_from_stubs_to_the_runtime() {
    let before = environment("2025-09-14", &["nodejs_compat"]);
    assert!(before.stubs.contains_key("fs") && !before.native.contains(&"fs".to_owned()));
    let after = environment("2025-09-15", &["nodejs_compat"]);
    assert!(!after.stubs.contains_key("fs") && after.native.contains(&"fs".to_owned()));
    let newest = environment("2026-11-17", &[]);
    assert!(newest.stubs.is_empty() && newest.globals.is_empty());
    assert_eq!(
        environment("2024-01-01", &[]),
        environment("2024-09-23", &[])
    );
}

#[test]
fn flags_move_single_modules() {
    let on = environment("2024-09-23", &["enable_nodejs_fs_module"]);
    assert!(on.native.contains(&"fs/promises".to_owned()) && !on.stubs.contains_key("fs"));
    let off = environment(
        "2026-11-17",
        &["disable_nodejs_fs_module", "disable_nodejs_console_module"],
    );
    assert!(off.stubs.contains_key("fs") && !off.native.contains(&"fs".to_owned()));
    assert!(off.globals.contains_key("console"));
}

#[test]
fn built_ins_are_known_by_both_names() {
    assert!(is_builtin("node:fs") && is_builtin("fs/promises"));
    assert!(!is_builtin("sqlite") && !is_builtin("fs-extra"));
}

#[test]
fn the_table_was_made_from_the_pinned_packages() {
    let package: serde_json::Value =
        serde_json::from_str(include_str!("../../../../npm/package.json")).unwrap();
    for (name, version) in &table().packages {
        assert_eq!(
            package["dependencies"][name],
            version.as_str(),
            "run `cargo xtask node-compat`"
        );
    }
}
