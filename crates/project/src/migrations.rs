//! Migration files of a D1 database: which there are, in which order, and what is sent to
//! apply one. Applying is the caller's.
//!
//! The rules are wrangler's (storage.md 2.12; workers-sdk
//! `packages/wrangler/src/d1/migrations/{helpers,create}.ts`).

use std::cmp::Ordering;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};
use walkdir::WalkDir;

use crate::compat::date_of_ms;
use crate::config::{Config, D1Database};

/// Where the migrations of one database lie.
#[derive(Debug, Clone)]
pub struct Migrations {
    /// The folder.
    dir: PathBuf,
    /// The folder as the wrangler file has it, normal form.
    dir_written: String,
    /// The pattern as the wrangler file has it, normal form.
    pattern_written: String,
    /// The pattern relative to the folder.
    matcher: GlobMatcher,
    /// Whether names that begin with a dot match.
    hidden: bool,
    /// Folder levels that can match.
    depth: usize,
    /// The wrangler file's name, for messages.
    config_file: String,
    table: String,
    /// Whether the wrangler file names the folder.
    dir_is_default: bool,
}

/// Why migrations cannot be listed or made.
#[derive(Debug, thiserror::Error)]
pub enum MigrationsError {
    /// `migrations_pattern` without `migrations_dir`.
    #[error(
        "You have set migrations_pattern = {pattern:?} in your {config_file} file but have not set migrations_dir for this D1 binding. Add a migrations_dir entry (for example, migrations_dir = \"migrations\"); migrations_pattern must start with it."
    )]
    PatternWithoutDir {
        /// As written.
        pattern: String,
        /// The wrangler file's name.
        config_file: String,
    },
    /// The pattern does not begin with the folder.
    #[error(
        "The configured migrations_pattern = {pattern:?} in your {config_file} file must start with {dir}/ to match migrations_dir = {dir:?}. Change one of them, for example to migrations_pattern = \"{dir}/*.sql\"."
    )]
    PatternOutsideDir {
        /// As written.
        pattern: String,
        /// Normal form.
        dir: String,
        /// The wrangler file's name.
        config_file: String,
    },
    /// The pattern is no glob.
    #[error("migrations_pattern = {pattern:?} in your {config_file} file is not a glob pattern")]
    BadPattern {
        /// As written.
        pattern: String,
        /// The wrangler file's name.
        config_file: String,
        /// Why.
        source: globset::Error,
    },
    /// The folder does not exist.
    #[error("No migrations present at {}. {hint}", dir.display())]
    NoFolder {
        /// The folder.
        dir: PathBuf,
        /// What to do.
        hint: String,
    },
    /// Too many files below the folder.
    #[error("There are more than {MAX_FILES} files below {}", dir.display())]
    TooMany {
        /// The folder.
        dir: PathBuf,
    },
    /// The message of a new migration cannot be a file name.
    #[error(
        "The migration name {message:?} contains a path separator (\"/\" or \"\\\") or a control character, or is longer than {MAX_MESSAGE_BYTES} bytes. Please change this and try again."
    )]
    BadMessage {
        /// As given.
        message: String,
    },
    /// A new migration would not be found again.
    #[error(
        "A new migration would be called {path}, but it does not match migrations_pattern = {pattern:?} in your {config_file} file, so `d1 migrations apply` would not pick it up. If an ORM manages your migrations, use its command; else change migrations_pattern to match top-level .sql files (for example, \"{dir}/*.sql\")."
    )]
    NewDoesNotMatch {
        /// Where it would lie.
        path: String,
        /// As written.
        pattern: String,
        /// The folder.
        dir: String,
        /// The wrangler file's name.
        config_file: String,
    },
    /// A file or folder cannot be read or written.
    #[error("cannot {step} {}", path.display())]
    Io {
        /// What was tried.
        step: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Files below a migrations folder that are looked at.
const MAX_FILES: usize = 100_000;
/// Folder levels below a migrations folder that are looked at.
const MAX_DEPTH: usize = 16;
/// Of a new migration's message; file names end at 255.
const MAX_MESSAGE_BYTES: usize = 200;

impl Migrations {
    /// The migrations of one database of a project.
    pub fn new(config: &Config, database: &D1Database) -> Result<Self, MigrationsError> {
        let config_file = config
            .config_file
            .as_deref()
            .and_then(Path::file_name)
            .map_or_else(
                || "wrangler.toml".to_owned(),
                |name| name.to_string_lossy().into_owned(),
            );
        let dir = normalized(database.migrations_dir.as_deref().unwrap_or("migrations"));
        let pattern = match (&database.migrations_pattern, &database.migrations_dir) {
            (None, _) => normalized(&format!("{dir}/*.sql")),
            (Some(pattern), Some(_)) => normalized(pattern),
            (Some(pattern), None) => {
                return Err(MigrationsError::PatternWithoutDir {
                    pattern: pattern.clone(),
                    config_file,
                });
            }
        };
        let relative = if dir == "." {
            Some(pattern.as_str())
        } else {
            pattern
                .strip_prefix(&dir)
                .and_then(|rest| rest.strip_prefix('/'))
        };
        let Some(relative) = relative else {
            return Err(MigrationsError::PatternOutsideDir {
                pattern,
                dir,
                config_file,
            });
        };
        let matcher = GlobBuilder::new(relative)
            .literal_separator(true)
            .build()
            .map_err(|source| MigrationsError::BadPattern {
                pattern: pattern.clone(),
                config_file: config_file.clone(),
                source,
            })?
            .compile_matcher();
        let depth = if relative.contains("**") {
            MAX_DEPTH
        } else {
            relative.split('/').count().min(MAX_DEPTH)
        };
        Ok(Self {
            dir: config.root.join(&dir),
            hidden: relative.split('/').any(|part| part.starts_with('.')),
            matcher,
            depth,
            dir_written: dir,
            pattern_written: pattern,
            config_file,
            table: database.migrations_table.clone(),
            dir_is_default: database.migrations_dir.is_none(),
        })
    }

    /// The folder of the files.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Names of all migrations in the order in which they are applied: paths relative to
    /// the folder, with `/`.
    pub fn list(&self) -> Result<Vec<String>, MigrationsError> {
        if !self.dir.is_dir() {
            let hint = if self.dir_is_default {
                format!(
                    "Make the folder, or set migrations_dir in your {} file to choose a different path.",
                    self.config_file
                )
            } else {
                format!(
                    "Make the folder, or correct migrations_dir in your {} file.",
                    self.config_file
                )
            };
            return Err(MigrationsError::NoFolder {
                dir: self.dir.clone(),
                hint,
            });
        }
        let mut names = Vec::new();
        let walk = WalkDir::new(&self.dir)
            .min_depth(1)
            .max_depth(self.depth)
            .follow_root_links(true)
            .into_iter()
            .filter_entry(|entry| {
                self.hidden
                    || entry.depth() == 0
                    || !entry.file_name().to_string_lossy().starts_with('.')
            });
        for (seen, entry) in walk.enumerate() {
            if seen >= MAX_FILES {
                return Err(MigrationsError::TooMany {
                    dir: self.dir.clone(),
                });
            }
            let entry = entry.map_err(|error| MigrationsError::Io {
                step: "list",
                path: error.path().unwrap_or(&self.dir).to_path_buf(),
                source: error.into(),
            })?;
            let Some(name) = entry
                .path()
                .strip_prefix(&self.dir)
                .ok()
                .and_then(Path::to_str)
            else {
                continue;
            };
            if entry.file_type().is_file() && self.matcher.is_match(name) {
                names.push(name.to_owned());
            }
        }
        names.sort_by(|a, b| compare(a, b));
        Ok(names)
    }

    /// Those of `list()` that are not in `applied`, in their order. Only names count;
    /// contents are never compared.
    pub fn pending<S: AsRef<str>>(&self, applied: &[S]) -> Result<Vec<String>, MigrationsError> {
        let applied: std::collections::HashSet<&str> = applied.iter().map(AsRef::as_ref).collect();
        let mut names = self.list()?;
        names.retain(|name| !applied.contains(name.as_str()));
        Ok(names)
    }

    /// Makes an empty migration with the next number and gives its path; the folder is
    /// made if there is none. `now_ms` is milliseconds since 1970.
    pub fn create(&self, message: &str, now_ms: u64) -> Result<PathBuf, MigrationsError> {
        let name = message.replace(' ', "_");
        if name.contains(['/', '\\'])
            || name.chars().any(char::is_control)
            || name.len() > MAX_MESSAGE_BYTES
        {
            return Err(MigrationsError::BadMessage {
                message: message.to_owned(),
            });
        }
        let last = if self.dir.is_dir() {
            self.list()?
                .iter()
                .filter_map(|name| leading_number(name.split('/').next().unwrap_or(name)))
                .max()
                .unwrap_or(0)
        } else {
            0
        };
        let number = format!("{:04}", last.saturating_add(1));
        let file_name = format!("{number}_{name}.sql");
        if !self.matcher.is_match(&file_name) {
            return Err(MigrationsError::NewDoesNotMatch {
                path: normalized(&format!("{}/{file_name}", self.dir_written)),
                pattern: self.pattern_written.clone(),
                dir: self.dir_written.clone(),
                config_file: self.config_file.clone(),
            });
        }
        let io = |step, path: &Path| {
            let path = path.to_path_buf();
            move |source| MigrationsError::Io { step, path, source }
        };
        fs::create_dir_all(&self.dir).map_err(io("make the folder", &self.dir))?;
        let path = self.dir.join(file_name);
        let header = format!("-- Migration number: {number} \t {}\n", iso_time(now_ms));
        let mut file = fs::File::create_new(&path).map_err(io("make", &path))?;
        file.write_all(header.as_bytes())
            .and_then(|()| file.sync_all())
            .map_err(io("write", &path))?;
        Ok(path)
    }

    /// The statement that makes the table of applied migrations if there is none.
    pub fn create_table_sql(&self) -> String {
        format!(
            "CREATE TABLE IF NOT EXISTS {}(\n\t\tid         INTEGER PRIMARY KEY AUTOINCREMENT,\n\t\tname       TEXT UNIQUE,\n\t\tapplied_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP NOT NULL\n);",
            quoted_identifier(&self.table)
        )
    }

    /// The query for the names of applied migrations, in column `name`.
    pub fn applied_sql(&self) -> String {
        format!(
            "SELECT *\n\t\tFROM {}\n\t\tORDER BY id",
            quoted_identifier(&self.table)
        )
    }

    /// What is sent to apply a migration: its text and the note that it was applied. To be
    /// run as one, so that neither happens without the other.
    pub fn apply_sql(&self, name: &str) -> Result<String, MigrationsError> {
        let path = self.dir.join(name);
        let text = fs::read_to_string(&path).map_err(|source| MigrationsError::Io {
            step: "read",
            path,
            source,
        })?;
        Ok(format!(
            "{text}\nINSERT INTO {} (name)\nvalues ('{}');",
            quoted_identifier(&self.table),
            name.replace('\'', "''")
        ))
    }
}

/// By the leading number of each part of the path, numbered before unnumbered, then by
/// text, so that `10_c.sql` comes after `9_b.sql`.
fn compare(a: &str, b: &str) -> Ordering {
    let by_parts = a
        .split('/')
        .zip(b.split('/'))
        .map(|(a, b)| {
            let by_number = match (leading_number(a), leading_number(b)) {
                (Some(a), Some(b)) => a.cmp(&b),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => Ordering::Equal,
            };
            // JavaScript compares UTF-16 units.
            by_number.then_with(|| a.encode_utf16().cmp(b.encode_utf16()))
        })
        .find(|order| order.is_ne());
    by_parts.unwrap_or_else(|| a.split('/').count().cmp(&b.split('/').count()))
}

/// JavaScript's `parseInt` of what stands before the first `_`.
fn leading_number(part: &str) -> Option<u64> {
    let head = part.split('_').next().unwrap_or(part).trim_start();
    let end = head
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(head.len());
    let digits = &head[..end];
    if digits.is_empty() {
        return None;
    }
    Some(digits.parse().unwrap_or(u64::MAX))
}

/// Node's `path.posix.normalize` after turning `\` into `/`, without a `/` at the end.
fn normalized(path: &str) -> String {
    let path = path.replace('\\', "/");
    let absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if absolute => {}
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (absolute, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

fn quoted_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// As JavaScript's `toISOString`.
fn iso_time(now_ms: u64) -> String {
    let of_day = now_ms % 86_400_000;
    let (hours, minutes) = (of_day / 3_600_000, of_day / 60_000 % 60);
    let (seconds, millis) = (of_day / 1000 % 60, of_day % 1000);
    let date = date_of_ms(now_ms);
    format!("{date}T{hours:02}:{minutes:02}:{seconds:02}.{millis:03}Z")
}

#[cfg(test)]
mod tests;
