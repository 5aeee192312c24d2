//! A store, a runtime, and workers whose binding sockets are served.

use std::convert::Infallible;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use engawa_model::{
    AccountId, AssetManifest, Binding, BindingKind, Clock, Environment, Lease, Module, ModuleKind,
    ProjectKind, ProjectName, Secret, Version, WorkerCode, WorkerPool as _,
};
use engawa_runtime::{
    Bindings, Body, CapacityLimits, Egress, Host, LocalFuture, Pool, Runtime, RuntimeOptions,
    WorkerLog, WorkerTimes,
};
use engawa_storage::{EventBatch, Owner, Storage, StorageOptions};
use engawa_testkit::workerd;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value as Json, json};
use tokio::net::UnixStream;
use tokio::sync::{Mutex, Semaphore, mpsc, oneshot, watch};

/// How long anything that must happen may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// The parts that workers share.
pub(crate) struct World {
    pub(crate) storage: Storage,
    pub(crate) runtime: Runtime,
    owner: Owner,
    pub(crate) data: tempfile::TempDir,
}

/// A deployed worker.
pub(crate) struct Worker {
    pub(crate) pool: Arc<Pool>,
    pub(crate) binding_socket: PathBuf,
    pub(crate) gate: Gate,
    logs: Mutex<mpsc::UnboundedReceiver<WorkerLog>>,
    _stop: oneshot::Sender<()>,
}

/// What a worker waits at with `env.GATE.fetch()`: a test sees who has come, and opens.
#[derive(Clone)]
pub(crate) struct Gate {
    arrived: watch::Sender<usize>,
    open: Arc<Semaphore>,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

/// A connection that broke before the answer's end.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) exceeded_limits: bool,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(WorkerTimes::default(), CapacityLimits::default())
    }

    pub(crate) fn with(times: WorkerTimes, capacity: CapacityLimits) -> Self {
        Self::with_program(workerd(), times, capacity)
    }

    /// A program in workerd's place that does what it never would.
    pub(crate) fn with_program(
        workerd: PathBuf,
        times: WorkerTimes,
        capacity: CapacityLimits,
    ) -> Self {
        let data = tempfile::tempdir().unwrap();
        Self::open(data, Clock::system(), workerd, times, capacity)
    }

    /// With a clock of the test's own.
    pub(crate) fn at(clock: Clock) -> Self {
        let data = tempfile::tempdir().unwrap();
        let (times, capacity) = (WorkerTimes::default(), CapacityLimits::default());
        Self::open(data, clock, workerd(), times, capacity)
    }

    /// Closes everything and opens the same data folder again.
    pub(crate) async fn restart(self, clock: Clock) -> Self {
        let Self {
            storage,
            runtime,
            owner,
            data,
        } = self;
        drop(runtime);
        storage.close().await;
        drop(owner);
        let (times, capacity) = (WorkerTimes::default(), CapacityLimits::default());
        Self::open(data, clock, workerd(), times, capacity)
    }

    fn open(
        data: tempfile::TempDir,
        clock: Clock,
        workerd: PathBuf,
        times: WorkerTimes,
        capacity: CapacityLimits,
    ) -> Self {
        let owner = Owner::acquire(data.path(), "a test").unwrap();
        let options = StorageOptions {
            clock,
            ..StorageOptions::new(data.path())
        };
        let storage = Storage::open(&owner, options).unwrap();
        let options = RuntimeOptions {
            workerd,
            egress: Egress::development(),
            capacity,
            times,
        };
        let runtime = Runtime::new(options).unwrap();
        Self {
            storage,
            runtime,
            owner,
            data,
        }
    }

    /// Deploys a worker without logs.
    pub(crate) async fn deploy(&self, version: Version) -> Worker {
        self.deploy_with(version, false).await
    }

    pub(crate) async fn deploy_with(&self, version: Version, logging: bool) -> Worker {
        let catalog = self.storage.catalog();
        let account = version.account.clone();
        catalog.ensure_account(&account).await.unwrap();
        for binding in &version.bindings {
            match &binding.kind {
                BindingKind::KvNamespace(id) => catalog
                    .ensure_kv_namespace(&account, id, "kv")
                    .await
                    .unwrap(),
                BindingKind::D1(id) => catalog
                    .ensure_d1_database(&account, id, "db")
                    .await
                    .unwrap(),
                BindingKind::R2Bucket(name) => {
                    catalog.ensure_r2_bucket(&account, name).await.unwrap();
                }
                _ => {}
            }
        }
        let version = Arc::new(version);
        let code = version.worker.as_ref().unwrap();
        let deployed = self.runtime.deploy(&version, code, logging).unwrap();
        let (log_sender, logs) = mpsc::unbounded_channel();
        let gate = Gate {
            arrived: watch::Sender::new(0),
            open: Arc::new(Semaphore::new(0)),
        };
        let host = Arc::new(TestHost {
            logs: log_sender,
            gate: gate.clone(),
        });
        let bindings = Bindings::new(Arc::clone(&version), self.storage.clone(), host);
        Worker {
            pool: deployed.pool,
            binding_socket: deployed.binding_socket,
            gate,
            logs: Mutex::new(logs),
            _stop: serve(deployed.binding_listener, bindings),
        }
    }

    /// All points of the account, in the order in which they were stored.
    pub(crate) fn events(&self) -> Vec<EventBatch> {
        self.storage
            .events()
            .read(&AccountId::local())
            .unwrap()
            .map(Result::unwrap)
            .collect()
    }
}

impl Worker {
    /// One request, as the gateway sends it.
    pub(crate) async fn fetch(
        &self,
        method: &str,
        path: &str,
        body: impl Into<Bytes>,
    ) -> Result<Answer, Broken> {
        let lease = self.pool.acquire().await.unwrap();
        send(&lease, method, path, body.into()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        tokio::time::timeout(PATIENCE, self.fetch("GET", path, ""))
            .await
            .expect("an answer in time")
            .unwrap()
    }

    /// Sends `calls`, and takes the JSON of the answer.
    pub(crate) async fn post(&self, path: &str, calls: &Json) -> Json {
        let answer =
            tokio::time::timeout(PATIENCE, self.fetch("POST", path, calls.to_string())).await;
        let answer = answer.expect("an answer in time").unwrap();
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        serde_json::from_slice(&answer.body).unwrap()
    }

    pub(crate) async fn next_log(&self) -> WorkerLog {
        let mut logs = self.logs.lock().await;
        tokio::time::timeout(PATIENCE, logs.recv())
            .await
            .expect("a log in time")
            .unwrap()
    }

    /// Sends to the binding socket itself, as a worker that escaped its bindings would.
    pub(crate) async fn raw_binding(
        &self,
        binding: Option<&str>,
        method: &str,
        path: &str,
        body: String,
    ) -> Answer {
        let stream = UnixStream::connect(&self.binding_socket).await.unwrap();
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "binding");
        if let Some(binding) = binding {
            request = request.header("x-engawa-binding", binding);
        }
        exchange(stream, request.body(Full::new(Bytes::from(body))).unwrap())
            .await
            .unwrap()
    }
}

impl Gate {
    /// Waits until `count` have come, ever.
    pub(crate) async fn arrived(&self, count: usize) {
        let mut arrived = self.arrived.subscribe();
        tokio::time::timeout(PATIENCE, arrived.wait_for(|arrived| *arrived >= count))
            .await
            .expect("arrival")
            .unwrap();
    }

    pub(crate) fn open(&self, count: usize) {
        self.open.add_permits(count);
    }
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

pub(crate) async fn send(
    lease: &Lease,
    method: &str,
    path: &str,
    body: Bytes,
) -> Result<Answer, Broken> {
    let broken = || Broken {
        exceeded_limits: lease.guard.exceeded_limits(),
    };
    let stream = UnixStream::connect(&*lease.socket)
        .await
        .map_err(|_| broken())?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "example.com")
        .header("x-engawa-proto", "https")
        .header("cf-ray", "1234567890abcdef-TST")
        .body(Full::new(body))
        .unwrap();
    exchange(stream, request).await.map_err(|_| broken())
}

async fn exchange(stream: UnixStream, request: Request<Full<Bytes>>) -> hyper::Result<Answer> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    connection.abort();
    Ok(Answer { status, body })
}

/// A Workers project's version of one script.
pub(crate) fn version(project: &str, script: &str, bindings: Vec<Binding>) -> Version {
    version_of(
        project,
        vec![module("worker.js", ModuleKind::EsModule, script)],
        bindings,
    )
}

pub(crate) fn version_of(project: &str, modules: Vec<Module>, bindings: Vec<Binding>) -> Version {
    Version {
        deployment: "0123456789abcdef".into(),
        account: AccountId::local(),
        project: project.into(),
        kind: ProjectKind::Workers,
        environment: Environment::Production,
        worker: Some(WorkerCode {
            modules,
            compatibility_date: "2026-08-01".into(),
            effective_compatibility_date: "2026-08-01".into(),
            compatibility_flags: Vec::new(),
        }),
        bindings,
        assets: AssetManifest::default(),
        assets_config: None,
        routes: None,
        headers_file: None,
        redirects_file: None,
    }
}

pub(crate) fn module(name: &str, kind: ModuleKind, body: &str) -> Module {
    Module {
        name: name.into(),
        kind,
        body: Bytes::copy_from_slice(body.as_bytes()),
        source_map: None,
    }
}

pub(crate) fn binding(name: &str, kind: BindingKind) -> Binding {
    Binding {
        name: name.into(),
        kind,
    }
}

pub(crate) fn var(name: &str, value: &str) -> Binding {
    binding(name, BindingKind::PlainText(value.into()))
}

pub(crate) fn secret(name: &str, value: &str) -> Binding {
    binding(name, BindingKind::SecretText(Secret::new(value)))
}

pub(crate) fn gate() -> Binding {
    binding("GATE", BindingKind::Service("gate".into()))
}

/// A worker that makes the calls it is sent, `[binding, method, ...arguments]` each, and
/// answers `{ok}` or `{error}` for each.
pub(crate) const CALLER: &str = r"
function decode(value) {
  if (value?.$bytes !== undefined) return new Uint8Array(value.$bytes);
  if (value?.$stream !== undefined) {
    const { $stream: kind, text } = value;
    const bytes = new TextEncoder().encode(text);
    if (kind === 'known') {
      const fixed = new FixedLengthStream(bytes.length);
      const writer = fixed.writable.getWriter();
      writer.write(bytes).then(() => writer.close()).catch(() => {});
      return fixed.readable;
    }
    return new ReadableStream({
      sent: false,
      pull(controller) {
        if (!this.sent) { this.sent = true; controller.enqueue(bytes); return; }
        if (kind === 'failing') controller.error(new Error('the source failed')); else controller.close();
      },
    });
  }
  return value;
}
function encode(value) {
  if (value instanceof Map) return [...value].map(([key, value]) => [key, encode(value)]);
  if (value instanceof ArrayBuffer) return [...new Uint8Array(value)];
  return value ?? null;
}
export default {
  async fetch(request, env) {
    const answers = [];
    for (const [binding, method, ...args] of await request.json()) {
      try { answers.push({ ok: encode(await env[binding][method](...args.map(decode))) }); }
      catch (error) { answers.push({ error: String(error) }); }
    }
    return Response.json(answers);
  },
};
";

/// What [`CALLER`] answers for a call that went well.
pub(crate) fn ok(value: impl Into<Json>) -> Json {
    json!({ "ok": value.into() })
}

pub(crate) fn error(text: &str) -> Json {
    json!({ "error": text })
}

/// Looks again and again until something is as it must become.
pub(crate) async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let look = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, look)
        .await
        .unwrap_or_else(|_| panic!("{what} did not happen"))
}

struct TestHost {
    logs: mpsc::UnboundedSender<WorkerLog>,
    gate: Gate,
}

impl Host for TestHost {
    fn fetch_assets(&self, _request: Request<Body>) -> LocalFuture<'_, Response<Body>> {
        Box::pin(std::future::ready(Response::new(Body::default())))
    }

    fn fetch_service(
        &self,
        _service: &ProjectName,
        _request: Request<Body>,
    ) -> LocalFuture<'_, Option<Response<Body>>> {
        Box::pin(async {
            self.gate.arrived.send_modify(|arrived| *arrived += 1);
            self.gate.open.acquire().await.unwrap().forget();
            Some(Response::new(Body::default()))
        })
    }

    fn log(&self, log: WorkerLog) {
        let _ = self.logs.send(log);
    }
}

/// Serves a binding socket on a thread of its own, as the data plane does, until the
/// sender is dropped.
fn serve(listener: UnixListener, bindings: Bindings) -> oneshot::Sender<()> {
    let (stop, stopped) = oneshot::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, async move {
            listener.set_nonblocking(true).unwrap();
            let listener = tokio::net::UnixListener::from_std(listener).unwrap();
            let bindings = Arc::new(bindings);
            let accept = async {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    let bindings = Arc::clone(&bindings);
                    let service = hyper::service::service_fn(move |request| {
                        let bindings = Arc::clone(&bindings);
                        async move { Ok::<_, Infallible>(bindings.handle(request).await) }
                    });
                    let mut server = hyper::server::conn::http1::Builder::new();
                    let connection = server
                        .half_close(true)
                        .serve_connection(TokioIo::new(stream), service);
                    tokio::task::spawn_local(connection);
                }
            };
            tokio::select! {
                () = accept => {}
                _ = stopped => {}
            }
        });
    });
    stop
}
