//! The gateway over real sockets, with real files.

#![expect(clippy::unwrap_used, reason = "a test fails by it")]

mod assets;
mod cases;
mod encoded;
mod fuzz;
mod parsers;
mod pipeline;
mod proxy;
mod support;
mod workerd;
mod workers;
