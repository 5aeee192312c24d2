//! KV, D1, R2 and Analytics Engine as a worker sees them: the operations of
//! `fixtures/bindings` give what they give under `wrangler pages dev`, but for the
//! differences that are listed here with their reasons.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use engawa_model::AccountId;
use engawa_storage::{EventPoint, Owner, Storage, StorageOptions};
use engawa_testkit::{Dev, TestProject, repository};
use serde_json::{Value, json};

use crate::{program, project, start};
use engawa_testkit::oracle::{Oracle, packages};

/// Where an answer is meant to differ from the oracle's: list, operation, the place within
/// the answer, and why. `docs/compatibility.md` tells it to users.
const INTENDED: &[(&str, &str, &str, &str)] = &[
    (
        "kv",
        "list with a cursor that is none",
        "",
        "an opaque cursor is not guessed into a place",
    ),
    (
        "d1",
        "create an index",
        "/meta/rows_read",
        "reads of the schema are not seen",
    ),
    (
        "d1",
        "upsert",
        "/meta/rows_read",
        "a probe that finds nothing, or finds a conflict, is not seen",
    ),
    (
        "d1",
        "update of none",
        "/meta/rows_read",
        "a probe that finds nothing, or finds a conflict, is not seen",
    ),
    (
        "d1",
        "delete of none",
        "/meta/rows_read",
        "a probe that finds nothing, or finds a conflict, is not seen",
    ),
    (
        "d1",
        "delete returning",
        "/meta/rows_read",
        "the second pass over what is deleted is not seen",
    ),
    (
        "d1",
        "join",
        "/meta/rows_read",
        "the row that ends a search is not seen",
    ),
    (
        "d1",
        "delete with a limit",
        "",
        "the bundled SQLite's parser is generated without it",
    ),
    (
        "d1",
        "update with a limit",
        "",
        "the bundled SQLite's parser is generated without it",
    ),
    (
        "d1",
        "VACUUM",
        "",
        "storage.md 2.2: not authorized, since it attaches",
    ),
    (
        "d1",
        "pragma optimize",
        "/meta/rows_",
        "ANALYZE counts by its own tables here",
    ),
    (
        "d1",
        "sqlite_master",
        "",
        "the bundled SQLite keeps samples in sqlite_stat4",
    ),
    (
        "d1",
        "batch with a statement that rolls back",
        "",
        "miniflare: an internal error, and its database is reset",
    ),
    (
        "d1",
        "dump",
        "",
        "only for databases of D1's alpha: not implemented, not unknown",
    ),
    (
        "d1",
        "a foreign key deferred and broken",
        "",
        "storage.md 2.4: the SQLite error; miniflare: an internal error",
    ),
    (
        "d1",
        "delete that cascades",
        "/meta/last_row_id",
        "miniflare's database was reset by the row before",
    ),
    (
        "d1",
        "delete that cascades",
        "/meta/rows_read",
        "reads for foreign keys are not seen",
    ),
    (
        "d1",
        "FTS5 rebuild",
        "/meta/rows_written",
        "each row that is indexed again counts",
    ),
    (
        "d1",
        "insert from select",
        "/meta/rows_read",
        "the copy that is made first is not seen",
    ),
    (
        "d1",
        "delete all",
        "/meta/rows_read",
        "there is no short cut while rows are counted",
    ),
    (
        "d1",
        "session with what is no bookmark",
        "",
        "storage.md 2.9: refused; miniflare ignores it",
    ),
    (
        "r2",
        "storage class",
        "/storageClass",
        "miniflare knows no storage classes",
    ),
    (
        "r2",
        "storage class that is none",
        "",
        "miniflare knows no storage classes",
    ),
    (
        "r2",
        "a customer's key",
        "/ssec",
        "miniflare stores it as if there were no key",
    ),
    (
        "r2",
        "delete of 1001 keys",
        "",
        "storage.md 3.1: at most 1,000",
    ),
    (
        "r2",
        "list has objects",
        "/0/",
        "storage.md 3.2: a list has what is asked for and no more; miniflare gives empty objects",
    ),
    (
        "r2",
        "list with include of one",
        "/0/http",
        "storage.md 3.2: a list has what is asked for and no more; miniflare gives empty objects",
    ),
    (
        "r2",
        "writeHttpMetadata of a listed object",
        "",
        "storage.md 3.2: a list has what is asked for and no more; miniflare gives empty objects",
    ),
];

/// The project of the fixtures, in a folder of its own.
fn fixture() -> TestProject {
    let project = TestProject::new(&[]);
    let source = repository().join("crates/engawa/tests/fixtures/bindings");
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(source.join(&folder)).expect("the fixtures are there") {
            let name = folder.join(entry.expect("an entry").file_name());
            if source.join(&name).is_dir() {
                folders.push(name);
            } else {
                let bytes = std::fs::read(source.join(&name)).expect("a file");
                project.write(name.to_str().expect("an ASCII name"), bytes);
            }
        }
    }
    project
}

/// The answers of one list of operations.
fn answers(url: &str) -> Value {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(4 * engawa_testkit::PATIENCE))
        .build()
        .into();
    let mut response = agent
        .get(url)
        .call()
        .unwrap_or_else(|error| panic!("{url}: {error}"));
    let text = response.body_mut().read_to_string().expect("a text");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{url}: {error}: {text}"))
}

/// Where two answers differ, as places within them.
fn differences(place: &str, ours: &Value, theirs: &Value, found: &mut Vec<(String, String)>) {
    match (ours, theirs) {
        (Value::Object(one), Value::Object(other)) => {
            for key in one.keys().chain(other.keys()).collect::<BTreeSet<_>>() {
                let of = |map: &serde_json::Map<String, Value>| {
                    map.get(key).cloned().unwrap_or_else(|| json!("(none)"))
                };
                differences(&format!("{place}/{key}"), &of(one), &of(other), found);
            }
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            for (index, (one, other)) in one.iter().zip(other).enumerate() {
                differences(&format!("{place}/{index}"), one, other, found);
            }
        }
        _ if ours == theirs => {}
        // miniflare knows no storage classes; the runtime shows them as empty texts.
        _ if place.ends_with("/storageClass") && ours == "Standard" && theirs == "" => {}
        _ => found.push((
            place.to_owned(),
            format!("\n    here:   {ours}\n    oracle: {theirs}"),
        )),
    }
}

#[test]
fn every_operation_gives_what_it_gives_under_wrangler() {
    let Some(packages) = packages() else {
        eprintln!("wrangler is not installed (cargo xtask test installs it): nothing was compared");
        return;
    };
    let (mine, its) = (fixture(), fixture());
    let oracle = Oracle::start(&packages, its.path());
    let dev = start(&mine);
    let mut wrong = Vec::new();
    let mut unmet = INTENDED
        .iter()
        .map(|(list, name, place, _)| (*list, *name, *place))
        .collect::<BTreeSet<_>>();
    for list in ["kv", "d1", "r2"] {
        let path = format!("/run?list={list}");
        let (ours, theirs) = (answers(&dev.url(&path)), answers(&oracle.url(&path)));
        let (ours, theirs) = (
            ours.as_object().expect("an object"),
            theirs.as_object().expect("an object"),
        );
        assert!(
            ours.len() > 80 && ours.keys().eq(theirs.keys()),
            "both ran the whole list"
        );
        for (name, answer) in ours {
            let mut found = Vec::new();
            differences("", answer, &theirs[name], &mut found);
            for (place, values) in found {
                let mut is_intended = false;
                for (of, operation, at, _) in INTENDED {
                    if *of == list && operation == name && place.starts_with(at) {
                        is_intended = true;
                        unmet.remove(&(*of, *operation, *at));
                    }
                }
                if !is_intended {
                    wrong.push(format!("{list}: {name}: {place}{values}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "these differ:\n{}", wrong.join("\n"));
    assert!(
        unmet.is_empty(),
        "these are listed as different and are not: {unmet:?}"
    );
}

/// The data points that a stopped `engawa dev` left.
fn points(project: &Path) -> Vec<(String, EventPoint)> {
    let data = project
        .join(".engawa")
        .canonicalize()
        .expect("the state folder");
    let owner = Owner::acquire(&data, "test").expect("engawa has let go of it");
    let storage = Storage::open(&owner, StorageOptions::new(&data)).expect("it opens");
    let batches = storage
        .events()
        .read(&AccountId::local())
        .expect("the log opens");
    batches
        .flat_map(|batch| {
            let batch = batch.expect("a batch");
            batch
                .points
                .into_iter()
                .map(move |point| (batch.dataset.as_str().to_owned(), point))
        })
        .collect()
}

fn stop(mut dev: Dev) {
    dev.signal("TERM");
    let status = dev.wait();
    assert!(status.success(), "{status}: {}", dev.stderr());
}

// docs: analytics.md 1.2 and 1.3 (workerd: api/analytics-engine)
#[test]
fn data_points_are_coerced_as_by_the_runtime_and_arrive() {
    let project = project(&[(
        "functions/points.js",
        r#"const write = (env, point) => { try { return String(env.AE.writeDataPoint(point)); } catch (error) { return `${error.name}: ${error.message}`; } };
export const onRequest = ({ env }) => Response.json({
  stored: [
    undefined,
    {},
    { indexes: ["i"], blobs: ["a", null, "é"], doubles: [1.5, 2] },
    { indexes: [null], blobs: [] , doubles: [] },
    { blobs: [42, true, {}] },
    { doubles: ["3.5", true, null, undefined, "abc"] },
    { doubles: [NaN, Infinity, -Infinity] },
    { blobs: [new Uint8Array([0, 255]).buffer, new Uint8Array([1, 2, 3]).subarray(1)] },
    { indexes: ["x".repeat(96)], blobs: ["b".repeat(16_000)], doubles: Array(20).fill(7) },
    { timestamp: 5, unknown: "ignored", blobs: ["t"] },
  ].map((point) => write(env, point)),
  refused: {
    indexes: write(env, { indexes: ["a", "b"] }),
    index: write(env, { indexes: ["é".repeat(49)] }),
    blobs: write(env, { blobs: Array(21).fill("x") }),
    size: write(env, { blobs: ["b".repeat(8_000), "b".repeat(8_001)] }),
    doubles: write(env, { doubles: Array(21).fill(1) }),
    bigint: write(env, { doubles: [1n] }),
    symbol: write(env, { doubles: [Symbol("s")] }),
    text: write(env, { blobs: "x" }),
  },
});"#,
    )]);
    let dev = start(&project);
    let answer = dev.json("/points");
    assert_eq!(answer["stored"], json!(vec!["undefined"; 10]));
    let refused = |name: &str| answer["refused"][name].as_str().unwrap().to_owned();
    assert_eq!(
        refused("indexes"),
        "TypeError: writeDataPoint(): Maximum of 1 indexes supported."
    );
    assert_eq!(
        refused("index"),
        "TypeError: writeDataPoint(): Size of indexes[0] exceeds 96 bytes)."
    );
    assert_eq!(
        refused("blobs"),
        "TypeError: writeDataPoint(): Maximum of 20 blobs supported."
    );
    assert_eq!(
        refused("size"),
        "TypeError: writeDataPoint(): Cumulative size of blobs exceeds 16000 bytes)."
    );
    assert_eq!(
        refused("doubles"),
        "TypeError: writeDataPoint(): Maximum of 20 doubles supported."
    );
    for name in ["bigint", "symbol", "text"] {
        assert!(
            refused(name).starts_with("TypeError: "),
            "{name}: {}",
            refused(name)
        );
    }
    // A normal stop keeps what was written a moment ago.
    stop(dev);

    let points = points(project.path());
    assert_eq!(points.len(), 10, "those that were refused are not there");
    assert!(
        points.iter().all(|(dataset, _)| dataset == "AE"),
        "without a dataset it is named after the binding"
    );
    let point = |index: usize| &points[index].1;
    let text = |blob: &str| Some(blob.as_bytes().to_vec());
    for (index, is_default) in [(0, true), (1, true), (3, true), (2, false)] {
        let point = point(index);
        let empty = point.index.as_deref().unwrap_or_default().is_empty()
            && point.blobs.is_empty()
            && point.doubles.is_empty();
        assert_eq!(empty, is_default, "{point:?}");
    }
    assert_eq!(point(2).index, text("i"));
    assert_eq!(point(2).blobs, [text("a"), None, text("é")]);
    assert_eq!(point(2).doubles, [1.5, 2.0]);
    assert_eq!(
        point(4).blobs,
        [text("42"), text("true"), text("[object Object]")]
    );
    assert_eq!(point(5).doubles[..3], [3.5, 1.0, 0.0]);
    assert!(
        point(5).doubles[3].is_nan() && point(5).doubles[4].is_nan(),
        "{:?}",
        point(5)
    );
    assert!(point(6).doubles[0].is_nan());
    assert_eq!(point(6).doubles[1..], [f64::INFINITY, f64::NEG_INFINITY]);
    assert_eq!(point(7).blobs, [Some(vec![0, 255]), Some(vec![2, 3])]);
    assert_eq!(
        (
            point(8).index.as_ref().unwrap().len(),
            point(8).blobs[0].as_ref().unwrap().len()
        ),
        (96, 16_000)
    );
    assert_eq!(point(8).doubles, [7.0; 20]);
    assert_eq!(point(9).blobs, [text("t")]);
    assert!(
        point(9).timestamp_ms > 1_700_000_000_000,
        "a point's own time is ignored"
    );
}

// docs: analytics.md 1.1: several bindings of one dataset; many points from many requests.
#[test]
fn points_of_many_requests_arrive_once() {
    let project = TestProject::new(&[
        (
            "wrangler.toml",
            "name = \"p\"\ncompatibility_date = \"2026-08-01\"\npages_build_output_dir = \"public\"\n\
             [[analytics_engine_datasets]]\nbinding = \"ONE\"\ndataset = \"shared\"\n\
             [[analytics_engine_datasets]]\nbinding = \"TWO\"\ndataset = \"shared\"\n\
             [[analytics_engine_datasets]]\nbinding = \"OTHER\"\ndataset = \"other\"\n",
        ),
        ("public/index.html", "page"),
        (
            "functions/p.js",
            "export const onRequest = ({ env, request }) => { const n = Number(new URL(request.url).searchParams.get('n')); env.ONE.writeDataPoint({ doubles: [n] }); env.TWO.writeDataPoint({ doubles: [n + 0.5] }); env.OTHER.writeDataPoint({ doubles: [n] }); return new Response('ok'); };",
        ),
    ]);
    let dev = Dev::start(program(), &project);
    for number in 0..50 {
        assert_eq!(dev.get(&format!("/p?n={number}")).1, "ok");
    }
    stop(dev);
    let mut shared = Vec::new();
    let mut other = Vec::new();
    for (dataset, point) in points(project.path()) {
        if dataset == "shared" {
            shared.push(point.doubles[0]);
        } else {
            other.push(point.doubles[0]);
        }
    }
    shared.sort_by(f64::total_cmp);
    other.sort_by(f64::total_cmp);
    assert_eq!(
        shared,
        (0..100)
            .map(|half| f64::from(half) / 2.0)
            .collect::<Vec<_>>()
    );
    assert_eq!(other, (0..50).map(f64::from).collect::<Vec<_>>());
}
