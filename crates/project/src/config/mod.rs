//! The wrangler file: found, parsed into one tree whether it is TOML or JSON, and checked
//! by one validator.
//!
//! `tree` knows the two languages, `keys` every key of wrangler, `reader` the types of
//! values, `bindings` and `settings` what the keys mean, `validate` how the tables come
//! together, `outcome` what follows from them.

mod bindings;
mod keys;
mod outcome;
mod reader;
mod settings;
#[cfg(test)]
mod tests;
mod tree;
mod types;
mod validate;

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use engawa_model::{Binding, BindingKind, Environment, ProjectKind, ProjectName};

pub use types::{
    AnalyticsEngineDataset, Assets, Bundling, Config, D1Database, KvNamespace, Limits, Placement,
    R2Bucket, Rule, RuleKind, Service, Var,
};

use self::outcome::conventional_output_dir;
use self::tree::{Format, Source};
use self::validate::{Context, validate};
use crate::Diagnostic;
use crate::compat::Compatibility;
use crate::dotenv::DevVars;

/// A project's folder.
#[derive(Debug)]
pub struct Project;

/// How a wrangler file is read.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// The environment; `None` is the top level of the file, as in `wrangler pages dev`.
    pub env: Option<Environment>,
    /// Today in UTC, `YYYY-MM-DD` (see [`crate::compat::date_of_ms`]).
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
        source: io::Error,
    },
    /// The file is wrong: all of its errors, and its warnings, in the order of the file.
    #[error("{}", render(.0))]
    Invalid(Vec<Diagnostic>),
}

/// A wrangler file or a file of secrets is a page or two; what is larger is a mistake.
pub(crate) const TEXT_FILE_BYTES: u64 = 1024 * 1024;

/// In the order in which wrangler prefers them.
const FILE_NAMES: [&str; 3] = ["wrangler.json", "wrangler.jsonc", "wrangler.toml"];

impl Project {
    /// Reads the project in `dir`: its wrangler file, else the nearest one above, else
    /// defaults for a folder without one. The diagnostics of a success are warnings.
    pub fn load(
        dir: &Path,
        options: &LoadOptions,
    ) -> Result<(Config, Vec<Diagnostic>), ConfigError> {
        if !dir.is_dir() {
            return Err(ConfigError::NotAFolder {
                dir: dir.to_path_buf(),
            });
        }
        let mut warnings = Vec::new();
        let Some(file) = find_file(dir, options.search_parents, &mut warnings)? else {
            let (config, warning) = without_file(dir, options);
            return Ok((config, vec![warning]));
        };
        let text = read_text_file(&file)
            .map_err(|source| ConfigError::Read {
                file: file.clone(),
                source,
            })?
            .unwrap_or_default();
        let text = String::from_utf8(text).map_err(|error| {
            let valid = error.utf8_error().valid_up_to();
            let source = io::Error::new(
                io::ErrorKind::InvalidData,
                format!("byte {valid} is not UTF-8; save the file as UTF-8"),
            );
            ConfigError::Read {
                file: file.clone(),
                source,
            }
        })?;
        let root = match file.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let format = if file
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            Format::Toml
        } else {
            Format::Json
        };
        let source = Source {
            file: file.clone(),
            text: text
                .strip_prefix('\u{feff}')
                .map(str::to_owned)
                .unwrap_or(text),
            format,
        };
        let folder_name = folder_name(root);
        let context = Context {
            root,
            folder_name: &folder_name,
            options,
        };
        let (config, diagnostics) = validate(&source, &context);
        warnings.extend(diagnostics);
        match config {
            Some(config) => Ok((config, warnings)),
            None => Err(ConfigError::Invalid(warnings)),
        }
    }
}

impl Config {
    /// What `env` holds in development: bindings and vars of the file, with `dev_vars`
    /// over them (wrangler `dev/dev-vars.ts`), and for Pages what its builds know of
    /// themselves. Names are unique; a secret with the name of a binding that is no var is
    /// left out (see [`Config::shadowed_dev_vars`]).
    pub fn bindings(&self, dev_vars: &DevVars) -> Vec<Binding> {
        let mut bindings = self.resource_bindings();
        for (name, var) in &self.vars {
            if self.takes(name) && dev_vars.values.contains_key(name) {
                continue;
            }
            let kind = match var {
                Var::Text(text) => BindingKind::PlainText(text.clone()),
                Var::Json(value) => BindingKind::Json(value.clone()),
            };
            bindings.push(Binding {
                name: name.clone(),
                kind,
            });
        }
        let shadowed = self.shadowed_dev_vars(dev_vars);
        for (name, secret) in &dev_vars.values {
            if self.takes(name) && !shadowed.contains(&name.as_str()) {
                bindings.push(Binding {
                    name: name.clone(),
                    kind: BindingKind::SecretText(secret.clone()),
                });
            }
        }
        if self.kind == ProjectKind::Pages {
            for (name, value) in self.pages_variables() {
                if bindings.iter().all(|binding| binding.name != name) {
                    bindings.push(Binding {
                        name: name.to_owned(),
                        kind: BindingKind::PlainText(value),
                    });
                }
            }
        }
        bindings
    }

    /// The variables that Pages sets for every deployment (docs: pages build configuration,
    /// "environment variables"), with wrangler's stand-ins for a folder outside of Git.
    fn pages_variables(&self) -> [(&'static str, String); 4] {
        let commit = "0".repeat(40);
        let url = format!("https://{}.{}.pages.dev", &commit[..8], self.name);
        [
            ("CF_PAGES", "1".to_owned()),
            ("CF_PAGES_BRANCH", "local".to_owned()),
            ("CF_PAGES_COMMIT_SHA", commit),
            ("CF_PAGES_URL", url),
        ]
    }

    /// Names of `dev_vars` that a KV, D1, R2 or other binding has already, so that they
    /// do not count.
    pub fn shadowed_dev_vars<'a>(&self, dev_vars: &'a DevVars) -> Vec<&'a str> {
        let taken = self.resource_bindings();
        let reserved = |name: &str| name == "ASSETS" && self.kind == ProjectKind::Pages;
        dev_vars
            .values
            .keys()
            .map(String::as_str)
            .filter(|name| reserved(name) || taken.iter().any(|binding| binding.name == *name))
            .collect()
    }

    /// Names of `secrets.required` that `dev_vars` lacks.
    pub fn missing_secrets<'a>(&'a self, dev_vars: &DevVars) -> Vec<&'a str> {
        self.required_secrets
            .iter()
            .flatten()
            .map(String::as_str)
            .filter(|name| !dev_vars.values.contains_key(*name))
            .collect()
    }

    /// The database that a command line names by `database_name` or binding (wrangler
    /// `d1/utils.ts`).
    pub fn d1_database(&self, name_or_binding: &str) -> Option<&D1Database> {
        self.d1_databases.iter().find(|database| {
            database.binding == name_or_binding
                || database.database_name.as_deref() == Some(name_or_binding)
        })
    }

    /// Whether a name of `.dev.vars` counts.
    fn takes(&self, name: &str) -> bool {
        self.required_secrets.as_ref().is_none_or(|required| {
            self.vars.contains_key(name) || required.iter().any(|wanted| wanted == name)
        })
    }

    fn resource_bindings(&self) -> Vec<Binding> {
        let binding = |name: &str, kind: BindingKind| Binding {
            name: name.to_owned(),
            kind,
        };
        let mut bindings = Vec::new();
        for kv in &self.kv_namespaces {
            let kind = BindingKind::KvNamespace(kv.local_id.clone());
            bindings.push(binding(&kv.binding, kind));
        }
        for d1 in &self.d1_databases {
            bindings.push(binding(&d1.binding, BindingKind::D1(d1.local_id.clone())));
        }
        for r2 in &self.r2_buckets {
            let kind = BindingKind::R2Bucket(r2.local_name.clone());
            bindings.push(binding(&r2.binding, kind));
        }
        for dataset in &self.analytics_engine_datasets {
            let kind = BindingKind::AnalyticsEngine(dataset.dataset.clone());
            bindings.push(binding(&dataset.binding, kind));
        }
        for service in &self.services {
            let kind = BindingKind::Service(service.service.clone());
            bindings.push(binding(&service.binding, kind));
        }
        if let Some(name) = self
            .assets
            .as_ref()
            .and_then(|assets| assets.binding.as_ref())
        {
            bindings.push(binding(name, BindingKind::Assets));
        }
        bindings
    }
}

/// The wrangler file of `dir`, else the one that wrangler would find from there: each name
/// is searched up to the root before the next. All that is odd about it goes to `warnings`.
fn find_file(
    dir: &Path,
    search_parents: bool,
    warnings: &mut Vec<Diagnostic>,
) -> Result<Option<PathBuf>, ConfigError> {
    let here: Vec<&str> = FILE_NAMES
        .into_iter()
        .filter(|name| dir.join(name).is_file())
        .collect();
    if let Some((first, rest)) = here.split_first() {
        if !rest.is_empty() {
            warnings.push(
                Diagnostic::warning(format!(
                    "{} is read; {} beside it is not.",
                    dir.join(first).display(),
                    rest.join(" and ")
                ))
                .with_hint("keep one of them"),
            );
        }
        let named = if dir == Path::new(".") {
            PathBuf::from(first)
        } else {
            dir.join(first)
        };
        return Ok(Some(named));
    }
    if !search_parents {
        return Ok(None);
    }
    let absolute = fs::canonicalize(dir).map_err(|source| ConfigError::Read {
        file: dir.to_path_buf(),
        source,
    })?;
    let above = FILE_NAMES.into_iter().find_map(|name| {
        absolute
            .ancestors()
            .skip(1)
            .map(|folder| folder.join(name))
            .find(|file| file.is_file())
    });
    if let Some(file) = &above {
        warnings.push(Diagnostic::warning(format!(
            "{} has no wrangler file; {} is read.",
            dir.display(),
            file.display()
        )));
    }
    Ok(above)
}

/// A folder without a wrangler file is a Pages project, as for `wrangler pages dev DIR`.
fn without_file(dir: &Path, options: &LoadOptions) -> (Config, Diagnostic) {
    let name = folder_name(dir);
    let (output_dir, served) = match conventional_output_dir(dir) {
        Some(found) => (dir.join(found), format!("\"{found}\"")),
        None => (dir.to_path_buf(), "the folder itself".to_owned()),
    };
    let warning = Diagnostic::warning(format!(
        "{} has no wrangler file: it is served as the Pages project {name:?}, with static files from {served}, today's compatibility date ({}) and no bindings.",
        dir.display(),
        options.today
    ))
    .with_hint("add a wrangler.toml with name, pages_build_output_dir and compatibility_date");
    let newest = &options.newest_compatibility_date;
    let config = Config {
        root: dir.to_path_buf(),
        config_file: None,
        name: ProjectName::new(name),
        kind: ProjectKind::Pages,
        environment: options.env,
        has_environment_table: false,
        pages_build_output_dir: Some(output_dir),
        main: None,
        assets: None,
        compatibility: Compatibility {
            date: options.today.clone(),
            effective_date: std::cmp::min(&options.today, newest).clone(),
            flags: Vec::new(),
        },
        vars: indexmap::IndexMap::new(),
        required_secrets: None,
        kv_namespaces: Vec::new(),
        d1_databases: Vec::new(),
        r2_buckets: Vec::new(),
        analytics_engine_datasets: Vec::new(),
        services: Vec::new(),
        limits: None,
        placement: None,
        bundling: Bundling::default(),
    };
    (config, warning)
}

/// A project name made from a folder's.
fn folder_name(dir: &Path) -> String {
    let absolute = fs::canonicalize(dir).unwrap_or_else(|_| dir.to_path_buf());
    let name = absolute
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    settings::project_name_from(&name)
}

/// The bytes of a small text file; `None` if there is none, or a folder of that name.
pub(crate) fn read_text_file(file: &Path) -> io::Result<Option<Vec<u8>>> {
    let opened = match fs::File::open(file) {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if opened.metadata()?.is_dir() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    opened.take(TEXT_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > TEXT_FILE_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it is larger than {TEXT_FILE_BYTES} bytes"),
        ));
    }
    Ok(Some(bytes))
}

fn render(diagnostics: &[Diagnostic]) -> String {
    let frames: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
    frames.join("\n\n")
}
