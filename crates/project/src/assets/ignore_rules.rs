//! Which entries of an output folder are no static files.

use std::path::Path;

use engawa_model::ProjectKind;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::AssetError;

/// The rules of a folder.
pub(super) struct IgnoreRules {
    kind: ProjectKind,
    extra: Vec<String>,
    /// Workers: `.assetsignore`, in the syntax of `.gitignore`.
    patterns: Gitignore,
    /// Somebody has thought about what is served.
    has_file: bool,
}

/// Pages: at the top of the folder (wrangler `pages/validate.ts`). `.engawa` is our own
/// `.wrangler`.
const TOP_LEVEL: [&str; 7] = [
    "_worker.js",
    "_redirects",
    "_headers",
    "_routes.json",
    "functions",
    ".wrangler",
    ".engawa",
];
/// Pages: anywhere, though not below a folder whose name begins with a dot.
const ANYWHERE: [&str; 3] = [".DS_Store", "node_modules", ".git"];
/// Workers: read by the server, about the folder itself, or our own.
const WORKERS: [&str; 4] = ["/.assetsignore", "/_redirects", "/_headers", "/.engawa"];

impl IgnoreRules {
    pub(super) fn of_folder(
        folder: &Path,
        kind: ProjectKind,
        extra: &[&str],
    ) -> Result<Self, AssetError> {
        let mut builder = GitignoreBuilder::new(folder);
        let mut has_file = false;
        if kind == ProjectKind::Workers {
            let file = folder.join(".assetsignore");
            let text = match std::fs::read_to_string(&file) {
                Ok(text) => {
                    has_file = true;
                    text
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
                Err(source) => return Err(AssetError::Read { path: file, source }),
            };
            for line in WORKERS.into_iter().chain(text.lines()) {
                // A line that is no pattern matches nothing, as in git.
                let _ = builder.add_line(None, line);
            }
        }
        let patterns = builder.build().unwrap_or_else(|_| Gitignore::empty());
        Ok(Self {
            kind,
            extra: extra.iter().map(|&name| name.to_owned()).collect(),
            patterns,
            has_file,
        })
    }

    /// `name` is the path below the folder.
    pub(super) fn ignores(&self, name: &str, is_folder: bool) -> bool {
        if self.extra.iter().any(|extra| extra == name) {
            return true;
        }
        match self.kind {
            ProjectKind::Pages => {
                let (folders, last) = name.rsplit_once('/').unwrap_or(("", name));
                TOP_LEVEL.contains(&name)
                    || ANYWHERE.contains(&last)
                        && !folders.split('/').any(|folder| folder.starts_with('.'))
            }
            ProjectKind::Workers => self.patterns.matched(name, is_folder).is_ignore(),
        }
    }

    /// Refuses a file that is hardly meant for everybody, unless there is an
    /// `.assetsignore`, be it empty (wrangler `deploy-helpers/assets.ts`).
    pub(super) fn check(&self, name: &str, path: &Path) -> Result<(), AssetError> {
        let exposed = name == "_worker.js" || name.starts_with("_worker.js/");
        if self.kind == ProjectKind::Workers && !self.has_file && exposed {
            return Err(AssetError::WorkerExposed(path.to_path_buf()));
        }
        Ok(())
    }
}
