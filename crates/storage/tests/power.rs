//! Power cuts at the syncs that a run of `engawa dev` does not show to matter: those of
//! static files, of data points and of deletions. Each scenario runs in a process of its
//! own, recorded; without any one of its syncs something is lost.
#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::cell::Cell;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use bytes::Bytes;
use engawa_model::{AccountId, DatasetName, NamespaceId, ProjectName, asset_key};
use engawa_storage::{BatchKey, KvPutOptions, NewAsset, Owner, Storage, StorageOptions};
use engawa_testkit::Random;
use engawa_testkit::power::{Recorder, Recording, Survivors, Sync};

const SCENARIO: &str = "ENGAWA_TEST_SCENARIO";
const DATA_DIR: &str = "ENGAWA_TEST_DATA_DIR";
/// From this many static files on, they share a sync of the file system.
const MANY: usize = 40;

#[test]
fn a_stored_file_of_a_project_survives() {
    let recording = record("store-two", None);
    caught(&recording, "blobs/tmp/asset-", Nth::All, |storage| {
        whole_or_missing(storage, 2)
    });
    caught(&recording, "/assets/", Nth::All, |storage| {
        complete(storage, 2)
    });
}

#[test]
fn many_stored_files_survive() {
    let recording = record("store-many", None);
    assert_eq!(syncs(&recording, "*"), 2);
    // The last one keeps the names. Without the first, a name may be kept and its file
    // not: the next start would take it for stored.
    caught(&recording, "*", Nth::Last, |storage| {
        complete(storage, MANY)
    });
    let before_last = Cell::new(0);
    let until_second = |sync: &Sync| {
        before_last.set(before_last.get() + usize::from(sync.path == "*"));
        sync.path == "*"
    };
    // What a kill between the renames and the second sync leaves, and then a power cut.
    let cut = recording.cut(recording.last_note(), Survivors::Names);
    let found = look(&cut.without(&until_second), |storage| {
        whole_or_missing(storage, MANY)
    });
    assert!(found.is_err(), "the first of two syncs is not needed");
}

#[test]
fn a_stored_data_point_survives() {
    let recording = record("append", None);
    for part in [".log", "/analytics/log"] {
        caught(&recording, part, Nth::All, |storage| {
            has_batches(storage, 1)
        });
    }
}

// Nobody heard of the batch before the kill; then its sender sent it again.
#[test]
fn a_data_point_that_was_found_after_a_kill_survives() {
    let before = record("append", None);
    let writes = before.writes(|name| name.contains(".log"));
    let [made, written] = writes[..] else {
        panic!("a new log is written twice: {writes:?}")
    };
    let recording = record("append-again", Some((&before, written)));
    caught(&recording, ".log", Nth::All, |storage| {
        has_batches(storage, 1)
    });
    // The kill came before the log's folder was synced.
    let recording = record("append", Some((&before, made)));
    caught(&recording, "/analytics/log", Nth::All, |storage| {
        has_batches(storage, 1)
    });
}

#[test]
fn what_was_deleted_does_not_come_back_under_a_new_resource() {
    let recording = record("delete", None);
    caught(&recording, "/kv/", Nth::LastFolder, |storage| {
        block_on(async {
            let (account, id) = (AccountId::local(), NamespaceId::new("n"));
            let catalog = storage.catalog();
            catalog
                .ensure_kv_namespace(&account, &id, "n")
                .await
                .unwrap();
            let got = storage.kv().get(&account, &id, "key").await.unwrap();
            match got.value {
                Some(_) => Err("an old value is there".to_owned()),
                None => Ok(()),
            }
        })
    });
}

/// Which of the syncs with a path are left out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Nth {
    All,
    Last,
    LastFolder,
}

/// With all syncs, no cut after the answer loses anything; without some of them, one does.
fn caught(
    recording: &Recording,
    part: &str,
    nth: Nth,
    check: impl Fn(&Storage) -> Result<(), String>,
) {
    let is_it =
        |sync: &Sync| sync.path.contains(part) && (nth != Nth::LastFolder || sync.is_folder);
    let of = recording.syncs().filter(|sync| is_it(sync)).count();
    assert!(of > 0, "nothing of {part} is synced");
    let is_found = [Survivors::None, Survivors::Names].map(|survivors| {
        let cut = || recording.cut(recording.last_note(), survivors);
        look(&cut(), &check).unwrap();
        let count = Cell::new(0);
        let ignored = |sync: &Sync| {
            count.set(count.get() + usize::from(is_it(sync)));
            is_it(sync) && (nth == Nth::All || count.get() == of)
        };
        look(&cut().without(&ignored), &check).is_err()
    });
    assert!(
        is_found.contains(&true),
        "nothing is lost without the sync of {part}"
    );
    let mut random = Random::new(1);
    for _ in 0..20 {
        let cut = recording.cut(recording.last_note(), Survivors::Some);
        look_with(&cut, &mut random, &check).unwrap();
    }
}

fn syncs(recording: &Recording, part: &str) -> usize {
    let is_it = |sync: &&Sync| sync.path.contains(part);
    recording.syncs().filter(is_it).count()
}

fn look(
    cut: &engawa_testkit::power::Cut<'_>,
    check: impl Fn(&Storage) -> Result<(), String>,
) -> Result<(), String> {
    look_with(cut, &mut Random::new(0), check)
}

/// Opens what a cut has left.
fn look_with(
    cut: &engawa_testkit::power::Cut<'_>,
    random: &mut Random,
    check: impl Fn(&Storage) -> Result<(), String>,
) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    cut.write(random, folder.path());
    let (owner, storage) = open(&folder.path().join("data"));
    let checked = check(&storage);
    block_on(storage.close());
    drop(owner);
    checked
}

/// Records a scenario in a new folder, or in what a kill has left.
fn record(scenario: &str, after_kill: Option<(&Recording, usize)>) -> Recording {
    let folder = tempfile::tempdir().unwrap();
    let recorder = match after_kill {
        None => Recorder::new(folder.path(), "data"),
        Some((recording, steps)) => Recorder::after_kill(recording, steps, folder.path(), "data"),
    };
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "scenario", "--nocapture"])
        .env(SCENARIO, scenario)
        .env(DATA_DIR, folder.path().join("data"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut process = recorder.start(command).unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    assert!(
        lines.any(|line| line.unwrap().contains("acknowledged")),
        "{scenario} fails"
    );
    recorder.note(0);
    // Nothing that an end in order does is waited for.
    process.kill();
    process.wait_for_all();
    recorder.finish()
}

/// Not a test: what the tests record.
#[test]
fn scenario() {
    let Some(scenario) = std::env::var_os(SCENARIO) else {
        return;
    };
    let (_owner, storage) = open(Path::new(&std::env::var_os(DATA_DIR).unwrap()));
    let (account, id) = (AccountId::local(), NamespaceId::new("n"));
    block_on(async {
        match scenario.to_str().unwrap() {
            "store-two" => store(&storage, 2).await,
            "store-many" => store(&storage, MANY).await,
            "append" => assert!(append(&storage).await),
            "append-again" => assert!(!append(&storage).await),
            "delete" => {
                let catalog = storage.catalog();
                catalog
                    .ensure_kv_namespace(&account, &id, "n")
                    .await
                    .unwrap();
                let mut stage = storage.stage(&account, 1024);
                stage.write(Bytes::from_static(b"value")).await.unwrap();
                let value = stage.finish().await.unwrap();
                storage
                    .kv()
                    .put(&account, &id, "key", value, KvPutOptions::default())
                    .await
                    .unwrap();
                catalog.delete_kv_namespace(&account, &id).await.unwrap();
            }
            other => panic!("{other}"),
        }
    });
    println!("acknowledged");
    // The other end has what it needs, and ends this process.
    std::thread::sleep(std::time::Duration::from_mins(1));
}

fn open(data_dir: &Path) -> (Owner, Storage) {
    let owner = Owner::acquire(data_dir, "a test").unwrap();
    let storage = Storage::open(&owner, StorageOptions::new(data_dir)).unwrap();
    (owner, storage)
}

fn asset(number: usize) -> NewAsset {
    let bytes = format!("file {number}");
    NewAsset {
        key: asset_key(bytes.as_bytes(), "txt"),
        extensions: vec!["txt".to_owned()],
        bytes: bytes.into(),
    }
}

async fn store(storage: &Storage, count: usize) {
    let assets = (0..count).map(asset).collect();
    storage
        .assets()
        .put_many(&AccountId::local(), &ProjectName::new("p"), assets)
        .await
        .unwrap();
}

fn complete(storage: &Storage, count: usize) -> Result<(), String> {
    (0..count).try_for_each(|number| match stored(storage, number) {
        Some(bytes) if bytes == asset(number).bytes => Ok(()),
        other => Err(format!("file {number} is {other:?}")),
    })
}

fn whole_or_missing(storage: &Storage, count: usize) -> Result<(), String> {
    (0..count).try_for_each(|number| match stored(storage, number) {
        Some(bytes) if bytes != asset(number).bytes => Err(format!("file {number} is {bytes:?}")),
        _ => Ok(()),
    })
}

fn stored(storage: &Storage, number: usize) -> Option<Vec<u8>> {
    let key = asset(number).key;
    let path = storage
        .assets()
        .path(&AccountId::local(), &ProjectName::new("p"), &key);
    std::fs::read(path.unwrap()).ok()
}

/// Whether the batch was new.
async fn append(storage: &Storage) -> bool {
    let key = BatchKey {
        boot_id: "boot".to_owned(),
        number: 1,
    };
    let appended = storage
        .events()
        .append(&AccountId::local(), &DatasetName::new("d"), key, Vec::new())
        .await;
    appended.unwrap().value
}

fn has_batches(storage: &Storage, count: usize) -> Result<(), String> {
    let reader = storage.events().read(&AccountId::local());
    let batches: Result<Vec<_>, _> = reader.and_then(Iterator::collect);
    match batches {
        Ok(batches) if batches.len() == count => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}
