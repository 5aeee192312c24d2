//! D1 (control-plane-api.md 6, storage.md 2.11 and 2.13).
//!
//! A database is found by its id or its name.

mod files;

use engawa_model::DatabaseId;
use engawa_storage::d1::{
    D1Format, D1Meta, D1Moment, D1QueryOptions, D1Result, D1Statement, D1Value,
};
use engawa_storage::{D1Database, Error};
use http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::answer::{self, ApiBody};
use crate::error::ApiError;
use crate::request::{self, Call, Incoming};
use crate::route::{D1Call, ProductName};

const JSON_BYTES: u64 = 1024 * 1024;
/// A query with its parameters: a batch of statements of 100 KB with values of 2 MB each.
const QUERY_BYTES: u64 = 64 * 1024 * 1024;
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
        D1Call::Import(id) => files::import(call, &id, body).await,
        D1Call::Export(id) => files::export(call, &id, body).await,
        D1Call::Upload(id, file) => files::upload(call, &id, &file, body).await,
        D1Call::Download(id, file) => files::download(call, &id, &file).await,
        D1Call::TimeTravelBookmark(id) => time_travel_bookmark(call, &id).await,
        D1Call::TimeTravelRestore(id) => time_travel_restore(call, &id).await,
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

/// The bookmark of now, or of a `timestamp` (storage.md 2.10).
async fn time_travel_bookmark(call: &Call<'_>, id: &str) -> Result<Response<ApiBody>, ApiError> {
    let database = ready(call, id).await?;
    let at_ms = timestamp_ms(call)?;
    let d1 = call.storage().d1();
    let bookmark = d1.bookmark(&call.account, &database, at_ms).await;
    let bookmark = bookmark.map_err(|error| failed(&error))?.value;
    Ok(answer::success(&json!({ "bookmark": bookmark })))
}

/// To a `bookmark`, or to a `timestamp`.
async fn time_travel_restore(call: &Call<'_>, id: &str) -> Result<Response<ApiBody>, ApiError> {
    let moment = match (call.param("bookmark"), timestamp_ms(call)?) {
        (Some(bookmark), None) => D1Moment::Bookmark(bookmark.into_owned()),
        (None, Some(at_ms)) => D1Moment::TimestampMs(at_ms),
        _ => {
            return Err(ApiError::malformed(
                "Give either a \"bookmark\" or a \"timestamp\" to restore to.",
            ));
        }
    };
    let database = ready(call, id).await?;
    let d1 = call.storage().d1();
    let done = d1.restore(&call.account, &database, moment).await;
    let done = done.map_err(|error| failed(&error))?.value;
    Ok(answer::success(&json!({
        "message": format!("The database was restored to bookmark {}.", done.bookmark),
        "bookmark": done.bookmark,
        "previous_bookmark": done.previous_bookmark,
    })))
}

fn timestamp_ms(call: &Call<'_>) -> Result<Option<u64>, ApiError> {
    let Some(text) = call.param("timestamp") else {
        return Ok(None);
    };
    let since = humantime::parse_rfc3339(&text)
        .ok()
        .and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok())
        .and_then(|since| u64::try_from(since.as_millis()).ok());
    since.map(Some).ok_or_else(|| {
        let message = format!(
            "The timestamp {text} is not one like {}.",
            answer::date(1_689_237_002_228)
        );
        ApiError::malformed(message)
    })
}
