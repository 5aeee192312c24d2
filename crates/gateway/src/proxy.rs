//! The way to an instance of workerd and back.
//!
//! Each thread of the data plane keeps idle connections of its own, so taking one needs no
//! lock. A request holds its place at the instance (a [`Lease`]) until the last byte of
//! the answer, or for a WebSocket until either side has gone.
//!
//! What fails may be repeated only where that cannot be noticed: a request that never left
//! (whatever its method), and, on a connection that had been used before and that workerd
//! may just have closed, a GET or HEAD without a body of which no byte was answered.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use engawa_model::{Lease, WorkerPool, WorkerUnavailable};
use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode, Version};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::task::spawn_local;

use crate::body::{Body, BodyError};
use crate::plane::ConnInfo;
use crate::worker_stream::WorkerStream;

/// Idle connections kept to one instance, by one thread.
const IDLE_CONNECTIONS: usize = 128;
/// workerd closes a connection that was idle for 5 s (KJ's `pipelineTimeout`); one that
/// old is not used again, so that the two seldom cross.
const IDLE_FOR: Duration = Duration::from_secs(4);
/// How often what has become too old is looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(10);
/// Places tried for one request.
const ATTEMPTS: u32 = 3;
/// Waits for a socket whose backlog is full: connecting fails at once then.
const BACKLOG_WAITS_MS: [u64; 7] = [1, 2, 5, 10, 20, 50, 100];
/// How long the second direction of a tunnel may go on when the first has ended.
const TUNNEL_LINGER: Duration = Duration::from_secs(5);
/// What is read from one side of a tunnel at a time.
const TUNNEL_BUFFER_BYTES: usize = 16 * 1024;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Why a worker gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxyError {
    /// There is no instance.
    #[error(transparent)]
    Unavailable(#[from] WorkerUnavailable),
    /// The instance's backlog stayed full.
    #[error("the worker's socket takes no further connections")]
    BacklogFull,
    /// The instance was killed because it burnt CPU.
    #[error("the worker was ended because it exceeded its limits")]
    ExceededLimits,
    /// The instance cannot be reached.
    #[error("the worker's socket cannot be reached")]
    Unreachable(#[source] io::Error),
    /// The connection broke before an answer.
    #[error("the worker's connection broke before it answered")]
    Broken(#[source] hyper::Error),
}

/// Sends a request, after [`prepare`], to a worker. The answer's body holds the lease.
pub(crate) async fn forward(
    pool: &dyn WorkerPool,
    mut request: Request<Body>,
    upgrade: Option<OnUpgrade>,
    connection: &Arc<ConnInfo>,
) -> Result<Response<Body>, ProxyError> {
    let repeatable =
        matches!(*request.method(), Method::GET | Method::HEAD) && request.body().is_end_stream();
    let mut may_reuse = upgrade.is_none();
    let mut attempt = 1;
    loop {
        let lease = match pool.try_acquire() {
            Some(lease) => lease,
            None => pool.acquire().await?,
        };
        let idle = if may_reuse {
            take_idle(lease.instance)
        } else {
            None
        };
        let reused = idle.is_some();
        let mut sender = match idle {
            Some(sender) => sender,
            None => match connect(&lease).await {
                Ok(sender) => sender,
                // The instance went away between the two steps: the pool knows another.
                Err(ProxyError::Unreachable(_)) if attempt < ATTEMPTS => {
                    attempt += 1;
                    continue;
                }
                Err(error) => return Err(error),
            },
        };
        let spare = (reused && repeatable).then(|| copy_head(&request));
        match sender.try_send_request(request).await {
            Ok(response) => {
                lease.guard.answered();
                return Ok(finish(response, sender, lease, upgrade, connection));
            }
            Err(mut failed) => {
                may_reuse = false;
                // What never left goes to the next instance whatever became of this one.
                let again = match failed.take_message() {
                    Some(unsent) => Some(unsent),
                    None if lease.guard.exceeded_limits() => {
                        return Err(ProxyError::ExceededLimits);
                    }
                    None => spare,
                };
                match again.filter(|_| attempt < ATTEMPTS) {
                    Some(again) => request = again,
                    None => return Err(ProxyError::Broken(failed.into_error())),
                }
                attempt += 1;
            }
        }
    }
}

/// Removes what belongs to the client's connection only; for a WebSocket, takes its
/// upgrade out and asks for one of our own. It comes before any header is set for the
/// worker, so that `Connection: CF-Ray` removes nothing of ours.
pub(crate) fn prepare(request: &mut Request<Body>) -> Option<OnUpgrade> {
    let websocket = is_websocket(request);
    let upgrade = websocket.then(|| hyper::upgrade::on(&mut *request));
    *request.version_mut() = Version::HTTP_11;
    request.extensions_mut().clear();
    let headers = request.headers_mut();
    // Framed anew by the body that hyper decoded: never both lengths.
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    remove_hop_by_hop(headers);
    // hyper has answered it, as soon as the body is asked for.
    headers.remove(EXPECT);
    if websocket {
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    }
    upgrade
}

/// Whether a request wants to become a WebSocket.
fn is_websocket(request: &Request<Body>) -> bool {
    let headers = request.headers();
    let mentions = |name: HeaderName, wanted: &str| {
        headers.get_all(name).iter().any(|list| {
            list.to_str()
                .unwrap_or("")
                .split(',')
                .any(|item| item.trim().eq_ignore_ascii_case(wanted))
        })
    };
    request.method() == Method::GET
        && request.version() == Version::HTTP_11
        && headers.contains_key(UPGRADE)
        && mentions(UPGRADE, "websocket")
        && mentions(CONNECTION, "upgrade")
}

/// Removes the headers of one connection, among them those that `Connection` names.
fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|list| list.to_str().ok())
            .flat_map(|list| list.split(','))
            .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
            // Framing and address are no business of a connection option.
            .filter(|name| *name != CONTENT_LENGTH && *name != http::header::HOST)
            .collect();
        for name in named {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    for name in [
        KEEP_ALIVE,
        PROXY_CONNECTION,
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
    ] {
        headers.remove(name);
    }
}

fn copy_head(request: &Request<Body>) -> Request<Body> {
    let mut copy = Request::new(Body::empty());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}

async fn connect(lease: &Lease) -> Result<SendRequest<Body>, ProxyError> {
    let mut waits = BACKLOG_WAITS_MS.iter();
    let stream = loop {
        match UnixStream::connect(&*lease.socket).await {
            Ok(stream) => break stream,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => match waits.next() {
                Some(&wait_ms) => tokio::time::sleep(Duration::from_millis(wait_ms)).await,
                None => return Err(ProxyError::BacklogFull),
            },
            Err(error) => return Err(ProxyError::Unreachable(error)),
        }
    };
    let (sender, connection) = Builder::new()
        .handshake(TokioIo::new(WorkerStream::new(stream)))
        .await
        .map_err(ProxyError::Broken)?;
    spawn_local(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a worker's connection ended");
        }
    });
    Ok(sender)
}

fn finish(
    response: Response<Incoming>,
    sender: SendRequest<Body>,
    lease: Lease,
    client: Option<OnUpgrade>,
    connection: &Arc<ConnInfo>,
) -> Response<Body> {
    let (mut parts, incoming) = response.into_parts();
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        let Some(client) = client else {
            // Nobody asked for it; the connection is of no further use.
            parts.status = StatusCode::BAD_GATEWAY;
            parts.headers.clear();
            return Response::from_parts(parts, Body::empty());
        };
        let mut response = Response::from_parts(parts, Body::empty());
        let worker = hyper::upgrade::on(&mut response);
        spawn_local(tunnel(client, worker, lease, Arc::clone(connection)));
        let headers = response.headers_mut();
        remove_hop_by_hop(headers);
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        return response;
    }
    if parts.headers.contains_key(TRANSFER_ENCODING) {
        parts.headers.remove(CONTENT_LENGTH);
    }
    let closes = parts
        .headers
        .get(CONNECTION)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"close"));
    remove_hop_by_hop(&mut parts.headers);
    parts.extensions.clear();
    if closes {
        parts.extensions.insert(ClosedByWorker);
    }
    parts.version = Version::HTTP_11;
    if incoming.is_end_stream() {
        put_idle(lease.instance, sender);
        return Response::from_parts(parts, Body::empty());
    }
    let body = Body::wrap(WorkerBody {
        inner: incoming,
        held: Some((sender, lease)),
    });
    Response::from_parts(parts, body)
}

/// On an answer whose connection workerd announced to close, as it does after an exception
/// that nothing caught. JavaScript has no say in that.
#[derive(Clone, Copy)]
pub(crate) struct ClosedByWorker;

/// An answer's body. At its end the connection goes back among the idle ones; dropped
/// before, the connection is closed, which cancels the request in workerd.
struct WorkerBody {
    inner: Incoming,
    held: Option<(SendRequest<Body>, Lease)>,
}

impl HttpBody for WorkerBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        let ended = frame.is_none() || self.inner.is_end_stream();
        match &frame {
            Some(Err(_)) => self.held = None,
            _ if ended => {
                if let Some((sender, lease)) = self.held.take() {
                    put_idle(lease.instance, sender);
                }
            }
            _ => {}
        }
        Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Connection)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

async fn tunnel(client: OnUpgrade, worker: OnUpgrade, lease: Lease, connection: Arc<ConnInfo>) {
    let copied = async {
        let (client, worker) = tokio::try_join!(client, worker)?;
        let (client_read, client_write) = tokio::io::split(TokioIo::new(client));
        let (worker_read, worker_write) = tokio::io::split(TokioIo::new(worker));
        let mut up = std::pin::pin!(copy(client_read, worker_write));
        let mut down = std::pin::pin!(copy(worker_read, client_write));
        // A side that ended may still have been sent something; its peer gets a moment.
        tokio::select! {
            () = &mut up => { let _ = tokio::time::timeout(TUNNEL_LINGER, down).await; }
            () = &mut down => { let _ = tokio::time::timeout(TUNNEL_LINGER, up).await; }
        }
        Ok::<_, hyper::Error>(())
    };
    tokio::select! {
        copied = copied => {
            if let Err(error) = copied {
                tracing::debug!(%error, "a connection was not upgraded");
            }
        }
        () = connection.closed() => {}
    }
    drop(lease);
}

/// Copies until the end or an error, and passes the end on.
async fn copy<R, W>(mut from: R, mut to: W)
where
    R: tokio::io::AsyncRead + Unpin,
    W: tokio::io::AsyncWrite + Unpin,
{
    let mut buffer = vec![0; TUNNEL_BUFFER_BYTES];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if to.write_all(&buffer[..count]).await.is_err() || to.flush().await.is_err() {
            return;
        }
    }
    // The other side may be gone already.
    let _ = to.shutdown().await;
}

thread_local! {
    static IDLE: RefCell<IdlePool> = RefCell::new(IdlePool {
        instances: HashMap::new(),
        swept: Instant::now(),
    });
}

struct IdlePool {
    instances: HashMap<u64, Vec<Idle>>,
    swept: Instant,
}

struct Idle {
    sender: SendRequest<Body>,
    since: Instant,
}

/// The connection used last, so that those not needed grow old.
fn take_idle(instance: u64) -> Option<SendRequest<Body>> {
    IDLE.with_borrow_mut(|pool| {
        let idle = pool.instances.get_mut(&instance)?;
        let now = Instant::now();
        while let Some(last) = idle.pop() {
            if now.duration_since(last.since) > IDLE_FOR {
                // All before it are older.
                idle.clear();
                return None;
            }
            if last.sender.is_ready() {
                return Some(last.sender);
            }
            // Closed, or its request's body is still being sent: of no use soon.
        }
        None
    })
}

fn put_idle(instance: u64, sender: SendRequest<Body>) {
    if sender.is_closed() {
        return;
    }
    IDLE.with_borrow_mut(|pool| {
        let since = Instant::now();
        if since.duration_since(pool.swept) > SWEEP_EVERY {
            pool.swept = since;
            pool.instances.retain(|_, idle| {
                idle.retain(|one| {
                    since.duration_since(one.since) <= IDLE_FOR && !one.sender.is_closed()
                });
                !idle.is_empty()
            });
        }
        let idle = pool.instances.entry(instance).or_default();
        if idle.len() < IDLE_CONNECTIONS {
            idle.push(Idle { sender, since });
        }
    });
}
