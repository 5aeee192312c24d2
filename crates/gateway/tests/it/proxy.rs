//! The way to a worker, against an upstream made by hand: odd behaviour of an upstream is
//! the subject here, and what it is sent is looked at byte by byte.

use std::future::Future;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::Duration;

use engawa_model::{Lease, LeaseGuard, RoutesJson, WorkerPool, WorkerUnavailable};

use crate::support::{Answer, Server, TestSite};

const PATIENCE: Duration = Duration::from_secs(20);

/// A worker's pool whose instances are sockets of the test.
pub(crate) struct TestPool {
    sockets: Mutex<Vec<PathBuf>>,
    state: Arc<PoolState>,
    unavailable: Option<WorkerUnavailable>,
    next_instance: AtomicU64,
}

#[derive(Default)]
pub(crate) struct PoolState {
    pub(crate) taken: AtomicUsize,
    pub(crate) answered: AtomicUsize,
    exceeded: AtomicBool,
    open: Mutex<usize>,
    closed: Condvar,
}

impl PoolState {
    pub(crate) fn open(&self) -> usize {
        *self.open.lock().unwrap()
    }

    /// Waits until every lease was given back.
    pub(crate) fn wait_until_free(&self) {
        let open = self.open.lock().unwrap();
        let (open, timeout) = self
            .closed
            .wait_timeout_while(open, PATIENCE, |open| *open > 0)
            .unwrap();
        assert!(!timeout.timed_out(), "{} leases are still held", *open);
    }
}

struct Guard(Arc<PoolState>);

impl LeaseGuard for Guard {
    fn exceeded_limits(&self) -> bool {
        self.0.exceeded.load(Ordering::SeqCst)
    }

    fn answered(&self) {
        self.0.answered.fetch_add(1, Ordering::SeqCst);
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        *self.0.open.lock().unwrap() -= 1;
        self.0.closed.notify_all();
    }
}

impl TestPool {
    /// The sockets are handed out in turn; the last one stays.
    pub(crate) fn of(sockets: Vec<PathBuf>) -> (Arc<Self>, Arc<PoolState>) {
        let state = Arc::<PoolState>::default();
        let pool = Arc::new(Self {
            sockets: Mutex::new(sockets),
            state: Arc::clone(&state),
            unavailable: None,
            next_instance: AtomicU64::new(1),
        });
        (pool, state)
    }

    pub(crate) fn unavailable(why: WorkerUnavailable) -> Arc<Self> {
        Arc::new(Self {
            sockets: Mutex::default(),
            state: Arc::default(),
            unavailable: Some(why),
            next_instance: AtomicU64::new(1),
        })
    }
}

impl WorkerPool for TestPool {
    fn try_acquire(&self) -> Option<Lease> {
        let mut sockets = self.sockets.lock().unwrap();
        let (socket, instance) = match sockets.as_slice() {
            [] => return None,
            [only] => (only.clone(), u64::MAX),
            _ => (
                sockets.remove(0),
                self.next_instance.fetch_add(1, Ordering::SeqCst),
            ),
        };
        self.state.taken.fetch_add(1, Ordering::SeqCst);
        *self.state.open.lock().unwrap() += 1;
        Some(Lease {
            socket: Arc::new(socket),
            instance,
            guard: Box::new(Guard(Arc::clone(&self.state))),
        })
    }

    fn acquire(
        &self,
    ) -> Pin<Box<dyn Future<Output = Result<Lease, WorkerUnavailable>> + Send + '_>> {
        let why = self.unavailable.clone().unwrap_or(WorkerUnavailable::Busy);
        Box::pin(std::future::ready(Err(why)))
    }
}

/// What the upstream was sent.
#[derive(Debug, Clone)]
struct Seen {
    connection: usize,
    head: String,
    body: Vec<u8>,
}

impl Seen {
    fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.head.lines().skip(1).filter_map(|line| {
            let (other, value) = line.split_once(':')?;
            other.eq_ignore_ascii_case(name).then(|| value.trim())
        });
        let value = found.next();
        assert!(found.next().is_none(), "{name} came twice in {}", self.head);
        value
    }
}

/// A server on a unix socket, a thread for each connection.
struct Upstream {
    socket: PathBuf,
    seen: mpsc::Receiver<Seen>,
    folder: tempfile::TempDir,
}

impl Upstream {
    /// `respond` gets each request and its connection; false closes it.
    fn start(respond: impl Fn(&Seen, &mut UnixStream) -> bool + Send + Sync + 'static) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let (sender, seen) = mpsc::channel();
        let respond = Arc::new(respond);
        std::thread::spawn(move || {
            for (connection, stream) in listener.incoming().enumerate() {
                let Ok(mut stream) = stream else { return };
                let respond = Arc::clone(&respond);
                let sender = sender.clone();
                std::thread::spawn(move || {
                    while let Some((head, body)) = read_message(&mut stream) {
                        let seen = Seen {
                            connection,
                            head,
                            body,
                        };
                        let _ = sender.send(seen.clone());
                        if !respond(&seen, &mut stream) {
                            return;
                        }
                    }
                });
            }
        });
        Self {
            socket,
            seen,
            folder,
        }
    }

    /// Always the same answer, connection kept.
    fn constant(answer: &'static str) -> Self {
        Self::start(move |_, stream| stream.write_all(answer.as_bytes()).is_ok())
    }

    fn next(&self) -> Seen {
        self.seen.recv_timeout(PATIENCE).unwrap()
    }

    fn serve(&self) -> (Server, Arc<PoolState>) {
        serve(vec![self.socket.clone()])
    }
}

fn serve(sockets: Vec<PathBuf>) -> (Server, Arc<PoolState>) {
    let (pool, state) = TestPool::of(sockets);
    let server = Server::of(TestSite {
        worker: Some(pool),
        ..TestSite::default()
    });
    (server, state)
}

/// Head and body of one message, the body as it was framed (chunks and all).
fn read_message(stream: &mut (impl std::io::Read + ?Sized)) -> Option<(String, Vec<u8>)> {
    let head = read_until(stream, b"\r\n\r\n")?;
    let head = String::from_utf8(head).unwrap();
    let lower = head.to_ascii_lowercase();
    let mut body = Vec::new();
    if lower.contains("\r\ntransfer-encoding: chunked\r\n") {
        body = read_until(stream, b"0\r\n\r\n")?;
    } else if let Some(at) = lower.find("\r\ncontent-length: ") {
        let length = lower[at + 18..].lines().next().unwrap().parse().unwrap();
        body.resize(length, 0);
        stream.read_exact(&mut body).ok()?;
    }
    Some((head, body))
}

fn read_until(stream: &mut (impl std::io::Read + ?Sized), end: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(end) {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        bytes.push(byte[0]);
    }
    Some(bytes)
}

fn send(server: &Server, request: &str) -> Answer {
    let head = request.starts_with("HEAD ");
    Answer::parse(&server.raw(request.as_bytes()), head)
}

const HELLO: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

// docs: pages.md 8.9, E20 to E22
#[test]
fn what_a_worker_may_rely_on_is_never_taken_from_a_client() {
    let upstream = Upstream::constant(
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Engawa-Secret: 1\r\nX-Accel-Redirect: /x\r\n\
         Keep-Alive: timeout=5\r\nConnection: X-Mine\r\nX-Mine: 1\r\nX-Kept: 1\r\n\r\nok",
    );
    let (server, _) = upstream.serve();
    let answer = send(
        &server,
        "GET /a?b HTTP/1.1\r\nHost: example.com\r\nCF-Connecting-IP: 9.9.9.9\r\nCF-Ray: forged\r\n\
         cf-worker: x\r\nX-Real-IP: 9.9.9.9\r\nX-Forwarded-Proto: ftp\r\nX-Forwarded-For: 1.1.1.1\r\n\
         X-Forwarded-For: 2.2.2.2\r\nX-Engawa-Cf: {}\r\nX-Engawa-Proto: https\r\nx-engawa-any: 1\r\n\
         Accept-Encoding: deflate\r\nKeep-Alive: 1\r\nProxy-Connection: close\r\nTE: trailers\r\n\
         X-Own: kept\r\nX-Named: 1\r\nConnection: close, X-Named, CF-Visitor, X-Real-IP\r\n\r\n",
    );
    let seen = upstream.next();
    assert!(
        seen.head.starts_with("GET /a?b HTTP/1.1\r\n"),
        "{}",
        seen.head
    );
    for (name, value) in [
        ("host", Some("example.com")),
        ("cf-connecting-ip", Some("127.0.0.1")),
        ("cf-ipcountry", Some("US")),
        ("cf-visitor", Some("{\"scheme\":\"http\"}")),
        ("x-real-ip", Some("127.0.0.1")),
        ("x-forwarded-proto", Some("http")),
        ("x-engawa-proto", Some("http")),
        ("x-forwarded-for", Some("1.1.1.1,2.2.2.2,127.0.0.1")),
        ("accept-encoding", Some("br, gzip")),
        ("x-own", Some("kept")),
        ("cf-worker", None),
        ("x-engawa-any", None),
        ("x-named", None),
        ("keep-alive", None),
        ("proxy-connection", None),
        ("te", None),
        ("connection", None),
        ("transfer-encoding", None),
        ("content-length", None),
    ] {
        assert_eq!(seen.header(name), value, "{name} in {}", seen.head);
    }
    let cf: serde_json::Value = serde_json::from_str(seen.header("x-engawa-cf").unwrap()).unwrap();
    assert_eq!(cf["clientAcceptEncoding"], "deflate");
    assert_eq!(cf["colo"], "DFW");

    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
    assert_eq!(answer.header("cf-ray").as_deref(), seen.header("cf-ray"));
    for absent in [
        "x-engawa-secret",
        "x-accel-redirect",
        "keep-alive",
        "x-mine",
    ] {
        assert_eq!(answer.header(absent), None, "{absent}");
    }
    assert_eq!(answer.header("x-kept").as_deref(), Some("1"));
    assert!(answer.header("date").is_some());
}

#[test]
fn the_worker_gets_the_host_and_the_path_that_the_routing_went_by() {
    let upstream = Upstream::constant(HELLO);
    let (server, _) = upstream.serve();
    send(
        &server,
        "GET http://a.example.com/x/../%2e/adm%69n?q HTTP/1.1\r\nHost: b.example.com\r\nConnection: close\r\n\r\n",
    );
    let seen = upstream.next();
    assert!(
        seen.head.starts_with("GET /adm%69n?q HTTP/1.1\r\n"),
        "{}",
        seen.head
    );
    assert_eq!(seen.header("host"), Some("a.example.com"));
}

#[test]
fn both_lengths_are_never_forwarded_and_the_connection_closes() {
    let upstream = Upstream::constant(HELLO);
    let (server, _) = upstream.serve();
    for order in [
        "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 6\r\n",
    ] {
        // Without `Connection: close`: that `raw` returns shows that the server closed,
        // and did not take what follows for a request.
        let answer = server.raw(
            format!(
                "POST /a HTTP/1.1\r\nHost: example.com\r\n{order}\r\n0\r\n\r\n\
                 GET /smuggled HTTP/1.1\r\nHost: example.com\r\n\r\n"
            )
            .as_bytes(),
        );
        let text = String::from_utf8_lossy(&answer);
        assert_eq!(text.matches("HTTP/1.1 200").count(), 1, "{text}");
        let seen = upstream.next();
        assert!(seen.head.starts_with("POST /a "));
        assert_eq!(seen.header("content-length"), None, "{}", seen.head);
        assert_eq!(seen.header("transfer-encoding"), Some("chunked"));
        assert_eq!(seen.body, b"0\r\n\r\n");
    }
    assert!(upstream.seen.try_recv().is_err());
}

#[test]
fn ambiguous_framing_is_refused() {
    let upstream = Upstream::constant(HELLO);
    let (server, state) = upstream.serve();
    for framing in [
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5, 6",
        "Content-Length: +5",
        "Content-Length: -1",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding : chunked",
        "Content-Length: 5\r\n Content-Length: 6",
    ] {
        let answer = server.raw(
            format!("POST /a HTTP/1.1\r\nHost: example.com\r\n{framing}\r\n\r\nhello").as_bytes(),
        );
        let text = String::from_utf8_lossy(&answer);
        assert!(text.starts_with("HTTP/1.1 400 "), "{framing}: {text}");
    }
    assert_eq!(state.taken.load(Ordering::SeqCst), 0);
    let answer = send(
        &server,
        "POST /a HTTP/1.1\r\nHost: example.com\r\nContent-Length: 5\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
    );
    assert_eq!(answer.status, 200);
    assert_eq!(upstream.next().header("content-length"), Some("5"));
}

#[test]
fn bodies_keep_their_framing() {
    let upstream = Upstream::constant(HELLO);
    let (server, _) = upstream.serve();
    send(
        &server,
        "PUT /a HTTP/1.1\r\nHost: example.com\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
    );
    let seen = upstream.next();
    assert_eq!(
        (
            seen.header("content-length"),
            seen.header("transfer-encoding")
        ),
        (Some("5"), None)
    );
    assert_eq!(seen.body, b"hello");
    send(
        &server,
        "PUT /a HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    );
    let seen = upstream.next();
    assert_eq!(
        (
            seen.header("content-length"),
            seen.header("transfer-encoding")
        ),
        (None, Some("chunked"))
    );
    assert!(seen.body.starts_with(b"5\r\nhello\r\n"), "{seen:?}");
    send(
        &server,
        "POST /a HTTP/1.1\r\nHost: example.com\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    );
    assert_eq!(upstream.next().header("content-length"), Some("0"));
}

#[test]
fn a_client_that_expects_it_is_told_to_continue() {
    let upstream = Upstream::constant(HELLO);
    let (server, _) = upstream.serve();
    let mut client = server.connect();
    client
        .write_all(b"POST /a HTTP/1.1\r\nHost: example.com\r\nContent-Length: 5\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n")
        .unwrap();
    let head = read_until(&mut client, b"\r\n\r\n").unwrap();
    assert_eq!(head, b"HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(b"hello").unwrap();
    let (head, body) = read_message(&mut client).unwrap();
    assert!(head.starts_with("HTTP/1.1 200"));
    assert_eq!(body, b"hello");
    let seen = upstream.next();
    assert_eq!(
        (seen.header("expect"), seen.body.as_slice()),
        (None, &b"hello"[..])
    );
}

#[test]
fn answers_without_a_body_have_none() {
    let upstream = Upstream::start(|seen, stream| {
        let answer = match seen.head.split(' ').nth(1).unwrap() {
            "/204" => "HTTP/1.1 204 No Content\r\n\r\n",
            "/304" => "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n",
            "/reason" => "HTTP/1.1 418 Short And Stout\r\nContent-Length: 0\r\n\r\n",
            _ => "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\nContent-Type: text/css\r\n\r\n",
        };
        stream.write_all(answer.as_bytes()).is_ok()
    });
    let (server, state) = upstream.serve();
    let mut client = server.connect();
    // One connection: a wrong length would shift what follows.
    for (line, status, length) in [
        ("HEAD /head", 200, Some("1234")),
        ("GET /204", 204, None),
        ("GET /304", 304, None),
        ("HEAD /204", 204, None),
        ("GET /reason", 418, Some("0")),
    ] {
        write!(client, "{line} HTTP/1.1\r\nHost: example.com\r\n\r\n").unwrap();
        let head = read_until(&mut client, b"\r\n\r\n").unwrap();
        let answer = Answer::parse(&head, true);
        assert_eq!(answer.status, status, "{line}");
        assert_eq!(answer.header("content-length").as_deref(), length, "{line}");
        assert_eq!(answer.header("transfer-encoding"), None, "{line}");
    }
    let connections: Vec<usize> = upstream
        .seen
        .try_iter()
        .map(|seen| seen.connection)
        .collect();
    assert_eq!(
        connections, [0; 5],
        "the connection to the worker is used again"
    );
    state.wait_until_free();
}

#[test]
fn an_answer_with_both_lengths_is_framed_anew() {
    let upstream = Upstream::start(|_, stream| {
        let _ = stream.write_all(
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        );
        false
    });
    let (server, _) = upstream.serve();
    let answer = send(
        &server,
        "GET / HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n",
    );
    assert_eq!(answer.text(), "hello");
    assert_eq!(answer.header("content-length"), None);
}

#[test]
fn a_stream_arrives_piece_by_piece_and_holds_its_lease_to_the_end() {
    let (go, wait) = mpsc::channel::<&'static str>();
    let wait = Mutex::new(wait);
    let upstream = Upstream::start(move |_, stream| {
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
            .unwrap();
        let wait = wait.lock().unwrap();
        while let Ok(event) = wait.recv() {
            write!(stream, "{:x}\r\n{event}\r\n", event.len()).unwrap();
        }
        stream.write_all(b"0\r\n\r\n").is_ok()
    });
    let (server, state) = upstream.serve();
    let mut client = server.connect();
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n")
        .unwrap();
    let head = read_until(&mut client, b"\r\n\r\n").unwrap();
    assert!(head.starts_with(b"HTTP/1.1 200"));
    for event in ["data: one\n\n", "data: two\n\n"] {
        // The next is sent only when this one has arrived.
        go.send(event).unwrap();
        let arrived = read_until(&mut client, b"\n\n\r\n").unwrap();
        assert!(String::from_utf8_lossy(&arrived).contains(event));
        assert_eq!(state.open(), 1);
        assert_eq!(state.answered.load(Ordering::SeqCst), 1);
    }
    drop(go);
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"0\r\n\r\n");
    state.wait_until_free();
}

#[test]
fn a_client_that_leaves_cancels_its_request() {
    for answer_begun in [false, true] {
        let (told, gone) = mpsc::channel();
        let told = Mutex::new(told);
        let upstream = Upstream::start(move |_, stream| {
            if answer_begun {
                stream
                    .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")
                    .unwrap();
            }
            // Ends when the gateway closes.
            let ended = matches!(stream.read(&mut [0]), Ok(0) | Err(_));
            told.lock().unwrap().send(ended).unwrap();
            false
        });
        let (server, state) = upstream.serve();
        let mut client = server.connect();
        client
            .write_all(b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n")
            .unwrap();
        upstream.next();
        if answer_begun {
            read_until(&mut client, b"hi\r\n").unwrap();
        }
        drop(client);
        assert!(gone.recv_timeout(PATIENCE).unwrap());
        state.wait_until_free();
    }
}

#[test]
fn a_get_whose_reused_connection_broke_is_repeated_once() {
    // A connection answers one request and breaks on the second, having read it.
    let upstream = Upstream::start(|seen, stream| {
        let first = seen.head.starts_with("GET /first") || seen.connection > 0;
        first && stream.write_all(HELLO.as_bytes()).is_ok()
    });
    let (server, state) = upstream.serve();
    let mut client = server.connect();
    for path in ["/first", "/second"] {
        write!(client, "GET {path} HTTP/1.1\r\nHost: example.com\r\n\r\n").unwrap();
        let (head, body) = read_message(&mut client).unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{path}: {head}");
        assert_eq!(body, b"hello");
    }
    let seen: Vec<(usize, bool)> = upstream
        .seen
        .try_iter()
        .map(|seen| (seen.connection, seen.head.starts_with("GET /second")))
        .collect();
    assert_eq!(seen, [(0, false), (0, true), (1, true)]);
    state.wait_until_free();
}

#[test]
fn a_post_is_not_repeated_once_it_was_sent() {
    let upstream = Upstream::start(|seen, stream| {
        seen.head.starts_with("GET ") && stream.write_all(HELLO.as_bytes()).is_ok()
    });
    let (server, state) = upstream.serve();
    let mut client = server.connect();
    write!(client, "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n").unwrap();
    read_message(&mut client).unwrap();
    write!(
        client,
        "POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 2\r\n\r\nhi"
    )
    .unwrap();
    let (head, body) = read_message(&mut client).unwrap();
    assert!(head.starts_with("HTTP/1.1 500"), "{head}");
    assert!(String::from_utf8(body).unwrap().contains("Error 1101"));
    assert_eq!(upstream.seen.try_iter().count(), 2);
    state.wait_until_free();
}

#[test]
fn a_get_that_breaks_a_new_connection_is_not_repeated() {
    let upstream = Upstream::start(|_, _| false);
    let (server, _) = upstream.serve();
    let answer = send(
        &server,
        "GET / HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n",
    );
    assert_eq!(answer.status, 500);
    assert_eq!(upstream.seen.try_iter().count(), 1);
}

#[test]
fn an_instance_that_is_gone_is_passed_over() {
    let upstream = Upstream::constant(HELLO);
    let nowhere = upstream.folder.path().join("gone");
    let (server, state) = serve(vec![nowhere.clone(), nowhere, upstream.socket.clone()]);
    let answer = send(
        &server,
        "POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi",
    );
    assert_eq!(answer.status, 200);
    assert_eq!(upstream.next().body, b"hi");
    assert_eq!(state.taken.load(Ordering::SeqCst), 3);
}

#[test]
fn a_full_backlog_is_waited_for_and_then_the_worker_is_busy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let socket = rustix::net::socket(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::STREAM,
        None,
    )
    .unwrap();
    rustix::net::bind(&socket, &rustix::net::SocketAddrUnix::new(&path).unwrap()).unwrap();
    rustix::net::listen(&socket, 0).unwrap();
    // A backlog of 0 holds one connection.
    let _filler = UnixStream::connect(&path).unwrap();
    let (server, state) = serve(vec![path]);
    let answer = send(
        &server,
        "GET / HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n",
    );
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("retry-after").as_deref(), Some("5"));
    state.wait_until_free();
}

// docs: pages.md 8.10, E23
#[test]
fn a_worker_without_an_answer_gives_an_error_page_in_the_form_asked_for() {
    let exceeded = {
        let upstream = Upstream::start(|_, _| false);
        let (pool, state) = TestPool::of(vec![upstream.socket.clone()]);
        state.exceeded.store(true, Ordering::SeqCst);
        (pool as Arc<dyn WorkerPool>, Some(upstream))
    };
    let why = |why| (TestPool::unavailable(why) as Arc<dyn WorkerPool>, None);
    for ((pool, _upstream), status, code) in [
        (exceeded, 503, 1102),
        (why(WorkerUnavailable::Busy), 503, 503),
        (why(WorkerUnavailable::Stopping), 503, 503),
        (
            why(WorkerUnavailable::Failing("at secret.js:1".into())),
            500,
            1101,
        ),
    ] {
        let server = Server::of(TestSite {
            worker: Some(pool),
            headers: Some("/*\n  X-A: 1\n".to_owned()),
            ..TestSite::default()
        });
        let html = server.get("/");
        assert_eq!(html.status, status);
        let ray = html.header("cf-ray").unwrap();
        assert!(
            html.header("content-type")
                .unwrap()
                .starts_with("text/html")
        );
        assert!(html.text().contains(&format!("Error {code}")) && html.text().contains(&ray));
        assert!(
            !html.text().contains("secret.js"),
            "only development may show it"
        );
        assert!(html.header("cache-control").unwrap().contains("no-store"));
        assert_eq!(html.header("x-a"), None, "no `_headers` on error pages");

        let json = server.send("GET /", "example.com", &[("Accept", "application/json")]);
        let body: serde_json::Value = serde_json::from_slice(&json.body).unwrap();
        assert_eq!(
            (body["error_code"].as_u64(), body["status"].as_u64()),
            (Some(code), Some(u64::from(status)))
        );
        assert_eq!(body["ray_id"].as_str(), json.header("cf-ray").as_deref());

        let markdown = server.send(
            "GET /",
            "example.com",
            &[("Accept", "text/markdown, application/json")],
        );
        assert!(
            markdown
                .text()
                .starts_with(&format!("---\nerror_code: {code}\n"))
        );
    }
}

// workerd 1.20261117.1: what it says when nothing caught an exception
#[test]
fn only_workerds_own_bare_500_becomes_1101() {
    let bare = "HTTP/1.1 500 Internal Server Error\r\nConnection: close\r\nContent-Length: 21\r\n\r\nInternal Server Error";
    let own =
        "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 21\r\n\r\nInternal Server Error";
    for (answer, is_page) in [(bare, true), (own, false)] {
        let upstream = Upstream::start(move |_, stream| {
            stream.write_all(answer.as_bytes()).unwrap();
            false
        });
        let (server, state) = upstream.serve();
        let got = server.get("/");
        assert_eq!(got.status, 500);
        assert_eq!(got.text().contains("Error 1101"), is_page, "{}", got.text());
        assert_eq!(got.text() == "Internal Server Error", !is_page);
        state.wait_until_free();
    }
}

#[test]
fn a_websocket_is_tunnelled_and_holds_its_lease() {
    let upstream = Upstream::start(|seen, stream| {
        assert_eq!(seen.header("upgrade"), Some("websocket"));
        assert_eq!(seen.header("connection"), Some("Upgrade"));
        assert_eq!(seen.header("sec-websocket-key"), Some("abc"));
        stream
            .write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: xyz\r\n\r\nhi")
            .unwrap();
        let mut buffer = [0; 64];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            stream.write_all(&buffer[..count]).unwrap();
        }
        false
    });
    let (server, state) = upstream.serve();
    let open = |server: &Server| -> TcpStream {
        let mut client = server.connect();
        client
            .write_all(
                b"GET /ws HTTP/1.1\r\nHost: example.com\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\
                  Sec-WebSocket-Key: abc\r\n\r\n",
            )
            .unwrap();
        let head = read_until(&mut client, b"\r\n\r\n").unwrap();
        let answer = Answer::parse(&head, true);
        assert_eq!(answer.status, 101);
        assert_eq!(answer.header("upgrade").as_deref(), Some("websocket"));
        assert_eq!(
            answer.header("sec-websocket-accept").as_deref(),
            Some("xyz")
        );
        assert!(answer.header("cf-ray").is_some());
        let mut hi = [0; 2];
        client.read_exact(&mut hi).unwrap();
        assert_eq!(&hi, b"hi");
        client
    };
    let mut client = open(&server);
    for _ in 0..3 {
        client.write_all(b"echo").unwrap();
        let mut echo = [0; 4];
        client.read_exact(&mut echo).unwrap();
        assert_eq!(&echo, b"echo");
    }
    assert_eq!(state.open(), 1);
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.read(&mut [0]).unwrap(), 0, "the end is passed on");
    state.wait_until_free();

    // A drain waits for a tunnel and then cuts it.
    let mut server = server;
    let mut client = open(&server);
    let guard = server.guard.take().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    assert!(!runtime.block_on(guard.drain(Duration::from_millis(50))));
    assert!(matches!(client.read(&mut [0]), Ok(0) | Err(_)));
    state.wait_until_free();
}

#[test]
fn an_upgrade_that_nobody_asked_for_is_refused() {
    let upstream = Upstream::start(|_, stream| {
        let _ = stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
        false
    });
    let (server, state) = upstream.serve();
    assert_eq!(server.get("/").status, 502);
    state.wait_until_free();
}

#[test]
fn static_paths_never_reach_the_worker() {
    let upstream = Upstream::constant(HELLO);
    let (pool, state) = TestPool::of(vec![upstream.socket.clone()]);
    let server = Server::of(TestSite {
        worker: Some(pool),
        routes: Some(RoutesJson {
            version: 1,
            description: None,
            include: vec!["/api/*".to_owned()],
            exclude: vec!["/api/static/*".to_owned()],
        }),
        ..TestSite::named("index.html\tapi/static/a.txt")
    });
    assert_eq!(server.get("/").text(), "index.html");
    assert_eq!(server.get("/api/static/a.txt").text(), "api/static/a.txt");
    assert_eq!(server.get("/API/x").text(), "index.html");
    assert_eq!(state.taken.load(Ordering::SeqCst), 0);
    assert_eq!(server.get("/api/x").text(), "hello");
    assert_eq!(server.get("/x/../api").text(), "hello");
    assert_eq!(state.taken.load(Ordering::SeqCst), 2);
}
