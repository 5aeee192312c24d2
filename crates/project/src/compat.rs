//! Compatibility date and flags: what the user wrote, and what the pinned workerd runs.

use std::cmp;

/// Date and flags of a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compatibility {
    /// The date as written, `YYYY-MM-DD`; today's if the file has none.
    pub date: String,
    /// The date that workerd is given and that bundling follows: the same, or the newest
    /// that the pinned workerd knows, if that is older.
    pub effective_date: String,
    /// Flags as written, in order; none needs `--experimental`, none comes twice.
    pub flags: Vec<String>,
}

impl Compatibility {
    /// Whether a browser's navigation gets what `not_found_handling` of a Worker's assets
    /// says rather than the worker (workers-shared `compatibility-flags.ts`).
    pub fn navigation_prefers_assets(&self) -> bool {
        let has = |flag: &str| self.flags.iter().any(|given| given == flag);
        has("assets_navigation_prefers_asset_serving")
            || self.date.as_str() >= "2025-04-01" && !has("assets_navigation_has_no_effect")
    }
}

/// Why a compatibility date is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DateError {
    /// Not a day of the calendar, written `YYYY-MM-DD`.
    #[error(
        "\"compatibility_date\" field should be a valid ISO-8601 date (YYYY-MM-DD), but got {0:?}."
    )]
    Invalid(String),
    /// Written with typographic dashes.
    #[error(
        "\"compatibility_date\" field should use ISO-8601 accepted hyphens (-) rather than en-dashes (–) or em-dashes (—)."
    )]
    Dashes(String),
    /// Later than today (miniflare `plugins/core/index.ts`).
    #[error("Compatibility date {0:?} is in the future and unsupported")]
    Future(String),
}

/// The date that workerd is given for `written`: the same, or `newest` if that is older.
/// All three are `YYYY-MM-DD` in UTC, so that their order is that of their text.
pub fn effective_date(written: &str, today: &str, newest: &str) -> Result<String, DateError> {
    if written.contains(['–', '—']) {
        return Err(DateError::Dashes(written.to_owned()));
    }
    if !is_date(written) {
        return Err(DateError::Invalid(written.to_owned()));
    }
    if written > today {
        return Err(DateError::Future(written.to_owned()));
    }
    Ok(cmp::min(written, newest).to_owned())
}

/// Whether `text` is a day of the calendar, written `YYYY-MM-DD`.
pub fn is_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    let shaped = bytes.len() == 10
        && bytes.iter().enumerate().all(|(at, byte)| match at {
            4 | 7 => *byte == b'-',
            _ => byte.is_ascii_digit(),
        });
    if !shaped {
        return false;
    }
    let number = |range: std::ops::Range<usize>| text[range].parse::<u32>().unwrap_or(0);
    let (year, month, day) = (number(0..4), number(5..7), number(8..10));
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let days = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => 0,
    };
    (1..=days).contains(&day)
}

/// The UTC day of a time in milliseconds since 1970, `YYYY-MM-DD`.
pub fn date_of_ms(now_ms: u64) -> String {
    let days = now_ms / 86_400_000;
    // Years begin in March here, so that the day that a leap year adds is the last one; an
    // era is 400 years.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// Whether workerd takes a flag only with `--experimental`, which Engawa never passes:
/// it would unlock these for every worker.
///
/// workerd's `compatibility-date.capnp`; a flag that is newer than this list is refused by
/// workerd itself.
pub fn is_experimental_flag(flag: &str) -> bool {
    EXPERIMENTAL_FLAGS.contains(&flag)
}

const EXPERIMENTAL_FLAGS: &[&str] = &[
    "allow_insecure_inefficient_logged_eval",
    "auto_grpc_convert",
    "cache_reload_enabled",
    "connect_pass_through",
    "d1_binding_jsrpc",
    "durable_object_get_existing",
    "durable_object_rename",
    "enable_abortsignal_rpc",
    "enable_ctx_version_metadata",
    "enable_d1_with_sessions_api",
    "enable_nodejs_inspector_local_dev",
    "enable_version_api",
    "enable_web_file_system",
    "experimental",
    "expose_draining_reader",
    "increase_websocket_message_size",
    "js_rpc",
    "kv_direct_binding",
    "memory_cache_delete",
    "precise_timers",
    "python_workers_20260817",
    "python_workers_development",
    "python_workers_durable_objects",
    "replica_routing",
    "rtti_api",
    "service_binding_extra_handlers",
    "spec_compliant_property_attributes",
    "streaming_tail_worker",
    "streams_no_default_auto_allocate_chunk_size",
    "tail_worker_user_spans",
    "typescript_implemented_streams",
    "typescript_strip_types",
    "unsafe_module",
    "unsupported_process_actual_platform",
    "wasm_memory_discard",
    "webgpu",
    "workflows_bindings_rpc",
    "workflows_step_rollback",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_a_day_of_the_calendar() {
        for good in ["2024-12-15", "2024-02-29", "2000-02-29", "0001-01-01"] {
            assert!(is_date(good), "{good}");
        }
        for bad in [
            "20-1",
            "2023-02-29",
            "1900-02-29",
            "2024-13-01",
            "2024-00-01",
            "2024-04-31",
            "2024-1-5",
            "2024-12-15T00:00:00Z",
            "",
            "２０２４-1-1",
            "2024/12/15",
        ] {
            assert!(!is_date(bad), "{bad}");
        }
    }

    // miniflare: plugins/core/index.ts `validateCompatibilityDate`
    #[test]
    fn tomorrow_is_refused_and_today_is_not() {
        let at = |written| effective_date(written, "2026-11-24", "2026-11-24");
        assert_eq!(at("2026-11-24").unwrap(), "2026-11-24");
        assert_eq!(
            at("2026-11-25").unwrap_err().to_string(),
            "Compatibility date \"2026-11-25\" is in the future and unsupported"
        );
    }

    #[test]
    fn a_date_past_the_newest_of_workerd_runs_at_the_newest() {
        let at = |written| effective_date(written, "2026-11-24", "2026-10-24").unwrap();
        assert_eq!(at("2026-11-24"), "2026-10-24");
        assert_eq!(at("2026-10-23"), "2026-10-23");
    }

    #[test]
    fn milliseconds_become_the_utc_day() {
        assert_eq!(date_of_ms(0), "1970-01-01");
        assert_eq!(date_of_ms(86_400_000 - 1), "1970-01-01");
        assert_eq!(date_of_ms(951_782_400_000), "2000-02-29");
        assert_eq!(date_of_ms(1_795_478_400_000), "2026-11-24");
        assert_eq!(date_of_ms(4_107_542_400_000), "2100-03-01");
    }
}
