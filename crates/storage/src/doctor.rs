//! Looks at a data folder and says what is damaged, what is lost by it, and what to do.
//!
//! It only reads, so it may look beside a running server: SQLite's files are opened as
//! one more reader, which SQLite allows, and a blob that is missing is named only if a
//! row still names it when asked again. Nothing is repaired here: a repair that guesses
//! can lose more than the damage did.
//!
//! What it finds: an SQLite file that is cut short, not Engawa's, of a newer Engawa, or
//! whose pages do not fit together (SQLite's `quick_check`; bytes inside a value carry no
//! checksum in SQLite); a blob that a row names and that is missing, cut short or does not
//! match its checksums; a log of data points with a damaged middle; files that nothing
//! names.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use engawa_model::{AccountId, ErrorKind};
use rusqlite::{Connection, OpenFlags, ffi};

use crate::blobs::{BlobFolder, BlobId, BlobIo, read_folder};
use crate::layout::{Layout, Resource};
use crate::sqlite::Schema;
use crate::{Error, Stamp, events, kv, r2};

/// How much of each kind of finding is told in full.
const FINDINGS: usize = 1000;
/// Lines of SQLite's own report in one finding.
const REPORT_LINES: usize = 3;

/// Something that whoever runs the machine should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// The file or folder.
    pub path: PathBuf,
    /// What is wrong with it.
    pub what: String,
    /// What is lost; empty if nothing is.
    pub lost: String,
    /// What to do; empty if nothing has to be done.
    pub advice: String,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Good to know.
    Note,
    /// It works, and something should be done.
    Warning,
    /// Data is lost, or Engawa cannot work.
    Error,
}

/// What was looked at, and found.
#[derive(Debug, Default)]
pub struct Examination {
    /// In the order of the folder; at most 1,000.
    pub findings: Vec<Finding>,
    /// Findings that are not among them.
    pub further_findings: u64,
    /// SQLite files.
    pub files: u64,
    /// Blobs that a row names.
    pub blobs: u64,
    /// Bytes of blobs whose checksums were verified.
    pub verified_bytes: u64,
    /// The newest commit is not later than this: milliseconds since 1970, 0 in a new folder.
    pub newest_commit_ms: u64,
}

/// Examines a data folder. Blocking, and for as long as it takes to read it, with
/// `checksums` all of it.
///
/// `is_owned`: the caller holds its lock, so nobody writes meanwhile.
pub fn examine(data_dir: &Path, is_owned: bool, checksums: bool) -> Examination {
    let mut doctor = Doctor {
        layout: Arc::new(Layout::new(data_dir.to_owned())),
        is_owned,
        checksums,
        found: Examination::default(),
    };
    doctor.run();
    doctor.found
}

struct Doctor {
    layout: Arc<Layout>,
    is_owned: bool,
    checksums: bool,
    found: Examination,
}

/// A resource of the catalog.
struct Known {
    resource: Resource,
    account: AccountId,
    id: String,
    /// As people call it: "the KV namespace Users (id)".
    name: String,
}

const RESTORE: &str = "Stop the server, move the file away and restore it from a backup.";

impl Doctor {
    fn run(&mut self) {
        let catalog = self.layout.catalog_file();
        if !catalog.exists() {
            let has_accounts = self.layout.accounts_dir().exists();
            if has_accounts {
                self.tell(
                    Level::Error,
                    &catalog,
                    "it is missing, although there are accounts",
                    "which namespaces, databases and buckets there are; their data is there",
                    "Restore it from a backup.",
                );
            }
            return;
        }
        let Some(connection) = self.sqlite_file(
            &catalog,
            Some(&crate::catalog::SCHEMA),
            "which namespaces, databases and buckets there are",
        ) else {
            return;
        };
        let known = match known(&connection) {
            Ok(known) => known,
            Err(error) => {
                let what = format!("its rows cannot be read: {error}");
                let lost = "which namespaces, databases and buckets there are";
                return self.tell(Level::Error, &catalog, &what, lost, RESTORE);
            }
        };
        let ceiling = "SELECT stamp FROM stamp_ceiling";
        if let Ok(stamp) = connection.query_row(ceiling, [], |row| row.get(0)) {
            self.found.newest_commit_ms = Stamp::from_sql(stamp).ms();
        }
        drop(connection);
        let mut by_path = HashMap::new();
        let mut accounts = HashMap::new();
        for resource in known {
            let path =
                self.layout
                    .database_file(resource.resource, &resource.account, &resource.id);
            accounts.insert(
                self.layout.account_dir(&resource.account),
                resource.account.clone(),
            );
            by_path.insert(path, resource);
        }
        for resource in by_path.values() {
            self.resource(resource);
        }
        self.unnamed(&by_path);
        for account in accounts.values() {
            self.events(account);
        }
    }

    fn resource(&mut self, known: &Known) {
        let Known {
            resource,
            account,
            id,
            name,
        } = known;
        let path = self.layout.database_file(*resource, account, id);
        let blobs = self.layout.blobs_dir(*resource, account, id);
        if !path.exists() {
            // It is made at the first use; blobs come later.
            if *resource != Resource::D1 && blobs.exists() {
                let lost = format!("{name}: all keys, and small values");
                self.tell(Level::Error, &path, "it is missing", &lost, RESTORE);
            }
            return;
        }
        let schema = match resource {
            Resource::Kv => Some(&kv::SCHEMA),
            Resource::R2 => Some(&r2::SCHEMA),
            Resource::D1 => None,
        };
        let lost = format!("a part or all of {name}");
        let Some(connection) = self.sqlite_file(&path, schema, &lost) else {
            return;
        };
        let (all, one): (&[&str], &str) = match resource {
            Resource::Kv => (&[kv::NAMED_BLOBS], kv::IS_NAMED_BLOB),
            Resource::R2 => (&r2::NAMED_BLOBS, r2::IS_NAMED_BLOB),
            Resource::D1 => return,
        };
        let folder = BlobFolder::new(self.layout.clone(), BlobIo::default(), blobs);
        for sql in all {
            if let Err(error) = self.named_blobs(&connection, &folder, sql, one, name) {
                let what = format!("its rows cannot be read: {error}");
                self.tell(Level::Error, &path, &what, &lost, RESTORE);
            }
        }
    }

    /// Opens one of SQLite's files and has SQLite check it. `None`: it is of no use.
    fn sqlite_file(
        &mut self,
        path: &Path,
        schema: Option<&Schema>,
        lost: &str,
    ) -> Option<Connection> {
        self.found.files += 1;
        let checked = self.open(path).and_then(|connection| {
            let report = quick_check(&connection)?;
            let identity = crate::sqlite::identity(&connection)?;
            Ok((connection, report, identity))
        });
        let (connection, report, (id, version, tables)) = match checked {
            Ok(checked) => checked,
            Err(error) if waits_for_start(&error) => {
                let what = "it was being written when its process ended; the next start sees to it";
                self.tell(Level::Note, path, what, "", "");
                return None;
            }
            Err(error) => {
                let what = format!("it cannot be read: {error}");
                self.tell(Level::Error, path, &what, lost, RESTORE);
                return None;
            }
        };
        if !report.is_empty() {
            let what = format!("it is damaged: {}", report.join("; "));
            self.tell(Level::Error, path, &what, lost, RESTORE);
            return None;
        }
        let schema = schema.filter(|_| tables > 0);
        if let Some(schema) = schema {
            if id != i32::from_be_bytes(schema.application_id) {
                let what = format!("it is not {} of Engawa", schema.what);
                self.tell(Level::Error, path, &what, lost, RESTORE);
                return None;
            }
            if version > schema.migrations.len() {
                self.tell(
                    Level::Error,
                    path,
                    "it was written by a newer Engawa",
                    "",
                    "Use that version or a later one.",
                );
                return None;
            }
        }
        Some(connection)
    }

    fn open(&self, path: &Path) -> rusqlite::Result<Connection> {
        let is_alone = ["-wal", "-journal"].iter().all(|end| {
            let mut beside = path.as_os_str().to_owned();
            beside.push(end);
            std::fs::metadata(beside).map_or(0, |metadata| metadata.len()) == 0
        });
        // Without a writer the file is then all there is, and SQLite has no need to make
        // files beside it.
        let mode = if self.is_owned && is_alone {
            "immutable=1"
        } else {
            "mode=ro"
        };
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
            | OpenFlags::SQLITE_OPEN_URI
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let uri = format!("file:{}?{mode}", uri_path(path));
        let connection = Connection::open_with_flags(uri, flags)?;
        connection.busy_timeout(Duration::from_secs(10))?;
        connection.pragma_update(None, "trusted_schema", false)?;
        connection.pragma_update(None, "cell_size_check", true)?;
        Ok(connection)
    }

    /// Looks at every blob that a row names: `all` gives the name of what would be lost
    /// and the blob's id.
    fn named_blobs(
        &mut self,
        connection: &Connection,
        folder: &BlobFolder,
        all: &str,
        one: &str,
        name: &str,
    ) -> rusqlite::Result<()> {
        let mut suspects = Vec::new();
        let mut select = connection.prepare(all)?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let bytes: Vec<u8> = row.get(1)?;
            let Some(id) = BlobId::from_bytes(&bytes) else {
                continue;
            };
            self.found.blobs += 1;
            if let Err(error) = self.blob(folder, id) {
                let key = String::from_utf8_lossy(row.get_ref(0)?.as_bytes()?).into_owned();
                suspects.push((key, id, error));
            }
        }
        drop(rows);
        for (key, id, error) in suspects {
            // A server may have replaced it while we looked.
            if connection
                .prepare_cached(one)?
                .exists([&id.as_bytes()[..]])?
            {
                let lost = format!("the value of {key:?} in {name}");
                let advice = "Write the value again, delete it, or restore it from a backup.";
                let what = match error.kind() {
                    ErrorKind::NotFound => "it is missing",
                    _ => error.message(),
                };
                self.tell(Level::Error, &folder.file(id), what, &lost, advice);
            }
        }
        Ok(())
    }

    fn blob(&mut self, folder: &BlobFolder, id: BlobId) -> Result<(), Error> {
        let blob = folder.open_file(id)?;
        if self.checksums {
            for block in 0..blob.blocks() {
                self.found.verified_bytes += blob.read_block(block)?.len() as u64;
            }
        }
        Ok(())
    }

    /// Files of resources that the catalog does not have.
    fn unnamed(&mut self, known: &HashMap<PathBuf, Known>) {
        let walk = || {
            let mut unnamed = Vec::new();
            for account in read_folder(&self.layout.accounts_dir())? {
                for kind in ["kv", "d1", "r2"] {
                    for folder in read_folder(&account.join(kind))? {
                        for path in read_folder(&folder)? {
                            let is_file = path.extension().is_some_and(|end| end == "sqlite");
                            if is_file && !known.contains_key(&path) {
                                unnamed.push(path);
                            }
                        }
                    }
                }
            }
            Ok::<_, Error>(unnamed)
        };
        match walk() {
            Ok(unnamed) => {
                for path in unnamed {
                    self.tell(
                        Level::Warning,
                        &path,
                        "no namespace, database or bucket of the catalog has this file",
                        "",
                        "It takes space and nothing else. If something is missing, keep it: it can be read with sqlite3.",
                    );
                }
            }
            Err(error) => self.tell(
                Level::Error,
                &self.layout.accounts_dir(),
                error.message(),
                "",
                "Check the owner and the permissions of the folder.",
            ),
        }
    }

    fn events(&mut self, account: &AccountId) {
        let folder = self.layout.events_dir(account);
        let damaged = events::EventReader::open(folder.clone())
            .and_then(|mut reader| reader.try_for_each(|batch| batch.map(|_| ())));
        if let Err(error) = damaged {
            self.tell(
                Level::Error,
                &folder,
                error.message(),
                "the data points from there to the end of that file",
                "Restore the file from a backup, or move it away: the others stay readable.",
            );
        }
    }

    fn tell(&mut self, level: Level, path: &Path, what: &str, lost: &str, advice: &str) {
        if self.found.findings.len() >= FINDINGS {
            self.found.further_findings += 1;
            return;
        }
        self.found.findings.push(Finding {
            level,
            path: path.to_owned(),
            what: what.to_owned(),
            lost: lost.to_owned(),
            advice: advice.to_owned(),
        });
    }
}

/// Whether SQLite would first have to undo or redo what was under way, which is a write.
fn waits_for_start(error: &rusqlite::Error) -> bool {
    let rusqlite::Error::SqliteFailure(failure, _) = error else {
        return false;
    };
    matches!(
        failure.extended_code,
        ffi::SQLITE_READONLY_ROLLBACK | ffi::SQLITE_READONLY_RECOVERY
    )
}

/// SQLite's own words; none if all is well.
fn quick_check(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut check = connection.prepare(&format!("PRAGMA quick_check({REPORT_LINES})"))?;
    let lines: Vec<String> = check
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    Ok(lines.into_iter().filter(|line| line != "ok").collect())
}

fn known(catalog: &Connection) -> rusqlite::Result<Vec<Known>> {
    let sql = "SELECT 'kv', account, id, title FROM kv_namespaces
               UNION ALL SELECT 'd1', account, id, name FROM d1_databases
               UNION ALL SELECT 'r2', account, name, name FROM r2_buckets";
    let mut select = catalog.prepare(sql)?;
    let rows = select.query_map([], |row| {
        let (folder, account): (String, String) = (row.get(0)?, row.get(1)?);
        let (id, name): (String, String) = (row.get(2)?, row.get(3)?);
        Ok((folder, account, id, name))
    })?;
    let mut known = Vec::new();
    for row in rows {
        let (folder, account, id, name) = row?;
        let Some(resource) = Resource::from_folder(&folder) else {
            continue;
        };
        let what = match resource {
            Resource::Kv => "the KV namespace",
            Resource::D1 => "the D1 database",
            Resource::R2 => "the R2 bucket",
        };
        let shown = if id == name {
            name
        } else {
            format!("{name} ({id})")
        };
        known.push(Known {
            resource,
            name: format!("{what} {shown} of the account {account}"),
            account: AccountId::new(account),
            id,
        });
    }
    Ok(known)
}

/// A path as part of a URI.
fn uri_path(path: &Path) -> String {
    let mut text = String::new();
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' | b'~' => {
                text.push(char::from(*byte));
            }
            _ => {
                // Into a string, this does not fail.
                let _ = write!(text, "%{byte:02X}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests;
