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
    let (offset, end) = match (number(first), number(last)) {
        (Side::Number(first), Side::Number(last)) if first <= last => {
            (first, last.saturating_add(1).min(size))
        }
        (Side::Number(first), Side::Empty) => (first, size),
        (Side::Empty, Side::Number(suffix)) => (size.saturating_sub(suffix), size),
        _ => return None,
    };
    (offset < end).then(|| R2Range {
        offset,
        length: end - offset,
    })
}

/// What stands on one side of a range's hyphen.
enum Side {
    Empty,
    /// One too large for any object is as large as can be.
    Number(u64),
    Nonsense,
}

/// Digits, perhaps between spaces.
fn number(text: &str) -> Side {
    let digits = text.trim_matches(' ');
    if digits.is_empty() {
        Side::Empty
    } else if digits.bytes().all(|byte| byte.is_ascii_digit()) {
        Side::Number(digits.parse().unwrap_or(u64::MAX))
    } else {
        Side::Nonsense
    }
}
