//! Import, export, dump.

use super::*;

async fn import(world: &World, sql: &str) -> Result<D1Import, Error> {
    let imported = world
        .d1
        .import(&world.account, &world.database, sql.to_owned())
        .await?;
    Ok(imported.value)
}

async fn export(world: &World, options: D1ExportOptions) -> Result<String, Error> {
    let text = world
        .d1
        .export(&world.account, &world.database, options)
        .await?;
    Ok(text.value)
}

// storage.md 2.11, 2.13: prepare's tails understand triggers, CASE and comments.
#[tokio::test]
async fn an_import_splits_statements_as_sqlite_does() {
    let world = World::new();
    let text = "-- Migration\r\n\
        CREATE TABLE t (a TEXT DEFAULT 'x;y', b);\r\n\
        CREATE TRIGGER g AFTER INSERT ON t BEGIN\n\
          UPDATE t SET b = CASE WHEN new.a = 'a' THEN 1 ELSE 2 END WHERE rowid = new.rowid;\n\
          SELECT 1;\n\
        END;\n\
        /* ; */ INSERT INTO t (a) VALUES ('a'), ('b'); ;\n\
        -- the end";
    let imported = import(&world, text).await.unwrap();
    assert_eq!(imported.statements, 3);
    assert!(imported.rows_written >= 2 + 2 + 2);
    assert_eq!(
        world.rows("SELECT a, b FROM t").await,
        json!([["a", 1], ["b", 2]])
    );
    // Each statement is bound by the limit, not the text.
    let many = "INSERT INTO t (a) VALUES ('c');\n".repeat(10_000);
    assert!(many.len() > 100_000);
    assert_eq!(import(&world, &many).await.unwrap().statements, 10_000);
    assert_eq!(import(&world, "").await.unwrap().statements, 0);
}

#[tokio::test]
async fn an_import_is_all_or_nothing() {
    let world = World::new();
    let error = import(
        &world,
        "CREATE TABLE t (a); INSERT INTO t VALUES (1); SELECT nope;",
    )
    .await
    .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Sql);
    assert!(
        error.message().starts_with("no such column: nope"),
        "{error}"
    );
    assert_eq!(
        world.rows("SELECT count(*) FROM sqlite_master").await,
        json!([[0]])
    );
    for (sql, start) in [
        ("SELECT ?", "Wrong number of parameter bindings"),
        ("SELECT 1; BEGIN; COMMIT;", "To execute a transaction"),
        ("PRAGMA journal_mode = DELETE", "not authorized"),
        ("SELECT 1 \0", "the SQL text contains a zero byte"),
    ] {
        let error = import(&world, sql).await.unwrap_err();
        assert!(error.message().starts_with(start), "{error}");
    }
}

// sdk: packages/miniflare/src/workers/d1/dumpSql.ts
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
             (9e999), ('it''s \\n' || char(10) || char(13) || 'é'), (x'00ff'), ('')",
        )
        .await;
    world
        .ok("INSERT INTO w (k, v) VALUES ('k', 'v'); DELETE FROM \"a b\" WHERE id = 1")
        .await;
    let text = export(&world, D1ExportOptions::default()).await.unwrap();
    assert!(
        text.starts_with("PRAGMA defer_foreign_keys=TRUE;\nCREATE TABLE IF NOT EXISTS \"a b\""),
        "{text}"
    );
    assert!(
        text.contains("INSERT INTO \"w\" (\"k\",\"v\") VALUES('k','v');\n"),
        "{text}"
    );
    assert!(text.contains("DELETE FROM sqlite_sequence;\n"), "{text}");
    assert!(
        text.contains("VALUES(7,'');") || text.contains("VALUES(8,'');"),
        "{text}"
    );
    let mut copy = World::new();
    copy.database = DatabaseId::new("copy");
    import(&copy, &text).await.unwrap();
    for sql in [
        "SELECT id, \"c\"\"d\", typeof(\"c\"\"d\"), hex(\"c\"\"d\") FROM \"a b\" ORDER BY id",
        "SELECT * FROM x",
        "SELECT * FROM sqlite_sequence",
        "SELECT type, name FROM sqlite_master ORDER BY 1, 2",
    ] {
        assert_eq!(copy.rows(sql).await, world.rows(sql).await, "{sql}");
    }
    assert_eq!(
        export(&copy, D1ExportOptions::default()).await.unwrap(),
        text
    );
}

// storage.md 2.11
#[tokio::test]
async fn an_export_can_be_filtered_and_refuses_virtual_tables() {
    let world = World::new();
    world
        .ok(
            "CREATE TABLE t (a); CREATE TABLE u (b); CREATE INDEX i ON t (a); \
             INSERT INTO t VALUES (1); INSERT INTO u VALUES (2)",
        )
        .await;
    let only = |no_schema, no_data, tables: &[&str]| D1ExportOptions {
        no_schema,
        no_data,
        tables: tables.iter().map(|name| (*name).to_owned()).collect(),
    };
    let first = "PRAGMA defer_foreign_keys=TRUE;\n";
    for (options, rest) in [
        (
            only(false, true, &[]),
            "CREATE TABLE t (a);\nCREATE TABLE u (b);\nCREATE INDEX i ON t (a);\n",
        ),
        (
            only(true, false, &[]),
            "INSERT INTO \"t\" (\"a\") VALUES(1);\nINSERT INTO \"u\" (\"b\") VALUES(2);\n",
        ),
        (
            only(false, false, &["u"]),
            "CREATE TABLE u (b);\nINSERT INTO \"u\" (\"b\") VALUES(2);\n",
        ),
    ] {
        assert_eq!(
            export(&world, options).await.unwrap(),
            format!("{first}{rest}")
        );
    }
    world.ok("CREATE VIRTUAL TABLE f USING fts5(a)").await;
    let error = export(&world, D1ExportOptions::default())
        .await
        .unwrap_err();
    assert_eq!(
        error.message(),
        "D1 Export error: cannot export databases with Virtual Tables (fts5)"
    );
    export(&world, only(false, false, &["t", "u"]))
        .await
        .unwrap();
}

#[tokio::test]
async fn dump_is_refused_with_a_way_out() {
    let error = World::new().d1.dump();
    assert!(error.message().contains("d1 export"), "{error}");
}

// storage.md 2.13: `POST …/query {sql}` gives a result for each statement of its text.
#[tokio::test]
async fn each_statement_of_a_text_has_its_result() {
    let world = World::new();
    let each = async |sql: &str, params: Vec<D1Value>| {
        let text = vec![D1Statement::with(sql, params)];
        let options = D1QueryOptions {
            format: D1Format::RowsAndColumns,
            session: None,
        };
        let answer = world
            .d1
            .query_each(&world.account, &world.database, text, options)
            .await?;
        let results = answer.value.results;
        Ok::<_, Error>(results.iter().map(rows).collect::<Vec<_>>())
    };
    let text = "CREATE TABLE t (a); -- one\n\
        CREATE TRIGGER g AFTER INSERT ON t WHEN new.a = 1 BEGIN INSERT INTO t VALUES (';'); END;\n\
        INSERT INTO t VALUES (1); SELECT a FROM t; SELECT ? -- the end\n;\n-- after";
    let results = each(text, vec![D1Value::Real(7.0)]).await.unwrap();
    assert_eq!(
        results,
        [
            json!([]),
            json!([]),
            json!([]),
            json!([[1], [";"]]),
            json!([[7]])
        ]
    );
    for (sql, start) in [
        (
            "SELECT ?; SELECT 1",
            "When executing multiple SQL statements",
        ),
        ("DELETE FROM t; BEGIN", "To execute a transaction"),
        ("DELETE FROM t; SELECT nope", "no such column: nope"),
        (" -- nothing", "No SQL statements detected."),
    ] {
        let error = each(sql, Vec::new()).await.unwrap_err();
        assert!(error.message().starts_with(start), "{sql}: {error}");
    }
    // One transaction.
    assert_eq!(
        each("SELECT count(*) FROM t", Vec::new()).await.unwrap(),
        [json!([[2]])]
    );
}
