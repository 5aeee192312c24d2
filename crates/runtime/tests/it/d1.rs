//! The D1 binding as a worker sees it (workerd.md 4 and 10.7).

use engawa_model::BindingKind;
use serde_json::json;

use crate::support::{World, binding, version};

const SCRIPT: &str = r"
const caught = async (promise) => { try { return await promise; } catch (error) { return String(error); } };
export default {
  async fetch(request, { DB }) {
    const created = await DB.exec('CREATE TABLE t (id INTEGER PRIMARY KEY, s TEXT UNIQUE)\nCREATE TABLE v (x)');
    const insert = DB.prepare('INSERT INTO t (s) VALUES (?) RETURNING id, s');
    const run = await insert.bind('one').run();
    const batch = await caught(DB.batch([insert.bind('two'), insert.bind('one')]));
    const after = await DB.prepare('SELECT count(*) AS n FROM t').first('n');
    const good = await DB.batch([insert.bind('two'), DB.prepare('SELECT s FROM t ORDER BY id')]);
    const bind = DB.prepare('INSERT INTO v VALUES (?)');
    const values = [true, null, 9007199254740992, NaN, 1.5, 'é', new Uint8Array([0, 255]).buffer];
    await DB.batch(values.map((value) => bind.bind(value)));
    const stored = await DB.prepare('SELECT x, typeof(x) AS type FROM v').raw();
    const session = DB.withSession();
    const marks = [session.getBookmark()];
    for (const text of ['three', 'four']) {
      await session.prepare('INSERT INTO t (s) VALUES (?)').bind(text).run();
      marks.push(session.getBookmark());
    }
    return Response.json({
      created: created.count, results: run.results, success: run.success, meta: run.meta, batch, after,
      good: good.map((result) => result.results), stored,
      marks: [marks[0], typeof marks[1], marks[2].localeCompare(marks[1])],
      noSession: DB.withSession('first-primary').getBookmark(),
      errors: [
        await caught(DB.prepare('SELECT * FROM nope').all()),
        await caught(DB.exec('SELECT 1\nSELEC 2')),
        await caught(DB.prepare('SELECT ?').bind().all()),
        await caught((async () => DB.prepare('SELECT ?').bind(undefined))()),
        await caught(DB.prepare('').all()),
      ].map((error) => String(error)),
    });
  },
};
";

#[tokio::test]
async fn statements_batches_sessions_and_errors_are_as_on_cloudflare() {
    let world = World::new();
    let worker = world
        .deploy(version(
            "d1",
            SCRIPT,
            vec![binding("DB", BindingKind::D1("your-database-id".into()))],
        ))
        .await;
    let answer = worker.post("/", &json!(null)).await;
    assert_eq!(answer["created"], 2, "exec of two lines");
    assert_eq!(
        answer["results"],
        json!([{ "id": 1, "s": "one" }]),
        "run() has its rows as objects"
    );
    assert_eq!(answer["success"], true);
    for field in [
        "duration",
        "changes",
        "last_row_id",
        "changed_db",
        "size_after",
        "rows_read",
        "rows_written",
    ] {
        assert!(
            !answer["meta"][field].is_null(),
            "{field} in {}",
            answer["meta"]
        );
    }
    let unique =
        "UNIQUE constraint failed: t.s: SQLITE_CONSTRAINT (extended: SQLITE_CONSTRAINT_UNIQUE)";
    assert_eq!(answer["batch"], format!("Error: D1_ERROR: {unique}"));
    assert_eq!(answer["after"], 1, "a batch is undone as a whole");
    assert_eq!(answer["good"][1], json!([{ "s": "one" }, { "s": "two" }]));
    assert_eq!(
        answer["stored"],
        json!([
            [1, "real"],
            [null, "null"],
            [9_007_199_254_740_992_u64, "real"],
            [null, "null"],
            [1.5, "real"],
            ["é", "text"],
            [[0, 255], "blob"]
        ])
    );
    assert_eq!(
        answer["marks"],
        json!([null, "string", 1]),
        "a session's bookmark grows"
    );
    assert_eq!(answer["noSession"], json!(null));
    let errors = answer["errors"].as_array().unwrap();
    assert_eq!(
        errors[0],
        "Error: D1_ERROR: no such table: nope: SQLITE_ERROR"
    );
    let exec = errors[1].as_str().unwrap();
    assert!(
        exec.starts_with(
            "Error: D1_EXEC_ERROR: Error in line 1: SELECT 1: near \"SELEC\": syntax error"
        ),
        "{exec}"
    );
    assert_eq!(
        errors[2],
        "Error: D1_ERROR: Wrong number of parameter bindings for SQL query."
    );
    assert!(
        errors[3]
            .as_str()
            .unwrap()
            .starts_with("Error: D1_TYPE_ERROR: Type 'undefined' not supported"),
        "{}",
        errors[3]
    );
    assert_eq!(errors[4], "Error: D1_ERROR: No SQL statements detected.");
}
