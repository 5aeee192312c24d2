//! The asset server of Pages (pages.md 1). miniflare: pages-shared
//! `asset-server/handler.ts`.

use std::borrow::Cow;

use http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, ETAG, LOCATION, RANGE,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderName, HeaderValue, Method, StatusCode};

use super::encoding::accepts_identity;
use super::{AssetRequest, AssetServer, Decided, REVALIDATE, Redirected, path};

const X_ROBOTS_TAG: HeaderName = HeaderName::from_static("x-robots-tag");
const ANY_ORIGIN: HeaderValue = HeaderValue::from_static("*");
const STRICT_ORIGIN: HeaderValue = HeaderValue::from_static("strict-origin-when-cross-origin");
const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const NOINDEX: HeaderValue = HeaderValue::from_static("noindex");
const REDIRECT_TEXT: HeaderValue = HeaderValue::from_static("text/plain;charset=UTF-8");

/// The answer with its headers, those of `_headers` included.
pub(super) fn decide(server: &AssetServer, request: &AssetRequest<'_>) -> Decided {
    let mut decided = server.without_headers(request);
    let headers = &mut decided.headers;
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, ANY_ORIGIN);
    headers.insert(REFERRER_POLICY, STRICT_ORIGIN);
    if headers.contains_key(CONTENT_TYPE) {
        headers.insert(X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    }
    server
        .headers
        .apply(request.target.path(), request.host, headers);
    if decided.status == StatusCode::NOT_FOUND {
        headers.insert(CACHE_CONTROL, NO_STORE);
    }
    decided
}

impl AssetServer {
    fn without_headers(&self, request: &AssetRequest<'_>) -> Decided {
        let mut path = Cow::Borrowed(request.target.path());
        match self.redirected(request) {
            None => {}
            Some(Redirected::To(status, location)) => return redirect(status, location),
            Some(Redirected::Rewritten(to)) => path = Cow::Owned(to),
            // Upstream throws here.
            Some(Redirected::NoUrl) => return self.not_found(&path, request),
        }
        if *request.method != Method::GET && *request.method != Method::HEAD {
            return Decided::empty(StatusCode::METHOD_NOT_ALLOWED);
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
    fn not_found(&self, path: &str, request: &AssetRequest<'_>) -> Decided {
        if let Some(index) = self.nearest_not_found_page(path) {
            if !accepts_identity(request.headers) {
                return Decided::empty(StatusCode::NOT_ACCEPTABLE);
            }
            let mut decided = Decided::of_asset(StatusCode::NOT_FOUND, index);
            self.insert_content_type(&mut decided.headers, index);
            return decided;
        }
        match self.find(&["/index.html"]) {
            Some(index) => self.serve(index, request),
            None => Decided::empty(StatusCode::NOT_FOUND),
        }
    }

    fn serve(&self, index: usize, request: &AssetRequest<'_>) -> Decided {
        if !accepts_identity(request.headers) {
            return Decided::empty(StatusCode::NOT_ACCEPTABLE);
        }
        let etag = &self.assets[index].etag;
        if request.knows(etag) {
            return Decided::of_asset(StatusCode::NOT_MODIFIED, index);
        }
        let mut decided = Decided::of_asset(StatusCode::OK, index);
        let headers = &mut decided.headers;
        headers.insert(ETAG, etag.clone());
        self.insert_content_type(headers, index);
        if !request.headers.contains_key(AUTHORIZATION) && !request.headers.contains_key(RANGE) {
            headers.insert(CACHE_CONTROL, REVALIDATE);
        }
        if request.is_preview_host {
            headers.insert(X_ROBOTS_TAG, NOINDEX);
        }
        decided
    }
}

enum Lookup {
    /// Serve this asset.
    Serve(usize),
    /// 308 to this decoded path.
    Move(String),
    Missing,
}

/// The 308s that HTML handling makes.
fn moved(path: &str, search: &str) -> Decided {
    let mut decided = Decided::empty(StatusCode::PERMANENT_REDIRECT);
    if let Ok(location) = HeaderValue::try_from(path::location(path, search)) {
        decided.headers.insert(LOCATION, location);
    }
    decided
}

/// The redirects of `_redirects` (pages.md 3.5).
fn redirect(status: StatusCode, location: String) -> Decided {
    let mut decided = Decided::empty(status);
    if status != StatusCode::PERMANENT_REDIRECT {
        decided.headers.insert(CONTENT_TYPE, REDIRECT_TEXT);
        decided.text = format!("Redirecting to {location}").into();
    }
    if let Ok(location) = HeaderValue::try_from(location) {
        decided.headers.insert(LOCATION, location);
    }
    decided
}
