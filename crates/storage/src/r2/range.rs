//! Ranges (storage.md 3.4; miniflare `validator.worker.ts` and `shared/range.ts`).

use super::error::R2Code;
use super::types::{R2Range, R2RangeRequest};

/// The bytes that a request means in an object of `size` bytes.
pub(super) fn resolve(request: Option<&R2RangeRequest>, size: u64) -> Result<R2Range, R2Code> {
    let whole = R2Range {
        offset: 0,
        length: size,
    };
    let (offset, length) = match request {
        None => return Ok(whole),
        Some(R2RangeRequest::Header(text)) => return Ok(from_header(text, size).unwrap_or(whole)),
        Some(R2RangeRequest::Suffix(0)) => return Err(R2Code::InvalidRange),
        Some(R2RangeRequest::Suffix(suffix)) => (size.saturating_sub(*suffix), *suffix),
        Some(R2RangeRequest::Bytes { offset, length }) => {
            let offset = offset.unwrap_or(0);
            (offset, length.unwrap_or(size.saturating_sub(offset)))
        }
    };
    let rest = size.checked_sub(offset).ok_or(R2Code::InvalidRange)?;
    let length = length.min(rest);
    // Upstream lets `offset: size, length: 1` through and then returns nothing of nothing.
    if length == 0 {
        return Err(R2Code::InvalidRange);
    }
    Ok(R2Range { offset, length })
}

/// The one range of a `Range` header. `None` if it has several, cannot be read, or lies
/// outside of the object: then the whole object is returned.
fn from_header(text: &str, size: u64) -> Option<R2Range> {
    let (unit, ranges) = text.split_once('=')?;
    if !unit.trim_matches(' ').eq_ignore_ascii_case("bytes") || ranges.contains(',') {
        return None;
    }
    let (first, last) = ranges.split_once('-')?;
    let (first, last) = (number(first)?, number(last)?);
    let (offset, end) = match (first, last) {
        (Some(first), Some(last)) if first > last => return None,
        (Some(first), Some(last)) => (first, last.saturating_add(1).min(size)),
        (Some(first), None) => (first, size),
        (None, Some(suffix)) => (size.saturating_sub(suffix), size),
        (None, None) => return None,
    };
    (offset < end).then(|| R2Range {
        offset,
        length: end - offset,
    })
}

/// A number between spaces, or nothing but spaces: `Some(None)`. A number too large for
/// any object is as large as can be.
fn number(text: &str) -> Option<Option<u64>> {
    let digits = text.trim_matches(' ');
    if digits.is_empty() {
        return Some(None);
    }
    digits
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| Some(digits.parse().unwrap_or(u64::MAX)))
}
