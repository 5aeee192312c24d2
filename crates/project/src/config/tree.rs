//! TOML and JSONC, read into one tree whose nodes know where they stand in the file, so
//! that everything after this step is written once.

use std::ops::Range;
use std::path::PathBuf;

use indexmap::IndexMap;
use serde_json::Number;

use crate::{Diagnostic, Location};

/// A wrangler file's text and how the user named it.
pub(super) struct Source {
    pub(super) file: PathBuf,
    pub(super) text: String,
    pub(super) format: Format,
}

/// In which language hints are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Toml,
    Json,
}

/// A value and the bytes that it stands on. A TOML table stands on its header.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) span: Range<usize>,
    pub(super) value: Value,
}

#[derive(Debug)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Number(Number),
    String(String),
    /// What JSON cannot hold: a TOML date, or a number that is not finite.
    NotJson {
        what: &'static str,
        text: String,
    },
    Array(Vec<Node>),
    Table(Table),
}

/// Keys in the order of the file.
#[derive(Debug, Default)]
pub(super) struct Table(IndexMap<String, Entry>);

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key_span: Range<usize>,
    pub(super) node: Node,
}

impl Source {
    /// The place of a span.
    pub(super) fn locate(&self, span: &Range<usize>) -> Location {
        Location::in_text(&self.file, &self.text, span.start, span.end)
    }

    /// Parses the text. Findings of the parser are added to `diagnostics`; after an error
    /// there is no tree.
    pub(super) fn parse(&self, diagnostics: &mut Vec<Diagnostic>) -> Option<Table> {
        match self.format {
            Format::Toml => self.parse_toml(diagnostics),
            Format::Json => self.parse_json(diagnostics),
        }
    }

    fn parse_toml(&self, diagnostics: &mut Vec<Diagnostic>) -> Option<Table> {
        match toml_edit::Document::parse(self.text.as_str()) {
            Ok(document) => Some(toml_table(document.as_table())),
            Err(error) => {
                let span = error.span().unwrap_or(0..0);
                let message = error.message().trim().replace('\n', "; ");
                diagnostics.push(
                    Diagnostic::error(format!("This is not TOML: {message}"))
                        .at(self.locate(&span)),
                );
                None
            }
        }
    }

    fn parse_json(&self, diagnostics: &mut Vec<Diagnostic>) -> Option<Table> {
        // What wrangler takes: comments and trailing commas, nothing looser.
        let options = jsonc_parser::ParseOptions {
            allow_comments: true,
            allow_trailing_commas: true,
            allow_loose_object_property_names: false,
            allow_missing_commas: false,
            allow_single_quoted_strings: false,
            allow_hexadecimal_numbers: false,
            allow_unary_plus_numbers: false,
            allow_bare_decimal_point_numbers: false,
            allow_non_finite_numbers: false,
            allow_extended_string_escapes: false,
        };
        let collect = jsonc_parser::CollectOptions::default();
        let value = match jsonc_parser::parse_to_ast(&self.text, &collect, &options) {
            Ok(parsed) => parsed.value,
            Err(error) => {
                let range = error.range();
                diagnostics.push(
                    Diagnostic::error(format!("This is not JSON: {}", error.kind()))
                        .at(self.locate(&(range.start..range.end))),
                );
                return None;
            }
        };
        if let Some(jsonc_parser::ast::Value::Object(object)) = value {
            return Some(self.json_table(&object, diagnostics));
        }
        diagnostics.push(
            Diagnostic::error("The file should hold one JSON object.")
                .with_hint(r#"begin with {"name": "my-project", …}"#)
                .at(self.locate(&(0..1))),
        );
        None
    }

    fn json_table(
        &self,
        object: &jsonc_parser::ast::Object<'_>,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Table {
        let mut table = Table::default();
        for property in &object.properties {
            let name = property.name.as_str().to_owned();
            let key = jsonc_parser::common::Ranged::range(&property.name);
            let entry = Entry {
                key_span: key.start..key.end,
                node: self.json_node(&property.value, diagnostics),
            };
            if let Some(earlier) = table.0.shift_remove(&name) {
                let line = self.locate(&earlier.key_span).line;
                diagnostics.push(
                    Diagnostic::warning(format!(
                        "{name:?} is written twice; this one counts, the one on line {line} does not."
                    ))
                    .with_hint("remove one of them")
                    .at(self.locate(&entry.key_span)),
                );
            }
            table.0.insert(name, entry);
        }
        table
    }

    fn json_node(
        &self,
        value: &jsonc_parser::ast::Value<'_>,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Node {
        use jsonc_parser::ast::Value as Json;
        let range = jsonc_parser::common::Ranged::range(value);
        let value = match value {
            Json::NullKeyword(_) => Value::Null,
            Json::BooleanLit(literal) => Value::Bool(literal.value),
            Json::StringLit(literal) => Value::String(literal.value.to_string()),
            Json::NumberLit(literal) => literal
                .value
                .parse::<Number>()
                .map_or_else(|_| not_finite(literal.value), Value::Number),
            Json::Array(array) => Value::Array(
                array
                    .elements
                    .iter()
                    .map(|element| self.json_node(element, diagnostics))
                    .collect(),
            ),
            Json::Object(object) => Value::Table(self.json_table(object, diagnostics)),
        };
        Node {
            span: range.start..range.end,
            value,
        }
    }
}

impl Table {
    pub(super) fn get(&self, key: &str) -> Option<&Entry> {
        self.0.get(key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.0.iter().map(|(key, entry)| (key.as_str(), entry))
    }
}

impl Node {
    /// Nothing, or a list or table that holds only that: as good as not written.
    pub(super) fn is_empty(&self) -> bool {
        match &self.value {
            Value::Null => true,
            Value::Array(items) => items.iter().all(Self::is_empty),
            Value::Table(table) => table.iter().all(|(_, entry)| entry.node.is_empty()),
            _ => false,
        }
    }

    /// The value as JSON; what JSON cannot hold becomes its text.
    pub(super) fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Number(number) => number.clone().into(),
            Value::String(text) | Value::NotJson { text, .. } => text.as_str().into(),
            Value::Array(items) => items.iter().map(Self::to_json).collect(),
            Value::Table(table) => table
                .iter()
                .map(|(key, entry)| (key.to_owned(), entry.node.to_json()))
                .collect::<serde_json::Map<_, _>>()
                .into(),
        }
    }

    /// The value as it is quoted in a message: JSON, cut after 80 characters.
    pub(super) fn quoted(&self) -> String {
        let text = self.to_json().to_string();
        match text.char_indices().nth(80) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text,
        }
    }

    /// The first value below this one that JSON cannot hold.
    pub(super) fn not_json(&self) -> Option<(&Node, &'static str)> {
        match &self.value {
            Value::NotJson { what, .. } => Some((self, what)),
            Value::Array(items) => items.iter().find_map(Self::not_json),
            Value::Table(table) => table.iter().find_map(|(_, entry)| entry.node.not_json()),
            _ => None,
        }
    }
}

fn not_finite(text: &str) -> Value {
    Value::NotJson {
        what: "a number that JSON cannot hold",
        text: text.to_owned(),
    }
}

fn toml_table(table: &dyn toml_edit::TableLike) -> Table {
    let mut result = IndexMap::new();
    for (name, item) in table.iter() {
        let key_span = table
            .get_key_value(name)
            .and_then(|(key, _)| key.span())
            .unwrap_or(0..0);
        let span = item.span().unwrap_or_else(|| key_span.clone());
        let value = match item {
            toml_edit::Item::None => continue,
            toml_edit::Item::Value(value) => toml_value(value),
            toml_edit::Item::Table(table) => Value::Table(toml_table(table)),
            toml_edit::Item::ArrayOfTables(tables) => Value::Array(
                tables
                    .iter()
                    .map(|table| Node {
                        span: table.span().unwrap_or_else(|| key_span.clone()),
                        value: Value::Table(toml_table(table)),
                    })
                    .collect(),
            ),
        };
        let node = Node { span, value };
        result.insert(name.to_owned(), Entry { key_span, node });
    }
    Table(result)
}

fn toml_value(value: &toml_edit::Value) -> Value {
    match value {
        toml_edit::Value::String(text) => Value::String(text.value().clone()),
        toml_edit::Value::Integer(number) => Value::Number((*number.value()).into()),
        toml_edit::Value::Float(number) => Number::from_f64(*number.value())
            .map_or_else(|| not_finite(&number.value().to_string()), Value::Number),
        toml_edit::Value::Boolean(value) => Value::Bool(*value.value()),
        toml_edit::Value::Datetime(date) => Value::NotJson {
            what: "a TOML date",
            text: date.value().to_string(),
        },
        toml_edit::Value::Array(items) => Value::Array(
            items
                .iter()
                .map(|item| Node {
                    span: item.span().unwrap_or(0..0),
                    value: toml_value(item),
                })
                .collect(),
        ),
        toml_edit::Value::InlineTable(table) => Value::Table(toml_table(table)),
    }
}
