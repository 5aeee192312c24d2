//! Workers KV (control-plane-api.md 7, storage.md 1.7).

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use engawa_model::{NamespaceId, limits};
use engawa_storage::{Error, KvEntry, KvListOptions, KvNamespace, KvPutOptions, Staged};
use futures_util::stream;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::answer::{self, ApiBody};
use crate::error::ApiError;
use crate::request::{self, Call, Incoming, next_chunk};
use crate::route::{KvCall, ProductName};

/// A bulk write or delete (docs: kv api, "write multiple key-value pairs").
const BULK_BYTES: u64 = 100 * 1024 * 1024;
/// Pairs of a bulk write or delete (the same).
const BULK_PAIRS: usize = 10_000;
/// Any other JSON body.
const JSON_BYTES: u64 = 1024 * 1024;
/// Namespaces of a page (docs: kv api, "list namespaces").
const PER_PAGE: usize = 20;

/// Answers a call.
pub(crate) async fn answer(
    call: &Call<'_>,
    what: KvCall,
    body: impl Incoming,
) -> Result<Response<ApiBody>, ApiError> {
    match what {
        KvCall::List => list(call).await,
        KvCall::Create => create(call, body).await,
        KvCall::Get(id) => {
            let namespace = find(call, &id).await?;
            Ok(answer::success(&shown(&namespace)))
        }
        KvCall::Rename(id) => rename(call, &id, body).await,
        KvCall::Delete(id) => {
            let (catalog, id) = (call.storage().catalog(), NamespaceId::from(id));
            let deleted = catalog.delete_kv_namespace(&call.account, &id);
            deleted.await.map_err(|error| no_namespace_or(&error))?;
            Ok(answer::success(&Value::Null))
        }
        KvCall::Keys(id) => keys(call, &id).await,
        KvCall::GetValue(id, key) => get_value(call, &id, &key).await,
        KvCall::PutValue(id, key) => put_value(call, &id, &key, body).await,
        KvCall::DeleteValue(id, key) => {
            let id = ready(call, &id).await?;
            let deleted = call.storage().kv().delete(&call.account, &id, &key);
            deleted.await.map_err(|error| failed(&error))?;
            Ok(answer::success(&json!({})))
        }
        KvCall::Metadata(id, key) => metadata(call, &id, &key).await,
        KvCall::BulkPut(id) => bulk_put(call, &id, body).await,
        KvCall::BulkDelete(id) => bulk_delete(call, &id, body).await,
        KvCall::BulkGet(id) => bulk_get(call, &id, body).await,
    }
}

fn failed(error: &Error) -> ApiError {
    ApiError::storage(ProductName::Kv, error)
}

fn no_namespace() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, 10_013, "namespace not found")
}

fn no_namespace_or(error: &Error) -> ApiError {
    match error.kind() {
        engawa_model::ErrorKind::NotFound => no_namespace(),
        _ => ApiError::storage(ProductName::Kv, error),
    }
}

fn no_key() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, 10_009, "get: 'key not found'")
}

fn shown(namespace: &KvNamespace) -> Value {
    json!({
        "id": namespace.id.as_str(),
        "title": namespace.title,
        "supports_url_encoding": true,
    })
}

async fn look_up(call: &Call<'_>, id: &NamespaceId) -> Result<Option<KvNamespace>, ApiError> {
    let catalog = call.storage().catalog();
    let found = catalog.get_kv_namespace(&call.account, id);
    found.await.map_err(|error| failed(&error))
}

async fn find(call: &Call<'_>, id: &str) -> Result<KvNamespace, ApiError> {
    look_up(call, &id.into()).await?.ok_or_else(no_namespace)
}

/// A namespace whose keys a call is about.
async fn ready(call: &Call<'_>, id: &str) -> Result<NamespaceId, ApiError> {
    let namespace = NamespaceId::from(id);
    if look_up(call, &namespace).await?.is_none() {
        if !call.creates_missing {
            return Err(no_namespace());
        }
        let catalog = call.storage().catalog();
        let ensured = catalog.ensure_kv_namespace(&call.account, &namespace, id);
        ensured.await.map_err(|error| failed(&error))?;
    }
    Ok(namespace)
}

async fn list(call: &Call<'_>) -> Result<Response<ApiBody>, ApiError> {
    let catalog = call.storage().catalog();
    let all = catalog.list_kv_namespaces(&call.account);
    let mut all = all.await.map_err(|error| failed(&error))?;
    if call.param("order").as_deref() == Some("id") {
        all.sort_by(|a, b| a.id.cmp(&b.id));
    }
    if call.param("direction").as_deref() == Some("desc") {
        all.reverse();
    }
    let (page, info) = call.page(all, PER_PAGE)?;
    let page = page.iter().map(shown).collect();
    Ok(answer::success_list(&Value::Array(page), &info))
}

#[derive(Deserialize)]
struct Title {
    title: String,
}

impl Title {
    async fn read(body: impl Incoming) -> Result<String, ApiError> {
        let Self { title } = request::json(body, JSON_BYTES).await?;
        if title.is_empty() || title.len() > 512 {
            let message = "A namespace's title must have 1 to 512 bytes.";
            return Err(ApiError::new(StatusCode::BAD_REQUEST, 10_012, message));
        }
        Ok(title)
    }
}

async fn create(call: &Call<'_>, body: impl Incoming) -> Result<Response<ApiBody>, ApiError> {
    let title = Title::read(body).await?;
    let catalog = call.storage().catalog();
    let created = catalog.create_kv_namespace(&call.account, &title);
    let created = created.await.map_err(|error| title_taken_or(&error))?;
    Ok(answer::success(&shown(&created)))
}

async fn rename(
    call: &Call<'_>,
    id: &str,
    body: impl Incoming,
) -> Result<Response<ApiBody>, ApiError> {
    let title = Title::read(body).await?;
    let (catalog, id) = (call.storage().catalog(), NamespaceId::from(id));
    let renamed = catalog.rename_kv_namespace(&call.account, &id, &title);
    let renamed = renamed.await.map_err(|error| title_taken_or(&error))?;
    Ok(answer::success(&shown(&renamed)))
}

fn title_taken_or(error: &Error) -> ApiError {
    match error.kind() {
        engawa_model::ErrorKind::Conflict => ApiError::new(
            StatusCode::BAD_REQUEST,
            10_014,
            "a namespace with this account ID and title already exists",
        ),
        _ => no_namespace_or(error),
    }
}

async fn keys(call: &Call<'_>, id: &str) -> Result<Response<ApiBody>, ApiError> {
    let id = ready(call, id).await?;
    let text = |name| call.param(name).filter(|text| !text.is_empty());
    let options = KvListOptions {
        prefix: text("prefix").map(Cow::into_owned),
        limit: call.number("limit")?,
        cursor: text("cursor").map(Cow::into_owned),
    };
    let page = call.storage().kv().list(&call.account, &id, options);
    let page = page.await.map_err(|error| failed(&error))?.value;
    let keys: Vec<Value> = page
        .keys
        .into_iter()
        .map(|key| {
            let mut shown = Map::new();
            shown.insert("name".into(), key.name.into());
            if let Some(expiration_s) = key.expiration_s {
                shown.insert("expiration".into(), expiration_s.into());
            }
            if let Some(metadata) = key.metadata {
                shown.insert("metadata".into(), parsed(&metadata));
            }
            Value::Object(shown)
        })
        .collect();
    // The end is an empty cursor.
    let info = json!({ "count": keys.len(), "cursor": page.cursor.unwrap_or_default() });
    Ok(answer::success_list(&Value::Array(keys), &info))
}

/// Metadata is JSON text that was checked when it was stored.
fn parsed(metadata: &str) -> Value {
    serde_json::from_str(metadata).unwrap_or(Value::Null)
}

async fn entry(call: &Call<'_>, id: &str, key: &str) -> Result<KvEntry, ApiError> {
    let id = ready(call, id).await?;
    let entry = call.storage().kv().get(&call.account, &id, key);
    entry
        .await
        .map_err(|error| failed(&error))?
        .value
        .ok_or_else(no_key)
}

async fn get_value(call: &Call<'_>, id: &str, key: &str) -> Result<Response<ApiBody>, ApiError> {
    let entry = entry(call, id, key).await?;
    let length = entry.value.len_bytes();
    let mut response = Response::new(answer::stored(entry.value));
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    headers.insert(CONTENT_LENGTH, length.into());
    if let Some(expiration_s) = entry.expiration_s {
        headers.insert("expiration", expiration_s.into());
    }
    Ok(response)
}

async fn metadata(call: &Call<'_>, id: &str, key: &str) -> Result<Response<ApiBody>, ApiError> {
    let entry = entry(call, id, key).await?;
    let metadata = entry.metadata.as_deref().map_or(Value::Null, parsed);
    Ok(answer::success(&metadata))
}

async fn put_value(
    call: &Call<'_>,
    id: &str,
    key: &str,
    body: impl Incoming,
) -> Result<Response<ApiBody>, ApiError> {
    let id = ready(call, id).await?;
    let boundary = call
        .header("content-type")
        .and_then(|kind| multer::parse_boundary(kind).ok());
    let (value, metadata) = match boundary {
        Some(boundary) => read_form(call, body, boundary).await?,
        None => (read_value(call, body).await?, None),
    };
    let options = KvPutOptions {
        metadata,
        expiration: call.param("expiration").map(Cow::into_owned),
        expiration_ttl: call.param("expiration_ttl").map(Cow::into_owned),
    };
    let put = call
        .storage()
        .kv()
        .put(&call.account, &id, key, value, options);
    put.await.map_err(|error| failed(&error))?;
    Ok(answer::success(&json!({})))
}

/// The body as it is.
async fn read_value(call: &Call<'_>, mut body: impl Incoming) -> Result<Staged, ApiError> {
    let mut stage = call.storage().kv().stage(&call.account);
    while let Some(chunk) = next_chunk(&mut body).await {
        stage.write(chunk?).await.map_err(|error| failed(&error))?;
        if stage.is_over_limit() {
            return Err(value_too_large());
        }
    }
    stage.finish().await.map_err(|error| failed(&error))
}

fn value_too_large() -> ApiError {
    let message = format!("Value length exceeds limit of {}.", limits::KV_VALUE_BYTES);
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, 10_012, message)
}

/// A form with `value` and, perhaps, `metadata`.
async fn read_form(
    call: &Call<'_>,
    body: impl Incoming,
    boundary: String,
) -> Result<(Staged, Option<String>), ApiError> {
    let chunks = stream::unfold(body, |mut body| async {
        let chunk = next_chunk(&mut body).await?;
        Some((
            chunk.map_err(|error| std::io::Error::other(error.message)),
            body,
        ))
    });
    let constraints = multer::Constraints::new().size_limit(
        multer::SizeLimit::new()
            .whole_stream(limits::KV_VALUE_BYTES + JSON_BYTES)
            .for_field("metadata", limits::KV_METADATA_BYTES as u64 * 8),
    );
    let chunks = std::pin::pin!(chunks);
    let mut form = multer::Multipart::with_constraints(chunks, boundary, constraints);
    let (mut value, mut metadata) = (None, None);
    while let Some(mut field) = form.next_field().await.map_err(bad_form)? {
        match field.name() {
            Some("value") => {
                let mut stage = call.storage().kv().stage(&call.account);
                while let Some(chunk) = field.chunk().await.map_err(bad_form)? {
                    stage.write(chunk).await.map_err(|error| failed(&error))?;
                    if stage.is_over_limit() {
                        return Err(value_too_large());
                    }
                }
                value = Some(stage.finish().await.map_err(|error| failed(&error))?);
            }
            Some("metadata") => metadata = Some(field.text().await.map_err(bad_form)?),
            _ => {}
        }
    }
    let value = value.ok_or_else(|| {
        ApiError::malformed("The form has no field \"value\", which is what is to be stored.")
    })?;
    Ok((value, metadata))
}

fn bad_form(error: multer::Error) -> ApiError {
    match error {
        multer::Error::StreamSizeExceeded { limit }
        | multer::Error::FieldSizeExceeded { limit, .. } => ApiError::body_too_large(limit),
        error => ApiError::malformed(format!("The form cannot be read: {error}")),
    }
}

#[derive(Deserialize)]
struct Pair {
    key: String,
    value: String,
    #[serde(default)]
    base64: bool,
    #[serde(default)]
    expiration: Option<serde_json::Number>,
    #[serde(default)]
    expiration_ttl: Option<serde_json::Number>,
    #[serde(default)]
    metadata: Option<Value>,
}

async fn bulk_put(
    call: &Call<'_>,
    id: &str,
    body: impl Incoming,
) -> Result<Response<ApiBody>, ApiError> {
    let id = ready(call, id).await?;
    let pairs: Vec<Pair> = request::json(body, BULK_BYTES).await?;
    check_count(pairs.len())?;
    let count = pairs.len();
    // Checked and decoded before the first is stored.
    let mut puts = Vec::with_capacity(count);
    for pair in pairs {
        let value = if pair.base64 {
            let decoded = STANDARD.decode(&pair.value).map_err(|_| {
                let key = &pair.key;
                ApiError::malformed(format!("The value of the key \"{key}\" is not base64."))
            })?;
            Bytes::from(decoded)
        } else {
            Bytes::from(pair.value)
        };
        let options = KvPutOptions {
            metadata: pair.metadata.map(|metadata| metadata.to_string()),
            expiration: pair.expiration.map(|number| number.to_string()),
            expiration_ttl: pair.expiration_ttl.map(|number| number.to_string()),
        };
        puts.push((pair.key, value, options));
    }
    let kv = call.storage().kv();
    let mut refused = Vec::new();
    // Many at a time share a sync.
    let mut puts = puts.into_iter();
    loop {
        let group: Vec<_> = puts.by_ref().take(BULK_GROUP).collect();
        if group.is_empty() {
            break;
        }
        let stored = group.into_iter().map(|(key, value, options)| {
            let (account, id) = (&call.account, &id);
            async move {
                let stored = async {
                    let value = kv.stage_bytes(account, value).await?;
                    kv.put(account, id, &key, value, options).await
                };
                stored.await.map_err(|error| (key.clone(), error))
            }
        });
        for outcome in futures_util::future::join_all(stored).await {
            if let Err((key, error)) = outcome {
                if error.kind() != engawa_model::ErrorKind::Unavailable {
                    return Err(failed(&error));
                }
                refused.push(key);
            }
        }
    }
    Ok(answer::success(&json!({
        "successful_key_count": count - refused.len(),
        "unsuccessful_keys": refused,
    })))
}

/// Puts of a bulk write that are under way together.
const BULK_GROUP: usize = 64;

fn check_count(count: usize) -> Result<(), ApiError> {
    if count > BULK_PAIRS {
        let message = format!("At most {BULK_PAIRS} keys can be written or deleted at once.");
        return Err(ApiError::new(StatusCode::BAD_REQUEST, 10_012, message));
    }
    Ok(())
}

async fn bulk_delete(
    call: &Call<'_>,
    id: &str,
    body: impl Incoming,
) -> Result<Response<ApiBody>, ApiError> {
    let id = ready(call, id).await?;
    let keys: Vec<String> = request::json(body, BULK_BYTES).await?;
    check_count(keys.len())?;
    if !keys.is_empty() {
        let deleted = call.storage().kv().delete_bulk(&call.account, &id, &keys);
        deleted.await.map_err(|error| failed(&error))?;
    }
    Ok(answer::success(&json!({
        "successful_key_count": keys.len(),
        "unsuccessful_keys": [],
    })))
}

#[derive(Deserialize)]
struct BulkGet {
    keys: Vec<String>,
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default, rename = "withMetadata")]
    with_metadata: bool,
}

async fn bulk_get(
    call: &Call<'_>,
    id: &str,
    body: impl Incoming,
) -> Result<Response<ApiBody>, ApiError> {
    let id = ready(call, id).await?;
    let wanted: BulkGet = request::json(body, JSON_BYTES).await?;
    let as_json = match wanted.kind.as_deref() {
        None | Some("text") => false,
        Some("json") => true,
        Some(other) => {
            let message = format!("\"{other}\" is not a valid type. Use \"json\" or \"text\"");
            return Err(ApiError::new(StatusCode::BAD_REQUEST, 10_012, message));
        }
    };
    let kv = call.storage().kv();
    let entries = kv.get_bulk(&call.account, &id, &wanted.keys);
    let entries = entries.await.map_err(|error| failed(&error))?.value;
    let mut values = Map::new();
    for (key, entry) in wanted.keys.into_iter().zip(entries) {
        let Some(entry) = entry else {
            values.insert(key, Value::Null);
            continue;
        };
        let value = entry.value.collect(limits::KV_VALUE_BYTES);
        let value = value.await.map_err(|error| failed(&error))?;
        let value = if as_json {
            serde_json::from_slice(&value).map_err(|_| {
                let message = "At least one of the requested keys corresponds to a non-json value";
                ApiError::new(StatusCode::BAD_REQUEST, 10_012, message)
            })?
        } else {
            Value::String(String::from_utf8_lossy(&value).into_owned())
        };
        let shown = if wanted.with_metadata {
            let metadata = entry.metadata.as_deref().map_or(Value::Null, parsed);
            let mut shown = json!({ "value": value, "metadata": metadata });
            if let Some(expiration_s) = entry.expiration_s {
                shown["expiration"] = expiration_s.into();
            }
            shown
        } else {
            value
        };
        values.insert(key, shown);
    }
    Ok(answer::success(&json!({ "values": values })))
}
