//! How failures look on this wire. This is the one place where a kind of storage error
//! becomes a status and a code.

use engawa_model::ErrorKind;
use engawa_storage::Error;
use engawa_storage::r2::R2Error;
use http::{Response, StatusCode};
use serde_json::json;

use crate::answer::{self, ApiBody};
use crate::route::ProductName;

/// A failed call.
#[derive(Debug)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) code: u32,
    pub(crate) message: String,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, code: u32, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
        }
    }

    /// Nothing is known at this path.
    pub(crate) fn no_route(path: &str) -> Self {
        let message =
            format!("Could not route to {path}, perhaps your object identifier is invalid?");
        Self::new(StatusCode::NOT_FOUND, 7003, message)
    }

    /// The path is known, with other methods.
    pub(crate) fn no_method(method: &http::Method) -> Self {
        let message = format!("Method {method} not available for that URI.");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, 7001, message)
    }

    /// wrangler takes 10000 for a problem of authentication, which it is.
    pub(crate) fn other_account() -> Self {
        let message = "Authentication error: this socket or token gives no access to that account";
        Self::new(StatusCode::FORBIDDEN, 10_000, message)
    }

    /// A body or parameter that cannot be understood.
    pub(crate) fn malformed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, 6007, message)
    }

    /// A body above its bound.
    pub(crate) fn body_too_large(limit_bytes: u64) -> Self {
        let message = format!("The request's body is larger than {limit_bytes} bytes.");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, 6008, message)
    }

    /// A body that broke off.
    pub(crate) fn body_incomplete(error: &dyn std::error::Error) -> Self {
        let message = format!("The request's body ended early: {error}");
        Self::new(StatusCode::BAD_REQUEST, 6009, message)
    }

    /// What the storage says, in the numbers of a product.
    pub(crate) fn storage(product: ProductName, error: &Error) -> Self {
        let kind = error.kind();
        Self::new(status(kind), code(product, kind), error.message())
    }

    pub(crate) fn r2(error: &R2Error) -> Self {
        let status = StatusCode::from_u16(error.code().http_status())
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self::new(status, error.code().number(), error.message())
    }

    pub(crate) fn into_response(self) -> Response<ApiBody> {
        answer::envelope(
            self.status,
            &json!({
                "success": false,
                "errors": [{ "code": self.code, "message": self.message }],
                "messages": [],
                "result": null,
            }),
        )
    }
}

fn status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
        ErrorKind::Conflict
        | ErrorKind::InvalidArgument
        | ErrorKind::Incomplete
        | ErrorKind::Sql => StatusCode::BAD_REQUEST,
        ErrorKind::KeyTooLong => StatusCode::URI_TOO_LONG,
        ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorKind::RangeNotSatisfiable => StatusCode::RANGE_NOT_SATISFIABLE,
        ErrorKind::Unavailable => StatusCode::TOO_MANY_REQUESTS,
        ErrorKind::DiskFull => StatusCode::INSUFFICIENT_STORAGE,
        ErrorKind::Unknown | ErrorKind::Corrupt | ErrorKind::Internal => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}

/// Codes that wrangler acts on or that are documented (storage.md 1.7, 2.13;
/// control-plane-api.md 14); any other is the product's general one.
fn code(product: ProductName, kind: ErrorKind) -> u32 {
    match (product, kind) {
        (ProductName::D1, ErrorKind::NotFound) => 7404,
        (ProductName::D1, ErrorKind::Conflict) => 7502,
        (ProductName::D1, _) => 7500,
        (ProductName::Kv, ErrorKind::NotFound) => 10_013,
        (ProductName::Kv, ErrorKind::Conflict) => 10_014,
        (ProductName::Kv, _) => 10_012,
        (ProductName::R2, ErrorKind::NotFound) => 10_006,
        (ProductName::R2, ErrorKind::Conflict) => 10_073,
        (ProductName::R2, _) => 10_001,
    }
}
