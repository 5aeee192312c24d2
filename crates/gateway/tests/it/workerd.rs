//! The proxy against the pinned workerd, where it is installed: `ENGAWA_WORKERD`, or the
//! folder of Engawa's own tools.

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use crate::proxy::{PoolState, TestPool};
use crate::support::{Answer, Server, TestSite};

const SCRIPT: &str = r#"
export default {
  async fetch(request) {
    const url = new URL(request.url);
    switch (url.pathname) {
      case "/throw": throw new Error("boom");
      case "/never": return new Promise(() => {});
      case "/own": return new Response("Internal Server Error", { status: 500 });
      case "/echo": return new Response(request.body, { headers: { "x-length": request.headers.get("content-length") } });
      case "/see": return Response.json({ url: request.url, cf: request.cf, headers: Object.fromEntries(request.headers) });
      case "/ws": {
        const [client, server] = Object.values(new WebSocketPair());
        server.accept();
        server.addEventListener("message", (event) => server.send("echo " + event.data));
        return new Response(null, { status: 101, webSocket: client });
      }
      default: return new Response("hello");
    }
  },
};
"#;

struct Workerd {
    child: Child,
    socket: PathBuf,
    _folder: tempfile::TempDir,
}

impl Workerd {
    fn start() -> Self {
        let binary = engawa_testkit::workerd();
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        std::fs::write(folder.path().join("main.js"), SCRIPT).unwrap();
        let config = format!(
            "using Workerd = import \"/workerd/workerd.capnp\";\n\
             const config :Workerd.Config = (services = [(name = \"main\", worker = .main)], sockets = [(\
             name = \"http\", address = \"unix:{}\", service = \"main\", http = (cfBlobHeader = \"{}\", \
             forwardedProtoHeader = \"{}\"))]);\n\
             const main :Workerd.Worker = (compatibilityDate = \"2025-09-01\", \
             modules = [(name = \"main.js\", esModule = embed \"main.js\")]);\n",
            socket.display(),
            engawa_gateway::wiring::CF,
            engawa_gateway::wiring::PROTO,
        );
        std::fs::write(folder.path().join("config.capnp"), config).unwrap();
        let mut child = Command::new(binary)
            .args(["serve", "--control-fd=1"])
            .arg(folder.path().join("config.capnp"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // The control channel says when it listens.
        let mut told = Vec::new();
        let mut byte = [0];
        let mut control = child.stdout.take().unwrap();
        while !told.ends_with(b"\n") {
            assert_eq!(control.read(&mut byte).unwrap(), 1, "workerd ended");
            told.push(byte[0]);
        }
        Self {
            child,
            socket,
            _folder: folder,
        }
    }

    fn serve(&self) -> (Server, Arc<PoolState>) {
        let (pool, state) = TestPool::of(vec![self.socket.clone()]);
        let server = Server::of(TestSite {
            worker: Some(pool),
            ..TestSite::default()
        });
        (server, state)
    }
}

impl Drop for Workerd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_worker_sees_the_request_that_the_client_made() {
    let workerd = Workerd::start();
    let (server, state) = workerd.serve();
    let answer = server.send(
        "GET /see?q=1",
        "example.com",
        &[("Accept-Encoding", "zstd")],
    );
    let seen: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(seen["url"], "http://example.com/see?q=1");
    assert_eq!(seen["cf"]["clientAcceptEncoding"], "zstd");
    assert_eq!(seen["cf"]["asn"], 395_747);
    assert_eq!(seen["headers"]["x-forwarded-proto"], "http");
    assert_eq!(
        seen["headers"]["cf-ray"].as_str(),
        answer.header("cf-ray").as_deref()
    );
    assert_eq!(seen["headers"]["accept-encoding"], "br, gzip");
    assert!(
        seen["headers"]
            .as_object()
            .unwrap()
            .keys()
            .all(|name| !name.starts_with("x-engawa"))
    );

    let body = "x".repeat(300_000);
    let request = format!(
        "POST /echo HTTP/1.1\r\nHost: example.com\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let answer = Answer::parse(&server.raw(request.as_bytes()), false);
    assert_eq!(answer.header("x-length").as_deref(), Some("300000"));
    assert_eq!(answer.text(), body);
    state.wait_until_free();
}

#[test]
fn an_exception_that_nothing_caught_is_1101_and_a_500_of_the_workers_own_is_not() {
    let workerd = Workerd::start();
    let (server, state) = workerd.serve();
    for path in ["/throw", "/never"] {
        let answer = server.get(path);
        assert_eq!(answer.status, 500);
        assert!(
            answer.text().contains("Error 1101"),
            "{path}: {}",
            answer.text()
        );
    }
    let answer = server.get("/own");
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (500, "Internal Server Error")
    );
    state.wait_until_free();
    assert_eq!(server.get("/").text(), "hello");
}

#[test]
fn a_websocket_reaches_the_worker() {
    let workerd = Workerd::start();
    let (server, state) = workerd.serve();
    let mut client = server.connect();
    client
        .write_all(
            b"GET /ws HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
              Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )
        .unwrap();
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let answer = Answer::parse(&head, true);
    assert_eq!(answer.status, 101);
    assert_eq!(
        answer.header("sec-websocket-accept").as_deref(),
        Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    );
    // A masked text frame, "hi".
    client
        .write_all(&[0x81, 0x82, 0, 0, 0, 0, b'h', b'i'])
        .unwrap();
    let mut frame = [0; 9];
    client.read_exact(&mut frame).unwrap();
    assert_eq!(&frame, b"\x81\x07echo hi");
    assert_eq!(state.open(), 1);
    drop(client);
    state.wait_until_free();
}
