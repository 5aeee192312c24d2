//! From a project's folder to a version that can be served: the worker's modules, the
//! static files, and the rules beside them.
//!
//! A [`Builder`] lives as long as `engawa dev` serves a project and remembers what it
//! learnt about files that did not change. Nothing is written into the project; what lies
//! between us and esbuild is in a temporary folder that goes with the builder. Its calls
//! block (esbuild is a process, hashing is work), so they belong on a thread.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use engawa_model::{
    AccountId, AssetEntry, AssetManifest, Binding, DeploymentId, Environment, ProjectKind,
    RoutesError, RoutesJson, Version, WorkerCode,
};

use crate::assets::{AssetCache, AssetError, AssetFile, Assets};
use crate::bundle::{self, Bundle, BundleError, Entry, ExportCache, Request};
use crate::config::Config;
use crate::diagnostic::Diagnostic;
use crate::functions::{self, Tree};

/// The programs and packages that building needs.
#[derive(Debug, Clone)]
pub struct Tools {
    /// The esbuild binary itself, not the script of that name.
    pub esbuild: PathBuf,
    /// The `node_modules` folder that holds `unenv` and `@cloudflare/unenv-preset`.
    /// Without it, modules of Node that the runtime lacks can not be imported.
    pub unenv_root: Option<PathBuf>,
}

/// What a build is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BuildMode {
    /// `process.env.NODE_ENV` is `development`.
    #[default]
    Dev,
    /// `process.env.NODE_ENV` is `production`.
    Deploy,
}

/// How a builder works.
#[derive(Debug, Clone, Copy, Default)]
pub struct BuildOptions {
    /// What it is for.
    pub mode: BuildMode,
}

/// What the folder does not say about a version.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Whose it is.
    pub account: AccountId,
    /// The deployment that it is made for.
    pub deployment: DeploymentId,
    /// Production or preview.
    pub environment: Environment,
    /// What `env` holds: [`Config::bindings`].
    pub bindings: Vec<Binding>,
}

/// A finished build.
#[derive(Debug)]
pub struct Built {
    /// The version.
    pub version: Version,
    /// A file for each asset key of the version. Whoever stores one checks its content
    /// against the key, since it may have changed meanwhile.
    pub asset_files: Vec<AssetFile>,
    /// See [`Builder::watched`].
    pub watch: Vec<PathBuf>,
    /// Warnings.
    pub diagnostics: Vec<Diagnostic>,
}

/// Why there is no version.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The user's code is wrong: what is wrong with it, and where.
    #[error("{}", render(.0))]
    Code(Vec<Diagnostic>),
    /// A `_routes.json` of the project is wrong.
    #[error("Invalid _routes.json file found at: {}\n{source}", file.display())]
    Routes {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        source: RoutesError,
    },
    /// The static files can not be used.
    #[error(transparent)]
    Assets(#[from] AssetError),
    /// There is neither code nor a folder of static files.
    #[error(
        "There is nothing to serve in {}: no file in functions/ that exports a handler, and no pages_build_output_dir in the wrangler file.", .0.display()
    )]
    Nothing(PathBuf),
    /// A file of the project could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// esbuild could not be run.
    #[error("bundling failed: {0}")]
    Bundler(String),
}

fn render(diagnostics: &[Diagnostic]) -> String {
    let frames: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
    frames.join("\n\n")
}

/// Builds one project again and again.
#[derive(Debug)]
pub struct Builder {
    tools: Tools,
    options: BuildOptions,
    _scratch: tempfile::TempDir,
    /// The folder's real path, since esbuild names files by it.
    scratch_path: PathBuf,
    exports: ExportCache,
    assets: AssetCache,
    /// Of the folders that plugins bring along.
    plugin_assets: HashMap<PathBuf, AssetCache>,
    watched: Vec<PathBuf>,
}

/// The worker of a project, and which paths need it.
#[derive(Default)]
struct Code {
    bundle: Option<Bundle>,
    routes: Option<RoutesJson>,
    diagnostics: Vec<Diagnostic>,
}

impl Builder {
    /// A builder with nothing remembered. It fails if there can be no temporary folder.
    pub fn new(tools: Tools, options: BuildOptions) -> std::io::Result<Self> {
        let scratch = tempfile::Builder::new().prefix("engawa-build-").tempdir()?;
        let unenv_root = tools.unenv_root.map(std::fs::canonicalize).transpose()?;
        Ok(Self {
            tools: Tools {
                unenv_root,
                ..tools
            },
            options,
            scratch_path: std::fs::canonicalize(scratch.path())?,
            _scratch: scratch,
            exports: ExportCache::default(),
            assets: AssetCache::default(),
            plugin_assets: HashMap::new(),
            watched: Vec::new(),
        })
    }

    /// The files and folders that the last build looked at, finished or not: a change to a
    /// file, or a new entry in a folder (not in those below it), may change the outcome.
    /// Of the static files only the folders are named.
    pub fn watched(&self) -> &[PathBuf] {
        &self.watched
    }

    /// Builds the project.
    pub fn build(&mut self, config: &Config, identity: Identity) -> Result<Built, BuildError> {
        let root = std::fs::canonicalize(&config.root).map_err(|source| BuildError::Read {
            path: config.root.clone(),
            source,
        })?;
        let mut watch = vec![root.clone()];
        watch.extend(config.config_file.clone());
        for name in ["tsconfig.json", "package.json"] {
            watch.push(root.join(name));
        }
        let output_dir = match config.kind {
            ProjectKind::Pages => config.pages_build_output_dir.as_deref(),
            ProjectKind::Workers => config.assets.as_ref().map(|assets| &*assets.directory),
        };
        let output_dir = output_dir.map(|folder| bundle::esbuild::normalize(&root.join(folder)));
        // Also while it is missing: a tool may be about to make it.
        watch.extend(output_dir.clone());

        let Self {
            tools,
            options,
            scratch_path,
            exports,
            assets,
            ..
        } = self;
        let job = CodeJob {
            tools,
            mode: options.mode,
            scratch: scratch_path,
            root: &root,
            output_dir: output_dir.as_deref(),
            config,
        };
        // Reading many files and running esbuild: neither waits for the other.
        let (code, assets) = std::thread::scope(|scope| {
            let collected = scope.spawn(|| collect_assets(assets, &root, &job));
            let code = match config.kind {
                ProjectKind::Pages => job.pages(exports, &mut watch),
                ProjectKind::Workers => job.workers(&mut watch),
            };
            let assets = collected
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            (code, assets)
        });
        if let Ok(assets) = &assets {
            watch.extend(assets.folders.iter().cloned());
        }
        let of_plugins = self.collect_plugin_assets(code.as_ref().ok(), &mut watch);
        watch.sort();
        watch.dedup();
        self.watched.clone_from(&watch);

        let code = code.map_err(|error| error.shown_from(&root, &config.root))?;
        let assets = assets?;
        if code.bundle.is_none() && output_dir.is_none() {
            return Err(BuildError::Nothing(config.root.clone()));
        }
        let beside = |name: &str| read_optional(output_dir.as_deref(), name);
        let headers_file = beside("_headers")?;
        let redirects_file = beside("_redirects")?;
        let Assets {
            mut manifest,
            mut files,
            ..
        } = assets;
        of_plugins?.add_to(&mut manifest, &mut files);
        let mut diagnostics = code.diagnostics;
        let worker = code.bundle.map(|bundle| {
            diagnostics.extend(bundle.diagnostics);
            WorkerCode {
                modules: bundle.modules,
                compatibility_date: config.compatibility.date.clone(),
                effective_compatibility_date: config.compatibility.effective_date.clone(),
                compatibility_flags: config.compatibility.flags.clone(),
            }
        });
        show_from(&mut diagnostics, &root, &config.root);
        Ok(Built {
            version: Version {
                deployment: identity.deployment,
                account: identity.account,
                project: config.name.clone(),
                kind: config.kind,
                environment: identity.environment,
                worker,
                bindings: identity.bindings,
                assets: manifest,
                assets_config: config.assets.as_ref().map(|assets| assets.config.clone()),
                routes: code.routes,
                headers_file,
                redirects_file,
            },
            asset_files: files,
            watch,
            diagnostics,
        })
    }
}

/// Static files that plugins bring along, with their paths in the site.
#[derive(Default)]
struct PluginFiles {
    entries: Vec<(String, AssetEntry)>,
    files: Vec<AssetFile>,
}

impl PluginFiles {
    fn add_to(self, manifest: &mut AssetManifest, files: &mut Vec<AssetFile>) {
        let known: HashSet<_> = files.iter().map(|file| file.key.clone()).collect();
        let new = self.files.into_iter();
        files.extend(new.filter(|file| !known.contains(&file.key)));
        let entries = self.entries.into_iter();
        let entries = entries.map(|(path, entry)| (path.into(), entry));
        manifest.entries.extend(entries);
    }
}

impl Builder {
    /// The files of the folders that the code imports with `assets:`.
    fn collect_plugin_assets(
        &mut self,
        code: Option<&Code>,
        watch: &mut Vec<PathBuf>,
    ) -> Result<PluginFiles, AssetError> {
        let wanted = code.and_then(|code| code.bundle.as_ref());
        let wanted = wanted.map_or(&[][..], |bundle| &bundle.plugin_assets);
        self.plugin_assets
            .retain(|folder, _| wanted.iter().any(|assets| assets.folder == *folder));
        let mut found = PluginFiles::default();
        for assets in wanted {
            let cache = self.plugin_assets.entry(assets.folder.clone()).or_default();
            let collected = cache.collect(&assets.folder, ProjectKind::Pages, &[])?;
            watch.extend(collected.folders);
            found.files.extend(collected.files);
            let entries = collected.manifest.entries.into_iter();
            let entries = entries.map(|(path, entry)| (format!("{}{path}", assets.path), entry));
            found.entries.extend(entries);
        }
        Ok(found)
    }
}

struct CodeJob<'a> {
    tools: &'a Tools,
    mode: BuildMode,
    scratch: &'a Path,
    root: &'a Path,
    output_dir: Option<&'a Path>,
    config: &'a Config,
}

impl CodeJob<'_> {
    /// `_worker.js` in the output folder, else `functions/` (pages.md 4.3 and 6).
    fn pages(
        &self,
        exports: &mut ExportCache,
        watch: &mut Vec<PathBuf>,
    ) -> Result<Code, BuildError> {
        let mut code = Code {
            routes: self.own_routes(watch)?,
            ..Code::default()
        };
        let worker = self.output_dir.map(|folder| folder.join("_worker.js"));
        if let Some(worker) = worker.filter(|path| path.exists()) {
            let entry = if worker.is_dir() {
                Entry::Folder(&worker)
            } else {
                Entry::File(&worker)
            };
            code.bundle = Some(self.bundle(entry, watch)?);
            return Ok(code);
        }
        let functions = self.root.join("functions");
        let tree = if functions.is_dir() {
            self.routes(&functions, exports, watch, &mut code.diagnostics)?
        } else {
            None
        };
        let Some(tree) = tree else {
            // Without a worker the file means nothing.
            code.routes = None;
            return Ok(code);
        };
        let text = tree.entry_source(&functions);
        let entry = Entry::Source {
            text: &text,
            name: "functionsWorker.js",
        };
        code.bundle = Some(self.bundle(entry, watch)?);
        code.routes.get_or_insert_with(|| tree.routes_json());
        Ok(code)
    }

    fn workers(&self, watch: &mut Vec<PathBuf>) -> Result<Code, BuildError> {
        let mut code = Code::default();
        if let Some(main) = &self.config.main {
            let main = bundle::esbuild::normalize(&self.root.join(main));
            watch.push(main.clone());
            if !main.is_file() {
                return Err(BuildError::Code(vec![
                    Diagnostic::error(format!("There is no file {}.", main.display()))
                        .with_hint("`main` of the wrangler file names the worker's entry point"),
                ]));
            }
            let entry = if self.config.bundling.no_bundle {
                Entry::Verbatim(&main)
            } else {
                Entry::File(&main)
            };
            code.bundle = Some(self.bundle(entry, watch)?);
        }
        Ok(code)
    }

    /// The routes of `functions/`; `None` if no file exports a handler.
    fn routes(
        &self,
        functions: &Path,
        exports: &mut ExportCache,
        watch: &mut Vec<PathBuf>,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Result<Option<Tree>, BuildError> {
        let listing = functions::list(functions).map_err(|source| BuildError::Read {
            path: functions.to_path_buf(),
            source,
        })?;
        watch.extend(listing.folders);
        let files: Vec<PathBuf> = listing
            .files
            .iter()
            .map(|file| functions.join(&file.path))
            .collect();
        watch.extend(files.iter().cloned());
        let exports = exports.exports(&self.tools.esbuild, self.scratch, self.root, &files)?;
        let with_exports = listing.files.iter().zip(exports.iter().map(Vec::as_slice));
        let (tree, found) = Tree::new(functions, with_exports);
        let (errors, warnings): (Vec<_>, Vec<_>) =
            found.into_iter().partition(Diagnostic::is_error);
        if !errors.is_empty() {
            return Err(BuildError::Code(errors));
        }
        diagnostics.extend(warnings);
        if tree.routes.is_empty() {
            diagnostics.push(
                Diagnostic::warning(format!(
                    "No file in {} exports a handler, so the project has no Functions.",
                    functions.display()
                ))
                .with_hint("export `onRequest`, or a form for one method like `onRequestGet`"),
            );
            return Ok(None);
        }
        Ok(Some(tree))
    }

    fn bundle(&self, entry: Entry<'_>, watch: &mut Vec<PathBuf>) -> Result<Bundle, BuildError> {
        if let Entry::File(path) | Entry::Folder(path) | Entry::Verbatim(path) = entry {
            watch.push(path.to_path_buf());
        }
        let request = Request {
            esbuild: &self.tools.esbuild,
            unenv_root: self.tools.unenv_root.as_deref(),
            root: self.root,
            scratch: self.scratch,
            entry,
            node_env: match self.mode {
                BuildMode::Dev => "development",
                BuildMode::Deploy => "production",
            },
            date: &self.config.compatibility.effective_date,
            flags: &self.config.compatibility.flags,
            settings: &self.config.bundling,
        };
        let bundle = bundle::bundle(&request)?;
        watch.extend(bundle.inputs.iter().cloned());
        Ok(bundle)
    }

    /// The `_routes.json` that the project brings along.
    fn own_routes(&self, watch: &mut Vec<PathBuf>) -> Result<Option<RoutesJson>, BuildError> {
        let Some(folder) = self.output_dir else {
            return Ok(None);
        };
        let file = folder.join("_routes.json");
        watch.push(file.clone());
        match read_optional(Some(folder), "_routes.json")? {
            Some(text) => RoutesJson::parse(&text)
                .map(Some)
                .map_err(|source| BuildError::Routes { file, source }),
            None => Ok(None),
        }
    }
}

fn collect_assets(
    cache: &mut AssetCache,
    root: &Path,
    job: &CodeJob<'_>,
) -> Result<Assets, AssetError> {
    let Some(folder) = job.output_dir else {
        return Ok(Assets::default());
    };
    let private = private_entries(root, folder);
    let private: Vec<&str> = private.iter().map(String::as_str).collect();
    cache.collect(folder, job.config.kind, &private)
}

/// Where the project's own folder is served, its secrets are not: `.dev.vars`, `.env` and
/// their forms for an environment.
fn private_entries(root: &Path, folder: &Path) -> Vec<String> {
    if root != folder {
        return Vec::new();
    }
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with(".dev.vars") || name.starts_with(".env"))
        .collect()
}

/// A file beside the static files that is read as text; bytes that are no UTF-8 are
/// replaced, as a JavaScript reader does.
fn read_optional(folder: Option<&Path>, name: &str) -> Result<Option<String>, BuildError> {
    let Some(path) = folder.map(|folder| folder.join(name)) else {
        return Ok(None);
    };
    match std::fs::read(&path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(BuildError::Read { path, source }),
    }
}

impl From<BundleError> for BuildError {
    fn from(error: BundleError) -> Self {
        match error {
            BundleError::Diagnostics(diagnostics) => Self::Code(diagnostics),
            BundleError::Esbuild(reason) => Self::Bundler(reason),
            BundleError::Io(path, source) => Self::Read { path, source },
        }
    }
}

impl BuildError {
    fn shown_from(mut self, root: &Path, shown: &Path) -> Self {
        if let Self::Code(diagnostics) = &mut self {
            show_from(diagnostics, root, shown);
        }
        self
    }
}

/// Names files as the user named the project's folder.
fn show_from(diagnostics: &mut [Diagnostic], root: &Path, shown: &Path) {
    for location in diagnostics
        .iter_mut()
        .filter_map(|diagnostic| diagnostic.location.as_mut())
    {
        if let Ok(below) = location.file.strip_prefix(root) {
            location.file = shown.join(below);
        }
    }
}
