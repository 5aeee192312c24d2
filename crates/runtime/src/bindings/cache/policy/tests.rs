//! Which responses are stored, for how long, and which ranges are asked for.

use super::*;

const NOW_MS: u64 = 1_800_000_000_000;

type Lines<'a> = &'a [(&'a str, &'a str)];

fn headers(lines: &[(&str, &str)]) -> HeaderMap {
    lines
        .iter()
        .map(|(name, value)| {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            (name, HeaderValue::from_bytes(value.as_bytes()).unwrap())
        })
        .collect()
}

/// Seconds for which a response may be served; `None` when it may not be stored.
fn ttl(status: u16, lines: &[(&str, &str)]) -> Option<f64> {
    ttl_for(status, lines, &[])
}

fn ttl_for(status: u16, lines: &[(&str, &str)], asked: &[(&str, &str)]) -> Option<f64> {
    let status = StatusCode::from_u16(status).unwrap();
    let storable = storable(status, &headers(lines), &headers(asked), NOW_MS)?;
    Some(to_f64(storable.ttl_ms) / 1000.0)
}

fn at(offset_s: i64) -> String {
    http_date(NOW_MS.checked_add_signed(offset_s * 1000).unwrap())
}

// The rows follow http-cache-semantics 4.2.0 (`shared`, less its stale times) as its source reads.
#[test]
fn what_is_stored_and_for_how_long() {
    let (past, soon, later) = (at(-3600), at(60), at(3600));
    let cases: &[(u16, Lines<'_>, Option<f64>)] = &[
        (200, &[("cache-control", "max-age=60")], Some(60.0)),
        (
            200,
            &[("cache-control", "s-maxage=10, max-age=60")],
            Some(10.0),
        ),
        (
            200,
            &[("cache-control", "max-age=60"), ("expires", &past)],
            Some(60.0),
        ),
        (
            200,
            &[("cache-control", "max-age=60"), ("age", "20")],
            Some(40.0),
        ),
        (
            200,
            &[("cache-control", "max-age=60"), ("age", "90")],
            Some(0.0),
        ),
        (200, &[("cache-control", "max-age=x")], Some(0.0)),
        (200, &[("cache-control", "max-age=\"60\"")], Some(60.0)),
        (200, &[("expires", &soon)], Some(60.0)),
        (200, &[("expires", &later), ("date", &soon)], Some(3540.0)),
        (200, &[("expires", &past)], Some(0.0)),
        (200, &[("expires", "0")], Some(0.0)),
        (200, &[("last-modified", &past)], Some(360.0)),
        (200, &[("cache-control", "immutable")], Some(86_400.0)),
        (200, &[], Some(0.0)),
        (
            200,
            &[("cache-control", "no-cache"), ("expires", &soon)],
            Some(0.0),
        ),
        (
            200,
            &[("pragma", "no-cache"), ("expires", &soon)],
            Some(0.0),
        ),
        (
            200,
            &[("cache-control", "proxy-revalidate, max-age=60")],
            Some(0.0),
        ),
        (
            200,
            &[("cache-control", "must-revalidate, max-age=60")],
            Some(60.0),
        ),
        (200, &[("cache-control", "no-store, max-age=60")], None),
        (200, &[("cache-control", "private, max-age=60")], None),
        (
            200,
            &[("cache-control", "Private"), ("expires", &soon)],
            None,
        ),
        (404, &[("cache-control", "max-age=60")], Some(60.0)),
        (302, &[("cache-control", "max-age=60")], Some(60.0)),
        (302, &[("location", "/")], None),
        (500, &[("cache-control", "max-age=60")], None),
        (429, &[("cache-control", "public, max-age=60")], None),
        (206, &[("cache-control", "max-age=60")], None),
        // docs: runtime-apis/cache: neither is done.
        (
            200,
            &[(
                "cache-control",
                "max-age=1, stale-while-revalidate=60, stale-if-error=60",
            )],
            Some(1.0),
        ),
        (
            200,
            &[("vary", "Accept"), ("cache-control", "max-age=60")],
            Some(60.0),
        ),
    ];
    for (status, lines, expected) in cases {
        assert_eq!(ttl(*status, lines), *expected, "{status} {lines:?}");
    }
}

// docs: runtime-apis/cache; miniflare: `getExpiration`
#[test]
fn cookies_keep_a_response_out_unless_they_may_go() {
    let cookie = ("set-cookie", "a=b");
    assert_eq!(ttl(200, &[cookie, ("cache-control", "max-age=60")]), None);
    assert_eq!(
        ttl(200, &[cookie, ("cache-control", "public, max-age=60")]),
        None
    );
    let lines = [cookie, ("cache-control", "private=Set-Cookie, max-age=60")];
    let stored = storable(StatusCode::OK, &headers(&lines), &HeaderMap::new(), NOW_MS).unwrap();
    assert_eq!(stored.ttl_ms, 60_000);
    assert!(!stored.headers.contains_key("set-cookie"));
    assert_eq!(stored.headers["cache-control"], ", max-age=60");
}

// RFC 9111 3.5
#[test]
fn what_was_asked_for_with_credentials_is_stored_only_if_it_says_so() {
    let asked = [("authorization", "Bearer x"), ("cache-control", "no-store")];
    let with = |control| ttl_for(200, &[("cache-control", control)], &asked);
    assert_eq!(with("max-age=60"), None);
    assert_eq!(with("public, max-age=60"), Some(60.0));
    assert_eq!(with("s-maxage=60"), Some(60.0));
    assert_eq!(with("must-revalidate, max-age=60"), Some(60.0));
}

#[test]
fn what_belongs_to_the_connection_is_not_stored() {
    let lines = [
        ("cache-control", "max-age=60"),
        ("connection", "close, X-Hop"),
        ("x-hop", "1"),
        ("x-kept", "1"),
        ("transfer-encoding", "chunked"),
        ("content-length", "5"),
        ("date", "x"),
        ("cf-cache-status", "MISS"),
    ];
    let stored = storable(StatusCode::OK, &headers(&lines), &HeaderMap::new(), NOW_MS).unwrap();
    let mut names: Vec<_> = stored.headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["cache-control", "x-kept"]);
}

// miniflare: test/plugins/shared/range.spec.ts
#[test]
fn ranges_are_read_as_upstream_reads_them() {
    use Ranges::{Unsatisfiable, Whole};
    let parts = |parts: &[(u64, u64)]| {
        Ranges::Parts(parts.iter().map(|(start, end)| *start..*end).collect())
    };
    let cases = [
        // Units.
        ("bytes=0-1", parts(&[(0, 2)])),
        ("BYTES    =0-1", parts(&[(0, 2)])),
        ("     bYtEs=0-1", parts(&[(0, 2)])),
        ("    Bytes         =0-1", parts(&[(0, 2)])),
        ("nibbles=0-1", Unsatisfiable),
        ("0-1", Unsatisfiable),
        // One.
        ("bytes=1-3", parts(&[(1, 4)])),
        ("bytes=8-12", parts(&[(8, 10)])),
        ("bytes=5-5", parts(&[(5, 6)])),
        ("bytes=0-9", parts(&[(0, 10)])),
        ("bytes=3-2", Unsatisfiable),
        ("bytes=10-", Unsatisfiable),
        ("bytes=11-12", Unsatisfiable),
        ("bytes=2-", parts(&[(2, 10)])),
        ("bytes=-2", parts(&[(8, 10)])),
        ("bytes=-10", Whole),
        ("bytes=-11", Whole),
        ("bytes=-0", Whole),
        // Several.
        ("bytes=1-3,5-6", parts(&[(1, 4), (5, 7)])),
        ("bytes=  1 -  3 , -2,7-", parts(&[(1, 4), (8, 10), (7, 10)])),
        ("bytes=0-1,20-", Unsatisfiable),
        // None.
        ("bytes=", Whole),
        ("bytes=-", Unsatisfiable),
        ("bytes=x-2", Unsatisfiable),
        ("bytes=1-x", Unsatisfiable),
        ("bytes=1", Unsatisfiable),
        ("bytes=99999999999999999999-", Unsatisfiable),
        ("bytes=0-99999999999999999999", parts(&[(0, 10)])),
    ];
    for (text, expected) in cases {
        assert_eq!(ranges(text.as_bytes(), 10), expected, "{text}");
    }
    let many = format!("bytes={}", vec!["0-1"; RANGES_MAX + 1].join(","));
    assert_eq!(ranges(many.as_bytes(), 10), Whole);
}
