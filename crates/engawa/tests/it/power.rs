//! Power cuts under a write load: what was acknowledged survives what the kernel had not
//! yet written, what was not is whole or absent, and the next start is like any other.
//!
//! One run of the real program is recorded, and serves any number of cuts
//! (`engawa_testkit::power` says what a cut keeps). Then the checker is checked: for each
//! kind of sync that keeps a write, the same record without those syncs loses writes.
#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use engawa_testkit::power::{Recorder, Recording, Survivors, Sync};
use engawa_testkit::{Dev, Random, TestProject, engawa, wait_until};

use crate::load::{self, FIXTURE, Step};
use crate::{program, project};

/// Cuts by default, and with `ENGAWA_TEST_FULL`.
const CUTS: usize = 40;
const CUTS_FULL: usize = 500;
/// Writes that a recorded run acknowledges: enough that every `-wal` is copied into its
/// file and begun anew.
const WRITES: usize = 400;
/// Cuts that one recorded run serves.
const CUTS_OF_RUN: usize = 50;
/// The note of the answer to `/setup`.
const IS_SET_UP: usize = usize::MAX;

/// A recorded run, and what its clients knew at each step.
struct Run {
    recording: Recording,
    /// By number of the note.
    steps: Vec<(usize, Step)>,
    /// Names the clients' writes.
    seed: u64,
}

impl Run {
    /// Runs the real program under load, and ends it in order.
    fn record(seed: u64) -> Self {
        let project = project(&[("functions/[[path]].js", FIXTURE)]);
        let recorder = Recorder::new(project.path(), ".engawa");
        let mut dev = Dev::spawn_recorded(dev_command(&project), &recorder).unwrap();
        assert_eq!(dev.get("/setup").0, 200);
        recorder.note(IS_SET_UP);
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
            wait_until("the clients have written", || {
                answers.load(Ordering::SeqCst) >= WRITES
            });
            stop.store(true, Ordering::SeqCst);
        });
        dev.signal("TERM");
        assert!(dev.wait().success(), "{}", dev.stderr());
        let recording = recorder.finish();
        assert_complete(&recording, project.path());
        Self {
            recording,
            steps: steps.into_inner().unwrap(),
            seed,
        }
    }

    /// Makes what is left after a cut, starts the program on it, and looks.
    fn check(
        &self,
        steps: usize,
        survivors: Survivors,
        ignored: &dyn Fn(&Sync) -> bool,
        random: &mut Random,
        clean_start: &str,
    ) -> Result<(), String> {
        let project = project(&[("functions/[[path]].js", FIXTURE)]);
        let cut = self.recording.cut(steps, survivors).without(ignored);
        cut.write(random, project.path());
        let dev = Dev::spawn(dev_command(&project)).map_err(|error| format!("{error:#}"))?;
        if dev.stderr() != clean_start {
            return Err(format!("the start is not like the first:\n{}", dev.stderr()));
        }
        let mut clients = load::clients(&mut Random::new(self.seed));
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
        load::verify(&dev, &mut clients)
    }
}

#[test]
fn no_acknowledged_write_is_lost_by_a_power_cut() {
    let seed = load::seed();
    let mut random = Random::new(seed);
    let clean_start = clean_start();
    let cuts = load::rounds(CUTS, CUTS_FULL);
    for first in (0..cuts).step_by(CUTS_OF_RUN) {
        let run = Run::record(random.next());
        for cut in first..cuts.min(first + CUTS_OF_RUN) {
            let cut_seed = random.next();
            let mut random = Random::new(cut_seed);
            let steps = random.below_len(run.recording.len() + 1);
            let of = run.recording.len();
            let checked = run.check(steps, Survivors::Some, &|_| false, &mut random, &clean_start);
            if let Err(lost) = checked {
                panic!("cut {cut} after step {steps} of {of} (seed {seed}): {lost}");
            }
        }
    }
}

fn dev_command(project: &TestProject) -> std::process::Command {
    let mut command = engawa(program());
    command.arg("dev").arg(project.path()).args(["--port", "0"]);
    command
}

/// What a first start says.
fn clean_start() -> String {
    let project = project(&[("functions/[[path]].js", FIXTURE)]);
    Dev::start(program(), &project).stderr()
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
