//! What `engawa dev` adds: browsers reload when a build succeeds and show the error of one
//! that fails.
//!
//! Only navigations of a browser (`Sec-Fetch-Dest: document`) that get HTML are touched,
//! and only by one script tag at the very end; everything else is byte for byte what a
//! deployment would send.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderValue,
};
use http::{HeaderMap, HeaderName, Method, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::{mpsc, watch};

use crate::body::{Body, BodyError};
use crate::error_page::{escape_html, html_page};
use crate::plane::ConnInfo;

/// The stream of build states.
pub(crate) const LIVE_PATH: &str = "/cdn-cgi/engawa/live";
/// The script that listens to it.
pub(crate) const SCRIPT_PATH: &str = "/cdn-cgi/engawa/live.js";
/// How often a silent stream says something, so that a reader that left is noticed.
const HEARTBEAT: Duration = Duration::from_secs(15);
const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// How the newest build went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildState {
    /// It is being served. Each one has a generation of its own.
    Ok {
        /// Grows with each build that succeeded.
        generation: u64,
    },
    /// It failed; the one before is still served, if there is one.
    Failed {
        /// The error as the terminal shows it, without colours.
        text: Arc<str>,
    },
}

/// The newest build's state, told to everyone who listens. Cheap to clone.
#[derive(Debug, Clone)]
pub struct DevSignals(Arc<watch::Sender<Signal>>);

#[derive(Debug, Clone)]
struct Signal {
    state: BuildState,
    /// What is being served, also while the newest build is a failed one.
    generation: u64,
}

impl DevSignals {
    /// Begins at generation 0, before the first build.
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(Signal {
            state: BuildState::Ok { generation: 0 },
            generation: 0,
        })))
    }

    /// Tells how the newest build went.
    pub fn set(&self, state: BuildState) {
        self.0.send_modify(|signal| {
            if let BuildState::Ok { generation } = state {
                signal.generation = generation;
            }
            signal.state = state;
        });
    }

    /// How the newest build went.
    pub fn state(&self) -> BuildState {
        self.0.borrow().state.clone()
    }

    fn generation(&self) -> u64 {
        self.0.borrow().generation
    }
}

impl Default for DevSignals {
    fn default() -> Self {
        Self::new()
    }
}

/// Answers what lies below `/cdn-cgi/engawa/`.
pub(crate) fn respond(
    signals: &DevSignals,
    path: &str,
    connection: &Arc<ConnInfo>,
) -> Option<Response<Body>> {
    let (content_type, body) = match path {
        SCRIPT_PATH => ("application/javascript", Body::from(SCRIPT)),
        LIVE_PATH => {
            let (sender, body) = Body::channel(4);
            tokio::task::spawn_local(tell(signals.0.subscribe(), sender, Arc::clone(connection)));
            ("text/event-stream", body)
        }
        _ => return None,
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Some(response)
}

async fn tell(
    mut signals: watch::Receiver<Signal>,
    sender: mpsc::Sender<Result<Bytes, BodyError>>,
    connection: Arc<ConnInfo>,
) {
    loop {
        let event = event_of(&signals.borrow_and_update());
        if sender.send(Ok(event)).await.is_err() {
            return;
        }
        loop {
            tokio::select! {
                changed = signals.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    break;
                }
                () = sender.closed() => return,
                () = connection.draining() => return,
                () = tokio::time::sleep(HEARTBEAT) => {
                    if sender.send(Ok(Bytes::from_static(b":\n\n"))).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

fn event_of(signal: &Signal) -> Bytes {
    let error = match &signal.state {
        BuildState::Ok { .. } => None,
        BuildState::Failed { text } => Some(&**text),
    };
    let data = serde_json::json!({ "generation": signal.generation, "error": error });
    Bytes::from(format!("data: {data}\n\n"))
}

/// The answer to every request as long as no version was ever built.
pub(crate) fn no_version_page(signals: &DevSignals) -> Response<Body> {
    let (heading, body) = match signals.state() {
        BuildState::Ok { .. } => (
            "The first build is under way",
            "<p>This page reloads by itself when it is done.</p>".to_owned(),
        ),
        BuildState::Failed { text } => (
            "The build failed",
            format!(
                "<pre>{}</pre><p>This page reloads by itself when the error is mended.</p>",
                escape_html(&text)
            ),
        ),
    };
    let body = format!("{body}{}", script_tag(signals));
    let page = html_page(
        heading,
        heading,
        "There is no version to serve yet.",
        &body,
        "engawa dev",
    );
    let mut response = Response::new(Body::from(page));
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/html; charset=utf-8"),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Whether a request is a browser's navigation.
pub(crate) fn is_navigation(method: &Method, headers: &HeaderMap) -> bool {
    *method == Method::GET
        && headers
            .get(SEC_FETCH_DEST)
            .is_some_and(|dest| dest.as_bytes() == b"document")
}

/// Appends the script to an HTML answer of a navigation.
pub(crate) fn inject(signals: &DevSignals, response: Response<Body>) -> Response<Body> {
    let headers = response.headers();
    let is_html = headers.get(CONTENT_TYPE).is_some_and(|value| {
        value
            .as_bytes()
            .to_ascii_lowercase()
            .starts_with(b"text/html")
    });
    if !is_html || headers.contains_key(CONTENT_ENCODING) || response.body().is_end_stream() {
        return response;
    }
    let (mut parts, inner) = response.into_parts();
    parts.headers.remove(CONTENT_LENGTH);
    // What the browser keeps is not what the tag names.
    parts.headers.remove(ETAG);
    let tail = Bytes::from(script_tag(signals));
    let body = Body::wrap(Appended {
        inner,
        tail: Some(tail),
    });
    Response::from_parts(parts, body)
}

fn script_tag(signals: &DevSignals) -> String {
    format!(
        "<script src=\"{SCRIPT_PATH}?g={}\" async></script>",
        signals.generation()
    )
}

/// A body and some bytes after it. A body that breaks off gets none.
struct Appended {
    inner: Body,
    tail: Option<Bytes>,
}

impl HttpBody for Appended {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            return match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
                Some(Ok(frame)) if frame.is_trailers() => continue,
                Some(Err(error)) => {
                    self.tail = None;
                    Poll::Ready(Some(Err(error)))
                }
                Some(frame) => Poll::Ready(Some(frame)),
                None => Poll::Ready(self.tail.take().map(|tail| Ok(Frame::data(tail)))),
            };
        }
    }

    fn is_end_stream(&self) -> bool {
        self.tail.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let tail = self.tail.as_ref().map_or(0, Bytes::len) as u64;
        match self.inner.size_hint().exact() {
            Some(inner) => SizeHint::with_exact(inner + tail),
            None => SizeHint::default(),
        }
    }
}

/// Reloads when another generation is served than the page came from, and shows the error
/// of a failed build over the page, in a shadow tree that the page's styles cannot reach.
const SCRIPT: &str = r#"(() => {
  const mine = new URL(document.currentScript.src).searchParams.get("g");
  let shown;
  const show = (text) => {
    shown?.remove();
    shown = undefined;
    if (text === null) return;
    shown = document.createElement("engawa-error");
    const root = shown.attachShadow({ mode: "open" });
    const box = document.createElement("div");
    box.setAttribute("role", "alert");
    box.style.cssText = "position:fixed;inset:auto 0 0 0;max-height:60vh;overflow:auto;z-index:2147483647;" +
      "background:#1d1f24;color:#f3d9d9;font:14px/1.5 ui-monospace,monospace;padding:16px 20px;box-sizing:border-box;" +
      "border-top:4px solid #d33;white-space:pre-wrap;overflow-wrap:anywhere";
    const close = document.createElement("button");
    close.textContent = "Close";
    close.style.cssText = "float:right;font:inherit;color:inherit;background:none;border:1px solid;border-radius:4px;cursor:pointer";
    close.onclick = () => show(null);
    const title = document.createElement("strong");
    title.textContent = "The build failed; the last good version is shown.\n\n";
    box.append(close, title, text);
    root.append(box);
    document.documentElement.append(shown);
  };
  const source = new EventSource("/cdn-cgi/engawa/live");
  source.onmessage = (event) => {
    const { generation, error } = JSON.parse(event.data);
    if (String(generation) !== mine) location.reload();
    else show(error);
  };
  addEventListener("pagehide", () => source.close());
  addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
})();
"#;
