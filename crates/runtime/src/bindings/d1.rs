//! The D1 binding (workerd.md 4): JSON requests of the runtime's own `d1-api` module.
//!
//! An error is answered with status 200 and one object: only the first entry of an array
//! is looked at for one.

use std::fmt::Write as _;

use bytes::Bytes;
use engawa_model::{DatabaseId, ErrorKind};
use engawa_storage::d1::{D1Format, D1QueryOptions, D1Result, D1Statement, D1Value};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response, StatusCode};
use serde::Deserialize;

use super::Scope;
use super::body::{self, Body, BoxError};

/// A batch of large statements; a Worker's memory is the bound on Cloudflare.
const REQUEST_BYTES: usize = 64 * 1024 * 1024;
/// Both ways: what a session has seen.
const SESSION: &str = "x-cf-d1-session-commit-token";

#[derive(Deserialize)]
#[serde(untagged)]
enum Statements {
    Batch(Vec<Statement>),
    One(Statement),
}

#[derive(Deserialize)]
struct Statement {
    sql: String,
    #[serde(default)]
    params: Option<Vec<Param>>,
}

/// A parameter as the runtime writes it. Numbers are REAL for the engine, booleans have
/// become numbers before, and an array is a BLOB.
#[derive(Deserialize)]
#[serde(untagged)]
enum Param {
    Number(f64),
    Text(String),
    Boolean(bool),
    Blob(Vec<f64>),
    Null(()),
}

pub(super) async fn handle<B>(
    scope: Scope<'_>,
    database: &DatabaseId,
    request: Request<B>,
) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    let (head, content) = request.into_parts();
    let text = match body::collect(content, REQUEST_BYTES).await {
        Ok(Some(text)) => text,
        Ok(None) => {
            return failure(&format!(
                "the request is larger than {REQUEST_BYTES} bytes: SQLITE_TOOBIG"
            ));
        }
        Err(error) => return failure(&error.to_string()),
    };
    if head.uri.path() == "/dump" {
        return body::text(
            StatusCode::NOT_IMPLEMENTED,
            "dump() is for legacy alpha databases; use export".to_owned(),
        );
    }
    let statements: Vec<D1Statement> = match serde_json::from_slice(&text) {
        Ok(Statements::Batch(batch)) => batch.into_iter().map(Statement::decode).collect(),
        Ok(Statements::One(statement)) => vec![statement.decode()],
        Err(error) => return failure(&format!("the request is not a D1 query: {error}")),
    };
    let columns = head
        .uri
        .query()
        .is_some_and(|query| query.contains("resultsFormat=ROWS_AND_COLUMNS"));
    let session = head
        .headers
        .get(SESSION)
        .and_then(|token| token.to_str().ok())
        .map(str::to_owned);
    let in_session = session.is_some();
    let options = D1QueryOptions {
        format: if columns {
            D1Format::RowsAndColumns
        } else {
            D1Format::Objects
        },
        session,
    };
    match scope
        .storage
        .d1()
        .query(scope.account, database, statements, options)
        .await
    {
        Ok(answer) => {
            let mut response = success(&answer.value.results);
            // Only a session may learn a bookmark.
            if in_session && let Ok(bookmark) = HeaderValue::try_from(answer.value.bookmark) {
                response.headers_mut().insert(SESSION, bookmark);
            }
            response
        }
        Err(error) => {
            super::tell_operator("D1", error.kind(), error.message());
            match error.kind() {
                // SQLite's own text, whichever file it was.
                ErrorKind::DiskFull => failure("database or disk is full: SQLITE_FULL"),
                _ => failure(error.public_message()),
            }
        }
    }
}

impl Statement {
    fn decode(self) -> D1Statement {
        let params = self
            .params
            .unwrap_or_default()
            .into_iter()
            .map(Param::decode)
            .collect();
        D1Statement {
            sql: self.sql,
            params,
        }
    }
}

impl Param {
    fn decode(self) -> D1Value {
        match self {
            Self::Number(number) => D1Value::Real(number),
            Self::Text(text) => D1Value::Text(text),
            Self::Boolean(value) => D1Value::Integer(value.into()),
            Self::Blob(elements) => D1Value::Blob(elements.into_iter().map(to_byte).collect()),
            Self::Null(()) => D1Value::Null,
        }
    }
}

/// An element of a typed array as a byte: modulo 256, as `Uint8Array` does.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "modulo 256 is what is meant"
)]
fn to_byte(element: f64) -> u8 {
    element.trunc().rem_euclid(256.0) as u8
}

fn success(results: &[D1Result]) -> Response<Body> {
    let rows_bytes: usize = results
        .iter()
        .map(|result| result.results_json.len() + 512)
        .sum();
    let mut text = Vec::with_capacity(rows_bytes + 2);
    text.push(b'[');
    for (position, result) in results.iter().enumerate() {
        if position > 0 {
            text.push(b',');
        }
        text.extend_from_slice(b"{\"success\":true,\"results\":");
        text.extend_from_slice(&result.results_json);
        text.extend_from_slice(b",\"meta\":");
        text.extend_from_slice(meta(result).as_bytes());
        text.push(b'}');
    }
    text.push(b']');
    json(text.into())
}

fn meta(result: &D1Result) -> String {
    let meta = &result.meta;
    let mut text = String::with_capacity(400);
    write!(
        text,
        "{{\"served_by\":\"engawa\",\"served_by_primary\":true,\"duration\":{duration},\"changes\":{},\
         \"last_row_id\":{},\"changed_db\":{},\"size_after\":{},\"rows_read\":{},\"rows_written\":{},\
         \"total_attempts\":1,\"timings\":{{\"sql_duration_ms\":{duration}}}}}",
        meta.changes,
        meta.last_row_id,
        meta.changed_db,
        meta.size_after_bytes,
        meta.rows_read,
        meta.rows_written,
        duration = meta.duration_ms,
    )
    .expect("writing to a String cannot fail");
    text
}

fn failure(error: &str) -> Response<Body> {
    json(
        serde_json::json!({ "success": false, "error": error })
            .to_string()
            .into(),
    )
}

fn json(text: Bytes) -> Response<Body> {
    let mut response = body::full(text);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
