//! Cloudflare's own cases for its KV simulator (miniflare:
//! `packages/miniflare/test/plugins/kv/index.spec.ts`, all 50), each through the real
//! workerd. Limits that upstream lowers for its tests are the true ones here.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use engawa_model::{Binding, BindingKind, Clock};
use serde_json::{Value as Json, json};

use crate::support::{Worker, World, binding, version};

const SCRIPT: &str = include_str!("upstream_kv.js");
/// 1,000 s after 1970, as upstream's fake time.
const NOW_MS: u64 = 1_000_000;

fn clock() -> (Clock, Arc<AtomicU64>) {
    let now_ms = Arc::new(AtomicU64::new(NOW_MS));
    let shown = now_ms.clone();
    (Clock::from_fn(move || shown.load(Ordering::SeqCst)), now_ms)
}

async fn deploy(world: &World, shown_version: u8) -> Worker {
    let number = BindingKind::Json(shown_version.into());
    world
        .deploy(version(
            "kv",
            SCRIPT,
            vec![
                binding("KV", BindingKind::KvNamespace("namespace".into())),
                Binding {
                    name: "VERSION".into(),
                    kind: number,
                },
            ],
        ))
        .await
}

async fn case(worker: &Worker, name: &str) -> Json {
    worker.post("/", &json!({ "name": name })).await
}

/// The blob files of the data folder.
pub(crate) fn blobs(folder: &Path) -> BTreeSet<std::path::PathBuf> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(blobs(&path));
        } else if path.components().any(|part| part.as_os_str() == "blobs") {
            found.insert(path);
        }
    }
    found
}

fn keys(names: &[&str]) -> Json {
    names.iter().map(|name| json!({ "name": name })).collect()
}

/// What each case must answer, in an order in which "/ later" follows its first half.
fn expected() -> Vec<(&'static str, Json)> {
    let invalid_keys = |operation: &str| {
        json!([
            "TypeError: Key name cannot be empty.",
            "TypeError: \".\" is not allowed as a key name.",
            "TypeError: \"..\" is not allowed as a key name.",
            format!(
                "Error: KV {operation} failed: 414 UTF-8 encoded length of 513 exceeds key length \
                 limit of 512."
            ),
        ])
    };
    let with = |key: &str, expiration: Option<u64>, metadata: Option<u64>| {
        let mut shown = json!({ "name": key });
        if let Some(expiration) = expiration {
            shown["expiration"] = expiration.into();
        }
        if let Some(testing) = metadata {
            shown["metadata"] = json!({ "testing": testing });
        }
        shown
    };
    let listed = |has_expiration: bool, has_metadata: bool| {
        let key = |n: u64| {
            with(
                &format!("key{n}"),
                has_expiration.then_some(1500 + n * 100),
                has_metadata.then_some(n),
            )
        };
        json!([[key(1), key(2), key(3)]])
    };
    vec![
        ("get: validates key", invalid_keys("GET")),
        ("get: returns value", json!("value")),
        (
            "get: returns ArrayBuffer values",
            json!([0, 1, 2, 127, 128, 254, 255]),
        ),
        (
            "get: returns stream values",
            json!([255, 0, 10, 20, 30, 200]),
        ),
        (
            "bulk get: returns value",
            json!({ "key1": "value1", "key2": null }),
        ),
        (
            "bulk get: check max keys",
            json!("Error: KV GET_BULK failed: 400 You can request a maximum of 100 keys"),
        ),
        (
            "bulk get: check minimum keys",
            json!("Error: KV GET_BULK failed: 400 You must request a minimum of 1 key"),
        ),
        (
            "bulk get: invalid type",
            json!(
                "Error: KV GET_BULK failed: 400 \"invalid\" is not a valid type. Use \"json\" or \
                 \"text\""
            ),
        ),
        (
            "bulk get: request json type",
            json!([
                { "key1": "{\"example\": \"ex\"}" },
                { "key1": { "example": "ex" } },
                "Error: KV GET_BULK failed: 400 At least one of the requested keys corresponds to \
                 a non-json value",
            ]),
        ),
        (
            "bulk get: check metadata",
            json!({
                "key1": { "value": "value1", "metadata": { "testing": true } },
                "key2": { "value": "value2", "metadata": null },
            }),
        ),
        (
            "bulk get: check metadata with int",
            json!({ "key1": { "value": "value1", "metadata": 123 } }),
        ),
        (
            "bulk get: check metadata as string",
            json!({ "key1": { "value": "value1", "metadata": "example" } }),
        ),
        (
            "bulk get: get with metadata for 404",
            json!({ "key1": null }),
        ),
        (
            "bulk get: get over size limit",
            json!([
                "Error: KV GET_BULK failed: 413 Total size of request exceeds the limit of 25MB",
                13 * 1024 * 1024,
            ]),
        ),
        ("get: returns null for non-existent keys", json!(null)),
        ("get: returns null for expired keys", json!("value")),
        ("get: returns null for expired keys / later", json!(null)),
        (
            "get: validates but ignores cache ttl",
            json!([
                "Error: KV GET failed: 400 Invalid cache_ttl of 0. Cache TTL must be at least 30.",
                "Error: KV GET failed: 400 Invalid cache_ttl of 10. Cache TTL must be at least 30.",
                "value",
                "value",
            ]),
        ),
        ("put: validates key", invalid_keys("PUT")),
        (
            "put: puts value",
            json!([
                { "value": "value", "metadata": { "testing": true }, "cacheStatus": null },
                [{ "name": "key", "expiration": 1500, "metadata": { "testing": true } }],
            ]),
        ),
        ("put: puts empty value", json!("")),
        (
            "bulk get: check metadata for falsy values",
            json!({ "key1": { "value": "", "metadata": { "testing": true } } }),
        ),
        (
            "bulk get: check metadata for falsy json values",
            json!({
                "key1": { "value": 0, "metadata": { "testing": "zero" } },
                "key2": { "value": false, "metadata": { "testing": "false" } },
            }),
        ),
        ("put: overrides existing keys", json!(null)),
        (
            "put: overrides existing keys / later",
            json!([true, { "testing": true }]),
        ),
        ("put: keys are case-sensitive", json!(["lower", "upper"])),
        (
            "put: validates expiration ttl",
            json!([
                "Error: KV PUT failed: 400 Invalid expiration_ttl of 0. Please specify integer \
                 greater than 0.",
                "Error: KV PUT failed: 400 Invalid expiration_ttl of 0. Please specify integer \
                 greater than 0.",
                "Error: KV PUT failed: 400 Invalid expiration_ttl of 30. Expiration TTL must be \
                 at least 60.",
            ]),
        ),
        (
            "put: validates expiration",
            json!([
                "Error: KV PUT failed: 400 Invalid expiration of 0. Please specify integer \
                 greater than the current number of seconds since the UNIX epoch.",
                "Error: KV PUT failed: 400 Invalid expiration of 1000. Please specify integer \
                 greater than the current number of seconds since the UNIX epoch.",
                "Error: KV PUT failed: 400 Invalid expiration of 1030. Expiration times must be \
                 at least 60 seconds in the future.",
            ]),
        ),
        (
            "put: validates value size",
            json!([
                "Error: KV PUT failed: 413 Value length of 26214401 exceeds limit of 26214400.",
                null,
                "no error",
            ]),
        ),
        (
            "put: validates metadata size",
            json!("Error: KV PUT failed: 413 Metadata length of 1025 exceeds limit of 1024."),
        ),
        ("delete: validates key", invalid_keys("DELETE")),
        ("delete: deletes existing keys", json!(["value", null])),
        (
            "delete: does nothing for non-existent keys",
            json!("no error"),
        ),
        (
            "list: lists keys in sorted order",
            json!([keys(&["key1", "key2", "key3"])]),
        ),
        (
            "list: lists keys matching prefix",
            json!([keys(&["section1key1", "section1key2"])]),
        ),
        (
            "list: prefix is case-sensitive",
            json!([keys(&["KEY1", "KEY2"])]),
        ),
        (
            "list: prefix permits special characters",
            json!([keys(&["key\\_%1", "key\\_%2", "key\\_%3"])]),
        ),
        ("list: lists keys with expiration", listed(true, false)),
        ("list: lists keys with metadata", listed(false, true)),
        (
            "list: lists keys with expiration and metadata",
            listed(true, true),
        ),
        ("list: returns an empty list with no keys", json!([[]])),
        (
            "list: returns an empty list with no matching keys",
            json!([[]]),
        ),
        (
            "list: paginates keys",
            json!([keys(&["key1", "key2"]), keys(&["key3"])]),
        ),
        (
            "list: paginates keys matching prefix",
            json!([
                keys(&["section1key1", "section1key2"]),
                keys(&["section1key3"])
            ]),
        ),
        ("list: accepts long prefix", json!([true])),
        (
            "list: paginates with variable limit",
            json!([keys(&["key1"]), false, keys(&["key2", "key3"]), true]),
        ),
        (
            "list: returns keys inserted whilst paginating",
            json!([
                keys(&["key1", "key3"]),
                false,
                keys(&["key4", "key5"]),
                true
            ]),
        ),
        ("list: ignores expired keys", json!(null)),
        (
            "list: ignores expired keys / later",
            json!({
                "keys": [{ "name": "key3", "expiration": 1180 }],
                "list_complete": true,
                "cacheStatus": null,
            }),
        ),
        (
            "list: sorts lexicographically",
            json!({
                "keys": [{ "name": "!" }, { "name": ", " }],
                "list_complete": true,
                "cacheStatus": null,
            }),
        ),
        (
            "list: validates limit",
            json!(
                "Error: KV GET failed: 400 Invalid key_count_limit of 1001. Please specify an \
                 integer less than 1000."
            ),
        ),
    ]
}

/// Cases that need more than one worker or one start.
const OTHERS: [&str; 3] = [
    "persists in-memory between options reloads",
    "persists on file-system",
    "persists on file-system / later",
];

#[tokio::test]
async fn every_upstream_case_of_kv_holds() {
    let (clock, now_ms) = clock();
    let world = World::at(clock);
    let worker = deploy(&world, 1).await;
    let expected = expected();
    let known: BTreeSet<&str> = expected
        .iter()
        .map(|(name, _)| *name)
        .chain(OTHERS)
        .collect();
    let names = case(&worker, "(names)").await;
    let names: BTreeSet<&str> = names
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Json::as_str)
        .collect();
    assert_eq!(known, names, "every case is looked at");
    let upstream = names.iter().filter(|name| !name.ends_with(" / later"));
    assert_eq!(upstream.count(), 50, "as many as upstream has");

    let mut wrong = Vec::new();
    let mut before = BTreeSet::new();
    for (name, expected) in expected {
        now_ms.store(
            match name {
                "get: returns null for expired keys / later" => NOW_MS + 60_000,
                "list: ignores expired keys / later" => NOW_MS + 130_000,
                _ => NOW_MS,
            },
            Ordering::SeqCst,
        );
        let answer = case(&worker, name).await;
        if answer != expected {
            wrong.push(format!(
                "{name}\n  here:     {answer}\n  upstream: {expected}"
            ));
        }
        if name == "put: overrides existing keys" {
            before = blobs(world.data.path());
            assert_eq!(before.len(), 1, "{before:?}");
        }
        if name == "put: overrides existing keys / later" {
            // The old value's file goes after the answer.
            let deadline = std::time::Instant::now() + crate::support::PATIENCE;
            loop {
                let now = blobs(world.data.path());
                if now.len() == 1 && now.is_disjoint(&before) {
                    break;
                }
                assert!(std::time::Instant::now() < deadline, "{now:?}");
                tokio::task::yield_now().await;
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

// miniflare: the same file, "persists in-memory between options reloads": a new version of
// a project finds what the last one stored, and another installation finds nothing of it
#[tokio::test]
async fn a_new_version_finds_the_values_of_the_last_and_another_store_its_own() {
    let name = "persists in-memory between options reloads";
    let put = async |worker: &Worker, value: &str| worker.post("/", &json!({ "put": value })).await;
    let (one, other) = (World::new(), World::new());
    let first = deploy(&one, 1).await;
    put(&first, "value1").await;
    assert_eq!(
        case(&first, name).await,
        json!({ "version": 1, "key": "value1" })
    );
    let second = deploy(&one, 2).await;
    assert_eq!(
        case(&second, name).await,
        json!({ "version": 2, "key": "value1" })
    );
    let third = deploy(&other, 3).await;
    put(&third, "value2").await;
    assert_eq!(
        case(&second, name).await,
        json!({ "version": 2, "key": "value1" })
    );
    assert_eq!(
        case(&third, name).await,
        json!({ "version": 3, "key": "value2" })
    );
}

// miniflare: the same file, "persists on file-system"
#[tokio::test]
async fn values_are_there_after_a_restart() {
    let world = World::new();
    let worker = deploy(&world, 1).await;
    assert_eq!(
        case(&worker, "persists on file-system").await,
        json!("value")
    );
    drop(worker);
    let world = world.restart(Clock::system()).await;
    let worker = deploy(&world, 1).await;
    assert_eq!(
        case(&worker, "persists on file-system / later").await,
        json!("value")
    );
}
