//! Tail events as log lines: what a request has printed and thrown, with positions in
//! the user's own files (workerd.md 8.2).

use std::collections::HashMap;
use std::sync::OnceLock;

use bytes::Bytes;
use engawa_model::Version;
use http::{Request, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use sourcemap::SourceMap;

use super::body::{self, BoxError};

/// workerd cuts the logs of a request at 256 KiB.
const EVENTS_BYTES: usize = 16 * 1024 * 1024;

/// What one request has logged.
#[derive(Debug, Clone)]
pub struct WorkerLog {
    /// `GET /path`, or another kind of event.
    pub trigger: String,
    /// The request's `CF-Ray`, which the access log has too.
    pub ray: Option<String>,
    /// The status of its answer, if it had one.
    pub status: Option<u16>,
    /// `ok`, `exception`, …
    pub outcome: String,
    /// Console calls and uncaught exceptions, in the order of time.
    pub lines: Vec<LogLine>,
}

/// A line of a log.
#[derive(Debug, Clone)]
pub struct LogLine {
    /// How loud.
    pub level: LogLevel,
    /// The text; a stack has one frame a line.
    pub text: String,
    /// Milliseconds since the epoch.
    pub timestamp_ms: u64,
}

/// The level of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// `console.debug`
    Debug,
    /// `console.log`
    Log,
    /// `console.info`
    Info,
    /// `console.warn`
    Warn,
    /// `console.error`, uncaught exceptions
    Error,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    outcome: String,
    #[serde(default)]
    exceptions: Vec<Exception>,
    #[serde(default)]
    logs: Vec<Log>,
    #[serde(rename = "event")]
    trigger: Option<Trigger>,
}

#[derive(Deserialize)]
struct Exception {
    #[serde(default)]
    name: String,
    #[serde(default)]
    message: String,
    stack: Option<String>,
    #[serde(default)]
    timestamp: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Log {
    level: String,
    message: serde_json::Value,
    #[serde(default)]
    timestamp: u64,
    /// One for each argument, null for those that are no error.
    #[serde(default)]
    error_info: Vec<Option<Exception>>,
}

#[derive(Deserialize)]
struct Trigger {
    request: Option<TriggerRequest>,
    response: Option<TriggerResponse>,
    cron: Option<String>,
    queue: Option<String>,
}

#[derive(Deserialize)]
struct TriggerRequest {
    url: String,
    method: String,
    #[serde(default)]
    headers: HashMap<String, String>,
}

#[derive(Deserialize)]
struct TriggerResponse {
    status: u16,
}

/// Reads a post of our tail worker.
pub(super) async fn receive<B>(
    maps: &SourceMaps,
    request: Request<B>,
) -> Result<Vec<WorkerLog>, StatusCode>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    let text = body::collect(request.into_body(), EVENTS_BYTES)
        .await
        .map_err(|_| StatusCode::BAD_REQUEST)?;
    let text = text.ok_or(StatusCode::PAYLOAD_TOO_LARGE)?;
    let events: Vec<&RawValue> =
        serde_json::from_slice(&text).map_err(|_| StatusCode::BAD_REQUEST)?;
    // One that is not understood takes no other with it.
    let known = events.into_iter().filter_map(|event| {
        serde_json::from_str::<Event>(event.get())
            .inspect_err(|error| {
                tracing::warn!(target: "engawa::worker", "a tail event was not understood: {error}");
            })
            .ok()
    });
    Ok(known.map(|event| event.into_log(maps)).collect())
}

impl Event {
    fn into_log(self, maps: &SourceMaps) -> WorkerLog {
        let mut lines: Vec<LogLine> = self
            .logs
            .into_iter()
            .map(|log| log.into_line(maps))
            .collect();
        lines.extend(self.exceptions.into_iter().map(|exception| LogLine {
            level: LogLevel::Error,
            timestamp_ms: exception.timestamp,
            text: exception.into_text("Uncaught ", maps),
        }));
        lines.sort_by_key(|line| line.timestamp_ms);
        let trigger = self.trigger;
        let status = trigger
            .as_ref()
            .and_then(|trigger| trigger.response.as_ref())
            .map(|response| response.status);
        let (trigger, ray) = match trigger {
            Some(Trigger {
                request: Some(request),
                ..
            }) => {
                let path = url::Url::parse(&request.url).map_or(request.url.clone(), |url| {
                    url[url::Position::BeforePath..].to_owned()
                });
                (
                    format!("{} {path}", request.method),
                    request.headers.get("cf-ray").cloned(),
                )
            }
            Some(Trigger {
                cron: Some(cron), ..
            }) => (format!("cron {cron}"), None),
            Some(Trigger {
                queue: Some(queue), ..
            }) => (format!("queue {queue}"), None),
            _ => ("event".to_owned(), None),
        };
        WorkerLog {
            trigger,
            ray,
            status,
            outcome: self.outcome,
            lines,
        }
    }
}

impl Log {
    fn into_line(self, maps: &SourceMaps) -> LogLine {
        let level = match self.level.as_str() {
            "debug" => LogLevel::Debug,
            "info" => LogLevel::Info,
            "warn" => LogLevel::Warn,
            "error" => LogLevel::Error,
            _ => LogLevel::Log,
        };
        let mut text = match self.message {
            serde_json::Value::Array(arguments) => arguments
                .iter()
                .map(argument_text)
                .collect::<Vec<_>>()
                .join(" "),
            other => argument_text(&other),
        };
        for error in self.error_info.into_iter().flatten() {
            if let Some(stack) = error.stack {
                text.push('\n');
                text.push_str(&maps.resolve(&stack));
            }
        }
        LogLine {
            level,
            text,
            timestamp_ms: self.timestamp,
        }
    }
}

fn argument_text(argument: &serde_json::Value) -> String {
    match argument {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

impl Exception {
    fn into_text(self, prefix: &str, maps: &SourceMaps) -> String {
        let mut text = format!("{prefix}{}: {}", self.name, self.message);
        if let Some(stack) = self.stack {
            text.push('\n');
            text.push_str(&maps.resolve(&stack));
        }
        text
    }
}

/// The source maps of a version's modules, read when the first stack needs them.
pub(super) struct SourceMaps {
    modules: HashMap<String, (Bytes, OnceLock<Option<SourceMap>>)>,
}

impl SourceMaps {
    pub(super) fn new(version: &Version) -> Self {
        let modules = version
            .worker
            .iter()
            .flat_map(|code| &code.modules)
            .filter_map(|module| {
                let map = module.source_map.clone()?;
                Some((
                    module.name.trim_start_matches("./").to_owned(),
                    (map, OnceLock::new()),
                ))
            });
        Self {
            modules: modules.collect(),
        }
    }

    /// A stack with every known position replaced by the one in the user's file.
    fn resolve(&self, stack: &str) -> String {
        stack
            .lines()
            .map(|line| self.resolve_line(line))
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// `    at Object.fetch (worker.js:6:59)` or `    at worker.js:6:59`.
    fn resolve_line(&self, line: &str) -> String {
        let as_it_is = || line.to_owned();
        let open = line.rfind('(').map(|position| position + 1);
        let Some(start) = open.or_else(|| line.find("at ").map(|position| position + 3)) else {
            return as_it_is();
        };
        let place = line[start..].trim_end_matches(')');
        let mut parts = place.rsplitn(3, ':');
        let (Some(column), Some(row), Some(module)) = (parts.next(), parts.next(), parts.next())
        else {
            return as_it_is();
        };
        let (Ok(column), Ok(row)) = (column.parse::<u32>(), row.parse::<u32>()) else {
            return as_it_is();
        };
        let Some(token) = self
            .map(module)
            .and_then(|map| map.lookup_token(row.checked_sub(1)?, column.checked_sub(1)?))
        else {
            return as_it_is();
        };
        let Some(source) = token.get_source() else {
            return as_it_is();
        };
        let end = if open.is_some() { ")" } else { "" };
        format!(
            "{}{source}:{}:{}{end}",
            &line[..start],
            token.get_src_line() + 1,
            token.get_src_col() + 1
        )
    }

    fn map(&self, module: &str) -> Option<&SourceMap> {
        let (text, parsed) = self.modules.get(module.trim_start_matches("./"))?;
        parsed
            .get_or_init(|| SourceMap::from_slice(text).ok())
            .as_ref()
    }
}
