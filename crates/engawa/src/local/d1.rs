//! `engawa d1`.

mod files;

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Subcommand;
use engawa_api::client::{Client, segment};
use engawa_model::Clock;
use engawa_project::Config;
use engawa_project::config::D1Database;
use engawa_project::migrations::Migrations;
use serde_json::{Value, json};

use super::time_travel::{self, TimeTravelCommand};
use super::{Local, list, table};
use crate::cli::PlaceArgs;
use crate::terminal;

/// What to do with D1.
#[derive(Subcommand)]
pub(crate) enum D1Command {
    /// Execute SQL.
    Execute {
        /// The database's name or binding.
        database: String,
        /// The SQL.
        // SQL may begin with a comment.
        #[arg(
            long,
            conflicts_with = "file",
            required_unless_present = "file",
            allow_hyphen_values = true
        )]
        command: Option<String>,
        /// A file of SQL, executed as one transaction.
        #[arg(long)]
        file: Option<PathBuf>,
        /// Print JSON instead of tables. A pipe gets JSON always.
        #[arg(long)]
        json: bool,
        /// Nothing is asked; scripts that are made for wrangler give this.
        #[arg(long, short)]
        yes: bool,
    },
    /// Write a database as SQL.
    Export {
        /// The database's name or binding.
        database: String,
        /// The file to write.
        #[arg(long)]
        output: PathBuf,
        /// Only these tables (may be repeated).
        #[arg(long, num_args = 1..)]
        table: Vec<String>,
        /// Only rows.
        #[arg(long, conflicts_with = "no_data")]
        no_schema: bool,
        /// Only definitions.
        #[arg(long)]
        no_data: bool,
        /// Nothing is asked; scripts that are made for wrangler give this.
        #[arg(long, short = 'y')]
        skip_confirmation: bool,
    },
    /// Work on migrations.
    #[command(subcommand)]
    Migrations(MigrationsCommand),
    /// Use Time Travel to restore a database at a specific point-in-time.
    #[command(subcommand)]
    TimeTravel(TimeTravelCommand),
    /// List the databases of the state folder.
    List {
        /// Print JSON instead of a table. A pipe gets JSON always.
        #[arg(long)]
        json: bool,
    },
}

/// What to do with migrations.
#[derive(Subcommand)]
pub(crate) enum MigrationsCommand {
    /// Make a new file, and print its path.
    Create {
        /// The database's name or binding.
        database: String,
        /// What the migration does; part of the file's name.
        message: String,
    },
    /// Print the names of those that are not applied yet.
    List {
        /// The database's name or binding.
        database: String,
    },
    /// Apply those that are not applied yet, one after the other, and print their names.
    Apply {
        /// The database's name or binding.
        database: String,
    },
}

/// Runs a command.
///
/// # Errors
/// When it cannot be done; the text says why.
pub(crate) async fn run(place: PlaceArgs, command: D1Command) -> anyhow::Result<()> {
    if let D1Command::Migrations(MigrationsCommand::Create { database, message }) = &command {
        // It concerns the project alone.
        return create(&super::project(&place)?, database, message);
    }
    if let D1Command::TimeTravel(command) = &command {
        command.check()?;
    }
    let local = Local::open(&place).await?;
    let done = perform(&local, command).await;
    local.close().await;
    done
}

async fn perform(local: &Local, command: D1Command) -> anyhow::Result<()> {
    match command {
        D1Command::Execute {
            database,
            command,
            file,
            json,
            yes: _,
        } => {
            let path = database_path(&local.config, &database)?;
            let results = match (command, file) {
                (Some(sql), _) => query(&local.client, &path, &sql).await?,
                (None, Some(file)) => files::import(&local.client, &path, &file).await?,
                (None, None) => bail!("Give SQL with --command or --file."),
            };
            show(&results, json);
        }
        D1Command::Export {
            database,
            output,
            table,
            no_schema,
            no_data,
            skip_confirmation: _,
        } => {
            let path = database_path(&local.config, &database)?;
            let options = json!({ "no_schema": no_schema, "no_data": no_data, "tables": table });
            files::export(&local.client, &path, &options, &output).await?;
        }
        D1Command::Migrations(MigrationsCommand::Create { database, message }) => {
            create(&local.config, &database, &message)?;
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
        D1Command::Migrations(MigrationsCommand::Apply { database }) => {
            return apply(local, &database).await;
        }
        D1Command::TimeTravel(command) => {
            let path = database_path(&local.config, command.database())?;
            return time_travel::run(&local.client, &path, command).await;
        }
        D1Command::List { json } => {
            list(
                &super::all_pages(&local.client, "/d1/database").await?,
                json,
            );
        }
    }
    Ok(())
}

fn create(config: &Config, database: &str, message: &str) -> anyhow::Result<()> {
    let migrations = Migrations::new(config, configured(config, database)?)?;
    let file = migrations.create(message, Clock::system().now_ms())?;
    let shown = file.strip_prefix(".").unwrap_or(&file);
    terminal::output(&shown.display().to_string());
    terminal::note(&format!(
        "Created a migration. Write its SQL into the file, then: engawa d1 migrations apply {database} --local"
    ));
    Ok(())
}

async fn apply(local: &Local, database: &str) -> anyhow::Result<()> {
    let (migrations, pending) = pending(local, database).await?;
    if pending.is_empty() {
        terminal::note("No migrations to apply!");
        return Ok(());
    }
    let path = database_path(&local.config, database)?;
    for name in &pending {
        // The file and the row that remembers it are one transaction.
        query(&local.client, &path, &migrations.apply_sql(name)?).await.with_context(|| {
            format!("The migration {name} failed and has changed nothing; those before it are applied")
        })?;
        terminal::output(name);
    }
    terminal::note(&match pending.len() {
        1 => format!("Applied 1 migration to {database}."),
        many => format!("Applied {many} migrations to {database}."),
    });
    Ok(())
}

async fn pending(local: &Local, database: &str) -> anyhow::Result<(Migrations, Vec<String>)> {
    let migrations = Migrations::new(&local.config, configured(&local.config, database)?)?;
    let path = database_path(&local.config, database)?;
    query(&local.client, &path, &migrations.create_table_sql()).await?;
    let rows = query(&local.client, &path, &migrations.applied_sql()).await?;
    let rows = rows
        .first()
        .and_then(|result| result["results"].as_array())
        .cloned()
        .unwrap_or_default();
    let applied: Vec<String> = rows
        .iter()
        .filter_map(|row| row["name"].as_str().map(str::to_owned))
        .collect();
    let pending = migrations.pending(&applied)?;
    Ok((migrations, pending))
}

async fn query(client: &Client, path: &str, sql: &str) -> anyhow::Result<Vec<Value>> {
    let answer = client
        .post(&format!("{path}/query"), &json!({ "sql": sql }))
        .await?;
    match answer.result {
        Value::Array(results) => Ok(results),
        other => bail!("the answer is not a list of results: {other}"),
    }
}

fn show(results: &[Value], as_json: bool) {
    if as_json || !terminal::is_for_people() {
        terminal::output(&format!("{:#}", Value::from(results.to_vec())));
        return;
    }
    for result in results {
        let rows = result["results"].as_array().map_or(&[][..], Vec::as_slice);
        table(rows);
        let meta = &result["meta"];
        let changed = meta["changes"]
            .as_u64()
            .map_or(String::new(), |changes| format!("{changes} changed, "));
        let duration_ms = meta["duration"].as_f64().unwrap_or_default();
        terminal::note(&format!(
            "{} rows, {changed}{duration_ms:.1} ms",
            rows.len()
        ));
    }
}

fn configured<'a>(config: &'a Config, name: &str) -> anyhow::Result<&'a D1Database> {
    config.d1_database(name).with_context(|| {
        let known: Vec<&str> = config
            .d1_databases
            .iter()
            .map(|database| database.database_name.as_deref().unwrap_or(&database.binding))
            .collect();
        let known = if known.is_empty() { "it has none".to_owned() } else { format!("it has {}", known.join(", ")) };
        format!("The wrangler file has no D1 database {name}: {known}. Add it to d1_databases, or name one of those.")
    })
}

fn database_path(config: &Config, name: &str) -> anyhow::Result<String> {
    Ok(format!(
        "/d1/database/{}",
        segment(configured(config, name)?.local_id.as_str())
    ))
}
