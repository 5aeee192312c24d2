//! `engawa d1|kv|r2 … --local`: a user's walk on a project's state folder, with and
//! without `engawa dev` beside it.
#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use engawa_testkit::{TestProject, engawa, wait_until};
use serde_json::{Value, json};

use crate::{WRANGLER, program, project, start};

/// Two databases: the second one is for copies.
fn with_copy(files: &[(&str, &str)]) -> TestProject {
    let project = project(files);
    let copy = "[[d1_databases]]\nbinding = \"COPY\"\ndatabase_name = \"copy\"\ndatabase_id = \"the-copy\"\n";
    project.write("wrangler.toml", format!("{WRANGLER}\n{copy}"));
    project
}

/// What a command did.
#[derive(Debug)]
struct Done {
    code: Option<i32>,
    stdout: Vec<u8>,
    stderr: String,
}

impl Done {
    fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self
    }

    /// The text of a command that could not do its work; it printed no data.
    fn refused(self) -> String {
        assert_eq!(self.code, Some(1), "{self:?}");
        assert!(self.stdout.is_empty(), "{self:?}");
        self.stderr
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The rows of each statement.
    fn rows(&self) -> Vec<Value> {
        self.json()
            .as_array()
            .unwrap()
            .iter()
            .map(|result| result["results"].clone())
            .collect()
    }
}

fn command(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = engawa(program());
    command
        .args(arguments)
        .args(["--local"])
        .current_dir(dir)
        .stdin(Stdio::null());
    command
}

fn run(project: &TestProject, arguments: &[&str]) -> Done {
    let output = command(project.path(), arguments).output().unwrap();
    Done {
        code: output.status.code(),
        stdout: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn sql(project: &TestProject, database: &str, sql: &str) -> Done {
    run(project, &["d1", "execute", database, "--command", sql])
}

#[test]
fn migrations_are_created_listed_and_applied_in_order() {
    let project = project(&[]);
    let made = run(
        &project,
        &["d1", "migrations", "create", "it-db", "add notes"],
    )
    .ok();
    let path = project.path().join("migrations/0001_add_notes.sql");
    assert_eq!(
        made.text(),
        "migrations/0001_add_notes.sql\n",
        "the file's path is the data"
    );
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("-- Migration number: 0001"), "{text}");
    project.write(
        "migrations/0001_add_notes.sql",
        "CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT);",
    );
    // wrangler: by number, so 10 comes after 9
    project.write(
        "migrations/0010_last.sql",
        "INSERT INTO notes (text) VALUES ('second');",
    );
    project.write(
        "migrations/0009_before.sql",
        "INSERT INTO notes (text) VALUES ('first');",
    );

    let listed = run(&project, &["d1", "migrations", "list", "it-db"]).ok();
    assert_eq!(
        listed.text(),
        "0001_add_notes.sql\n0009_before.sql\n0010_last.sql\n"
    );
    let applied = run(&project, &["d1", "migrations", "apply", "DB"]).ok();
    assert_eq!(
        applied.text(),
        "0001_add_notes.sql\n0009_before.sql\n0010_last.sql\n",
        "by binding, too"
    );
    let rows = sql(&project, "it-db", "SELECT text FROM notes ORDER BY id")
        .ok()
        .rows();
    assert_eq!(rows, [json!([{ "text": "first" }, { "text": "second" }])]);

    for verb in ["list", "apply"] {
        let done = run(&project, &["d1", "migrations", verb, "it-db"]).ok();
        assert_eq!(done.text(), "");
        assert!(
            done.stderr.contains("No migrations to apply!"),
            "{}",
            done.stderr
        );
    }
    let names = sql(
        &project,
        "it-db",
        "SELECT name FROM d1_migrations ORDER BY id",
    )
    .ok()
    .rows();
    assert_eq!(names[0].as_array().unwrap().len(), 3);
}

#[test]
fn pending_migrations_are_named_by_dev_and_can_be_applied_while_it_runs() {
    let project = project(&[
        (
            "migrations/0001_a.sql",
            "CREATE TABLE a (id INTEGER PRIMARY KEY);",
        ),
        ("migrations/0002_b.sql", "INSERT INTO a VALUES (7);"),
        (
            "functions/a.js",
            "export const onRequest = async ({ env }) => Response.json((await env.DB.prepare('SELECT id FROM a').all()).results);",
        ),
    ]);
    let dev = start(&project);
    dev.wait_for_stderr("2 migrations of it-db are pending: 0001_a.sql, 0002_b.sql");
    dev.wait_for_stderr("engawa d1 migrations apply it-db --local");
    assert_eq!(dev.get("/a").0, 500);
    run(&project, &["d1", "migrations", "apply", "it-db"]).ok();
    assert_eq!(dev.json("/a"), json!([{ "id": 7 }]));
    drop(dev);
    assert!(!start(&project).stderr().contains("pending"));
}

#[test]
fn a_migration_that_fails_is_undone_alone_and_named() {
    let project = project(&[
        (
            "migrations/0001_good.sql",
            "CREATE TABLE good (id INTEGER PRIMARY KEY);",
        ),
        (
            "migrations/0002_bad.sql",
            "CREATE TABLE half (id INTEGER);\nINSERT INTO nowhere VALUES (1);",
        ),
        (
            "migrations/0003_never.sql",
            "CREATE TABLE never (id INTEGER);",
        ),
    ]);
    let done = run(&project, &["d1", "migrations", "apply", "it-db"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert_eq!(
        done.text(),
        "0001_good.sql\n",
        "what was applied before stays applied"
    );
    assert!(done.stderr.contains("0002_bad.sql"), "{}", done.stderr);
    assert!(
        done.stderr.contains("no such table: nowhere: SQLITE_ERROR"),
        "{}",
        done.stderr
    );
    let tables = "SELECT name FROM sqlite_master WHERE name IN ('good', 'half', 'never')";
    assert_eq!(
        sql(&project, "it-db", tables).ok().rows(),
        [json!([{ "name": "good" }])]
    );
    project.write(
        "migrations/0002_bad.sql",
        "CREATE TABLE whole (id INTEGER);",
    );
    let done = run(&project, &["d1", "migrations", "apply", "it-db"]).ok();
    assert_eq!(done.text(), "0002_bad.sql\n0003_never.sql\n");
}

/// The specification's first migration, as it is written there.
const SPECIFIED: &str = r"-- migrations/001_initial_schema.sql
CREATE TABLE users (
  id TEXT PRIMARY KEY,
  clerk_id TEXT UNIQUE NOT NULL,
  email TEXT UNIQUE NOT NULL,
  created_at DATETIME DEFAULT CURRENT_TIMESTAMP
);

CREATE INDEX idx_users_clerk_id ON users(clerk_id);
CREATE INDEX idx_users_email ON users(email);

-- Full-Text Search 設定
CREATE VIRTUAL TABLE messages_fts USING fts5(
  content,
  content='messages',
  content_rowid='id'
);

-- FTS トリガー設定
CREATE TRIGGER messages_ai AFTER INSERT ON messages BEGIN
  INSERT INTO messages_fts(rowid, content) VALUES (new.id, new.content);
END;
";

#[test]
fn the_specifications_first_migration_alone_gives_d1s_own_error() {
    let project = project(&[("migrations/001_initial_schema.sql", SPECIFIED)]);
    // wrangler 4.164 `d1 execute --local --file`: `no such table: main.messages: SQLITE_ERROR`, and
    // no table is there afterwards.
    for arguments in [
        &["d1", "migrations", "apply", "it-db"][..],
        &[
            "d1",
            "execute",
            "it-db",
            "--file",
            "migrations/001_initial_schema.sql",
        ],
        &["d1", "execute", "it-db", "--command", SPECIFIED],
    ] {
        let said = run(&project, arguments).refused();
        assert!(
            said.contains("no such table: main.messages: SQLITE_ERROR"),
            "{said}"
        );
        let rows = sql(
            &project,
            "it-db",
            "SELECT name FROM sqlite_master WHERE name LIKE 'users%'",
        )
        .ok()
        .rows();
        assert_eq!(rows, [json!([])]);
    }
}

#[test]
fn the_specifications_first_migration_runs_once_its_table_is_made() {
    let project = project(&[
        (
            "migrations/000_messages.sql",
            "CREATE TABLE messages (id INTEGER PRIMARY KEY, content TEXT NOT NULL);",
        ),
        ("migrations/001_initial_schema.sql", SPECIFIED),
    ]);
    run(&project, &["d1", "migrations", "apply", "it-db"]).ok();
    sql(
        &project,
        "it-db",
        "INSERT INTO messages (content) VALUES ('good morning'), ('good night')",
    )
    .ok();
    let found = "SELECT m.id, m.content FROM messages_fts JOIN messages m ON m.id = messages_fts.rowid WHERE messages_fts MATCH 'night'";
    assert_eq!(
        sql(&project, "it-db", found).ok().rows(),
        [json!([{ "id": 2, "content": "good night" }])]
    );
}

#[test]
fn sql_is_executed_from_the_command_line_and_from_a_file() {
    let project = project(&[(
        "all.sql",
        "-- a comment; with a semicolon\nCREATE TABLE t (id INTEGER PRIMARY KEY, s TEXT);\n\
         INSERT INTO t (s) VALUES ('a;b'), ('it''s');\nCREATE TRIGGER g AFTER INSERT ON t BEGIN UPDATE t SET s = s || '!' WHERE id = new.id; END;\n",
    )]);
    let done = run(
        &project,
        &["d1", "execute", "it-db", "--file", "all.sql", "--json"],
    )
    .ok();
    assert_eq!(done.json()[0]["success"], true, "{done:?}");
    let done = sql(
        &project,
        "it-db",
        "INSERT INTO t (s) VALUES ('c'); SELECT s FROM t ORDER BY id",
    )
    .ok();
    // One result a statement, and JSON without --json, since this is a pipe (wrangler does so).
    assert_eq!(
        done.rows(),
        [
            json!([]),
            json!([{ "s": "a;b" }, { "s": "it's" }, { "s": "c!" }])
        ]
    );
    assert_eq!(done.json()[0]["meta"]["changes"], 2);

    let said = sql(
        &project,
        "it-db",
        "INSERT INTO t (s) VALUES ('lost'); SELECT * FROM nope",
    )
    .refused();
    assert!(said.contains("no such table: nope: SQLITE_ERROR"), "{said}");
    assert_eq!(
        sql(&project, "it-db", "SELECT count(*) AS n FROM t")
            .ok()
            .rows(),
        [json!([{ "n": 3 }])]
    );
    let listed = run(&project, &["d1", "list", "--json"]).ok().json();
    assert_eq!(listed[0]["uuid"], "my-database");
}

#[test]
fn an_export_makes_the_same_rows_in_another_database() {
    let project = with_copy(&[]);
    sql(
        &project,
        "it-db",
        "CREATE TABLE parent (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT UNIQUE); \
         CREATE TABLE child (parent INTEGER NOT NULL REFERENCES parent (id), data BLOB, number REAL, big INTEGER); \
         CREATE INDEX by_number ON child (number); \
         INSERT INTO parent (name) VALUES ('it''s; a \"name\"'), (NULL), ('zwei' || char(10) || 'Zeilen'); \
         INSERT INTO child VALUES (1, X'00ff10', 1.5, 9007199254740993), (3, NULL, -0.25, NULL); \
         CREATE VIEW both AS SELECT name, hex(data) AS data FROM parent JOIN child ON parent.id = child.parent",
    )
    .ok();
    run(&project, &["d1", "export", "it-db", "--output", "dump.sql"]).ok();
    run(&project, &["d1", "execute", "copy", "--file", "dump.sql"]).ok();
    for query in [
        "SELECT id, hex(name) AS name FROM parent ORDER BY id",
        "SELECT parent, hex(data) AS data, number, CAST(big AS TEXT) AS big FROM child ORDER BY parent",
        "SELECT * FROM both ORDER BY data",
        "SELECT seq FROM sqlite_sequence WHERE name = 'parent'",
        "SELECT name FROM sqlite_master WHERE type IN ('index', 'view') AND sql IS NOT NULL ORDER BY name",
    ] {
        let original = sql(&project, "it-db", query).ok().rows();
        assert_ne!(original, [json!([])], "{query}");
        assert_eq!(
            sql(&project, "COPY", query).ok().rows(),
            original,
            "{query}"
        );
    }
}

#[test]
fn a_key_is_put_got_listed_and_deleted() {
    let project = project(&[]);
    let binary: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    project.write("value.bin", &binary);
    let key = "a/b c%20é";
    let kv = |arguments: &[&str]| {
        run(
            &project,
            &[&["kv", "key"], arguments, &["--binding", "KV"]].concat(),
        )
    };
    let put = kv(&[
        "put",
        key,
        "--path",
        "value.bin",
        "--metadata",
        "{\"a\":[1]}",
        "--ttl",
        "3600",
    ])
    .ok();
    assert_eq!(put.text(), "", "{put:?}");
    assert_eq!(kv(&["get", key]).ok().stdout, binary);
    kv(&["put", "other", "text", "--expiration", "4000000000"]).ok();
    assert_eq!(
        kv(&["get", "other"]).ok().text(),
        "text",
        "nothing but the value"
    );
    assert_eq!(kv(&["get", "other", "--text"]).ok().text(), "text\n");

    let listed = kv(&["list"]).ok().json();
    assert_eq!(listed.as_array().unwrap().len(), 2, "{listed}");
    assert_eq!(listed[0]["name"], key);
    assert_eq!(listed[0]["metadata"], json!({ "a": [1] }));
    assert!(
        listed[0]["expiration"].as_u64().unwrap() > 1_700_000_000,
        "{listed}"
    );
    assert_eq!(
        listed[1],
        json!({ "name": "other", "expiration": 4_000_000_000_u64 })
    );
    assert_eq!(
        kv(&["list", "--prefix", "a/"])
            .ok()
            .json()
            .as_array()
            .unwrap()
            .len(),
        1
    );
    kv(&["delete", key]).ok();
    let said = kv(&["get", key]).refused();
    assert!(said.contains("not found"), "{said}");
    let by_id = run(
        &project,
        &[
            "kv",
            "key",
            "get",
            "other",
            "--namespace-id",
            "my/ Namespace",
        ],
    )
    .ok();
    assert_eq!(by_id.text(), "text");
}

#[test]
fn many_keys_are_put_got_and_deleted_from_files() {
    let project = project(&[]);
    // More than one page of a list, one bulk read, one bulk write.
    let names: Vec<String> = (0..1203).map(|number| format!("key-{number:04}")).collect();
    let pairs: Vec<Value> = names
        .iter()
        .map(|name| json!({ "key": name, "value": format!("value of {name}") }))
        .collect();
    project.write("put.json", Value::from(pairs).to_string());
    project.write(
        "more.json",
        json!([{ "key": "bin", "value": "AP8=", "base64": true, "metadata": 5 }]).to_string(),
    );
    project.write("get.json", json!(names[..150]).to_string());
    project.write(
        "get-named.json",
        json!([{ "name": "key-0001" }, { "name": "nope" }]).to_string(),
    );
    project.write("delete.json", json!(names[1..]).to_string());
    let kv = |kind: &str, arguments: &[&str]| {
        run(
            &project,
            &[&["kv", kind], arguments, &["--binding", "KV"]].concat(),
        )
    };
    kv("bulk", &["put", "put.json"]).ok();
    kv("bulk", &["put", "more.json"]).ok();
    assert_eq!(
        kv("key", &["list"]).ok().json().as_array().unwrap().len(),
        1204
    );
    assert_eq!(kv("key", &["get", "bin"]).ok().stdout, [0, 255]);
    let got = kv("bulk", &["get", "get.json"]).ok().json();
    assert_eq!(got.as_object().unwrap().len(), 150);
    // wrangler: `{ key: { value } }`, and null for what is not there
    assert_eq!(got["key-0149"], json!({ "value": "value of key-0149" }));
    let got = kv("bulk", &["get", "get-named.json"]).ok().json();
    assert_eq!(
        got,
        json!({ "key-0001": { "value": "value of key-0001" }, "nope": { "value": null } })
    );
    kv("bulk", &["delete", "delete.json"]).ok();
    let left = kv("key", &["list"]).ok().json();
    assert_eq!(
        left,
        json!([{ "name": "bin", "metadata": 5 }, { "name": "key-0000" }])
    );
}

#[test]
fn a_large_object_is_put_got_and_deleted() {
    let project = project(&[]);
    let large: Vec<u8> = (0..20_u32 << 20)
        .map(|i| (i ^ (i >> 9)).to_le_bytes()[0])
        .collect();
    project.write("large.bin", &large);
    let object = "it-bucket/dir/large é.bin";
    let r2 = |arguments: &[&str]| run(&project, &[&["r2"], arguments].concat());
    r2(&[
        "object",
        "put",
        object,
        "--file",
        "large.bin",
        "--content-type",
        "text/x-large",
    ])
    .ok();
    let got = r2(&["object", "get", object, "--file", "got.bin"]).ok();
    assert_eq!(got.text(), "");
    assert!(
        std::fs::read(project.path().join("got.bin")).unwrap() == large,
        "the file differs"
    );
    assert!(
        r2(&["object", "get", object, "--pipe"]).ok().stdout == large,
        "the pipe differs"
    );
    let buckets = r2(&["bucket", "list"]).ok();
    assert_eq!(buckets.json()[0]["name"], "it-bucket", "{buckets:?}");

    let mut piped = command(
        project.path(),
        &["r2", "object", "put", "it-bucket/piped", "--pipe"],
    );
    piped.stdin(std::fs::File::open(project.path().join("large.bin")).unwrap());
    assert!(piped.output().unwrap().status.success());
    assert!(
        r2(&["object", "get", "it-bucket/piped", "--pipe"])
            .ok()
            .stdout
            == large,
        "the pipe differs"
    );

    r2(&["object", "delete", object]).ok();
    let said = r2(&["object", "get", object, "--file", "gone.bin"]).refused();
    assert!(said.contains("does not exist"), "{said}");
    assert!(
        !project.path().join("gone.bin").exists(),
        "a file that has nothing to hold is not made"
    );
}

#[test]
fn commands_and_a_running_dev_see_each_others_writes_at_once() {
    let project = project(&[(
        "functions/f.js",
        r#"export async function onRequest({ env, request }) {
  if (request.method === "POST") {
    await env.KV.put("of-dev", "kv"); await env.BUCKET.put("of-dev", "r2");
    await env.DB.exec("INSERT INTO t VALUES ('of dev')");
    return new Response();
  }
  const object = await env.BUCKET.get("o");
  return Response.json([await env.KV.get("k"), (await env.DB.prepare("SELECT s FROM t").all()).results, object && await object.text()]);
}"#,
    )]);
    sql(&project, "it-db", "CREATE TABLE t (s TEXT)").ok();
    let dev = start(&project);
    assert_eq!(dev.json("/f"), json!([null, [], null]));
    project.write("o.txt", "r2");
    run(
        &project,
        &["kv", "key", "put", "k", "kv", "--binding", "KV"],
    )
    .ok();
    run(
        &project,
        &["r2", "object", "put", "it-bucket/o", "--file", "o.txt"],
    )
    .ok();
    sql(&project, "it-db", "INSERT INTO t VALUES ('d1')").ok();
    assert_eq!(dev.json("/f"), json!(["kv", [{ "s": "d1" }], "r2"]));

    assert_eq!(
        dev.agent()
            .post(dev.url("/f"))
            .send_empty()
            .unwrap()
            .status(),
        200
    );
    assert_eq!(
        run(&project, &["kv", "key", "get", "of-dev", "--binding", "KV"])
            .ok()
            .text(),
        "kv"
    );
    assert_eq!(
        run(
            &project,
            &["r2", "object", "get", "it-bucket/of-dev", "--pipe"]
        )
        .ok()
        .text(),
        "r2"
    );
    let rows = sql(&project, "it-db", "SELECT s FROM t ORDER BY rowid")
        .ok()
        .rows();
    assert_eq!(rows, [json!([{ "s": "d1" }, { "s": "of dev" }])]);
}

#[test]
fn commands_at_the_same_time_all_succeed() {
    let project = project(&[("migrations/0001_t.sql", "CREATE TABLE t (s TEXT);")]);
    run(&project, &["d1", "migrations", "apply", "it-db"]).ok();
    for round in 0..5 {
        let commands: Vec<_> = (0..8)
            .map(|number| {
                let value = format!("{round}/{number}");
                let mut command = if number % 2 == 0 {
                    let put = ["kv", "key", "put", &value, &value, "--binding", "KV"];
                    command(project.path(), &put)
                } else {
                    // Several calls, between which another owner may have gone.
                    let name = format!("migrations/1{round}{number}_n.sql");
                    project.write(&name, format!("INSERT INTO t VALUES ('{value}');"));
                    command(project.path(), &["d1", "execute", "it-db", "--file", &name])
                };
                command
                    .stdout(Stdio::piped())
                    .stderr(Stdio::piped())
                    .spawn()
                    .unwrap()
            })
            .collect();
        for command in commands {
            let output = command.wait_with_output().unwrap();
            assert!(
                output.status.success(),
                "{}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }
    let keys = run(&project, &["kv", "key", "list", "--binding", "KV"])
        .ok()
        .json();
    assert_eq!(keys.as_array().unwrap().len(), 20);
    assert_eq!(
        sql(&project, "it-db", "SELECT count(*) AS n FROM t")
            .ok()
            .rows(),
        [json!([{ "n": 20 }])]
    );
}

#[test]
fn dev_waits_for_a_command_that_has_the_folder() {
    let project = project(&[]);
    // It has the folder for as long as its input is open.
    let mut holder = command(
        project.path(),
        &["r2", "object", "put", "it-bucket/o", "--pipe"],
    );
    let mut holder = holder
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lock = project.path().join(".engawa/engawa.lock");
    wait_until("the command has the folder", || {
        std::fs::read_to_string(&lock).is_ok_and(|text| text.starts_with(&holder.id().to_string()))
    });
    let mut dev = engawa(program());
    dev.arg("dev")
        .arg(project.path())
        .args(["--port", "0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut dev = dev.spawn().unwrap();
    let mut said = BufReader::new(dev.stderr.take().unwrap())
        .lines()
        .map(Result::unwrap);
    assert!(
        said.any(|line| line.contains("Waiting for an engawa command")),
        "it does not wait"
    );
    drop(holder.stdin.take());
    assert!(holder.wait().unwrap().success());
    let mut line = String::new();
    BufReader::new(dev.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert!(
        line.starts_with("Ready on "),
        "{line:?} {:?}",
        said.collect::<Vec<_>>()
    );
    dev.kill().unwrap();
    dev.wait().unwrap();
}

#[test]
fn an_owner_that_does_not_answer_is_named_after_a_while() {
    let project = project(&[]);
    let dev = start(&project);
    dev.signal("STOP");
    let said = run(&project, &["kv", "key", "list", "--binding", "KV"]).refused();
    assert!(said.contains("does not answer"), "{said}");
    assert!(
        said.contains(&format!("engawa dev (process {})", dev.pid())),
        "{said}"
    );
    dev.signal("CONT");
    run(&project, &["kv", "key", "list", "--binding", "KV"]).ok();
}

#[test]
fn what_cannot_be_done_is_told_with_what_to_do() {
    let project = project(&[
        ("bad.json", "[{\"key\": "),
        ("object.json", "{}"),
        ("numbers.json", "[1]"),
        ("nokey.json", "[{\"value\": \"x\"}]"),
        ("database.sql", "SQLite format 3\0 and so on"),
    ]);
    let long = "k".repeat(513);
    let kv = ["--binding", "KV"];
    let cases: &[(&[&str], &[&str])] = &[
        (
            &["d1", "execute", "nope", "--command", "SELECT 1"],
            &["no D1 database nope", "it has it-db", "d1_databases"],
        ),
        (
            &["d1", "execute", "it-db", "--file", "missing.sql"],
            &["cannot read missing.sql", "No such file"],
        ),
        (
            &["d1", "execute", "it-db", "--file", "database.sql"],
            &["database.sql is a SQLite database", ".dump"],
        ),
        (
            &["d1", "execute", "it-db", "--command", " -- nothing"],
            &["No SQL statements"],
        ),
        (
            &["d1", "export", "it-db", "--output", "no/folder/x.sql"],
            &["cannot create no/folder/x.sql"],
        ),
        (
            &["d1", "migrations", "apply", "nope"],
            &["no D1 database nope"],
        ),
        (
            &["d1", "migrations", "create", "it-db", "a/b"],
            &["a/b", "separator"],
        ),
        (
            &["kv", "key", "get", "k", "--binding", "NOPE"],
            &["no KV namespace bound as NOPE", "KV"],
        ),
        (
            &["kv", "key", "put", &long, "v", kv[0], kv[1]],
            &["513", "512"],
        ),
        (
            &["kv", "key", "put", "k", "v", "--ttl", "5", kv[0], kv[1]],
            &["at least 60"],
        ),
        (
            &[
                "kv",
                "key",
                "put",
                "k",
                "v",
                "--metadata",
                "{",
                kv[0],
                kv[1],
            ],
            &["--metadata is not JSON"],
        ),
        (
            &["kv", "key", "put", "k", "--path", "missing", kv[0], kv[1]],
            &["cannot read missing"],
        ),
        (
            &["kv", "bulk", "put", "bad.json", kv[0], kv[1]],
            &["bad.json is not JSON", "line 1"],
        ),
        (
            &["kv", "bulk", "put", "object.json", kv[0], kv[1]],
            &["object.json must hold a JSON array"],
        ),
        (
            &["kv", "bulk", "put", "nokey.json", kv[0], kv[1]],
            &["nokey.json", "key"],
        ),
        (
            &["kv", "bulk", "get", "numbers.json", kv[0], kv[1]],
            &["numbers.json", "entry 1"],
        ),
        (
            &["kv", "bulk", "delete", "missing.json", kv[0], kv[1]],
            &["cannot read missing.json"],
        ),
        (
            &["r2", "object", "put", "no-slash", "--file", "bad.json"],
            &["no-slash", "bucket/key"],
        ),
        (
            &["r2", "object", "put", "it-bucket/o", "--file", "missing"],
            &["cannot read missing"],
        ),
        (
            &["r2", "object", "get", "it-bucket/nope", "--pipe"],
            &["does not exist"],
        ),
        (
            &["r2", "object", "get", "NO_BUCKET/nope", "--pipe"],
            &["NO_BUCKET"],
        ),
    ];
    for (arguments, parts) in cases {
        let said = run(&project, arguments).refused();
        for part in *parts {
            assert!(
                said.contains(part),
                "{arguments:?} said {said:?}, without {part:?}"
            );
        }
    }
    // Nothing of it was stored.
    assert_eq!(
        run(&project, &["kv", "key", "list", kv[0], kv[1]])
            .ok()
            .json(),
        json!([])
    );
}

#[test]
fn a_server_is_refused_as_long_as_there_is_none() {
    let project = project(&[]);
    for arguments in [
        &[
            "d1",
            "execute",
            "it-db",
            "--command",
            "SELECT 1",
            "--remote",
        ][..],
        &["kv", "key", "list", "--binding", "KV", "--remote"],
        &["r2", "bucket", "list", "--remote"],
    ] {
        let output = engawa(program())
            .args(arguments)
            .current_dir(project.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.contains("--local") && output.stdout.is_empty(),
            "{said}"
        );
    }
    assert!(
        !project.path().join(".engawa").exists(),
        "nothing was begun"
    );
}

#[test]
fn the_project_is_found_from_below_and_by_cwd() {
    let project = project(&[("sub/dir/k.txt", "value")]);
    // wrangler: --cwd is where everything begins, relative files too
    let put = [
        "kv",
        "key",
        "put",
        "k",
        "--path",
        "k.txt",
        "--binding",
        "KV",
    ];
    let sub = project.path().join("sub/dir");
    let output = command(
        Path::new("/"),
        &[&put[..], &["--cwd", sub.to_str().unwrap()]].concat(),
    )
    .output()
    .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(
        run(&project, &["kv", "key", "get", "k", "--binding", "KV"])
            .ok()
            .text(),
        "value"
    );
    assert!(!sub.join(".engawa").exists());
}
