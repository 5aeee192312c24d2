//! The static files of a site, by the rules of Cloudflare Pages (pages.md 1 to 3).
//! miniflare: pages-shared `asset-server/handler.ts`.
//!
//! A request is decided in one pass without waiting ([`AssetServer::decide`]): redirects,
//! method, the file or the 308 that its path stands for, the 404 walk, headers. Only then
//! may a file have to be read, and that not if it is small and was asked for lately. The
//! same code answers visitors and a worker's `env.ASSETS`.

mod cache;
mod headers;
mod path;
mod redirects;
mod rules;

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read as _};
use std::sync::Arc;

use bytes::Bytes;
use engawa_model::Version;
use http::header::{
    ACCEPT_ENCODING, ACCESS_CONTROL_ALLOW_ORIGIN, AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH,
    CONTENT_TYPE, ETAG, IF_NONE_MATCH, LOCATION, RANGE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use url::Url;

pub use cache::FileCache;
pub use headers::{HeadersRule, parse_headers};
pub(crate) use path::Target;
pub use redirects::{RedirectRule, parse_redirects};
pub use rules::RuleWarning;

use crate::body::Body;
use cache::{CACHED_FILE_BYTES, Slot};
use headers::HeaderRules;
use redirects::Redirects;

const X_ROBOTS_TAG: HeaderName = HeaderName::from_static("x-robots-tag");
const ANY_ORIGIN: HeaderValue = HeaderValue::from_static("*");
const STRICT_ORIGIN: HeaderValue = HeaderValue::from_static("strict-origin-when-cross-origin");
const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");
const REVALIDATE: HeaderValue = HeaderValue::from_static("public, max-age=0, must-revalidate");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const NOINDEX: HeaderValue = HeaderValue::from_static("noindex");
const REDIRECT_TEXT: HeaderValue = HeaderValue::from_static("text/plain;charset=UTF-8");

/// Where the bytes of a site's assets lie.
pub trait AssetFiles: Send + Sync + 'static {
    /// Opens the file of an asset key. It is called on a thread where blocking is fine.
    fn open(&self, key: &str) -> io::Result<File>;
}

/// The asset server of one site.
pub(crate) struct AssetServer {
    version: Arc<Version>,
    /// In the order of the manifest.
    assets: Vec<Asset>,
    files: Arc<dyn AssetFiles>,
    cache: FileCache,
    redirects: Redirects,
    headers: HeaderRules,
    /// The most slashes before the final one in the path of any `404.html`; `None`
    /// without such a file. Keeps the search for one short, whatever path is asked for.
    not_found_depth: Option<usize>,
}

struct Asset {
    etag: HeaderValue,
    content_type: HeaderValue,
    slot: Arc<Slot>,
}

/// What is asked for, with the parts of a request that matter here.
pub(crate) struct AssetRequest<'a> {
    pub(crate) method: &'a Method,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) target: &'a Target,
    /// Without port, in lower case.
    pub(crate) host: &'a str,
    /// `http://host:port` or `https://…`, made only for a redirect.
    pub(crate) origin: &'a dyn Fn() -> String,
}

/// A decided answer; its file, if any, is still to be read.
pub(crate) struct AssetAnswer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: AssetBody,
}

pub(crate) enum AssetBody {
    Bytes(Bytes),
    /// An index into the assets.
    File(usize),
}

impl AssetServer {
    pub(crate) fn new(
        version: Arc<Version>,
        files: Arc<dyn AssetFiles>,
        cache: FileCache,
        warnings: &mut Vec<RuleWarning>,
    ) -> Self {
        let (redirects, bad) = parse_redirects(version.redirects_file.as_deref().unwrap_or(""));
        warnings.extend(bad);
        let redirects = Redirects::compile(redirects, warnings);
        let (headers, bad) = parse_headers(version.headers_file.as_deref().unwrap_or(""));
        warnings.extend(bad);
        let headers = HeaderRules::compile(headers, warnings);
        let octets = HeaderValue::from_static("application/octet-stream");
        let assets = version
            .assets
            .entries
            .values()
            .map(|entry| Asset {
                etag: HeaderValue::try_from(format!("\"{}\"", entry.key))
                    .unwrap_or(HeaderValue::from_static("\"\"")),
                content_type: HeaderValue::from_str(&entry.content_type)
                    .unwrap_or_else(|_| octets.clone()),
                slot: Arc::default(),
            })
            .collect();
        let not_found_depth = version
            .assets
            .entries
            .keys()
            .filter_map(|path| path.strip_suffix("/404.html"))
            .map(|folder| folder.matches('/').count())
            .max();
        Self {
            version,
            assets,
            files,
            cache,
            redirects,
            headers,
            not_found_depth,
        }
    }

    /// Everything but the reading of a file.
    pub(crate) fn decide(&self, request: &AssetRequest<'_>) -> AssetAnswer {
        let mut answer = self.without_headers(request);
        if answer.status.is_server_error() {
            return answer;
        }
        let headers = &mut answer.headers;
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, ANY_ORIGIN);
        headers.insert(REFERRER_POLICY, STRICT_ORIGIN);
        if headers.contains_key(CONTENT_TYPE) {
            headers.insert(X_CONTENT_TYPE_OPTIONS, NOSNIFF);
        }
        self.headers
            .apply(request.target.path(), request.host, headers);
        if answer.status == StatusCode::NOT_FOUND {
            headers.insert(CACHE_CONTROL, NO_STORE);
        }
        if *request.method == Method::HEAD {
            let len_bytes = match &answer.body {
                AssetBody::Bytes(bytes) => bytes.len() as u64,
                AssetBody::File(index) => self.size_bytes(*index),
            };
            if answer.status != StatusCode::NOT_MODIFIED {
                headers.insert(CONTENT_LENGTH, len_bytes.into());
            }
            answer.body = AssetBody::Bytes(Bytes::new());
        }
        answer
    }

    fn without_headers(&self, request: &AssetRequest<'_>) -> AssetAnswer {
        let mut path = Cow::Borrowed(request.target.path());
        if !self.redirects.is_empty()
            && let Some((status, to)) = self.redirects.find(&path)
        {
            let base = format!("{}{}", (request.origin)(), request.target.path());
            let Ok(to) = Url::parse(&base).and_then(|base| base.join(&to)) else {
                // What a client filled in made no URL (`//`); upstream throws here.
                return self.not_found(&path, request);
            };
            if status != 200 {
                return redirect(status, &to, request);
            }
            path = Cow::Owned(to.path().to_owned());
        }
        if *request.method != Method::GET && *request.method != Method::HEAD {
            return AssetAnswer::empty(StatusCode::METHOD_NOT_ALLOWED);
        }
        let decoded = path::decode(&path);
        match self.lookup(&decoded) {
            Lookup::Serve(index) => self.serve(index, request),
            Lookup::Move(to) => moved(&to, request.target.search()),
            Lookup::Missing => self.not_found(&decoded, request),
        }
    }

    /// Which file a decoded path stands for (pages.md 1.2).
    fn lookup(&self, path: &str) -> Lookup {
        if let Some(bare) = path.strip_suffix('/') {
            return if let Some(index) = self.find(&[path, "index.html"]) {
                Lookup::Serve(index)
            } else if let Some(parent) = path.strip_suffix("index/").filter(|p| p.ends_with('/')) {
                Lookup::Move(parent.to_owned())
            } else if self.find(&[bare, ".html"]).is_some() {
                Lookup::Move(bare.to_owned())
            } else {
                Lookup::Missing
            };
        }
        if let Some(index) = self.find(&[path]) {
            let Some(bare) = path.strip_suffix(".html") else {
                return Lookup::Serve(index);
            };
            return if let Some(parent) = bare.strip_suffix("index").filter(|p| p.ends_with('/')) {
                Lookup::Move(parent.to_owned())
            } else if bare == "/" || self.find(&[bare]).is_some() {
                Lookup::Serve(index)
            } else {
                Lookup::Move(bare.to_owned())
            };
        }
        if let Some(parent) = path.strip_suffix("index").filter(|p| p.ends_with('/')) {
            Lookup::Move(parent.to_owned())
        } else if let Some(index) = self.find(&[path, ".html"]) {
            Lookup::Serve(index)
        } else if self.find(&[path, "/index.html"]).is_some() {
            Lookup::Move(format!("{path}/"))
        } else {
            Lookup::Missing
        }
    }

    /// The nearest `404.html`, else the page of a single-page application, else nothing.
    fn not_found(&self, path: &str, request: &AssetRequest<'_>) -> AssetAnswer {
        let candidates = self.not_found_depth.map_or(0, |depth| depth + 1);
        let slashes: Vec<usize> = path
            .match_indices('/')
            .map(|(at, _)| at)
            .take(candidates)
            .collect();
        for &slash in slashes.iter().rev() {
            let Some(index) = self.find(&[&path[..slash], "/404.html"]) else {
                continue;
            };
            if !accepts_identity(request.headers) {
                return AssetAnswer::empty(StatusCode::NOT_ACCEPTABLE);
            }
            let mut answer = AssetAnswer::empty(StatusCode::NOT_FOUND);
            answer
                .headers
                .insert(CONTENT_TYPE, self.assets[index].content_type.clone());
            answer.body = self.body(index);
            return answer;
        }
        match self.find(&["/index.html"]) {
            Some(index) => self.serve(index, request),
            None => AssetAnswer::empty(StatusCode::NOT_FOUND),
        }
    }

    fn serve(&self, index: usize, request: &AssetRequest<'_>) -> AssetAnswer {
        let asset = &self.assets[index];
        if !accepts_identity(request.headers) {
            return AssetAnswer::empty(StatusCode::NOT_ACCEPTABLE);
        }
        if let Some(known) = request.headers.get(IF_NONE_MATCH) {
            let known = known.as_bytes();
            let known = known.strip_prefix(b"W/").unwrap_or(known);
            // One whole text, no list, as upstream compares it.
            let is_single = request.headers.get_all(IF_NONE_MATCH).iter().count() == 1;
            if is_single && known == asset.etag.as_bytes() {
                return AssetAnswer::empty(StatusCode::NOT_MODIFIED);
            }
        }
        let mut answer = AssetAnswer::empty(StatusCode::OK);
        answer.headers.insert(ETAG, asset.etag.clone());
        answer
            .headers
            .insert(CONTENT_TYPE, asset.content_type.clone());
        if !request.headers.contains_key(AUTHORIZATION) && !request.headers.contains_key(RANGE) {
            answer.headers.insert(CACHE_CONTROL, REVALIDATE);
        }
        if request.host.ends_with(".pages.dev") && request.host.split('.').count() > 3 {
            answer.headers.insert(X_ROBOTS_TAG, NOINDEX);
        }
        answer.body = self.body(index);
        answer
    }

    fn body(&self, index: usize) -> AssetBody {
        match self.assets[index].slot.get() {
            Some(bytes) => AssetBody::Bytes(bytes),
            None => AssetBody::File(index),
        }
    }

    /// The asset at a path given in pieces. The pieces are joined on the stack where they
    /// are short, since most look-ups of a request miss.
    fn find(&self, pieces: &[&str]) -> Option<usize> {
        let entries = &self.version.assets.entries;
        if let [path] = pieces {
            return entries.get_index_of(*path);
        }
        let len = pieces.iter().map(|piece| piece.len()).sum::<usize>();
        let mut stack = [0_u8; 256];
        if let Some(joined) = stack.get_mut(..len) {
            let mut at = 0;
            for piece in pieces {
                joined[at..at + piece.len()].copy_from_slice(piece.as_bytes());
                at += piece.len();
            }
            let joined = std::str::from_utf8(joined).ok()?;
            return entries.get_index_of(joined);
        }
        entries.get_index_of(pieces.concat().as_str())
    }

    fn size_bytes(&self, index: usize) -> u64 {
        self.version
            .assets
            .entries
            .get_index(index)
            .map_or(0, |(_, entry)| entry.size_bytes)
    }

    /// Opens, and if small reads and keeps, the file of an asset.
    pub(crate) async fn load(&self, index: usize) -> io::Result<Body> {
        let Some((_, entry)) = self.version.assets.entries.get_index(index) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let size_bytes = entry.size_bytes;
        let key = Arc::clone(&entry.key);
        let files = Arc::clone(&self.files);
        let small = size_bytes <= CACHED_FILE_BYTES;
        let loaded = tokio::task::spawn_blocking(move || {
            let file = files.open(&key)?;
            if !small {
                return Ok((file, None));
            }
            let mut bytes = Vec::with_capacity(usize::try_from(size_bytes).unwrap_or(0));
            (&file).take(size_bytes + 1).read_to_end(&mut bytes)?;
            if bytes.len() as u64 != size_bytes {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("asset {key} does not have the {size_bytes} bytes that it should"),
                ));
            }
            Ok((file, Some(Bytes::from(bytes))))
        });
        let (file, bytes) = loaded.await.map_err(io::Error::other)??;
        let Some(bytes) = bytes else {
            return Ok(Body::file(file, size_bytes));
        };
        if !bytes.is_empty() {
            self.cache.insert(&self.assets[index].slot, bytes.clone());
        }
        Ok(Body::full(bytes))
    }

    /// Reads the file of an answer that needs one. What fails becomes an empty 500 without
    /// any of the headers.
    pub(crate) async fn finish(&self, answer: AssetAnswer) -> Response<Body> {
        match answer.body {
            AssetBody::Bytes(bytes) => assemble(answer.status, answer.headers, Body::full(bytes)),
            AssetBody::File(index) => match self.load(index).await {
                Ok(body) => assemble(answer.status, answer.headers, body),
                Err(error) => {
                    let path = self.version.assets.entries.get_index(index);
                    let path = path.map_or("", |(path, _)| path);
                    tracing::error!(%error, project = %self.version.project, path, "an asset could not be read");
                    assemble(
                        StatusCode::INTERNAL_SERVER_ERROR,
                        HeaderMap::new(),
                        Body::empty(),
                    )
                }
            },
        }
    }
}

enum Lookup {
    /// Serve this asset.
    Serve(usize),
    /// 308 to this decoded path.
    Move(String),
    Missing,
}

impl AssetAnswer {
    fn empty(status: StatusCode) -> Self {
        Self {
            status,
            headers: HeaderMap::with_capacity(12),
            body: AssetBody::Bytes(Bytes::new()),
        }
    }
}

pub(crate) fn assemble(status: StatusCode, headers: HeaderMap, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// The 308s that HTML handling makes.
fn moved(path: &str, search: &str) -> AssetAnswer {
    let mut answer = AssetAnswer::empty(StatusCode::PERMANENT_REDIRECT);
    if let Ok(location) = HeaderValue::try_from(path::location(path, search)) {
        answer.headers.insert(LOCATION, location);
    }
    answer
}

/// The redirects of `_redirects` (pages.md 3.5).
fn redirect(status: u16, to: &Url, request: &AssetRequest<'_>) -> AssetAnswer {
    let own_origin = Url::parse(&(request.origin)()).is_ok_and(|own| own.origin() == to.origin());
    let mut location = if own_origin {
        to.path().to_owned()
    } else {
        to[..url::Position::AfterPath].to_owned()
    };
    match to.query().filter(|query| !query.is_empty()) {
        Some(query) => {
            location.push('?');
            location.push_str(query);
        }
        None => location.push_str(request.target.search()),
    }
    if let Some(fragment) = to.fragment().filter(|fragment| !fragment.is_empty()) {
        location.push('#');
        location.push_str(fragment);
    }
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::FOUND);
    let mut answer = AssetAnswer::empty(status);
    if status != StatusCode::PERMANENT_REDIRECT {
        answer.headers.insert(CONTENT_TYPE, REDIRECT_TEXT);
        answer.body = AssetBody::Bytes(Bytes::from(format!("Redirecting to {location}")));
    }
    if let Ok(location) = HeaderValue::try_from(location) {
        answer.headers.insert(LOCATION, location);
    }
    answer
}

/// False if the client refuses an answer without an encoding.
fn accepts_identity(headers: &HeaderMap) -> bool {
    let refused = |wanted: &str| {
        let mut weight = None;
        for list in headers.get_all(ACCEPT_ENCODING) {
            let list = list.to_str().unwrap_or("");
            for item in list.split(',') {
                let mut parts = item.split(';');
                if parts.next().unwrap_or("").trim() == wanted {
                    let q = parts.find_map(|part| part.trim().strip_prefix("q="));
                    weight = Some(q.map_or(1.0, |q| q.trim().parse().unwrap_or(1.0)));
                }
            }
        }
        weight.map(|weight: f32| weight == 0.0)
    };
    let weighted = headers
        .get_all(ACCEPT_ENCODING)
        .iter()
        .any(|list| list.as_bytes().contains(&b';'));
    !weighted || !refused("identity").unwrap_or_else(|| refused("*").unwrap_or(false))
}
