//! `engawa doctor`: is this machine fit, and is the stored data sound?
//!
//! The machine is tried rather than asked where it can be: a file is written and synced
//! in the state folder, sockets are bound, a lock is taken. The data is
//! `engawa_storage::examine`'s work. Nothing is repaired.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::bail;
use engawa_model::Clock;
use engawa_storage::{Examination, Finding, Level, Owner, OwnerError, examine};
use rustix::fs::{FlockOperation, MemfdFlags, flock, fstatfs, memfd_create, statvfs};
use rustix::process::{Resource, getrlimit};
use serde_json::json;

use crate::terminal;

/// Syncs that are measured.
const SYNCS: usize = 16;
/// No disk is that fast: whoever answers has not asked it.
const SYNC_TAKES_AT_LEAST: Duration = Duration::from_micros(10);
/// Files of 256 open databases with their readers, and some thousand connections.
const DESCRIPTORS: u64 = 8192;
/// With fewer, a handful of visitors is too many.
const DESCRIPTORS_LEAST: u64 = 1024;
const SPACE: u64 = 1 << 30;
const SPACE_LEAST: u64 = 64 << 20;
const INODES: u64 = 10_000;
/// 2026-01-01: this program is younger.
const CLOCK_LEAST_MS: u64 = 1_767_225_600_000;
/// Stamps are reserved 10 s ahead.
const CLOCK_BEHIND_MS: u64 = 60_000;
/// What a unix socket's path may have, without its zero.
const SOCKET_PATH: usize = 107;

/// What to look at, and how to tell.
#[derive(Debug)]
pub(crate) struct DoctorOptions {
    /// The state folder; it may not exist yet.
    pub state_dir: PathBuf,
    /// Without the checksums of values.
    pub quick: bool,
    /// For programs.
    pub json: bool,
}

/// Something about the machine.
struct Check {
    level: Level,
    name: &'static str,
    text: String,
    advice: &'static str,
}

/// Looks, and tells. Blocking.
///
/// # Errors
/// When there is a finding of level [`Level::Error`].
pub(crate) fn run(options: &DoctorOptions) -> anyhow::Result<()> {
    let data = Data::look(options);
    let mut checks = machine(&options.state_dir);
    checks.extend(data.checks);
    if options.json {
        terminal::output(&format!("{:#}", as_json(&checks, data.found.as_ref())));
    } else {
        for check in &checks {
            tell(check);
        }
        if let Some(found) = &data.found {
            tell_found(found, options);
        }
    }
    let findings = data.found.iter().flat_map(|found| &found.findings);
    let levels = findings.map(|finding| finding.level);
    let errors = checks.iter().map(|check| check.level).chain(levels);
    match errors.filter(|level| *level == Level::Error).count() {
        0 => Ok(()),
        1 => bail!("1 problem was found."),
        count => bail!("{count} problems were found."),
    }
}

/// The data folder, and what is to say of how it was looked at.
struct Data {
    checks: Vec<Check>,
    found: Option<Examination>,
}

impl Data {
    fn look(options: &DoctorOptions) -> Self {
        let dir = &options.state_dir;
        let mut checks = Vec::new();
        if !dir.is_dir() {
            let text = format!("{} does not exist: nothing is stored yet", dir.display());
            checks.push(Check::new(Level::Note, "data", text, ""));
            return Self {
                checks,
                found: None,
            };
        }
        // With the lock no server can begin to write meanwhile.
        let owner = match Owner::acquire(dir, "engawa doctor") {
            Ok(owner) => Some(owner),
            Err(error @ OwnerError::Held { .. }) => {
                let text = format!("looked at beside its owner: {error}");
                checks.push(Check::new(Level::Note, "data", text, ""));
                None
            }
            // Why not is said by the checks of the disk.
            Err(OwnerError::Io { .. }) => None,
        };
        let found = examine(dir, owner.is_some(), !options.quick);
        checks.push(clock(found.newest_commit_ms));
        Self {
            checks,
            found: Some(found),
        }
    }
}

impl Check {
    fn new(
        level: Level,
        name: &'static str,
        text: impl Into<String>,
        advice: &'static str,
    ) -> Self {
        Self {
            level,
            name,
            text: text.into(),
            advice,
        }
    }

    fn fine(name: &'static str, text: impl Into<String>) -> Self {
        Self::new(Level::Note, name, text, "")
    }
}

/// What the machine has. A state folder that does not exist yet will lie on the disk of
/// the folder above it.
fn machine(state_dir: &Path) -> Vec<Check> {
    let absolute = std::path::absolute(state_dir).unwrap_or_else(|_| state_dir.to_owned());
    let place = absolute.ancestors().find(|folder| folder.is_dir());
    let place = place.unwrap_or(Path::new("/"));
    vec![
        file_system(place),
        syncs(place),
        lock(place),
        space(place),
        descriptors(),
        proc_files(),
        sockets(place),
        memory_files(),
        kernel(),
    ]
}

/// A kind of file system that forgets, or whose syncs and locks may be another machine's.
fn file_system(place: &Path) -> Check {
    const FORGETS: [(u64, &str); 2] = [(0x0102_1994, "tmpfs"), (0x8584_58f6, "ramfs")];
    const REMOTE: [(u64, &str); 5] = [
        (0x6969, "NFS"),
        (0xfe53_4d42, "SMB"),
        (0xff53_4d42, "CIFS"),
        (0x6573_5546, "FUSE"),
        (0x0102_1997, "9P"),
    ];
    let kind = File::open(place).and_then(|folder| Ok(fstatfs(&folder)?.f_type));
    #[expect(clippy::cast_sign_loss, reason = "a number of 32 bits without a sign")]
    let kind = match kind {
        Ok(kind) => (kind as u64) & 0xffff_ffff,
        Err(error) => return unreadable("file system", place, &error),
    };
    let named = |kinds: &[(u64, &'static str)]| {
        let found = kinds.iter().find(|(number, _)| *number == kind);
        found.map(|(_, name)| *name)
    };
    if let Some(name) = named(&FORGETS) {
        return Check::new(
            Level::Error,
            "file system",
            format!("{} lies on {name}, in memory only", place.display()),
            "Choose a folder on a disk with --persist-to: this one is empty after a restart.",
        );
    }
    if let Some(name) = named(&REMOTE) {
        return Check::new(
            Level::Warning,
            "file system",
            format!("{} lies on {name}", place.display()),
            "SQLite needs locks and syncs that work. Choose a folder on a local disk if you can.",
        );
    }
    Check::fine("file system", format!("kind {kind:#x}"))
}

/// Writes and syncs, as every commit does.
fn syncs(place: &Path) -> Check {
    if std::env::var("LD_PRELOAD").is_ok_and(|libraries| libraries.contains("eatmydata")) {
        return Check::new(
            Level::Error,
            "syncs",
            "libeatmydata is loaded: syncs do nothing",
            "Start Engawa without it (LD_PRELOAD).",
        );
    }
    if let Some(option) = barrier_off(place) {
        return Check::new(
            Level::Error,
            "syncs",
            format!("the disk is mounted with {option}: a sync does not reach it"),
            "Mount it without that option.",
        );
    }
    match measure_syncs(place) {
        Err(error) => Check::new(
            Level::Error,
            "syncs",
            format!(
                "{} cannot be written to and synced: {error}",
                place.display()
            ),
            "Check its owner and permissions, that the disk is not full, and that it is not mounted read-only.",
        ),
        Ok(median) if median < SYNC_TAKES_AT_LEAST => Check::new(
            Level::Warning,
            "syncs",
            format!("a sync takes {median:?}, less than any disk needs"),
            "What is acknowledged may be lost with the power. Make sure that the disk, or the virtual machine's, does not ignore flushes.",
        ),
        Ok(median) => Check::fine("syncs", format!("a write and its sync take {median:?}")),
    }
}

/// The median of a few syncs of one page.
fn measure_syncs(place: &Path) -> io::Result<Duration> {
    let path = place.join(format!(".engawa-doctor-{}", std::process::id()));
    let file = File::create_new(&path)?;
    // From here on it has no name, and goes with this process.
    fs::remove_file(&path)?;
    let mut times = Vec::new();
    for number in 0..SYNCS {
        let begun = Instant::now();
        let bytes = [u8::try_from(number).unwrap_or(0); 4096];
        file.write_all_at(&bytes, 0)?;
        file.sync_data()?;
        times.push(begun.elapsed());
    }
    File::open(place)?.sync_all()?;
    times.sort_unstable();
    Ok(times[SYNCS / 2])
}

/// A mount option that switches flushes of the disk off.
fn barrier_off(place: &Path) -> Option<String> {
    let device = fs::metadata(place).ok()?.dev();
    let device = format!(
        "{}:{}",
        rustix::fs::major(device),
        rustix::fs::minor(device)
    );
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let line = mounts
        .lines()
        .find(|line| line.split(' ').nth(2) == Some(&device))?;
    let options = line.split([' ', ',']);
    options
        .into_iter()
        .find(|option| matches!(*option, "nobarrier" | "barrier=0"))
        .map(str::to_owned)
}

fn lock(place: &Path) -> Check {
    let locked = File::open(place)
        .and_then(|folder| Ok(flock(&folder, FlockOperation::NonBlockingLockShared)?));
    match locked {
        Ok(()) => Check::fine("locks", "a folder can be locked"),
        Err(error) => Check::new(
            Level::Error,
            "locks",
            format!("{} cannot be locked: {error}", place.display()),
            "Without locks two servers could write to one folder. Choose another disk.",
        ),
    }
}

fn space(place: &Path) -> Check {
    let found = match statvfs(place) {
        Ok(found) => found,
        Err(error) => return unreadable("space", place, &error.into()),
    };
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let text = format!("{} MiB free", free >> 20);
    let advice = "Make room: when the disk is full, writes are refused.";
    // Some file systems make inodes as they go, and count none.
    let few_inodes = found.f_files > 0 && found.f_favail < INODES;
    if free < SPACE_LEAST {
        Check::new(Level::Error, "space", text, advice)
    } else if few_inodes {
        let text = format!("{text}, but room for {} files only", found.f_favail);
        Check::new(Level::Warning, "space", text, advice)
    } else if free < SPACE {
        Check::new(Level::Warning, "space", text, advice)
    } else {
        Check::fine("space", text)
    }
}

/// The program has raised its own limit as far as it may.
fn descriptors() -> Check {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let text = if limit == u64::MAX {
        "no limit of open files".to_owned()
    } else {
        format!("{limit} open files")
    };
    let advice = "Raise the hard limit (ulimit -Hn, LimitNOFILE= of systemd) to 65536.";
    if limit < DESCRIPTORS_LEAST {
        Check::new(Level::Error, "limits", text, advice)
    } else if limit < DESCRIPTORS {
        Check::new(Level::Warning, "limits", text, advice)
    } else {
        Check::fine("limits", text)
    }
}

fn proc_files() -> Check {
    let needed = ["/proc/self/fd", "/proc/self/exe", "/proc/self/mountinfo"];
    match needed
        .iter()
        .find(|path| fs::symlink_metadata(path).is_err())
    {
        None => Check::fine("/proc", "mounted"),
        Some(path) => Check::new(
            Level::Error,
            "/proc",
            format!("{path} is not there"),
            "Mount /proc: Engawa reaches its sockets and workerd its code through it.",
        ),
    }
}

/// Both kinds of socket that Engawa makes: beside the data, and for its workers.
fn sockets(place: &Path) -> Check {
    let temp = std::env::temp_dir();
    let workers = if temp.as_os_str().len() <= 60 {
        temp
    } else {
        PathBuf::from("/tmp")
    };
    let bind = |folder: &Path| -> io::Result<()> {
        let opened = File::open(folder)?;
        let name = format!(".engawa-doctor-{}.sock", std::process::id());
        let path = format!("/proc/self/fd/{}/{name}", opened.as_raw_fd());
        let bound = UnixListener::bind(&path);
        // It is there only if it was bound.
        let _ = fs::remove_file(folder.join(&name));
        bound.map(|_| ())
    };
    for folder in [place, &workers] {
        if let Err(error) = bind(folder) {
            return Check::new(
                Level::Error,
                "sockets",
                format!(
                    "no unix socket can be made in {}: {error}",
                    folder.display()
                ),
                "Check its permissions; TMPDIR names the folder for the workers' sockets.",
            );
        }
    }
    let room = SOCKET_PATH - workers.as_os_str().len();
    Check::fine(
        "sockets",
        format!("{} leaves {room} bytes for names", workers.display()),
    )
}

fn memory_files() -> Check {
    let made = memfd_create(
        "engawa-doctor",
        MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING,
    )
    .map_err(io::Error::from)
    .and_then(|file| File::from(file).write_all_at(&[1; 4096], 0));
    match made {
        Ok(()) => Check::fine("memory files", "available; no memory is locked"),
        Err(error) => Check::new(
            Level::Error,
            "memory files",
            format!("memfd_create does not work: {error}"),
            "Allow it (a container's seccomp profile may forbid it): secrets reach workers only so.",
        ),
    }
}

/// Since 5.8, `syncfs` reports writes that failed.
fn kernel() -> Check {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version < (5, 8) {
        return Check::new(
            Level::Error,
            "kernel",
            format!("Linux {release}"),
            "Engawa needs Linux 5.8 or later, where no failed write goes unreported.",
        );
    }
    Check::fine("kernel", format!("Linux {release}"))
}

/// Against what is known to have been earlier.
fn clock(newest_commit_ms: u64) -> Check {
    let now_ms = Clock::system().now_ms();
    if now_ms < CLOCK_LEAST_MS {
        return Check::new(
            Level::Error,
            "clock",
            "it stands before this program was made",
            "Set the clock, and keep it right with NTP: expirations depend on it.",
        );
    }
    let behind_ms = newest_commit_ms.saturating_sub(now_ms);
    if behind_ms > CLOCK_BEHIND_MS {
        return Check::new(
            Level::Warning,
            "clock",
            format!("it is {} s behind the newest commit", behind_ms / 1000),
            "It was set back, or was ahead before. Commits stay in order; expirations come late.",
        );
    }
    Check::fine("clock", "not behind the newest commit")
}

fn unreadable(name: &'static str, place: &Path, error: &io::Error) -> Check {
    Check::new(
        Level::Error,
        name,
        format!("{} cannot be looked at: {error}", place.display()),
        "Check its owner and permissions.",
    )
}

fn word(level: Level, is_fine: bool) -> &'static str {
    match level {
        Level::Note if is_fine => "ok     ",
        Level::Note => "note   ",
        Level::Warning => "warning",
        Level::Error => "ERROR  ",
    }
}

fn tell(check: &Check) {
    let word = word(check.level, true);
    terminal::output(&format!("{word} {}: {}", check.name, check.text));
    if !check.advice.is_empty() {
        terminal::output(&format!("        {}", check.advice));
    }
}

fn tell_found(found: &Examination, options: &DoctorOptions) {
    for finding in &found.findings {
        let Finding {
            level,
            path,
            what,
            lost,
            advice,
        } = finding;
        let word = word(*level, false);
        terminal::output(&format!("{word} {}: {what}", path.display()));
        if !lost.is_empty() {
            terminal::output(&format!("        Lost: {lost}."));
        }
        if !advice.is_empty() {
            terminal::output(&format!("        {advice}"));
        }
    }
    if found.further_findings > 0 {
        terminal::output(&format!("        and {} more", found.further_findings));
    }
    let verified = if options.quick {
        "checksums left out (--quick)".to_owned()
    } else {
        format!("{} MiB verified", found.verified_bytes >> 20)
    };
    let word = if found.findings.is_empty() {
        "ok     "
    } else {
        "note   "
    };
    terminal::output(&format!(
        "{word} data: {} SQLite files and {} blobs looked at, {verified}",
        found.files, found.blobs
    ));
}

fn as_json(checks: &[Check], found: Option<&Examination>) -> serde_json::Value {
    let level = |level: Level| match level {
        Level::Note => "note",
        Level::Warning => "warning",
        Level::Error => "error",
    };
    let checks: Vec<_> = checks
        .iter()
        .map(|check| {
            json!({
                "level": level(check.level),
                "name": check.name,
                "text": check.text,
                "advice": check.advice,
            })
        })
        .collect();
    let data = found.map(|found| {
        let findings: Vec<_> = found
            .findings
            .iter()
            .map(|finding| {
                json!({
                    "level": level(finding.level),
                    "path": finding.path.display().to_string(),
                    "what": finding.what,
                    "lost": finding.lost,
                    "advice": finding.advice,
                })
            })
            .collect();
        json!({
            "files": found.files,
            "blobs": found.blobs,
            "verified_bytes": found.verified_bytes,
            "further_findings": found.further_findings,
            "findings": findings,
        })
    });
    json!({ "machine": checks, "data": data })
}
