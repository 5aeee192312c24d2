//! The Cache API: `caches.default` and `caches.open(name)` (workerd.md 6).
//!
//! `match` is a GET, `put` a PUT whose body is a whole HTTP response, `delete` a PURGE.
//! The key is the URL, or `cf.cacheKey` in its place; a named cache is told by a header.
//! Whether `match` found something is decided by `CF-Cache-Status` alone. Every project of
//! every account has caches of its own. What may be stored and for how long is said by
//! `policy.rs`; nothing is ever served stale.

mod policy;
mod response;

use bytes::Bytes;
use engawa_model::{ProjectName, wiring};
use engawa_storage::{CacheEntry, CacheWrite};
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderName, RANGE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};

use super::Scope;
use super::body::{self, Body, BoxError, Piece, Value};
use policy::{Ranges, Storable};
use response::{Head, Serialized};

const CACHE_STATUS: HeaderName = HeaderName::from_static("cf-cache-status");
const CACHE_NAMESPACE: &str = "cf-cache-namespace";

pub(super) async fn handle<B>(
    scope: Scope<'_>,
    project: &ProjectName,
    request: Request<B>,
) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    let (head, content) = request.into_parts();
    let slot = Slot {
        scope,
        project,
        key: key(&head),
    };
    match head.method.as_str() {
        "PUT" => slot.put(&head, content).await,
        method => {
            if body::discard(content).await.is_err() {
                return body::empty(StatusCode::BAD_REQUEST);
            }
            if method == "PURGE" {
                slot.delete().await
            } else {
                slot.find(&head.headers).await
            }
        }
    }
}

/// A place in the caches of one project.
struct Slot<'a> {
    scope: Scope<'a>,
    project: &'a ProjectName,
    key: Vec<u8>,
}

impl Slot<'_> {
    /// `cache.match()`.
    async fn find(&self, asked: &HeaderMap) -> Response<Body> {
        let caches = self.scope.storage.cache();
        let found = caches.get(self.scope.account, self.project, &self.key);
        let entry = match found.await {
            Ok(entry) => entry,
            Err(error) => {
                super::tell_operator("Cache", error.kind(), error.message());
                None
            }
        };
        let found = entry.and_then(|entry| Some((Head::decode(entry.head())?, entry)));
        match found {
            Some((head, entry)) => {
                let now_ms = self.scope.storage.clock().now_ms();
                hit(asked, head.answer(now_ms), &entry)
            }
            None => with_status(body::empty(StatusCode::GATEWAY_TIMEOUT), "MISS"),
        }
    }

    /// `cache.put()`. workerd ignores the answer; it is what upstream's simulator says.
    async fn put<B>(&self, request: &Parts, mut content: B) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Unpin,
        B::Error: Into<BoxError>,
    {
        let not_stored = StatusCode::PAYLOAD_TOO_LARGE;
        let Ok(serialized) = Serialized::read(&mut content).await else {
            return body::empty(StatusCode::BAD_REQUEST);
        };
        let now_ms = self.scope.storage.clock().now_ms();
        let storable = serialized.as_ref().and_then(|serialized| {
            policy::storable(
                serialized.status,
                &serialized.headers,
                &request.headers,
                now_ms,
            )
        });
        let (Some(serialized), Some(storable)) = (serialized, storable) else {
            return match body::discard(content).await {
                Ok(()) => body::empty(not_stored),
                Err(_) => body::empty(StatusCode::BAD_REQUEST),
            };
        };
        match self.store(serialized, storable, content, now_ms).await {
            Ok(true) => body::empty(StatusCode::NO_CONTENT),
            Ok(false) => body::empty(not_stored),
            Err(body::PourError::Body(_)) => body::empty(StatusCode::BAD_REQUEST),
            Err(body::PourError::Write(error)) => {
                super::tell_operator("Cache", error.kind(), error.message());
                body::empty(not_stored)
            }
        }
    }

    async fn store<B>(
        &self,
        serialized: Serialized,
        Storable { ttl_ms, headers }: Storable,
        content: B,
        now_ms: u64,
    ) -> Result<bool, body::PourError<engawa_storage::Error>>
    where
        B: http_body::Body<Data = Bytes> + Unpin,
        B::Error: Into<BoxError>,
    {
        let head = Head::new(serialized.status, headers, now_ms).encode();
        let expires_ms = now_ms.saturating_add(ttl_ms);
        let caches = self.scope.storage.cache();
        let begun = caches
            .begin(
                self.scope.account,
                self.project,
                &self.key,
                &head,
                expires_ms,
            )
            .await;
        let mut entry: CacheWrite = match begun {
            Ok(entry) => entry,
            Err(error) => {
                body::discard(content)
                    .await
                    .map_err(body::PourError::Body)?;
                return Err(body::PourError::Write(error));
            }
        };
        let first = entry.write(serialized.rest).await;
        let written = match first {
            Ok(()) => body::pour(content, async |chunk| entry.write(chunk).await).await,
            Err(error) => {
                body::discard(content)
                    .await
                    .map_err(body::PourError::Body)?;
                Err(body::PourError::Write(error))
            }
        };
        written?;
        caches.put(entry).await.map_err(body::PourError::Write)
    }

    /// `cache.delete()`.
    async fn delete(&self) -> Response<Body> {
        let caches = self.scope.storage.cache();
        let deleted = caches.delete(self.scope.account, self.project, &self.key);
        match deleted.await {
            Ok(true) => body::empty(StatusCode::OK),
            Ok(false) => body::empty(StatusCode::NOT_FOUND),
            Err(error) => {
                super::tell_operator("Cache", error.kind(), error.message());
                body::empty(StatusCode::INTERNAL_SERVER_ERROR)
            }
        }
    }
}

/// What a request's key is: the cache's name, then the URL or `cf.cacheKey`.
fn key(request: &Parts) -> Vec<u8> {
    let mut key = Vec::new();
    // A name that the default cache cannot have: names are percent-encoded.
    match request.headers.get(CACHE_NAMESPACE) {
        Some(name) => key.extend_from_slice(name.as_bytes()),
        None => key.push(b'%'),
    }
    key.push(b'\n');
    let chosen = request
        .headers
        .get(wiring::CF)
        .and_then(|cf| serde_json::from_slice::<serde_json::Value>(cf.as_bytes()).ok())
        .and_then(
            |mut cf| match cf.get_mut("cacheKey").map(serde_json::Value::take) {
                Some(serde_json::Value::String(key)) if !key.is_empty() => Some(key),
                _ => None,
            },
        );
    match chosen {
        Some(chosen) => key.extend_from_slice(chosen.as_bytes()),
        None => key.extend_from_slice(request.uri.to_string().as_bytes()),
    }
    key
}

/// The answer from an entry: whole, in part, or that it has not changed.
fn hit(asked: &HeaderMap, mut stored: Response<()>, entry: &CacheEntry) -> Response<Body> {
    let len = entry.len_bytes();
    let ranges = asked
        .get(RANGE)
        .map_or(Ranges::Whole, |range| policy::ranges(range.as_bytes(), len));
    if matches!(ranges, Ranges::Unsatisfiable) {
        let mut answer = with_status(body::empty(StatusCode::RANGE_NOT_SATISFIABLE), "HIT");
        let unsatisfied = HeaderValue::from_str(&format!("bytes */{len}"));
        answer.headers_mut().insert(
            CONTENT_RANGE,
            unsatisfied.expect("digits are a header value"),
        );
        return answer;
    }
    if policy::is_unchanged(asked, stored.headers()) {
        stored.headers_mut().remove(CONTENT_LENGTH);
        *stored.status_mut() = StatusCode::NOT_MODIFIED;
        return with_status(
            stored.map(|()| body::empty(StatusCode::OK).into_body()),
            "HIT",
        );
    }
    let content = match ranges {
        Ranges::Parts(parts) if parts.len() == 1 => {
            let (start, end) = (parts[0].start, parts[0].end);
            *stored.status_mut() = StatusCode::PARTIAL_CONTENT;
            let part = HeaderValue::from_str(&format!("bytes {start}-{}/{len}", end - 1));
            stored
                .headers_mut()
                .insert(CONTENT_RANGE, part.expect("digits are a header value"));
            body::stored(Bytes::new(), Value::Entry(entry.body(start..end)))
        }
        Ranges::Parts(parts) => {
            *stored.status_mut() = StatusCode::PARTIAL_CONTENT;
            multipart(&mut stored, &parts, entry)
        }
        Ranges::Whole | Ranges::Unsatisfiable => {
            body::stored(Bytes::new(), Value::Entry(entry.body(0..len)))
        }
    };
    let (head, content) = content.into_parts();
    if let Some(len) = head.headers.get(CONTENT_LENGTH) {
        stored.headers_mut().insert(CONTENT_LENGTH, len.clone());
    }
    with_status(stored.map(|()| content), "HIT")
}

/// Several ranges as `multipart/byteranges`.
fn multipart(
    stored: &mut Response<()>,
    parts: &[std::ops::Range<u64>],
    entry: &CacheEntry,
) -> Response<Body> {
    let boundary = format!("engawa-boundary-{:032x}", boundary());
    let content_type = stored.headers().get(CONTENT_TYPE).cloned();
    let mut pieces = Vec::with_capacity(2 * parts.len() + 1);
    for (number, part) in parts.iter().enumerate() {
        let mut head = Vec::new();
        if number > 0 {
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(format!("--{boundary}\r\n").as_bytes());
        if let Some(content_type) = &content_type {
            head.extend_from_slice(b"Content-Type: ");
            head.extend_from_slice(content_type.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        let (start, end, len) = (part.start, part.end - 1, entry.len_bytes());
        head.extend_from_slice(
            format!("Content-Range: bytes {start}-{end}/{len}\r\n\r\n").as_bytes(),
        );
        pieces.push(Piece::Bytes(head.into()));
        pieces.push(Piece::Value(Value::Entry(entry.body(part.clone()))));
    }
    pieces.push(Piece::Bytes(format!("\r\n--{boundary}--").into()));
    let content_type = HeaderValue::from_str(&format!("multipart/byteranges; boundary={boundary}"));
    stored.headers_mut().insert(
        CONTENT_TYPE,
        content_type.expect("a boundary is a header value"),
    );
    body::joined(pieces)
}

/// A text that no stored bytes were made to contain.
fn boundary() -> u128 {
    use std::hash::{BuildHasher as _, RandomState};
    let (a, b) = (
        RandomState::new().hash_one(0),
        RandomState::new().hash_one(1),
    );
    u128::from(a) << 64 | u128::from(b)
}

fn with_status(mut answer: Response<Body>, status: &'static str) -> Response<Body> {
    let status = HeaderValue::from_static(status);
    answer.headers_mut().insert(CACHE_STATUS, status);
    answer
}
