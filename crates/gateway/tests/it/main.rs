//! The gateway over real sockets, with real files.

mod assets;
mod cases;
mod fuzz;
mod parsers;
mod pipeline;
mod proxy;
mod support;
mod workerd;
