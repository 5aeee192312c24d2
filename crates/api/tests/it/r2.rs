use super::*;

const B: &str = "/r2/buckets";

impl Server {
    async fn put_object(
        &self,
        key: &str,
        headers: &[(&str, &str)],
        value: impl Into<Bytes>,
    ) -> Answer {
        self.send("PUT", &format!("{B}/bucket/objects/{key}"), headers, value)
            .await
    }

    async fn object(&self, key: &str, headers: &[(&str, &str)]) -> Answer {
        self.send("GET", &format!("{B}/bucket/objects/{key}"), headers, "")
            .await
    }
}

// control-plane-api.md 8.1
#[tokio::test]
async fn buckets_are_made_listed_changed_and_deleted_when_empty() {
    let server = Server::strict().await;
    let made = server
        .post(B, json!({ "name": "my-bucket" }))
        .await
        .result();
    assert_eq!(made["name"], "my-bucket");
    assert!(made["creation_date"].as_str().unwrap().ends_with('Z'));
    assert_eq!(made["storage_class"], "Standard");
    let again = server.post(B, json!({ "name": "my-bucket" })).await;
    assert_eq!(again.error(), (409, 10_073));
    for name in ["ab", "-abc", "abc-", "Abc", "a.c", "a_c", &"a".repeat(64)] {
        let answer = server.post(B, json!({ "name": name })).await;
        assert_eq!(answer.error(), (400, 10_005), "{name}");
    }
    server
        .post(
            B,
            json!({ "name": "other", "storageClass": "InfrequentAccess" }),
        )
        .await
        .result();
    let all = server.get(B).await.result();
    assert_eq!(all["buckets"][0], made);
    assert_eq!(all["buckets"][1]["storage_class"], "InfrequentAccess");
    let first = server.get(&format!("{B}?per_page=1")).await;
    let cursor = first.json()["result_info"]["cursor"]
        .as_str()
        .unwrap()
        .to_owned();
    let second = server.get(&format!("{B}?per_page=1&cursor={cursor}")).await;
    assert_eq!(second.result()["buckets"][0]["name"], "other");
    assert_eq!(second.json()["result_info"]["cursor"], Value::Null);
    let path = format!("{B}/my-bucket");
    let class = [("cf-r2-storage-class", "InfrequentAccess")];
    let changed = server.send("PATCH", &path, &class, "").await.result();
    assert_eq!(changed["storage_class"], "InfrequentAccess");
    server
        .send("PUT", &format!("{path}/objects/k"), &[], "v")
        .await
        .result();
    let full = server.send("DELETE", &path, &[], "").await;
    assert_eq!(full.error(), (409, 10_008));
    server
        .send("DELETE", &format!("{path}/objects/k"), &[], "")
        .await
        .result();
    server.send("DELETE", &path, &[], "").await.result();
    for answer in [
        server.get(&path).await,
        server.send("DELETE", &path, &[], "").await,
        server.get(&format!("{path}/objects")).await,
        server.get(&format!("{path}/objects/k")).await,
        server
            .send("PUT", &format!("{path}/objects/k"), &[], "v")
            .await,
    ] {
        assert_eq!(answer.error(), (404, 10_006));
        assert_eq!(
            answer.json()["errors"][0]["message"],
            "The specified bucket does not exist."
        );
    }
}

// control-plane-api.md 8.2, 2.4
#[tokio::test]
async fn an_object_keeps_its_headers_and_its_bytes() {
    let server = Server::start().await;
    let value: Vec<u8> = (0..3_000_000_u32)
        .map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1])
        .collect();
    let headers = [
        ("content-type", "image/png"),
        ("content-language", "de"),
        ("content-disposition", "inline"),
        ("content-encoding", "identity"),
        ("cache-control", "no-store"),
        ("expires", "Thu, 01 Jan 2099 00:00:00 GMT"),
        ("cf-r2-storage-class", "InfrequentAccess"),
        ("cf-r2-data-catalog-check", "true"),
    ];
    let put = server
        .put_object("dir/a%20b", &headers, value.clone())
        .await;
    // 200 and not 204, which wrangler takes for a failure.
    let put = put.result();
    assert_eq!(put["key"], "dir/a b");
    assert_eq!(put["size"], "3000000");
    let got = server.object("dir/a%20b", &[]).await;
    assert_eq!(got.status, StatusCode::OK);
    assert_eq!(got.body, value);
    for (name, expected) in &headers[..6] {
        assert_eq!(got.headers[*name], *expected);
    }
    assert_eq!(got.headers["content-length"], "3000000");
    let etag = got.headers["etag"].to_str().unwrap().to_owned();
    assert_eq!(etag, format!("\"{}\"", put["etag"].as_str().unwrap()));
    for (name, value) in [
        ("if-none-match", etag.as_str()),
        (
            "if-modified-since",
            got.headers["last-modified"].to_str().unwrap(),
        ),
    ] {
        let same = server.object("dir/a%20b", &[(name, value)]).await;
        assert_eq!(same.status, StatusCode::NOT_MODIFIED, "{name}");
        assert_eq!(same.headers["etag"], etag);
        assert!(same.body.is_empty());
    }
    let other = server
        .object("dir/a%20b", &[("if-none-match", "\"x\"")])
        .await;
    assert_eq!(other.status, StatusCode::OK);
}

// control-plane-api.md 8.2
#[tokio::test]
async fn a_missing_object_is_404_to_get_and_fine_to_delete() {
    let server = Server::start().await;
    let got = server.object("absent", &[]).await;
    assert_eq!(got.error(), (404, 10_007));
    let path = format!("{B}/bucket/objects/absent");
    let deleted = server.send("DELETE", &path, &[], "").await;
    assert_eq!(
        deleted.text(),
        r#"{"success":true,"errors":[],"messages":[],"result":{"key":"absent"}}"#
    );
    server.put_object("k", &[], "").await.result();
    let empty = server.object("k", &[]).await;
    assert_eq!(empty.headers["content-length"], "0");
    assert!(!empty.headers.contains_key("content-type"));
    let long = server.put_object(&"k".repeat(1025), &[], "v").await;
    assert_eq!(long.error(), (400, 10_020));
    let class = server
        .put_object("k", &[("cf-r2-storage-class", "Glacier")], "v")
        .await;
    assert_eq!(class.error(), (400, 10_029));
}

// storage.md 3.11
#[tokio::test]
async fn objects_are_listed_with_prefix_delimiter_and_cursor() {
    let server = Server::start().await;
    for key in ["a/1", "a/2", "b", "c"] {
        let headers = [("content-type", "text/plain")];
        server.put_object(key, &headers, "hello").await.result();
    }
    let path = format!("{B}/bucket/objects");
    let list = server.get(&format!("{path}?delimiter=/&per_page=2")).await;
    let info = list.json()["result_info"].clone();
    assert_eq!(info["delimited"], json!(["a/"]));
    assert_eq!(info["is_truncated"], true);
    let objects = list.result();
    assert_eq!(objects.as_array().unwrap().len(), 1);
    let mut one = objects[0].clone();
    assert!(one["last_modified"].take().is_string());
    assert_eq!(
        one,
        json!({
            "key": "b", "etag": "5d41402abc4b2a76b9719d911017c592", "last_modified": null,
            "size": 5, "http_metadata": { "contentType": "text/plain" }, "custom_metadata": {},
            "storage_class": "Standard", "ssec": false,
        })
    );
    let cursor = info["cursor"].as_str().unwrap();
    let rest = server
        .get(&format!("{path}?delimiter=/&cursor={cursor}"))
        .await;
    assert_eq!(rest.result()[0]["key"], "c");
    assert_eq!(rest.json()["result_info"]["is_truncated"], false);
    let within = server
        .get(&format!("{path}?prefix=a/&start_after=a/1"))
        .await;
    assert_eq!(within.result()[0]["key"], "a/2");
    let bad = server.get(&format!("{path}?per_page=1001")).await;
    assert_eq!(bad.error(), (400, 10_022));
}

#[tokio::test]
async fn an_upload_that_breaks_off_leaves_the_old_object() {
    use tokio::io::AsyncWriteExt as _;
    let server = Server::start().await;
    server.put_object("k", &[], "old").await.result();
    let stream = connect_control(server.data.path()).unwrap();
    stream.set_nonblocking(true).unwrap();
    let mut stream = tokio::net::UnixStream::from_std(stream).unwrap();
    let head = "PUT /client/v4/accounts/local/r2/buckets/bucket/objects/k HTTP/1.1\r\n\
                Host: localhost\r\nContent-Length: 1000\r\n\r\nhalf";
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    // Closed by the server when it is done with the request.
    let mut answer = Vec::new();
    let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut answer).await;
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
    assert_eq!(server.object("k", &[]).await.text(), "old");
}

// control-plane-api.md 8.1; wrangler: r2/helpers/bucket.ts
#[tokio::test]
async fn lifecycle_rules_are_read_replaced_and_checked() {
    let server = Server::strict().await;
    server.post(B, json!({ "name": "bucket" })).await.result();
    let path = format!("{B}/bucket/lifecycle");
    let default = json!({ "rules": [{
        "id": "Default Multipart Abort Rule", "enabled": true, "conditions": {},
        "abortMultipartUploadsTransition": { "condition": { "type": "Age", "maxAge": 604_800 } },
    }] });
    assert_eq!(server.get(&path).await.result(), default);
    let rules = json!({ "rules": [default["rules"][0], {
        "id": "tmp", "enabled": true, "conditions": { "prefix": "tmp/" },
        "deleteObjectsTransition": { "condition": { "type": "Age", "maxAge": 86_400 } },
        "storageClassTransitions": [
            { "condition": { "type": "Date", "date": "2027-01-01T00:00:00.000Z" }, "storageClass": "InfrequentAccess" },
        ],
    }] });
    let put =
        async |path: &str, body: &Value| server.send("PUT", path, &[], body.to_string()).await;
    put(&path, &rules).await.result();
    assert_eq!(server.get(&path).await.result(), rules);
    for bad in [
        json!({ "rules": [{ "id": "x" }] }),
        json!({ "rules": [{ "id": "x", "enabled": true, "conditions": {} }] }),
        json!([]),
        json!("text"),
    ] {
        let refused = put(&path, &bad).await;
        assert_eq!(refused.error(), (400, 10_040), "{bad}");
        let text = refused.json()["errors"][0]["message"].to_string();
        assert!(
            text.starts_with("\"The JSON you provided was not well formed."),
            "{text}"
        );
    }
    assert_eq!(server.get(&path).await.result(), rules);
    put(&path, &json!({ "rules": [] })).await.result();
    assert_eq!(server.get(&path).await.result(), json!({ "rules": [] }));
    let absent = format!("{B}/absent/lifecycle");
    assert_eq!(server.get(&absent).await.error(), (404, 10_006));
    assert_eq!(put(&absent, &rules).await.error(), (404, 10_006));
    assert_eq!(
        server.send("DELETE", &path, &[], "").await.error(),
        (405, 7001)
    );
    // A bucket that is made again begins anew.
    server
        .send("DELETE", &format!("{B}/bucket"), &[], "")
        .await
        .result();
    server.post(B, json!({ "name": "bucket" })).await.result();
    assert_eq!(server.get(&path).await.result(), default);
}

// control-plane-api.md 8.1; wrangler: r2/helpers/bucket.ts
#[tokio::test]
async fn cors_rules_are_read_replaced_and_removed() {
    let server = Server::strict().await;
    server.post(B, json!({ "name": "bucket" })).await.result();
    let path = format!("{B}/bucket/cors");
    assert_eq!(server.get(&path).await.error(), (404, 10_059));
    let rules = json!({ "rules": [{
        "allowed": { "origins": ["https://a.example"], "methods": ["GET", "PUT"], "headers": ["content-type"] },
        "exposeHeaders": ["etag"], "maxAgeSeconds": 3600,
    }] });
    let put =
        async |path: &str, body: &Value| server.send("PUT", path, &[], body.to_string()).await;
    put(&path, &rules).await.result();
    assert_eq!(server.get(&path).await.result(), rules);
    let s3 = json!({ "rules": [{ "AllowedOrigins": ["*"], "AllowedMethods": ["GET"] }] });
    assert_eq!(put(&path, &s3).await.error(), (400, 10_040));
    assert_eq!(server.get(&path).await.result(), rules);
    server.send("DELETE", &path, &[], "").await.result();
    assert_eq!(server.get(&path).await.error(), (404, 10_059));
    for method in ["GET", "DELETE"] {
        let absent = server
            .send(method, &format!("{B}/absent/cors"), &[], "")
            .await;
        assert_eq!(absent.error(), (404, 10_006), "{method}");
    }
    assert_eq!(
        put(&format!("{B}/absent/cors"), &rules).await.error(),
        (404, 10_006)
    );
}
