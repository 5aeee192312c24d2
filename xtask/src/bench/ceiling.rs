//! The ceiling: Engawa's own worker, with nginx for Engawa.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

/// The descriptors by which Engawa's workerd was given its configuration and modules
/// (`engawa_runtime`'s `ChildFds`).
const CONFIG_FD: u32 = 6;
const FIRST_MODULE_FD: u32 = 7;

/// Where the parts of the ceiling meet.
pub(super) struct Sockets {
    pub(super) worker: PathBuf,
    pub(super) ping: PathBuf,
    pub(super) backend: PathBuf,
}

impl Sockets {
    pub(super) fn new(dir: &Path) -> Self {
        Self {
            worker: dir.join("w"),
            ping: dir.join("p"),
            backend: dir.join("b"),
        }
    }
}

/// A worker as Engawa gave it to workerd.
pub(super) struct WorkerFiles {
    config: String,
    modules: Vec<Vec<u8>>,
}

impl WorkerFiles {
    /// Reads the memory files that a workerd was started with.
    pub(super) fn of_process(pid: u32) -> anyhow::Result<Self> {
        let read = |fd: u32| {
            let path = format!("/proc/{pid}/fd/{fd}");
            fs::read(&path).with_context(|| format!("cannot read {path}"))
        };
        let config =
            String::from_utf8(read(CONFIG_FD)?).context("workerd's configuration is not text")?;
        let modules: Vec<_> = (FIRST_MODULE_FD..)
            .take_while(|fd| config.contains(&embedded(*fd)))
            .map(read)
            .collect::<anyhow::Result<_>>()?;
        if modules.is_empty() {
            bail!("workerd's configuration embeds no module");
        }
        Ok(Self { config, modules })
    }

    /// Writes them to a folder, with the binding socket moved; gives the configuration's
    /// path.
    pub(super) fn write(&self, dir: &Path, backend: &Path) -> anyhow::Result<PathBuf> {
        fs::create_dir_all(dir)?;
        let (_, rest) = self
            .config
            .split_once("\"unix:")
            .context("the worker has no binding")?;
        let (socket, _) = rest
            .split_once('"')
            .context("the worker's configuration is cut off")?;
        let mut config = self.config.replace(
            &format!("\"unix:{socket}\""),
            &format!("\"unix:{}\"", backend.display()),
        );
        for (fd, module) in (FIRST_MODULE_FD..).zip(&self.modules) {
            let file = dir.join(format!("module-{fd}"));
            fs::write(&file, module)?;
            config = config.replace(&embedded(fd), &format!("embed \"{}\"", file.display()));
        }
        let file = dir.join("config.capnp");
        fs::write(&file, config)?;
        Ok(file)
    }
}

fn embedded(fd: u32) -> String {
    format!("embed \"/proc/self/fd/{fd}\"")
}

/// nginx as gateway and as backend. Answers too long for its configuration are files.
pub(super) fn nginx_config(
    dir: &Path,
    sockets: &Sockets,
    address: SocketAddr,
) -> anyhow::Result<String> {
    let replies = dir.join("replies");
    fs::create_dir_all(&replies)?;
    let object = r#"{"name":"read","version":"7f3c","size":"16384","etag":"5d41402abc4b2a76b9719d911017c592","uploaded":"1700000000000","range":{"offset":0,"length":16384},"checksums":{"0":"5d41402abc4b2a76b9719d911017c592"},"storageClass":"Standard"}"#;
    fs::write(
        replies.join("r2-read"),
        format!("{object}{}", "x".repeat(16 * 1024)),
    )?;
    Ok(include_str!("../../../bench/ceiling.conf")
        .replace("@ADDRESS@", &address.to_string())
        .replace("@WORKER@", &sockets.worker.display().to_string())
        .replace("@BACKEND@", &sockets.backend.display().to_string())
        .replace("@REPLIES@", &replies.display().to_string())
        .replace("@VALUE@", &"v".repeat(1024))
        .replace("@OBJECT@", object)
        .replace("@OBJECT_BYTES@", &object.len().to_string()))
}
