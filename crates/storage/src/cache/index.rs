//! What lies in the cache and when it was used: who goes when there is no room.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What an entry counts at least, so that their number is bounded too.
const ENTRY_BYTES_MIN: u64 = 16 * 1024;

/// The name of an entry within its project: a hash of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Id(u128);

impl Id {
    pub(super) fn of(key: &[u8]) -> Self {
        let hash = blake3::hash(key);
        let (first, _) = hash
            .as_bytes()
            .split_first_chunk::<16>()
            .expect("a hash has 32 bytes");
        Self(u128::from_be_bytes(*first))
    }

    pub(super) fn from_hex(text: &str) -> Option<Self> {
        let id = u128::from_str_radix(text, 16).ok().map(Self)?;
        (id.to_hex() == text).then_some(id)
    }

    fn to_hex(self) -> String {
        format!("{:032x}", self.0)
    }
}

/// Where an entry lies.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Place {
    folder: Arc<Path>,
    id: Id,
}

impl Place {
    /// `folder` is the project's.
    pub(super) fn new(folder: PathBuf, id: Id) -> Self {
        Self {
            folder: folder.into(),
            id,
        }
    }

    pub(super) fn path(&self) -> PathBuf {
        let name = self.id.to_hex();
        let mut path = self.folder.join(&name[..2]);
        path.push(name);
        path
    }
}

/// The entries by use. The larger the number of a use, the later it was.
#[derive(Debug)]
pub(super) struct Index {
    bytes_max: u64,
    bytes_per_project_max: u64,
    entries: HashMap<Place, Known>,
    by_use: BTreeMap<u64, Place>,
    projects: HashMap<Arc<Path>, Project>,
    bytes: u64,
    next_use: u64,
}

#[derive(Debug)]
struct Known {
    used: u64,
    bytes: u64,
}

#[derive(Debug, Default)]
struct Project {
    bytes: u64,
    by_use: BTreeMap<u64, Place>,
}

impl Index {
    pub(super) fn new(bytes_max: u64, bytes_per_project_max: u64) -> Self {
        Self {
            bytes_max,
            bytes_per_project_max,
            entries: HashMap::new(),
            by_use: BTreeMap::new(),
            projects: HashMap::new(),
            bytes: 0,
            next_use: 0,
        }
    }

    pub(super) fn len_bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes an entry in, as the one used last, in the place of an earlier one of its name.
    /// Returns the files that must go for it.
    pub(super) fn insert(&mut self, place: &Place, len_bytes: u64) -> Vec<PathBuf> {
        self.remove(place);
        let used = self.next_use;
        self.next_use += 1;
        let bytes = len_bytes.max(ENTRY_BYTES_MIN);
        let project = self.projects.entry(place.folder.clone()).or_default();
        project.bytes += bytes;
        project.by_use.insert(used, place.clone());
        self.bytes += bytes;
        self.by_use.insert(used, place.clone());
        self.entries.insert(place.clone(), Known { used, bytes });
        self.evict(place)
    }

    /// Remembers a use. An entry that was not known is taken in when there is room.
    pub(super) fn used(&mut self, place: &Place, len_bytes: u64) {
        let Some(known) = self.entries.get_mut(place) else {
            // It has just been evicted, and was opened before that.
            if place.path().exists() {
                let evicted = self.insert(place, len_bytes);
                super::remove_files(&evicted);
            }
            return;
        };
        let before = std::mem::replace(&mut known.used, self.next_use);
        self.by_use.remove(&before);
        self.by_use.insert(self.next_use, place.clone());
        if let Some(project) = self.projects.get_mut(&place.folder) {
            project.by_use.remove(&before);
            project.by_use.insert(self.next_use, place.clone());
        }
        self.next_use += 1;
    }

    pub(super) fn remove(&mut self, place: &Place) {
        let Some(known) = self.entries.remove(place) else {
            return;
        };
        self.by_use.remove(&known.used);
        self.bytes -= known.bytes;
        if let Some(project) = self.projects.get_mut(&place.folder) {
            project.by_use.remove(&known.used);
            project.bytes -= known.bytes;
            if project.by_use.is_empty() {
                self.projects.remove(&place.folder);
            }
        }
    }

    /// First the project's own, so that one project cannot push out the others beyond its
    /// share.
    fn evict(&mut self, newest: &Place) -> Vec<PathBuf> {
        let mut evicted = Vec::new();
        while let Some(oldest) = self
            .projects
            .get(&newest.folder)
            .filter(|project| project.bytes > self.bytes_per_project_max)
            .and_then(|project| project.by_use.values().next())
            .or_else(|| {
                let oldest = self.by_use.values().next();
                oldest.filter(|_| self.bytes > self.bytes_max)
            })
            .cloned()
        {
            self.remove(&oldest);
            evicted.push(oldest.path());
        }
        evicted
    }
}
