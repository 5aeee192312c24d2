//! Files that are modules as they are: the folder form of `_worker.js` (pages.md 6), and a
//! Workers project with `no_bundle`.

use std::path::{Path, PathBuf};

use engawa_model::{Module, ModuleKind};
use walkdir::WalkDir;

use super::output::ModuleRules;
use super::{Bundle, BundleError};

/// The modules of a folder.
#[derive(Debug, Default)]
pub(super) struct Collected {
    pub(super) modules: Vec<Module>,
    pub(super) files: Vec<PathBuf>,
    pub(super) folders: Vec<PathBuf>,
}

/// Every `.js` and `.mjs` file and every file that a rule names, imported or not; names are
/// relative to the folder. `skipped` are names of folders that are not entered.
pub(super) fn collect(
    folder: &Path,
    entry: &Path,
    rules: &ModuleRules,
    skipped: &[&str],
) -> Result<Collected, BundleError> {
    let mut collected = Collected::default();
    // Links are followed: a framework may link its chunks.
    let walk = WalkDir::new(folder)
        .follow_links(true)
        .sort_by_file_name()
        .into_iter()
        .filter_entry(|found| {
            !found
                .file_name()
                .to_str()
                .is_some_and(|name| skipped.contains(&name))
        });
    for found in walk {
        let found = found.map_err(|error| {
            let path = error.path().unwrap_or(folder).to_path_buf();
            BundleError::Io(path, error.into())
        })?;
        let path = found.path();
        if found.file_type().is_dir() {
            collected.folders.push(path.to_path_buf());
            continue;
        }
        let relative = path
            .strip_prefix(folder)
            .expect("the walk stays below its root");
        let Some(name) = relative.to_str() else {
            continue;
        };
        let extension = path.extension().and_then(|extension| extension.to_str());
        let kind = match extension {
            Some("js" | "mjs") => rules.kind_of(name).or(Some(ModuleKind::EsModule)),
            _ => rules.kind_of(name),
        };
        let Some(kind) = kind else { continue };
        if path == entry {
            continue;
        }
        let body =
            std::fs::read(path).map_err(|error| BundleError::Io(path.to_path_buf(), error))?;
        collected.modules.push(Module {
            name: name.to_owned(),
            kind,
            body: body.into(),
            source_map: std::fs::read(source_map_path(path)).ok().map(Into::into),
        });
        collected.files.push(path.to_path_buf());
    }
    Ok(collected)
}

/// Below an entry point that lies in the project's own folder.
const NOT_MODULES: [&str; 4] = ["node_modules", ".git", ".wrangler", ".engawa"];

/// The entry point and the modules of its folder, nothing bundled.
pub(super) fn verbatim(
    entry: &Path,
    folder: &Path,
    rules: &ModuleRules,
) -> Result<Bundle, BundleError> {
    let collected = collect(folder, entry, rules, &NOT_MODULES)?;
    let body = std::fs::read(entry).map_err(|error| BundleError::Io(entry.to_path_buf(), error))?;
    let name = entry.file_name().unwrap_or_default().to_string_lossy();
    let mut modules = vec![Module {
        name: name.into_owned(),
        kind: ModuleKind::EsModule,
        body: body.into(),
        source_map: std::fs::read(source_map_path(entry)).ok().map(Into::into),
    }];
    modules.extend(collected.modules);
    let mut inputs = vec![entry.to_path_buf()];
    inputs.extend(collected.files);
    inputs.extend(collected.folders);
    Ok(Bundle {
        modules,
        inputs,
        plugin_assets: Vec::new(),
        diagnostics: Vec::new(),
    })
}

fn source_map_path(module: &Path) -> PathBuf {
    let mut name = module.as_os_str().to_owned();
    name.push(".map");
    name.into()
}
