//! Arguments to commands. The words are wrangler's, so that nobody learns a second
//! vocabulary.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use engawa_model::Environment;
use engawa_runtime::LogLevel;

use crate::dev::DevOptions;
use crate::doctor::DoctorOptions;
use crate::local::{D1Command, KvCommand, R2Command};
use crate::{dev, doctor, local, terminal, tools, workerd_config};

#[derive(Parser)]
#[command(
    name = "engawa",
    version,
    about = "Runs Cloudflare Pages projects on your own machine."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve a project folder, and each edit of it.
    Dev(DevArgs),
    /// Work on a project's D1 databases.
    D1 {
        #[command(flatten)]
        place: PlaceArgs,
        #[command(subcommand)]
        command: D1Command,
    },
    /// Work on a project's KV namespaces.
    Kv {
        #[command(flatten)]
        place: PlaceArgs,
        #[command(subcommand)]
        command: KvCommand,
    },
    /// Work on a project's R2 buckets.
    R2 {
        #[command(flatten)]
        place: PlaceArgs,
        #[command(subcommand)]
        command: R2Command,
    },
    /// Say whether this machine is fit for Engawa, and whether stored data is sound.
    ///
    /// It changes nothing, and may look beside a running server. Its status is 1 if data is
    /// damaged or the machine lacks something that Engawa needs.
    Doctor(DoctorArgs),
    /// Print what workerd is told of one of the last deployments, without secrets.
    WorkerdConfig {
        #[command(flatten)]
        place: PlaceArgs,
        /// A deployment's id, or its beginning; the newest if it is not given.
        deployment: Option<String>,
    },
    /// Install workerd and esbuild now, and print where they are.
    Tools,
}

#[derive(Args)]
struct DevArgs {
    /// The project's folder.
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// Address to listen at.
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    ip: IpAddr,
    /// Port to listen at; 0 lets the system choose.
    #[arg(long, default_value_t = 8788)]
    port: u16,
    /// Use the bindings and variables of this environment.
    #[arg(long, short)]
    env: Option<EnvName>,
    /// Keep state in this folder instead of `.engawa` in the project.
    #[arg(long, value_name = "DIR")]
    persist_to: Option<PathBuf>,
    /// What of the worker's log to show. `none` also stops gathering it, which is faster.
    #[arg(long, default_value = "log")]
    log_level: LevelName,
    /// Answer for this host name too (may be repeated).
    #[arg(long = "host", value_name = "NAME")]
    hosts: Vec<String>,
    /// JSON file of fields that `request.cf` says of a visitor's place: colo, country, city, …
    #[arg(long, value_name = "FILE")]
    cf: Option<PathBuf>,
}

#[derive(Args)]
struct DoctorArgs {
    /// The project's folder.
    #[arg(long, default_value = ".", value_name = "DIR")]
    cwd: PathBuf,
    /// The state folder, if not `.engawa` in the project.
    #[arg(long, value_name = "DIR")]
    persist_to: Option<PathBuf>,
    /// Do not read stored values to verify their checksums.
    #[arg(long)]
    quick: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Which project's state a command works on.
#[derive(Args, Clone)]
pub struct PlaceArgs {
    /// The project's folder.
    #[arg(long, global = true, default_value = ".", value_name = "DIR")]
    pub cwd: PathBuf,
    /// Work on the project's state folder (the default, and so far the only place).
    #[arg(long, global = true)]
    pub local: bool,
    /// Work on a server.
    #[arg(long, global = true, conflicts_with = "local")]
    pub remote: bool,
    /// The state folder, if not `.engawa` in the project.
    #[arg(long, global = true, value_name = "DIR")]
    pub persist_to: Option<PathBuf>,
    /// Use the bindings of this environment.
    #[arg(long, short, global = true)]
    pub env: Option<EnvName>,
}

/// An environment of a Pages project.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum EnvName {
    /// The production branch.
    Production,
    /// Every other branch.
    Preview,
}

impl From<EnvName> for Environment {
    fn from(name: EnvName) -> Self {
        match name {
            EnvName::Production => Self::Production,
            EnvName::Preview => Self::Preview,
        }
    }
}

/// wrangler's levels.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum LevelName {
    Debug,
    Log,
    Info,
    Warn,
    Error,
    None,
}

impl LevelName {
    fn level(self) -> Option<LogLevel> {
        match self {
            Self::Debug => Some(LogLevel::Debug),
            Self::Log => Some(LogLevel::Log),
            Self::Info => Some(LogLevel::Info),
            Self::Warn => Some(LogLevel::Warn),
            Self::Error => Some(LogLevel::Error),
            Self::None => None,
        }
    }
}

/// What is told of Engawa's own doings when `ENGAWA_LOG` does not say. `notify` warns of
/// watches on folders that are gone, which is what folders do.
const LOGGED: &str = "warn,notify=error";

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_env("ENGAWA_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(LOGGED));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .without_time()
        .compact()
        .init();
    raise_descriptor_limit();
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            terminal::error(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Every connection and every open database is a descriptor, and the usual soft limit of
/// 1024 is a leftover of `select()`. Failing to raise it only means lower bounds.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    );
}

fn run(command: Command) -> anyhow::Result<()> {
    // Control plane and supervision; requests are served by the data plane's own threads.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("control")
        .enable_all()
        .build()?;
    let result = runtime.block_on(async {
        match command {
            Command::Dev(args) => {
                dev::dev(DevOptions {
                    dir: args.dir,
                    ip: args.ip,
                    port: args.port,
                    env: args.env.map(Into::into),
                    persist_to: args.persist_to,
                    log_level: args.log_level.level(),
                    hosts: args.hosts,
                    cf: args.cf,
                })
                .await
            }
            Command::D1 { place, command } => local::d1(place, command).await,
            Command::Kv { place, command } => local::kv(place, command).await,
            Command::R2 { place, command } => local::r2(place, command).await,
            Command::Doctor(args) => {
                let state_dir = args.persist_to.unwrap_or_else(|| args.cwd.join(".engawa"));
                let options = DoctorOptions {
                    state_dir,
                    quick: args.quick,
                    json: args.json,
                };
                tokio::task::spawn_blocking(move || doctor::run(&options)).await?
            }
            Command::WorkerdConfig { place, deployment } => {
                workerd_config::run(place, deployment).await
            }
            Command::Tools => {
                let tools = tools::Tools::find_or_install(None)?;
                terminal::output(&tools.root.display().to_string());
                Ok(())
            }
        }
    });
    // A blocking thread that still waits for a file must not hold up the end.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    result
}
