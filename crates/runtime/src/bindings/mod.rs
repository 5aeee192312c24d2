//! What a worker's bindings say on the wire, answered.
//!
//! One [`Bindings`] stands behind one deployment's unix socket. The socket says which
//! deployment speaks; [`BINDING_HEADER`] says which binding, and the deployment's own
//! table says which resource that is. Nothing else can be reached over it.
//!
//! workerd never sees an answer before it has sent its whole request: it would stop
//! sending and report a lost connection instead of our error. So every handler reads its
//! body to the end first, and bodies are bounded or staged on disk.

mod analytics;
mod body;
mod cache;
mod d1;
mod kv;
mod r2;
mod tail;

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use engawa_model::{
    AccountId, BindingKind, BucketName, DatabaseId, DatasetName, ErrorKind, NamespaceId,
    ProjectName, Version,
};
use engawa_storage::Storage;
use http::{Request, Response, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

pub use body::{Body, BoxError};
pub use tail::{LogLevel, LogLine, WorkerLog};

use crate::config::{ASSETS, BINDING_HEADER, CACHE, LOGS};
use tail::SourceMaps;

/// A future that stays on its thread, as connections of the data plane do.
pub type LocalFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// What a deployment's calls need from the rest of the program.
pub trait Host: Send + Sync {
    /// `env.ASSETS.fetch()`: the version's own static files.
    fn fetch_assets(&self, request: Request<Body>) -> LocalFuture<'_, Response<Body>>;

    /// A service binding: another project of the same account and environment. `None`
    /// when there is none that runs.
    fn fetch_service(
        &self,
        service: &ProjectName,
        request: Request<Body>,
    ) -> LocalFuture<'_, Option<Response<Body>>>;

    /// What a finished request has logged.
    fn log(&self, log: WorkerLog);
}

/// The bindings of one deployment.
pub struct Bindings {
    version: Arc<Version>,
    storage: Storage,
    host: Arc<dyn Host>,
    table: HashMap<String, Resource>,
    datasets: Vec<DatasetName>,
    source_maps: SourceMaps,
}

/// What a binding's header value stands for.
enum Resource {
    Kv(NamespaceId),
    D1(DatabaseId),
    R2(BucketName),
    Analytics,
    Service(ProjectName),
    Assets,
    Cache,
    Logs,
}

impl Bindings {
    /// The table of a version's bindings.
    pub fn new(version: Arc<Version>, storage: Storage, host: Arc<dyn Host>) -> Self {
        let mut table = HashMap::new();
        let mut datasets = Vec::new();
        for binding in &version.bindings {
            let resource = match &binding.kind {
                BindingKind::KvNamespace(id) => Resource::Kv(id.clone()),
                BindingKind::D1(id) => Resource::D1(id.clone()),
                BindingKind::R2Bucket(name) => Resource::R2(name.clone()),
                BindingKind::AnalyticsEngine(dataset) => {
                    datasets.push(dataset.clone());
                    Resource::Analytics
                }
                BindingKind::Service(project) => Resource::Service(project.clone()),
                BindingKind::Assets => Resource::Assets,
                BindingKind::PlainText(_) | BindingKind::Json(_) | BindingKind::SecretText(_) => {
                    continue;
                }
            };
            table.insert(
                utf8_percent_encode(&binding.name, NON_ALPHANUMERIC).to_string(),
                resource,
            );
        }
        table.insert(ASSETS.to_owned(), Resource::Assets);
        table.insert(CACHE.to_owned(), Resource::Cache);
        table.insert(LOGS.to_owned(), Resource::Logs);
        let source_maps = SourceMaps::new(&version);
        Self {
            version,
            storage,
            host,
            table,
            datasets,
            source_maps,
        }
    }

    /// Answers one call.
    pub async fn handle<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let resource = request
            .headers()
            .get(BINDING_HEADER)
            .and_then(|value| value.to_str().ok())
            .and_then(|name| self.table.get(name));
        match resource {
            Some(Resource::Kv(namespace)) => kv::handle(self.scope(), namespace, request).await,
            Some(Resource::D1(database)) => d1::handle(self.scope(), database, request).await,
            Some(Resource::R2(bucket)) => r2::handle(self.scope(), bucket, request).await,
            Some(Resource::Analytics) => {
                analytics::handle(self.scope(), &self.datasets, request).await
            }
            Some(Resource::Assets) => self.host.fetch_assets(request.map(body::boxed)).await,
            Some(Resource::Service(project)) => {
                let answer = self
                    .host
                    .fetch_service(project, request.map(body::boxed))
                    .await;
                answer.unwrap_or_else(|| {
                    let text = format!("The service {project} of this binding does not run here.");
                    body::text(StatusCode::SERVICE_UNAVAILABLE, text)
                })
            }
            Some(Resource::Cache) => {
                cache::handle(self.scope(), &self.version.project, request).await
            }
            Some(Resource::Logs) => {
                let answer = tail::receive(&self.source_maps, request).await;
                match answer {
                    Ok(logs) => {
                        for log in logs {
                            self.host.log(log);
                        }
                        body::empty(StatusCode::NO_CONTENT)
                    }
                    Err(status) => body::empty(status),
                }
            }
            None => match body::discard(request.into_body()).await {
                Ok(()) => body::text(
                    StatusCode::NOT_FOUND,
                    "There is no such binding.".to_owned(),
                ),
                Err(_) => body::empty(StatusCode::BAD_REQUEST),
            },
        }
    }

    fn scope(&self) -> Scope<'_> {
        Scope {
            storage: &self.storage,
            account: &self.version.account,
        }
    }
}

/// Whose resources a call may touch.
#[derive(Clone, Copy)]
struct Scope<'a> {
    storage: &'a Storage,
    account: &'a AccountId,
}

/// What a worker does not learn of a failure of the machine, its operator does.
fn tell_operator(service: &str, kind: ErrorKind, message: &str) {
    if matches!(
        kind,
        ErrorKind::DiskFull | ErrorKind::Unknown | ErrorKind::Corrupt | ErrorKind::Internal
    ) {
        tracing::error!(target: "engawa::storage", "{service}: {message}");
    }
}
