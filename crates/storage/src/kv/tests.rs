use std::sync::{Condvar, Mutex};

#[derive(Default)]
pub(super) struct Probe {
    commits: Arc<std::sync::atomic::AtomicU64>,
    held: Mutex<bool>,
    freed: Condvar,
}
use std::sync::Arc;
impl Probe {
    pub(super) fn watch(&self, connection: &mut rusqlite::Connection) {
        let commits = self.commits.clone();
        connection
            .commit_hook(Some(move || {
                commits.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                false
            }))
            .unwrap();
    }
    pub(super) fn wait(&self) {
        let mut held = self.held.lock().unwrap();
        while *held {
            held = self.freed.wait(held).unwrap();
        }
    }
}
