//! From the tree to a [`Config`]: which rules the file follows, what each of its tables
//! says, and what an environment takes from the top level.

use std::collections::HashSet;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use engawa_model::{ProjectKind, ProjectName};
use indexmap::IndexMap;

use super::bindings::{Bindings, Named};
use super::keys::{self, Key, Scope, Usage};
use super::reader::{Reader, suggestion};
use super::settings::Settings;
use super::tree::{Entry, Source, Table, Value};
use super::{Bundling, Config, LoadOptions};
use crate::Diagnostic;
use crate::compat::{Compatibility, DateError, effective_date, is_experimental_flag};

/// What the loader knows apart from the file's text.
pub(super) struct Context<'a> {
    pub(super) root: &'a Path,
    /// The project's name if the file has none.
    pub(super) folder_name: &'a str,
    pub(super) options: &'a LoadOptions,
}

/// Checks a whole file. There is a `Config` exactly if no diagnostic is an error;
/// diagnostics come in the order of the file.
pub(super) fn validate(
    source: &Source,
    context: &Context<'_>,
) -> (Option<Config>, Vec<Diagnostic>) {
    let mut diagnostics = Vec::new();
    let Some(table) = source.parse(&mut diagnostics) else {
        return (None, diagnostics);
    };
    let mut reader = Reader {
        source,
        diagnostics,
    };
    let config = File::new(&table, context).read(&mut reader);
    let mut diagnostics = reader.diagnostics;
    diagnostics.sort_by_key(|diagnostic| {
        diagnostic
            .location
            .as_ref()
            .map_or((0, 0), |location| (location.line, location.column))
    });
    let valid = !diagnostics.iter().any(Diagnostic::is_error);
    (config.filter(|_| valid), diagnostics)
}

/// The file with the decisions that all of its parts depend on.
struct File<'a> {
    context: &'a Context<'a>,
    top: &'a Table,
    kind: ProjectKind,
    /// `pages_build_output_dir` is there: wrangler's rules for Pages files hold.
    strict_pages: bool,
    /// Every table below `env` by its name.
    environments: Vec<(&'a str, &'a Entry)>,
    /// The name of the environment asked for.
    wanted: Option<&'static str>,
}

impl<'a> File<'a> {
    fn new(top: &'a Table, context: &'a Context<'a>) -> Self {
        let environments: Vec<(&str, &Entry)> = match top.get("env").map(|env| &env.node.value) {
            Some(Value::Table(table)) => table.iter().collect(),
            _ => Vec::new(),
        };
        let wanted = context.options.env.map(engawa_model::Environment::as_str);
        let active = environments
            .iter()
            .find(|(name, _)| Some(*name) == wanted)
            .and_then(|(_, entry)| match &entry.node.value {
                Value::Table(table) => Some(table),
                _ => None,
            });
        let says = |key: &str| {
            [Some(top), active]
                .into_iter()
                .flatten()
                .any(|table| table.get(key).is_some_and(|entry| !entry.node.is_empty()))
        };
        let strict_pages = top.get("pages_build_output_dir").is_some();
        let kind = if strict_pages {
            ProjectKind::Pages
        } else if says("main") || says("assets") {
            ProjectKind::Workers
        } else {
            context.options.kind.unwrap_or(ProjectKind::Pages)
        };
        Self {
            context,
            top,
            kind,
            strict_pages,
            environments,
            wanted,
        }
    }

    fn read(&self, reader: &mut Reader<'a>) -> Option<Config> {
        let active = self.active_environment(reader);
        let mut warned = HashSet::new();
        self.check_keys(reader, self.top, None, active.is_none(), &mut warned);
        let mut settings = Settings::read(reader, self.top, "", self.context.root);
        let mut own = Own::read(reader, self.top, "");

        let top_name = settings.name.clone();
        for (name, entry) in &self.environments {
            let prefix = format!("env.{name}.");
            let Some(table) = reader.table(entry, &format!("env.{name}")) else {
                continue;
            };
            let is_active = active.is_some_and(|(active, _)| active == *name);
            self.check_keys(reader, table, Some(name), is_active, &mut warned);
            let env_settings = Settings::read(reader, table, &prefix, self.context.root);
            let env_own = Own::read(reader, table, &prefix);
            if is_active {
                self.warn_of_lost(reader, name, entry, &own.bindings, &env_own.bindings);
                settings = env_settings.or(settings);
                own = env_own;
            }
        }

        let name = self.name(reader, &settings, top_name, active.is_some());
        let compatibility = self.compatibility(reader, &settings);
        self.check_names(reader, &own, settings.assets_name.as_ref());
        let pages_build_output_dir = self.output_dir(reader);
        let alias = self
            .top
            .get("alias")
            .and_then(|entry| reader.string_map(entry, "alias"))
            .unwrap_or_default();

        let Bindings {
            vars,
            kv_namespaces,
            d1_databases,
            r2_buckets,
            analytics_engine_datasets,
            services,
            names: _,
        } = own.bindings;
        Some(Config {
            root: self.context.root.to_path_buf(),
            config_file: Some(reader.source.file.clone()),
            name: ProjectName::new(name),
            kind: self.kind,
            environment: self.context.options.env,
            has_environment_table: active.is_some(),
            pages_build_output_dir,
            main: settings.main,
            assets: settings.assets,
            compatibility: compatibility?,
            vars,
            required_secrets: own.required_secrets,
            kv_namespaces,
            d1_databases,
            r2_buckets,
            analytics_engine_datasets,
            services,
            limits: settings.limits,
            placement: settings.placement,
            bundling: Bundling {
                no_bundle: settings.no_bundle.unwrap_or(false),
                minify: settings.minify.unwrap_or(false),
                define: own.define,
                alias,
                rules: settings.rules.unwrap_or_default(),
                jsx_factory: settings.jsx_factory,
                jsx_fragment: settings.jsx_fragment,
                tsconfig: settings.tsconfig,
            },
        })
    }

    /// The environment's table that counts, if there is one. Without one the top level
    /// counts (wrangler: an error for a Worker that has other environments).
    fn active_environment(&self, reader: &mut Reader<'a>) -> Option<(&'a str, &'a Entry)> {
        if let Some(entry) = self.top.get("env") {
            // Says so if it is not a table.
            reader.table(entry, "env");
        }
        if self.kind == ProjectKind::Pages {
            for (name, entry) in &self.environments {
                if !matches!(*name, "preview" | "production") {
                    reader.error_with_hint(
                        &entry.key_span,
                        format!(
                            "Configuration file contains the following environment names that are not supported by Pages projects: \"{name}\"."
                        ),
                        "The supported named-environments for Pages are \"preview\" and \"production\".",
                    );
                }
            }
        }
        let wanted = self.wanted?;
        let found = self
            .environments
            .iter()
            .find(|(name, _)| *name == wanted)
            .copied();
        if found.is_none() && self.kind == ProjectKind::Workers {
            let message = format!("No environment found in configuration with name \"{wanted}\".");
            match self.environments.first() {
                Some((_, first)) => {
                    let names: Vec<String> = self
                        .environments
                        .iter()
                        .map(|(name, _)| format!("{name:?}"))
                        .collect();
                    reader.error_with_hint(
                        &first.key_span,
                        message,
                        format!(
                            "The available configured environment names are: [{}]",
                            names.join(",")
                        ),
                    );
                }
                None => reader.diagnostics.push(
                    Diagnostic::warning(message)
                        .with_hint(format!("add [env.{wanted}], or leave --env out")),
                ),
            }
        }
        found
    }

    /// Every key of one table against the list of those that wrangler knows. `active`:
    /// the table's bindings are those that the project gets.
    fn check_keys(
        &self,
        reader: &mut Reader<'a>,
        table: &'a Table,
        environment: Option<&str>,
        active: bool,
        warned: &mut HashSet<&'static str>,
    ) {
        let place = environment.map_or("top-level".to_owned(), |name| format!("env.{name}"));
        for (name, entry) in table.iter() {
            if let Some((_, instead)) = keys::REMOVED.iter().find(|(key, _)| *key == name) {
                reader.error_with_hint(
                    &entry.key_span,
                    format!("The \"{name}\" field is no longer supported."),
                    *instead,
                );
                continue;
            }
            let Some(key) = keys::find(name) else {
                let known = keys::KEYS
                    .iter()
                    .filter(|key| environment.is_none() || key.scope != Scope::TopLevel)
                    .map(|key| key.name);
                reader.warn(
                    &entry.key_span,
                    format!("Unexpected fields found in {place} field: \"{name}\""),
                    suggestion(name, known),
                );
                continue;
            };
            if environment.is_some() && key.scope == Scope::TopLevel {
                reader.warn(
                    &entry.key_span,
                    format!("\"{name}\" has no effect inside \"{place}\"."),
                    "move it to the top level, before the first [table]",
                );
                continue;
            }
            if entry.node.is_empty() || self.check_pages_key(reader, key, entry) {
                continue;
            }
            match key.usage {
                Usage::Ignored(reason) if warned.insert(key.name) => reader.warn(
                    &entry.key_span,
                    format!("\"{name}\" has no effect in Engawa: {reason}."),
                    "it may stay for Cloudflare",
                ),
                Usage::Refused(friendly) if active || key.scope != Scope::Own => reader
                    .error_with_hint(
                        &entry.key_span,
                        format!("Engawa does not support \"{name}\" ({friendly}) yet."),
                        "remove it here; supported are vars, kv_namespaces, d1_databases, r2_buckets, analytics_engine_datasets and services",
                    ),
                _ => {}
            }
        }
    }

    /// Whether a key was dealt with because a Pages file may not have it.
    fn check_pages_key(&self, reader: &mut Reader<'a>, key: &Key, entry: &Entry) -> bool {
        if self.kind != ProjectKind::Pages || key.pages {
            return false;
        }
        let name = key.name;
        match (name, self.strict_pages) {
            ("main", true) => reader.error_with_hint(
                &entry.key_span,
                "Configuration file cannot contain both \"main\" and \"pages_build_output_dir\" configuration keys.",
                "Please use \"main\" if you are deploying a Worker, or \"pages_build_output_dir\" if you are deploying a Pages project.",
            ),
            // Wrangler lets it pass, since its default is to be on, and drops it.
            ("observability", _) => {}
            (_, true) => reader.error_with_hint(
                &entry.key_span,
                format!("Configuration file for Pages projects does not support \"{name}\""),
                "remove it",
            ),
            (_, false) if matches!(key.usage, Usage::Refused(_)) => return false,
            (_, false) => reader.warn(
                &entry.key_span,
                format!("\"{name}\" has no effect in a Pages project."),
                "remove it, or set \"main\" if this is a Worker",
            ),
        }
        true
    }

    /// Names what the environment loses by having a table of its own.
    fn warn_of_lost(
        &self,
        reader: &mut Reader<'a>,
        environment: &str,
        entry: &Entry,
        top: &Bindings,
        own: &Bindings,
    ) {
        let kept: HashSet<&str> = own.names.iter().map(|named| named.name.as_str()).collect();
        let mut lost: Vec<String> = top
            .names
            .iter()
            .filter(|named| !kept.contains(named.name.as_str()))
            .map(|Named { name, friendly, .. }| format!("{name} ({friendly})"))
            .collect();
        lost.dedup();
        if lost.is_empty() {
            return;
        }
        reader.warn(
            &entry.key_span,
            format!(
                "The following bindings are at the top level, but not on \"env.{environment}\", and are lost there: {}.",
                lost.join(", ")
            ),
            format!(
                "bindings and vars are not inherited by environments: repeat each inside \"env.{environment}\", or remove that table"
            ),
        );
    }

    fn name(
        &self,
        reader: &mut Reader<'a>,
        settings: &Settings<'a>,
        top_name: Option<String>,
        has_table: bool,
    ) -> String {
        let missing = top_name
            .as_deref()
            .is_none_or(|name| name.trim().is_empty());
        if missing
            && self
                .top
                .get("name")
                .is_none_or(|entry| matches!(entry.node.value, Value::String(_)))
        {
            let hint = format!(
                "add {} at the top of the file",
                reader.setting_syntax("name", &format!("{:?}", self.context.folder_name))
            );
            let span = self
                .top
                .get("name")
                .map_or(0..0, |entry| entry.node.span.clone());
            if self.strict_pages {
                reader.error_with_hint(
                    &span,
                    "Missing top-level field \"name\" in configuration file.",
                    hint,
                );
            } else {
                reader.warn(
                    &span,
                    format!(
                        "The file has no \"name\"; the project is called {:?} after its folder.",
                        self.context.folder_name
                    ),
                    hint,
                );
            }
        }
        let top_name = top_name
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| self.context.folder_name.to_owned());
        match (self.kind, self.wanted) {
            // A Worker's environment is a Worker of its own.
            (ProjectKind::Workers, Some(wanted)) if !has_table || settings.name_is_inherited => {
                format!("{top_name}-{wanted}")
            }
            _ => settings
                .name
                .clone()
                .filter(|name| !name.is_empty())
                .unwrap_or(top_name),
        }
    }

    fn compatibility(
        &self,
        reader: &mut Reader<'a>,
        settings: &Settings<'a>,
    ) -> Option<Compatibility> {
        let options = self.context.options;
        let mut flags: Vec<String> = Vec::new();
        for (flag, span) in settings.compatibility_flags.iter().flatten() {
            if is_experimental_flag(flag) {
                reader.error_with_hint(
                    span,
                    format!(
                        "The compatibility flag {flag} is experimental and cannot be used in Workers deployed to Cloudflare, nor here."
                    ),
                    "remove it",
                );
            }
            if flags.contains(flag) {
                reader.error_with_hint(
                    span,
                    format!("Compatibility flag specified multiple times: {flag}"),
                    "remove one of them",
                );
            } else {
                flags.push(flag.clone());
            }
        }
        let newest = &options.newest_compatibility_date;
        let Some((date, span)) = &settings.compatibility_date else {
            if settings.compatibility_date_is_wrong {
                return None;
            }
            let hint = format!(
                "add {} to {}",
                reader.setting_syntax("compatibility_date", &format!("{:?}", options.today)),
                reader.source.file.display(),
            );
            reader.diagnostics.push(
                Diagnostic::warning(format!(
                    "No compatibility_date was specified. Using today's date: {}.",
                    options.today
                ))
                .with_hint(hint),
            );
            return Some(Compatibility {
                date: options.today.clone(),
                effective_date: std::cmp::min(&options.today, newest).clone(),
                flags,
            });
        };
        match effective_date(date, &options.today, newest) {
            Ok(effective_date) => {
                if effective_date != *date {
                    reader.warn(
                        span,
                        format!(
                            "The latest compatibility date supported by the installed workerd is {effective_date:?}, but you've requested {date:?}. Falling back to {effective_date:?}."
                        ),
                        "a newer Engawa knows newer dates; a deployment keeps the date as written",
                    );
                }
                Some(Compatibility {
                    date: date.clone(),
                    effective_date,
                    flags,
                })
            }
            Err(error) => {
                let today = &options.today;
                let hint = match &error {
                    DateError::Future(_) => {
                        format!("write {today:?}, which is today in UTC, or an earlier day")
                    }
                    DateError::Dashes(written) => {
                        format!("write {:?}", written.replace(['–', '—'], "-"))
                    }
                    DateError::Invalid(_) => format!("write a day as {today:?}"),
                };
                reader.error_with_hint(span, error.to_string(), hint);
                None
            }
        }
    }

    /// Names of `env` are unique, whatever they stand for.
    fn check_names(&self, reader: &mut Reader<'a>, own: &Own, assets: Option<&Named>) {
        let mut by_name: IndexMap<&str, Vec<&Named>> = IndexMap::new();
        for named in own
            .bindings
            .names
            .iter()
            .chain(assets)
            .chain(&own.required_names)
        {
            if named.name == "ASSETS" && self.kind == ProjectKind::Pages {
                reader.error(
                    &named.span,
                    format!(
                        "The name 'ASSETS' is reserved in Pages projects. Please use a different name for your {} binding.",
                        named.friendly
                    ),
                );
            }
            by_name.entry(&named.name).or_default().push(named);
        }
        for (name, all) in by_name {
            let mut counts: IndexMap<&str, usize> = IndexMap::new();
            for named in &all {
                *counts.entry(named.friendly).or_default() += 1;
            }
            let Some(second) = all.iter().max_by_key(|named| named.span.start) else {
                continue;
            };
            let hint = "Bindings must have unique names, so that they can all be referenced in the worker.";
            if counts.len() > 1 {
                let kinds: Vec<&str> = counts.keys().copied().collect();
                reader.error_with_hint(
                    &second.span,
                    format!("{name} assigned to {} bindings.", listed(&kinds)),
                    hint,
                );
            }
            for (friendly, count) in counts {
                if count > 1 {
                    reader.error_with_hint(
                        &second.span,
                        format!("{name} assigned to multiple {friendly} bindings."),
                        hint,
                    );
                }
            }
        }
    }

    fn output_dir(&self, reader: &mut Reader<'a>) -> Option<PathBuf> {
        let Some(entry) = self.top.get("pages_build_output_dir") else {
            if self.kind != ProjectKind::Pages {
                return None;
            }
            let found = conventional_output_dir(self.context.root);
            let (what, value) = match found {
                Some(dir) => (
                    format!("static files are served from \"{dir}\", which exists"),
                    dir,
                ),
                None => (
                    format!(
                        "none of {} exists, so there are no static files",
                        CONVENTIONAL_OUTPUT_DIRS.join(", ")
                    ),
                    "dist",
                ),
            };
            let hint = format!(
                "add {}",
                reader.setting_syntax("pages_build_output_dir", &format!("{value:?}"))
            );
            reader.diagnostics.push(
                Diagnostic::warning(format!(
                    "The file has no \"pages_build_output_dir\"; {what}."
                ))
                .with_hint(hint),
            );
            return found.map(|dir| join(self.context.root, dir));
        };
        let written = reader.string(entry, "pages_build_output_dir")?;
        let dir = join(self.context.root, &written);
        if dir.is_file() {
            reader.error_with_hint(
                &entry.node.span,
                format!("\"pages_build_output_dir\" is a file: {}", dir.display()),
                "name the folder that your build writes",
            );
        } else if !dir.exists() {
            reader.warn(
                &entry.node.span,
                format!(
                    "\"pages_build_output_dir\" does not exist: {}",
                    dir.display()
                ),
                "run your build, or name the folder that it writes",
            );
        }
        Some(dir)
    }
}

/// What an environment never inherits.
struct Own {
    bindings: Bindings,
    define: IndexMap<String, String>,
    required_secrets: Option<Vec<String>>,
    required_names: Vec<Named>,
}

impl Own {
    fn read<'a>(reader: &mut Reader<'a>, table: &'a Table, prefix: &str) -> Self {
        let bindings = reader.bindings(prefix, |key| table.get(key));
        let define = table
            .get("define")
            .and_then(|entry| reader.string_map(entry, &format!("{prefix}define")));
        let mut required_secrets = None;
        let mut required_names = Vec::new();
        if let Some(entry) = table.get("secrets") {
            let path = format!("{prefix}secrets");
            if let Some(secrets) = reader.table(entry, &path) {
                reader.unknown_fields(secrets, &path, &["required"]);
                let names: Vec<(String, &Range<usize>)> = secrets
                    .get("required")
                    .and_then(|entry| reader.strings(entry, &format!("{path}.required")))
                    .unwrap_or_default();
                required_names = names
                    .iter()
                    .map(|(name, span)| Named {
                        name: name.clone(),
                        friendly: "Secret",
                        span: (*span).clone(),
                    })
                    .collect();
                required_secrets = Some(names.into_iter().map(|(name, _)| name).collect());
            }
        }
        Self {
            bindings,
            define: define.unwrap_or_default(),
            required_secrets,
            required_names,
        }
    }
}

/// Where frameworks write their static files, tried in this order.
pub(super) const CONVENTIONAL_OUTPUT_DIRS: &[&str] =
    &["out", "dist", "build", "public", ".vercel/output/static"];

/// The first conventional folder below `root` that exists.
pub(super) fn conventional_output_dir(root: &Path) -> Option<&'static str> {
    CONVENTIONAL_OUTPUT_DIRS
        .iter()
        .copied()
        .find(|dir| root.join(dir).is_dir())
}

/// `root` and a path of the file, without `.` parts.
pub(super) fn join(root: &Path, written: &str) -> PathBuf {
    let mut path = root.to_path_buf();
    for component in Path::new(written).components() {
        if component != Component::CurDir {
            path.push(component);
        }
    }
    path
}

/// `A`, `A and B`, `A, B, and C`.
fn listed(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [one, two] => format!("{one} and {two}"),
        [rest @ .., last] => format!("{}, and {last}", rest.join(", ")),
    }
}
