//! What a request was, told once it has ended. Costs nothing when nobody asks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use engawa_model::DeploymentId;
use http::{HeaderValue, Method, Request, Response};
use http_body::Body as _;

use crate::body::Body;

/// The target of the access log's events, at debug level.
pub const ACCESS_LOG: &str = "engawa::access";

/// Somebody who counts requests. It is called on the request's thread and must not wait.
pub trait Meter: Send + Sync + 'static {
    /// A request has ended: its last byte was sent, or its client went away.
    fn on_request(&self, record: &RequestRecord);
}

/// A request that has ended.
#[derive(Debug, Clone)]
pub struct RequestRecord {
    /// The method.
    pub method: Method,
    /// The path without its query, which may hold secrets.
    pub path: String,
    /// The status.
    pub status: u16,
    /// Bytes of the request's body that were read.
    pub bytes_in: u64,
    /// Bytes of the answer's body that were sent.
    pub bytes_out: u64,
    /// From the end of the head to the end of the answer, in milliseconds.
    pub wall_ms: u64,
    /// Whether a worker answered.
    pub worker: bool,
    /// The ray id, if the request reached a site.
    pub ray: Option<String>,
    /// The deployment, if the request reached a site.
    pub deployment: Option<DeploymentId>,
}

/// The measuring of one request, if anybody is interested.
pub(crate) struct Measure {
    meter: Option<Arc<dyn Meter>>,
    started: Instant,
    bytes_in: Arc<AtomicU64>,
    record: RequestRecord,
}

impl Measure {
    /// `None` without a meter and with the access log off.
    pub(crate) fn begin(
        meter: Option<&Arc<dyn Meter>>,
        request: &mut Request<Body>,
    ) -> Option<Box<Self>> {
        if meter.is_none() && !tracing::enabled!(target: ACCESS_LOG, tracing::Level::DEBUG) {
            return None;
        }
        let bytes_in = Arc::<AtomicU64>::default();
        if !request.body().is_end_stream() {
            let inner = std::mem::take(request.body_mut());
            let bytes = Arc::clone(&bytes_in);
            *request.body_mut() = inner.inspect(move |data| {
                bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
            });
        }
        Some(Box::new(Self {
            meter: meter.cloned(),
            started: Instant::now(),
            bytes_in,
            record: RequestRecord {
                method: request.method().clone(),
                path: request.uri().path().to_owned(),
                status: 0,
                bytes_in: 0,
                bytes_out: 0,
                wall_ms: 0,
                worker: false,
                ray: None,
                deployment: None,
            },
        }))
    }

    pub(crate) fn of_site(&mut self, deployment: &DeploymentId, ray: &HeaderValue, worker: bool) {
        self.record.deployment = Some(deployment.clone());
        self.record.ray = ray.to_str().ok().map(str::to_owned);
        self.record.worker = worker;
    }

    /// Lets the answer's body tell when it has ended.
    pub(crate) fn attach(mut self: Box<Self>, response: Response<Body>) -> Response<Body> {
        self.record.status = response.status().as_u16();
        if response.body().is_end_stream() {
            // Dropping it tells.
            drop(Told(self));
            return response;
        }
        let mut told = Told(self);
        response
            .map(|inner| inner.inspect(move |data| told.0.record.bytes_out += data.len() as u64))
    }
}

/// Tells when it is dropped, which is at the end of the answer however it came.
struct Told(Box<Measure>);

impl Drop for Told {
    fn drop(&mut self) {
        let Measure {
            meter,
            started,
            bytes_in,
            record,
        } = &mut *self.0;
        record.bytes_in = bytes_in.load(Ordering::Relaxed);
        record.wall_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::debug!(
            target: ACCESS_LOG,
            method = %record.method,
            path = record.path,
            status = record.status,
            bytes_in = record.bytes_in,
            bytes_out = record.bytes_out,
            wall_ms = record.wall_ms,
            worker = record.worker,
            ray = record.ray.as_deref().unwrap_or(""),
            "{} {} {}",
            record.method,
            record.path,
            record.status,
        );
        if let Some(meter) = meter {
            meter.on_request(record);
        }
    }
}
