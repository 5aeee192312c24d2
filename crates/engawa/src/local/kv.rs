//! `engawa kv`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use engawa_api::client::segment;
use serde_json::{Map, Value, json};

use super::{Local, list};
use crate::cli::PlaceArgs;
use crate::terminal;

/// What to do with KV.
#[derive(Subcommand)]
pub(crate) enum KvCommand {
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
pub(crate) struct NamespaceArgs {
    /// A binding of the wrangler file.
    #[arg(
        long,
        conflicts_with = "namespace_id",
        required_unless_present = "namespace_id"
    )]
    binding: Option<String>,
    /// An id.
    #[arg(long)]
    namespace_id: Option<String>,
}

/// What to do with a key.
#[derive(Subcommand)]
pub(crate) enum KeyCommand {
    /// Store a value.
    Put {
        /// The key.
        key: String,
        /// The value.
        #[arg(
            conflicts_with = "path",
            required_unless_present = "path",
            allow_negative_numbers = true
        )]
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
pub(crate) enum BulkCommand {
    /// Store a JSON array of `{key, value, expiration?, expiration_ttl?, metadata?, base64?}`.
    Put {
        /// The file.
        file: PathBuf,
        #[command(flatten)]
        namespace: NamespaceArgs,
    },
    /// Print the values of a JSON array of keys (texts, or objects with a `name`).
    Get {
        /// The file.
        file: PathBuf,
        #[command(flatten)]
        namespace: NamespaceArgs,
    },
    /// Delete a JSON array of keys (texts, or objects with a `name`).
    Delete {
        /// The file.
        file: PathBuf,
        #[command(flatten)]
        namespace: NamespaceArgs,
    },
}

/// What to do with namespaces.
#[derive(Subcommand)]
pub(crate) enum NamespaceCommand {
    /// List them.
    List,
}

/// Keys that are written or deleted in one call; wrangler sends as many.
const BULK_KEYS: usize = 1000;
/// Bytes of values, in the form in which they are sent, that are written in one call: well
/// below the 100 MB that it may have (docs: kv api), and more than one value's 25 MiB.
const BULK_BYTES: usize = 64 * 1024 * 1024;
/// Keys that are read in one call (docs: kv api).
const BULK_GET_KEYS: usize = 100;

/// Runs a command.
///
/// # Errors
/// When it cannot be done; the text says why.
pub(crate) async fn run(place: PlaceArgs, command: KvCommand) -> anyhow::Result<()> {
    let local = Local::open(&place).await?;
    let done = match command {
        KvCommand::Key(command) => key(&local, command).await,
        KvCommand::Bulk(command) => bulk(&local, command).await,
        KvCommand::Namespace(NamespaceCommand::List) => {
            super::all_pages(&local.client, "/storage/kv/namespaces")
                .await
                .map(|all| list(&all, false))
        }
    };
    local.close().await;
    done
}

async fn key(local: &Local, command: KeyCommand) -> anyhow::Result<()> {
    match command {
        KeyCommand::Put {
            key,
            value,
            path,
            ttl,
            expiration,
            metadata,
            namespace,
        } => {
            let value = match (value, path) {
                (Some(value), _) => value.into_bytes(),
                (None, Some(path)) => tokio::fs::read(&path)
                    .await
                    .with_context(|| format!("cannot read {}", path.display()))?,
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
                let metadata: Value =
                    serde_json::from_str(&text).context("--metadata is not JSON")?;
                pair.insert("metadata".into(), metadata);
            }
            put(local, &namespace, &[Value::Object(pair)]).await
        }
        KeyCommand::Get {
            key,
            text,
            namespace,
        } => {
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
                let path = format!(
                    "{}/keys?prefix={}&cursor={}",
                    path(local, &namespace)?,
                    segment(&prefix),
                    segment(&cursor)
                );
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
        BulkCommand::Put { file, namespace } => {
            let pairs = read_array(&file).await?;
            for (index, pair) in pairs.iter().enumerate() {
                check_pair(pair)
                    .with_context(|| format!("entry {} of {}", index + 1, file.display()))?;
            }
            put(local, &namespace, &pairs).await
        }
        BulkCommand::Get { file, namespace } => {
            let keys = read_names(&file).await?;
            let path = format!("{}/bulk/get", path(local, &namespace)?);
            let mut values = Map::new();
            for keys in keys.chunks(BULK_GET_KEYS) {
                let mut answer = local
                    .client
                    .post(&path, &json!({ "keys": keys }))
                    .await?
                    .result;
                if let Value::Object(found) = answer["values"].take() {
                    values.extend(
                        found
                            .into_iter()
                            .map(|(key, value)| (key, json!({ "value": value }))),
                    );
                }
            }
            terminal::output(&format!("{:#}", Value::Object(values)));
            Ok(())
        }
        BulkCommand::Delete { file, namespace } => {
            let keys = read_names(&file).await?;
            let path = format!("{}/bulk", path(local, &namespace)?);
            for keys in keys.chunks(BULK_KEYS) {
                local.client.delete(&path, Some(&json!(keys))).await?;
            }
            terminal::note(&format!("Deleted {} keys.", keys.len()));
            Ok(())
        }
    }
}

async fn put(local: &Local, namespace: &NamespaceArgs, pairs: &[Value]) -> anyhow::Result<()> {
    let path = format!("{}/bulk", path(local, namespace)?);
    let mut rest = pairs;
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = rest.iter().take(BULK_KEYS).take_while(|pair| {
            bytes += pair["value"].as_str().map_or(0, str::len);
            bytes <= BULK_BYTES
        });
        // One that is larger than all bounds is refused by the API, with its reason.
        let (group, others) = rest.split_at(fits.count().max(1));
        local.client.put(&path, &json!(group)).await?;
        rest = others;
    }
    terminal::note(&match pairs.len() {
        1 => "Stored 1 key.".to_owned(),
        many => format!("Stored {many} keys."),
    });
    Ok(())
}

/// What the API would say only of the whole file.
fn check_pair(pair: &Value) -> anyhow::Result<()> {
    for field in ["key", "value"] {
        if !pair[field].is_string() {
            bail!(
                "it has no text \"{field}\": each entry looks like {{\"key\": \"…\", \"value\": \"…\"}}."
            );
        }
    }
    Ok(())
}

async fn read_array(file: &Path) -> anyhow::Result<Vec<Value>> {
    let text = tokio::fs::read(file)
        .await
        .with_context(|| format!("cannot read {}", file.display()))?;
    match serde_json::from_slice(&text)
        .with_context(|| format!("{} is not JSON", file.display()))?
    {
        Value::Array(entries) => Ok(entries),
        _ => bail!("{} must hold a JSON array.", file.display()),
    }
}

async fn read_names(file: &Path) -> anyhow::Result<Vec<String>> {
    let entries = read_array(file).await?;
    let names = entries.iter().enumerate().map(|(index, entry)| {
        let name = entry.as_str().or_else(|| entry["name"].as_str());
        name.map(str::to_owned).with_context(|| {
            format!(
                "entry {} of {} is neither a text nor an object with a \"name\"",
                index + 1,
                file.display()
            )
        })
    });
    names.collect()
}

fn path(local: &Local, namespace: &NamespaceArgs) -> anyhow::Result<String> {
    let id = match (&namespace.namespace_id, &namespace.binding) {
        (Some(id), _) => id.clone(),
        (None, Some(binding)) => {
            let known = local
                .config
                .kv_namespaces
                .iter()
                .find(|known| known.binding == *binding);
            let known = known.with_context(|| {
                let bindings: Vec<&str> = local
                    .config
                    .kv_namespaces
                    .iter()
                    .map(|known| &*known.binding)
                    .collect();
                let bindings = if bindings.is_empty() {
                    "none".to_owned()
                } else {
                    bindings.join(", ")
                };
                format!(
                    "The wrangler file has no KV namespace bound as {binding}: it has {bindings}. \
                     Add it to kv_namespaces, or name one of those."
                )
            })?;
            known.local_id.to_string()
        }
        (None, None) => bail!("Name the namespace with --binding or --namespace-id."),
    };
    Ok(format!("/storage/kv/namespaces/{}", segment(&id)))
}
