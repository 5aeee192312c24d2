//! `engawa d1 … --local`: migrations, SQL, exports.

use serde_json::json;

use super::{run, sql, with_copy};
use crate::{project, start};

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
