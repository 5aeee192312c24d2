//! The Cache API, case by case as upstream's simulator is tested
//! (`packages/miniflare/test/plugins/cache/index.spec.ts`), through real workerd.

use engawa_testkit::{Dev, TestProject, wait_until};
use serde_json::{Value, json};

use crate::start;

/// Carries out what it is sent, and tells what came of it.
const FUNCTION: &str = r#"
const body = (value) => (Array.isArray(value) ? new Uint8Array(value) : value);
const key = (call) => new Request(call.key, { method: call.method, headers: call.headers, cf: call.cf });

async function carryOut(call) {
  const cache = call.cache === undefined ? caches.default : await caches.open(call.cache);
  switch (call.do) {
    case "put": {
      let content = body(call.body ?? "body");
      if (call.stream) content = new Response(content).body;
      await cache.put(call.put ?? key(call), new Response(content, { status: call.status, headers: call.response }));
      return null;
    }
    case "match": {
      const found = await cache.match(key(call), { ignoreMethod: call.ignoreMethod });
      if (found === undefined) return null;
      return {
        status: found.status,
        headers: Object.fromEntries(found.headers),
        bytes: [...new Uint8Array(await found.arrayBuffer())],
      };
    }
    case "delete":
      return await cache.delete(key(call), { ignoreMethod: call.ignoreMethod });
  }
}

export async function onRequestPost({ request }) {
  const answers = [];
  for (const call of await request.json()) {
    try {
      answers.push(await carryOut(call));
    } catch (error) {
      answers.push({ error: `${error.name}: ${error.message}` });
    }
  }
  return Response.json(answers);
}
"#;

fn project() -> TestProject {
    TestProject::new(&[
        (
            "wrangler.toml",
            "name = \"cache\"\ncompatibility_date = \"2026-08-01\"\npages_build_output_dir = \"public\"\n",
        ),
        ("public/index.html", "cache"),
        ("functions/run.js", FUNCTION),
    ])
}

/// A server for the cases of a test.
struct Caches(Dev);

impl Caches {
    fn all(&self, calls: &Value) -> Vec<Value> {
        let answer = self
            .0
            .agent()
            .post(self.0.url("/run"))
            .send(calls.to_string())
            .unwrap_or_else(|error| panic!("{error}: {calls}\n{}", self.0.stderr()));
        let text = answer.into_body().read_to_string();
        let text = text.unwrap_or_else(|error| panic!("{error}"));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    fn one(&self, call: Value) -> Value {
        self.all(&Value::Array(vec![call])).remove(0)
    }

    /// `cache.put(key, new Response(body, { headers }))`.
    fn put(&self, key: &str, body: &str, headers: &Value) {
        let call = json!({ "do": "put", "key": key, "body": body, "response": headers });
        assert_eq!(self.one(call), Value::Null);
    }

    /// `cache.match(new Request(key, { headers }))`.
    fn find(&self, key: &str, headers: &Value) -> Found {
        Found(self.one(json!({ "do": "match", "key": key, "headers": headers })))
    }

    fn delete(&self, key: &str) -> bool {
        self.one(json!({ "do": "delete", "key": key })) == true
    }
}

/// What `match` gave.
#[derive(Debug)]
struct Found(Value);

impl Found {
    fn is_none(&self) -> bool {
        self.0.is_null()
    }

    fn status(&self) -> &Value {
        &self.0["status"]
    }

    fn header(&self, name: &str) -> &str {
        self.0["headers"][name].as_str().unwrap_or("(none)")
    }

    fn text(&self) -> String {
        let bytes = self.0["bytes"].as_array().into_iter().flatten();
        let bytes = bytes.map(|byte| u8::try_from(byte.as_u64().unwrap_or(256)).unwrap_or(0));
        String::from_utf8_lossy(&bytes.collect::<Vec<_>>()).into_owned()
    }
}

fn none() -> Value {
    json!({})
}

fn for_an_hour() -> Value {
    json!({ "Cache-Control": "max-age=3600" })
}

// miniflare: "match returns cached responses", "match returns empty response",
// "match returns nothing on cache miss"
#[test]
fn what_was_put_is_found() {
    let project = project();
    let caches = Caches(start(&project));
    let key = "http://localhost/cache-hit";
    caches.put(
        key,
        "body",
        &json!({ "Cache-Control": "max-age=3600", "X-Key": "value" }),
    );
    let found = caches.find(key, &none());
    assert_eq!(found.status(), 200);
    assert_eq!(found.header("cache-control"), "max-age=3600");
    assert_eq!(found.header("cf-cache-status"), "HIT");
    assert_eq!(found.header("x-key"), "value");
    assert_eq!(found.text(), "body");

    // Bytes; a stream of unknown length; nothing.
    for (put, expected) in [
        (json!({ "body": [1, 2, 3] }), "\u{1}\u{2}\u{3}"),
        (json!({ "body": "streamed", "stream": true }), "streamed"),
        (json!({ "body": "" }), ""),
    ] {
        let mut call = json!({ "do": "put", "key": key, "response": for_an_hour() });
        call.as_object_mut()
            .into_iter()
            .for_each(|call| call.extend(put.as_object().cloned().unwrap_or_default()));
        assert_eq!(caches.one(call), Value::Null);
        let found = caches.find(key, &none());
        assert_eq!(found.status(), 200);
        assert_eq!(found.text(), expected);
    }
    assert!(
        caches
            .find("http://localhost/cache-miss", &none())
            .is_none()
    );
    // The scheme, the path and the query are the key's.
    for other in [
        "https://localhost/cache-hit",
        "http://localhost/cache-hit?",
        "http://localhost/cache-hit?a",
        "http://localhost/Cache-hit",
        "http://localhost:81/cache-hit",
    ] {
        assert!(caches.find(other, &none()).is_none(), "{other}");
    }
    assert_eq!(
        caches
            .find("http://localhost/cache-hit#part", &none())
            .status(),
        200
    );
}

// miniflare: "match respects If-None-Match header"
#[test]
fn if_none_match_is_respected() {
    let project = project();
    let caches = Caches(start(&project));
    let key = "http://localhost/cache-if-none-match";
    caches.put(
        key,
        "body",
        &json!({ "ETag": "\"thing\"", "Cache-Control": "max-age=3600" }),
    );
    for (value, status) in [
        ("\"thing\"", 304),
        ("   W/\"thing\"      ", 304),
        ("\"not the thing\"", 200),
        (
            "\"not the thing\",    \"thing\"    , W/\"still not the thing\"",
            304,
        ),
        ("*", 304),
        ("    *   ", 304),
    ] {
        let found = caches.find(key, &json!({ "If-None-Match": value }));
        assert_eq!(found.status(), status, "{value:?}");
        assert_eq!(found.text(), if status == 304 { "" } else { "body" });
        assert_eq!(found.header("etag"), "\"thing\"");
    }
}

// miniflare: "match respects If-Modified-Since header"
#[test]
fn if_modified_since_is_respected() {
    let project = project();
    let caches = Caches(start(&project));
    let key = "http://localhost/cache-if-modified-since";
    caches.put(
        key,
        "body",
        &json!({ "Last-Modified": "Tue, 13 Sep 2022 12:00:00 GMT", "Cache-Control": "max-age=3600" }),
    );
    for (value, status) in [
        ("Tue, 13 Sep 2022 11:00:00 GMT", 200),
        ("Tue, 13 Sep 2022 12:00:00 GMT", 304),
        ("Tue, 13 Sep 2022 13:00:00 GMT", 304),
        ("13 Sep 2022 13:00:00 GMT", 200),
    ] {
        let found = caches.find(key, &json!({ "If-Modified-Since": value }));
        assert_eq!(found.status(), status, "{value:?}");
    }
}

// miniflare: "match respects Range header"
#[test]
fn ranges_are_respected() {
    let project = project();
    let caches = Caches(start(&project));
    let key = "http://localhost/cache-range";
    caches.put(
        key,
        "0123456789",
        &json!({ "Content-Length": "10", "Content-Type": "text/plain", "Cache-Control": "max-age=3600" }),
    );
    let found = caches.find(key, &json!({ "Range": "bytes=2-4" }));
    assert_eq!(found.status(), 206);
    assert_eq!(found.header("content-length"), "3");
    assert_eq!(found.header("content-range"), "bytes 2-4/10");
    assert_eq!(found.header("cache-control"), "max-age=3600");
    assert_eq!(found.header("cf-cache-status"), "HIT");
    assert_eq!(found.text(), "234");

    let found = caches.find(key, &json!({ "Range": "bytes=1-3,5-6" }));
    assert_eq!(found.status(), 206);
    assert_eq!(found.header("cf-cache-status"), "HIT");
    let Some(boundary) = found
        .header("content-type")
        .strip_prefix("multipart/byteranges; boundary=")
    else {
        panic!("{found:?}")
    };
    let expected = [
        &format!("--{boundary}"),
        "Content-Type: text/plain",
        "Content-Range: bytes 1-3/10",
        "",
        "123",
        &format!("--{boundary}"),
        "Content-Type: text/plain",
        "Content-Range: bytes 5-6/10",
        "",
        "56",
        &format!("--{boundary}--"),
    ];
    assert_eq!(found.text(), expected.join("\r\n"));

    let found = caches.find(key, &json!({ "Range": "bytes=15-" }));
    assert_eq!(found.status(), 416);
    assert_eq!(found.header("content-range"), "bytes */10");
}

// miniflare: "put overrides existing responses", "delete returns if deleted"
#[test]
fn a_later_put_takes_the_place_and_delete_says_whether_there_was_one() {
    let project = project();
    let caches = Caches(start(&project));
    let key = "http://localhost/cache-override";
    caches.put(key, "body1", &for_an_hour());
    caches.put(key, "body2", &for_an_hour());
    assert_eq!(caches.find(key, &none()).text(), "body2");
    assert!(caches.delete(key));
    assert!(!caches.delete(key));
    assert!(caches.find(key, &none()).is_none());
}

// miniflare: "expires after Expires", "… Cache-Control's max-age", "… s-maxage". (At the
// millisecond: `engawa-storage` and `engawa-runtime`, with a clock that a test sets.)
#[test]
fn a_response_expires() {
    let project = project();
    let caches = Caches(start(&project));
    let soon =
        httpdate::fmt_http_date(std::time::SystemTime::now() + std::time::Duration::from_secs(2));
    let cases = [
        json!({ "Expires": soon }),
        json!({ "Cache-Control": "max-age=1" }),
        json!({ "Cache-Control": "s-maxage=1, max-age=3600" }),
    ];
    caches.put("http://localhost/kept", "body", &for_an_hour());
    for (number, headers) in cases.iter().enumerate() {
        let key = format!("http://localhost/cache-expire/{number}");
        caches.put(&key, "body", headers);
        wait_until("the end of a response", || {
            caches.find(&key, &none()).is_none()
        });
    }
    assert_eq!(caches.find("http://localhost/kept", &none()).status(), 200);
}

// miniflare: "put does not cache with …", "put caches with Set-Cookie if …"
#[test]
fn headers_say_what_is_kept() {
    let project = project();
    let caches = Caches(start(&project));
    let later =
        httpdate::fmt_http_date(std::time::SystemTime::now() + std::time::Duration::from_hours(1));
    for (number, (mut headers, is_kept)) in [
        (json!({ "Cache-Control": "private" }), false),
        (json!({ "Cache-Control": "no-store" }), false),
        (json!({ "Cache-Control": "no-cache" }), false),
        (json!({ "Set-Cookie": "key=value" }), false),
        (
            json!({ "Cache-Control": "private=set-cookie", "Set-Cookie": "key=value" }),
            true,
        ),
        (json!({}), true),
        (json!({ "Vary": "Accept-Encoding" }), true),
    ]
    .into_iter()
    .enumerate()
    {
        headers["Expires"] = later.clone().into();
        let key = format!("http://localhost/cache-is-cached-{number}");
        caches.put(&key, "body", &headers);
        let found = caches.find(&key, &none());
        assert_eq!(!found.is_none(), is_kept, "{headers}");
        assert_eq!(found.header("set-cookie"), "(none)");
    }
}

// docs: workers runtime-apis/cache; workerd: api/cache.c++
#[test]
fn what_cannot_be_cached_throws_or_is_left_out() {
    let project = project();
    let caches = Caches(start(&project));
    let key = "http://localhost/refused";
    let put = |more: Value| {
        let mut call = json!({ "do": "put", "key": key, "response": for_an_hour() });
        if let (Some(call), Value::Object(more)) = (call.as_object_mut(), more) {
            call.extend(more);
        }
        caches.one(call)["error"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    assert_eq!(
        put(json!({ "method": "POST" })),
        "TypeError: Cannot cache response to non-GET request."
    );
    assert_eq!(
        put(json!({ "status": 206 })),
        "TypeError: Cannot cache response to a range request (206 Partial Content)."
    );
    assert_eq!(
        put(json!({ "response": { "Vary": "*", "Cache-Control": "max-age=3600" } })),
        "TypeError: Cannot cache response with 'Vary: *' header."
    );
    assert_eq!(put(json!({ "status": 500 })), "");
    assert!(caches.find(key, &none()).is_none());
    // Another method finds nothing, unless it is to be ignored.
    assert_eq!(put(json!({ "status": 404 })), "");
    let ask = |does: &str, ignore: bool| {
        caches.one(json!({ "do": does, "key": key, "method": "POST", "ignoreMethod": ignore }))
    };
    assert_eq!(ask("match", false), Value::Null);
    assert_eq!(ask("match", true)["status"], 404);
    assert_eq!(ask("delete", false), false);
    assert_eq!(ask("delete", true), true);
}

// miniflare: "operations respect cf.cacheKey"
#[test]
fn a_cache_key_stands_for_the_url() {
    let project = project();
    let caches = Caches(start(&project));
    let key = "http://localhost/cache-cf-key-unused";
    let call = |does: &str, cache_key: &str, body: &str| {
        json!({
            "do": does, "key": key, "cf": { "cacheKey": cache_key },
            "body": body, "response": for_an_hour(),
        })
    };
    let answers = caches.all(&json!([
        call("put", "1", "body1"),
        call("put", "2", "body2"),
        call("match", "1", ""),
        call("match", "2", ""),
        call("match", "3", ""),
        call("delete", "1", ""),
        call("delete", "2", ""),
        call("delete", "2", ""),
    ]));
    assert_eq!(Found(answers[2].clone()).text(), "body1");
    assert_eq!(Found(answers[3].clone()).text(), "body2");
    assert_eq!(
        answers[4..],
        [Value::Null, true.into(), true.into(), false.into()]
    );
    assert!(caches.find(key, &none()).is_none());
}

// miniflare: "default and named caches are disjoint"
#[test]
fn default_and_named_caches_are_disjoint() {
    let project = project();
    let caches = Caches(start(&project));
    let call = |does: &str, cache: Option<&str>| {
        let mut call = json!({
            "do": does, "key": "http://localhost/cache-disjoint",
            "body": format!("body of {cache:?}"), "response": for_an_hour(),
        });
        if let Some(cache) = cache {
            call["cache"] = cache.into();
        }
        call
    };
    // (`caches.open("")` is the default cache: workerd sends no name then.)
    let names = [None, Some("1"), Some("2"), Some("default"), Some("ä %")];
    let each = |does: &str| -> Value { names.iter().map(|name| call(does, *name)).collect() };
    caches.all(&each("put"));
    for (found, name) in caches.all(&each("match")).into_iter().zip(names) {
        assert_eq!(Found(found).text(), format!("body of {name:?}"));
    }
    assert_eq!(
        caches.all(&each("delete")),
        vec![Value::from(true); names.len()]
    );
    assert_eq!(caches.all(&each("match")), vec![Value::Null; names.len()]);
}

// miniflare: "operations persist cached data"
#[test]
fn what_was_put_survives_a_restart() {
    let project = project();
    let key = "http://localhost/cache-persist";
    let caches = Caches(start(&project));
    caches.put(key, "body", &for_an_hour());
    let Caches(mut dev) = caches;
    dev.signal("TERM");
    assert!(dev.wait().success());
    let caches = Caches(start(&project));
    let found = caches.find(key, &none());
    assert_eq!(found.status(), 200);
    assert_eq!(found.text(), "body");
    assert!(caches.delete(key));
}

// docs: workers platform/limits: a response of many megabytes is one entry.
#[test]
fn a_large_response_is_kept_and_ranges_of_it_are_read() {
    let project = project();
    let caches = Caches(start(&project));
    let key = "http://localhost/large";
    let lines: Vec<String> = (0..300_000).map(|number| format!("{number:09}")).collect();
    let body = lines.join(
        "
",
    ) + "
";
    caches.put(key, &body, &for_an_hour());
    let found = caches.find(key, &json!({ "Range": "bytes=2000000-2000019" }));
    assert_eq!(found.text(), "000200000\n000200001\n");
    let found = caches.find(key, &json!({ "Range": "bytes=1048570-1048589,-10" }));
    assert!(found.text().contains(&body[1_048_570..1_048_590]));
    assert!(found.text().contains("\r\n\r\n000299999\n\r\n--"));
    assert!(caches.find(key, &none()).text() == body);
}
