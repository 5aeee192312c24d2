//! D1 (control-plane-api.md 6, storage.md 2.11 and 2.13).
//!
//! A database is found by its id or its name. Imports and exports are done within the
//! call that starts them, so there is nothing to poll: its answer is `complete` or
//! `error`.

use std::time::Instant;

use bytes::Bytes;
use engawa_model::{DatabaseId, ErrorKind};
use engawa_storage::d1::{
    D1ExportOptions, D1Format, D1Meta, D1QueryOptions, D1Result, D1Statement, D1Value,
};
use engawa_storage::{D1Database, Error};
use http::header::{ETAG, HOST};
use http::{HeaderValue, Response, StatusCode};
use md5::{Digest as _, Md5};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::answer::{self, ApiBody};
use crate::error::ApiError;
use crate::request::{self, Call, Incoming};
use crate::route::{D1Call, ProductName};
use crate::transfers::Content;

const JSON_BYTES: u64 = 1024 * 1024;
/// A query with its parameters: a batch of statements of 100 KB with values of 2 MB each.
const QUERY_BYTES: u64 = 64 * 1024 * 1024;
/// A file to import. It is held in memory while it runs (docs: 5 GB).
const IMPORT_BYTES: u64 = 256 * 1024 * 1024;
const PER_PAGE: usize = 1000;

/// Answers a call.
pub(crate) async fn answer(
    call: &Call<'_>,
    what: D1Call,
    body: impl Incoming,
) -> Result<Response<ApiBody>, ApiError> {
    match what {
        D1Call::List => list(call).await,
        D1Call::Create => create(call, body).await,
        D1Call::Get(id) => get(call, &id).await,
        D1Call::Delete(id) => {
            let database = find(call, &id).await?;
            let catalog = call.storage().catalog();
            let deleted = catalog.delete_d1_database(&call.account, &database.id);
            deleted.await.map_err(|error| failed(&error))?;
            Ok(answer::success(&Value::Null))
        }
        D1Call::Query(id) => query(call, &id, D1Format::Objects, body).await,
        D1Call::Raw(id) => query(call, &id, D1Format::RowsAndColumns, body).await,
        D1Call::Import(id) => import(call, &id, body).await,
        D1Call::Export(id) => export(call, &id, body).await,
        D1Call::Upload(id, file) => upload(call, &id, &file, body).await,
        D1Call::Download(id, file) => download(call, &id, &file).await,
    }
}

fn failed(error: &Error) -> ApiError {
    ApiError::storage(ProductName::D1, error)
}

/// By id, or by name.
async fn look_up(call: &Call<'_>, id: &str) -> Result<Option<D1Database>, ApiError> {
    let catalog = call.storage().catalog();
    let given = DatabaseId::from(id);
    let by_id = catalog.get_d1_database(&call.account, &given);
    if let Some(database) = by_id.await.map_err(|error| failed(&error))? {
        return Ok(Some(database));
    }
    let by_name = catalog.get_d1_database_by_name(&call.account, id);
    by_name.await.map_err(|error| failed(&error))
}

async fn find(call: &Call<'_>, id: &str) -> Result<D1Database, ApiError> {
    look_up(call, id).await?.ok_or_else(|| {
        let message = format!("The database {id} could not be found");
        ApiError::new(StatusCode::NOT_FOUND, 7404, message)
    })
}

/// A database whose content a call is about.
async fn ready(call: &Call<'_>, id: &str) -> Result<DatabaseId, ApiError> {
    if !call.creates_missing {
        return find(call, id).await.map(|database| database.id);
    }
    if let Some(database) = look_up(call, id).await? {
        return Ok(database.id);
    }
    let new = DatabaseId::from(id);
    let catalog = call.storage().catalog();
    let ensured = catalog.ensure_d1_database(&call.account, &new, id);
    ensured.await.map_err(|error| failed(&error))?;
    Ok(new)
}

fn shown(database: &D1Database) -> Map<String, Value> {
    let mut shown = Map::new();
    shown.insert("uuid".into(), database.id.as_str().into());
    shown.insert("name".into(), database.name.as_str().into());
    shown.insert(
        "created_at".into(),
        answer::date(database.created_at_ms).into(),
    );
    shown.insert("version".into(), "production".into());
    shown
}

async fn list(call: &Call<'_>) -> Result<Response<ApiBody>, ApiError> {
    let catalog = call.storage().catalog();
    let all = catalog.list_d1_databases(&call.account);
    let mut all = all.await.map_err(|error| failed(&error))?;
    if let Some(part) = call.param("name") {
        all.retain(|database| database.name.contains(&*part));
    }
    let (page, info) = call.page(all, PER_PAGE)?;
    let page = page.iter().map(|one| Value::Object(shown(one))).collect();
    Ok(answer::success_list(&Value::Array(page), &info))
}

#[derive(Deserialize)]
struct NewDatabase {
    name: String,
}

async fn create(call: &Call<'_>, body: impl Incoming) -> Result<Response<ApiBody>, ApiError> {
    let new: NewDatabase = request::json(body, JSON_BYTES).await?;
    if new.name.is_empty() || new.name.len() > 512 {
        return Err(ApiError::malformed(
            "A database's name must have 1 to 512 bytes.",
        ));
    }
    let catalog = call.storage().catalog();
    let created = catalog.create_d1_database(&call.account, &new.name);
    let created = created.await.map_err(|error| failed(&error))?;
    let mut shown = shown(&created);
    shown.insert("num_tables".into(), 0.into());
    shown.insert("file_size".into(), 0.into());
    Ok(answer::success(&Value::Object(shown)))
}

async fn get(call: &Call<'_>, id: &str) -> Result<Response<ApiBody>, ApiError> {
    let database = find(call, id).await?;
    let mut all = shown(&database);
    let fields = call.param("fields");
    let is_wanted = |name: &str| {
        fields
            .as_ref()
            .is_none_or(|fields| fields.split(',').any(|field| field == name))
    };
    if is_wanted("num_tables") || is_wanted("file_size") {
        let count = "SELECT count(*) AS n FROM sqlite_master \
                     WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'";
        let d1 = call.storage().d1();
        let counted = d1.query(
            &call.account,
            &database.id,
            vec![D1Statement::new(count)],
            D1QueryOptions::default(),
        );
        let counted = counted.await.map_err(|error| failed(&error))?.value;
        if let Some(result) = counted.results.first() {
            let rows: Value = serde_json::from_slice(&result.results_json).unwrap_or_default();
            all.insert("num_tables".into(), rows[0]["n"].clone());
            all.insert("file_size".into(), result.meta.size_after_bytes.into());
        }
    }
    all.insert("read_replication".into(), json!({ "mode": "disabled" }));
    all.retain(|name, _| is_wanted(name));
    Ok(answer::success(&Value::Object(all)))
}

/// `{sql, params?}` or `{batch: [{sql, params?}]}`.
#[derive(Deserialize)]
struct Query {
    #[serde(default)]
    sql: Option<String>,
    #[serde(default)]
    params: Option<Vec<Value>>,
    #[serde(default)]
    batch: Option<Vec<Query>>,
}

impl Query {
    fn statements(self) -> Result<Vec<D1Statement>, ApiError> {
        let single = |query: Query| {
            let sql = query
                .sql
                .ok_or_else(|| ApiError::malformed("The request has no \"sql\"."))?;
            let params = query.params.unwrap_or_default();
            let params = params
                .into_iter()
                .map(parameter)
                .collect::<Result<_, _>>()?;
            Ok(D1Statement::with(sql, params))
        };
        match self.batch {
            Some(batch) => batch.into_iter().map(single).collect(),
            None => Ok(vec![single(self)?]),
        }
    }
}

fn parameter(value: Value) -> Result<D1Value, ApiError> {
    Ok(match value {
        Value::Null => D1Value::Null,
        Value::Bool(value) => D1Value::Integer(value.into()),
        Value::Number(number) => D1Value::Real(number.as_f64().unwrap_or(f64::NAN)),
        Value::String(text) => D1Value::Text(text),
        // As the binding sends bytes.
        Value::Array(bytes) => {
            let bytes: Option<Vec<u8>> = bytes
                .iter()
                .map(|byte| byte.as_u64().and_then(|byte| u8::try_from(byte).ok()))
                .collect();
            D1Value::Blob(bytes.ok_or_else(|| {
                ApiError::malformed("A parameter that is an array must hold bytes.")
            })?)
        }
        Value::Object(_) => {
            return Err(ApiError::malformed("A parameter cannot be an object."));
        }
    })
}

async fn query(
    call: &Call<'_>,
    id: &str,
    format: D1Format,
    body: impl Incoming,
) -> Result<Response<ApiBody>, ApiError> {
    let query: Query = request::json(body, QUERY_BYTES).await?;
    let statements = query.statements()?;
    let database = ready(call, id).await?;
    let options = D1QueryOptions {
        format,
        ..D1QueryOptions::default()
    };
    let d1 = call.storage().d1();
    let answered = d1.query_each(&call.account, &database, statements, options);
    let answered = answered.await.map_err(|error| failed(&error))?.value;
    let mut results = Vec::new();
    for (index, result) in answered.results.iter().enumerate() {
        results.push(if index == 0 { b'[' } else { b',' });
        push_result(&mut results, result);
    }
    results.push(b']');
    Ok(answer::success_text(&results))
}

/// The rows are JSON already.
fn push_result(text: &mut Vec<u8>, result: &D1Result) {
    text.extend_from_slice(br#"{"results":"#);
    text.extend_from_slice(&result.results_json);
    text.extend_from_slice(br#","success":true,"meta":"#);
    text.extend_from_slice(meta(&result.meta).to_string().as_bytes());
    text.push(b'}');
}

fn meta(meta: &D1Meta) -> Value {
    json!({
        "served_by": "engawa",
        "duration": meta.duration_ms,
        "changes": meta.changes,
        "last_row_id": meta.last_row_id,
        "changed_db": meta.changed_db,
        "size_after": meta.size_after_bytes,
        "rows_read": meta.rows_read,
        "rows_written": meta.rows_written,
    })
}

#[derive(Deserialize)]
#[serde(tag = "action", rename_all = "lowercase")]
enum Import {
    Init { etag: String },
    Ingest { filename: String, etag: String },
    Poll {},
}

async fn import(
    call: &Call<'_>,
    id: &str,
    body: impl Incoming,
) -> Result<Response<ApiBody>, ApiError> {
    let import: Import = request::json(body, JSON_BYTES).await?;
    let database = ready(call, id).await?;
    match import {
        Import::Init { etag } => {
            let md5 = etag.trim_matches('"').to_ascii_lowercase();
            let filename = add(call, &database, Content::Expected { md5 })?;
            let upload_url = url(call, &database, "import", &filename);
            Ok(answer::success(
                &json!({ "filename": filename, "upload_url": upload_url }),
            ))
        }
        Import::Ingest { filename, etag } => {
            let transfers = &call.api.transfers;
            let file = transfers.take(&call.account, &database, &filename);
            let file = file.ok_or_else(|| no_file(&filename))?;
            if md5_hex(&file) != etag.trim_matches('"').to_ascii_lowercase() {
                return Err(ApiError::malformed(
                    "The uploaded file does not have the MD5 that was announced.",
                ));
            }
            Ok(answer::success(&ingest(call, &database, &file).await?))
        }
        // Every import has ended before its id was known to anybody.
        Import::Poll {} => Ok(answer::success(&json!({
            "success": false,
            "error": "There is no import under way: send the file again.",
        }))),
    }
}

async fn ingest(call: &Call<'_>, database: &DatabaseId, file: &Bytes) -> Result<Value, ApiError> {
    let sql = std::str::from_utf8(file)
        .map_err(|_| ApiError::malformed("The uploaded file is not UTF-8 text."))?;
    let started = Instant::now();
    let d1 = call.storage().d1();
    let done = d1.import(&call.account, database, sql.to_owned()).await;
    let mut poll = json!({
        "success": true,
        "type": "import",
        "at_bookmark": "",
        "status": "error",
        "messages": [],
        "errors": [],
    });
    match done {
        Ok(done) => {
            let done = done.value;
            poll["status"] = "complete".into();
            poll["at_bookmark"] = done.bookmark.as_str().into();
            poll["messages"] = json!([format!("Processed {} queries.", done.statements)]);
            poll["result"] = json!({
                "final_bookmark": done.bookmark,
                "num_queries": done.statements,
                "meta": {
                    "served_by": "engawa",
                    "duration": started.elapsed().as_secs_f64() * 1000.0,
                    "rows_read": done.rows_read,
                    "rows_written": done.rows_written,
                    "size_after": done.size_after_bytes,
                },
            });
        }
        Err(error) if error.kind() == ErrorKind::Sql => {
            poll["errors"] = json!([error.message()]);
        }
        Err(error) => return Err(failed(&error)),
    }
    Ok(poll)
}

async fn upload(
    call: &Call<'_>,
    id: &str,
    filename: &str,
    body: impl Incoming,
) -> Result<Response<ApiBody>, ApiError> {
    let database = ready(call, id).await?;
    let transfers = &call.api.transfers;
    let expected = transfers.expected(&call.account, &database, filename);
    let expected = expected.ok_or_else(|| no_file(filename))?;
    let file = request::collect(body, IMPORT_BYTES).await?;
    let md5 = md5_hex(&file);
    if md5 != expected {
        let message = format!("The file's MD5 is {md5}, but {expected} was announced.");
        return Err(ApiError::malformed(message));
    }
    if !transfers.fill(&call.account, &database, filename, file) {
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
    dump_options: DumpOptions,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct DumpOptions {
    no_schema: bool,
    no_data: bool,
    tables: Vec<String>,
}

async fn export(
    call: &Call<'_>,
    id: &str,
    body: impl Incoming,
) -> Result<Response<ApiBody>, ApiError> {
    let Export { dump_options } = request::json(body, JSON_BYTES).await?;
    let database = ready(call, id).await?;
    let options = D1ExportOptions {
        no_schema: dump_options.no_schema,
        no_data: dump_options.no_data,
        tables: dump_options.tables,
    };
    let d1 = call.storage().d1();
    let exported = d1.export(&call.account, &database, options).await;
    let mut poll = json!({
        "success": true,
        "type": "export",
        "at_bookmark": "",
        "status": "error",
        "messages": [],
    });
    match exported {
        Ok(text) => {
            let filename = add(call, &database, Content::Ready(text.value.into()))?;
            let signed_url = url(call, &database, "export", &filename);
            poll["status"] = "complete".into();
            poll["at_bookmark"] = filename.as_str().into();
            poll["result"] = json!({ "filename": filename, "signed_url": signed_url });
        }
        Err(error) if error.kind() == ErrorKind::Sql => poll["error"] = error.message().into(),
        Err(error) => return Err(failed(&error)),
    }
    Ok(answer::success(&poll))
}

/// The text; a second time there is none.
async fn download(
    call: &Call<'_>,
    id: &str,
    filename: &str,
) -> Result<Response<ApiBody>, ApiError> {
    let database = find(call, id).await?;
    let transfers = &call.api.transfers;
    let file = transfers.take(&call.account, &database.id, filename);
    let file = file.ok_or_else(|| no_file(filename))?;
    Ok(answer::bytes(StatusCode::OK, "application/sql", file))
}

fn add(call: &Call<'_>, database: &DatabaseId, content: Content) -> Result<String, ApiError> {
    let transfers = &call.api.transfers;
    transfers
        .add(&call.account, database, content)
        .map_err(|error| {
            let message = format!("no random numbers: {error}");
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, 7500, message)
        })
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

fn md5_hex(bytes: &[u8]) -> String {
    let digest: [u8; 16] = Md5::digest(bytes).into();
    format!("{:032x}", u128::from_be_bytes(digest))
}
