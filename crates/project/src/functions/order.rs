//! The order of routes (pages.md 5.2): what is more specific comes first.

use std::cmp::Ordering;

use super::Route;

/// Most specific first.
pub(super) fn compare_routes(a: &Route, b: &Route) -> Ordering {
    compare_paths(&a.path, &b.path, |segment| {
        (segment.contains('*'), segment.contains(':'))
    })
    .then_with(|| a.method.is_none().cmp(&b.method.is_none()))
    .then_with(|| compare_text(&a.path, &b.path))
}

/// The same for the rules of a `_routes.json`, where only `*` is special.
pub(super) fn compare_rules(a: &str, b: &str) -> Ordering {
    compare_paths(a, b, |segment| segment.contains('*')).then_with(|| compare_text(a, b))
}

/// More segments first; then, from the left, the segment of the lower rank first.
fn compare_paths<R: Ord>(a: &str, b: &str, rank: impl Fn(&str) -> R) -> Ordering {
    let segments = |path: &str| -> Vec<R> {
        path.split('/')
            .filter(|segment| !segment.is_empty())
            .map(&rank)
            .collect()
    };
    let (a, b) = (segments(a), segments(b));
    b.len().cmp(&a.len()).then_with(|| a.cmp(&b))
}

/// JavaScript's `localeCompare` on the characters that URLs are made of: punctuation
/// before digits before letters, and case decides only between texts that are equal
/// otherwise. Other characters come last, by code point: a route with one is never
/// matched, since requests are compared while still percent-encoded.
pub(super) fn compare_text(a: &str, b: &str) -> Ordering {
    let primary = |text: &str| text.chars().map(primary_weight).collect::<Vec<_>>();
    let case = |text: &str| text.chars().map(char::is_uppercase).collect::<Vec<_>>();
    primary(a)
        .cmp(&primary(b))
        .then_with(|| case(a).cmp(&case(b)))
        .then_with(|| a.cmp(b))
}

/// The order of ASCII in the root collation of CLDR.
const ASCII_ORDER: &str = " _-,;:!?.'\"()[]{}@*/\\&#%`^+<=>|~$0123456789abcdefghijklmnopqrstuvwxyz";

fn primary_weight(c: char) -> u32 {
    let lower = c.to_ascii_lowercase();
    match ASCII_ORDER.find(lower) {
        Some(position) if lower.is_ascii() => u32::try_from(position).unwrap_or(u32::MAX),
        _ => 1000 + u32::from(c),
    }
}
