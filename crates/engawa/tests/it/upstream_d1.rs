//! Upstream's own cases for its D1 simulator, each through the real workerd.
//!
//! miniflare: `packages/miniflare/test/plugins/d1/suite.ts`; the tests are named after its
//! eleven cases. Where upstream takes two behaviours of workerd, the newer one is
//! asserted. What differs here is `served_by`, and that an export is a command.
#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use engawa_testkit::{Dev, TestProject, engawa, output};
use serde_json::{Value, json};

use crate::{WRANGLER, program, project, start};

/// A worker with upstream's tables; `case` is a part of its path.
const WORKER: &str = r#"
const SCHEMA = `
CREATE TABLE colours (id INTEGER PRIMARY KEY, name TEXT NOT NULL, rgb INTEGER NOT NULL);
CREATE TABLE kitchen_sink (id INTEGER PRIMARY KEY, int INTEGER, real REAL, text TEXT, blob BLOB);
CREATE TABLE palettes (id INTEGER PRIMARY KEY, name TEXT NOT NULL, colour_id INTEGER NOT NULL, FOREIGN KEY (colour_id) REFERENCES colours(id));
INSERT INTO colours (id, name, rgb) VALUES (1, 'red', 0xff0000);
INSERT INTO colours (id, name, rgb) VALUES (2, 'green', 0x00ff00);
INSERT INTO colours (id, name, rgb) VALUES (3, 'blue', 0x0000ff);
INSERT INTO palettes (id, name, colour_id) VALUES (1, 'Night', 3);
`;
const INSERT = "INSERT INTO colours (id, name, rgb) VALUES (?, ?, ?)";

// An error as its message and that of its cause.
const caught = async (promise) => {
  try { return await promise; } catch (error) { return { error: error.message, cause: error.cause?.message }; }
};

const cases = {
  schema: (db) => db.exec(SCHEMA),
  async batch(db) {
    const insert = db.prepare(INSERT);
    const good = await db.batch([insert.bind(4, "yellow", 0xffff00), db.prepare("SELECT name FROM colours")]);
    const bad = db.prepare("PUT IN colours (id, name, rgb) VALUES (?, ?, ?)");
    const failed = await caught(db.batch([insert.bind(5, "purple", 0xff00ff), bad.bind(6, "blurple", 0x5865f2), insert.bind(7, "cyan", 0x00ffff)]));
    const left = (await db.prepare("SELECT name FROM colours").all()).results;
    return { good, failed, left };
  },
  async exec(db) {
    const one = await db.exec("UPDATE colours SET name = 'Red' WHERE name = 'red'");
    const after = (await db.prepare("SELECT name FROM colours WHERE name = 'Red'").all()).results;
    const two = await db.exec(["UPDATE colours SET name = 'Green' WHERE name = 'green'", "UPDATE colours SET name = 'Blue' WHERE name = 'blue'"].join("\n"));
    return { one, after, two, all: (await db.prepare("SELECT name FROM colours").all()).results };
  },
  async bind(db) {
    const blob = Array.from(new TextEncoder().encode("Walshy"));
    const sink = async () => (await db.prepare("SELECT * FROM kitchen_sink").all()).results;
    await db.prepare("INSERT INTO kitchen_sink (id, int, real, text, blob) VALUES (?, ?, ?, ?, ?)").bind(1, 42, 3.141, "🙈", blob).run();
    const full = await sink();
    await db.prepare("UPDATE kitchen_sink SET blob = ?").bind(null).run();
    const without = await sink();
    const several = await caught(db.prepare("SELECT * FROM colours WHERE name = ?; SELECT * FROM colours WHERE id = ?;").bind("green").all());
    await db.prepare("INSERT INTO colours (id, name, rgb) VALUES (?3, ?1, ?2)").bind("yellow", 0xffff00, 4).run();
    const numbered = await db.prepare("SELECT * FROM colours WHERE id = ?1").bind(4).first();
    return { full, without, several, numbered };
  },
  async first(db) {
    const select = await db.prepare("SELECT * FROM colours");
    return {
      row: await select.first(),
      id: await select.first("id"),
      several: await db.prepare("SELECT * FROM colours WHERE name = 'none'; SELECT * FROM colours WHERE id = 1;").first(),
      write: await db.prepare(INSERT).bind(4, "yellow", 0xffff00).first(),
      written: await db.prepare("SELECT id FROM colours WHERE name = ?").bind("yellow").first("id"),
    };
  },
  async run(db) {
    return {
      read: await db.prepare("SELECT * FROM colours").run(),
      returning: await db.prepare(INSERT + " RETURNING *").bind(4, "yellow", 0xffff00).run(),
      several: await db.prepare("INSERT INTO kitchen_sink (id) VALUES (1); INSERT INTO kitchen_sink (id) VALUES (2);").run(),
      write: await db.prepare(INSERT).bind(5, "orange", 0xff8000).run(),
    };
  },
  async all(db) {
    return {
      read: await db.prepare("SELECT * FROM colours").all(),
      several: await db.prepare("SELECT * FROM colours WHERE id = 1; SELECT * FROM colours WHERE id = 3;").all(),
      write: await db.prepare(INSERT).bind(4, "yellow", 0xffff00).all(),
      written: await db.prepare("SELECT id FROM colours WHERE name = ?").bind("yellow").first("id"),
      returning: await db.prepare(INSERT + " RETURNING id").bind(5, "orange", 0xff8000).all(),
    };
  },
  async raw(db) {
    const read = await db.prepare("SELECT * FROM colours").raw();
    const several = await db.prepare("SELECT * FROM colours WHERE id = 1; SELECT * FROM colours WHERE id = 3;").raw();
    const write = await db.prepare(INSERT).bind(4, "yellow", 0xffff00).raw();
    const written = await db.prepare("SELECT id FROM colours WHERE name = ?").bind("yellow").first("id");
    await db.prepare("CREATE TABLE abc (a INT, b INT, c INT);").run();
    await db.prepare("CREATE TABLE cde (c INT, d INT, e INT);").run();
    await db.prepare("INSERT INTO abc VALUES (1,2,3),(4,5,6);").run();
    await db.prepare("INSERT INTO cde VALUES (7,8,9),(1,2,3);").run();
    return { read, several, write, written, named: await db.prepare("SELECT * FROM abc, cde;").raw({ columnNames: true }) };
  },
  put: (db) => db.prepare("INSERT INTO colours (id, name, rgb) VALUES (4, 'purple', 0xff00ff);").run(),
  get: (db) => db.prepare("SELECT name FROM colours WHERE id = 4").first(),
  join: (db) => db.prepare("SELECT colours.name, palettes.name FROM colours JOIN palettes ON colours.id = palettes.colour_id").raw(),
  async fill(db) {
    await db.exec([
      `CREATE TABLE "classrooms"(id TEXT PRIMARY KEY, capacity INTEGER, test_blob BLOB)`,
      `CREATE TABLE "students" (id INTEGER PRIMARY KEY, name TEXT NOT NULL, classroom TEXT NOT NULL, FOREIGN KEY (classroom) REFERENCES "classrooms" (id) ON DELETE CASCADE)`,
      `CREATE TABLE "test space table" (id INTEGER PRIMARY KEY, name TEXT NOT NULL)`,
      `CREATE TABLE "test""name" (id INTEGER PRIMARY KEY, "escaped""column" TEXT, "order" INTEGER)`,
    ].join(";"));
    const room = db.prepare("INSERT INTO classrooms (id, capacity, test_blob) VALUES (?, ?, ?)");
    for (let i = 1; i <= 10; i++) await room.bind(`classroom_${i}`, i * 10, new TextEncoder().encode(`Blob data for classroom ${i}`)).run();
    await room.bind("different_type_classroom", "not_a_number", null).run();
    await room.bind("null_classroom", null, null).run();
    const student = db.prepare("INSERT INTO students (id, name, classroom) VALUES (?, ?, ?)");
    for (let i = 1; i <= 20; i++) await student.bind(i, `student_${i}`, `classroom_${Math.ceil(i / 2)}`).run();
    await db.prepare(`INSERT INTO "test""name" VALUES (1, 'it''s', 2)`).run();
    return null;
  },
  async contents(db) {
    const tables = (await db.prepare("SELECT * FROM sqlite_master WHERE type = 'table' AND (name NOT LIKE 'sqlite_%' AND name NOT LIKE '_cf_%')").all()).results;
    const rows = {};
    for (const { name } of tables) rows[name] = (await db.prepare(`SELECT * FROM "${name.replace(/"/g, '""')}" ORDER BY id ASC`).all()).results;
    return { tables: tables.map(({ rootpage, ...rest }) => rest), rows };
  },
};

export async function onRequest({ env, params, request }) {
  const db = env[new URL(request.url).searchParams.get("db") ?? "DB"];
  return Response.json((await cases[params.case](db)) ?? null);
}
"#;

fn worker() -> TestProject {
    project(&[("functions/[case].js", WORKER)])
}

/// A server with upstream's tables and rows.
fn filled() -> (TestProject, Dev) {
    let project = worker();
    let dev = start(&project);
    let made = dev.json("/schema");
    // workers-sdk: each line is a statement, also of its schema.
    assert_eq!(made["count"], 7);
    (project, dev)
}

fn red_green_blue() -> Value {
    json!([
        { "id": 1, "name": "red", "rgb": 0xff_0000 },
        { "id": 2, "name": "green", "rgb": 0x00_ff00 },
        { "id": 3, "name": "blue", "rgb": 0x00_00ff },
    ])
}

/// A result is these rows, and a `meta` with these numbers.
#[track_caller]
fn assert_result(result: &Value, rows: &Value, meta: &Value) {
    assert_eq!(result["success"], true, "{result}");
    assert_eq!(result["results"], *rows, "{result}");
    assert!(result["meta"]["duration"].as_f64().unwrap() >= 0.0);
    assert!(result["meta"]["size_after"].as_u64().unwrap() > 0);
    assert!(result["meta"]["served_by"].is_string());
    for (name, value) in meta.as_object().unwrap() {
        assert_eq!(result["meta"][name], *value, "{name}: {result}");
    }
}

#[test]
fn d1_database_batch() {
    let (_project, dev) = filled();
    let names =
        json!([{ "name": "red" }, { "name": "green" }, { "name": "blue" }, { "name": "yellow" }]);
    let done = dev.json("/batch");
    assert_eq!(done["good"].as_array().unwrap().len(), 2);
    assert_result(&done["good"][0], &json!([]), &json!({}));
    assert_result(&done["good"][1], &names, &json!({}));
    let failed = &done["failed"];
    let cause = failed["cause"].as_str().unwrap();
    assert!(cause.contains("syntax error"), "{failed}");
    assert_eq!(failed["error"], format!("D1_ERROR: {cause}"));
    assert_eq!(done["left"], names, "all of it was undone");
}

#[test]
fn d1_database_exec() {
    let (_project, dev) = filled();
    let done = dev.json("/exec");
    for (part, count) in [("one", 1), ("two", 2)] {
        assert_eq!(done[part]["count"], count, "{done}");
        assert!(done[part]["duration"].as_f64().unwrap() >= 0.0);
    }
    assert_eq!(done["after"], json!([{ "name": "Red" }]));
    let all = json!([{ "name": "Red" }, { "name": "Green" }, { "name": "Blue" }]);
    assert_eq!(done["all"], all);
}

#[test]
#[expect(clippy::approx_constant, reason = "upstream's number")]
fn d1_prepared_statement_bind() {
    let (_project, dev) = filled();
    let done = dev.json("/bind");
    let blob: Vec<u8> = b"Walshy".to_vec();
    let row =
        |blob: Value| json!([{ "id": 1, "int": 42, "real": 3.141, "text": "🙈", "blob": blob }]);
    assert_eq!(done["full"], row(json!(blob)));
    assert_eq!(done["without"], row(Value::Null));
    let several = "When executing multiple SQL statements in a single call, only the last \
                   statement can have parameters.";
    assert_eq!(done["several"]["cause"], several);
    assert_eq!(
        done["numbered"],
        json!({ "id": 4, "name": "yellow", "rgb": 0xff_ff00 })
    );
}

#[test]
fn d1_prepared_statement_first() {
    let (_project, dev) = filled();
    let red = &red_green_blue()[0];
    let expected = json!({ "row": red, "id": 1, "several": red, "write": null, "written": 4 });
    assert_eq!(dev.json("/first"), expected);
}

#[test]
fn d1_prepared_statement_run() {
    let (_project, dev) = filled();
    let done = dev.json("/run");
    assert_result(
        &done["read"],
        &red_green_blue(),
        &json!({ "changed_db": false, "changes": 0, "rows_read": 3, "rows_written": 0 }),
    );
    assert_result(
        &done["returning"],
        &json!([{ "id": 4, "name": "yellow", "rgb": 0xff_ff00 }]),
        &json!({ "changed_db": true, "changes": 1, "last_row_id": 4, "rows_read": 2, "rows_written": 1 }),
    );
    assert_result(
        &done["several"],
        &json!([]),
        &json!({ "changed_db": true, "changes": 2, "rows_read": 1, "rows_written": 1 }),
    );
    assert_result(
        &done["write"],
        &json!([]),
        &json!({ "changed_db": true, "changes": 1, "last_row_id": 5, "rows_read": 1, "rows_written": 1 }),
    );
}

#[test]
fn d1_prepared_statement_all() {
    let (_project, dev) = filled();
    let done = dev.json("/all");
    assert_result(
        &done["read"],
        &red_green_blue(),
        &json!({ "changed_db": false, "changes": 0, "rows_read": 3, "rows_written": 0 }),
    );
    assert_result(
        &done["several"],
        &json!([red_green_blue()[2]]),
        &json!({ "changed_db": false, "changes": 0, "rows_read": 1, "rows_written": 0 }),
    );
    assert_result(
        &done["write"],
        &json!([]),
        &json!({ "last_row_id": 4, "changes": 1 }),
    );
    assert_eq!(done["written"], 4);
    let returned = json!([{ "id": 5 }]);
    assert_result(
        &done["returning"],
        &returned,
        &json!({ "last_row_id": 5, "changes": 1 }),
    );
}

#[test]
fn d1_prepared_statement_raw() {
    let (_project, dev) = filled();
    let blue = json!([3, "blue", 0x00_00ff]);
    let expected = json!({
        "read": [[1, "red", 0xff_0000], [2, "green", 0x00_ff00], blue],
        "several": [blue],
        "write": [],
        "written": 4,
        "named": [
            ["a", "b", "c", "c", "d", "e"],
            [1, 2, 3, 7, 8, 9],
            [1, 2, 3, 1, 2, 3],
            [4, 5, 6, 7, 8, 9],
            [4, 5, 6, 1, 2, 3],
        ],
    });
    assert_eq!(dev.json("/raw"), expected);
}

#[test]
fn operations_persist_d1_data() {
    let (project, dev) = filled();
    dev.json("/put");
    assert_eq!(dev.json("/get"), json!({ "name": "purple" }));
    drop(dev);
    assert_eq!(start(&project).json("/get"), json!({ "name": "purple" }));
}

#[test]
fn operations_permit_strange_database_names() {
    let project = worker();
    let strange = WRANGLER.replace("\"my-database\"", "\"my/ Database\"");
    assert_ne!(strange, WRANGLER);
    project.write("wrangler.toml", strange);
    let dev = start(&project);
    dev.json("/schema");
    dev.json("/put");
    assert_eq!(dev.json("/get"), json!({ "name": "purple" }));
}

#[test]
fn it_properly_handles_rows_and_columns_results_format() {
    let (_project, dev) = filled();
    // Two columns of the same name.
    assert_eq!(dev.json("/join"), json!([["blue", "Night"]]));
}

// The pragma that upstream's command sends is not part of D1; the command is.
#[test]
fn dump_sql_exports_and_imports_complete_database_structure_and_content_correctly() {
    let project = worker();
    let copy =
        "[[d1_databases]]\nbinding = \"COPY\"\ndatabase_name = \"copy\"\ndatabase_id = \"copy\"\n";
    project.write("wrangler.toml", format!("{WRANGLER}\n{copy}"));
    let dev = start(&project);
    dev.json("/fill");
    for arguments in [
        ["d1", "export", "it-db", "--output", "dump.sql"],
        ["d1", "execute", "copy", "--file", "dump.sql"],
    ] {
        let mut command = engawa(program());
        command
            .args(arguments)
            .arg("--local")
            .current_dir(project.path());
        let (ok, _, said) = output(&mut command);
        assert!(ok, "{said}");
    }
    let original = dev.json("/contents");
    assert_eq!(original["tables"].as_array().unwrap().len(), 4);
    assert_eq!(original["rows"]["students"].as_array().unwrap().len(), 20);
    assert_eq!(dev.json("/contents?db=COPY"), original);
}
