//! What goes in and out of a bucket, in plain types. Their forms on a wire belong to the
//! doors.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::error::{R2Code, R2Error, hex};
use crate::seal::CustomerKey;
use crate::{BlobReader, Digests, Error};

/// An object without its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct R2Object {
    /// The key, in the encoding of its last upload.
    pub key: String,
    /// Opaque; another one after each write.
    pub version: String,
    /// Length of the whole value.
    pub size_bytes: u64,
    /// Hex MD5, or `<hex>-<parts>` of a multipart upload. Without quotes.
    pub etag: String,
    /// When it was stored: milliseconds since 1970.
    pub uploaded_ms: u64,
    /// MD5 unless it was uploaded in parts, and the digest that was checked at upload.
    pub checksums: Digests,
    /// Headers to be served with it. Empty in lists that do not include them.
    pub http_metadata: HttpMetadata,
    /// The user's own, in the order given. Empty in lists that do not include them.
    pub custom_metadata: Vec<(String, String)>,
    /// Standard or infrequent access.
    pub storage_class: StorageClass,
    /// The MD5 of the customer's key that it is encrypted with (SSE-C).
    pub ssec_key_md5: Option<[u8; 16]>,
}

impl R2Object {
    /// The etag as HTTP wants it.
    pub fn http_etag(&self) -> String {
        format!("\"{}\"", self.etag)
    }
}

/// The headers that R2 keeps with an object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpMetadata {
    /// `Content-Type`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// `Content-Language`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_language: Option<String>,
    /// `Content-Disposition`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_disposition: Option<String>,
    /// `Content-Encoding`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_encoding: Option<String>,
    /// `Cache-Control`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_control: Option<String>,
    /// `Expires`, in milliseconds since 1970.
    #[serde(rename = "cacheExpiry", skip_serializing_if = "Option::is_none")]
    pub cache_expiry_ms: Option<i64>,
}

impl HttpMetadata {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Kept and shown; both are stored alike.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum StorageClass {
    /// The default.
    #[default]
    Standard,
    /// Cheaper to keep, dearer to read, on Cloudflare.
    InfrequentAccess,
}

impl StorageClass {
    /// Cloudflare's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "Standard",
            Self::InfrequentAccess => "InfrequentAccess",
        }
    }

    /// Reads Cloudflare's word. An empty one is the default.
    pub fn parse(text: &str) -> Result<Self, R2Error> {
        match text {
            "" | "Standard" => Ok(Self::Standard),
            "InfrequentAccess" => Ok(Self::InfrequentAccess),
            other => Err(R2Error::new(
                R2Code::InvalidArgument,
                format!(
                    "The storage class \"{other}\" is not valid: use Standard or InfrequentAccess."
                ),
            )),
        }
    }
}

/// What must hold for a read or a write (storage.md 3.3). All that are given must.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct R2Conditional {
    /// One of these is the object's etag (strong comparison).
    pub etag_matches: Option<Vec<R2Etag>>,
    /// None of these is (weak comparison).
    pub etag_does_not_match: Option<Vec<R2Etag>>,
    /// Stored before: milliseconds since 1970.
    pub uploaded_before_ms: Option<i64>,
    /// Stored after: milliseconds since 1970.
    pub uploaded_after_ms: Option<i64>,
    /// Compare whole seconds, as HTTP's dates do.
    pub seconds_granularity: bool,
}

/// An entity tag of a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum R2Etag {
    /// `"value"`.
    Strong(String),
    /// `W/"value"`.
    Weak(String),
    /// `*`.
    Wildcard,
}

/// Which bytes of an object are wanted (storage.md 3.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum R2RangeRequest {
    /// From `offset` (0 if absent), `length` bytes (up to the end if absent).
    Bytes {
        /// The first byte.
        offset: Option<u64>,
        /// How many.
        length: Option<u64>,
    },
    /// The last bytes.
    Suffix(u64),
    /// The text of an HTTP `Range` header. One that cannot be honoured is ignored.
    Header(String),
}

/// The bytes that a read returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct R2Range {
    /// The first byte.
    pub offset: u64,
    /// How many.
    pub length: u64,
}

/// What to read.
#[derive(Debug, Clone, Default)]
pub struct R2GetRequest {
    /// The object's key.
    pub key: String,
    /// All of it if absent.
    pub range: Option<R2RangeRequest>,
    /// Checked before the range.
    pub only_if: Option<R2Conditional>,
    /// The customer's key that it was stored with, exactly if it was stored with one.
    pub customer_key: Option<CustomerKey>,
}

/// The outcome of a read.
#[derive(Debug)]
pub enum R2Get {
    /// There is no such object: 404, code 10007.
    NoSuchKey,
    /// It is there, but a condition does not hold: code 10031.
    PreconditionFailed {
        /// The object as it is.
        object: R2Object,
        /// Only conditions for caches failed (`If-None-Match`, `If-Modified-Since`), so
        /// that an HTTP read answers 304 and not 412.
        not_modified: bool,
    },
    /// Here it is.
    Found {
        /// What it is.
        object: R2Object,
        /// Which bytes of it.
        range: R2Range,
        /// Those bytes. They stay the same, whatever happens to the key meanwhile.
        body: R2Body,
    },
}

/// What to store beside a value.
#[derive(Debug, Clone, Default)]
pub struct R2PutRequest {
    /// The object's key.
    pub key: String,
    /// Headers to be served with it.
    pub http_metadata: HttpMetadata,
    /// The user's own.
    pub custom_metadata: Vec<(String, String)>,
    /// Standard or infrequent access.
    pub storage_class: StorageClass,
    /// Checked in the transaction that writes, after the value has come.
    pub only_if: Option<R2Conditional>,
    /// What the value's digests must be. On Cloudflare at most one is given.
    pub checksums: Digests,
    /// Encrypt the value with it.
    pub customer_key: Option<CustomerKey>,
}

/// The outcome of a put.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "one for each request, and taken apart at once"
)]
pub enum R2Put {
    /// The value is stored.
    Stored(R2Object),
    /// A condition did not hold; nothing has changed. Code 10031, in JavaScript `null`.
    PreconditionFailed,
}

/// What to list (storage.md 3.5).
#[derive(Debug, Clone, Default)]
pub struct R2ListRequest {
    /// Only keys that begin with it.
    pub prefix: String,
    /// Keys that have it after the prefix are folded into one entry. Empty: none.
    pub delimiter: String,
    /// Where the last page ended.
    pub cursor: Option<String>,
    /// Only keys greater than it.
    pub start_after: Option<String>,
    /// Keys and prefixes of a page: 1 to 1000, which is the default.
    pub limit: Option<i64>,
    /// Whether the objects come with their HTTP metadata.
    pub include_http_metadata: bool,
    /// Whether they come with their custom metadata.
    pub include_custom_metadata: bool,
}

/// A page of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct R2List {
    /// In the order of the keys' bytes.
    pub objects: Vec<R2Object>,
    /// Each ends with the delimiter.
    pub delimited_prefixes: Vec<String>,
    /// Where the next page begins. `None`: this is the last one.
    pub cursor: Option<String>,
}

/// What a multipart upload's object will be.
#[derive(Debug, Clone, Default)]
pub struct R2CreateMultipartRequest {
    /// The object's key.
    pub key: String,
    /// Headers to be served with it.
    pub http_metadata: HttpMetadata,
    /// The user's own.
    pub custom_metadata: Vec<(String, String)>,
    /// Standard or infrequent access.
    pub storage_class: StorageClass,
    /// Encrypt every part with it; it must be given again with each.
    pub customer_key: Option<CustomerKey>,
}

/// A part, as the client that uploaded it remembers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct R2UploadedPart {
    /// 1 to 10000.
    #[serde(rename = "part")]
    pub part_number: u32,
    /// What its upload returned.
    pub etag: String,
}

/// An object's value on its way out: in chunks, each checked, and never whole in memory.
#[derive(Debug)]
pub struct R2Body {
    pub(super) len_bytes: u64,
    pub(super) source: BodySource,
}

#[derive(Debug)]
pub(super) enum BodySource {
    Bytes(Bytes),
    Blob(BlobReader),
    Parts(Box<super::parts::PartsReader>),
}

impl R2Body {
    /// What is still to come.
    pub fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    /// The next bytes, at most 256 KiB; `None` at the end.
    pub async fn next_chunk(&mut self) -> Option<Result<Bytes, Error>> {
        let chunk = match &mut self.source {
            BodySource::Bytes(bytes) => (!bytes.is_empty()).then(|| Ok(std::mem::take(bytes))),
            BodySource::Blob(reader) => reader.next_chunk().await,
            BodySource::Parts(parts) => parts.next_chunk().await,
        };
        if let Some(Ok(chunk)) = &chunk {
            self.len_bytes = self.len_bytes.saturating_sub(chunk.len() as u64);
        }
        chunk
    }

    /// The value itself, if it was small enough to lie in a row.
    pub fn as_bytes(&self) -> Option<&Bytes> {
        match &self.source {
            BodySource::Bytes(bytes) => Some(bytes),
            BodySource::Blob(_) | BodySource::Parts(_) => None,
        }
    }
}

/// The etag of a value that was put at once.
pub(super) fn single_etag(md5: &[u8; 16]) -> String {
    hex(md5)
}
