//! Builds of whole projects, run in the real workerd; some also beside what wrangler makes
//! of the same files.

mod bundling;
mod errors;
mod measure;
mod node_compat;
mod router;
mod support;
mod wrangler;
