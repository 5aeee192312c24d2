//! Pages plugins from npm packages, built by wrangler itself, and the static files that they
//! bring along (pages.md 5.7).

use std::path::Path;
use std::process::Command;

use engawa_testkit::{TestProject, output};

use crate::http::ask_at;
use crate::{program, start};
use engawa_testkit::oracle::{Oracle, packages};

/// A plugin whose middleware, route, assets and fall-through can be told apart.
const PLUGIN: &[(&str, &str)] = &[
    (
        "package.json",
        r#"{ "name": "plug", "version": "1.0.0", "type": "module", "main": "dist/index.js" }"#,
    ),
    (
        "functions/_middleware.js",
        "export const onRequest = async ({ next, pluginArgs, functionPath }) => {\n\
           const answer = await next();\n\
           answer.headers.set('x-plug', `${pluginArgs.name} ${functionPath}`);\n\
           return answer;\n\
         };\n",
    ),
    (
        "functions/hello/[who].js",
        "export const onRequestGet = ({ params, pluginArgs }) => new Response(`${pluginArgs.name} greets ${params.who}`);\n",
    ),
    (
        "functions/files/_middleware.js",
        "export { onRequest } from 'assets:../../public';\n",
    ),
    ("public/index.html", "the plugin's page"),
    ("public/deep/a.txt", "the plugin's text"),
];

const ASKED: &[(&str, &str)] = &[
    ("GET", "/plugged/hello/you"),
    ("POST", "/plugged/hello/you"),
    ("GET", "/plugged/hello"),
    ("GET", "/plugged/files/deep/a.txt"),
    ("GET", "/plugged/files/"),
    ("GET", "/plugged/files"),
    ("GET", "/plugged/files/missing"),
    ("GET", "/plugged/elsewhere"),
    ("GET", "/brought/b.txt"),
    ("GET", "/brought/missing"),
    ("GET", "/page"),
];

/// A project that mounts the plugin and imports a folder itself.
fn project() -> TestProject {
    let project = TestProject::new(&[
        (
            "wrangler.toml",
            "name = \"plugged\"\ncompatibility_date = \"2026-08-01\"\npages_build_output_dir = \"public\"\n",
        ),
        ("public/page.html", "the project's page"),
        ("public/404.html", "nothing"),
        (
            "functions/plugged/_middleware.js",
            "import plugin from 'plug';\nexport const onRequest = plugin({ name: 'Plug' });\n",
        ),
        (
            "functions/brought/_middleware.js",
            "export { onRequest } from 'assets:../../brought';\n",
        ),
        ("brought/b.txt", "brought along"),
    ]);
    for (name, text) in PLUGIN {
        project.write(&format!("node_modules/plug/{name}"), text);
    }
    project
}

/// What wrangler makes of the plugin.
fn build(modules: &Path, project: &TestProject) {
    let built = output(
        Command::new(modules.join("node/bin/node"))
            .arg(modules.join("wrangler/bin/wrangler.js"))
            .args([
                "pages",
                "functions",
                "build",
                "--plugin",
                "--outdir",
                "dist",
            ])
            .current_dir(project.path().join("node_modules/plug"))
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", project.path().join("node_modules/.home"))
            .env("CI", "1")
            .env("WRANGLER_SEND_METRICS", "false"),
    );
    assert!(built.0, "{}{}", built.1, built.2);
}

// miniflare: fixtures/pages-plugin-example, pages-plugin-mounted-on-root-app
#[test]
fn a_plugin_from_npm_and_its_files_answer_as_under_wrangler() {
    let Some(packages) = packages() else {
        eprintln!("wrangler is not installed (cargo xtask test installs it): nothing was compared");
        return;
    };
    let (mine, its) = (project(), project());
    build(&packages, &mine);
    let built = "node_modules/plug/dist/index.js";
    its.write(
        built,
        std::fs::read(mine.path().join(built)).expect("it was built"),
    );
    let oracle = Oracle::start(&packages, its.path());
    let dev = start(&mine);
    let mut wrong = Vec::new();
    for (method, path) in ASKED {
        let [ours, its] = [dev.address, oracle.address()].map(|address| {
            let answer = ask_at(address, method, path, "", None);
            let headers = ["x-plug", "content-type"].map(|name| answer.header(name).to_owned());
            format!("{} {headers:?} {}", answer.status, answer.text)
        });
        if ours != its {
            wrong.push(format!(
                "{method} {path}\n  here:   {ours}\n  oracle: {its}"
            ));
        }
    }
    assert!(wrong.is_empty(), "these differ:\n{}", wrong.join("\n"));
    // The text of each, in case both are wrong in the same way.
    assert_eq!(dev.get("/plugged/hello/you").1, "Plug greets you");
    assert_eq!(dev.get("/plugged/files/deep/a.txt").1, "the plugin's text");
    assert_eq!(dev.get("/brought/b.txt").1, "brought along");
}

// wrangler: pages/functions/buildWorker.ts, "does not exist or is not a directory"
#[test]
fn a_folder_that_is_not_there_is_named_with_its_place() {
    let project = TestProject::new(&[
        (
            "wrangler.toml",
            "name = \"p\"\ncompatibility_date = \"2026-08-01\"\npages_build_output_dir = \"public\"\n",
        ),
        ("public/page.html", "page"),
        (
            "functions/a.js",
            "export { onRequest } from 'assets:./nowhere';\n",
        ),
    ]);
    let mut command = engawa_testkit::engawa(program());
    command.arg("dev").arg(project.path()).args(["--port", "0"]);
    // It waits for an edit that mends it.
    let mut child = command
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut said = String::new();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(
        child.stderr.take().expect("it is a pipe"),
    ));
    while !said.contains("functions/a.js:1:27") {
        said += &lines
            .next()
            .unwrap_or_else(|| panic!("it said:\n{said}"))
            .expect("a text");
    }
    let _ = child.kill();
    let _ = child.wait();
    assert!(
        said.contains("functions/nowhere' does not exist or is not a directory"),
        "{said}"
    );
}
