//! From the tree to a [`Config`]: which rules the file follows, what each of its tables
//! says, and what an environment takes from the top level.

use std::collections::HashSet;
use std::ops::Range;
use std::path::Path;

use engawa_model::{ProjectKind, ProjectName, RunWorkerFirst};
use indexmap::IndexMap;

use super::bindings::{Bindings, Named};
use super::keys::{self, Key, Scope, Usage};
use super::outcome::FIRST_LINE;
use super::reader::{Reader, suggestion};
use super::settings::Settings;
use super::tree::{Entry, Source, Table, Value};
use super::{Bundling, Config, LoadOptions};
use crate::Diagnostic;
use crate::compat::Compatibility;

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
pub(super) struct File<'a> {
    pub(super) context: &'a Context<'a>,
    pub(super) top: &'a Table,
    pub(super) kind: ProjectKind,
    /// `pages_build_output_dir` is there: wrangler's rules for Pages files hold.
    pub(super) strict_pages: bool,
    /// Every table below `env` by its name.
    environments: Vec<(&'a str, &'a Entry)>,
    /// The name of the environment asked for.
    pub(super) wanted: Option<&'static str>,
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
                Self::warn_of_lost(reader, name, entry, &own.bindings, &env_own.bindings);
                settings = env_settings.or(settings);
                own = env_own;
            }
        }

        let name = self.name(reader, &settings, top_name, active.is_some());
        let compatibility = self.compatibility(reader, &settings);
        self.check_names(reader, &own, settings.assets_name.as_ref());
        Self::check_assets(reader, &settings);
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
            assets: settings.assets.map(|mut assets| {
                assets.config.navigation_prefers_assets = compatibility
                    .as_ref()
                    .is_some_and(Compatibility::navigation_prefers_assets);
                assets
            }),
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

    /// What a Worker without code can not have, and what is probably not meant
    /// (wrangler `deploy-helpers/assets.ts`).
    fn check_assets(reader: &mut Reader<'a>, settings: &Settings<'a>) {
        let (Some(assets), Some(span)) = (&settings.assets, settings.assets_span) else {
            return;
        };
        let first = &assets.config.run_worker_first;
        if settings.main.is_some() {
            if *first == RunWorkerFirst::All(true) && assets.binding.is_none() {
                reader.warn(
                    span,
                    "run_worker_first=true set without an assets binding",
                    "every request goes to the worker, which reaches the files only through a binding: set `binding` of `assets`",
                );
            }
            return;
        }
        if assets.binding.is_some() {
            reader.error_with_hint(
                span,
                "Cannot use assets with a binding in an assets-only Worker.",
                "Please remove the asset binding from your configuration file, or provide a Worker script in your configuration file (`main`).",
            );
        }
        if *first != RunWorkerFirst::All(false) {
            reader.error_with_hint(
                span,
                "Cannot set run_worker_first without a Worker script.",
                "Please remove run_worker_first from your configuration file, or provide a Worker script in your configuration file (`main`).",
            );
        }
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
                None => reader.warn(
                    &FIRST_LINE,
                    message,
                    format!("add [env.{wanted}], or leave --env out"),
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
}

/// What an environment never inherits.
pub(super) struct Own {
    pub(super) bindings: Bindings,
    define: IndexMap<String, String>,
    required_secrets: Option<Vec<String>>,
    pub(super) required_names: Vec<Named>,
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
