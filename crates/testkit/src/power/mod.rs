//! Power cuts without pulling a plug.
//!
//! A kill keeps what the kernel holds in memory, so a program that never syncs survives
//! any number of kills. Here the program runs under a [`Recorder`], which notes each
//! change that it makes to a folder (every create, mkdir, link, write, truncate, rename,
//! unlink and sync) in the order in which they happen, and between them what the test's
//! clients know (an answer came). Then [`Recording::cut`] makes what a disk may hold if
//! the power goes at any point of that record, and the program is started on it.
//!
//! **Recording** is `ptrace` with a seccomp filter, so only calls that can change a file
//! stop, and raw system calls are seen as well. One stopped call runs to its end before
//! the next one begins: so the record is one sequence, in which a sync covers exactly the
//! writes before it. An answer is noted after the client has it; whatever the program did
//! before it answered is earlier in the record.
//!
//! **What a cut keeps.** Of a file: all that was written before its last sync; of the
//! rest any subset, whole writes or pieces of 512 bytes. Of a folder: the names of its
//! last sync; later new names are lost (or, now and then, kept), later renames and
//! removals happen or not, whatever became of their files' bytes. A sync of a file does
//! not keep its name.

mod calls;
mod cut;
mod sys;
mod trace;

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use cut::{Cut, Survivors};
pub use trace::Recorded;

/// A file or folder, by the order of appearance; 0 is the folder above what is recorded.
type Node = usize;

/// One step of a record.
#[derive(Debug)]
enum Event {
    /// A name for a new or an old file, or a new folder.
    Named {
        folder: Node,
        name: OsString,
        node: Node,
    },
    Removed {
        folder: Node,
        name: OsString,
    },
    Renamed {
        from: (Node, OsString),
        to: (Node, OsString),
        node: Node,
    },
    Written {
        node: Node,
        offset: u64,
        bytes: Vec<u8>,
    },
    Resized {
        node: Node,
        len_bytes: u64,
    },
    Synced {
        node: Node,
        sync: Sync,
    },
    SyncedAll,
    Noted(usize),
}

/// A sync as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sync {
    /// The file's or folder's path at that time, below the folder that is above the
    /// recorded one.
    pub path: String,
    /// Whether it is a folder.
    pub is_folder: bool,
    /// `fdatasync` rather than `fsync`.
    pub is_data_only: bool,
}

/// Records what programs do to one folder. Cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    log: Arc<Mutex<Log>>,
}

struct Log {
    events: Vec<Event>,
    /// What could not be recorded.
    problems: Vec<String>,
    name: OsString,
    nodes: Vec<NodeInfo>,
    by_inode: HashMap<(u64, u64), Node>,
    by_name: HashMap<(Node, OsString), Node>,
}

struct NodeInfo {
    is_folder: bool,
    parent: Node,
    name: OsString,
    /// To read back what was written.
    file: Option<fs::File>,
}

impl Recorder {
    /// For `root/name`, which does not exist yet.
    ///
    /// # Panics
    /// When it does, or `root` does not.
    pub fn new(root: &Path, name: &str) -> Self {
        let root = root.canonicalize().expect("the folder exists");
        assert!(!root.join(name).exists(), "recording begins with nothing");
        let metadata = fs::metadata(&root).expect("the folder exists");
        let log = Log {
            events: Vec::new(),
            problems: Vec::new(),
            name: name.into(),
            nodes: vec![NodeInfo {
                is_folder: true,
                parent: 0,
                name: OsString::new(),
                file: None,
            }],
            by_inode: HashMap::from([((metadata.dev(), metadata.ino()), 0)]),
            by_name: HashMap::new(),
        };
        Self {
            log: Arc::new(Mutex::new(log)),
        }
    }

    /// Starts a program and records it, its threads and its children until all have ended.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self, command: Command) -> std::io::Result<Recorded> {
        trace::start(command, self.log.clone())
    }

    /// Puts a number into the record, after all that has happened so far.
    pub fn note(&self, number: usize) {
        lock(&self.log).events.push(Event::Noted(number));
    }

    /// The record so far.
    ///
    /// # Panics
    /// When something was done that cannot be recorded.
    pub fn finish(self) -> Recording {
        let mut log = lock(&self.log);
        assert!(log.problems.is_empty(), "{:#?}", log.problems);
        let folders = log.nodes.iter().map(|node| node.is_folder).collect();
        Recording {
            events: std::mem::take(&mut log.events),
            folders,
        }
    }
}

/// Everything that happened, in order.
#[derive(Debug)]
pub struct Recording {
    events: Vec<Event>,
    /// Which nodes are folders.
    folders: Vec<bool>,
}

impl Recording {
    /// How many steps it has.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether nothing happened.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// The notes among the first `steps`.
    pub fn notes(&self, steps: usize) -> impl Iterator<Item = usize> {
        self.events[..steps].iter().filter_map(|event| match event {
            Event::Noted(number) => Some(*number),
            _ => None,
        })
    }

    /// The first step after a note.
    pub fn after_note(&self, number: usize) -> Option<usize> {
        let is_it = |event: &Event| matches!(event, Event::Noted(noted) if *noted == number);
        self.events.iter().position(is_it).map(|step| step + 1)
    }

    /// Every sync of one file or folder.
    pub fn syncs(&self) -> impl Iterator<Item = &Sync> {
        self.events.iter().filter_map(|event| match event {
            Event::Synced { sync, .. } => Some(sync),
            _ => None,
        })
    }
}

/// Poison only means that another thread of a failing test has panicked.
fn lock(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}
