//! `engawa kv`.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use engawa_api::client::segment;
use serde_json::{Map, Value, json};

use super::{Local, table};
use crate::cli::PlaceArgs;
use crate::terminal;

/// What to do with KV.
#[derive(Subcommand)]
pub enum KvCommand {
    /// One key.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Many keys, from a file.
    #[command(subcommand)]
    Bulk(BulkCommand),
    /// The namespaces of the state folder.
    #[command(subcommand)]
    Namespace(NamespaceCommand),
}

/// Which namespace.
#[derive(Args)]
pub struct NamespaceArgs {
    /// A binding of the wrangler file.
    #[arg(long, conflicts_with = "namespace_id", required_unless_present = "namespace_id")]
    binding: Option<String>,
    /// An id.
    #[arg(long)]
    namespace_id: Option<String>,
}

/// What to do with a key.
#[derive(Subcommand)]
pub enum KeyCommand {
    /// Store a value.
    Put {
        /// The key.
        key: String,
        /// The value.
        #[arg(conflicts_with = "path", required_unless_present = "path")]
        value: Option<String>,
        /// A file that holds the value.
        #[arg(long)]
        path: Option<PathBuf>,
        /// Seconds that the key is to live.
        #[arg(long)]
        ttl: Option<u64>,
        /// When the key ends, in seconds since 1970.
        #[arg(long)]
        expiration: Option<u64>,
        /// JSON to keep beside the value.
        #[arg(long)]
        metadata: Option<String>,
        #[command(flatten)]
        namespace: NamespaceArgs,
    },
    /// Print a value.
    Get {
        /// The key.
        key: String,
        /// Print it as text, with a newline behind it.
        #[arg(long)]
        text: bool,
        #[command(flatten)]
        namespace: NamespaceArgs,
    },
    /// Delete a key.
    Delete {
        /// The key.
        key: String,
        #[command(flatten)]
        namespace: NamespaceArgs,
    },
    /// List keys, as JSON.
    List {
        /// Only those that begin with this.
        #[arg(long, default_value = "")]
        prefix: String,
        #[command(flatten)]
        namespace: NamespaceArgs,
    },
}

/// What to do with many keys.
#[derive(Subcommand)]
pub enum BulkCommand {
    /// Store a JSON array of `{key, value, expiration?, expiration_ttl?, metadata?, base64?}`.
    Put {
        /// The file.
        file: PathBuf,
        #[command(flatten)]
        namespace: NamespaceArgs,
    },
    /// Print the values of a JSON array of keys.
    Get {
        /// The file.
        file: PathBuf,
        #[command(flatten)]
        namespace: NamespaceArgs,
    },
    /// Delete a JSON array of keys.
    Delete {
        /// The file.
        file: PathBuf,
        #[command(flatten)]
        namespace: NamespaceArgs,
    },
}

/// What to do with namespaces.
#[derive(Subcommand)]
pub enum NamespaceCommand {
    /// List them.
    List,
}

/// wrangler sends this many at once.
const BULK: usize = 1000;

/// Runs a command.
///
/// # Errors
/// When it cannot be done; the text says why.
pub async fn run(place: PlaceArgs, command: KvCommand) -> anyhow::Result<()> {
    let local = Local::open(place).await?;
    let done = match command {
        KvCommand::Key(command) => key(&local, command).await,
        KvCommand::Bulk(command) => bulk(&local, command).await,
        KvCommand::Namespace(NamespaceCommand::List) => {
            local.client.get("/storage/kv/namespaces").await.map_err(Into::into).map(|answer| {
                table(answer.result.as_array().map_or(&[], Vec::as_slice));
            })
        }
    };
    local.close().await;
    done
}

async fn key(local: &Local, command: KeyCommand) -> anyhow::Result<()> {
    match command {
        KeyCommand::Put { key, value, path, ttl, expiration, metadata, namespace } => {
            let value = match (value, path) {
                (Some(value), _) => value.into_bytes(),
                (None, Some(path)) => {
                    tokio::fs::read(&path).await.with_context(|| format!("cannot read {}", path.display()))?
                }
                (None, None) => bail!("Give a value, or a file with --path."),
            };
            let mut pair = Map::new();
            pair.insert("key".into(), key.into());
            pair.insert("value".into(), STANDARD.encode(value).into());
            pair.insert("base64".into(), true.into());
            if let Some(ttl) = ttl {
                pair.insert("expiration_ttl".into(), ttl.into());
            }
            if let Some(expiration) = expiration {
                pair.insert("expiration".into(), expiration.into());
            }
            if let Some(text) = metadata {
                let metadata: Value = serde_json::from_str(&text).context("--metadata is not JSON")?;
                pair.insert("metadata".into(), metadata);
            }
            put(local, &namespace, &[Value::Object(pair)]).await
        }
        KeyCommand::Get { key, text, namespace } => {
            let path = format!("{}/values/{}", path(local, &namespace)?, segment(&key));
            let response = local.client.get_raw(&path).await?;
            let value = super::collect(response.into_body()).await?;
            if text {
                terminal::output(&String::from_utf8_lossy(&value));
            } else {
                terminal::output_bytes(&value)?;
            }
            Ok(())
        }
        KeyCommand::Delete { key, namespace } => {
            let path = format!("{}/values/{}", path(local, &namespace)?, segment(&key));
            local.client.delete(&path, None).await?;
            Ok(())
        }
        KeyCommand::List { prefix, namespace } => {
            let mut keys = Vec::new();
            let mut cursor = String::new();
            loop {
                let path = format!("{}/keys?prefix={}&cursor={}", path(local, &namespace)?, segment(&prefix), segment(&cursor));
                let page = local.client.get(&path).await?;
                if let Value::Array(page) = page.result {
                    keys.extend(page);
                }
                match page.result_info["cursor"].as_str() {
                    Some(next) if !next.is_empty() => next.clone_into(&mut cursor),
                    _ => break,
                }
            }
            terminal::output(&format!("{:#}", Value::Array(keys)));
            Ok(())
        }
    }
}

async fn bulk(local: &Local, command: BulkCommand) -> anyhow::Result<()> {
    match command {
        BulkCommand::Put { file, namespace } => put(local, &namespace, &read_array(&file).await?).await,
        BulkCommand::Get { file, namespace } => {
            let request = json!({ "keys": read_array(&file).await? });
            let path = format!("{}/bulk/get", path(local, &namespace)?);
            let answer = local.client.post(&path, &request).await?;
            terminal::output(&format!("{:#}", answer.result["values"]));
            Ok(())
        }
        BulkCommand::Delete { file, namespace } => {
            let keys = read_array(&file).await?;
            let path = format!("{}/bulk", path(local, &namespace)?);
            for keys in keys.chunks(BULK) {
                local.client.delete(&path, Some(&Value::from(keys.to_vec()))).await?;
            }
            terminal::note(&format!("Deleted {} keys.", keys.len()));
            Ok(())
        }
    }
}

async fn put(local: &Local, namespace: &NamespaceArgs, pairs: &[Value]) -> anyhow::Result<()> {
    let path = format!("{}/bulk", path(local, namespace)?);
    for pairs in pairs.chunks(BULK) {
        local.client.put(&path, &Value::from(pairs.to_vec())).await?;
    }
    terminal::note(&match pairs.len() {
        1 => "Stored 1 key.".to_owned(),
        many => format!("Stored {many} keys."),
    });
    Ok(())
}

async fn read_array(file: &PathBuf) -> anyhow::Result<Vec<Value>> {
    let text = tokio::fs::read(file).await.with_context(|| format!("cannot read {}", file.display()))?;
    match serde_json::from_slice(&text).with_context(|| format!("{} is not JSON", file.display()))? {
        Value::Array(entries) => Ok(entries),
        _ => bail!("{} must hold a JSON array.", file.display()),
    }
}

fn path(local: &Local, namespace: &NamespaceArgs) -> anyhow::Result<String> {
    let id = match (&namespace.namespace_id, &namespace.binding) {
        (Some(id), _) => id.clone(),
        (None, Some(binding)) => {
            let known = local.config.kv_namespaces.iter().find(|known| known.binding == *binding);
            let known = known.with_context(|| format!("The wrangler file has no KV namespace bound as {binding}."))?;
            known.local_id.to_string()
        }
        (None, None) => bail!("Name the namespace with --binding or --namespace-id."),
    };
    Ok(format!("/storage/kv/namespaces/{}", segment(&id)))
}
