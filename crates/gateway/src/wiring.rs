//! Names on which gateway and workerd's configuration must agree.
//!
//! Every header that begins with [`PREFIX`] is removed from what a client sends and from
//! what a worker answers, so that only the two of us can say these things.

use http::HeaderName;

/// The prefix of all of them, in lower case.
pub const PREFIX: &str = "x-engawa-";

pub use engawa_model::wiring::{CF, PROTO};

/// [`CF`] as a header name.
pub(crate) const CF_NAME: HeaderName = HeaderName::from_static("x-engawa-cf");
/// [`PROTO`] as a header name.
pub(crate) const PROTO_NAME: HeaderName = HeaderName::from_static("x-engawa-proto");
