//! Conditions (storage.md 3.3, as in R2's own gateway; miniflare `validator.worker.ts`).

use super::types::{R2Conditional, R2Etag};

/// How a check of conditions ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Checked {
    Holds,
    /// Only conditions that caches use failed: an HTTP read answers 304.
    NotModified,
    /// `If-Match` or `If-Unmodified-Since` failed: 412.
    Failed,
}

/// What conditions look at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) etag: &'a str,
    pub(super) uploaded_ms: u64,
}

/// Checks conditions against an object, or against its absence.
pub(super) fn check(conditional: &R2Conditional, subject: Option<Subject<'_>>) -> Checked {
    let Some(subject) = subject else {
        let holds = conditional.etag_matches.is_none() && conditional.uploaded_after_ms.is_none();
        return if holds {
            Checked::Holds
        } else {
            Checked::Failed
        };
    };
    let time = |ms: i64| {
        if conditional.seconds_granularity {
            ms.div_euclid(1000)
        } else {
            ms
        }
    };
    let uploaded = time(i64::try_from(subject.uploaded_ms).unwrap_or(i64::MAX));
    let matches = conditional
        .etag_matches
        .as_ref()
        .map(|tags| any_equal(tags, subject.etag, Comparison::Strong));
    let differs = conditional
        .etag_does_not_match
        .as_ref()
        .map(|tags| !any_equal(tags, subject.etag, Comparison::Weak));
    // A tag says more than a date: where it was given and holds, the date is not asked.
    let after = differs == Some(true)
        || conditional
            .uploaded_after_ms
            .is_none_or(|ms| time(ms) < uploaded);
    let before = matches == Some(true)
        || conditional
            .uploaded_before_ms
            .is_none_or(|ms| uploaded < time(ms));
    if matches == Some(false) || !before {
        Checked::Failed
    } else if differs == Some(false) || !after {
        Checked::NotModified
    } else {
        Checked::Holds
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Comparison {
    Strong,
    Weak,
}

fn any_equal(tags: &[R2Etag], etag: &str, comparison: Comparison) -> bool {
    tags.iter().any(|tag| match tag {
        R2Etag::Wildcard => true,
        R2Etag::Strong(value) => value == etag,
        R2Etag::Weak(value) => comparison == Comparison::Weak && value == etag,
    })
}
