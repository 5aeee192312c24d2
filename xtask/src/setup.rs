//! What the commands need on a fresh machine, installed where it belongs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::{root, run};

/// Packages of the example, and its export.
pub(crate) fn chat(dir: &Path) -> anyhow::Result<()> {
    need(
        "npm",
        "Node.js with npm (on Debian: apt-get install nodejs npm)",
    )?;
    if !dir.join("node_modules/.package-lock.json").exists()
        || is_older(
            &dir.join("node_modules/.package-lock.json"),
            &dir.join("package-lock.json"),
        )
    {
        eprintln!("Installing the packages of examples/chat …");
        run(Command::new("npm")
            .args(["ci", "--no-audit", "--no-fund", "--loglevel=error"])
            .current_dir(dir))?;
    }
    eprintln!("Building examples/chat …");
    run(Command::new("npm")
        .args(["run", "--silent", "build:cf"])
        .env("NEXT_TELEMETRY_DISABLED", "1")
        .current_dir(dir))
}

/// Builds the program and returns its path.
pub(crate) fn build_engawa(release: bool) -> anyhow::Result<PathBuf> {
    need_compiler()?;
    let mut command = Command::new(env!("CARGO"));
    command
        .args(["build", "--package", "engawa", "--bin", "engawa"])
        .current_dir(root());
    if release {
        command.arg("--release");
    }
    run(&mut command)?;
    let path = target_dir().join(if release {
        "release/engawa"
    } else {
        "debug/engawa"
    });
    path.canonicalize()
        .with_context(|| format!("{} was not built", path.display()))
}

/// Where cargo builds.
pub(crate) fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// The user's cache folder for what tests install.
pub(crate) fn cache() -> anyhow::Result<PathBuf> {
    let cache = match std::env::var_os("XDG_CACHE_HOME") {
        Some(dir) if !dir.is_empty() => PathBuf::from(dir),
        _ => PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".cache"),
    };
    let dir = cache.join("engawa");
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    Ok(dir)
}

/// workerd, esbuild and unenv, as the program itself installs them.
pub(crate) fn tools(engawa: &Path) -> anyhow::Result<PathBuf> {
    let output = Command::new(engawa)
        .arg("tools")
        .stderr(std::process::Stdio::inherit())
        .output()?;
    if !output.status.success() {
        bail!("{} tools failed", engawa.display());
    }
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
}

/// npm packages that only tests need, pinned in `tests/npm`, installed into the cache.
pub(crate) fn test_packages() -> anyhow::Result<PathBuf> {
    let dir = cache()?.join("test-packages");
    fs::create_dir_all(&dir)?;
    let source = root().join("tests/npm");
    let lock = fs::read(source.join("package-lock.json"))?;
    let current = fs::read(dir.join("package-lock.json")).is_ok_and(|old| old == lock);
    if current && dir.join("node_modules/.package-lock.json").exists() {
        return Ok(dir);
    }
    eprintln!("Installing wrangler and other packages that tests need …");
    for name in ["package.json", "package-lock.json", ".npmrc"] {
        fs::copy(source.join(name), dir.join(name)).with_context(|| format!("tests/npm/{name}"))?;
    }
    run(Command::new("npm")
        .args(["ci", "--no-audit", "--no-fund", "--loglevel=error"])
        .current_dir(&dir))?;
    Ok(dir)
}

/// A browser for the tests that need one: Debian's `chromium`, installed if that is
/// possible.
pub(crate) fn chromium() -> anyhow::Result<PathBuf> {
    debian_program("chromium", "chromium")
}

/// A program of a Debian package, installed by apt-get when this is root.
pub(crate) fn debian_program(program: &str, package: &str) -> anyhow::Result<PathBuf> {
    if let Some(path) = find(program) {
        return Ok(path);
    }
    eprintln!("Installing Debian's {package} …");
    let apt = |arguments: &[&str]| {
        Command::new("apt-get")
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdout(std::process::Stdio::null())
            .status()
    };
    let _ = apt(&["update", "-qq"]);
    let _ = apt(&["install", "-y", "-qq", "--no-install-recommends", package]);
    find(program).with_context(|| format!("{program} is needed and was not found: install it (on Debian: apt-get install {package})"))
}

fn need(program: &str, what: &str) -> anyhow::Result<()> {
    if find(program).is_none() {
        bail!("{program} was not found. Install {what}.");
    }
    Ok(())
}

fn need_compiler() -> anyhow::Result<()> {
    if find("cc").is_none() && std::env::var_os("CC").is_none() {
        bail!(
            "A C compiler is needed to build SQLite, and cc was not found. Install one (on Debian: apt-get install gcc)."
        );
    }
    Ok(())
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|dir| dir.join(program))
        .find(|path| path.is_file())
}

fn is_older(left: &Path, right: &Path) -> bool {
    let modified = |path: &Path| {
        fs::metadata(path)
            .and_then(|metadata| metadata.modified())
            .ok()
    };
    modified(left) < modified(right)
}
