//! `kill -9` under a write load: what was acknowledged is there, what was not is whole or
//! absent, nothing is left behind, and the next start is like any other.
//!
//! A kill proves the order of steps, and not that anything was synced: the kernel keeps
//! what a dead process has written. `power.rs` cuts the power.
#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use engawa_testkit::{Dev, Random, TestProject, children, engawa, lives, wait_until};

use crate::load::{self, Client, FIXTURE};
use crate::{program, project};

/// Rounds by default, and with `ENGAWA_TEST_FULL`.
const ROUNDS: usize = 4;
const ROUNDS_FULL: usize = 500;

/// Processes that a killed `engawa` left behind: this process is their new parent.
fn orphans() -> Vec<u32> {
    let ours = |pid: &u32| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        lives(*pid) && matches!(name.trim(), "workerd" | "esbuild")
    };
    children(std::process::id())
        .into_iter()
        .filter(ours)
        .collect()
}

/// When `engawa` is killed.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// At some write.
    UnderLoad,
    /// At some write, while an edit is built and swapped in.
    DuringSwap,
    /// Before it is ready, perhaps.
    DuringStart,
}

#[test]
fn no_acknowledged_write_is_lost_by_kill_9() {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
    let mut random = Random::new(load::seed());
    let rounds = load::rounds(ROUNDS, ROUNDS_FULL);

    let project = project(&[("functions/[[path]].js", FIXTURE)]);
    let mut clients = load::clients(&mut random);

    let mut dev = Dev::start(program(), &project);
    let clean_start = dev.stderr();
    assert_eq!(dev.get("/setup").0, 200);
    let mut answered = 0;
    for round in 1..=rounds {
        let moment = match (round + 2) % 4 {
            0 => Moment::DuringStart,
            1 => Moment::DuringSwap,
            _ => Moment::UnderLoad,
        };
        if let Moment::DuringStart = moment {
            dev.signal("KILL");
            dev.wait();
            kill_during_start(&project, &mut random);
        } else {
            let workers = dev.workers();
            answered +=
                kill_under_load(&mut dev, &project, &mut clients, moment, round, &mut random);
            wait_until("its workers are gone", || {
                !workers.iter().any(|pid| lives(*pid))
            });
        }
        wait_until("nothing is left behind", || orphans().is_empty());

        dev = Dev::start(program(), &project);
        assert_eq!(
            dev.stderr(),
            clean_start,
            "round {round}: the start after {moment:?} is like the first"
        );
        if let Err(lost) = load::verify(&dev, &mut clients) {
            panic!("round {round}, after {moment:?}: {lost}");
        }
    }
    load::print(&format!("{rounds} rounds, {answered} acknowledged writes"));
    dev.signal("TERM");
    assert!(dev.wait().success());
    assert_no_rubbish(&project.path().join(".engawa"), &clients);
}

/// Loads and kills; gives the number of writes that were acknowledged.
fn kill_under_load(
    dev: &mut Dev,
    project: &TestProject,
    clients: &mut [Client],
    moment: Moment,
    round: usize,
    random: &mut Random,
) -> usize {
    let killed = AtomicBool::new(false);
    let answers = AtomicUsize::new(0);
    let kill_after = usize::try_from(1 + random.below(150)).unwrap();
    let extra = Duration::from_micros(random.below(20_000));
    let swap_for = Duration::from_millis(random.below(600));
    std::thread::scope(|scope| {
        let (dev, killed, answers) = (&*dev, &killed, &answers);
        for client in clients {
            scope.spawn(move || client.run(dev, killed, answers, |_, _| {}));
        }
        wait_until("the clients have written", || {
            answers.load(Ordering::SeqCst) >= kill_after
        });
        if let Moment::DuringSwap = moment {
            let edited = FIXTURE.replace("EDIT = 0", &format!("EDIT = {round}"));
            project.write("functions/[[path]].js", edited);
            std::thread::sleep(swap_for);
        }
        // Not at an answer, but anywhere between two.
        std::thread::sleep(extra);
        killed.store(true, Ordering::SeqCst);
        dev.signal("KILL");
    });
    dev.wait();
    answers.into_inner()
}

/// Starts and kills before the start is over, or right after.
fn kill_during_start(project: &TestProject, random: &mut Random) {
    let mut command = engawa(program());
    command.arg("dev").arg(project.path()).args(["--port", "0"]);
    command
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null());
    let mut child = command.spawn().unwrap();
    std::thread::sleep(Duration::from_millis(random.below(400)));
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Blobs that nothing names, half uploads and journals do not pile up: what the folder
/// holds is in proportion to what is stored.
fn assert_no_rubbish(state: &Path, clients: &[Client]) {
    fn bytes_below(folder: &Path) -> u64 {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries
            .map(|entry| {
                let metadata = entry.metadata().unwrap();
                if metadata.is_dir() {
                    bytes_below(&entry.path())
                } else {
                    metadata.blocks() * 512
                }
            })
            .sum()
    }
    let kept: usize = clients
        .iter()
        .flat_map(|client| client.acknowledged.values())
        .map(|value| value.length)
        .sum();
    let used = bytes_below(state);
    let room = 3 * kept as u64 + (64 << 20);
    assert!(
        used <= room,
        "{used} bytes are used for {kept} bytes of values"
    );
}
