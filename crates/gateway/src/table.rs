//! Which site a host belongs to.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use engawa_model::{ProjectKind, Version, WorkerPool};
use http::header::HOST;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};

use crate::assets::{
    AssetAnswer, AssetFiles, AssetRequest, AssetServer, FileCache, RuleWarning, Target,
};
use crate::body::Body;
use crate::dev::DevSignals;
use crate::host;
use crate::request_cf::{Place, RequestCf};
use crate::routes::RoutesMatcher;

/// An immutable snapshot of what is served where. A request takes one and keeps it.
#[derive(Default)]
pub struct RouteTable {
    /// Sites by host name, in lower case and without port.
    pub hosts: HashMap<String, Arc<Site>>,
    /// In development: the site of every allowed host that `hosts` does not name.
    pub fallback: Option<Arc<Site>>,
    /// Names for which `fallback` answers beside `localhost`, names below it and
    /// addresses. In lower case.
    pub allowed_hosts: Vec<String>,
    /// In development: the state of builds. With it and no `fallback` every request gets a
    /// page about the build.
    pub dev: Option<DevSignals>,
}

/// What a table has for a host.
pub(crate) enum Found<'a> {
    Site(&'a Arc<Site>),
    /// Development has no version yet.
    NoVersion(&'a DevSignals),
    /// A name that development does not answer for.
    Forbidden,
    Unknown,
}

impl RouteTable {
    pub(crate) fn find(&self, name: &str) -> Found<'_> {
        if let Some(site) = self.hosts.get(name) {
            return Found::Site(site);
        }
        if self.fallback.is_none() && self.dev.is_none() {
            return Found::Unknown;
        }
        if !host::is_local(name) && !self.allowed_hosts.iter().any(|allowed| allowed == name) {
            return Found::Forbidden;
        }
        match (&self.fallback, &self.dev) {
            (Some(site), _) => Found::Site(site),
            (None, Some(dev)) => Found::NoVersion(dev),
            (None, None) => Found::Unknown,
        }
    }
}

/// Where the newest table is published. Reading it takes no lock.
#[derive(Clone, Default)]
pub struct RouteTableHandle(Arc<ArcSwap<RouteTable>>);

impl RouteTableHandle {
    /// Publishes a first table.
    pub fn new(table: RouteTable) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(table)))
    }

    /// Publishes a table for all requests that begin from now on.
    pub fn publish(&self, table: RouteTable) {
        self.0.store(Arc::new(table));
    }

    /// The newest table.
    pub fn current(&self) -> Arc<RouteTable> {
        self.0.load_full()
    }

    pub(crate) fn load(&self) -> Guard<Arc<RouteTable>> {
        self.0.load()
    }
}

/// What a site is made of.
pub struct SiteOptions {
    /// The version to serve.
    pub version: Arc<Version>,
    /// The bytes of its static files.
    pub assets: Arc<dyn AssetFiles>,
    /// Its worker, if it has code.
    pub worker: Option<Arc<dyn WorkerPool>>,
    /// What `request.cf` says of a client's place.
    pub place: Place,
    /// Memory for small files, shared by all sites.
    pub cache: FileCache,
}

/// One version of a project, ready to answer.
pub struct Site {
    pub(crate) version: Arc<Version>,
    pub(crate) worker: Option<Arc<dyn WorkerPool>>,
    pub(crate) cf: RequestCf,
    routes: Option<RoutesMatcher>,
    assets: AssetServer,
    warnings: Vec<RuleWarning>,
}

impl Site {
    /// Compiles the rules of a version. What is wrong with them becomes a warning, never
    /// an error.
    pub fn new(options: SiteOptions) -> Self {
        let mut warnings = Vec::new();
        let assets = AssetServer::new(
            Arc::clone(&options.version),
            options.assets,
            options.cache,
            &mut warnings,
        );
        Self {
            routes: options.version.routes.as_ref().map(RoutesMatcher::new),
            version: options.version,
            worker: options.worker,
            cf: RequestCf::new(&options.place),
            assets,
            warnings,
        }
    }

    /// What was wrong with `_headers` and `_redirects`.
    pub fn warnings(&self) -> &[RuleWarning] {
        &self.warnings
    }

    /// The version that is served.
    pub fn version(&self) -> &Arc<Version> {
        &self.version
    }

    /// `env.ASSETS.fetch()`: the asset server alone. Host and scheme are those of an
    /// absolute URI, else `Host` and `http`; any host will do.
    pub async fn assets_fetch(&self, request: Request<Body>) -> Response<Body> {
        let answer = {
            let host = host::of(request.uri(), request.headers()).unwrap_or("localhost");
            let target = Target::of(request.uri());
            self.decide_asset(
                request.method(),
                request.headers(),
                request.uri(),
                &target,
                host,
            )
        };
        match answer {
            Some(answer) => self.assets.finish(answer).await,
            None => workers_assets_missing(),
        }
    }

    /// Whether a path goes to the worker.
    pub(crate) fn goes_to_worker(&self, path: &str) -> Option<&Arc<dyn WorkerPool>> {
        let worker = self.worker.as_ref()?;
        let wanted = self
            .routes
            .as_ref()
            .is_none_or(|routes| routes.matches(path));
        wanted.then_some(worker)
    }

    /// The answer of the asset server but for its file; `None` for a Workers project,
    /// whose rules are not built yet.
    pub(crate) fn decide_asset(
        &self,
        method: &Method,
        headers: &HeaderMap,
        uri: &Uri,
        target: &Target,
        host: &str,
    ) -> Option<AssetAnswer> {
        if self.version.kind == ProjectKind::Workers {
            return None;
        }
        let scheme = uri.scheme_str().unwrap_or("http");
        let origin = || format!("{scheme}://{host}");
        let name = host::name(host);
        Some(self.assets.decide(&AssetRequest {
            method,
            headers,
            target,
            host: &name,
            origin: &origin,
        }))
    }

    pub(crate) async fn finish_asset(&self, answer: AssetAnswer) -> Response<Body> {
        self.assets.finish(answer).await
    }
}

/// Said plainly, rather than serving a Workers project by the rules of Pages.
pub(crate) fn workers_assets_missing() -> Response<Body> {
    let mut response = Response::new(Body::from(
        "This version of Engawa does not serve the static assets of Workers projects \
         (`[assets]`). Pages projects (`pages_build_output_dir`) are served.\n",
    ));
    *response.status_mut() = StatusCode::NOT_FOUND;
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

/// The host as the worker must see it.
pub(crate) fn set_host(headers: &mut HeaderMap, uri: &Uri) {
    if let Some(authority) = uri.authority()
        && let Ok(host) = http::HeaderValue::from_str(authority.as_str())
    {
        headers.insert(HOST, host);
    }
}
