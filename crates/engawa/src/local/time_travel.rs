//! `engawa d1 time-travel`: wrangler's words, options and texts
//! (`packages/wrangler/src/d1/timeTravel`).

use std::io::{BufRead as _, IsTerminal as _};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::bail;
use clap::Subcommand;
use engawa_api::client::{Client, segment};
use engawa_model::Clock;

use crate::terminal;

/// How far back a timestamp may be, in milliseconds.
const KEPT_MS: u64 = 30 * 24 * 60 * 60 * 1000;

/// What to do with a database's history.
#[derive(Subcommand)]
pub(crate) enum TimeTravelCommand {
    /// Retrieve information about a database at a specific point-in-time using Time Travel.
    Info {
        /// The database's name or binding.
        database: String,
        /// Accepts a Unix (seconds from epoch) or RFC3339 timestamp (e.g.
        /// 2023-07-13T08:46:42.228Z) to retrieve a bookmark for.
        #[arg(long)]
        timestamp: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Restore a database back to a specific point-in-time.
    Restore {
        /// The database's name or binding.
        database: String,
        /// Bookmark to use for time travel.
        #[arg(long)]
        bookmark: Option<String>,
        /// Accepts a Unix (seconds from epoch) or RFC3339 timestamp (e.g.
        /// 2023-07-13T08:46:42.228Z) to retrieve a bookmark for (within the last 30 days).
        #[arg(long)]
        timestamp: Option<String>,
        /// Print JSON, and ask nothing.
        #[arg(long)]
        json: bool,
    },
}

impl TimeTravelCommand {
    /// The database that it is about.
    pub(super) fn database(&self) -> &str {
        match self {
            Self::Info { database, .. } | Self::Restore { database, .. } => database,
        }
    }

    /// Refuses options that do not go together.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let Self::Restore {
            bookmark,
            timestamp,
            ..
        } = self
        else {
            return Ok(());
        };
        match (timestamp, bookmark) {
            (Some(_), Some(_)) => bail!(
                "Cannot use --timestamp and --bookmark together. Provide only one: --timestamp to restore to a point in time, or --bookmark to restore to a specific bookmark."
            ),
            (None, None) => bail!(
                "Missing required option --timestamp or --bookmark. Provide --timestamp to restore to a point in time (e.g. --timestamp=2023-07-13T08:46:42.228Z), or --bookmark to restore to a specific bookmark."
            ),
            _ => Ok(()),
        }
    }
}

/// Runs a command on the database at `path` of the API.
pub(super) async fn run(
    client: &Client,
    path: &str,
    command: TimeTravelCommand,
) -> anyhow::Result<()> {
    match command {
        TimeTravelCommand::Info {
            database,
            timestamp,
            json,
        } => info(client, path, &database, timestamp.as_deref(), json).await,
        TimeTravelCommand::Restore {
            database,
            bookmark,
            timestamp,
            json,
        } => {
            let bookmark = match (bookmark, timestamp) {
                (Some(bookmark), _) => bookmark,
                (None, timestamp) => bookmark_at(client, path, timestamp.as_deref()).await?,
            };
            restore(client, path, &database, &bookmark, json).await
        }
    }
}

async fn info(
    client: &Client,
    path: &str,
    database: &str,
    timestamp: Option<&str>,
    as_json: bool,
) -> anyhow::Result<()> {
    let bookmark = bookmark_at(client, path, timestamp).await?;
    if as_json {
        let shown = serde_json::json!({ "bookmark": bookmark });
        terminal::output(&format!("{shown:#}"));
        return Ok(());
    }
    terminal::output("🚧 Time Traveling...");
    terminal::output(&match timestamp {
        Some(timestamp) => {
            format!("⚠️ Timestamp '{timestamp}' corresponds with bookmark '{bookmark}'")
        }
        None => format!("⚠️ The current bookmark is '{bookmark}'"),
    });
    terminal::output(&format!(
        "⚡️ To restore to this specific bookmark, run:\n `engawa d1 time-travel restore {database} --bookmark={bookmark}`\n"
    ));
    Ok(())
}

async fn restore(
    client: &Client,
    path: &str,
    database: &str,
    bookmark: &str,
    as_json: bool,
) -> anyhow::Result<()> {
    if !as_json {
        terminal::output(&format!(
            "🚧 Restoring database {database} from bookmark {bookmark}\n"
        ));
        terminal::output(&format!(
            "⚠️ This will overwrite all data in database {database}. \nIn-flight queries and transactions will be cancelled.\n"
        ));
        if !is_confirmed() {
            return Ok(());
        }
        terminal::output("⚡️ Time travel in progress...");
    }
    let call = format!("{path}/time_travel/restore?bookmark={}", segment(bookmark));
    let done = client.post(&call, &serde_json::Value::Null).await?.result;
    if as_json {
        terminal::output(&format!("{done:#}"));
        return Ok(());
    }
    let text = |name: &str| done[name].as_str().unwrap_or_default().to_owned();
    terminal::output(&format!(
        "✅ Database {database} restored back to bookmark {}\n",
        text("bookmark")
    ));
    terminal::output(&format!(
        "↩️ To undo this operation, you can restore to the previous bookmark: {}",
        text("previous_bookmark")
    ));
    Ok(())
}

/// Asks whoever sits there. Where nobody does the answer is yes, as in wrangler.
fn is_confirmed() -> bool {
    if !std::io::stdin().is_terminal() || !terminal::is_for_people() {
        terminal::output("? OK to proceed (y/N)");
        terminal::output("🤖 Using fallback value in non-interactive context: yes");
        return true;
    }
    terminal::output("? OK to proceed (y/N)");
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}

async fn bookmark_at(
    client: &Client,
    path: &str,
    timestamp: Option<&str>,
) -> anyhow::Result<String> {
    let query = match timestamp {
        Some(text) => {
            let ms = timestamp_ms(text, Clock::system().now_ms())?;
            format!("?timestamp={}", segment(&iso(ms)))
        }
        None => String::new(),
    };
    let call = format!("{path}/time_travel/bookmark{query}");
    let found = client.get(&call).await?.result;
    match found["bookmark"].as_str() {
        Some(bookmark) => Ok(bookmark.to_owned()),
        None => bail!("the answer has no bookmark: {found}"),
    }
}

/// A timestamp of the last 30 days, in milliseconds since 1970.
fn timestamp_ms(text: &str, now_ms: u64) -> anyhow::Result<u64> {
    let Some(ms) = rfc3339_ms(text).or_else(|| unix_ms(text)) else {
        bail!(
            "Invalid timestamp '{text}'. Please provide a valid Unix timestamp or ISO string, for example: {}\nFor accepted format, see: https://developer.mozilla.org/en-US/docs/Web/JavaScript/Reference/Global_Objects/Date#date_time_string_format",
            iso(now_ms)
        );
    };
    if ms > now_ms {
        bail!("Invalid timestamp '{text}'. Please provide a timestamp in the past");
    }
    if ms < now_ms.saturating_sub(KEPT_MS) {
        bail!("Invalid timestamp '{text}'. Please provide a timestamp within the last 30 days");
    }
    Ok(ms)
}

/// Seconds if there are ten digits, else milliseconds, as in wrangler.
fn unix_ms(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    Some(if text.len() == 10 {
        number * 1000
    } else {
        number
    })
}

/// `2023-07-13T08:46[:42[.228]]`, then `Z` or an offset like `+02:00`.
fn rfc3339_ms(text: &str) -> Option<u64> {
    let (time, offset_min) = if let Some(time) = text.strip_suffix('Z') {
        (time, 0)
    } else {
        let (time, offset) = text.split_at_checked(text.len().checked_sub(6)?)?;
        let (sign, offset) = offset.split_at_checked(1)?;
        let (hours, minutes) = offset.split_once(':')?;
        let minutes = hours.parse::<i64>().ok()? * 60 + minutes.parse::<i64>().ok()?;
        match sign {
            "+" => (time, minutes),
            "-" => (time, -minutes),
            _ => return None,
        }
    };
    let seconds = if time.len() == "2023-07-13T08:46".len() {
        ":00"
    } else {
        ""
    };
    let at = humantime::parse_rfc3339(&format!("{time}{seconds}Z")).ok()?;
    let ms = i64::try_from(at.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()?;
    u64::try_from(ms - offset_min * 60_000).ok()
}

fn iso(ms: u64) -> String {
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(ms)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    // wrangler: convertTimestampToISO
    #[test]
    fn timestamps_are_read_as_wrangler_does() {
        const NOW: u64 = 1_689_300_000_000;
        let at = 1_689_238_002_228;
        for (text, ms) in [
            ("2023-07-13T08:46:42.228Z", at),
            ("2023-07-13T10:46:42.228+02:00", at),
            ("2023-07-13T05:16:42.228-03:30", at),
            ("2023-07-13T08:46:42Z", at - 228),
            ("2023-07-13T08:46Z", at - 42_228),
            ("1689238002", at - 228),
            ("1689238002228", at),
        ] {
            assert_eq!(timestamp_ms(text, NOW).unwrap(), ms, "{text}");
        }
        for (text, problem) in [
            ("yesterday", "a valid Unix timestamp or ISO string"),
            ("", "a valid Unix timestamp or ISO string"),
            ("2023-07-13", "a valid Unix timestamp or ISO string"),
            (
                "ü2023-07-13T08:46:42+é2:00",
                "a valid Unix timestamp or ISO string",
            ),
            ("2024-07-13T08:46:42Z", "a timestamp in the past"),
            ("2023-05-13T08:46:42Z", "within the last 30 days"),
            ("1234", "within the last 30 days"),
        ] {
            let error = timestamp_ms(text, NOW).unwrap_err().to_string();
            assert!(error.contains(problem), "{text}: {error}");
        }
    }
}
