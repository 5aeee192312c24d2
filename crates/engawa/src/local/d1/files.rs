//! SQL files: `d1 execute --file` and `d1 export`, by the calls that wrangler makes
//! (control-plane-api.md 6.3, 6.4). Neither file is ever whole in memory.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use engawa_api::client::Client;
use serde_json::{Value, json};

use crate::local::{save, watched_body};
use crate::terminal::Progress;

/// Executes a file as one transaction. What comes of it has the form of one statement's
/// result, as in wrangler.
pub(super) async fn import(client: &Client, path: &str, file: &Path) -> anyhow::Result<Vec<Value>> {
    let shown = file.display().to_string();
    let Announced {
        file,
        etag,
        len_bytes,
    } = announce(file).await?;
    let import = format!("{path}/import");
    let init = json!({ "action": "init", "etag": etag });
    let answer = client.post(&import, &init).await?.result;
    let (Some(url), Some(filename)) = (answer["upload_url"].as_str(), answer["filename"].as_str())
    else {
        bail!("{}", failure(&answer));
    };
    let progress = Arc::new(Progress::new(format!("Sending {shown}"), Some(len_bytes)));
    let sent = Arc::clone(&progress);
    let body = watched_body(tokio::fs::File::from_std(file), move |bytes| {
        sent.add(bytes);
    });
    client.upload(path_of(url), body).await?;
    drop(progress);

    let progress = Progress::new(format!("Executing {shown}"), Some(len_bytes));
    let mut request = json!({ "action": "ingest", "filename": filename, "etag": etag });
    let answer = loop {
        let answer = client.post(&import, &request).await?.result;
        if answer["status"] != "active" {
            break answer;
        }
        progress.set(answer["done_bytes"].as_u64().unwrap_or_default());
        request = json!({ "action": "poll", "current_bookmark": answer["at_bookmark"] });
    };
    drop(progress);
    if answer["status"] != "complete" {
        bail!(
            "{shown} failed and has changed nothing: {}",
            failure(&answer)
        );
    }
    let Value::Object(mut done) = answer["result"].clone() else {
        bail!("{}", failure(&answer))
    };
    let meta = done.remove("meta").unwrap_or_default();
    let counts = json!({
        "Total queries executed": done.remove("num_queries"),
        "Rows read": meta["rows_read"],
        "Rows written": meta["rows_written"],
        "Database size (MB)": format!("{:.2}", meta["size_after"].as_f64().unwrap_or_default() / 1e6),
    });
    let bookmark = done.remove("final_bookmark");
    Ok(vec![
        json!({ "results": [counts], "success": true, "finalBookmark": bookmark, "meta": meta }),
    ])
}

/// Writes a database into a file, as `dump_options` say.
pub(super) async fn export(
    client: &Client,
    path: &str,
    dump_options: &Value,
    output: &Path,
) -> anyhow::Result<()> {
    let progress = Progress::new("Exporting".to_owned(), None);
    let mut request = json!({ "output_format": "polling", "dump_options": dump_options });
    let answer = loop {
        let answer = client
            .post(&format!("{path}/export"), &request)
            .await?
            .result;
        if answer["status"] != "active" {
            break answer;
        }
        progress.set(answer["done_bytes"].as_u64().unwrap_or_default());
        request["current_bookmark"] = answer["at_bookmark"].clone();
    };
    drop(progress);
    let url = answer["result"]["signed_url"]
        .as_str()
        .with_context(|| failure(&answer))?;
    let response = client.get_raw(path_of(url)).await?;
    save(response.into_body(), output).await
}

/// A file that can be sent, from its beginning.
struct Announced {
    file: File,
    /// Its MD5.
    etag: String,
    len_bytes: u64,
}

/// Reads a file once, for its MD5 goes before it.
async fn announce(path: &Path) -> anyhow::Result<Announced> {
    let path = path.to_owned();
    let read = move || {
        use md5::Digest as _;
        let step = || format!("cannot read {}", path.display());
        let mut file = File::open(&path).with_context(step)?;
        let metadata = file.metadata().with_context(step)?;
        if !metadata.is_file() {
            bail!(
                "{} is not a regular file: it is read twice, so write the SQL into one.",
                path.display()
            );
        }
        let mut md5 = md5::Md5::new();
        let (mut chunk, mut len_bytes) = (vec![0; 1024 * 1024], 0);
        loop {
            let read = file.read(&mut chunk).with_context(step)?;
            if read == 0 {
                break;
            }
            if len_bytes == 0 && chunk[..read].starts_with(b"SQLite format 3") {
                bail!(
                    "{} is a SQLite database, not SQL text: export it with `sqlite3 FILE .dump`.",
                    path.display()
                );
            }
            md5.update(&chunk[..read]);
            len_bytes += read as u64;
        }
        file.rewind().with_context(step)?;
        let digest: [u8; 16] = md5.finalize().into();
        Ok(Announced {
            file,
            etag: format!("{:032x}", u128::from_be_bytes(digest)),
            len_bytes,
        })
    };
    tokio::task::spawn_blocking(read).await?
}

fn failure(answer: &Value) -> String {
    let errors = answer["errors"].as_array().cloned().unwrap_or_default();
    let texts: Vec<&str> = errors
        .iter()
        .filter_map(Value::as_str)
        .chain(answer["error"].as_str())
        .collect();
    if texts.is_empty() {
        answer.to_string()
    } else {
        texts.join("; ")
    }
}

/// The path of a URL that the API gave; it is reached the same way as the API.
fn path_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.find('/').map_or("/", |slash| &rest[slash..])
}
