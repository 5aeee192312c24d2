//! The static files of a Workers project. What a real `wrangler dev` answers is compared in
//! the program's own tests; these are upstream's test cases.

use std::collections::HashMap;

use engawa_model::{
    AssetsConfig, BasePath, HtmlHandling, NotFoundHandling, RunWorkerFirst, StaticRouting,
    WorkerUnavailable,
};

use crate::proxy::TestPool;
use crate::support::{Answer, Server, TestSite, asset_key};

const HTML_CASES: &str = include_str!("workers_cases.tsv");

fn html(handling: &str) -> AssetsConfig {
    AssetsConfig {
        html_handling: match handling {
            "auto-trailing-slash" => HtmlHandling::AutoTrailingSlash,
            "force-trailing-slash" => HtmlHandling::ForceTrailingSlash,
            "drop-trailing-slash" => HtmlHandling::DropTrailingSlash,
            "none" => HtmlHandling::None,
            other => panic!("{other}"),
        },
        ..AssetsConfig::default()
    }
}

fn site(names: &str, config: AssetsConfig) -> TestSite {
    TestSite {
        assets_config: Some(config),
        ..TestSite::named(names)
    }
}

/// A worker that never answers: its requests are known by their 503.
fn with_worker(site: TestSite) -> TestSite {
    TestSite {
        worker: Some(TestPool::unavailable(WorkerUnavailable::Stopping)),
        ..site
    }
}

fn is_from_worker(answer: &Answer) -> bool {
    answer.status == 503
}

// miniflare: fixtures/workers-shared-asset-config, every case of both of its tables
#[test]
fn html_is_handled_as_in_upstreams_cases() {
    let mut servers = HashMap::new();
    let mut wrong = Vec::new();
    let cases = HTML_CASES.lines().filter(|line| !line.starts_with('#'));
    let mut count = 0;
    for case in cases {
        count += 1;
        let fields: Vec<&str> = case.split('\t').collect();
        let [handling, files, request, file, path] = fields[..] else {
            panic!("{case}");
        };
        let server = servers.entry((handling, files)).or_insert_with(|| {
            let names = files.replace(" /", "\t");
            Server::of(site(&names[1..], html(handling)))
        });
        let mut answer = server.get(request);
        let mut at = request.to_owned();
        if answer.status == 307 {
            at = answer.header("location").unwrap();
            answer = server.get(&at);
        }
        let seen = (answer.status, at, answer.text());
        let expected = if file == "-" {
            (404, request.to_owned(), String::new())
        } else {
            (200, path.to_owned(), file[1..].to_owned())
        };
        if seen != expected {
            wrong.push(format!("{case}: {seen:?}"));
        }
    }
    assert_eq!(count, 189);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

// pages.md 12, "Headers"
#[test]
fn answers_have_workers_headers_and_not_those_of_pages() {
    let server = Server::of(TestSite {
        headers: Some("/a.txt\n  X-A: 1\n/missing\n  X-A: 2\n/p.html\n  X-A: 3\n".to_owned()),
        ..site("a.txt\tp.html", AssetsConfig::default())
    });
    let key = asset_key("/a.txt", b"a.txt");
    let file = server.get("/a.txt");
    for (name, value) in [
        ("etag", Some(&*format!("\"{key}\""))),
        ("content-type", Some("text/plain; charset=utf-8")),
        ("cache-control", Some("public, max-age=0, must-revalidate")),
        ("cf-cache-status", Some("HIT")),
        ("x-a", Some("1")),
        ("access-control-allow-origin", None),
        ("referrer-policy", None),
        ("x-content-type-options", None),
    ] {
        assert_eq!(file.header(name).as_deref(), value, "{name}");
    }
    // `_headers` applies to redirects and to what is not there.
    let moved = server.get("/p.html?q=1");
    assert_eq!(moved.status, 307);
    assert_eq!(moved.header("location").as_deref(), Some("/p?q=1"));
    assert_eq!(moved.header("x-a").as_deref(), Some("3"));
    let missing = server.get("/missing");
    assert_eq!((missing.status, missing.text()), (404, String::new()));
    assert_eq!(missing.header("x-a").as_deref(), Some("2"));
    assert_eq!(missing.header("cache-control"), None);

    // 304 keeps the headers, Pages' does not.
    for known in [format!("\"{key}\""), format!("W/\"{key}\"")] {
        let answer = server.send("GET /a.txt", "example.com", &[("If-None-Match", &known)]);
        assert_eq!((answer.status, answer.body.len()), (304, 0));
        assert_eq!(answer.header("etag"), Some(format!("\"{key}\"")));
        assert_eq!(answer.header("x-a").as_deref(), Some("1"));
        assert!(answer.header("cache-control").is_some());
    }
    let list = format!("\"zz\", \"{key}\"");
    let answer = server.send("GET /a.txt", "example.com", &[("If-None-Match", &list)]);
    assert_eq!(answer.status, 200);
    for header in [("Range", "bytes=0-1"), ("Authorization", "Basic x")] {
        let answer = server.send("GET /a.txt", "example.com", &[header]);
        assert_eq!((answer.status, answer.text()), (200, "a.txt".to_owned()));
        assert_eq!(answer.header("cache-control"), None, "{header:?}");
    }
    assert_eq!(server.send("POST /a.txt", "example.com", &[]).status, 405);
    assert_eq!(server.send("POST /missing", "example.com", &[]).status, 404);
}

// miniflare: asset-worker/tests/handler.test.ts, "attaches custom headers"
#[test]
fn headers_file_as_in_upstreams_cases() {
    let rules = "/\n X-Custom-Header: Custom-Value\n\
        /foo\n X-Custom-Foo-Header: Custom-Foo-Value\n\
        /bang/:placeheld\n X-Custom-Bang-Header: Custom-Bang-Value :placeheld\n\
        /art/*\n X-Custom-Art-Header: Custom-Art-Value :splat\n Set-Cookie: me\n\
        /art/nested/attack\n Set-Cookie: me too\n\
        /system/override\n ETag: very rogue\n\
        /system/underride\n ! ETAg\n\
        /art/nested/unset/attack*\n ! Set-Cookie\n Set-Cookie: hijack\n\
        /art/nested/unset/attack/totalunset\n ! Set-Cookie\n";
    let names = "foo\tbang/baz\tbang/b/abba\tart/attack/by/Neil/Buchanan\tart/nested/attack\t\
        system/override\tsystem/underride\tart/nested/unset/attack\tindex.html\t\
        art/nested/unset/attacks/totalunset";
    let server = Server::of(TestSite {
        headers: Some(rules.to_owned()),
        ..site(names, AssetsConfig::default())
    });
    for (path, name, value) in [
        ("/", "x-custom-header", Some("Custom-Value")),
        ("/", "x-custom-foo-header", None),
        ("/foo", "x-custom-foo-header", Some("Custom-Foo-Value")),
        ("/foo", "x-custom-header", None),
        (
            "/bang/baz",
            "x-custom-bang-header",
            Some("Custom-Bang-Value baz"),
        ),
        ("/bang/b/abba", "x-custom-bang-header", None),
        (
            "/art/attack/by/Neil/Buchanan",
            "x-custom-art-header",
            Some("Custom-Art-Value attack/by/Neil/Buchanan"),
        ),
        ("/art/attack/by/Neil/Buchanan", "set-cookie", Some("me")),
        ("/art/nested/attack", "set-cookie", Some("me, me too")),
        ("/system/override", "etag", Some("very rogue")),
        ("/system/underride", "etag", None),
        // Unset and set again after what an earlier rule set: appended to nothing.
        ("/art/nested/unset/attack", "set-cookie", Some("hijack")),
        ("/art/nested/unset/attack/totalunset", "set-cookie", None),
    ] {
        let given = server.get(path).header(name);
        assert_eq!(given.as_deref(), value, "{path} {name}");
    }
}

// miniflare: asset-worker/tests/handler.test.ts, "evaluates custom redirects" and "should
// prevent external redirects via double slash"; rules with a host are none that the file
// can say
#[test]
fn redirects_file_as_in_upstreams_cases() {
    let rules = "/foo /bar 301\n\
        /proxy /other 200\n\
        /proxy-explicit /other.bin 200\n\
        /proxy-page /page 200\n\
        /dynamic/:seg /:seg/new-dynamic/?with#params\n\
        /dynamic/:seg1/:seg2/:seg3 https://fakehost/:seg3/:seg1/:seg2/new-dynamic/?with#params\n\
        /splat/* /:splat/new-splat\n\
        /splat/foo/* /will-never-fire\n\
        /but/this/will/* /too\n\
        /but/this/* /will\n\
        /partialSplat* /new-partialSplat:splat\n\
        /partialPlaceholder:placeholder /new-partialPlaceholder:placeholder\n\
        /slashes/* /:splat\n";
    for (not_found_handling, names) in [
        (NotFoundHandling::None, "foo\tother\tother.bin\tpage.html"),
        (NotFoundHandling::NotFoundPage, "404.html\tother.bin"),
        (NotFoundHandling::NotFoundPage, "a"),
    ] {
        let server = Server::of(TestSite {
            redirects: Some(rules.to_owned()),
            ..site(
                names,
                AssetsConfig {
                    not_found_handling,
                    ..AssetsConfig::default()
                },
            )
        });
        for (path, status, location) in [
            ("/foo", 301, "/bar"),
            ("/dynamic/foo", 302, "/foo/new-dynamic/?with#params"),
            (
                "/dynamic/bar/baz/qux",
                302,
                "https://fakehost/qux/bar/baz/new-dynamic/?with#params",
            ),
            ("/splat/foo/bar/baz", 302, "/foo/bar/baz/new-splat"),
            ("/splat/", 302, "/new-splat"),
            ("/splat/foo/nope", 302, "/foo/nope/new-splat"),
            ("/but/this/match", 302, "/will"),
            ("/but/this/will/match", 302, "/too"),
            (
                "/partialSplatfoo/bar/baz",
                302,
                "/new-partialSplatfoo/bar/baz",
            ),
            ("/partialPlaceholderfoo", 302, "/new-partialPlaceholderfoo"),
            ("/slashes//google.com", 302, "/google.com"),
            ("/slashes/%5Cgoogle.com", 302, "/%5Cgoogle.com"),
        ] {
            let answer = server.send(&format!("POST {path}"), "example.com", &[]);
            assert_eq!(answer.status, status, "{path}");
            assert_eq!(
                answer.header("location").as_deref(),
                Some(location),
                "{path}"
            );
            // Pages says "Redirecting to …" here.
            assert_eq!(answer.header("content-type"), None);
            assert_eq!(answer.text(), "");
        }
        let proxied = server.get("/proxy-explicit");
        match names {
            "a" => assert_eq!((proxied.status, proxied.text()), (404, String::new())),
            _ => assert_eq!((proxied.status, &*proxied.text()), (200, "other.bin")),
        }
        let proxied = server.get("/proxy");
        match names {
            "a" => assert_eq!((proxied.status, proxied.text()), (404, String::new())),
            "404.html\tother.bin" => {
                assert_eq!((proxied.status, &*proxied.text()), (404, "404.html"));
            }
            _ => assert_eq!((proxied.status, &*proxied.text()), (200, "other")),
        }
        let page = server.get("/proxy-page");
        if names.contains("page.html") {
            assert_eq!((page.status, &*page.text()), (200, "page.html"));
        }
        for path in ["/dynamic/a/b/c/d/e", "/partialPlaceholderfoo/"] {
            assert_eq!(server.get(path).status, 404, "{path}");
        }
    }
}

// miniflare: asset-worker/tests/handler.test.ts, the matrix of "canFetch"
#[test]
fn the_worker_is_asked_where_no_file_answers() {
    use NotFoundHandling::{None as Nothing, NotFoundPage, SinglePageApplication};
    let routing = StaticRouting::parse(&["/never-asked".to_owned()]).unwrap();
    for prefers in [false, true] {
        for not_found in [Nothing, NotFoundPage, SinglePageApplication] {
            for has_routing in [false, true] {
                let server = Server::of(with_worker(site(
                    "404.html\tindex.html\tfoo.html",
                    AssetsConfig {
                        not_found_handling: not_found,
                        navigation_prefers_assets: prefers,
                        run_worker_first: if has_routing {
                            RunWorkerFirst::Rules(routing.clone())
                        } else {
                            RunWorkerFirst::default()
                        },
                        ..AssetsConfig::default()
                    },
                )));
                for mode in [None, Some("navigate"), Some("cors")] {
                    let what = format!("{prefers} {not_found:?} {has_routing} {mode:?}");
                    let headers: Vec<_> = mode
                        .map(|mode| ("Sec-Fetch-Mode", mode))
                        .into_iter()
                        .collect();
                    let ask =
                        |path: &str| server.send(&format!("GET {path}"), "example.com", &headers);
                    for path in ["/foo", "/", "/404"] {
                        assert_eq!(ask(path).status, 200, "{path} {what}");
                    }
                    let navigates = prefers && mode == Some("navigate");
                    let answer = ask("/bar");
                    if not_found != Nothing && (has_routing || navigates) {
                        let page = match not_found {
                            NotFoundPage => (404, "404.html"),
                            _ => (200, "index.html"),
                        };
                        assert_eq!((answer.status, &*answer.text()), page, "{what}");
                    } else {
                        assert!(is_from_worker(&answer), "{what}");
                    }
                }
            }
        }
    }
}

// miniflare: asset-worker/tests/handler.test.ts, "should return "true" even for a bad
// method" and "… for custom redirects without underlying assets"
#[test]
fn a_file_or_a_redirect_is_never_the_workers() {
    for not_found_handling in [NotFoundHandling::None, NotFoundHandling::NotFoundPage] {
        let server = Server::of(with_worker(TestSite {
            redirects: Some(
                "/redirect /something 301\n/proxy-valid /does-exist 200\n/proxy-invalid /no-match 200\n"
                    .to_owned(),
            ),
            ..site(
                "does-exist\tfoo.html",
                AssetsConfig {
                    not_found_handling,
                    ..AssetsConfig::default()
                },
            )
        }));
        let ask = |line: &str| server.send(line, "example.com", &[]);
        assert_eq!(ask("POST /foo").status, 405);
        assert!(is_from_worker(&ask("POST /bar")));
        assert_eq!(ask("GET /does-exist").status, 200);
        assert!(is_from_worker(&ask("GET /no-match")));
        assert_eq!(ask("GET /redirect").status, 301);
        assert_eq!(ask("GET /proxy-valid").status, 200);
        assert_eq!(ask("GET /proxy-invalid").status, 404);
    }
}

// miniflare: router-worker/tests/index.test.ts; asset-worker/tests/rules-engine.test.ts,
// "static routing rules"
#[test]
fn run_worker_first_is_decided_by_rules_then_by_files() {
    let config = |rules: &[&str]| {
        let rules: Vec<String> = rules.iter().map(|rule| (*rule).to_owned()).collect();
        AssetsConfig {
            run_worker_first: RunWorkerFirst::Rules(StaticRouting::parse(&rules).unwrap()),
            ..AssetsConfig::default()
        }
    };
    let names = "api/file.txt\tapi/docs/file.txt\tother.txt\tfoo.txt";
    let rules = [
        "/api/*",
        "!/api/docs/*",
        "/exact",
        "/some/*/path",
        "/a.b",
        "/foo.*",
    ];
    let server = Server::of(with_worker(site(names, config(&rules))));
    for (path, is_worker) in [
        ("/api/file.txt", true),
        ("/api/docs/file.txt", false),
        ("/api/docs/missing", false),
        ("/other.txt", false),
        ("/other", true),
        ("/exact", true),
        // Files decide, since no rule does; there are none.
        ("/exact/more", true),
        ("/some/a/b/path", true),
        ("/foo.txt", true),
    ] {
        let answer = server.get(path);
        assert_eq!(
            is_from_worker(&answer),
            is_worker,
            "{path}: {}",
            answer.status
        );
    }
    // A rule that excludes wins, and then a missing file is a 404 though there is a worker.
    assert_eq!(server.get("/api/docs/missing").status, 404);

    // Only a rule's own `*` is special, and a rule is the whole path.
    let server = Server::of(with_worker(site(
        "a-b\tab/c\tabbc\taaab",
        config(&["/a.b", "/a+b", "/ab/"]),
    )));
    for path in ["/a-b", "/ab/c", "/abbc", "/aaab"] {
        assert_eq!(server.get(path).status, 200, "{path}");
    }
    let all = AssetsConfig {
        run_worker_first: RunWorkerFirst::All(true),
        ..AssetsConfig::default()
    };
    let server = Server::of(with_worker(site(names, all)));
    assert!(is_from_worker(&server.get("/other.txt")));
}

// wrangler 4.164: workers-shared `utils/base-path.ts`, `asset-worker/src/utils/base-path.ts`
#[test]
fn files_lie_below_the_base_path() {
    let config = |html_handling| AssetsConfig {
        html_handling,
        base_path: BasePath::parse("/app").unwrap(),
        ..AssetsConfig::default()
    };
    let server = Server::of(with_worker(TestSite {
        redirects: Some("/app/r /app/page\n/r /x\n".to_owned()),
        ..site(
            "index.html\tpage.html",
            config(HtmlHandling::AutoTrailingSlash),
        )
    }));
    for (path, status, location) in [
        ("/app/", 200, None),
        ("/app", 307, Some("/app/")),
        ("/app/page", 200, None),
        ("/app/page.html", 307, Some("/app/page")),
        ("/app/index", 307, Some("/app/")),
        ("/app/r", 302, Some("/app/page")),
        ("/app/none", 503, None),
        ("/page", 503, None),
        ("/apple", 503, None),
        ("/r", 503, None),
    ] {
        let answer = server.get(path);
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(answer.header("location").as_deref(), location, "{path}");
    }
    let drops = site("index.html", config(HtmlHandling::DropTrailingSlash));
    let server = Server::of(drops);
    assert_eq!(server.get("/app").text(), "index.html");
    assert_eq!(
        server.get("/app/").header("location").as_deref(),
        Some("/app")
    );
}
