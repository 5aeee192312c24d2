//! What lies on a developer's disk: the wrangler file, functions/, bundling, migrations.
//!
//! [`Project::load`] reads the wrangler file into a [`Config`], and says with file, line
//! and column what is unusual or wrong. What is built from it becomes a version of
//! `engawa-model`; nothing here talks to storage, workerd or the network.

pub mod assets;
pub mod build;
mod bundle;
pub mod compat;
pub mod config;
pub mod diagnostic;
pub mod dotenv;
pub mod functions;
pub mod migrations;
pub mod node_compat;

pub use build::{BuildError, BuildMode, BuildOptions, Builder, Built, Identity, Tools};
pub use config::{Config, ConfigError, LoadOptions, Project};
pub use diagnostic::{Diagnostic, Location, Severity};
