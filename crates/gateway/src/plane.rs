//! The data plane: a thread a core, each with a current-thread runtime.
//!
//! Every listener is bound once, without `SO_REUSEPORT` (which would hide that a port is
//! in use), and cloned to every thread; all of them wait on it, and a connection stays on
//! the thread that accepted it. So a request wakes no other thread, takes no lock that
//! another core holds, and a handler's future need not be `Send`.
//!
//! A listener's life is a [`Phase`] in a watch channel: accept loops, connections and
//! tunnels of upgraded connections all look at it. Every connection holds one permit of
//! its listener's semaphore, and so does every clone of its socket, so "all connections have
//! ended and the address is free" is "all permits are back".

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::{LocalSet, spawn_local};

use crate::body::Body;

/// Listeners that may be waiting to be taken up by a thread.
const COMMAND_QUEUE: usize = 1024;
/// Threads for blocking file reads, for each thread of the plane.
const BLOCKING_THREADS: usize = 8;
/// The wait after a failed `accept`, which is nearly always "out of descriptors".
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// Something that answers requests.
///
/// It is called on the thread that owns the connection. What an answer needs beyond the
/// call it must own, so an implementation usually holds an `Arc` of its state.
pub trait Service: Send + Sync + 'static {
    /// Answers one request.
    fn call(&self, request: Request<Body>, connection: &Arc<ConnInfo>) -> Answer;
}

/// An answer, at once or later. Dropping the future means that the client went away.
pub enum Answer {
    /// Known without waiting; costs no allocation.
    Ready(Response<Body>),
    /// Known later.
    Later(Pin<Box<dyn Future<Output = Response<Body>>>>),
}

impl Answer {
    /// An answer that is awaited.
    pub fn later(future: impl Future<Output = Response<Body>> + 'static) -> Self {
        Self::Later(Box::pin(future))
    }
}

/// What is known about a connection before its first request.
pub struct ConnInfo {
    /// Who is at the other end.
    pub peer: Peer,
    phase: watch::Receiver<Phase>,
    _listener: Arc<Listener>,
    _permit: OwnedSemaphorePermit,
}

/// The other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// A TCP client.
    Tcp(SocketAddr),
    /// A process of this machine.
    Unix,
}

impl ConnInfo {
    /// Returns when no new work should begin: a stream without an end of its own ends then.
    pub async fn draining(&self) {
        let mut phase = self.phase.clone();
        // An error means that the listener is gone.
        let ending = |phase: &Phase| matches!(phase, Phase::Draining | Phase::Closed);
        let _ = phase.wait_for(ending).await;
    }

    /// Returns when the connection must end at once. A tunnel that outlives its request
    /// waits for it; holding the `Arc<ConnInfo>` counts it among the open connections.
    pub async fn closed(&self) {
        let mut phase = self.phase.clone();
        // An error means that the listener is gone, which is as good as closed.
        let _ = phase.wait_for(|phase| *phase == Phase::Closed).await;
    }
}

/// Bounds of a listener.
#[derive(Debug, Clone, Copy)]
pub struct ServeOptions {
    /// Connections open at once; further ones wait in the kernel's backlog.
    pub max_connections: u32,
    /// How long a client may be silent between requests, and take to send a request's
    /// head.
    pub idle_timeout: Duration,
    /// The largest head of a request; more is answered with 431.
    pub max_head_bytes: usize,
    /// Whether a client that shut down its sending side still gets its answer. If not,
    /// that is taken for a client that went away (as nginx does), and what the request
    /// had set going is cancelled: nothing else tells that the reader of a silent stream
    /// has left.
    pub half_close: bool,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            max_connections: 16_384,
            // nginx's own; workerd gives up idle connections to bindings after 5 s, and
            // the server should never be the first.
            idle_timeout: Duration::from_secs(75),
            // docs: workers limits, 128 KB of headers and 16 KB of URL.
            max_head_bytes: 144 * 1024,
            half_close: false,
        }
    }
}

/// A bound listening socket.
#[derive(Debug)]
pub enum StdListener {
    /// TCP.
    Tcp(std::net::TcpListener),
    /// A unix socket with a path.
    Unix(std::os::unix::net::UnixListener),
}

impl StdListener {
    fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(listener) => Self::Tcp(listener.try_clone()?),
            Self::Unix(listener) => Self::Unix(listener.try_clone()?),
        })
    }

    fn set_nonblocking(&self) -> io::Result<()> {
        match self {
            Self::Tcp(listener) => listener.set_nonblocking(true),
            Self::Unix(listener) => listener.set_nonblocking(true),
        }
    }
}

impl From<std::net::TcpListener> for StdListener {
    fn from(listener: std::net::TcpListener) -> Self {
        Self::Tcp(listener)
    }
}

impl From<std::os::unix::net::UnixListener> for StdListener {
    fn from(listener: std::os::unix::net::UnixListener) -> Self {
        Self::Unix(listener)
    }
}

/// The threads. Dropping the value ends them, with every connection that is still open:
/// drain the listeners first.
pub struct DataPlane {
    threads: Vec<PlaneThread>,
}

struct PlaneThread {
    commands: Option<mpsc::Sender<Command>>,
    handle: Option<JoinHandle<()>>,
}

struct Command {
    socket: StdListener,
    listener: Arc<Listener>,
    permit: OwnedSemaphorePermit,
}

impl DataPlane {
    /// Starts `threads` threads, at least one.
    pub fn start(threads: usize) -> io::Result<Self> {
        let threads = (0..threads.max(1))
            .map(|number| {
                let (sender, receiver) = mpsc::channel(COMMAND_QUEUE);
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .max_blocking_threads(BLOCKING_THREADS)
                    .build()?;
                let handle = std::thread::Builder::new()
                    .name(format!("data-plane-{number}"))
                    .spawn(move || {
                        let local = LocalSet::new();
                        runtime.block_on(local.run_until(run_thread(receiver)));
                        drop(local);
                        runtime.shutdown_background();
                    })?;
                Ok(PlaneThread {
                    commands: Some(sender),
                    handle: Some(handle),
                })
            })
            .collect::<io::Result<_>>()?;
        Ok(Self { threads })
    }

    /// Serves `service` on a bound socket, on every thread. An error leaves the socket
    /// unserved.
    pub fn serve(
        &self,
        socket: impl Into<StdListener>,
        service: Arc<dyn Service>,
        options: ServeOptions,
    ) -> io::Result<ListenerGuard> {
        let socket = socket.into();
        socket.set_nonblocking()?;
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(options.idle_timeout)
            .max_header_size(options.max_head_bytes)
            .half_close(options.half_close);
        let max_connections = options.max_connections.max(1);
        let (phase, _) = watch::channel(Phase::Serving);
        let listener = Arc::new(Listener {
            service,
            http,
            phase,
            // Each accept loop holds one until it has closed its socket.
            permits: Arc::new(Semaphore::new(
                max_connections as usize + self.threads.len(),
            )),
            all_permits: max_connections
                .saturating_add(u32::try_from(self.threads.len()).unwrap_or(u32::MAX)),
        });
        // Made first: if a later step fails, dropping it stops the threads that began.
        let guard = ListenerGuard {
            listener: Arc::clone(&listener),
        };
        for thread in &self.threads {
            let command = Command {
                socket: socket.try_clone()?,
                listener: Arc::clone(&listener),
                permit: Arc::clone(&listener.permits)
                    .try_acquire_owned()
                    .map_err(io::Error::other)?,
            };
            thread
                .commands
                .as_ref()
                .ok_or(io::ErrorKind::BrokenPipe)?
                .try_send(command)
                .map_err(|error| io::Error::other(error.to_string()))?;
        }
        Ok(guard)
    }
}

impl Drop for DataPlane {
    fn drop(&mut self) {
        for thread in &mut self.threads {
            thread.commands = None;
        }
        for thread in &mut self.threads {
            if let Some(handle) = thread.handle.take()
                && handle.thread().id() != std::thread::current().id()
            {
                // A thread of the plane that panicked has said so already.
                let _ = handle.join();
            }
        }
    }
}

/// Keeps a listener going. Dropping it stops accepting at once; connections end after the
/// request under way.
pub struct ListenerGuard {
    listener: Arc<Listener>,
}

impl ListenerGuard {
    /// Stops accepting, lets requests under way end, closes idle connections, and after
    /// `deadline` whatever is left. Tells whether all ended by themselves.
    pub async fn drain(self, deadline: Duration) -> bool {
        self.end(Phase::Draining, deadline).await
    }

    /// Stops accepting and waits until the clients have gone by themselves, and after
    /// `deadline` drops whatever is left. It is for clients that make several calls on one
    /// connection and then go; an idle connection holds it up. Tells whether all went.
    pub async fn leave(self, deadline: Duration) -> bool {
        self.end(Phase::Leaving, deadline).await
    }

    async fn end(self, phase: Phase, deadline: Duration) -> bool {
        self.listener.phase.send_replace(phase);
        let all = Arc::clone(&self.listener.permits).acquire_many_owned(self.listener.all_permits);
        let ended = tokio::time::timeout(deadline, all).await.is_ok();
        self.listener.phase.send_replace(Phase::Closed);
        ended
    }
}

impl Drop for ListenerGuard {
    fn drop(&mut self) {
        self.listener.phase.send_if_modified(|phase| {
            let ending = matches!(phase, Phase::Draining | Phase::Closed);
            if !ending {
                *phase = Phase::Draining;
            }
            !ending
        });
    }
}

struct Listener {
    service: Arc<dyn Service>,
    http: http1::Builder,
    phase: watch::Sender<Phase>,
    permits: Arc<Semaphore>,
    all_permits: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Serving,
    /// Nothing new is accepted; connections go on for as long as their clients like.
    Leaving,
    /// Connections end after the request under way.
    Draining,
    Closed,
}

async fn run_thread(mut commands: mpsc::Receiver<Command>) {
    while let Some(command) = commands.recv().await {
        let Command {
            socket,
            listener,
            permit,
        } = command;
        let socket = match socket {
            StdListener::Tcp(socket) => tokio::net::TcpListener::from_std(socket).map(Socket::Tcp),
            StdListener::Unix(socket) => {
                tokio::net::UnixListener::from_std(socket).map(Socket::Unix)
            }
        };
        match socket {
            Ok(socket) => {
                spawn_local(async move {
                    accept(&socket, &listener).await;
                    drop(socket);
                    drop(permit);
                });
            }
            Err(error) => tracing::error!(%error, "a listener could not be registered"),
        }
    }
}

enum Socket {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

async fn accept(socket: &Socket, listener: &Arc<Listener>) {
    let mut phase = listener.phase.subscribe();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = phase.wait_for(|phase| *phase != Phase::Serving) => return,
            accepted = accept_one(socket, listener) => accepted,
        };
        if let Err(error) = accepted
            && error.kind() != io::ErrorKind::ConnectionAborted
        {
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(ACCEPT_RETRY).await;
        }
    }
}

async fn accept_one(socket: &Socket, listener: &Arc<Listener>) -> io::Result<()> {
    let permit = Arc::clone(&listener.permits)
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    let connection = |peer| {
        Arc::new(ConnInfo {
            peer,
            phase: listener.phase.subscribe(),
            _listener: Arc::clone(listener),
            _permit: permit,
        })
    };
    match socket {
        Socket::Tcp(socket) => {
            let (stream, peer) = socket.accept().await?;
            // Fails only for a client that has gone already.
            let _ = stream.set_nodelay(true);
            let info = connection(Peer::Tcp(peer));
            spawn_local(serve_connection(stream, Arc::clone(listener), info));
        }
        Socket::Unix(socket) => {
            let (stream, _) = socket.accept().await?;
            let info = connection(Peer::Unix);
            spawn_local(serve_connection(stream, Arc::clone(listener), info));
        }
    }
    Ok(())
}

async fn serve_connection<S>(stream: S, listener: Arc<Listener>, info: Arc<ConnInfo>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut phase = info.phase.clone();
    let bridge = Bridge {
        service: Arc::clone(&listener.service),
        connection: info,
    };
    let mut connection = pin!(
        listener
            .http
            .serve_connection(TokioIo::new(stream), bridge)
            .with_upgrades()
    );
    loop {
        tokio::select! {
            biased;
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended");
                }
                return;
            }
            changed = phase.changed() => {
                let now = *phase.borrow_and_update();
                match now {
                    _ if changed.is_err() => return,
                    Phase::Serving | Phase::Leaving => {}
                    Phase::Draining => connection.as_mut().graceful_shutdown(),
                    Phase::Closed => return,
                }
            }
        }
    }
}

/// From hyper's service to ours.
struct Bridge {
    service: Arc<dyn Service>,
    connection: Arc<ConnInfo>,
}

impl hyper::service::Service<Request<Incoming>> for Bridge {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = AnswerFuture;

    fn call(&self, request: Request<Incoming>) -> AnswerFuture {
        let answer = self
            .service
            .call(request.map(Body::incoming), &self.connection);
        AnswerFuture(Some(answer))
    }
}

struct AnswerFuture(Option<Answer>);

impl Future for AnswerFuture {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.0.take() {
            Some(Answer::Ready(response)) => Poll::Ready(Ok(response)),
            Some(Answer::Later(mut future)) => match future.as_mut().poll(cx) {
                Poll::Ready(response) => Poll::Ready(Ok(response)),
                Poll::Pending => {
                    self.0 = Some(Answer::Later(future));
                    Poll::Pending
                }
            },
            None => Poll::Pending,
        }
    }
}
