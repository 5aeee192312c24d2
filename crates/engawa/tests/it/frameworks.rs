//! Real applications of real frameworks, built by their own tools (`tests/frameworks`) and run
//! as they are. All of them are the same small notebook, so that one contract is asked of
//! each: pages made at build time and at request time, an API with D1, KV and R2, a hook or
//! middleware, a redirect, streaming, static files; and in a browser hydration, a link
//! followed on the client, and a form.
//!
//! `cargo xtask test` builds the two that the ordinary run has, and with `--full` all;
//! `cargo xtask frameworks [NAME …]` builds them for a plain `cargo nextest run`.

#![expect(clippy::unwrap_used, reason = "a test fails by it")]

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::PathBuf;
use std::process::Command;

use engawa_testkit::{Dev, PATIENCE, engawa, output, repository};
use serde_json::{Value, json};

use crate::program;
use engawa_testkit::oracle::packages;

/// What sets an app apart from the others.
struct App {
    name: &'static str,
    /// Its folder with the wrangler file that is served.
    project: &'static str,
    /// What its tool says of the caching of scripts whose name has a hash, by `_headers`.
    scripts_cached: &'static str,
    /// Where the page that was made at build time lies.
    about: &'static str,
    /// Its redirect from `/old`.
    redirect: u16,
    /// Whether links load whole pages, since it has no router in the browser.
    whole_pages: bool,
}

const IMMUTABLE: &str = "immutable";
const REVALIDATED: &str = "public, max-age=0, must-revalidate";

const NEXT: App = App {
    name: "next",
    project: ".",
    scripts_cached: IMMUTABLE,
    about: "/about",
    redirect: 308,
    whole_pages: false,
};
const HONO: App = App {
    name: "hono",
    project: ".",
    scripts_cached: REVALIDATED,
    about: "/about",
    redirect: 308,
    whole_pages: true,
};

const SVELTEKIT: App = App {
    name: "sveltekit",
    project: ".",
    scripts_cached: IMMUTABLE,
    about: "/about",
    redirect: 308,
    whole_pages: false,
};
const ASTRO: App = App {
    name: "astro",
    project: ".",
    scripts_cached: REVALIDATED,
    about: "/about/",
    redirect: 308,
    whole_pages: false,
};
const REACT_ROUTER: App = App {
    name: "react-router",
    project: ".",
    scripts_cached: IMMUTABLE,
    about: "/about/",
    redirect: 308,
    whole_pages: false,
};
const NUXT: App = App {
    name: "nuxt",
    project: ".",
    scripts_cached: IMMUTABLE,
    about: "/about/",
    redirect: 308,
    whole_pages: false,
};
const QWIK: App = App {
    name: "qwik",
    project: ".",
    scripts_cached: IMMUTABLE,
    about: "/about",
    redirect: 308,
    whole_pages: false,
};
const SOLIDSTART: App = App {
    name: "solidstart",
    project: ".",
    scripts_cached: IMMUTABLE,
    about: "/about/",
    redirect: 308,
    whole_pages: false,
};

/// React Router as a Workers project with static assets: its Vite plugin writes the wrangler
/// file of what it has built.
const VITE_PLUGIN: App = App {
    name: "vite-plugin",
    project: "build/server",
    scripts_cached: IMMUTABLE,
    about: "/about",
    redirect: 308,
    whole_pages: false,
};

#[test]
fn next_over_http() {
    over_http(&NEXT);
}

#[test]
fn next_in_a_browser() {
    in_a_browser(&NEXT);
}

#[test]
fn hono_over_http() {
    over_http(&HONO);
}

#[test]
fn hono_in_a_browser() {
    in_a_browser(&HONO);
}

#[test]
#[ignore = "built by cargo xtask test --full"]
fn sveltekit_over_http() {
    over_http(&SVELTEKIT);
}

#[test]
#[ignore = "built by cargo xtask test --full"]
fn sveltekit_in_a_browser() {
    in_a_browser(&SVELTEKIT);
}

#[test]
#[ignore = "built by cargo xtask test --full"]
fn astro_over_http() {
    over_http(&ASTRO);
}

#[test]
#[ignore = "built by cargo xtask test --full"]
fn astro_in_a_browser() {
    in_a_browser(&ASTRO);
}

#[test]
#[ignore = "built by cargo xtask test --full"]
fn react_router_over_http() {
    over_http(&REACT_ROUTER);
}

#[test]
#[ignore = "built by cargo xtask test --full"]
fn react_router_in_a_browser() {
    in_a_browser(&REACT_ROUTER);
}

#[test]
#[ignore = "built by cargo xtask test --full"]
fn nuxt_over_http() {
    over_http(&NUXT);
}

#[test]
#[ignore = "built by cargo xtask test --full"]
fn nuxt_in_a_browser() {
    in_a_browser(&NUXT);
}

#[test]
#[ignore = "built by cargo xtask test --full"]
fn qwik_over_http() {
    over_http(&QWIK);
}

#[test]
#[ignore = "built by cargo xtask test --full"]
fn qwik_in_a_browser() {
    in_a_browser(&QWIK);
}

#[test]
#[ignore = "built by cargo xtask test --full"]
fn solidstart_over_http() {
    over_http(&SOLIDSTART);
}

#[test]
#[ignore = "built by cargo xtask test --full"]
fn solidstart_in_a_browser() {
    in_a_browser(&SOLIDSTART);
}

#[test]
#[ignore = "built by cargo xtask test --full"]
fn vite_plugin_over_http() {
    over_http(&VITE_PLUGIN);
}

#[test]
#[ignore = "built by cargo xtask test --full"]
fn vite_plugin_in_a_browser() {
    in_a_browser(&VITE_PLUGIN);
}

impl App {
    /// Where it was built.
    fn dir(&self) -> PathBuf {
        let name = self.name;
        let variable = format!("ENGAWA_FRAMEWORK_{}", name.to_uppercase().replace('-', "_"));
        let dir = std::env::var_os(variable).map_or_else(
            || {
                let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(
                    || PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache"),
                    PathBuf::from,
                );
                cache.join("engawa/frameworks").join(name).join("current")
            },
            PathBuf::from,
        );
        assert!(
            dir.join(".engawa-built").is_file(),
            "tests/frameworks/{name} is not built: run `cargo xtask frameworks {name}`"
        );
        dir.join(self.project).canonicalize().unwrap()
    }

    /// The app with its migration applied, on a state folder of its own.
    fn serve(&self, state: &tempfile::TempDir) -> Dev {
        let dir = self.dir();
        let state = state.path().to_str().unwrap();
        let mut migrate = engawa(program());
        migrate
            .args(["d1", "migrations", "apply", "notes", "--local"])
            .args(["--persist-to", state, "--cwd"])
            .arg(&dir);
        let (applied, _, said) = output(&mut migrate);
        assert!(applied, "{said}");
        Dev::start_with(program(), &dir, &["--persist-to", state])
    }
}

fn in_a_browser(app: &App) {
    let state = tempfile::tempdir().unwrap();
    let dev = app.serve(&state);
    let packages = packages().expect("cargo xtask test installs playwright-core");
    let mut script = Command::new(packages.join("node/bin/node"));
    script
        .arg(repository().join("tests/frameworks/browser.mjs"))
        .args([&dev.url(""), app.name])
        .arg(packages.join("playwright-core"));
    if app.whole_pages {
        script.arg("--whole-pages");
    }
    let (passed, said, problems) = output(&mut script);
    assert!(passed, "{said}{problems}\nengawa said:\n{}", dev.stderr());
    assert_quiet(&dev);
}

fn over_http(app: &App) {
    let state = tempfile::tempdir().unwrap();
    let dev = app.serve(&state);
    pages(app, &dev);
    static_files(app, &dev);
    notes(app, &dev);
    requests_at_the_same_time_keep_apart(&dev);
    streaming(&dev);
    assert_quiet(&dev);
}

struct Answer {
    status: u16,
    headers: ureq::http::HeaderMap,
    text: String,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    fn is_page(&self, status: u16, heading: &str) {
        assert_eq!(self.status, status, "{heading}: {}", self.text);
        let kind = self.header("content-type").to_ascii_lowercase();
        assert!(kind.starts_with("text/html"), "{heading}: {kind}");
        assert!(
            self.text.contains(heading),
            "{heading:?} is not in {}",
            self.text
        );
    }
}

impl From<ureq::http::Response<ureq::Body>> for Answer {
    fn from(mut response: ureq::http::Response<ureq::Body>) -> Self {
        Self {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            text: response.body_mut().read_to_string().unwrap(),
        }
    }
}

fn get(dev: &Dev, path: &str) -> Answer {
    dev.agent()
        .get(dev.url(path))
        .header("accept", "text/html")
        .call()
        .unwrap()
        .into()
}

fn save(dev: &Dev, key: &str, text: &str) -> Answer {
    dev.agent()
        .post(dev.url("/api/notes"))
        .send_json(json!({ "key": key, "text": text }))
        .unwrap()
        .into()
}

fn pages(app: &App, dev: &Dev) {
    let name = app.name;
    get(dev, "/").is_page(200, &format!("Home of {name}"));
    get(dev, app.about).is_page(200, &format!("About {name}"));
    let notes = get(dev, "/notes");
    notes.is_page(200, &format!("Notes of {name}"));
    assert_eq!(notes.header("x-hook"), name, "{:?}", notes.headers);
    get(dev, "/nothing/here").is_page(404, "Nothing here");
    get(dev, "/notes/nobody-wrote-this").is_page(404, "");

    let head: Answer = dev.agent().head(dev.url("/notes")).call().unwrap().into();
    assert_eq!((head.status, head.text.as_str()), (200, ""));

    let moved = get(dev, "/old");
    assert_eq!(moved.status, app.redirect, "{}", moved.text);
    assert!(
        moved.header("location").ends_with("/about"),
        "{:?}",
        moved.headers
    );
}

fn static_files(app: &App, dev: &Dev) {
    let plain = get(dev, "/plain.txt");
    assert_eq!(
        (plain.status, plain.text.as_str(), plain.header("x-own")),
        (200, "a public file\n", app.name),
        "{:?}",
        plain.headers
    );
    let unchanged = dev
        .agent()
        .get(dev.url("/plain.txt"))
        .header("if-none-match", plain.header("etag"))
        .call()
        .unwrap();
    assert_eq!(unchanged.status(), 304);

    let script = script(&get(dev, "/").text);
    let answer = get(dev, &script);
    assert_eq!(answer.status, 200, "{script}");
    assert!(
        answer.header("content-type").contains("javascript"),
        "{script}: {:?}",
        answer.headers
    );
    assert!(
        answer.header("cache-control").contains(app.scripts_cached),
        "{script}: {:?}",
        answer.headers
    );
}

/// The path of the first script that a page names.
fn script(page: &str) -> String {
    page.split('"')
        .map(|part| part.trim_start_matches('.'))
        .find(|part| {
            part.starts_with('/')
                && !part.contains(char::is_whitespace)
                && matches!(part.rsplit_once('.'), Some((_, "js" | "mjs")))
        })
        .unwrap_or_else(|| panic!("no script in {page}"))
        .to_owned()
}

fn notes(app: &App, dev: &Dev) {
    let text = "縁側 \u{1f431}";
    let saved = save(dev, "k1", text);
    assert_eq!(
        (saved.status, saved.header("location")),
        (201, "/api/notes/k1"),
        "{}",
        saved.text
    );
    assert_eq!(
        serde_json::from_str::<Value>(&saved.text).unwrap(),
        json!({ "saved": "k1" })
    );
    assert_eq!(saved.header("x-hook"), app.name, "{:?}", saved.headers);

    let read = get(dev, "/api/notes/k1");
    assert_eq!(
        serde_json::from_str::<Value>(&read.text).unwrap(),
        json!({ "d1": text, "kv": text, "r2": text, "greeting": format!("hello from {}", app.name) })
    );
    assert_eq!(read.header("cache-control"), "no-store");

    get(dev, "/notes/k1").is_page(200, text);
    get(dev, "/notes").is_page(200, text);
}

/// Frameworks keep the request in an `AsyncLocalStorage` or in a variable of the module.
fn requests_at_the_same_time_keep_apart(dev: &Dev) {
    std::thread::scope(|scope| {
        for client in 0..8 {
            scope.spawn(move || {
                for round in 0..4 {
                    let (key, text) = (format!("c{client}"), format!("{client} {round}"));
                    assert_eq!(save(dev, &key, &text).status, 201);
                    let read = dev.json(&format!("/api/notes/{key}"));
                    assert_eq!(read["d1"], text);
                    assert_eq!(read["r2"], text);
                    get(dev, &format!("/notes/{key}")).is_page(200, &text);
                }
            });
        }
    });
}

/// The second line is sent once a note is there, which is written after the first line has
/// been read: it passes only if that has left at once.
fn streaming(dev: &Dev) {
    let response = dev.agent().get(dev.url("/api/stream")).call().unwrap();
    let mut body = BufReader::new(response.into_body().into_reader());
    let mut first = String::new();
    body.read_line(&mut first).unwrap();
    assert_eq!(first, "first\n", "within {PATIENCE:?}");
    assert_eq!(save(dev, "go", "on").status, 201);
    let mut rest = String::new();
    body.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "second\n");
}

/// Nothing went wrong that the answers do not show: an answer of 500 and more and an exception
/// are logged.
fn assert_quiet(dev: &Dev) {
    let said = dev.stderr();
    for word in [
        "→ 5",
        "Uncaught",
        "Unhandled",
        "TypeError",
        "internal error",
    ] {
        assert!(!said.contains(word), "engawa said:\n{said}");
    }
}
