//! The control socket: the REST API for whoever may enter the data folder.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use engawa_api::{Access, Api};
use engawa_gateway::{Answer, Body, ConnInfo, DataPlane, ListenerGuard, ServeOptions, Service};
use engawa_storage::{Owner, Storage};
use http::Request;

/// Serves the control socket until it is dropped.
pub(crate) struct Control {
    // Dropped in this order: first no new calls, then the thread.
    guard: ListenerGuard,
    plane: DataPlane,
}

impl Control {
    /// Takes no new clients, and lets those that are there finish what they came for, for
    /// at most `deadline`. A command makes several calls, so ending its connection
    /// between two of them would end the command.
    pub(crate) async fn leave(self, deadline: Duration) {
        self.guard.leave(deadline).await;
        drop(self.plane);
    }
}

/// Serves the API on the control socket of a data folder, on a thread of its own, so that
/// a large import does not keep visitors waiting.
///
/// # Errors
/// When the socket cannot be made.
pub(crate) fn serve(owner: &Owner, storage: &Storage) -> io::Result<Control> {
    let listener = owner.control_listener()?;
    let plane = DataPlane::start(1)?;
    let service = Arc::new(ControlService(Api::new(storage.clone())));
    let options = ServeOptions {
        half_close: true,
        ..ServeOptions::default()
    };
    let guard = plane.serve(listener, service, options)?;
    Ok(Control { guard, plane })
}

struct ControlService(Api);

impl Service for ControlService {
    fn call(&self, request: Request<Body>, _connection: &Arc<ConnInfo>) -> Answer {
        let api = self.0.clone();
        Answer::later(async move { api.handle(&Access::local(), request).await.map(Body::wrap) })
    }
}
