//! Waiting for edits.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use notify::event::ModifyKind;
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;

/// An edit is often several writes: it is taken once nothing has come for this long.
const QUIET: Duration = Duration::from_millis(20);
/// A tool that writes without a pause is not waited for longer than this.
const QUIET_MAX: Duration = Duration::from_millis(500);

/// Watches the files that the newest build depended on.
pub(crate) struct Watcher {
    watcher: RecommendedWatcher,
    watched: HashSet<PathBuf>,
    interesting: Arc<Mutex<Interesting>>,
    changed: Arc<Notify>,
}

#[derive(Default)]
struct Interesting {
    root: PathBuf,
    files: HashSet<PathBuf>,
    folders: HashSet<PathBuf>,
}

impl Interesting {
    /// A named file counts however it changes, and so does what lies directly in a named
    /// folder; in the project's own folder only what comes and goes does, since all
    /// kinds of programs write there.
    fn covers(&self, event: &notify::Event) -> bool {
        let comes_or_goes = matches!(
            event.kind,
            EventKind::Create(_) | EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_))
        );
        event.paths.iter().any(|path| {
            self.files.contains(path)
                || path.parent().is_some_and(|parent| {
                    self.folders.contains(parent) && (comes_or_goes || parent != self.root)
                })
        })
    }
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
                        let interesting =
                            interesting.lock().unwrap_or_else(PoisonError::into_inner);
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
            watcher: notify::recommended_watcher(handler)?,
            watched: HashSet::new(),
            interesting,
            changed,
        })
    }

    /// Watches these files and folders from now on, and no others. A file is watched by
    /// its folder, because most editors replace a file rather than write to it; so one
    /// that does not exist yet can be watched too.
    pub(crate) fn watch(&mut self, root: &Path, paths: &[PathBuf]) {
        let mut next = Interesting {
            root: root.to_owned(),
            ..Interesting::default()
        };
        for path in paths {
            if path.is_dir() {
                next.folders.insert(path.clone());
            } else {
                next.files.insert(path.clone());
            }
        }
        let parents = next
            .files
            .iter()
            .filter_map(|file| file.parent())
            .map(Path::to_owned);
        let wanted: HashSet<PathBuf> = parents
            .filter(|parent| parent.is_dir())
            .chain(next.folders.iter().cloned())
            .collect();
        *self
            .interesting
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = next;
        for gone in self.watched.difference(&wanted) {
            // It may be gone from the disk, too.
            let _ = self.watcher.unwatch(gone);
        }
        for folder in wanted.difference(&self.watched) {
            if let Err(error) = self.watcher.watch(folder, RecursiveMode::NonRecursive) {
                crate::terminal::note(&format!(
                    "{} is not watched for edits: {error}",
                    folder.display()
                ));
            }
        }
        self.watched = wanted;
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
