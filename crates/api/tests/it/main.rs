//! The API over a real unix socket, spoken to in bytes of HTTP.

#![expect(clippy::unwrap_used, reason = "a test fails by it")]

mod d1;
mod kv;
mod r2;

use std::sync::Arc;

use bytes::Bytes;
use engawa_api::client::{self, Client, ClientError, Envelope};
use engawa_api::{Access, Api};
use engawa_model::AccountId;
use engawa_storage::{Owner, Storage, StorageOptions, connect_control};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tempfile::TempDir;

/// An owner of a data folder that serves its control socket.
struct Server {
    data: TempDir,
    owner: Option<Owner>,
    storage: Option<Storage>,
    serving: tokio::task::JoinHandle<()>,
    client: Client,
}

/// A whole answer.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn json(&self) -> Value {
        assert_eq!(self.headers["content-type"], "application/json");
        serde_json::from_slice(&self.body).unwrap()
    }

    fn result(&self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{self:?}");
        let mut json = self.json();
        assert_eq!(json["success"], true);
        json["result"].take()
    }

    /// The status and the first error's code.
    fn error(&self) -> (u16, u64) {
        let json = self.json();
        assert_eq!(json["success"], false);
        let code = json["errors"][0]["code"].as_u64().unwrap();
        (self.status.as_u16(), code)
    }
}

impl Server {
    async fn start() -> Self {
        Self::with_access(Access::local()).await
    }

    /// As a listener for tokens will be: nothing comes into being by being named.
    async fn strict() -> Self {
        Self::with_access(Access {
            account: AccountId::local(),
            creates_missing: false,
        })
        .await
    }

    async fn with_access(access: Access) -> Self {
        let data = TempDir::new().unwrap();
        let owner = Owner::acquire(data.path(), "a test").unwrap();
        let storage = Storage::open(&owner, StorageOptions::new(data.path())).unwrap();
        let listener = owner.control_listener().unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = tokio::net::UnixListener::from_std(listener).unwrap();
        let api = Api::new(storage.clone());
        let serving = tokio::spawn(async move {
            let access = Arc::new(access);
            while let Ok((stream, _)) = listener.accept().await {
                let (api, access) = (api.clone(), access.clone());
                tokio::spawn(async move {
                    let service = hyper::service::service_fn(move |request| {
                        let (api, access) = (api.clone(), access.clone());
                        async move {
                            Ok::<_, std::convert::Infallible>(api.handle(&access, request).await)
                        }
                    });
                    let connection = hyper::server::conn::http1::Builder::new();
                    let _ = connection
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        let client = Client::over_socket(connect_control(data.path()).unwrap()).await;
        Self {
            client: client.unwrap(),
            owner: Some(owner),
            storage: Some(storage),
            data,
            serving,
        }
    }

    /// Sends a request over a connection of its own. `path` follows the account.
    async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let stream = connect_control(self.data.path()).unwrap();
        stream.set_nonblocking(true).unwrap();
        let stream = tokio::net::UnixStream::from_std(stream).unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        let connection = tokio::spawn(connection);
        let uri = if path.starts_with("/client") {
            path.to_owned()
        } else {
            format!("/client/v4/accounts/local{path}")
        };
        let mut request = Request::builder()
            .method(Method::from_bytes(method.as_bytes()).unwrap())
            .uri(uri)
            .header("host", "localhost");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(client::full(body)).unwrap();
        let response = sender.send_request(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        drop(sender);
        connection.abort();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body,
        }
    }

    async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], "").await
    }

    /// JSON as wrangler sends it: often as `text/plain` (control-plane-api.md 2.3).
    async fn post(&self, path: &str, body: Value) -> Answer {
        let kind = ("content-type", "text/plain;charset=UTF-8");
        self.send("POST", path, &[kind], body.to_string()).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
        drop(self.storage.take());
        drop(self.owner.take());
    }
}

// control-plane-api.md 2.1, 15
#[tokio::test]
async fn what_is_not_there_is_an_envelope_and_never_a_page() {
    let server = Server::start().await;
    let answer = server.get("/queues").await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert_eq!(
        answer.text(),
        r#"{"success":false,"errors":[{"code":7003,"message":"Could not route to /client/v4/accounts/local/queues, perhaps your object identifier is invalid?"}],"messages":[],"result":null}"#
    );
    let answer = server.send("PATCH", "/d1/database", &[], "").await;
    assert_eq!(answer.error(), (405, 7001));
}

// The wall between tenants: the socket's account and no other.
#[tokio::test]
async fn another_account_is_forbidden_whatever_is_asked() {
    let server = Server::start().await;
    for (method, rest) in [
        ("GET", "d1/database"),
        ("POST", "d1/database/x/query"),
        ("GET", "storage/kv/namespaces/x/values/k"),
        ("PUT", "r2/buckets/b/objects/k"),
    ] {
        let path = format!("/client/v4/accounts/other/{rest}");
        let answer = server.send(method, &path, &[], "{}").await;
        assert_eq!(answer.error(), (403, 10_000), "{path}");
    }
}

#[tokio::test]
async fn a_client_in_the_process_and_one_on_the_socket_see_the_same() {
    let server = Server::start().await;
    let api = Api::new(server.storage.clone().unwrap());
    let here = Client::in_process(api, Access::local());
    let path = "/storage/kv/namespaces/ns/values/a%2Fb";
    let put = here.put_raw(path, HeaderMap::new(), client::full("value"));
    assert_eq!(put.await.unwrap().result, json!({}));
    for client in [&here, &server.client] {
        let value = client.get_raw(path).await.unwrap();
        let value = value.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(value, "value");
        let keys = client.get("/storage/kv/namespaces/ns/keys").await.unwrap();
        assert_eq!(
            keys,
            Envelope {
                result: json!([{ "name": "a/b" }]),
                result_info: json!({ "count": 1, "cursor": "" }),
            }
        );
        let absent = client.get_raw("/storage/kv/namespaces/ns/values/x").await;
        match absent.unwrap_err() {
            ClientError::Refused {
                status,
                code,
                message,
            } => {
                assert_eq!((status.as_u16(), code), (404, 10_009));
                assert_eq!(message, "get: 'key not found'");
            }
            other => panic!("{other}"),
        }
        let error = client.post("/d1/database/d/query", &json!({})).await;
        let text = error.unwrap_err().to_string();
        assert_eq!(text, "The request has no \"sql\". [code: 6007]");
        assert_eq!(client::segment("a/b c"), "a%2Fb%20c");
    }
}
