//! `engawa d1|kv|r2 … --local`: wrangler's commands on a project's state folder.
//!
//! They are clients of the same REST API whoever answers: the process that owns the
//! folder, if one does, over its control socket; else this one, which then owns the
//! folder for as long as the command runs, and answers others meanwhile.

mod d1;
mod kv;
mod r2;
mod time_travel;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use engawa_api::client::{AnswerBody, Client, ClientError, RequestBody};
use engawa_api::{Access, Api};
use engawa_model::Clock;
use engawa_project::compat::date_of_ms;
use engawa_project::{Config, LoadOptions, Project};
use engawa_storage::{Owner, OwnerError, Storage, StorageOptions, connect_control};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

pub(crate) use d1::{D1Command, run as d1};
pub(crate) use kv::{KvCommand, run as kv};
pub(crate) use r2::{R2Command, run as r2};

use crate::cli::PlaceArgs;
use crate::control::{self, Control};
use crate::{state, terminal, tools};

/// How long the owner of a folder may take to answer: it may just be starting.
const OWNER_ANSWERS_WITHIN: Duration = Duration::from_secs(5);
/// Between two attempts to reach it.
const TRY_AGAIN: Duration = Duration::from_millis(50);

/// How long a command that owns the folder stays for the others that came to it meanwhile.
/// They are commands too, and a large import among them is as long as it gets.
const OTHERS_END_WITHIN: Duration = Duration::from_mins(10);

/// How much of a file is read at once.
const CHUNK_BYTES: usize = 256 * 1024;

/// A project and a way to its state.
pub(crate) struct Local {
    config: Config,
    pub(crate) client: Client,
    owned: Option<Owned>,
}

/// What this process holds while it owns the folder.
struct Owned {
    control: Control,
    storage: Storage,
    owner: Owner,
}

/// Goes where the command is to work, and reads the project there.
fn project(place: &PlaceArgs) -> anyhow::Result<Config> {
    if place.remote {
        bail!(
            "There is no server to work on yet: these commands work on the project's state folder (--local)."
        );
    }
    // Files that the command names are looked for there too, as wrangler does.
    std::env::set_current_dir(&place.cwd)
        .with_context(|| format!("cannot enter the folder {}", place.cwd.display()))?;
    let options = LoadOptions {
        env: place.env.map(Into::into),
        today: date_of_ms(Clock::system().now_ms()),
        newest_compatibility_date: tools::newest_compatibility_date(),
        kind: None,
        search_parents: true,
    };
    // What is odd about the file is told by `engawa dev`.
    let (config, _) = Project::load(Path::new("."), &options)?;
    Ok(config)
}

impl Local {
    pub(crate) async fn open(place: &PlaceArgs) -> anyhow::Result<Self> {
        let config = project(place)?;
        let dir = state::dir(&config.root, place.persist_to.as_deref())?;
        let (client, owned) = reach(&dir).await?;
        Ok(Self {
            config,
            client,
            owned,
        })
    }

    /// Leaves the folder in order.
    pub(crate) async fn close(self) {
        if let Some(Owned {
            control,
            storage,
            owner,
        }) = self.owned
        {
            control.leave(OTHERS_END_WITHIN).await;
            storage.close().await;
            drop(owner);
        }
    }
}

/// Becomes the owner of a state folder, or reaches the one that it has.
async fn reach(dir: &Path) -> anyhow::Result<(Client, Option<Owned>)> {
    let deadline = Instant::now() + OWNER_ANSWERS_WITHIN;
    loop {
        let held = match Owner::acquire(dir, "an engawa command") {
            Ok(owner) => {
                let storage = Storage::open(&owner, StorageOptions::new(dir))?;
                let control =
                    control::serve(&owner, &storage).context("cannot serve the control socket")?;
                let client = Client::in_process(Api::new(storage.clone()), Access::local());
                return Ok((
                    client,
                    Some(Owned {
                        control,
                        storage,
                        owner,
                    }),
                ));
            }
            Err(error @ OwnerError::Held { .. }) => error,
            Err(error) => return Err(error.into()),
        };
        if let Some(client) = ask_owner(dir, deadline).await {
            return Ok((client, None));
        }
        if Instant::now() >= deadline {
            return Err(held).context("the process that owns the state folder does not answer");
        }
        tokio::time::sleep(TRY_AGAIN).await;
    }
}

/// A connection to the owner, if it answers. One that is just leaving may hold a
/// connection that it never looks at, so a question tells.
async fn ask_owner(dir: &Path, deadline: Instant) -> Option<Client> {
    let client = Client::over_socket(connect_control(dir).ok()?).await.ok()?;
    let answer = tokio::time::timeout_at(deadline.into(), client.get("/r2/buckets"))
        .await
        .ok()?;
    (!matches!(answer, Err(ClientError::Connection(_)))).then_some(client)
}

/// Every page of a list.
async fn all_pages(client: &Client, path: &str) -> anyhow::Result<serde_json::Value> {
    let mut all = Vec::new();
    for page in 1.. {
        let answer = client
            .get(&format!("{path}?page={page}&per_page=1000"))
            .await?;
        let Some(rows) = answer.result.as_array().filter(|rows| !rows.is_empty()) else {
            break;
        };
        all.extend(rows.iter().cloned());
        if answer.result_info["total_count"]
            .as_u64()
            .is_none_or(|total| all.len() as u64 >= total)
        {
            break;
        }
    }
    Ok(all.into())
}

/// A list as JSON for programs, or as a table for people.
fn list(rows: &serde_json::Value, as_json: bool) {
    match rows {
        serde_json::Value::Array(rows) if !as_json && terminal::is_for_people() => table(rows),
        rows => terminal::output(&format!("{rows:#}")),
    }
}

/// Writes an answer's body into a file. If it does not come whole, there is no file.
async fn save(body: AnswerBody, file: &Path) -> anyhow::Result<()> {
    let mut out = tokio::fs::File::create(file)
        .await
        .with_context(|| format!("cannot create {}", file.display()))?;
    if let Err(error) = copy(body, &mut out).await {
        // A device or a pipe stays.
        if out
            .metadata()
            .await
            .is_ok_and(|metadata| metadata.is_file())
        {
            let _ = tokio::fs::remove_file(file).await;
        }
        return Err(error.context(format!("cannot write {}", file.display())));
    }
    terminal::note(&format!("Wrote {}.", file.display()));
    Ok(())
}

/// Rows of objects as a table for people.
fn table(rows: &[serde_json::Value]) {
    let Some(first) = rows.first().and_then(|row| row.as_object()) else {
        return;
    };
    let columns: Vec<&String> = first.keys().collect();
    let text = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            columns
                .iter()
                .map(|column| text(&row[column.as_str()]))
                .collect()
        })
        .collect();
    let widths: Vec<usize> = (0..columns.len())
        .map(|column| {
            let longest = cells
                .iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0);
            longest.max(columns[column].chars().count()).min(60)
        })
        .collect();
    let line = |cells: &[String]| {
        let padded: Vec<String> = cells
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        terminal::output(padded.join("  ").trim_end());
    };
    line(
        &columns
            .iter()
            .map(|column| (*column).clone())
            .collect::<Vec<_>>(),
    );
    line(
        &widths
            .iter()
            .map(|width| "─".repeat(*width))
            .collect::<Vec<_>>(),
    );
    for row in &cells {
        line(row);
    }
}

/// A stream as the body of a request, in chunks.
fn file_body(input: impl AsyncRead + Send + Unpin + 'static) -> RequestBody {
    watched_body(input, |_| {})
}

/// The same; `on_chunk` is told of the length of each.
fn watched_body(
    input: impl AsyncRead + Send + Unpin + 'static,
    on_chunk: impl Fn(u64) + Send + 'static,
) -> RequestBody {
    let state = (input, on_chunk);
    let chunks = futures_util::stream::try_unfold(state, |(mut input, on_chunk)| async move {
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        input.read_buf(&mut chunk).await?;
        on_chunk(chunk.len() as u64);
        let rest = (input, on_chunk);
        Ok((!chunk.is_empty()).then(|| (Frame::data(Bytes::from(chunk)), rest)))
    });
    StreamBody::new(chunks).boxed_unsync()
}

/// Writes an answer's body as it comes.
async fn copy(mut body: AnswerBody, out: &mut (impl AsyncWrite + Unpin)) -> anyhow::Result<()> {
    while let Some(frame) = body.frame().await {
        if let Ok(chunk) = frame.map_err(anyhow::Error::from_boxed)?.into_data() {
            out.write_all(&chunk).await?;
        }
    }
    out.flush().await?;
    Ok(())
}

/// An answer's body in memory.
async fn collect(body: AnswerBody) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    copy(body, &mut bytes).await?;
    Ok(bytes)
}
