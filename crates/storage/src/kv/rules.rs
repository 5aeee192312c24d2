//! What a key, a value and options may be, in the words that a Worker sees.
//!
//! Sources: storage.md 1.2; miniflare `validator.worker.ts`. Numbers are read as
//! JavaScript's `parseInt` reads them, since that is what decides there.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use engawa_model::ErrorKind;
use engawa_model::limits::{
    KV_EXPIRATION_MIN_S, KV_KEY_BYTES, KV_LIST_KEYS, KV_METADATA_BYTES, KV_VALUE_BYTES,
};

use super::{KvListOptions, KvPutOptions};
use crate::Error;

/// The shortest `cacheTtl`, in seconds.
const CACHE_TTL_MIN_S: i64 = 30;

/// Checks a `cache_ttl` as it came. (With one store that is always current there is
/// nothing to do with it.)
pub fn check_cache_ttl(raw: &str) -> Result<(), Error> {
    match parse_int(raw) {
        Some(ttl) if ttl >= CACHE_TTL_MIN_S => Ok(()),
        ttl => {
            let ttl = ttl.map_or_else(|| "NaN".to_owned(), |ttl| ttl.to_string());
            invalid(format!(
                "Invalid cache_ttl of {ttl}. Cache TTL must be at least {CACHE_TTL_MIN_S}."
            ))
        }
    }
}

pub(super) fn check_key(key: &str) -> Result<(), Error> {
    match key {
        "" => invalid("Key names must not be empty"),
        "." | ".." => invalid(format!(
            "Illegal key name \"{key}\". Please use a different name."
        )),
        _ => check_key_length(key),
    }
}

fn check_key_length(key: &str) -> Result<(), Error> {
    if key.len() <= KV_KEY_BYTES {
        return Ok(());
    }
    let message = format!(
        "UTF-8 encoded length of {} exceeds key length limit of {KV_KEY_BYTES}.",
        key.len()
    );
    Err(Error::new(ErrorKind::KeyTooLong, message))
}

pub(super) fn check_bulk(keys: &[String], limit: usize) -> Result<(), Error> {
    if keys.len() > limit {
        return invalid(format!("You can request a maximum of {limit} keys"));
    }
    if keys.is_empty() {
        return invalid("You must request a minimum of 1 key");
    }
    Ok(())
}

pub(super) fn check_value(len_bytes: u64) -> Result<(), Error> {
    if len_bytes <= KV_VALUE_BYTES {
        return Ok(());
    }
    let message = format!("Value length of {len_bytes} exceeds limit of {KV_VALUE_BYTES}.");
    Err(Error::new(ErrorKind::TooLarge, message))
}

/// When a put's key ends, in seconds since 1970.
pub(super) fn expiration_s(options: &KvPutOptions, now_s: u64) -> Result<Option<u64>, Error> {
    if let Some(raw) = &options.expiration_ttl {
        let ttl = parse_int(raw).and_then(|ttl| u64::try_from(ttl).ok());
        return match ttl {
            None | Some(0) => invalid(format!(
                "Invalid expiration_ttl of {raw}. Please specify integer greater than 0."
            )),
            Some(..KV_EXPIRATION_MIN_S) => invalid(format!(
                "Invalid expiration_ttl of {raw}. \
                 Expiration TTL must be at least {KV_EXPIRATION_MIN_S}."
            )),
            Some(ttl) => Ok(Some(storable(now_s.saturating_add(ttl)))),
        };
    }
    let Some(raw) = &options.expiration else {
        return Ok(None);
    };
    match parse_int(raw).and_then(|expiration| u64::try_from(expiration).ok()) {
        Some(expiration) if expiration > now_s => {
            if expiration < now_s.saturating_add(KV_EXPIRATION_MIN_S) {
                return invalid(format!(
                    "Invalid expiration of {raw}. Expiration times must be at least \
                     {KV_EXPIRATION_MIN_S} seconds in the future."
                ));
            }
            Ok(Some(storable(expiration)))
        }
        _ => invalid(format!(
            "Invalid expiration of {raw}. Please specify integer greater than the current \
             number of seconds since the UNIX epoch."
        )),
    }
}

/// SQLite's numbers are signed.
fn storable(seconds: u64) -> u64 {
    seconds.min(i64::MAX.cast_unsigned())
}

/// The metadata of a put: `null` reads back as none.
pub(super) fn metadata(raw: Option<String>) -> Result<Option<String>, Error> {
    let Some(raw) = raw else { return Ok(None) };
    if raw.len() > KV_METADATA_BYTES {
        let message = format!(
            "Metadata length of {} exceeds limit of {KV_METADATA_BYTES}.",
            raw.len()
        );
        return Err(Error::new(ErrorKind::TooLarge, message));
    }
    if serde_json::from_str::<serde::de::IgnoredAny>(&raw).is_err() {
        // Stored, it would break every list that contains the key.
        return invalid("Metadata must be valid JSON");
    }
    Ok((raw.trim() != "null").then_some(raw))
}

/// Whether a key has not ended. The clock is read only if it matters.
pub(super) fn is_live(expiration_s: Option<u64>, now_s: impl FnOnce() -> u64) -> bool {
    expiration_s.is_none_or(|expiration| expiration > now_s())
}

/// What a list walks over.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ListRange {
    /// Keys from this one on.
    pub(super) from: String,
    /// Only keys behind this one.
    pub(super) after: Option<String>,
    /// Only keys below this one.
    pub(super) below: Option<String>,
    /// At most so many.
    pub(super) limit: usize,
}

pub(super) fn list_range(options: &KvListOptions) -> Result<ListRange, Error> {
    let limit = match options.limit {
        None => KV_LIST_KEYS,
        Some(limit) if limit < 1 => {
            return invalid(format!(
                "Invalid key_count_limit of {limit}. Please specify an integer greater than 0."
            ));
        }
        Some(limit) => match usize::try_from(limit) {
            Ok(limit) if limit <= KV_LIST_KEYS => limit,
            _ => {
                return invalid(format!(
                    "Invalid key_count_limit of {limit}. \
                     Please specify an integer less than {KV_LIST_KEYS}."
                ));
            }
        },
    };
    let prefix = options.prefix.as_deref().unwrap_or_default();
    check_key_length(prefix)?;
    let after = match options.cursor.as_deref() {
        None | Some("") => None,
        Some(cursor) => Some(cursor_key(cursor)?),
    };
    Ok(ListRange {
        from: prefix.to_owned(),
        after,
        below: end_of_prefix(prefix),
        limit,
    })
}

/// The cursor that stands behind a key. A Worker treats it as opaque.
pub(super) fn cursor(key: &str) -> String {
    URL_SAFE_NO_PAD.encode(key)
}

fn cursor_key(cursor: &str) -> Result<String, Error> {
    URL_SAFE_NO_PAD
        .decode(cursor)
        .ok()
        .and_then(|key| String::from_utf8(key).ok())
        .map_or_else(
            || invalid("Invalid cursor. Please pass the cursor that the last list returned."),
            Ok,
        )
}

/// The first text behind all that begin with `prefix`: its last character that has a
/// successor is raised by one. The bytes of UTF-8 sort as its characters do.
fn end_of_prefix(prefix: &str) -> Option<String> {
    let mut end = prefix.to_owned();
    while let Some(last) = end.pop() {
        let next = match last {
            // Surrogates are no characters.
            '\u{D7FF}' => Some('\u{E000}'),
            _ => char::from_u32(u32::from(last) + 1),
        };
        if let Some(next) = next {
            end.push(next);
            return Some(end);
        }
    }
    None
}

/// JavaScript's `parseInt(text, 10)`: leading space, a sign, digits, then anything.
fn parse_int(text: &str) -> Option<i64> {
    let text = text.trim_start();
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let end = digits
        .bytes()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(digits.len());
    if end == 0 {
        return None;
    }
    let value = digits[..end].parse().unwrap_or(i64::MAX);
    Some(if negative { -value } else { value })
}

fn invalid<T>(message: impl Into<String>) -> Result<T, Error> {
    Err(Error::new(ErrorKind::InvalidArgument, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text<T: std::fmt::Debug>(result: Result<T, Error>) -> (ErrorKind, String) {
        let error = result.unwrap_err();
        (error.kind(), error.message().to_owned())
    }

    fn invalid_text(message: &str) -> (ErrorKind, String) {
        (ErrorKind::InvalidArgument, message.to_owned())
    }

    // miniflare: validator.worker.ts, validateKey
    #[test]
    fn keys_are_1_to_512_bytes_and_no_dots() {
        check_key("a/b c").unwrap();
        check_key("...").unwrap();
        check_key(&"é".repeat(256)).unwrap();
        assert_eq!(
            text(check_key("")),
            invalid_text("Key names must not be empty")
        );
        assert_eq!(
            text(check_key("..")),
            invalid_text("Illegal key name \"..\". Please use a different name.")
        );
        assert_eq!(
            text(check_key(&format!("{}x", "é".repeat(256)))),
            (
                ErrorKind::KeyTooLong,
                "UTF-8 encoded length of 513 exceeds key length limit of 512.".to_owned()
            )
        );
    }

    // miniflare: validator.worker.ts, validatePutOptions
    #[test]
    fn expirations_lie_60_seconds_ahead_and_the_ttl_wins() {
        let now_s = 1_000;
        let check = |expiration: Option<&str>, ttl: Option<&str>| {
            let options = KvPutOptions {
                metadata: None,
                expiration: expiration.map(str::to_owned),
                expiration_ttl: ttl.map(str::to_owned),
            };
            expiration_s(&options, now_s)
        };
        assert_eq!(check(None, None).unwrap(), None);
        assert_eq!(check(None, Some("60")).unwrap(), Some(1_060));
        assert_eq!(check(None, Some(" 120.7x")).unwrap(), Some(1_120));
        assert_eq!(check(Some("1060"), None).unwrap(), Some(1_060));
        assert_eq!(check(Some("1"), Some("100")).unwrap(), Some(1_100));
        assert_eq!(
            check(None, Some("99999999999999999999")).unwrap(),
            Some(i64::MAX as u64)
        );
        for ttl in ["0", "-1", "nix", ""] {
            assert_eq!(
                text(check(Some("2000"), Some(ttl))),
                invalid_text(&format!(
                    "Invalid expiration_ttl of {ttl}. Please specify integer greater than 0."
                ))
            );
        }
        assert_eq!(
            text(check(None, Some("59"))),
            invalid_text("Invalid expiration_ttl of 59. Expiration TTL must be at least 60.")
        );
        for expiration in ["1", "1000", "-5", "x"] {
            assert_eq!(
                text(check(Some(expiration), None)),
                invalid_text(&format!(
                    "Invalid expiration of {expiration}. Please specify integer greater than \
                     the current number of seconds since the UNIX epoch."
                ))
            );
        }
        assert_eq!(
            text(check(Some("1059"), None)),
            invalid_text(
                "Invalid expiration of 1059. Expiration times must be at least 60 seconds in \
                 the future."
            )
        );
    }

    // miniflare: validator.worker.ts; storage.md 1.2
    #[test]
    fn metadata_values_and_cache_ttls_have_their_limits() {
        let long = format!("\"{}\"", "x".repeat(1_022));
        assert_eq!(metadata(Some(long.clone())).unwrap(), Some(long.clone()));
        assert_eq!(
            text(metadata(Some(format!("{long} ")))),
            (
                ErrorKind::TooLarge,
                "Metadata length of 1025 exceeds limit of 1024.".to_owned()
            )
        );
        assert_eq!(metadata(Some("null".into())).unwrap(), None);
        metadata(Some("{\"a\":".into())).unwrap_err();
        check_value(26_214_400).unwrap();
        assert_eq!(
            text(check_value(26_214_401)),
            (
                ErrorKind::TooLarge,
                "Value length of 26214401 exceeds limit of 26214400.".to_owned()
            )
        );
        check_cache_ttl("30").unwrap();
        for (raw, shown) in [("5", "5"), ("-1", "-1"), ("x", "NaN")] {
            assert_eq!(
                text(check_cache_ttl(raw)),
                invalid_text(&format!(
                    "Invalid cache_ttl of {shown}. Cache TTL must be at least 30."
                ))
            );
        }
    }

    // miniflare: validator.worker.ts, validateListOptions
    #[test]
    fn list_limits_and_prefixes_are_checked() {
        let check = |limit, prefix: &str, cursor: Option<&str>| {
            list_range(&KvListOptions {
                limit,
                prefix: Some(prefix.to_owned()),
                cursor: cursor.map(str::to_owned),
            })
        };
        assert_eq!(check(None, "", None).unwrap().limit, 1_000);
        assert_eq!(check(Some(1_000), "", None).unwrap().limit, 1_000);
        assert_eq!(
            text(check(Some(0), "", None)),
            invalid_text("Invalid key_count_limit of 0. Please specify an integer greater than 0.")
        );
        assert_eq!(
            text(check(Some(1_001), "", None)),
            invalid_text(
                "Invalid key_count_limit of 1001. Please specify an integer less than 1000."
            )
        );
        assert_eq!(
            text(check(None, &"x".repeat(513), None)).0,
            ErrorKind::KeyTooLong
        );
        let range = check(None, "a", Some(&cursor("ab\u{1F600}"))).unwrap();
        assert_eq!(range.after.as_deref(), Some("ab\u{1F600}"));
        check(None, "", Some("not a cursor")).unwrap_err();
    }

    // storage.md 1.2
    #[test]
    fn bulks_have_1_to_100_keys() {
        check_bulk(&vec!["k".to_owned(); 100], 100).unwrap();
        assert_eq!(
            text(check_bulk(&vec!["k".to_owned(); 101], 100)),
            invalid_text("You can request a maximum of 100 keys")
        );
        assert_eq!(
            text(check_bulk(&[], 100)),
            invalid_text("You must request a minimum of 1 key")
        );
    }

    #[test]
    fn the_end_of_a_prefix_is_the_first_text_behind_it() {
        for (prefix, end) in [
            ("a", Some("b")),
            ("a\u{10FFFF}", Some("b")),
            ("\u{D7FF}", Some("\u{E000}")),
            ("\u{10FFFF}\u{10FFFF}", None),
            ("a\u{7F}", Some("a\u{80}")),
            ("", None),
        ] {
            assert_eq!(end_of_prefix(prefix).as_deref(), end, "{prefix:?}");
        }
    }
}
