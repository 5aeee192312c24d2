//! The seam between the gateway, which has a request, and the runtime, which has
//! processes. The gateway sees only this.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

/// The processes of one deployment's worker.
///
/// Only a request starts a cold worker. Starts are single-flight, and the number of
/// requests that wait for one, and their time, are bounded.
pub trait WorkerPool: Send + Sync {
    /// A place at the live instance with the fewest requests in flight, or `None` if
    /// there is no live instance with a free place: then [`WorkerPool::acquire`] waits.
    fn try_acquire(&self) -> Option<Lease>;

    /// Waits for a live instance, starting one if need be.
    fn acquire(
        &self,
    ) -> Pin<Box<dyn Future<Output = Result<Lease, WorkerUnavailable>> + Send + '_>>;
}

/// A place for one request at one instance. Dropping it gives the place back, so it is
/// kept until the last byte of the answer (for a WebSocket: until it is closed).
pub struct Lease {
    /// The instance's listening unix socket.
    pub socket: Arc<PathBuf>,
    /// Tells instances apart: never used twice in a process.
    pub instance: u64,
    /// Gives the place back when dropped, and tells the pool how it went.
    pub guard: Box<dyn LeaseGuard>,
}

/// What the gateway tells the pool about a request under way.
pub trait LeaseGuard: Send + Sync {
    /// Whether the instance was killed because it burnt CPU without answering its ping:
    /// then a broken connection means error 1102 and not 1101.
    fn exceeded_limits(&self) -> bool;

    /// The head of the answer has come. What is left is a stream or a WebSocket, which
    /// may hold up a replacement for longer.
    fn answered(&self);
}

/// Why there is no instance to send a request to.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WorkerUnavailable {
    /// The last start failed and its wait has not passed. The text is workerd's, for the
    /// operator; visitors see error 1101.
    #[error("the worker does not start: {0}")]
    Failing(Arc<str>),
    /// Too many requests wait already, or this one waited too long.
    #[error("no instance of the worker became free in time")]
    Busy,
    /// Engawa is shutting down.
    #[error("the server is shutting down")]
    Stopping,
}
