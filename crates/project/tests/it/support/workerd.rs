//! Modules in the real workerd, asked by a worker of ours beside them: it sends what a
//! test names and reports what it got, so that a test reads JSON and no HTTP.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use engawa_model::{Module, ModuleKind};
use serde_json::Value;

use super::npm::tools;

/// A running workerd; it ends with this value.
pub(crate) struct Workerd {
    child: Child,
    port: u16,
    _files: tempfile::TempDir,
}

/// A request that is sent to the worker: method, path and body.
#[derive(serde::Serialize)]
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) body: Option<&'a str>,
}

pub(crate) fn get(path: &str) -> Request<'_> {
    Request {
        method: "GET",
        path,
        body: None,
    }
}

/// Answers as Pages does for `index.html about.html 404.html assets/x.txt`, as far as the
/// router's tests need.
const ASSETS: &str = r#"
const files = { "/": "index page", "/about": "about page", "/assets/x.txt": "x" };
const redirects = { "/index.html": "/", "/about.html": "/about", "/about/": "/about" };
export default {
    fetch(request) {
        const { pathname } = new URL(request.url);
        if (request.method !== "GET" && request.method !== "HEAD") return new Response(null, { status: 405 });
        if (pathname in redirects) return new Response(null, { status: 308, headers: { location: redirects[pathname] } });
        const body = files[pathname];
        const init = { status: body ? 200 : 404, headers: { "x-asset": pathname } };
        return new Response(request.method === "HEAD" ? null : body ?? "404 page", init);
    },
};
"#;

const DRIVER: &str = r#"
async function ask(worker, { method, path, body }) {
    try {
        const init = { method, body: body ?? undefined, redirect: "manual" };
        const response = await worker.fetch(new Request("https://pages.test" + path, init));
        const headers = Object.fromEntries(response.headers);
        return { status: response.status, headers, body: await response.text() };
    } catch (error) {
        return { error: String(error?.message ?? error) };
    }
}
export default {
    async fetch(request, env) {
        const answers = [];
        for (const one of await request.json()) answers.push(await ask(env.WORKER, one));
        return Response.json(answers);
    },
};
"#;

impl Workerd {
    /// Starts the modules as a worker with `ASSETS` and `GREETING` in its environment.
    /// `Err` holds what workerd says when it can not start them.
    pub(crate) fn start(modules: &[Module], date: &str, flags: &[String]) -> Result<Self, String> {
        let files = tempfile::tempdir().expect("a temporary folder");
        let config = config(files.path(), modules, date, flags);
        let path = files.path().join("config.capnp");
        std::fs::write(&path, config).expect("the configuration");
        let mut child = Command::new(&tools().workerd)
            .arg("serve")
            .arg(&path)
            .arg("--control-fd=1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("workerd starts");
        let stdout = child.stdout.take().expect("a pipe");
        let stderr = child.stderr.take().expect("a pipe");
        let log = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = BufReader::new(stderr).read_to_string(&mut text);
            text
        });
        let port = BufReader::new(stdout)
            .lines()
            .map_while(Result::ok)
            .find_map(|line| {
                let event: Value = serde_json::from_str(&line).ok()?;
                (event["event"] == "listen").then(|| event["port"].as_u64())?
            });
        let Some(port) = port else {
            let _ = child.wait();
            return Err(log.join().expect("the log"));
        };
        Ok(Self {
            child,
            port: u16::try_from(port).expect("a port"),
            _files: files,
        })
    }

    /// Sends the requests one after the other.
    pub(crate) fn ask(&self, requests: &[Request<'_>]) -> Vec<Value> {
        let body = serde_json::to_string(requests).expect("JSON");
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("workerd listens");
        write!(
            stream,
            "POST / HTTP/1.1\r\nHost: driver\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        assert!(
            head.to_lowercase().contains("content-length:"),
            "a JSON answer has a length: {answer}"
        );
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
    }
}

impl Drop for Workerd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn config(folder: &Path, modules: &[Module], date: &str, flags: &[String]) -> String {
    let mut list = String::new();
    for (index, module) in modules.iter().enumerate() {
        let file = format!("m{index}");
        std::fs::write(folder.join(&file), &module.body).expect("a module");
        let kind = match module.kind {
            ModuleKind::EsModule => "esModule",
            ModuleKind::CommonJs => "commonJsModule",
            ModuleKind::Text => "text",
            ModuleKind::Data => "data",
            ModuleKind::Wasm => "wasm",
            ModuleKind::Json => "json",
        };
        let name = module.name.trim_start_matches("./");
        let _ = writeln!(list, "(name = {name:?}, {kind} = embed {file:?}),");
    }
    let flags: Vec<String> = flags.iter().map(|flag| format!("{flag:?}")).collect();
    let flags = flags.join(", ");
    std::fs::write(folder.join("assets.js"), ASSETS).expect("a module");
    std::fs::write(folder.join("driver.js"), DRIVER).expect("a module");
    format!(
        r#"using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [
    (name = "user", worker = (
      modules = [{list}],
      compatibilityDate = "{date}", compatibilityFlags = [{flags}],
      bindings = [(name = "ASSETS", service = "assets"), (name = "GREETING", text = "hello")])),
    (name = "assets", worker = (modules = [(name = "assets.js", esModule = embed "assets.js")], compatibilityDate = "2025-01-01")),
    (name = "driver", worker = (modules = [(name = "driver.js", esModule = embed "driver.js")], compatibilityDate = "2025-01-01",
      bindings = [(name = "WORKER", service = "user")])),
  ],
  sockets = [(name = "http", address = "127.0.0.1:0", http = (), service = "driver")]
);
"#
    )
}
