//! Values on the way in and out, result formats, meta.

use proptest::prelude::*;

use super::*;

async fn ask(world: &World, sql: &str, value: D1Value) -> Value {
    rows(&world.run(sql, vec![value]).await.unwrap())[0][0].clone()
}

// workerd: api/sql.{h,c++}; storage.md 2.3
#[tokio::test]
async fn numbers_are_bound_as_real_and_booleans_as_integer() {
    let world = World::new();
    assert_eq!(
        ask(&world, "SELECT typeof(?)", D1Value::Real(42.0)).await,
        "real"
    );
    assert_eq!(ask(&world, "SELECT ? / 2", D1Value::Real(5.0)).await, 2.5);
    assert_eq!(
        ask(&world, "SELECT ? || 'x'", D1Value::Real(42.0)).await,
        "42.0x"
    );
    assert_eq!(
        ask(&world, "SELECT typeof(?)", D1Value::Integer(1)).await,
        "integer"
    );
    assert_eq!(
        ask(&world, "SELECT typeof(?)", D1Value::Text("1".into())).await,
        "text"
    );
    assert_eq!(
        ask(&world, "SELECT typeof(?)", D1Value::Blob(vec![])).await,
        "blob"
    );
    assert_eq!(ask(&world, "SELECT typeof(?)", D1Value::Null).await, "null");
    world
        .ok("CREATE TABLE t (i INTEGER, n NUMERIC, x TEXT, u)")
        .await;
    let params = vec![D1Value::Real(42.0); 4];
    world
        .run("INSERT INTO t VALUES (?, ?, ?, ?)", params)
        .await
        .unwrap();
    assert_eq!(
        world
            .rows("SELECT typeof(i), typeof(n), x, typeof(u), u FROM t")
            .await,
        json!([["integer", "integer", "42.0", "real", 42]])
    );
}

// workerd.md 4.2, 4.3; ECMAScript Number::toString
#[tokio::test]
async fn results_read_as_javascript_prints_them() {
    let world = World::new();
    for (sql, text) in [
        ("SELECT 42.0", "42"),
        ("SELECT 0.1", "0.1"),
        ("SELECT -0.0", "0"),
        ("SELECT 1e21", "1e+21"),
        ("SELECT 1e20", "100000000000000000000"),
        ("SELECT 1.5e300", "1.5e+300"),
        ("SELECT 0.000001", "0.000001"),
        ("SELECT 1.5e-7", "1.5e-7"),
        ("SELECT 123456789.125", "123456789.125"),
        ("SELECT -2.5", "-2.5"),
        ("SELECT 9e999", "null"),
        ("SELECT -9e999", "null"),
        ("SELECT 9223372036854775807", "9223372036854775807"),
        ("SELECT x'00ff10'", "[0,255,16]"),
        ("SELECT x''", "[]"),
        ("SELECT NULL", "null"),
        ("SELECT CAST(x'41ff42' AS TEXT)", "\"A\u{fffd}B\""),
        (
            "SELECT 'a\"\\' || char(10) || char(0) || 'é'",
            "\"a\\\"\\\\\\n\\u0000é\"",
        ),
    ] {
        let result = world.ok(sql).await;
        let json = String::from_utf8(result.results_json.to_vec()).unwrap();
        let rows = json.split_once("\"rows\":").unwrap().1;
        assert_eq!(rows, format!("[[{text}]]}}"), "{sql}");
    }
}

// workerd.md 4.3; storage.md 2.4
#[tokio::test]
async fn both_formats_have_their_shape() {
    let world = World::new();
    world.ok("CREATE TABLE t (a, \"b \"\"c\")").await;
    let formats = [D1Format::RowsAndColumns, D1Format::Objects];
    for (sql, arrays, objects) in [
        (
            "SELECT 1 AS a, 2 AS b, 3 AS a UNION ALL VALUES (4, 5, 6)",
            json!({"columns": ["a", "b", "a"], "rows": [[1, 2, 3], [4, 5, 6]]}),
            json!([{"a": 3, "b": 2}, {"a": 6, "b": 5}]),
        ),
        (
            "SELECT * FROM t",
            json!({"columns": ["a", "b \"c"], "rows": []}),
            json!([]),
        ),
        (
            "INSERT INTO t VALUES (1, 2)",
            json!({"columns": [], "rows": []}),
            json!([]),
        ),
        (
            "INSERT INTO t VALUES (3, 4) RETURNING a",
            json!({"columns": ["a"], "rows": [[3]]}),
            json!([{"a": 3}]),
        ),
    ] {
        for (format, expected) in formats.into_iter().zip([arrays, objects]) {
            let statements = vec![D1Statement::new(sql)];
            let answer = world.query_as(statements, format).await.unwrap();
            assert_eq!(json_of(&answer.results[0]), expected, "{sql}");
        }
    }
}

// storage.md 2.7
#[tokio::test]
async fn meta_tells_what_changed() {
    let world = World::new();
    let created = world
        .ok("CREATE TABLE t (id INTEGER PRIMARY KEY, v)")
        .await
        .meta;
    assert_eq!((created.changes, created.last_row_id), (0, 0));
    assert!(created.changed_db && created.size_after_bytes >= 8192);
    let inserted = world.ok("INSERT INTO t VALUES (7, 1), (9, 2)").await.meta;
    assert_eq!((inserted.changes, inserted.last_row_id), (2, 9));
    assert!(inserted.changed_db && inserted.duration_ms > 0.0);
    // On a reader's connection, with the writer's numbers.
    let read = world.ok("SELECT * FROM t").await.meta;
    assert_eq!((read.changes, read.last_row_id), (0, 9));
    assert_eq!(read.size_after_bytes, inserted.size_after_bytes);
    assert!(!read.changed_db);
    let updated = world.ok("UPDATE t SET v = 3").await.meta;
    assert_eq!((updated.changes, updated.last_row_id), (2, 9));
    let missed = world.ok("DELETE FROM t WHERE id = 1").await.meta;
    assert!(!missed.changed_db);
    world
        .ok("CREATE TRIGGER g AFTER DELETE ON t BEGIN INSERT INTO t (v) VALUES (0); END")
        .await;
    // Rows changed by triggers count.
    assert_eq!(world.ok("DELETE FROM t WHERE id = 7").await.meta.changes, 2);
    // Functions that ask the connection see the writer's.
    assert_eq!(world.rows("SELECT last_insert_rowid()").await, json!([[9]]));
}

// The binding sends any JSON value of workerd.md 4.2; what goes in comes out.
#[test]
fn values_survive_the_round_trip() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let world = runtime.block_on(async {
        let world = World::new();
        world.ok("CREATE TABLE t (id INTEGER PRIMARY KEY, v)").await;
        world
    });
    let value = prop_oneof![
        Just(D1Value::Null),
        any::<bool>().prop_map(|yes| D1Value::Integer(i64::from(yes))),
        any::<f64>()
            .prop_filter("JSON has no others", |number| number.is_finite())
            .prop_map(D1Value::Real),
        any::<String>().prop_map(D1Value::Text),
        any::<Vec<u8>>().prop_map(D1Value::Blob),
    ];
    proptest!(ProptestConfig::with_cases(200), |(value in value)| {
        let back = runtime.block_on(async {
            let insert = "INSERT INTO t (v) VALUES (?) RETURNING id";
            let id = ask(&world, insert, value.clone()).await.as_f64().unwrap();
            ask(&world, "SELECT v FROM t WHERE id = ?", D1Value::Real(id)).await
        });
        let expected = match &value {
            D1Value::Null => Value::Null,
            D1Value::Integer(number) => json!(number),
            D1Value::Real(number) => {
                prop_assert_eq!(back.as_f64(), Some(*number));
                return Ok(());
            }
            D1Value::Text(text) => json!(text),
            D1Value::Blob(bytes) => json!(bytes),
        };
        prop_assert_eq!(back, expected);
    });
}
