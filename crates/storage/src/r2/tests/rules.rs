//! The rules that need no file.

use super::super::conditional::{Checked, Subject, check};
use super::super::range::resolve;
use super::super::rules::*;
use super::*;
use R2Etag::{Strong, Weak, Wildcard};

const UPLOADED: i64 = 1_700_000_000_500;

fn on_object(conditional: &R2Conditional) -> Checked {
    let subject = Subject {
        etag: "abc",
        uploaded_ms: UPLOADED.cast_unsigned(),
    };
    check(conditional, Some(subject))
}

// miniflare: r2/validator.worker.ts `_testR2Conditional`, test/plugins/r2/validator.spec.ts
#[test]
fn etag_matches_compares_strongly_and_a_star_always_matches() {
    for (given, expected) in [
        (vec![Strong("abc".into())], Checked::Holds),
        (
            vec![Strong("x".into()), Strong("abc".into())],
            Checked::Holds,
        ),
        (vec![Wildcard], Checked::Holds),
        (vec![Weak("abc".into())], Checked::Failed),
        (vec![Strong("x".into())], Checked::Failed),
        (vec![], Checked::Failed),
    ] {
        let conditional = R2Conditional {
            etag_matches: Some(given.clone()),
            ..R2Conditional::default()
        };
        assert_eq!(on_object(&conditional), expected, "{given:?}");
    }
}

// miniflare: the same
#[test]
fn etag_does_not_match_compares_weakly_and_a_star_never_holds() {
    for (given, expected) in [
        (vec![Strong("abc".into())], Checked::NotModified),
        (vec![Weak("abc".into())], Checked::NotModified),
        (vec![Wildcard], Checked::NotModified),
        (vec![Strong("x".into()), Weak("y".into())], Checked::Holds),
        (vec![], Checked::Holds),
    ] {
        let conditional = R2Conditional {
            etag_does_not_match: Some(given.clone()),
            ..R2Conditional::default()
        };
        assert_eq!(on_object(&conditional), expected, "{given:?}");
    }
}

// miniflare: the same; unlike RFC 9110 both comparisons are strict
#[test]
fn dates_compare_strictly_and_in_whole_seconds_if_asked() {
    let before = |ms, seconds_granularity| {
        on_object(&R2Conditional {
            uploaded_before_ms: Some(ms),
            seconds_granularity,
            ..R2Conditional::default()
        })
    };
    let after = |ms, seconds_granularity| {
        on_object(&R2Conditional {
            uploaded_after_ms: Some(ms),
            seconds_granularity,
            ..R2Conditional::default()
        })
    };
    assert_eq!(before(UPLOADED, false), Checked::Failed);
    assert_eq!(before(UPLOADED + 1, false), Checked::Holds);
    assert_eq!(before(UPLOADED + 499, true), Checked::Failed);
    assert_eq!(before(UPLOADED + 500, true), Checked::Holds);
    assert_eq!(after(UPLOADED, false), Checked::NotModified);
    assert_eq!(after(UPLOADED - 1, false), Checked::Holds);
    assert_eq!(after(UPLOADED - 500, true), Checked::NotModified);
    assert_eq!(after(UPLOADED - 501, true), Checked::Holds);
    assert_eq!(after(-1, true), Checked::Holds);
}

// miniflare: the same; RFC 9110 13.2.2
#[test]
fn a_tag_that_was_given_and_holds_makes_its_date_irrelevant() {
    let far = UPLOADED + 1_000_000;
    assert_eq!(
        on_object(&R2Conditional {
            etag_matches: Some(vec![Strong("abc".into())]),
            uploaded_before_ms: Some(0),
            ..R2Conditional::default()
        }),
        Checked::Holds
    );
    assert_eq!(
        on_object(&R2Conditional {
            etag_does_not_match: Some(vec![Strong("x".into())]),
            uploaded_after_ms: Some(far),
            ..R2Conditional::default()
        }),
        Checked::Holds
    );
    // The other way round it does not help, and not across the pairs.
    assert_eq!(
        on_object(&R2Conditional {
            etag_matches: Some(vec![Strong("x".into())]),
            uploaded_before_ms: Some(far),
            ..R2Conditional::default()
        }),
        Checked::Failed
    );
    assert_eq!(
        on_object(&R2Conditional {
            etag_matches: Some(vec![Strong("abc".into())]),
            uploaded_after_ms: Some(far),
            ..R2Conditional::default()
        }),
        Checked::NotModified
    );
}

// storage.md 3.3: 412 if If-Match or If-Unmodified-Since is among the failures, else 304
#[test]
fn a_failed_match_outweighs_a_cache_that_is_fresh() {
    assert_eq!(
        on_object(&R2Conditional {
            etag_matches: Some(vec![Strong("x".into())]),
            etag_does_not_match: Some(vec![Wildcard]),
            ..R2Conditional::default()
        }),
        Checked::Failed
    );
}

// miniflare: the same, `metadata === undefined`
#[test]
fn for_an_absent_object_only_match_and_after_fail() {
    let all = [Some(vec![Wildcard]), None];
    for etag_matches in all.clone() {
        for etag_does_not_match in all.clone() {
            for uploaded_after_ms in [Some(0), None] {
                for uploaded_before_ms in [Some(0), None] {
                    let conditional = R2Conditional {
                        etag_matches: etag_matches.clone(),
                        etag_does_not_match: etag_does_not_match.clone(),
                        uploaded_after_ms,
                        uploaded_before_ms,
                        seconds_granularity: false,
                    };
                    let holds = etag_matches.is_none() && uploaded_after_ms.is_none();
                    assert_eq!(check(&conditional, None) == Checked::Holds, holds);
                }
            }
        }
    }
}

fn bytes(offset: Option<u64>, length: Option<u64>) -> R2RangeRequest {
    R2RangeRequest::Bytes { offset, length }
}

// miniflare: r2/validator.worker.ts `range`; docs: r2 workers api, "ranged reads"
#[test]
fn ranges_are_cut_at_the_end_and_refused_when_nothing_is_left() {
    let ok = |offset, length| Some((offset, length));
    for (request, size, expected) in [
        (bytes(Some(2), Some(3)), 10, ok(2, 3)),
        (bytes(None, Some(3)), 10, ok(0, 3)),
        (bytes(Some(4), None), 10, ok(4, 6)),
        (bytes(None, None), 10, ok(0, 10)),
        (bytes(Some(4), Some(u64::MAX)), 10, ok(4, 6)),
        (bytes(Some(10), None), 10, None),
        (bytes(Some(11), Some(1)), 10, None),
        (bytes(Some(3), Some(0)), 10, None),
        (bytes(None, None), 0, None),
        (R2RangeRequest::Suffix(3), 10, ok(7, 3)),
        (R2RangeRequest::Suffix(11), 10, ok(0, 10)),
        (R2RangeRequest::Suffix(0), 10, None),
        (R2RangeRequest::Suffix(1), 0, None),
    ] {
        let found = resolve(Some(&request), size);
        let found = found.map(|range| (range.offset, range.length)).ok();
        assert_eq!(found, expected, "{request:?} of {size}");
    }
    assert_eq!(
        resolve(Some(&R2RangeRequest::Suffix(0)), 1),
        Err(R2Code::InvalidRange)
    );
}

// miniflare: shared/range.ts `parseRanges`, test/plugins/shared/range.spec.ts
#[test]
fn a_range_header_with_one_range_in_the_object_counts_and_any_other_is_ignored() {
    for (header, offset, length) in [
        ("bytes=0-1", 0, 2),
        ("bytes=2-", 2, 8),
        ("bytes=-3", 7, 3),
        ("bytes=5-100", 5, 5),
        ("bytes=-100", 0, 10),
        ("  BYTES =  1  -   2  ", 1, 2),
        ("bytes=3-18446744073709551616", 3, 7),
    ] {
        let range = resolve(Some(&R2RangeRequest::Header(header.into())), 10);
        assert_eq!(range, Ok(R2Range { offset, length }), "{header}");
    }
    for header in [
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes=2-1",
        "bytes=10-",
        "bytes=-0",
        "bytes=0-1,3-4",
        "bytes=1",
        "lines=0-1",
        "bytes=0-1-2",
        "bytes=+1-2",
    ] {
        let range = resolve(Some(&R2RangeRequest::Header(header.into())), 10);
        let whole = R2Range {
            offset: 0,
            length: 10,
        };
        assert_eq!(range, Ok(whole), "{header}");
    }
}

// docs: r2 limits (8,192 bytes); miniflare: validator.worker.ts `serialisedLength`
#[test]
fn metadata_counts_a_byte_a_character_and_two_if_any_is_wide() {
    let check = |name: &str, value: String| {
        check_metadata(&[(name.to_owned(), value)]).map_err(|error| error.code())
    };
    assert_eq!(check("k", "v".repeat(8191)), Ok(()));
    assert_eq!(check("k", "v".repeat(8192)), Err(R2Code::MetadataTooLarge));
    assert_eq!(check("k", "ÿ".repeat(8191)), Ok(()));
    assert_eq!(check("kk", "Ā".repeat(4095)), Ok(()));
    assert_eq!(check("k", "Ā".repeat(4096)), Err(R2Code::MetadataTooLarge));
    // Two UTF-16 units each.
    assert_eq!(check("", "😀".repeat(2048)), Ok(()));
    assert_eq!(check("k", "😀".repeat(2048)), Err(R2Code::MetadataTooLarge));
}

// docs: r2 limits
#[test]
fn a_key_has_at_most_1024_bytes() {
    check_key(&"é".repeat(512)).unwrap();
    let error = check_key(&"a".repeat(1025)).unwrap_err();
    assert_eq!(error.code(), R2Code::InvalidObjectName);
    assert_eq!(error.message(), "The specified object name is not valid.");
}

// docs: r2 error codes; miniflare: r2/errors.worker.ts
#[test]
fn codes_have_cloudflares_numbers_and_statuses() {
    for (code, number, status) in [
        (R2Code::InternalError, 10001, 500),
        (R2Code::NoSuchBucket, 10006, 404),
        (R2Code::NoSuchKey, 10007, 404),
        (R2Code::EntityTooSmall, 10011, 400),
        (R2Code::MetadataTooLarge, 10012, 400),
        (R2Code::InvalidObjectName, 10020, 400),
        (R2Code::InvalidMaxKeys, 10022, 400),
        (R2Code::NoSuchUpload, 10024, 400),
        (R2Code::InvalidPart, 10025, 400),
        (R2Code::InvalidArgument, 10029, 400),
        (R2Code::PreconditionFailed, 10031, 412),
        (R2Code::BadDigest, 10037, 400),
        (R2Code::InvalidRange, 10039, 416),
        (R2Code::BadUpload, 10048, 500),
        (R2Code::EntityTooLarge, 100_100, 400),
    ] {
        assert_eq!((code.number(), code.http_status()), (number, status));
    }
}

fn stored(sizes: &[u64]) -> Vec<StoredPart> {
    sizes
        .iter()
        .zip(1_u8..)
        .map(|(size_bytes, number)| StoredPart {
            number: number.into(),
            size_bytes: *size_bytes,
            md5: [number; 16],
        })
        .collect()
}

fn chosen(numbers: &[u8]) -> Vec<R2UploadedPart> {
    numbers
        .iter()
        .map(|number| R2UploadedPart {
            part_number: (*number).into(),
            etag: error::hex(&[*number; 16]),
        })
        .collect()
}

fn choose(sizes: &[u64], numbers: &[u8]) -> Result<Vec<u32>, R2Code> {
    choose_parts(&stored(sizes), &chosen(numbers), 50)
        .map(|parts| parts.iter().map(|part| part.number).collect())
        .map_err(|error| error.code())
}

// miniflare: r2/bucket.worker.ts `completeMultipartUpload`; docs: r2 multipart objects
#[test]
fn parts_are_equal_but_the_last_which_may_be_smaller() {
    assert_eq!(choose(&[50, 50, 20], &[1, 2, 3]), Ok(vec![1, 2, 3]));
    assert_eq!(choose(&[60, 60, 60], &[1, 2, 3]), Ok(vec![1, 2, 3]));
    assert_eq!(choose(&[1], &[1]), Ok(vec![1]));
    assert_eq!(choose(&[50, 50, 50], &[1, 3]), Ok(vec![1, 3]));
    assert_eq!(choose(&[49, 50], &[1, 2]), Err(R2Code::EntityTooSmall));
    assert_eq!(choose(&[50, 60, 50], &[1, 2, 3]), Err(R2Code::BadUpload));
    assert_eq!(choose(&[50, 51], &[1, 2]), Err(R2Code::BadUpload));
}

// miniflare: the same: sizes are checked in the order given, then in that of the numbers
#[test]
fn parts_may_be_named_in_any_order_but_the_small_one_must_be_the_last_by_number() {
    assert_eq!(choose(&[50, 50, 50], &[3, 1, 2]), Ok(vec![1, 2, 3]));
    assert_eq!(
        choose(&[50, 50, 20], &[3, 1, 2]),
        Err(R2Code::EntityTooSmall)
    );
    assert_eq!(choose(&[20, 50, 50], &[3, 2, 1]), Err(R2Code::BadUpload));
}

// miniflare: the same
#[test]
fn a_part_named_twice_or_with_another_etag_is_refused() {
    assert_eq!(choose(&[50, 50], &[1, 1]), Err(R2Code::InternalError));
    assert_eq!(choose(&[50], &[1, 2]), Err(R2Code::InvalidPart));
    let mut wrong = chosen(&[1]);
    wrong[0].etag = "x".into();
    let error = choose_parts(&stored(&[50]), &wrong, 50).unwrap_err();
    assert_eq!(error.code(), R2Code::InvalidPart);
    assert_eq!(
        error.message(),
        "One or more of the specified parts could not be found."
    );
}

// docs: r2 multipart objects, "ETags"
#[test]
fn the_etag_of_parts_is_the_md5_of_their_md5s_and_their_number() {
    let mut parts = stored(&[50, 50]);
    // md5("a"), md5("b")
    parts[0].md5 = 0x0cc1_75b9_c0f1_b6a8_31c3_99e2_6977_2661_u128.to_be_bytes();
    parts[1].md5 = 0x92eb_5ffe_e6ae_2fec_3ad7_1c77_7531_578f_u128.to_be_bytes();
    assert_eq!(multipart_etag(&parts), "96e024ba2074fe77e8e965ba43a704be-2");
}
