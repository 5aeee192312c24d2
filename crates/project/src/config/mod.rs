//! The wrangler file: found, parsed, checked.

mod types;

use std::path::{Path, PathBuf};

use engawa_model::{Environment, ProjectKind};

pub use types::{
    AnalyticsEngineDataset, Assets, Bundling, Config, D1Database, HtmlHandling, KvNamespace,
    Limits, NotFoundHandling, Placement, R2Bucket, Rule, RuleKind, RunWorkerFirst, Service, Var,
};

use crate::Diagnostic;

/// A project's folder.
#[derive(Debug)]
pub struct Project;

/// How a wrangler file is read.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// The environment; `None` is the top level of the file, as in `wrangler pages dev`.
    pub env: Option<Environment>,
    /// Today in UTC, `YYYY-MM-DD`.
    pub today: String,
    /// The newest compatibility date that the pinned workerd knows, `YYYY-MM-DD`.
    pub newest_compatibility_date: String,
    /// What the project is where the file does not say; Pages if this is `None` too.
    pub kind: Option<ProjectKind>,
    /// Whether folders above are searched for a wrangler file, as wrangler does.
    pub search_parents: bool,
}

/// Why a project cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The folder does not exist or is none.
    #[error("{} is not a folder", dir.display())]
    NotAFolder {
        /// The folder asked for.
        dir: PathBuf,
    },
    /// A file exists and cannot be read.
    #[error("cannot read {}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is wrong: all of its errors, and its warnings, in the order of the file.
    #[error("{}", render(.0))]
    Invalid(Vec<Diagnostic>),
}

fn render(diagnostics: &[Diagnostic]) -> String {
    let frames: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
    frames.join("\n\n")
}

impl Project {
    /// Reads the project in `dir`.
    pub fn load(
        dir: &Path,
        options: &LoadOptions,
    ) -> Result<(Config, Vec<Diagnostic>), ConfigError> {
        let _ = options;
        Err(ConfigError::NotAFolder {
            dir: dir.to_path_buf(),
        })
    }
}
