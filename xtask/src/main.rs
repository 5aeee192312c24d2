//! Development commands. `cargo xtask dev` and `cargo xtask test` do all the set-up that
//! a machine with Rust, Node and a C compiler needs.
#![expect(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a program for people at a terminal"
)]

mod bench;
mod compare;
mod frameworks;
mod node_compat;
mod setup;
mod test;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, bail};
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Development commands of Engawa.")]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build everything and serve `examples/chat`.
    Dev {
        /// Port to listen at; 0 lets the system choose.
        #[arg(long, default_value_t = 8788)]
        port: u16,
    },
    /// Run the tests that CI runs.
    Test(test::TestArgs),
    /// Measure Engawa beside its peers.
    Bench(bench::BenchArgs),
    /// Send the same requests to Engawa and to `wrangler pages dev`, and print what differs.
    Compare(compare::CompareArgs),
    /// Install and build apps of `tests/frameworks` (all of them without a name), and print
    /// their folders.
    Frameworks { names: Vec<String> },
    /// Make the tables of Node compatibility anew from the pinned npm packages.
    NodeCompat,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Task::Dev { port } => dev(port),
        Task::Test(args) => test::run(&args),
        Task::Bench(args) => bench::run(&args),
        Task::Compare(args) => compare::run(&args),
        Task::Frameworks { names } => build_frameworks(names),
        Task::NodeCompat => make_node_compat(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dev(port: u16) -> anyhow::Result<()> {
    let chat = root().join("examples/chat");
    setup::chat(&chat)?;
    let engawa = setup::build_engawa(false)?;
    run(Command::new(&engawa)
        .args([
            "d1",
            "migrations",
            "apply",
            "next-mastra-chat",
            "--local",
            "--cwd",
        ])
        .arg(&chat))?;
    run(Command::new(&engawa)
        .arg("dev")
        .arg(&chat)
        .args(["--port", &port.to_string()]))
}

fn build_frameworks(names: Vec<String>) -> anyhow::Result<()> {
    let names = if names.is_empty() {
        frameworks::all()?
    } else {
        names
    };
    for (_, dir) in frameworks::prepare(&names)? {
        println!("{}", dir.display());
    }
    Ok(())
}

fn make_node_compat() -> anyhow::Result<()> {
    let tools = setup::tools(&setup::build_engawa(false)?)?;
    node_compat::run(&root(), &tools.join("node_modules"), Path::new("node"))
}

/// The repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in the repository")
        .to_owned()
}

/// Runs a command in the foreground; an error unless it succeeds.
fn run(command: &mut Command) -> anyhow::Result<()> {
    let shown = format!("{command:?}");
    let status = command
        .status()
        .with_context(|| format!("cannot run {shown}"))?;
    if !status.success() {
        bail!("{shown} failed ({status})");
    }
    Ok(())
}
