//! Takes typed values out of the tree and notes what is wrong with them. The texts are
//! wrangler's own (workers-sdk `packages/workers-utils/src/config/validation*.ts`).

use std::ops::Range;

use indexmap::IndexMap;

use super::keys::nearest;
use super::tree::{Entry, Format, Node, Source, Table, Value};
use crate::Diagnostic;

/// Reads one file. Going on after an error gives the user all of them at once.
pub(super) struct Reader<'a> {
    pub(super) source: &'a Source,
    pub(super) diagnostics: Vec<Diagnostic>,
}

/// One entry of a list of bindings: `path` is `kv_namespaces[0]`.
pub(super) struct Item<'a> {
    pub(super) path: String,
    pub(super) table: &'a Table,
    pub(super) span: &'a Range<usize>,
}

impl<'a> Reader<'a> {
    pub(super) fn error(&mut self, span: &Range<usize>, message: impl Into<String>) {
        let location = self.source.locate(span);
        self.diagnostics
            .push(Diagnostic::error(message).at(location));
    }

    pub(super) fn error_with_hint(
        &mut self,
        span: &Range<usize>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let location = self.source.locate(span);
        self.diagnostics
            .push(Diagnostic::error(message).with_hint(hint).at(location));
    }

    pub(super) fn warn(
        &mut self,
        span: &Range<usize>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let location = self.source.locate(span);
        self.diagnostics
            .push(Diagnostic::warning(message).with_hint(hint).at(location));
    }

    /// How a list entry at `path` begins in this file's language.
    pub(super) fn list_syntax(&self, path: &str) -> String {
        match self.source.format {
            Format::Toml => format!("[[{path}]]"),
            Format::Json => {
                let key = path.rsplit('.').next().unwrap_or(path);
                format!("\"{key}\": [{{ … }}]")
            }
        }
    }

    /// How a plain setting is written in this file's language; `value` is JSON.
    pub(super) fn setting_syntax(&self, key: &str, value: &str) -> String {
        match self.source.format {
            Format::Toml => format!("{key} = {value}"),
            Format::Json => format!("{key:?}: {value}"),
        }
    }

    fn wrong_type(&mut self, entry: &Entry, path: &str, wanted: &str) {
        let node = &entry.node;
        let message = format!(
            "Expected \"{path}\" to be of type {wanted} but got {}.",
            node.quoted()
        );
        match &node.value {
            Value::NotJson { text, .. } if wanted == "string" => {
                let key = path.rsplit('.').next().unwrap_or(path).to_owned();
                let hint = format!(
                    "put it in quotes: {}",
                    self.setting_syntax(&key, &format!("{text:?}"))
                );
                self.error_with_hint(&node.span, message, hint);
            }
            _ => self.error(&node.span, message),
        }
    }

    pub(super) fn string(&mut self, entry: &Entry, path: &str) -> Option<String> {
        if let Value::String(text) = &entry.node.value {
            return Some(text.clone());
        }
        self.wrong_type(entry, path, "string");
        None
    }

    pub(super) fn boolean(&mut self, entry: &Entry, path: &str) -> Option<bool> {
        if let Value::Bool(value) = entry.node.value {
            return Some(value);
        }
        self.wrong_type(entry, path, "boolean");
        None
    }

    pub(super) fn number(&mut self, entry: &Entry, path: &str) -> Option<f64> {
        if let Value::Number(number) = &entry.node.value {
            return number.as_f64();
        }
        self.wrong_type(entry, path, "number");
        None
    }

    pub(super) fn table(&mut self, entry: &'a Entry, path: &str) -> Option<&'a Table> {
        if let Value::Table(table) = &entry.node.value {
            return Some(table);
        }
        self.error(
            &entry.node.span,
            format!(
                "The field \"{path}\" should be an object but got {}.",
                entry.node.quoted()
            ),
        );
        None
    }

    /// One of `choices`; `None` after an error.
    pub(super) fn one_of(
        &mut self,
        entry: &Entry,
        path: &str,
        choices: &[&'static str],
    ) -> Option<&'static str> {
        let text = self.string(entry, path)?;
        let found = choices.iter().find(|choice| **choice == text);
        if found.is_none() {
            let listed: Vec<String> = choices.iter().map(|choice| format!("{choice:?}")).collect();
            let message = format!(
                "Expected \"{path}\" field to be one of [{}] but got {text:?}.",
                listed.join(",")
            );
            match nearest(&text, choices.iter().copied()) {
                Some(near) => {
                    self.error_with_hint(&entry.node.span, message, format!("write {near:?}"));
                }
                None => self.error(&entry.node.span, message),
            }
        }
        found.copied()
    }

    /// Strings with their places.
    pub(super) fn strings(
        &mut self,
        entry: &'a Entry,
        path: &str,
    ) -> Option<Vec<(String, &'a Range<usize>)>> {
        let Value::Array(items) = &entry.node.value else {
            self.wrong_type(entry, path, "string array");
            return None;
        };
        let mut strings = Vec::with_capacity(items.len());
        let mut all = true;
        for item in items {
            if let Value::String(text) = &item.value {
                strings.push((text.clone(), &item.span));
            } else {
                self.error(
                    &item.span,
                    format!(
                        "Expected \"{path}\" to be of type string array but got {} in it.",
                        item.quoted()
                    ),
                );
                all = false;
            }
        }
        all.then_some(strings)
    }

    /// A table of strings.
    pub(super) fn string_map(
        &mut self,
        entry: &'a Entry,
        path: &str,
    ) -> Option<IndexMap<String, String>> {
        let mut map = IndexMap::new();
        for (key, value) in self.table(entry, path)?.iter() {
            if let Some(text) = self.string(value, &format!("{path}.{key}")) {
                map.insert(key.to_owned(), text);
            }
        }
        Some(map)
    }

    /// The entries of a list of tables. A single table where a list is wanted counts as a
    /// list of one, with a warning: wrangler refuses it.
    pub(super) fn items(&mut self, entry: &'a Entry, path: &str) -> Vec<Item<'a>> {
        let nodes: &[Node] = match &entry.node.value {
            Value::Array(nodes) => nodes,
            Value::Table(table) => {
                let hint = format!("write {}", self.list_syntax(path));
                self.warn(
                    &entry.node.span,
                    format!(
                        "The field \"{path}\" is a single table where wrangler wants a list; it is read as a list of one."
                    ),
                    hint,
                );
                return vec![Item {
                    path: format!("{path}[0]"),
                    table,
                    span: &entry.node.span,
                }];
            }
            _ => {
                let hint = format!("write {}", self.list_syntax(path));
                self.error_with_hint(
                    &entry.node.span,
                    format!(
                        "The field \"{path}\" should be an array but got {}.",
                        entry.node.quoted()
                    ),
                    hint,
                );
                return Vec::new();
            }
        };
        let mut items = Vec::with_capacity(nodes.len());
        for (at, node) in nodes.iter().enumerate() {
            if let Value::Table(table) = &node.value {
                items.push(Item {
                    path: format!("{path}[{at}]"),
                    table,
                    span: &node.span,
                });
            } else {
                let hint = format!("write {}", self.list_syntax(path));
                self.error_with_hint(
                    &node.span,
                    format!(
                        "\"{path}\" bindings should be objects, but got {}",
                        node.quoted()
                    ),
                    hint,
                );
            }
        }
        items
    }

    /// A string that an entry must have.
    pub(super) fn required(&mut self, item: &Item<'a>, key: &str) -> Option<String> {
        let found = item.table.get(key);
        match found.map(|entry| &entry.node.value) {
            Some(Value::String(text)) if !text.is_empty() => return Some(text.clone()),
            _ => {}
        }
        let hint = format!("add {}", self.setting_syntax(key, "\"…\""));
        self.error_with_hint(
            found.map_or(item.span, |entry| &entry.node.span),
            format!(
                "\"{}\" bindings should have a string \"{key}\" field but got {}.",
                item.path,
                found.map_or_else(|| "none".to_owned(), |entry| entry.node.quoted()),
            ),
            hint,
        );
        None
    }

    /// A string that an entry may have. An empty one counts as none, with a warning, or is
    /// an error where it is one for wrangler.
    pub(super) fn optional(&mut self, item: &Item<'a>, key: &str) -> Option<String> {
        let entry = item.table.get(key)?;
        match &entry.node.value {
            Value::String(text) if !text.is_empty() => return Some(text.clone()),
            Value::String(_) if !matches!(key, "id" | "bucket_name" | "dataset") => {
                self.warn(
                    &entry.node.span,
                    format!(
                        "\"{}.{key}\" is empty; it counts as not written.",
                        item.path
                    ),
                    "give it a text, or remove the line",
                );
                return None;
            }
            _ => {}
        }
        self.error_with_hint(
            &entry.node.span,
            format!(
                "\"{}\" bindings should, optionally, have a string \"{key}\" field but got {}.",
                item.path,
                entry.node.quoted()
            ),
            "give it a text, or remove the line",
        );
        None
    }

    /// Warns of fields that mean nothing.
    pub(super) fn unknown_fields(&mut self, table: &'a Table, path: &str, known: &[&str]) {
        for (key, entry) in table.iter() {
            if known.contains(&key) {
                continue;
            }
            self.warn(
                &entry.key_span,
                format!("Unexpected fields found in {path} field: \"{key}\""),
                suggestion(key, known.iter().copied()),
            );
        }
    }
}

/// "did you mean", or what else to do about an unknown key.
pub(super) fn suggestion<'a>(key: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    match nearest(key, known) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => "it is ignored; remove it".to_owned(),
    }
}
