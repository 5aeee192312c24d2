//! The wiring: storage, runtime and gateway become one program. `engawa dev` and every
//! other way to run stand on this.

use std::fs::File;
use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use anyhow::Context as _;
use engawa_gateway::{
    Answer, AssetFiles, Body, ConnInfo, DataPlane, FileCache, Gateway, ListenerGuard, Place,
    RouteTableHandle, ServeOptions, Service, Site, SiteOptions,
};
use engawa_model::{AccountId, BindingKind, Encoding, ErrorKind, ProjectName, Version, WorkerPool};
use engawa_runtime::{
    Bindings, Host, LocalFuture, LogLevel, Pool, Runtime, RuntimeOptions, WorkerLog,
};
use engawa_storage::Storage;
use http::{Request, Response};

use crate::terminal;

/// How long requests under way may take when the program ends, or a version goes.
pub(crate) const DRAIN: Duration = Duration::from_secs(30);

/// Everything that runs.
pub(crate) struct Platform {
    storage: Storage,
    runtime: Runtime,
    plane: DataPlane,
    table: RouteTableHandle,
    cache: FileCache,
    place: Place,
}

/// A version that is served, or was until a moment ago.
pub(crate) struct Deployment {
    /// What the gateway answers with.
    pub site: Arc<Site>,
    /// Its processes, if it has code.
    pub pool: Option<Arc<Pool>>,
    bindings: Option<BindingSocket>,
}

struct BindingSocket {
    _guard: ListenerGuard,
    path: PathBuf,
}

impl Drop for BindingSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Platform {
    /// Starts the threads of the data plane; nothing is served yet.
    ///
    /// # Errors
    /// When the machine gives no threads or folders.
    pub(crate) fn new(
        storage: Storage,
        runtime: RuntimeOptions,
        place: Place,
    ) -> anyhow::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            storage,
            runtime: Runtime::new(runtime).context("cannot prepare the folder of sockets")?,
            plane: DataPlane::start(cores).context("cannot start the data plane")?,
            table: RouteTableHandle::default(),
            cache: FileCache::default(),
            place,
        })
    }

    /// What is served where.
    pub(crate) fn table(&self) -> &RouteTableHandle {
        &self.table
    }

    /// The store.
    pub(crate) fn storage(&self) -> &Storage {
        &self.storage
    }

    /// Serves visitors on a bound socket.
    ///
    /// # Errors
    /// When the socket cannot be shared among threads.
    pub(crate) fn serve(&self, listener: TcpListener) -> io::Result<ListenerGuard> {
        self.plane.serve(
            listener,
            Arc::new(Gateway::new(self.table.clone(), None)),
            ServeOptions::default(),
        )
    }

    /// Makes a version ready: its resources exist, its processes have started once.
    /// Nothing is published yet. Must be called inside a tokio runtime. Dropping the
    /// future ends what it has begun.
    ///
    /// # Errors
    /// When the worker does not start; the text is workerd's.
    pub(crate) async fn deploy(
        &self,
        version: Arc<Version>,
        log_level: Option<LogLevel>,
    ) -> anyhow::Result<Deployment> {
        self.ensure_resources(&version).await?;
        let mut pool = None;
        let mut bindings = None;
        let host = Arc::new(DeploymentHost {
            site: OnceLock::new(),
            log_level,
        });
        if let Some(code) = &version.worker {
            let deployed = self
                .runtime
                .deploy(&version, code, log_level.is_some())
                .context("cannot prepare the worker")?;
            let service = BindingService(Arc::new(Bindings::new(
                Arc::clone(&version),
                self.storage.clone(),
                Arc::clone(&host) as Arc<dyn Host>,
            )));
            let options = ServeOptions {
                half_close: true,
                ..ServeOptions::default()
            };
            let guard = self
                .plane
                .serve(deployed.binding_listener, Arc::new(service), options)
                .context("cannot serve the binding socket")?;
            bindings = Some(BindingSocket {
                _guard: guard,
                path: deployed.binding_socket,
            });
            pool = Some(deployed.pool);
        }
        let site = Arc::new(Site::new(SiteOptions {
            assets: Arc::new(StoredAssets {
                storage: self.storage.clone(),
                account: version.account.clone(),
                project: version.project.clone(),
            }),
            worker: pool.clone().map(|pool| pool as Arc<dyn WorkerPool>),
            place: self.place.clone(),
            cache: self.cache.clone(),
            version,
        }));
        host.site.set(Arc::downgrade(&site)).unwrap_or_default();
        let deployment = Deployment {
            site,
            pool,
            bindings,
        };
        let mut unchecked = Unchecked(deployment.pool.clone());
        let checked = match &deployment.pool {
            Some(pool) => pool.check().await,
            None => Ok(()),
        };
        unchecked.0 = None;
        if let Err(error) = checked {
            deployment.retire().await;
            return Err(error.into());
        }
        Ok(deployment)
    }

    /// Ends the threads that serve, then the store. Everything acknowledged is safe at
    /// any moment; this only is the polite way.
    pub(crate) async fn close(self) {
        drop(self.plane);
        self.storage.close().await;
    }

    /// A binding's resource exists as soon as a version names it, as in wrangler's local
    /// mode.
    async fn ensure_resources(&self, version: &Version) -> anyhow::Result<()> {
        let catalog = self.storage.catalog();
        let account = &version.account;
        catalog.ensure_account(account).await?;
        for binding in &version.bindings {
            match &binding.kind {
                BindingKind::KvNamespace(id) => {
                    catalog
                        .ensure_kv_namespace(account, id, &binding.name)
                        .await?;
                }
                BindingKind::D1(id) => {
                    catalog.ensure_d1_database(account, id, id.as_str()).await?;
                }
                BindingKind::R2Bucket(name) => {
                    catalog.ensure_r2_bucket(account, name).await?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Ends a worker whose check nobody waits for any more: an edit has made another of it, or
/// the program ends.
struct Unchecked(Option<Arc<Pool>>);

impl Drop for Unchecked {
    fn drop(&mut self) {
        if let Some(pool) = &self.0 {
            pool.retire();
            pool.hurry();
        }
    }
}

impl Deployment {
    /// Lets a version that is published no more end: its requests, then what they left
    /// behind in `waitUntil`, then its processes.
    pub(crate) async fn retire(self) {
        if let Some(pool) = &self.pool {
            pool.retire();
            pool.gone().await;
        }
        drop(self.bindings);
    }
}

/// What one deployment's worker asks of the rest.
struct DeploymentHost {
    /// Set right after the site is made, before the first request.
    site: OnceLock<Weak<Site>>,
    log_level: Option<LogLevel>,
}

impl Host for DeploymentHost {
    fn fetch_assets(
        &self,
        request: Request<engawa_runtime::Body>,
    ) -> LocalFuture<'_, Response<engawa_runtime::Body>> {
        Box::pin(async move {
            let Some(site) = self.site.get().and_then(Weak::upgrade) else {
                let mut gone = Response::new(engawa_runtime::Body::default());
                *gone.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
                return gone;
            };
            let answer = site.assets_fetch(request.map(Body::wrap)).await;
            answer.map(|body| {
                http_body_util::BodyExt::boxed_unsync(http_body_util::BodyExt::map_err(
                    body,
                    Into::into,
                ))
            })
        })
    }

    fn fetch_service(
        &self,
        _service: &ProjectName,
        _request: Request<engawa_runtime::Body>,
    ) -> LocalFuture<'_, Option<Response<engawa_runtime::Body>>> {
        // One project runs; a second one to bind to comes with `engawa serve`.
        Box::pin(std::future::ready(None))
    }

    fn log(&self, log: WorkerLog) {
        if let Some(level) = self.log_level {
            terminal::worker_log(&log, level);
        }
    }
}

/// The binding socket of one deployment, as the data plane serves it.
struct BindingService(Arc<Bindings>);

impl Service for BindingService {
    fn call(&self, request: Request<Body>, _connection: &Arc<ConnInfo>) -> Answer {
        let bindings = Arc::clone(&self.0);
        Answer::later(async move { bindings.handle(request).await.map(Body::wrap) })
    }
}

/// A project's static files.
struct StoredAssets {
    storage: Storage,
    account: AccountId,
    project: ProjectName,
}

impl AssetFiles for StoredAssets {
    fn open(&self, key: &str) -> io::Result<File> {
        let assets = self.storage.assets();
        assets
            .open(&self.account, &self.project, key)
            .map_err(to_io)
    }

    fn open_encoded(&self, key: &str, encoding: Encoding) -> io::Result<File> {
        let assets = self.storage.assets();
        assets
            .open_encoded(&self.account, &self.project, key, encoding)
            .map_err(to_io)
    }
}

fn to_io(error: engawa_storage::Error) -> io::Error {
    match error.kind() {
        ErrorKind::NotFound => io::Error::new(io::ErrorKind::NotFound, error),
        _ => io::Error::other(error),
    }
}

/// Lets requests of visitors end.
pub(crate) async fn drain(listener: ListenerGuard) {
    listener.drain(DRAIN).await;
}
