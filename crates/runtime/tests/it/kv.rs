//! The KV binding as a worker sees it (workerd.md 2 and 10).

use engawa_model::{BindingKind, Version};
use serde_json::{Value as Json, json};

use crate::support::{CALLER, Worker, World, binding, error, ok, version};

fn project() -> Version {
    version(
        "kv",
        CALLER,
        vec![binding(
            "KV",
            BindingKind::KvNamespace("my/ Namespace".into()),
        )],
    )
}

async fn calls(worker: &Worker, calls: Json) -> Vec<Json> {
    let Json::Array(answers) = worker.post("/", &calls).await else {
        panic!("an array")
    };
    answers
}

// docs: kv api; workerd.md 10.1
#[tokio::test]
async fn keys_of_every_kind_keep_their_values_apart() {
    let world = World::new();
    let worker = world.deploy(project()).await;
    let longest = "é".repeat(256);
    let keys = [
        "a b/c?d=é%",
        "bulk/get",
        "/lead",
        "line\nbreak",
        "a+b",
        "%41",
        "a&b=c#d",
        "😀",
        longest.as_str(),
        "...",
    ];
    for key in keys {
        assert_eq!(
            calls(
                &worker,
                json!([["KV", "put", key, format!("value of {key}")]])
            )
            .await,
            [ok(Json::Null)]
        );
    }
    for key in keys {
        let value = format!("value of {key}");
        assert_eq!(
            calls(&worker, json!([["KV", "get", key]])).await,
            [ok(value.as_str())],
            "{key}"
        );
        assert_eq!(
            calls(&worker, json!([["KV", "get", [key]]])).await,
            [ok(json!([[key, value]]))],
            "{key}"
        );
        let page = &calls(&worker, json!([["KV", "list", { "prefix": key }]])).await[0]["ok"];
        assert_eq!(page["keys"], json!([{ "name": key }]));
        assert_eq!(page["list_complete"], true);
    }
    for key in keys {
        let answers = calls(
            &worker,
            json!([
                ["KV", "delete", key],
                ["KV", "get", key],
                ["KV", "delete", key]
            ]),
        )
        .await;
        assert_eq!(
            answers,
            [ok(Json::Null), ok(Json::Null), ok(Json::Null)],
            "{key}"
        );
    }
}

#[tokio::test]
async fn metadata_survives_in_any_script() {
    let world = World::new();
    let worker = world.deploy(project()).await;
    let metadata = json!({ "ü": "日本語 😀", "nested": [1, null, "\n\""] });
    let answers = calls(
        &worker,
        json!([
            ["KV", "put", "k", "v", { "metadata": metadata }],
            ["KV", "getWithMetadata", "k"],
            ["KV", "getWithMetadata", ["k", "missing"]],
            ["KV", "list"],
        ]),
    )
    .await;
    assert_eq!(answers[1]["ok"]["metadata"], metadata);
    assert_eq!(
        answers[2],
        ok(json!([["k", { "value": "v", "metadata": metadata }], ["missing", null]]))
    );
    assert_eq!(
        answers[3]["ok"]["keys"],
        json!([{ "name": "k", "metadata": metadata }])
    );
}

#[tokio::test]
async fn values_of_every_type_come_back() {
    let world = World::new();
    let worker = world.deploy(project()).await;
    let answers = calls(
        &worker,
        json!([
            ["KV", "put", "bytes", { "$bytes": 3 }],
            ["KV", "get", "bytes", "arrayBuffer"],
            ["KV", "put", "json", "{\"a\":[1,2]}"],
            ["KV", "get", "json", "json"],
            ["KV", "get", ["json", "missing"], "json"],
            ["KV", "put", "empty", ""],
            ["KV", "get", "empty"],
        ]),
    )
    .await;
    assert_eq!(answers[1], ok(json!([0, 0, 0])));
    assert_eq!(answers[3], ok(json!({ "a": [1, 2] })));
    assert_eq!(
        answers[4],
        ok(json!([["json", { "a": [1, 2] }], ["missing", null]]))
    );
    assert_eq!(answers[6], ok(""));
}

#[tokio::test]
async fn a_list_goes_on_where_its_cursor_says() {
    let world = World::new();
    let worker = world.deploy(project()).await;
    let mut puts = Vec::new();
    for number in 0..5 {
        puts.push(json!(["KV", "put", format!("a b+{number}"), ""]));
    }
    calls(&worker, Json::Array(puts)).await;
    let first = &calls(
        &worker,
        json!([["KV", "list", { "prefix": "a b+", "limit": 3 }]]),
    )
    .await[0]["ok"];
    assert_eq!(first["list_complete"], false);
    let rest = &calls(
        &worker,
        json!([["KV", "list", { "prefix": "a b+", "cursor": first["cursor"] }]]),
    )
    .await[0]["ok"];
    assert_eq!(
        rest["keys"],
        json!([{ "name": "a b+3" }, { "name": "a b+4" }])
    );
    assert_eq!(rest["list_complete"], true);
}

#[tokio::test]
async fn a_stream_is_stored_whole_or_not_at_all() {
    let world = World::new();
    let worker = world.deploy(project()).await;
    let stream = |kind: &str, text: &str| json!({ "$stream": kind, "text": text });
    let answers = calls(
        &worker,
        json!([
            ["KV", "put", "known", stream("known", "of known length")],
            ["KV", "get", "known"],
            [
                "KV",
                "put",
                "unknown",
                stream("unknown", "of unknown length")
            ],
            ["KV", "get", "unknown"],
            ["KV", "put", "failing", "before"],
            ["KV", "put", "failing", stream("failing", "half a value")],
            ["KV", "get", "failing"],
        ]),
    )
    .await;
    assert_eq!(answers[1], ok("of known length"));
    assert_eq!(answers[3], ok("of unknown length"));
    assert!(answers[5]["error"].is_string(), "{:?}", answers[5]);
    assert_eq!(answers[6], ok("before"));
}

// miniflare: the texts of workers/kv; workerd.md 2.5
#[tokio::test]
async fn every_error_text_is_seen_in_javascript() {
    let world = World::new();
    let worker = world.deploy(project()).await;
    let long = "k".repeat(513);
    let keys: Vec<String> = (0..101).map(|number| number.to_string()).collect();
    let none: [&str; 0] = [];
    let half = 14 * 1024 * 1024;
    calls(
        &worker,
        json!([["KV", "put", "half", { "$bytes": half }], ["KV", "put", "text", "no json"]]),
    )
    .await;
    calls(
        &worker,
        json!([["KV", "put", "other half", { "$bytes": half }]]),
    )
    .await;
    let cases = [
        (
            json!(["KV", "put", "k", { "$bytes": 26_214_401 }]),
            "PUT failed: 413 Value length of 26214401 exceeds limit of 26214400.",
        ),
        (
            json!(["KV", "put", "k", "", { "metadata": "m".repeat(1023) }]),
            "PUT failed: 413 Metadata length of 1025 exceeds limit of 1024.",
        ),
        (
            json!(["KV", "put", "k", "", { "expirationTtl": 0 }]),
            "PUT failed: 400 Invalid expiration_ttl of 0. Please specify integer greater than 0.",
        ),
        (
            json!(["KV", "put", "k", "", { "expirationTtl": 59 }]),
            "PUT failed: 400 Invalid expiration_ttl of 59. Expiration TTL must be at least 60.",
        ),
        (
            json!(["KV", "put", "k", "", { "expiration": 1000 }]),
            "PUT failed: 400 Invalid expiration of 1000. Please specify integer greater than the current number of seconds since the UNIX epoch.",
        ),
        (
            json!(["KV", "get", "k", { "cacheTtl": 29 }]),
            "GET failed: 400 Invalid cache_ttl of 29. Cache TTL must be at least 30.",
        ),
        (
            json!(["KV", "list", { "limit": 1001 }]),
            "GET failed: 400 Invalid key_count_limit of 1001. Please specify an integer less than 1000.",
        ),
        (
            json!(["KV", "list", { "prefix": long }]),
            "GET failed: 414 UTF-8 encoded length of 513 exceeds key length limit of 512.",
        ),
        (
            json!(["KV", "get", long]),
            "GET failed: 414 UTF-8 encoded length of 513 exceeds key length limit of 512.",
        ),
        (
            json!(["KV", "get", [long]]),
            "GET_BULK failed: 414 UTF-8 encoded length of 513 exceeds key length limit of 512.",
        ),
        (
            json!(["KV", "get", keys]),
            "GET_BULK failed: 400 You can request a maximum of 100 keys",
        ),
        (
            json!(["KV", "get", none]),
            "GET_BULK failed: 400 You must request a minimum of 1 key",
        ),
        (
            json!(["KV", "get", ["text"], "stream"]),
            "GET_BULK failed: 400 \"stream\" is not a valid type. Use \"json\" or \"text\"",
        ),
        (
            json!(["KV", "get", ["text"], "json"]),
            "GET_BULK failed: 400 At least one of the requested keys corresponds to a non-json value",
        ),
        (
            json!(["KV", "get", ["half", "other half"]]),
            "GET_BULK failed: 413 Total size of request exceeds the limit of 25MB",
        ),
    ];
    for (call, text) in cases {
        let answers = calls(&worker, json!([call])).await;
        assert_eq!(answers, [error(&format!("Error: KV {text}"))]);
    }
    let answers = calls(
        &worker,
        json!([["KV", "get", ""], ["KV", "get", "."], ["KV", "get", "k"]]),
    )
    .await;
    assert_eq!(answers[0], error("TypeError: Key name cannot be empty."));
    assert_eq!(
        answers[1],
        error("TypeError: \".\" is not allowed as a key name.")
    );
    assert_eq!(
        answers[2],
        ok(Json::Null),
        "nothing of a refused value is kept"
    );
}

#[tokio::test]
async fn an_expiration_too_near_is_refused_and_one_further_off_is_listed() {
    let world = World::new();
    let worker = world.deploy(project()).await;
    let now_s = engawa_model::Clock::system().now_s();
    let (near, far) = (now_s + 30, now_s + 3600);
    let answers = calls(
        &worker,
        json!([
            ["KV", "put", "near", "", { "expiration": near }],
            ["KV", "put", "far", "", { "expiration": far }],
            ["KV", "list"],
        ]),
    )
    .await;
    let text = format!(
        "Error: KV PUT failed: 400 Invalid expiration of {near}. Expiration times must be at least 60 seconds in the future."
    );
    assert_eq!(answers[0], error(&text));
    assert_eq!(
        answers[2]["ok"]["keys"],
        json!([{ "name": "far", "expiration": far }])
    );
}

#[tokio::test]
async fn a_namespace_of_a_deployment_is_reached_by_its_own_binding_only() {
    let world = World::new();
    let worker = world.deploy(project()).await;
    let other = world
        .deploy(version(
            "other",
            CALLER,
            vec![binding("OTHER", BindingKind::KvNamespace("o".into()))],
        ))
        .await;
    calls(&worker, json!([["KV", "put", "secret", "of mine"]])).await;
    for header in [
        None,
        Some("KV"),
        Some("my/ Namespace"),
        Some("o"),
        Some("unknown"),
        Some(""),
    ] {
        let answer = other
            .raw_binding(header, "GET", "/secret?urlencoded=true", String::new())
            .await;
        assert_eq!(answer.status, 404, "{header:?}");
        assert!(!answer.text().contains("of mine"));
    }
    let own = worker
        .raw_binding(Some("KV"), "GET", "/secret?urlencoded=true", String::new())
        .await;
    assert_eq!(own.text(), "of mine");
}
