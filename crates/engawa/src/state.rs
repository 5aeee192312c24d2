//! The state folder of a project in development.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use engawa_storage::create_data_dir;

/// `.engawa` in the project, or the folder that `--persist-to` names. A folder that is
/// made here is for its owner's eyes, since it holds what the project stores, and is kept
/// out of version control; one that is there already is left as it is.
///
/// # Errors
/// When it cannot be made or written to.
pub(crate) fn dir(project: &Path, persist_to: Option<&Path>) -> anyhow::Result<PathBuf> {
    let dir = persist_to.map_or_else(|| project.join(".engawa"), Path::to_path_buf);
    let failed = || {
        format!(
            "The state folder {} cannot be written to. Check its owner and permissions, \
             or choose another with --persist-to.",
            dir.display()
        )
    };
    let is_ours = persist_to.is_none() || !dir.exists();
    create_data_dir(&dir).with_context(failed)?;
    let ignore = dir.join(".gitignore");
    if is_ours && !ignore.exists() {
        fs::write(&ignore, "*\n").with_context(failed)?;
    }
    dir.canonicalize().with_context(failed)
}
