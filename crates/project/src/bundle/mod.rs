//! Bundling: the user's files and what they import become the modules of a worker.
//!
//! It is esbuild that does it, run as a plain binary with flags (pages.md 5.8): no Node,
//! no plugins. What wrangler's plugins do otherwise:
//!
//! - *Text, data and WebAssembly* become modules of their own. esbuild's `copy` loader
//!   keeps such an import and copies the file; the copy is then named `./<sha1>-<name>` as
//!   wrangler names it ([`output`]).
//! - *Node's modules* are aliases and externals ([`crate::node_compat`]). An import that
//!   the runtime will not resolve is an error here, not at the first request.
//! - *A `_worker.js/` folder* keeps its files as modules; only what the entry point imports
//!   from elsewhere is inlined ([`directory`]).

mod directory;
pub(crate) mod esbuild;
mod exports;
mod output;
mod plugin_assets;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use engawa_model::{Module, ModuleKind};

pub(crate) use exports::ExportCache;
pub(crate) use plugin_assets::PluginAssets;

use crate::config::{Bundling, RuleKind};
use crate::diagnostic::{Diagnostic, Location};
use crate::node_compat::{self, Mode};
use esbuild::{Message, Run, RunError, normalize};
use output::{Import, Metafile};

/// What is bundled.
pub(crate) enum Entry<'a> {
    /// A generated entry point, by its text.
    Source {
        /// Its text.
        text: &'a str,
        /// The name of the module, and of the file in source maps.
        name: &'a str,
    },
    /// A file with everything that it imports.
    File(&'a Path),
    /// `index.js` of a folder whose other files stay modules of their own.
    Folder(&'a Path),
    /// A file that is taken as it is, with the modules beside and below it.
    Verbatim(&'a Path),
}

/// How it is bundled.
pub(crate) struct Request<'a> {
    /// The esbuild binary.
    pub(crate) esbuild: &'a Path,
    /// The folder with `unenv` and `@cloudflare/unenv-preset`.
    pub(crate) unenv_root: Option<&'a Path>,
    /// The project's folder, absolute.
    pub(crate) root: &'a Path,
    /// An empty or reused folder for files between us and esbuild.
    pub(crate) scratch: &'a Path,
    /// What is bundled.
    pub(crate) entry: Entry<'a>,
    /// The value of `process.env.NODE_ENV`.
    pub(crate) node_env: &'a str,
    /// The date that the runtime is given.
    pub(crate) date: &'a str,
    /// The flags that the runtime is given.
    pub(crate) flags: &'a [String],
    /// Settings of the wrangler file.
    pub(crate) settings: &'a Bundling,
}

/// A worker's modules.
#[derive(Debug)]
pub(crate) struct Bundle {
    /// The first one is the entry point.
    pub(crate) modules: Vec<Module>,
    /// Every file that went in, absolute.
    pub(crate) inputs: Vec<PathBuf>,
    /// Static files that the code brings along.
    pub(crate) plugin_assets: Vec<PluginAssets>,
    /// Warnings.
    pub(crate) diagnostics: Vec<Diagnostic>,
}

/// Why there is no bundle.
#[derive(Debug)]
pub(crate) enum BundleError {
    /// The user's files are wrong.
    Diagnostics(Vec<Diagnostic>),
    /// esbuild could not be run.
    Esbuild(String),
    /// A file could not be read or written.
    Io(PathBuf, std::io::Error),
}

/// Bundles.
pub(crate) fn bundle(request: &Request<'_>) -> Result<Bundle, BundleError> {
    let mode = Mode::of(request.date, request.flags);
    let (rules, mut diagnostics) = output::module_rules(&request.settings.rules);
    let mut bundle = match request.entry {
        Entry::Verbatim(file) => {
            let folder = file.parent().unwrap_or(request.root);
            directory::verbatim(file, folder, &rules)?
        }
        Entry::Folder(folder) => bundle_folder(request, mode, folder, &rules)?,
        Entry::Source { .. } | Entry::File(_) => bundle_file(request, mode, &rules)?,
    };
    diagnostics.append(&mut bundle.diagnostics);
    bundle.diagnostics = diagnostics;
    Ok(bundle)
}

fn bundle_file(
    request: &Request<'_>,
    mode: Mode,
    rules: &output::ModuleRules,
) -> Result<Bundle, BundleError> {
    let loaders = rules
        .extensions()
        .map(|extension| format!("--loader:.{extension}=copy").into())
        .collect();
    let file = match request.entry {
        Entry::Source { name, .. } => Path::new(name),
        Entry::File(file) | Entry::Folder(file) | Entry::Verbatim(file) => file,
    };
    run_esbuild(request, mode, rules, loaders, file, None)
}

/// Bundles `file`, or the request's text under that name, with `more` flags.
fn run_esbuild(
    request: &Request<'_>,
    mode: Mode,
    rules: &output::ModuleRules,
    more: Vec<OsString>,
    file: &Path,
    sibling_folder: Option<&Path>,
) -> Result<Bundle, BundleError> {
    let out = request.scratch.join("out");
    let io = |error| BundleError::Io(out.clone(), error);
    if out.exists() {
        std::fs::remove_dir_all(&out).map_err(io)?;
    }
    std::fs::create_dir_all(&out).map_err(io)?;

    let mut args = common_flags(request, mode)?;
    args.extend(more);
    args.push("--asset-names=[hash]-[name]".into());
    args.push("--sourcemap=external".into());
    args.push(joined("--outfile=", &out.join("index.js")));
    let metafile = out.join("meta.json");
    args.push(joined("--metafile=", &metafile));
    let stdin = if let Entry::Source { text, .. } = request.entry {
        args.push(joined("--sourcefile=", file));
        // Only Functions have such imports.
        args.push(format!("--external:{}*", plugin_assets::PREFIX).into());
        Some(text)
    } else {
        args.push(file.as_os_str().to_owned());
        None
    };
    let run = Run {
        esbuild: request.esbuild,
        working_dir: request.root,
        args,
        stdin,
    };
    let printed = run.run().map_err(|error| explain(error, mode))?;
    let meta = Metafile::read(&metafile)?;
    let mut diagnostics = into_diagnostics(printed.warnings);
    check_builtins(request.root, &meta, mode, &mut diagnostics)?;
    if !meta.has_default_export() {
        return Err(no_default_export(file));
    }
    let mut modules = output::modules(&output::Written {
        out: &out,
        root: request.root,
        meta: &meta,
        rules,
        entry_name: &module_name(file),
        has_node_modules: mode == Mode::V2,
        sibling_folder,
    })?;
    let plugin_assets = plugin_assets::resolve(&meta, request.root, &mut modules)?;
    Ok(Bundle {
        modules,
        inputs: inputs(request, &meta),
        plugin_assets,
        diagnostics,
    })
}

/// The folder form: what lies in the folder is external to its entry point.
fn bundle_folder(
    request: &Request<'_>,
    mode: Mode,
    folder: &Path,
    rules: &output::ModuleRules,
) -> Result<Bundle, BundleError> {
    let entry = folder.join("index.js");
    if !entry.is_file() {
        return Err(BundleError::Diagnostics(vec![Diagnostic::error(format!(
            "{} has no index.js, which is the entry point of a `_worker.js` folder.",
            folder.display()
        ))]));
    }
    // esbuild names files by their real path.
    let folder = std::fs::canonicalize(folder)
        .map_err(|error| BundleError::Io(folder.to_path_buf(), error))?;
    let entry = folder.join("index.js");
    let collected = directory::collect(&folder, &entry, rules, &[])?;
    let externals: Vec<OsString> = collected
        .files
        .iter()
        .map(|file| joined("--external:", file))
        .collect();
    let mut bundle = run_esbuild(request, mode, rules, externals, &entry, Some(&folder))?;
    bundle.modules.extend(collected.modules);
    bundle.inputs.extend(collected.files);
    bundle.inputs.extend(collected.folders);
    Ok(bundle)
}

/// What every run has in common.
fn common_flags(request: &Request<'_>, mode: Mode) -> Result<Vec<OsString>, BundleError> {
    let settings = request.settings;
    let mut args: Vec<OsString> = [
        "--bundle",
        "--format=esm",
        // Names that are looked for in the result must not be escaped in it.
        "--charset=utf8",
        "--platform=browser",
        "--target=es2024",
        "--supported:import-source=true",
        "--conditions=workerd,worker,browser",
        "--keep-names",
        "--loader:.js=jsx",
        "--loader:.mjs=jsx",
        "--loader:.cjs=jsx",
        "--external:cloudflare:*",
        "--external:__STATIC_CONTENT_MANIFEST",
    ]
    .into_iter()
    .map(OsString::from)
    .collect();
    for object in ["", "global.", "globalThis."] {
        args.push(
            format!(
                "--define:{object}process.env.NODE_ENV={}",
                serde_json::Value::from(request.node_env)
            )
            .into(),
        );
    }
    if has_navigator(request.date, request.flags) {
        args.push("--define:navigator.userAgent=\"Cloudflare-Workers\"".into());
    }
    for (name, value) in &settings.define {
        args.push(format!("--define:{name}={value}").into());
    }
    for (name, target) in &settings.alias {
        args.push(format!("--alias:{name}={target}").into());
    }
    if settings.minify {
        args.push("--minify".into());
    }
    if let Some(factory) = &settings.jsx_factory {
        args.push(format!("--jsx-factory={factory}").into());
    }
    if let Some(fragment) = &settings.jsx_fragment {
        args.push(format!("--jsx-fragment={fragment}").into());
    }
    if let Some(tsconfig) = &settings.tsconfig {
        args.push(joined("--tsconfig=", &absolute(request.root, tsconfig)));
    }
    let aliases: Vec<&str> = settings.alias.keys().map(String::as_str).collect();
    let node = node_compat::esbuild_flags(
        mode,
        request.date,
        request.flags,
        request.unenv_root,
        request.scratch,
        &aliases,
    )
    .map_err(|error| BundleError::Io(request.scratch.to_path_buf(), error))?;
    args.extend(node.flags);
    Ok(args)
}

/// `navigator` exists (docs: compatibility flags, `global_navigator`).
fn has_navigator(date: &str, flags: &[String]) -> bool {
    let has = |name: &str| flags.iter().any(|flag| flag == name);
    has("global_navigator") || (date >= "2022-03-21" && !has("no_global_navigator"))
}

fn absolute(root: &Path, path: &Path) -> PathBuf {
    normalize(&root.join(path))
}

fn joined(flag: &str, path: &Path) -> OsString {
    let mut text = OsString::from(flag);
    text.push(path);
    text
}

fn module_name(file: &Path) -> String {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    format!("{stem}.js")
}

fn into_diagnostics(messages: Vec<Message>) -> Vec<Diagnostic> {
    messages
        .into_iter()
        .map(|message| message.diagnostic)
        .collect()
}

fn inputs(request: &Request<'_>, meta: &Metafile) -> Vec<PathBuf> {
    let mut inputs = meta.inputs(request.root);
    // Stubs and the generated entry point are not the user's.
    inputs.retain(|file| {
        !file.starts_with(request.scratch)
            && !request
                .unenv_root
                .is_some_and(|root| file.starts_with(root))
            && file.is_file()
    });
    inputs
}

/// Says of an import that can not be resolved what wrangler says of it: which flag brings
/// Node's modules.
fn explain(error: RunError, mode: Mode) -> BundleError {
    let messages = match error {
        RunError::Failed(reason) => return BundleError::Esbuild(reason),
        RunError::Messages(messages) => messages,
    };
    let mut diagnostics = into_diagnostics(messages);
    for diagnostic in &mut diagnostics {
        // `Could not resolve "a"`, or `… (originally "a")` where an alias stepped in.
        let mut quoted = diagnostic.message.split('"').skip(1).step_by(2);
        if diagnostic.message.starts_with("Could not resolve \"")
            && let Some(name) = quoted.next()
        {
            diagnostic.hint = Some(unresolved_hint(quoted.next().unwrap_or(name), mode));
        }
    }
    BundleError::Diagnostics(diagnostics)
}

fn unresolved_hint(name: &str, mode: Mode) -> String {
    let package = package_of(name);
    if name.starts_with(plugin_assets::PREFIX) {
        "only files of functions/ can import static files (`assets:`)".to_owned()
    } else if node_compat::is_builtin(name) {
        builtin_hint(name, mode)
    } else if node_compat::is_builtin(&package) {
        format!(
            "\"{package}\" is built into Node, so this is not looked for in the npm package of that name"
        )
    } else if name.starts_with(['.', '/']) {
        "no such file; check the path and its upper and lower case".to_owned()
    } else {
        format!("install it with `npm install {package}`, if the name is spelled right")
    }
}

fn package_of(specifier: &str) -> String {
    let parts = if specifier.starts_with('@') { 2 } else { 1 };
    let names: Vec<&str> = specifier.split('/').take(parts).collect();
    names.join("/")
}

fn builtin_hint(name: &str, mode: Mode) -> String {
    match mode {
        Mode::Off | Mode::Als => format!(
            "\"{name}\" is built into Node: add \"nodejs_compat\" to compatibility_flags, with a compatibility_date of 2024-09-23 or later"
        ),
        Mode::V1 => {
            format!("write \"node:{name}\", or set compatibility_date to 2024-09-23 or later")
        }
        Mode::V2 => {
            format!("\"{name}\" is built into Node and has no equivalent in the Workers runtime")
        }
    }
}

/// Refuses static imports of Node's modules that the runtime will not have: the worker
/// would not start. `import()` and `require()` fail only when they are reached, which a
/// library may count on, so they are left alone.
fn check_builtins(
    working_dir: &Path,
    meta: &Metafile,
    mode: Mode,
    diagnostics: &mut Vec<Diagnostic>,
) -> Result<(), BundleError> {
    let missing = |import: &Import| {
        import.external
            && import.path.starts_with("node:")
            && match mode {
                Mode::Off => true,
                Mode::Als => import.path != "node:async_hooks",
                // Which of them the runtime has, it knows best.
                Mode::V1 | Mode::V2 => false,
            }
    };
    let mut errors = Vec::new();
    for name in meta.output_imports().filter(|import| missing(import)) {
        let is_static = name.kind == "import-statement";
        for file in meta.importers(&name.path, &name.kind) {
            let file = normalize(&working_dir.join(file));
            let location = find_specifier(&file, &name.path);
            let hint = builtin_hint(&name.path, mode);
            let mut diagnostic = if is_static {
                Diagnostic::error(format!(
                    "The import \"{}\" needs the compatibility flag \"nodejs_compat\".",
                    name.path
                ))
            } else {
                Diagnostic::warning(format!(
                    "\"{}\" is imported at run time, which will fail without the compatibility flag \"nodejs_compat\".",
                    name.path
                ))
            }
            .with_hint(hint);
            match location {
                Some(location) => diagnostic = diagnostic.at(location),
                None => {
                    diagnostic.message = format!("{} ({})", diagnostic.message, file.display());
                }
            }
            if is_static {
                errors.push(diagnostic);
            } else {
                diagnostics.push(diagnostic);
            }
        }
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(BundleError::Diagnostics(errors))
    }
}

fn find_specifier(file: &Path, specifier: &str) -> Option<Location> {
    let text = std::fs::read_to_string(file).ok()?;
    let start = ['"', '\'', '`']
        .iter()
        .find_map(|quote| text.find(&format!("{quote}{specifier}{quote}")))?;
    Some(Location::in_text(
        file,
        &text,
        start,
        start + specifier.len() + 2,
    ))
}

/// The other format, `addEventListener("fetch", …)`, has no bindings in `env` and is not
/// supported.
fn no_default_export(file: &Path) -> BundleError {
    BundleError::Diagnostics(vec![
        Diagnostic::error(format!("{} has no default export.", file.display())).with_hint(
            "write the worker as an ES module: `export default { async fetch(request, env, ctx) { … } }`",
        ),
    ])
}

/// What a rule of the wrangler file makes of a file.
fn kind_of_rule(kind: RuleKind) -> ModuleKind {
    match kind {
        RuleKind::EsModule => ModuleKind::EsModule,
        RuleKind::CommonJs => ModuleKind::CommonJs,
        RuleKind::CompiledWasm => ModuleKind::Wasm,
        RuleKind::Text => ModuleKind::Text,
        RuleKind::Data => ModuleKind::Data,
    }
}
