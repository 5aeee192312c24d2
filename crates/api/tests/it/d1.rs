use md5::Digest as _;

use super::*;

impl Server {
    async fn query(&self, database: &str, body: Value) -> Answer {
        self.post(&format!("/d1/database/{database}/query"), body)
            .await
    }

    async fn sql(&self, sql: &str) -> Answer {
        self.query("db", json!({ "sql": sql })).await
    }
}

/// Results without what a clock decides.
fn rows(answer: &Answer) -> Vec<Value> {
    let results = answer.result();
    results
        .as_array()
        .unwrap()
        .iter()
        .map(|result| {
            assert_eq!(result["success"], true);
            assert!(result["meta"]["duration"].is_number());
            result["results"].clone()
        })
        .collect()
}

// control-plane-api.md 6.2
#[tokio::test]
async fn a_database_is_made_found_by_id_and_by_name_and_deleted() {
    let server = Server::strict().await;
    let made = server
        .post("/d1/database", json!({ "name": "my db" }))
        .await;
    let made = made.result();
    let uuid = made["uuid"].as_str().unwrap().to_owned();
    assert_eq!(made["name"], "my db");
    assert_eq!(made["version"], "production");
    let again = server
        .post("/d1/database", json!({ "name": "my db" }))
        .await;
    assert_eq!(again.error(), (400, 7502));
    for id in [uuid.as_str(), "my%20db"] {
        let found = server
            .get(&format!("/d1/database/{id}?fields=uuid,name"))
            .await;
        assert_eq!(found.result(), json!({ "uuid": uuid, "name": "my db" }));
    }
    let query = json!({ "sql": "CREATE TABLE a (x); CREATE TABLE b (x)" });
    server.query(&uuid, query).await.result();
    let found = server.get(&format!("/d1/database/{uuid}")).await.result();
    assert_eq!(found["num_tables"], 2);
    assert!(found["file_size"].as_u64().unwrap() > 0);
    assert_eq!(found["read_replication"]["mode"], "disabled");
    let path = format!("/d1/database/{uuid}");
    let deleted = server.send("DELETE", &path, &[], "").await;
    assert_eq!(
        deleted.text(),
        r#"{"success":true,"errors":[],"messages":[],"result":null}"#
    );
    assert_eq!(server.get(&path).await.error(), (404, 7404));
    let gone = server.query(&uuid, json!({ "sql": "SELECT 1" })).await;
    assert_eq!(gone.error(), (404, 7404));
}

// control-plane-api.md 2.5, style A: a page past the end is empty
#[tokio::test]
async fn databases_come_in_pages() {
    let server = Server::start().await;
    for name in ["a", "b", "c", "d"] {
        server
            .post("/d1/database", json!({ "name": name }))
            .await
            .result();
    }
    for (page, expected) in [(1, vec!["a", "b"]), (2, vec!["c", "d"]), (3, vec![])] {
        let answer = server
            .get(&format!("/d1/database?per_page=2&page={page}"))
            .await;
        let names: Vec<_> = answer
            .result()
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["name"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(names, expected);
        let info = &answer.json()["result_info"];
        assert_eq!(info["total_count"], 4);
        assert_eq!(info["count"], expected.len());
    }
}

// control-plane-api.md 6.2: one element for each statement; split as SQLite does
#[tokio::test]
async fn a_query_has_one_result_for_each_statement() {
    let server = Server::start().await;
    let answer = server
        .sql(
            "CREATE TABLE t (a TEXT, n INTEGER); -- a comment; with a semicolon\n\
             CREATE TRIGGER r AFTER INSERT ON t BEGIN UPDATE t SET n = 1; SELECT 1; END;\n\
             INSERT INTO t VALUES ('x;y', 0) RETURNING a;;\n\
             SELECT * FROM t; /* the end; */",
        )
        .await;
    assert_eq!(
        rows(&answer),
        [
            json!([]),
            json!([]),
            json!([{ "a": "x;y" }]),
            json!([{ "a": "x;y", "n": 1 }]),
        ]
    );
    let meta = answer.result()[2]["meta"].clone();
    assert_eq!(meta["served_by"], "engawa");
    assert_eq!(meta["changed_db"], true);
    assert_eq!(meta["last_row_id"], 1);
    let raw = json!({ "sql": "SELECT a, n FROM t WHERE a = ?", "params": ["x;y"] });
    let raw = server.post("/d1/database/db/raw", raw).await;
    assert_eq!(
        rows(&raw),
        [json!({ "columns": ["a", "n"], "rows": [["x;y", 1]] })]
    );
    let batch = json!({ "batch": [
        { "sql": "INSERT INTO t VALUES (?, ?)", "params": ["z", 5] },
        { "sql": "SELECT count(*) AS n FROM t" },
    ] });
    let batch = server.query("db", batch).await;
    assert_eq!(rows(&batch), [json!([]), json!([{ "n": 2 }])]);
}

// storage.md 2.13: 400, code 7500, SQLite's text; all or nothing
#[tokio::test]
async fn a_failed_statement_undoes_the_whole_query() {
    let server = Server::start().await;
    server.sql("CREATE TABLE t (a UNIQUE)").await.result();
    let answer = server
        .sql("INSERT INTO t VALUES (1); INSERT INTO t VALUES (1);")
        .await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(
        answer.text(),
        r#"{"success":false,"errors":[{"code":7500,"message":"UNIQUE constraint failed: t.a: SQLITE_CONSTRAINT (extended: SQLITE_CONSTRAINT_UNIQUE)"}],"messages":[],"result":null}"#
    );
    assert_eq!(rows(&server.sql("SELECT * FROM t").await), [json!([])]);
    for (body, message) in [
        (
            json!({ "sql": "  -- nothing" }),
            "No SQL statements detected.",
        ),
        (json!({ "sql": ";" }), "No SQL statements detected."),
        (
            json!({ "sql": "SELECT ?; SELECT ?", "params": ["a"] }),
            "When executing multiple SQL statements in a single call, only the last statement \
             can have parameters.",
        ),
    ] {
        let answer = server.query("db", body).await;
        assert_eq!(answer.error(), (400, 7500));
        assert_eq!(answer.json()["errors"][0]["message"], message);
    }
    for bad in [
        "{",
        "[]",
        r#"{"sql":1}"#,
        r#"{"sql":"SELECT ?","params":[{}]}"#,
    ] {
        let answer = server.send("POST", "/d1/database/db/query", &[], bad).await;
        assert_eq!(answer.error(), (400, 6007), "{bad}");
    }
}

// control-plane-api.md 6.5: a migration is one query, and may be long
#[tokio::test]
async fn a_query_longer_than_a_statement_may_be() {
    let server = Server::start().await;
    let filler = format!("INSERT INTO t VALUES ('{}');", "v".repeat(1000));
    let sql = format!("CREATE TABLE t (a); {}", filler.repeat(300));
    assert!(sql.len() > 300_000);
    assert_eq!(rows(&server.sql(&sql).await).len(), 301);
    let count = server.sql("SELECT count(*) AS n FROM t").await;
    assert_eq!(rows(&count), [json!([{ "n": 300 }])]);
}

// control-plane-api.md 6.3
#[tokio::test]
async fn an_import_goes_by_a_url_that_works_once() {
    let server = Server::start().await;
    let file = "CREATE TABLE t (a); INSERT INTO t VALUES (1); INSERT INTO t VALUES (2);";
    let md5: [u8; 16] = md5::Md5::digest(file).into();
    let md5 = format!("{:032x}", u128::from_be_bytes(md5));
    let init = json!({ "action": "init", "etag": md5 });
    let init = server.post("/d1/database/db/import", init).await.result();
    let url = init["upload_url"].as_str().unwrap();
    let path = url.strip_prefix("http://localhost").unwrap();
    let wrong = server.send("PUT", path, &[], "something else").await;
    assert_eq!(wrong.error(), (400, 6007));
    let sent = server.send("PUT", path, &[], file).await;
    assert_eq!(sent.status, StatusCode::OK);
    assert_eq!(sent.headers["etag"], format!("\"{md5}\""));
    let ingest = json!({ "action": "ingest", "filename": init["filename"], "etag": md5 });
    let poll = server
        .post("/d1/database/db/import", ingest.clone())
        .await
        .result();
    assert_eq!(poll["success"], true);
    assert_eq!(poll["type"], "import");
    assert_eq!(poll["status"], "complete", "{poll}");
    assert_eq!(poll["result"]["num_queries"], 3);
    assert!(poll["messages"].is_array());
    for number in ["duration", "rows_read", "rows_written", "size_after"] {
        assert!(poll["result"]["meta"][number].is_number(), "{number}");
    }
    let again = server.post("/d1/database/db/import", ingest).await;
    assert_eq!(again.error(), (404, 7404));
    let count = server.sql("SELECT count(*) AS n FROM t").await;
    assert_eq!(rows(&count), [json!([{ "n": 2 }])]);
}

// control-plane-api.md 6.3: `status: "error"` with `errors`
#[tokio::test]
async fn an_import_that_fails_says_why_and_changes_nothing() {
    let server = Server::start().await;
    let file = "CREATE TABLE t (a); INSERT INTO nowhere VALUES (1);";
    let md5: [u8; 16] = md5::Md5::digest(file).into();
    let md5 = format!("{:032x}", u128::from_be_bytes(md5));
    let init = json!({ "action": "init", "etag": md5 });
    let init = server.post("/d1/database/db/import", init).await.result();
    let url = init["upload_url"].as_str().unwrap();
    let path = url.strip_prefix("http://localhost").unwrap();
    server.send("PUT", path, &[], file).await.result();
    let ingest = json!({ "action": "ingest", "filename": init["filename"], "etag": md5 });
    let poll = server.post("/d1/database/db/import", ingest).await.result();
    assert_eq!(poll["status"], "error");
    assert_eq!(
        poll["errors"],
        json!(["no such table: nowhere: SQLITE_ERROR"])
    );
    let tables = server.sql("SELECT name FROM sqlite_master").await;
    assert_eq!(rows(&tables), [json!([])]);
}

// control-plane-api.md 6.4
#[tokio::test]
async fn an_export_goes_by_a_url_of_this_server() {
    let server = Server::start().await;
    server
        .sql("CREATE TABLE t (a TEXT); INSERT INTO t VALUES ('it''s');")
        .await
        .result();
    let export = json!({ "output_format": "polling",
        "dump_options": { "no_schema": false, "no_data": false, "tables": [] } });
    let poll = server.post("/d1/database/db/export", export).await.result();
    assert_eq!(poll["status"], "complete");
    let url = poll["result"]["signed_url"].as_str().unwrap();
    let path = url.strip_prefix("http://localhost").unwrap();
    let file = server.get(path).await;
    assert_eq!(file.status, StatusCode::OK);
    assert!(file.text().starts_with("PRAGMA defer_foreign_keys=TRUE;\n"));
    assert!(file.text().contains("INSERT INTO \"t\""), "{}", file.text());
    assert!(file.text().contains("'it''s'"));
    // docs: the link is good for an hour.
    assert_eq!(server.get(path).await.text(), file.text());
    // The next one of this database takes its place.
    server
        .sql("CREATE VIRTUAL TABLE f USING fts5(a)")
        .await
        .result();
    let poll = server
        .post("/d1/database/db/export", json!({}))
        .await
        .result();
    assert_eq!(poll["status"], "complete", "{poll}");
    assert_eq!(server.get(path).await.error(), (404, 7404));
    let again = json!({ "current_bookmark": poll["at_bookmark"] });
    let again = server.post("/d1/database/db/export", again).await.result();
    assert_eq!(again["result"], poll["result"]);
    server
        .sql("CREATE VIRTUAL TABLE lost USING fts5(a, content='', detail=none); INSERT INTO lost VALUES ('x')")
        .await
        .result();
    let poll = server
        .post("/d1/database/db/export", json!({}))
        .await
        .result();
    assert_eq!(poll["status"], "error");
    let error = poll["error"].as_str().unwrap();
    assert!(error.contains("\"lost\""), "{poll}");
    let other = json!({ "current_bookmark": "00000000000000000000000000000000" });
    let other = server.post("/d1/database/db/export", other).await.result();
    assert_eq!(other["success"], false);
}

// control-plane-api.md 6.3: what takes longer than a second is polled for.
#[tokio::test]
async fn a_long_import_is_polled_for_and_ends_as_a_whole() {
    let server = Server::start().await;
    // Longer than a second on any machine: it waits for the database.
    let busy = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 8000000) \
                SELECT count(*) FROM n;";
    let file = format!("CREATE TABLE t (a); {}", busy.repeat(4));
    let (init, md5) = announce(&server, &file).await;
    let url = init["upload_url"].as_str().unwrap();
    let path = url.strip_prefix("http://localhost").unwrap();
    server.send("PUT", path, &[], file).await.result();
    let ingest = json!({ "action": "ingest", "filename": init["filename"], "etag": md5 });
    let mut poll = server.post("/d1/database/db/import", ingest).await.result();
    let mut polls = 0;
    while poll["status"] == "active" {
        polls += 1;
        assert_eq!(poll["success"], true);
        assert!(poll["done_bytes"].is_number() && poll["messages"].is_array());
        let ask = json!({ "action": "poll", "current_bookmark": poll["at_bookmark"] });
        poll = server.post("/d1/database/db/import", ask).await.result();
    }
    assert!(polls > 0, "{poll}");
    assert_eq!(poll["status"], "complete", "{poll}");
    assert_eq!(poll["result"]["num_queries"], 5);
    let ask = json!({ "action": "poll", "current_bookmark": "none such" });
    let none = server.post("/d1/database/db/import", ask).await.result();
    assert_eq!(none["success"], false);
}

// A client that announces without end takes no more than its share.
#[tokio::test]
async fn announced_files_are_bounded() {
    let server = Server::start().await;
    let (first, _) = announce(&server, "SELECT 1").await;
    for number in 0..16 {
        announce(&server, &format!("SELECT {number}")).await;
    }
    let url = first["upload_url"].as_str().unwrap();
    let path = url.strip_prefix("http://localhost").unwrap();
    let late = server.send("PUT", path, &[], "SELECT 1").await;
    assert_eq!(late.error(), (404, 7404));
}

/// Announces a file: the answer, and its MD5.
async fn announce(server: &Server, file: &str) -> (Value, String) {
    let md5: [u8; 16] = md5::Md5::digest(file).into();
    let md5 = format!("{:032x}", u128::from_be_bytes(md5));
    let init = json!({ "action": "init", "etag": md5 });
    let init = server.post("/d1/database/db/import", init).await.result();
    (init, md5)
}

// storage.md 2.10, control-plane-api.md 6.1
#[tokio::test]
async fn a_database_is_brought_back_to_a_bookmark_or_a_timestamp() {
    let server = Server::start().await;
    let path = "/d1/database/db/time_travel";
    server
        .sql("CREATE TABLE t (a); INSERT INTO t VALUES (1);")
        .await
        .result();
    let info = server.get(&format!("{path}/bookmark")).await.result();
    let bookmark = info["bookmark"].as_str().unwrap().to_owned();
    let groups: Vec<_> = bookmark.split('-').map(str::len).collect();
    assert_eq!(groups, [8, 8, 8, 32]);
    server.sql("DELETE FROM t").await.result();
    let rows_now = async || rows(&server.sql("SELECT a FROM t").await);
    assert_eq!(rows_now().await, [json!([])]);
    let restore = format!("{path}/restore?bookmark={bookmark}");
    let done = server.post(&restore, Value::Null).await.result();
    assert_eq!(done["bookmark"], json!(bookmark));
    assert!(done["message"].as_str().unwrap().contains(&bookmark));
    assert_eq!(rows_now().await, [json!([{ "a": 1 }])]);
    let previous = done["previous_bookmark"].as_str().unwrap();
    let undo = format!("{path}/restore?bookmark={previous}");
    server.post(&undo, Value::Null).await.result();
    assert_eq!(rows_now().await, [json!([])]);

    // By now all of that is in the past, whatever the clock's step.
    let now = humantime::format_rfc3339_millis(std::time::SystemTime::now());
    let at = format!("timestamp={now}");
    let found = server.get(&format!("{path}/bookmark?{at}")).await.result();
    assert!(found["bookmark"].as_str().unwrap() > previous);
    let restore = format!("{path}/restore?{at}");
    let done = server.post(&restore, Value::Null).await.result();
    assert_eq!(done["bookmark"], found["bookmark"]);
    assert_eq!(rows_now().await, [json!([])]);

    for wrong in [
        "/restore",
        "/restore?bookmark=x",
        "/restore?bookmark=x&timestamp=2023-01-01T00:00:00Z",
        "/restore?timestamp=2023-01-01T00:00:00Z",
        "/restore?timestamp=9999-01-01T00:00:00Z",
        "/restore?timestamp=now",
    ] {
        let answer = server.post(&format!("{path}{wrong}"), Value::Null).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{wrong}");
    }
    assert_eq!(server.post(path, Value::Null).await.error(), (404, 7003));
    let answer = server.get(&format!("{path}/restore")).await;
    assert_eq!(answer.error(), (405, 7001));
}
