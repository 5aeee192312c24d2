use std::fs;
use std::path::Path;

use super::*;
use crate::{LoadOptions, Project};

fn write(dir: &Path, name: &str, text: &str) {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn project(
    entry: &str,
    files: &[&str],
) -> (tempfile::TempDir, Result<Migrations, MigrationsError>) {
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "name = \"app\"\npages_build_output_dir = \"dist\"\ncompatibility_date = \"2026-01-01\"\n[[d1_databases]]\nbinding = \"DB\"\ndatabase_id = \"id\"\n{entry}"
    );
    write(dir.path(), "wrangler.toml", &text);
    for file in files {
        write(dir.path(), file, "SELECT 1;");
    }
    let options = LoadOptions {
        env: None,
        today: "2026-11-24".to_owned(),
        newest_compatibility_date: "2026-11-24".to_owned(),
        kind: None,
        search_parents: false,
    };
    let (config, _) = Project::load(dir.path(), &options).unwrap();
    let migrations = Migrations::new(&config, &config.d1_databases[0]);
    (dir, migrations)
}

// wrangler: d1/migrations/helpers.ts `compareMigrationPaths`
#[test]
fn files_are_ordered_by_number_then_text_and_numbered_ones_come_first() {
    let (_dir, migrations) = project(
        "",
        &[
            "migrations/10_c.sql",
            "migrations/9_b.sql",
            "migrations/0001_b.sql",
            "migrations/1_a.sql",
            "migrations/zz.sql",
            "migrations/aa.sql",
            "migrations/readme.md",
            "migrations/.hidden.sql",
            "migrations/sub/0000_no.sql",
        ],
    );
    assert_eq!(
        migrations.unwrap().list().unwrap(),
        [
            "0001_b.sql",
            "1_a.sql",
            "9_b.sql",
            "10_c.sql",
            "aa.sql",
            "zz.sql"
        ]
    );
}

#[test]
fn a_pattern_finds_files_in_folders_of_their_own() {
    let (_dir, migrations) = project(
        "migrations_dir = \"./db/\"\nmigrations_pattern = \"db/*/migration.sql\"",
        &[
            "db/0002_b/migration.sql",
            "db/0001_a/migration.sql",
            "db/0003.sql",
        ],
    );
    let migrations = migrations.unwrap();
    assert_eq!(
        migrations.list().unwrap(),
        ["0001_a/migration.sql", "0002_b/migration.sql"]
    );
    let error = migrations.create("x", 0).unwrap_err();
    assert!(error.to_string().contains("db/0003_x.sql"), "{error}");
}

#[test]
fn a_missing_folder_is_named_with_what_to_do() {
    let (dir, migrations) = project("", &[]);
    let error = migrations.unwrap().list().unwrap_err().to_string();
    let folder = dir.path().join("migrations").display().to_string();
    assert_eq!(
        error,
        format!(
            "No migrations present at {folder}. Make the folder, or set migrations_dir in your wrangler.toml file to choose a different path."
        )
    );
}

#[test]
fn a_pattern_needs_its_folder() {
    let (_dir, migrations) = project("migrations_pattern = \"x/*.sql\"", &[]);
    assert!(matches!(
        migrations.unwrap_err(),
        MigrationsError::PatternWithoutDir { .. }
    ));
    let (_dir, migrations) = project(
        "migrations_dir = \"migrations\"\nmigrations_pattern = \"migrationsx/*.sql\"",
        &[],
    );
    assert!(matches!(
        migrations.unwrap_err(),
        MigrationsError::PatternOutsideDir { .. }
    ));
    let (_dir, migrations) = project("migrations_dir = \"m\"\nmigrations_pattern = \"m/[\"", &[]);
    assert!(matches!(
        migrations.unwrap_err(),
        MigrationsError::BadPattern { .. }
    ));
}

// wrangler: d1/migrations/create.ts
#[test]
fn create_takes_the_next_number_and_writes_the_header() {
    let (dir, migrations) = project("", &[]);
    let migrations = migrations.unwrap();
    let first = migrations
        .create("add documents table", 1_795_478_400_007)
        .unwrap();
    assert_eq!(
        first,
        dir.path().join("migrations/0001_add_documents_table.sql")
    );
    assert_eq!(
        fs::read_to_string(&first).unwrap(),
        "-- Migration number: 0001 \t 2026-11-24T00:00:00.007Z\n"
    );
    write(dir.path(), "migrations/0041_x.sql", "");
    let second = migrations.create("y", 0).unwrap();
    assert!(second.ends_with("0042_y.sql"), "{}", second.display());
}

#[test]
fn create_refuses_names_that_are_paths() {
    let (dir, migrations) = project("", &[]);
    let migrations = migrations.unwrap();
    for message in ["a/b", "..\\b", "a\nb", &"x".repeat(300)] {
        assert!(matches!(
            migrations.create(message, 0),
            Err(MigrationsError::BadMessage { .. })
        ));
    }
    assert!(!dir.path().join("migrations").exists());
}

#[test]
fn pending_are_those_whose_name_is_not_applied() {
    let (_dir, migrations) = project("", &["migrations/0001_a.sql", "migrations/0002_b.sql"]);
    let migrations = migrations.unwrap();
    assert_eq!(migrations.pending(&["0001_a.sql"]).unwrap(), ["0002_b.sql"]);
    assert_eq!(migrations.pending::<&str>(&[]).unwrap().len(), 2);
}

// wrangler: d1/migrations/helpers.ts `buildMigrationQuery`
#[test]
fn apply_is_the_text_and_a_note_of_the_name() {
    let (_dir, migrations) = project(
        "migrations_table = 'my\"table'",
        &["migrations/0001_it's.sql"],
    );
    let migrations = migrations.unwrap();
    assert_eq!(
        migrations.apply_sql("0001_it's.sql").unwrap(),
        "SELECT 1;\nINSERT INTO \"my\"\"table\" (name)\nvalues ('0001_it''s.sql');"
    );
    assert_eq!(
        migrations.create_table_sql(),
        "CREATE TABLE IF NOT EXISTS \"my\"\"table\"(\n\t\tid         INTEGER PRIMARY KEY AUTOINCREMENT,\n\t\tname       TEXT UNIQUE,\n\t\tapplied_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP NOT NULL\n);"
    );
    assert!(migrations.applied_sql().contains("ORDER BY id"));
}

#[test]
fn paths_are_normalized_as_node_does() {
    for (path, wanted) in [
        ("./migrations/", "migrations"),
        ("a//b/../c", "a/c"),
        (".", "."),
        ("", "."),
        ("../x", "../x"),
        ("a\\b", "a/b"),
        ("/x/..", "/"),
    ] {
        assert_eq!(normalized(path), wanted, "{path:?}");
    }
}
