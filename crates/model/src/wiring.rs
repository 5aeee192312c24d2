//! Headers on which the gateway, which sets them, and workerd's configuration, which names
//! them, must agree.

/// `cfBlobHeader`: JSON that becomes `request.cf`. workerd removes it.
pub const CF: &str = "X-Engawa-Cf";

/// `forwardedProtoHeader`: `http` or `https`, the scheme of `request.url`. It is not
/// `X-Forwarded-Proto`, because workerd removes the header that it reads this from and a
/// worker may look at `X-Forwarded-Proto`.
pub const PROTO: &str = "X-Engawa-Proto";
