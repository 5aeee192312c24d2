//! The REST v4 control plane, as wrangler speaks it: the calls for D1, KV and R2 below
//! `/client/v4/accounts/<account>` (control-plane-api.md 2 and 6 to 8).
//!
//! [`Api::handle`] takes any HTTP request and gives an answer; who may ask is the
//! listener's business, which hands in an [`Access`]. Bodies are streamed where they may
//! be large (KV values, objects), and bounded everywhere.
//!
//! - [`route`](mod@route): paths to calls, on raw segments, each decoded once;
//! - `request`: parameters and bodies; `answer`: envelopes; `error`: how a failure of the
//!   storage looks on this wire;
//! - `d1`, `kv`, `r2`: a file for each product; `deployments`: what only Engawa has;
//! - [`client`]: the other end, for the command line.
//!
//! Cloudflare's error codes are followed where wrangler acts on them or they are
//! documented; where neither is so, they are chosen here, in `error`.

mod answer;
pub mod client;
mod d1;
mod deployments;
mod error;
mod kv;
mod r2;
mod request;
mod route;
mod transfers;

use std::sync::Arc;

use bytes::Bytes;
use engawa_model::AccountId;
use engawa_storage::Storage;
use http::{Request, Response};

pub use answer::ApiBody;
use error::ApiError;
use request::Call;
use route::{Product, Route};
use transfers::Transfers;

/// The API over an open data folder. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    storage: Storage,
    transfers: Arc<Transfers>,
}

/// What whoever sends a request may touch.
#[derive(Debug, Clone)]
pub struct Access {
    /// The one account; a request that names another gets 403.
    pub account: AccountId,
    /// Whether a namespace, database or bucket that a call uses comes into being if it is
    /// not there, as in local development, where an id of `wrangler.toml` is enough.
    pub creates_missing: bool,
}

impl Access {
    /// What the control socket of a data folder gives: everything in the account `local`.
    pub fn local() -> Self {
        Self {
            account: AccountId::local(),
            creates_missing: true,
        }
    }
}

impl Api {
    /// Over an open data folder.
    pub fn new(storage: Storage) -> Self {
        Self {
            transfers: Arc::new(Transfers::new()),
            storage,
        }
    }

    /// Answers a request. Never fails: what goes wrong is in the answer.
    pub async fn handle<B>(&self, access: &Access, request: Request<B>) -> Response<ApiBody>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        let (parts, body) = request.into_parts();
        let outcome = match route::find(&parts.method, parts.uri.path()) {
            Err(error) => Err(error),
            Ok(Route { account, .. }) if account != access.account => {
                Err(ApiError::other_account())
            }
            Ok(Route { account, product }) => {
                let call = Call {
                    api: self,
                    account,
                    creates_missing: access.creates_missing,
                    parts: &parts,
                };
                match product {
                    Product::D1(what) => d1::answer(&call, what, body).await,
                    Product::Kv(what) => kv::answer(&call, what, body).await,
                    Product::R2(what) => r2::answer(&call, what, body).await,
                    Product::Deployments(what) => deployments::answer(&call, what).await,
                }
            }
        };
        outcome.unwrap_or_else(|error| {
            if error.status.is_server_error() {
                tracing::error!(
                    method = %parts.method,
                    path = parts.uri.path(),
                    code = error.code,
                    error = error.message,
                    "an API call failed"
                );
            }
            error.into_response()
        })
    }
}
