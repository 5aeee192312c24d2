//! `.dev.vars` and `.env`: secrets in development.

use std::path::PathBuf;

use engawa_model::Secret;
use indexmap::IndexMap;

/// The secrets of a project in development.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DevVars {
    /// By name, in the order of the file.
    pub values: IndexMap<String, Secret>,
    /// The files that they came from; empty if there is none.
    pub files: Vec<PathBuf>,
}
