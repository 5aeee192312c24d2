//! `cargo xtask compare DIR`: one project under Engawa and under `wrangler pages dev`.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;
use engawa_testkit::compare::{Explained, compare};
use engawa_testkit::oracle;

use crate::{root, setup};

#[derive(Args)]
pub(crate) struct CompareArgs {
    /// The project's folder.
    dir: PathBuf,
    /// The list of requests; `requests.txt` in the project's folder by default.
    /// `crates/testkit/src/compare.rs` says how one is written.
    #[arg(long, value_name = "FILE")]
    requests: Option<PathBuf>,
}

pub(crate) fn run(args: &CompareArgs) -> anyhow::Result<()> {
    let requests = args
        .requests
        .clone()
        .unwrap_or_else(|| args.dir.join("requests.txt"));
    setup::test_packages()?;
    let packages = oracle::packages().context("wrangler is not installed")?;
    let engawa = setup::build_engawa(false)?;
    let explained = Explained::read(&root().join("tests/compare/explained.txt"))?;
    let differences = compare(&engawa, &packages, &args.dir, &requests)?;
    let mut unexplained = 0;
    for difference in &differences {
        println!("{difference}");
        if let Some(why) = explained.why(difference) {
            println!("  explained: {why}");
        } else {
            unexplained += 1;
        }
    }
    println!(
        "{} differences, {unexplained} of them not explained.",
        differences.len()
    );
    if unexplained > 0 {
        bail!("tests/compare/explained.txt does not explain them");
    }
    Ok(())
}
