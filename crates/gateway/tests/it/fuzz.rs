//! Arbitrary input never makes anything panic, and the server goes on.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::sync::LazyLock;

use engawa_gateway::assets::{parse_headers, parse_redirects};
use engawa_model::HtmlHandling;
use proptest::prelude::*;

use crate::support::{Server, TestSite};

static SERVER: LazyLock<Server> = LazyLock::new(|| {
    let site = TestSite {
        headers: Some("/*\n  A: :splat\nhttps://:x.example.com/*\n  B: :x\n".to_owned()),
        redirects: Some("/r/:a/* /b/:splat?:a\n/p/* /:splat 200\n".to_owned()),
        ..TestSite::named("index.html\ta.txt\tx/404.html")
    };
    Server::of(site)
});

/// Sends bytes, ends the sending side, and reads what comes.
fn poke(bytes: &[u8]) -> Vec<u8> {
    let mut client = SERVER.connect();
    // The server may have closed before all was sent, or reset what it did not read.
    let _ = client.write_all(bytes);
    let _ = client.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    let _ = client.read_to_end(&mut answer);
    answer
}

fn still_serves() {
    assert_eq!(SERVER.get("/a.txt").text(), "a.txt");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_on_a_connection(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        poke(&bytes);
        still_serves();
    }

    #[test]
    fn almost_a_request(
        path in "/[ -~]{0,40}",
        method in "GET|HEAD|POST|get|[A-Z]{1,10}",
        headers in prop::collection::vec(
            ("(?i)accept-encoding|if-none-match|range|x-[a-z]{1,8}|connection|upgrade|transfer-encoding|content-length|sec-fetch-dest", "[ -~\\x80-\\xff]{0,30}"),
            0..6,
        ),
        body in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: a.example.com\r\n").into_bytes();
        for (name, value) in &headers {
            request.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        request.extend_from_slice(b"\r\n");
        request.extend_from_slice(&body);
        let answer = poke(&request);
        let server_error = answer.starts_with(b"HTTP/1.1 5");
        prop_assert!(!server_error, "{}", String::from_utf8_lossy(&answer));
        still_serves();
    }

    // A panic in a handler shows as a connection closed without an answer.
    #[test]
    fn any_path_gets_an_answer(path in "/(r/|p/|x/)?([a-z.]|%2[eEfF]|%[0-9a-fA-F]{2}|%|/|\\\\|[\"'`^{}|<>]|:[a-z]){0,20}(\\?[ -~&&[^ #]]{0,10})?") {
        let request = format!("GET {path} HTTP/1.1\r\nHost: q.example.com\r\nConnection: close\r\n\r\n");
        let answer = SERVER.raw(request.as_bytes());
        prop_assert!(answer.starts_with(b"HTTP/1.1 "), "{path}");
        prop_assert!(!answer.starts_with(b"HTTP/1.1 5"), "{path}");
    }

    #[test]
    fn any_rules_file(text in "(/|https://|\\*|:[a-z]{1,3}|! |#|[ \\t\\n]|[a-z0-9:/.%é]|\\PC){0,80}") {
        parse_headers(&text);
        parse_redirects(&text, HtmlHandling::default());
        let folder = tempfile::tempdir().unwrap();
        TestSite {
            headers: Some(text.clone()),
            redirects: Some(text),
            ..TestSite::named("index.html")
        }
        .build(folder.path().to_owned());
    }
}
