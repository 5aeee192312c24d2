use super::*;

const NS: &str = "/storage/kv/namespaces/ns";

impl Server {
    async fn put_value(&self, key: &str, query: &str, value: impl Into<Bytes>) -> Answer {
        self.send("PUT", &format!("{NS}/values/{key}{query}"), &[], value)
            .await
    }

    async fn value(&self, key: &str) -> Answer {
        self.get(&format!("{NS}/values/{key}")).await
    }
}

// control-plane-api.md 7, 2.5 style D
#[tokio::test]
async fn namespaces_are_made_listed_renamed_and_deleted() {
    let server = Server::strict().await;
    let base = "/storage/kv/namespaces";
    let made = server.post(base, json!({ "title": "T" })).await.result();
    let id = made["id"].as_str().unwrap().to_owned();
    assert_eq!(
        made,
        json!({ "id": id, "title": "T", "supports_url_encoding": true })
    );
    let taken = server.post(base, json!({ "title": "T" })).await;
    assert_eq!(
        taken.text(),
        r#"{"success":false,"errors":[{"code":10014,"message":"a namespace with this account ID and title already exists"}],"messages":[],"result":null}"#
    );
    let list = "?per_page=1000&order=title&direction=asc";
    let first = server.get(&format!("{base}{list}")).await.result();
    assert_eq!(first, json!([made]));
    let second = server.get(&format!("{base}{list}&page=2")).await.result();
    assert_eq!(second, json!([]));
    let path = format!("{base}/{id}");
    let renamed = server.send("PUT", &path, &[], r#"{"title":"U"}"#).await;
    assert_eq!(renamed.result()["title"], "U");
    assert_eq!(server.get(&path).await.result()["title"], "U");
    server.send("DELETE", &path, &[], "").await.result();
    for answer in [
        server.get(&path).await,
        server.send("DELETE", &path, &[], "").await,
        server.get(&format!("{path}/values/k")).await,
        server.get(&format!("{path}/keys")).await,
    ] {
        assert_eq!(answer.error(), (404, 10_013));
    }
}

// control-plane-api.md 7: the three forms of a body
#[tokio::test]
async fn a_value_comes_back_byte_for_byte() {
    let server = Server::start().await;
    let binary: Vec<u8> = (0..=255).collect();
    assert_eq!(
        server.put_value("a%2Fb", "", binary.clone()).await.text(),
        r#"{"success":true,"errors":[],"messages":[],"result":{}}"#
    );
    let answer = server.value("a%2Fb").await;
    assert_eq!(answer.body, binary);
    assert_eq!(answer.headers["content-length"], "256");
    assert!(!answer.headers.contains_key("expiration"));
    let large = vec![7; 3 * 1024 * 1024];
    server.put_value("large", "", large.clone()).await.result();
    assert_eq!(server.value("large").await.body, large);
    let form = "------formdata-undici-012345678901\r\n\
                Content-Disposition: form-data; name=\"value\"; filename=\"blob\"\r\n\
                Content-Type: application/octet-stream\r\n\r\n\
                one\r\ntwo\r\n\
                ------formdata-undici-012345678901\r\n\
                Content-Disposition: form-data; name=\"metadata\"\r\n\r\n\
                {\"a\":[1]}\r\n\
                ------formdata-undici-012345678901--\r\n";
    let kind = "multipart/form-data; boundary=----formdata-undici-012345678901";
    let path = format!("{NS}/values/form");
    let put = server
        .send("PUT", &path, &[("content-type", kind)], form)
        .await;
    put.result();
    assert_eq!(server.value("form").await.text(), "one\r\ntwo");
    let metadata = server.get(&format!("{NS}/metadata/form")).await;
    assert_eq!(metadata.result(), json!({ "a": [1] }));
    let none = server.get(&format!("{NS}/metadata/large")).await;
    assert_eq!(none.result(), Value::Null);
    let broken = server
        .send("PUT", &path, &[("content-type", kind)], &form[..200])
        .await;
    assert_eq!(broken.error(), (400, 6007));
    assert_eq!(server.value("form").await.text(), "one\r\ntwo");
    let delete = server.send("DELETE", &path, &[], "").await;
    assert_eq!(delete.result(), json!({}));
    assert_eq!(server.value("form").await.error(), (404, 10_009));
}

// storage.md 1.2, 1.7: the service's own texts; the header `expiration`
#[tokio::test]
async fn an_expiration_is_checked_stored_and_shown() {
    let server = Server::start().await;
    server
        .put_value("k", "?expiration=4000000000", "v")
        .await
        .result();
    assert_eq!(server.value("k").await.headers["expiration"], "4000000000");
    let keys = server.get(&format!("{NS}/keys?prefix=")).await;
    assert_eq!(
        keys.text(),
        r#"{"success":true,"errors":[],"messages":[],"result":[{"name":"k","expiration":4000000000}],"result_info":{"count":1,"cursor":""}}"#
    );
    for (key, query, status, message) in [
        (
            "k",
            "?expiration_ttl=10",
            400,
            "Invalid expiration_ttl of 10. Expiration TTL must be at least 60.",
        ),
        (
            "k",
            "?expiration_ttl=x",
            400,
            "Invalid expiration_ttl of x. Please specify integer greater than 0.",
        ),
        (
            &"k".repeat(513),
            "",
            414,
            "UTF-8 encoded length of 513 exceeds key length limit of 512.",
        ),
    ] {
        let answer = server.put_value(key, query, "v").await;
        assert_eq!(answer.status.as_u16(), status);
        assert_eq!(answer.json()["errors"][0]["message"], message);
    }
}

// control-plane-api.md 2.5 style C, storage.md 1.7: the end is an empty cursor
#[tokio::test]
async fn keys_are_listed_page_by_page_with_a_prefix() {
    let server = Server::start().await;
    for key in ["a1", "a2", "a3", "b"] {
        server.put_value(key, "", "v").await.result();
    }
    let mut names = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("{NS}/keys?prefix=a&limit=2&cursor={cursor}");
        let answer = server.get(&path).await;
        let page = answer.result();
        names.extend(
            page.as_array()
                .unwrap()
                .iter()
                .map(|key| key["name"].clone()),
        );
        cursor = answer.json()["result_info"]["cursor"]
            .as_str()
            .unwrap()
            .into();
        if cursor.is_empty() {
            break;
        }
    }
    assert_eq!(names, ["a1", "a2", "a3"]);
    let bad = server.get(&format!("{NS}/keys?limit=x")).await;
    assert_eq!(bad.error(), (400, 6007));
}

// control-plane-api.md 7: the bulk calls, with a DELETE that has a body
#[tokio::test]
async fn keys_are_written_read_and_deleted_in_bulk() {
    let server = Server::start().await;
    let pairs = json!([
        { "key": "a", "value": "1", "metadata": { "m": 1 } },
        { "key": "b", "value": "AAEC", "base64": true, "expiration": 4_000_000_000_u64 },
    ]);
    let put = server
        .send("PUT", &format!("{NS}/bulk"), &[], pairs.to_string())
        .await;
    assert_eq!(
        put.result(),
        json!({ "successful_key_count": 2, "unsuccessful_keys": [] })
    );
    assert_eq!(server.value("b").await.body, [0_u8, 1, 2].as_slice());
    let got = server
        .post(
            &format!("{NS}/bulk/get"),
            json!({ "keys": ["a", "missing"] }),
        )
        .await;
    assert_eq!(
        got.result(),
        json!({ "values": { "a": "1", "missing": null } })
    );
    let got = json!({ "keys": ["a"], "type": "json", "withMetadata": true });
    let got = server.post(&format!("{NS}/bulk/get"), got).await;
    assert_eq!(
        got.result(),
        json!({ "values": { "a": { "value": 1, "metadata": { "m": 1 } } } })
    );
    let deleted = server
        .send("DELETE", &format!("{NS}/bulk"), &[], r#"["a","absent"]"#)
        .await;
    assert_eq!(deleted.result()["successful_key_count"], 2);
    let deleted = server
        .post(&format!("{NS}/bulk/delete"), json!(["b"]))
        .await;
    assert_eq!(deleted.result()["successful_key_count"], 1);
    let keys = server.get(&format!("{NS}/keys")).await;
    assert_eq!(keys.result(), json!([]));
    let bad = json!([{ "key": "a", "value": "1" }, { "key": "b", "value": "!", "base64": true }]);
    let bad = server
        .send("PUT", &format!("{NS}/bulk"), &[], bad.to_string())
        .await;
    assert_eq!(bad.error(), (400, 6007));
    assert_eq!(server.value("a").await.error(), (404, 10_009));
    let many: Vec<_> = (0..10_001).map(|n| n.to_string()).collect();
    let many = server.post(&format!("{NS}/bulk/delete"), json!(many)).await;
    assert_eq!(many.error(), (400, 10_012));
}

// storage.md 1.1: 25 MiB inclusive
#[tokio::test]
async fn a_value_has_at_most_25_mib() {
    let server = Server::start().await;
    let limit = 25 * 1024 * 1024;
    server.put_value("k", "", vec![1; limit]).await.result();
    let answer = server.put_value("k", "", vec![2; limit + 1]).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(server.value("k").await.body.len(), limit);
}
