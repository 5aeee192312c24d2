//! What SQL may do, how its errors read, and what stays between requests.

use super::*;

// storage.md 2.5; workerd: util/sqlite.c++ `dbErrorMessage`
#[tokio::test]
async fn errors_read_as_on_d1() {
    let world = World::new();
    world
        .ok("CREATE TABLE t (a INTEGER PRIMARY KEY, b UNIQUE, c CHECK (c > 0), d NOT NULL DEFAULT 1)")
        .await;
    world.ok("INSERT INTO t VALUES (1, 1, 1, 1)").await;
    for (sql, text) in [
        ("SELECT * FROM nope", "no such table: nope: SQLITE_ERROR"),
        (
            "PUT 1",
            "near \"PUT\": syntax error at offset 0: SQLITE_ERROR",
        ),
        ("SELECT (1", "incomplete input: SQLITE_ERROR"),
        (
            "INSERT INTO t (b) VALUES (1)",
            "UNIQUE constraint failed: t.b: SQLITE_CONSTRAINT (extended: SQLITE_CONSTRAINT_UNIQUE)",
        ),
        (
            "INSERT INTO t (a) VALUES (1)",
            "UNIQUE constraint failed: t.a: SQLITE_CONSTRAINT (extended: SQLITE_CONSTRAINT_PRIMARYKEY)",
        ),
        (
            "INSERT INTO t (c) VALUES (-1)",
            "CHECK constraint failed: c > 0: SQLITE_CONSTRAINT (extended: SQLITE_CONSTRAINT_CHECK)",
        ),
        (
            "INSERT INTO t (d) VALUES (NULL)",
            "NOT NULL constraint failed: t.d: SQLITE_CONSTRAINT (extended: SQLITE_CONSTRAINT_NOTNULL)",
        ),
        (
            "INSERT INTO t (a) VALUES ('x')",
            "datatype mismatch: SQLITE_MISMATCH",
        ),
    ] {
        assert_eq!(world.error(sql).await, text, "{sql}");
    }
}

// workerd: api/sql.c++; storage.md 2.2
#[tokio::test]
async fn transaction_statements_are_refused_with_their_own_text() {
    let world = World::new();
    for sql in [
        "BEGIN",
        "BEGIN TRANSACTION; SELECT 1; COMMIT",
        "COMMIT",
        "END",
        "ROLLBACK",
        "SAVEPOINT s",
        "RELEASE s",
        "ROLLBACK TO s",
    ] {
        let text = world.error(sql).await;
        assert!(
            text.starts_with(
                "To execute a transaction, please use the state.storage.transaction()"
            ),
            "{sql}: {text}"
        );
        assert!(
            text.ends_with("automatic atomic write coalescing."),
            "{sql}: {text}"
        );
    }
    // The words are not looked for in the text.
    assert_eq!(
        world.rows("SELECT 'BEGIN; COMMIT'").await,
        json!([["BEGIN; COMMIT"]])
    );
    assert_eq!(
        world.error("INSERT INTO t VALUES ('BEGIN')").await,
        "no such table: t: SQLITE_ERROR"
    );
}

// storage.md 2.2
#[tokio::test]
async fn what_reaches_out_of_the_database_is_not_authorized() {
    let world = World::new();
    world.ok("CREATE TABLE t (a)").await;
    for sql in [
        "ATTACH 'x.db' AS x",
        "DETACH main",
        "VACUUM",
        "VACUUM INTO '/tmp/x'",
        "CREATE TEMP TABLE x (a)",
        "CREATE TEMP VIEW x AS SELECT 1",
        "CREATE TEMP TRIGGER x AFTER INSERT ON t BEGIN SELECT 1; END",
        "CREATE VIRTUAL TABLE x USING dbstat",
        "CREATE VIRTUAL TABLE x USING fts3(a)",
        "PRAGMA journal_mode",
        "PRAGMA journal_mode = DELETE",
        "PRAGMA user_version",
        "PRAGMA synchronous = OFF",
        "PRAGMA writable_schema = ON",
        "PRAGMA integrity_check",
        "PRAGMA compile_options",
        "PRAGMA max_page_count",
        "PRAGMA wal_checkpoint",
        "PRAGMA query_only = OFF",
        "PRAGMA page_size = 8192",
        "PRAGMA foreign_keys = 7",
        "PRAGMA table_info(_cf_KV)",
    ] {
        let text = world.error(sql).await;
        assert_eq!(text, "not authorized: SQLITE_AUTH", "{sql}");
    }
}

// workerd: util/sqlite.c++ `ALLOWED_SQLITE_FUNCTIONS`; storage.md 2.2
#[tokio::test]
async fn functions_are_allowed_by_name() {
    let world = World::new();
    assert_eq!(
        world.error("SELECT sqlite_version()").await,
        "not authorized to use function: sqlite_version at offset 7: SQLITE_ERROR"
    );
    for denied in [
        "power(2, 2)",
        "ceiling(1.5)",
        "log10(10)",
        "sqlite_source_id()",
        "sqlite_compileoption_get(1)",
        "json_pretty('{}')",
        "unistr('x')",
    ] {
        let text = world.error(&format!("SELECT {denied}")).await;
        assert!(
            text.starts_with("not authorized to use function: "),
            "{denied}: {text}"
        );
    }
    world
        .ok("CREATE TABLE stamped (at TEXT DEFAULT CURRENT_TIMESTAMP, day TEXT DEFAULT (DATE('now')))")
        .await;
    for allowed in [
        "pow(2, 2)",
        "ceil(1.5)",
        "json_extract('{\"a\":1}', '$.a')",
        "'{\"a\":1}' -> '$.a'",
        "concat_ws(',', 1, 2)",
        "group_concat(1)",
        "row_number() OVER ()",
        "substring('abc', 2)",
        "max(1, 2)",
        "current_timestamp",
        "iif(1, 2, 3)",
        "CAST(1 AS TEXT)",
        "'a' LIKE 'A'",
    ] {
        world.ok(&format!("SELECT {allowed}")).await;
    }
    let text = world.error("SELECT load_extension('x')").await;
    assert!(text.contains("not authorized"), "{text}");
}

// storage.md 2.2: reserved in any case; workerd: patches/sqlite/0004
#[tokio::test]
async fn names_of_cloudflare_are_reserved() {
    let world = World::new();
    world.ok("CREATE TABLE t (a)").await;
    for sql in [
        "CREATE TABLE _cf_KV (a)",
        "CREATE TABLE _CF_x (a)",
        "CREATE VIEW _cf_v AS SELECT 1",
        "CREATE INDEX _cf_i ON t (a)",
        "CREATE TRIGGER _cf_t AFTER INSERT ON t BEGIN SELECT 1; END",
        "CREATE VIRTUAL TABLE _cf_f USING fts5(a)",
        "ALTER TABLE t RENAME TO _cf_t",
        "ALTER TABLE t RENAME TO _Cf_t",
    ] {
        let text = world.error(sql).await;
        assert_eq!(text, "not authorized: SQLITE_AUTH", "{sql}");
    }
    world.ok("ALTER TABLE t RENAME TO u").await;
    world.ok("SELECT a FROM u").await;
}

// storage.md 2.2: such functions are authorised for each row, with the actual argument.
// workerd: a text that was kept after a refused BEGIN has an error of its own.
#[tokio::test]
async fn a_pragma_function_is_authorized_with_its_actual_argument() {
    let world = World::new();
    world.ok("CREATE TABLE names (n)").await;
    let ask = "SELECT i.name FROM names JOIN pragma_table_info(names.n) AS i";
    assert_eq!(world.rows(ask).await, json!([]));
    world.ok("INSERT INTO names VALUES ('names')").await;
    assert_eq!(world.rows(ask).await, json!([["n"]]));
    world.ok("INSERT INTO names VALUES ('_cf_KV')").await;
    for sql in ["BEGIN", "SELECT 1"] {
        let _ = world.run(sql, Vec::new()).await;
        let text = world.error(ask).await;
        assert!(text.contains("not authorized"), "{text}");
    }
}

// storage.md 2.2
#[tokio::test]
async fn what_d1_allows_works() {
    let world = World::new();
    for sql in
        ["CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT, c GENERATED ALWAYS AS (a + 1)) STRICT"]
    {
        // A generated column of a STRICT table has a type.
        world.run(sql, Vec::new()).await.unwrap_err();
    }
    for sql in [
        "CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT, c INTEGER GENERATED ALWAYS AS (a + 1)) STRICT",
        "CREATE TABLE w (a TEXT PRIMARY KEY, b) WITHOUT ROWID",
        "CREATE INDEX i ON t (lower(b)) WHERE b IS NOT NULL",
        "CREATE VIEW v AS SELECT a FROM t",
        "CREATE TRIGGER g AFTER INSERT ON t WHEN CASE new.a WHEN 1 THEN 1 ELSE 0 END BEGIN DELETE FROM w; END",
        "INSERT INTO t (a, b) VALUES (1, 'x') ON CONFLICT (a) DO UPDATE SET b = excluded.b RETURNING *",
        "WITH RECURSIVE n (x) AS (VALUES (1) UNION ALL SELECT x + 1 FROM n WHERE x < 5) SELECT sum(x) OVER () FROM n",
        "WITH n AS (SELECT 2 AS x) INSERT INTO t (a) SELECT x FROM n",
        "CREATE VIRTUAL TABLE f USING fts5(b, content='t', content_rowid='a')",
        "INSERT INTO f (f) VALUES ('rebuild')",
        "SELECT highlight(f, 0, '<', '>'), bm25(f), snippet(f, 0, '', '', '', 3) FROM f WHERE f MATCH 'x' ORDER BY rank",
        "CREATE VIRTUAL TABLE vocab USING FTS5VOCAB('f', 'row')",
        "CREATE VIRTUAL TABLE r USING rtree(id, x0, x1)",
        "INSERT INTO r VALUES (1, 0, 1)",
        "SELECT rtreecheck('r')",
        "ANALYZE",
        "REINDEX",
        "EXPLAIN SELECT 1",
        "EXPLAIN QUERY PLAN SELECT * FROM t",
        "EXPLAIN INSERT INTO t (a) VALUES (9)",
        "ALTER TABLE w ADD COLUMN d",
        "ALTER TABLE w RENAME COLUMN d TO e",
        "ALTER TABLE w DROP COLUMN e",
        "PRAGMA table_list",
        "PRAGMA table_info(t)",
        "PRAGMA table_xinfo('t')",
        "PRAGMA index_list(t)",
        "PRAGMA index_info(i)",
        "PRAGMA index_xinfo(i)",
        "PRAGMA foreign_key_list(t)",
        "PRAGMA foreign_key_check",
        "PRAGMA foreign_key_check(t)",
        "PRAGMA quick_check",
        "PRAGMA quick_check(1)",
        "PRAGMA optimize",
        "PRAGMA optimize(-1)",
        "PRAGMA data_version",
        "PRAGMA page_size",
        "PRAGMA foreign_keys = ON",
        "PRAGMA defer_foreign_keys = 'true'",
        "PRAGMA case_sensitive_like = no",
        "SELECT \"double quoted text\"",
        "SELECT name FROM pragma_table_info('t')",
        "DROP TABLE f",
        "DROP VIEW v",
    ] {
        world.ok(sql).await;
    }
    assert_eq!(
        world.rows("SELECT a FROM t ORDER BY a").await,
        json!([[1], [2]])
    );
}

// docs: d1 sql statements, "defer foreign keys"; storage.md 2.4
#[tokio::test]
async fn foreign_keys_are_on_and_may_be_deferred_within_a_request() {
    let world = World::new();
    world
        .ok("CREATE TABLE p (id INTEGER PRIMARY KEY); \
             CREATE TABLE c (p INTEGER REFERENCES p (id) ON DELETE CASCADE)")
        .await;
    let text =
        "FOREIGN KEY constraint failed: SQLITE_CONSTRAINT (extended: SQLITE_CONSTRAINT_FOREIGNKEY)";
    assert_eq!(world.error("INSERT INTO c VALUES (1)").await, text);
    // Inside of a transaction, which every request is, this does nothing.
    assert_eq!(
        world
            .error("PRAGMA foreign_keys = OFF; INSERT INTO c VALUES (1)")
            .await,
        text
    );
    let batch = [
        "PRAGMA defer_foreign_keys = ON",
        "INSERT INTO c VALUES (1)",
        "INSERT INTO p VALUES (1)",
    ];
    world
        .query(batch.map(D1Statement::new).to_vec())
        .await
        .unwrap();
    // Violated still at the end: the commit fails, and says so.
    let batch = ["PRAGMA defer_foreign_keys = ON", "INSERT INTO c VALUES (7)"];
    let error = world
        .query(batch.map(D1Statement::new).to_vec())
        .await
        .unwrap_err();
    assert_eq!(error.message(), text);
    assert_eq!(world.rows("SELECT * FROM c").await, json!([[1]]));
    // Deferred only in that request.
    assert_eq!(world.error("INSERT INTO c VALUES (8)").await, text);
}

// docs: d1 sql statements: a pragma holds for its own request.
#[tokio::test]
async fn a_pragma_does_not_leak_into_the_next_request() {
    let world = World::new();
    world.ok("CREATE TABLE t (a CHECK (a > 0))").await;
    for (set, ask, normal) in [
        ("case_sensitive_like", "SELECT 'a' LIKE 'A'", json!([[1]])),
        (
            "recursive_triggers",
            "PRAGMA recursive_triggers",
            json!([[0]]),
        ),
        (
            "reverse_unordered_selects",
            "PRAGMA reverse_unordered_selects",
            json!([[0]]),
        ),
        (
            "legacy_alter_table",
            "PRAGMA legacy_alter_table",
            json!([[0]]),
        ),
        (
            "ignore_check_constraints",
            "PRAGMA ignore_check_constraints",
            json!([[0]]),
        ),
    ] {
        world.ok(&format!("PRAGMA {set} = ON")).await;
        let both = [format!("PRAGMA {set} = ON"), ask.to_owned()];
        let inside = world
            .query(both.map(D1Statement::new).to_vec())
            .await
            .unwrap();
        assert_ne!(rows(&inside.results[1]), normal, "{set}");
        assert_eq!(world.rows(ask).await, normal, "{set}");
        // Also on the writer's connection.
        let writer = format!("INSERT INTO t VALUES (1); {ask}");
        assert_eq!(world.rows(&writer).await, normal, "{set}");
    }
    world.error("INSERT INTO t VALUES (-1)").await;
    // Off by a failed request too.
    world
        .error("PRAGMA ignore_check_constraints = ON; SELECT nope")
        .await;
    world.error("INSERT INTO t VALUES (-1)").await;
}

// workerd.md 4.4, storage.md 2.4
#[tokio::test]
async fn texts_without_a_statement_are_told_apart() {
    let world = World::new();
    for sql in ["", "  \n", "-- nothing", "/* nothing */ -- at all\n"] {
        assert_eq!(
            world.error(sql).await,
            "No SQL statements detected.",
            "{sql:?}"
        );
    }
    let error = world.query(Vec::new()).await.unwrap_err();
    assert_eq!(error.message(), "No SQL statements detected.");
    for sql in [";", "SELECT 1; -- after"] {
        assert_eq!(
            world.error(sql).await,
            "SQL code did not contain a statement.",
            "{sql:?}"
        );
    }
    assert_eq!(world.rows("SELECT 1 -- after").await, json!([[1]]));
    assert_eq!(world.rows("-- before\nSELECT 1;\n ").await, json!([[1]]));
    // One that is only a comment is dropped from a batch.
    let batch = ["-- nothing", "SELECT 2"].map(D1Statement::new).to_vec();
    assert_eq!(world.query(batch).await.unwrap().results.len(), 1);
}

// workerd: util/sqlite.c++; storage.md 2.3, 2.4
#[tokio::test]
async fn parameters_belong_to_the_last_statement_and_must_match() {
    let world = World::new();
    world.ok("CREATE TABLE t (a)").await;
    let one = || vec![D1Value::Real(1.0)];
    let message = |result: Result<D1Result, Error>| result.unwrap_err().message().to_owned();
    assert_eq!(
        message(world.run("SELECT ?; SELECT 1", Vec::new()).await),
        "When executing multiple SQL statements in a single call, only the last statement can \
         have parameters."
    );
    let wrong = "Wrong number of parameter bindings for SQL query.";
    assert_eq!(message(world.run("SELECT ?, ?", one()).await), wrong);
    assert_eq!(message(world.run("SELECT 1", one()).await), wrong);
    assert_eq!(message(world.run("SELECT ?", Vec::new()).await), wrong);
    let result = world
        .run("INSERT INTO t VALUES (5); SELECT ?1 + ?1", one())
        .await
        .unwrap();
    assert_eq!(rows(&result), json!([[2]]));
    // A failed call undid nothing of another and left nothing.
    assert_eq!(world.rows("SELECT * FROM t").await, json!([[5]]));
}

// storage.md 2.1; workerd: util/sqlite.c++ `setupSecurity`
#[tokio::test]
async fn limits_are_those_of_d1() {
    let world = World::new();
    world.ok("CREATE TABLE t (a)").await;
    let columns = |count: usize| {
        (0..count)
            .map(|n| format!("c{n}"))
            .collect::<Vec<_>>()
            .join(",")
    };
    let marks = |count: usize| vec!["?"; count].join(",");
    world
        .ok(&format!("CREATE TABLE wide ({})", columns(100)))
        .await;
    let text = world
        .error(&format!("CREATE TABLE wider ({})", columns(101)))
        .await;
    assert!(text.starts_with("too many columns on wider"), "{text}");
    let hundred = vec![D1Value::Null; 100];
    world
        .run(&format!("SELECT {}", marks(100)), hundred)
        .await
        .unwrap();
    let text = world.error(&format!("SELECT max({})", marks(101))).await;
    assert!(
        text.starts_with("too many SQL variables at offset "),
        "{text}"
    );
    assert!(world.error("SELECT ?101").await.ends_with("SQLITE_ERROR"));
    let long = format!("SELECT '{}'", "x".repeat(100_000));
    assert_eq!(
        world.error(&long).await,
        "statement too long: SQLITE_TOOBIG"
    );
    assert_eq!(
        world
            .error(&format!("SELECT 'a' LIKE '{}'", "é".repeat(26)))
            .await,
        "LIKE or GLOB pattern too complex: SQLITE_ERROR"
    );
    world
        .ok(&format!("SELECT 'a' LIKE '{}'", "x".repeat(50)))
        .await;
    let terms = ["SELECT 1"; 6].join(" UNION ALL ");
    let text = world.error(&terms).await;
    assert!(
        text.starts_with("too many terms in compound SELECT"),
        "{text}"
    );
    let text = D1Value::Text("x".repeat(2_000_001));
    let error = world.run("SELECT ?", vec![text]).await.unwrap_err();
    assert_eq!(error.message(), "string or blob too big: SQLITE_TOOBIG");
    world.ok("SELECT length(zeroblob(2000000))").await;
    assert_eq!(
        world.error("SELECT zeroblob(2000001)").await,
        "string or blob too big: SQLITE_TOOBIG"
    );
}

// docs: d1 debug, "Exceeded maximum DB size."
#[tokio::test]
async fn a_database_does_not_grow_past_its_limit() {
    let limits = D1Limits {
        database_bytes: 100 * 4096,
        ..D1Limits::default()
    };
    let world = World::with(limits, FilesOptions::default(), None);
    world.ok("CREATE TABLE t (a)").await;
    world.ok("INSERT INTO t VALUES (zeroblob(200000))").await;
    assert_eq!(
        world.error("INSERT INTO t VALUES (zeroblob(300000))").await,
        "Exceeded maximum DB size."
    );
    assert_eq!(world.rows("SELECT count(*) FROM t").await, json!([[1]]));
    world.ok("INSERT INTO t VALUES (1)").await;
}

// docs: d1 limits, 30 s; d1 debug
#[tokio::test]
async fn a_request_is_interrupted_when_its_time_is_over() {
    let limits = D1Limits {
        query_time: Duration::from_millis(30),
        ..D1Limits::default()
    };
    let world = World::with(limits, FilesOptions::default(), None);
    world.ok("CREATE TABLE t (a)").await;
    let forever = "WITH RECURSIVE n (x) AS (VALUES (1) UNION ALL SELECT x + 1 FROM n) SELECT x FROM n WHERE x < 0";
    let text = "D1 DB storage operation exceeded timeout which caused object to be reset.";
    assert_eq!(world.error(forever).await, text);
    let batch = ["INSERT INTO t VALUES (1)".to_owned(), forever.to_owned()];
    let error = world
        .query(batch.map(D1Statement::new).to_vec())
        .await
        .unwrap_err();
    assert_eq!(error.message(), text);
    assert_eq!(world.rows("SELECT count(*) FROM t").await, json!([[0]]));
}

// workerd.md 4.4: one call, one transaction
#[tokio::test]
async fn a_failure_undoes_the_whole_request() {
    let world = World::new();
    world.ok("CREATE TABLE t (a UNIQUE)").await;
    let batch = [
        "INSERT INTO t VALUES (1)",
        "CREATE TABLE u (a)",
        "INSERT INTO t VALUES (1)",
    ];
    let error = world
        .query(batch.map(D1Statement::new).to_vec())
        .await
        .unwrap_err();
    assert!(error.message().starts_with("UNIQUE constraint failed"));
    for sql in [
        "INSERT INTO t VALUES (2); SELECT nope",
        "INSERT OR ROLLBACK INTO t VALUES (3), (3)",
    ] {
        world.error(sql).await;
    }
    assert_eq!(world.rows("SELECT count(*) FROM t").await, json!([[0]]));
    assert!(
        world
            .error("SELECT * FROM u")
            .await
            .starts_with("no such table: u")
    );
    world
        .ok("CREATE TRIGGER g BEFORE INSERT ON t WHEN new.a = 9 BEGIN SELECT RAISE(ROLLBACK, 'no nines'); END")
        .await;
    let batch = ["INSERT INTO t VALUES (8)", "INSERT INTO t VALUES (9)"];
    let error = world
        .query(batch.map(D1Statement::new).to_vec())
        .await
        .unwrap_err();
    assert_eq!(
        error.message(),
        "no nines: SQLITE_CONSTRAINT (extended: SQLITE_CONSTRAINT_TRIGGER)"
    );
    // The connection is in order afterwards.
    world.ok("INSERT INTO t VALUES (1)").await;
    assert_eq!(world.rows("SELECT a FROM t").await, json!([[1]]));
}

// A statement that was compiled before another changed the schema is compiled anew.
#[tokio::test]
async fn kept_statements_follow_schema_changes() {
    let world = World::new();
    world.ok("CREATE TABLE t (a)").await;
    world.ok("INSERT INTO t VALUES (1)").await;
    for _ in 0..3 {
        assert_eq!(world.rows("SELECT * FROM t").await, json!([[1]]));
    }
    world.ok("ALTER TABLE t ADD COLUMN b DEFAULT 2").await;
    let result = world.ok("SELECT * FROM t").await;
    assert_eq!(
        json_of(&result),
        json!({"columns": ["a", "b"], "rows": [[1, 2]]})
    );
    world.ok("INSERT INTO t VALUES (3, 4)").await;
    world.ok("DROP TABLE t").await;
    assert!(
        world
            .error("SELECT * FROM t")
            .await
            .starts_with("no such table: t")
    );
}

#[test]
fn the_first_word_is_found_behind_comments() {
    for (sql, word) in [
        ("SELECT 1", "SELECT"),
        (" \n\t-- a\n/* b */ -- c\n update t", "update"),
        ("/* open", ""),
        ("-- a", ""),
        ("(SELECT", "("),
        ("é", "é"),
        ("", ""),
    ] {
        assert_eq!(first_word(sql), word, "{sql:?}");
    }
}
