//! `cargo xtask node-compat`: the tables by which `nodejs_compat` is bundled, from the
//! pinned npm packages.
//!
//! wrangler asks `unenv` and `@cloudflare/unenv-preset` at each build; Engawa's own
//! bundling runs no Node, so what they say for each compatibility date and flag is
//! written to `crates/project/src/node_compat/table.json` and committed. It changes when
//! the packages in `npm/package.json` do. A test of `engawa-project` says so if it was
//! forgotten.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};

/// Where the table lies, from the repository's root.
const TABLE: &str = "crates/project/src/node_compat/table.json";

/// Writes the table. `repository` is the repository's root; `node_modules` the folder in
/// which the packages of `npm/package.json` are installed; `node` the Node binary.
pub(crate) fn run(repository: &Path, node_modules: &Path, node: &Path) -> anyhow::Result<()> {
    let script = repository.join("xtask/src/node_compat.mjs");
    let output = Command::new(node)
        .arg(&script)
        .arg(node_modules)
        .output()
        .with_context(|| format!("cannot run {}", node.display()))?;
    if !output.status.success() {
        bail!(
            "{} failed; are the packages of npm/ installed in {}?\n{}",
            script.display(),
            node_modules.display(),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    // Read it once, so that a broken table is not what gets committed.
    serde_json::from_slice::<serde_json::Value>(&output.stdout)
        .context("the generator printed something that is not JSON")?;
    let table = repository.join(TABLE);
    std::fs::write(&table, output.stdout)
        .with_context(|| format!("cannot write {}", table.display()))
}
