//! Threads that look around from time to time and do what has become due.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use engawa_model::ErrorKind;

use crate::Error;

/// A thread that works once in an interval. It ends with [`Ticker::stop`], or when this
/// is dropped.
pub(crate) struct Ticker {
    stop: Arc<Stop>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Whether a ticker is to end. Work that takes long asks now and then.
#[derive(Default)]
pub(crate) struct Stop {
    is_set: Mutex<bool>,
    changed: Condvar,
}

impl Ticker {
    /// Starts the thread. It works first when one interval has passed.
    pub(crate) fn start(
        name: &str,
        every: Duration,
        mut work: impl FnMut(&Stop) + Send + 'static,
    ) -> Result<Self, Error> {
        let stop = Arc::new(Stop::default());
        let for_thread = stop.clone();
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                while !for_thread.wait(every) {
                    work(&for_thread);
                }
            })
            .map_err(|error: io::Error| {
                let message = format!("cannot start a thread: {error}");
                Error::with_source(ErrorKind::Internal, message, error)
            })?;
        Ok(Self {
            stop,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Ends the thread and waits for it. Blocking.
    pub(crate) fn stop(&self) {
        *lock(&self.stop.is_set) = true;
        self.stop.changed.notify_all();
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread {
            // A panic was reported when it happened.
            let _ = thread.join();
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Stop {
    pub(crate) fn is_set(&self) -> bool {
        *lock(&self.is_set)
    }

    /// Waits for an interval; `true`: to stop instead.
    fn wait(&self, every: Duration) -> bool {
        let waited = self
            .changed
            .wait_timeout_while(lock(&self.is_set), every, |is_set| !*is_set)
            .unwrap_or_else(PoisonError::into_inner);
        *waited.0
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
