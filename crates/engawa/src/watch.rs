//! Waiting for edits.

//!
//! A build names the files and folders that it has looked at, and those are watched: a
//! file by the folder that it lies in, because most editors replace a file rather than
//! write to it; a folder by itself and by its own name, because build tools replace
//! folders; and what does not exist by the nearest folder that does, so that its coming is
//! seen. Watches are set after a build, so whatever they are set on is then compared with
//! the time at which that build began: no edit falls between the two.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use notify::event::ModifyKind;
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;

/// An edit is often several writes: it is taken once nothing has come for this long.
const QUIET: Duration = Duration::from_millis(20);
/// A tool that writes without a pause is not waited for longer than this.
const QUIET_MAX: Duration = Duration::from_millis(500);
/// How far the kernel's stamps of files may lie behind the time (a tick of its clock).
const STAMPS_LAG: Duration = Duration::from_millis(10);

/// What to watch.
pub(crate) struct Watched<'a> {
    /// Files and folders, whether they exist or not.
    pub paths: &'a [PathBuf],
    /// A folder among them in which only what comes and goes counts: the project's own,
    /// since all kinds of programs write there.
    pub root: Option<&'a Path>,
}

/// Watches the files that the newest build depended on.
pub(crate) struct Watcher {
    system: RecommendedWatcher,
    /// The folders that have a watch, each with its device and inode, since another folder
    /// may have taken its place.
    watched: HashMap<PathBuf, (u64, u64)>,
    interesting: Arc<Mutex<Interesting>>,
    changed: Arc<Notify>,
    /// Whether the user knows that not everything is watched.
    told: bool,
}

#[derive(Default)]
struct Interesting {
    /// Paths that count however they change.
    names: HashSet<PathBuf>,
    /// Folders whose direct entries count.
    folders: HashSet<PathBuf>,
    /// One of them in which only what comes and goes does.
    root: Option<PathBuf>,
    /// Folders that went away or were moved, and their watch with them, even if another
    /// is there now, with the same inode perhaps.
    lost: HashSet<PathBuf>,
}

impl Interesting {
    fn covers(&self, event: &notify::Event) -> bool {
        let comes_or_goes = comes_or_goes(event);
        event.paths.iter().any(|path| {
            self.names.contains(path)
                || path.parent().is_some_and(|parent| {
                    self.folders.contains(parent)
                        && (comes_or_goes || self.root.as_deref() != Some(parent))
                })
        })
    }

    /// Whether what is now watched at `folder` has changed since then.
    fn has_changed(&self, folder: &Path, since: SystemTime) -> bool {
        let changed = |path: &Path| changed_at(path).is_some_and(|at| at >= since);
        let entries = || std::fs::read_dir(folder).into_iter().flatten().flatten();
        if !self.folders.contains(folder) {
            return entries().any(|entry| {
                let path = entry.path();
                self.names.contains(&path) && changed(&path)
            });
        }
        let is_root = self.root.as_deref() == Some(folder);
        changed(folder)
            || entries().any(|entry| {
                let path = entry.path();
                (!is_root || self.names.contains(&path)) && changed(&path)
            })
    }
}

fn comes_or_goes(event: &notify::Event) -> bool {
    matches!(
        event.kind,
        EventKind::Create(_) | EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_))
    )
}

/// When a file's content, name or place, or a folder's entries changed last: a time that
/// no program can set.
fn changed_at(path: &Path) -> Option<SystemTime> {
    let metadata = path.symlink_metadata().ok()?;
    let seconds = u64::try_from(metadata.ctime()).ok()?;
    let nanoseconds = u32::try_from(metadata.ctime_nsec()).ok()?;
    Some(SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds))
}

fn identity(folder: &Path) -> Option<(u64, u64)> {
    let metadata = folder.metadata().ok().filter(std::fs::Metadata::is_dir)?;
    Some((metadata.dev(), metadata.ino()))
}

fn lock(interesting: &Mutex<Interesting>) -> MutexGuard<'_, Interesting> {
    interesting.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watcher {
    /// Watches nothing yet.
    ///
    /// # Errors
    /// When the system has no watches left.
    pub(crate) fn new() -> notify::Result<Self> {
        let interesting = Arc::<Mutex<Interesting>>::default();
        let changed = Arc::new(Notify::new());
        let handler = {
            let (interesting, changed) = (Arc::clone(&interesting), Arc::clone(&changed));
            move |event: notify::Result<notify::Event>| {
                let relevant = match event {
                    // Reading a file is no edit.
                    Ok(event) if matches!(event.kind, EventKind::Access(_)) => false,
                    Ok(event) => {
                        let mut interesting = lock(&interesting);
                        if comes_or_goes(&event) {
                            let Interesting { folders, lost, .. } = &mut *interesting;
                            let gone = event.paths.iter().filter(|path| folders.contains(*path));
                            lost.extend(gone.cloned());
                        }
                        event.need_rescan() || interesting.covers(&event)
                    }
                    // Events were lost: build, to be sure.
                    Err(_) => true,
                };
                if relevant {
                    changed.notify_one();
                }
            }
        };
        Ok(Self {
            system: notify::recommended_watcher(handler)?,
            watched: HashMap::new(),
            interesting,
            changed,
            told: false,
        })
    }

    /// Watches these files and folders from now on, and no others. What has changed
    /// among them since the build that named them began, at `since`, counts as an edit.
    pub(crate) fn watch(&mut self, watched: &Watched<'_>, since: SystemTime) {
        let mut next = Interesting {
            root: watched.root.map(Path::to_owned),
            ..Interesting::default()
        };
        let mut wanted = HashSet::new();
        for path in watched.paths {
            if path.is_dir() {
                next.folders.insert(path.clone());
                wanted.insert(path.clone());
            }
            let (mut name, mut parent) = (&**path, path.parent());
            while let Some(folder) = parent.filter(|folder| !folder.is_dir()) {
                (name, parent) = (folder, folder.parent());
            }
            next.names.insert(name.to_owned());
            wanted.extend(parent.map(Path::to_owned));
        }
        let lost = {
            let mut interesting = lock(&self.interesting);
            let lost = std::mem::take(&mut interesting.lost);
            *interesting = next;
            lost
        };
        let Self {
            system, watched, ..
        } = self;
        watched.retain(|folder, known| {
            let stays = wanted.contains(folder)
                && !lost.contains(folder)
                && identity(folder) == Some(*known);
            if !stays {
                // It may be gone from the disk, too.
                let _ = system.unwatch(folder);
            }
            stays
        });
        let fresh: Vec<PathBuf> = wanted
            .into_iter()
            .filter(|folder| !self.watched.contains_key(folder))
            .collect();
        self.add(&fresh);
        let since = since - STAMPS_LAG;
        let interesting = lock(&self.interesting);
        if fresh
            .iter()
            .any(|folder| interesting.has_changed(folder, since))
        {
            self.changed.notify_one();
        }
    }

    fn add(&mut self, folders: &[PathBuf]) {
        let mut refused = Vec::new();
        for folder in folders {
            // What is gone already is noticed by the folder that it lay in.
            let Some(identity) = identity(folder) else {
                continue;
            };
            match self.system.watch(folder, RecursiveMode::NonRecursive) {
                Ok(()) => drop(self.watched.insert(folder.clone(), identity)),
                Err(error) => refused.push((folder, error)),
            }
        }
        if let Some((folder, error)) = refused.first()
            && !self.told
        {
            self.told = true;
            let hint = match error.kind {
                notify::ErrorKind::MaxFilesWatch => {
                    " Allow more watches: sysctl fs.inotify.max_user_watches=524288"
                }
                _ => "",
            };
            crate::terminal::note(&format!(
                "Edits of {} folders are not noticed, such as {}: {error}.{hint}",
                refused.len(),
                folder.display()
            ));
        }
    }

    /// Counts as an edit.
    pub(crate) fn look_again(&self) {
        self.changed.notify_one();
    }

    /// Returns when something was edited, and the edit looks complete.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
        let settle = async {
            while tokio::time::timeout(QUIET, self.changed.notified())
                .await
                .is_ok()
            {}
        };
        // An edit that never settles is built as it is.
        let _ = tokio::time::timeout(QUIET_MAX, settle).await;
    }
}
