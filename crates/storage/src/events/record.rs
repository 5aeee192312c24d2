//! A batch of points as bytes. All numbers are little-endian.

use engawa_model::DatasetName;

use super::{BatchKey, EventBatch, EventPoint};

/// The first byte of a payload; a new form gets a new one.
const FORM: u8 = 1;

pub(super) fn encode(batch: &EventBatch) -> Vec<u8> {
    let mut out = vec![FORM];
    out.extend(batch.received_ms.to_le_bytes());
    put_bytes(&mut out, batch.dataset.as_str().as_bytes());
    put_bytes(&mut out, batch.key.boot_id.as_bytes());
    out.extend(batch.key.number.to_le_bytes());
    put_len(&mut out, batch.points.len());
    for point in &batch.points {
        out.extend(point.timestamp_ms.to_le_bytes());
        put_optional(&mut out, point.index.as_deref());
        put_len(&mut out, point.doubles.len());
        for double in &point.doubles {
            out.extend(double.to_le_bytes());
        }
        put_len(&mut out, point.blobs.len());
        for blob in &point.blobs {
            put_optional(&mut out, blob.as_deref());
        }
    }
    out
}

/// `None` if it is not a payload of ours, or has more behind it.
pub(super) fn decode(payload: &[u8]) -> Option<EventBatch> {
    let mut rest = payload;
    if take::<1>(&mut rest)? != [FORM] {
        return None;
    }
    let received_ms = u64::from_le_bytes(take(&mut rest)?);
    let dataset = DatasetName::new(take_text(&mut rest)?);
    let boot_id = take_text(&mut rest)?;
    let number = u64::from_le_bytes(take(&mut rest)?);
    let points = take_list(&mut rest, |rest| {
        Some(EventPoint {
            timestamp_ms: u64::from_le_bytes(take(rest)?),
            index: take_optional(rest)?,
            doubles: take_list(rest, |rest| Some(f64::from_le_bytes(take(rest)?)))?,
            blobs: take_list(rest, take_optional)?,
        })
    })?;
    rest.is_empty().then_some(EventBatch {
        received_ms,
        dataset,
        key: BatchKey { boot_id, number },
        points,
    })
}

fn put_len(out: &mut Vec<u8>, len: usize) {
    // Longer than a batch may be, so that it is refused whole.
    out.extend(u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_len(out, bytes.len());
    out.extend(bytes);
}

fn put_optional(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    out.push(u8::from(bytes.is_some()));
    if let Some(bytes) = bytes {
        put_bytes(out, bytes);
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, behind) = rest.split_first_chunk::<N>()?;
    *rest = behind;
    Some(*taken)
}

fn take_len(rest: &mut &[u8]) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(take(rest)?)).ok()
}

fn take_bytes(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let len = take_len(rest)?;
    let (taken, behind) = rest.split_at_checked(len)?;
    *rest = behind;
    Some(taken.to_vec())
}

fn take_text(rest: &mut &[u8]) -> Option<String> {
    String::from_utf8(take_bytes(rest)?).ok()
}

#[expect(clippy::option_option, reason = "outside: damaged; inside: a null")]
fn take_optional(rest: &mut &[u8]) -> Option<Option<Vec<u8>>> {
    match take::<1>(rest)? {
        [0] => Some(None),
        [1] => Some(Some(take_bytes(rest)?)),
        _ => None,
    }
}

fn take_list<T>(rest: &mut &[u8], mut item: impl FnMut(&mut &[u8]) -> Option<T>) -> Option<Vec<T>> {
    let len = take_len(rest)?;
    // Grows as items are found: a damaged length allocates nothing.
    let mut items = Vec::new();
    for _ in 0..len {
        items.push(item(rest)?);
    }
    Some(items)
}
