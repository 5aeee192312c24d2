//! The table of storage.md 2.8: rows read and written.

use super::*;

async fn counts(world: &World, sql: &str) -> (u64, u64) {
    let meta = world.ok(sql).await.meta;
    (meta.rows_read, meta.rows_written)
}

/// `t(id INTEGER PRIMARY KEY, v)` with n rows, and `plain(v)` without a key.
async fn tables(n: u32) -> World {
    let world = World::new();
    world
        .ok("CREATE TABLE t (id INTEGER PRIMARY KEY, v); CREATE TABLE plain (v)")
        .await;
    for number in 1..=n {
        world
            .ok(&format!("INSERT INTO t VALUES ({number}, {number})"))
            .await;
    }
    world
}

// workerd: util/sqlite-test.c++
#[tokio::test]
async fn reading_counts_the_rows_that_were_landed_on() {
    let world = tables(8).await;
    assert_eq!(counts(&world, "SELECT * FROM t").await, (8, 0));
    assert_eq!(counts(&world, "SELECT * FROM t WHERE v = 3").await, (8, 0));
    assert_eq!(counts(&world, "SELECT MAX(v) FROM t").await, (8, 0));
    assert_eq!(counts(&world, "SELECT * FROM t LIMIT 5").await, (5, 0));
    assert_eq!(counts(&world, "SELECT * FROM t WHERE id = 3").await, (1, 0));
    assert_eq!(counts(&world, "SELECT MIN(id) FROM t").await, (1, 0));
    assert_eq!(counts(&world, "SELECT COUNT(*) FROM t").await, (8, 0));
    // A kept statement does not add to the run before.
    assert_eq!(counts(&world, "SELECT * FROM t").await, (8, 0));
}

// workerd: util/sqlite-test.c++; internal/test/d1/d1-api-test-common.js; sdk:
// test/plugins/d1/suite.ts
#[tokio::test]
async fn inserting_counts_rows_and_the_look_for_an_explicit_key() {
    let world = tables(3).await;
    assert_eq!(counts(&world, "INSERT INTO t VALUES (10, 1)").await, (1, 1));
    assert_eq!(counts(&world, "INSERT INTO t VALUES (11, 1)").await, (1, 1));
    assert_eq!(counts(&world, "INSERT INTO t (v) VALUES (1)").await, (0, 1));
    assert_eq!(counts(&world, "INSERT INTO plain VALUES (1)").await, (0, 1));
    assert_eq!(
        counts(&world, "INSERT INTO plain VALUES (1), (2)").await,
        (0, 2)
    );
    assert_eq!(
        counts(&world, "INSERT INTO t VALUES (20, 1) RETURNING *").await,
        (2, 1)
    );
    let (read, written) = counts(&world, "INSERT INTO plain SELECT v FROM t LIMIT 3").await;
    assert_eq!((read, written), (3, 3));
    // The size of a row does not matter.
    let large = format!("INSERT INTO t VALUES (30, zeroblob(100000)) -- {}", "x");
    assert_eq!(counts(&world, &large).await, (1, 1));
}

// docs: d1/platform/pricing.mdx
#[tokio::test]
async fn an_index_adds_a_written_row() {
    let world = tables(0).await;
    world.ok("CREATE INDEX i ON plain (v)").await;
    assert_eq!(counts(&world, "INSERT INTO plain VALUES (1)").await.1, 2);
    world.ok("DROP INDEX i").await;
    assert_eq!(counts(&world, "INSERT INTO plain VALUES (1)").await.1, 1);
    // One that was undone adds none.
    world
        .error("CREATE INDEX i ON plain (v); INSERT INTO plain VALUES (1); SELECT nope")
        .await;
    assert_eq!(counts(&world, "INSERT INTO plain VALUES (1)").await.1, 1);
}

// workerd: util/sqlite-test.c++
#[tokio::test]
async fn updates_deletes_and_triggers_count_what_they_write() {
    let world = tables(5).await;
    let (read, written) = counts(&world, "UPDATE t SET v = 0 WHERE id <= 2").await;
    assert!(read >= 2);
    assert_eq!(written, 2);
    assert_eq!(counts(&world, "DELETE FROM t WHERE id = 1").await, (1, 1));
    assert_eq!(counts(&world, "DELETE FROM t WHERE id = 99").await.1, 0);
    assert_eq!(counts(&world, "DELETE FROM t").await.1, 4);
    world
        .ok("CREATE TRIGGER log AFTER INSERT ON t BEGIN INSERT INTO plain VALUES (new.v); END")
        .await;
    assert_eq!(counts(&world, "INSERT INTO t VALUES (1, 1)").await.1, 2);
}

// workerd: internal/test/d1/d1-api-test-common.js
#[tokio::test]
async fn schema_changes_joins_and_in_lists_count_as_on_d1() {
    let world = World::new();
    assert_eq!(
        counts(&world, "CREATE TABLE abc (a INT, b INT, c INT)").await,
        (1, 2)
    );
    assert_eq!(
        counts(&world, "CREATE TABLE cde (c INT, d TEXT)").await,
        (1, 2)
    );
    world
        .ok("INSERT INTO abc VALUES (1, 2, 3), (4, 5, 6)")
        .await;
    world
        .ok("INSERT INTO cde VALUES (7, 'A'), (8, 'B'), (9, 'C')")
        .await;
    assert_eq!(counts(&world, "SELECT * FROM abc, cde").await, (8, 0));
    assert_eq!(
        counts(&world, "SELECT * FROM cde WHERE c IN (1, 2, 3, 4, 7, 9)").await,
        (3, 0)
    );
    assert_eq!(counts(&world, "DROP TABLE cde").await.1, 0);
}

// workerd, as wrangler 4.164 runs it: a deleted row counts once whatever its indexes, a
// changed one with the indexes on what is set, and CREATE without effect counts nothing.
#[tokio::test]
async fn changes_count_only_the_indexes_that_they_touch() {
    let world = tables(0).await;
    world
        .ok("CREATE TABLE u (id INTEGER PRIMARY KEY, a UNIQUE, b, c)")
        .await;
    world.ok("CREATE INDEX u_b ON u (b)").await;
    assert_eq!(
        counts(&world, "INSERT INTO u (a, b) VALUES (1, 1), (2, 2)")
            .await
            .1,
        6
    );
    assert_eq!(counts(&world, "UPDATE u SET c = 1").await.1, 2);
    assert_eq!(counts(&world, "UPDATE u SET B = b + 1, c = 2").await.1, 4);
    let upsert = "INSERT INTO u (a, b) VALUES (1, 9) ON CONFLICT (a) DO UPDATE SET c = 3";
    assert_eq!(counts(&world, upsert).await.1, 1);
    assert_eq!(counts(&world, "DELETE FROM u WHERE id = 1").await.1, 1);
    world
        .ok("CREATE TABLE up (id INTEGER PRIMARY KEY AUTOINCREMENT, v)")
        .await;
    assert_eq!(
        counts(&world, "CREATE INDEX up_v ON up (v)").await.1,
        1,
        "an index on no rows"
    );
    let insert = "INSERT INTO up (v) VALUES (1), (2)";
    assert_eq!(counts(&world, insert).await, (1, 5));
    assert_eq!(counts(&world, "INSERT INTO up VALUES (9, 1)").await, (2, 3));
    assert_eq!(
        counts(&world, "CREATE TABLE IF NOT EXISTS u (x)").await.1,
        0
    );
    assert_eq!(
        counts(&world, "CREATE TABLE IF NOT EXISTS w (x)").await.1,
        2
    );
}

// storage.md 2.8: a virtual table's update counts once, what it keeps inside does not.
#[tokio::test]
async fn a_row_of_a_full_text_table_counts_once() {
    let world = World::new();
    world.ok("CREATE VIRTUAL TABLE f USING fts5(body)").await;
    assert_eq!(
        counts(&world, "INSERT INTO f VALUES ('one two')").await.1,
        1
    );
}

// storage.md 2.4: rows of the last statement, changes of all.
#[tokio::test]
async fn of_several_statements_the_last_one_is_counted() {
    let world = tables(0).await;
    let result = world
        .ok("INSERT INTO plain VALUES (1), (2); INSERT INTO plain VALUES (3)")
        .await;
    assert_eq!(result.meta.rows_written, 1);
    assert_eq!(result.meta.changes, 3);
}

// The usage of a request is the sum over its statements.
#[tokio::test]
async fn usage_adds_up_the_statements() {
    let world = tables(4).await;
    let statements = vec![
        D1Statement::new("SELECT * FROM t"),
        D1Statement::new("INSERT INTO plain VALUES (1)"),
    ];
    let options = D1QueryOptions::default();
    let metered = world
        .d1
        .query(&world.account, &world.database, statements, options)
        .await
        .unwrap();
    assert_eq!(metered.usage.class, UsageClass::D1Query);
    assert_eq!(
        (metered.usage.rows_read, metered.usage.rows_written),
        (4, 1)
    );
    assert!(metered.usage.bytes_in > 0 && metered.usage.bytes_out > 0);
}
