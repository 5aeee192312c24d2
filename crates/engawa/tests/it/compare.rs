//! The projects of `tests/compare` under Engawa and under `wrangler pages dev`: every
//! difference has an explanation in `tests/compare/explained.txt`, and every explanation
//! has its difference. `cargo xtask compare DIR` does the same with any project.

#![expect(clippy::unwrap_used, reason = "a test fails by it")]

use engawa_testkit::compare::{Explained, compare};
use engawa_testkit::oracle::packages;
use engawa_testkit::repository;

use crate::program;

#[test]
fn static_files_as_under_wrangler() {
    as_under_wrangler("static");
}

#[test]
fn a_single_page_application_as_under_wrangler() {
    as_under_wrangler("spa");
}

#[test]
fn functions_and_routes_json_as_under_wrangler() {
    as_under_wrangler("functions");
}

#[test]
fn a_worker_file_as_under_wrangler() {
    as_under_wrangler("worker");
}

#[test]
fn a_worker_folder_as_under_wrangler() {
    as_under_wrangler("worker-folder");
}

fn as_under_wrangler(name: &str) {
    let packages = packages().expect("cargo xtask test installs wrangler");
    let corpus = repository().join("tests/compare");
    let project = corpus.join(name);
    let explained = Explained::read(&corpus.join("explained.txt")).unwrap();
    let differences = compare(
        program(),
        &packages,
        &project,
        &project.join("requests.txt"),
    )
    .unwrap();
    let unexplained: Vec<String> = differences
        .iter()
        .filter(|difference| explained.why(difference).is_none())
        .map(ToString::to_string)
        .collect();
    assert!(
        unexplained.is_empty(),
        "{} differences have no explanation:\n{}",
        unexplained.len(),
        unexplained.join("\n")
    );
    let unused = explained.unused(name, &differences);
    assert!(
        unused.is_empty(),
        "explained in vain:\n{}",
        unused.join("\n")
    );
}
