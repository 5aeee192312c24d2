//! The KV binding (workerd.md 2).
//!
//! An error's text travels in the HTTP reason phrase: a worker sees
//! `KV PUT failed: 413 Value length of …`. Errors have no body, since one that is not
//! read costs the connection.

use bytes::Bytes;
use engawa_model::{ErrorKind, NamespaceId, limits};
use engawa_storage::{KvEntry, KvListOptions, KvPutOptions, check_cache_ttl};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use hyper::ext::ReasonPhrase;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Scope;
use super::body::{self, Body, BoxError, PourError, Value};

/// A bulk read's request: 100 keys of 512 bytes, escaped.
const BULK_REQUEST_BYTES: usize = 1024 * 1024;
/// Raw UTF-8 JSON.
const METADATA: &str = "cf-kv-metadata";

pub(super) async fn handle<B>(
    scope: Scope<'_>,
    namespace: &NamespaceId,
    request: Request<B>,
) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    let (head, content) = request.into_parts();
    let path = head.uri.path();
    let answer = match head.method {
        Method::GET if path == "/" => list(scope, namespace, &head.uri).await,
        Method::GET => get(scope, namespace, &head.uri).await,
        Method::PUT => {
            put(
                scope,
                namespace,
                &head.uri,
                head.headers.get(METADATA),
                content,
            )
            .await
        }
        Method::DELETE => delete(scope, namespace, &head.uri).await,
        Method::POST if path == "/bulk/get" => get_bulk(scope, namespace, content).await,
        _ => Err(Refusal::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "Method Not Allowed",
        )),
    };
    answer.unwrap_or_else(Refusal::into_response)
}

async fn get(
    scope: Scope<'_>,
    namespace: &NamespaceId,
    uri: &Uri,
) -> Result<Response<Body>, Refusal> {
    if let Some(ttl) = query(uri, "cache_ttl") {
        check_cache_ttl(&ttl)?;
    }
    let found = scope
        .storage
        .kv()
        .get(scope.account, namespace, &key(uri)?)
        .await?;
    let Some(KvEntry {
        value,
        metadata,
        expiration_s,
    }) = found.value
    else {
        return Ok(body::empty(StatusCode::NOT_FOUND));
    };
    let mut answer = body::stored(Bytes::new(), Value::Entry(value));
    if let Some(metadata) = metadata.and_then(|text| HeaderValue::from_bytes(text.as_bytes()).ok())
    {
        answer.headers_mut().insert(METADATA, metadata);
    }
    if let Some(expiration_s) = expiration_s {
        answer
            .headers_mut()
            .insert("cf-expiration", HeaderValue::from(expiration_s));
    }
    Ok(answer)
}

async fn put<B>(
    scope: Scope<'_>,
    namespace: &NamespaceId,
    uri: &Uri,
    metadata: Option<&HeaderValue>,
    content: B,
) -> Result<Response<Body>, Refusal>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    let mut stage = scope.storage.kv().stage(scope.account);
    body::pour(content, async |chunk| stage.write(chunk).await).await?;
    let staged = stage.finish().await?;
    let options = KvPutOptions {
        metadata: metadata.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()),
        expiration: query(uri, "expiration"),
        expiration_ttl: query(uri, "expiration_ttl"),
    };
    scope
        .storage
        .kv()
        .put(scope.account, namespace, &key(uri)?, staged, options)
        .await?;
    Ok(body::empty(StatusCode::OK))
}

async fn delete(
    scope: Scope<'_>,
    namespace: &NamespaceId,
    uri: &Uri,
) -> Result<Response<Body>, Refusal> {
    scope
        .storage
        .kv()
        .delete(scope.account, namespace, &key(uri)?)
        .await?;
    Ok(body::empty(StatusCode::OK))
}

async fn list(
    scope: Scope<'_>,
    namespace: &NamespaceId,
    uri: &Uri,
) -> Result<Response<Body>, Refusal> {
    let limit = match query(uri, "key_count_limit") {
        Some(text) => Some(text.parse().map_err(|_| {
            Refusal::bad(format!(
                "Invalid key_count_limit of {text}. Please specify an integer greater than 0."
            ))
        })?),
        None => None,
    };
    let options = KvListOptions {
        prefix: query(uri, "prefix"),
        limit,
        cursor: query(uri, "cursor"),
    };
    let page = scope
        .storage
        .kv()
        .list(scope.account, namespace, options)
        .await?
        .value;
    let keys: Vec<serde_json::Value> = page
        .keys
        .into_iter()
        .map(|key| {
            let mut entry = serde_json::json!({ "name": key.name });
            if let Some(expiration_s) = key.expiration_s {
                entry["expiration"] = expiration_s.into();
            }
            // A string that holds JSON: the runtime parses it.
            if let Some(metadata) = key.metadata {
                entry["metadata"] = serde_json::Value::from(&*metadata);
            }
            entry
        })
        .collect();
    let mut answer = serde_json::json!({ "keys": keys, "list_complete": page.cursor.is_none() });
    if let Some(cursor) = page.cursor {
        answer["cursor"] = cursor.into();
    }
    Ok(json(&answer))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BulkGet {
    keys: Vec<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    with_metadata: bool,
    /// A string from the runtime; a number from others.
    cache_ttl: Option<serde_json::Value>,
}

async fn get_bulk<B>(
    scope: Scope<'_>,
    namespace: &NamespaceId,
    content: B,
) -> Result<Response<Body>, Refusal>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    let text = body::collect(content, BULK_REQUEST_BYTES)
        .await
        .map_err(|error| Refusal::bad(error.to_string()))?;
    let text =
        text.ok_or_else(|| Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "Payload Too Large"))?;
    let request: BulkGet = serde_json::from_slice(&text)
        .map_err(|error| Refusal::bad(format!("Invalid bulk get request: {error}")))?;
    if let Some(ttl) = request.cache_ttl {
        check_cache_ttl(ttl.as_str().unwrap_or(&ttl.to_string()))?;
    }
    let kind = request.kind.as_deref().unwrap_or("text");
    if kind != "text" && kind != "json" {
        return Err(Refusal::bad(format!(
            "\"{kind}\" is not a valid type. Use \"json\" or \"text\""
        )));
    }
    let found = scope
        .storage
        .kv()
        .get_bulk(scope.account, namespace, &request.keys)
        .await?
        .value;

    let mut answer = String::from("{");
    let mut left = limits::KV_VALUE_BYTES;
    for (position, (key, entry)) in request.keys.iter().zip(found).enumerate() {
        if position > 0 {
            answer.push(',');
        }
        push_json(&mut answer, key);
        answer.push(':');
        let Some(entry) = entry else {
            answer.push_str("null");
            continue;
        };
        let too_large = || {
            Refusal::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "Total size of request exceeds the limit of 25MB",
            )
        };
        left = left
            .checked_sub(entry.value.len_bytes())
            .ok_or_else(too_large)?;
        let value = entry.value.collect(limits::KV_VALUE_BYTES).await?;
        let metadata = entry.metadata.as_deref();
        if request.with_metadata {
            answer.push_str("{\"value\":");
        }
        if kind == "json" {
            let value: &RawValue = serde_json::from_slice(&value).map_err(|_| {
                Refusal::bad(
                    "At least one of the requested keys corresponds to a non-json value".to_owned(),
                )
            })?;
            answer.push_str(value.get());
        } else {
            push_json(&mut answer, &String::from_utf8_lossy(&value));
        }
        if request.with_metadata {
            answer.push_str(",\"metadata\":");
            answer.push_str(metadata.unwrap_or("null"));
            answer.push('}');
        }
    }
    answer.push('}');
    let mut response = body::full(answer.into());
    set_json(&mut response);
    Ok(response)
}

/// The key in the path: plain percent-decoding, `+` is a plus.
fn key(uri: &Uri) -> Result<String, Refusal> {
    let raw = uri.path().strip_prefix('/').unwrap_or_default();
    percent_decode_str(raw)
        .decode_utf8()
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| Refusal::bad("Could not URL-decode key name".to_owned()))
}

/// A parameter of the query, which follows the rules of forms: `+` is a space.
fn query(uri: &Uri, name: &str) -> Option<String> {
    uri.query()?.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then(|| {
            percent_decode_str(&value.replace('+', " "))
                .decode_utf8_lossy()
                .into_owned()
        })
    })
}

fn json(value: &serde_json::Value) -> Response<Body> {
    let mut response = body::full(value.to_string().into());
    set_json(&mut response);
    response
}

fn set_json(response: &mut Response<Body>) {
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
}

fn push_json(out: &mut String, text: &str) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

/// An error as the runtime wants it.
struct Refusal {
    status: StatusCode,
    reason: String,
}

impl Refusal {
    fn new(status: StatusCode, reason: impl Into<String>) -> Self {
        Self {
            status,
            reason: reason.into(),
        }
    }

    fn bad(reason: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, reason)
    }

    fn into_response(self) -> Response<Body> {
        let mut response = body::empty(self.status);
        // Any other byte would make the runtime drop the whole reason.
        let reason: Vec<u8> = self
            .reason
            .chars()
            .map(|c| {
                if matches!(c, ' '..='~') {
                    c as u8
                } else {
                    b'?'
                }
            })
            .take(512)
            .collect();
        if let Ok(reason) = ReasonPhrase::try_from(reason) {
            response.extensions_mut().insert(reason);
        }
        response
    }
}

impl From<engawa_storage::Error> for Refusal {
    fn from(error: engawa_storage::Error) -> Self {
        let status = match error.kind() {
            // 404 would be read as "no such key": a namespace that is gone is an error.
            ErrorKind::NotFound | ErrorKind::InvalidArgument => StatusCode::BAD_REQUEST,
            ErrorKind::KeyTooLong => StatusCode::URI_TOO_LONG,
            ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            ErrorKind::DiskFull => StatusCode::INSUFFICIENT_STORAGE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        super::tell_operator("KV", error.kind(), error.message());
        Self::new(status, error.public_message())
    }
}

impl From<PourError<engawa_storage::Error>> for Refusal {
    fn from(error: PourError<engawa_storage::Error>) -> Self {
        match error {
            PourError::Body(error) => Self::bad(error.to_string()),
            PourError::Write(error) => error.into(),
        }
    }
}
