//! Time Travel: what was the bookmark of a moment, and the database as it was then
//! (storage.md 2.10).
//!
//! A restore is a commit like any other: the journal writes the database as it was into a
//! file, SQLite checks it, and then copies it over the database in one transaction. So a
//! reader sees the old content or the new one, a kill leaves either, and the bookmark of
//! the commit before undoes it. It is the writer's work, so that no write falls in
//! between; reads go on meanwhile, on what they began with.

use std::path::Path;
use std::sync::atomic::Ordering;

use engawa_model::{AccountId, DatabaseId, ErrorKind, Metered, Usage, UsageClass};
use rusqlite::ffi as sqlite;

use super::errors::SqlError;
use super::ffi::Db;
use super::file::{D1File, Output, Stopped, Work, is_sound, lock, unknown};
use super::{D1, bookmark, unexpected};
use crate::{Error, Stamp};

/// Which state of a database is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum D1Moment {
    /// The one right after the commit that has this bookmark.
    Bookmark(String),
    /// The one at this time, in milliseconds since 1970.
    TimestampMs(u64),
}

/// What a restore did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct D1Restore {
    /// The bookmark whose state the database has again.
    pub bookmark: String,
    /// The bookmark of the state before: restoring that undoes the restore.
    pub previous_bookmark: String,
}

impl D1 {
    /// The bookmark of the newest commit, or of the one that was the newest at a time
    /// (milliseconds since 1970). [`ErrorKind::InvalidArgument`] if that time is to come,
    /// or before the database's history.
    pub async fn bookmark(
        &self,
        account: &AccountId,
        database: &DatabaseId,
        at_ms: Option<u64>,
    ) -> Result<Metered<String>, Error> {
        let answer = self
            .submit(account, database, Work::Bookmark(at_ms), None, false)
            .await?;
        let Output::Bookmark(value) = answer.output else {
            return Err(unexpected());
        };
        let usage = Usage::one(UsageClass::D1Query);
        Ok(Metered { value, usage })
    }

    /// Brings the database back to a moment of the last 30 days.
    /// [`ErrorKind::InvalidArgument`] if its history does not have it,
    /// [`ErrorKind::Corrupt`] if the history is damaged there; then nothing has changed.
    pub async fn restore(
        &self,
        account: &AccountId,
        database: &DatabaseId,
        moment: D1Moment,
    ) -> Result<Metered<D1Restore>, Error> {
        let answer = self
            .submit(account, database, Work::Restore(moment), None, false)
            .await?;
        let Output::Restored { bookmark, previous } = answer.output else {
            return Err(unexpected());
        };
        let value = D1Restore {
            bookmark,
            previous_bookmark: previous,
        };
        let usage = Usage::one(UsageClass::D1Query);
        Ok(Metered { value, usage })
    }
}

impl D1File {
    pub(super) fn bookmark(&mut self, at_ms: Option<u64>) -> Result<Output, Error> {
        let commit = match at_ms {
            Some(at_ms) => self.commit_at(at_ms)?,
            None => self.shared.committed.load(Ordering::SeqCst),
        };
        Ok(Output::Bookmark(self.shared.bookmark(commit)))
    }

    pub(super) fn restore(&mut self, moment: &D1Moment) -> Result<Output, Stopped> {
        let commit = match moment {
            D1Moment::Bookmark(text) => self.commit_of(text)?,
            D1Moment::TimestampMs(at_ms) => self.commit_at(*at_ms)?,
        };
        self.settle()?;
        let previous = self
            .shared
            .bookmark(self.shared.committed.load(Ordering::SeqCst));
        let image = lock(&self.unsynced).journal.restore(commit)?;
        let replaced = self.replace_by(&image);
        // One that stays is removed when the journal is opened next.
        let _ = std::fs::remove_file(&image);
        replaced?;
        Ok(Output::Restored {
            bookmark: self.shared.bookmark(commit),
            previous,
        })
    }

    /// All that was executed is durable and in the journal, and answered.
    fn settle(&mut self) -> Result<(), Error> {
        let mut unsynced = lock(&self.unsynced);
        self.shared.settle(&mut unsynced, &self.connection.db.wal());
        if self.shared.broken.load(Ordering::Relaxed) {
            return Err(unknown());
        }
        Ok(())
    }

    /// The last commit up to a time.
    fn commit_at(&mut self, at_ms: u64) -> Result<u64, Error> {
        let now = Stamp::from_sql((self.context.next_stamp)()?.cast_signed());
        if at_ms > now.ms() {
            let text = "The timestamp is in the future; please provide one in the past.";
            return Err(Error::new(ErrorKind::InvalidArgument, text));
        }
        self.settle()?;
        lock(&self.unsynced)
            .journal
            .commit_at(Stamp::last_of_ms(at_ms))
    }

    fn commit_of(&self, text: &str) -> Result<u64, Error> {
        let newest = self.shared.committed.load(Ordering::SeqCst);
        bookmark::commit(text, &self.shared.lineage)
            .filter(|commit| *commit <= newest)
            .ok_or_else(|| {
                let text = format!("The bookmark '{text}' is not one of this database.");
                Error::new(ErrorKind::InvalidArgument, text)
            })
    }

    /// The content of an image instead of what is there, as one commit.
    fn replace_by(&mut self, image: &Path) -> Result<(), Stopped> {
        let flags = sqlite::SQLITE_OPEN_READONLY | sqlite::SQLITE_OPEN_NOMUTEX;
        let source = Db::open(image, flags)?;
        if !is_sound(&source)? {
            let message = format!(
                "the journal {} gives a database that is damaged, so nothing was restored; \
                 choose another moment",
                image.parent().unwrap_or(image).display()
            );
            return Err(Error::new(ErrorKind::Corrupt, message).into());
        }
        let number = (self.context.next_stamp)()?;
        lock(&self.unsynced).committing = true;
        self.shared.committed.store(number, Ordering::SeqCst);
        let copied = source.copy_to(&self.connection.db);
        lock(&self.unsynced).committing = false;
        let told = self.connection.content_replaced();
        copied.and(told).map_err(|error: SqlError| error.into())
    }
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Self {
        Self::Own(error)
    }
}
