//! The asset server against the reference's tables.

use crate::cases::{ASSETS, Case, HEADERS, REDIRECTS};
use crate::support::{Answer, Server, TestSite, asset_key};

const A: &str = "index.html\tabout.html\tblog/index.html\tblog/post.html\tblog/404.html\t404.html\tboth\tboth.html\tx.html\tx/index.html\ta.b.html\tdir/index\ty/index/index.html\tcafé.html\tsp ace.html\tapp.js\tstyle.css\tdata.json\tnoext\tf.HTML\tpct%25.html";
const S: &str = "index.html\tassets/app.js\tblog/404.html";
const N: &str = "a.txt";
const B: &str = "index.html\tb.html\tnews/index.html\t404.html\told.html\tf.txt";

// docs: pages.md 9.1 (R: upstream's handler gave these)
#[test]
fn assets_are_answered_as_upstream_does() {
    let mut failures = Vec::new();
    for case in ASSETS {
        let (names, headers) = match case.1.split_once(" + H ") {
            Some((names, headers)) => (names, Some(headers)),
            None => (case.1, None),
        };
        let names = match names {
            "A" => A,
            "S" => S,
            "N" => N,
            one => one,
        };
        let site = TestSite {
            headers: headers.map(rules),
            lose_files: case.0 == "S86",
            ..TestSite::named(names)
        };
        check(case, site, &mut failures);
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

// docs: pages.md 9.2
#[test]
fn headers_file_is_applied_as_upstream_does() {
    let mut failures = Vec::new();
    for case in HEADERS {
        let site = TestSite {
            headers: Some(rules(case.1)),
            ..TestSite::named(B)
        };
        check(case, site, &mut failures);
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

// docs: pages.md 9.3
#[test]
fn redirects_file_is_applied_as_upstream_does() {
    let mut failures = Vec::new();
    for case in REDIRECTS {
        let (headers, redirects) = match case.1.split_once(" + R ") {
            Some((headers, redirects)) => (Some(headers), redirects),
            None => (None, case.1),
        };
        let site = TestSite {
            headers: headers.map(rules),
            redirects: Some(rules(redirects)),
            ..TestSite::named(B)
        };
        check(case, site, &mut failures);
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

// miniflare: pages-shared handler.ts resolves targets against the request's own URL, in
// which a path of two slashes is still a path; what a visitor filled in gets one slash for
// several (wrangler 4.164).
#[test]
fn a_path_of_two_slashes_is_no_host() {
    let server = Server::of(TestSite {
        redirects: Some("/* /h/:splat 302\n".to_owned()),
        ..TestSite::named("index.html")
    });
    for (path, location) in [
        ("//evil.test/x", "/h/evil.test/x"),
        ("/\\evil.test/x", "/h/evil.test/x"),
        ("//evil.test/..//", "/h/"),
        ("/a//b?c//d", "/h/a/b?c//d"),
    ] {
        let answer = server.get(path);
        assert_eq!(
            answer.header("location").as_deref(),
            Some(location),
            "{path}"
        );
    }
    let server = Server::of(TestSite {
        redirects: Some("/:a/x b/c 302\n//evil.test/y /b\n".to_owned()),
        ..TestSite::named("index.html")
    });
    assert_eq!(
        server.get("//evil.test/y").header("location").as_deref(),
        Some("/b")
    );
}

#[test]
fn a_large_file_is_streamed_and_a_small_one_is_kept_within_the_budget() {
    let large = vec![7_u8; 3_000_000];
    let small = vec![8_u8; 100_000];
    let cache = engawa_gateway::FileCache::new(250_000);
    let mut files = vec![("/large.bin".to_owned(), large.clone())];
    for n in 0..4_u8 {
        let mut content = small.clone();
        content[0] = n;
        files.push((format!("/small-{n}.bin"), content));
    }
    let server = Server::of(TestSite {
        files,
        cache: cache.clone(),
        ..TestSite::default()
    });
    assert_eq!(server.get("/large.bin").body, large);
    assert_eq!(cache.used_bytes(), 0);
    for round in 0..3 {
        for n in 0..4_u8 {
            let answer = server.get(&format!("/small-{n}.bin"));
            assert_eq!((answer.body.len(), answer.body[0]), (100_000, n), "{round}");
            assert!(cache.used_bytes() <= 250_000);
        }
    }
    assert_eq!(cache.used_bytes(), 200_000);
}

// docs: pages.md 1.6, a 500 has none of the headers; a file that does not match its size
// is not served as if it did.
#[test]
fn a_file_that_lost_bytes_is_an_error() {
    let server = Server::of(TestSite::named("a.txt"));
    let key = asset_key("/a.txt", b"a.txt");
    std::fs::write(server.folder.path().join(key), "a").unwrap();
    let answer = server.get("/a.txt");
    assert_eq!((answer.status, answer.body.len()), (500, 0));
    assert_eq!(answer.header("access-control-allow-origin"), None);
}

#[test]
fn head_tells_the_length_that_get_has() {
    let server = Server::of(TestSite {
        redirects: Some("/r /b 302\n".to_owned()),
        ..TestSite::named("about.html\tb/404.html\tempty.txt")
    });
    // The second time the file is in memory.
    for path in ["/about", "/about", "/b/x", "/r", "/about.html", "/none"] {
        let get = server.get(path);
        let head = server.send(&format!("HEAD {path}"), "example.com", &[]);
        assert_eq!(head.status, get.status, "{path}");
        assert_eq!(
            head.header("content-length"),
            get.header("content-length"),
            "{path}"
        );
        assert_eq!(
            head.header("content-length"),
            Some(get.body.len().to_string()),
            "{path}"
        );
        assert!(head.body.is_empty());
    }
}

#[test]
fn the_nearest_404_is_found_at_any_depth() {
    let server = Server::of(TestSite::named("404.html\ta/b/c/404.html"));
    for (path, body) in [
        ("/x", "404.html"),
        ("/a/b/x", "404.html"),
        ("/a/b/c/x", "a/b/c/404.html"),
        ("/a/b/c/d/e/f/g/x", "a/b/c/404.html"),
        ("/a/b/c", "404.html"),
        ("/a/b/c/", "a/b/c/404.html"),
    ] {
        assert_eq!(server.get(path).text(), body, "{path}");
    }
    // A path of slashes costs no more than another of its length.
    assert_eq!(server.get(&"/".repeat(16_000)).text(), "404.html");
}

#[test]
fn a_site_whose_rules_are_wrong_says_so_and_serves() {
    let site = TestSite {
        headers: Some("/a/:x/:x\n  A: 1\n/b\n  X(y): 1\n".to_owned()),
        redirects: Some("/a/*/b/* /x\n/r\n".to_owned()),
        ..TestSite::named("a.txt")
    };
    let folder = tempfile::tempdir().unwrap();
    let site = site.build(folder.path().to_owned());
    let texts: Vec<String> = site.warnings().iter().map(ToString::to_string).collect();
    assert_eq!(texts.len(), 4, "{texts:?}");
    assert!(
        texts
            .iter()
            .any(|text| text.contains("Got 1.\n    at _redirects:2 | /r"))
    );
    assert!(
        texts
            .iter()
            .any(|text| text.contains("no valid name of a header"))
    );
}

fn rules(text: &str) -> String {
    text.split(" ⏎ ").collect::<Vec<_>>().join("\n")
}

fn check(case: &Case, site: TestSite, failures: &mut Vec<String>) {
    let (id, _, request, expected) = *case;
    // What the file behind the request is, for `<key>`.
    let served = match id {
        "S73" => "index.html",
        "S67" => "404.html",
        id if id.starts_with('H') => "b.html",
        _ => "about.html",
    };
    let key = asset_key(&format!("/{served}"), served.as_bytes());
    let (request, host) = request
        .split_once(" @ ")
        .unwrap_or((request, "example.com"));
    let (line, header) = match request.split_once(" · ") {
        Some((line, header)) => (line, Some(header.replace("<key>", &key))),
        None => (request, None),
    };
    let line = if line.starts_with('/') {
        format!("GET {line}")
    } else {
        line.to_owned()
    };
    // The absolute form, so that the scheme is the table's.
    let line = line.replacen(' ', &format!(" https://{host}"), 1);
    let headers: Vec<(&str, &str)> = header
        .iter()
        .map(|header| header.split_once(": ").unwrap())
        .collect();
    let server = Server::of(site);
    let answer = server.send(&line, host, &headers);
    if let Err(problem) = matches(&answer, expected, &line, &key) {
        failures.push(format!("{id}: {line}: {problem}\n    {answer:?}"));
    }
}

fn matches(answer: &Answer, expected: &str, line: &str, key: &str) -> Result<(), String> {
    let is_head = line.starts_with("HEAD ");
    let (first, rest) = expected.split_once("; ").unwrap_or((expected, ""));
    let (word, argument) = first.split_once(' ').unwrap_or((first, ""));
    let expect = |name: &str, wanted: Option<&str>| {
        let got = answer.header(name);
        if got.as_deref() == wanted {
            Ok(())
        } else {
            Err(format!("{name} should be {wanted:?}, is {got:?}"))
        }
    };
    let body_is = |wanted: &str| {
        if answer.text() == wanted {
            Ok(())
        } else {
            Err(format!("the body should be {wanted:?}"))
        }
    };
    let status_is = |wanted: u16| {
        if answer.status == wanted {
            Ok(())
        } else {
            Err(format!("the status should be {wanted}"))
        }
    };
    match word {
        "OK" => {
            status_is(200)?;
            body_is(argument)?;
            let path = format!("/{argument}");
            let key = asset_key(&path, argument.as_bytes());
            expect("etag", Some(&format!("\"{key}\"")))?;
            expect("cache-control", Some("public, max-age=0, must-revalidate"))?;
        }
        "MOVE" => {
            status_is(308)?;
            body_is("")?;
            expect("location", Some(argument))?;
            for absent in [
                "content-type",
                "etag",
                "cache-control",
                "x-content-type-options",
            ] {
                expect(absent, None)?;
            }
            expect("access-control-allow-origin", Some("*"))?;
            expect("referrer-policy", Some("strict-origin-when-cross-origin"))?;
        }
        "NF" => {
            status_is(404)?;
            body_is(argument)?;
            expect("content-type", Some("text/html; charset=utf-8"))?;
            expect("cache-control", Some("no-store"))?;
            expect("etag", None)?;
            expect("access-control-allow-origin", Some("*"))?;
        }
        status => {
            status_is(status.parse().map_err(|_| format!("bad case: {status}"))?)?;
            if argument == "empty" {
                body_is("")?;
            } else if let Some(body) = argument.strip_prefix("body ")
                && !is_head
            {
                body_is(body)?;
            }
        }
    }
    for item in items(rest) {
        if let Some(name) = item.strip_prefix("no ") {
            expect(name, None)?;
        } else if item == "ETag = key" {
            expect("etag", Some(&format!("\"{key}\"")))?;
        } else if let Some((name, value)) = item.split_once(": ") {
            expect(name, Some(value))?;
        } else {
            return Err(format!("bad case: {item}"));
        }
    }
    Ok(())
}

/// Splits at commas that begin another expectation and not at those inside of a value.
fn items(rest: &str) -> Vec<String> {
    let mut items: Vec<String> = Vec::new();
    for part in rest.split(", ").filter(|part| !part.is_empty()) {
        let begins = part.starts_with("no ")
            || part == "ETag = key"
            || part
                .split_once(": ")
                .is_some_and(|(name, _)| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'));
        match items.last_mut() {
            Some(last) if !begins => {
                last.push_str(", ");
                last.push_str(part);
            }
            _ => items.push(part.to_owned()),
        }
    }
    items
}
