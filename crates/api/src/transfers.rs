//! Files on their way into and out of a database. wrangler imports and exports by a URL
//! that it fetches without credentials, so the file's name is a secret of 128 bits that
//! lives for an hour (control-plane-api.md 6.3, 6.4).

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use engawa_model::{AccountId, DatabaseId};

/// How long a file is kept (docs: d1 import and export data).
const KEPT: Duration = Duration::from_hours(1);
/// Files kept at once. Past this the oldest goes.
const FILES: usize = 16;
/// Their bytes together. Past this the oldest goes.
const BYTES: usize = 1024 * 1024 * 1024;

/// The files of all databases.
pub(crate) struct Transfers(Mutex<HashMap<String, Transfer>>);

struct Transfer {
    account: AccountId,
    database: DatabaseId,
    since: Instant,
    content: Content,
}

/// A file, or the place for one.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    /// Announced, with the MD5 that it will have.
    Expected {
        /// Lower-case hex.
        md5: String,
    },
    /// SQL text.
    Ready(Bytes),
}

impl Transfers {
    pub(crate) fn new() -> Self {
        Self(Mutex::default())
    }

    /// Keeps a file under a new name.
    pub(crate) fn add(
        &self,
        account: &AccountId,
        database: &DatabaseId,
        content: Content,
    ) -> Result<String, getrandom::Error> {
        let mut id = [0; 16];
        getrandom::fill(&mut id)?;
        let name = format!("{:032x}.sql", u128::from_be_bytes(id));
        let transfer = Transfer {
            account: account.clone(),
            database: database.clone(),
            since: Instant::now(),
            content,
        };
        let mut files = self.lock();
        files.insert(name.clone(), transfer);
        make_room(&mut files, &name);
        Ok(name)
    }

    /// What an upload to this name must have as its MD5; `None`: none is expected.
    pub(crate) fn expected(
        &self,
        account: &AccountId,
        database: &DatabaseId,
        name: &str,
    ) -> Option<String> {
        match &of(&self.lock(), account, database, name)?.content {
            Content::Expected { md5 } => Some(md5.clone()),
            Content::Ready(_) => None,
        }
    }

    /// Puts the file in its place. `false`: it was given up meanwhile.
    pub(crate) fn fill(
        &self,
        account: &AccountId,
        database: &DatabaseId,
        name: &str,
        file: Bytes,
    ) -> bool {
        let mut files = self.lock();
        if of(&files, account, database, name).is_none() {
            return false;
        }
        if let Some(transfer) = files.get_mut(name) {
            transfer.content = Content::Ready(file);
        }
        make_room(&mut files, name);
        true
    }

    /// Takes a file that is complete.
    pub(crate) fn take(
        &self,
        account: &AccountId,
        database: &DatabaseId,
        name: &str,
    ) -> Option<Bytes> {
        let mut files = self.lock();
        match &of(&files, account, database, name)?.content {
            Content::Expected { .. } => None,
            Content::Ready(file) => {
                let file = file.clone();
                files.remove(name);
                Some(file)
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Transfer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file of this very database.
fn of<'a>(
    files: &'a HashMap<String, Transfer>,
    account: &AccountId,
    database: &DatabaseId,
    name: &str,
) -> Option<&'a Transfer> {
    files.get(name).filter(|file| {
        file.account == *account && file.database == *database && file.since.elapsed() < KEPT
    })
}

/// Drops what is too old or too much, but not `newest`.
fn make_room(files: &mut HashMap<String, Transfer>, newest: &str) {
    files.retain(|_, file| file.since.elapsed() < KEPT);
    let size = |file: &Transfer| match &file.content {
        Content::Expected { .. } => 0,
        Content::Ready(bytes) => bytes.len(),
    };
    while files.len() > FILES || files.values().map(size).sum::<usize>() > BYTES {
        let oldest = files
            .iter()
            .filter(|(name, _)| *name != newest)
            .min_by_key(|(_, file)| file.since)
            .map(|(name, _)| name.clone());
        let Some(oldest) = oldest else { return };
        files.remove(&oldest);
    }
}
