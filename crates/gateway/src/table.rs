//! Which site a host belongs to.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use engawa_model::{EncodedSizes, Environment, ProjectKind, Version, WorkerPool};
use http::header::HOST;
use http::{HeaderMap, Request, Response, Uri};

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
            self.with_asset_request(&request, &target, host, false, |request| {
                self.assets.decide(request)
            })
        };
        self.assets.finish(answer).await
    }

    /// Tells which precompressed forms of its static files are stored, by asset key. It can
    /// be told more and more while the site is served.
    pub fn add_encoded(&self, forms: &HashMap<Arc<str>, EncodedSizes>) {
        self.assets.add_encoded(forms);
    }

    /// Who answers a visitor. Without `may_encode` a static file is sent as it is.
    pub(crate) fn route(
        &self,
        request: &Request<Body>,
        target: &Target,
        host: &str,
        may_encode: bool,
    ) -> Destination<'_> {
        let Some(worker) = &self.worker else {
            return Destination::Assets(self.decide_asset(request, target, host, may_encode));
        };
        match self.version.kind {
            ProjectKind::Pages => {
                let routes = self.routes.as_ref();
                if routes.is_none_or(|routes| routes.matches(target.path())) {
                    return Destination::Worker(worker);
                }
                Destination::Assets(self.decide_asset(request, target, host, may_encode))
            }
            ProjectKind::Workers if self.version.assets_config.is_none() => {
                Destination::Worker(worker)
            }
            ProjectKind::Workers => self
                .with_asset_request(request, target, host, may_encode, |request| {
                    self.assets.decide_before_worker(request)
                })
                .map_or(Destination::Worker(worker), Destination::Assets),
        }
    }

    fn decide_asset(
        &self,
        request: &Request<Body>,
        target: &Target,
        host: &str,
        may_encode: bool,
    ) -> AssetAnswer {
        self.with_asset_request(request, target, host, may_encode, |request| {
            self.assets.decide(request)
        })
    }

    fn with_asset_request<T>(
        &self,
        request: &Request<Body>,
        target: &Target,
        host: &str,
        may_encode: bool,
        decide: impl FnOnce(&AssetRequest<'_>) -> T,
    ) -> T {
        let scheme = request.uri().scheme_str().unwrap_or("http");
        let origin = || format!("{scheme}://{host}");
        let name = host::name(host);
        decide(&AssetRequest {
            method: request.method(),
            headers: request.headers(),
            target,
            host: &name,
            origin: &origin,
            is_preview_host: self.is_preview_host(&name),
            may_encode,
        })
    }

    /// The hosts of previews below `pages.dev`; and those of development, which stand for
    /// them where it runs the preview environment.
    fn is_preview_host(&self, name: &str) -> bool {
        let is_preview = self.version.environment == Environment::Preview;
        name.ends_with(".pages.dev") && name.split('.').count() > 3
            || is_preview && host::is_local(name)
    }

    pub(crate) async fn finish_asset(&self, answer: AssetAnswer) -> Response<Body> {
        self.assets.finish(answer).await
    }
}

/// Who answers.
pub(crate) enum Destination<'a> {
    Worker(&'a Arc<dyn WorkerPool>),
    Assets(AssetAnswer),
}

/// The host as the worker must see it.
pub(crate) fn set_host(headers: &mut HeaderMap, uri: &Uri) {
    if let Some(authority) = uri.authority()
        && let Ok(host) = http::HeaderValue::from_str(authority.as_str())
    {
        headers.insert(HOST, host);
    }
}
