//! `wrangler pages dev` and `wrangler dev` as the oracle: the same project under
//! Cloudflare's own simulator.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use crate::{PATIENCE, children, lives, wait_until};

/// A running wrangler. It ends with the test, and so do its children.
pub struct Oracle {
    child: Child,
    url: String,
    // Its home folder and its state.
    _home: tempfile::TempDir,
}

/// The folder `node_modules` with wrangler and Node in it, where they are installed.
///
/// `cargo xtask test` installs them and sets `ENGAWA_TEST_NPM`; without that variable the
/// default folder is looked at, so that a plain `cargo test` compares too once they are
/// there.
///
/// # Panics
/// When the variable names a folder without them.
pub fn packages() -> Option<PathBuf> {
    let modules = if let Some(dir) = std::env::var_os("ENGAWA_TEST_NPM") {
        let modules = PathBuf::from(dir).join("node_modules");
        assert!(
            modules.join("wrangler").is_dir(),
            "ENGAWA_TEST_NPM is set, and {} has no wrangler",
            modules.display()
        );
        modules
    } else {
        let cache = std::env::var_os("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?;
        cache.join("engawa/test-packages/node_modules")
    };
    modules.join("wrangler").is_dir().then_some(modules)
}

/// A command line of wrangler, of which nothing of the caller's is seen: no token, no proxy,
/// no settings.
pub fn wrangler(modules: &Path, home: &Path) -> Command {
    let mut command = Command::new(modules.join("node/bin/node"));
    command
        .arg(modules.join("wrangler/bin/wrangler.js"))
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", home)
        .env("CI", "1")
        .env("NO_COLOR", "1")
        .env("WRANGLER_SEND_METRICS", "false");
    command
}

impl Oracle {
    /// Serves a Pages project on any port.
    ///
    /// # Panics
    /// When it does not become ready; with what it said.
    pub fn start(modules: &Path, project: &Path) -> Self {
        Self::start_command(modules, project, &["pages", "dev"])
    }

    /// Serves a Workers project on any port.
    ///
    /// # Panics
    /// When it does not become ready; with what it said.
    pub fn start_worker(modules: &Path, project: &Path) -> Self {
        Self::start_command(modules, project, &["dev"])
    }

    fn start_command(modules: &Path, project: &Path, command: &[&str]) -> Self {
        let home = tempfile::tempdir().expect("a temporary folder");
        let mut child = wrangler(modules, home.path())
            .args(command)
            .args([
                "--ip",
                "127.0.0.1",
                "--port",
                "0",
                "--inspector-port",
                "0",
                "--persist-to",
            ])
            .arg(home.path().join("state"))
            .current_dir(project)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("wrangler starts");
        let (lines, said) = mpsc::channel();
        let stdout = child.stdout.take().expect("it is a pipe");
        let mut stderr = child.stderr.take().expect("it is a pipe");
        let to_lines = lines.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = to_lines.send(line);
            }
        });
        std::thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            let _ = lines.send(text);
        });
        let mut oracle = Self {
            child,
            url: String::new(),
            _home: home,
        };
        let mut heard = String::new();
        while oracle.url.is_empty() {
            match said.recv_timeout(PATIENCE) {
                Ok(line) => {
                    if let Some((_, url)) = line.split_once("Ready on ") {
                        url.trim().clone_into(&mut oracle.url);
                    }
                    heard = heard + &line + "\n";
                }
                Err(error) => panic!("wrangler does not become ready ({error}); it said:\n{heard}"),
            }
        }
        // It goes on talking; the pipes must stay open for it.
        std::thread::spawn(move || said.into_iter().for_each(drop));
        oracle
    }

    /// Where it listens.
    ///
    /// # Panics
    /// Never: it was told to listen on the loopback.
    pub fn address(&self) -> SocketAddr {
        let address = self
            .url
            .strip_prefix("http://")
            .and_then(|address| address.parse().ok());
        address.expect("it listens on 127.0.0.1")
    }

    /// A URL of it.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        let group = format!("-{}", self.child.id());
        let workers = children(self.child.id());
        for signal in ["-TERM", "-KILL"] {
            let _ = Command::new("kill")
                .args([signal, "--", &group])
                .stderr(Stdio::null())
                .status();
            // It stores nothing that anybody reads again; a second to say goodbye is plenty.
            for _ in 0..100 {
                if matches!(self.child.try_wait(), Ok(Some(_))) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        let _ = self.child.wait();
        if !std::thread::panicking() {
            wait_until("wrangler's children have ended", || {
                !workers.iter().any(|pid| lives(*pid))
            });
        }
    }
}
