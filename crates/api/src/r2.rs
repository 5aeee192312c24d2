//! R2 buckets and objects (control-plane-api.md 8, storage.md 3.11).

use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use engawa_model::{BucketName, ErrorKind};
use engawa_storage::r2::{
    CorsRule, HttpMetadata, LifecycleRule, R2Code, R2Conditional, R2Error, R2Etag, R2Get,
    R2GetRequest, R2ListRequest, R2Object, R2Put, R2PutRequest, StorageClass, check_cors,
    check_lifecycle,
};
use engawa_storage::{Error, R2Bucket};
use http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH,
    CONTENT_TYPE, ETAG, EXPIRES, HeaderName, LAST_MODIFIED,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::answer::{self, ApiBody};
use crate::error::ApiError;
use crate::request::{self, Call, Incoming, next_chunk};
use crate::route::{ProductName, R2Call};

const JSON_BYTES: u64 = 1024 * 1024;
/// An object put over REST (docs: r2 limits).
const OBJECT_BYTES: u64 = 300 * 1024 * 1024;
/// Objects of a page (docs: r2 api, "list objects").
const OBJECTS_PER_PAGE: i64 = 20;
/// Buckets of a page (the same).
const BUCKETS_PER_PAGE: usize = 1000;

/// Answers a call.
pub(crate) async fn answer(
    call: &Call<'_>,
    what: R2Call,
    body: impl Incoming,
) -> Result<Response<ApiBody>, ApiError> {
    match what {
        R2Call::List => list(call).await,
        R2Call::Create => create(call, body).await,
        R2Call::Get(bucket) => {
            let bucket = find(call, &bucket).await?;
            Ok(answer::success(&shown_bucket(&bucket)))
        }
        R2Call::Update(bucket) => update(call, &bucket).await,
        R2Call::Delete(bucket) => delete(call, &bucket).await,
        R2Call::Objects(bucket) => objects(call, &bucket).await,
        R2Call::GetObject(bucket, key) => get_object(call, &bucket, key).await,
        R2Call::PutObject(bucket, key) => put_object(call, &bucket, key, body).await,
        R2Call::DeleteObject(bucket, key) => {
            let name = ready(call, &bucket).await?;
            let r2 = call.storage().r2();
            let deleted = r2.delete(&call.account, &name, vec![key.clone()]);
            deleted.await.map_err(|error| ApiError::r2(&error))?;
            Ok(answer::success(&json!({ "key": key })))
        }
        R2Call::GetLifecycle(bucket) => {
            let catalog = call.storage().catalog();
            let bucket = BucketName::from(bucket);
            let found = catalog.get_r2_lifecycle(&call.account, &bucket);
            shown_rules(found.await)
        }
        R2Call::PutLifecycle(bucket) => put_lifecycle(call, bucket, body).await,
        R2Call::GetCors(bucket) => {
            let catalog = call.storage().catalog();
            let bucket = BucketName::from(bucket);
            let found = catalog.get_r2_cors(&call.account, &bucket).await;
            match found {
                Ok(Some(rules)) if rules.is_empty() => {
                    Err(refused(R2Code::NoSuchCorsConfiguration))
                }
                found => shown_rules(found),
            }
        }
        R2Call::PutCors(bucket) => put_cors(call, bucket, body).await,
        R2Call::DeleteCors(bucket) => set_cors(call, bucket, &[]).await,
    }
}

/// A bucket's rules, as a body says them.
#[derive(Deserialize)]
struct Rules<T> {
    rules: Vec<T>,
}

impl<T: DeserializeOwned> Rules<T> {
    async fn read(body: impl Incoming) -> Result<Vec<T>, ApiError> {
        let text = request::collect(body, JSON_BYTES).await?;
        let read = serde_json::from_slice::<Self>(&text).map_err(|error| {
            let text = format!("The JSON you provided was not well formed. {error}");
            ApiError::r2(&R2Error::new(R2Code::MalformedConfiguration, text))
        })?;
        Ok(read.rules)
    }
}

fn shown_rules<T: Serialize>(
    found: Result<Option<Vec<T>>, Error>,
) -> Result<Response<ApiBody>, ApiError> {
    let rules = found
        .map_err(|error| failed(&error))?
        .ok_or_else(|| refused(R2Code::NoSuchBucket))?;
    Ok(answer::success(&json!({ "rules": rules })))
}

async fn put_lifecycle(
    call: &Call<'_>,
    bucket: String,
    body: impl Incoming,
) -> Result<Response<ApiBody>, ApiError> {
    let rules: Vec<LifecycleRule> = Rules::read(body).await?;
    check_lifecycle(&rules).map_err(|error| ApiError::r2(&error))?;
    let catalog = call.storage().catalog();
    let bucket = BucketName::from(bucket);
    let set = catalog.set_r2_lifecycle(&call.account, &bucket, &rules);
    set.await.map_err(|error| no_bucket_or(&error))?;
    Ok(answer::success(&json!({})))
}

async fn put_cors(
    call: &Call<'_>,
    bucket: String,
    body: impl Incoming,
) -> Result<Response<ApiBody>, ApiError> {
    let rules: Vec<CorsRule> = Rules::read(body).await?;
    check_cors(&rules).map_err(|error| ApiError::r2(&error))?;
    set_cors(call, bucket, &rules).await
}

async fn set_cors(
    call: &Call<'_>,
    bucket: String,
    rules: &[CorsRule],
) -> Result<Response<ApiBody>, ApiError> {
    let catalog = call.storage().catalog();
    let bucket = BucketName::from(bucket);
    let set = catalog.set_r2_cors(&call.account, &bucket, rules);
    set.await.map_err(|error| no_bucket_or(&error))?;
    Ok(answer::success(&json!({})))
}

fn failed(error: &Error) -> ApiError {
    ApiError::storage(ProductName::R2, error)
}

fn refused(code: R2Code) -> ApiError {
    ApiError::r2(&R2Error::from(code))
}

fn no_bucket_or(error: &Error) -> ApiError {
    match error.kind() {
        ErrorKind::NotFound => refused(R2Code::NoSuchBucket),
        ErrorKind::Conflict => refused(R2Code::BucketConflict),
        _ => ApiError::storage(ProductName::R2, error),
    }
}

fn shown_bucket(bucket: &R2Bucket) -> Value {
    json!({
        "name": bucket.name.as_str(),
        "creation_date": answer::date(bucket.created_at_ms),
        "storage_class": bucket.storage_class,
    })
}

async fn look_up(call: &Call<'_>, bucket: &BucketName) -> Result<Option<R2Bucket>, ApiError> {
    let catalog = call.storage().catalog();
    let found = catalog.get_r2_bucket(&call.account, bucket);
    found.await.map_err(|error| failed(&error))
}

async fn find(call: &Call<'_>, bucket: &str) -> Result<R2Bucket, ApiError> {
    let found = look_up(call, &bucket.into()).await?;
    found.ok_or_else(|| refused(R2Code::NoSuchBucket))
}

/// A bucket whose objects a call is about.
async fn ready(call: &Call<'_>, bucket: &str) -> Result<BucketName, ApiError> {
    let name = BucketName::from(bucket);
    if look_up(call, &name).await?.is_none() {
        if !call.creates_missing {
            return Err(refused(R2Code::NoSuchBucket));
        }
        let catalog = call.storage().catalog();
        let ensured = catalog.ensure_r2_bucket(&call.account, &name);
        ensured.await.map_err(|error| failed(&error))?;
    }
    Ok(name)
}

async fn list(call: &Call<'_>) -> Result<Response<ApiBody>, ApiError> {
    let catalog = call.storage().catalog();
    let all = catalog.list_r2_buckets(&call.account);
    let mut all = all.await.map_err(|error| failed(&error))?;
    if let Some(part) = call.param("name_contains") {
        all.retain(|bucket| bucket.name.as_str().contains(&*part));
    }
    let descending = call.param("direction").as_deref() == Some("desc");
    if descending {
        all.reverse();
    }
    // A cursor is the last name of the page before.
    for param in ["start_after", "cursor"] {
        if let Some(after) = call.param(param).filter(|after| !after.is_empty()) {
            all.retain(|bucket| {
                let name = bucket.name.as_str();
                if descending {
                    name < &*after
                } else {
                    name > &*after
                }
            });
        }
    }
    let per_page = call.number::<usize>("per_page")?;
    let per_page = per_page
        .unwrap_or(BUCKETS_PER_PAGE)
        .clamp(1, BUCKETS_PER_PAGE);
    let has_more = all.len() > per_page;
    all.truncate(per_page);
    let mut info = json!({ "per_page": per_page });
    if let Some(last) = all.last().filter(|_| has_more) {
        info["cursor"] = last.name.as_str().into();
    }
    let buckets: Vec<Value> = all.iter().map(shown_bucket).collect();
    Ok(answer::success_list(&json!({ "buckets": buckets }), &info))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NewBucket {
    name: String,
    #[serde(default)]
    storage_class: Option<String>,
}

async fn create(call: &Call<'_>, body: impl Incoming) -> Result<Response<ApiBody>, ApiError> {
    let new: NewBucket = request::json(body, JSON_BYTES).await?;
    if !is_bucket_name(&new.name) {
        let message = "The specified bucket name is not valid: 3 to 63 lower-case letters, digits \
                       and hyphens, with a letter or digit at both ends.";
        return Err(ApiError::r2(&R2Error::new(
            R2Code::InvalidBucketName,
            message,
        )));
    }
    let class = storage_class(new.storage_class.as_deref())?;
    let catalog = call.storage().catalog();
    let name = BucketName::from(new.name);
    let created = catalog.create_r2_bucket(&call.account, &name, class.as_str());
    let created = created.await.map_err(|error| no_bucket_or(&error))?;
    Ok(answer::success(&shown_bucket(&created)))
}

/// docs: r2 limits, "bucket name"
fn is_bucket_name(name: &str) -> bool {
    let is_end = |byte: Option<&u8>| byte.is_some_and(|byte| *byte != b'-');
    let bytes = name.as_bytes();
    (3..=63).contains(&bytes.len())
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-')
        && is_end(bytes.first())
        && is_end(bytes.last())
}

fn storage_class(text: Option<&str>) -> Result<StorageClass, ApiError> {
    StorageClass::parse(text.unwrap_or_default()).map_err(|error| ApiError::r2(&error))
}

async fn update(call: &Call<'_>, bucket: &str) -> Result<Response<ApiBody>, ApiError> {
    let class = storage_class(call.header("cf-r2-storage-class"))?;
    let catalog = call.storage().catalog();
    let name = BucketName::from(bucket);
    let changed = catalog.set_r2_storage_class(&call.account, &name, class.as_str());
    changed.await.map_err(|error| no_bucket_or(&error))?;
    let bucket = find(call, bucket).await?;
    Ok(answer::success(&shown_bucket(&bucket)))
}

async fn delete(call: &Call<'_>, bucket: &str) -> Result<Response<ApiBody>, ApiError> {
    find(call, bucket).await?;
    let name = BucketName::from(bucket);
    let one = R2ListRequest {
        limit: Some(1),
        ..R2ListRequest::default()
    };
    let r2 = call.storage().r2();
    let page = r2.list(&call.account, &name, one).await;
    if !page
        .map_err(|error| ApiError::r2(&error))?
        .value
        .objects
        .is_empty()
    {
        return Err(refused(R2Code::BucketNotEmpty));
    }
    let catalog = call.storage().catalog();
    let deleted = catalog.delete_r2_bucket(&call.account, &name);
    deleted.await.map_err(|error| no_bucket_or(&error))?;
    Ok(answer::success(&json!({})))
}

async fn objects(call: &Call<'_>, bucket: &str) -> Result<Response<ApiBody>, ApiError> {
    let name = ready(call, bucket).await?;
    let text = |name| call.param(name).filter(|text| !text.is_empty());
    let limit = call.number("per_page")?.unwrap_or(OBJECTS_PER_PAGE);
    let request = R2ListRequest {
        prefix: text("prefix").map(Cow::into_owned).unwrap_or_default(),
        delimiter: text("delimiter").map(Cow::into_owned).unwrap_or_default(),
        cursor: text("cursor").map(Cow::into_owned),
        start_after: text("start_after").map(Cow::into_owned),
        limit: Some(limit),
        include_http_metadata: true,
        include_custom_metadata: true,
    };
    let page = call.storage().r2().list(&call.account, &name, request);
    let page = page.await.map_err(|error| ApiError::r2(&error))?.value;
    let objects: Vec<Value> = page.objects.iter().map(shown_object).collect();
    let mut info = json!({
        "delimited": page.delimited_prefixes,
        "is_truncated": page.cursor.is_some(),
        "per_page": limit,
    });
    if let Some(cursor) = page.cursor {
        info["cursor"] = cursor.into();
    }
    Ok(answer::success_list(&Value::Array(objects), &info))
}

fn shown_object(object: &R2Object) -> Value {
    let http = &object.http_metadata;
    let mut http_metadata = Map::new();
    for (name, value) in [
        ("contentType", &http.content_type),
        ("contentLanguage", &http.content_language),
        ("contentDisposition", &http.content_disposition),
        ("contentEncoding", &http.content_encoding),
        ("cacheControl", &http.cache_control),
    ] {
        if let Some(value) = value {
            http_metadata.insert(name.into(), value.as_str().into());
        }
    }
    if let Some(ms) = http.cache_expiry_ms.and_then(|ms| u64::try_from(ms).ok()) {
        http_metadata.insert("cacheExpiry".into(), answer::date(ms).into());
    }
    let custom: Map<String, Value> = object
        .custom_metadata
        .iter()
        .map(|(name, value)| (name.clone(), value.as_str().into()))
        .collect();
    json!({
        "key": object.key,
        "etag": object.etag,
        "last_modified": answer::date(object.uploaded_ms),
        "size": object.size_bytes,
        "http_metadata": http_metadata,
        "custom_metadata": custom,
        "storage_class": object.storage_class.as_str(),
        "ssec": object.ssec_key_md5.is_some(),
    })
}

async fn get_object(
    call: &Call<'_>,
    bucket: &str,
    key: String,
) -> Result<Response<ApiBody>, ApiError> {
    let name = ready(call, bucket).await?;
    let request = R2GetRequest {
        key,
        only_if: conditions(call),
        ..R2GetRequest::default()
    };
    let got = call.storage().r2().get(&call.account, &name, request);
    match got.await.map_err(|error| ApiError::r2(&error))?.value {
        R2Get::NoSuchKey => Err(refused(R2Code::NoSuchKey)),
        R2Get::PreconditionFailed { object, .. } => {
            let mut response = answer::bytes(
                StatusCode::NOT_MODIFIED,
                "application/octet-stream",
                bytes::Bytes::new(),
            );
            response.headers_mut().clear();
            describe(&object, response.headers_mut());
            Ok(response)
        }
        R2Get::Found {
            object,
            range,
            body,
        } => {
            let mut response = Response::new(answer::object(body));
            let headers = response.headers_mut();
            describe(&object, headers);
            headers.insert(CONTENT_LENGTH, range.length.into());
            Ok(response)
        }
    }
}

/// `If-None-Match` and `If-Modified-Since` (docs: r2 api, "get object").
fn conditions(call: &Call<'_>) -> Option<R2Conditional> {
    let none_match = call.header("if-none-match").map(|tags| {
        tags.split(',')
            .map(str::trim)
            .map(|tag| match tag.strip_prefix("W/") {
                _ if tag == "*" => R2Etag::Wildcard,
                Some(weak) => R2Etag::Weak(weak.trim_matches('"').to_owned()),
                None => R2Etag::Strong(tag.trim_matches('"').to_owned()),
            })
            .collect()
    });
    let modified_since = call
        .header("if-modified-since")
        .and_then(|date| httpdate::parse_http_date(date).ok())
        .map(since_epoch_ms);
    (none_match.is_some() || modified_since.is_some()).then_some(R2Conditional {
        etag_does_not_match: none_match,
        uploaded_after_ms: modified_since,
        seconds_granularity: true,
        ..R2Conditional::default()
    })
}

fn since_epoch_ms(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// What an object says of itself, as headers. A text that is no header value stays away.
fn describe(object: &R2Object, headers: &mut HeaderMap) {
    let http = &object.http_metadata;
    let expires = http
        .cache_expiry_ms
        .and_then(|ms| u64::try_from(ms).ok())
        .map(http_date);
    let texts = [
        (CONTENT_TYPE, http.content_type.clone()),
        (CONTENT_LANGUAGE, http.content_language.clone()),
        (CONTENT_DISPOSITION, http.content_disposition.clone()),
        (CONTENT_ENCODING, http.content_encoding.clone()),
        (CACHE_CONTROL, http.cache_control.clone()),
        (EXPIRES, expires),
        (ETAG, Some(object.http_etag())),
        (LAST_MODIFIED, Some(http_date(object.uploaded_ms))),
    ];
    for (name, text) in texts {
        if let Some(value) = text.and_then(|text| HeaderValue::from_str(&text).ok()) {
            headers.insert(name, value);
        }
    }
}

fn http_date(ms: u64) -> String {
    // Past the year 9999 there is no such date.
    let ms = ms.min(253_402_300_799_000);
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(ms))
}

async fn put_object(
    call: &Call<'_>,
    bucket: &str,
    key: String,
    mut body: impl Incoming,
) -> Result<Response<ApiBody>, ApiError> {
    let name = ready(call, bucket).await?;
    if body.size_hint().lower() > OBJECT_BYTES {
        return Err(ApiError::body_too_large(OBJECT_BYTES));
    }
    let text = |name: HeaderName| call.header(name.as_str()).map(str::to_owned);
    let storage_class = match call.header("cf-r2-storage-class") {
        Some(class) => storage_class(Some(class))?,
        None => storage_class(Some(&find(call, bucket).await?.storage_class))?,
    };
    let expires = call.header("expires");
    let request = R2PutRequest {
        key,
        http_metadata: HttpMetadata {
            content_type: text(CONTENT_TYPE),
            content_language: text(CONTENT_LANGUAGE),
            content_disposition: text(CONTENT_DISPOSITION),
            content_encoding: text(CONTENT_ENCODING),
            cache_control: text(CACHE_CONTROL),
            cache_expiry_ms: expires
                .and_then(|date| httpdate::parse_http_date(date).ok())
                .map(since_epoch_ms),
        },
        storage_class,
        ..R2PutRequest::default()
    };
    let put = call.storage().r2().begin_put(&call.account, &name, request);
    let mut upload = put.map_err(|error| ApiError::r2(&error))?;
    while let Some(chunk) = next_chunk(&mut body).await {
        let written = upload.write(chunk?).await;
        written.map_err(|error| ApiError::r2(&error))?;
        if upload.len_bytes() > OBJECT_BYTES {
            return Err(ApiError::body_too_large(OBJECT_BYTES));
        }
    }
    let stored = upload.finish().await;
    match stored.map_err(|error| ApiError::r2(&error))?.value {
        R2Put::Stored(object) => Ok(answer::success(&json!({
            "key": object.key,
            "etag": object.etag,
            "version": object.version,
            "size": object.size_bytes.to_string(),
            "uploaded": answer::date(object.uploaded_ms),
            "storage_class": object.storage_class.as_str(),
        }))),
        R2Put::PreconditionFailed => Err(refused(R2Code::PreconditionFailed)),
    }
}
