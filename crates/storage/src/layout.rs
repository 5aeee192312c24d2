//! Where everything lies below a data folder.
//!
//! ```text
//! DATA/engawa.lock, control.sock, catalog.sqlite, scrub.json, reserve
//! DATA/accounts/<account>/kv/<xx>/<hash>.sqlite          xx: first two digits of the hash
//!                         d1/<xx>/<hash>.sqlite
//!                         r2/<xx>/<hash>.sqlite
//!                         blobs/tmp/<blob>               uploads under way
//!                         blobs/{kv,r2}/<xx>/<hash>/<yy>/<blob>
//!                         assets/<hash of project>/<kk>/<key>
//!                         cache/<hash of project>/<yy>/<hash of key>
//!                         analytics/log/<segment>
//!                         journal/<xx>/<hash>/           of a D1 database
//! ```
//!
//! An id is any text that a user may write into a configuration, so it never becomes a
//! file name: its hash does. An account's id is kept readable where it can be.
//!
//! A folder must outlive a power cut before anything in it is acknowledged. So the first
//! time that this process uses a folder it creates it if need be (mode 0700) and syncs
//! its parent, also if it was there: an earlier process may have been killed in between.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use engawa_model::{AccountId, ProjectName};

use crate::Error;
use crate::room::Room;

/// Folders remembered as durable. Past this the memory starts anew, which costs a
/// repeated sync for each and nothing else.
const KNOWN_FOLDERS: usize = 65_536;

/// The kinds of resource that have a SQLite file of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Resource {
    Kv,
    D1,
    R2,
}

impl Resource {
    /// The name of its folder, which also stands for it in the catalog.
    pub(crate) fn folder(self) -> &'static str {
        match self {
            Self::Kv => "kv",
            Self::D1 => "d1",
            Self::R2 => "r2",
        }
    }

    pub(crate) fn from_folder(name: &str) -> Option<Self> {
        [Self::Kv, Self::D1, Self::R2]
            .into_iter()
            .find(|resource| resource.folder() == name)
    }
}

/// The paths of one data folder.
#[derive(Debug)]
pub(crate) struct Layout {
    data_dir: PathBuf,
    durable: Mutex<HashSet<PathBuf>>,
    room: Room,
}

impl Layout {
    pub(crate) fn new(data_dir: PathBuf) -> Self {
        Self {
            room: Room::new(data_dir.join("reserve")),
            data_dir,
            durable: Mutex::default(),
        }
    }

    /// Room for deletions.
    pub(crate) fn room(&self) -> &Room {
        &self.room
    }

    pub(crate) fn catalog_file(&self) -> PathBuf {
        self.data_dir.join("catalog.sqlite")
    }

    /// Where the scrubber keeps its place.
    pub(crate) fn scrub_file(&self) -> PathBuf {
        self.data_dir.join("scrub.json")
    }

    pub(crate) fn accounts_dir(&self) -> PathBuf {
        self.data_dir.join("accounts")
    }

    /// The SQLite file of a resource. Its folder may not exist yet.
    pub(crate) fn database_file(
        &self,
        resource: Resource,
        account: &AccountId,
        id: &str,
    ) -> PathBuf {
        let hash = hash_name(id);
        let mut path = self.account_dir(account);
        path.extend([resource.folder(), &hash[..2]]);
        path.push(format!("{hash}.sqlite"));
        path
    }

    /// The folder of a resource's blobs.
    pub(crate) fn blobs_dir(&self, resource: Resource, account: &AccountId, id: &str) -> PathBuf {
        let hash = hash_name(id);
        let mut path = self.account_dir(account);
        path.extend(["blobs", resource.folder(), &hash[..2], &hash]);
        path
    }

    /// Where an account's uploads lie until a transaction is about to name them.
    pub(crate) fn blobs_tmp_dir(&self, account: &AccountId) -> PathBuf {
        let mut path = self.account_dir(account);
        path.extend(["blobs", "tmp"]);
        path
    }

    /// The folder of a project's static files.
    pub(crate) fn assets_dir(&self, account: &AccountId, project: &ProjectName) -> PathBuf {
        let mut path = self.account_dir(account);
        path.push("assets");
        path.push(hash_name(project.as_str()));
        path
    }

    /// The folder of what a project keeps with the Cache API.
    pub(crate) fn cache_dir(&self, account: &AccountId, project: &ProjectName) -> PathBuf {
        let mut path = self.account_dir(account);
        path.push("cache");
        path.push(hash_name(project.as_str()));
        path
    }

    /// The folder of an account's log of Analytics Engine points.
    pub(crate) fn events_dir(&self, account: &AccountId) -> PathBuf {
        let mut path = self.account_dir(account);
        path.extend(["analytics", "log"]);
        path
    }

    /// The folder of a D1 database's journal.
    pub(crate) fn journal_dir(&self, account: &AccountId, database: &str) -> PathBuf {
        let hash = hash_name(database);
        let mut path = self.account_dir(account);
        path.extend(["journal", &hash[..2], &hash]);
        path
    }

    pub(crate) fn account_dir(&self, account: &AccountId) -> PathBuf {
        self.accounts_dir().join(account_name(account))
    }

    /// Makes `folder`, which lies below the data folder, and everything above it exist
    /// and outlive a power cut. Blocking; costs nothing from the second call on.
    pub(crate) fn ensure_folder(&self, folder: &Path) -> Result<(), Error> {
        let mut durable = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        if durable.contains(folder) {
            return Ok(());
        }
        let mut missing: Vec<&Path> = folder
            .ancestors()
            .take_while(|ancestor| *ancestor != self.data_dir && !durable.contains(*ancestor))
            .collect();
        missing.reverse();
        let missing: Vec<PathBuf> = missing.into_iter().map(Path::to_path_buf).collect();
        for folder in missing {
            make_folder(&folder)?;
            if durable.len() >= KNOWN_FOLDERS {
                durable.clear();
            }
            durable.insert(folder);
        }
        Ok(())
    }

    /// The same for the folder of a file.
    pub(crate) fn ensure_parent(&self, file: &Path) -> Result<(), Error> {
        file.parent()
            .map_or(Ok(()), |folder| self.ensure_folder(folder))
    }

    /// Removes the SQLite file of a resource, with what SQLite keeps beside it, and the
    /// resource's blobs. Nothing may have it open. Blocking.
    pub(crate) fn remove_database(
        &self,
        resource: Resource,
        account: &AccountId,
        id: &str,
    ) -> Result<(), Error> {
        let database = self.database_file(resource, account, id);
        for suffix in ["-wal", "-shm", ""] {
            let mut file = database.clone().into_os_string();
            file.push(suffix);
            let file = PathBuf::from(file);
            match fs::remove_file(&file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::io("remove", &file, error));
                }
                _ => {}
            }
        }
        if let Some(folder) = database.parent().filter(|folder| folder.exists()) {
            sync_folder(folder)?;
        }
        self.remove_folder(&self.blobs_dir(resource, account, id))
    }

    /// Removes a folder with everything in it; one that is not there is fine. Blocking.
    pub(crate) fn remove_folder(&self, folder: &Path) -> Result<(), Error> {
        let mut durable = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        durable.retain(|known| !known.starts_with(folder));
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::io("remove", folder, error))
            }
            _ => Ok(()),
        }
    }
}

/// Creates one folder, unless it is there, and syncs its parent.
pub(crate) fn make_folder(folder: &Path) -> Result<(), Error> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(Error::io("create the folder", folder, error));
        }
        _ => {}
    }
    folder.parent().map_or(Ok(()), sync_folder)
}

/// Makes the entries of a folder outlive a power cut.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), Error> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| Error::io("sync the folder", folder, error))
}

/// The file name of an id: 32 hex digits of its BLAKE3 hash.
pub(crate) fn hash_name(id: &str) -> String {
    blake3::hash(id.as_bytes()).to_hex()[..32].to_owned()
}

/// An account's folder: its id if that is a plain lower-case word (Cloudflare's are 32 hex
/// digits), else a hash behind a `~`, which no plain word contains.
fn account_name(account: &AccountId) -> String {
    let id = account.as_str();
    let plain = (1..=64).contains(&id.len())
        && id.bytes().all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte)
        });
    if plain {
        id.to_owned()
    } else {
        format!("~{}", hash_name(id))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn no_id_leaves_its_accounts_folder_or_meets_another_one() {
        let layout = Layout::new("/data".into());
        let (a, b) = (AccountId::local(), AccountId::new("../local"));
        let mut paths = HashSet::new();
        for account in [&a, &b, &AccountId::new("LOCAL"), &AccountId::new("")] {
            for id in ["x", "X", "../x", "my/ Database", "", "."] {
                let path = layout.database_file(Resource::D1, account, id);
                assert!(path.starts_with("/data/accounts"));
                assert!(!path.to_str().unwrap().contains(".."));
                assert_eq!(path.components().count(), 7);
                assert!(paths.insert(path));
            }
        }
        assert!(layout.account_dir(&a).ends_with("local"));
    }

    #[test]
    fn folders_are_private_and_may_be_removed_and_made_again() {
        let data = tempfile::tempdir().unwrap();
        let layout = Layout::new(data.path().to_owned());
        let folder = data.path().join("accounts/a/kv");
        for _ in 0..2 {
            layout.ensure_folder(&folder).unwrap();
            layout.ensure_folder(&folder).unwrap();
            let mode = fs::metadata(&folder).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700);
            layout
                .remove_folder(&data.path().join("accounts/a"))
                .unwrap();
            assert!(!folder.exists());
        }
    }
}
