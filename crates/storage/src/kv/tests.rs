use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use bytes::Bytes;
use engawa_model::{AccountId, ErrorKind, NamespaceId, UsageClass};
use futures_util::future::join_all;
use proptest::prelude::*;

use super::{KvEntry, KvListOptions, KvPutOptions, reaper};
use crate::Error;
use crate::tests::Fixture;

/// Sees every commit of SQLite, and can hold groups back.
#[derive(Default)]
pub(super) struct Probe {
    commits: Arc<AtomicU64>,
    is_held: Mutex<bool>,
    freed: Condvar,
}

impl Probe {
    pub(super) fn watch(&self, connection: &mut rusqlite::Connection) {
        let commits = self.commits.clone();
        let count = move || {
            commits.fetch_add(1, Ordering::SeqCst);
            false
        };
        connection.commit_hook(Some(count)).unwrap();
    }

    pub(super) fn wait(&self) {
        let held = self.is_held.lock().unwrap();
        drop(self.freed.wait_while(held, |held| *held).unwrap());
    }

    fn hold(&self, held: bool) {
        *self.is_held.lock().unwrap() = held;
        self.freed.notify_all();
    }
}

impl Fixture {
    async fn put(&self, key: &str, value: &[u8], options: KvPutOptions) -> Result<(), Error> {
        let (account, namespace) = place();
        put_in(self, &account, &namespace, key, value, options).await
    }

    async fn put_text(&self, key: &str, value: &str) {
        self.put(key, value.as_bytes(), KvPutOptions::default())
            .await
            .unwrap();
    }

    async fn entry(&self, key: &str) -> Option<KvEntry> {
        let (account, namespace) = place();
        let got = self.storage.kv().get(&account, &namespace, key).await;
        got.unwrap().value
    }

    async fn text(&self, key: &str) -> Option<String> {
        read(self.entry(key).await).await
    }

    async fn delete(&self, key: &str) {
        let (account, namespace) = place();
        let kv = self.storage.kv();
        kv.delete(&account, &namespace, key).await.unwrap();
    }

    async fn names(
        &self,
        prefix: &str,
        limit: i64,
        cursor: Option<String>,
    ) -> (Vec<String>, Option<String>) {
        let (account, namespace) = place();
        let options = KvListOptions {
            prefix: Some(prefix.to_owned()),
            limit: Some(limit),
            cursor,
        };
        let list = self.storage.kv().list(&account, &namespace, options).await;
        let list = list.unwrap().value;
        let names = list.keys.into_iter().map(|key| key.name).collect();
        (names, list.cursor)
    }

    /// Blob files below the data folder.
    fn blobs(&self) -> usize {
        fn count(folder: &std::path::Path) -> usize {
            let Ok(entries) = std::fs::read_dir(folder) else {
                return 0;
            };
            let counts = entries.map(|entry| {
                let path = entry.unwrap().path();
                if path.is_dir() { count(&path) } else { 1 }
            });
            counts.sum()
        }
        count(&self.data_dir().join("accounts/local/blobs"))
    }

    async fn reap(&self) {
        let kv = self.storage.kv().clone();
        tokio::task::spawn_blocking(move || reaper::reap(&kv.context, &kv.files, || false))
            .await
            .unwrap();
    }
}

fn place() -> (AccountId, NamespaceId) {
    (AccountId::local(), NamespaceId::from("ns"))
}

async fn put_in(
    fixture: &Fixture,
    account: &AccountId,
    namespace: &NamespaceId,
    key: &str,
    value: &[u8],
    options: KvPutOptions,
) -> Result<(), Error> {
    let kv = fixture.storage.kv();
    let staged = kv
        .stage_bytes(account, Bytes::copy_from_slice(value))
        .await?;
    let put = kv.put(account, namespace, key, staged, options).await?;
    assert_eq!(put.usage.class, UsageClass::KvWrite);
    assert_eq!(put.usage.bytes_in, value.len() as u64);
    Ok(())
}

async fn read(entry: Option<KvEntry>) -> Option<String> {
    let bytes = entry?.value.collect(1 << 30).await.unwrap();
    Some(String::from_utf8(bytes.to_vec()).unwrap())
}

fn ttl(seconds: &str) -> KvPutOptions {
    KvPutOptions {
        expiration_ttl: Some(seconds.to_owned()),
        ..KvPutOptions::default()
    }
}

// docs: kv api, write and read key-value pairs; storage.md 1.3, 1.4
#[tokio::test]
async fn a_put_replaces_value_metadata_and_expiration_together() {
    let fixture = Fixture::new();
    let options = KvPutOptions {
        metadata: Some("{\"a\":\"é\"}".into()),
        expiration: Some("1700000060".into()),
        expiration_ttl: Some("120".into()),
    };
    fixture.put("k", b"one", options).await.unwrap();
    let entry = fixture.entry("k").await.unwrap();
    assert_eq!(entry.metadata.as_deref(), Some("{\"a\":\"é\"}"));
    // The ttl wins.
    assert_eq!(entry.expiration_s, Some(1_700_000_120));
    fixture.put_text("k", "").await;
    let entry = fixture.entry("k").await.unwrap();
    assert_eq!(
        (entry.metadata.as_deref(), entry.expiration_s),
        (None, None)
    );
    // An empty value is a value.
    assert_eq!(fixture.text("k").await.as_deref(), Some(""));
    assert_eq!(fixture.text("absent").await, None);
    fixture.delete("absent").await;
    fixture.delete("k").await;
    assert_eq!(fixture.text("k").await, None);
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_restart() {
    let fixture = Fixture::new();
    let long = "long ".repeat(10_000);
    fixture.put("small", b"x", ttl("60")).await.unwrap();
    fixture.put_text("long", &long).await;
    fixture.put_text("gone", "x").await;
    fixture.delete("gone").await;
    let fixture = fixture.restart().await;
    assert_eq!(
        fixture.entry("small").await.unwrap().expiration_s,
        Some(1_700_000_060)
    );
    assert_eq!(fixture.text("small").await.as_deref(), Some("x"));
    assert_eq!(fixture.text("long").await.as_deref(), Some(&*long));
    assert_eq!(fixture.text("gone").await, None);
}

#[tokio::test]
async fn a_value_above_16_kib_is_a_blob_that_goes_with_its_key() {
    let fixture = Fixture::new();
    for (len, blobs) in [(16 * 1024, 0), (16 * 1024 + 1, 1), (3_000_000, 1), (1, 0)] {
        let value = "v".repeat(len);
        fixture.put_text("k", &value).await;
        assert_eq!(fixture.text("k").await, Some(value));
        fixture.storage.kv().files.settle();
        assert_eq!(fixture.blobs(), blobs, "{len}");
    }
    fixture.put_text("k", &"v".repeat(20_000)).await;
    // A reader that has begun reads on, whatever happens to the key.
    let entry = fixture.entry("k").await;
    fixture.delete("k").await;
    fixture.storage.kv().files.settle();
    assert_eq!(fixture.blobs(), 0);
    assert_eq!(read(entry).await.unwrap().len(), 20_000);
}

#[tokio::test]
async fn a_refused_put_changes_nothing_and_leaves_nothing() {
    let fixture = Fixture::new();
    fixture.put_text("k", "kept").await;
    let long = "x".repeat(513);
    for (key, options, kind) in [
        ("", KvPutOptions::default(), ErrorKind::InvalidArgument),
        (&*long, KvPutOptions::default(), ErrorKind::KeyTooLong),
        ("k", ttl("59"), ErrorKind::InvalidArgument),
    ] {
        let error = fixture
            .put(key, &vec![0; 20_000], options)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), kind);
    }
    let (account, namespace) = place();
    let kv = fixture.storage.kv();
    let mut stage = kv.stage(&account);
    for _ in 0..26 {
        stage.write(Bytes::from(vec![0; 1 << 20])).await.unwrap();
    }
    let staged = stage.finish().await.unwrap();
    let options = KvPutOptions::default();
    let error = kv
        .put(&account, &namespace, "k", staged, options)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert_eq!(
        error.message(),
        "Value length of 27262976 exceeds limit of 26214400."
    );
    assert_eq!(fixture.text("k").await.as_deref(), Some("kept"));
    assert_eq!(fixture.blobs(), 0);
}

// docs: kv api, expiring keys; storage.md 1.4: `<= now` is dead
#[tokio::test]
async fn a_key_is_dead_for_every_reader_from_its_expiration_on() {
    let fixture = Fixture::new();
    fixture.put("hot", b"x", ttl("60")).await.unwrap();
    fixture
        .put("long", &vec![b'x'; 20_000], ttl("60"))
        .await
        .unwrap();
    fixture.put_text("stays", "x").await;
    fixture.pass_s(59);
    assert!(fixture.entry("hot").await.is_some());
    assert!(fixture.entry("long").await.is_some());
    assert_eq!(
        fixture.names("", 1_000, None).await.0,
        ["hot", "long", "stays"]
    );
    fixture.pass_s(1);
    assert!(fixture.entry("hot").await.is_none());
    assert!(fixture.entry("long").await.is_none());
    assert_eq!(fixture.names("", 1_000, None).await.0, ["stays"]);
    // A limit counts the living.
    assert_eq!(
        fixture.names("", 1, None).await,
        (vec!["stays".to_owned()], None)
    );
    // Their files go with the reaper, and a put brings a key back.
    assert_eq!(fixture.blobs(), 1);
    fixture.reap().await;
    fixture.storage.kv().files.settle();
    assert_eq!(fixture.blobs(), 0);
    fixture.put_text("hot", "again").await;
    assert_eq!(fixture.text("hot").await.as_deref(), Some("again"));
}

#[tokio::test]
async fn a_blob_that_a_crash_left_is_collected_and_no_other() {
    let fixture = Fixture::new();
    fixture.put_text("k", &"v".repeat(20_000)).await;
    let folder = fixture
        .storage
        .kv()
        .context
        .blobs(&super::Namespace::new(&place().0, &place().1));
    let layout = &fixture.storage.core.layout;
    let mut lost = crate::blobs::TempBlob::create(layout, &AccountId::local()).unwrap();
    lost.finish().unwrap();
    let lost = folder.publish(lost).unwrap();
    let id = lost.id();
    lost.keep();
    // Of this process: it might be named any moment.
    fixture.reap().await;
    assert_eq!(fixture.blobs(), 2);
    // As an earlier process would have named it.
    folder.make_older(id);
    let fixture = fixture.restart().await;
    assert!(fixture.entry("k").await.is_some());
    fixture.reap().await;
    assert_eq!(fixture.blobs(), 1);
    assert_eq!(fixture.text("k").await.unwrap().len(), 20_000);
}

// storage.md 1.5: bytewise order of UTF-8, not of UTF-16
#[tokio::test]
async fn lists_are_in_the_order_of_bytes() {
    let fixture = Fixture::new();
    let mut keys = [
        "b",
        "a",
        "B",
        "a/",
        "a\0",
        "é",
        "\u{FFFD}",
        "\u{E000}",
        "\u{1F600}",
        "\u{D7FF}",
        "%",
        "a_",
        "\u{10FFFF}",
    ];
    join_all(keys.iter().map(|key| fixture.put_text(key, "x"))).await;
    keys.sort_unstable();
    assert_eq!(
        fixture.names("", 1_000, None).await,
        (keys.map(str::to_owned).to_vec(), None)
    );
    assert_eq!(
        fixture.names("a", 1_000, None).await.0,
        ["a", "a\0", "a/", "a_"]
    );
    // No pattern, and case matters.
    assert_eq!(fixture.names("a_", 1_000, None).await.0, ["a_"]);
    assert_eq!(fixture.names("%", 1_000, None).await.0, ["%"]);
    assert_eq!(
        fixture.names("\u{10FFFF}", 1_000, None).await.0,
        ["\u{10FFFF}"]
    );
    assert_eq!(fixture.names("\u{D7FF}", 1_000, None).await.0, ["\u{D7FF}"]);
}

// storage.md 1.5: strictly after the last key returned
#[tokio::test]
async fn a_cursor_holds_its_place_among_inserts_and_deletes() {
    let fixture = Fixture::new();
    for key in ["a", "c", "e", "g", "i"] {
        fixture.put_text(key, "x").await;
    }
    let (names, cursor) = fixture.names("", 2, None).await;
    assert_eq!(names, ["a", "c"]);
    // Behind the cursor: not shown. Ahead of it: shown. Its own key: gone, no matter.
    fixture.put_text("b", "x").await;
    fixture.delete("c").await;
    fixture.put_text("d", "x").await;
    fixture.delete("e").await;
    // Another limit is fine.
    let (names, cursor) = fixture.names("", 2, cursor).await;
    assert_eq!(names, ["d", "g"]);
    let (names, cursor) = fixture.names("", 10, cursor).await;
    assert_eq!((names, cursor), (vec!["i".to_owned()], None));
    // A full page that is the last one says so.
    assert_eq!(
        fixture.names("g", 1, None).await,
        (vec!["g".to_owned()], None)
    );
}

#[tokio::test]
async fn a_list_shows_metadata_and_absolute_expirations() {
    let fixture = Fixture::new();
    let options = KvPutOptions {
        metadata: Some("[1]".into()),
        ..ttl("100")
    };
    fixture.put("a", b"x", options).await.unwrap();
    fixture.put_text("b", "x").await;
    let (account, namespace) = place();
    let list = fixture
        .storage
        .kv()
        .list(&account, &namespace, KvListOptions::default())
        .await
        .unwrap();
    assert_eq!(list.usage.class, UsageClass::KvList);
    let [a, b] = &list.value.keys[..] else {
        panic!("{list:?}")
    };
    assert_eq!(
        (a.metadata.as_deref(), a.expiration_s),
        (Some("[1]"), Some(1_700_000_100))
    );
    assert_eq!((b.metadata.as_deref(), b.expiration_s), (None, None));
}

#[tokio::test]
async fn bulks_read_and_delete_in_their_order() {
    let fixture = Fixture::new();
    let (account, namespace) = place();
    let kv = fixture.storage.kv();
    fixture.put_text("a", "1").await;
    fixture.put_text("b", &"2".repeat(20_000)).await;
    let keys = ["b", "none", "a", "b"].map(str::to_owned);
    let got = kv.get_bulk(&account, &namespace, &keys).await.unwrap();
    assert_eq!((got.usage.operations, got.usage.bytes_out), (4, 40_001));
    let mut lengths = Vec::new();
    for entry in got.value {
        lengths.push(read(entry).await.map(|text| text.len()));
    }
    assert_eq!(lengths, [Some(20_000), None, Some(1), Some(20_000)]);
    kv.get_bulk(&account, &namespace, &["a".into(), "..".into()])
        .await
        .unwrap_err();
    let deleted = kv.delete_bulk(&account, &namespace, &keys).await.unwrap();
    assert_eq!(deleted.usage.operations, 4);
    assert_eq!(fixture.names("", 10, None).await.0, Vec::<String>::new());
}

#[tokio::test]
async fn two_accounts_with_one_namespace_id_see_nothing_of_each_other() {
    let fixture = Fixture::new();
    let (mine, namespace) = place();
    let theirs = AccountId::new("LOCAL");
    let kv = fixture.storage.kv();
    let options = KvPutOptions::default();
    fixture.put_text("k", "mine").await;
    assert!(
        kv.get(&theirs, &namespace, "k")
            .await
            .unwrap()
            .value
            .is_none()
    );
    put_in(&fixture, &theirs, &namespace, "k", b"theirs", options)
        .await
        .unwrap();
    assert_eq!(fixture.text("k").await.as_deref(), Some("mine"));
    kv.delete(&theirs, &namespace, "k").await.unwrap();
    assert_eq!(fixture.text("k").await.as_deref(), Some("mine"));
    let list = kv
        .list(&theirs, &namespace, KvListOptions::default())
        .await
        .unwrap();
    assert!(list.value.keys.is_empty());
    assert_eq!(
        kv.get(&mine, &"other".into(), "k")
            .await
            .unwrap()
            .value
            .map(|_| ()),
        None
    );
}

#[tokio::test]
async fn puts_that_wait_together_share_one_sync() {
    let fixture = Fixture::new();
    fixture.put_text("opened", "x").await;
    let probe = &fixture.storage.kv().context.probe;
    let commits = || probe.commits.load(Ordering::SeqCst);
    let before = commits();
    fixture.put_text("alone", "x").await;
    assert_eq!(commits() - before, 1);

    let before = commits();
    let keys: Vec<String> = (0..30).map(|i| format!("k{i}")).collect();
    probe.hold(true);
    // The puts queue up first, then the writer may go on.
    let puts = join_all(keys.iter().map(|key| fixture.put_text(key, "x")));
    tokio::join!(biased; puts, async { probe.hold(false) });
    assert_eq!(commits() - before, 1);
    for key in &keys {
        assert!(fixture.entry(key).await.is_some());
    }
}

#[tokio::test]
async fn a_put_that_fails_in_a_group_fails_alone() {
    let fixture = Fixture::new();
    fixture.put_text("opened", "x").await;
    let (account, namespace) = place();
    // A second connection forbids one key, as a damaged page would fail one statement.
    let path = fixture.storage.core.layout.database_file(
        crate::layout::Resource::Kv,
        &account,
        namespace.as_str(),
    );
    let other = rusqlite::Connection::open(path).unwrap();
    other
        .execute_batch(
            "CREATE TRIGGER forbidden BEFORE INSERT ON entries WHEN new.key = 'bad'
             BEGIN SELECT RAISE(ABORT, 'not this one'); END",
        )
        .unwrap();
    let probe = &fixture.storage.kv().context.probe;
    probe.hold(true);
    let value = vec![b'x'; 20_000];
    let (good, bad, last, ()) = tokio::join!(
        biased;
        fixture.put("good", b"x", KvPutOptions::default()),
        fixture.put("bad", b"x", KvPutOptions::default()),
        fixture.put("last", b"x", KvPutOptions::default()),
        async { probe.hold(false) },
    );
    good.unwrap();
    assert!(bad.unwrap_err().message().contains("not this one"));
    last.unwrap();
    // Its blob goes too.
    fixture
        .put("bad", &value, KvPutOptions::default())
        .await
        .unwrap_err();
    assert_eq!(fixture.blobs(), 0);
    assert_eq!(
        fixture.names("", 10, None).await.0,
        ["good", "last", "opened"]
    );
}

/// Writers raise a number under each key and say what was acknowledged; readers never
/// find less than what was acknowledged before they asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hot_key_is_never_read_stale() {
    const KEYS: usize = 4;
    const WRITES: u64 = 150;
    let fixture = Arc::new(Fixture::new());
    let acknowledged: Arc<[AtomicU64; KEYS]> = Arc::default();
    let mut tasks = Vec::new();
    for key in 0..KEYS {
        let (fixture, acknowledged) = (fixture.clone(), acknowledged.clone());
        tasks.push(tokio::spawn(async move {
            let name = format!("k{key}");
            for number in 1..=WRITES {
                // Deletions and blobs too: neither leaves an entry in the cache.
                match number % 5 {
                    0 => fixture.delete(&name).await,
                    1 => {
                        fixture
                            .put_text(&name, &format!("{number} {}", "x".repeat(17_000)))
                            .await;
                    }
                    _ => fixture.put_text(&name, &number.to_string()).await,
                }
                acknowledged[key].store(number, Ordering::SeqCst);
            }
        }));
    }
    for reader in 0..8 {
        let (fixture, acknowledged) = (fixture.clone(), acknowledged.clone());
        tasks.push(tokio::spawn(async move {
            let key = reader % KEYS;
            let name = format!("k{key}");
            loop {
                let before = acknowledged[key].load(Ordering::SeqCst);
                let text = fixture.text(&name).await;
                let after = acknowledged[key].load(Ordering::SeqCst);
                match text {
                    Some(text) => {
                        let number: u64 = text.split(' ').next().unwrap().parse().unwrap();
                        assert!(number >= before, "{number} after {before} was acknowledged");
                    }
                    // Deleted in between, or at the beginning.
                    None => assert!(
                        before == 0 || (before..=after + 1).any(|number| number % 5 == 0),
                        "absent between {before} and {after}"
                    ),
                }
                // A hit never waits, so without this the writers would get no turn.
                tokio::task::yield_now().await;
                if before == WRITES {
                    break;
                }
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn a_closed_storage_has_answered_everything_and_refuses_more() {
    let fixture = Fixture::new();
    let kv = fixture.storage.kv().clone();
    let (account, namespace) = place();
    let mut puts = Vec::new();
    for i in 0..50 {
        let (kv, account, namespace) = (kv.clone(), account.clone(), namespace.clone());
        puts.push(tokio::spawn(async move {
            let staged = kv.stage_bytes(&account, Bytes::from_static(b"x")).await?;
            let key = format!("k{i}");
            kv.put(&account, &namespace, &key, staged, KvPutOptions::default())
                .await
        }));
    }
    tokio::task::yield_now().await;
    let fixture = fixture.restart().await;
    let mut acknowledged = 0;
    for (i, put) in puts.into_iter().enumerate() {
        match put.await.unwrap() {
            Ok(_) => {
                acknowledged += 1;
                assert!(fixture.entry(&format!("k{i}")).await.is_some());
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable),
        }
    }
    assert!(acknowledged > 0);
    let staged = kv.stage_bytes(&account, Bytes::new()).await.unwrap();
    let put = kv.put(&account, &namespace, "k", staged, KvPutOptions::default());
    assert_eq!(put.await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[derive(Debug, Clone)]
enum Op {
    Put(String, usize, Option<u64>, bool),
    Delete(String),
    Get(String),
    /// The next page of a list that goes on.
    Page(usize),
    List(String, i64),
    Pass(u64),
    Restart,
}

fn key() -> impl Strategy<Value = String> {
    // Few keys, so that operations meet; each plane of UTF-8's lengths.
    proptest::collection::vec(
        proptest::sample::select(vec!['a', 'b', '%', 'é', '\u{FFFD}', '\u{1F600}']),
        1..3,
    )
    .prop_map(String::from_iter)
}

fn op() -> impl Strategy<Value = Op> {
    let len = prop_oneof![4 => 0..100usize, 1 => 16_300..16_500usize];
    let ttl = proptest::option::of(60..200u64);
    prop_oneof![
        6 => (key(), len, ttl, any::<bool>()).prop_map(|(key, len, ttl, metadata)| Op::Put(key, len, ttl, metadata)),
        2 => key().prop_map(Op::Delete),
        4 => key().prop_map(Op::Get),
        2 => (prop_oneof![Just(String::new()), key()], 1..5i64).prop_map(|(prefix, limit)| Op::List(prefix, limit)),
        3 => (1..4usize).prop_map(Op::Page),
        1 => (1..100u64).prop_map(Op::Pass),
        1 => Just(Op::Restart),
    ]
}

#[derive(Debug, Clone, PartialEq)]
struct Modelled {
    value: String,
    expiration_s: Option<u64>,
    metadata: Option<String>,
}

async fn check_against_map(ops: Vec<Op>) {
    let mut fixture = Fixture::new();
    let mut model: BTreeMap<String, Modelled> = BTreeMap::new();
    // A list that goes on while keys come and go: its last key, and its cursor.
    let mut open: Option<(String, String)> = None;
    for (number, op) in ops.into_iter().enumerate() {
        let now_s = fixture.now_ms.load(Ordering::SeqCst) / 1000;
        model.retain(|_, entry| {
            entry
                .expiration_s
                .is_none_or(|expiration| expiration > now_s)
        });
        match op {
            Op::Put(key, len, ttl_s, with_metadata) => {
                let entry = Modelled {
                    value: format!("{number:<len$}"),
                    expiration_s: ttl_s.map(|ttl| now_s + ttl),
                    metadata: with_metadata.then(|| number.to_string()),
                };
                let options = KvPutOptions {
                    metadata: entry.metadata.clone(),
                    expiration: None,
                    expiration_ttl: ttl_s.map(|ttl| ttl.to_string()),
                };
                fixture
                    .put(&key, entry.value.as_bytes(), options)
                    .await
                    .unwrap();
                model.insert(key, entry);
            }
            Op::Delete(key) => {
                fixture.delete(&key).await;
                model.remove(&key);
            }
            Op::Get(key) => {
                let found = fixture.entry(&key).await;
                let found = match found {
                    None => None,
                    Some(entry) => Some(Modelled {
                        expiration_s: entry.expiration_s,
                        metadata: entry.metadata.as_deref().map(str::to_owned),
                        value: read(Some(entry)).await.unwrap(),
                    }),
                };
                assert_eq!(found.as_ref(), model.get(&key), "{key:?}");
            }
            Op::List(prefix, limit) => {
                let expected: Vec<_> = model
                    .keys()
                    .filter(|key| key.starts_with(&prefix))
                    .cloned()
                    .collect();
                let (mut found, mut cursor) = (Vec::new(), None);
                loop {
                    let (page, next) = fixture.names(&prefix, limit, cursor).await;
                    assert!(next.is_none() || page.len() == usize::try_from(limit).unwrap());
                    found.extend(page);
                    cursor = next;
                    if cursor.is_none() {
                        break;
                    }
                }
                assert_eq!(found, expected, "{prefix:?}");
            }
            Op::Page(limit) => {
                let (after, cursor) = open.take().unzip();
                let mut ahead = model
                    .keys()
                    .filter(|key| after.as_ref().is_none_or(|after| *key > after));
                let expected: Vec<_> = ahead.by_ref().take(limit).cloned().collect();
                let (page, next) = fixture.names("", limit.try_into().unwrap(), cursor).await;
                assert_eq!(page, expected, "after {after:?}");
                assert_eq!(next.is_some(), ahead.next().is_some());
                open = page.last().cloned().zip(next);
            }
            Op::Pass(seconds) => fixture.pass_s(seconds),
            Op::Restart => fixture = fixture.restart().await,
        }
    }
    // No blob is left but those that are named.
    let now_s = fixture.now_ms.load(Ordering::SeqCst) / 1000;
    model.retain(|_, entry| {
        entry
            .expiration_s
            .is_none_or(|expiration| expiration > now_s)
    });
    fixture.put_text("last", "opens the file").await;
    fixture.reap().await;
    fixture.storage.kv().files.settle();
    let named = model
        .values()
        .filter(|entry| entry.value.len() > 16 * 1024)
        .count();
    assert_eq!(fixture.blobs(), named);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn it_behaves_like_a_sorted_map_with_expirations(ops in proptest::collection::vec(op(), 1..60)) {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(check_against_map(ops));
    }
}
