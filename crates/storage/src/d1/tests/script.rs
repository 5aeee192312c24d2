//! Import, and texts of several statements.

use proptest::prelude::*;

use super::*;

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
    let imported = world.import(text).await.unwrap();
    assert_eq!(imported.statements, 3);
    assert!(imported.rows_written >= 2 + 2 + 2);
    assert_eq!(
        world.rows("SELECT a, b FROM t").await,
        json!([["a", 1], ["b", 2]])
    );
    // Each statement is bound by the limit, not the text.
    let many = "INSERT INTO t (a) VALUES ('c');\n".repeat(10_000);
    assert!(many.len() > 100_000);
    assert_eq!(world.import(&many).await.unwrap().statements, 10_000);
    assert_eq!(world.import("").await.unwrap().statements, 0);
}

#[tokio::test]
async fn an_import_is_all_or_nothing() {
    let world = World::new();
    let error = world
        .import("CREATE TABLE t (a); INSERT INTO t VALUES (1); SELECT nope;")
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
        let error = world.import(sql).await.unwrap_err();
        assert!(error.message().starts_with(start), "{error}");
    }
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

// SQLite's own dump, which wrangler takes by trimming it (`trimmer.ts`).
#[tokio::test]
async fn a_dump_of_sqlites_shell_is_taken() {
    let world = World::new();
    let dump = "PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\n\
        CREATE TABLE child (p REFERENCES parent (id));\n\
        INSERT INTO child VALUES(1);\n\
        CREATE TABLE parent (id INTEGER PRIMARY KEY);\n\
        INSERT INTO parent VALUES(1);\nCOMMIT;\n";
    assert_eq!(world.import(dump).await.unwrap().statements, 5);
    let parents = "SELECT count(*) FROM child JOIN parent ON p = id";
    assert_eq!(world.rows(parents).await, json!([[1]]));
    // Foreign keys are on again for everybody else.
    let error = world.error("INSERT INTO child VALUES (7)").await;
    assert!(
        error.starts_with("FOREIGN KEY constraint failed"),
        "{error}"
    );
    let error = world
        .import("INSERT INTO child VALUES (7)")
        .await
        .unwrap_err();
    assert!(error.message().starts_with("FOREIGN KEY"), "{error}");
    // Later in the file it means nothing, as within any transaction.
    let late = "DELETE FROM child; PRAGMA foreign_keys = OFF; INSERT INTO child VALUES (7)";
    let error = world.import(late).await.unwrap_err();
    assert!(error.message().starts_with("FOREIGN KEY"), "{error}");
    for (sql, start) in [
        (
            "BEGIN TRANSACTION; COMMIT; BEGIN TRANSACTION;",
            "The SQL text contains several",
        ),
        ("SELECT 1; COMMIT;", "To execute a transaction"),
        ("BEGIN IMMEDIATE; COMMIT;", "To execute a transaction"),
        (
            "BEGIN TRANSACTION; COMMIT; COMMIT;",
            "To execute a transaction",
        ),
    ] {
        let error = world.import(sql).await.unwrap_err();
        assert!(error.message().starts_with(start), "{sql}: {error}");
    }
}

#[tokio::test]
async fn what_is_no_sql_text_is_refused() {
    let world = World::new();
    for (bytes, start) in [
        (&b"SELECT '\xff'"[..], "the SQL text is not UTF-8"),
        (b"SELECT 1; -- \0", "the SQL text contains a zero byte"),
        (b"SELECT 'open", "unrecognized token"),
        (b"CREATE TRIGGER t", "incomplete input"),
    ] {
        let script = world.scratch(bytes);
        let job = Arc::default();
        let import = world
            .d1
            .import(&world.account, &world.database, script, &job);
        let error = import.await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Sql);
        assert!(error.message().starts_with(start), "{error}");
    }
    // A file's mark of UTF-8 and an open comment are none of it.
    let text = "\u{FEFF}CREATE TABLE t (a); /* open";
    assert_eq!(world.import(text).await.unwrap().statements, 1);
}

#[tokio::test]
async fn a_statement_of_a_file_has_a_bound_of_its_own() {
    let world = World::new();
    world.ok("CREATE TABLE t (a)").await;
    // Longer than a query's 100 KB, behind comments longer than what is read at once.
    let long = format!(
        "-- {}\n/* {} */ INSERT INTO t VALUES ('{}');",
        "x".repeat(900_000),
        "* / ".repeat(300_000),
        "y".repeat(1_500_000)
    );
    assert_eq!(world.import(&long).await.unwrap().statements, 1);
    assert_eq!(
        world.rows("SELECT length(a) FROM t").await,
        json!([[1_500_000]])
    );
    let too_long = format!("INSERT INTO t VALUES (1{});", " ".repeat(9_000_000));
    let error = world.import(&too_long).await.unwrap_err();
    assert!(error.message().contains("SQLITE_TOOBIG"), "{error}");
    // The bound of queries is what it was.
    let query = format!("SELECT 1{}", " ".repeat(100_000));
    assert_eq!(
        world.error(&query).await,
        "statement too long: SQLITE_TOOBIG"
    );
}

/// Pieces of a file, each with the number of its statements.
fn piece() -> impl Strategy<Value = (String, u64)> {
    prop_oneof![
        Just((";".to_owned(), 0)),
        "[ \t\r\n]{0,9}".prop_map(|blank| (blank, 0)),
        "--[-'\"`;a*/ ]{0,20}\n".prop_map(|comment| (comment, 0)),
        "[-'\"`;a/\n ]{0,20}".prop_map(|inside| (format!("/*{inside}*/"), 0)),
        "[-;\"a\n*/é]{0,20}".prop_map(|text| (format!("INSERT INTO t VALUES ('{text}''');"), 1)),
        "[-;'a\n*/é]{1,20}".prop_map(|name| (format!("SELECT 1 AS \"{name}\"\"\";"), 1)),
        "[-;'\"\n]{1,9}".prop_map(|name| (
            format!("SELECT 1 AS [{name}], `{name}` FROM (SELECT 2 AS `{name}`);"),
            1
        )),
        Just((
            "CREATE TRIGGER IF NOT EXISTS g AFTER INSERT ON t WHEN 0 BEGIN \
               SELECT CASE WHEN 1 THEN ';' END; /* END; */ DELETE FROM t; -- END;\n END;"
                .to_owned(),
            1
        )),
    ]
}

/// A world for each of some numbers of bytes that are read at once.
fn worlds_that_read_little() -> Vec<World> {
    let world = |script_read_bytes| {
        let limits = D1Limits {
            script_read_bytes,
            ..D1Limits::default()
        };
        World::with(limits, FilesOptions::default(), None)
    };
    [1, 2, 3, 7, 30, 75].map(world).into()
}

// Wherever the file is cut while it is read, its statements are what SQLite makes of them.
#[test]
fn a_file_is_split_as_sqlite_splits_it_wherever_it_is_cut() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let cases = if std::env::var_os("ENGAWA_TEST_FULL").is_some() {
        2000
    } else {
        60
    };
    let pieces = proptest::collection::vec(piece(), 0..20);
    let worlds = worlds_that_read_little();
    let world = proptest::sample::select((0..worlds.len()).collect::<Vec<_>>());
    proptest!(ProptestConfig::with_cases(cases), |(pieces in pieces, world in world)| {
        runtime.block_on(async {
            let world = &worlds[world];
            world.ok("DROP TABLE IF EXISTS t; CREATE TABLE t (a)").await;
            let text: String = pieces.iter().map(|(text, _)| text.as_str()).collect();
            let statements: u64 = pieces.iter().map(|(_, count)| count).sum();
            assert_eq!(world.import(&text).await.unwrap().statements, statements);
            let inserted = pieces.iter().filter(|(text, _)| text.starts_with("INSERT")).count();
            assert_eq!(world.rows("SELECT count(*) FROM t").await, json!([[inserted]]));
        });
    });
}

// Whatever is in a file, it is refused or executed, and never half of it.
#[test]
fn any_text_is_taken_or_refused_as_a_whole() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let cases = if std::env::var_os("ENGAWA_TEST_FULL").is_some() {
        5000
    } else {
        100
    };
    let words = proptest::sample::select(vec![
        "INSERT INTO t VALUES (1)",
        "CREATE",
        "TRIGGER",
        "BEGIN",
        "TRANSACTION",
        "END",
        "CASE",
        ";",
        ";",
        "'",
        "\"",
        "--",
        "/*",
        "*/",
        "[",
        "]",
        "`",
        "\n",
        "SELECT 1",
        "COMMIT;",
        "BEGIN TRANSACTION;",
        "PRAGMA foreign_keys=0",
        "\0",
        "é",
    ]);
    let text = proptest::collection::vec(words, 0..16);
    let worlds = worlds_that_read_little();
    let world = proptest::sample::select((0..worlds.len()).collect::<Vec<_>>());
    proptest!(ProptestConfig::with_cases(cases), |(words in text, world in world)| {
        runtime.block_on(async {
            let world = &worlds[world];
            world.ok("DROP TABLE IF EXISTS t; CREATE TABLE t (a)").await;
            let text = words.join(" ");
            let count = "SELECT count(*) FROM t";
            match world.import(&text).await {
                Ok(_) => {}
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Sql, "{text}: {error}");
                    assert_eq!(world.rows(count).await, json!([[0]]), "{text}");
                }
            }
            world.ok("INSERT INTO t VALUES (2)").await;
        });
    });
}

/// How an import loses its meaning.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    ClientLeaves,
    ServerStops,
    DatabaseIsDeleted,
}

// Whoever stops the server or deletes the database does not wait for a gigabyte.
#[tokio::test(flavor = "multi_thread")]
async fn an_import_under_way_is_undone_when_it_is_given_up() {
    let text = "INSERT INTO t VALUES (1);\n".repeat(2_000_000);
    for end in [End::ClientLeaves, End::ServerStops, End::DatabaseIsDeleted] {
        let mut world = World::new();
        world.ok("CREATE TABLE t (a)").await;
        let script = world.scratch(text.as_bytes());
        let job = Arc::new(D1Job::default());
        let (d1, watched) = (world.d1.clone(), Arc::clone(&job));
        let (account, database) = (world.account.clone(), world.database.clone());
        let import = tokio::spawn(async move {
            let done = d1.import(&account, &database, script, &watched).await;
            done.map(|done| done.value.statements)
        });
        while job.done_bytes() == 0 {
            tokio::task::yield_now().await;
        }
        let (d1, account) = (world.d1.clone(), world.account.clone());
        match end {
            End::ClientLeaves => {
                import.abort();
                assert!(import.await.unwrap_err().is_cancelled());
            }
            End::ServerStops | End::DatabaseIsDeleted => {
                let ends = move || match end {
                    End::ServerStops => d1.close(),
                    _ => d1.remove(&account, "db").unwrap(),
                };
                tokio::task::spawn_blocking(ends).await.unwrap();
                let error = import.await.unwrap().unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
            }
        }
        if end == End::ServerStops {
            world = world.reopen();
        }
        world.ok("CREATE TABLE IF NOT EXISTS t (a)").await;
        assert_eq!(world.rows("SELECT count(*) FROM t").await, json!([[0]]));
        world.ok("INSERT INTO t VALUES (2)").await;
        assert!(job.done_bytes() < text.len() as u64);
    }
}
