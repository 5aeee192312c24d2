//! What may be stored: keys, metadata, sizes, and which parts make an object
//! (storage.md 3.1, 3.2, 3.6).

use std::borrow::Cow;

use engawa_model::limits;
use md5::{Digest as _, Md5};
use unicode_normalization::{UnicodeNormalization as _, is_nfc};

use super::error::{R2Code, R2Error, hex};
use super::types::R2UploadedPart;
use crate::seal::CustomerKey;
use crate::{DigestKind, Digests};

/// A key within its limit. (R2's limits page gives no lower one: an empty key passes here
/// as in miniflare.)
pub(super) fn check_key(key: &str) -> Result<(), R2Error> {
    if key.len() > limits::R2_KEY_BYTES {
        return Err(R2Code::InvalidObjectName.into());
    }
    Ok(())
}

/// What tells keys apart: their canonical composition (docs: r2 unicode
/// interoperability).
pub(super) fn identity(key: &str) -> Cow<'_, str> {
    if key.is_ascii() || is_nfc(key) {
        Cow::Borrowed(key)
    } else {
        Cow::Owned(key.nfc().collect())
    }
}

/// Custom metadata within its limit. Counted as R2's gateway does: a byte a UTF-16 unit,
/// two if any unit of the text is 256 or above (miniflare `validator.worker.ts`).
pub(super) fn check_metadata(custom: &[(String, String)]) -> Result<(), R2Error> {
    fn counted(text: &str) -> usize {
        let units = text.encode_utf16().count();
        let is_wide = text.chars().any(|character| u32::from(character) >= 256);
        if is_wide { units * 2 } else { units }
    }
    let size: usize = custom
        .iter()
        .map(|(name, value)| counted(name) + counted(value))
        .sum();
    if size > limits::R2_METADATA_BYTES {
        return Err(R2Code::MetadataTooLarge.into());
    }
    Ok(())
}

/// Whether a read came with the customer's key that the value is under, or with none if it
/// is under none. (The texts are S3's: those of R2's binding are not published.)
pub(super) fn check_customer_key(
    stored_with: Option<[u8; 16]>,
    given: Option<&CustomerKey>,
) -> Result<(), R2Error> {
    let message = match (stored_with, given) {
        (None, None) => return Ok(()),
        (Some(md5), Some(key)) if md5 == key.md5() => return Ok(()),
        (None, Some(_)) => "The encryption parameters are not applicable to this object.",
        (Some(_), None) => {
            "The object was stored using a form of Server Side Encryption. The correct parameters \
             must be provided to retrieve the object."
        }
        (Some(_), Some(_)) => {
            "The provided encryption parameters did not match the ones used originally."
        }
    };
    Err(R2Error::new(R2Code::InvalidArgument, message))
}

/// Whether a part came with the customer's key that its upload was begun with.
pub(super) fn check_part_key(
    begun_with: Option<[u8; 16]>,
    given: Option<[u8; 16]>,
) -> Result<(), R2Error> {
    let message = match (begun_with, given) {
        (begun_with, given) if begun_with == given => return Ok(()),
        (None, _) => "The multipart upload initiate did not request encryption.",
        (Some(_), None) => {
            "The multipart upload initiate requested encryption. Subsequent part requests must \
             include the appropriate encryption parameters."
        }
        (Some(_), Some(_)) => {
            "The provided encryption parameters did not match the ones used originally."
        }
    };
    Err(R2Error::new(R2Code::InvalidArgument, message))
}

/// The digests that a put asked to be checked, against those of what came.
pub(super) fn check_digests(wanted: &Digests, actual: &Digests) -> Result<(), R2Error> {
    fn check<const N: usize>(
        kind: DigestKind,
        wanted: Option<[u8; N]>,
        actual: Option<[u8; N]>,
    ) -> Result<(), R2Error> {
        match (wanted, actual) {
            (Some(wanted), Some(actual)) if wanted == actual => Ok(()),
            (Some(wanted), Some(actual)) => Err(R2Error::bad_digest(kind, &wanted, &actual)),
            (Some(_), None) => Err(R2Error::new(
                R2Code::InternalError,
                "a defect: a digest was to be checked and was not computed",
            )),
            (None, _) => Ok(()),
        }
    }
    check(DigestKind::Md5, wanted.md5, actual.md5)?;
    check(DigestKind::Sha1, wanted.sha1, actual.sha1)?;
    check(DigestKind::Sha256, wanted.sha256, actual.sha256)?;
    check(DigestKind::Sha384, wanted.sha384, actual.sha384)?;
    check(DigestKind::Sha512, wanted.sha512, actual.sha512)
}

/// A part that is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoredPart {
    pub(super) number: u32,
    pub(super) size_bytes: u64,
    pub(super) md5: [u8; 16],
}

/// The parts of the finished object in their order, or why there is none. `stored` is
/// sorted by number. The order of the checks is miniflare's (`bucket.worker.ts`), so that the same mistake gives the
/// same error.
pub(super) fn choose_parts(
    stored: &[StoredPart],
    chosen: &[R2UploadedPart],
    part_min_bytes: u64,
) -> Result<Vec<StoredPart>, R2Error> {
    let mut numbers: Vec<u32> = chosen.iter().map(|part| part.part_number).collect();
    numbers.sort_unstable();
    if numbers.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(R2Code::InternalError.into());
    }
    let mut parts = chosen
        .iter()
        .map(|part| {
            stored
                .binary_search_by_key(&part.part_number, |stored| stored.number)
                .ok()
                .map(|at| stored[at].clone())
                .filter(|stored| hex(&stored.md5) == part.etag)
                .ok_or(R2Code::InvalidPart)
        })
        .collect::<Result<Vec<_>, _>>()?;
    let Some((_, all_but_last)) = parts.split_last() else {
        return Ok(parts);
    };
    if all_but_last
        .iter()
        .any(|part| part.size_bytes < part_min_bytes)
    {
        return Err(R2Code::EntityTooSmall.into());
    }
    parts.sort_unstable_by_key(|part| part.number);
    if let Some((last, [first, middle @ ..])) = parts.split_last() {
        let uniform = first.size_bytes >= part_min_bytes
            && middle
                .iter()
                .all(|part| part.size_bytes == first.size_bytes)
            && last.size_bytes <= first.size_bytes;
        if !uniform {
            return Err(R2Code::BadUpload.into());
        }
    }
    Ok(parts)
}

/// The etag of an object made of parts.
pub(super) fn multipart_etag(parts: &[StoredPart]) -> String {
    let mut hasher = Md5::new();
    for part in parts {
        hasher.update(part.md5);
    }
    format!("{}-{}", hex(&hasher.finalize()), parts.len())
}
