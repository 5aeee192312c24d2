//! The runtime with the real workerd and the real store.

#![expect(clippy::unwrap_used, reason = "a test stops where something is wrong")]

mod analytics;
mod bundled;
mod config;
mod d1;
mod kv;
mod life;
mod load;
mod r2;
mod support;
mod tail;
mod upstream_kv;
mod upstream_r2;
