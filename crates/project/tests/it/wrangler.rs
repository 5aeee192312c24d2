//! The same projects, bundled by wrangler and by us, in the same workerd: every answer must
//! be the same.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::npm::wrangler;
use crate::support::workerd::{Request, Workerd, get};
use crate::support::{Folder, build, modules, modules_of_folder, pages};
use crate::{bundling, router};

/// Bundles with `wrangler pages functions build` into a folder of its own.
fn wrangler_build(folder: &Folder, date: &str, flags: &[&str]) -> tempfile::TempDir {
    let home = tempfile::tempdir().expect("a temporary folder");
    let out = tempfile::tempdir().expect("a temporary folder");
    let wrangler = wrangler();
    let mut command = Command::new(&wrangler.node);
    command
        .arg(&wrangler.script)
        .args(["pages", "functions", "build", "functions"])
        .arg("--outdir")
        .arg(out.path())
        .args(["--compatibility-date", date])
        .current_dir(folder.path())
        .env_clear()
        .env("HOME", home.path())
        .env("PATH", Path::new("/usr/bin:/bin"))
        .env("CI", "1")
        .env("NODE_ENV", "development")
        .env("WRANGLER_SEND_METRICS", "false");
    for flag in flags {
        command.args(["--compatibility-flags", flag]);
    }
    let output = command.output().expect("wrangler runs");
    assert!(
        output.status.success(),
        "wrangler: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    out
}

#[track_caller]
fn compare(folder: &Folder, date: &str, flags: &[&str], requests: &[Request<'_>]) -> Vec<Value> {
    let built = build(&pages(folder, date, flags)).unwrap_or_else(|error| panic!("{error}"));
    let theirs = wrangler_build(folder, date, flags);
    let flags: Vec<String> = flags.iter().map(|&flag| flag.to_owned()).collect();
    let answers = |modules: &[_]| {
        let workerd = Workerd::start(modules, date, &flags).unwrap_or_else(|log| panic!("{log}"));
        workerd.ask(requests)
    };
    let ours = answers(modules(&built));
    let theirs = answers(&modules_of_folder(theirs.path()));
    for ((request, ours), theirs) in requests.iter().zip(&ours).zip(&theirs) {
        assert_eq!(ours, theirs, "{} {}", request.method, request.path);
    }
    ours
}

#[test]
fn the_router_answers_like_wranglers() {
    compare(&router::tree(), router::DATE, &[], &router::requests());
}

#[test]
fn modules_typescript_and_jsx_are_bundled_alike() {
    let folder = bundling::every_kind_of_import();
    let answers = compare(&folder, "2025-06-01", &[], &[get("/")]);
    assert_eq!(answers[0]["status"], 200, "{}", answers[0]);
}

#[test]
fn nodes_modules_are_bundled_alike() {
    for (date, flags) in [("2024-09-23", &["nodejs_compat"][..]), ("2026-11-01", &[])] {
        let folder = crate::node_compat::uses_of_node();
        let answers = compare(&folder, date, flags, &[get("/")]);
        assert_eq!(answers[0]["status"], 200, "{date}: {}", answers[0]);
    }
}
