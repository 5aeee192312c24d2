//! Cloudflare Pages on your own machines: the command line, and the wiring of the crates
//! that do the work.
//!
//! [`cli`] reads arguments and calls one function a command. [`platform`] is the one place
//! where storage, runtime and gateway meet.

mod build;
pub mod cli;
mod control;
mod dev;
mod doctor;
mod local;
mod platform;
mod precompress;
mod state;
mod terminal;
mod tools;
mod watch;
mod workerd_config;
