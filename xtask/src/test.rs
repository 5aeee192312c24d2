//! `cargo xtask test`: three tiers.

use std::path::Path;
use std::process::Command;

use clap::Args;

use crate::run as run_command;
use crate::{frameworks, root, setup};

#[derive(Args)]
pub(crate) struct TestArgs {
    /// Formatting, lints and the tests of single crates: five minutes.
    #[arg(long, conflicts_with = "full")]
    quick: bool,
    /// Everything, at the counts of the acceptance checks.
    #[arg(long)]
    full: bool,
}

fn run_cargo(arguments: &[&str]) -> anyhow::Result<()> {
    run_command(
        Command::new(env!("CARGO"))
            .args(arguments)
            .current_dir(root()),
    )
}

pub(crate) fn run(args: &TestArgs) -> anyhow::Result<()> {
    run_cargo(&["fmt", "--all", "--check"])?;
    run_cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ])?;
    deny()?;

    // The tests of crates start the same workerd that the program would.
    let engawa = setup::build_engawa(false)?;
    let tools = setup::tools(&engawa)?;
    let mut tests = Command::new(env!("CARGO"));
    tests.current_dir(root()).env("ENGAWA_TOOLS_DIR", &tools);
    let has_nextest = Command::new(env!("CARGO"))
        .args(["nextest", "--version"])
        .output()
        .is_ok_and(|o| o.status.success());
    if has_nextest {
        tests.args(["nextest", "run", "--workspace"]);
        if args.quick {
            tests.args(["--profile", "quick"]);
        }
    } else {
        tests.args(["test", "--workspace"]);
    }
    if !args.quick {
        tests
            .env("ENGAWA_TEST_NPM", setup::test_packages()?)
            .env("ENGAWA_CHROMIUM", setup::chromium()?);
        setup::chat(&root().join("examples/chat"))?;
        tests.envs(frameworks::prepare(frameworks::ORDINARY)?);
    }
    if args.full {
        tests.env("ENGAWA_TEST_FULL", "1");
    }
    run_command(&mut tests)?;
    if args.full {
        other_frameworks(has_nextest, &tools)?;
    }

    if !args.quick {
        run_command(
            Command::new("npm")
                .args(["test", "--silent"])
                .current_dir(root().join("examples/chat")),
        )?;
    }
    Ok(())
}

/// The framework apps that the ordinary run leaves out: their tests are marked as ignored.
fn other_frameworks(has_nextest: bool, tools: &Path) -> anyhow::Result<()> {
    let mut tests = Command::new(env!("CARGO"));
    if has_nextest {
        tests.args(["nextest", "run", "--run-ignored", "only"]);
    } else {
        tests.arg("test");
    }
    tests.args(["--package", "engawa", "--test", "it", "frameworks::"]);
    if !has_nextest {
        tests.args(["--", "--ignored"]);
    }
    tests
        .current_dir(root())
        .env("ENGAWA_TOOLS_DIR", tools)
        .env("ENGAWA_TEST_NPM", setup::test_packages()?)
        .env("ENGAWA_CHROMIUM", setup::chromium()?)
        .envs(frameworks::prepare(&frameworks::all()?)?);
    run_command(&mut tests)
}

/// Licences and advisories, where the tool is there. Advisories need the network, so
/// only the rest is required.
fn deny() -> anyhow::Result<()> {
    let installed = Command::new(env!("CARGO"))
        .args(["deny", "--version"])
        .output()
        .is_ok_and(|o| o.status.success());
    if !installed {
        eprintln!(
            "cargo deny is not installed: licences are not checked (cargo install cargo-deny)."
        );
        return Ok(());
    }
    run_cargo(&["deny", "--offline", "check", "licenses", "bans", "sources"])
}
