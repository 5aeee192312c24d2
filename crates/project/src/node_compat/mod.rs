//! Node's built-in modules in a bundle: what wrangler does with a plugin of its bundler,
//! as plain flags of esbuild.
//!
//! Which modules the runtime has depends on the compatibility date and flags, and so does
//! what an import of one becomes ([`Mode`]):
//!
//! - off: it stays as it is and fails when the worker starts, so the build refuses it;
//! - `nodejs_als`: only `node:async_hooks` exists;
//! - version 1 (`nodejs_compat` with a date before 2024-09-23): the runtime's own modules,
//!   by their `node:` names;
//! - version 2: also by bare names; what the runtime lacks is replaced by stubs from
//!   `unenv`, and globals like `process` are set.
//!
//! `table.json` says for each date and flag of version 2 which module is which; `cargo
//! xtask node-compat` writes it from the pinned npm packages. Unlike wrangler, which makes
//! every Pages project with the table of 2024-09-03 whatever its date, the project's own
//! date counts, so that a module that the runtime has is the runtime's.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde::Deserialize;

/// How far Node's modules are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Not at all.
    Off,
    /// `nodejs_als`.
    Als,
    /// The runtime's own, by `node:` names.
    V1,
    /// The runtime's own by both names, stubs for the others, and globals.
    V2,
}

/// `nodejs_compat` is on without the flag from here (workers-utils
/// `compatibility-date.ts`).
const DEFAULT_ON: &str = "2026-08-04";
/// `nodejs_compat` means version 2 from here.
const V2_FROM: &str = "2024-09-23";

impl Mode {
    /// The mode of a date, `YYYY-MM-DD`, and flags.
    pub fn of(date: &str, flags: &[String]) -> Self {
        let has = |name: &str| flags.iter().any(|flag| flag == name);
        let by_date = date >= DEFAULT_ON;
        let compat = has("nodejs_compat") || (by_date && !has("no_nodejs_compat"));
        let v2 = has("nodejs_compat_v2")
            || (!has("no_nodejs_compat_v2") && (by_date || (compat && date >= V2_FROM)));
        if v2 {
            Self::V2
        } else if compat {
            Self::V1
        } else if has("nodejs_als") {
            Self::Als
        } else {
            Self::Off
        }
    }
}

/// What esbuild is told about Node's modules.
#[derive(Debug, Clone, Default)]
pub(crate) struct EsbuildFlags {
    /// `--alias:…`, `--external:…`, `--inject:…`, in no particular order.
    pub(crate) flags: Vec<OsString>,
}

/// Whether an import by this name means one of Node's modules.
pub(crate) fn is_builtin(specifier: &str) -> bool {
    specifier.starts_with("node:") || table().unprefixed.iter().any(|name| name == specifier)
}

/// Makes the flags. `node_modules` holds `unenv` and `@cloudflare/unenv-preset`; without
/// it modules that need a stub stay unresolved. `scratch` takes the small files that
/// stand between esbuild and unenv, and must live as long as the flags are used.
/// `user_aliases` are left to the user.
pub(crate) fn esbuild_flags(
    mode: Mode,
    date: &str,
    flags: &[String],
    node_modules: Option<&Path>,
    scratch: &Path,
    user_aliases: &[&str],
) -> std::io::Result<EsbuildFlags> {
    let mut out = Flags {
        flags: Vec::new(),
        user_aliases,
    };
    if mode != Mode::V2 {
        // What is not there is found in the result (`bundle::check_builtins`), where it is
        // known which imports are left.
        out.push("external", "node:*");
        return Ok(EsbuildFlags { flags: out.flags });
    }

    let environment = Environment::of(date, flags);
    for name in &environment.native {
        out.push("external", &format!("node:{name}"));
        if is_unprefixed(name) {
            out.alias(name, format!("node:{name}"));
        }
    }
    if let Some(node_modules) = node_modules {
        for (name, file) in &environment.stubs {
            let file = node_modules.join(file);
            if is_unprefixed(name) {
                out.alias(name, &file);
            }
            out.alias(&format!("node:{name}"), &file);
        }
        for (index, (name, file)) in table().npm.iter().enumerate() {
            let shim = scratch.join(format!("npm-{index}.cjs"));
            std::fs::write(&shim, npm_shim(&node_modules.join(file)))?;
            out.alias(name, &shim);
        }
        if !environment.globals.is_empty() {
            let file = scratch.join("node-globals.mjs");
            std::fs::write(&file, globals_module(&environment.globals, node_modules))?;
            out.inject(&file);
        }
        for file in &environment.polyfills {
            out.inject(&node_modules.join(file));
        }
    }
    Ok(EsbuildFlags { flags: out.flags })
}

struct Flags<'a> {
    flags: Vec<OsString>,
    user_aliases: &'a [&'a str],
}

impl Flags<'_> {
    fn push(&mut self, flag: &str, value: &str) {
        self.flags.push(format!("--{flag}:{value}").into());
    }

    fn alias(&mut self, name: &str, target: impl AsRef<Path>) {
        if self.user_aliases.contains(&name) {
            return;
        }
        let mut flag = OsString::from(format!("--alias:{name}="));
        flag.push(target.as_ref());
        self.flags.push(flag);
    }

    fn inject(&mut self, file: &Path) {
        let mut flag = OsString::from("--inject:");
        flag.push(file);
        self.flags.push(flag);
    }
}

/// Sets the globals before any other module runs.
fn globals_module(globals: &BTreeMap<String, (String, String)>, node_modules: &Path) -> String {
    let mut source = String::new();
    for (index, (name, (file, export))) in globals.iter().enumerate() {
        let file = js_path(&node_modules.join(file));
        let name = serde_json::Value::from(name.as_str());
        let _ = writeln!(
            source,
            "import {{ {export} as g{index} }} from {file};\nglobalThis[{name}] = g{index};"
        );
    }
    source
}

/// The stand-ins for npm packages are `import`/`export`, but `require("inherits")` must give the
/// function itself. A `module.exports` in between serves both: an import sees the same
/// default and names.
fn npm_shim(file: &Path) -> String {
    format!(
        "const esm = require({});\n\
         const main = \"default\" in esm ? esm.default : {{}};\n\
         for (const name of Object.keys(esm)) {{\n\
         \tif (name !== \"default\") Object.defineProperty(main, name, {{ value: esm[name], enumerable: true, configurable: true }});\n\
         }}\n\
         module.exports = main;\n",
        js_path(file)
    )
}

fn js_path(path: &Path) -> String {
    serde_json::Value::from(path.to_string_lossy().into_owned()).to_string()
}

/// `table.json`.
#[derive(Debug, Deserialize)]
struct Table {
    /// What the table was made from.
    #[cfg_attr(not(test), expect(dead_code, reason = "for the reader and a test"))]
    packages: BTreeMap<String, String>,
    /// Built-in modules that may be named without `node:`.
    unprefixed: Vec<String>,
    /// npm packages that have a stand-in, by file below `node_modules`.
    npm: BTreeMap<String, String>,
    /// By date, oldest first.
    dates: Vec<Dated>,
}

#[derive(Debug, Deserialize)]
struct Dated {
    from: String,
    #[serde(flatten)]
    environment: Environment,
    flags: BTreeMap<String, Patch>,
}

/// What Node's modules are for a date and flags.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Environment {
    /// Modules of the runtime.
    native: Vec<String>,
    /// The others, by file below `node_modules`.
    stubs: BTreeMap<String, String>,
    /// Names of `globalThis` to set: file below `node_modules`, and its export.
    globals: BTreeMap<String, (String, String)>,
    /// Files below `node_modules` to run first.
    polyfills: Vec<PathBuf>,
}

/// What a flag changes.
#[derive(Debug, Deserialize)]
struct Patch {
    native: Vec<String>,
    stubs: BTreeMap<String, String>,
    globals: BTreeMap<String, Option<(String, String)>>,
    add_polyfills: Vec<PathBuf>,
    remove_polyfills: Vec<PathBuf>,
}

impl Environment {
    fn of(date: &str, flags: &[String]) -> Self {
        let dates = &table().dates;
        // A date before the first one comes with `nodejs_compat_v2`.
        let dated = dates
            .iter()
            .rfind(|dated| dated.from.as_str() <= date)
            .or(dates.first())
            .expect("the committed table has dates");
        let mut environment = dated.environment.clone();
        for patch in flags.iter().filter_map(|flag| dated.flags.get(flag)) {
            environment.apply(patch);
        }
        environment
    }

    fn apply(&mut self, patch: &Patch) {
        for name in &patch.native {
            self.stubs.remove(name);
            if !self.native.contains(name) {
                self.native.push(name.clone());
            }
        }
        for (name, file) in &patch.stubs {
            self.native.retain(|native| native != name);
            self.stubs.insert(name.clone(), file.clone());
        }
        for (name, source) in &patch.globals {
            match source {
                Some(source) => self.globals.insert(name.clone(), source.clone()),
                None => self.globals.remove(name),
            };
        }
        self.polyfills
            .retain(|file| !patch.remove_polyfills.contains(file));
        self.polyfills.extend(patch.add_polyfills.iter().cloned());
    }
}

/// `sqlite` and other newer modules have no bare name: that is an npm package's.
fn is_unprefixed(name: &str) -> bool {
    table().unprefixed.iter().any(|known| known == name)
}

fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| {
        serde_json::from_str(include_str!("table.json"))
            .expect("the committed table has the shape that the generator writes")
    })
}
