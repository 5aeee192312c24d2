//! What follows from all tables together: the project's name, its compatibility, that
//! names are unique, and where the static files lie.

use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use engawa_model::ProjectKind;
use indexmap::IndexMap;

use super::bindings::Named;
use super::reader::Reader;
use super::settings::Settings;
use super::tree::Value;
use super::validate::{File, Own};
use crate::compat::{Compatibility, DateError, effective_date, is_experimental_flag};

/// The place of what is absent.
pub(super) const FIRST_LINE: Range<usize> = 0..0;

impl<'a> File<'a> {
    pub(super) fn name(
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
                .map_or(FIRST_LINE, |entry| entry.node.span.clone());
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

    pub(super) fn compatibility(
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
                "add {}",
                reader.setting_syntax("compatibility_date", &format!("{:?}", options.today))
            );
            reader.warn(
                &FIRST_LINE,
                format!(
                    "No compatibility_date was specified. Using today's date: {}.",
                    options.today
                ),
                hint,
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
    pub(super) fn check_names(&self, reader: &mut Reader<'a>, own: &Own, assets: Option<&Named>) {
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

    pub(super) fn output_dir(&self, reader: &mut Reader<'a>) -> Option<PathBuf> {
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
            reader.warn(
                &FIRST_LINE,
                format!("The file has no \"pages_build_output_dir\"; {what}."),
                hint,
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
