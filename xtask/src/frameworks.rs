//! The framework apps of `tests/frameworks`, installed and built by their own tools.
//!
//! An app is copied to the cache, where `npm ci` and its script `build` run once; the folder
//! is named after the hash of everything it is built from, so that two checkouts share what
//! they have in common and never spoil each other's. A test finds its app by
//! `ENGAWA_FRAMEWORK_<NAME>`, or by the link `current`.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{Hash as _, Hasher as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};

use crate::{root, setup};

/// What the ordinary run builds: the stack that Engawa was specified for, and a light one.
pub(crate) const ORDINARY: &[&str] = &["hono", "next"];

/// A build of an app whose source has changed since is removed once nobody has used it for
/// so long; one of Next takes most of a gigabyte.
const KEPT: Duration = Duration::from_hours(72);

/// Written last, so that a build that was cut short is begun again.
const BUILT: &str = ".engawa-built";

/// What frameworks and their tools would otherwise tell their makers.
const QUIET: &[(&str, &str)] = &[
    ("ASTRO_TELEMETRY_DISABLED", "1"),
    ("CI", "1"),
    ("DO_NOT_TRACK", "1"),
    ("NEXT_TELEMETRY_DISABLED", "1"),
    ("NO_UPDATE_NOTIFIER", "1"),
    ("NUXT_TELEMETRY_DISABLED", "1"),
    ("VERCEL_TELEMETRY_DISABLED", "1"),
    ("WRANGLER_SEND_METRICS", "false"),
];

/// Every app there is.
pub(crate) fn all() -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root().join("tests/frameworks"))? {
        let entry = entry?;
        if entry.path().join("package.json").is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Builds these apps unless they are built; the variables by which tests find them.
pub(crate) fn prepare<S: AsRef<str>>(names: &[S]) -> anyhow::Result<Vec<(String, PathBuf)>> {
    let node = setup::test_packages()?.join("node_modules/node/bin");
    let mut variables = Vec::new();
    for name in names {
        let name = name.as_ref();
        let dir = app(name, &node).with_context(|| format!("tests/frameworks/{name}"))?;
        let variable = name.to_uppercase().replace('-', "_");
        variables.push((format!("ENGAWA_FRAMEWORK_{variable}"), dir));
    }
    Ok(variables)
}

fn app(name: &str, node: &Path) -> anyhow::Result<PathBuf> {
    let source = root().join("tests/frameworks").join(name);
    let mut files = BTreeMap::new();
    read(&source, Path::new(""), &mut files)?;
    if !files.contains_key(Path::new("package-lock.json")) {
        bail!("there is no such app, or it has no package-lock.json");
    }
    let mut hasher = std::hash::DefaultHasher::new();
    (&files, fs::read(node.join("../package.json"))?).hash(&mut hasher);

    let builds = setup::cache()?.join("frameworks").join(name);
    let dir = builds.join(format!("{:016x}", hasher.finish()));
    fs::create_dir_all(&dir)?;
    // Two runs at the same time: the second waits and finds it built.
    let lock = fs::File::create(builds.join("lock"))?;
    lock.lock()?;
    if !dir.join(BUILT).exists() {
        build(name, &files, &dir, node)?;
    }
    fs::write(dir.join(BUILT), "")?;
    let link = builds.join("current");
    let _ = fs::remove_file(&link);
    std::os::unix::fs::symlink(&dir, &link)?;
    remove_old(&builds, &dir)?;
    Ok(dir)
}

fn build(
    name: &str,
    files: &BTreeMap<PathBuf, Vec<u8>>,
    dir: &Path,
    node: &Path,
) -> anyhow::Result<()> {
    fs::remove_dir_all(dir)?;
    for (path, bytes) in files {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap_or(dir))?;
        fs::write(&path, bytes)?;
    }
    eprintln!("Installing the packages of tests/frameworks/{name} …");
    let path = std::env::join_paths([node.to_owned()].into_iter().chain(std::env::split_paths(
        &std::env::var_os("PATH").unwrap_or_default(),
    )))?;
    let log = dir.join("build.log");
    let npm = |arguments: &[&str]| {
        let mut command = Command::new("npm");
        command
            .args(arguments)
            .current_dir(dir)
            .env("PATH", &path)
            // npm's node brings certificates of its own; the machine's count too.
            .env("NODE_USE_SYSTEM_CA", "1")
            .envs(QUIET.iter().copied());
        command
    };
    run(
        &mut npm(&["ci", "--no-audit", "--no-fund", "--loglevel=error"]),
        &log,
    )?;
    eprintln!("Building tests/frameworks/{name} …");
    // Tools keep settings and logs in the home folder; these are nobody's.
    let home = dir.join(".home");
    fs::create_dir(&home)?;
    let mut command = npm(&["run", "build"]);
    for variable in ["XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"] {
        command.env_remove(variable);
    }
    for (variable, _) in std::env::vars_os() {
        let text = variable.to_string_lossy();
        if text.starts_with("CLOUDFLARE_") || text.starts_with("CF_") {
            command.env_remove(&variable);
        }
    }
    run(command.env("HOME", &home), &log)
}

/// Runs a tool with its words in a file, and ends what it leaves behind: the adapters of
/// some frameworks start a workerd and forget it.
fn run(command: &mut Command, log: &Path) -> anyhow::Result<()> {
    let shown = format!("{command:?}");
    let file = fs::File::create(log)?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot run {shown}"))?;
    let group = format!("-{}", child.id());
    let status = child.wait()?;
    let _ = Command::new("kill")
        .args(["-KILL", "--", &group])
        .stderr(Stdio::null())
        .status();
    if !status.success() {
        bail!(
            "{shown} failed ({status}) and said:\n{}",
            fs::read_to_string(log).unwrap_or_default()
        );
    }
    Ok(())
}

fn read(dir: &Path, below: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) -> anyhow::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        // Somebody may work in the folder itself.
        if name == "node_modules" {
            continue;
        }
        if entry.file_type()?.is_dir() {
            read(&entry.path(), &below.join(name), files)?;
        } else {
            files.insert(below.join(name), fs::read(entry.path())?);
        }
    }
    Ok(())
}

fn remove_old(builds: &Path, current: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(builds)? {
        let entry = entry?;
        let path = entry.path();
        if !entry.file_type()?.is_dir() || path == current {
            continue;
        }
        let stamp = fs::metadata(path.join(BUILT)).or_else(|_| entry.metadata())?;
        let is_old = stamp.modified().is_ok_and(|used| {
            SystemTime::now()
                .duration_since(used)
                .is_ok_and(|age| age > KEPT)
        });
        if is_old {
            fs::remove_dir_all(&path)?;
        }
    }
    Ok(())
}
