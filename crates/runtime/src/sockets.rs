//! The folder in which a runtime's sockets lie.
//!
//! Its name is short, since a unix path ends at 107 bytes, and only its owner can enter
//! it. A lock says that the owner lives: what a killed one has left is removed by the
//! next that starts.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

const PREFIX: &str = "engawa-";
const LOCK: &str = "lock";

/// A folder that goes with this value.
#[derive(Debug)]
pub(crate) struct SocketDir {
    dir: TempDir,
    _lock: File,
}

impl SocketDir {
    /// A folder below `TMPDIR` if its path is short enough, else below `/tmp`.
    pub(crate) fn new() -> io::Result<Self> {
        // Absolute, since a worker's process has another current folder.
        let temp = std::path::absolute(std::env::temp_dir())?;
        Self::new_in(&if temp.as_os_str().len() <= 60 {
            temp
        } else {
            PathBuf::from("/tmp")
        })
    }

    fn new_in(parent: &Path) -> io::Result<Self> {
        remove_abandoned(parent);
        let dir = tempfile::Builder::new()
            .prefix(PREFIX)
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(parent)?;
        // Locked before it has the name by which others judge the folder.
        let unnamed = dir.path().join("new");
        let lock = File::create_new(&unnamed)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        std::fs::rename(unnamed, dir.path().join(LOCK))?;
        Ok(Self { dir, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// Whatever cannot be looked at or removed belongs to somebody else.
fn remove_abandoned(parent: &Path) {
    let Ok(entries) = std::fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        if !entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(PREFIX.as_bytes())
        {
            continue;
        }
        let Ok(lock) = File::open(entry.path().join(LOCK)) else {
            continue;
        };
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_an_owner_is_removed_and_others_are_left_alone() {
        let parent = tempfile::tempdir().unwrap();
        let [abandoned, foreign] =
            ["engawa-dead", "engawa-of-another-kind"].map(|name| parent.path().join(name));
        std::fs::create_dir(&abandoned).unwrap();
        std::fs::write(abandoned.join(LOCK), "").unwrap();
        std::fs::write(abandoned.join("w1"), "").unwrap();
        std::fs::create_dir(&foreign).unwrap();

        let first = SocketDir::new_in(parent.path()).unwrap();
        let second = SocketDir::new_in(parent.path()).unwrap();
        assert!(!abandoned.exists());
        assert!(foreign.exists());
        assert!(first.path().exists() && second.path().exists());

        let path = first.path().to_owned();
        drop(first);
        assert!(!path.exists());
    }

    #[test]
    fn only_the_owner_can_enter() {
        let sockets = SocketDir::new().unwrap();
        let mode = std::fs::metadata(sockets.path())
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o700);
        assert!(
            sockets
                .path()
                .join(format!("w{:x}", u64::MAX))
                .as_os_str()
                .len()
                <= 107
        );
    }
}
