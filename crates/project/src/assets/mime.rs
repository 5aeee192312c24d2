//! Content types as npm's `mime` gives them: what is fixed at upload. Pages has its version
//! 3 (pages.md 1.8), Workers version 4.

use std::collections::HashMap;
use std::sync::OnceLock;

use engawa_model::ProjectKind;

const TABLE: &str = include_str!("mime.tsv");
/// The differences of version 4.
const TABLE_4: &str = include_str!("mime4.tsv");

/// The value of `Content-Type` for a file, by its path below the output folder. Pages
/// gives files of an unknown extension one too; Workers leaves it out.
pub(super) fn content_type(path: &str, kind: ProjectKind) -> Option<String> {
    let found = match kind {
        ProjectKind::Pages => media_type(path, table()).or(Some("application/octet-stream")),
        // wrangler asks by the absolute path there.
        ProjectKind::Workers => media_type(&format!("/{path}"), table_4()),
    };
    found.map(|found| {
        if found.starts_with("text/") {
            format!("{found}; charset=utf-8")
        } else {
            found.to_owned()
        }
    })
}

/// The text after the last dot counts; without a dot that has something before it, only a
/// file of the top level gets a type, by its whole name. That is the package's own rule.
fn media_type(path: &str, table: &Table) -> Option<&'static str> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let extension = name.rsplit('.').next().unwrap_or(name);
    let has_dot = extension.len() + 1 < name.len();
    let has_folder = name.len() < path.len();
    if !has_dot && has_folder {
        return None;
    }
    table.get(extension.to_lowercase().as_str()).copied()
}

type Table = HashMap<&'static str, &'static str>;

fn table() -> &'static Table {
    static TYPES: OnceLock<Table> = OnceLock::new();
    TYPES.get_or_init(|| lines(TABLE).collect())
}

fn table_4() -> &'static Table {
    static TYPES: OnceLock<Table> = OnceLock::new();
    TYPES.get_or_init(|| {
        let mut types = table().clone();
        types.extend(lines(TABLE_4));
        types.retain(|_, media_type| !media_type.is_empty());
        types
    })
}

fn lines(text: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('\t'))
}
