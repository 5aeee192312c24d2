//! `import … from "assets:./folder"`: static files that a Pages plugin brings along
//! (pages.md 5.7; wrangler `pages/functions/buildWorker.ts`).
//!
//! The files are served below `/cdn-cgi/pages-plugins/`, where only `env.ASSETS` reaches
//! them, and the import is a handler that asks for them there. wrangler resolves such
//! imports in a plugin of esbuild. Here esbuild leaves them as they are, and in its output
//! they become imports of a module of ours.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use engawa_model::{Module, ModuleKind};
use sha1::{Digest as _, Sha1};

use super::esbuild::normalize;
use super::output::Metafile;
use super::{BundleError, find_specifier};
use crate::diagnostic::Diagnostic;

/// What the names of such imports begin with.
pub(super) const PREFIX: &str = "assets:";

/// The static files of a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PluginAssets {
    /// Where they lie.
    pub(crate) folder: PathBuf,
    /// Where they are served, without a slash at the end.
    pub(crate) path: String,
}

/// Gives each such import of a bundle its module, and tells the folders. The bundle's entry
/// point is the first module.
pub(super) fn resolve(
    meta: &Metafile,
    root: &Path,
    modules: &mut Vec<Module>,
) -> Result<Vec<PluginAssets>, BundleError> {
    let folders = folders(meta, root)?;
    let mut found = Vec::new();
    for (specifier, folder) in folders {
        // wrangler takes a random name; one that stays makes the same version of the same
        // files.
        let shown = folder.strip_prefix(root).unwrap_or(&folder);
        let digest = Sha1::digest(shown.as_os_str().as_encoded_bytes());
        let id = digest.iter().fold(String::new(), |mut id, byte| {
            // Writing to a text does not fail.
            let _ = write!(id, "{byte:02x}");
            id
        });
        let path = format!("/cdn-cgi/pages-plugins/{id}");
        let name = format!("./{id}-assets.js");
        if let Some(entry) = modules.first_mut() {
            let text = String::from_utf8_lossy(&entry.body);
            let quoted = serde_json::Value::from(specifier).to_string();
            entry.body = text.replace(&quoted, &format!("{name:?}")).into();
        }
        // Two spellings may name one folder.
        if modules.iter().all(|module| module.name != name) {
            modules.push(Module {
                name,
                kind: ModuleKind::EsModule,
                body: handler(&path).into(),
                source_map: None,
            });
            found.push(PluginAssets { folder, path });
        }
    }
    Ok(found)
}

/// The folders that are imported, by the text of their imports.
fn folders(meta: &Metafile, root: &Path) -> Result<BTreeMap<String, PathBuf>, BundleError> {
    let mut folders: BTreeMap<String, PathBuf> = BTreeMap::new();
    let mut errors = Vec::new();
    for (importer, specifier) in meta.imports_with(PREFIX) {
        let importer = normalize(&root.join(importer));
        let beside = importer.parent().unwrap_or(root);
        let folder = normalize(&beside.join(&specifier[PREFIX.len()..]));
        let complaint = match folders.get(specifier) {
            _ if !folder.is_dir() => format!(
                "'{}' does not exist or is not a directory.",
                folder.display()
            ),
            Some(other) if *other != folder => format!(
                "\"{specifier}\" names the folder {} here and {} in another file: write one of the two in another way.",
                folder.display(),
                other.display()
            ),
            _ => {
                folders.insert(specifier.to_owned(), folder);
                continue;
            }
        };
        let diagnostic = Diagnostic::error(complaint);
        errors.push(match find_specifier(&importer, specifier) {
            Some(location) => diagnostic.at(location),
            None => diagnostic,
        });
    }
    if errors.is_empty() {
        Ok(folders)
    } else {
        Err(BundleError::Diagnostics(errors))
    }
}

/// What is asked below the place where the handler is mounted is asked below `path`.
fn handler(path: &str) -> String {
    format!(
        "export const onRequest = ({{ request, env, functionPath }}) => {{\n\
         \x20 const url = new URL(request.url);\n\
         \x20 const below = url.pathname.replace(functionPath, '');\n\
         \x20 url.pathname = {path:?} + (below.startsWith('/') ? below : '/' + below);\n\
         \x20 return env.ASSETS.fetch(new Request(url, request));\n\
         }};\n"
    )
}
