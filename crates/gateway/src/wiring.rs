//! Names on which gateway and workerd's configuration must agree.
//!
//! Every header that begins with [`PREFIX`] is removed from what a client sends and from
//! what a worker answers, so that only the two of us can say these things.

use http::HeaderName;

/// The prefix of all of them, in lower case.
pub const PREFIX: &str = "x-engawa-";

/// `cfBlobHeader`: JSON that becomes `request.cf`. workerd removes it.
pub const CF: &str = "X-Engawa-Cf";

/// `forwardedProtoHeader`: `http` or `https`, the scheme of `request.url`. It is not
/// `X-Forwarded-Proto`, because workerd removes the header that it reads this from and a
/// worker may look at `X-Forwarded-Proto`.
pub const PROTO: &str = "X-Engawa-Proto";

/// [`CF`] as a header name.
pub(crate) const CF_NAME: HeaderName = HeaderName::from_static("x-engawa-cf");
/// [`PROTO`] as a header name.
pub(crate) const PROTO_NAME: HeaderName = HeaderName::from_static("x-engawa-proto");
