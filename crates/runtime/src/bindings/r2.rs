//! The R2 binding (workerd.md 3).
//!
//! A read has its operation as JSON in a header and its answer's metadata in front of
//! the value; a write has the JSON in front of the value and is answered with JSON.

mod wire;

use bytes::{Buf as _, Bytes, BytesMut};
use engawa_model::{BucketName, ErrorKind};
use engawa_storage::r2::{
    CustomerKey, R2Code, R2CreateMultipartRequest, R2Error, R2Get, R2GetRequest, R2ListRequest,
    R2Part, R2Put, R2PutRequest, R2Range, R2RangeRequest, R2Upload,
};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use serde_json::{Value as Json, json};

use super::Scope;
use super::body::{self, Body, BoxError, PourError, Value};
use wire::{
    Include, Operation, What, WireChecksums, WireConditional, WireSsec, object_json, ssec_json,
};

/// The JSON in front of a written value: keys, metadata, up to 1,000 keys to delete.
const METADATA_BYTES: usize = 4 * 1024 * 1024;
const REQUEST: &str = "cf-r2-request";
const METADATA_SIZE: &str = "cf-r2-metadata-size";
const ERROR: &str = "cf-r2-error";

pub(super) async fn handle<B>(
    scope: Scope<'_>,
    bucket: &BucketName,
    request: Request<B>,
) -> Response<Body>
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
        let size = head
            .headers
            .get(METADATA_SIZE)
            .and_then(|size| size.to_str().ok()?.parse().ok());
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

async fn read(
    scope: Scope<'_>,
    bucket: &BucketName,
    text: &[u8],
) -> Result<Response<Body>, R2Error> {
    let r2 = scope.storage.r2();
    match parse(text)? {
        Operation::Head { object } => {
            let found = r2.head(scope.account, bucket, &object).await?.value;
            let found = found.ok_or_else(|| R2Error::from(R2Code::NoSuchKey))?;
            // miniflare: bucket.worker.ts `#head`: the whole range, also without a body.
            let whole = R2Range {
                offset: 0,
                length: found.size_bytes,
            };
            Ok(with_metadata(
                &object_json(&found, Some(whole), Include::ALL),
                None,
            ))
        }
        Operation::Get {
            object,
            range,
            range_header,
            only_if,
            ssec,
        } => {
            let range = match (range, range_header) {
                (Some(range), _) => Some(range.into()),
                (None, Some(header)) => Some(R2RangeRequest::Header(header)),
                (None, None) => None,
            };
            let request = R2GetRequest {
                key: object,
                range,
                only_if: only_if.map(Into::into),
                customer_key: ssec.map(WireSsec::parse).transpose()?,
            };
            match r2.get(scope.account, bucket, request).await?.value {
                R2Get::NoSuchKey => Err(R2Error::from(R2Code::NoSuchKey)),
                R2Get::PreconditionFailed { object, .. } => {
                    let error = R2Error::from(R2Code::PreconditionFailed);
                    let whole = R2Range {
                        offset: 0,
                        length: object.size_bytes,
                    };
                    Ok(refuse(
                        &error,
                        Some(&object_json(&object, Some(whole), Include::ALL)),
                    ))
                }
                R2Get::Found {
                    object,
                    range,
                    body,
                } => Ok(with_metadata(
                    &object_json(&object, Some(range), Include::ALL),
                    Some(Value::Object(body)),
                )),
            }
        }
        Operation::List {
            limit,
            prefix,
            cursor,
            delimiter,
            start_after,
            include,
        } => {
            let include = Include {
                http: include.contains(&0),
                custom: include.contains(&1),
            };
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
            let objects: Vec<Json> = page
                .objects
                .iter()
                .map(|object| object_json(object, None, include))
                .collect();
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
            body::discard(content)
                .await
                .map_err(|error| invalid(&error.to_string()))?;
            return Err(error);
        }
    };
    let r2 = scope.storage.r2();
    match operation {
        Operation::Put {
            object,
            what,
            only_if,
            checksums,
        } => {
            let upload = put_request(object, what, only_if, &checksums)
                .and_then(|request| r2.begin_put(scope.account, bucket, request));
            match receive(upload, rest, content).await?.finish().await?.value {
                R2Put::Stored(object) => Ok(body::full(
                    object_json(&object, None, Include::ALL).to_string().into(),
                )),
                R2Put::PreconditionFailed => Err(R2Code::PreconditionFailed.into()),
            }
        }
        Operation::UploadPart {
            object,
            upload_id,
            part_number,
            ssec,
        } => {
            let upload = ssec
                .map(WireSsec::parse)
                .transpose()
                .and_then(|customer_key| {
                    let part = R2Part {
                        key: object,
                        upload_id,
                        part_number,
                        customer_key,
                    };
                    r2.begin_part(scope.account, bucket, part)
                });
            let part = receive(upload, rest, content).await?.finish().await?.value;
            Ok(body::full(json!({ "etag": part.etag }).to_string().into()))
        }
        other => {
            body::discard(content)
                .await
                .map_err(|error| invalid(&error.to_string()))?;
            change(scope, bucket, other).await
        }
    }
}

/// The writes that carry no value.
async fn change(
    scope: Scope<'_>,
    bucket: &BucketName,
    operation: Operation,
) -> Result<Response<Body>, R2Error> {
    let r2 = scope.storage.r2();
    match operation {
        Operation::Delete { object, objects } => {
            let keys = objects.unwrap_or_else(|| object.into_iter().collect());
            r2.delete(scope.account, bucket, keys).await?;
            Ok(body::empty(StatusCode::OK))
        }
        Operation::CreateMultipartUpload { object, what } => {
            let beside = what.parse()?;
            let key_md5 = beside.customer_key.as_ref().map(CustomerKey::md5);
            let request = R2CreateMultipartRequest {
                key: object,
                http_metadata: beside.http_metadata,
                custom_metadata: beside.custom_metadata,
                storage_class: beside.storage_class,
                customer_key: beside.customer_key,
            };
            let upload_id = r2
                .create_multipart_upload(scope.account, bucket, request)
                .await?
                .value;
            let mut answer = json!({ "uploadId": upload_id });
            if let Some(key_md5) = key_md5 {
                answer["ssec"] = ssec_json(&key_md5);
            }
            Ok(body::full(answer.to_string().into()))
        }
        Operation::CompleteMultipartUpload {
            object,
            upload_id,
            parts,
        } => {
            let done = r2
                .complete_multipart_upload(scope.account, bucket, &object, &upload_id, parts)
                .await?
                .value;
            Ok(body::full(
                object_json(&done, None, Include::ALL).to_string().into(),
            ))
        }
        Operation::AbortMultipartUpload { object, upload_id } => {
            r2.abort_multipart_upload(scope.account, bucket, &object, &upload_id)
                .await?;
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
        match body::next_chunk(content)
            .await
            .map_err(|error| invalid(&error.to_string()))?
        {
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
    if !first.is_empty()
        && let Err(error) = upload.write(first).await
    {
        body::discard(content).await.map_err(incomplete)?;
        return Err(error);
    }
    body::pour(content, async |chunk| upload.write(chunk).await)
        .await
        .map_err(|error| match error {
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
    let beside = what.parse()?;
    Ok(R2PutRequest {
        key,
        http_metadata: beside.http_metadata,
        custom_metadata: beside.custom_metadata,
        storage_class: beside.storage_class,
        customer_key: beside.customer_key,
        only_if: only_if.map(Into::into),
        checksums,
    })
}

fn parse(text: &[u8]) -> Result<Operation, R2Error> {
    serde_json::from_slice(text)
        .map_err(|error| invalid(&format!("the operation was not understood: {error}")))
}

fn invalid(text: &str) -> R2Error {
    R2Error::new(R2Code::InvalidArgument, text)
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
    *response.status_mut() = StatusCode::from_u16(error.code().http_status())
        .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if error.code() == R2Code::InternalError {
        super::tell_operator("R2", ErrorKind::Internal, error.message());
    }
    let text = json!({
        "version": 1,
        "v4code": error.code().number(),
        "message": error.public_message(),
    })
    .to_string();
    if let Ok(text) = HeaderValue::from_bytes(text.as_bytes()) {
        response.headers_mut().insert(ERROR, text);
    }
    response
}
