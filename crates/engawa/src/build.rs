//! A project's folder as a version: the wrangler file, the secrets, the code, the static
//! files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use engawa_model::{AccountId, Clock, DatabaseId, DeploymentId, Environment, Version};
use engawa_project::assets::AssetFile;
use engawa_project::compat::date_of_ms;
use engawa_project::dotenv::DevVars;
use engawa_project::migrations::Migrations;
use engawa_project::{
    BuildMode, BuildOptions, Builder, Config, Diagnostic, Identity, LoadOptions, Project,
};
use engawa_storage::d1::{D1QueryOptions, D1Statement};
use engawa_storage::{NewAsset, Storage};

use crate::tools::{self, Tools};

/// Files that are read and stored together: their folders are synced once.
const STORE_TOGETHER: usize = 64;

/// Builds one project again and again.
pub(crate) struct Projects {
    dir: PathBuf,
    env: Option<Environment>,
    clock: Clock,
    /// Away while a build runs.
    builder: Option<Builder>,
    config: Option<Config>,
    watched: Vec<PathBuf>,
}

/// What came of a build.
pub(crate) struct Built {
    /// The version.
    pub version: Arc<Version>,
    /// What there is to say about the project.
    pub diagnostics: Vec<Diagnostic>,
    asset_files: Vec<AssetFile>,
}

impl Projects {
    /// For the project in `dir`.
    ///
    /// # Errors
    /// When there can be no temporary folder.
    pub(crate) fn new(
        tools: &Tools,
        dir: PathBuf,
        env: Option<Environment>,
        clock: Clock,
    ) -> anyhow::Result<Self> {
        let programs = engawa_project::Tools {
            esbuild: tools.esbuild.clone(),
            unenv_root: Some(tools.root.join("node_modules")),
        };
        let builder = Builder::new(
            programs,
            BuildOptions {
                mode: BuildMode::Dev,
            },
        )
        .context("cannot create a temporary folder for building")?;
        Ok(Self {
            dir,
            env,
            clock,
            builder: Some(builder),
            config: None,
            watched: Vec::new(),
        })
    }

    /// Reads and builds what lies in the folder now.
    ///
    /// # Errors
    /// What is wrong with the project, as it is to be shown.
    pub(crate) async fn build(&mut self, account: AccountId) -> anyhow::Result<Built> {
        let mut builder = self.builder.take().context("a build was ended half-way")?;
        let (dir, env, clock) = (self.dir.clone(), self.env, self.clock.clone());
        let job = tokio::task::spawn_blocking(move || {
            let mut watched = Vec::new();
            let result = build(&mut builder, &dir, env, &clock, account, &mut watched);
            (builder, watched, result)
        });
        let (builder, watched, result) = job.await.context("the build ended in a defect")?;
        self.builder = Some(builder);
        self.watched = watched;
        let (built, config) = result?;
        self.config = Some(config);
        Ok(built)
    }

    /// The project's folder, and every file and folder that the last build looked at.
    pub(crate) fn watched(&self) -> (&Path, &[PathBuf]) {
        (&self.dir, &self.watched)
    }

    /// Stores a build's static files, and makes the resources known by the names that
    /// the wrangler file has for them.
    ///
    /// # Errors
    /// When the disk does not take them.
    pub(crate) async fn prepare(&self, storage: &Storage, built: &Built) -> anyhow::Result<()> {
        let version = &built.version;
        storage.catalog().ensure_account(&version.account).await?;
        for database in self.config.iter().flat_map(|config| &config.d1_databases) {
            let name = database
                .database_name
                .as_deref()
                .unwrap_or(&database.binding);
            storage
                .catalog()
                .ensure_d1_database(&version.account, &database.local_id, name)
                .await?;
        }
        let keys = built
            .asset_files
            .iter()
            .map(|file| file.key.to_string())
            .collect();
        let missing = storage
            .assets()
            .missing(&version.account, &version.project, keys)
            .await?;
        let missing: Vec<_> = built
            .asset_files
            .iter()
            .filter(|file| missing.iter().any(|key| **key == *file.key))
            .collect();
        for files in missing.chunks(STORE_TOGETHER) {
            let mut assets = Vec::with_capacity(files.len());
            for file in files {
                let bytes = tokio::fs::read(&file.path)
                    .await
                    .with_context(|| format!("cannot read {}", file.path.display()))?;
                assets.push(NewAsset {
                    key: file.key.to_string(),
                    // npm `path.extname`, which is what the key was made with.
                    extensions: vec![
                        file.path
                            .extension()
                            .unwrap_or_default()
                            .to_string_lossy()
                            .into_owned(),
                    ],
                    bytes: bytes.into(),
                });
            }
            storage
                .assets()
                .put_many(&version.account, &version.project, assets)
                .await?;
        }
        Ok(())
    }

    /// A line for each database that has migrations to be applied.
    pub(crate) async fn pending_migrations(&self, storage: &Storage) -> Vec<String> {
        let mut lines = Vec::new();
        let Some(config) = &self.config else {
            return lines;
        };
        for database in &config.d1_databases {
            // No folder, no migrations; the `migrations` commands say more about that.
            let Ok(migrations) = Migrations::new(config, database) else {
                continue;
            };
            let applied = applied(storage, &database.local_id, &migrations).await;
            let Ok(pending) = migrations.pending(&applied) else {
                continue;
            };
            if !pending.is_empty() {
                let name = database
                    .database_name
                    .as_deref()
                    .unwrap_or(&database.binding);
                lines.push(format!(
                    "{} of {name} {} pending: {}\n  Apply with: engawa d1 migrations apply {name} --local",
                    pending.len(),
                    if pending.len() == 1 { "migration is" } else { "migrations are" },
                    pending.join(", "),
                ));
            }
        }
        lines
    }
}

/// The names in a database's table of migrations; none if there is no table yet.
async fn applied(storage: &Storage, database: &DatabaseId, migrations: &Migrations) -> Vec<String> {
    let statement = D1Statement::new(migrations.applied_sql());
    let answer = storage
        .d1()
        .query(
            &AccountId::local(),
            database,
            vec![statement],
            D1QueryOptions::default(),
        )
        .await;
    let Ok(answer) = answer else {
        return Vec::new();
    };
    let rows = answer
        .value
        .results
        .first()
        .map(|result| serde_json::from_slice::<serde_json::Value>(&result.results_json));
    let Some(Ok(serde_json::Value::Array(rows))) = rows else {
        return Vec::new();
    };
    rows.iter()
        .filter_map(|row| row["name"].as_str().map(str::to_owned))
        .collect()
}

fn build(
    builder: &mut Builder,
    dir: &Path,
    env: Option<Environment>,
    clock: &Clock,
    account: AccountId,
    watched: &mut Vec<PathBuf>,
) -> anyhow::Result<(Built, Config)> {
    // Also when the build does not get far: the edit that mends it must be seen.
    watched.extend(["wrangler.json", "wrangler.jsonc", "wrangler.toml"].map(|name| dir.join(name)));
    watched.push(dir.to_owned());
    let options = LoadOptions {
        env,
        today: date_of_ms(clock.now_ms()),
        newest_compatibility_date: std::env::var("ENGAWA_NEWEST_COMPATIBILITY_DATE")
            .unwrap_or_else(|_| tools::newest_compatibility_date()),
        kind: None,
        search_parents: false,
    };
    let (config, mut diagnostics) = Project::load(dir, &options)?;
    let dev_vars = DevVars::load(&config.root, env)?;
    watched.extend(dev_vars.files.iter().cloned());
    for name in config.shadowed_dev_vars(&dev_vars) {
        let text =
            format!("The secret {name} is not used: a binding of the wrangler file has that name.");
        diagnostics.push(Diagnostic::warning(text));
    }
    for name in config.missing_secrets(&dev_vars) {
        let text = format!("The secret {name} is required by the wrangler file and has no value.");
        diagnostics.push(Diagnostic::warning(text).with_hint("add it to .dev.vars"));
    }
    let identity = Identity {
        account,
        deployment: new_deployment_id(),
        environment: env.unwrap_or(Environment::Production),
        bindings: config.bindings(&dev_vars),
    };
    let built = builder.build(&config, identity);
    watched.extend(builder.watched().iter().cloned());
    let built = built?;
    diagnostics.extend(built.diagnostics);
    let built = Built {
        version: Arc::new(built.version),
        diagnostics,
        asset_files: built.asset_files,
    };
    Ok((built, config))
}

/// 32 random hex digits; the first eight name the deployment's own host.
fn new_deployment_id() -> DeploymentId {
    DeploymentId::from(uuid::Uuid::new_v4().simple().to_string())
}
