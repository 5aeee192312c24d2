//! Analytics Engine: batches of points from the extension in `js/analytics.js`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use engawa_model::{DatasetName, ErrorKind};
use engawa_storage::{BatchKey, EventPoint};
use http::{Request, Response, StatusCode};
use serde::Deserialize;

use super::Scope;
use super::body::{self, Body, BoxError};

/// 500 points of 16,096 bytes in base64, and some room.
const BATCH_BYTES: usize = 16 * 1024 * 1024;

#[derive(Deserialize)]
struct Batch {
    boot: String,
    #[serde(rename = "batch")]
    number: u64,
    lost: u64,
    points: Vec<Point>,
}

#[derive(Deserialize)]
struct Point {
    dataset: String,
    ts: u64,
    index: Option<String>,
    doubles: Vec<Double>,
    blobs: Vec<Option<String>>,
}

/// JSON has no NaN and no infinities; they come as their names.
#[derive(Deserialize)]
#[serde(untagged)]
enum Double {
    Number(f64),
    Name(String),
}

pub(super) async fn handle<B>(
    scope: Scope<'_>,
    datasets: &[DatasetName],
    request: Request<B>,
) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    let text = match body::collect(request.into_body(), BATCH_BYTES).await {
        Ok(Some(text)) => text,
        Ok(None) => return body::empty(StatusCode::PAYLOAD_TOO_LARGE),
        Err(_) => return body::empty(StatusCode::BAD_REQUEST),
    };
    let Ok(batch) = serde_json::from_slice::<Batch>(&text) else {
        return body::empty(StatusCode::BAD_REQUEST);
    };
    if batch.lost > 0 {
        tracing::warn!(target: "engawa::worker", lost = batch.lost, "data points were lost before this batch");
    }
    // The name comes from our own extension; that it is one of this deployment's is
    // checked all the same.
    let known = |name: &str| datasets.iter().find(|dataset| dataset.as_str() == name);
    let mut by_dataset: Vec<(&DatasetName, Vec<EventPoint>)> = Vec::new();
    for point in batch.points {
        let Some(dataset) = known(&point.dataset) else {
            return body::empty(StatusCode::FORBIDDEN);
        };
        let Some(point) = point.decode() else {
            return body::empty(StatusCode::BAD_REQUEST);
        };
        match by_dataset.iter_mut().find(|(name, _)| *name == dataset) {
            Some((_, points)) => points.push(point),
            None => by_dataset.push((dataset, vec![point])),
        }
    }
    // A key counts within its dataset, so a repeat after half of them is harmless too.
    for (dataset, points) in by_dataset {
        let key = BatchKey {
            boot_id: batch.boot.clone(),
            number: batch.number,
        };
        match scope
            .storage
            .events()
            .append(scope.account, dataset, key, points)
            .await
        {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                return body::empty(StatusCode::SERVICE_UNAVAILABLE);
            }
            Err(error) => {
                tracing::error!(target: "engawa::worker", "data points were not stored: {error}");
                return body::empty(StatusCode::INTERNAL_SERVER_ERROR);
            }
        }
    }
    body::empty(StatusCode::NO_CONTENT)
}

impl Point {
    fn decode(self) -> Option<EventPoint> {
        let bytes = |text: Option<String>| text.map(|text| STANDARD.decode(text)).transpose().ok();
        Some(EventPoint {
            timestamp_ms: self.ts,
            index: bytes(self.index)?,
            doubles: self.doubles.into_iter().map(Double::value).collect(),
            blobs: self.blobs.into_iter().map(bytes).collect::<Option<_>>()?,
        })
    }
}

impl Double {
    fn value(self) -> f64 {
        match self {
            Self::Number(number) => number,
            Self::Name(name) if name == "Infinity" => f64::INFINITY,
            Self::Name(name) if name == "-Infinity" => f64::NEG_INFINITY,
            Self::Name(_) => f64::NAN,
        }
    }
}
