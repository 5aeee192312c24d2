//! `engawa r2`.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Subcommand;
use engawa_api::client::segment;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Local, list};
use crate::cli::PlaceArgs;
use crate::terminal;

/// What to do with R2.
#[derive(Subcommand)]
pub(crate) enum R2Command {
    /// One object.
    #[command(subcommand)]
    Object(ObjectCommand),
    /// The buckets of the state folder.
    #[command(subcommand)]
    Bucket(BucketCommand),
}

/// What to do with an object.
#[derive(Subcommand)]
pub(crate) enum ObjectCommand {
    /// Store a file.
    Put {
        /// `bucket/key`.
        object: String,
        /// The file.
        #[arg(long, conflicts_with = "pipe", required_unless_present = "pipe")]
        file: Option<PathBuf>,
        /// Read standard input instead.
        #[arg(long)]
        pipe: bool,
        /// Its `Content-Type`.
        #[arg(long)]
        content_type: Option<String>,
        /// Its `Cache-Control`.
        #[arg(long)]
        cache_control: Option<String>,
        /// Its `Content-Disposition`.
        #[arg(long)]
        content_disposition: Option<String>,
        /// Its `Content-Encoding`.
        #[arg(long)]
        content_encoding: Option<String>,
        /// Its `Content-Language`.
        #[arg(long)]
        content_language: Option<String>,
    },
    /// Fetch an object.
    Get {
        /// `bucket/key`.
        object: String,
        /// The file to write; the key's last part if neither this nor --pipe is given.
        #[arg(long, conflicts_with = "pipe")]
        file: Option<PathBuf>,
        /// Write to standard output instead.
        #[arg(long)]
        pipe: bool,
    },
    /// Delete an object.
    Delete {
        /// `bucket/key`.
        object: String,
    },
}

/// What to do with buckets.
#[derive(Subcommand)]
pub(crate) enum BucketCommand {
    /// List them.
    List,
}

/// Runs a command.
///
/// # Errors
/// When it cannot be done; the text says why.
pub(crate) async fn run(place: PlaceArgs, command: R2Command) -> anyhow::Result<()> {
    let local = Local::open(&place).await?;
    let done = perform(&local, command).await;
    local.close().await;
    done
}

async fn perform(local: &Local, command: R2Command) -> anyhow::Result<()> {
    match command {
        R2Command::Object(ObjectCommand::Put {
            object,
            file,
            pipe: _,
            content_type,
            cache_control,
            content_disposition,
            content_encoding,
            content_language,
        }) => {
            let mut headers = HeaderMap::new();
            for (name, value) in [
                ("content-type", content_type),
                ("cache-control", cache_control),
                ("content-disposition", content_disposition),
                ("content-encoding", content_encoding),
                ("content-language", content_language),
            ] {
                if let Some(value) = value {
                    let value = HeaderValue::try_from(&value)
                        .with_context(|| format!("--{name} is not a header value"))?;
                    headers.insert(HeaderName::from_static(name), value);
                }
            }
            let body = match &file {
                Some(file) => {
                    let opened = tokio::fs::File::open(file).await;
                    super::file_body(
                        opened.with_context(|| format!("cannot read {}", file.display()))?,
                    )
                }
                None => super::file_body(tokio::io::stdin()),
            };
            local
                .client
                .put_raw(&path(local, &object)?, headers, body)
                .await?;
            terminal::note(&format!("Stored {object}."));
        }
        R2Command::Object(ObjectCommand::Get { object, file, pipe }) => {
            let response = local.client.get_raw(&path(local, &object)?).await?;
            if pipe {
                super::copy(response.into_body(), &mut tokio::io::stdout()).await?;
                return Ok(());
            }
            let file = file.unwrap_or_else(|| object.rsplit('/').next().unwrap_or("object").into());
            super::save(response.into_body(), &file).await?;
        }
        R2Command::Object(ObjectCommand::Delete { object }) => {
            local.client.delete(&path(local, &object)?, None).await?;
            terminal::note(&format!("Deleted {object}."));
        }
        R2Command::Bucket(BucketCommand::List) => {
            let answer = local.client.get("/r2/buckets?per_page=1000").await?.result;
            list(&answer["buckets"], false);
        }
    }
    Ok(())
}

/// The API's path of an object. A bucket that the project does not name may be meant, but
/// is more often misspelt, so it is told.
fn path(local: &Local, object: &str) -> anyhow::Result<String> {
    let named = object
        .split_once('/')
        .filter(|(bucket, key)| !bucket.is_empty() && !key.is_empty());
    let Some((bucket, key)) = named else {
        bail!("{object} does not name an object: write it as bucket/key.");
    };
    let buckets = &local.config.r2_buckets;
    if !buckets
        .iter()
        .any(|known| known.local_name.as_str() == bucket)
    {
        let known: Vec<&str> = buckets
            .iter()
            .map(|known| known.local_name.as_str())
            .collect();
        let known = if known.is_empty() {
            "none".to_owned()
        } else {
            known.join(", ")
        };
        terminal::note(&format!(
            "The wrangler file has no R2 bucket {bucket}: it has {known}."
        ));
    }
    Ok(format!(
        "/r2/buckets/{}/objects/{}",
        segment(bucket),
        segment(key)
    ))
}
