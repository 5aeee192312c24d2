//! Tests only: starts the real `engawa` with the real workerd, and talks to it as a
//! visitor does.

pub mod compare;
pub mod oracle;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

pub mod power;

use power::{Recorded, Recorder};

/// How long anything that must happen may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// A project folder that goes with the test.
pub struct TestProject {
    dir: tempfile::TempDir,
}

impl TestProject {
    /// A folder with these files.
    ///
    /// # Panics
    /// When they cannot be written.
    pub fn new(files: &[(&str, &str)]) -> Self {
        let project = Self {
            dir: tempfile::tempdir().expect("a temporary folder"),
        };
        for (name, text) in files {
            project.write(name, text);
        }
        project
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Writes a file, and the folders it lies in.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().expect("a file lies in a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    }
}

/// workerd's own binary, as `cargo xtask test` installs it: the script of npm's `workerd`
/// would be killed in its place.
///
/// # Panics
/// When it is not installed.
pub fn workerd() -> PathBuf {
    let tools = std::env::var_os("ENGAWA_TOOLS_DIR").map_or_else(
        || {
            let home = std::env::var_os("HOME").expect("a home folder");
            Path::new(&home).join(".cache/engawa/tools")
        },
        PathBuf::from,
    );
    let arch = if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "64"
    };
    let program = tools.join(format!(
        "node_modules/@cloudflare/workerd-linux-{arch}/bin/workerd"
    ));
    assert!(
        program.exists(),
        "{} is missing: `cargo xtask test` installs it",
        program.display()
    );
    program
}

/// The program under test, with a clean environment.
pub fn engawa(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear();
    for name in [
        "PATH",
        "HOME",
        "XDG_CACHE_HOME",
        "ENGAWA_TOOLS_DIR",
        "ENGAWA_WORKERD",
        "TMPDIR",
    ] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.env("NO_COLOR", "1");
    command
}

/// `SplitMix64`: small, and the same on every machine.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The numbers that follow from a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    #[expect(clippy::should_implement_trait, reason = "it never ends")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// A place in a list of this length, which is not 0.
    ///
    /// # Panics
    /// Never.
    pub fn below_len(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("it is less than a usize")
    }
}

/// A running `engawa dev`. It is killed with the test.
pub struct Dev {
    process: Process,
    /// Where it listens.
    pub address: SocketAddr,
    stderr: Arc<Mutex<String>>,
    agent: ureq::Agent,
}

impl Dev {
    /// Serves a project on any port.
    ///
    /// # Panics
    /// When it does not become ready; with what it said.
    pub fn start(program: &Path, project: &TestProject) -> Self {
        Self::start_with(program, project.path(), &[])
    }

    /// The same with further arguments.
    ///
    /// # Panics
    /// When it does not become ready; with what it said.
    pub fn start_with(program: &Path, dir: &Path, arguments: &[&str]) -> Self {
        let mut command = engawa(program);
        command
            .arg("dev")
            .arg(dir)
            .args(["--port", "0"])
            .args(arguments);
        match Self::spawn(command) {
            Ok(dev) => dev,
            Err(error) => panic!("{error:#}"),
        }
    }

    /// Runs a command line of `engawa dev` until it is ready.
    ///
    /// # Errors
    /// When it ends before, with what it said.
    ///
    /// # Panics
    /// Never, unless the thread that reads its output did.
    pub fn spawn(command: Command) -> anyhow::Result<Self> {
        Self::spawn_by(command, |mut command| Ok(Process::Child(command.spawn()?)))
    }

    /// The same, recorded.
    ///
    /// # Errors
    /// When it ends before it is ready, with what it said.
    pub fn spawn_recorded(command: Command, recorder: &Recorder) -> anyhow::Result<Self> {
        Self::spawn_by(command, |command| {
            Ok(Process::Recorded(recorder.start(command)?))
        })
    }

    fn spawn_by(
        mut command: Command,
        spawn: impl FnOnce(Command) -> std::io::Result<Process>,
    ) -> anyhow::Result<Self> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut process = spawn(command).context("cannot start engawa")?;
        let (stdout, stderr_pipe) = process.take_pipes();
        let stderr = Arc::new(Mutex::new(String::new()));
        let mut pipe = stderr_pipe.context("its standard error is a pipe")?;
        let reader = {
            let stderr = Arc::clone(&stderr);
            std::thread::spawn(move || {
                let mut chunk = [0; 4096];
                while let Ok(read @ 1..) = pipe.read(&mut chunk) {
                    stderr
                        .lock()
                        .expect("no test panics with the lock")
                        .push_str(&String::from_utf8_lossy(&chunk[..read]));
                }
            })
        };
        let mut stdout = BufReader::new(stdout.context("its standard output is a pipe")?);
        let mut line = String::new();
        stdout.read_line(&mut line)?;
        let Some(address) = line
            .trim()
            .strip_prefix("Ready on http://")
            .and_then(|text| text.parse().ok())
        else {
            let _ = reader.join();
            let status = process
                .try_wait()
                .map_or_else(|| "it still runs".to_owned(), |status| status.to_string());
            let said = stderr.lock().expect("no test panics with the lock").clone();
            bail!("engawa dev ended ({status}) and said:\n{line}{said}");
        };
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .max_redirects(0)
            .build();
        Ok(Self {
            process,
            address,
            stderr,
            agent: config.into(),
        })
    }

    /// A URL of it.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The client that the shorthands use.
    pub fn agent(&self) -> &ureq::Agent {
        &self.agent
    }

    /// Status and text of a GET.
    ///
    /// # Panics
    /// When there is no answer.
    pub fn get(&self, path: &str) -> (u16, String) {
        let mut response = self.agent.get(self.url(path)).call().expect("an answer");
        let text = response.body_mut().read_to_string().expect("a text");
        (response.status().as_u16(), text)
    }

    /// The JSON of a GET that succeeds.
    ///
    /// # Panics
    /// When it does not, with the answer.
    pub fn json(&self, path: &str) -> serde_json::Value {
        let (status, text) = self.get(path);
        assert_eq!(status, 200, "{path}: {text}\n{}", self.stderr());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}: {text}"))
    }

    /// What it has said on standard error so far.
    ///
    /// # Panics
    /// Never, unless another thread did.
    pub fn stderr(&self) -> String {
        self.stderr
            .lock()
            .expect("no test panics with the lock")
            .clone()
    }

    /// Waits until it has said something.
    ///
    /// # Panics
    /// When it does not.
    pub fn wait_for_stderr(&self, part: &str) {
        wait_until(
            &format!("it says {part:?}; it said:\n{}", self.stderr()),
            || self.stderr().contains(part),
        );
    }

    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Its workerd processes.
    pub fn workers(&self) -> Vec<u32> {
        children(self.pid())
    }

    /// Sends a signal by its name, as `kill` does.
    ///
    /// # Panics
    /// When there is no such process.
    pub fn signal(&self, signal: &str) {
        let status = Command::new("kill")
            .arg(format!("-{signal}"))
            .arg(self.pid().to_string())
            .status();
        assert!(status.expect("kill runs").success());
    }

    /// Waits until it has ended.
    ///
    /// # Panics
    /// When it does not end.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.process.try_wait() {
                if let Process::Recorded(recorded) = &mut self.process {
                    recorded.wait_for_all();
                }
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "engawa does not end; it said:\n{}",
                self.stderr()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        if let Process::Child(child) = &mut self.process {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

enum Process {
    Child(Child),
    /// Dropping it kills it.
    Recorded(Recorded),
}

impl Process {
    fn pid(&self) -> u32 {
        match self {
            Self::Child(child) => child.id(),
            Self::Recorded(recorded) => recorded.pid(),
        }
    }

    fn take_pipes(&mut self) -> (Option<ChildStdout>, Option<ChildStderr>) {
        match self {
            Self::Child(child) => (child.stdout.take(), child.stderr.take()),
            Self::Recorded(recorded) => (recorded.stdout.take(), recorded.stderr.take()),
        }
    }

    fn try_wait(&mut self) -> Option<ExitStatus> {
        match self {
            Self::Child(child) => child.try_wait().expect("it is our child"),
            Self::Recorded(recorded) => recorded.try_wait(),
        }
    }
}

/// Waits until something is so, looking every few milliseconds.
///
/// # Panics
/// When it is still not so after [`PATIENCE`].
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The children of a process, by number.
pub fn children(pid: u32) -> Vec<u32> {
    let mut children = Vec::new();
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return children;
    };
    for task in tasks.flatten() {
        let text = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        children.extend(
            text.split_whitespace()
                .filter_map(|pid| pid.parse::<u32>().ok()),
        );
    }
    children
}

/// Whether a process lives (a zombie does not).
pub fn lives(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')')
        .is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

/// Runs a command to its end; its output as text.
///
/// # Panics
/// When it cannot be run.
pub fn output(command: &mut Command) -> (bool, String, String) {
    let output = command.stdin(Stdio::null()).output().expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.success(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

/// The repository.
///
/// # Panics
/// Never: the crate lies in it.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("crates/testkit lies in it")
        .to_owned()
}
