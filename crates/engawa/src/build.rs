//! A project's folder as a version: the wrangler file, the secrets, the code, the static
//! files.

use std::collections::HashSet;
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

use crate::terminal;
use crate::tools::{self, Tools};
use crate::watch::Watched;

/// Files that are read and stored together, and synced at once.
const STORE_TOGETHER: usize = 2048;
/// Bytes that are read together, or a single file.
const STORE_TOGETHER_BYTES: u64 = 32 * 1024 * 1024;

/// Storing so many may take seconds.
const WORTH_A_NOTE: usize = 5000;

/// Builds one project again and again.
pub(crate) struct Projects {
    programs: engawa_project::Tools,
    dir: PathBuf,
    env: Option<Environment>,
    clock: Clock,
    /// Away while a build runs, and lost with one that ended in a defect.
    builder: Option<Builder>,
    config: Option<Config>,
    looked_at: LookedAt,
    /// Keys of static files that are known to be stored.
    stored: HashSet<Arc<str>>,
}

/// What a build has looked at.
#[derive(Default)]
struct LookedAt {
    paths: Vec<PathBuf>,
    /// Whether the project's own folder is its output folder, too.
    serves_root: bool,
}

/// What came of storing a build's static files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Prepared {
    /// All are there.
    Stored,
    /// One has changed since it was looked at: build again.
    Outdated,
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
        let builder = Some(new_builder(&programs)?);
        Ok(Self {
            programs,
            dir,
            env,
            clock,
            builder,
            config: None,
            looked_at: LookedAt::default(),
            stored: HashSet::new(),
        })
    }

    /// Reads and builds what lies in the folder now.
    ///
    /// # Errors
    /// What is wrong with the project, as it is to be shown.
    pub(crate) async fn build(&mut self, account: AccountId) -> anyhow::Result<Built> {
        let mut builder = match self.builder.take() {
            Some(builder) => builder,
            None => new_builder(&self.programs)?,
        };
        let (dir, env, clock) = (self.dir.clone(), self.env, self.clock.clone());
        let job = tokio::task::spawn_blocking(move || {
            let mut looked_at = LookedAt::default();
            let result = build(&mut builder, &dir, env, &clock, account, &mut looked_at);
            (builder, looked_at, result)
        });
        let (builder, looked_at, result) = job.await.context("the build ended in a defect")?;
        self.builder = Some(builder);
        self.looked_at = looked_at;
        let (built, config) = result?;
        self.config = Some(config);
        Ok(built)
    }

    /// What to watch: every file and folder that the last build looked at.
    pub(crate) fn watched(&self) -> Watched<'_> {
        Watched {
            paths: &self.looked_at.paths,
            root: (!self.looked_at.serves_root).then_some(&*self.dir),
        }
    }

    /// Stores a build's static files, and makes the resources known by the names that
    /// the wrangler file has for them.
    ///
    /// # Errors
    /// When the disk does not take them.
    pub(crate) async fn prepare(
        &mut self,
        storage: &Storage,
        built: &Built,
    ) -> anyhow::Result<Prepared> {
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
        let files = &built.asset_files;
        // An edit of one file among 20,000 asks for one.
        let new = files.iter().filter(|file| !self.stored.contains(&file.key));
        let missing = storage
            .assets()
            .missing(
                &version.account,
                &version.project,
                new.map(|file| file.key.to_string()).collect(),
            )
            .await?;
        if missing.len() >= WORTH_A_NOTE {
            terminal::note(&format!("Storing {} static files …", missing.len()));
        }
        let missing: HashSet<String> = missing.into_iter().collect();
        let mut missing = files
            .iter()
            .filter(|file| missing.contains(&*file.key))
            .peekable();
        while missing.peek().is_some() {
            let mut assets = Vec::new();
            let mut bytes = 0;
            while assets.len() < STORE_TOGETHER
                && let Some(file) = missing.next_if(|file| {
                    assets.is_empty() || bytes + file.size_bytes <= STORE_TOGETHER_BYTES
                })
            {
                bytes += file.size_bytes;
                match read_asset(file).await? {
                    Some(asset) => assets.push(asset),
                    None => return Ok(Prepared::Outdated),
                }
            }
            storage
                .assets()
                .put_many(&version.account, &version.project, assets)
                .await?;
        }
        self.stored = files.iter().map(|file| Arc::clone(&file.key)).collect();
        Ok(Prepared::Stored)
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
            let Some(applied) = applied(storage, &database.local_id, &migrations).await else {
                continue;
            };
            let Ok(pending) = migrations.pending(&applied) else {
                continue;
            };
            if !pending.is_empty() {
                let name = database
                    .database_name
                    .as_deref()
                    .unwrap_or(&database.binding);
                let verb = if pending.len() == 1 { "is" } else { "are" };
                lines.push(format!(
                    "{} of {name} {verb} pending: {}\n  Apply with: engawa d1 migrations apply {name} --local",
                    counted(pending.len(), "migration"),
                    pending.join(", "),
                ));
            }
        }
        lines
    }
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// A file that is still what the build has seen.
async fn read_asset(file: &AssetFile) -> anyhow::Result<Option<NewAsset>> {
    let path = file.path.clone();
    // npm `path.extname`, which is what the key was made with.
    let extension = path
        .extension()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let read = tokio::task::spawn_blocking({
        let (path, extension) = (path.clone(), extension.clone());
        move || {
            let bytes = std::fs::read(path)?;
            let key = engawa_model::asset_key(&bytes, &extension);
            Ok::<_, std::io::Error>((bytes, key))
        }
    });
    match read.await.context("reading ended in a defect")? {
        Ok((bytes, key)) if *key == *file.key => Ok(Some(NewAsset {
            key,
            extensions: vec![extension],
            bytes: bytes.into(),
        })),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// The names in a database's table of migrations: none if there is no table yet, and
/// nothing if the database does not tell.
async fn applied(
    storage: &Storage,
    database: &DatabaseId,
    migrations: &Migrations,
) -> Option<Vec<String>> {
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
    let answer = match answer {
        Ok(answer) => answer.value,
        Err(error) if error.message().starts_with("no such table") => return Some(Vec::new()),
        Err(error) => {
            tracing::warn!(%error, "cannot tell which migrations are applied");
            return None;
        }
    };
    let rows = &answer.results.first()?.results_json;
    let rows: Vec<serde_json::Value> = serde_json::from_slice(rows).ok()?;
    let names = rows.iter().filter_map(|row| row["name"].as_str());
    Some(names.map(str::to_owned).collect())
}

fn new_builder(programs: &engawa_project::Tools) -> anyhow::Result<Builder> {
    let options = BuildOptions {
        mode: BuildMode::Dev,
    };
    Builder::new(programs.clone(), options).context("cannot create a temporary folder for building")
}

fn build(
    builder: &mut Builder,
    dir: &Path,
    env: Option<Environment>,
    clock: &Clock,
    account: AccountId,
    looked_at: &mut LookedAt,
) -> anyhow::Result<(Built, Config)> {
    let LookedAt { paths, serves_root } = looked_at;
    // Also when the build does not get far: the edit that mends it must be seen.
    let settings = [
        "wrangler.json",
        "wrangler.jsonc",
        "wrangler.toml",
        ".dev.vars",
        ".env",
    ];
    paths.extend(settings.map(|name| dir.join(name)));
    paths.push(dir.to_owned());
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
    paths.extend(dev_vars.files.iter().cloned());
    let output_dir = config
        .pages_build_output_dir
        .as_deref()
        .or(config.assets.as_ref().map(|assets| &*assets.directory));
    *serves_root = output_dir.is_some_and(|output| is_same_folder(&config.root.join(output), dir));
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
    paths.extend(builder.watched().iter().cloned());
    let built = built?;
    diagnostics.extend(built.diagnostics);
    let built = Built {
        version: Arc::new(built.version),
        diagnostics,
        asset_files: built.asset_files,
    };
    Ok((built, config))
}

fn is_same_folder(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().ok();
    real(one).is_some_and(|one| real(other) == Some(one))
}

/// 32 random hex digits; the first eight name the deployment's own host.
fn new_deployment_id() -> DeploymentId {
    DeploymentId::from(uuid::Uuid::new_v4().simple().to_string())
}
