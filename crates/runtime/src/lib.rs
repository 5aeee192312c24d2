//! Everything that knows workerd: its configuration, its processes, and what it says on
//! the wire when a worker uses a binding.
//!
//! [`Runtime::deploy`] turns a version into a [`Pool`] of processes and a socket that
//! [`Bindings`] answers. Who serves that socket, and who sends requests to the pool, is
//! not known here.

mod bindings;
mod capacity;
mod config;
mod life;
mod ping;
mod pool;
mod process;
mod scale;
mod sockets;
mod supervisor;

pub use bindings::{Bindings, Body, BoxError, Host, LocalFuture, LogLevel, LogLine, WorkerLog};
pub use capacity::CapacityLimits;
pub use config::Egress;
pub use life::WorkerTimes;
pub use pool::Pool;
pub use supervisor::{Deployed, Runtime, RuntimeOptions, redacted_config};
