use std::fs;
use std::os::unix::fs::FileExt as _;

use bytes::Bytes;
use engawa_model::{BucketName, DatabaseId, DatasetName, NamespaceId};

use super::*;
use crate::d1::{D1Format, D1QueryOptions, D1Statement};
use crate::tests::Fixture;
use crate::{BatchKey, KvPutOptions};

const LARGE: usize = 3_000_000;

/// A data folder with a bit of everything, closed.
async fn filled() -> (Fixture, AccountId, NamespaceId) {
    let fixture = Fixture::new();
    let account = AccountId::local();
    let (kv, db, bucket) = (
        NamespaceId::new("ns"),
        DatabaseId::new("db"),
        BucketName::new("bucket"),
    );
    let storage = &fixture.storage;
    let catalog = storage.catalog();
    catalog
        .ensure_kv_namespace(&account, &kv, "Sessions")
        .await
        .unwrap();
    catalog
        .ensure_d1_database(&account, &db, "Orders")
        .await
        .unwrap();
    catalog.ensure_r2_bucket(&account, &bucket).await.unwrap();
    for (key, len) in [("small", 10), ("large", LARGE)] {
        let mut stage = storage.stage(&account, 16 * 1024);
        stage.write(Bytes::from(vec![7; len])).await.unwrap();
        let value = stage.finish().await.unwrap();
        let options = KvPutOptions::default();
        storage
            .kv()
            .put(&account, &kv, key, value, options)
            .await
            .unwrap();
    }
    let create = D1Statement {
        sql: "CREATE TABLE t AS WITH RECURSIVE n(i) AS
              (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
              SELECT i, hex(randomblob(50)) AS text FROM n"
            .to_owned(),
        params: Vec::new(),
    };
    let options = D1QueryOptions {
        format: D1Format::Objects,
        ..D1QueryOptions::default()
    };
    storage
        .d1()
        .query(&account, &db, vec![create], options)
        .await
        .unwrap();
    let key = BatchKey {
        boot_id: "boot".to_owned(),
        number: 1,
    };
    storage
        .events()
        .append(&account, &DatasetName::new("set"), key, Vec::new())
        .await
        .unwrap();
    // What D1 leaves in its `-wal` is to be in the file for what follows.
    (fixture.restart().await, account, kv)
}

fn examine_deep(fixture: &Fixture) -> Examination {
    examine(fixture.data_dir(), false, true)
}

fn flip(path: &Path, at: u64) {
    let file = fs::File::options()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

/// The only blob.
fn blob(fixture: &Fixture) -> PathBuf {
    let mut path = fixture.data_dir().join("accounts/local/blobs/kv");
    while path.is_dir() {
        path = read_folder(&path).unwrap().pop().unwrap();
    }
    path
}

fn file_of(fixture: &Fixture, resource: Resource, id: &str) -> PathBuf {
    let layout = Layout::new(fixture.data_dir().to_owned());
    layout.database_file(resource, &AccountId::local(), id)
}

#[tokio::test]
async fn a_sound_folder_has_no_findings_and_is_left_as_it_is() {
    let (fixture, ..) = filled().await;
    let names = || {
        let mut names = Vec::new();
        let mut folders = vec![fixture.data_dir().to_owned()];
        while let Some(folder) = folders.pop() {
            for path in read_folder(&folder).unwrap() {
                if path.is_dir() {
                    folders.push(path.clone());
                }
                names.push((path.clone(), fs::metadata(&path).unwrap().len()));
            }
        }
        names.sort();
        names
    };
    // Beside the process that has it open.
    let found = examine_deep(&fixture);
    assert_eq!(found.findings, []);
    assert_eq!(found.blobs, 1);
    assert_eq!(found.verified_bytes, LARGE as u64);
    assert_eq!(found.files, 3, "the catalog, and what has been used");

    fixture.storage.clone().close().await;
    let before = names();
    let found = examine(fixture.data_dir(), true, true);
    assert_eq!(found.findings, []);
    assert_eq!(names(), before, "looking changes nothing");
}

#[tokio::test]
async fn a_damaged_blob_is_named_with_its_key_and_the_rest_goes_on() {
    let (fixture, account, kv) = filled().await;
    flip(&blob(&fixture), 1_500_000);
    let found = examine_deep(&fixture);
    let [finding] = &found.findings[..] else {
        panic!("{:#?}", found.findings)
    };
    assert_eq!(finding.level, Level::Error);
    assert_eq!(finding.path, blob(&fixture));
    assert!(finding.what.contains("checksum"), "{finding:?}");
    assert_eq!(
        finding.lost,
        "the value of \"large\" in the KV namespace Sessions (ns) of the account local"
    );
    assert!(!finding.advice.is_empty());
    // Without the checksums only its end is looked at.
    assert_eq!(examine(fixture.data_dir(), false, false).findings, []);

    let get = async |key: &str| {
        let got = fixture.storage.kv().get(&account, &kv, key).await.unwrap();
        got.value.unwrap().value.collect(1 << 30).await
    };
    assert_eq!(get("large").await.unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(get("small").await.unwrap().len(), 10);
}

#[tokio::test]
async fn a_blob_that_is_cut_short_or_gone_is_named() {
    let (fixture, ..) = filled().await;
    let path = blob(&fixture);
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_len(1000).unwrap();
    let found = examine(fixture.data_dir(), false, false);
    assert!(found.findings[0].what.contains("footer"), "{found:?}");
    fs::remove_file(&path).unwrap();
    let found = examine(fixture.data_dir(), false, false);
    assert_eq!(found.findings[0].what, "it is missing");
    assert_eq!(found.findings[0].path, path);
}

#[tokio::test]
async fn a_damaged_or_truncated_database_is_named() {
    let (fixture, ..) = filled().await;
    let (owner_dir, file) = (
        fixture.data_dir().to_owned(),
        file_of(&fixture, Resource::D1, "db"),
    );
    fixture.storage.clone().close().await;
    // D1's closing keeps the `-wal`; here the file itself is to be damaged.
    let connection = Connection::open(&file).unwrap();
    connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        .unwrap();
    drop(connection);
    assert_eq!(examine(&owner_dir, true, false).findings, []);

    let whole = fs::read(&file).unwrap();
    // The kind of the second page's tree.
    flip(&file, 4096);
    let found = examine(&owner_dir, true, false);
    let finding = &found.findings[0];
    assert_eq!((finding.level, &finding.path), (Level::Error, &file));
    assert!(finding.what.contains("damaged"), "{finding:?}");
    assert!(finding.lost.contains("Orders"), "{finding:?}");
    assert!(finding.advice.contains("backup"), "{finding:?}");

    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    let found = examine(&owner_dir, true, false);
    assert_eq!(found.findings[0].path, file);
    assert_eq!(found.findings.len(), 1, "{found:#?}");
}

#[tokio::test]
async fn files_that_nothing_names_and_files_that_are_missing_are_told() {
    let (fixture, ..) = filled().await;
    let file = file_of(&fixture, Resource::Kv, "ns");
    let stray = file_of(&fixture, Resource::Kv, "another");
    fixture.storage.clone().close().await;
    fs::create_dir_all(stray.parent().unwrap()).unwrap();
    fs::rename(&file, &stray).unwrap();
    let found = examine(fixture.data_dir(), true, false);
    let told: Vec<_> = found
        .findings
        .iter()
        .map(|finding| (finding.level, &finding.path))
        .collect();
    assert_eq!(told, [(Level::Error, &file), (Level::Warning, &stray)]);
    assert!(found.findings[0].lost.contains("Sessions"), "{found:?}");

    fs::remove_file(fixture.data_dir().join("catalog.sqlite")).unwrap();
    let found = examine(fixture.data_dir(), true, false);
    assert!(found.findings[0].path.ends_with("catalog.sqlite"));
    assert_eq!(found.findings[0].level, Level::Error);
}

#[tokio::test]
async fn a_damaged_log_of_data_points_is_named() {
    let (fixture, ..) = filled().await;
    let folder = fixture.data_dir().join("accounts/local/analytics/log");
    let first = read_folder(&folder).unwrap().pop().unwrap();
    flip(&first, 0);
    let found = examine_deep(&fixture);
    assert_eq!(found.findings.len(), 1);
    assert!(
        found.findings[0].what.contains(first.to_str().unwrap()),
        "{found:?}"
    );
}

#[tokio::test]
async fn a_file_whose_change_was_cut_off_is_not_called_damaged() {
    let (fixture, ..) = filled().await;
    let file = file_of(&fixture, Resource::D1, "db");
    fixture.storage.clone().close().await;
    // A change with a rollback journal, which is on the disk already in part.
    let elsewhere = tempfile::tempdir().unwrap();
    let copy = elsewhere.path().join("db.sqlite");
    let connection = Connection::open(&copy).unwrap();
    connection
        .execute_batch(
            "PRAGMA cache_size = 2;
             CREATE TABLE t AS WITH RECURSIVE n(i) AS
                 (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
                 SELECT i, hex(randomblob(50)) AS text FROM n;
             BEGIN;
             UPDATE t SET text = 'new' || text;",
        )
        .unwrap();
    let beside = |path: &Path, end: &str| {
        let mut path = path.as_os_str().to_owned();
        path.push(end);
        PathBuf::from(path)
    };
    let _ = fs::remove_file(beside(&file, "-wal"));
    fs::copy(&copy, &file).unwrap();
    fs::copy(beside(&copy, "-journal"), beside(&file, "-journal")).unwrap();
    drop(connection);

    let found = examine(fixture.data_dir(), true, false);
    let [finding] = &found.findings[..] else {
        panic!("{:#?}", found.findings)
    };
    assert_eq!(finding.level, Level::Note, "{finding:?}");
    assert_eq!(finding.path, file);
}
