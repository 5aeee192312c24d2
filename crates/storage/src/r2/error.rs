//! R2's own errors: Cloudflare's numbers, HTTP statuses and texts (storage.md 3.7).

use std::fmt;

use engawa_model::ErrorKind;

use crate::{DigestKind, Error};

/// Why an R2 operation failed. The message is what the user reads; doors add the action
/// in front of it and the code behind it.
#[derive(Debug, Clone)]
pub struct R2Error {
    code: R2Code,
    message: String,
    source: Option<Error>,
}

/// Cloudflare's numbers (docs: r2 error codes; texts: miniflare `errors.worker.ts`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum R2Code {
    /// A fault of the service.
    InternalError = 10001,
    /// A bucket's name breaks the rules.
    InvalidBucketName = 10005,
    /// There is no such bucket.
    NoSuchBucket = 10006,
    /// There is no such object.
    NoSuchKey = 10007,
    /// A bucket that is not empty cannot be deleted.
    BucketNotEmpty = 10008,
    /// A part but the last is below 5 MiB.
    EntityTooSmall = 10011,
    /// Custom metadata above its limit.
    MetadataTooLarge = 10012,
    /// The body ended before its announced length.
    IncompleteBody = 10013,
    /// A checksum that is not one.
    InvalidDigest = 10014,
    /// A key above its limit.
    InvalidObjectName = 10020,
    /// A list's limit outside of 1 to 1000.
    InvalidMaxKeys = 10022,
    /// A multipart upload that is finished, or not there.
    NoSuchUpload = 10024,
    /// A part that was not uploaded, or has another etag.
    InvalidPart = 10025,
    /// Anything else that is wrong with a request.
    InvalidArgument = 10029,
    /// A condition did not hold.
    PreconditionFailed = 10031,
    /// A checksum did not match.
    BadDigest = 10037,
    /// A range outside of its object.
    InvalidRange = 10039,
    /// Rules of a bucket that are none.
    MalformedConfiguration = 10040,
    /// Too busy: safe to repeat.
    ServiceUnavailable = 10043,
    /// Parts that are not of equal size.
    BadUpload = 10048,
    /// A bucket has no CORS rules.
    NoSuchCorsConfiguration = 10059,
    /// There is such a bucket already.
    BucketConflict = 10073,
    /// An object above its limit.
    EntityTooLarge = 100_100,
}

impl R2Code {
    /// The number on the wire.
    pub fn number(self) -> u32 {
        self as u32
    }

    /// The HTTP status that goes with it.
    pub fn http_status(self) -> u16 {
        match self {
            Self::InternalError | Self::BadUpload => 500,
            Self::NoSuchBucket | Self::NoSuchKey | Self::NoSuchCorsConfiguration => 404,
            Self::BucketNotEmpty | Self::BucketConflict => 409,
            Self::PreconditionFailed => 412,
            Self::InvalidRange => 416,
            Self::ServiceUnavailable => 503,
            Self::InvalidBucketName
            | Self::EntityTooSmall
            | Self::MetadataTooLarge
            | Self::IncompleteBody
            | Self::InvalidDigest
            | Self::InvalidObjectName
            | Self::InvalidMaxKeys
            | Self::NoSuchUpload
            | Self::InvalidPart
            | Self::InvalidArgument
            | Self::BadDigest
            | Self::MalformedConfiguration
            | Self::EntityTooLarge => 400,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::InternalError => "We encountered an internal error. Please try again.",
            Self::InvalidBucketName => "The specified bucket name is not valid.",
            Self::NoSuchBucket => "The specified bucket does not exist.",
            Self::NoSuchKey => "The specified key does not exist.",
            Self::BucketNotEmpty => "The bucket you tried to delete is not empty.",
            Self::EntityTooSmall => {
                "Your proposed upload is smaller than the minimum allowed object size."
            }
            Self::MetadataTooLarge => {
                "Your metadata headers exceed the maximum allowed metadata size."
            }
            Self::IncompleteBody => {
                "The body ended before the number of bytes in its Content-Length had come."
            }
            Self::InvalidDigest => "The checksum you specified is not valid.",
            Self::InvalidObjectName => "The specified object name is not valid.",
            Self::InvalidMaxKeys => "MaxKeys params must be positive integer <= 1000.",
            Self::NoSuchUpload => "The specified multipart upload does not exist.",
            Self::InvalidPart => "One or more of the specified parts could not be found.",
            Self::InvalidArgument => "An argument is not valid.",
            Self::PreconditionFailed => {
                "At least one of the pre-conditions you specified did not hold."
            }
            Self::BadDigest => "A checksum you specified did not match what we received.",
            Self::InvalidRange => "The requested range is not satisfiable",
            Self::MalformedConfiguration => "The JSON you provided was not well formed.",
            Self::NoSuchCorsConfiguration => "The CORS configuration does not exist.",
            Self::ServiceUnavailable => "The service is busy. Please try again.",
            Self::BadUpload => "There was a problem with the multipart upload.",
            Self::BucketConflict => "The bucket you tried to create already exists.",
            Self::EntityTooLarge => "Your proposed upload exceeds the maximum allowed object size.",
        }
    }
}

impl R2Error {
    /// An error with a text of its own.
    pub fn new(code: R2Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            source: None,
        }
    }

    /// A digest that was asked to be checked and differs: three lines, as from Cloudflare.
    pub(super) fn bad_digest(kind: DigestKind, provided: &[u8], actual: &[u8]) -> Self {
        let name = match kind {
            DigestKind::Md5 => "MD5",
            DigestKind::Sha1 => "SHA-1",
            DigestKind::Sha256 => "SHA-256",
            DigestKind::Sha384 => "SHA-384",
            DigestKind::Sha512 => "SHA-512",
        };
        let (provided, actual) = (hex(provided), hex(actual));
        Self::new(
            R2Code::BadDigest,
            format!(
                "The {name} checksum you specified did not match what we received.\n\
                 You provided a {name} checksum with value: {provided}\n\
                 Actual {name} was: {actual}"
            ),
        )
    }

    /// Cloudflare's number.
    pub fn code(&self) -> R2Code {
        self.code
    }

    /// The text for the user.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The text for a tenant's code: see [`Error::public_message`].
    pub fn public_message(&self) -> &str {
        self.source
            .as_ref()
            .map_or(&self.message, Error::public_message)
    }
}

impl From<R2Code> for R2Error {
    /// With the text that Cloudflare uses for this code.
    fn from(code: R2Code) -> Self {
        Self::new(code, code.text())
    }
}

impl From<Error> for R2Error {
    /// What the store itself could not do. A full disk and the like say so: here the
    /// reader is the operator too.
    fn from(error: Error) -> Self {
        let code = match error.kind() {
            ErrorKind::Unavailable => R2Code::ServiceUnavailable,
            ErrorKind::Incomplete => R2Code::IncompleteBody,
            _ => R2Code::InternalError,
        };
        Self {
            code,
            message: error.message().to_owned(),
            source: Some(error),
        }
    }
}

impl From<R2Error> for Error {
    fn from(error: R2Error) -> Self {
        if let Some(source) = error.source {
            return source;
        }
        let kind = match error.code {
            R2Code::InternalError => ErrorKind::Internal,
            R2Code::ServiceUnavailable => ErrorKind::Unavailable,
            R2Code::NoSuchBucket
            | R2Code::NoSuchKey
            | R2Code::NoSuchUpload
            | R2Code::NoSuchCorsConfiguration => ErrorKind::NotFound,
            R2Code::BucketNotEmpty | R2Code::BucketConflict => ErrorKind::Conflict,
            R2Code::PreconditionFailed => ErrorKind::PreconditionFailed,
            R2Code::InvalidRange => ErrorKind::RangeNotSatisfiable,
            R2Code::IncompleteBody => ErrorKind::Incomplete,
            R2Code::InvalidObjectName => ErrorKind::KeyTooLong,
            R2Code::MetadataTooLarge | R2Code::EntityTooLarge => ErrorKind::TooLarge,
            R2Code::InvalidBucketName
            | R2Code::EntityTooSmall
            | R2Code::InvalidDigest
            | R2Code::InvalidMaxKeys
            | R2Code::InvalidPart
            | R2Code::InvalidArgument
            | R2Code::BadDigest
            | R2Code::MalformedConfiguration
            | R2Code::BadUpload => ErrorKind::InvalidArgument,
        };
        Self::new(kind, error.message)
    }
}

impl fmt::Display for R2Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for R2Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source
            .as_ref()
            .map(|error| error as &(dyn std::error::Error + 'static))
    }
}

/// Lower-case hex digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a text cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}
