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

use serde::{Deserialize, Serialize};

pub use cut::{Cut, Survivors};
pub use trace::Recorded;

/// A file or folder, by the order of appearance; 0 is the folder above what is recorded.
type Node = usize;

/// One step of a record.
#[derive(Debug, Clone, Serialize, Deserialize)]
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
    /// The whole file system.
    SyncedAll {
        sync: Sync,
    },
    Noted(usize),
}

/// A sync as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Sync {
    /// The file's or folder's path at that time, below the folder that is above the
    /// recorded one. `*`: the whole file system.
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

    /// Goes on from a record, as after a kill: everything of its first `steps` is there,
    /// and what was not synced then still is not.
    ///
    /// # Panics
    /// When that cannot be written.
    pub fn after_kill(recording: &Recording, steps: usize, root: &Path, name: &str) -> Self {
        let recorder = Self::new(root, name);
        let cut = recording.cut(steps, Survivors::All);
        cut.write(&mut crate::Random::new(0), root);
        let mut log = lock(&recorder.log);
        log.events = recording.events[..steps].to_vec();
        let unknown = |is_folder: &bool| NodeInfo {
            is_folder: *is_folder,
            parent: 0,
            name: OsString::new(),
            file: None,
        };
        log.nodes = recording.folders.iter().map(unknown).collect();
        for (folder, entries) in cut.all_names() {
            for (name, node) in entries {
                log.nodes[node].parent = folder;
                log.nodes[node].name.clone_from(&name);
                log.by_name.insert((folder, name), node);
            }
        }
        let nodes: Vec<Node> = log.by_name.values().copied().collect();
        for node in nodes {
            let path = root.join(log.path(node));
            let metadata = fs::metadata(&path).expect("it was just written");
            log.by_inode.insert((metadata.dev(), metadata.ino()), node);
            if !log.nodes[node].is_folder {
                log.nodes[node].file = fs::File::open(&path).ok();
            }
        }
        drop(log);
        recorder
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

    /// How many syncs of a kind there were so far.
    pub fn count_syncs(&self, is_it: impl Fn(&Sync) -> bool) -> usize {
        let log = lock(&self.log);
        let counted = log.events.iter().filter(|event| match event {
            Event::Synced { sync, .. } | Event::SyncedAll { sync } => is_it(sync),
            _ => false,
        });
        counted.count()
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
#[derive(Debug, Serialize, Deserialize)]
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

    /// How many steps there are up to each write to a file that was made with such a name.
    pub fn writes(&self, is_it: impl Fn(&str) -> bool) -> Vec<usize> {
        let mut names: HashMap<Node, &OsString> = HashMap::new();
        let mut writes = Vec::new();
        for (step, event) in self.events.iter().enumerate() {
            match event {
                Event::Named { name, node, .. } => {
                    names.insert(*node, name);
                }
                Event::Written { node, .. } => {
                    let name = names.get(node).map(|name| name.to_string_lossy());
                    if name.is_some_and(|name| is_it(&name)) {
                        writes.push(step + 1);
                    }
                }
                _ => {}
            }
        }
        writes
    }

    /// How many steps there are up to the last note.
    pub fn last_note(&self) -> usize {
        let is_note = |event: &Event| matches!(event, Event::Noted(_));
        let last = self.events.iter().rposition(is_note);
        last.map_or(0, |step| step + 1)
    }

    /// Every sync of one file or folder.
    pub fn syncs(&self) -> impl Iterator<Item = &Sync> {
        self.events.iter().filter_map(|event| match event {
            Event::Synced { sync, .. } | Event::SyncedAll { sync } => Some(sync),
            _ => None,
        })
    }
}

/// Poison only means that another thread of a failing test has panicked.
fn lock(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}
