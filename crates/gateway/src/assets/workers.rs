//! The static files of a Workers project (pages.md 12). miniflare: workers-shared
//! `asset-worker/src/handler.ts`; which requests come here `router-worker/src/worker.ts`.
//!
//! Where Pages answers every request, this server may have nothing to say
//! ([`AssetServer::workers`] gives `None`), and then the worker is asked.

use std::borrow::Cow;

use engawa_model::{AssetsConfig, HtmlHandling, NotFoundHandling, RunWorkerFirst};
use http::header::{AUTHORIZATION, CACHE_CONTROL, ETAG, LOCATION, RANGE};
use http::{HeaderName, HeaderValue, Method, StatusCode};

use super::{AssetRequest, AssetServer, Decided, REVALIDATE, Redirected, path};
use crate::routes::StaticRoutingMatcher;

const CF_CACHE_STATUS: HeaderName = HeaderName::from_static("cf-cache-status");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
/// Upstream's own measure of a hit is a read of at most 100 ms.
const HIT: HeaderValue = HeaderValue::from_static("HIT");

/// The settings of one project, ready to use.
#[derive(Default)]
pub(super) struct WorkersRules {
    config: AssetsConfig,
    routing: Option<StaticRoutingMatcher>,
}

impl WorkersRules {
    pub(super) fn new(config: AssetsConfig) -> Self {
        let routing = match &config.run_worker_first {
            RunWorkerFirst::Rules(rules) => Some(StaticRoutingMatcher::new(rules)),
            RunWorkerFirst::All(_) => None,
        };
        Self { config, routing }
    }
}

/// Where a file or a redirect leads a request.
enum Intent {
    Serve(usize, StatusCode),
    /// 307 to this decoded path.
    Move(String),
}

/// The answer of `env.ASSETS`, and of a project without a worker.
pub(super) fn decide(
    server: &AssetServer,
    rules: &WorkersRules,
    request: &AssetRequest<'_>,
) -> Decided {
    server
        .workers(rules, request, rules.config.not_found_handling)
        .unwrap_or_else(|| server.nothing(rules, request))
}

/// The answer to a visitor of a project that has a worker; `None` if that is to answer.
pub(super) fn before_worker(
    server: &AssetServer,
    rules: &WorkersRules,
    request: &AssetRequest<'_>,
) -> Option<Decided> {
    match (&rules.config.run_worker_first, &rules.routing) {
        (RunWorkerFirst::All(true), _) => return None,
        (_, Some(routing)) => match routing.decides(request.target.path()) {
            Some(true) => return None,
            Some(false) => return Some(decide(server, rules, request)),
            None => {}
        },
        _ => {}
    }
    let is_navigation = request
        .headers
        .get(SEC_FETCH_MODE)
        .is_some_and(|mode| mode.as_bytes() == b"navigate");
    let wanted = rules.config.not_found_handling;
    let keeps_not_found =
        rules.routing.is_some() || rules.config.navigation_prefers_assets && is_navigation;
    if keeps_not_found || wanted == NotFoundHandling::None {
        return server.workers(rules, request, wanted);
    }
    let found = server.workers(rules, request, NotFoundHandling::None)?;
    if found.status == StatusCode::NOT_FOUND {
        // A rewrite of `_redirects` to nothing: that is never the worker's.
        return Some(decide(server, rules, request));
    }
    Some(found)
}

impl AssetServer {
    fn workers(
        &self,
        rules: &WorkersRules,
        request: &AssetRequest<'_>,
        not_found: NotFoundHandling,
    ) -> Option<Decided> {
        let mut decided = self.workers_without_headers(rules, request, not_found)?;
        self.headers
            .apply(request.target.path(), request.host, &mut decided.headers);
        Some(decided)
    }

    /// The answer where nothing is: `_headers` apply to it too, though not beside
    /// `base_path`.
    fn nothing(&self, rules: &WorkersRules, request: &AssetRequest<'_>) -> Decided {
        let mut decided = Decided::empty(StatusCode::NOT_FOUND);
        let path = path::decode_segments(request.target.path());
        if below(&path, rules.config.base_path.as_str()).is_some() {
            self.headers
                .apply(request.target.path(), request.host, &mut decided.headers);
        }
        decided
    }

    fn workers_without_headers(
        &self,
        rules: &WorkersRules,
        request: &AssetRequest<'_>,
        not_found: NotFoundHandling,
    ) -> Option<Decided> {
        let base = rules.config.base_path.as_str();
        let asked = path::decode_segments(request.target.path());
        below(&asked, base)?;
        let (raw, decoded, is_rewritten) = match self.redirected(request) {
            None => (Cow::Borrowed(request.target.path()), asked, false),
            Some(Redirected::To(status, location)) => return Some(moved(status, &location)),
            Some(Redirected::Rewritten(to)) => {
                let decoded = path::decode_segments(&to).into_owned();
                (Cow::Owned(to), Cow::Owned(decoded), true)
            }
            Some(Redirected::NoUrl) => return Some(Decided::empty(StatusCode::NOT_FOUND)),
        };
        let handling = Handling {
            server: self,
            html: rules.config.html_handling,
            not_found,
        };
        let base_root = || {
            (!is_rewritten)
                .then(|| handling.base_root(&decoded, base))
                .flatten()
        };
        let intent = below(&decoded, base)
            .and_then(|path| base_root().or_else(|| handling.intent(path, false)));
        let Some(intent) = intent else {
            // What a rewrite claims is not the worker's.
            return is_rewritten.then(|| Decided::empty(StatusCode::NOT_FOUND));
        };
        if *request.method != Method::GET && *request.method != Method::HEAD {
            return Some(Decided::empty(StatusCode::METHOD_NOT_ALLOWED));
        }
        let (index, status) = match intent {
            Intent::Serve(index, status) if path::encode(&decoded) == raw => (index, status),
            other => {
                let to = match other {
                    Intent::Move(to) => path::encode(&above(&to, base)),
                    Intent::Serve(..) => path::encode(&decoded),
                };
                let location = to + request.target.search();
                return Some(moved(StatusCode::TEMPORARY_REDIRECT, &location));
            }
        };
        let etag = &self.assets[index].etag;
        let status = if request.knows(etag) {
            StatusCode::NOT_MODIFIED
        } else {
            status
        };
        let mut decided = Decided::of_asset(status, index);
        let headers = &mut decided.headers;
        headers.insert(ETAG, etag.clone());
        self.insert_content_type(headers, index);
        if !request.headers.contains_key(AUTHORIZATION) && !request.headers.contains_key(RANGE) {
            headers.insert(CACHE_CONTROL, REVALIDATE);
        }
        headers.insert(CF_CACHE_STATUS, HIT);
        Some(decided)
    }
}

/// How paths stand for files. What is a redirect in one form of a path and a file in the
/// other is the setting's choice; a redirect is made only where no file lies exactly at its
/// target and the target would serve the same content.
#[derive(Clone, Copy)]
struct Handling<'a> {
    server: &'a AssetServer,
    html: HtmlHandling,
    not_found: NotFoundHandling,
}

/// The forms of a path that HTML handling knows, with what is left without them.
enum Form<'p> {
    /// `/x/index`: `/x/`, `/x`.
    Index(&'p str, &'p str),
    /// `/x/index.html`: `/x/`, `/x`.
    IndexHtml(&'p str, &'p str),
    /// `/x/`: `/x`.
    Folder(&'p str),
    /// `/x.html`: `/x`.
    Html(&'p str),
    Other,
}

impl<'p> Form<'p> {
    fn of(path: &'p str) -> Self {
        let folder = |name: &str| {
            let folder = path.strip_suffix(name)?;
            Some((folder, folder.strip_suffix('/')?))
        };
        if let Some((folder, bare)) = folder("index") {
            Self::Index(folder, bare)
        } else if let Some((folder, bare)) = folder("index.html") {
            Self::IndexHtml(folder, bare)
        } else if let Some(bare) = path.strip_suffix('/') {
            Self::Folder(bare)
        } else if let Some(bare) = path.strip_suffix(".html") {
            Self::Html(bare)
        } else {
            Self::Other
        }
    }
}

impl Handling<'_> {
    fn intent(self, path: &str, no_redirects: bool) -> Option<Intent> {
        let exact = self.server.find(&[path]);
        let found = match self.html {
            HtmlHandling::AutoTrailingSlash => self.auto(path, exact, no_redirects),
            HtmlHandling::ForceTrailingSlash => self.force(path, exact, no_redirects),
            HtmlHandling::DropTrailingSlash => self.drop(path, exact, no_redirects),
            HtmlHandling::None => exact.map(ok),
        };
        found.or_else(|| self.not_found(path))
    }

    fn auto(self, path: &str, exact: Option<usize>, no_redirects: bool) -> Option<Intent> {
        let server = self.server;
        let to = |file: &[&str], to: &str| self.redirect(file, to, no_redirects);
        let by_form = match Form::of(path) {
            Form::Index(folder, bare) if exact.is_none() => {
                to(&[path, ".html"], folder).or_else(|| to(&[bare, ".html"], bare))
            }
            Form::IndexHtml(folder, bare) => {
                to(&[path], folder).or_else(|| to(&[bare, ".html"], bare))
            }
            Form::Folder(bare) => server
                .find(&[path, "index.html"])
                .map(ok)
                .or_else(|| to(&[bare, ".html"], bare)),
            Form::Html(bare) => {
                to(&[path], bare).or_else(|| to(&[bare, "/index.html"], &format!("{bare}/")))
            }
            Form::Index(..) | Form::Other => None,
        };
        by_form
            .or_else(|| exact.map(ok))
            .or_else(|| server.find(&[path, ".html"]).map(ok))
            .or_else(|| to(&[path, "/index.html"], &format!("{path}/")))
    }

    fn force(self, path: &str, exact: Option<usize>, no_redirects: bool) -> Option<Intent> {
        let server = self.server;
        let to = |file: &[&str], to: &str| self.redirect(file, to, no_redirects);
        let by_form = match Form::of(path) {
            Form::Index(folder, bare) if exact.is_none() => {
                to(&[path, ".html"], folder).or_else(|| to(&[bare, ".html"], folder))
            }
            Form::IndexHtml(folder, bare) => {
                to(&[path], folder).or_else(|| to(&[bare, ".html"], folder))
            }
            Form::Folder(bare) => server
                .find(&[path, "index.html"])
                .or_else(|| server.find(&[bare, ".html"]))
                .map(ok),
            Form::Html(bare) => to(&[path], &format!("{bare}/"))
                .or_else(|| exact.map(ok))
                .or_else(|| to(&[bare, "/index.html"], &format!("{bare}/"))),
            Form::Index(..) | Form::Other => None,
        };
        by_form
            .or_else(|| exact.map(ok))
            .or_else(|| to(&[path, ".html"], &format!("{path}/")))
            .or_else(|| to(&[path, "/index.html"], &format!("{path}/")))
    }

    fn drop(self, path: &str, exact: Option<usize>, no_redirects: bool) -> Option<Intent> {
        let server = self.server;
        let to = |file: &[&str], to: &str| self.redirect(file, to, no_redirects);
        let by_form = match Form::of(path) {
            // The slash of `/` stays.
            Form::Index("/", _) if exact.is_none() => to(&["/index.html"], "/"),
            Form::Index(_, bare) if exact.is_none() => {
                to(&[bare, ".html"], bare).or_else(|| to(&[path, ".html"], bare))
            }
            Form::IndexHtml("/", _) => to(&["/index.html"], "/"),
            Form::IndexHtml(_, bare) => to(&[path], bare)
                .or_else(|| exact.map(ok))
                .or_else(|| to(&[bare, ".html"], bare)),
            Form::Folder("") => server.find(&["/index.html"]).map(ok),
            Form::Folder(bare) => {
                to(&[bare, ".html"], bare).or_else(|| to(&[bare, "/index.html"], bare))
            }
            Form::Html(bare) => to(&[path], bare).or_else(|| to(&[bare, "/index.html"], bare)),
            Form::Index(..) | Form::Other => None,
        };
        by_form
            .or_else(|| exact.map(ok))
            .or_else(|| server.find(&[path, ".html"]).map(ok))
            .or_else(|| server.find(&[path, "/index.html"]).map(ok))
    }

    fn redirect(self, file: &[&str], to: &str, no_redirects: bool) -> Option<Intent> {
        if no_redirects {
            return None;
        }
        let wanted = self.server.find(file)?;
        if self.server.find(&[to]).is_some() {
            return None;
        }
        match self.intent(to, true)? {
            Intent::Serve(index, _) if self.server.is_same_content(index, wanted) => {
                Some(Intent::Move(to.to_owned()))
            }
            _ => None,
        }
    }

    fn not_found(self, path: &str) -> Option<Intent> {
        match self.not_found {
            NotFoundHandling::None => None,
            NotFoundHandling::SinglePageApplication => self.server.find(&["/index.html"]).map(ok),
            NotFoundHandling::NotFoundPage => self
                .server
                .nearest_not_found_page(path)
                .map(|index| Intent::Serve(index, StatusCode::NOT_FOUND)),
        }
    }

    /// The path of `base_path` itself, with or without its slash, as the setting wants it.
    fn base_root(self, path: &str, base: &str) -> Option<Intent> {
        let to = match self.html {
            _ if base == "/" => return None,
            HtmlHandling::AutoTrailingSlash | HtmlHandling::ForceTrailingSlash
                if base.strip_suffix('/') == Some(path) =>
            {
                "/"
            }
            HtmlHandling::DropTrailingSlash if path == base => "",
            _ => return None,
        };
        self.server.find(&["/index.html"])?;
        Some(Intent::Move(to.to_owned()))
    }
}

fn ok(index: usize) -> Intent {
    Intent::Serve(index, StatusCode::OK)
}

fn moved(status: StatusCode, location: &str) -> Decided {
    let mut decided = Decided::empty(status);
    if let Ok(location) = HeaderValue::try_from(location) {
        decided.headers.insert(LOCATION, location);
    }
    decided
}

/// A path as it is below `base_path`; `None` if it lies elsewhere.
fn below<'p>(path: &'p str, base: &str) -> Option<&'p str> {
    if base == "/" {
        return Some(path);
    }
    let bare = &base[..base.len() - 1];
    match path.strip_prefix(bare)? {
        "" => Some("/"),
        rest => rest.starts_with('/').then_some(rest),
    }
}

/// The reverse.
fn above(path: &str, base: &str) -> String {
    match (path, base) {
        (path, "/") => path.to_owned(),
        ("/", base) => base.to_owned(),
        (path, base) => format!("{}{path}", &base[..base.len() - 1]),
    }
}
