//! What a user is told when a project can not be built.

use crate::support::{Folder, build, build_with, builder, pages, workers};

const DATE: &str = "2025-06-01";

/// The message, with the temporary folder's name taken out.
fn message(folder: &Folder, date: &str, flags: &[&str]) -> String {
    let error = build(&pages(folder, date, flags)).expect_err("the build fails");
    shown(folder, &error.to_string())
}

fn shown(folder: &Folder, text: &str) -> String {
    text.replace(&folder.path().display().to_string(), "<project>")
}

#[test]
fn a_syntax_error_shows_file_line_and_frame() {
    let folder = Folder::new(&[(
        "functions/api/a.ts",
        "export const a = 1;\n\tconst x: = 2;\n",
    )]);
    insta::assert_snapshot!(message(&folder, DATE, &[]), @r#"
    error: Unexpected "="
     --> <project>/functions/api/a.ts:2:11
      |
    2 |  const x: = 2;
      |           ^
    "#);
}

#[test]
fn an_error_in_an_imported_file_is_shown_there() {
    let folder = Folder::new(&[
        (
            "functions/a.ts",
            "import { x } from '../src/x';\nexport const onRequest = () => new Response(x);\n",
        ),
        ("src/x.ts", "export const x = (;\n"),
    ]);
    insta::assert_snapshot!(message(&folder, DATE, &[]), @r#"
    error: Unexpected ";"
     --> <project>/src/x.ts:1:19
      |
    1 | export const x = (;
      |                   ^
    "#);
}

#[test]
fn an_import_that_does_not_exist_says_how_to_get_it() {
    let folder = Folder::new(&[(
        "functions/a.ts",
        "import { z } from \"@scope/zod/v4\";\nimport './missing';\nexport const onRequest = () => new Response(z);\n",
    )]);
    insta::assert_snapshot!(message(&folder, DATE, &[]), @r#"
    error: Could not resolve "@scope/zod/v4"
     --> <project>/functions/a.ts:1:19
      |
    1 | import { z } from "@scope/zod/v4";
      |                   ^^^^^^^^^^^^^^^
      = help: install it with `npm install @scope/zod`, if the name is spelled right

    error: Could not resolve "./missing"
     --> <project>/functions/a.ts:2:8
      |
    2 | import './missing';
      |        ^^^^^^^^^^^
      = help: no such file; check the path and its upper and lower case
    "#);
}

// wrangler: build-failures.ts
#[test]
fn a_module_of_node_without_the_flag_names_import_and_flag() {
    let folder = Folder::new(&[(
        "functions/a.ts",
        "import { readFileSync } from \"node:fs\";\nexport const onRequest = () => new Response(readFileSync('x'));\n",
    )]);
    insta::assert_snapshot!(message(&folder, DATE, &[]), @r#"
    error: The import "node:fs" needs the compatibility flag "nodejs_compat".
     --> <project>/functions/a.ts:1:30
      |
    1 | import { readFileSync } from "node:fs";
      |                              ^^^^^^^^^
      = help: "node:fs" is built into Node: add "nodejs_compat" to compatibility_flags, with a compatibility_date of 2024-09-23 or later
    "#);
    folder.write(
        "functions/a.ts",
        "import fs from \"fs\";\nexport const onRequest = () => new Response(fs);\n",
    );
    insta::assert_snapshot!(message(&folder, DATE, &[]), @r#"
    error: Could not resolve "fs"
     --> <project>/functions/a.ts:1:16
      |
    1 | import fs from "fs";
      |                ^^^^
      = help: "fs" is built into Node: add "nodejs_compat" to compatibility_flags, with a compatibility_date of 2024-09-23 or later
    "#);
    insta::assert_snapshot!(message(&folder, "2024-01-01", &["nodejs_compat"]), @r#"
    error: Could not resolve "fs"
     --> <project>/functions/a.ts:1:16
      |
    1 | import fs from "fs";
      |                ^^^^
      = help: write "node:fs", or set compatibility_date to 2024-09-23 or later
    "#);
}

#[test]
fn a_parameter_with_a_bad_name_is_refused() {
    let folder = Folder::new(&[(
        "functions/[a-b].js",
        "export const onRequest = () => new Response();",
    )]);
    insta::assert_snapshot!(message(&folder, DATE, &[]), @r#"
    error: Invalid Pages function route parameter - "[a-b]". Parameter names must only contain alphanumeric and underscore characters.
    (<project>/functions/[a-b].js)
      = help: for example `[a_b]`
    "#);
}

#[test]
fn a_routes_file_with_an_overlap_is_refused() {
    let folder = Folder::new(&[
        (
            "functions/a.js",
            "export const onRequest = () => new Response();",
        ),
        (
            "public/_routes.json",
            r#"{"version":1,"include":["/a/*","/a/b"],"exclude":[]}"#,
        ),
    ]);
    insta::assert_snapshot!(message(&folder, DATE, &[]), @r#"
    Invalid _routes.json file found at: <project>/public/_routes.json
    Overlapping rules found. Please make sure that rules ending with a splat (eg. "/api/*") don't overlap any other rules (eg. "/api/foo"). This applies to both include and exclude rules individually. ("/a/*" covers "/a/b".)
    "#);
}

#[test]
fn a_folder_with_nothing_to_serve_is_refused() {
    let folder = Folder::new(&[("functions/helper.js", "export const helper = 1;")]);
    insta::assert_snapshot!(message(&folder, DATE, &[]), @r#"There is nothing to serve in <project>: no file in functions/ that exports a handler, and no pages_build_output_dir in the wrangler file."#);
}

#[test]
fn a_worker_without_a_default_export_is_refused() {
    let folder = Folder::new(&[("src/w.js", "addEventListener('fetch', () => {});")]);
    let error = build(&workers(&folder, "src/w.js", DATE, &[])).unwrap_err();
    insta::assert_snapshot!(shown(&folder, &error.to_string()), @r#"
    error: <project>/src/w.js has no default export.
      = help: write the worker as an ES module: `export default { async fetch(request, env, ctx) { … } }`
    "#);
}

#[test]
fn a_builder_recovers_from_a_broken_edit() {
    let good = "export const onRequest = () => new Response();";
    let folder = Folder::new(&[("functions/a.js", good)]);
    let mut builder = builder();
    let config = pages(&folder, DATE, &[]);
    build_with(&mut builder, &config).unwrap();
    folder.write("functions/a.js", "export const onRequest = (");
    build_with(&mut builder, &config).unwrap_err();
    // The broken file is still watched, so that the next edit is seen.
    let root = std::fs::canonicalize(folder.path()).unwrap();
    assert!(builder.watched().contains(&root.join("functions/a.js")));
    folder.write("functions/a.js", good);
    build_with(&mut builder, &config).unwrap();
}
