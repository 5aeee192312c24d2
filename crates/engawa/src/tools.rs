//! The programs that Engawa runs beside itself: workerd, and esbuild for bundling.
//!
//! They come from npm, pinned with their integrity by `npm/package-lock.json`, and are
//! installed once into Engawa's own folder: `ENGAWA_TOOLS_DIR`, else
//! `~/.cache/engawa/tools/<lockfile's hash>`. A machine without network gets that folder
//! by copying it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use engawa_project::compat::date_of_ms;
use serde_json::Value;

use crate::terminal;

const PACKAGE_JSON: &str = include_str!("../../../npm/package.json");
const PACKAGE_LOCK: &str = include_str!("../../../npm/package-lock.json");
const NPMRC: &str = include_str!("../../../npm/.npmrc");

/// Where the programs are.
#[derive(Debug, Clone)]
pub(crate) struct Tools {
    /// The workerd program.
    pub workerd: PathBuf,
    /// The esbuild program.
    pub esbuild: PathBuf,
    /// The folder whose `node_modules` holds `unenv`.
    pub root: PathBuf,
}

impl Tools {
    /// Finds the programs, or installs them, telling the user so.
    ///
    /// workerd is looked for in `ENGAWA_WORKERD`, beside the `engawa` program, in the
    /// project's `node_modules` (only the pinned version), then in Engawa's folder.
    ///
    /// # Errors
    /// When npm is missing or fails: the text says what to do.
    pub(crate) fn find_or_install(project: Option<&Path>) -> anyhow::Result<Self> {
        let platform = platform()?;
        let root = install_dir()?;
        if !installed(&root) {
            install(&root)?;
        }
        let modules = root.join("node_modules");
        Ok(Self {
            workerd: find_workerd(project, platform).unwrap_or_else(|| {
                modules.join(format!(
                    "@cloudflare/workerd-{}/bin/workerd",
                    platform.workerd
                ))
            }),
            esbuild: modules.join(format!("@esbuild/{}/bin/esbuild", platform.esbuild)),
            root,
        })
    }
}

/// The pinned version of one of the packages.
pub(crate) fn pinned_version(package: &str) -> String {
    let manifest: Value = serde_json::from_str(PACKAGE_JSON).expect("our own package.json is JSON");
    manifest["dependencies"][package]
        .as_str()
        .expect("our own package.json names it")
        .to_owned()
}

/// The newest compatibility date that the pinned workerd knows: its release and seven
/// days (workerd.md 1.9).
pub(crate) fn newest_compatibility_date() -> String {
    let version = pinned_version("workerd");
    let released = version.split('.').nth(1).and_then(|digits| {
        let number = |range: std::ops::Range<usize>| digits.get(range)?.parse::<u64>().ok();
        Some(day_number(number(0..4)?, number(4..6)?, number(6..8)?))
    });
    let released = released.expect("workerd's version holds its date");
    date_of_ms((released + 7) * 86_400_000)
}

/// Days from 1970-01-01 to a later date of the Gregorian calendar.
fn day_number(year: u64, month: u64, day: u64) -> u64 {
    // Years begin in March, so that the leap day is the last one.
    let (year, month) = if month <= 2 {
        (year - 1, month + 9)
    } else {
        (year, month - 3)
    };
    year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468
}

#[derive(Clone, Copy)]
struct Platform {
    workerd: &'static str,
    esbuild: &'static str,
}

fn platform() -> anyhow::Result<Platform> {
    match (std::env::consts::OS, std::env::consts::ARCH) {
        ("linux", "x86_64") => Ok(Platform {
            workerd: "linux-64",
            esbuild: "linux-x64",
        }),
        ("linux", "aarch64") => Ok(Platform {
            workerd: "linux-arm64",
            esbuild: "linux-arm64",
        }),
        (os, arch) => bail!("Engawa runs on Linux on x64 and arm64; this is {os} on {arch}."),
    }
}

fn find_workerd(project: Option<&Path>, platform: Platform) -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("ENGAWA_WORKERD") {
        return Some(path.into());
    }
    let beside = std::env::current_exe().ok()?.with_file_name("workerd");
    if beside.is_file() {
        return Some(beside);
    }
    let package = project?.join(format!(
        "node_modules/@cloudflare/workerd-{}",
        platform.workerd
    ));
    let manifest: Value =
        serde_json::from_str(&fs::read_to_string(package.join("package.json")).ok()?).ok()?;
    (manifest["version"] == pinned_version("workerd")).then(|| package.join("bin/workerd"))
}

/// Where the tools are, or will be, installed.
pub(crate) fn install_dir() -> anyhow::Result<PathBuf> {
    if let Some(dir) = std::env::var_os("ENGAWA_TOOLS_DIR") {
        return Ok(dir.into());
    }
    let cache = match std::env::var_os("XDG_CACHE_HOME") {
        Some(dir) if !dir.is_empty() => PathBuf::from(dir),
        _ => {
            let home =
                std::env::var_os("HOME").context("neither HOME nor ENGAWA_TOOLS_DIR is set")?;
            PathBuf::from(home).join(".cache")
        }
    };
    Ok(cache
        .join("engawa/tools")
        .join(&blake3::hash(PACKAGE_LOCK.as_bytes()).to_hex()[..12]))
}

/// npm writes this file last; it is the list of what it has installed.
fn installed(root: &Path) -> bool {
    root.join("node_modules/.package-lock.json").is_file()
        && fs::read(root.join("package-lock.json"))
            .is_ok_and(|lock| lock == PACKAGE_LOCK.as_bytes())
}

fn install(root: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(root).with_context(|| format!("cannot create {}", root.display()))?;
    // Two that start at once install once.
    let lock = File::create(root.join("install.lock")).context("cannot lock the tools folder")?;
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).map_err(io::Error::from)?;
    if installed(root) {
        return Ok(());
    }
    terminal::note(&format!(
        "Installing workerd {} and esbuild {} (once) …",
        pinned_version("workerd"),
        pinned_version("esbuild")
    ));
    for (name, text) in [
        ("package.json", PACKAGE_JSON),
        ("package-lock.json", PACKAGE_LOCK),
        (".npmrc", NPMRC),
    ] {
        fs::write(root.join(name), text)
            .with_context(|| format!("cannot write {}", root.join(name).display()))?;
    }
    let status = Command::new("npm")
        .args([
            "ci",
            "--ignore-scripts",
            "--omit=dev",
            "--no-audit",
            "--no-fund",
            "--loglevel=error",
        ])
        .current_dir(root)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status();
    match status {
        Ok(status) if status.success() => {
            terminal::note(&format!("Installed into {}.", root.display()));
            Ok(())
        }
        Ok(status) => bail!(
            "npm could not install workerd and esbuild ({status}); its message is above.\n\
             Without network: copy {} from a machine that has it, or set ENGAWA_TOOLS_DIR.",
            root.display()
        ),
        Err(error) if error.kind() == io::ErrorKind::NotFound => bail!(
            "npm is needed once, to install workerd and esbuild, and was not found.\n\
             Install Node.js (on Debian: apt-get install nodejs npm), \
             or set ENGAWA_TOOLS_DIR to a folder that holds them."
        ),
        Err(error) => Err(error).context("cannot run npm"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_date_is_a_week_after_the_release() {
        assert_eq!(
            date_of_ms(day_number(1970, 1, 1) * 86_400_000),
            "1970-01-01"
        );
        assert_eq!(
            date_of_ms(day_number(2024, 2, 29) * 86_400_000),
            "2024-02-29"
        );
        assert_eq!(
            date_of_ms(day_number(2100, 3, 1) * 86_400_000),
            "2100-03-01"
        );
        assert_eq!(newest_compatibility_date().len(), 10);
    }
}
