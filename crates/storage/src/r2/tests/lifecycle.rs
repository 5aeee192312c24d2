//! Lifecycle and CORS rules (docs: r2 object lifecycles, r2 cors).

use StorageClass::{InfrequentAccess, Standard};
use serde_json::{Value as Json, json};

use super::super::lifecycle::{Fate, Plan};
use super::super::sweep::{Swept, sweep_due};
use super::*;
use crate::tests::Fixture;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

fn rules(rules: Json) -> Vec<LifecycleRule> {
    serde_json::from_value(rules).unwrap()
}

/// A rule that deletes what is some days old.
fn expire(prefix: &str, days: u64) -> Json {
    json!({
        "id": format!("expire {prefix}"), "enabled": true, "conditions": { "prefix": prefix },
        "deleteObjectsTransition": { "condition": { "type": "Age", "maxAge": days * 86_400 } },
    })
}

impl World {
    async fn sweep(&self, rules: &[LifecycleRule]) -> Swept {
        let (r2, account, bucket) = (self.r2.clone(), self.account.clone(), self.bucket.clone());
        let rules = rules.to_vec();
        let sweep = move || r2.sweep(&account, &bucket, &rules, || false).unwrap();
        tokio::task::spawn_blocking(sweep).await.unwrap()
    }

    async fn keys(&self) -> Vec<String> {
        let list = self.list(R2ListRequest::default()).await.unwrap();
        list.objects.into_iter().map(|object| object.key).collect()
    }
}

fn deleted(deleted: u64) -> Swept {
    Swept {
        deleted,
        ..Swept::default()
    }
}

// miniflare has none; wrangler: r2/lifecycle.ts writes these shapes
#[test]
fn rules_are_read_and_written_as_wrangler_knows_them() {
    let all = json!([
        {
            "id": "all", "enabled": true, "conditions": { "prefix": "logs/" },
            "deleteObjectsTransition": { "condition": { "type": "Date", "date": "2026-12-31T00:00:00.000Z" } },
            "storageClassTransitions": [
                { "condition": { "type": "Age", "maxAge": 86_400 }, "storageClass": "InfrequentAccess" },
            ],
            "abortMultipartUploadsTransition": { "condition": { "type": "Age", "maxAge": 604_800 } },
        },
        { "id": "off", "enabled": false, "conditions": {}, "deleteObjectsTransition": { "condition": { "type": "Age", "maxAge": 0 } } },
    ]);
    let read = rules(all.clone());
    check_lifecycle(&read).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), all);
    assert_eq!(
        serde_json::to_value(default_lifecycle()).unwrap(),
        json!([{
            "id": "Default Multipart Abort Rule", "enabled": true, "conditions": {},
            "abortMultipartUploadsTransition": { "condition": { "type": "Age", "maxAge": 604_800 } },
        }])
    );
}

#[test]
fn rules_that_are_none_are_refused_with_what_is_wrong() {
    let rule = |name: &str, value: Json| {
        let mut rule = expire("a", 1);
        rule[name] = value;
        rule
    };
    let date = |date: &str| json!({ "condition": { "type": "Date", "date": date } });
    for (given, why) in [
        (json!([rule("id", json!(""))]), "1 to 255 bytes"),
        (
            json!([rule("id", json!("x".repeat(256)))]),
            "1 to 255 bytes",
        ),
        (json!([expire("a", 1), expire("a", 2)]), "is there twice"),
        (
            json!([rule("deleteObjectsTransition", Json::Null)]),
            "does nothing",
        ),
        (
            json!([rule("deleteObjectsTransition", date("tomorrow"))]),
            "\"tomorrow\"",
        ),
        (
            json!([rule("deleteObjectsTransition", date("2026-02-30"))]),
            "\"2026-02-30\"",
        ),
        (
            json!([rule("abortMultipartUploadsTransition", date("2026-12-31"))]),
            "by their age only",
        ),
        (
            json!([rule(
                "storageClassTransitions",
                json!([{ "condition": { "type": "Age", "maxAge": 1 }, "storageClass": "Standard" }]),
            )]),
            "InfrequentAccess only",
        ),
        (
            (0..1001).map(|n| expire(&n.to_string(), 1)).collect(),
            "at most 1000 rules",
        ),
    ] {
        let error = check_lifecycle(&rules(given)).unwrap_err();
        assert_eq!(error.code(), R2Code::MalformedConfiguration);
        let text = error.message();
        assert!(
            text.starts_with("The JSON you provided was not well formed. ") && text.contains(why),
            "{text}, not {why}"
        );
    }
    let mut long = rules(json!([expire("", 1)]));
    long[0].conditions.prefix = Some("k".repeat(1025));
    let error = check_lifecycle(&long).unwrap_err();
    assert_eq!(error.code(), R2Code::InvalidObjectName);
}

// docs: r2 object lifecycles: a deletion goes before a transition
#[test]
fn the_fate_of_an_object_follows_prefix_age_and_date() {
    let all = rules(json!([
        expire("tmp/", 2),
        {
            "id": "ia", "enabled": true,
            "storageClassTransitions": [
                { "condition": { "type": "Age", "maxAge": 86_400 }, "storageClass": "InfrequentAccess" },
            ],
        },
        {
            "id": "date", "enabled": true, "conditions": { "prefix": "d" },
            // NOW_MS is 2023-11-14T22:13:20.500Z.
            "deleteObjectsTransition": { "condition": { "type": "Date", "date": "2023-11-14" } },
        },
        {
            "id": "later", "enabled": true, "conditions": { "prefix": "later" },
            "deleteObjectsTransition": { "condition": { "type": "Date", "date": "2023-11-15" } },
        },
        {
            "id": "off", "enabled": false,
            "deleteObjectsTransition": { "condition": { "type": "Age", "maxAge": 0 } },
        },
    ]));
    let plan = Plan::new(&all, NOW_MS);
    let fate = |key: &str, age_ms: u64, class| plan.fate(key.as_bytes(), NOW_MS - age_ms, class);
    let midnight_ms = NOW_MS - 1_699_920_000_000;
    for (key, age_ms, class, expected) in [
        ("tmp/a", 2 * DAY_MS, Standard, Some(Fate::Delete)),
        (
            "tmp/a",
            2 * DAY_MS - 1,
            Standard,
            Some(Fate::ToInfrequentAccess),
        ),
        ("tmp/a", 2 * DAY_MS - 1, InfrequentAccess, None),
        ("tmp", 9 * DAY_MS, Standard, Some(Fate::ToInfrequentAccess)),
        ("a", DAY_MS, Standard, Some(Fate::ToInfrequentAccess)),
        ("a", DAY_MS - 1, Standard, None),
        ("d", midnight_ms + 1, Standard, Some(Fate::Delete)),
        ("d", midnight_ms, Standard, None),
        ("later", DAY_MS - 1, Standard, None),
    ] {
        assert_eq!(fate(key, age_ms, class), expected, "{key} {age_ms}");
    }
    assert_eq!(plan.prefixes(), [Vec::<u8>::new()]);
    let plan = Plan::new(
        &rules(json!([expire("b", 1), expire("a/b", 1), expire("a/", 1)])),
        NOW_MS,
    );
    assert_eq!(plan.prefixes(), [b"a/".to_vec(), b"b".to_vec()]);
}

// docs: r2 object lifecycles, the default rule
#[tokio::test]
async fn an_upload_that_nobody_finished_goes_after_seven_days() {
    let world = World::new();
    let old = world.create("k").await;
    world.part("k", &old, 1, noise(100, 1)).await.unwrap();
    world.later(7 * DAY_MS - 1);
    assert_eq!(world.sweep(&default_lifecycle()).await, Swept::default());
    assert_eq!(world.blobs().len(), 1);
    world.later(1);
    let none: &[LifecycleRule] = &[];
    assert_eq!(
        world.sweep(none).await,
        Swept::default(),
        "rules were set without it"
    );
    let aborted = Swept {
        aborted: 1,
        ..Swept::default()
    };
    assert_eq!(world.sweep(&default_lifecycle()).await, aborted);
    assert_eq!(world.blobs(), Vec::<PathBuf>::new());
    let error = world.part("k", &old, 2, Vec::new()).await.unwrap_err();
    assert_eq!(error.code(), R2Code::NoSuchUpload);
    let of_prefix = rules(json!([{
        "id": "p", "enabled": true, "conditions": { "prefix": "a/" },
        "abortMultipartUploadsTransition": { "condition": { "type": "Age", "maxAge": 0 } },
    }]));
    for key in ["a/1", "a/2", "a", "b/1"] {
        world.create(key).await;
    }
    assert_eq!(world.sweep(&of_prefix).await.aborted, 2);
}

#[tokio::test]
async fn more_uploads_than_one_transaction_takes_are_all_aborted() {
    let world = World::new();
    for n in 0..150 {
        world.create(&format!("k{n}")).await;
    }
    world.later(7 * DAY_MS);
    assert_eq!(world.sweep(&default_lifecycle()).await.aborted, 150);
    // They are forgotten later.
    world.later(8 * DAY_MS);
    assert_eq!(world.sweep(&default_lifecycle()).await, Swept::default());
    world.r2.files.settle();
    let path = world
        .r2
        .context
        .path(&(world.account.clone(), world.bucket.clone()));
    let rows: i64 = rusqlite::Connection::open(path)
        .unwrap()
        .query_row("SELECT count(*) FROM uploads", [], |row| row.get(0))
        .unwrap();
    assert_eq!(rows, 0);
}

#[tokio::test]
async fn objects_expire_by_prefix_and_age_and_take_their_values_along() {
    let world = World::new();
    world.put("tmp/old", noise(100_000, 1)).await;
    world.put("tmp/small", "x").await;
    world.put("keep/old", "x").await;
    world.later(DAY_MS);
    world.put("tmp/new", "x").await;
    world.put("tmp/small", "replaced").await;
    let one_day = rules(json!([expire("tmp/", 1)]));
    assert_eq!(world.sweep(&one_day).await, deleted(1));
    assert_eq!(world.keys().await, ["keep/old", "tmp/new", "tmp/small"]);
    assert_eq!(world.blobs(), Vec::<PathBuf>::new());
    assert_eq!(world.sweep(&one_day).await, Swept::default());
}

#[tokio::test]
async fn more_objects_than_a_page_has_all_expire() {
    let world = World::new();
    let keys: Vec<String> = (0..2_100).map(|n| format!("k{n:04}")).collect();
    let put = |key: &str| {
        let r2 = world.r2.clone();
        let (account, bucket) = (world.account.clone(), world.bucket.clone());
        let request = request(key);
        async move {
            r2.put(&account, &bucket, request, "x".into())
                .await
                .unwrap()
        }
    };
    for some in keys.chunks(500) {
        futures_util::future::join_all(some.iter().map(|key| put(key))).await;
    }
    world.later(DAY_MS);
    world.put("k1000", "newer").await;
    assert_eq!(
        world.sweep(&rules(json!([expire("", 1)]))).await,
        deleted(2_099)
    );
    assert_eq!(world.keys().await, ["k1000"]);
}

// An object that was replaced after it was looked at is not the one that was due.
#[tokio::test]
async fn an_object_that_was_replaced_meanwhile_stays() {
    let world = World::new();
    let old = world.put("k", "old").await;
    world.put("k", "new").await;
    let due = vec![file::DueObject {
        identity: b"k".to_vec(),
        version: old.version,
        fate: Fate::Delete,
    }];
    let swept = world
        .r2
        .write(&world.account, &world.bucket, |reply| Write::SweepObjects {
            due,
            reply,
        })
        .await;
    assert_eq!(swept.unwrap(), Swept::default());
    assert_eq!(world.get("k").await.unwrap(), b"new");
}

#[tokio::test]
async fn objects_move_to_infrequent_access_and_stay_what_they_are() {
    let world = World::new();
    let before = world.put("k", "text").await;
    world.later(DAY_MS);
    let to_ia = rules(json!([{
        "id": "ia", "enabled": true,
        "storageClassTransitions": [
            { "condition": { "type": "Age", "maxAge": 86_400 }, "storageClass": "InfrequentAccess" },
        ],
    }]));
    let moved = Swept {
        moved: 1,
        ..Swept::default()
    };
    assert_eq!(world.sweep(&to_ia).await, moved);
    assert_eq!(world.sweep(&to_ia).await, Swept::default());
    let after = R2Object {
        storage_class: StorageClass::InfrequentAccess,
        ..before
    };
    assert_eq!(world.head("k").await, Some(after));
    assert_eq!(world.get("k").await.unwrap(), b"text");
}

#[tokio::test]
async fn more_buckets_than_may_be_open_are_all_served() {
    let world = World::new();
    let threads = PoolOptions::metadata().threads;
    for round in 0..2 {
        for n in 0..16 {
            let bucket = BucketName::from(format!("bucket-{n}"));
            let key = format!("{round}");
            let put = world
                .r2
                .put(&world.account, &bucket, request(&key), "x".into());
            put.await.unwrap();
            assert!(world.r2.files.open_files() <= MAX_OPEN + threads);
        }
    }
    for n in 0..16 {
        let bucket = BucketName::from(format!("bucket-{n}"));
        let list = world
            .r2
            .list(&world.account, &bucket, R2ListRequest::default());
        assert_eq!(list.await.unwrap().value.objects.len(), 2);
    }
    world.r2.files.settle();
    assert!(world.r2.files.open_files() <= MAX_OPEN);
}

impl Fixture {
    async fn sweep_due(&self) {
        let (r2, catalog) = (self.storage.r2().clone(), self.storage.catalog().clone());
        let sweep = move || sweep_due(&r2, &catalog, || false).unwrap();
        tokio::task::spawn_blocking(sweep).await.unwrap();
    }

    async fn put_object(&self, bucket: &BucketName, key: &str) {
        let account = AccountId::local();
        let r2 = self.storage.r2();
        let put = r2.put(&account, bucket, request(key), "x".into());
        put.await.unwrap();
    }

    async fn has_object(&self, bucket: &BucketName, key: &str) -> bool {
        let account = AccountId::local();
        let head = self.storage.r2().head(&account, bucket, key);
        head.await.unwrap().value.is_some()
    }
}

#[tokio::test]
async fn buckets_are_swept_when_they_are_due_and_after_a_restart() {
    let account = AccountId::local();
    let (one, other) = (BucketName::from("one"), BucketName::from("other"));
    let folder = Fixture::new();
    let start_ms = folder.now_ms.load(Ordering::SeqCst);
    for bucket in [&one, &other] {
        let catalog = folder.storage.catalog();
        catalog.ensure_r2_bucket(&account, bucket).await.unwrap();
        folder.put_object(bucket, "k").await;
    }
    let one_day = rules(json!([expire("", 1)]));
    let catalog = folder.storage.catalog();
    catalog
        .set_r2_lifecycle(&account, &one, &one_day)
        .await
        .unwrap();
    folder.sweep_due().await;
    assert!(folder.has_object(&one, "k").await);

    // Not due again yet, and then it is; the rules outlive a restart.
    folder
        .now_ms
        .fetch_add(5 * 60 * 60 * 1000, Ordering::SeqCst);
    let before_ms = start_ms + 5 * 60 * 60 * 1000 - 6 * 60 * 60 * 1000;
    let due = catalog
        .r2_buckets_to_sweep(before_ms, start_ms + DAY_MS, 10)
        .unwrap();
    assert_eq!(due, []);
    folder.now_ms.store(start_ms + DAY_MS, Ordering::SeqCst);
    let folder = folder.restart().await;
    folder.sweep_due().await;
    assert!(!folder.has_object(&one, "k").await);
    assert!(folder.has_object(&other, "k").await);

    // New rules are in force at once, a clock that was set back stops nothing.
    let catalog = folder.storage.catalog();
    catalog
        .set_r2_lifecycle(&account, &other, &one_day)
        .await
        .unwrap();
    folder.sweep_due().await;
    assert!(!folder.has_object(&other, "k").await);
    folder.now_ms.store(start_ms, Ordering::SeqCst);
    let due = catalog.r2_buckets_to_sweep(0, start_ms, 10).unwrap();
    assert_eq!(due.len(), 2);
    folder.storage.close().await;
}

#[tokio::test]
async fn a_bucket_that_cannot_be_swept_holds_up_no_other() {
    let account = AccountId::local();
    let (bad, good) = (BucketName::from("bad"), BucketName::from("good"));
    let folder = Fixture::new();
    let start_ms = folder.now_ms.load(Ordering::SeqCst);
    for bucket in [&bad, &good] {
        let catalog = folder.storage.catalog();
        catalog.ensure_r2_bucket(&account, bucket).await.unwrap();
        let now = rules(json!([expire("", 0)]));
        catalog
            .set_r2_lifecycle(&account, bucket, &now)
            .await
            .unwrap();
    }
    folder.put_object(&good, "k").await;
    let path = folder
        .storage
        .r2()
        .context
        .path(&(account.clone(), bad.clone()));
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, vec![7; 8192]).unwrap();
    folder.sweep_due().await;
    assert!(!folder.has_object(&good, "k").await);
    // It is tried again, half an hour later.
    let due = |ms: u64| {
        let catalog = folder.storage.catalog();
        let six_hours_ms = 6 * 60 * 60 * 1000;
        let due = catalog
            .r2_buckets_to_sweep(ms - six_hours_ms, ms, 10)
            .unwrap();
        due.into_iter().map(|(_, name, _)| name).collect::<Vec<_>>()
    };
    assert_eq!(due(start_ms + 29 * 60 * 1000), []);
    assert_eq!(due(start_ms + 30 * 60 * 1000), [bad]);
    folder.storage.close().await;
}

// docs: r2 cors
#[test]
fn cors_rules_are_checked() {
    let check = |rule: Json| {
        let rules: Vec<CorsRule> = serde_json::from_value(json!([rule])).unwrap();
        check_cors(&rules).map_err(|error| error.message().to_owned())
    };
    let rule = |origins: Json, methods: Json| json!({ "allowed": { "origins": origins, "methods": methods } });
    for origin in [
        "*",
        "https://a.example",
        "http://localhost:3000",
        "capacitor://localhost",
    ] {
        check(rule(
            json!([origin]),
            json!(["GET", "PUT", "POST", "DELETE", "HEAD"]),
        ))
        .unwrap();
    }
    let full = json!({
        "id": "name",
        "allowed": { "origins": ["*"], "methods": ["GET"], "headers": ["content-type"] },
        "exposeHeaders": ["etag"], "maxAgeSeconds": 86_400,
    });
    check(full.clone()).unwrap();
    let read: CorsRule = serde_json::from_value(full.clone()).unwrap();
    assert_eq!(serde_json::to_value(read).unwrap(), full);
    for (rule, why) in [
        (rule(json!([]), json!(["GET"])), "at least one origin"),
        (rule(json!(["*"]), json!([])), "one method"),
        (rule(json!(["a.example"]), json!(["GET"])), "\"a.example\""),
        (
            rule(json!(["https://a.example/"]), json!(["GET"])),
            "\"https://a.example/\"",
        ),
        (rule(json!(["https://"]), json!(["GET"])), "\"https://\""),
        (rule(json!(["*"]), json!(["PATCH"])), "\"PATCH\""),
        (rule(json!(["*"]), json!(["get"])), "\"get\""),
        (
            json!({ "allowed": { "origins": ["*"], "methods": ["GET"] }, "maxAgeSeconds": 86_401 }),
            "at most 86400",
        ),
    ] {
        let text = check(rule).unwrap_err();
        assert!(
            text.starts_with("The JSON you provided was not well formed. ") && text.contains(why),
            "{text}, not {why}"
        );
    }
}
