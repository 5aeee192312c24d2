//! Counting the rows that a statement reads and writes, as Cloudflare bills them.
//!
//! Stock SQLite has no counters like those of Cloudflare's patched one. What
//! comes close (storage.md 2.8 is the table, and a test): `rows_read` is the number of
//! visits of a statement's loops by scan status; `rows_written` counts the preupdate
//! hook's calls, each as 1 + the number of the table's indexes. Four corrections:
//! - `COUNT(*)` over a whole table has no loop: its result is added to the rows read.
//! - An INSERT with an explicit integer key probes for it: 1 read a row. Whether there is
//!   a probe is looked up once, in the compiled program.
//! - An INSERT with RETURNING reads each row back: 1 more.
//! - CREATE writes 2 rows to the schema, which the hook does not see.
//!
//! Tables inside of a virtual table (FTS5, R*Tree) do not count by themselves: the one of
//! them that gets one row for each row of the virtual table counts as that row. Reads
//! inside of triggers are not counted.

use std::collections::HashMap;

use super::{Column, Connection, Prepared, Role, SqlError, Trusted, lock};

impl Connection {
    /// Rows read and written by a statement that was just run, with the corrections.
    pub(super) fn rows(
        &self,
        prepared: &mut Prepared,
        outcome: Option<&(Vec<u8>, u64, Option<u64>)>,
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
            if prepared.probes_key {
                // SQLite's own count of this statement's rows, without triggers.
                read += self.db.changes().max(0).cast_unsigned();
            }
            read += returned;
        }
        if facts.creates {
            written += 2;
        }
        (read, written)
    }

    /// Whether an INSERT looks for its key before it writes: the compiled program says.
    ///
    /// What cannot be explained (a text just below the limit of length) counts as none.
    pub(super) fn has_key_probe(&self, sql: &str) -> bool {
        let _trusted = Trusted::new(&self.control);
        let Ok((Some(mut statement), _)) = self.db.prepare(&format!("EXPLAIN {sql}"), false) else {
            return false;
        };
        while let Ok(true) = statement.step() {
            match statement.column(1) {
                Column::Text(b"NotExists") => return true,
                // The end of the main program; those of triggers follow.
                Column::Text(b"Halt") if statement.column(2) == Column::Integer(0) => break,
                _ => {}
            }
        }
        false
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
        lock(&self.control.rows).weights = weights;
        self.schema_changed = false;
        Ok(())
    }
}

/// Counts what the connection's row hook is told.
#[derive(Default)]
pub(super) struct RowCounter {
    /// Rows that one change of a table counts as. A table that is missing is counted as 1.
    weights: HashMap<Box<[u8]>, u64>,
    pub(super) written: u64,
}

impl RowCounter {
    pub(super) fn count(&mut self, table: &[u8]) {
        self.written += self.weights.get(table).copied().unwrap_or(1);
    }
}

/// Whether a text begins with INSERT or REPLACE. (One behind WITH counts one row
/// read too few.)
pub(super) fn starts_with_insert(sql: &str) -> bool {
    let word = crate::d1::first_word(sql);
    word.eq_ignore_ascii_case("INSERT") || word.eq_ignore_ascii_case("REPLACE")
}
