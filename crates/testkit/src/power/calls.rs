//! System calls as steps of a record.
//!
//! What was written is read back from the file after the call: nothing else changes it
//! meanwhile, and so every kind of write is recorded alike.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use libc::{c_int, c_long, pid_t};

use super::sys::CallInfo;
use super::{Event, Log, Node, NodeInfo, Sync};

/// The calls that can change or sync a file.
pub(super) const CALLS: &[c_long] = &[
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_pwritev2,
    libc::SYS_copy_file_range,
    libc::SYS_sendfile,
    libc::SYS_splice,
    libc::SYS_ftruncate,
    libc::SYS_truncate,
    libc::SYS_fallocate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_syncfs,
    libc::SYS_sync,
    libc::SYS_mmap,
    libc::SYS_ioctl,
    libc::SYS_io_uring_setup,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_creat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mkdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mknod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_link,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_symlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rmdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
];

/// `FICLONE` and `FICLONERANGE`.
const CLONES: [u64; 2] = [0x4004_9409, 0x4020_940d];

/// A call under way that matters.
#[derive(Debug)]
pub(super) enum Call {
    /// `truncates`: an old file of this node loses its bytes.
    Open {
        place: Place,
        truncates: bool,
    },
    /// A file without a name.
    OpenUnnamed,
    Folder(Place),
    Link(Place),
    Remove(Place),
    Rename {
        from: Option<Place>,
        to: Option<Place>,
    },
    Write {
        fd: u64,
        node: Node,
        at: Offset,
    },
    Resize(Node),
    Sync {
        node: Node,
        is_data_only: bool,
    },
    SyncAll,
    /// It succeeds only if something cannot be recorded.
    Unknown(&'static str),
}

/// Where a write goes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Offset {
    At(u64),
    /// Where the descriptor stands.
    Current,
    /// Where this memory says; the call moves it on.
    Memory(u64),
}

/// A name in a folder that is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    folder: Node,
    name: OsString,
    path: PathBuf,
}

const HERE: u64 = libc::AT_FDCWD.cast_unsigned() as u64;

/// What a call is about to do; `None` if it does not matter.
#[expect(
    clippy::many_single_char_names,
    reason = "a call's arguments have no names"
)]
pub(super) fn before(log: &Log, tid: pid_t, info: CallInfo) -> Option<Call> {
    let [a, b, c, d, e, _] = info.args;
    let place = |folder: u64, path: u64| log.place(tid, folder, path);
    let write = |fd: u64, at: Offset| {
        let node = log.node_of_fd(tid, fd)?;
        Some(Call::Write { fd, node, at })
    };
    match info.value {
        libc::SYS_openat => open(log, tid, a, b, c),
        // `struct open_how` begins with the flags.
        libc::SYS_openat2 => open(log, tid, a, b, read_u64(tid, c)?),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_open => open(log, tid, HERE, a, b),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_creat => open(
            log,
            tid,
            HERE,
            a,
            flags(libc::O_CREAT | libc::O_TRUNC | libc::O_WRONLY),
        ),
        libc::SYS_mkdirat => place(a, b).map(Call::Folder),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_mkdir => place(HERE, a).map(Call::Folder),
        libc::SYS_linkat => place(c, d).map(Call::Link),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_link => place(HERE, b).map(Call::Link),
        libc::SYS_symlinkat => place(b, c).map(|_| Call::Unknown("symlink")),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_symlink => place(HERE, b).map(|_| Call::Unknown("symlink")),
        libc::SYS_mknodat => place(a, b).map(|_| Call::Unknown("mknod")),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_mknod => place(HERE, a).map(|_| Call::Unknown("mknod")),
        libc::SYS_unlinkat => place(a, b).map(Call::Remove),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_unlink | libc::SYS_rmdir => place(HERE, a).map(Call::Remove),
        libc::SYS_renameat => rename(place(a, b), place(c, d)),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_rename => rename(place(HERE, a), place(HERE, b)),
        libc::SYS_renameat2 if e & u64::from(libc::RENAME_EXCHANGE) != 0 => {
            rename(place(a, b), place(c, d)).map(|_| Call::Unknown("an exchange of names"))
        }
        libc::SYS_renameat2 => rename(place(a, b), place(c, d)),
        libc::SYS_write | libc::SYS_writev => write(a, Offset::Current),
        libc::SYS_pwrite64 | libc::SYS_pwritev => write(a, Offset::At(d)),
        libc::SYS_pwritev2 if d == u64::MAX => write(a, Offset::Current),
        libc::SYS_pwritev2 => write(a, Offset::At(d)),
        libc::SYS_copy_file_range | libc::SYS_splice if d == 0 => write(c, Offset::Current),
        libc::SYS_copy_file_range | libc::SYS_splice => write(c, Offset::Memory(d)),
        libc::SYS_sendfile => write(a, Offset::Current),
        libc::SYS_ftruncate => log.node_of_fd(tid, a).map(Call::Resize),
        libc::SYS_truncate => {
            let place = place(HERE, a)?;
            log.by_name
                .get(&(place.folder, place.name))
                .copied()
                .map(Call::Resize)
        }
        libc::SYS_fallocate => {
            let node = log.node_of_fd(tid, a)?;
            let known = b & !flags(libc::FALLOC_FL_KEEP_SIZE) == 0;
            Some(if known {
                Call::Resize(node)
            } else {
                Call::Unknown("fallocate")
            })
        }
        number @ (libc::SYS_fsync | libc::SYS_fdatasync) => Some(Call::Sync {
            node: log.node_of_fd(tid, a)?,
            is_data_only: number == libc::SYS_fdatasync,
        }),
        libc::SYS_syncfs => log.node_of_fd(tid, a).map(|_| Call::SyncAll),
        libc::SYS_sync => Some(Call::SyncAll),
        libc::SYS_mmap => {
            let shared = d & flags(libc::MAP_SHARED) != 0;
            let is_written = shared && c & flags(libc::PROT_WRITE) != 0;
            let node = log.node_of_fd(tid, e).filter(|_| is_written)?;
            // SQLite makes this file anew after a crash.
            let name = log.nodes[node].name.to_string_lossy();
            (!name.ends_with("-shm")).then_some(Call::Unknown("writes to mapped memory"))
        }
        libc::SYS_ioctl if CLONES.contains(&b) => log
            .node_of_fd(tid, a)
            .map(|_| Call::Unknown("a clone of a file")),
        libc::SYS_io_uring_setup => Some(Call::Unknown("io_uring")),
        _ => None,
    }
}

/// Records what a call has done.
pub(super) fn after(log: &mut Log, tid: pid_t, call: Call, result: i64) {
    if result < 0 {
        return;
    }
    let done = match call {
        Call::Open { place, truncates } => log.opened(tid, place, truncates, result),
        Call::OpenUnnamed => log.opened_unnamed(tid, result),
        Call::Folder(place) => log.made_folder(place),
        Call::Link(place) => log.linked(place),
        Call::Remove(place) => {
            log.removed(place);
            Ok(())
        }
        Call::Rename { from, to } => log.renamed(from, to),
        Call::Write { fd, node, at } => log.written(tid, fd, node, at, result),
        Call::Resize(node) => log.resized(node),
        Call::Sync { node, is_data_only } => {
            let sync = Sync {
                path: log.path(node),
                is_folder: log.nodes[node].is_folder,
                is_data_only,
            };
            log.events.push(Event::Synced { node, sync });
            Ok(())
        }
        Call::SyncAll => {
            let sync = Sync {
                path: "*".to_owned(),
                is_folder: true,
                is_data_only: false,
            };
            log.events.push(Event::SyncedAll { sync });
            Ok(())
        }
        Call::Unknown(what) => Err(io::Error::other(what)),
    };
    if let Err(error) = done {
        log.problems.push(format!("cannot be recorded: {error}"));
    }
}

fn open(log: &Log, tid: pid_t, folder: u64, path: u64, given: u64) -> Option<Call> {
    if given & flags(libc::O_TMPFILE) == flags(libc::O_TMPFILE) {
        log.place(tid, folder, path)?;
        return Some(Call::OpenUnnamed);
    }
    let truncates = given & flags(libc::O_TRUNC) != 0;
    if given & flags(libc::O_CREAT) == 0 && !truncates {
        return None;
    }
    let place = log.place(tid, folder, path)?;
    Some(Call::Open { place, truncates })
}

fn rename(from: Option<Place>, to: Option<Place>) -> Option<Call> {
    (from.is_some() || to.is_some()).then_some(Call::Rename { from, to })
}

impl Log {
    /// The folder and name that a call names, if they are recorded.
    fn place(&self, tid: pid_t, folder: u64, path: u64) -> Option<Place> {
        let path = PathBuf::from(OsString::from_vec(read_text(tid, path)?));
        let path = match path.strip_prefix("/proc/self") {
            Ok(rest) => Path::new(&format!("/proc/{tid}")).join(rest),
            Err(_) if path.is_absolute() => path,
            Err(_) if fd(folder) == libc::AT_FDCWD => {
                fs::read_link(format!("/proc/{tid}/cwd")).ok()?.join(path)
            }
            Err(_) => fs::read_link(fd_path(tid, folder)).ok()?.join(path),
        };
        let name = path.file_name()?.to_owned();
        let parent = path.parent()?;
        let metadata = fs::metadata(parent).ok()?;
        let folder = *self.by_inode.get(&(metadata.dev(), metadata.ino()))?;
        if folder == 0 && name != self.name {
            return None;
        }
        let path = parent.join(&name);
        Some(Place { folder, name, path })
    }

    fn node_of_fd(&self, tid: pid_t, fd: u64) -> Option<Node> {
        let metadata = fs::metadata(fd_path(tid, fd)).ok()?;
        if !metadata.is_file() && !metadata.is_dir() {
            return None;
        }
        self.by_inode
            .get(&(metadata.dev(), metadata.ino()))
            .copied()
    }

    fn add(&mut self, path: &Path, is_folder: bool) -> io::Result<Node> {
        let metadata = fs::metadata(path)?;
        let node = self.nodes.len();
        self.nodes.push(NodeInfo {
            is_folder,
            parent: 0,
            name: OsString::new(),
            file: if is_folder {
                None
            } else {
                Some(File::open(path)?)
            },
        });
        // A number that was used before belonged to a file that is gone.
        self.by_inode.insert((metadata.dev(), metadata.ino()), node);
        Ok(node)
    }

    fn name(&mut self, place: Place, node: Node) {
        let Place { folder, name, .. } = place;
        self.nodes[node].parent = folder;
        self.nodes[node].name.clone_from(&name);
        self.by_name.insert((folder, name.clone()), node);
        self.events.push(Event::Named { folder, name, node });
    }

    fn opened(&mut self, tid: pid_t, place: Place, truncates: bool, fd: i64) -> io::Result<()> {
        let known = self.by_name.get(&(place.folder, place.name.clone()));
        match known.copied() {
            None => {
                let node = self.add(Path::new(&fd_path(tid, fd.cast_unsigned())), false)?;
                self.name(place, node);
                Ok(())
            }
            Some(node) if truncates => self.resized(node),
            Some(_) => Ok(()),
        }
    }

    fn opened_unnamed(&mut self, tid: pid_t, fd: i64) -> io::Result<()> {
        self.add(Path::new(&fd_path(tid, fd.cast_unsigned())), false)
            .map(|_| ())
    }

    fn made_folder(&mut self, place: Place) -> io::Result<()> {
        let node = self.add(&place.path, true)?;
        self.name(place, node);
        Ok(())
    }

    fn linked(&mut self, place: Place) -> io::Result<()> {
        let metadata = fs::metadata(&place.path)?;
        let node = self.by_inode.get(&(metadata.dev(), metadata.ino()));
        let node = *node.ok_or_else(|| io::Error::other("a link to a file from elsewhere"))?;
        self.name(place, node);
        Ok(())
    }

    fn removed(&mut self, place: Place) {
        let Place { folder, name, .. } = place;
        // A socket's name, for one, was never recorded.
        if self.by_name.remove(&(folder, name.clone())).is_some() {
            self.events.push(Event::Removed { folder, name });
        }
    }

    fn renamed(&mut self, from: Option<Place>, to: Option<Place>) -> io::Result<()> {
        let (Some(from), Some(to)) = (from, to) else {
            return Err(io::Error::other("a rename out of or into the folder"));
        };
        let node = self.by_name.remove(&(from.folder, from.name.clone()));
        let node = node.ok_or_else(|| io::Error::other("a rename of an unknown file"))?;
        self.nodes[node].parent = to.folder;
        self.nodes[node].name.clone_from(&to.name);
        self.by_name.insert((to.folder, to.name.clone()), node);
        self.events.push(Event::Renamed {
            from: (from.folder, from.name),
            to: (to.folder, to.name),
            node,
        });
        Ok(())
    }

    fn written(
        &mut self,
        tid: pid_t,
        fd: u64,
        node: Node,
        at: Offset,
        count: i64,
    ) -> io::Result<()> {
        let count = count.cast_unsigned();
        let offset = match at {
            Offset::At(offset) => Some(offset),
            Offset::Current => position(tid, fd).and_then(|end| end.checked_sub(count)),
            Offset::Memory(at) => read_u64(tid, at).and_then(|end| end.checked_sub(count)),
        };
        let offset = offset.ok_or_else(|| io::Error::other("a write to an unknown place"))?;
        let mut bytes = vec![0; usize::try_from(count).expect("it was in memory")];
        let file = self.nodes[node].file.as_ref();
        file.ok_or_else(|| io::Error::other("a write to a folder"))?
            .read_exact_at(&mut bytes, offset)?;
        self.events.push(Event::Written {
            node,
            offset,
            bytes,
        });
        Ok(())
    }

    fn resized(&mut self, node: Node) -> io::Result<()> {
        let file = self.nodes[node].file.as_ref();
        let file = file.ok_or_else(|| io::Error::other("a folder with a length"))?;
        let len_bytes = file.metadata()?.len();
        self.events.push(Event::Resized { node, len_bytes });
        Ok(())
    }

    pub(super) fn path(&self, mut node: Node) -> String {
        let mut names: Vec<&OsStr> = Vec::new();
        while node != 0 {
            names.push(&self.nodes[node].name);
            node = self.nodes[node].parent;
        }
        let path: PathBuf = names.into_iter().rev().collect();
        path.to_string_lossy().into_owned()
    }
}

fn flags(flags: c_int) -> u64 {
    u64::from(flags.cast_unsigned())
}

/// A descriptor is an `int`, whatever the upper half of its register holds.
fn fd(register: u64) -> c_int {
    #[expect(clippy::cast_possible_truncation, reason = "as the kernel does")]
    let low = register as u32;
    low.cast_signed()
}

fn fd_path(tid: pid_t, register: u64) -> String {
    format!("/proc/{tid}/fd/{}", fd(register))
}

/// Where a descriptor stands.
fn position(tid: pid_t, register: u64) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{tid}/fdinfo/{}", fd(register))).ok()?;
    text.strip_prefix("pos:")?
        .lines()
        .next()?
        .trim()
        .parse()
        .ok()
}

fn read_u64(tid: pid_t, at: u64) -> Option<u64> {
    let mut bytes = [0; 8];
    let memory = File::open(format!("/proc/{tid}/mem")).ok()?;
    memory.read_exact_at(&mut bytes, at).ok()?;
    Some(u64::from_ne_bytes(bytes))
}

/// A text that ends with a zero.
fn read_text(tid: pid_t, mut at: u64) -> Option<Vec<u8>> {
    const PAGE: u64 = 4096;
    let memory = File::open(format!("/proc/{tid}/mem")).ok()?;
    let mut text = Vec::new();
    while text.len() < 8192 {
        // Not past the end of a page: the next may not be there.
        let mut chunk = vec![0; usize::try_from(PAGE - at % PAGE).ok()?];
        memory.read_exact_at(&mut chunk, at).ok()?;
        if let Some(end) = chunk.iter().position(|byte| *byte == 0) {
            text.extend_from_slice(&chunk[..end]);
            return Some(text);
        }
        at += chunk.len() as u64;
        text.append(&mut chunk);
    }
    None
}
