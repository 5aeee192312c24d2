//! workerd's own KV worker as an oracle (workerd.md 10, items 1 to 4): the same calls, the
//! same answers.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use bytes::Bytes;
use engawa_model::BindingKind;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value as Json, json};

use crate::support::{CALLER, PATIENCE, World, binding, version};

const CONFIG: &str = r#"
using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [
    (name = "main", worker = (
      modules = [(name = "worker.js", esModule = embed "worker.js")],
      compatibilityDate = "2026-08-01",
      bindings = [(name = "KV", kvNamespace =
        (name = "kv", props = (json = "{\"namespace\":\"n\"}")))])),
    (name = "kv", worker = (
      modules = [(name = "kv.js", bundled = "/workerd/kv.js")],
      compatibilityDate = "2026-08-01",
      compatibilityFlags = ["experimental", "nodejs_compat"],
      durableObjectNamespaces = [(className = "KVNamespace", uniqueKey = "kv", enableSql = true)],
      durableObjectStorage = (localDisk = "disk"),
      bindings = [
        (name = "SHARD", durableObjectNamespace = "KVNamespace"),
        (name = "BLOBS", service = "blobs")])),
    (name = "disk", disk = (path = "disk", writable = true)),
    (name = "blobs", disk = (path = "blobs", writable = true)),
  ],
  sockets = [(name = "main", address = "127.0.0.1:0", http = (), service = "main")]
);
"#;

/// workerd with its bundled KV worker. It ends with the test.
struct Bundled {
    child: Child,
    port: u64,
    _home: tempfile::TempDir,
}

impl Bundled {
    fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        for folder in ["disk", "blobs"] {
            std::fs::create_dir(home.path().join(folder)).unwrap();
        }
        std::fs::write(home.path().join("config.capnp"), CONFIG).unwrap();
        std::fs::write(home.path().join("worker.js"), CALLER).unwrap();
        let mut child = Command::new(engawa_testkit::workerd())
            .args(["serve", "--experimental", "--control-fd=1", "config.capnp"])
            .current_dir(home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let said: Json = serde_json::from_str(&line).unwrap();
        Self {
            child,
            port: said["port"].as_u64().unwrap(),
            _home: home,
        }
    }

    async fn post(&self, calls: &Json) -> Json {
        let stream = tokio::net::TcpStream::connect(format!("127.0.0.1:{}", self.port)).await;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream.unwrap()));
        let (mut sender, connection) = handshake.await.unwrap();
        let connection = tokio::spawn(connection);
        let request = Request::post("/")
            .header("host", "localhost")
            .body(Full::new(Bytes::from(calls.to_string())))
            .unwrap();
        let answer = sender.send_request(request).await.unwrap();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        connection.abort();
        serde_json::from_slice(&body).unwrap()
    }
}

impl Drop for Bundled {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The calls, each `[binding, method, ...arguments]`.
fn calls() -> Vec<Json> {
    let mut calls = Vec::new();
    let mut call = |call: Json| calls.push(call);
    // 1. Keys.
    let long = "k".repeat(512);
    let keys = [
        "a b/c?d=é%",
        "bulk/get",
        "/leading",
        "new\nline",
        "+",
        "%2F",
        "日本",
        "../x",
        &long,
    ];
    for key in keys {
        call(json!(["KV", "put", key, format!("value of {key}")]));
    }
    for key in keys {
        call(json!(["KV", "get", key]));
    }
    for key in ["", ".", "..", &"k".repeat(513), &"é".repeat(257)] {
        call(json!(["KV", "get", key]));
        call(json!(["KV", "put", key, "v"]));
        call(json!(["KV", "delete", key]));
    }
    call(json!(["KV", "list"]));
    for key in keys {
        call(json!(["KV", "delete", key]));
    }
    // 2. Metadata, and lists and bulks of it.
    for (key, metadata) in [
        ("object", json!({ "u": "é\u{1F600}", "n": [1, null, true] })),
        ("text", json!("text")),
        ("number", json!(7)),
        ("null", Json::Null),
    ] {
        call(json!(["KV", "put", key, "1", { "metadata": metadata }]));
        call(json!(["KV", "getWithMetadata", key]));
        call(json!(["KV", "getWithMetadata", key, "json"]));
    }
    call(
        json!(["KV", "put", "ends", "v", { "expiration": 4_000_000_000_u64, "metadata": { "m": 1 } }]),
    );
    call(json!(["KV", "list"]));
    call(json!(["KV", "list", { "prefix": "n" }]));
    call(json!(["KV", "list", { "limit": 2 }]));
    call(json!(["KV", "list", { "limit": 5 }]));
    let all = json!(["object", "absent", "text", "number"]);
    for options in [json!("text"), json!("json"), json!({ "cacheTtl": 60 })] {
        call(json!(["KV", "get", all, options]));
        call(json!(["KV", "getWithMetadata", all, options]));
    }
    // 3. Every refusal.
    let many: Vec<String> = (0..101).map(|n| format!("k{n}")).collect();
    call(json!(["KV", "get", []]));
    call(json!(["KV", "get", many]));
    call(json!(["KV", "get", ["text"], "arrayBuffer"]));
    call(json!(["KV", "get", [&"k".repeat(513)]]));
    call(json!(["KV", "put", "words", "no json"]));
    call(json!(["KV", "get", ["number", "words"], "json"]));
    for ttl in [-1, 0, 1, 59] {
        call(json!(["KV", "put", "t", "v", { "expirationTtl": ttl }]));
    }
    for expiration in [-1, 0, 1] {
        call(json!(["KV", "put", "t", "v", { "expiration": expiration }]));
    }
    for ttl in [-1, 0, 29, 30] {
        call(json!(["KV", "get", "text", { "cacheTtl": ttl }]));
        call(json!(["KV", "get", ["text"], { "cacheTtl": ttl }]));
    }
    for limit in [-1, 0, 1000, 1001] {
        call(json!(["KV", "list", { "limit": limit }]));
    }
    call(json!(["KV", "list", { "prefix": "k".repeat(513) }]));
    call(json!(["KV", "put", "m", "v", { "metadata": "m".repeat(1022) }]));
    call(json!(["KV", "put", "m", "v", { "metadata": "m".repeat(1023) }]));
    call(json!(["KV", "put", "m", "v", { "metadata": "é".repeat(512) }]));
    call(json!(["KV", "get", "t"]));
    // 4. Streams.
    for kind in ["known", "unknown", "failing"] {
        call(json!(["KV", "put", "stream", "before"]));
        call(json!(["KV", "put", "stream", { "$stream": kind, "text": "streamed é" }]));
        call(json!(["KV", "get", "stream"]));
    }
    call(json!(["KV", "put", "bytes", { "$bytes": [0, 255, 128] }]));
    call(json!(["KV", "get", "bytes", "arrayBuffer"]));
    call(json!(["KV", "get", "bytes"]));
    calls
}

/// A cursor is each one's own; that there is one is not. There is no cache here to tell of
/// (miniflare says nothing of one either; the bundled worker says `MISS`).
fn comparable(mut answer: Json) -> Json {
    if let Some(cursor) = answer.pointer_mut("/ok/cursor") {
        *cursor = json!(cursor.is_string());
    }
    if let Some(status) = answer.pointer_mut("/ok/cacheStatus") {
        *status = Json::Null;
    }
    answer
}

#[tokio::test]
async fn kv_answers_as_the_worker_that_workerd_brings() {
    let calls = calls();
    let world = World::new();
    let ours = world
        .deploy(version(
            "kv",
            CALLER,
            vec![binding("KV", BindingKind::KvNamespace("n".into()))],
        ))
        .await;
    let bundled = Bundled::start();
    let list = Json::from(calls.clone());
    let theirs = tokio::time::timeout(PATIENCE, bundled.post(&list));
    let (ours, theirs) = (ours.post("/", &list).await, theirs.await.unwrap());
    let (ours, theirs) = (ours.as_array().unwrap(), theirs.as_array().unwrap());
    assert!(calls.len() > 100 && ours.len() == calls.len() && theirs.len() == calls.len());
    let mut wrong = Vec::new();
    for ((call, ours), theirs) in calls.iter().zip(ours).zip(theirs) {
        let (ours, theirs) = (comparable(ours.clone()), comparable(theirs.clone()));
        if ours != theirs {
            wrong.push(format!("{call}\n  here:   {ours}\n  oracle: {theirs}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
