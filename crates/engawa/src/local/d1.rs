//! `engawa d1`.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Subcommand;
use engawa_api::client::{Client, segment};
use engawa_model::Clock;
use engawa_project::config::D1Database;
use engawa_project::migrations::Migrations;
use serde_json::{Value, json};

use super::{Local, table};
use crate::cli::PlaceArgs;
use crate::terminal;

/// What to do with D1.
#[derive(Subcommand)]
pub enum D1Command {
    /// Execute SQL.
    Execute {
        /// The database's name or binding.
        database: String,
        /// The SQL.
        #[arg(long, conflicts_with = "file", required_unless_present = "file")]
        command: Option<String>,
        /// A file of SQL, executed as one transaction.
        #[arg(long)]
        file: Option<PathBuf>,
        /// Print JSON instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Write a database as SQL.
    Export {
        /// The database's name or binding.
        database: String,
        /// The file to write.
        #[arg(long)]
        output: PathBuf,
        /// Only these tables (may be repeated).
        #[arg(long)]
        table: Vec<String>,
        /// Only rows.
        #[arg(long, conflicts_with = "no_data")]
        no_schema: bool,
        /// Only definitions.
        #[arg(long)]
        no_data: bool,
    },
    /// Work on migrations.
    #[command(subcommand)]
    Migrations(MigrationsCommand),
    /// List the databases of the state folder.
    List {
        /// Print JSON instead of a table.
        #[arg(long)]
        json: bool,
    },
}

/// What to do with migrations.
#[derive(Subcommand)]
pub enum MigrationsCommand {
    /// Make a new file.
    Create {
        /// The database's name or binding.
        database: String,
        /// What the migration does; part of the file's name.
        message: String,
    },
    /// List those that are not applied yet.
    List {
        /// The database's name or binding.
        database: String,
    },
    /// Apply those that are not applied yet, one after the other.
    Apply {
        /// The database's name or binding.
        database: String,
    },
}

/// Runs a command.
///
/// # Errors
/// When it cannot be done; the text says why.
pub async fn run(place: PlaceArgs, command: D1Command) -> anyhow::Result<()> {
    let local = Local::open(place).await?;
    let done = perform(&local, command).await;
    local.close().await;
    done
}

async fn perform(local: &Local, command: D1Command) -> anyhow::Result<()> {
    match command {
        D1Command::Execute { database, command, file, json } => {
            let path = database_path(local, &database)?;
            match (command, file) {
                (Some(sql), _) => show(&query(&local.client, &path, &sql).await?, json),
                (None, Some(file)) => return import(&local.client, &path, &file).await,
                (None, None) => bail!("Give SQL with --command or --file."),
            }
        }
        D1Command::Export { database, output, table, no_schema, no_data } => {
            let path = database_path(local, &database)?;
            let options = json!({ "no_schema": no_schema, "no_data": no_data, "tables": table });
            let request = json!({ "output_format": "polling", "dump_options": options });
            let answer = local.client.post(&format!("{path}/export"), &request).await?.result;
            let url = answer["result"]["signed_url"].as_str().context(failure(&answer))?;
            let response = local.client.get_raw(path_of(url)).await?;
            let mut file = tokio::fs::File::create(&output)
                .await
                .with_context(|| format!("cannot create {}", output.display()))?;
            super::copy(response.into_body(), &mut file).await.with_context(|| format!("cannot write {}", output.display()))?;
            terminal::note(&format!("Wrote {}.", output.display()));
        }
        D1Command::Migrations(MigrationsCommand::Create { database, message }) => {
            let migrations = Migrations::new(&local.config, configured(local, &database)?)?;
            let file = migrations.create(&message, Clock::system().now_ms())?;
            terminal::note(&format!("Created {}.", file.display()));
        }
        D1Command::Migrations(MigrationsCommand::List { database }) => {
            let (_, pending) = pending(local, &database).await?;
            if pending.is_empty() {
                terminal::note("No migrations to apply!");
            }
            for name in pending {
                terminal::output(&name);
            }
        }
        D1Command::Migrations(MigrationsCommand::Apply { database }) => return apply(local, &database).await,
        D1Command::List { json } => {
            let databases = local.client.get("/d1/database").await?.result;
            match (&databases, json) {
                (Value::Array(rows), false) => table(rows),
                _ => terminal::output(&format!("{databases:#}")),
            }
        }
    }
    Ok(())
}

async fn apply(local: &Local, database: &str) -> anyhow::Result<()> {
    let (migrations, pending) = pending(local, database).await?;
    if pending.is_empty() {
        terminal::note("No migrations to apply!");
        return Ok(());
    }
    let path = database_path(local, database)?;
    for name in pending {
        // The file and the row that remembers it are one transaction.
        query(&local.client, &path, &migrations.apply_sql(&name)?).await.with_context(|| {
            format!("The migration {name} failed and has changed nothing; those before it are applied")
        })?;
        terminal::note(&format!("Applied {name}."));
    }
    Ok(())
}

async fn pending(local: &Local, database: &str) -> anyhow::Result<(Migrations, Vec<String>)> {
    let migrations = Migrations::new(&local.config, configured(local, database)?)?;
    let path = database_path(local, database)?;
    query(&local.client, &path, &migrations.create_table_sql()).await?;
    let rows = query(&local.client, &path, &migrations.applied_sql()).await?;
    let rows = rows.first().and_then(|result| result["results"].as_array()).cloned().unwrap_or_default();
    let applied: Vec<String> = rows.iter().filter_map(|row| row["name"].as_str().map(str::to_owned)).collect();
    let pending = migrations.pending(&applied)?;
    Ok((migrations, pending))
}

async fn query(client: &Client, path: &str, sql: &str) -> anyhow::Result<Vec<Value>> {
    let answer = client.post(&format!("{path}/query"), &json!({ "sql": sql })).await?;
    match answer.result {
        Value::Array(results) => Ok(results),
        other => bail!("the answer is not a list of results: {other}"),
    }
}

/// A file goes the way that wrangler's does: announced, sent, taken in at once.
async fn import(client: &Client, path: &str, file: &PathBuf) -> anyhow::Result<()> {
    use md5::Digest as _;
    let sql = tokio::fs::read(file).await.with_context(|| format!("cannot read {}", file.display()))?;
    if sql.starts_with(b"SQLite format 3") {
        bail!("{} is a SQLite database, not SQL text: export it with `sqlite3 FILE .dump`.", file.display());
    }
    let etag: String = md5::Md5::digest(&sql).iter().map(|byte| format!("{byte:02x}")).collect();
    let import = format!("{path}/import");
    let answer = client.post(&import, &json!({ "action": "init", "etag": etag })).await?.result;
    let (Some(url), Some(filename)) = (answer["upload_url"].as_str(), answer["filename"].as_str()) else {
        bail!("{}", failure(&answer));
    };
    client.upload(path_of(url), sql.into()).await?;
    let request = json!({ "action": "ingest", "filename": filename, "etag": etag });
    let answer = client.post(&import, &request).await?.result;
    if answer["status"] != "complete" {
        bail!("{} failed and has changed nothing: {}", file.display(), failure(&answer));
    }
    terminal::note(&format!(
        "Executed {} statements: {} rows read, {} rows written.",
        answer["result"]["num_queries"], answer["result"]["meta"]["rows_read"], answer["result"]["meta"]["rows_written"],
    ));
    Ok(())
}

fn failure(answer: &Value) -> String {
    let errors = answer["errors"].as_array().cloned().unwrap_or_default();
    let texts: Vec<&str> = errors.iter().filter_map(Value::as_str).chain(answer["error"].as_str()).collect();
    if texts.is_empty() { answer.to_string() } else { texts.join("; ") }
}

fn show(results: &[Value], as_json: bool) {
    if as_json {
        terminal::output(&format!("{:#}", Value::from(results.to_vec())));
        return;
    }
    for result in results {
        let rows = result["results"].as_array().cloned().unwrap_or_default();
        table(&rows);
        let meta = &result["meta"];
        terminal::note(&format!(
            "{} rows, {} changed, {:.1} ms",
            rows.len(),
            meta["changes"],
            meta["duration"].as_f64().unwrap_or_default()
        ));
    }
}

fn configured<'a>(local: &'a Local, name: &str) -> anyhow::Result<&'a D1Database> {
    local.config.d1_database(name).with_context(|| {
        let known: Vec<&str> = local
            .config
            .d1_databases
            .iter()
            .map(|database| database.database_name.as_deref().unwrap_or(&database.binding))
            .collect();
        let known = if known.is_empty() { "it has none".to_owned() } else { format!("it has {}", known.join(", ")) };
        format!("The wrangler file has no D1 database {name}: {known}. Add it to d1_databases, or name one of those.")
    })
}

fn database_path(local: &Local, name: &str) -> anyhow::Result<String> {
    Ok(format!("/d1/database/{}", segment(configured(local, name)?.local_id.as_str())))
}

/// The path of a URL that the API gave; it is reached the same way as the API.
fn path_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.find('/').map_or("/", |slash| &rest[slash..])
}
