//! The static files of a site, by the rules of Cloudflare Pages (pages.md 1 to 3) or of
//! Workers (pages.md 12).
//!
//! A request is decided in one pass without waiting ([`AssetServer::decide`]): redirects,
//! method, the file or the redirect that its path stands for, the 404 page, headers. That
//! is [`pages`]' or [`workers`]' part. What follows is the same for both: which form of the
//! file is sent ([`encoding`]), and from where. Only then may a file have to be read, and
//! that not if it is small and was asked for lately. The same code answers visitors and a
//! worker's `env.ASSETS`.

mod cache;
mod encoding;
mod headers;
mod pages;
mod path;
mod redirects;
mod rules;
mod workers;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use engawa_model::{EncodedSizes, Encoding, HtmlHandling, ProjectKind, Version};
use http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_NONE_MATCH, RANGE, VARY,
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use url::Url;

pub use cache::FileCache;
pub use encoding::{ENCODED_MIN_BYTES, is_compressible};
pub use headers::{HeadersRule, parse_headers};
pub(crate) use path::Target;
pub use redirects::{RedirectRule, parse_redirects};
pub use rules::RuleWarning;

use crate::body::Body;
use cache::{CACHED_FILE_BYTES, Slot};
use headers::HeaderRules;
use redirects::Redirects;
use workers::WorkersRules;

const REVALIDATE: HeaderValue = HeaderValue::from_static("public, max-age=0, must-revalidate");
const VARY_ENCODING: HeaderValue = HeaderValue::from_static("Accept-Encoding");

/// Where the bytes of a site's assets lie. Both are called on a thread where blocking is
/// fine.
pub trait AssetFiles: Send + Sync + 'static {
    /// Opens the file of an asset key.
    fn open(&self, key: &str) -> io::Result<File>;

    /// Opens a precompressed form of it that [`crate::Site::add_encoded`] was told of. The
    /// form begins at the file's position.
    fn open_encoded(&self, key: &str, encoding: Encoding) -> io::Result<File>;
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
    /// `None` for Pages.
    workers: Option<WorkersRules>,
}

struct Asset {
    etag: HeaderValue,
    content_type: Option<HeaderValue>,
    slot: Arc<Slot>,
    /// Whether there may be precompressed forms, now or later: then answers vary.
    may_be_encoded: bool,
    encoded: OnceLock<Box<Encoded>>,
}

/// The precompressed forms of an asset.
struct Encoded {
    sizes: EncodedSizes,
    slots: [Arc<Slot>; 3],
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
    /// Whether the host is a preview's own, which search engines are to leave out.
    pub(crate) is_preview_host: bool,
    /// Whether a precompressed form will do. Not for a worker: its runtime may name
    /// encodings that the visitor behind it does not take.
    pub(crate) may_encode: bool,
}

impl AssetRequest<'_> {
    /// Whether `If-None-Match` names this tag, compared as one whole text, no list, as
    /// upstream does.
    fn knows(&self, etag: &HeaderValue) -> bool {
        let mut known = self.headers.get_all(IF_NONE_MATCH).iter();
        let (Some(only), None) = (known.next(), known.next()) else {
            return false;
        };
        let only = only.as_bytes();
        only.strip_prefix(b"W/").unwrap_or(only) == etag.as_bytes()
    }
}

/// A decided answer; its file, if any, is still to be read.
pub(crate) struct AssetAnswer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: AssetBody,
}

pub(crate) enum AssetBody {
    Bytes(Bytes),
    File(AssetForm),
}

/// An index into the assets, and which form of that asset.
#[derive(Clone, Copy)]
pub(crate) struct AssetForm {
    index: usize,
    encoding: Option<Encoding>,
}

/// An answer before the form of its file is chosen.
struct Decided {
    status: StatusCode,
    headers: HeaderMap,
    /// The file that is sent or, with 304, would be.
    asset: Option<usize>,
    /// The body of an answer without a file.
    text: Bytes,
}

impl Decided {
    fn empty(status: StatusCode) -> Self {
        Self {
            status,
            headers: HeaderMap::with_capacity(12),
            asset: None,
            text: Bytes::new(),
        }
    }

    fn of_asset(status: StatusCode, index: usize) -> Self {
        Self {
            asset: Some(index),
            ..Self::empty(status)
        }
    }
}

/// What `_redirects` makes of a request.
enum Redirected {
    /// A redirect to this `Location`.
    To(StatusCode, String),
    /// A 200: another path, still encoded, is served.
    Rewritten(String),
    /// What a client filled in made no URL (`//`).
    NoUrl,
}

impl AssetServer {
    pub(crate) fn new(
        version: Arc<Version>,
        files: Arc<dyn AssetFiles>,
        cache: FileCache,
        warnings: &mut Vec<RuleWarning>,
    ) -> Self {
        let config = version.assets_config.clone().unwrap_or_default();
        let html_handling = match version.kind {
            ProjectKind::Pages => HtmlHandling::default(),
            ProjectKind::Workers => config.html_handling,
        };
        let (redirects, bad) = parse_redirects(
            version.redirects_file.as_deref().unwrap_or(""),
            html_handling,
        );
        warnings.extend(bad);
        let redirects = Redirects::compile(redirects, warnings);
        let (headers, bad) = parse_headers(version.headers_file.as_deref().unwrap_or(""));
        warnings.extend(bad);
        let headers = HeaderRules::compile(headers, warnings);
        let assets = version
            .assets
            .entries
            .values()
            .map(|entry| Asset {
                etag: HeaderValue::try_from(format!("\"{}\"", entry.key))
                    .unwrap_or(HeaderValue::from_static("\"\"")),
                content_type: entry
                    .content_type
                    .as_deref()
                    .and_then(|text| HeaderValue::from_str(text).ok()),
                slot: Arc::default(),
                may_be_encoded: entry.size_bytes >= ENCODED_MIN_BYTES
                    && entry.content_type.as_deref().is_some_and(is_compressible),
                encoded: OnceLock::new(),
            })
            .collect();
        let not_found_depth = version
            .assets
            .entries
            .keys()
            .filter_map(|path| path.strip_suffix("/404.html"))
            .map(|folder| folder.matches('/').count())
            .max();
        let workers = (version.kind == ProjectKind::Workers).then(|| WorkersRules::new(config));
        Self {
            version,
            assets,
            files,
            cache,
            redirects,
            headers,
            not_found_depth,
            workers,
        }
    }

    /// Everything but the reading of a file.
    pub(crate) fn decide(&self, request: &AssetRequest<'_>) -> AssetAnswer {
        let decided = match &self.workers {
            Some(rules) => workers::decide(self, rules, request),
            None => pages::decide(self, request),
        };
        self.complete(request, decided)
    }

    /// The same for a visitor of a Workers project that has a worker; `None` if that is to
    /// answer.
    pub(crate) fn decide_before_worker(&self, request: &AssetRequest<'_>) -> Option<AssetAnswer> {
        let rules = self.workers.as_ref()?;
        let decided = workers::before_worker(self, rules, request)?;
        Some(self.complete(request, decided))
    }

    /// Tells which precompressed forms there are, by asset key. What is known already
    /// stays.
    pub(crate) fn add_encoded(&self, forms: &HashMap<Arc<str>, EncodedSizes>) {
        for (asset, entry) in self.assets.iter().zip(self.version.assets.entries.values()) {
            if let Some(sizes) = forms.get(&entry.key).filter(|_| asset.may_be_encoded) {
                asset.encoded.get_or_init(|| {
                    Box::new(Encoded {
                        sizes: *sizes,
                        slots: Default::default(),
                    })
                });
            }
        }
    }

    /// Chooses the form of the file, and takes it from memory if it is there.
    fn complete(&self, request: &AssetRequest<'_>, decided: Decided) -> AssetAnswer {
        let Decided {
            status,
            mut headers,
            asset,
            text,
        } = decided;
        let mut body = AssetBody::Bytes(text);
        if let Some(index) = asset {
            let form = AssetForm {
                index,
                encoding: self.encode(index, request, status, &mut headers),
            };
            if status != StatusCode::NOT_MODIFIED {
                body = match self.slot(form).get() {
                    Some(bytes) => AssetBody::Bytes(bytes),
                    None => AssetBody::File(form),
                };
            }
        }
        if *request.method == Method::HEAD {
            let len_bytes = match &body {
                AssetBody::Bytes(bytes) => bytes.len() as u64,
                AssetBody::File(form) => self.size_bytes(*form),
            };
            if status != StatusCode::NOT_MODIFIED {
                headers.insert(CONTENT_LENGTH, len_bytes.into());
            }
            body = AssetBody::Bytes(Bytes::new());
        }
        AssetAnswer {
            status,
            headers,
            body,
        }
    }

    /// The encoding that is sent, with the headers that follow from it. `Vary` is there
    /// also where the plain file is sent, for caches.
    fn encode(
        &self,
        index: usize,
        request: &AssetRequest<'_>,
        status: StatusCode,
        headers: &mut HeaderMap,
    ) -> Option<Encoding> {
        let asset = &self.assets[index];
        // `_headers` may have said that the file is encoded already, or must stay as it is.
        if !request.may_encode
            || !asset.may_be_encoded
            || headers.contains_key(CONTENT_ENCODING)
            || has_word(headers, CACHE_CONTROL, "no-transform")
        {
            return None;
        }
        if !has_word(headers, VARY, "accept-encoding") && !has_word(headers, VARY, "*") {
            headers.append(VARY, VARY_ENCODING);
        }
        if request.headers.contains_key(RANGE) {
            return None;
        }
        let sizes = &asset.encoded.get()?.sizes;
        let encoding = encoding::preferred(request.headers, sizes)?;
        if let Some(etag) = headers.get(ETAG)
            && etag.as_bytes().starts_with(b"\"")
            && let Ok(weak) = HeaderValue::from_bytes(&[b"W/", etag.as_bytes()].concat())
        {
            headers.insert(ETAG, weak);
        }
        if status != StatusCode::NOT_MODIFIED {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding.token()));
        }
        Some(encoding)
    }

    /// What `_redirects` makes of a request; `None` if no rule matches.
    fn redirected(&self, request: &AssetRequest<'_>) -> Option<Redirected> {
        if self.redirects.is_empty() {
            return None;
        }
        let (status, to) = self.redirects.find(request.target.path())?;
        let origin = (request.origin)();
        let base = format!("{origin}{}", request.target.path());
        let Ok(to) = Url::parse(&base).and_then(|base| base.join(&to)) else {
            return Some(Redirected::NoUrl);
        };
        Some(match StatusCode::from_u16(status) {
            Ok(StatusCode::OK) => Redirected::Rewritten(to.path().to_owned()),
            status => Redirected::To(
                status.unwrap_or(StatusCode::FOUND),
                location(&to, &origin, request.target.search()),
            ),
        })
    }

    /// The nearest `404.html`, beside the last part of a decoded path or above.
    fn nearest_not_found_page(&self, path: &str) -> Option<usize> {
        let candidates = self.not_found_depth? + 1;
        let slashes: Vec<usize> = path
            .match_indices('/')
            .map(|(at, _)| at)
            .take(candidates)
            .collect();
        slashes
            .iter()
            .rev()
            .find_map(|&slash| self.find(&[&path[..slash], "/404.html"]))
    }

    fn insert_content_type(&self, headers: &mut HeaderMap, index: usize) {
        if let Some(content_type) = &self.assets[index].content_type {
            headers.insert(CONTENT_TYPE, content_type.clone());
        }
    }

    fn is_same_content(&self, one: usize, other: usize) -> bool {
        one == other || self.assets[one].etag == self.assets[other].etag
    }

    fn slot(&self, form: AssetForm) -> &Arc<Slot> {
        let asset = &self.assets[form.index];
        match (form.encoding, asset.encoded.get()) {
            (Some(encoding), Some(encoded)) => &encoded.slots[encoding as usize],
            _ => &asset.slot,
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

    fn size_bytes(&self, form: AssetForm) -> u64 {
        let encoded = form.encoding.and_then(|encoding| {
            let encoded = self.assets[form.index].encoded.get()?;
            encoded.sizes.size_bytes(encoding)
        });
        let plain = self.version.assets.entries.get_index(form.index);
        encoded.unwrap_or_else(|| plain.map_or(0, |(_, entry)| entry.size_bytes))
    }

    /// Opens, and if small reads and keeps, the file of an asset.
    async fn load(&self, form: AssetForm) -> io::Result<Body> {
        let Some((_, entry)) = self.version.assets.entries.get_index(form.index) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let size_bytes = self.size_bytes(form);
        let key = Arc::clone(&entry.key);
        let files = Arc::clone(&self.files);
        let small = size_bytes <= CACHED_FILE_BYTES;
        let loaded = tokio::task::spawn_blocking(move || {
            let file = match form.encoding {
                Some(encoding) => files.open_encoded(&key, encoding)?,
                None => files.open(&key)?,
            };
            if !small {
                return Ok((file, None));
            }
            // A plain file must end where its asset does; after a form other forms follow.
            let limit_bytes = size_bytes + u64::from(form.encoding.is_none());
            let mut bytes = Vec::with_capacity(usize::try_from(limit_bytes).unwrap_or(0));
            (&file).take(limit_bytes).read_to_end(&mut bytes)?;
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
            self.cache.insert(self.slot(form), bytes.clone());
        }
        Ok(Body::full(bytes))
    }

    /// Reads the file of an answer that needs one. What fails becomes an empty 500 without
    /// any of the headers.
    pub(crate) async fn finish(&self, answer: AssetAnswer) -> Response<Body> {
        match answer.body {
            AssetBody::Bytes(bytes) => assemble(answer.status, answer.headers, Body::full(bytes)),
            AssetBody::File(form) => match self.load(form).await {
                Ok(body) => assemble(answer.status, answer.headers, body),
                Err(error) => {
                    let path = self.version.assets.entries.get_index(form.index);
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

pub(crate) fn assemble(status: StatusCode, headers: HeaderMap, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// `Location` of a redirect (pages.md 3.5): without the host if it is the request's own,
/// with the request's query if the target has none.
fn location(to: &Url, origin: &str, search: &str) -> String {
    let is_own = Url::parse(origin).is_ok_and(|own| own.origin() == to.origin());
    let mut location = if is_own {
        to.path().to_owned()
    } else {
        to[..url::Position::AfterPath].to_owned()
    };
    match to.query().filter(|query| !query.is_empty()) {
        Some(query) => {
            location.push('?');
            location.push_str(query);
        }
        None => location.push_str(search),
    }
    if let Some(fragment) = to.fragment().filter(|fragment| !fragment.is_empty()) {
        location.push('#');
        location.push_str(fragment);
    }
    location
}

/// Whether a header, read as a list, has a word in any case.
fn has_word(headers: &HeaderMap, name: http::HeaderName, word: &str) -> bool {
    headers.get_all(name).iter().any(|value| {
        let mut words = value.as_bytes().split(|byte| *byte == b',');
        words.any(|given| given.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
    })
}
