//! Import and export (control-plane-api.md 6.3 and 6.4).
//!
//! What takes longer than a second goes on behind a job, whose name is the `at_bookmark`
//! that the client polls with. Neither a file nor an export is ever whole in memory.

use std::sync::Arc;
use std::time::Instant;

use engawa_model::DatabaseId;
use engawa_storage::d1::{D1ExportOptions, D1Job};
use engawa_storage::{Error, Scratch};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, HOST};
use http::{HeaderValue, Response, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{JSON_BYTES, failed, find, ready};
use crate::answer::{self, ApiBody};
use crate::error::ApiError;
use crate::request::{self, Call, Incoming};
use crate::transfers::{JobState, TransferError};

/// A file to import (docs: d1 limits, 5 GB).
const IMPORT_BYTES: u64 = 5_000_000_000;

#[derive(Deserialize)]
#[serde(tag = "action", rename_all = "lowercase")]
enum Import {
    Init { etag: String },
    Ingest { filename: String, etag: String },
    Poll { current_bookmark: String },
}

pub(super) async fn import(
    call: &Call<'_>,
    id: &str,
    body: impl Incoming,
) -> Result<Response<ApiBody>, ApiError> {
    let import: Import = request::json(body, JSON_BYTES).await?;
    let database = ready(call, id).await?;
    let transfers = &call.api.transfers;
    match import {
        Import::Init { etag } => {
            let expected = transfers.expect(&call.account, &database, md5_of(&etag));
            let filename = expected.map_err(|error| not_kept(&error))?;
            let upload_url = url(call, &database, "import", &filename);
            Ok(answer::success(
                &json!({ "filename": filename, "upload_url": upload_url }),
            ))
        }
        Import::Ingest { filename, etag } => {
            let file = transfers.take_uploaded(&call.account, &database, &filename);
            let file = file.ok_or_else(|| no_file(&filename))?;
            if md5_hex(&file) != md5_of(&etag) {
                return Err(ApiError::malformed(
                    "The uploaded file does not have the MD5 that was announced.",
                ));
            }
            let job = begin_import(call, &database, file)?;
            Ok(poll_import(call, &database, &job).await)
        }
        Import::Poll { current_bookmark } => {
            Ok(poll_import(call, &database, &current_bookmark).await)
        }
    }
}

fn begin_import(call: &Call<'_>, database: &DatabaseId, file: Scratch) -> Result<String, ApiError> {
    let (d1, account) = (call.storage().d1().clone(), call.account.clone());
    let of = database.clone();
    let job = Arc::new(D1Job::default());
    let progress = Arc::clone(&job);
    let work = move |name: String| async move {
        let started = Instant::now();
        let done = match d1.import(&account, &of, file, &job).await {
            Ok(done) => done.value,
            Err(error) => {
                report(&of, &error);
                return json!({ "status": "error", "errors": [error.message()] });
            }
        };
        json!({
            "status": "complete",
            "at_bookmark": name,
            "messages": [format!("Processed {} queries.", done.statements)],
            "result": {
                "final_bookmark": done.bookmark,
                "num_queries": done.statements,
                "meta": {
                    "served_by": "engawa",
                    "duration": started.elapsed().as_secs_f64() * 1000.0,
                    "changes": done.changes,
                    "changed_db": done.rows_written > 0 || done.changes > 0,
                    "rows_read": done.rows_read,
                    "rows_written": done.rows_written,
                    "size_after": done.size_after_bytes,
                },
            },
        })
    };
    let transfers = &call.api.transfers;
    let begun = transfers.begin(&call.account, database, progress, work);
    begun.map_err(|error| not_kept(&error))
}

async fn poll_import(call: &Call<'_>, database: &DatabaseId, job: &str) -> Response<ApiBody> {
    let mut poll = json!({
        "success": true,
        "type": "import",
        "at_bookmark": job,
        "status": "active",
        "messages": [],
        "errors": [],
    });
    match call.api.transfers.ask(&call.account, database, job).await {
        Some(JobState::Ended(outcome)) => merge(&mut poll, outcome),
        Some(JobState::UnderWay(done_bytes)) => {
            poll["messages"] = json!([format!("Processed {}", megabytes(done_bytes))]);
            poll["done_bytes"] = done_bytes.into();
        }
        None => return gone("import", "send the file again"),
    }
    answer::success(&poll)
}

pub(super) async fn upload(
    call: &Call<'_>,
    id: &str,
    filename: &str,
    mut body: impl Incoming,
) -> Result<Response<ApiBody>, ApiError> {
    let database = ready(call, id).await?;
    let transfers = &call.api.transfers;
    let place = transfers.begin_upload(&call.account, &database, filename);
    let (expected, place) = place.ok_or_else(|| no_file(filename))?;
    if body.size_hint().lower() > IMPORT_BYTES {
        return Err(ApiError::body_too_large(IMPORT_BYTES));
    }
    let file = call.storage().scratch(&call.account, IMPORT_BYTES).await;
    let mut file = file.map_err(|error| failed(&error))?;
    while let Some(chunk) = request::next_chunk(&mut body).await {
        let written = file.write(chunk?).await;
        written.map_err(|error| failed(&error))?;
    }
    let file = file.finish().await.map_err(|error| failed(&error))?;
    let md5 = md5_hex(&file);
    if md5 != expected {
        let message = format!("The file's MD5 is {md5}, but {expected} was announced.");
        return Err(ApiError::malformed(message));
    }
    if !place.fill(file) {
        return Err(no_file(filename));
    }
    let mut response = answer::success(&Value::Null);
    if let Ok(etag) = HeaderValue::from_str(&format!("\"{md5}\"")) {
        response.headers_mut().insert(ETAG, etag);
    }
    Ok(response)
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Export {
    current_bookmark: Option<String>,
    dump_options: Option<DumpOptions>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct DumpOptions {
    no_schema: bool,
    no_data: bool,
    tables: Vec<String>,
}

pub(super) async fn export(
    call: &Call<'_>,
    id: &str,
    body: impl Incoming,
) -> Result<Response<ApiBody>, ApiError> {
    let export: Export = request::json(body, JSON_BYTES).await?;
    let database = ready(call, id).await?;
    let job = match export.current_bookmark.filter(|job| !job.is_empty()) {
        Some(job) => job,
        None => begin_export(call, &database, export.dump_options.unwrap_or_default())?,
    };
    let mut poll = json!({
        "success": true,
        "type": "export",
        "at_bookmark": job,
        "status": "active",
        "messages": [],
    });
    match call.api.transfers.ask(&call.account, &database, &job).await {
        Some(JobState::Ended(outcome)) => merge(&mut poll, outcome),
        Some(JobState::UnderWay(done_bytes)) => {
            poll["messages"] = json!([format!("Wrote {}", megabytes(done_bytes))]);
            poll["done_bytes"] = done_bytes.into();
        }
        None => return Ok(gone("export", "begin a new one")),
    }
    Ok(answer::success(&poll))
}

fn begin_export(
    call: &Call<'_>,
    database: &DatabaseId,
    options: DumpOptions,
) -> Result<String, ApiError> {
    let options = D1ExportOptions {
        no_schema: options.no_schema,
        no_data: options.no_data,
        tables: options.tables,
    };
    let (d1, account) = (call.storage().d1().clone(), call.account.clone());
    let of = database.clone();
    // The job outlives the call, but not what keeps it.
    let transfers = Arc::downgrade(&call.api.transfers);
    let folder = url(call, database, "export", "");
    let job = Arc::new(D1Job::default());
    let progress = Arc::clone(&job);
    let work = move |name: String| async move {
        let text = match d1.export(&account, &of, options, &job).await {
            Ok(text) => text.value,
            Err(error) => {
                report(&of, &error);
                return json!({ "status": "error", "error": error.message() });
            }
        };
        let filename = format!("{name}.sql");
        let kept = transfers.upgrade().map_or(Ok(()), |transfers| {
            transfers.keep_exported(&account, &of, &filename, text)
        });
        match kept {
            Ok(()) => {
                let signed_url = format!("{folder}{filename}");
                let result = json!({ "filename": filename, "signed_url": signed_url });
                json!({ "status": "complete", "result": result })
            }
            Err(error) => json!({ "status": "error", "error": error.to_string() }),
        }
    };
    let transfers = &call.api.transfers;
    let begun = transfers.begin(&call.account, database, progress, work);
    begun.map_err(|error| not_kept(&error))
}

/// The text, for an hour.
pub(super) async fn download(
    call: &Call<'_>,
    id: &str,
    filename: &str,
) -> Result<Response<ApiBody>, ApiError> {
    let database = find(call, id).await?;
    let transfers = &call.api.transfers;
    let text = transfers.exported(&call.account, &database.id, filename);
    let text = text.ok_or_else(|| no_file(filename))?;
    let length = HeaderValue::from(text.len_bytes());
    let mut response = Response::new(answer::scratch(text.reader()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/sql"));
    headers.insert(CONTENT_LENGTH, length);
    Ok(response)
}

/// What a job ended with goes over what is always there.
fn merge(poll: &mut Value, outcome: Value) {
    if let (Value::Object(poll), Value::Object(outcome)) = (poll, outcome) {
        poll.extend(outcome);
    }
}

/// wrangler ends with this text.
fn gone(what: &str, hint: &str) -> Response<ApiBody> {
    let error = format!("There is no such {what}, or it was long ago: {hint}.");
    answer::success(&json!({ "success": false, "error": error }))
}

/// The client reads why its job failed; the operator, if it is not the client's fault.
fn report(database: &DatabaseId, error: &Error) {
    if ApiError::storage(super::ProductName::D1, error)
        .status
        .is_server_error()
    {
        tracing::error!(%database, %error, "an import or export failed");
    }
}

fn not_kept(error: &TransferError) -> ApiError {
    let status = match error {
        TransferError::TooMany => StatusCode::TOO_MANY_REQUESTS,
        TransferError::Random(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    ApiError::new(status, 7500, error.to_string())
}

fn no_file(filename: &str) -> ApiError {
    let message = format!("There is no file {filename}: it was used already, or is too old.");
    ApiError::new(StatusCode::NOT_FOUND, 7404, message)
}

/// Where a file is sent or fetched: at this very server, as the client named it.
fn url(call: &Call<'_>, database: &DatabaseId, what: &str, filename: &str) -> String {
    let host = call
        .header(HOST.as_str())
        .or_else(|| call.parts.uri.authority().map(http::uri::Authority::as_str))
        .unwrap_or("localhost");
    let scheme = call.parts.uri.scheme_str().unwrap_or("http");
    let encoded = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
    format!(
        "{scheme}://{host}/client/v4/accounts/{}/d1/database/{}/{what}/{filename}",
        encoded(call.account.as_str()),
        encoded(database.as_str()),
    )
}

fn md5_of(etag: &str) -> String {
    etag.trim_matches('"').to_ascii_lowercase()
}

fn md5_hex(file: &Scratch) -> String {
    format!("{:032x}", u128::from_be_bytes(file.md5()))
}

fn megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10)
}
