//! A database as SQL text (storage.md 2.11, after SQLite's own `.dump`).
//!
//! Tables in order of creation with their rows, then indexes, triggers and views. Integers
//! keep all their digits. As on D1 a database with a virtual table is refused unless the
//! export names other tables: its shadow tables could not be restored.

use std::fmt::Write as _;

use rusqlite::ffi as sqlite;

use super::D1ExportOptions;
use super::connection::Connection;
use super::errors::SqlError;
use super::ffi::Column;

/// The text, at most `limit` bytes. The connection has a read transaction open.
pub(super) fn dump(
    connection: &Connection,
    options: &D1ExportOptions,
    limit: usize,
) -> Result<String, SqlError> {
    let _trusted = connection.trust();
    let wanted =
        |name: &str| options.tables.is_empty() || options.tables.iter().any(|table| table == name);
    let shadows: Vec<String> = texts(
        connection,
        "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'shadow'",
    )?
    .into_iter()
    .map(|[name, _]| name)
    .collect();
    let mut out = String::from("PRAGMA defer_foreign_keys=TRUE;\n");
    let tables = texts(
        connection,
        "SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND sql NOT NULL \
         ORDER BY tbl_name = 'sqlite_sequence', rowid",
    )?;
    for [name, sql] in &tables {
        if !wanted(name) {
            continue;
        }
        if name == "sqlite_sequence" {
            if !options.no_schema {
                out.push_str("DELETE FROM sqlite_sequence;\n");
            }
        } else if name.starts_with("sqlite_stat") {
            if !options.no_schema {
                out.push_str("ANALYZE sqlite_schema;\n");
            }
        } else if is_virtual(sql) {
            return Err(SqlError::plain(
                "D1 Export error: cannot export databases with Virtual Tables (fts5)",
            ));
        } else if name.starts_with("_cf_") || name.starts_with("sqlite_") || shadows.contains(name)
        {
            continue;
        } else if !options.no_schema {
            match sql.strip_prefix("CREATE TABLE ") {
                Some(rest) if rest.starts_with(['\'', '"']) => {
                    writeln!(out, "CREATE TABLE IF NOT EXISTS {rest};")
                }
                _ => writeln!(out, "{sql};"),
            }
            .expect("a String takes everything");
        }
        if !options.no_data {
            dump_rows(connection, name, &mut out, limit)?;
        }
    }
    if !options.no_schema {
        let rest = texts(
            connection,
            "SELECT name, sql FROM sqlite_schema WHERE sql NOT NULL \
             AND type IN ('index', 'trigger', 'view') ORDER BY type COLLATE NOCASE",
        )?;
        for [name, sql] in rest {
            if wanted(&name) {
                writeln!(out, "{sql};").expect("a String takes everything");
            }
        }
    }
    Ok(out)
}

fn dump_rows(
    connection: &Connection,
    table: &str,
    out: &mut String,
    limit: usize,
) -> Result<(), SqlError> {
    // Generated columns are not in table_info, and cannot be inserted.
    let columns: Vec<String> = texts(
        connection,
        &format!("SELECT name FROM pragma_table_info({})", quote_text(table)),
    )?
    .into_iter()
    .map(|[name, _]| quote_name(&name))
    .collect();
    if columns.is_empty() {
        return Ok(());
    }
    let table = quote_name(table);
    let insert = format!("INSERT INTO {table} ({}) VALUES(", columns.join(","));
    let select = format!("SELECT {} FROM {table}", columns.join(", "));
    let (statement, _) = connection.db.prepare(&select, false)?;
    let Some(mut statement) = statement else {
        return Ok(());
    };
    while statement.step()? {
        out.push_str(&insert);
        for index in 0..columns.len() {
            if index > 0 {
                out.push(',');
            }
            push_value(out, statement.column(index));
        }
        out.push_str(");\n");
        if out.len() > limit {
            return Err(SqlError::plain(format!(
                "D1 Export error: the text is larger than {limit} bytes; export single tables"
            )));
        }
    }
    Ok(())
}

fn push_value(out: &mut String, value: Column<'_>) {
    match value {
        Column::Null => out.push_str("NULL"),
        Column::Integer(number) => write!(out, "{number}").expect("a String takes everything"),
        // Infinity has no literal, but this one overflows to it (SQLite's `.dump`).
        Column::Real(number) if number.is_infinite() => {
            out.push_str(if number > 0.0 { "1e999" } else { "-1e999" });
        }
        // With a point or an exponent, so that it is read back as REAL.
        Column::Real(number) => write!(out, "{number:?}").expect("a String takes everything"),
        Column::Text(text) => push_text(out, &String::from_utf8_lossy(text)),
        Column::Blob(bytes) => {
            out.push_str("X'");
            for byte in bytes {
                write!(out, "{byte:02x}").expect("a String takes everything");
            }
            out.push('\'');
        }
    }
}

/// A text on one line: line breaks become `replace(…,char(10))`, as SQLite's shell does.
fn push_text(out: &mut String, text: &str) {
    let (has_line_feed, has_return) = (text.contains('\n'), text.contains('\r'));
    // Stand-ins that do not occur in the text.
    let stand_in = |first: &str| {
        let mut mark = first.to_owned();
        let mut number = 0;
        while text.contains(&mark) {
            mark = format!("({first}{number})");
            number += 1;
        }
        mark
    };
    let (line_feed, carriage_return) = (stand_in("\\n"), stand_in("\\r"));
    if has_line_feed {
        out.push_str("replace(");
    }
    if has_return {
        out.push_str("replace(");
    }
    out.push('\'');
    for letter in text.chars() {
        match letter {
            '\'' => out.push_str("''"),
            '\n' => out.push_str(&line_feed),
            '\r' => out.push_str(&carriage_return),
            other => out.push(other),
        }
    }
    out.push('\'');
    if has_return {
        write!(out, ",'{carriage_return}',char(13))").expect("a String takes everything");
    }
    if has_line_feed {
        write!(out, ",'{line_feed}',char(10))").expect("a String takes everything");
    }
}

/// The rows of a statement of ours with up to two columns of text.
fn texts(connection: &Connection, sql: &str) -> Result<Vec<[String; 2]>, SqlError> {
    let (statement, _) = connection.db.prepare(sql, false)?;
    let mut statement =
        statement.ok_or_else(|| SqlError::new(sqlite::SQLITE_INTERNAL, "not a statement"))?;
    let mut rows = Vec::new();
    while statement.step()? {
        let text = |index| match statement.column(index) {
            Column::Text(text) => String::from_utf8_lossy(text).into_owned(),
            _ => String::new(),
        };
        rows.push([text(0), text(1)]);
    }
    Ok(rows)
}

fn is_virtual(sql: &str) -> bool {
    sql.get(..20)
        .is_some_and(|start| start.eq_ignore_ascii_case("CREATE VIRTUAL TABLE"))
}

fn quote_name(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn quote_text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
