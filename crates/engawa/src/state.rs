//! The state folder of a project in development.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// `.engawa` in the project, or the folder that `--persist-to` names; made if need be,
/// and kept out of version control.
///
/// # Errors
/// When it cannot be made or written to.
pub fn dir(project: &Path, persist_to: Option<&Path>) -> anyhow::Result<PathBuf> {
    let dir = persist_to.map_or_else(|| project.join(".engawa"), Path::to_path_buf);
    let failed = || {
        format!(
            "The state folder {} cannot be written to. Check its owner and permissions, \
             or choose another with --persist-to.",
            dir.display()
        )
    };
    fs::create_dir_all(&dir).with_context(failed)?;
    let ignore = dir.join(".gitignore");
    if !ignore.exists() {
        fs::write(&ignore, "*\n").with_context(failed)?;
    }
    dir.canonicalize().with_context(failed)
}
