//! Counting the rows that a statement reads and writes, as Cloudflare bills them.
//!
//! Stock SQLite has no counters like those of Cloudflare's patched one. What
//! comes close (storage.md 2.8 is the table, and a test): `rows_read` is the number of
//! visits of a statement's loops by scan status; `rows_written` counts the preupdate
//! hook's calls: a deleted row as 1, a new one as 1 + the number of the table's indexes, a
//! changed one as 1 + the number of indexes with a column that is set (all of them if an
//! index holds an expression). Five corrections:
//! - `COUNT(*)` over a whole table has no loop: its result is added to the rows read.
//! - An INSERT with an explicit integer key probes for it: 1 read a row. Whether there is
//!   a probe is looked up once, in the compiled program.
//! - An INSERT with RETURNING reads each row back: 1 more.
//! - CREATE writes 2 rows to the schema (an index and a trigger 1), which the hook does
//!   not see; none if the schema stays as it was (`IF NOT EXISTS`).
//! - AUTOINCREMENT reads and writes a row of `sqlite_sequence`, of which it is not told.
//!
//! Tables inside of a virtual table (FTS5, R*Tree) do not count by themselves: the one of
//! them that gets one row for each row of the virtual table counts as that row. Reads
//! inside of triggers are not counted.

use std::collections::HashMap;

use std::ffi::c_int;

use rusqlite::ffi as sqlite;

use super::{Column, Connection, Facts, Prepared, Role, SqlError, Trusted, lock};

/// A name of the schema, in lower case.
type Name = Box<[u8]>;

/// Tables and their columns that a statement sets with UPDATE.
pub(super) type Updates = Vec<(Name, Name)>;

/// The columns of an index; `None` for an expression.
type IndexColumns = Vec<Option<Name>>;

impl Connection {
    /// Rows read and written by a statement that was just run, with the corrections.
    pub(super) fn rows(
        &self,
        prepared: &mut Prepared,
        outcome: Option<&(Vec<u8>, u64, Option<u64>)>,
        schema_before: Option<i64>,
    ) -> (u64, u64) {
        let Some((_, returned, first)) = outcome else {
            return (0, 0);
        };
        let (mut read, has_loops) = prepared.statement.rows_visited();
        let facts = &prepared.facts;
        if facts.counts && !has_loops && prepared.statement.is_readonly() {
            read += first.unwrap_or(0);
        }
        if self.role == Role::Reader {
            return (read, 0);
        }
        let mut written = lock(&self.control.rows).written;
        if facts.inserts && !facts.creates {
            if prepared.extras.probes_key {
                // SQLite's own count of this statement's rows, without triggers.
                read += self.db.changes().max(0).cast_unsigned();
            }
            read += returned;
            if prepared.extras.counts_up {
                (read, written) = (read + 1, written + 1);
            }
        }
        if facts.creates && self.schema_version().ok() != schema_before {
            written += if facts.creates_one_row { 1 } else { 2 };
        }
        (read, written)
    }

    /// The schema's version before a statement that may create something.
    pub(super) fn schema_version_if(&self, facts: Facts) -> Result<Option<i64>, SqlError> {
        if facts.creates {
            self.schema_version().map(Some)
        } else {
            Ok(None)
        }
    }

    fn schema_version(&self) -> Result<i64, SqlError> {
        let _trusted = Trusted::new(&self.control);
        Ok(self.db.pragma("PRAGMA schema_version")?.unwrap_or(0))
    }

    /// What an INSERT does besides: the compiled program says.
    ///
    /// What cannot be explained (a text just below the limit of length) counts as none.
    pub(super) fn insert_extras(&self, sql: &str) -> InsertExtras {
        let mut extras = InsertExtras::default();
        let _trusted = Trusted::new(&self.control);
        let Ok((Some(mut statement), _)) = self.db.prepare(&format!("EXPLAIN {sql}"), false) else {
            return extras;
        };
        while let Ok(true) = statement.step() {
            match statement.column(1) {
                Column::Text(b"NotExists") => extras.probes_key = true,
                // Only AUTOINCREMENT looks for the greatest key with it.
                Column::Text(b"MemMax") => extras.counts_up = true,
                // The end of the main program; those of triggers follow.
                Column::Text(b"Halt") if statement.column(2) == Column::Integer(0) => break,
                _ => {}
            }
        }
        extras
    }

    /// Reads how many rows a change of each table counts as.
    pub(super) fn read_weights(&mut self) -> Result<(), SqlError> {
        let _trusted = Trusted::new(&self.control);
        let mut weights = HashMap::new();
        let (statement, _) = self.db.prepare(
            "SELECT l.name, l.type, (SELECT count(*) FROM sqlite_schema AS i \
             WHERE i.type = 'index' AND i.tbl_name = l.name COLLATE NOCASE) \
             FROM pragma_table_list AS l WHERE l.schema = 'main' AND l.type <> 'view'",
            false,
        )?;
        if let Some(mut statement) = statement {
            while statement.step()? {
                let Column::Text(name) = statement.column(0) else {
                    continue;
                };
                let is_shadow = statement.column(1) == Column::Text(b"shadow");
                let weight = match statement.column(2) {
                    _ if is_shadow => {
                        // FTS5 and R*Tree have one row in these for each of theirs.
                        u64::from(name.ends_with(b"_docsize") || name.ends_with(b"_rowid"))
                    }
                    Column::Integer(indexes) => 1 + indexes.cast_unsigned(),
                    _ => 1,
                };
                weights.insert(name.into(), weight);
            }
        }
        let mut indexes: HashMap<Name, HashMap<Name, IndexColumns>> = HashMap::new();
        let (statement, _) = self.db.prepare(
            "SELECT i.tbl_name, i.name, x.name FROM sqlite_schema AS i, \
             pragma_index_xinfo(i.name) AS x WHERE i.type = 'index' AND x.key",
            false,
        )?;
        if let Some(mut statement) = statement {
            while statement.step()? {
                let (Column::Text(table), Column::Text(index)) =
                    (statement.column(0), statement.column(1))
                else {
                    continue;
                };
                let column = match statement.column(2) {
                    Column::Text(column) => Some(column.to_ascii_lowercase().into()),
                    _ => None,
                };
                let of_table = indexes
                    .entry(table.to_ascii_lowercase().into())
                    .or_default();
                of_table.entry(index.into()).or_default().push(column);
            }
        }
        let mut rows = lock(&self.control.rows);
        rows.weights = weights;
        rows.indexes = indexes
            .into_iter()
            .map(|(table, indexes)| (table, indexes.into_values().collect()))
            .collect();
        drop(rows);
        self.schema_changed = false;
        Ok(())
    }
}

/// Counts what the connection's row hook is told.
#[derive(Default)]
pub(super) struct RowCounter {
    /// Rows that one new row of a table counts as. A table that is missing is counted as 1.
    weights: HashMap<Name, u64>,
    /// The indexes of each table.
    indexes: HashMap<Name, Vec<IndexColumns>>,
    /// What the statement that is being compiled sets.
    noted: Updates,
    /// Rows that one changed row of a table counts as, in the statement that runs.
    updating: HashMap<Name, u64>,
    pub(super) written: u64,
}

impl RowCounter {
    /// Forgets the statement before; this one sets these columns.
    pub(super) fn begin(&mut self, updates: &Updates) {
        self.written = 0;
        self.updating.clear();
        for (table, _) in updates {
            let indexes = self.indexes.get(table).map_or(&[][..], Vec::as_slice);
            let touched = indexes.iter().filter(|columns| {
                columns.iter().any(|indexed| {
                    indexed.as_ref().is_none_or(|indexed| {
                        updates
                            .iter()
                            .any(|(of, column)| of == table && column == indexed)
                    })
                })
            });
            let rows = 1 + touched.count() as u64;
            self.updating.insert(table.clone(), rows);
        }
    }

    pub(super) fn note_update(&mut self, table: &str, column: &str) {
        let lower = |name: &str| name.to_ascii_lowercase().into_bytes().into();
        self.noted.push((lower(table), lower(column)));
    }

    pub(super) fn take_updates(&mut self) -> Updates {
        std::mem::take(&mut self.noted)
    }

    pub(super) fn count(&mut self, change: c_int, table: &[u8]) {
        let weight = self.weights.get(table).copied().unwrap_or(1);
        self.written += match change {
            sqlite::SQLITE_DELETE => weight.min(1),
            sqlite::SQLITE_UPDATE if !self.updating.is_empty() => self
                .updating
                .get(table.to_ascii_lowercase().as_slice())
                .copied()
                .unwrap_or(weight),
            _ => weight,
        };
    }
}

/// What an INSERT reads and writes that the hook and scan status do not see.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct InsertExtras {
    /// It looks for its key first.
    probes_key: bool,
    /// AUTOINCREMENT: it reads and writes a row of `sqlite_sequence`.
    counts_up: bool,
}

/// Whether a text begins with INSERT or REPLACE. (One behind WITH counts one row
/// read too few.)
pub(super) fn starts_with_insert(sql: &str) -> bool {
    let word = crate::d1::first_word(sql);
    word.eq_ignore_ascii_case("INSERT") || word.eq_ignore_ascii_case("REPLACE")
}
