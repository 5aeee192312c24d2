//! Precompressed forms of static files: which is sent, and what its answer says.

use std::collections::HashMap;
use std::sync::Arc;

use engawa_gateway::assets::is_compressible;
use engawa_model::{AssetsConfig, EncodedSizes, Encoding};

use crate::support::{Answer, Server, TestSite, asset_key};

/// A site with a long style sheet that has a form for each of these codings. What a form
/// holds is its name, over and over.
fn server(encodings: &[Encoding], site: TestSite) -> Server {
    let css = "a { color: red }\n".repeat(300).into_bytes();
    let page = "<p>nothing is here</p>\n".repeat(10).into_bytes();
    let mut files = vec![
        ("/a.css".to_owned(), css),
        ("/404.html".to_owned(), page),
        ("/short.css".to_owned(), b"a { color: red }".to_vec()),
        ("/image.png".to_owned(), vec![1; 5000]),
    ];
    files.extend(site.files);
    let keys: Vec<String> = files
        .iter()
        .map(|(path, content)| asset_key(path, content))
        .collect();
    let server = Server::of(TestSite { files, ..site });
    let mut sizes = EncodedSizes::default();
    for encoding in encodings {
        let form = encoding.token().repeat(100);
        sizes.sizes_bytes[*encoding as usize] = Some(form.len() as u64);
        for key in &keys {
            let name = format!("{key}.{}", encoding.token());
            std::fs::write(server.folder.path().join(name), &form).unwrap();
        }
    }
    let forms: HashMap<Arc<str>, EncodedSizes> =
        keys.into_iter().map(|key| (key.into(), sizes)).collect();
    server.site.as_ref().unwrap().add_encoded(&forms);
    server
}

fn accepting(server: &Server, line: &str, accept: &str) -> Answer {
    server.send(line, "example.com", &[("Accept-Encoding", accept)])
}

// RFC 9110, 12.5.3; pages.md 8.4
#[test]
fn the_form_that_weighs_most_is_sent() {
    let all = server(&Encoding::ALL, TestSite::default());
    let gzip = server(&[Encoding::Gzip], TestSite::default());
    for (accept, of_all, of_gzip) in [
        ("br", Some("br"), None),
        ("gzip, deflate, br, zstd", Some("br"), Some("gzip")),
        ("gzip, zstd", Some("zstd"), Some("gzip")),
        ("GZIP", Some("gzip"), Some("gzip")),
        ("x-gzip", Some("gzip"), Some("gzip")),
        ("br;q=0.5, gzip;q=0.8", Some("gzip"), Some("gzip")),
        ("br;q=0, gzip;q=0.1", Some("gzip"), Some("gzip")),
        ("br;q=0", None, None),
        ("*", Some("br"), Some("gzip")),
        ("br;q=0, *;q=0.5", Some("zstd"), Some("gzip")),
        ("identity, br;q=0.9", None, None),
        ("identity;q=0.5, gzip;q=0.9", Some("gzip"), Some("gzip")),
        ("identity", None, None),
        ("deflate", None, None),
        ("brotli", None, None),
        ("", None, None),
        (";;,q=1,;q=", None, None),
        ("gzip ; q=1.0 , br ; q=0.2", Some("gzip"), Some("gzip")),
    ] {
        for (server, expected) in [(&all, of_all), (&gzip, of_gzip)] {
            let answer = accepting(server, "GET /a.css", accept);
            assert_eq!(answer.status, 200, "{accept}");
            let given = answer.header("content-encoding");
            assert_eq!(given.as_deref(), expected, "{accept}");
            let text = expected.map(|token| token.repeat(100));
            assert_eq!(
                answer.text(),
                text.unwrap_or_else(|| "a { color: red }\n".repeat(300))
            );
            assert_eq!(answer.header("vary").as_deref(), Some("Accept-Encoding"));
        }
    }
    // Nobody asked.
    assert_eq!(all.get("/a.css").header("content-encoding"), None);
}

// pages.md 9.8: E1, E2, E3, E5, E6; 9.1: S105
#[test]
fn an_encoded_form_has_a_weak_tag_and_only_what_is_worth_it_has_one() {
    let server = server(
        &Encoding::ALL,
        TestSite {
            headers: Some(
                "/fixed.css\n  Cache-Control: public, no-transform\n/own.css\n  Content-Encoding: gzip\n/any.css\n  Vary: *\n/two.css\n  Vary: Origin\n  ETag: W/\"mine\"\n"
                    .to_owned(),
            ),
            files: ["fixed", "own", "any", "two"]
                .map(|name| (format!("/{name}.css"), name.repeat(500).into_bytes()))
                .into(),
            ..TestSite::default()
        },
    );
    // E2, S105
    let key = asset_key("/a.css", "a { color: red }\n".repeat(300).as_bytes());
    let weak = format!("W/\"{key}\"");
    let answer = accepting(&server, "GET /a.css", "gzip");
    assert_eq!(answer.header("etag"), Some(weak.clone()));
    assert_eq!(answer.header("content-length").as_deref(), Some("400"));
    let known = [("Accept-Encoding", "gzip"), ("If-None-Match", &*weak)];
    let answer = server.send("GET /a.css", "example.com", &known);
    assert_eq!((answer.status, answer.body.len()), (304, 0));
    assert_eq!(answer.header("vary").as_deref(), Some("Accept-Encoding"));
    assert_eq!(answer.header("content-encoding"), None);
    let plain = accepting(&server, "GET /a.css", "identity");
    assert_eq!(plain.header("etag"), Some(format!("\"{key}\"")));
    // E1: too short
    let answer = accepting(&server, "GET /short.css", "gzip");
    assert_eq!(
        (answer.header("content-encoding"), answer.header("vary")),
        (None, None)
    );
    // E3
    let answer = accepting(&server, "GET /fixed.css", "br");
    assert_eq!(
        (answer.header("content-encoding"), answer.header("vary")),
        (None, None)
    );
    assert_eq!(answer.header("content-length").as_deref(), Some("2500"));
    // The user's own encoding is left alone.
    let answer = accepting(&server, "GET /own.css", "br");
    assert_eq!(answer.header("content-encoding").as_deref(), Some("gzip"));
    assert_eq!(answer.text(), "own".repeat(500));
    // What `_headers` says stays.
    let answer = accepting(&server, "GET /any.css", "br");
    assert_eq!(answer.header("vary").as_deref(), Some("*"));
    let answer = accepting(&server, "GET /two.css", "br");
    assert_eq!(
        answer.header("vary").as_deref(),
        Some("Origin, Accept-Encoding")
    );
    assert_eq!(answer.header("etag").as_deref(), Some("W/\"mine\""));
    // E5: the page of a 404 too
    let answer = accepting(&server, "GET /missing", "br");
    assert_eq!((answer.status, answer.text()), (404, "br".repeat(100)));
    assert_eq!(answer.header("content-encoding").as_deref(), Some("br"));
    assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"));
    // E6
    let answer = accepting(&server, "GET /image.png", "br");
    assert_eq!(
        (answer.header("content-encoding"), answer.header("vary")),
        (None, None)
    );
    assert!(!is_compressible("text/csv; charset=utf-8"));
    assert!(is_compressible("text/css; charset=utf-8"));
    assert!(!is_compressible("application/octet-stream"));

    // The whole file answers a range, and so it is the plain one (pages.md 1.7).
    let range = [("Accept-Encoding", "br"), ("Range", "bytes=0-1")];
    let answer = server.send("GET /a.css", "example.com", &range);
    assert_eq!((answer.status, answer.body.len()), (200, 5100));
    assert_eq!(answer.header("content-encoding"), None);
    assert_eq!(answer.header("vary").as_deref(), Some("Accept-Encoding"));
    // HEAD says what GET would.
    for accept in ["br", "identity"] {
        let get = accepting(&server, "GET /a.css", accept);
        let head = accepting(&server, "HEAD /a.css", accept);
        for name in ["content-length", "content-encoding", "etag", "vary"] {
            assert_eq!(head.header(name), get.header(name), "{accept} {name}");
        }
        assert!(head.body.is_empty());
    }
}

// miniflare: workers-shared handler.ts keeps the tag with 304; RFC 9110, 15.4.5
#[test]
fn a_workers_304_names_the_tag_of_the_form() {
    let server = server(
        &Encoding::ALL,
        TestSite {
            assets_config: Some(AssetsConfig::default()),
            ..TestSite::default()
        },
    );
    let key = asset_key("/a.css", "a { color: red }\n".repeat(300).as_bytes());
    let weak = format!("W/\"{key}\"");
    for (accept, tag) in [("br", &*weak), ("identity", &weak[2..])] {
        let get = accepting(&server, "GET /a.css", accept);
        assert_eq!(get.header("etag").as_deref(), Some(tag));
        let known = [("Accept-Encoding", accept), ("If-None-Match", tag)];
        let answer = server.send("GET /a.css", "example.com", &known);
        assert_eq!(answer.status, 304);
        assert_eq!(answer.header("etag").as_deref(), Some(tag));
    }
}

// A form that is larger than what is kept in memory is streamed, and others are kept.
#[test]
fn large_forms_are_streamed_and_small_ones_kept() {
    let large = vec![b'x'; 2_000_000];
    let key = asset_key("/large.css", &large);
    let site = TestSite {
        files: vec![("/large.css".to_owned(), large)],
        ..TestSite::default()
    };
    let cache = site.cache.clone();
    let server = Server::of(site);
    let form = vec![b'y'; 1_000_000];
    std::fs::write(server.folder.path().join(format!("{key}.br")), &form).unwrap();
    let small = vec![b'z'; 100_000];
    std::fs::write(server.folder.path().join(format!("{key}.gzip")), &small).unwrap();
    let mut sizes = EncodedSizes::default();
    sizes.sizes_bytes[Encoding::Brotli as usize] = Some(1_000_000);
    sizes.sizes_bytes[Encoding::Gzip as usize] = Some(100_000);
    let forms = HashMap::from([(Arc::from(key), sizes)]);
    server.site.as_ref().unwrap().add_encoded(&forms);
    for _ in 0..2 {
        assert_eq!(accepting(&server, "GET /large.css", "br").body, form);
        assert_eq!(accepting(&server, "GET /large.css", "gzip").body, small);
    }
    assert_eq!(cache.used_bytes(), 100_000);
}
