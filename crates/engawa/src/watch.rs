//! Waiting for edits.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;

/// An edit is often several writes: it is taken once nothing has come for this long.
const QUIET: Duration = Duration::from_millis(20);
/// A tool that writes without a pause is not waited for longer than this.
const QUIET_MAX: Duration = Duration::from_millis(500);

/// Watches the files that the newest build depended on.
pub struct Watcher {
    watcher: RecommendedWatcher,
    watched: HashSet<PathBuf>,
    interesting: Arc<Mutex<Interesting>>,
    changed: Arc<Notify>,
}

#[derive(Default)]
struct Interesting {
    files: HashSet<PathBuf>,
    folders: Vec<PathBuf>,
}

impl Interesting {
    fn covers(&self, path: &Path) -> bool {
        self.files.contains(path) || self.folders.iter().any(|folder| path.starts_with(folder))
    }
}

impl Watcher {
    /// Watches nothing yet.
    ///
    /// # Errors
    /// When the system has no watches left.
    pub fn new() -> notify::Result<Self> {
        let interesting = Arc::<Mutex<Interesting>>::default();
        let changed = Arc::new(Notify::new());
        let handler = {
            let (interesting, changed) = (Arc::clone(&interesting), Arc::clone(&changed));
            move |event: notify::Result<notify::Event>| {
                let relevant = match event {
                    // Reading a file is no edit.
                    Ok(event) if matches!(event.kind, EventKind::Access(_)) => false,
                    Ok(event) => {
                        let interesting = interesting.lock().unwrap_or_else(PoisonError::into_inner);
                        event.paths.is_empty() || event.paths.iter().any(|path| interesting.covers(path))
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
            watcher: notify::recommended_watcher(handler)?,
            watched: HashSet::new(),
            interesting,
            changed,
        })
    }

    /// Watches these files and folders from now on, and no others. A file is watched by
    /// its folder, because most editors replace a file rather than write to it; so one
    /// that does not exist yet can be watched too.
    pub fn watch(&mut self, paths: &[PathBuf]) {
        let mut next = Interesting::default();
        let mut wanted = HashSet::new();
        for path in paths {
            if path.is_dir() {
                next.folders.push(path.clone());
                wanted.insert((path.clone(), RecursiveMode::Recursive));
            } else {
                next.files.insert(path.clone());
                if let Some(parent) = path.parent() {
                    wanted.insert((parent.to_owned(), RecursiveMode::NonRecursive));
                }
            }
        }
        *self.interesting.lock().unwrap_or_else(PoisonError::into_inner) = next;
        let folders: HashSet<PathBuf> = wanted.iter().map(|(folder, _)| folder.clone()).collect();
        for gone in self.watched.difference(&folders) {
            // It may be gone from the disk, too.
            let _ = self.watcher.unwatch(gone);
        }
        // Recursive ones last, so that a folder that is wanted both ways ends recursive.
        let mut wanted: Vec<_> = wanted.into_iter().collect();
        wanted.sort_by_key(|(_, mode)| *mode == RecursiveMode::Recursive);
        for (folder, mode) in wanted {
            if !self.watched.contains(&folder)
                && let Err(error) = self.watcher.watch(&folder, mode)
            {
                crate::terminal::note(&format!("{} is not watched for edits: {error}", folder.display()));
            }
        }
        self.watched = folders;
    }

    /// Returns when something was edited, and the edit looks complete.
    pub async fn changed(&self) {
        self.changed.notified().await;
        let settle = async {
            while tokio::time::timeout(QUIET, self.changed.notified()).await.is_ok() {}
        };
        // An edit that never settles is built as it is.
        let _ = tokio::time::timeout(QUIET_MAX, settle).await;
    }
}
