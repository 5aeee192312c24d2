//! Bytes from the network: listeners, routing, static assets, the way to workerd.
//!
//! The parts, from the socket inwards:
//!
//! * [`plane`]: a thread a core, each with a runtime of its own; listeners shared by all,
//!   connections that stay where they were accepted. It also serves the unix sockets of
//!   bindings, for the runtime crate.
//! * [`pipeline`]: what happens to a request, in named phases of one fixed order.
//! * [`table`]: which site a host belongs to; an immutable snapshot, read without a lock.
//! * [`assets`]: the static files of a site, by the rules of Cloudflare Pages.
//! * [`proxy`]: the way to an instance of workerd and back.
//! * [`dev`]: what `engawa dev` adds: live reload and build errors in the browser.
//!
//! A handler takes `Request<Body>` and gives `Response<Body>` with [`body::Body`], a body of
//! ours, so that TLS, HTTP/2 and HTTP/3 can become listeners and nothing else.

pub mod assets;
pub mod body;
pub mod dev;
mod error_page;
mod host;
pub mod meter;
pub mod pipeline;
pub mod plane;
pub mod proxy;
mod request_cf;
mod routes;
pub mod table;
pub mod wiring;
mod worker_stream;

pub use assets::{AssetFiles, FileCache, RuleWarning};
pub use body::{Body, BodyError};
pub use dev::{BuildState, DevSignals};
pub use meter::{Meter, RequestRecord};
pub use pipeline::Gateway;
pub use plane::{Answer, ConnInfo, DataPlane, ListenerGuard, Peer, ServeOptions, Service};
pub use request_cf::Place;
pub use routes::RoutesMatcher;
pub use table::{RouteTable, RouteTableHandle, Site, SiteOptions};
