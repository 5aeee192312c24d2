//! Removes what no reader sees any more: rows of dead keys, and blobs that a crash left.
//!
//! One thread for all namespaces looks once a minute at those whose files are open. (A
//! namespace that nobody uses keeps its dead rows on disk until somebody does.) Dead rows
//! go in groups of 500 through the namespace's ordinary queue, so that its users never
//! wait long; garbage is looked for once for each namespace and process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::file::{Context, Namespace, NamespaceFile, Read, Write};
use crate::Error;
use crate::pool::Files;
use crate::ticker::Ticker;

const EVERY: Duration = Duration::from_mins(1);

/// The namespaces that are open, and those whose garbage was collected.
#[derive(Default)]
pub(super) struct Open(Mutex<HashMap<Namespace, Seen>>);

#[derive(Default)]
struct Seen {
    /// A file may be opened again while its last reader still closes.
    opened: usize,
    collected: bool,
}

impl Open {
    pub(super) fn add(&self, namespace: &Namespace) {
        lock(&self.0).entry(namespace.clone()).or_default().opened += 1;
    }

    pub(super) fn remove(&self, namespace: &Namespace) {
        let mut all = lock(&self.0);
        if let Some(seen) = all.get_mut(namespace) {
            seen.opened -= 1;
            if seen.opened == 0 && !seen.collected {
                all.remove(namespace);
            }
        }
    }

    /// The open ones, each with whether its garbage is still to be collected.
    fn list(&self) -> Vec<(Namespace, bool)> {
        lock(&self.0)
            .iter()
            .filter(|(_, seen)| seen.opened > 0)
            .map(|(namespace, seen)| (namespace.clone(), !seen.collected))
            .collect()
    }

    fn set_collected(&self, namespace: &Namespace) {
        if let Some(seen) = lock(&self.0).get_mut(namespace) {
            seen.collected = true;
        }
    }
}

/// Starts the thread that reaps.
pub(super) fn start(context: Arc<Context>, files: Files<NamespaceFile>) -> Result<Ticker, Error> {
    Ticker::start("engawa-kv-reaper", EVERY, move |stop| {
        reap(&context, &files, || stop.is_set());
    })
}

/// Reaps every open namespace once. Blocking, and not on a storage thread.
pub(super) fn reap(context: &Context, files: &Files<NamespaceFile>, stop: impl Fn() -> bool) {
    for (namespace, collect) in context.open.list() {
        while !stop() {
            let (reply, answer) = oneshot::channel();
            let more = match files.write(&namespace, Write::Reap { reply }) {
                Ok(()) => answer.blocking_recv(),
                // Busy: its own groups reap.
                Err(_) => break,
            };
            match more {
                Ok(Ok(true)) => {}
                Ok(Err(error)) => {
                    tracing::warn!(%error, "cannot remove dead KV keys");
                    break;
                }
                _ => break,
            }
        }
        if !collect || stop() {
            continue;
        }
        let (reply, answer) = oneshot::channel();
        if files
            .read(&namespace, Read::CollectGarbage { reply })
            .is_err()
        {
            continue;
        }
        match answer.blocking_recv() {
            Ok(Ok(removed)) => {
                context.open.set_collected(&namespace);
                if removed > 0 {
                    tracing::info!(namespace = %namespace.id, removed, "removed lost KV values");
                }
            }
            Ok(Err(error)) => tracing::warn!(%error, "cannot collect lost KV values"),
            Err(_) => {}
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
