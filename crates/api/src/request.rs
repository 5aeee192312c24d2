//! Parameters and bodies of a request.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};
use engawa_model::AccountId;
use engawa_storage::Storage;
use http::request::Parts;
use http_body_util::BodyExt as _;
use serde::de::DeserializeOwned;

use crate::Api;
use crate::error::ApiError;

/// A request without its body, and whose it is.
pub(crate) struct Call<'a> {
    pub(crate) api: &'a Api,
    pub(crate) account: AccountId,
    pub(crate) creates_missing: bool,
    pub(crate) parts: &'a Parts,
}

impl Call<'_> {
    pub(crate) fn storage(&self) -> &Storage {
        &self.api.storage
    }

    /// A parameter of the query; the first, if it is there twice.
    pub(crate) fn param(&self, name: &str) -> Option<Cow<'_, str>> {
        let query = self.parts.uri.query()?;
        form_urlencoded::parse(query.as_bytes())
            .find(|(found, _)| found == name)
            .map(|(_, value)| value)
    }

    /// A whole number among the parameters.
    pub(crate) fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, ApiError> {
        self.param(name)
            .map(|text| {
                text.parse().map_err(|_| {
                    ApiError::malformed(format!("The parameter {name}={text} is not a number."))
                })
            })
            .transpose()
    }

    /// A header that is text; `None` also for an empty one.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let value = self.parts.headers.get(name)?.to_str().ok()?;
        (!value.is_empty()).then_some(value)
    }

    /// The part of a list that is asked for, and numbers about it (style A and D of
    /// control-plane-api.md 2.5: a page past the end is empty).
    pub(crate) fn page<T>(
        &self,
        all: Vec<T>,
        default_per_page: usize,
    ) -> Result<(Vec<T>, serde_json::Value), ApiError> {
        let page = self.number::<usize>("page")?.unwrap_or(1).max(1);
        let per_page = self
            .number::<usize>("per_page")?
            .unwrap_or(default_per_page)
            .clamp(1, PER_PAGE);
        let total = all.len();
        let shown: Vec<T> = all
            .into_iter()
            .skip((page - 1).saturating_mul(per_page))
            .take(per_page)
            .collect();
        let info = serde_json::json!({
            "page": page,
            "per_page": per_page,
            "count": shown.len(),
            "total_count": total,
        });
        Ok((shown, info))
    }
}

/// The longest page of a list.
pub(crate) const PER_PAGE: usize = 10_000;

/// A body of a request that is bytes.
pub(crate) trait Incoming:
    http_body::Body<Data = Bytes, Error: std::error::Error + Send + Sync + 'static>
    + Send
    + Unpin
    + 'static
{
}

impl<B> Incoming for B
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: std::error::Error + Send + Sync + 'static,
{
}

/// The next bytes of a body.
pub(crate) async fn next_chunk(body: &mut impl Incoming) -> Option<Result<Bytes, ApiError>> {
    loop {
        match body.frame().await? {
            Err(error) => return Some(Err(ApiError::body_incomplete(&error))),
            // Trailers say nothing here.
            Ok(frame) => {
                if let Ok(chunk) = frame.into_data() {
                    return Some(Ok(chunk));
                }
            }
        }
    }
}

/// A whole body that is not longer than `limit_bytes`.
pub(crate) async fn collect(mut body: impl Incoming, limit_bytes: u64) -> Result<Bytes, ApiError> {
    if body.size_hint().lower() > limit_bytes {
        return Err(ApiError::body_too_large(limit_bytes));
    }
    let mut whole = BytesMut::new();
    while let Some(chunk) = next_chunk(&mut body).await {
        let chunk = chunk?;
        if (whole.len() + chunk.len()) as u64 > limit_bytes {
            return Err(ApiError::body_too_large(limit_bytes));
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(whole.freeze())
}

/// A JSON body. What the request says that it is does not matter (2.3).
pub(crate) async fn json<T: DeserializeOwned>(
    body: impl Incoming,
    limit_bytes: u64,
) -> Result<T, ApiError> {
    let bytes = collect(body, limit_bytes).await?;
    serde_json::from_slice(&bytes).map_err(|error| {
        ApiError::malformed(format!(
            "The request's body is not the JSON that is expected: {error}"
        ))
    })
}
