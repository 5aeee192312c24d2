//! Migrations beside the real wrangler: the same folder, applied by both.

use std::path::Path;

use engawa_testkit::{TestProject, engawa, output};
use serde_json::Value;

use crate::program;
use engawa_testkit::oracle::{packages, wrangler};

const CONFIG: &str = r#"
name = "it"
compatibility_date = "2026-08-01"
pages_build_output_dir = "public"

[[d1_databases]]
binding = "DB"
database_name = "it-db"
database_id = "my-database"
"#;

/// Names in every order, SQL that is easily cut in the wrong place, and one that fails.
const FILES: &[(&str, &str)] = &[
    (
        "1_first.sql",
        "-- a comment; with a semicolon\nCREATE TABLE notes (id INTEGER PRIMARY KEY, t TEXT DEFAULT 'a;b');\r\n",
    ),
    (
        "0002_second.sql",
        "INSERT INTO notes (t) VALUES ('it''s'), ('/* no comment */');",
    ),
    (
        "10_tenth.sql",
        "CREATE TRIGGER marked AFTER INSERT ON notes BEGIN\n  UPDATE notes SET t = CASE WHEN new.t = 'x' THEN 'y' ELSE new.t END WHERE id = new.id;\nEND;\nINSERT INTO notes (t) VALUES ('x');",
    ),
    (
        "9_ninth.sql",
        "CREATE INDEX by_text ON notes (t); CREATE VIEW v AS SELECT t FROM notes;",
    ),
    (
        "unnumbered.sql",
        "CREATE VIRTUAL TABLE words USING fts5(t); INSERT INTO words SELECT t FROM notes;",
    ),
    ("it's.sql", "/* only a comment */ SELECT 1;"),
    ("ignored.txt", "no SQL"),
];
const FAILING: (&str, &str) = (
    "20_bad.sql",
    "CREATE TABLE half (a);\nINSERT INTO notes (t) VALUES ('half');\nINSERT INTO nowhere VALUES (1);",
);

/// What a command said, both streams together, and whether it was pleased.
fn ours(project: &Path, arguments: &[&str]) -> (bool, String, String) {
    output(
        engawa(program())
            .args(arguments)
            .arg("--local")
            .current_dir(project),
    )
}

fn theirs(modules: &Path, project: &TestProject, arguments: &[&str]) -> (bool, String, String) {
    let mut command = wrangler(modules, project.path());
    output(
        command
            .args(arguments)
            .arg("--local")
            .current_dir(project.path()),
    )
}

/// The rows of each statement.
fn results((ok, stdout, stderr): (bool, String, String)) -> Vec<Value> {
    assert!(ok, "{stdout}{stderr}");
    let json: Vec<Value> =
        serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}{stderr}"));
    json.iter()
        .map(|result| result["results"].clone())
        .collect()
}

/// The files that a text names, in the order of their first places.
fn named(text: &str) -> Vec<&'static str> {
    let mut found: Vec<(usize, &str)> = FILES
        .iter()
        .chain([&FAILING])
        .filter_map(|(name, _)| {
            Some((
                text.find(&format!(" {name} "))
                    .or_else(|| text.find(&format!("{name}\n")))?,
                *name,
            ))
        })
        .collect();
    found.sort_unstable();
    found.into_iter().map(|(_, name)| name).collect()
}

// wrangler: src/d1/migrations/{helpers,list,apply}.ts
#[test]
fn migrations_are_those_of_wrangler() {
    let Some(modules) = packages() else {
        eprintln!("wrangler is not installed (cargo xtask test installs it): nothing was compared");
        return;
    };
    let mut tables = vec!["my \"own\" table"];
    // wrangler takes seconds to start.
    let full = std::env::var_os("ENGAWA_TEST_FULL").is_some();
    if full {
        tables.push("d1_migrations");
    }
    for table in tables {
        let (mine, its) = (TestProject::new(&[]), TestProject::new(&[]));
        for project in [&mine, &its] {
            let line = format!("migrations_table = {}\n", Value::from(table));
            project.write("wrangler.toml", format!("{CONFIG}{line}"));
            project.write("public/index.html", "");
            for (name, text) in FILES {
                project.write(&format!("migrations/{name}"), text);
            }
        }
        let list = ["d1", "migrations", "list", "it-db"];
        let apply = ["d1", "migrations", "apply", "it-db"];
        let (ok, listed, said) = ours(mine.path(), &list);
        assert!(ok, "{said}");
        let (ok, expected, said) = theirs(&modules, &its, &list);
        assert!(ok, "{said}");
        assert_eq!(named(&listed), named(&expected), "{listed}\n{expected}");
        assert_eq!(named(&listed).len(), FILES.len() - 1);

        let quoted = format!("\"{}\"", table.replace('"', "\"\""));
        // One statement after the other in one command: wrangler is slow to start.
        let queries = [
            &format!("SELECT id, name, typeof(applied_at) AS t, length(applied_at) AS n FROM {quoted} ORDER BY id"),
            "SELECT * FROM notes ORDER BY id",
            "SELECT rowid, t FROM words ORDER BY rowid",
            "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE name NOT LIKE '\\_cf\\_%' ESCAPE '\\' ORDER BY name",
            "SELECT name, seq FROM sqlite_sequence",
        ]
        .join("; ");
        let ask = ["d1", "execute", "it-db", "--json", "--command", &queries];
        let compare = |step: &str| {
            let here = results(ours(mine.path(), &ask));
            let there = results(theirs(&modules, &its, &ask));
            assert_eq!(here.len(), 5);
            assert!(
                here.iter().all(|rows| *rows != serde_json::json!([])),
                "{here:?}"
            );
            assert_eq!(here, there, "{step}");
        };
        let (ok, applied, said) = ours(mine.path(), &apply);
        assert!(ok, "{said}");
        let (ok, expected, said) = theirs(&modules, &its, &apply);
        assert!(ok, "{said}");
        assert_eq!(named(&applied), named(&expected), "{applied}\n{expected}");
        if full {
            compare("applied");
        }

        for project in [&mine, &its] {
            project.write(&format!("migrations/{}", FAILING.0), FAILING.1);
            project.write("migrations/30_never.sql", "CREATE TABLE never (a);");
        }
        let here = ours(mine.path(), &apply);
        let there = theirs(&modules, &its, &apply);
        assert!(!here.0 && !there.0, "{here:?}\n{there:?}");
        let why = "no such table: nowhere: SQLITE_ERROR";
        assert!(
            here.2.contains(why) && here.2.contains(FAILING.0),
            "{}",
            here.2
        );
        assert!(there.2.contains(why), "{}", there.2);
        compare("failed");
    }
}
