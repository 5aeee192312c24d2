//! What happens to a request, in one order for every listener:
//!
//! accept (the connection's [`ConnInfo`]) → host to site → limits and security →
//! `/cdn-cgi/*` → assets or worker → headers and error page → meter and log.
//!
//! Not built yet, each with its place: cache look-up (before assets or worker), images and
//! compression of what workers answer (after it).

use std::sync::Arc;

use engawa_model::{WorkerPool, WorkerUnavailable};
use http::header::{ACCEPT_ENCODING, ALLOW, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode, Uri, Version};

use crate::assets::{AssetAnswer, AssetBody, Target, assemble};
use crate::body::Body;
use crate::dev::{self, DevSignals};
use crate::error_page::{self, ErrorPage};
use crate::host;
use crate::meter::{Measure, Meter};
use crate::plane::{Answer, ConnInfo, Peer, Service};
use crate::proxy::{self, ClosedByWorker, ProxyError};
use crate::table::{Destination, Found, RouteTableHandle, Site, set_host};
use crate::wiring;

/// The longest URL (docs: workers limits).
const URL_BYTES: usize = 16 * 1024;

const CF_RAY: HeaderName = HeaderName::from_static("cf-ray");
const CF_CONNECTING_IP: HeaderName = HeaderName::from_static("cf-connecting-ip");
const CF_IPCOUNTRY: HeaderName = HeaderName::from_static("cf-ipcountry");
const CF_VISITOR: HeaderName = HeaderName::from_static("cf-visitor");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// The service behind the public listeners.
pub struct Gateway {
    table: RouteTableHandle,
    meter: Option<Arc<dyn Meter>>,
}

impl Gateway {
    /// Serves whatever the handle publishes; `meter` is told of every request.
    pub fn new(table: RouteTableHandle, meter: Option<Arc<dyn Meter>>) -> Self {
        Self { table, meter }
    }
}

impl Service for Gateway {
    fn call(&self, mut request: Request<Body>, connection: &Arc<ConnInfo>) -> Answer {
        let measure = Measure::begin(self.meter.as_ref(), &mut request);
        let table = self.table.load();

        // Host to site.
        let Some(host) = host::of(request.uri(), request.headers()) else {
            return refuse(
                measure,
                StatusCode::BAD_REQUEST,
                "The request names no host, or no valid one.\n",
            );
        };
        let name = host::name(host);
        let found = table.find(&name);
        if matches!(found, Found::Forbidden) {
            let text = format!(
                "Engawa does not answer for the host \"{name}\", since any page on the internet \
                 could make a browser use such a name. To allow it, start engawa with \
                 --host {name}\n"
            );
            return refuse(measure, StatusCode::FORBIDDEN, text);
        }

        // Limits and security.
        if request
            .uri()
            .path_and_query()
            .is_some_and(|t| t.as_str().len() > URL_BYTES)
        {
            return refuse(measure, StatusCode::URI_TOO_LONG, "The URL is too long.\n");
        }
        if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
            let mut response = plain(
                StatusCode::METHOD_NOT_ALLOWED,
                "This method is not allowed.\n",
            );
            response.headers_mut().insert(
                ALLOW,
                HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
            );
            return ready(measure, response);
        }

        // What belongs to the edge.
        let target = Target::of(request.uri());
        if let Some(rest) = target.path().strip_prefix("/cdn-cgi/") {
            let response = table
                .dev
                .as_ref()
                .filter(|_| rest.starts_with("engawa/"))
                .and_then(|signals| dev::respond(signals, target.path(), connection));
            return ready(
                measure,
                response.unwrap_or_else(|| plain(StatusCode::NOT_FOUND, "Not found.\n")),
            );
        }

        let site = match found {
            Found::Site(site) => site,
            Found::NoVersion(signals) => return ready(measure, dev::no_version_page(signals)),
            Found::Forbidden | Found::Unknown => {
                return refuse(
                    measure,
                    StatusCode::NOT_FOUND,
                    "No site is served at this host.\n",
                );
            }
        };
        let mut context = Context {
            measure,
            ray: site.cf.ray(),
            inject: table
                .dev
                .as_ref()
                .filter(|_| dev::is_navigation(request.method(), request.headers()))
                .cloned(),
        };

        // Assets or worker.
        // A page that gets development's script is sent as it is.
        let destination = site.route(&request, &target, host, context.inject.is_none());
        if let Some(measure) = &mut context.measure {
            let worker = matches!(destination, Destination::Worker(_));
            measure.of_site(&site.version.deployment, &context.ray, worker);
        }
        match destination {
            Destination::Worker(worker) => {
                let worker = Arc::clone(worker);
                let site = Arc::clone(site);
                let connection = Arc::clone(connection);
                let in_dev = table.dev.is_some();
                Answer::later(async move {
                    let exchange = Exchange {
                        site,
                        worker,
                        connection,
                        in_dev,
                    };
                    let response = exchange.run(request, &target, &context.ray).await;
                    context.finish(response)
                })
            }
            Destination::Assets(AssetAnswer {
                status,
                headers,
                body: AssetBody::Bytes(bytes),
            }) => Answer::Ready(context.finish(assemble(status, headers, Body::full(bytes)))),
            Destination::Assets(answer) => {
                let site = Arc::clone(site);
                Answer::later(async move { context.finish(site.finish_asset(answer).await) })
            }
        }
    }
}

/// What a request carries to its end.
struct Context {
    measure: Option<Box<Measure>>,
    ray: HeaderValue,
    inject: Option<DevSignals>,
}

impl Context {
    /// Headers, development's script, meter and log.
    fn finish(self, mut response: Response<Body>) -> Response<Body> {
        response.headers_mut().insert(CF_RAY, self.ray);
        if let Some(signals) = &self.inject {
            response = dev::inject(signals, response);
        }
        match self.measure {
            Some(measure) => measure.attach(response),
            None => response,
        }
    }
}

/// One request on its way to a worker.
struct Exchange {
    site: Arc<Site>,
    worker: Arc<dyn WorkerPool>,
    connection: Arc<ConnInfo>,
    in_dev: bool,
}

impl Exchange {
    async fn run(
        self,
        mut request: Request<Body>,
        target: &Target,
        ray: &HeaderValue,
    ) -> Response<Body> {
        let asked = AskedFor {
            host: host::of(request.uri(), request.headers())
                .unwrap_or("")
                .to_owned(),
            accept: accept_of(request.headers()),
        };
        set_host_and_path(&mut request, target);
        let version = request.version();
        let upgrade = proxy::prepare(&mut request);
        self.set_headers(request.headers_mut(), version, ray);
        match proxy::forward(&*self.worker, request, upgrade, &self.connection).await {
            Ok(response) => self.clean(response, &asked, ray),
            Err(error) => self.failed(&error, &asked, ray),
        }
    }

    /// What the worker may rely on is set here and never taken from the client
    /// (pages.md 8.9).
    fn set_headers(&self, headers: &mut HeaderMap, version: Version, ray: &HeaderValue) {
        let ours: Vec<HeaderName> = headers
            .keys()
            .filter(|name| {
                let name = name.as_str();
                name.starts_with("cf-") || name.starts_with(wiring::PREFIX)
            })
            .cloned()
            .collect();
        for name in ours {
            headers.remove(name);
        }

        let accept_encoding = headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("br, gzip"));
        let cf = self.site.cf.header(version, accept_encoding.as_ref());
        headers.insert(wiring::CF_NAME, cf);
        headers.insert(wiring::PROTO_NAME, HeaderValue::from_static("http"));
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("http"));
        headers.insert(
            CF_VISITOR,
            HeaderValue::from_static("{\"scheme\":\"http\"}"),
        );
        headers.insert(CF_RAY, ray.clone());
        headers.insert(CF_IPCOUNTRY, self.site.cf.country());
        let ip = match self.connection.peer {
            Peer::Tcp(address) => address.ip().to_canonical().to_string(),
            Peer::Unix => "127.0.0.1".to_owned(),
        };
        let forwarded = headers
            .get_all(X_FORWARDED_FOR)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .chain([ip.as_str()])
            .collect::<Vec<_>>()
            .join(",");
        if let Ok(forwarded) = HeaderValue::try_from(forwarded) {
            headers.insert(X_FORWARDED_FOR, forwarded);
        }
        if let Ok(ip) = HeaderValue::try_from(ip) {
            headers.insert(X_REAL_IP, ip.clone());
            headers.insert(CF_CONNECTING_IP, ip);
        }
    }

    /// Removes what is between worker and gateway only, and puts an error page in place of
    /// workerd's own word for an exception.
    fn clean(
        &self,
        mut response: Response<Body>,
        asked: &AskedFor,
        ray: &HeaderValue,
    ) -> Response<Body> {
        if is_uncaught_exception(&response) {
            return self.page(&error_page::WORKER_THREW, asked, ray, None);
        }
        let headers = response.headers_mut();
        let internal: Vec<HeaderName> = headers
            .keys()
            .filter(|name| {
                let name = name.as_str();
                name.starts_with("x-accel-") || name.starts_with(wiring::PREFIX)
            })
            .cloned()
            .collect();
        for name in internal {
            headers.remove(name);
        }
        response
    }

    fn failed(&self, error: &ProxyError, asked: &AskedFor, ray: &HeaderValue) -> Response<Body> {
        let project = &self.site.version.project;
        let cause = std::error::Error::source(error).map(ToString::to_string);
        tracing::warn!(%error, cause, %project, ray = ray.to_str().unwrap_or(""), "a worker gave no answer");
        let (page, detail) = match error {
            ProxyError::Unavailable(WorkerUnavailable::Failing(text)) => {
                (&error_page::WORKER_THREW, Some(&**text))
            }
            ProxyError::Unavailable(WorkerUnavailable::Busy) | ProxyError::BacklogFull => {
                (&error_page::WORKER_BUSY, None)
            }
            ProxyError::Unavailable(WorkerUnavailable::Stopping) => (&error_page::STOPPING, None),
            ProxyError::ExceededLimits => (&error_page::WORKER_EXCEEDED_LIMITS, None),
            ProxyError::Unreachable(_) | ProxyError::Broken(_) => (&error_page::WORKER_THREW, None),
        };
        self.page(page, asked, ray, detail)
    }

    fn page(
        &self,
        page: &ErrorPage,
        asked: &AskedFor,
        ray: &HeaderValue,
        detail: Option<&str>,
    ) -> Response<Body> {
        let detail = detail.filter(|_| self.in_dev);
        page.response(&host::name(&asked.host), ray, &asked.accept, detail)
    }
}

/// What an error page needs of a request that is gone by then.
struct AskedFor {
    host: String,
    accept: HeaderMap,
}

fn accept_of(headers: &HeaderMap) -> HeaderMap {
    let mut accept = HeaderMap::new();
    for value in headers.get_all(http::header::ACCEPT) {
        accept.append(http::header::ACCEPT, value.clone());
    }
    accept
}

/// Origin form with the normal path, and the host that the routing went by.
fn set_host_and_path(request: &mut Request<Body>, target: &Target) {
    let uri = request.uri().clone();
    set_host(request.headers_mut(), &uri);
    let path = match target.changed() {
        Some(path) => path,
        None if uri.authority().is_some() => target.as_str(),
        None => return,
    };
    if let Ok(path) = path.parse::<Uri>() {
        *request.uri_mut() = path;
    }
}

/// workerd's answer when nothing caught an exception (and when a promise can never
/// settle): KJ's bare text of 21 bytes, no `Content-Type`, `Connection: close`. The last is
/// what no worker's own answer has (seen with 1.20261117.1).
fn is_uncaught_exception(response: &Response<Body>) -> bool {
    response.status() == StatusCode::INTERNAL_SERVER_ERROR
        && !response.headers().contains_key(CONTENT_TYPE)
        && response
            .headers()
            .get(CONTENT_LENGTH)
            .is_some_and(|length| length.as_bytes() == b"21")
        && response.headers().len() == 1
        && response.extensions().get::<ClosedByWorker>().is_some()
}

fn refuse(measure: Option<Box<Measure>>, status: StatusCode, text: impl Into<Body>) -> Answer {
    ready(measure, plain(status, text))
}

fn ready(measure: Option<Box<Measure>>, response: Response<Body>) -> Answer {
    Answer::Ready(match measure {
        Some(measure) => measure.attach(response),
        None => response,
    })
}

fn plain(status: StatusCode, text: impl Into<Body>) -> Response<Body> {
    let mut headers = HeaderMap::new();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    assemble(status, headers, text.into())
}
