//! Export, and what comes of it when it is imported.

use proptest::prelude::*;

use super::*;

/// Everything, into a new database; what that gives is the same text again.
async fn round_trip(world: &World) -> (String, World) {
    let mut copy = World::new();
    copy.database = DatabaseId::new("copy");
    (copy_into(world, &copy).await, copy)
}

/// The same into a database that has no tables.
async fn copy_into(world: &World, copy: &World) -> String {
    let text = world.export(D1ExportOptions::default()).await.unwrap();
    if let Err(error) = copy.import(&text).await {
        panic!("{error}:\n{text}");
    }
    let again = copy.export(D1ExportOptions::default()).await.unwrap();
    assert!(again == text, "first:\n{text}\nagain:\n{again}");
    text
}

async fn assert_same(world: &World, copy: &World, queries: &[&str]) {
    for sql in queries {
        let original = world.rows(sql).await;
        assert_ne!(original, json!([]), "{sql}");
        assert_eq!(copy.rows(sql).await, original, "{sql}");
    }
}

fn only(no_schema: bool, no_data: bool, tables: &[&str]) -> D1ExportOptions {
    D1ExportOptions {
        no_schema,
        no_data,
        tables: tables.iter().map(|name| (*name).to_owned()).collect(),
    }
}

// miniflare: src/workers/d1/dumpSql.ts
#[tokio::test]
async fn an_export_is_read_back_as_the_same_database() {
    let world = World::new();
    world
        .ok(
            "CREATE TABLE \"a b\" (id INTEGER PRIMARY KEY AUTOINCREMENT, \"c\"\"d\"); \
             CREATE TABLE w (k TEXT PRIMARY KEY, v, g AS (v || '!')) WITHOUT ROWID; \
             CREATE INDEX i ON w (v); \
             CREATE VIEW x AS SELECT * FROM w; \
             CREATE TRIGGER y AFTER DELETE ON w BEGIN DELETE FROM \"a b\"; END",
        )
        .await;
    world
        .ok(
            "INSERT INTO \"a b\" (\"c\"\"d\") VALUES (NULL), (9223372036854775807), (1.0), (0.1), \
             (9e999), ('it''s \\n' || char(10) || char(13) || 'é'), (x'00ff'), (''), \
             (-9223372036854775807 - 1), (-9e999), ('nul' || char(0) || 'behind'), \
             (CAST(x'ff27' AS TEXT))",
        )
        .await;
    world
        .ok("INSERT INTO w (k, v) VALUES ('z', 1), ('k', 'v'); DELETE FROM \"a b\" WHERE id = 1")
        .await;
    let (text, copy) = round_trip(&world).await;
    assert!(
        text.starts_with("PRAGMA defer_foreign_keys=TRUE;\nCREATE TABLE IF NOT EXISTS \"a b\""),
        "{text}"
    );
    let row = "INSERT INTO \"w\" (\"k\",\"v\") VALUES('k','v');\n";
    assert!(text.contains(row), "{text}");
    assert!(text.contains("DELETE FROM sqlite_sequence;\n"), "{text}");
    let id = "VALUES(8,'');";
    assert!(text.contains(id), "{text}");
    let line_break = "replace(replace('it''s \\n(\\n0)\\ré','\\r',char(13)),'(\\n0)',char(10))";
    assert!(text.contains(line_break), "{text}");
    let queries = [
        "SELECT id, typeof(\"c\"\"d\"), hex(\"c\"\"d\"), \"c\"\"d\" = 0.1 FROM \"a b\" ORDER BY id",
        "SELECT * FROM x",
        "SELECT * FROM sqlite_sequence",
        "SELECT type, name, sql FROM sqlite_master WHERE name <> 'a b' ORDER BY 1, 2",
    ];
    assert_same(&world, &copy, &queries).await;
}

// workerd#2471, workers-sdk#5683: with rows between the tables such a file is "no such table".
#[tokio::test]
async fn every_order_of_definitions_can_be_imported() {
    let world = World::new();
    world
        .ok(
            "CREATE TABLE child (p REFERENCES parent (id) ON DELETE CASCADE); \
             CREATE TABLE parent (id INTEGER PRIMARY KEY, self REFERENCES parent (id)); \
             CREATE TABLE log (line); \
             CREATE TRIGGER first AFTER INSERT ON parent BEGIN INSERT INTO log VALUES (new.id); END; \
             CREATE VIEW v AS SELECT * FROM u; CREATE VIEW u AS SELECT id FROM parent; \
             CREATE TRIGGER onto INSTEAD OF INSERT ON v BEGIN INSERT INTO parent VALUES (new.id, 1); END",
        )
        .await;
    world
        .ok("PRAGMA defer_foreign_keys = ON; INSERT INTO parent VALUES (2, 1), (1, 2); INSERT INTO child VALUES (1)")
        .await;
    // A comment behind a definition belongs to it, and must not swallow what follows.
    world.ok("CREATE VIEW last AS SELECT 1 -- the end").await;
    world.ok("CREATE VIEW open AS SELECT 2 /* the end").await;
    let (_, copy) = round_trip(&world).await;
    let queries = [
        "SELECT * FROM child, parent ORDER BY 1, 2",
        "SELECT count(*) FROM log",
        "SELECT * FROM last, open",
    ];
    assert_same(&world, &copy, &queries).await;
    copy.ok("INSERT INTO v VALUES (3)").await;
    assert_eq!(copy.rows("SELECT count(*) FROM log").await, json!([[3]]));
}

// Here Cloudflare refuses: "cannot export databases with Virtual Tables (fts5)".
#[tokio::test]
async fn full_text_tables_are_filled_or_rebuilt() {
    let world = World::new();
    world
        .ok(
            "CREATE TABLE messages (id INTEGER PRIMARY KEY, content TEXT NOT NULL, \"from\" TEXT); \
             CREATE VIRTUAL TABLE own USING fts5(title, \"the body\", secret UNINDEXED, \
               tokenize = \"unicode61 remove_diacritics 2 tokenchars '-'\", prefix='2 3'); \
             CREATE VIRTUAL TABLE outer_ USING fts5(content, content='messages', content_rowid='id', \
               tokenize='porter unicode61'); \
             CREATE TRIGGER ai AFTER INSERT ON messages BEGIN \
               INSERT INTO outer_(rowid, content) VALUES (new.id, new.content); \
               INSERT INTO own(rowid, title) VALUES (new.id + 100, new.content); END; \
             CREATE VIRTUAL TABLE words USING fts5vocab('own', 'row')",
        )
        .await;
    // A view may be the content, too; it is created behind the table.
    world
        .ok(
            "CREATE VIRTUAL TABLE letters USING fts5(text, content='of_messages', tokenize='trigram'); \
             CREATE VIEW of_messages AS SELECT id AS rowid, content AS text FROM messages",
        )
        .await;
    world
        .ok("INSERT INTO messages (content) VALUES ('Good morning, Zürich'), ('it''s night; sleeping'), ('')")
        .await;
    world
        .ok("INSERT INTO letters(letters) VALUES ('rebuild')")
        .await;
    world
        .ok(
            "INSERT INTO own(rowid, title, \"the body\", secret) VALUES \
             (-5, 'half-time', NULL, 'kept'), (9000000000, 'Ünïcode\u{1F648}', 'two' || char(10) || 'lines', x'00')",
        )
        .await;
    world
        .ok("INSERT INTO own(own, rank) VALUES ('rank', 'bm25(10.0, 5.0)'), ('automerge', 8)")
        .await;
    let (text, copy) = round_trip(&world).await;
    for part in [
        "CREATE VIRTUAL TABLE own USING fts5(",
        "INSERT INTO \"own\"(\"own\", rank) VALUES('rank','bm25(10.0, 5.0)');\n",
        "INSERT INTO \"own\" (rowid,\"title\",\"the body\",\"secret\") VALUES(-5,'half-time',NULL,'kept');\n",
        "INSERT INTO \"outer_\"(\"outer_\") VALUES('rebuild');\n",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    for part in ["own_data", "own_content", "outer__idx", "own_config"] {
        assert!(!text.contains(part), "{part}\n{text}");
    }
    let queries = [
        "SELECT rowid, * FROM own ORDER BY rowid",
        "SELECT rowid FROM own WHERE own MATCH '\"half-time\" OR good' ORDER BY rank",
        "SELECT rowid FROM own WHERE own MATCH 'uni*'",
        "SELECT rowid FROM outer_ WHERE outer_ MATCH 'sleep'",
        "SELECT rowid FROM letters WHERE letters MATCH 'ürich'",
        "SELECT * FROM words ORDER BY term",
        "SELECT name FROM sqlite_master ORDER BY name",
    ];
    assert_same(&world, &copy, &queries).await;
    for table in ["own", "outer_", "letters"] {
        copy.ok(&format!(
            "INSERT INTO {table}({table}) VALUES ('integrity-check')"
        ))
        .await;
    }
    // The triggers act on what comes now, once.
    copy.ok("INSERT INTO messages (content) VALUES ('a new one')")
        .await;
    let found = copy
        .rows("SELECT rowid FROM outer_ WHERE outer_ MATCH 'new'")
        .await;
    assert_eq!(found, json!([[4]]));
}

#[tokio::test]
async fn full_text_tables_without_content_are_filled_with_their_words() {
    let world = World::new();
    world
        .ok(
            "CREATE VIRTUAL TABLE c USING fts5(a, b, content='', contentless_delete=1); \
             CREATE VIRTUAL TABLE t USING fts5(a, content='', tokenize='trigram'); \
             CREATE VIRTUAL TABLE u USING fts5(a, b UNINDEXED, content='', contentless_unindexed=1); \
             CREATE VIRTUAL TABLE empty USING fts5(a, content='', tokenize='porter')",
        )
        .await;
    world
        .ok(
            "INSERT INTO c(rowid, a, b) VALUES (3, 'Good morning, good Zürich', 'it''s night'), \
             (7, NULL, ''), (1, 'gone', 'gone'), (900, 'the good night', 'a b c a b'); \
             DELETE FROM c WHERE rowid = 1",
        )
        .await;
    world
        .ok("INSERT INTO t(rowid, a) VALUES (1, 'Hello, Wörld'), (2, 'ab'), (3, 'it''s')")
        .await;
    world
        .ok("INSERT INTO u(rowid, a, b) VALUES (1, 'one two', 'kept as it Is'), (2, 'three', NULL)")
        .await;
    let (text, copy) = round_trip(&world).await;
    let row = "VALUES(3,'good morning good zurich','it s night');\n";
    assert!(text.contains(row), "{text}");
    let queries = [
        "SELECT rowid FROM c ORDER BY rowid",
        "SELECT rowid, rank FROM c WHERE c MATCH '\"good night\" OR b:night' ORDER BY rank",
        "SELECT rowid FROM c WHERE c MATCH '\"b c a\"'",
        "SELECT rowid FROM t WHERE t MATCH '\"LO, W\"'",
        "SELECT rowid FROM t ORDER BY rowid",
        "SELECT rowid, b FROM u ORDER BY rowid",
    ];
    assert_same(&world, &copy, &queries).await;
    let gone = "SELECT count(*) FROM c WHERE c MATCH 'gone'";
    assert_eq!(copy.rows(gone).await, json!([[0]]));
    // Nothing of the work stays on the connection that did it.
    let temporary = "SELECT name FROM pragma_table_list WHERE schema = 'temp'";
    let names = world.rows(temporary).await;
    assert!(!names.to_string().contains("engawa"), "{names}");
}

#[tokio::test]
async fn what_cannot_be_written_is_refused_by_name() {
    for (options, words) in [
        ("tokenize='porter'", "'running'"),
        ("detail=column", "'two words'"),
        ("columnsize=0", "'two words'"),
    ] {
        let world = World::new();
        world
            .ok(&format!(
                "CREATE TABLE t (a); CREATE VIRTUAL TABLE \"my words\" USING fts5(a, content='', {options}); \
                 INSERT INTO \"my words\"(rowid, a) VALUES (1, {words})"
            ))
            .await;
        let error = world.export(D1ExportOptions::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Sql);
        let start =
            "D1 Export error: cannot export the virtual table \"my words\": it has no content";
        assert!(error.message().starts_with(start), "{error}");
        world.export(only(false, true, &[])).await.unwrap();
        world.export(only(false, false, &["t"])).await.unwrap();
    }
}

#[tokio::test]
async fn an_rtree_is_written_with_its_rows() {
    let world = World::new();
    world
        .ok(
            "CREATE VIRTUAL TABLE r USING rtree(id, x0, x1, +label TEXT); \
             CREATE VIRTUAL TABLE whole USING rtree_i32(id, x0, x1)",
        )
        .await;
    world
        .ok(
            "INSERT INTO r WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300) \
             SELECT 1000 - i, i * 0.1, i * 0.1 + 1.7, 'label ' || i FROM n; \
             INSERT INTO whole VALUES (2, -3, 4), (1, 7, 7)",
        )
        .await;
    let (_, copy) = round_trip(&world).await;
    let queries = [
        "SELECT count(*), sum(x0), max(label) FROM r",
        "SELECT id, label FROM r WHERE x0 > 10.05 AND x1 < 12.5 ORDER BY id",
        "SELECT * FROM whole ORDER BY id",
    ];
    assert_same(&world, &copy, &queries).await;
}

// storage.md 2.11
#[tokio::test]
async fn an_export_can_be_filtered() {
    let world = World::new();
    world
        .ok(
            "CREATE TABLE t (a); CREATE TABLE u (id INTEGER PRIMARY KEY AUTOINCREMENT); \
             CREATE INDEX i ON t (a); CREATE VIRTUAL TABLE f USING fts5(b); \
             INSERT INTO t VALUES (1); INSERT INTO u VALUES (2); INSERT INTO f VALUES ('c')",
        )
        .await;
    let first = "PRAGMA defer_foreign_keys=TRUE;\n";
    for (options, rest) in [
        (
            only(false, true, &[]),
            "CREATE TABLE t (a);\nCREATE TABLE u (id INTEGER PRIMARY KEY AUTOINCREMENT);\n\
             CREATE VIRTUAL TABLE f USING fts5(b);\nCREATE INDEX i ON t (a);\n",
        ),
        (
            only(true, false, &[]),
            "INSERT INTO \"t\" (\"a\") VALUES(1);\nINSERT INTO \"u\" (\"id\") VALUES(2);\n\
             INSERT INTO \"f\" (rowid,\"b\") VALUES(1,'c');\nDELETE FROM sqlite_sequence;\n\
             INSERT INTO \"sqlite_sequence\" (\"name\",\"seq\") VALUES('u',2);\n",
        ),
        (
            only(false, false, &["f"]),
            "CREATE VIRTUAL TABLE f USING fts5(b);\nINSERT INTO \"f\" (rowid,\"b\") VALUES(1,'c');\n",
        ),
        // As on D1, a table's name does not mean its indexes.
        (
            only(false, false, &["t", "f_data"]),
            "CREATE TABLE t (a);\nINSERT INTO \"t\" (\"a\") VALUES(1);\n",
        ),
        (only(false, true, &["i"]), "CREATE INDEX i ON t (a);\n"),
    ] {
        assert_eq!(
            world.export(options).await.unwrap(),
            format!("{first}{rest}")
        );
    }
    // Definitions and rows apart make the same database.
    let copy = World::new();
    for options in [only(false, true, &[]), only(true, false, &[])] {
        copy.import(&world.export(options).await.unwrap())
            .await
            .unwrap();
    }
    let (ours, theirs) = (
        world.export(only(false, false, &[])),
        copy.export(only(false, false, &[])),
    );
    assert_eq!(ours.await.unwrap(), theirs.await.unwrap());
}

// storage.md 2.1: 2,000,000 bytes; a statement that spells such a value is longer than a query's
// 100 KB.
#[tokio::test]
async fn the_largest_values_come_back() {
    let world = World::new();
    world.ok("CREATE TABLE t (id INTEGER PRIMARY KEY, v)").await;
    let room = 1_999_980;
    for value in [
        D1Value::Blob(vec![0xAB; room]),
        D1Value::Text("\n".repeat(room)),
        D1Value::Text("é\u{0}".repeat(room / 3)),
        D1Value::Text("\\n\n(\\n0)\r".repeat(room / 9)),
    ] {
        let insert = "INSERT INTO t (v) VALUES (?)";
        world.run(insert, vec![value]).await.unwrap();
    }
    let text = world.export(D1ExportOptions::default()).await.unwrap();
    let copy = World::new();
    copy.import(&text).await.unwrap();
    let again = copy.export(D1ExportOptions::default()).await.unwrap();
    assert!(again == text, "the same text again");
    for id in 1..=4 {
        let ask = format!("SELECT typeof(v), length(v) FROM t WHERE id = {id}");
        assert!(world.rows(&ask).await == copy.rows(&ask).await, "{id}");
    }
}

// D1's own statistics table is not that of this SQLite: only what both have is written.
#[tokio::test]
async fn statistics_are_written() {
    let world = World::new();
    world
        .ok("CREATE TABLE t (a); CREATE INDEX i ON t (a); INSERT INTO t VALUES (1), (2); ANALYZE")
        .await;
    let (text, copy) = round_trip(&world).await;
    assert!(!text.contains("sqlite_stat4"), "{text}");
    assert_same(&world, &copy, &["SELECT * FROM sqlite_stat1"]).await;
}

#[tokio::test]
async fn an_export_that_nobody_waits_for_ends() {
    let world = World::new();
    world
        .ok(
            "CREATE TABLE t AS WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) \
             SELECT i, hex(zeroblob(50)) AS x FROM n",
        )
        .await;
    let job = Arc::new(D1Job::default());
    job.given_up.store(true, Ordering::Relaxed);
    let options = D1ExportOptions::default();
    let export = world
        .d1
        .export(&world.account, &world.database, options, &job);
    let error = export.await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    let script = world.scratch(b"INSERT INTO t VALUES (0, '')");
    let import = world
        .d1
        .import(&world.account, &world.database, script, &job);
    assert_eq!(import.await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(world.rows("SELECT count(*) FROM t").await, json!([[20000]]));
}

fn value() -> impl Strategy<Value = D1Value> {
    prop_oneof![
        Just(D1Value::Null),
        any::<i64>().prop_map(D1Value::Integer),
        any::<f64>().prop_map(D1Value::Real),
        any::<String>().prop_map(D1Value::Text),
        "['\\\\n\r\n();-]{0,12}".prop_map(D1Value::Text),
        any::<Vec<u8>>().prop_map(D1Value::Blob),
    ]
}

// Any value in a column of any affinity.
#[test]
fn any_values_come_back_from_an_export() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let cases = if std::env::var_os("ENGAWA_TEST_FULL").is_some() {
        500
    } else {
        24
    };
    let row = proptest::collection::vec(value(), 6);
    let table = proptest::collection::vec(row, 0..12);
    // Worlds cost more than cases.
    let (world, copy) = runtime.block_on(async { (World::new(), World::new()) });
    proptest!(ProptestConfig::with_cases(cases), |(rows in table)| {
        runtime.block_on(async {
            for either in [&world, &copy] {
                either.ok("DROP TABLE IF EXISTS t; DROP TABLE IF EXISTS f").await;
            }
            world
                .ok(
                    "CREATE TABLE t (a, i INTEGER, r REAL, s TEXT, n NUMERIC, b BLOB); \
                     CREATE VIRTUAL TABLE f USING fts5(x, y)",
                )
                .await;
            let statements = rows
                .iter()
                .flat_map(|row| {
                    let plain = "INSERT INTO t VALUES (?, ?, ?, ?, ?, ?)";
                    let text = "INSERT INTO f VALUES (?, ?)";
                    [
                        D1Statement::with(plain, row.clone()),
                        D1Statement::with(text, row[..2].to_vec()),
                    ]
                })
                .chain([D1Statement::new("SELECT 1")])
                .collect();
            world.query(statements).await.unwrap();
            copy_into(&world, &copy).await;
            let every = ["a", "i", "r", "s", "n", "b"]
                .map(|name| format!("quote({name}), typeof({name}), hex({name})"))
                .join(", ");
            for sql in [
                format!("SELECT {every} FROM t ORDER BY rowid"),
                "SELECT rowid, quote(x), quote(y) FROM f ORDER BY rowid".to_owned(),
            ] {
                assert_eq!(copy.rows(&sql).await, world.rows(&sql).await);
            }
        });
    });
}
