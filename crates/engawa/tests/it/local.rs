//! `engawa d1|kv|r2 … --local`: a user's walk on a project's state folder, with and
//! without `engawa dev` beside it.
#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod d1;
mod objects;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use engawa_testkit::{TestProject, engawa, wait_until};
use serde_json::{Value, json};

use crate::{WRANGLER, program, project, start};

/// Two databases: the second one is for copies.
fn with_copy(files: &[(&str, &str)]) -> TestProject {
    let project = project(files);
    let copy = "[[d1_databases]]\nbinding = \"COPY\"\ndatabase_name = \"copy\"\ndatabase_id = \"the-copy\"\n";
    project.write("wrangler.toml", format!("{WRANGLER}\n{copy}"));
    project
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Done {
    code: Option<i32>,
    stdout: Vec<u8>,
    stderr: String,
}

impl Done {
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self
    }

    /// The text of a command that could not do its work; it printed no data.
    pub(crate) fn refused(self) -> String {
        assert_eq!(self.code, Some(1), "{self:?}");
        assert!(self.stdout.is_empty(), "{self:?}");
        self.stderr
    }

    pub(crate) fn code(&self) -> Option<i32> {
        self.code
    }

    pub(crate) fn stderr(&self) -> &str {
        &self.stderr
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The rows of each statement.
    pub(crate) fn rows(&self) -> Vec<Value> {
        self.json()
            .as_array()
            .unwrap()
            .iter()
            .map(|result| result["results"].clone())
            .collect()
    }
}

pub(crate) fn command(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = engawa(program());
    command
        .args(arguments)
        .args(["--local"])
        .current_dir(dir)
        .stdin(Stdio::null());
    command
}

pub(crate) fn run(project: &TestProject, arguments: &[&str]) -> Done {
    let output = command(project.path(), arguments).output().unwrap();
    Done {
        code: output.status.code(),
        stdout: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

pub(crate) fn sql(project: &TestProject, database: &str, sql: &str) -> Done {
    run(project, &["d1", "execute", database, "--command", sql])
}

#[test]
fn commands_and_a_running_dev_see_each_others_writes_at_once() {
    let project = project(&[(
        "functions/f.js",
        r#"export async function onRequest({ env, request }) {
  if (request.method === "POST") {
    await env.KV.put("of-dev", "kv"); await env.BUCKET.put("of-dev", "r2");
    await env.DB.exec("INSERT INTO t VALUES ('of dev')");
    return new Response();
  }
  const object = await env.BUCKET.get("o");
  return Response.json([await env.KV.get("k"), (await env.DB.prepare("SELECT s FROM t").all()).results, object && await object.text()]);
}"#,
    )]);
    sql(&project, "it-db", "CREATE TABLE t (s TEXT)").ok();
    let dev = start(&project);
    assert_eq!(dev.json("/f"), json!([null, [], null]));
    project.write("o.txt", "r2");
    run(
        &project,
        &["kv", "key", "put", "k", "kv", "--binding", "KV"],
    )
    .ok();
    run(
        &project,
        &["r2", "object", "put", "it-bucket/o", "--file", "o.txt"],
    )
    .ok();
    sql(&project, "it-db", "INSERT INTO t VALUES ('d1')").ok();
    assert_eq!(dev.json("/f"), json!(["kv", [{ "s": "d1" }], "r2"]));

    assert_eq!(
        dev.agent()
            .post(dev.url("/f"))
            .send_empty()
            .unwrap()
            .status(),
        200
    );
    assert_eq!(
        run(&project, &["kv", "key", "get", "of-dev", "--binding", "KV"])
            .ok()
            .text(),
        "kv"
    );
    assert_eq!(
        run(
            &project,
            &["r2", "object", "get", "it-bucket/of-dev", "--pipe"]
        )
        .ok()
        .text(),
        "r2"
    );
    let rows = sql(&project, "it-db", "SELECT s FROM t ORDER BY rowid")
        .ok()
        .rows();
    assert_eq!(rows, [json!([{ "s": "d1" }, { "s": "of dev" }])]);
}

#[test]
fn commands_at_the_same_time_all_succeed() {
    let project = project(&[("migrations/0001_t.sql", "CREATE TABLE t (s TEXT);")]);
    run(&project, &["d1", "migrations", "apply", "it-db"]).ok();
    for round in 0..5 {
        let commands: Vec<_> = (0..8)
            .map(|number| {
                let value = format!("{round}/{number}");
                let mut command = if number % 2 == 0 {
                    let put = ["kv", "key", "put", &value, &value, "--binding", "KV"];
                    command(project.path(), &put)
                } else {
                    // Several calls, between which another owner may have gone.
                    let name = format!("migrations/1{round}{number}_n.sql");
                    project.write(&name, format!("INSERT INTO t VALUES ('{value}');"));
                    command(project.path(), &["d1", "execute", "it-db", "--file", &name])
                };
                command
                    .stdout(Stdio::piped())
                    .stderr(Stdio::piped())
                    .spawn()
                    .unwrap()
            })
            .collect();
        for command in commands {
            let output = command.wait_with_output().unwrap();
            assert!(
                output.status.success(),
                "{}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }
    let keys = run(&project, &["kv", "key", "list", "--binding", "KV"])
        .ok()
        .json();
    assert_eq!(keys.as_array().unwrap().len(), 20);
    assert_eq!(
        sql(&project, "it-db", "SELECT count(*) AS n FROM t")
            .ok()
            .rows(),
        [json!([{ "n": 20 }])]
    );
}

#[test]
fn dev_waits_for_a_command_that_has_the_folder() {
    let project = project(&[]);
    // It has the folder for as long as its input is open.
    let mut holder = command(
        project.path(),
        &["r2", "object", "put", "it-bucket/o", "--pipe"],
    );
    let mut holder = holder
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lock = project.path().join(".engawa/engawa.lock");
    wait_until("the command has the folder", || {
        std::fs::read_to_string(&lock).is_ok_and(|text| text.starts_with(&holder.id().to_string()))
    });
    let mut dev = engawa(program());
    dev.arg("dev")
        .arg(project.path())
        .args(["--port", "0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut dev = dev.spawn().unwrap();
    let mut said = BufReader::new(dev.stderr.take().unwrap())
        .lines()
        .map(Result::unwrap);
    assert!(
        said.any(|line| line.contains("Waiting for an engawa command")),
        "it does not wait"
    );
    drop(holder.stdin.take());
    assert!(holder.wait().unwrap().success());
    let mut line = String::new();
    BufReader::new(dev.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert!(
        line.starts_with("Ready on "),
        "{line:?} {:?}",
        said.collect::<Vec<_>>()
    );
    dev.kill().unwrap();
    dev.wait().unwrap();
}

#[test]
fn an_owner_that_does_not_answer_is_named_after_a_while() {
    let project = project(&[]);
    let dev = start(&project);
    dev.signal("STOP");
    let said = run(&project, &["kv", "key", "list", "--binding", "KV"]).refused();
    assert!(said.contains("does not answer"), "{said}");
    assert!(
        said.contains(&format!("engawa dev (process {})", dev.pid())),
        "{said}"
    );
    dev.signal("CONT");
    run(&project, &["kv", "key", "list", "--binding", "KV"]).ok();
}

#[test]
fn what_cannot_be_done_is_told_with_what_to_do() {
    let project = project(&[
        ("bad.json", "[{\"key\": "),
        ("object.json", "{}"),
        ("numbers.json", "[1]"),
        ("nokey.json", "[{\"value\": \"x\"}]"),
        ("database.sql", "SQLite format 3\0 and so on"),
    ]);
    let long = "k".repeat(513);
    let kv = ["--binding", "KV"];
    let cases: &[(&[&str], &[&str])] = &[
        (
            &["d1", "execute", "nope", "--command", "SELECT 1"],
            &["no D1 database nope", "it has it-db", "d1_databases"],
        ),
        (
            &["d1", "execute", "it-db", "--file", "missing.sql"],
            &["cannot read missing.sql", "No such file"],
        ),
        (
            &["d1", "execute", "it-db", "--file", "database.sql"],
            &["database.sql is a SQLite database", ".dump"],
        ),
        (
            &["d1", "execute", "it-db", "--command", " -- nothing"],
            &["No SQL statements"],
        ),
        (
            &["d1", "export", "it-db", "--output", "no/folder/x.sql"],
            &["cannot create no/folder/x.sql"],
        ),
        (
            &["d1", "migrations", "apply", "nope"],
            &["no D1 database nope"],
        ),
        (
            &["d1", "migrations", "create", "it-db", "a/b"],
            &["a/b", "separator"],
        ),
        (
            &["kv", "key", "get", "k", "--binding", "NOPE"],
            &["no KV namespace bound as NOPE", "KV"],
        ),
        (
            &["kv", "key", "put", &long, "v", kv[0], kv[1]],
            &["513", "512"],
        ),
        (
            &["kv", "key", "put", "k", "v", "--ttl", "5", kv[0], kv[1]],
            &["at least 60"],
        ),
        (
            &[
                "kv",
                "key",
                "put",
                "k",
                "v",
                "--metadata",
                "{",
                kv[0],
                kv[1],
            ],
            &["--metadata is not JSON"],
        ),
        (
            &["kv", "key", "put", "k", "--path", "missing", kv[0], kv[1]],
            &["cannot read missing"],
        ),
        (
            &["kv", "bulk", "put", "bad.json", kv[0], kv[1]],
            &["bad.json is not JSON", "line 1"],
        ),
        (
            &["kv", "bulk", "put", "object.json", kv[0], kv[1]],
            &["object.json must hold a JSON array"],
        ),
        (
            &["kv", "bulk", "put", "nokey.json", kv[0], kv[1]],
            &["nokey.json", "key"],
        ),
        (
            &["kv", "bulk", "get", "numbers.json", kv[0], kv[1]],
            &["numbers.json", "entry 1"],
        ),
        (
            &["kv", "bulk", "delete", "missing.json", kv[0], kv[1]],
            &["cannot read missing.json"],
        ),
        (
            &["r2", "object", "put", "no-slash", "--file", "bad.json"],
            &["no-slash", "bucket/key"],
        ),
        (
            &["r2", "object", "put", "it-bucket/o", "--file", "missing"],
            &["cannot read missing"],
        ),
        (
            &["r2", "object", "get", "it-bucket/nope", "--pipe"],
            &["does not exist"],
        ),
        (
            &["r2", "object", "get", "NO_BUCKET/nope", "--pipe"],
            &["NO_BUCKET"],
        ),
    ];
    for (arguments, parts) in cases {
        let said = run(&project, arguments).refused();
        for part in *parts {
            assert!(
                said.contains(part),
                "{arguments:?} said {said:?}, without {part:?}"
            );
        }
    }
    // Nothing of it was stored.
    assert_eq!(
        run(&project, &["kv", "key", "list", kv[0], kv[1]])
            .ok()
            .json(),
        json!([])
    );
}

#[test]
fn a_server_is_refused_as_long_as_there_is_none() {
    let project = project(&[]);
    for arguments in [
        &[
            "d1",
            "execute",
            "it-db",
            "--command",
            "SELECT 1",
            "--remote",
        ][..],
        &["kv", "key", "list", "--binding", "KV", "--remote"],
        &["r2", "bucket", "list", "--remote"],
    ] {
        let output = engawa(program())
            .args(arguments)
            .current_dir(project.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.contains("--local") && output.stdout.is_empty(),
            "{said}"
        );
    }
    assert!(
        !project.path().join(".engawa").exists(),
        "nothing was begun"
    );
}

#[test]
fn the_project_is_found_from_below_and_by_cwd() {
    let project = project(&[("sub/dir/k.txt", "value")]);
    // wrangler: --cwd is where everything begins, relative files too
    let put = [
        "kv",
        "key",
        "put",
        "k",
        "--path",
        "k.txt",
        "--binding",
        "KV",
    ];
    let sub = project.path().join("sub/dir");
    let output = command(
        Path::new("/"),
        &[&put[..], &["--cwd", sub.to_str().unwrap()]].concat(),
    )
    .output()
    .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(
        run(&project, &["kv", "key", "get", "k", "--binding", "KV"])
            .ok()
            .text(),
        "value"
    );
    assert!(!sub.join(".engawa").exists());
}
