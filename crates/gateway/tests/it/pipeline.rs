//! Hosts, limits, development's additions, the meter, and how a listener ends.

use std::io::{Read as _, Write as _};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use engawa_gateway::{
    Answer as Reply, Body, BuildState, ConnInfo, DataPlane, DevSignals, Meter, RequestRecord,
    RouteTable, ServeOptions, Service,
};
use http::{Request, Response};

use crate::support::{Answer, Server, TestSite};

const PATIENCE: Duration = Duration::from_secs(20);

/// As `engawa dev` has it: one site for every host that is allowed.
fn dev_server(site: Option<TestSite>, dev: Option<DevSignals>) -> Server {
    let folder = tempfile::tempdir().unwrap();
    let site = site.map(|site| Arc::new(site.build(folder.path().to_owned())));
    let table = RouteTable {
        fallback: site,
        allowed_hosts: vec!["my.test".to_owned()],
        dev,
        ..RouteTable::default()
    };
    Server::start(table, None, folder)
}

#[test]
fn development_answers_only_for_hosts_that_no_page_can_forge() {
    let server = dev_server(Some(TestSite::named("index.html")), None);
    for host in [
        "localhost",
        "localhost:8788",
        "A.LocalHost",
        "127.0.0.1:1",
        "[::1]:80",
        "my.test",
        "MY.test:1",
    ] {
        assert_eq!(server.send("GET /", host, &[]).status, 200, "{host}");
    }
    for host in [
        "evil.test",
        "my.test.evil.test",
        "localhost.evil.test",
        "notlocalhost",
    ] {
        let answer = server.send("GET /", host, &[]);
        assert_eq!(answer.status, 403, "{host}");
        assert!(
            answer.text().contains(&format!("--host {host}")),
            "{}",
            answer.text()
        );
    }
    // Not by an absolute target either.
    assert_eq!(
        server
            .send("GET http://evil.test/", "localhost", &[])
            .status,
        403
    );
}

#[test]
fn a_request_names_exactly_one_valid_host() {
    let server = Server::of(TestSite::named("index.html"));
    for (head, status) in [
        ("", 400),
        ("Host: \r\n", 400),
        ("Host: example.com\r\nHost: example.com\r\n", 400),
        ("Host: user@example.com\r\n", 400),
        ("Host: example.com/x\r\n", 400),
        ("Host: other.test\r\n", 404),
        ("Host: example.com\r\n", 200),
    ] {
        let request = format!("GET / HTTP/1.1\r\n{head}Connection: close\r\n\r\n");
        let answer = Answer::parse(&server.raw(request.as_bytes()), false);
        assert_eq!(answer.status, status, "{head:?}");
    }
}

#[test]
fn what_is_too_long_is_refused() {
    let server = Server::of(TestSite::named("index.html"));
    let long = "x".repeat(17 * 1024);
    assert_eq!(server.get(&format!("/{long}")).status, 414);
    assert_eq!(
        server
            .send("GET /", "example.com", &[("X-Long", &long)])
            .status,
        200
    );
    let longer = "x".repeat(150 * 1024);
    assert_eq!(
        server
            .send("GET /", "example.com", &[("X-Long", &longer)])
            .status,
        431
    );
    for method in ["TRACE", "CONNECT"] {
        let answer = server.send(&format!("{method} example.com:443"), "example.com", &[]);
        assert!(
            matches!(answer.status, 400 | 405),
            "{method}: {}",
            answer.status
        );
    }
}

#[test]
fn requests_that_are_sent_together_are_answered_in_order() {
    let server = Server::of(TestSite::named("a.txt\tb.txt"));
    let mut client = server.connect();
    client
        .write_all(
            b"GET /a.txt HTTP/1.1\r\nHost: example.com\r\n\r\nGET /b.txt HTTP/1.1\r\nHost: example.com\r\n\r\n\
              GET /a.txt HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n",
        )
        .unwrap();
    let mut all = String::new();
    client.read_to_string(&mut all).unwrap();
    let bodies: Vec<&str> = all
        .split("\r\n\r\n")
        .skip(1)
        .map(|part| &part[..5])
        .collect();
    assert_eq!(bodies, ["a.txt", "b.txt", "a.txt"]);
}

#[test]
fn every_answer_of_a_site_has_a_ray_and_a_date_and_what_is_the_edges_is_not_the_sites() {
    let server = Server::of(TestSite::named("index.html\tcdn-cgi/x.txt"));
    let answer = server.get("/missing");
    let ray = answer.header("cf-ray").unwrap();
    assert_eq!((ray.len(), &ray[16..]), (20, "-DFW"));
    assert!(answer.header("date").is_some());
    assert_eq!(server.get("/cdn-cgi/x.txt").status, 404);
    assert_eq!(
        server.get("/cdn-cgi/engawa/live").status,
        404,
        "only in development"
    );
    assert_eq!(server.get("/x/../cdn-cgi/x.txt").status, 404);
}

#[test]
fn the_assets_binding_runs_the_same_rules() {
    let folder = tempfile::tempdir().unwrap();
    let site = TestSite {
        headers: Some("https://any.host/*\n  X-A: 1\n".to_owned()),
        ..TestSite::named("about.html\tcdn-cgi/x.txt")
    }
    .build(folder.path().to_owned());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let fetch = |uri: &str| {
        let request = Request::builder().uri(uri).body(Body::empty()).unwrap();
        runtime.block_on(site.assets_fetch(request))
    };
    let moved = fetch("https://any.host/about.html?q");
    assert_eq!(
        (moved.status().as_u16(), &moved.headers()["location"]),
        (308, &"/about?q".parse().unwrap())
    );
    assert_eq!(moved.headers()["x-a"], "1");
    let body = runtime
        .block_on(fetch("/about").into_body().to_bytes(100))
        .unwrap();
    assert_eq!(body, "about.html");
    assert_eq!(fetch("/cdn-cgi/x.txt").status(), 200);
}

#[test]
fn only_navigations_get_the_reload_script() {
    let signals = DevSignals::new();
    signals.set(BuildState::Ok { generation: 7 });
    let server = dev_server(
        Some(TestSite::named("index.html\ta.txt\t404.html")),
        Some(signals),
    );
    let navigation = [("Sec-Fetch-Dest", "document")];
    let tag = "<script src=\"/cdn-cgi/engawa/live.js?g=7\" async></script>";
    let page = server.send("GET /", "localhost", &navigation);
    assert_eq!(page.text(), format!("index.html{tag}"));
    let missing = server.send("GET /missing", "localhost", &navigation);
    assert_eq!(
        (missing.status, missing.text()),
        (404, format!("404.html{tag}"))
    );
    assert_eq!(
        server.send("GET /a.txt", "localhost", &navigation).text(),
        "a.txt"
    );
    let plain = server.send("GET /", "localhost", &[]);
    assert_eq!(plain.text(), "index.html");
    assert!(plain.header("etag").is_some());
    assert_eq!(
        server
            .send("GET /", "localhost", &[("Sec-Fetch-Dest", "iframe")])
            .text(),
        "index.html"
    );
    let script = server.send("GET /cdn-cgi/engawa/live.js?g=7", "localhost", &[]);
    assert_eq!(
        script.header("content-type").as_deref(),
        Some("application/javascript")
    );
    assert!(script.text().contains("EventSource"));
}

#[test]
fn the_live_stream_tells_each_build_as_it_happens() {
    let signals = DevSignals::new();
    signals.set(BuildState::Ok { generation: 1 });
    let mut server = dev_server(Some(TestSite::named("index.html")), Some(signals.clone()));
    let mut client = server.connect();
    client
        .write_all(b"GET /cdn-cgi/engawa/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    let mut next = || {
        let mut event = Vec::new();
        let mut byte = [0];
        while !event.ends_with(b"\n\n") {
            client.read_exact(&mut byte).unwrap();
            event.push(byte[0]);
        }
        let text = String::from_utf8(event).unwrap();
        let data = text[text.find("data: ").unwrap() + 6..].trim().to_owned();
        serde_json::from_str::<serde_json::Value>(&data).unwrap()
    };
    assert_eq!(
        next(),
        serde_json::json!({ "generation": 1, "error": null })
    );
    signals.set(BuildState::Failed {
        text: "a.ts:1: \"oops\"\n</script>".into(),
    });
    assert_eq!(
        next(),
        serde_json::json!({ "generation": 1, "error": "a.ts:1: \"oops\"\n</script>" })
    );
    signals.set(BuildState::Ok { generation: 2 });
    assert_eq!(
        next(),
        serde_json::json!({ "generation": 2, "error": null })
    );
    // It does not hold up a stop.
    let guard = server.guard.take().unwrap();
    assert!(block_on(guard.drain(PATIENCE)));
}

#[test]
fn without_any_version_the_build_error_is_the_page() {
    let signals = DevSignals::new();
    let server = dev_server(None, Some(signals.clone()));
    let answer = server.send("GET /any", "localhost", &[]);
    assert_eq!(answer.status, 500);
    assert!(answer.text().contains("under way"));
    signals.set(BuildState::Failed {
        text: "bad <b> in a.ts".into(),
    });
    let answer = server.send("POST /any", "localhost", &[]);
    assert_eq!(answer.status, 500);
    assert!(
        answer.text().contains("bad &lt;b&gt; in a.ts"),
        "{}",
        answer.text()
    );
    assert!(answer.text().contains("live.js?g=0"));
    assert_eq!(server.send("GET /any", "evil.test", &[]).status, 403);
}

struct Records(Mutex<mpsc::Sender<RequestRecord>>);

impl Meter for Records {
    fn on_request(&self, record: &RequestRecord) {
        self.0.lock().unwrap().send(record.clone()).unwrap();
    }
}

#[test]
fn the_meter_is_told_of_each_request_once() {
    let (sender, records) = mpsc::channel();
    let server = Server::with_meter(
        TestSite {
            files: vec![("/big.bin".to_owned(), vec![1; 1_000_000])],
            ..TestSite::default()
        },
        Some(Arc::new(Records(Mutex::new(sender)))),
    );
    let next = || records.recv_timeout(PATIENCE).unwrap();
    let answer = server.get("/big.bin?token=secret");
    let record = next();
    assert_eq!(
        (record.path.as_str(), record.status, record.bytes_out),
        ("/big.bin", 200, 1_000_000)
    );
    assert_eq!(
        (record.ray, record.worker),
        (answer.header("cf-ray"), false)
    );
    assert_eq!(record.deployment.unwrap().as_str(), "0a1b2c3d");
    server.send("POST /x", "example.com", &[("Content-Length", "0")]);
    let record = next();
    assert_eq!(
        (record.method.as_str(), record.status, record.bytes_out),
        ("POST", 405, 0)
    );
    server.send("GET /", "unknown.test", &[]);
    let record = next();
    assert_eq!((record.status, record.ray), (404, None));
    // A client that leaves half-way is told of too, with what it was sent.
    let mut client = server.connect();
    client
        .write_all(b"GET /big.bin HTTP/1.1\r\nHost: example.com\r\n\r\n")
        .unwrap();
    client.read_exact(&mut [0; 10]).unwrap();
    drop(client);
    assert_eq!(next().status, 200);
    assert!(records.try_recv().is_err());
}

/// Answers with a reason of its own, once it may.
struct Slow {
    started: Mutex<mpsc::Sender<()>>,
    go: Arc<tokio::sync::Semaphore>,
}

impl Service for Slow {
    fn call(&self, _request: Request<Body>, _connection: &Arc<ConnInfo>) -> Reply {
        self.started.lock().unwrap().send(()).unwrap();
        let go = Arc::clone(&self.go);
        Reply::later(async move {
            let _permit = go.acquire().await;
            let mut response = Response::new(Body::from("done"));
            let reason =
                hyper::ext::ReasonPhrase::from_static(b"KV PUT failed: 413 Value too long");
            response.extensions_mut().insert(reason);
            response
        })
    }
}

#[test]
fn a_drain_lets_requests_end_closes_idle_connections_and_accepts_no_more() {
    let plane = DataPlane::start(2).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let (started, began) = mpsc::channel();
    let go = Arc::new(tokio::sync::Semaphore::new(1));
    let service = Arc::new(Slow {
        started: Mutex::new(started),
        go: Arc::clone(&go),
    });
    let guard = plane
        .serve(listener, service, ServeOptions::default())
        .unwrap();

    let connect = || std::os::unix::net::UnixStream::connect(&path).unwrap();
    let request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut idle = connect();
    idle.write_all(request).unwrap();
    let mut head = [0; 46];
    idle.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 KV PUT failed: 413 Value too long");
    began.recv_timeout(PATIENCE).unwrap();

    let held = go.try_acquire().unwrap();
    let mut busy = connect();
    busy.write_all(request).unwrap();
    began.recv_timeout(PATIENCE).unwrap();
    let drained = std::thread::spawn(move || block_on(guard.drain(PATIENCE)));
    // The idle one ends while the other is still under way.
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).unwrap();
    assert!(!drained.is_finished());
    drop(held);
    let mut answer = String::new();
    busy.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("done"), "{answer}");
    assert!(drained.join().unwrap());
    assert!(std::os::unix::net::UnixStream::connect(&path).is_err());
}

#[test]
fn dropping_the_guard_stops_accepting_and_a_port_in_use_is_seen() {
    let mut server = Server::of(TestSite::named("index.html"));
    assert!(std::net::TcpListener::bind(server.address).is_err());
    let mut client = server.connect();
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n")
        .unwrap();
    client.read_exact(&mut [0; 12]).unwrap();
    drop(server.guard.take());
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).unwrap();
    // A clone is closed by each thread in its own time.
    let deadline = std::time::Instant::now() + PATIENCE;
    while std::net::TcpStream::connect(server.address).is_ok() {
        assert!(std::time::Instant::now() < deadline);
        std::thread::yield_now();
    }
    drop(server);
}

#[test]
fn connections_above_the_limit_wait() {
    let plane = DataPlane::start(1).unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (started, began) = mpsc::channel();
    let go = Arc::new(tokio::sync::Semaphore::new(10));
    let service = Arc::new(Slow {
        started: Mutex::new(started),
        go,
    });
    let options = ServeOptions {
        max_connections: 2,
        ..ServeOptions::default()
    };
    let _guard = plane.serve(listener, service, options).unwrap();
    let request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut client = std::net::TcpStream::connect(address).unwrap();
        client.write_all(request).unwrap();
        began.recv_timeout(PATIENCE).unwrap();
        open.push(client);
    }
    let mut waiting = std::net::TcpStream::connect(address).unwrap();
    waiting.write_all(request).unwrap();
    // Nothing can be waited for here: a defect would show as a failure now and then.
    assert!(began.try_recv().is_err());
    open.pop();
    began.recv_timeout(PATIENCE).unwrap();
    waiting.read_exact(&mut [0; 12]).unwrap();
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
        .block_on(future)
}
