//! Power cuts under a write load: what was acknowledged survives what the kernel had not
//! yet written, what was not is whole or absent, and the next start is like any other.
//!
//! One run of the real program is recorded, and serves any number of cuts
//! (`engawa_testkit::power` says what a cut keeps). Then the checker is checked: for each
//! kind of sync that keeps a write, the same record without those syncs loses writes.
#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use engawa_testkit::power::{Recorder, Recording, Survivors, Sync};
use engawa_testkit::{Dev, Random, TestProject, engawa, output, wait_until};

use serde::{Deserialize, Serialize};

use crate::load::{self, FIXTURE, Step};
use crate::{program, project};

/// Cuts by default, and with `ENGAWA_TEST_FULL`.
const CUTS: usize = 4;
const CUTS_FULL: usize = 500;
/// Writes that a recorded run acknowledges at least.
const WRITES: usize = 400;
/// Cuts that one recorded run serves.
const CUTS_OF_RUN: usize = 50;
/// The note of the answer to `/setup`.
const IS_SET_UP: usize = usize::MAX;

const PAGE: &str = "<h1>A page</h1>";
const ROUTES: &str = r#"{ "version": 1, "include": ["/*"], "exclude": ["/page"] }"#;

/// A recorded run, and what its clients knew at each step.
#[derive(Serialize, Deserialize)]
struct Run {
    recording: Recording,
    /// By number of the note.
    steps: Vec<(usize, Step)>,
    /// What a first start says.
    clean_start: String,
}

impl Run {
    /// Runs the real program under load, and ends it in order.
    fn record(seed: u64) -> Self {
        let clean_start = Dev::start(program(), &loaded_project()).stderr();
        let project = loaded_project();
        let recorder = Recorder::new(project.path(), ".engawa");
        let mut dev = Dev::spawn_recorded(dev_command(&project), &recorder).unwrap();
        assert_eq!(dev.get("/setup").0, 200);
        recorder.note(IS_SET_UP);
        let checkpoints = || recorder.count_syncs(|sync| kind(sync) == "D1 file");
        let before = checkpoints();
        let steps = Mutex::new(Vec::new());
        let note = |client: usize, step: Step| {
            let mut steps = steps.lock().unwrap();
            recorder.note(steps.len());
            steps.push((client, step));
        };
        let (stop, answers) = (AtomicBool::new(false), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for mut client in load::clients(&mut Random::new(seed)) {
                let (dev, stop, answers) = (&dev, &stop, &answers);
                scope.spawn(move || client.run(dev, stop, answers, note));
            }
            let has = |count| answers.load(Ordering::SeqCst) >= count;
            wait_until(
                "the clients have written, and D1 has copied its -wal",
                || has(WRITES) && checkpoints() > before,
            );
            // They overwrite the beginning of that `-wal`.
            let more = answers.load(Ordering::SeqCst) + WRITES / 8;
            wait_until("the clients have written more", || has(more));
            stop.store(true, Ordering::SeqCst);
        });
        dev.signal("TERM");
        assert!(dev.wait().success(), "{}", dev.stderr());
        let recording = recorder.finish();
        assert_complete(&recording, project.path());
        Self {
            recording,
            steps: steps.into_inner().unwrap(),
            clean_start,
        }
    }

    /// Makes what is left after a cut, starts the program on it, and looks.
    fn check(
        &self,
        steps: usize,
        survivors: Survivors,
        ignored: &dyn Fn(&Sync) -> bool,
        random: &mut Random,
    ) -> Result<(), String> {
        let project = loaded_project();
        let cut = self.recording.cut(steps, survivors).without(ignored);
        cut.write(random, project.path());
        let dev = Dev::spawn(dev_command(&project)).map_err(|error| format!("{error:#}"))?;
        if dev.stderr() != self.clean_start {
            return Err(format!(
                "the start is not like the first:\n{}",
                dev.stderr()
            ));
        }
        // What they write is not asked for here.
        let mut clients = load::clients(&mut Random::new(0));
        let mut is_set_up = false;
        for note in self.recording.notes(steps) {
            if note == IS_SET_UP {
                is_set_up = true;
            } else {
                let (client, step) = self.steps[note].clone();
                clients[client].learn(step);
            }
        }
        if !is_set_up && dev.get("/setup").0 != 200 {
            return Err(format!("the first request fails:\n{}", dev.stderr()));
        }
        if dev.get("/page") != (200, PAGE.to_owned()) {
            return Err(format!("the page is {:?}", dev.get("/page")));
        }
        load::verify(&dev, &mut clients)?;
        let mut doctor = engawa(program());
        let (success, stdout, stderr) =
            output(doctor.arg("doctor").arg("--cwd").arg(project.path()));
        if !success {
            return Err(format!("the doctor finds something: {stdout}{stderr}"));
        }
        Ok(())
    }

    /// One random cut of a seed.
    fn check_random(&self, cut_seed: u64) -> Result<(), String> {
        let mut random = Random::new(cut_seed);
        let of = self.recording.len();
        let steps = random.below_len(of + 1);
        self.check(steps, Survivors::Some, &|_| false, &mut random)
            .map_err(|lost| format!("cut after step {steps} of {of}: {lost}"))
    }
}

#[test]
fn no_acknowledged_write_is_lost_by_a_power_cut() {
    // A run has many threads and is never the same twice, so the one that failed is kept.
    if let Some(kept) = std::env::var_os("ENGAWA_TEST_POWER_RUN") {
        let run: Run = serde_json::from_slice(&fs::read(kept).unwrap()).unwrap();
        return run.check_random(load::seed()).unwrap();
    }
    let mut random = Random::new(load::seed());
    let cuts = load::rounds(CUTS, CUTS_FULL);
    for first in (0..cuts).step_by(CUTS_OF_RUN) {
        let run = Run::record(random.next());
        for cut in first..cuts.min(first + CUTS_OF_RUN) {
            let cut_seed = random.next();
            if let Err(lost) = run.check_random(cut_seed) {
                let kept = std::env::temp_dir().join(format!("engawa-power-{cut_seed}.json"));
                fs::write(&kept, serde_json::to_vec(&run).unwrap()).unwrap();
                panic!(
                    "cut {cut}: {lost}\nTo repeat it: ENGAWA_TEST_SEED={cut_seed} \
                     ENGAWA_TEST_POWER_RUN={}",
                    kept.display()
                );
            }
        }
    }
}

/// Syncs whose loss nobody could see in this run.
const NOT_NEEDED: [(&str, &str); 5] = [
    (
        "catalog",
        "every start of `dev` makes its rows again; its stamps only have to grow",
    ),
    (
        "first form of a file",
        "SQLite's own journal, before the file has a row",
    ),
    (
        "folder of assets",
        "every start of `dev` stores what is missing",
    ),
    ("folder of uploads", "they are for the collector"),
    (
        "journal of D1",
        "Time Travel's history, which this run does not go back in",
    ),
];

#[test]
fn without_any_one_kind_of_sync_writes_are_lost() {
    let mut random = Random::new(load::seed());
    let run = Run::record(random.next());
    let (answered, ended) = (run.recording.last_note(), run.recording.len());
    let worst = [
        (answered, Survivors::None),
        (answered, Survivors::Names),
        (ended, Survivors::Names),
        (ended, Survivors::None),
    ];
    for (steps, survivors) in worst {
        run.check(steps, survivors, &|_| false, &mut random)
            .unwrap();
    }
    let kinds: BTreeSet<&str> = run.recording.syncs().map(kind).collect();
    let is_needed = |kind: &&&str| !NOT_NEEDED.iter().any(|(other, _)| other == *kind);
    let mut unneeded = Vec::new();
    for without in kinds.iter().filter(is_needed) {
        let is_caught = worst.iter().any(|(steps, survivors)| {
            let ignored = |sync: &Sync| kind(sync) == *without;
            let checked = run.check(*steps, *survivors, &ignored, &mut random);
            if let Err(lost) = &checked {
                let first = lost.lines().next().unwrap_or_default();
                load::print(&format!("without the {without}: {first}"));
            }
            checked.is_err()
        });
        if !is_caught {
            unneeded.push(*without);
        }
    }
    assert!(unneeded.is_empty(), "nothing is lost without {unneeded:?}");
    assert_eq!(kinds.len(), 22, "{kinds:#?}");
}

/// What a sync is for, by what it syncs.
fn kind(sync: &Sync) -> &'static str {
    let parts: Vec<&str> = sync.path.split('/').collect();
    let is_file_of = |end: &str| sync.path.ends_with(end);
    match parts[..] {
        [""] => "folder above the data folder",
        [".engawa"] => "data folder",
        [".engawa", _] if is_file_of("-wal") || is_file_of(".sqlite") => "catalog",
        _ if is_file_of("-journal") => "first form of a file",
        [".engawa", "accounts"] | [".engawa", "accounts", _] => "folder of accounts",
        [_, _, _, "kv" | "d1" | "r2"] => "folder of folders of files",
        [_, _, _, "kv", _] => "folder of KV files",
        [_, _, _, "d1", _] => "folder of D1 files",
        [_, _, _, "r2", _] => "folder of R2 files",
        [_, _, _, "kv", _, _] if is_file_of("-wal") => "KV -wal",
        [_, _, _, "d1", _, _] if is_file_of("-wal") => "D1 -wal",
        [_, _, _, "r2", _, _] if is_file_of("-wal") => "R2 -wal",
        [_, _, _, "kv", _, _] => "KV file",
        [_, _, _, "d1", _, _] => "D1 file",
        [_, _, _, "r2", _, _] => "R2 file",
        [_, _, _, "blobs", "tmp", name] if name.starts_with("asset-") => "asset",
        [_, _, _, "blobs", "tmp", _] => "blob",
        [_, _, _, "blobs", "tmp"] => "folder of uploads",
        [_, _, _, "blobs"] | [_, _, _, "blobs", _] | [_, _, _, "blobs", _, _] => {
            "folder of folders of blobs"
        }
        [_, _, _, "blobs", _, _, _] => "folder of folders of a file's blobs",
        [_, _, _, "blobs", _, _, _, _] => "folder of blobs",
        [_, _, _, "assets", ..] if sync.is_folder => "folder of assets",
        [_, _, _, "journal", ..] => "journal of D1",
        _ => panic!("a sync that nobody has looked at: {sync:?}"),
    }
}

/// A project that the clients can write to, with a static page.
fn loaded_project() -> TestProject {
    project(&[
        ("functions/[[path]].js", FIXTURE),
        ("public/page.html", PAGE),
        ("public/_routes.json", ROUTES),
    ])
}

fn dev_command(project: &TestProject) -> std::process::Command {
    let mut command = engawa(program());
    command.arg("dev").arg(project.path()).args(["--port", "0"]);
    command
}

/// The record, with nothing lost, is what the disk holds: so nothing was overlooked.
fn assert_complete(recording: &Recording, project: &Path) {
    let all = tempfile::tempdir().unwrap();
    let cut = recording.cut(recording.len(), Survivors::All);
    cut.write(&mut Random::new(0), all.path());
    let (recorded, real) = (files(all.path()), files(&project.join(".engawa")));
    let recorded: BTreeMap<_, _> = recorded
        .into_iter()
        .map(|(path, bytes)| (path.strip_prefix(".engawa").unwrap().to_owned(), bytes))
        .collect();
    let names = |files: &BTreeMap<PathBuf, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&recorded), names(&real));
    for (path, bytes) in real {
        assert!(recorded[&path] == bytes, "{} differs", path.display());
    }
}

/// Every file below a folder that outlives its server.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    fn add(files: &mut BTreeMap<PathBuf, Vec<u8>>, root: &Path, folder: &Path) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            if metadata.is_dir() {
                add(files, root, &path);
            } else if metadata.is_file() && !path.to_string_lossy().ends_with("-shm") {
                let name = path.strip_prefix(root).unwrap().to_owned();
                files.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    let mut all = BTreeMap::new();
    add(&mut all, folder, folder);
    all
}
