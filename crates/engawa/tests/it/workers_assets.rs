//! Workers projects with static assets, beside a real `wrangler dev`. The cases of upstream's
//! own tests are in the gateway's; here is what only shows with a worker that runs.

use engawa_testkit::TestProject;

use crate::http::{Answer, ask_at};
use crate::start;
use engawa_testkit::oracle::{Oracle, packages};

/// A worker that answers who was asked, with the asset's answer where the path says so.
const WORKER: &str = "\
export default {
  async fetch(request, env) {
    const url = new URL(request.url);
    if (url.pathname.startsWith('/binding/')) {
      const asked = new URL(url.pathname.slice('/binding'.length) + url.search, url);
      const answer = await env.FILES.fetch(new Request(asked, { method: request.method, redirect: 'manual', headers: request.headers }));
      return new Response(`asset ${answer.status} ${answer.headers.get('location')} ${answer.headers.get('content-type')} ${await answer.text()}`, { headers: { 'x-a': answer.headers.get('x-a') ?? '' } });
    }
    return new Response(`worker ${request.method} ${url.pathname}`, { headers: { 'x-worker': 'yes' } });
  },
};
";

/// Every shape of file that HTML handling knows, and names that paths spell in several ways.
const FILES: &[&str] = &[
    "index.html",
    "404.html",
    "file.html",
    "folder/index.html",
    "folder/404.html",
    "both.html",
    "both/index.html",
    "bin",
    "bin.html",
    "index-bin/index",
    "index-bin/index.html",
    "twice/index/index.html",
    "a b.html",
    "café.txt",
    "[x].html",
    "%5Bx%5D.html",
    "@at.txt",
    "noext",
    "data.json",
    ".well-known/x.json",
    "sub/_headers",
    "sub/.assetsignore",
    "node_modules/m.js",
    "ignored.txt",
    "private/a.txt",
    "private/b.txt",
    "api/x.txt",
    "api/open/x.txt",
];

const HEADERS: &str = "/*\n  X-A: 1\n/file.html\n  X-A: 2\n/folder/*\n  ! X-A\n  X-A: [:splat]\n";
const REDIRECTS: &str = "\
/moved /file 301
/moved-out https://other.test/x?y=1#z 308
/moved-query /file?a=b
/rewritten /file 200
/rewritten-html /file.html 200
/rewritten-nothing /nothing/at/all 200
/splat/* /:splat 302
/name/:who https://other.test/:who/
//other.test/a /b
";

const ASKED: &[(&str, &str, &str)] = &[
    ("GET", "/", ""),
    ("GET", "/index", ""),
    ("GET", "/index.html", ""),
    ("GET", "/404", ""),
    ("GET", "/404.html", ""),
    ("GET", "/file", ""),
    ("GET", "/file/", ""),
    ("GET", "/file.html?q=1", ""),
    ("GET", "/file/index", ""),
    ("GET", "/file/index.html", ""),
    ("GET", "/folder", ""),
    ("GET", "/folder/", ""),
    ("GET", "/folder.html", ""),
    ("GET", "/folder/index", ""),
    ("GET", "/folder/index.html?x", ""),
    ("GET", "/folder/missing", ""),
    ("GET", "/folder/404", ""),
    ("GET", "/both", ""),
    ("GET", "/both/", ""),
    ("GET", "/both.html", ""),
    ("GET", "/both/index", ""),
    ("GET", "/both/index.html", ""),
    ("GET", "/bin", ""),
    ("GET", "/bin/", ""),
    ("GET", "/bin.html", ""),
    ("GET", "/index-bin", ""),
    ("GET", "/index-bin/", ""),
    ("GET", "/index-bin/index", ""),
    ("GET", "/index-bin/index.html", ""),
    ("GET", "/twice/index/", ""),
    ("GET", "/twice/index", ""),
    ("GET", "/twice/index/index.html", ""),
    ("GET", "/twice", ""),
    ("GET", "/a%20b", ""),
    ("GET", "/a%20b.html", ""),
    ("GET", "/caf%C3%A9.txt", ""),
    ("GET", "/caf%c3%a9.txt", ""),
    ("GET", "/[x]", ""),
    ("GET", "/%5Bx%5D", ""),
    ("GET", "/%255Bx%255D", ""),
    ("GET", "/@at.txt", ""),
    ("GET", "/%40at.txt", ""),
    ("GET", "/%66ile", ""),
    ("GET", "/folder%2Findex.html", ""),
    ("GET", "//file", ""),
    ("GET", "/folder//", ""),
    ("GET", "/%zz", ""),
    ("GET", "/..%2fsecret.txt", ""),
    ("GET", "/%2e%2e/secret.txt", ""),
    ("GET", "/noext", ""),
    ("GET", "/data.json", ""),
    ("GET", "/.well-known/x.json", ""),
    ("GET", "/_headers", ""),
    ("GET", "/_redirects", ""),
    ("GET", "/.assetsignore", ""),
    ("GET", "/sub/_headers", ""),
    ("GET", "/sub/.assetsignore", ""),
    ("GET", "/node_modules/m.js", ""),
    ("GET", "/ignored.txt", ""),
    ("GET", "/private/a.txt", ""),
    ("GET", "/private/b.txt", ""),
    ("GET", "/moved?q=1", ""),
    ("GET", "/moved-out?q=1", ""),
    ("GET", "/moved-query?q=1", ""),
    ("GET", "/rewritten", ""),
    ("GET", "/rewritten-html", ""),
    ("GET", "/rewritten-nothing", ""),
    ("GET", "/splat/a/b?c", ""),
    ("GET", "/splat//evil.test/", ""),
    ("GET", "/name/me", ""),
    ("GET", "/api/x.txt", ""),
    ("GET", "/api/missing", ""),
    ("GET", "/api/open/x.txt", ""),
    ("GET", "/api/open/missing", ""),
    ("GET", "/missing", ""),
    ("GET", "/missing", "Sec-Fetch-Mode: navigate\r\n"),
    ("GET", "/folder/missing", "Sec-Fetch-Mode: navigate\r\n"),
    ("GET", "/missing", "Sec-Fetch-Mode: cors\r\n"),
    ("HEAD", "/file", ""),
    ("HEAD", "/missing", ""),
    ("POST", "/file", ""),
    ("POST", "/file.html", ""),
    ("POST", "/missing", ""),
    ("POST", "/moved", ""),
    ("OPTIONS", "/file", ""),
    ("GET", "/file", "Range: bytes=0-1\r\n"),
    ("GET", "/file", "Authorization: Basic x\r\n"),
    ("GET", "/file", "If-None-Match: \"x\"\r\n"),
    ("GET", "/binding/file", ""),
    ("GET", "/binding/file.html", ""),
    ("GET", "/binding/missing", ""),
    ("GET", "/binding/folder/missing", ""),
    ("GET", "/binding/rewritten", ""),
    ("GET", "/binding/noext", ""),
    ("POST", "/binding/file", ""),
    ("POST", "/binding/missing", ""),
];

fn project(settings: &str) -> TestProject {
    let project = TestProject::new(&[
        (
            "wrangler.toml",
            &format!(
                "name = \"w\"\nmain = \"src/index.js\"\ncompatibility_date = \"2026-08-01\"\n[assets]\ndirectory = \"./public\"\nbinding = \"FILES\"\n{settings}"
            ),
        ),
        ("src/index.js", WORKER),
        ("secret.txt", "secret"),
        ("public/_headers", HEADERS),
        ("public/_redirects", REDIRECTS),
        (
            "public/.assetsignore",
            "# ours\nignored.txt\nprivate/*\n!private/b.txt\n",
        ),
    ]);
    for file in FILES {
        project.write(&format!("public/{file}"), format!("the file {file}\n"));
    }
    project
}

fn shown(answer: &Answer) -> String {
    let headers = [
        "content-type",
        "location",
        "cache-control",
        "x-a",
        "x-worker",
        "access-control-allow-origin",
        "cf-cache-status",
    ]
    .map(|name| format!("{name}: {}", answer.header(name)));
    format!("{} {headers:?} {}", answer.status, answer.text)
}

#[expect(clippy::print_stderr, reason = "says that nothing was compared")]
fn compare(settings: &str) {
    let Some(packages) = packages() else {
        eprintln!("wrangler is not installed (cargo xtask test installs it): nothing was compared");
        return;
    };
    let (mine, its) = (project(settings), project(settings));
    let oracle = Oracle::start_worker(&packages, its.path());
    let dev = start(&mine);
    let mut wrong = Vec::new();
    for (method, path, headers) in ASKED {
        let body = (*method == "POST").then_some("the body");
        let [ours, its] = [dev.address, oracle.address()]
            .map(|address| shown(&ask_at(address, method, path, headers, body)));
        if ours != its {
            wrong.push(format!(
                "{method} {path} {headers:?}\n  here:   {ours}\n  oracle: {its}"
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{settings}: these differ:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn assets_are_served_as_under_wrangler_by_default() {
    compare("");
}

#[test]
fn assets_are_served_as_under_wrangler_with_rules_for_the_worker() {
    compare(
        "html_handling = \"drop-trailing-slash\"\nnot_found_handling = \"404-page\"\nrun_worker_first = [\"/api/*\", \"/binding/*\", \"!/api/open/*\"]\n",
    );
}

/// The other settings: with `ENGAWA_TEST_FULL=1`, since each needs a wrangler of its own.
#[test]
fn assets_are_served_as_under_wrangler_with_every_setting() {
    if std::env::var_os("ENGAWA_TEST_FULL").is_none() {
        return;
    }
    for settings in [
        "html_handling = \"force-trailing-slash\"\nnot_found_handling = \"single-page-application\"\n",
        "html_handling = \"none\"\nnot_found_handling = \"404-page\"\n",
        "run_worker_first = true\n",
        "base_path = \"/folder\"\nnot_found_handling = \"single-page-application\"\n",
    ] {
        compare(settings);
    }
}
