//! Answers: envelopes, and values as they are.

use bytes::Bytes;
use engawa_storage::Error;
use engawa_storage::r2::R2Body;
use futures_util::stream;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use serde_json::{Value, json};

/// The body of an answer. Its error is the storage's: the connection is then cut.
pub type ApiBody = UnsyncBoxBody<Bytes, Error>;

/// An answer that is all here.
pub(crate) fn bytes(
    status: StatusCode,
    content_type: &'static str,
    body: Bytes,
) -> Response<ApiBody> {
    let length = HeaderValue::from(body.len());
    let body = Full::new(body).map_err(|never| match never {});
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CONTENT_LENGTH, length);
    response
}

/// A JSON answer, as it is given.
pub(crate) fn envelope(status: StatusCode, envelope: &Value) -> Response<ApiBody> {
    bytes(status, "application/json", envelope.to_string().into())
}

/// A successful call.
pub(crate) fn success(result: &Value) -> Response<ApiBody> {
    let envelope_ = json!({ "success": true, "errors": [], "messages": [], "result": result });
    envelope(StatusCode::OK, &envelope_)
}

/// A successful call with numbers about the list that it gives.
pub(crate) fn success_list(result: &Value, info: &Value) -> Response<ApiBody> {
    envelope(
        StatusCode::OK,
        &json!({
            "success": true, "errors": [], "messages": [], "result": result, "result_info": info,
        }),
    )
}

/// A successful call whose result is JSON text already.
pub(crate) fn success_text(result: &[u8]) -> Response<ApiBody> {
    let (before, after) = (
        br#"{"success":true,"errors":[],"messages":[],"result":"#.as_slice(),
        b"}".as_slice(),
    );
    bytes(
        StatusCode::OK,
        "application/json",
        [before, result, after].concat().into(),
    )
}

/// A value of KV, streamed.
pub(crate) fn stored(body: engawa_storage::Body) -> ApiBody {
    let chunks = stream::unfold(body, |mut body| async {
        let chunk = body.next_chunk().await?;
        Some((chunk.map(Frame::data), body))
    });
    StreamBody::new(chunks).boxed_unsync()
}

/// A value of R2, streamed.
pub(crate) fn object(body: R2Body) -> ApiBody {
    let chunks = stream::unfold(body, |mut body| async {
        let chunk = body.next_chunk().await?;
        Some((chunk.map(Frame::data), body))
    });
    StreamBody::new(chunks).boxed_unsync()
}

/// A file without a name, streamed.
pub(crate) fn scratch(reader: engawa_storage::ScratchReader) -> ApiBody {
    let chunks = stream::unfold(reader, |mut reader| async {
        let chunk = reader.next_chunk().await?;
        Some((chunk.map(Frame::data), reader))
    });
    StreamBody::new(chunks).boxed_unsync()
}

/// ISO 8601, as Cloudflare writes dates.
pub(crate) fn date(ms: u64) -> String {
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_millis(ms);
    humantime::format_rfc3339_millis(at).to_string()
}
