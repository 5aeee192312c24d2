//! What esbuild wrote, as modules.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use engawa_model::{Module, ModuleKind};
use serde::Deserialize;
use sha1::{Digest as _, Sha1};

use super::esbuild::normalize;
use super::{BundleError, kind_of_rule};
use crate::config::Rule;
use crate::diagnostic::Diagnostic;

/// Which files become modules of their own, and of which kind, by extension.
#[derive(Debug, Clone)]
pub(crate) struct ModuleRules {
    by_extension: BTreeMap<String, ModuleKind>,
}

/// wrangler's `DEFAULT_MODULE_RULES` (`rules.ts`).
const DEFAULT_RULES: [(&str, ModuleKind); 5] = [
    ("txt", ModuleKind::Text),
    ("html", ModuleKind::Text),
    ("sql", ModuleKind::Text),
    ("bin", ModuleKind::Data),
    ("wasm", ModuleKind::Wasm),
];

/// The built-in rules with those of the wrangler file in front. A rule without
/// `fallthrough` ends the rules of its kind. Only globs that choose by extension are
/// understood; others get a warning.
pub(super) fn module_rules(rules: &[Rule]) -> (ModuleRules, Vec<Diagnostic>) {
    let mut by_extension = BTreeMap::new();
    let mut diagnostics = Vec::new();
    let mut ended = Vec::new();
    for rule in rules {
        let kind = kind_of_rule(rule.kind);
        if ended.contains(&kind) {
            continue;
        }
        for glob in &rule.globs {
            let extension = glob
                .strip_prefix("**/*.")
                .or_else(|| glob.strip_prefix("*."))
                .filter(|rest| !rest.contains(['*', '?', '/', '[', '{']));
            match extension {
                Some(extension) => {
                    by_extension.entry(extension.to_owned()).or_insert(kind);
                }
                None if glob == "**/*.wasm?module" => {}
                None => diagnostics.push(
                    Diagnostic::warning(format!(
                        "The module rule \"{glob}\" is ignored: rules choose by extension only."
                    ))
                    .with_hint("write a glob like \"**/*.txt\""),
                ),
            }
        }
        if !rule.fallthrough {
            ended.push(kind);
        }
    }
    for (extension, kind) in DEFAULT_RULES {
        if !ended.contains(&kind) {
            by_extension.entry(extension.to_owned()).or_insert(kind);
        }
    }
    (ModuleRules { by_extension }, diagnostics)
}

impl ModuleRules {
    /// The extensions that the bundler must leave alone. JavaScript is inlined in a bundle
    /// whatever a rule says, as in wrangler.
    pub(super) fn extensions(&self) -> impl Iterator<Item = &str> {
        self.by_extension
            .iter()
            .filter(|(_, kind)| !matches!(kind, ModuleKind::EsModule | ModuleKind::CommonJs))
            .map(|(extension, _)| extension.as_str())
    }

    /// The kind of a file, by its name.
    pub(super) fn kind_of(&self, name: &str) -> Option<ModuleKind> {
        // The longest extension counts: `a.d.txt` may have a rule for `d.txt`.
        name.match_indices('.')
            .find_map(|(at, _)| self.by_extension.get(&name[at + 1..]).copied())
    }
}

/// esbuild's `--metafile`, as far as it is used.
#[derive(Debug, Deserialize)]
pub(super) struct Metafile {
    inputs: BTreeMap<String, Input>,
    outputs: BTreeMap<String, OutputFile>,
}

#[derive(Debug, Deserialize)]
struct Input {
    #[serde(default)]
    imports: Vec<Import>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct OutputFile {
    #[serde(default)]
    imports: Vec<Import>,
    #[serde(default)]
    exports: Vec<String>,
    entry_point: Option<String>,
}

/// An import that a file or the bundle makes.
#[derive(Debug, Deserialize)]
pub(super) struct Import {
    pub(super) path: String,
    pub(super) kind: String,
    #[serde(default)]
    pub(super) external: bool,
}

impl Metafile {
    pub(super) fn read(file: &Path) -> Result<Self, BundleError> {
        let bytes =
            std::fs::read(file).map_err(|error| BundleError::Io(file.to_path_buf(), error))?;
        serde_json::from_slice(&bytes).map_err(|error| {
            BundleError::Esbuild(format!("its metafile is not as expected: {error}"))
        })
    }

    /// The files that went in. `working_dir` is where esbuild ran.
    pub(super) fn inputs(&self, working_dir: &Path) -> Vec<PathBuf> {
        self.inputs
            .keys()
            .map(|name| normalize(&working_dir.join(name.split('?').next().unwrap_or(name))))
            .collect()
    }

    /// Importers and names of imports that were left as they are and begin with `prefix`.
    pub(super) fn imports_with(&self, prefix: &str) -> impl Iterator<Item = (&str, &str)> {
        self.inputs.iter().flat_map(move |(importer, input)| {
            let wanted = move |import: &&Import| import.external && import.path.starts_with(prefix);
            let imports = input.imports.iter().filter(wanted);
            imports.map(|import| (importer.as_str(), import.path.as_str()))
        })
    }

    fn entry(&self) -> impl Iterator<Item = &OutputFile> {
        self.outputs
            .values()
            .filter(|output| output.entry_point.is_some())
    }

    /// What is still imported by the finished bundle, each once.
    pub(super) fn output_imports(&self) -> impl Iterator<Item = &Import> {
        let mut seen = Vec::new();
        self.entry()
            .flat_map(|output| &output.imports)
            .filter(move |import| {
                let key = (import.path.as_str(), import.kind.as_str());
                let new = !seen.contains(&key);
                if new {
                    seen.push(key);
                }
                new
            })
    }

    /// The files that import `path` in that way.
    pub(super) fn importers(&self, path: &str, kind: &str) -> Vec<&str> {
        self.inputs
            .iter()
            .filter(|(_, input)| {
                input
                    .imports
                    .iter()
                    .any(|import| import.path == path && import.kind == kind)
            })
            .map(|(name, _)| name.as_str())
            .collect()
    }

    pub(super) fn has_default_export(&self) -> bool {
        self.entry()
            .any(|output| output.exports.iter().any(|name| name == "default"))
    }

    /// The exports of each entry point, by its output's name without folder and extension.
    pub(super) fn exports_by_output_stem(self) -> impl Iterator<Item = (String, Vec<String>)> {
        self.outputs.into_iter().filter_map(|(name, output)| {
            let stem = Path::new(&name).file_stem()?.to_str()?.to_owned();
            Some((stem, output.exports))
        })
    }
}

/// Gives what is left of `require()` calls a function: wrangler's plugin turns `require("events")`
/// into an import of the default export, which flags can not do, so the imports are put in
/// front. They stand on the first line, so that the source map stays right for all others.
fn require_line(specifiers: &[String]) -> String {
    use std::fmt::Write as _;
    let mut line = String::new();
    let mut table = String::new();
    for (index, specifier) in specifiers.iter().enumerate() {
        let specifier = serde_json::Value::from(specifier.as_str());
        let _ = write!(line, "import __engawa_{index} from {specifier}; ");
        let _ = write!(table, "{specifier}: __engawa_{index}, ");
    }
    let _ = write!(
        line,
        "const __engawa_required = {{ {table}}}; const require = (name) => {{ \
         if (Object.hasOwn(__engawa_required, name)) return __engawa_required[name]; \
         throw new Error(`Dynamic require of \"${{name}}\" is not supported`); }}; "
    );
    line
}

/// What [`modules`] needs to know.
pub(super) struct Written<'a> {
    /// Where esbuild wrote `index.js` and what it copied.
    pub(super) out: &'a Path,
    /// The project's folder.
    pub(super) root: &'a Path,
    /// What it said of it.
    pub(super) meta: &'a Metafile,
    /// Kinds of modules.
    pub(super) rules: &'a ModuleRules,
    /// The name that the entry point gets.
    pub(super) entry_name: &'a str,
    /// The runtime has the modules of Node that are left as imports, so that `require()`
    /// may reach them.
    pub(super) has_node_modules: bool,
    /// A folder whose modules are imported from `./`.
    pub(super) sibling_folder: Option<&'a Path>,
}

/// The entry point, and the files that esbuild copied beside it.
pub(super) fn modules(written: &Written<'_>) -> Result<Vec<Module>, BundleError> {
    let Written { out, meta, .. } = *written;
    let read = |file: &Path| {
        std::fs::read(file).map_err(|error| BundleError::Io(file.to_path_buf(), error))
    };
    let mut copies: Vec<String> = meta
        .outputs
        .iter()
        .filter(|(_, output)| output.entry_point.is_none())
        .filter_map(|(name, _)| Some(Path::new(name).file_name()?.to_str()?.to_owned()))
        .filter(|name| name != "index.js.map")
        .collect();
    copies.sort();

    let mut text = String::from_utf8_lossy(&read(&out.join("index.js"))?).into_owned();
    let mut extra: Vec<Module> = Vec::new();
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    for copied in copies {
        let Some(kind) = written.rules.kind_of(&copied) else {
            continue;
        };
        let body = read(&out.join(&copied))?;
        // `E3DYE7MI-a.txt` becomes `<sha1>-a.txt`, also behind a `?module`.
        let plain = copied.split_once('-').map_or(&*copied, |(_, name)| name);
        let name = format!("./{}-{plain}", hex(&Sha1::digest(&body)));
        text = text
            .replace(&format!("./{copied}?module"), &name)
            .replace(&format!("./{copied}"), &name);
        if !extra.iter().any(|module| module.name == name) {
            extra.push(Module {
                name: name.clone(),
                kind,
                body: body.into(),
                source_map: None,
            });
        }
        names.insert(copied, name);
    }
    if let Some(folder) = written.sibling_folder {
        let relative = relative_path(out, folder);
        text = text.replace(&format!("\"{relative}/"), "\"./");
    }
    let required = required(written, &names);
    if !required.is_empty() {
        text.insert_str(0, &require_line(&required));
    }
    let source_map = read(&out.join("index.js.map")).ok();
    let entry = Module {
        name: written.entry_name.to_owned(),
        kind: ModuleKind::EsModule,
        body: text.into(),
        source_map: source_map.and_then(|map| relative_source_map(&map, out, written.root)),
    };
    Ok(std::iter::once(entry).chain(extra).collect())
}

/// What `require()` is called with and can have.
fn required(written: &Written<'_>, names: &BTreeMap<String, String>) -> Vec<String> {
    written
        .meta
        .output_imports()
        .filter(|import| import.kind == "require-call")
        .filter_map(|import| {
            if import.external {
                let is_there = written.has_node_modules && import.path.starts_with("node:");
                return is_there.then(|| import.path.clone());
            }
            let copied = Path::new(&import.path).file_name()?.to_str()?;
            names.get(copied.split('?').next()?).cloned()
        })
        .collect()
}

/// The way from one absolute folder to another.
fn relative_path(from: &Path, to: &Path) -> String {
    let mut from_parts = from.components().peekable();
    let mut to_parts = to.components().peekable();
    while from_parts.peek().is_some() && from_parts.peek() == to_parts.peek() {
        from_parts.next();
        to_parts.next();
    }
    let up = from_parts.map(|_| "..".into());
    let down = to_parts.map(|part| part.as_os_str().to_string_lossy());
    up.chain(down)
        .collect::<Vec<std::borrow::Cow<'_, str>>>()
        .join("/")
}

/// The map's sources relative to the project where they lie in it, else absolute.
fn relative_source_map(map: &[u8], base: &Path, root: &Path) -> Option<Bytes> {
    let mut map: serde_json::Value = serde_json::from_slice(map).ok()?;
    for source in map.get_mut("sources")?.as_array_mut()? {
        let Some(text) = source.as_str() else {
            continue;
        };
        let file = normalize(&base.join(text));
        let shown = file.strip_prefix(root).unwrap_or(&file);
        *source = shown.to_string_lossy().into_owned().into();
    }
    Some(map.to_string().into())
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
