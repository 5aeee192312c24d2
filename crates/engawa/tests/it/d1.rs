//! D1's limits as a worker meets them, and files of SQL by the commands, by the real
//! wrangler, and of a size that no memory holds.
#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use engawa_testkit::{TestProject, engawa, output};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{WRANGLER, program, project, start};
use engawa_testkit::oracle::{packages, wrangler};

const COPY: &str =
    "[[d1_databases]]\nbinding = \"COPY\"\ndatabase_name = \"copy\"\ndatabase_id = \"copy\"\n";

fn with_copy(files: &[(&str, &str)]) -> TestProject {
    let project = project(files);
    project.write("wrangler.toml", format!("{WRANGLER}\n{COPY}"));
    project
}

fn command(project: &TestProject, arguments: &[&str]) -> Command {
    let mut command = engawa(program());
    command
        .args(arguments)
        .arg("--local")
        .current_dir(project.path());
    command
}

fn run(project: &TestProject, arguments: &[&str]) -> String {
    let (ok, stdout, stderr) = output(&mut command(project, arguments));
    assert!(ok, "{arguments:?}: {stderr}");
    stdout
}

fn rows(project: &TestProject, database: &str, sql: &str) -> Value {
    let text = run(project, &["d1", "execute", database, "--command", sql]);
    serde_json::from_str::<Value>(&text).unwrap()[0]["results"].clone()
}

const LIMITS: &str = r#"
const caught = async (promise) => {
  try { return (await promise).results?.length ?? "done"; } catch (error) { return error.message; }
};
const list = (n, each) => Array.from({ length: n }, (_, i) => each(i)).join(", ");

export async function onRequest({ env: { DB }, request }) {
  const run = (sql, ...values) => caught(DB.prepare(sql).bind(...values).run());
  if (new URL(request.url).searchParams.has("slow")) {
    await run("CREATE TABLE slow (a)");
    const forever = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
    const said = await caught(DB.batch([DB.prepare("INSERT INTO slow VALUES (1)"), DB.prepare(forever)]));
    return Response.json([said, await DB.prepare("SELECT count(*) AS n FROM slow").first("n")]);
  }
  const one = (n) => `SELECT ${list(n, () => "?")}`;
  const padded = (bytes) => { const sql = "SELECT 1 AS "; return sql + "x".repeat(bytes - sql.length); };
  await run("CREATE TABLE t (id INTEGER PRIMARY KEY, v)");
  return Response.json({
    "100 parameters": await run(one(100), ...Array(100).fill(1)),
    "101 parameters": await run(one(101), ...Array(101).fill(1)),
    "?101": await run("SELECT ?101", ...Array(101).fill(1)),
    "100,000 bytes": await run(padded(100_000)),
    "100,001 bytes": await run(padded(100_001)),
    "two statements of 60,000 bytes": (await DB.batch([DB.prepare(padded(60_000)), DB.prepare(padded(60_000))])).length,
    "a text of 1,999,000 bytes": await run("INSERT INTO t (v) VALUES (?)", "x".repeat(1_999_000)),
    "a text of 2,000,001 bytes": await run("INSERT INTO t (v) VALUES (?)", "x".repeat(2_000_001)),
    "a blob of 2,000,001 bytes": await run("SELECT length(?)", new Uint8Array(2_000_001)),
    "a value that is made": await run("SELECT length(zeroblob(2000001))"),
    "a row": await run("INSERT INTO t (v) VALUES (zeroblob(1999999) || 'xxxx')"),
    "100 columns": await run(`CREATE TABLE hundred (${list(100, (i) => `c${i}`)})`),
    "101 columns": await run(`CREATE TABLE more (${list(101, (i) => `c${i}`)})`),
    "101 columns of a result": await run(`SELECT ${list(101, () => 1)}`),
    "a pattern of 50 bytes": await run("SELECT 'x' LIKE ?", "%".repeat(50)),
    "a pattern of 51 bytes": await run("SELECT 'x' LIKE ?", "é".repeat(25) + "%"),
    "5 terms": await run(Array(5).fill("SELECT 1").join(" UNION ALL ")),
    "6 terms": await run(Array(6).fill("SELECT 1").join(" UNION ALL ")),
    "a deep expression": await run(`SELECT ${"(".repeat(101)}1${")".repeat(101)}`),
    "a deferred key": (await DB.batch([
      DB.prepare("CREATE TABLE p (id INTEGER PRIMARY KEY)"),
      DB.prepare("CREATE TABLE c (p REFERENCES p (id))"),
      DB.prepare("PRAGMA defer_foreign_keys = TRUE"),
      DB.prepare("INSERT INTO c VALUES (1)"),
      DB.prepare("INSERT INTO p VALUES (1)"),
    ])).length,
    "not deferred any more": await run("INSERT INTO c VALUES (2)"),
    "deferred and broken": await caught(DB.batch([DB.prepare("PRAGMA defer_foreign_keys = on"), DB.prepare("INSERT INTO c VALUES (2)")])),
  });
}
"#;

// docs: d1 limits; workerd: util/sqlite.c++ (`setupSecurity`)
#[test]
fn a_worker_meets_the_limits_of_d1() {
    let project = project(&[("functions/limits.js", LIMITS)]);
    let dev = start(&project);
    let too_big = "D1_ERROR: string or blob too big: SQLITE_TOOBIG";
    let foreign = "D1_ERROR: FOREIGN KEY constraint failed: SQLITE_CONSTRAINT (extended: SQLITE_CONSTRAINT_FOREIGNKEY)";
    let expected: BTreeMap<&str, Value> = [
        ("100 parameters", json!(1)),
        (
            "101 parameters",
            json!("D1_ERROR: too many SQL variables at offset 307: SQLITE_ERROR"),
        ),
        (
            "?101",
            json!(
                "D1_ERROR: variable number must be between ?1 and ?100 at offset 7: SQLITE_ERROR"
            ),
        ),
        ("100,000 bytes", json!(1)),
        (
            "100,001 bytes",
            json!("D1_ERROR: statement too long: SQLITE_TOOBIG"),
        ),
        ("two statements of 60,000 bytes", json!(2)),
        ("a text of 1,999,000 bytes", json!(0)),
        ("a text of 2,000,001 bytes", json!(too_big)),
        ("a blob of 2,000,001 bytes", json!(too_big)),
        ("a value that is made", json!(too_big)),
        ("a row", json!(too_big)),
        ("100 columns", json!(0)),
        (
            "101 columns",
            json!("D1_ERROR: too many columns on more: SQLITE_ERROR"),
        ),
        (
            "101 columns of a result",
            json!("D1_ERROR: too many columns in result set: SQLITE_ERROR"),
        ),
        ("a pattern of 50 bytes", json!(1)),
        (
            "a pattern of 51 bytes",
            json!("D1_ERROR: LIKE or GLOB pattern too complex: SQLITE_ERROR"),
        ),
        ("5 terms", json!(5)),
        (
            "6 terms",
            json!("D1_ERROR: too many terms in compound SELECT: SQLITE_ERROR"),
        ),
        ("a deep expression", json!(1)),
        ("a deferred key", json!(5)),
        ("not deferred any more", json!(foreign)),
        ("deferred and broken", json!(foreign)),
    ]
    .into();
    let answers = dev.json("/limits");
    let answers: BTreeMap<&str, Value> = answers
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| (name.as_str(), value.clone()))
        .collect();
    assert_eq!(answers, expected);
}

// docs: d1 limits, 30 s; with a bound of half a second it is a test of `storage`.
#[test]
fn a_batch_is_undone_after_thirty_seconds() {
    if std::env::var_os("ENGAWA_TEST_FULL").is_none() {
        return;
    }
    let project = project(&[("functions/limits.js", LIMITS)]);
    let dev = start(&project);
    let said =
        "D1_ERROR: D1 DB storage operation exceeded timeout which caused object to be reset.";
    assert_eq!(dev.json("/limits?slow"), json!([said, 0]));
}

const VALUES: &str = r"
export async function onRequest({ env: { DB }, request }) {
  const values = (await request.json()).map((value) => value?.bytes ? new Uint8Array(value.bytes) : value);
  await DB.exec('DROP TABLE IF EXISTS v\nCREATE TABLE v (id INTEGER PRIMARY KEY, x, i INTEGER, r REAL, t TEXT, b BLOB)');
  const insert = DB.prepare('INSERT INTO v (x, i, r, t, b) VALUES (?1, ?1, ?1, ?1, ?1)');
  if (values.length > 0) await DB.batch(values.map((value) => insert.bind(value)));
  return Response.json({
    stored: await DB.prepare('SELECT x, i, r, t, b FROM v ORDER BY id').raw(),
    types: await DB.prepare('SELECT typeof(x), typeof(i), typeof(r), typeof(t), typeof(b) FROM v ORDER BY id').raw(),
    bound: values.length > 0 ? (await DB.batch(values.map((value) => DB.prepare('SELECT ? AS a, typeof(?1) AS t').bind(value)))).map(({ results }) => results[0]) : [],
  });
}
";

/// A value that a worker binds.
#[derive(Debug, Clone)]
enum Bound {
    Null,
    Boolean(bool),
    Number(f64),
    Text(String),
    Bytes(Vec<u8>),
}

impl Bound {
    fn as_json(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Boolean(value) => json!(value),
            Self::Number(number) => json!(number),
            Self::Text(text) => json!(text),
            Self::Bytes(bytes) => json!({ "bytes": bytes }),
        }
    }

    /// What comes back, and its type in SQLite (storage.md 2.3): as a parameter, and from
    /// columns of no affinity, INTEGER, REAL, TEXT and BLOB.
    fn expected(&self) -> (Value, [(Value, &'static str); 5]) {
        let same = |value: Value, kind| (value.clone(), [(); 5].map(|()| (value.clone(), kind)));
        match self {
            Self::Null => same(Value::Null, "null"),
            Self::Bytes(bytes) => same(json!(bytes), "blob"),
            Self::Text(text) => same(json!(text), "text"),
            // workerd: `d1-api.ts` makes it a number, and a number is REAL.
            Self::Boolean(value) => Self::Number(f64::from(u8::from(*value))).expected(),
            Self::Number(number) => {
                let (value, mut columns) = same(json!(number), "real");
                #[expect(clippy::cast_possible_truncation, reason = "it was looked at before")]
                if number.fract() == 0.0 && number.abs() < 9e15 {
                    columns[1] = (json!(*number as i64), "integer");
                }
                columns[3] = (json!(format!("{:?}", number + 0.0)), "text");
                (value, columns)
            }
        }
    }
}

/// Numbers are the same if their values are; JSON has no negative zero.
fn is_same(one: &Value, other: &Value) -> bool {
    match (one.as_f64(), other.as_f64()) {
        (Some(one), Some(other)) => (one + 0.0).to_bits() == (other + 0.0).to_bits(),
        _ => one == other,
    }
}

// Property: whatever a worker binds comes back as storage.md 2.3 says, through every affinity.
#[test]
fn values_of_every_type_come_back_through_a_worker() {
    let project = project(&[("functions/values.js", VALUES)]);
    let dev = start(&project);
    let number = prop_oneof![
        any::<f64>().prop_filter("JSON has no others", |number| number.is_finite()),
        any::<i32>().prop_map(f64::from),
        (-(1_i64 << 53)..(1 << 53)).prop_map(|number| {
            #[expect(clippy::cast_precision_loss, reason = "below 2^53")]
            let exact = number as f64;
            exact
        }),
    ];
    let value = prop_oneof![
        Just(Bound::Null),
        any::<bool>().prop_map(Bound::Boolean),
        number.prop_map(Bound::Number),
        // A text that is a number becomes one in a column of INTEGER.
        any::<String>().prop_map(|text| Bound::Text(format!("x{text}"))),
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bound::Bytes),
    ];
    let full = std::env::var_os("ENGAWA_TEST_FULL").is_some();
    let cases = if full { 500 } else { 24 };
    let values = proptest::collection::vec(value, 0..40);
    proptest!(ProptestConfig::with_cases(cases), |(values in values)| {
        let sent: Vec<Value> = values.iter().map(Bound::as_json).collect();
        let mut response = dev.agent().post(dev.url("/values")).send_json(&sent).unwrap();
        let text = response.body_mut().read_to_string().unwrap();
        prop_assert_eq!(response.status(), 200, "{}", text);
        let answer: Value = serde_json::from_str(&text).unwrap();
        for (row, value) in values.iter().enumerate() {
            let (bound, columns) = value.expected();
            let found = &answer["bound"][row];
            prop_assert!(is_same(&found["a"], &bound), "{value:?}: {found}");
            for (column, (expected, kind)) in columns.iter().enumerate() {
                let (stored, found) = (&answer["stored"][row][column], &answer["types"][row][column]);
                prop_assert_eq!(found, *kind, "{:?} in {}", value, column);
                // SQLite writes fewer digits of a number into a text than it has.
                let is_number_as_text = column == 3 && matches!(value, Bound::Number(number) if number.abs() >= 1e15 || number.fract() != 0.0);
                prop_assert!(is_number_as_text || is_same(stored, expected), "{value:?} in {column}: {stored}");
            }
        }
    });
}

/// The rows are of every kind, with full text beside them.
const SMALL: &str = "CREATE TABLE notes (id INTEGER PRIMARY KEY AUTOINCREMENT, t TEXT, b BLOB);\n\
    CREATE VIRTUAL TABLE found USING fts5(t, content='notes', content_rowid='id');\n\
    CREATE TRIGGER noted AFTER INSERT ON notes BEGIN INSERT INTO found(rowid, t) VALUES (new.id, new.t); END;\n\
    INSERT INTO notes (t, b) VALUES ('it''s; a note', X'00ff'), ('zwei\nZeilen', NULL), ('ünï', X'');\n";

// control-plane-api.md 6.2 to 6.5: wrangler as the client of the owner's control socket.
#[test]
fn wrangler_imports_exports_and_migrates_over_the_control_socket() {
    let Some(modules) = packages() else {
        eprintln!("wrangler is not installed (cargo xtask test installs it): nothing was compared");
        return;
    };
    let project = with_copy(&[
        ("small.sql", SMALL),
        (
            "bad.sql",
            "CREATE TABLE half (a);\nINSERT INTO nowhere VALUES (1);\n",
        ),
        (
            "migrations/0001_more.sql",
            "ALTER TABLE notes ADD COLUMN more;",
        ),
    ]);
    let _dev = start(&project);
    let api = over_tcp(&project.path().join(".engawa/control.sock"));
    let ask = |arguments: &[&str]| {
        let mut command = wrangler(&modules, project.path());
        command
            .args(arguments)
            .current_dir(project.path())
            .env("CLOUDFLARE_API_BASE_URL", format!("{api}/client/v4"))
            .env("CLOUDFLARE_ACCOUNT_ID", "local")
            .env("CLOUDFLARE_API_TOKEN", "none");
        output(&mut command)
    };
    let ok = |arguments: &[&str]| {
        let (ok, stdout, stderr) = ask(arguments);
        assert!(ok, "{arguments:?}: {stdout}{stderr}");
        stdout
    };
    let said = ok(&[
        "d1",
        "execute",
        "it-db",
        "--remote",
        "-y",
        "--json",
        "--file",
        "small.sql",
    ]);
    let said: Value = serde_json::from_str(&said[said.find('[').unwrap()..]).unwrap();
    assert_eq!(said[0]["results"][0]["Total queries executed"], 4, "{said}");
    let (good, stdout, stderr) = ask(&[
        "d1", "execute", "it-db", "--remote", "-y", "--file", "bad.sql",
    ]);
    assert!(
        !good && (stdout + &stderr).contains("no such table: nowhere"),
        "{stderr}"
    );
    ok(&["d1", "migrations", "apply", "it-db", "--remote"]);
    ok(&[
        "d1",
        "export",
        "it-db",
        "--remote",
        "-y",
        "--output",
        "theirs.sql",
    ]);
    run(&project, &["d1", "export", "it-db", "--output", "ours.sql"]);
    let read = |name: &str| std::fs::read_to_string(project.path().join(name)).unwrap();
    assert_eq!(read("theirs.sql"), read("ours.sql"));
    ok(&[
        "d1",
        "execute",
        "copy",
        "--remote",
        "-y",
        "--file",
        "theirs.sql",
    ]);
    for sql in [
        "SELECT id, t, hex(b) AS b, more FROM notes ORDER BY id",
        "SELECT rowid FROM found WHERE found MATCH 'note OR zeilen' ORDER BY rowid",
        "SELECT name FROM sqlite_master WHERE name <> 'half' ORDER BY name",
        "SELECT name FROM d1_migrations",
    ] {
        assert_eq!(
            rows(&project, "copy", sql),
            rows(&project, "it-db", sql),
            "{sql}"
        );
        assert_ne!(rows(&project, "copy", sql), json!([]), "{sql}");
    }
    if std::env::var_os("ENGAWA_TEST_FULL").is_none() {
        // wrangler takes seconds to start.
        return;
    }
    ok(&[
        "d1",
        "export",
        "it-db",
        "--remote",
        "-y",
        "--table",
        "notes",
        "--no-schema",
        "--output",
        "part.sql",
    ]);
    assert!(
        read("part.sql")
            .lines()
            .skip(1)
            .all(|line| line.starts_with("INSERT INTO \"notes\""))
    );
}

/// A port of loopback that leads to a unix socket, for clients that know only those.
fn over_tcp(socket: &Path) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let socket = socket.to_owned();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let server = UnixStream::connect(&socket).unwrap();
            let (mut client2, mut server2): (TcpStream, UnixStream) =
                (client.try_clone().unwrap(), server.try_clone().unwrap());
            let (mut client, mut server) = (client, server);
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut client, &mut server);
                let _ = server.shutdown(Shutdown::Write);
            });
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut server2, &mut client2);
                let _ = client2.shutdown(Shutdown::Both);
            });
        }
    });
    url
}

#[test]
fn a_progress_bar_is_drawn_on_a_terminal_only() {
    let project = project(&[]);
    let text = format!(
        "CREATE TABLE t (a);\n{}",
        "INSERT INTO t VALUES (zeroblob(100));\n".repeat(20_000)
    );
    project.write("large.sql", text);
    let execute = ["d1", "execute", "it-db", "--file", "large.sql"];
    let (ok, _, said) = output(&mut command(&project, &execute));
    assert!(
        ok && !said.contains('\r') && !said.contains('\u{1b}'),
        "{said:?}"
    );
    let program = program().to_str().unwrap();
    let line =
        format!("'{program}' d1 execute it-db --file large.sql --command-is-not-given --local");
    let line = line.replace(" --command-is-not-given", "");
    // `script` gives its command a terminal.
    let mut on_terminal = engawa(Path::new("/usr/bin/script"));
    on_terminal
        .args(["-qec", &line, "/dev/null"])
        .env("SHELL", "/bin/sh")
        .current_dir(project.path());
    project.write(
        "large.sql",
        "INSERT INTO t VALUES (zeroblob(100));\n".repeat(20_000),
    );
    let (ok, said, more) = output(&mut on_terminal);
    assert!(ok, "{said}{more}");
    assert!(said.contains("Sending large.sql ━"), "{said:?}");
    let end = said.rfind('\r').unwrap();
    assert!(
        said.contains("\r\u{1b}[K") && !said[end..].contains('━'),
        "{said:?}"
    );
}

const LOAD: &str = r"
export async function onRequest({ env: { DB } }) {
  const words = Array.from({ length: 20 }, () => 'word' + Math.floor(Math.random() * 1000)).join(' ');
  const [{ results }] = await DB.batch([DB.prepare('INSERT INTO messages (content) VALUES (?) RETURNING id').bind(words)]);
  return Response.json(results[0].id);
}
";

/// The most memory that a process has had, in MiB.
fn peak_mib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}

/// Runs a command that must succeed, and says how much memory it had.
fn run_measured(project: &TestProject, arguments: &[&str]) -> u64 {
    let mut child = command(project, arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut peak = 0;
    let status = loop {
        peak = peak.max(peak_mib(child.id()));
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    };
    let mut said = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut said).unwrap();
    assert!(status.success(), "{arguments:?}: {said}");
    peak
}

/// SQL that makes a database of some megabytes: texts with full text over them and beside
/// them, blobs, an index.
fn make_large(megabytes: u64) -> String {
    let mut sql = "CREATE TABLE messages (id INTEGER PRIMARY KEY, content TEXT NOT NULL);\n\
        CREATE VIRTUAL TABLE search USING fts5(content, content='messages', content_rowid='id');\n\
        CREATE TRIGGER ai AFTER INSERT ON messages BEGIN INSERT INTO search(rowid, content) VALUES (new.id, new.content); END;\n\
        CREATE VIRTUAL TABLE own USING fts5(title, body, tokenize='porter');\n\
        CREATE TABLE files (id INTEGER PRIMARY KEY, name TEXT, data BLOB);\n\
        CREATE INDEX by_name ON files (name);\n"
        .to_owned();
    // A megabyte a round: 1000 rows of texts and 9 files.
    for round in 0..megabytes {
        let seed = round * 1000;
        let words = "'word' || (i * 7919 % 10007) || ' it''s line' || char(10) || hex(randomblob(20)) || ' ' || (i % 97)";
        let count =
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)";
        writeln!(
            sql,
            "INSERT INTO messages (content) {count} SELECT {words} FROM (SELECT i + {seed} AS i FROM n);\n\
             INSERT INTO own (title, body) {count} SELECT 'title ' || i, {words} FROM n WHERE i < 500;\n\
             INSERT INTO files (name, data) {count} SELECT 'file ' || (i + {seed}) || '.bin', randomblob(90000) FROM n WHERE i < 10;"
        )
        .unwrap();
    }
    sql
}

// Issue: 1 GB exported under a write load, imported into a new one, contents equal, in memory
// that does not grow with it. By default a few megabytes.
#[test]
fn a_large_database_is_exported_under_load_and_comes_back() {
    let full = std::env::var_os("ENGAWA_TEST_FULL").is_some();
    let megabytes = if full { 1000 } else { 4 };
    let project = with_copy(&[("functions/load.js", LOAD)]);
    project.write("make.sql", make_large(megabytes));
    // Without a server: the command has all the work to do itself.
    let making = run_measured(&project, &["d1", "execute", "it-db", "--file", "make.sql"]);

    let dev = start(&project);
    assert!(
        dev.json("/load").as_u64().unwrap() > 1000 * megabytes,
        "it loads"
    );
    let before = peak_mib(dev.pid());
    let (stop, written) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let writers: Vec<_> = (0..2)
        .map(|_| {
            let (stop, written) = (Arc::clone(&stop), Arc::clone(&written));
            let (agent, url) = (dev.agent().clone(), dev.url("/load"));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let mut response = agent.get(&url).call().unwrap();
                    let text = response.body_mut().read_to_string().unwrap();
                    assert_eq!(response.status(), 200, "{text}");
                    written.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let export = ["d1", "export", "it-db", "-y", "--output", "one.sql"];
    let exporting = run_measured(&project, &export);
    let meanwhile = written.load(Ordering::Relaxed);
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.join().unwrap();
    }
    let importing = run_measured(&project, &["d1", "execute", "copy", "--file", "one.sql"]);
    run(&project, &["d1", "export", "copy", "--output", "two.sql"]);
    let after = peak_mib(dev.pid());
    let size = std::fs::metadata(project.path().join("one.sql"))
        .unwrap()
        .len();
    eprintln!(
        "{} MB of SQL; peaks in MiB: made {making}, exported {exporting}, imported {importing}, dev {before} and then {after}; {meanwhile} writes meanwhile",
        size / 1_000_000
    );
    assert!(size > megabytes * 1_000_000);
    assert!(meanwhile > 0, "writes went on");
    assert!(same(
        &project.path().join("one.sql"),
        &project.path().join("two.sql")
    ));
    // What was written meanwhile is in the export up to one moment, and whole.
    let ids = "SELECT count(*) = max(id) AS whole FROM messages";
    assert_eq!(rows(&project, "copy", ids), json!([{ "whole": 1 }]));
    let last = "SELECT max(id) AS id FROM messages";
    let last = rows(&project, "copy", last)[0]["id"].as_u64().unwrap();
    for sql in [
        format!("SELECT count(*) AS n, sum(length(content)) AS s FROM messages WHERE id <= {last}"),
        "SELECT count(*) AS n, sum(length(data)) AS s, max(name) AS m FROM files".to_owned(),
        "SELECT count(*) AS n FROM own WHERE own MATCH 'lines'".to_owned(),
        format!("SELECT count(*) AS n FROM search WHERE search MATCH 'word5' AND rowid <= {last}"),
    ] {
        assert_eq!(
            rows(&project, "copy", &sql),
            rows(&project, "it-db", &sql),
            "{sql}"
        );
    }
    // As a file: a query would have 30 s for it.
    let check = "INSERT INTO search(search, rank) VALUES ('integrity-check', 1); INSERT INTO own(own) VALUES ('integrity-check');";
    project.write("check.sql", check);
    run(&project, &["d1", "execute", "copy", "--file", "check.sql"]);
    for (what, mib) in [
        ("making", making),
        ("exporting", exporting),
        ("importing", importing),
    ] {
        assert!(mib < 160, "{what} took {mib} MiB");
    }
    assert!(after < before + 96, "dev grew from {before} to {after} MiB");
}

/// Whether two files have the same bytes, read piece by piece.
fn same(one: &Path, other: &Path) -> bool {
    let (ok, _, _) = output(Command::new("cmp").arg(one).arg(other));
    ok
}

#[test]
fn an_import_that_fails_late_leaves_nothing() {
    let project = project(&[]);
    let mut file = std::fs::File::create(project.path().join("late.sql")).unwrap();
    writeln!(file, "CREATE TABLE t (a);").unwrap();
    for _ in 0..300 {
        writeln!(file, "INSERT INTO t VALUES ('{}');", "x".repeat(50_000)).unwrap();
    }
    writeln!(file, "INSERT INTO nowhere VALUES (1);").unwrap();
    drop(file);
    let execute = ["d1", "execute", "it-db", "--file", "late.sql"];
    let (ok, _, said) = output(&mut command(&project, &execute));
    assert!(
        !ok && said.contains("no such table: nowhere: SQLITE_ERROR"),
        "{said}"
    );
    assert!(said.contains("has changed nothing"), "{said}");
    assert_eq!(
        rows(&project, "it-db", "SELECT name FROM sqlite_master"),
        json!([])
    );
}
