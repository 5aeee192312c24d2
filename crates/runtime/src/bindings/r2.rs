//! The R2 binding (workerd.md 3).
//!
//! A read has its operation as JSON in a header and its answer's metadata in front of
//! the value; a write has the JSON in front of the value and is answered with JSON.

use bytes::{Buf as _, Bytes, BytesMut};
use engawa_model::BucketName;
use engawa_storage::r2::{
    HttpMetadata, R2Code, R2Conditional, R2CreateMultipartRequest, R2Error, R2Etag, R2Get, R2GetRequest,
    R2ListRequest, R2Object, R2Part, R2Put, R2PutRequest, R2Range, R2RangeRequest, R2Upload, R2UploadedPart,
    StorageClass,
};
use engawa_storage::Digests;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value as Json, json};

use super::Scope;
use super::body::{self, Body, BoxError, PourError, Value};

/// The JSON in front of a written value: keys, metadata, up to 1,000 keys to delete.
const METADATA_BYTES: usize = 4 * 1024 * 1024;
const REQUEST: &str = "cf-r2-request";
const METADATA_SIZE: &str = "cf-r2-metadata-size";
const ERROR: &str = "cf-r2-error";

/// An operation as the runtime writes it. 64-bit numbers are strings.
#[derive(Deserialize)]
#[serde(tag = "method", rename_all = "camelCase")]
enum Operation {
    Head {
        object: String,
        ssec: Option<Json>,
    },
    #[serde(rename_all = "camelCase")]
    Get {
        object: String,
        range: Option<WireRange>,
        range_header: Option<String>,
        only_if: Option<WireConditional>,
        ssec: Option<Json>,
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
        ssec: Option<Json>,
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
struct What {
    custom_fields: Vec<CustomField>,
    http_fields: WireHttp,
    storage_class: String,
    ssec: Option<Json>,
}

#[derive(Deserialize)]
struct CustomField {
    k: String,
    v: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WireHttp {
    content_type: Option<String>,
    content_language: Option<String>,
    content_disposition: Option<String>,
    content_encoding: Option<String>,
    cache_control: Option<String>,
    #[serde(deserialize_with = "optional_number")]
    cache_expiry: Option<i64>,
}

#[derive(Deserialize)]
struct WireRange {
    #[serde(default, deserialize_with = "optional_number")]
    offset: Option<u64>,
    #[serde(default, deserialize_with = "optional_number")]
    length: Option<u64>,
    #[serde(default, deserialize_with = "optional_number")]
    suffix: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireConditional {
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
enum WireEtag {
    Strong { value: String },
    Weak { value: String },
    Wildcard,
}

/// MD5 is base64, the others are hex.
#[derive(Deserialize, Default)]
#[serde(default)]
struct WireChecksums {
    md5: Option<String>,
    sha1: Option<String>,
    sha256: Option<String>,
    sha384: Option<String>,
    sha512: Option<String>,
}

pub(super) async fn handle<B>(scope: Scope<'_>, bucket: &BucketName, request: Request<B>) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    let (head, content) = request.into_parts();
    let answer = if head.method == Method::GET {
        match head.headers.get(REQUEST) {
            Some(text) => read(scope, bucket, text.as_bytes()).await,
            None => Err(invalid("the request has no operation")),
        }
    } else {
        let size = head.headers.get(METADATA_SIZE).and_then(|size| size.to_str().ok()?.parse().ok());
        match size {
            Some(size) if size <= METADATA_BYTES => write(scope, bucket, size, content).await,
            _ => match body::discard(content).await {
                Ok(()) => Err(invalid("the request has no metadata, or too much")),
                Err(error) => Err(invalid(&error.to_string())),
            },
        }
    };
    answer.unwrap_or_else(|error| refuse(&error, None))
}

async fn read(scope: Scope<'_>, bucket: &BucketName, text: &[u8]) -> Result<Response<Body>, R2Error> {
    let r2 = scope.storage.r2();
    match parse(text)? {
        Operation::Head { object, ssec } => {
            refuse_ssec(ssec.as_ref())?;
            let found = r2.head(scope.account, bucket, &object).await?.value;
            let found = found.ok_or_else(|| R2Error::from(R2Code::NoSuchKey))?;
            Ok(with_metadata(&object_json(&found, None, Include::ALL), None))
        }
        Operation::Get { object, range, range_header, only_if, ssec } => {
            refuse_ssec(ssec.as_ref())?;
            let range = match (range, range_header) {
                (Some(range), _) => Some(range.into()),
                (None, Some(header)) => Some(R2RangeRequest::Header(header)),
                (None, None) => None,
            };
            let request = R2GetRequest { key: object, range, only_if: only_if.map(Into::into) };
            match r2.get(scope.account, bucket, request).await?.value {
                R2Get::NoSuchKey => Err(R2Error::from(R2Code::NoSuchKey)),
                R2Get::PreconditionFailed { object, .. } => {
                    let error = R2Error::from(R2Code::PreconditionFailed);
                    Ok(refuse(&error, Some(&object_json(&object, None, Include::ALL))))
                }
                R2Get::Found { object, range, body } => {
                    Ok(with_metadata(&object_json(&object, Some(range), Include::ALL), Some(Value::Object(body))))
                }
            }
        }
        Operation::List { limit, prefix, cursor, delimiter, start_after, include } => {
            let include = Include { http: include.contains(&0), custom: include.contains(&1) };
            let request = R2ListRequest {
                prefix,
                delimiter,
                cursor,
                start_after,
                limit,
                include_http_metadata: include.http,
                include_custom_metadata: include.custom,
            };
            let page = r2.list(scope.account, bucket, request).await?.value;
            let objects: Vec<Json> =
                page.objects.iter().map(|object| object_json(object, None, include)).collect();
            let mut answer = json!({
                "objects": objects,
                "truncated": page.cursor.is_some(),
                "delimitedPrefixes": page.delimited_prefixes,
            });
            if let Some(cursor) = page.cursor {
                answer["cursor"] = cursor.into();
            }
            Ok(with_metadata(&answer, None))
        }
        _ => Err(invalid("this operation is not a read")),
    }
}

async fn write<B>(
    scope: Scope<'_>,
    bucket: &BucketName,
    metadata_size: usize,
    content: B,
) -> Result<Response<Body>, R2Error>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    let mut content = content;
    let (text, rest) = split(&mut content, metadata_size).await?;
    let operation = match parse(&text) {
        Ok(operation) => operation,
        Err(error) => {
            body::discard(content).await.map_err(|error| invalid(&error.to_string()))?;
            return Err(error);
        }
    };
    let r2 = scope.storage.r2();
    match operation {
        Operation::Put { object, what, only_if, checksums } => {
            let upload = put_request(object, what, only_if, &checksums)
                .and_then(|request| r2.begin_put(scope.account, bucket, request));
            match receive(upload, rest, content).await?.finish().await?.value {
                R2Put::Stored(object) => Ok(body::full(object_json(&object, None, Include::ALL).to_string().into())),
                R2Put::PreconditionFailed => Err(R2Code::PreconditionFailed.into()),
            }
        }
        Operation::UploadPart { object, upload_id, part_number, ssec } => {
            let part = R2Part { key: object, upload_id, part_number };
            let upload =
                refuse_ssec(ssec.as_ref()).and_then(|()| r2.begin_part(scope.account, bucket, part));
            let part = receive(upload, rest, content).await?.finish().await?.value;
            Ok(body::full(json!({ "etag": part.etag }).to_string().into()))
        }
        other => {
            body::discard(content).await.map_err(|error| invalid(&error.to_string()))?;
            change(scope, bucket, other).await
        }
    }
}

/// The writes that carry no value.
async fn change(scope: Scope<'_>, bucket: &BucketName, operation: Operation) -> Result<Response<Body>, R2Error> {
    let r2 = scope.storage.r2();
    match operation {
        Operation::Delete { object, objects } => {
            let keys = objects.unwrap_or_else(|| object.into_iter().collect());
            r2.delete(scope.account, bucket, keys).await?;
            Ok(body::empty(StatusCode::OK))
        }
        Operation::CreateMultipartUpload { object, what } => {
            let (http_metadata, custom_metadata, storage_class) = what.parse()?;
            let request = R2CreateMultipartRequest { key: object, http_metadata, custom_metadata, storage_class };
            let upload_id = r2.create_multipart_upload(scope.account, bucket, request).await?.value;
            Ok(body::full(json!({ "uploadId": upload_id }).to_string().into()))
        }
        Operation::CompleteMultipartUpload { object, upload_id, parts } => {
            let done = r2.complete_multipart_upload(scope.account, bucket, &object, &upload_id, parts).await?.value;
            Ok(body::full(object_json(&done, None, Include::ALL).to_string().into()))
        }
        Operation::AbortMultipartUpload { object, upload_id } => {
            r2.abort_multipart_upload(scope.account, bucket, &object, &upload_id).await?;
            Ok(body::empty(StatusCode::OK))
        }
        _ => Err(invalid("this operation is not a write")),
    }
}

/// The first `size` bytes of a body, and what came with them of the rest.
async fn split<B>(content: &mut B, size: usize) -> Result<(Bytes, Bytes), R2Error>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    let mut collected = BytesMut::new();
    while collected.len() < size {
        match body::next_chunk(content).await.map_err(|error| invalid(&error.to_string()))? {
            Some(chunk) => collected.extend_from_slice(&chunk),
            None => return Err(R2Error::from(R2Code::IncompleteBody)),
        }
    }
    let mut rest = collected.freeze();
    let text = rest.copy_to_bytes(size);
    Ok((text, rest))
}

/// Takes the value of an upload. If the upload is refused, the value is read all the
/// same before that is said.
async fn receive<T, B>(
    upload: Result<R2Upload<T>, R2Error>,
    first: Bytes,
    content: B,
) -> Result<R2Upload<T>, R2Error>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    let incomplete = |_| R2Error::from(R2Code::IncompleteBody);
    let mut upload = match upload {
        Ok(upload) => upload,
        Err(error) => {
            body::discard(content).await.map_err(incomplete)?;
            return Err(error);
        }
    };
    if !first.is_empty() {
        upload.write(first).await?;
    }
    body::pour(content, async |chunk| upload.write(chunk).await).await.map_err(|error| match error {
        PourError::Body(error) => incomplete(error),
        PourError::Write(error) => error,
    })?;
    Ok(upload)
}

fn put_request(
    key: String,
    what: What,
    only_if: Option<WireConditional>,
    checksums: &WireChecksums,
) -> Result<R2PutRequest, R2Error> {
    let checksums = checksums.parse()?;
    let (http_metadata, custom_metadata, storage_class) = what.parse()?;
    Ok(R2PutRequest { key, http_metadata, custom_metadata, storage_class, only_if: only_if.map(Into::into), checksums })
}

fn parse(text: &[u8]) -> Result<Operation, R2Error> {
    serde_json::from_slice(text).map_err(|error| invalid(&format!("the operation was not understood: {error}")))
}

fn invalid(text: &str) -> R2Error {
    R2Error::new(R2Code::InvalidArgument, text)
}

/// Stored without the customer's key, an object would not be what was asked for.
fn refuse_ssec(ssec: Option<&Json>) -> Result<(), R2Error> {
    match ssec {
        Some(_) => Err(R2Error::customer_key_unsupported()),
        None => Ok(()),
    }
}

/// An answer of metadata, and perhaps a value behind it.
fn with_metadata(metadata: &Json, value: Option<Value>) -> Response<Body> {
    let text = Bytes::from(metadata.to_string());
    let size = HeaderValue::from(text.len());
    let mut response = match value {
        Some(value) => body::stored(text, value),
        None => body::full(text),
    };
    response.headers_mut().insert(METADATA_SIZE, size);
    response
}

/// An error; a failed condition of a read also tells what the object is.
fn refuse(error: &R2Error, metadata: Option<&Json>) -> Response<Body> {
    let mut response = match metadata {
        Some(metadata) => with_metadata(metadata, None),
        None => body::empty(StatusCode::OK),
    };
    *response.status_mut() =
        StatusCode::from_u16(error.code().http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let text = json!({ "version": 1, "v4code": error.code().number(), "message": error.message() }).to_string();
    if let Ok(text) = HeaderValue::from_bytes(text.as_bytes()) {
        response.headers_mut().insert(ERROR, text);
    }
    response
}

#[derive(Clone, Copy)]
struct Include {
    http: bool,
    custom: bool,
}

impl Include {
    const ALL: Self = Self { http: true, custom: true };
}

/// An object as the runtime reads it (workerd.md 3.3).
fn object_json(object: &R2Object, range: Option<R2Range>, include: Include) -> Json {
    let mut answer = json!({
        "name": object.key,
        "version": object.version,
        "size": object.size_bytes.to_string(),
        "etag": object.etag,
        "uploaded": object.uploaded_ms.to_string(),
        "checksums": checksums_json(&object.checksums),
        "storageClass": object.storage_class.as_str(),
    });
    if include.http {
        answer["httpFields"] = http_json(&object.http_metadata);
    }
    if include.custom {
        answer["customFields"] =
            object.custom_metadata.iter().map(|(k, v)| json!({ "k": k, "v": v })).collect::<Vec<_>>().into();
    }
    if let Some(range) = range {
        answer["range"] = json!({ "offset": range.offset.to_string(), "length": range.length.to_string() });
    }
    answer
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
    let known = digests.into_iter().filter_map(|(name, digest)| Some((name.to_owned(), hex(digest?).into())));
    Json::Object(known.collect())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl What {
    fn parse(self) -> Result<(HttpMetadata, Vec<(String, String)>, StorageClass), R2Error> {
        refuse_ssec(self.ssec.as_ref())?;
        let http = HttpMetadata {
            content_type: self.http_fields.content_type,
            content_language: self.http_fields.content_language,
            content_disposition: self.http_fields.content_disposition,
            content_encoding: self.http_fields.content_encoding,
            cache_control: self.http_fields.cache_control,
            cache_expiry_ms: self.http_fields.cache_expiry,
        };
        let custom = self.custom_fields.into_iter().map(|field| (field.k, field.v)).collect();
        Ok((http, custom, StorageClass::parse(&self.storage_class)?))
    }
}

impl WireChecksums {
    fn parse(&self) -> Result<Digests, R2Error> {
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
    bytes.ok().and_then(|bytes| bytes.try_into().ok()).ok_or_else(invalid_digest)
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
    R2Error::new(R2Code::InvalidDigest, "The checksum you specified is not valid.")
}

impl From<WireRange> for R2RangeRequest {
    fn from(range: WireRange) -> Self {
        match range.suffix {
            Some(suffix) => Self::Suffix(suffix),
            None => Self::Bytes { offset: range.offset, length: range.length },
        }
    }
}

impl From<WireConditional> for R2Conditional {
    fn from(wire: WireConditional) -> Self {
        let etags = |etags: Option<Vec<WireEtag>>| etags.map(|etags| etags.into_iter().map(Into::into).collect());
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
        Some(Either::Text(text)) => {
            text.parse().map(Some).map_err(|_| D::Error::custom(format!("{text} is not a number")))
        }
    }
}
