//! Who owns a data folder: the one process that holds the lock on its `engawa.lock`.
//!
//! The owner answers on `control.sock`; every other command that wants the folder asks
//! there, or becomes the owner if there is none. The kernel drops the lock with the
//! process, so a killed owner blocks nobody; the file's text (process id and purpose) is
//! only there to be shown.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, flock};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// The lock on a data folder. Dropping it gives the folder up.
#[derive(Debug)]
pub struct Owner {
    data_dir: PathBuf,
    /// Holds the lock.
    _lock: File,
    /// A descriptor of the data folder: the way to its socket whose path is always short
    /// (a unix socket's ends at 107 bytes).
    folder: File,
}

/// Why a data folder could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum OwnerError {
    /// Another process has it.
    #[error("{} is in use by {what}{}; stop it first, or use another folder",
        data_dir.display(), pid.map_or_else(String::new, |pid| format!(" (process {pid})")))]
    Held {
        /// The folder.
        data_dir: PathBuf,
        /// The other process, if it has told yet.
        pid: Option<u32>,
        /// What it is doing there, such as `engawa dev`.
        what: String,
    },
    /// The folder cannot be created, read or locked.
    #[error("cannot use the data folder {}: {source}", path.display())]
    Io {
        /// The folder, or the file in it.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Owner {
    /// Takes a data folder, creating it (mode 0700) if need be. `purpose` is shown to
    /// whoever comes second, such as `engawa dev`. Blocking, but never for long.
    pub fn acquire(data_dir: &Path, purpose: &str) -> Result<Self, OwnerError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| OwnerError::Io { path, source }
        };
        create_data_dir(data_dir).map_err(failed(data_dir))?;
        // Absolute, since the process may change its folder later.
        let data_dir = data_dir.canonicalize().map_err(failed(data_dir))?;
        let folder = File::open(&data_dir).map_err(failed(&data_dir))?;
        let path = data_dir.join("engawa.lock");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed(&path))?;
        if let Err(error) = flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            if error != rustix::io::Errno::WOULDBLOCK {
                return Err(failed(&path)(error.into()));
            }
            let (pid, what) = read_holder(&mut lock);
            return Err(OwnerError::Held {
                data_dir,
                pid,
                what,
            });
        }
        let purpose = purpose.replace(['\n', '\r'], " ");
        lock.set_len(0)
            .and_then(|()| writeln!(lock, "{} {purpose}", std::process::id()))
            .map_err(failed(&path))?;
        Ok(Self {
            data_dir,
            _lock: lock,
            folder,
        })
    }

    /// The folder, as an absolute path.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Listens on the folder's control socket (mode 0600). One that a dead owner left is
    /// replaced.
    pub fn control_listener(&self) -> io::Result<UnixListener> {
        let path = control_path(&self.folder);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket: OwnedFd = rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )?;
        rustix::net::bind(&socket, &SocketAddrUnix::new(&path)?)?;
        // Nobody can connect before `listen`, so the mode is never too wide.
        rustix::fs::chmod(&path, Mode::RUSR | Mode::WUSR)?;
        rustix::net::listen(&socket, 128)?;
        Ok(UnixListener::from(socket))
    }
}

/// Connects to the owner of a data folder.
pub fn connect_control(data_dir: &Path) -> io::Result<UnixStream> {
    let folder = File::open(data_dir)?;
    UnixStream::connect(control_path(&folder))
}

fn control_path(folder: &File) -> PathBuf {
    format!("/proc/self/fd/{}/control.sock", folder.as_raw_fd()).into()
}

fn read_holder(lock: &mut File) -> (Option<u32>, String) {
    let mut text = String::new();
    // The holder may be writing right now: then nothing is known of it.
    let _ = lock.rewind();
    let _ = lock.take(4096).read_to_string(&mut text);
    let (pid, what) = text.trim_end().split_once(' ').unwrap_or_default();
    let what = if what.is_empty() {
        "another process"
    } else {
        what
    };
    (pid.parse().ok(), what.to_owned())
}

/// Makes a data folder (mode 0700) and what is missing above it exist and outlive a power
/// cut. Blocking.
///
/// # Errors
/// When it cannot be made, or the folder above it cannot be synced.
pub fn create_data_dir(data_dir: &Path) -> io::Result<()> {
    let data_dir = std::path::absolute(data_dir)?;
    let missing: Vec<&Path> = data_dir
        .ancestors()
        .take_while(|folder| !folder.is_dir())
        .collect();
    for folder in missing.iter().rev() {
        match DirBuilder::new().mode(0o700).create(folder) {
            // Another process may be making it too.
            Err(error) if !folder.is_dir() => return Err(error),
            _ => {}
        }
    }
    // Also if it was there: whoever made it may have been killed before it was synced.
    for (above, folder) in data_dir.ancestors().skip(1).enumerate() {
        let synced = File::open(folder).and_then(|folder| folder.sync_all());
        // What this process could not have made, it need not be able to sync.
        if above <= missing.len() {
            synced?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_second_owner_is_told_who_the_first_is_and_may_follow_it() {
        let parent = tempfile::tempdir().unwrap();
        let data = parent.path().join("a/b");
        let first = Owner::acquire(&data, "engawa dev").unwrap();
        let error = Owner::acquire(&data, "engawa d1").unwrap_err();
        let OwnerError::Held { pid, what, .. } = &error else {
            panic!("{error}")
        };
        assert_eq!(*pid, Some(std::process::id()));
        assert_eq!(what, "engawa dev");
        let text = error.to_string();
        assert!(
            text.contains(&format!("engawa dev (process {})", std::process::id())),
            "{text}"
        );
        drop(first);
        let _second = Owner::acquire(&data, "a longer purpose").unwrap();
        let mode = fs::metadata(&data).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn the_control_socket_is_reached_through_any_length_of_path() {
        let parent = tempfile::tempdir().unwrap();
        let data = parent.path().join("x".repeat(200));
        let owner = Owner::acquire(&data, "test").unwrap();
        assert!(connect_control(&data).is_err());
        drop(owner.control_listener().unwrap());
        // The first one left its socket behind, as a killed process does.
        let listener = owner.control_listener().unwrap();
        let mode = fs::metadata(data.join("control.sock"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let mut client = connect_control(&data).unwrap();
        client.write_all(b"hi").unwrap();
        drop(client);
        let mut text = String::new();
        listener
            .accept()
            .unwrap()
            .0
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "hi");
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let parent = tempfile::tempdir().unwrap();
        let file = parent.path().join("file");
        fs::write(&file, "").unwrap();
        let error = Owner::acquire(&file.join("data"), "test").unwrap_err();
        assert!(error.to_string().contains("file/data"), "{error}");
    }
}
