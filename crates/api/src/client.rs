//! The other end of the API, for the command line: over the control socket of whoever owns
//! a data folder, or straight into an [`Api`] of this process.

use std::os::unix::net::UnixStream;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::sync::Mutex;

use crate::{Access, Api};

/// Sends calls, one after the other.
pub struct Client {
    account_path: String,
    transport: Transport,
}

enum Transport {
    Here(Box<(Api, Access)>),
    Socket(Mutex<hyper::client::conn::http1::SendRequest<RequestBody>>),
}

/// The body of a request. Its error ends the connection, so that half a body is never
/// taken for a whole one.
pub type RequestBody = UnsyncBoxBody<Bytes, std::io::Error>;

/// The body of an answer, to be read to its end in chunks.
pub type AnswerBody = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// A successful call.
#[derive(Debug, Clone, PartialEq)]
pub struct Envelope {
    /// What was asked for.
    pub result: Value,
    /// Numbers about a list, with the cursor of the next page.
    pub result_info: Value,
}

/// Why a call gave no result.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The API says no.
    #[error("{message} [code: {code}]")]
    Refused {
        /// The HTTP status.
        status: StatusCode,
        /// Cloudflare's number.
        code: u64,
        /// The text for the user.
        message: String,
    },
    /// What came is not an envelope.
    #[error("the answer ({status}) cannot be understood: {text}")]
    Malformed {
        /// The HTTP status.
        status: StatusCode,
        /// Its beginning.
        text: String,
    },
    /// The connection broke.
    #[error("the connection to the process that owns the data folder broke: {0}")]
    Connection(Box<dyn std::error::Error + Send + Sync>),
    /// The path or a header is not valid.
    #[error("the request is not valid: {0}")]
    Request(#[from] http::Error),
}

/// The longest answer that [`Client`] holds in memory.
const ANSWER_BYTES: usize = 1024 * 1024 * 1024;

impl Client {
    /// Calls an API of this process.
    pub fn in_process(api: Api, access: Access) -> Self {
        Self {
            account_path: account_path(access.account.as_str()),
            transport: Transport::Here(Box::new((api, access))),
        }
    }

    /// Calls the owner of a data folder through its control socket
    /// (`engawa_storage::connect_control`). Within a tokio runtime.
    pub async fn over_socket(stream: UnixStream) -> Result<Self, ClientError> {
        let broken = |error: std::io::Error| ClientError::Connection(error.into());
        stream.set_nonblocking(true).map_err(broken)?;
        let stream = tokio::net::UnixStream::from_std(stream).map_err(broken)?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(connection_error)?;
        // Ends when the client is dropped.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the control connection ended");
            }
        });
        Ok(Self {
            account_path: account_path(Access::local().account.as_str()),
            transport: Transport::Socket(Mutex::new(sender)),
        })
    }

    /// `GET`, with an envelope as the answer. `path` follows the account
    /// (`/d1/database`), or is a whole path that begins with `/client/`.
    pub async fn get(&self, path: &str) -> Result<Envelope, ClientError> {
        self.call(Method::GET, path, None).await
    }

    /// `POST` with JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Envelope, ClientError> {
        self.call(Method::POST, path, Some(body)).await
    }

    /// `PUT` with JSON.
    pub async fn put(&self, path: &str, body: &Value) -> Result<Envelope, ClientError> {
        self.call(Method::PUT, path, Some(body)).await
    }

    /// `DELETE`, with JSON if there is any.
    pub async fn delete(&self, path: &str, body: Option<&Value>) -> Result<Envelope, ClientError> {
        self.call(Method::DELETE, path, body).await
    }

    /// `PUT` of bytes, as they are.
    pub async fn put_raw(
        &self,
        path: &str,
        headers: HeaderMap,
        body: RequestBody,
    ) -> Result<Envelope, ClientError> {
        let response = self.send(Method::PUT, path, headers, body).await?;
        envelope(response).await
    }

    /// `PUT` of bytes to a URL that the API gave; only the status of the answer counts.
    pub async fn upload(&self, path: &str, body: RequestBody) -> Result<(), ClientError> {
        let response = self.send(Method::PUT, path, HeaderMap::new(), body).await?;
        if response.status().is_success() {
            return Ok(());
        }
        envelope(response).await.map(drop)
    }

    /// `GET` of bytes: the answer as it is if it is a success, with its body still to be
    /// read.
    pub async fn get_raw(&self, path: &str) -> Result<Response<AnswerBody>, ClientError> {
        let response = self
            .send(Method::GET, path, HeaderMap::new(), empty())
            .await?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        Err(match envelope(response).await {
            Err(error) => error,
            Ok(_) => ClientError::Malformed {
                status,
                text: "a failure that says it is a success".into(),
            },
        })
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Envelope, ClientError> {
        let mut headers = HeaderMap::new();
        let body = match body {
            None => empty(),
            Some(json) => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                full(json.to_string())
            }
        };
        envelope(self.send(method, path, headers, body).await?).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: RequestBody,
    ) -> Result<Response<AnswerBody>, ClientError> {
        let path = if path.starts_with("/client/") {
            path.to_owned()
        } else {
            format!("{}{path}", self.account_path)
        };
        let mut request = Request::builder().method(method).uri(path).body(body)?;
        *request.headers_mut() = headers;
        let host: (HeaderName, _) = (HOST, HeaderValue::from_static("localhost"));
        request.headers_mut().insert(host.0, host.1);
        match &self.transport {
            Transport::Here(here) => {
                let (api, access) = &**here;
                // Boxed: it holds every call of the API, and the commands hold it.
                let response = Box::pin(api.handle(access, request)).await;
                Ok(response.map(|body| body.map_err(Into::into).boxed_unsync()))
            }
            Transport::Socket(sender) => {
                let mut sender = sender.lock().await;
                sender.ready().await.map_err(connection_error)?;
                let response = sender.send_request(request).await;
                let response = response.map_err(connection_error)?;
                Ok(response.map(|body| body.map_err(Into::into).boxed_unsync()))
            }
        }
    }
}

/// A body of bytes.
pub fn full(bytes: impl Into<Bytes>) -> RequestBody {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

fn empty() -> RequestBody {
    full(Bytes::new())
}

/// A text as one segment of a path.
pub fn segment(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

fn account_path(account: &str) -> String {
    format!("/client/v4/accounts/{}", segment(account))
}

fn connection_error(error: hyper::Error) -> ClientError {
    ClientError::Connection(error.into())
}

async fn envelope(response: Response<AnswerBody>) -> Result<Envelope, ClientError> {
    let status = response.status();
    let body = http_body_util::Limited::new(response.into_body(), ANSWER_BYTES);
    let bytes = body
        .collect()
        .await
        .map_err(ClientError::Connection)?
        .to_bytes();
    let malformed = || {
        let start = &bytes[..bytes.len().min(200)];
        ClientError::Malformed {
            status,
            text: String::from_utf8_lossy(start).into_owned(),
        }
    };
    let mut envelope: Value = serde_json::from_slice(&bytes).map_err(|_| malformed())?;
    match envelope["success"].as_bool() {
        Some(true) => Ok(Envelope {
            result: envelope["result"].take(),
            result_info: envelope["result_info"].take(),
        }),
        Some(false) => Err(ClientError::Refused {
            status,
            code: envelope["errors"][0]["code"].as_u64().unwrap_or_default(),
            message: envelope["errors"][0]["message"]
                .as_str()
                .unwrap_or("the call failed")
                .to_owned(),
        }),
        None => Err(malformed()),
    }
}
