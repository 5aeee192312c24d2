//! What an environment takes from the top level unless it says otherwise.

use std::ops::Range;
use std::path::{Path, PathBuf};

use engawa_model::{
    AssetsConfig, BasePath, HtmlHandling, NotFoundHandling, RunWorkerFirst, StaticRouting,
};

use super::bindings::Named;
use super::outcome::join;
use super::reader::Reader;
use super::tree::{Entry, Table, Value};
use super::{Assets, Limits, Placement, Rule, RuleKind};

/// The settings of one table.
#[derive(Debug, Default)]
pub(super) struct Settings<'a> {
    pub(super) name: Option<String>,
    /// The environment's table has no name of its own.
    pub(super) name_is_inherited: bool,
    pub(super) compatibility_date: Option<(String, &'a Range<usize>)>,
    /// There is a date, but not a text: an error that was told.
    pub(super) compatibility_date_is_wrong: bool,
    pub(super) compatibility_flags: Option<Vec<(String, &'a Range<usize>)>>,
    pub(super) limits: Option<Limits>,
    pub(super) placement: Option<Placement>,
    pub(super) main: Option<PathBuf>,
    pub(super) assets: Option<Assets>,
    pub(super) assets_name: Option<Named>,
    /// Where the table stands.
    pub(super) assets_span: Option<&'a Range<usize>>,
    pub(super) no_bundle: Option<bool>,
    pub(super) minify: Option<bool>,
    pub(super) rules: Option<Vec<Rule>>,
    pub(super) jsx_factory: Option<String>,
    pub(super) jsx_fragment: Option<String>,
    pub(super) tsconfig: Option<PathBuf>,
}

impl<'a> Settings<'a> {
    /// Reads one table; `prefix` is empty or `env.preview.`.
    pub(super) fn read(
        reader: &mut Reader<'a>,
        table: &'a Table,
        prefix: &str,
        root: &Path,
    ) -> Self {
        let path = |key: &str| format!("{prefix}{key}");
        let text = |reader: &mut Reader<'a>, key: &str| {
            table
                .get(key)
                .and_then(|entry| reader.string(entry, &path(key)))
        };
        let flag = |reader: &mut Reader<'a>, key: &str| {
            table
                .get(key)
                .and_then(|entry| reader.boolean(entry, &path(key)))
        };
        let mut settings = Self {
            name: table
                .get("name")
                .and_then(|entry| reader.name(entry, &path("name"))),
            main: text(reader, "main").map(|main| join(root, &main)),
            no_bundle: flag(reader, "no_bundle"),
            minify: flag(reader, "minify"),
            jsx_factory: text(reader, "jsx_factory"),
            jsx_fragment: text(reader, "jsx_fragment"),
            tsconfig: text(reader, "tsconfig").map(|tsconfig| join(root, &tsconfig)),
            ..Self::default()
        };
        if let Some(entry) = table.get("compatibility_date") {
            settings.compatibility_date = reader
                .string(entry, &path("compatibility_date"))
                .map(|date| (date, &entry.node.span));
            settings.compatibility_date_is_wrong = settings.compatibility_date.is_none();
        }
        if let Some(entry) = table.get("compatibility_flags") {
            settings.compatibility_flags = reader.strings(entry, &path("compatibility_flags"));
        }
        if let Some(entry) = table.get("limits") {
            settings.limits = reader.limits(entry, &path("limits"));
        }
        if let Some(entry) = table.get("placement") {
            settings.placement = reader.placement(entry, &path("placement"));
        }
        if let Some(entry) = table.get("assets") {
            settings.assets = reader.assets(entry, &path("assets"), root);
            settings.assets_name = assets_name(entry);
            settings.assets_span = Some(&entry.key_span);
        }
        if let Some(entry) = table.get("rules") {
            settings.rules = Some(reader.rules(entry, &path("rules")));
        }
        settings
    }

    /// An environment's settings over those of the top level.
    pub(super) fn or(self, top: Self) -> Self {
        let has_assets = self.assets.is_some();
        let has_date = self.compatibility_date.is_some() || self.compatibility_date_is_wrong;
        Self {
            name_is_inherited: self.name.is_none(),
            name: self.name.or(top.name),
            compatibility_date_is_wrong: self.compatibility_date_is_wrong
                || (!has_date && top.compatibility_date_is_wrong),
            compatibility_date: if has_date {
                self.compatibility_date
            } else {
                top.compatibility_date
            },
            compatibility_flags: self.compatibility_flags.or(top.compatibility_flags),
            limits: self.limits.or(top.limits),
            placement: self.placement.or(top.placement),
            main: self.main.or(top.main),
            assets_name: if has_assets {
                self.assets_name
            } else {
                top.assets_name
            },
            assets_span: if has_assets {
                self.assets_span
            } else {
                top.assets_span
            },
            assets: self.assets.or(top.assets),
            no_bundle: self.no_bundle.or(top.no_bundle),
            minify: self.minify.or(top.minify),
            rules: self.rules.or(top.rules),
            jsx_factory: self.jsx_factory.or(top.jsx_factory),
            jsx_fragment: self.jsx_fragment.or(top.jsx_fragment),
            tsconfig: self.tsconfig.or(top.tsconfig),
        }
    }
}

impl<'a> Reader<'a> {
    /// workers-sdk `isValidName`.
    fn name(&mut self, entry: &Entry, path: &str) -> Option<String> {
        if let Value::String(name) = &entry.node.value
            && is_project_name(name)
        {
            return Some(name.clone());
        }
        let message = format!(
            "Expected \"{path}\" to be of type string, alphanumeric and lowercase with dashes only but got {}.",
            entry.node.quoted()
        );
        let span = &entry.node.span;
        let Value::String(name) = &entry.node.value else {
            self.error(span, message);
            return None;
        };
        let hint = format!("write {:?}", project_name_from(name));
        self.error_with_hint(span, message, hint);
        // The name is known, only wrong: no second complaint that there is none.
        Some(name.clone())
    }

    fn limits(&mut self, entry: &'a Entry, path: &str) -> Option<Limits> {
        let table = self.table(entry, path)?;
        let mut limit = |key: &str| {
            table
                .get(key)
                .and_then(|entry| self.number(entry, &format!("{path}.{key}")))
        };
        Some(Limits {
            cpu_ms: limit("cpu_ms"),
            subrequests: limit("subrequests"),
        })
    }

    fn placement(&mut self, entry: &'a Entry, path: &str) -> Option<Placement> {
        let table = self.table(entry, path)?;
        let targeted = ["region", "host", "hostname"]
            .iter()
            .any(|key| table.get(key).is_some());
        let choices: &[&'static str] = match (table.get("hint").is_some(), targeted) {
            (true, true) => {
                self.error(
                    &entry.node.span,
                    format!(
                        "\"{path}\" cannot have both \"hint\" (smart format) and \"region\"/\"host\"/\"hostname\" (targeted format) fields"
                    ),
                );
                return None;
            }
            (true, false) => &["off", "smart"],
            (false, true) => &["off", "targeted"],
            (false, false) => &["off", "smart", "targeted"],
        };
        let mode = match table.get("mode") {
            Some(mode) => self.one_of(mode, &format!("{path}.mode"), choices),
            None if targeted => None,
            None => {
                self.error(
                    &entry.node.span,
                    format!("\"{path}.mode\" is a required field."),
                );
                None
            }
        };
        Some(Placement {
            mode: mode.map(str::to_owned),
        })
    }

    fn assets(&mut self, entry: &'a Entry, path: &str, root: &Path) -> Option<Assets> {
        let table = self.table(entry, path)?;
        let known = [
            "directory",
            "binding",
            "html_handling",
            "not_found_handling",
            "base_path",
            "run_worker_first",
        ];
        self.unknown_fields(table, path, &known);
        let directory = table
            .get("directory")
            .and_then(|entry| self.string(entry, &format!("{path}.directory")));
        let binding = table
            .get("binding")
            .and_then(|entry| self.string(entry, &format!("{path}.binding")));
        let html_handling = table.get("html_handling").and_then(|entry| {
            let choices = [
                "auto-trailing-slash",
                "force-trailing-slash",
                "drop-trailing-slash",
                "none",
            ];
            self.one_of(entry, &format!("{path}.html_handling"), &choices)
        });
        let not_found_handling = table.get("not_found_handling").and_then(|entry| {
            let choices = ["single-page-application", "404-page", "none"];
            self.one_of(entry, &format!("{path}.not_found_handling"), &choices)
        });
        let run_worker_first = table.get("run_worker_first").and_then(|entry| {
            let path = format!("{path}.run_worker_first");
            if let Value::Bool(all) = entry.node.value {
                return Some(RunWorkerFirst::All(all));
            }
            if !matches!(entry.node.value, Value::Array(_)) {
                self.error(
                    &entry.node.span,
                    format!(
                        "The field \"{path}\" should be an array of strings or a boolean, but got {}.",
                        entry.node.quoted()
                    ),
                );
                return None;
            }
            let rules = self.strings(entry, &path)?;
            let rules: Vec<String> = rules.into_iter().map(|(rule, _)| rule).collect();
            match StaticRouting::parse(&rules) {
                Ok(routing) => Some(RunWorkerFirst::Rules(routing)),
                Err(error) => {
                    self.error(&entry.node.span, error.to_string());
                    None
                }
            }
        });
        let base_path = table.get("base_path").and_then(|entry| {
            let path = format!("{path}.base_path");
            let text = self.string(entry, &path)?;
            BasePath::parse(&text)
                .map_err(|error| {
                    self.error(&entry.node.span, format!("Invalid \"{path}\": {error}"));
                })
                .ok()
        });
        let Some(directory) = directory.filter(|directory| !directory.is_empty()) else {
            self.error_with_hint(
                &entry.key_span,
                "The `assets` property in your configuration is missing the required `directory` property.",
                "name the folder of the static files: directory = \"./public\"",
            );
            return None;
        };
        Some(Assets {
            directory: join(root, &directory),
            binding,
            config: AssetsConfig {
                html_handling: match html_handling {
                    Some("force-trailing-slash") => HtmlHandling::ForceTrailingSlash,
                    Some("drop-trailing-slash") => HtmlHandling::DropTrailingSlash,
                    Some("none") => HtmlHandling::None,
                    _ => HtmlHandling::AutoTrailingSlash,
                },
                not_found_handling: match not_found_handling {
                    Some("single-page-application") => NotFoundHandling::SinglePageApplication,
                    Some("404-page") => NotFoundHandling::NotFoundPage,
                    _ => NotFoundHandling::None,
                },
                run_worker_first: run_worker_first.unwrap_or_default(),
                base_path: base_path.unwrap_or_default(),
                navigation_prefers_assets: false,
            },
        })
    }

    fn rules(&mut self, entry: &'a Entry, path: &str) -> Vec<Rule> {
        let mut rules = Vec::new();
        for item in self.items(entry, path) {
            let known = ["type", "globs", "fallthrough"];
            self.unknown_fields(item.table, &item.path, &known);
            let choices = [
                "ESModule",
                "CommonJS",
                "CompiledWasm",
                "Text",
                "Data",
                "PythonModule",
                "PythonRequirement",
            ];
            let kind = match item.table.get("type") {
                Some(entry) => self.one_of(entry, &format!("{}.type", item.path), &choices),
                None => self.required(&item, "type").and(None),
            };
            let globs = item
                .table
                .get("globs")
                .and_then(|entry| self.strings(entry, &format!("{}.globs", item.path)));
            if item.table.get("globs").is_none() {
                let message = format!("\"{}.globs\" is a required field.", item.path);
                self.error(item.span, message);
            }
            let fallthrough = item
                .table
                .get("fallthrough")
                .and_then(|entry| self.boolean(entry, &format!("{}.fallthrough", item.path)));
            let kind = match kind {
                Some("ESModule") => RuleKind::EsModule,
                Some("CommonJS") => RuleKind::CommonJs,
                Some("CompiledWasm") => RuleKind::CompiledWasm,
                Some("Text") => RuleKind::Text,
                Some("Data") => RuleKind::Data,
                Some(python) => {
                    self.error(
                        item.span,
                        format!("Engawa does not support {python} modules."),
                    );
                    continue;
                }
                None => continue,
            };
            rules.push(Rule {
                kind,
                globs: globs
                    .unwrap_or_default()
                    .into_iter()
                    .map(|(glob, _)| glob)
                    .collect(),
                fallthrough: fallthrough.unwrap_or(false),
            });
        }
        rules
    }
}

/// `assets.binding`, if it is a text.
fn assets_name(entry: &Entry) -> Option<Named> {
    let Value::Table(table) = &entry.node.value else {
        return None;
    };
    let binding = table.get("binding")?;
    match &binding.node.value {
        Value::String(name) => Some(Named {
            name: name.clone(),
            friendly: "Assets",
            span: binding.node.span.clone(),
        }),
        _ => None,
    }
}

fn is_project_name(name: &str) -> bool {
    !name.starts_with('-')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte))
}

/// A valid project name as near as possible to any text, such as a folder's name.
pub(super) fn project_name_from(text: &str) -> String {
    let mut name = String::with_capacity(text.len());
    for c in text.chars().flat_map(char::to_lowercase) {
        if c.is_ascii_lowercase() || c.is_ascii_digit() {
            name.push(c);
        } else if !name.is_empty() && !name.ends_with('-') {
            name.push('-');
        }
    }
    let name = name.trim_end_matches('-');
    if name.is_empty() {
        "project".to_owned()
    } else {
        name.to_owned()
    }
}
