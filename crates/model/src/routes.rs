//! `_routes.json`: which paths go to the worker (pages.md 4).

use serde::{Deserialize, Serialize};

/// The rules of a `_routes.json`, checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoutesJson {
    /// Always 1.
    pub version: u32,
    /// Free text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Paths that go to the worker, unless excluded.
    pub include: Vec<String>,
    /// Paths that never do. Tried first.
    pub exclude: Vec<String>,
}

/// Why a `_routes.json` is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RoutesError {
    /// Not JSON, or not of the schema.
    #[error("Invalid _routes.json: {0}")]
    Invalid(String),
}
