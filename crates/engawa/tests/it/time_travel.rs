//! `engawa d1 time-travel`: back to a bookmark or a moment, and to where one was; with a
//! process that owns the folder, without one, and killed.
#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::hash::{BuildHasher as _, Hasher as _};
use std::time::{Duration, SystemTime};

use engawa_testkit::TestProject;
use serde_json::{Value, json};

use crate::local::{command, run, sql};
use crate::{project, start};

fn travel(project: &TestProject, arguments: &[&str]) -> Value {
    let arguments = [&["d1", "time-travel"], arguments, &["--json"]].concat();
    run(project, &arguments).ok().json()
}

fn bookmark(project: &TestProject) -> String {
    let info = travel(project, &["info", "it-db"]);
    info["bookmark"].as_str().unwrap().to_owned()
}

fn rows(project: &TestProject) -> Value {
    let done = sql(project, "it-db", "SELECT s FROM t ORDER BY s").ok();
    done.rows().remove(0)
}

fn insert(project: &TestProject, text: &str) {
    sql(
        project,
        "it-db",
        &format!("INSERT INTO t VALUES ('{text}')"),
    )
    .ok();
}

// wrangler: d1/timeTravel/{info,restore}.ts
#[test]
fn a_database_is_restored_with_wranglers_words_and_the_restore_is_undone() {
    let project = project(&[]);
    sql(&project, "it-db", "CREATE TABLE t (s)").ok();
    insert(&project, "one");
    let one = bookmark(&project);
    let info = run(&project, &["d1", "time-travel", "info", "DB"]).ok();
    let expected = [
        "🚧 Time Traveling...",
        "⚠️ The current bookmark is '",
        "⚡️ To restore to this specific bookmark, run:",
        " `engawa d1 time-travel restore DB --bookmark=",
    ];
    for (line, expected) in info.text().lines().zip(expected) {
        assert!(line.starts_with(expected), "{line}");
    }
    insert(&project, "two");
    let both = json!([{ "s": "one" }, { "s": "two" }]);
    assert_eq!(rows(&project), both);

    let restore = ["d1", "time-travel", "restore", "it-db", "--bookmark", &one];
    let done = run(&project, &restore).ok();
    let text = done.text();
    for expected in [
        format!("🚧 Restoring database it-db from bookmark {one}\n"),
        "⚠️ This will overwrite all data in database it-db. \nIn-flight queries and transactions will be cancelled.\n".to_owned(),
        "? OK to proceed (y/N)\n🤖 Using fallback value in non-interactive context: yes\n".to_owned(),
        "⚡️ Time travel in progress...\n".to_owned(),
        format!("✅ Database it-db restored back to bookmark {one}\n"),
    ] {
        assert!(text.contains(&expected), "{text}");
    }
    assert_eq!(rows(&project), json!([{ "s": "one" }]));
    let undo = "↩️ To undo this operation, you can restore to the previous bookmark: ";
    let (_, previous) = text.trim_end().split_once(undo).unwrap();
    let done = travel(&project, &["restore", "it-db", "--bookmark", previous]);
    assert_eq!(done["bookmark"], json!(previous));
    assert_eq!(rows(&project), both);

    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let before = (now.unwrap().as_secs() - 86_400).to_string();
    let restore = [
        "d1",
        "time-travel",
        "restore",
        "it-db",
        "--timestamp",
        &before,
    ];
    let refused = run(&project, &restore);
    assert_eq!(refused.code(), Some(1));
    assert!(
        refused
            .stderr()
            .contains("The history of this database begins at"),
        "{}",
        refused.stderr()
    );
    assert_eq!(rows(&project), both);
}

// wrangler: d1/timeTravel/restore.ts `validateArgs`, utils.ts
#[test]
fn options_that_make_no_sense_are_refused_in_wranglers_words() {
    let project = project(&[]);
    for (arguments, expected) in [
        (
            &["restore", "it-db"][..],
            "Missing required option --timestamp or --bookmark.",
        ),
        (
            &["restore", "it-db", "--timestamp=1234", "--bookmark=5678"],
            "Cannot use --timestamp and --bookmark together.",
        ),
        (
            &["info", "it-db", "--timestamp=soon"],
            "Invalid timestamp 'soon'. Please provide a valid Unix timestamp",
        ),
        (
            &["info", "it-db", "--timestamp=1234"],
            "Please provide a timestamp within the last 30 days",
        ),
        (
            &["restore", "it-db", "--bookmark=5678", "--json"],
            "The bookmark '5678' is not one of this database.",
        ),
        (&["info", "nope"], "no D1 database nope"),
    ] {
        let arguments = [&["d1", "time-travel"], arguments].concat();
        let text = run(&project, &arguments).refused();
        assert!(text.contains(expected), "{arguments:?}: {text}");
    }
}

#[test]
fn a_running_dev_shows_what_was_restored_at_once_and_keeps_its_sessions() {
    let function = r#"
export async function onRequest({ env, request }) {
  const session = env.DB.withSession(request.headers.get("x-bookmark") ?? "first-primary");
  const { results } = await session.prepare("SELECT s FROM t ORDER BY s").all();
  return Response.json({ results, bookmark: session.getBookmark() });
}"#;
    let project = project(&[("functions/f.js", function)]);
    sql(&project, "it-db", "CREATE TABLE t (s)").ok();
    insert(&project, "one");
    let dev = start(&project);
    let first = dev.json("/f");
    assert_eq!(first["results"], json!([{ "s": "one" }]));
    // A session's bookmark is one to restore to.
    let of_session = first["bookmark"].as_str().unwrap().to_owned();
    insert(&project, "two");
    let done = travel(&project, &["restore", "it-db", "--bookmark", &of_session]);
    let second = dev.json("/f");
    assert_eq!(second["results"], json!([{ "s": "one" }]));
    assert!(second["bookmark"].as_str().unwrap() > of_session.as_str());
    let previous = done["previous_bookmark"].as_str().unwrap();
    travel(&project, &["restore", "it-db", "--bookmark", previous]);
    let both = json!([{ "s": "one" }, { "s": "two" }]);
    assert_eq!(dev.json("/f")["results"], both);
}

// A restore is all or nothing, and the history goes on after it.
#[test]
fn a_restore_that_is_killed_has_happened_or_not() {
    let seed = std::env::var("ENGAWA_TEST_SEED").map_or_else(
        |_| {
            let state = std::collections::hash_map::RandomState::new();
            state.build_hasher().finish()
        },
        |text| text.parse().unwrap(),
    );
    eprintln!("ENGAWA_TEST_SEED={seed}");
    let full = std::env::var_os("ENGAWA_TEST_FULL").is_some();
    let project = project(&[]);
    let fill = "CREATE TABLE t (n, s); INSERT INTO t WITH RECURSIVE c (x) AS \
                (VALUES (1) UNION ALL SELECT x + 1 FROM c WHERE x < 3000) \
                SELECT 1, hex(randomblob(500)) FROM c; CREATE INDEX t_s ON t (s)";
    sql(&project, "it-db", fill).ok();
    let mut bookmarks = vec![bookmark(&project)];
    sql(&project, "it-db", "UPDATE t SET n = 2, s = s || 'x'").ok();
    bookmarks.push(bookmark(&project));
    let state = || {
        let sum = "SELECT count(*) AS rows, min(n) AS least, max(n) AS most, \
                   (SELECT count(*) FROM t INDEXED BY t_s WHERE s LIKE '%x') AS x FROM t; \
                   PRAGMA quick_check";
        let rows = sql(&project, "it-db", sum).ok().rows();
        assert_eq!(rows[1], json!([{ "quick_check": "ok" }]));
        rows[0][0].clone()
    };
    let old = json!({ "rows": 3000, "least": 1, "most": 1, "x": 0 });
    let new = json!({ "rows": 3000, "least": 2, "most": 2, "x": 3000 });
    assert_eq!(state(), new);
    let rounds = if full { 60 } else { 6 };
    let mut kills = 0;
    for round in 0..rounds {
        let target = &bookmarks[round % 2];
        let arguments = [
            "d1",
            "time-travel",
            "restore",
            "it-db",
            "--bookmark",
            target,
        ];
        let mut child = command(project.path(), &arguments)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let wait = seed.rotate_left(u32::try_from(round).unwrap() * 7) % 400;
        std::thread::sleep(Duration::from_millis(wait));
        child.kill().unwrap();
        kills += usize::from(!child.wait().unwrap().success());
        let found = state();
        assert!(found == old || found == new, "round {round}: {found}");
    }
    eprintln!("{kills} of {rounds} were killed");
    for (target, expected) in bookmarks.iter().zip([old, new]) {
        travel(&project, &["restore", "it-db", "--bookmark", target]);
        assert_eq!(state(), expected);
    }
}
