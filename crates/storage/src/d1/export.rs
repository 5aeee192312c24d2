//! A database as SQL text (storage.md 2.11, after SQLite's own `.dump`).
//!
//! The text is written to a file as it comes, from one read transaction: nobody waits for
//! it, and memory does not grow. Its parts stand in an order in which they can be executed:
//!
//! 1. all tables in order of creation, virtual ones among them and shadow tables left out;
//! 2. their rows, `sqlite_sequence` last, since inserting changes it;
//! 3. indexes, then views, then triggers (an `INSTEAD OF` trigger needs its view, and no
//!    trigger may act on the rows above);
//! 4. the rebuilding of FTS5 tables over other tables or views.
//!
//! Cloudflare's dump (miniflare `dumpSql.ts`) has each table's rows behind its definition,
//! triggers before views, and refuses virtual tables. Lines are the same otherwise, but
//! integers keep all their digits, and a text that SQL cannot spell is
//! `CAST(X'…' AS TEXT)`. Exporting what was imported gives the same bytes again.
//!
//! **FTS5 without content** keeps its words only. Where its tokenizer takes a word for
//! itself, the rows are filled with the words in their order, which gives the same index;
//! where not, the table is refused by its name. See [`super::vtab`].

use std::io::Write as _;

use rusqlite::ffi as sqlite;

use super::connection::{Connection, Failure};
use super::errors::SqlError;
use super::ffi::{Column, Statement};
use super::lexer;
use super::vtab::{self, Contentless, Virtual, Words};
use super::{D1ExportOptions, D1Job};
use crate::scratch::{Scratch, ScratchWriter};

/// What is collected before it is written.
const WRITE_BYTES: usize = 256 * 1024;
/// A longer literal is written in hex: SQLite bounds the literal, too.
const LITERAL_BYTES: usize = 1_900_000;
/// The words of a contentless table, while they are read.
const VOCABULARY: &str = "temp.engawa_export_words";

/// Writes the text into a file that nobody names. The connection has a transaction open.
pub(super) fn dump(
    connection: &mut Connection,
    options: &D1ExportOptions,
    file: ScratchWriter,
    job: &D1Job,
) -> Result<Scratch, Failure> {
    connection.spill_to_files()?;
    let _trusted = connection.trust();
    let connection = &*connection;
    let tables = read_tables(connection, options)?;
    let mut out = Out {
        file,
        job,
        buffer: Vec::with_capacity(WRITE_BYTES),
        written_bytes: 0,
    };
    out.line("PRAGMA defer_foreign_keys=TRUE;")?;
    if !options.no_schema {
        for table in &tables {
            define(connection, table, &mut out)?;
        }
    }
    if !options.no_data {
        for table in &tables {
            dump_table(connection, table, &mut out)?;
        }
    }
    if !options.no_schema {
        let rest = texts(
            connection,
            "SELECT name, sql FROM sqlite_schema WHERE sql NOT NULL \
             AND type IN ('index', 'view', 'trigger') \
             ORDER BY type = 'trigger', type = 'view', rowid",
        )?;
        for [name, sql] in rest {
            if is_wanted(options, &name) {
                out.definition(&sql)?;
            }
        }
    }
    if !options.no_data {
        for table in &tables {
            if table.kind == Kind::Virtual(Virtual::External) {
                let name = quote_name(&table.name);
                out.line(&format!("INSERT INTO {name}({name}) VALUES('rebuild');"))?;
            }
        }
    }
    out.finish()
}

struct Table {
    name: String,
    sql: String,
    kind: Kind,
}

#[derive(PartialEq, Eq)]
enum Kind {
    Ordinary,
    Virtual(Virtual),
    /// `sqlite_sequence`.
    Sequence,
    /// `sqlite_stat1`.
    Statistics,
}

/// The tables to be written, in their order.
fn read_tables(connection: &Connection, options: &D1ExportOptions) -> Result<Vec<Table>, SqlError> {
    let shadows = texts(
        connection,
        "SELECT name, '' FROM pragma_table_list WHERE schema = 'main' AND type = 'shadow'",
    )?;
    let is_shadow = |name: &str| shadows.iter().any(|[shadow, _]| shadow == name);
    let all = texts(
        connection,
        "SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND sql NOT NULL \
         ORDER BY tbl_name = 'sqlite_sequence', rowid",
    )?;
    let mut tables = Vec::new();
    for [name, sql] in all {
        if !is_wanted(options, &name) || name.starts_with("_cf_") || is_shadow(&name) {
            continue;
        }
        let kind = if name == "sqlite_sequence" {
            Kind::Sequence
        } else if name == "sqlite_stat1" {
            Kind::Statistics
        } else if name.starts_with("sqlite_") {
            // Also `sqlite_stat4`, which D1's SQLite does not have.
            continue;
        } else if let Some(found) = vtab::parse(&sql) {
            if let Virtual::Unknown(module) = &found {
                return Err(refused(&name, &format!("D1 has no module {module}")));
            }
            Kind::Virtual(found)
        } else {
            Kind::Ordinary
        };
        tables.push(Table { name, sql, kind });
    }
    Ok(tables)
}

fn is_wanted(options: &D1ExportOptions, name: &str) -> bool {
    options.tables.is_empty() || options.tables.iter().any(|table| table == name)
}

fn define(connection: &Connection, table: &Table, out: &mut Out<'_>) -> Result<(), Failure> {
    match &table.kind {
        Kind::Sequence | Kind::Statistics => Ok(()),
        Kind::Ordinary => match table.sql.strip_prefix("CREATE TABLE ") {
            // As SQLite's shell does.
            Some(rest) if rest.starts_with(['\'', '"']) => {
                out.definition(&format!("CREATE TABLE IF NOT EXISTS {rest}"))
            }
            _ => out.definition(&table.sql),
        },
        Kind::Virtual(found) => {
            out.definition(&table.sql)?;
            if matches!(found, Virtual::View | Virtual::Rows { is_fts: false }) {
                return Ok(());
            }
            // What was set with `INSERT INTO f (f, rank)`, as the weights of `rank`.
            let config = quote_name(&format!("{}_config", table.name));
            let set = format!("SELECT k, v FROM {config} WHERE k <> 'version' ORDER BY k");
            let name = quote_name(&table.name);
            let head = format!("INSERT INTO {name}({name}, rank) VALUES(");
            dump_select(connection, &set, &head, out)
        }
    }
}

fn dump_table(connection: &Connection, table: &Table, out: &mut Out<'_>) -> Result<(), Failure> {
    match &table.kind {
        Kind::Virtual(Virtual::External | Virtual::View | Virtual::Unknown(_)) => return Ok(()),
        Kind::Virtual(Virtual::Contentless(contentless)) => {
            return dump_words(connection, table, contentless, out);
        }
        Kind::Sequence => out.line("DELETE FROM sqlite_sequence;")?,
        Kind::Statistics => out.line("ANALYZE sqlite_schema;")?,
        Kind::Ordinary | Kind::Virtual(Virtual::Rows { .. }) => {}
    }
    let columns = column_names(connection, &table.name)?;
    if columns.is_empty() {
        return Ok(());
    }
    let columns: Vec<String> = columns.iter().map(|name| quote_name(name)).collect();
    let columns = columns.join(",");
    let name = quote_name(&table.name);
    // Always in the order of the key, not of an index that happens to hold all columns.
    let (columns, from) = match &table.kind {
        Kind::Virtual(Virtual::Rows { is_fts: true }) => {
            (format!("rowid,{columns}"), "ORDER BY rowid")
        }
        Kind::Virtual(_) => (columns, "ORDER BY 1"),
        _ => (columns, "NOT INDEXED"),
    };
    dump_select(
        connection,
        &format!("SELECT {columns} FROM {name} {from}"),
        &format!("INSERT INTO {name} ({columns}) VALUES("),
        out,
    )
}

/// A line for each row of a query.
fn dump_select(
    connection: &Connection,
    select: &str,
    head: &str,
    out: &mut Out<'_>,
) -> Result<(), Failure> {
    let mut rows = prepare(connection, select)?;
    let columns = rows.column_count();
    while rows.step()? {
        out.buffer.extend(head.as_bytes());
        for index in 0..columns {
            if index > 0 {
                out.buffer.push(b',');
            }
            push_value(&mut out.buffer, rows.column(index));
        }
        out.line(");")?;
    }
    Ok(())
}

/// The rows of an FTS5 table without content, made of its words.
fn dump_words(
    connection: &Connection,
    table: &Table,
    contentless: &Contentless,
    out: &mut Out<'_>,
) -> Result<(), Failure> {
    let rows = quote_name(&format!("{}_docsize", table.name));
    if contentless.lists_rows {
        let any = format!("SELECT 1 FROM {rows} LIMIT 1");
        if !prepare(connection, &any)?.step()? {
            return Ok(());
        }
    }
    if contentless.words == Words::Lost || !contentless.has_places || !contentless.lists_rows {
        let why = "it has no content, and the words that were put in it cannot be had back from \
                   its index";
        return Err(refused(&table.name, why).into());
    }
    let run = |sql: &str| connection.db.pragma(sql).map(drop);
    let drop_vocabulary = format!("DROP TABLE IF EXISTS {VOCABULARY}");
    let is_reader = connection.db.pragma("PRAGMA query_only")? == Some(1);
    run("PRAGMA query_only = OFF")?;
    let outcome = (|| {
        run(&drop_vocabulary)?;
        let of = quote_text(&table.name);
        run(&format!(
            "CREATE VIRTUAL TABLE {VOCABULARY} USING fts5vocab('main', {of}, 'instance')"
        ))?;
        fill_from_words(connection, table, contentless.words, out)
    })();
    let dropped = run(&drop_vocabulary);
    if is_reader {
        run("PRAGMA query_only = ON")?;
    }
    outcome?;
    Ok(dropped?)
}

fn fill_from_words(
    connection: &Connection,
    table: &Table,
    form: Words,
    out: &mut Out<'_>,
) -> Result<(), Failure> {
    let names = column_names(connection, &table.name)?;
    let columns: Vec<String> = names.iter().map(|name| quote_name(name)).collect();
    let (name, columns) = (quote_name(&table.name), columns.join(","));
    let select = format!("SELECT rowid,{columns} FROM {name} ORDER BY rowid");
    let mut rows = prepare(connection, &select)?;
    let select = format!("SELECT doc, col, term FROM {VOCABULARY} ORDER BY doc, col, offset");
    let mut words = prepare(connection, &select)?;
    let mut has_word = words.step()?;
    while rows.step()? {
        let Column::Integer(rowid) = rows.column(0) else {
            continue;
        };
        let mut texts = vec![Vec::new(); names.len()];
        while has_word {
            match words.column(0) {
                Column::Integer(row) if row == rowid => {}
                Column::Integer(row) if row > rowid => break,
                _ => {
                    has_word = words.step()?;
                    continue;
                }
            }
            if let (Column::Text(column), Column::Text(word)) = (words.column(1), words.column(2))
                && let Some(index) = names.iter().position(|name| name.as_bytes() == column)
            {
                push_word(&mut texts[index], word, form);
            }
            has_word = words.step()?;
        }
        let head = format!("INSERT INTO {name} (rowid,{columns}) VALUES({rowid}");
        out.buffer.extend(head.as_bytes());
        for (index, text) in texts.iter().enumerate() {
            out.buffer.push(b',');
            if text.is_empty() {
                // Not indexed, or without words.
                push_value(&mut out.buffer, rows.column(index + 1));
            } else {
                push_value(&mut out.buffer, Column::Text(text));
            }
        }
        out.line(");")?;
    }
    Ok(())
}

fn push_word(text: &mut Vec<u8>, word: &[u8], form: Words) {
    if form == Words::Trigrams && !text.is_empty() {
        // All but its last letter is there already.
        let last = std::str::from_utf8(word)
            .ok()
            .and_then(|word| word.char_indices().next_back())
            .map_or(0, |(at, _)| at);
        text.extend(&word[last..]);
        return;
    }
    if !text.is_empty() {
        text.push(b' ');
    }
    text.extend(word);
}

/// The text on its way into the file.
struct Out<'a> {
    file: ScratchWriter,
    job: &'a D1Job,
    buffer: Vec<u8>,
    written_bytes: u64,
}

impl Out<'_> {
    /// Ends a line.
    fn line(&mut self, text: &str) -> Result<(), Failure> {
        self.buffer.extend(text.as_bytes());
        self.buffer.push(b'\n');
        if self.buffer.len() >= WRITE_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn definition(&mut self, sql: &str) -> Result<(), Failure> {
        self.buffer.extend(sql.as_bytes());
        self.buffer.extend(lexer::before_semicolon(sql).as_bytes());
        self.line(";")
    }

    fn flush(&mut self) -> Result<(), Failure> {
        self.file.write(&self.buffer).map_err(Failure::Own)?;
        self.written_bytes += self.buffer.len() as u64;
        // A value of 2 MB may have made it long.
        self.buffer.clear();
        self.job.report(self.written_bytes)
    }

    fn finish(mut self) -> Result<Scratch, Failure> {
        self.flush()?;
        Ok(self.file.finish())
    }
}

fn push_value(out: &mut Vec<u8>, value: Column<'_>) {
    let written = match value {
        Column::Null => write!(out, "NULL"),
        Column::Integer(number) => write!(out, "{number}"),
        // Infinity has no literal, but this one overflows to it (SQLite's `.dump`).
        Column::Real(number) if number.is_infinite() => {
            write!(out, "{}1e999", if number > 0.0 { "" } else { "-" })
        }
        // With a point or an exponent, so that it is read back as REAL.
        Column::Real(number) => write!(out, "{number:?}"),
        Column::Text(text) => {
            push_text(out, text);
            Ok(())
        }
        Column::Blob(bytes) => {
            push_hex(out, bytes);
            Ok(())
        }
    };
    written.expect("a Vec takes everything");
}

fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend(b"X'");
    let start = out.len();
    out.resize(start + 2 * bytes.len(), 0);
    for (pair, byte) in out[start..].chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    out.push(b'\'');
}

/// A text on one line: line breaks become `replace(…,char(10))`, as SQLite's shell does.
fn push_text(out: &mut Vec<u8>, text: &[u8]) {
    let whole = std::str::from_utf8(text).ok();
    let Some(text) = whole.filter(|text| !text.contains('\0')) else {
        return push_cast(out, text);
    };
    let (has_line_feed, has_return) = (text.contains('\n'), text.contains('\r'));
    if !has_line_feed && !has_return && !text.contains('\'') {
        out.push(b'\'');
        out.extend(text.as_bytes());
        out.push(b'\'');
        return;
    }
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
    let start = out.len();
    if has_line_feed {
        out.extend(b"replace(");
    }
    if has_return {
        out.extend(b"replace(");
    }
    out.push(b'\'');
    let (mut line_feed, mut carriage_return) = (String::new(), String::new());
    if has_line_feed || has_return {
        (line_feed, carriage_return) = (stand_in("\\n"), stand_in("\\r"));
    }
    for byte in text.bytes() {
        match byte {
            b'\'' => out.extend(b"''"),
            b'\n' => out.extend(line_feed.as_bytes()),
            b'\r' => out.extend(carriage_return.as_bytes()),
            other => out.push(other),
        }
    }
    out.push(b'\'');
    if out.len() - start > LITERAL_BYTES {
        out.truncate(start);
        return push_cast(out, text.as_bytes());
    }
    if has_return {
        out.extend(format!(",'{carriage_return}',char(13))").as_bytes());
    }
    if has_line_feed {
        out.extend(format!(",'{line_feed}',char(10))").as_bytes());
    }
}

fn push_cast(out: &mut Vec<u8>, text: &[u8]) {
    out.extend(b"CAST(");
    push_hex(out, text);
    out.extend(b" AS TEXT)");
}

fn refused(table: &str, why: &str) -> SqlError {
    SqlError::plain(format!(
        "D1 Export error: cannot export the virtual table {}: {why}. Export the other tables by \
         their names (--table), or definitions only (--no-data)",
        quote_name(table)
    ))
}

/// Columns that can be inserted: not generated and not hidden ones.
fn column_names(connection: &Connection, table: &str) -> Result<Vec<String>, SqlError> {
    let table = quote_text(table);
    let columns = format!("SELECT name, '' FROM pragma_table_info({table})");
    let columns = texts(connection, &columns)?;
    Ok(columns.into_iter().map(|[name, _]| name).collect())
}

/// The rows of a statement of ours with two columns of text.
fn texts(connection: &Connection, sql: &str) -> Result<Vec<[String; 2]>, SqlError> {
    let mut statement = prepare(connection, sql)?;
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

fn prepare(connection: &Connection, sql: &str) -> Result<Statement, SqlError> {
    let (statement, _) = connection.db.prepare(sql, false)?;
    statement.ok_or_else(|| SqlError::new(sqlite::SQLITE_INTERNAL, "not a statement"))
}

fn quote_name(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn quote_text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
