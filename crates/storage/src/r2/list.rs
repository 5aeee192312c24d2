//! A page of a list, out of anything that yields keys in order (storage.md 3.5).
//!
//! Keys are compared as bytes. With a delimiter, all keys that have it after the prefix
//! fold into one entry, and the walk jumps behind the group instead of through it, so a
//! folder of a million objects costs one look-up. A cursor is a place: directly behind the
//! last key of its page, or behind the whole of the last group. So keys that are put behind
//! it before the next page is asked for are on that page.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use engawa_model::limits;

use super::error::{R2Code, R2Error};
use super::types::{R2List, R2ListRequest, R2Object};
use crate::Error;

/// How much included metadata a page may hold (docs: r2 `list`, "include").
const INCLUDED_BYTES: usize = 256 * 1024;
/// How long a page's JSON may grow: the runtime refuses more than 1 MiB.
const PAGE_BYTES: usize = 960 * 1024;
/// The JSON of an object without its texts: names of fields, numbers, hex digits.
const OBJECT_BYTES: usize = 600;

/// Keys in order, and a way to jump.
pub(super) trait Ordered {
    /// Goes to the first key that is not less than `from`.
    fn seek(&mut self, from: &[u8]) -> Result<(), Error>;

    /// The object here with the key's identity, and one step on.
    fn next(&mut self) -> Result<Option<Entry>, Error>;
}

/// An object with the bytes that give its order.
pub(super) struct Entry {
    pub(super) identity: Vec<u8>,
    pub(super) object: R2Object,
}

/// A checked request, with its texts in the form in which keys are compared.
pub(super) struct Plan {
    prefix: Vec<u8>,
    delimiter: Vec<u8>,
    from: Vec<u8>,
    limit: usize,
}

impl Plan {
    /// Checks a request. `identity` gives the form in which texts are compared.
    pub(super) fn new(
        request: &R2ListRequest,
        identity: impl Fn(&str) -> String,
    ) -> Result<Self, R2Error> {
        let limit = match request.limit {
            None => limits::R2_LIST_KEYS,
            Some(limit) => usize::try_from(limit)
                .ok()
                .filter(|limit| (1..=limits::R2_LIST_KEYS).contains(limit))
                .ok_or(R2Code::InvalidMaxKeys)?,
        };
        let prefix = identity(&request.prefix).into_bytes();
        let mut from = prefix.clone();
        if let Some(after) = &request.start_after {
            let mut after = identity(after).into_bytes();
            after.push(0);
            from = from.max(after);
        }
        if let Some(cursor) = &request.cursor {
            let place = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| {
                R2Error::new(
                    R2Code::InvalidArgument,
                    "The cursor is not one that a list returned.",
                )
            })?;
            from = from.max(place);
        }
        Ok(Self {
            delimiter: identity(&request.delimiter).into_bytes(),
            prefix,
            from,
            limit,
        })
    }

    /// Collects the page.
    pub(super) fn run(self, keys: &mut impl Ordered) -> Result<R2List, Error> {
        let mut page = R2List::default();
        let (mut included, mut total) = (0, 0);
        let mut reached = self.from.clone();
        keys.seek(&self.from)?;
        while let Some(Entry { identity, object }) = keys.next()? {
            if !identity.starts_with(&self.prefix) {
                break;
            }
            let metadata = metadata_bytes(&object);
            let size = metadata + OBJECT_BYTES + json_bytes(&object.key);
            let entries = page.objects.len() + page.delimited_prefixes.len();
            let is_full = entries == self.limit
                || (entries > 0
                    && (included + metadata > INCLUDED_BYTES || total + size > PAGE_BYTES));
            if is_full {
                page.cursor = Some(URL_SAFE_NO_PAD.encode(&reached));
                break;
            }
            total += size;
            let Some(group) = self.group(&identity) else {
                included += metadata;
                page.objects.push(object);
                reached = identity;
                reached.push(0);
                continue;
            };
            let end = successor(group);
            page.delimited_prefixes
                .push(String::from_utf8_lossy(group).into_owned());
            match end {
                Some(end) => {
                    keys.seek(&end)?;
                    reached = end;
                }
                None => break,
            }
        }
        Ok(page)
    }

    /// The key up to and including the first delimiter behind the prefix.
    fn group<'a>(&self, key: &'a [u8]) -> Option<&'a [u8]> {
        if self.delimiter.is_empty() {
            return None;
        }
        let at = key[self.prefix.len()..]
            .windows(self.delimiter.len())
            .position(|window| window == self.delimiter)?;
        Some(&key[..self.prefix.len() + at + self.delimiter.len()])
    }
}

/// The smallest key that is greater than every key with this prefix.
fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

fn metadata_bytes(object: &R2Object) -> usize {
    let http = &object.http_metadata;
    let http: usize = [
        &http.content_type,
        &http.content_language,
        &http.content_disposition,
        &http.content_encoding,
        &http.cache_control,
    ]
    .into_iter()
    .flatten()
    .map(|text| json_bytes(text) + 24)
    .sum();
    let custom: usize = object
        .custom_metadata
        .iter()
        .map(|(name, value)| json_bytes(name) + json_bytes(value) + 16)
        .sum();
    http + custom
}

/// The length of a text in JSON, without its quotes.
fn json_bytes(text: &str) -> usize {
    text.bytes()
        .map(|byte| match byte {
            b'"' | b'\\' => 2,
            0..=0x1f => 6,
            _ => 1,
        })
        .sum()
}
