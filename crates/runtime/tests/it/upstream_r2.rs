//! Cloudflare's own cases for its R2 simulator (miniflare:
//! `packages/miniflare/test/plugins/r2/index.spec.ts`, all 50, and `validator.spec.ts`), each
//! through the real workerd. Parts have their true minimum, which upstream lowers. Where
//! Cloudflare differs from its simulator, [`DIFFERENT`] says how and why.

use std::collections::BTreeSet;

use engawa_model::{BindingKind, Clock};
use serde_json::{Value as Json, json};

use crate::support::{PATIENCE, Worker, World, binding, version};
use crate::upstream_kv::blobs;

const SCRIPT: &str = include_str!("upstream_r2.js");
/// 2023-02-24T00:09:00.500Z, as in upstream's cases of conditions.
const NOW_MS: u64 = 1_677_197_340_500;
const PART: u64 = 5 * 1024 * 1024;
const MD5_OF_VALUE: &str = "2063c1608d6e0baf80249c42e2be5804";

/// The cases in which Cloudflare, and so Engawa, differs from its simulator.
/// `docs/compatibility.md` lists them for users.
const DIFFERENT: [(&str, &str); 6] = [
    (
        "put: validates metadata size",
        "docs: r2 limits: 8,192 bytes; miniflare has the older 2,048",
    ),
    (
        "list: returns metadata with objects",
        "docs: r2 list: what was not included is undefined; miniflare gives empty objects",
    ),
    (
        "list: includes httpMetadata and customMetadata if specified",
        "the same",
    ),
    (
        "list: returns an empty list with an invalid cursor",
        "an opaque cursor is not guessed into a place",
    ),
    (
        "uploadPart",
        "docs: r2 multipart objects: a part's etag is its MD5; miniflare's is random",
    ),
    (
        "completeMultipartUpload",
        "the same: a part that was replaced by the same bytes has the same etag",
    ),
];

async fn deploy(world: &World) -> Worker {
    world
        .deploy(version(
            "r2",
            SCRIPT,
            vec![
                binding("R2", BindingKind::R2Bucket("bucket".into())),
                binding("STRANGE", BindingKind::R2Bucket("my/ Bucket".into())),
            ],
        ))
        .await
}

async fn case(worker: &Worker, name: &str) -> Json {
    worker.post("/", &json!({ "name": name })).await
}

fn world() -> World {
    World::at(Clock::from_fn(|| NOW_MS))
}

/// An object as the script shows it.
#[expect(clippy::needless_pass_by_value, reason = "made for each call")]
fn object(size: u64, etag: &str, checksums: Json, more: Json) -> Json {
    let mut shown = json!({
        "key": "key", "version": true, "size": size, "etag": etag, "quoted": true,
        "checksums": checksums, "uploaded": NOW_MS,
    });
    for (name, value) in more.as_object().unwrap() {
        shown[name] = value.clone();
    }
    shown
}

/// What each case must answer, in an order in which "/ later" follows its first half.
fn expected() -> Vec<(&'static str, Json)> {
    let invalid_name = |action: &str| {
        json!(format!(
            "{action}: The specified object name is not valid. (10020)"
        ))
    };
    let unsatisfiable = "get: The requested range is not satisfiable (10039)";
    let single = |more| object(5, MD5_OF_VALUE, json!({ "md5": MD5_OF_VALUE }), more);
    let metadata = json!({
        "http": {
            "contentType": "text/plain",
            "contentLanguage": "en-GB",
            "contentDisposition": "attachment; filename=\"value.txt\"",
            "contentEncoding": "gzip",
            "cacheControl": "max-age=3600",
            "cacheExpiry": "2023-02-24T00:00:00.000Z",
        },
        "custom": { "key": "value" },
    });
    let with_range = |length: u64| {
        let mut metadata = metadata.clone();
        metadata["range"] = json!({ "offset": 0, "length": length });
        metadata
    };
    let written = json!([true, "text/plain", "value"]);
    let ranged =
        |offset: u64, text: &str| json!([{ "offset": offset, "length": text.len() }, text]);
    let too_large = "put: Your metadata headers exceed the maximum allowed metadata size. (10012)";
    let multipart_of = |more: Json| {
        let mut shown =
            json!({ "custom": { "key": "value" }, "http": { "contentType": "text/plain" } });
        for (name, value) in more.as_object().unwrap() {
            shown[name] = value.clone();
        }
        shown
    };
    let runs = |parts: &[(char, u64)]| {
        let parts: Vec<String> = parts
            .iter()
            .map(|(letter, len)| format!("{letter} {len}"))
            .collect();
        parts.join(", ")
    };
    let checksum = |kind: &str, name: &str| {
        let message = format!(
            "put: The {name} checksum you specified did not match what we received.\nYou provided \
             a {name} checksum with value: <given>\nActual {name} was: <actual> (10037)"
        );
        let sums = if kind == "md5" {
            json!([["md5", true]])
        } else {
            json!([["md5", 32], [kind, true]])
        };
        json!([message, sums])
    };
    let complete = |text: &str| json!(format!("completeMultipartUpload: {text}"));
    let too_small =
        complete("Your proposed upload is smaller than the minimum allowed object size. (10011)");
    let not_found = complete("One or more of the specified parts could not be found. (10025)");
    let internal = complete("We encountered an internal error. Please try again. (10001)");
    let problem = complete("There was a problem with the multipart upload. (10048)");
    let finished = complete("The specified multipart upload does not exist. (10024)");
    let no_upload = "uploadPart: The specified multipart upload does not exist. (10024)";
    let abort_internal =
        "abortMultipartUpload: We encountered an internal error. Please try again. (10001)";
    let max_keys = "list: MaxKeys params must be positive integer <= 1000. (10022)";
    let three = [('1', PART), ('2', PART), ('3', PART)];
    vec![
        ("head: returns null for non-existent keys", json!(null)),
        (
            "head: returns metadata for existing keys",
            json!([single(with_range(5)), written]),
        ),
        ("head: validates key", invalid_name("head")),
        ("get: returns null for non-existent keys", json!(null)),
        (
            "get: returns metadata and body for existing keys",
            json!([single(with_range(5)), written, "value"]),
        ),
        ("get: validates key", invalid_name("get")),
        (
            "get: range using object",
            json!([
                ranged(3, "ue"),
                ranged(0, "val"),
                ranged(0, "value"),
                ranged(1, "alu"),
                ranged(2, "lue"),
                ranged(0, "value"),
                unsatisfiable,
                unsatisfiable,
                unsatisfiable,
            ]),
        ),
        (
            "get: range using \"Range\" header",
            json!([
                ranged(0, "abcdefghijklmnopqrstuvwxyz"),
                ranged(3, "defg"),
                ranged(10, "klmnopqrstuvwxyz"),
                ranged(21, "vwxyz"),
                ranged(0, "abcdefghijklmnopqrstuvwxyz"),
            ]),
        ),
        (
            "get: returns body only if passes onlyIf",
            json!([true, false, false, true, true, false, false, true]),
        ),
        (
            "put: returns metadata for created object",
            single(metadata.clone()),
        ),
        ("put: puts empty value", json!([0, ""])),
        ("put: overrides existing keys", json!(null)),
        ("put: overrides existing keys / later", json!("2 100000")),
        ("put: validates key", invalid_name("put")),
        (
            "put: validates checksums",
            json!([
                checksum("md5", "MD5"),
                checksum("sha1", "SHA-1"),
                checksum("sha256", "SHA-256"),
                checksum("sha384", "SHA-384"),
                checksum("sha512", "SHA-512"),
            ]),
        ),
        (
            "put: stores only if passes onlyIf",
            json!([
                [true, "2"],
                [false, "1"],
                [false, "1"],
                [true, "2"],
                [true, "2"],
                [false, "1"],
                [false, "1"],
                [true, "2"],
                null,
            ]),
        ),
        (
            "put: validates metadata size",
            json!([
                "no error", too_large, "no error", "no error", "no error", too_large, too_large,
            ]),
        ),
        (
            "put: can copy values",
            json!(["0123456789", "1234", "012", "56789", "012345"]),
        ),
        (
            "delete: deletes existing keys",
            json!([100_000, null, null, "key2", null]),
        ),
        ("delete: validates key", invalid_name("delete")),
        ("delete: validates keys", invalid_name("delete")),
        (
            "list: lists keys in sorted order",
            json!([["!", ", ", "key1", "key2", "key3"]]),
        ),
        (
            "list: lists keys matching prefix",
            json!([["section1key1", "section1key2"]]),
        ),
        ("list: returns an empty list with no keys", json!([[]])),
        (
            "list: returns an empty list with no matching keys",
            json!([[]]),
        ),
        (
            "list: returns an empty list with an invalid cursor",
            json!("list: The cursor is not one that a list returned. (10029)"),
        ),
        ("list: paginates keys", json!([["key1", "key2"], ["key3"]])),
        (
            "list: paginates keys matching prefix",
            json!([["section1key1", "section1key2"], ["section1key3"]]),
        ),
        (
            "list: lists keys starting from startAfter exclusive",
            json!([["key3", "key4"]]),
        ),
        (
            "list: lists keys with startAfter and limit (where startAfter matches key)",
            json!([["key2", "key3"], ["key4"]]),
        ),
        (
            "list: lists keys with startAfter and limit (where startAfter doesn't match key)",
            json!([["key1", "key2"], ["key3", "key4"]]),
        ),
        ("list: accepts long prefix", json!([true])),
        (
            "list: returns metadata with objects",
            json!([single(json!({}))]),
        ),
        (
            "list: paginates with variable limit",
            json!([
                [["key1"], true, "string"],
                [["key2", "key3"], false, "undefined"]
            ]),
        ),
        (
            "list: returns keys inserted whilst paginating",
            json!([
                [["key1", "key3"], true, "string"],
                [["key4", "key5"], false, "undefined"]
            ]),
        ),
        ("list: validates limit", json!([max_keys, max_keys])),
        (
            "list: includes httpMetadata and customMetadata if specified",
            json!([
                [["none", "none"], ["none", "none"], ["none", "none"]],
                [
                    [{ "contentEncoding": "gzip" }, "none"],
                    [{ "contentType": "dinosaur" }, "none"],
                    [{ "contentLanguage": "en" }, "none"],
                ],
                [
                    ["none", { "foo": "bar" }],
                    ["none", { "bar": "fiz" }],
                    ["none", { "fiz": "bang" }],
                ],
                [
                    [{ "contentEncoding": "gzip" }, { "foo": "bar" }],
                    [{ "contentType": "dinosaur" }, { "bar": "fiz" }],
                    [{ "contentLanguage": "en" }, { "fiz": "bang" }],
                ],
            ]),
        ),
        (
            "list: returns correct delimitedPrefixes for delimiter and prefix",
            {
                let all = [
                    "dir0/file0",
                    "dir0/file1",
                    "dir0/sub0/file2",
                    "dir0/sub0/file3",
                    "dir0/sub1/file4",
                    "dir0/sub1/file5",
                    "dir1/file6",
                    "dir1/file7",
                    "file8",
                    "file9",
                ];
                let without_8: Vec<_> = all.iter().filter(|key| **key != "file8").collect();
                json!([
                    [all, [], false],
                    [all, [], false],
                    [without_8, ["file8"], false],
                    [["dir1/file7"], ["dir1/file6"], false],
                    [["file8", "file9"], ["dir0/", "dir1/"], false],
                    [
                        ["dir0/file0", "dir0/file1"],
                        ["dir0/sub0/", "dir0/sub1/"],
                        false
                    ],
                    [[], ["dir0/"], false],
                    [["dir0/file0", "dir0/file1"], [], true],
                    [[], ["dir0/sub0/", "dir0/sub1/"], false],
                ])
            },
        ),
        (
            "operations permit empty key",
            json!(["", "empty", [""], null]),
        ),
        ("operations permit strange bucket names", json!("value")),
        (
            "createMultipartUpload",
            json!([
                "key",
                true,
                "key",
                true,
                invalid_name("createMultipartUpload")
            ]),
        ),
        (
            "uploadPart",
            json!([
                1,
                true,
                2,
                true,
                1,
                true,
                100,
                true,
                no_upload,
                no_upload,
                invalid_name("uploadPart"),
            ]),
        ),
        (
            "abortMultipartUpload",
            json!([
                no_upload,
                "no error",
                "no error",
                "value1",
                abort_internal,
                abort_internal,
                invalid_name("abortMultipartUpload"),
            ]),
        ),
        (
            "completeMultipartUpload",
            json!({
                "created": [
                    object(2 * PART + 1, "*", json!({}), multipart_of(json!({}))),
                    true,
                    runs(&[('1', PART), ('2', PART), ('3', 1)]),
                ],
                "small": [too_small, too_small],
                "single": [1, "46d1741e8075da4ac72c71d8130fcb71-1", "1"],
                "overridden": [not_found, 5],
                "doubled": internal,
                "ordered": [3 * PART, true, runs(&three)],
                "smallNamedLast": problem,
                "smallNamedInside": too_small,
                "gaps": [true, runs(&[('2', PART), ('5', PART), ('9', PART)])],
                "none": [0, "d41d8cd98f00b204e9800998ecf8427e-0", ""],
                "foreign": not_found,
                "twice": finished,
                "aborted": finished,
                "unknown": [internal, internal, invalid_name("completeMultipartUpload")],
                "uneven": [problem, problem, 3 * PART - 1],
                "missing": [not_found, not_found, not_found],
            }),
        ),
        (
            "head: is multipart aware",
            json!([
                null,
                object(
                    3 * PART,
                    "*",
                    json!({}),
                    multipart_of(json!({ "range": { "offset": 0, "length": 3 * PART } })),
                ),
                true,
                true,
            ]),
        ),
        (
            "get: is multipart aware",
            json!([
                null,
                object(
                    3 * PART,
                    "*",
                    json!({}),
                    multipart_of(json!({ "range": { "offset": 0, "length": 3 * PART } })),
                ),
                true,
                runs(&[('a', PART), ('b', PART), ('c', PART)]),
                runs(&[('a', PART / 4)]),
                runs(&[('a', PART / 2), ('b', PART), ('c', PART / 4)]),
                runs(&[('b', PART / 4), ('c', PART)]),
            ]),
        ),
        ("put: is multipart aware", json!(3 * PART)),
        ("put: is multipart aware / later", json!("new-value")),
        ("delete: is multipart aware", json!(3 * PART)),
        ("delete: is multipart aware / later", json!(null)),
        (
            "delete: waits for in-progress multipart gets before deleting part blobs",
            json!([runs(&three), runs(&three[1..])]),
        ),
        (
            "list: is multipart aware",
            json!([
                0,
                [object(3 * PART, "*", json!({}), multipart_of(json!({})))],
                true
            ]),
        ),
    ]
}

/// Cases that need more than one start.
const OTHERS: [&str; 2] = [
    "operations persist stored data",
    "operations persist stored data / later",
];

/// The etags of large parts are compared in the script, which has the bytes.
fn forget_multipart_etags(answer: &mut Json) {
    match answer {
        Json::Array(items) => items.iter_mut().for_each(forget_multipart_etags),
        Json::Object(items) => {
            let is_large = items.get("size").and_then(Json::as_u64) > Some(PART);
            if is_large && items.contains_key("etag") {
                items.insert("etag".into(), json!("*"));
            }
            items.values_mut().for_each(forget_multipart_etags);
        }
        _ => {}
    }
}

/// Waits until the data folder has so many blobs: they go after the answer.
async fn wait_for_blobs(world: &World, count: usize) {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let found = blobs(world.data.path());
        if found.len() == count {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "{found:?}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn every_upstream_case_of_r2_holds() {
    let world = world();
    let worker = deploy(&world).await;
    let mut expected = expected();
    // Last, since they leave parts behind, and files are counted.
    expected.sort_by_key(|(name, _)| name.ends_with("MultipartUpload") || *name == "uploadPart");
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
    assert!(DIFFERENT.iter().all(|(name, _)| names.contains(name)));

    let mut wrong = Vec::new();
    for (name, expected) in expected {
        let mut answer = case(&worker, name).await;
        forget_multipart_etags(&mut answer);
        if answer != expected {
            wrong.push(format!(
                "{name}\n  here:     {answer}\n  expected: {expected}"
            ));
        }
        match name {
            "put: overrides existing keys" | "put: overrides existing keys / later" => {
                wait_for_blobs(&world, 1).await;
            }
            "put: is multipart aware" | "delete: is multipart aware" => {
                wait_for_blobs(&world, 3).await;
            }
            "delete: deletes existing keys"
            | "put: is multipart aware / later"
            | "delete: is multipart aware / later"
            | "delete: waits for in-progress multipart gets before deleting part blobs" => {
                wait_for_blobs(&world, 0).await;
            }
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

// miniflare: the same file, "operations persist stored data"
#[tokio::test]
async fn objects_are_there_after_a_restart() {
    let world = world();
    let worker = deploy(&world).await;
    assert_eq!(
        case(&worker, "operations persist stored data").await,
        json!(5)
    );
    drop(worker);
    let world = world.restart(Clock::from_fn(|| NOW_MS)).await;
    let worker = deploy(&world).await;
    assert_eq!(
        case(&worker, "operations persist stored data / later").await,
        json!(["value", [5], null, 9, 9])
    );
}

/// A condition as it is given, and as it is meant.
struct Condition {
    given: Json,
    /// Whether the tags of `etagMatches` and `etagDoesNotMatch` are met; `None`: not given.
    matches: Option<bool>,
    differs: Option<bool>,
    before_ms: Option<u64>,
    after_ms: Option<u64>,
    in_seconds: bool,
}

impl Condition {
    /// storage.md 3.3, the table.
    fn holds_for_object(&self) -> bool {
        let unit = if self.in_seconds { 1000 } else { 1 };
        let uploaded = NOW_MS / unit;
        let before = self.before_ms.is_none_or(|ms| uploaded < ms / unit);
        let after = self.after_ms.is_none_or(|ms| uploaded > ms / unit);
        self.matches != Some(false)
            && self.differs != Some(false)
            && (after || self.differs == Some(true))
            && (before || self.matches == Some(true))
    }

    fn holds_for_none(&self) -> bool {
        self.matches.is_none() && self.after_ms.is_none()
    }
}

/// Every combination of conditions, as an object and as headers.
fn all_conditions() -> Vec<Condition> {
    // md5("1"), which is what lies there.
    let etag = "c4ca4238a0b923820dcc509a6f75849b";
    let times = [
        None,
        Some(NOW_MS - 30_000),
        Some(NOW_MS - 250),
        Some(NOW_MS),
        Some(NOW_MS + 250),
        Some(NOW_MS + 30_000),
    ];
    let http_date = |ms: u64| {
        httpdate::fmt_http_date(std::time::UNIX_EPOCH + std::time::Duration::from_millis(ms))
    };
    let mut all = Vec::new();
    for before_ms in times {
        for after_ms in times {
            let tags = [
                (None, None, None),
                (Some(etag), Some(true), Some(false)),
                (Some("bad"), Some(false), Some(true)),
                (Some("*"), Some(true), Some(false)),
            ];
            for (matched, matches, _) in tags {
                for (unmatched, _, differs) in tags {
                    for in_seconds in [false, true] {
                        let mut object = json!({ "secondsGranularity": in_seconds });
                        for (name, value) in [
                            ("etagMatches", matched.map(Json::from)),
                            ("etagDoesNotMatch", unmatched.map(Json::from)),
                            ("uploadedBefore", before_ms.map(Json::from)),
                            ("uploadedAfter", after_ms.map(Json::from)),
                        ] {
                            if let Some(value) = value {
                                object[name] = value;
                            }
                        }
                        all.push(Condition {
                            given: json!({ "object": object }),
                            matches,
                            differs,
                            before_ms,
                            after_ms,
                            in_seconds,
                        });
                    }
                }
            }
            let tags = [
                (None, None, None),
                (Some(format!("\"{etag}\"")), Some(true), Some(false)),
                // A weak tag never matches, and differs from what it names never either.
                (Some(format!("W/\"{etag}\"")), Some(false), Some(false)),
                (Some("\"bad\"".to_owned()), Some(false), Some(true)),
                (Some("*".to_owned()), Some(true), Some(false)),
                (
                    Some(format!("\"bad\", \"{etag}\"")),
                    Some(true),
                    Some(false),
                ),
            ];
            for (matched, matches, _) in &tags {
                for (unmatched, _, differs) in &tags {
                    let mut headers = json!({});
                    for (name, value) in [
                        ("If-Match", matched.clone()),
                        ("If-None-Match", unmatched.clone()),
                        ("If-Unmodified-Since", before_ms.map(http_date)),
                        ("If-Modified-Since", after_ms.map(http_date)),
                    ] {
                        if let Some(value) = value {
                            headers[name] = value.into();
                        }
                    }
                    all.push(Condition {
                        given: json!({ "headers": headers }),
                        matches: *matches,
                        differs: *differs,
                        before_ms,
                        after_ms,
                        in_seconds: true,
                    });
                }
            }
        }
    }
    all
}

// miniflare: validator.spec.ts; storage.md 3.3
#[tokio::test]
async fn conditions_hold_as_the_truth_table_says_in_both_forms() {
    let conditions = all_conditions();
    assert_eq!(conditions.len(), 36 * (32 + 36));
    let world = world();
    let worker = deploy(&world).await;
    // By default a seventh of them, which divides no number of the table's columns.
    let full = std::env::var_os("ENGAWA_TEST_FULL").is_some();
    let step = if full { 1 } else { 7 };
    let conditions: Vec<Condition> = conditions.into_iter().step_by(step).collect();
    let (mut wrong, mut first) = (Vec::new(), 0);
    for some in conditions.chunks(500) {
        let list: Vec<&Json> = some.iter().map(|condition| &condition.given).collect();
        let answers = worker
            .post(
                "/",
                &json!({ "name": "(conditions)", "list": list, "first": first }),
            )
            .await;
        first += some.len();
        for (condition, answer) in some.iter().zip(answers.as_array().unwrap()) {
            let (object, none) = (condition.holds_for_object(), condition.holds_for_none());
            let expected = json!([object, object, none]);
            if *answer != expected {
                wrong.push(format!("{}: {answer}, not {expected}", condition.given));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "get, put, put of none:\n{}",
        wrong.join("\n")
    );
}

// docs: r2 examples, "Use SSE-C": the key is a text of hex digits or bytes
#[tokio::test]
async fn an_object_under_a_customers_key_opens_with_it_only() {
    const SSEC: &str = r#"
const caught = async (promise) => { try { return await promise; } catch (error) { return error.message; } };
export default { async fetch(request, { R2 }) {
  const bytes = new Uint8Array(32).fill(7);
  const text = "07".repeat(32);
  const put = await R2.put("k", "secret", { ssecKey: text, customMetadata: { a: "b" } });
  const head = await R2.head("k");
  const got = await R2.get("k", { ssecKey: bytes.buffer });
  const tail = await R2.get("k", { ssecKey: text, range: { offset: 3 } });
  const upload = await R2.createMultipartUpload("parts", { ssecKey: text });
  const parts = [await upload.uploadPart(1, "part", { ssecKey: bytes.buffer })];
  const unkeyed = await caught(upload.uploadPart(2, "part"));
  const done = await upload.complete(parts);
  const whole = await R2.get("parts", { ssecKey: text });
  await R2.put("plain", "plain");
  return Response.json({
    md5: [put.ssecKeyMd5, head.ssecKeyMd5, got.ssecKeyMd5, done.ssecKeyMd5],
    texts: [await got.text(), await tail.text(), await whole.text()],
    custom: got.customMetadata, etag: put.etag,
    refused: [
      await caught(R2.get("k")), await caught(R2.get("k", { ssecKey: "08".repeat(32) })),
      await caught(R2.get("plain", { ssecKey: text })), unkeyed, await caught(R2.put("k", "x", { ssecKey: "07" })),
    ],
    condition: "body" in (await R2.get("k", { ssecKey: text, onlyIf: { etagMatches: "bad" } })),
    listed: (await R2.list()).objects.map(({ key, ssecKeyMd5 }) => [key, ssecKeyMd5 ?? null]),
  });
} };"#;
    let world = world();
    let bucket = binding("R2", BindingKind::R2Bucket("bucket".into()));
    let worker = world.deploy(version("ssec", SSEC, vec![bucket])).await;
    let answer = worker.post("/", &json!(null)).await;
    // md5 of 32 times the byte 7
    let md5 = &answer["md5"][0];
    assert_eq!(answer["md5"], json!([md5, md5, md5, md5]));
    assert_eq!(md5.as_str().unwrap().len(), 32);
    assert_eq!(answer["texts"], json!(["secret", "ret", "part"]));
    assert_eq!(answer["custom"], json!({ "a": "b" }));
    assert_eq!(answer["etag"], "5ebe2294ecd0e0f08eab7690d2a6ee69");
    assert_eq!(
        answer["refused"],
        json!([
            "get: The object was stored using a form of Server Side Encryption. The correct \
             parameters must be provided to retrieve the object. (10029)",
            "get: The provided encryption parameters did not match the ones used originally. \
             (10029)",
            "get: The encryption parameters are not applicable to this object. (10029)",
            "uploadPart: The multipart upload initiate requested encryption. Subsequent part \
             requests must include the appropriate encryption parameters. (10029)",
            "SSE-C Key must be 32 bytes in length",
        ])
    );
    assert_eq!(answer["condition"], false);
    assert_eq!(
        answer["listed"],
        json!([["k", md5], ["parts", md5], ["plain", null]])
    );
}
