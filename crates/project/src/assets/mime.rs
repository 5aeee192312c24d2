//! Content types as npm's `mime` 3 gives them: what Pages fixes at upload (pages.md 1.8).

use std::collections::HashMap;
use std::sync::OnceLock;

const TABLE: &str = include_str!("mime.tsv");

/// The value of `Content-Type` for a file, by its path below the output folder.
pub(super) fn content_type(path: &str) -> String {
    match media_type(path) {
        Some(text) if text.starts_with("text/") => format!("{text}; charset=utf-8"),
        Some(other) => other.to_owned(),
        None => "application/octet-stream".to_owned(),
    }
}

/// The text after the last dot counts; without a dot that has something before it, only a
/// file of the top level gets a type, by its whole name. That is the package's own rule.
fn media_type(path: &str) -> Option<&'static str> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let extension = name.rsplit('.').next().unwrap_or(name);
    let has_dot = extension.len() + 1 < name.len();
    let has_folder = name.len() < path.len();
    if !has_dot && has_folder {
        return None;
    }
    table().get(extension.to_lowercase().as_str()).copied()
}

fn table() -> &'static HashMap<&'static str, &'static str> {
    static TYPES: OnceLock<HashMap<&'static str, &'static str>> = OnceLock::new();
    TYPES.get_or_init(|| {
        TABLE
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_once('\t'))
            .collect()
    })
}
