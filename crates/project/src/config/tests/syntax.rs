//! What the file's text may look like, and where it is looked for.

use proptest::prelude::*;

use super::*;

#[test]
fn wrong_shapes() {
    assert_snapshot!(shown(&pages("kv_namespaces = \"x\"\nd1_databases = [1]\nvars = []\nenv = 3")), @r#"
    [refused]
    error: The field "kv_namespaces" should be an array but got "x".
     --> ./wrangler.toml:4:17
      |
    4 | kv_namespaces = "x"
      |                 ^^^
      = help: write [[kv_namespaces]]

    error: "d1_databases" bindings should be objects, but got 1
     --> ./wrangler.toml:5:17
      |
    5 | d1_databases = [1]
      |                 ^
      = help: write [[d1_databases]]

    error: The field "vars" should be an object but got [].
     --> ./wrangler.toml:6:8
      |
    6 | vars = []
      |        ^^

    error: The field "env" should be an object but got 3.
     --> ./wrangler.toml:7:7
      |
    7 | env = 3
      |       ^
    "#);
}

#[test]
fn what_is_not_toml() {
    assert_snapshot!(shown("name = \"app\"\n[vars\nA = 1"), @r#"
    [refused]
    error: This is not TOML: unclosed table, expected `]`
     --> ./wrangler.toml:2:6
      |
    2 | [vars
      |      ^
    "#);
    assert_snapshot!(shown("name = \"app\"\nname = \"b\""), @r#"
    [refused]
    error: This is not TOML: duplicate key
     --> ./wrangler.toml:2:1
      |
    2 | name = "b"
      | ^^^^
    "#);
}

#[test]
fn json_takes_comments_and_trailing_commas_and_nothing_looser() {
    let json = |name: &str, text: &str| {
        Folder::new(&[(name, text), ("dist/index.html", "")]).shown(&options())
    };
    let good = r#"{
  // a comment
  "$schema": "x",
  "name": "app", /* another */
  "pages_build_output_dir": "./dist",
  "compatibility_date": "2026-01-01",
  "vars": { "A": 1e2, "B": null, },
}"#;
    assert_eq!(json("wrangler.json", good), "fine");
    assert_eq!(json("wrangler.jsonc", good), "fine");
    assert_snapshot!(json("wrangler.json", "{ name: \"app\" }"), @r#"
    [refused]
    error: This is not JSON: Expected string for object property
     --> ./wrangler.json:1:3
      |
    1 | { name: "app" }
      |   ^^^^
    "#);
    assert_snapshot!(json("wrangler.json", "[]"), @r#"
    [refused]
    error: The file should hold one JSON object.
     --> ./wrangler.json:1:1
      |
    1 | []
      | ^
      = help: begin with {"name": "my-project", …}
    "#);
    assert_snapshot!(json("wrangler.jsonc", r#"{
  "name": "app",
  "pages_build_output_dir": "dist",
  "compatibility_date": "2025-01-01",
  "compatibility_date": "2026-01-01",
  "kv_namespaces": { "binding": "KV", "id": "x" }
}"#), @r#"
    [loads]
    warning: "compatibility_date" is written twice; this one counts, the one on line 4 does not.
     --> ./wrangler.jsonc:5:3
      |
    5 |   "compatibility_date": "2026-01-01",
      |   ^^^^^^^^^^^^^^^^^^^^
      = help: remove one of them

    warning: The field "kv_namespaces" is a single table where wrangler wants a list; it is read as a list of one.
     --> ./wrangler.jsonc:6:20
      |
    6 |   "kv_namespaces": { "binding": "KV", "id": "x" }
      |                    ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      = help: write "kv_namespaces": [{ … }]
    "#);
}

#[test]
fn a_byte_order_mark_is_skipped() {
    assert_eq!(shown(&format!("\u{feff}{}", pages(""))), "fine");
}

#[test]
fn files_that_are_no_text() {
    let folder = toml("");
    folder.write("wrangler.toml", b"name = \"\xff\"");
    let error = folder.load(&options()).unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(source, "byte 8 is not UTF-8; save the file as UTF-8");
    folder.write("wrangler.toml", vec![b' '; 2 * 1024 * 1024]);
    assert!(matches!(
        folder.load(&options()),
        Err(ConfigError::Read { .. })
    ));
    let error = Project::load(&folder.path().join("gone"), &options()).unwrap_err();
    assert!(matches!(error, ConfigError::NotAFolder { .. }));
}

// control-plane-api.md 12.1
#[test]
fn json_is_read_before_jsonc_before_toml_and_the_folder_before_those_above() {
    let folder = Folder::new(&[
        ("wrangler.toml", &pages("")),
        ("wrangler.jsonc", "{\"name\": \"jsonc\"}"),
        ("sub/wrangler.toml", "name = \"sub\""),
        ("other/readme", ""),
    ]);
    let (config, warnings) = folder.load(&options()).unwrap();
    assert_eq!(config.name.as_str(), "jsonc");
    assert!(
        warnings[0]
            .message
            .contains("wrangler.toml beside it is not")
    );

    let searching = LoadOptions {
        search_parents: true,
        ..options()
    };
    let (config, _) = Project::load(&folder.path().join("sub"), &searching).unwrap();
    assert_eq!(config.name.as_str(), "sub");
    let (config, warnings) = Project::load(&folder.path().join("other"), &searching).unwrap();
    assert_eq!(config.name.as_str(), "jsonc");
    assert_eq!(config.root, fs::canonicalize(folder.path()).unwrap());
    assert!(
        warnings[0].message.contains("has no wrangler file"),
        "{}",
        warnings[0]
    );
}

// wrangler: pages dev <directory>
#[test]
fn a_folder_without_a_file_is_a_pages_project() {
    let folder = Folder::new(&[("index.html", "")]);
    assert_snapshot!(folder.shown(&options()), @r#"
    [loads]
    warning: . has no wrangler file: it is served as the Pages project "app", with static files from the folder itself, today's compatibility date (2026-11-24) and no bindings.
      = help: add a wrangler.toml with name, pages_build_output_dir and compatibility_date
    "#);
    let (config, _) = folder.load(&options()).unwrap();
    assert_eq!(config.name.as_str(), "app");
    assert_eq!(config.pages_build_output_dir, Some(folder.path()));
    folder.write("public/index.html", "");
    let (config, _) = folder.load(&options()).unwrap();
    assert_eq!(
        config.pages_build_output_dir,
        Some(folder.path().join("public"))
    );
}

#[test]
fn a_long_line_is_cut_around_the_place() {
    let text = pages(&format!(
        "vars = {{ A = \"{}\", D = 2026-01-01, B = \"{}\" }}",
        "x".repeat(300),
        "y".repeat(300)
    ));
    let shown = shown(&text);
    assert!(
        shown.lines().all(|line| line.chars().count() < 140),
        "{shown}"
    );
    let lines: Vec<&str> = shown.lines().collect();
    let under = lines.iter().position(|line| line.contains("^^^")).unwrap();
    let start = lines[under].find('^').unwrap();
    assert_eq!(&lines[under - 1][start..start + 10], "2026-01-01");
}

proptest! {
    #[test]
    fn no_text_makes_the_loader_panic(text in "\\PC{0,200}", json: bool) {
        load_any(&text, json);
    }

    /// Text that is likely to parse, with all of wrangler's keys over all shapes.
    #[test]
    fn no_shape_makes_the_loader_panic(
        entries in prop::collection::vec(
            (prop::sample::select(keys::KEYS.iter().map(|key| key.name).collect::<Vec<_>>()),
             prop::sample::select(vec!["1", "\"x\"", "[]", "{}", "[{}]", "[1]", "true", "inf",
                 "2026-01-01", "{ bindings = [{}] }", "[{ binding = \"X\", id = 3 }]",
                 "{ binding = \"X\" }", "{ preview = { name = 1 }, x = 2 }", "\"２０２６\"", "[\"a\", \"a\"]"])),
            0..8,
        ),
        inside: bool,
    ) {
        let mut text = String::from(if inside { "[env.preview]\n" } else { "" });
        let mut seen = std::collections::HashSet::new();
        for (key, value) in entries {
            if seen.insert(key) {
                text.extend([key, " = ", value, "\n"]);
            }
        }
        load_any(&text, false);
    }
}

#[test]
fn deep_nesting_is_an_error_and_no_overflow() {
    for open in ["[", "{\"a\":", "a = ["] {
        let text = open.repeat(100_000);
        load_any(&text, true);
        load_any(&text, false);
        load_any(&format!("a = {text}"), false);
    }
    load_any(&format!("[{}]", vec!["a"; 50_000].join(".")), false);
}

fn load_any(text: &str, json: bool) {
    let source = Source {
        file: PathBuf::from(if json {
            "wrangler.json"
        } else {
            "wrangler.toml"
        }),
        text: text.to_owned(),
        format: if json { Format::Json } else { Format::Toml },
    };
    for options in [options(), preview()] {
        let context = Context {
            root: Path::new("/nonexistent"),
            folder_name: "app",
            options: &options,
        };
        let (config, diagnostics) = validate(&source, &context);
        let errors = diagnostics.iter().any(Diagnostic::is_error);
        assert_eq!(config.is_none(), errors, "{text}");
        for diagnostic in diagnostics {
            assert!(!diagnostic.to_string().is_empty());
        }
    }
}
