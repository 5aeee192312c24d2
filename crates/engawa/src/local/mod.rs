//! `engawa d1|kv|r2 … --local`: wrangler's commands on a project's state folder.
//!
//! They are clients of the same REST API whoever answers: the process that owns the
//! folder, if one does, over its control socket; else this one, which then owns the
//! folder for as long as the command runs, and answers others meanwhile.

mod d1;
mod kv;
mod r2;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use engawa_api::client::{AnswerBody, Client, RequestBody};
use engawa_api::{Access, Api};
use engawa_model::Clock;
use engawa_project::compat::date_of_ms;
use engawa_project::{Config, LoadOptions, Project};
use engawa_storage::{Owner, OwnerError, Storage, StorageOptions, connect_control};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

pub use d1::{D1Command, run as d1};
pub use kv::{KvCommand, run as kv};
pub use r2::{R2Command, run as r2};

use crate::cli::PlaceArgs;
use crate::control::{self, Control};
use crate::{state, terminal, tools};

/// How long the owner of a folder may take to answer: it may just be starting.
const OWNER_ANSWERS_WITHIN: Duration = Duration::from_secs(5);
/// Between two attempts to reach it.
const TRY_AGAIN: Duration = Duration::from_millis(50);

/// How much of a file is read at once.
const CHUNK_BYTES: usize = 256 * 1024;

/// A project and a way to its state.
struct Local {
    config: Config,
    client: Client,
    owned: Option<Owned>,
}

/// What this process holds while it owns the folder.
struct Owned {
    control: Control,
    storage: Storage,
    owner: Owner,
}

impl Local {
    async fn open(place: PlaceArgs) -> anyhow::Result<Self> {
        if place.remote {
            bail!("There is no server to work on yet: these commands work on the project's state folder (--local).");
        }
        let options = LoadOptions {
            env: place.env.map(Into::into),
            today: date_of_ms(Clock::system().now_ms()),
            newest_compatibility_date: tools::newest_compatibility_date(),
            kind: None,
            search_parents: true,
        };
        // What is odd about the file is told by `engawa dev`.
        let (config, _) = Project::load(&place.cwd, &options)?;
        let dir = state::dir(&config.root, place.persist_to.as_deref())?;
        let (client, owned) = reach(dir).await?;
        Ok(Self { config, client, owned })
    }

    /// Leaves the folder in order.
    async fn close(self) {
        if let Some(Owned { control, storage, owner }) = self.owned {
            drop(control);
            storage.close().await;
            drop(owner);
        }
    }
}

/// Becomes the owner of a state folder, or reaches the one that it has.
async fn reach(dir: PathBuf) -> anyhow::Result<(Client, Option<Owned>)> {
    let deadline = Instant::now() + OWNER_ANSWERS_WITHIN;
    loop {
        let held = match Owner::acquire(&dir, "an engawa command") {
            Ok(owner) => {
                let storage = Storage::open(&owner, StorageOptions::new(&dir))?;
                let control = control::serve(&owner, &storage).context("cannot serve the control socket")?;
                let client = Client::in_process(Api::new(storage.clone()), Access::local());
                return Ok((client, Some(Owned { control, storage, owner })));
            }
            Err(error @ OwnerError::Held { .. }) => error,
            Err(error) => return Err(error.into()),
        };
        if let Ok(stream) = connect_control(&dir) {
            return Ok((Client::over_socket(stream).await?, None));
        }
        if Instant::now() >= deadline {
            return Err(held).context("the process that owns the state folder does not answer");
        }
        tokio::time::sleep(TRY_AGAIN).await;
    }
}

/// Rows of objects as a table for people.
fn table(rows: &[serde_json::Value]) {
    let Some(first) = rows.first().and_then(|row| row.as_object()) else { return };
    let columns: Vec<&String> = first.keys().collect();
    let text = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let cells: Vec<Vec<String>> =
        rows.iter().map(|row| columns.iter().map(|column| text(&row[column.as_str()])).collect()).collect();
    let widths: Vec<usize> = (0..columns.len())
        .map(|column| {
            let longest = cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
            longest.max(columns[column].chars().count()).min(60)
        })
        .collect();
    let line = |cells: &[String]| {
        let padded: Vec<String> =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        terminal::output(padded.join("  ").trim_end());
    };
    line(&columns.iter().map(|column| (*column).clone()).collect::<Vec<_>>());
    line(&widths.iter().map(|width| "─".repeat(*width)).collect::<Vec<_>>());
    for row in &cells {
        line(row);
    }
}

/// A stream as the body of a request, in chunks.
fn file_body(input: impl AsyncRead + Send + Unpin + 'static) -> RequestBody {
    let chunks = futures_util::stream::try_unfold(input, |mut input| async move {
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        input.read_buf(&mut chunk).await?;
        Ok((!chunk.is_empty()).then(|| (Frame::data(Bytes::from(chunk)), input)))
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
