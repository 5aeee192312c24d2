//! What R2 requests and answers look like as JSON (workerd.md 3.2 and 3.3).

use engawa_storage::Digests;
use engawa_storage::r2::{
    CustomerKey, HttpMetadata, R2Code, R2Conditional, R2Error, R2Etag, R2Object, R2Range,
    R2RangeRequest, R2UploadedPart, StorageClass,
};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value as Json, json};

/// An operation as the runtime writes it. 64-bit numbers are strings.
#[derive(Deserialize)]
#[serde(tag = "method", rename_all = "camelCase")]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one for each call, moved twice"
)]
pub(super) enum Operation {
    Head {
        object: String,
    },
    #[serde(rename_all = "camelCase")]
    Get {
        object: String,
        range: Option<WireRange>,
        range_header: Option<String>,
        only_if: Option<WireConditional>,
        ssec: Option<WireSsec>,
    },
    #[serde(rename_all = "camelCase")]
    Put {
        object: String,
        #[serde(flatten)]
        what: What,
        only_if: Option<WireConditional>,
        #[serde(flatten)]
        checksums: WireChecksums,
    },
    Delete {
        object: Option<String>,
        objects: Option<Vec<String>>,
    },
    #[serde(rename_all = "camelCase")]
    List {
        limit: Option<i64>,
        #[serde(default)]
        prefix: String,
        cursor: Option<String>,
        #[serde(default)]
        delimiter: String,
        start_after: Option<String>,
        /// 0 is HTTP metadata, 1 custom metadata.
        #[serde(default)]
        include: Vec<u8>,
    },
    CreateMultipartUpload {
        object: String,
        #[serde(flatten)]
        what: What,
    },
    #[serde(rename_all = "camelCase")]
    UploadPart {
        object: String,
        upload_id: String,
        part_number: u32,
        ssec: Option<WireSsec>,
    },
    #[serde(rename_all = "camelCase")]
    CompleteMultipartUpload {
        object: String,
        upload_id: String,
        parts: Vec<R2UploadedPart>,
    },
    #[serde(rename_all = "camelCase")]
    AbortMultipartUpload {
        object: String,
        upload_id: String,
    },
}

/// What is stored beside a value.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct What {
    custom_fields: Vec<CustomField>,
    http_fields: WireHttp,
    storage_class: String,
    ssec: Option<WireSsec>,
}

/// A customer's key: 64 hex digits.
#[derive(Deserialize)]
pub(super) struct WireSsec {
    key: String,
}

#[derive(Deserialize)]
pub(super) struct CustomField {
    k: String,
    v: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct WireHttp {
    content_type: Option<String>,
    content_language: Option<String>,
    content_disposition: Option<String>,
    content_encoding: Option<String>,
    cache_control: Option<String>,
    #[serde(deserialize_with = "optional_number")]
    cache_expiry: Option<i64>,
}

#[derive(Deserialize)]
pub(super) struct WireRange {
    #[serde(default, deserialize_with = "optional_number")]
    offset: Option<u64>,
    #[serde(default, deserialize_with = "optional_number")]
    length: Option<u64>,
    #[serde(default, deserialize_with = "optional_number")]
    suffix: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireConditional {
    etag_matches: Option<Vec<WireEtag>>,
    etag_does_not_match: Option<Vec<WireEtag>>,
    #[serde(default, deserialize_with = "optional_number")]
    uploaded_before: Option<i64>,
    #[serde(default, deserialize_with = "optional_number")]
    uploaded_after: Option<i64>,
    #[serde(default)]
    seconds_granularity: bool,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(super) enum WireEtag {
    Strong { value: String },
    Weak { value: String },
    Wildcard,
}

/// MD5 is base64, the others are hex.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct WireChecksums {
    md5: Option<String>,
    sha1: Option<String>,
    sha256: Option<String>,
    sha384: Option<String>,
    sha512: Option<String>,
}

#[derive(Clone, Copy)]
pub(super) struct Include {
    pub(super) http: bool,
    pub(super) custom: bool,
}

impl Include {
    pub(super) const ALL: Self = Self {
        http: true,
        custom: true,
    };
}

/// An object as the runtime reads it (workerd.md 3.3).
pub(super) fn object_json(object: &R2Object, range: Option<R2Range>, include: Include) -> Json {
    let mut answer = json!({
        "name": object.key,
        "version": object.version,
        "size": object.size_bytes.to_string(),
        "etag": object.etag,
        "uploaded": object.uploaded_ms.to_string(),
        "checksums": checksums_json(&object.checksums),
        "storageClass": object.storage_class.as_str(),
    });
    if let Some(key_md5) = &object.ssec_key_md5 {
        answer["ssec"] = ssec_json(key_md5);
    }
    if include.http {
        answer["httpFields"] = http_json(&object.http_metadata);
    }
    if include.custom {
        answer["customFields"] = object
            .custom_metadata
            .iter()
            .map(|(k, v)| json!({ "k": k, "v": v }))
            .collect::<Vec<_>>()
            .into();
    }
    if let Some(range) = range {
        answer["range"] =
            json!({ "offset": range.offset.to_string(), "length": range.length.to_string() });
    }
    answer
}

/// Which key a value is under.
pub(super) fn ssec_json(key_md5: &[u8; 16]) -> Json {
    json!({ "algorithm": "AES256", "keyMd5": hex(key_md5) })
}

fn http_json(http: &HttpMetadata) -> Json {
    let mut fields = serde_json::to_value(http).unwrap_or_else(|_| Json::Object(Map::new()));
    if let Some(expiry_ms) = http.cache_expiry_ms {
        fields["cacheExpiry"] = expiry_ms.to_string().into();
    }
    fields
}

fn checksums_json(checksums: &Digests) -> Json {
    let digests: [(&str, Option<&[u8]>); 5] = [
        ("0", checksums.md5.as_ref().map(AsRef::as_ref)),
        ("1", checksums.sha1.as_ref().map(AsRef::as_ref)),
        ("2", checksums.sha256.as_ref().map(AsRef::as_ref)),
        ("3", checksums.sha384.as_ref().map(AsRef::as_ref)),
        ("4", checksums.sha512.as_ref().map(AsRef::as_ref)),
    ];
    let known = digests
        .into_iter()
        .filter_map(|(name, digest)| Some((name.to_owned(), hex(digest?).into())));
    Json::Object(known.collect())
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
    }
    text
}

pub(super) struct StoredBeside {
    pub(super) http_metadata: HttpMetadata,
    pub(super) custom_metadata: Vec<(String, String)>,
    pub(super) storage_class: StorageClass,
    pub(super) customer_key: Option<CustomerKey>,
}

impl WireSsec {
    pub(super) fn parse(self) -> Result<CustomerKey, R2Error> {
        // The text is the runtime's, which lets nothing else through.
        let invalid = |_| {
            R2Error::new(
                R2Code::InvalidArgument,
                "SSE-C Key must be 32 bytes in length",
            )
        };
        from_hex(&self.key).map(CustomerKey::new).map_err(invalid)
    }
}

impl What {
    pub(super) fn parse(self) -> Result<StoredBeside, R2Error> {
        let http_metadata = HttpMetadata {
            content_type: self.http_fields.content_type,
            content_language: self.http_fields.content_language,
            content_disposition: self.http_fields.content_disposition,
            content_encoding: self.http_fields.content_encoding,
            cache_control: self.http_fields.cache_control,
            cache_expiry_ms: self.http_fields.cache_expiry,
        };
        let custom_metadata = self
            .custom_fields
            .into_iter()
            .map(|field| (field.k, field.v))
            .collect();
        Ok(StoredBeside {
            http_metadata,
            custom_metadata,
            storage_class: StorageClass::parse(&self.storage_class)?,
            customer_key: self.ssec.map(WireSsec::parse).transpose()?,
        })
    }
}

impl WireChecksums {
    pub(super) fn parse(&self) -> Result<Digests, R2Error> {
        Ok(Digests {
            md5: self.md5.as_deref().map(from_base64).transpose()?,
            sha1: self.sha1.as_deref().map(from_hex).transpose()?,
            sha256: self.sha256.as_deref().map(from_hex).transpose()?,
            sha384: self.sha384.as_deref().map(from_hex).transpose()?,
            sha512: self.sha512.as_deref().map(from_hex).transpose()?,
        })
    }
}

fn from_base64<const N: usize>(text: &str) -> Result<[u8; N], R2Error> {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(text);
    bytes
        .ok()
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(invalid_digest)
}

fn from_hex<const N: usize>(text: &str) -> Result<[u8; N], R2Error> {
    let mut digest = [0; N];
    if text.len() != 2 * N || !text.is_ascii() {
        return Err(invalid_digest());
    }
    for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).map_err(|_| invalid_digest())?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| invalid_digest())?;
    }
    Ok(digest)
}

fn invalid_digest() -> R2Error {
    R2Error::new(
        R2Code::InvalidDigest,
        "The checksum you specified is not valid.",
    )
}

impl From<WireRange> for R2RangeRequest {
    fn from(range: WireRange) -> Self {
        match range.suffix {
            Some(suffix) => Self::Suffix(suffix),
            None => Self::Bytes {
                offset: range.offset,
                length: range.length,
            },
        }
    }
}

impl From<WireConditional> for R2Conditional {
    fn from(wire: WireConditional) -> Self {
        let etags = |etags: Option<Vec<WireEtag>>| {
            etags.map(|etags| etags.into_iter().map(Into::into).collect())
        };
        Self {
            etag_matches: etags(wire.etag_matches),
            etag_does_not_match: etags(wire.etag_does_not_match),
            uploaded_before_ms: wire.uploaded_before,
            uploaded_after_ms: wire.uploaded_after,
            seconds_granularity: wire.seconds_granularity,
        }
    }
}

impl From<WireEtag> for R2Etag {
    fn from(wire: WireEtag) -> Self {
        match wire {
            WireEtag::Strong { value } => Self::Strong(value),
            WireEtag::Weak { value } => Self::Weak(value),
            WireEtag::Wildcard => Self::Wildcard,
        }
    }
}

/// A number, or a string that holds one.
fn optional_number<'de, D, N>(deserializer: D) -> Result<Option<N>, D::Error>
where
    D: Deserializer<'de>,
    N: std::str::FromStr + Deserialize<'de>,
{
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either<N> {
        Number(N),
        Text(String),
    }
    match Option::<Either<N>>::deserialize(deserializer)? {
        None => Ok(None),
        Some(Either::Number(number)) => Ok(Some(number)),
        Some(Either::Text(text)) => text
            .parse()
            .map(Some)
            .map_err(|_| D::Error::custom(format!("{text} is not a number"))),
    }
}
