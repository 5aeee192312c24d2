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
/// Workers: read by the server, or about the folder itself.
const WORKERS: [&str; 3] = ["/.assetsignore", "/_redirects", "/_headers"];

impl IgnoreRules {
    pub(super) fn of_folder(
        folder: &Path,
        kind: ProjectKind,
        extra: &[&str],
    ) -> Result<Self, AssetError> {
        let mut builder = GitignoreBuilder::new(folder);
        if kind == ProjectKind::Workers {
            let file = folder.join(".assetsignore");
            let text = match std::fs::read_to_string(&file) {
                Ok(text) => text,
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

    /// Refuses a file that is certainly not meant for everybody.
    pub(super) fn check(&self, name: &str, path: &Path) -> Result<(), AssetError> {
        let exposed = name == "_worker.js" || name.starts_with("_worker.js/");
        if self.kind == ProjectKind::Workers && exposed {
            return Err(AssetError::WorkerExposed(path.to_path_buf()));
        }
        Ok(())
    }
}
