//! What a shared cache may store (RFC 9111) as Cloudflare's does, and what it answers.
//!
//! The rules are those of upstream's simulator, which judges by the npm package
//! `http-cache-semantics`, less what Cloudflare says it does not do: no
//! `stale-while-revalidate` and no `stale-if-error` (docs: workers
//! runtime-apis/cache). `Vary` is stored and otherwise ignored, as there.

use std::collections::HashMap;
use std::ops::Range;
use std::time::{Duration, UNIX_EPOCH};

use http::header::{
    AGE, AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, DATE, ETAG, EXPIRES,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, PRAGMA, SET_COOKIE,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

/// Statuses of which a cache knows what they mean.
const UNDERSTOOD: [u16; 14] = [
    200, 203, 204, 300, 301, 302, 303, 307, 308, 404, 405, 410, 414, 501,
];
/// Statuses that are stored without being told to (RFC 9110 15.1). Those of the other
/// understood ones are stored when the response says for how long.
const BY_DEFAULT: [u16; 11] = [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501];
/// What describes a connection and not a response. `Content-Length` follows from the bytes.
const NOT_STORED: [&str; 10] = [
    "date",
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "cf-cache-status",
];
/// What the lifetime is taken to be, of the time since the last modification, when the
/// response does not say.
const HEURISTIC: f64 = 0.1;
/// How long an immutable response lives that does not say for how long.
const IMMUTABLE_S: f64 = 86_400.0;
/// Ranges in one request. With more the whole is sent, as RFC 9110 14.2 allows.
const RANGES_MAX: usize = 64;

/// What is to be stored of a response.
#[derive(Debug)]
pub(super) struct Storable {
    /// How long it may be served.
    pub(super) ttl_ms: u64,
    /// Its headers as they are stored.
    pub(super) headers: HeaderMap,
}

/// Judges a response to a GET that `asked`; `None` when it may not be stored.
pub(super) fn storable(
    status: StatusCode,
    headers: &HeaderMap,
    asked: &HeaderMap,
    now_ms: u64,
) -> Option<Storable> {
    let mut headers = headers.clone();
    let text = joined(&headers, &CACHE_CONTROL).map(|text| text.to_lowercase());
    // docs: runtime-apis/cache: `Cache-Control: private=Set-Cookie` stores the response
    // without its cookies; else a cookie keeps it out.
    let control = match text {
        Some(text) if text.contains("private=set-cookie") => {
            headers.remove(SET_COOKIE);
            let rest = text.replacen("private=set-cookie;", "", 1);
            let rest = rest.replacen("private=set-cookie", "", 1);
            if let Ok(value) = HeaderValue::from_str(&rest) {
                headers.insert(CACHE_CONTROL, value);
            }
            Some(rest)
        }
        text => text,
    };
    let control = Control::parse(control.as_deref(), &headers);
    let number = status.as_u16();
    let may = UNDERSTOOD.contains(&number)
        && !headers.contains_key(SET_COOKIE)
        && !control.has("no-store")
        && !control.has("private")
        && (!asked.contains_key(AUTHORIZATION)
            || control.has("must-revalidate")
            || control.has("public")
            || control.has("s-maxage"))
        && (headers.contains_key(EXPIRES)
            || control.has("max-age")
            || control.has("s-maxage")
            || control.has("public")
            || BY_DEFAULT.contains(&number));
    if !may {
        return None;
    }
    let ttl_s = lifetime_s(&control, &headers, now_ms) - to_f64(age_s(&headers));
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is not negative, and a cast saturates"
    )]
    let ttl_ms = (ttl_s.max(0.0) * 1000.0).round() as u64;
    for name in connection_names(&headers) {
        headers.remove(name);
    }
    for name in NOT_STORED {
        headers.remove(name);
    }
    headers.remove(CONTENT_LENGTH);
    Some(Storable { ttl_ms, headers })
}

/// The directives of `Cache-Control`, in lower case.
struct Control(HashMap<String, String>);

impl Control {
    fn parse(text: Option<&str>, headers: &HeaderMap) -> Self {
        let mut directives = HashMap::new();
        for part in text.unwrap_or_default().split(',') {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let value = value.trim();
            let value = value.strip_prefix('"').unwrap_or(value);
            let value = value.strip_suffix('"').unwrap_or(value);
            directives.insert(name.trim().to_owned(), value.to_owned());
        }
        // RFC 9111 5.4
        let pragma = joined(headers, &PRAGMA).unwrap_or_default();
        if text.is_none() && pragma.contains("no-cache") {
            directives.insert("no-cache".to_owned(), String::new());
        }
        Self(directives)
    }

    fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// A number of seconds; zero when it is none.
    fn seconds(&self, name: &str) -> Option<f64> {
        self.0.get(name).map(|text| to_f64(leading_number(text)))
    }
}

/// RFC 9111 4.2.1, for a shared cache.
fn lifetime_s(control: &Control, headers: &HeaderMap, now_ms: u64) -> f64 {
    if control.has("no-cache") || control.has("proxy-revalidate") {
        return 0.0;
    }
    if let Some(told) = control
        .seconds("s-maxage")
        .or_else(|| control.seconds("max-age"))
    {
        return told;
    }
    let least = if control.has("immutable") {
        IMMUTABLE_S
    } else {
        0.0
    };
    let from_s = date_s(headers, &DATE).unwrap_or(to_f64(now_ms) / 1000.0);
    if headers.contains_key(EXPIRES) {
        // What is no date lies in the past.
        return match date_s(headers, &EXPIRES) {
            Some(expires_s) if expires_s >= from_s => (expires_s - from_s).max(least),
            _ => 0.0,
        };
    }
    match date_s(headers, &LAST_MODIFIED) {
        Some(modified_s) if from_s > modified_s => ((from_s - modified_s) * HEURISTIC).max(least),
        _ => least,
    }
}

/// Seconds since 1970 of a header's date, in any form that HTTP has had.
fn date_s(headers: &HeaderMap, name: &HeaderName) -> Option<f64> {
    let text = headers.get(name)?.to_str().ok()?;
    let date = httpdate::parse_http_date(text).ok()?;
    let since = date.duration_since(UNIX_EPOCH).ok()?;
    Some(since.as_secs_f64())
}

/// Seconds that a response was under way before it came here.
pub(super) fn age_s(headers: &HeaderMap) -> u64 {
    headers
        .get(AGE)
        .and_then(|value| value.to_str().ok())
        .map_or(0, leading_number)
}

/// Whether the client's copy is the stored one: `If-None-Match` by weak comparison, else
/// `If-Modified-Since`.
pub(super) fn is_unchanged(asked: &HeaderMap, stored: &HeaderMap) -> bool {
    let tag = stored.get(ETAG).and_then(|value| etag(value.as_bytes()));
    if let (Some(tag), Some(tags)) = (tag, asked.get(IF_NONE_MATCH)) {
        let tags = tags.as_bytes();
        if tags.trim_ascii() == b"*"
            || tags
                .split(|byte| *byte == b',')
                .any(|other| etag(other) == Some(tag))
        {
            return true;
        }
    }
    // Only the form that is written today.
    let date = |headers: &HeaderMap, name| {
        let text = headers.get(name)?.to_str().ok()?;
        let date = httpdate::parse_http_date(text).ok()?;
        (httpdate::fmt_http_date(date) == text).then_some(date)
    };
    let (modified, since) = (date(stored, LAST_MODIFIED), date(asked, IF_MODIFIED_SINCE));
    matches!((modified, since), (Some(modified), Some(since)) if modified <= since)
}

/// What an entity tag says, weak or not.
fn etag(text: &[u8]) -> Option<&[u8]> {
    let text = text.trim_ascii();
    let quoted = text.strip_prefix(b"W/").unwrap_or(text);
    let tag = quoted.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    (!tag.is_empty()).then_some(tag)
}

/// What a `Range` header asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ranges {
    /// Everything.
    Whole,
    /// Nothing that there is.
    Unsatisfiable,
    /// These, at least one, none of them empty.
    Parts(Vec<Range<u64>>),
}

/// Reads a `Range` header for `len` bytes, as miniflare's `parseRanges`.
pub(super) fn ranges(text: &[u8], len: u64) -> Ranges {
    let parsed = std::str::from_utf8(text).ok().and_then(|text| {
        let (unit, list) = text.split_once('=')?;
        unit.trim_matches(' ')
            .eq_ignore_ascii_case("bytes")
            .then_some(list)
    });
    let Some(list) = parsed else {
        return Ranges::Unsatisfiable;
    };
    if list.trim_start().is_empty() || list.split(',').count() > RANGES_MAX {
        return Ranges::Whole;
    }
    let mut parts = Vec::new();
    for range in list.split(',') {
        let Some((start, end)) = range.split_once('-') else {
            return Ranges::Unsatisfiable;
        };
        let number = |text: &str| match text.trim_matches(' ') {
            "" => Some(None),
            digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(Some(digits.parse().unwrap_or(u64::MAX)))
            }
            _ => None,
        };
        match (number(start), number(end)) {
            (Some(Some(start)), Some(Some(end))) if start <= end && start < len => {
                parts.push(start..end.saturating_add(1).min(len));
            }
            (Some(Some(start)), Some(None)) if start < len => parts.push(start..len),
            (Some(None), Some(Some(suffix))) if suffix >= len => return Ranges::Whole,
            (Some(None), Some(Some(0))) => {}
            (Some(None), Some(Some(suffix))) => parts.push(len - suffix..len),
            _ => return Ranges::Unsatisfiable,
        }
    }
    if parts.is_empty() {
        Ranges::Whole
    } else {
        Ranges::Parts(parts)
    }
}

/// Names in `Connection`, which belong to the connection too.
fn connection_names(headers: &HeaderMap) -> Vec<HeaderName> {
    joined(headers, &CONNECTION)
        .unwrap_or_default()
        .split(',')
        .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
        .collect()
}

/// All lines of a header as one.
fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let lines: Vec<_> = headers
        .get_all(name)
        .iter()
        .map(|value| String::from_utf8_lossy(value.as_bytes()))
        .collect();
    (!lines.is_empty()).then(|| lines.join(", "))
}

/// As JavaScript's `parseInt`, for what cannot be negative: zero when it is no number.
fn leading_number(text: &str) -> u64 {
    let text = text.trim_start();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    match &text[..digits] {
        "" => 0,
        digits => digits.parse().unwrap_or(u64::MAX),
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "seconds and milliseconds of our time"
)]
fn to_f64(number: u64) -> f64 {
    number as f64
}

/// A time as HTTP writes it.
pub(super) fn http_date(ms: u64) -> String {
    // The last second that httpdate writes is that of the year 9999.
    let seconds = (ms / 1000).min(253_402_300_799);
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests;
