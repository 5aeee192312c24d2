//! `functions/`: files become routes as they do on Pages (pages.md 5).
//!
//! The way: [`list`] walks the folder; the bundler says what each file exports; [`Tree`]
//! makes routes of both, in Pages' order; [`Tree::entry_source`] writes the worker's entry
//! point (the table of routes and our router), and [`Tree::routes_json`] the
//! `_routes.json` that tells which paths need the worker at all.
//!
//! One thing is ours: `[[...name]]`, which other frameworks write and wrangler refuses, is
//! read as `[[name]]`, with a warning.

mod entry;
mod name;
mod order;
pub(crate) mod pattern;
mod routes_json;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use engawa_model::RoutesJson;

use crate::Diagnostic;
use name::RoutePaths;

/// The routes of a `functions/` folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// Most specific first: the order in which requests are matched.
    pub routes: Vec<Route>,
}

/// A path with what answers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// With `:name` for a segment and `:name*` for any number of them.
    pub path: String,
    /// The path of the folder that the handler lies in.
    pub mount_path: String,
    /// `None`: every method.
    pub method: Option<&'static str>,
    /// What answers.
    pub module: Option<Handler>,
    /// What runs before it, and before every route below.
    pub middleware: Option<Handler>,
}

/// An exported handler.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Handler {
    /// The file, relative to `functions/`.
    pub file: PathBuf,
    /// `onRequest`, `onRequestGet`, …
    pub export: String,
}

/// A file that may export handlers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionFile {
    /// Relative to `functions/`.
    pub path: PathBuf,
}

/// What a walk of `functions/` found.
#[derive(Debug, Default)]
pub struct Listing {
    /// In Pages' order of discovery, which decides between `a.js` and `a/index.js`.
    pub files: Vec<FunctionFile>,
    /// Every folder, `functions/` itself included: a new file in one is a new route.
    pub folders: Vec<PathBuf>,
}

/// The extensions that Pages looks at; `.cjs` is not one.
const EXTENSIONS: [&str; 5] = ["js", "mjs", "ts", "tsx", "jsx"];

/// Walks `functions/`: breadth first, names in byte order, `node_modules` and dot folders
/// included, symbolic links not followed.
pub fn list(functions: &Path) -> std::io::Result<Listing> {
    let mut listing = Listing::default();
    let mut queue = std::collections::VecDeque::from([functions.to_path_buf()]);
    while let Some(folder) = queue.pop_front() {
        let mut entries = std::fs::read_dir(&folder)?.collect::<Result<Vec<_>, _>>()?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let kind = entry.file_type()?;
            let path = entry.path();
            if kind.is_dir() {
                queue.push_back(path);
            } else if kind.is_file()
                && has_extension(&path)
                && let Ok(below) = path.strip_prefix(functions)
            {
                listing.files.push(FunctionFile {
                    path: below.to_path_buf(),
                });
            }
        }
        listing.folders.push(folder);
    }
    Ok(listing)
}

fn has_extension(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| EXTENSIONS.iter().any(|known| extension == *known))
}

impl Tree {
    /// Makes routes of the files and what each exports. `functions` is only for messages.
    ///
    /// The diagnostics may contain errors; then the routes lack the files they name.
    pub fn new<'a>(
        functions: &Path,
        files: impl IntoIterator<Item = (&'a FunctionFile, &'a [String])>,
    ) -> (Self, Vec<Diagnostic>) {
        let mut diagnostics = Vec::new();
        let mut routes: Vec<Route> = Vec::new();
        for (file, exports) in files {
            let handlers = exports
                .iter()
                .filter_map(|export| Some((export, method_of_export(export)?)));
            let mut paths: Option<RoutePaths> = None;
            for (export, method) in handlers {
                if paths.is_none() {
                    match RoutePaths::of_file(functions, &file.path, &mut diagnostics) {
                        Ok(found) => paths = Some(found),
                        Err(diagnostic) => {
                            diagnostics.push(diagnostic);
                            break;
                        }
                    }
                }
                if let Some(paths) = &paths {
                    let handler = Handler {
                        file: file.path.clone(),
                        export: export.clone(),
                    };
                    let method = Some(method).filter(|method| !method.is_empty());
                    merge(&mut routes, paths, method, handler);
                }
            }
        }
        routes.sort_by(order::compare_routes);
        for route in &routes {
            diagnostics.extend(check_pattern(functions, route));
        }
        (Self { routes }, diagnostics)
    }

    /// The source of the worker's entry point. `functions` is the folder's absolute path.
    pub fn entry_source(&self, functions: &Path) -> String {
        entry::source(self, functions)
    }

    /// The `_routes.json` that Pages would make of these routes.
    pub fn routes_json(&self) -> RoutesJson {
        routes_json::generate(&self.routes)
    }
}

/// The exports that are handlers, and the method of each; `""` for every method.
const HANDLERS: [(&str, &str); 8] = [
    ("onRequest", ""),
    ("onRequestGet", "GET"),
    ("onRequestPost", "POST"),
    ("onRequestPut", "PUT"),
    ("onRequestPatch", "PATCH"),
    ("onRequestDelete", "DELETE"),
    ("onRequestOptions", "OPTIONS"),
    ("onRequestHead", "HEAD"),
];

fn method_of_export(export: &str) -> Option<&'static str> {
    let (_, method) = HANDLERS.iter().find(|(name, _)| *name == export)?;
    Some(method)
}

/// A route that is there already takes the new handler, and the new mount path with it:
/// so `a/index.js`, found after `a.js`, replaces it, and a middleware shares the route of
/// its folder's `index.js`.
fn merge(
    routes: &mut Vec<Route>,
    paths: &RoutePaths,
    method: Option<&'static str>,
    handler: Handler,
) {
    let known = routes
        .iter()
        .position(|route| route.path == paths.path && route.method == method);
    let index = known.unwrap_or_else(|| {
        routes.push(Route {
            path: paths.path.clone(),
            mount_path: String::new(),
            method,
            module: None,
            middleware: None,
        });
        routes.len() - 1
    });
    let route = &mut routes[index];
    route.mount_path.clone_from(&paths.mount_path);
    if paths.is_middleware {
        route.middleware = Some(handler);
    } else {
        route.module = Some(handler);
    }
}

/// A path that can not be compiled makes every request throw, so it is worth a word.
fn check_pattern(functions: &Path, route: &Route) -> Option<Diagnostic> {
    let pattern::Pattern::Broken(reason) = pattern::compile(&route.path) else {
        return None;
    };
    let handler = route.module.as_ref().or(route.middleware.as_ref())?;
    let file = functions.join(&handler.file);
    Some(
        Diagnostic::warning(format!(
            "{} becomes the route {}, which makes every request fail, as it does on Pages: {reason}",
            file.display(),
            route.path
        ))
        .with_hint("put text between two parameters of one segment, as in `[a]-[b].js`, and give a `[[catchall]]` a segment of its own"),
    )
}
