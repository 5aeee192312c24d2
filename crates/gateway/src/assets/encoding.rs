//! Which form of a file a client gets (pages.md 8.4; RFC 9110, 12.5.3).

use engawa_model::{EncodedSizes, Encoding};
use http::HeaderMap;
use http::header::ACCEPT_ENCODING;

/// The shortest file that is worth encoding: Brotli's and Zstandard's bound (docs:
/// compression; gzip's is 48).
pub const ENCODED_MIN_BYTES: u64 = 50;

/// Whether files of a content type are kept precompressed: the types that Cloudflare
/// compresses (docs: compression).
pub fn is_compressible(content_type: &str) -> bool {
    let end = content_type.find(';').unwrap_or(content_type.len());
    COMPRESSIBLE.contains(&content_type[..end].trim_end())
}

/// The form that a client wants most, of those that there are. Among equals ours are taken
/// in the order of [`Encoding::ALL`], and the plain file last.
pub(super) fn preferred(headers: &HeaderMap, sizes: &EncodedSizes) -> Option<Encoding> {
    let accepted = Accepted::of(headers);
    let mut best: Option<(Encoding, f32)> = None;
    for encoding in Encoding::ALL {
        if sizes.size_bytes(encoding).is_none() {
            continue;
        }
        let weight = accepted.weight(encoding.token());
        if weight > 0.0 && best.is_none_or(|(_, than)| weight > than) {
            best = Some((encoding, weight));
        }
    }
    let plain = accepted.named("identity").unwrap_or(0.0);
    best.filter(|(_, weight)| *weight >= plain)
        .map(|(encoding, _)| encoding)
}

/// False if the client refuses an answer without an encoding.
pub(super) fn accepts_identity(headers: &HeaderMap) -> bool {
    let accepted = Accepted::of(headers);
    let weight = accepted.named("identity").or_else(|| accepted.named("*"));
    // `*` of full weight is no refusal; only `q=0` is one.
    weight.is_none_or(|weight| weight > 0.0)
}

/// `Accept-Encoding`, however many lines it has.
struct Accepted<'a>(&'a HeaderMap);

impl<'a> Accepted<'a> {
    fn of(headers: &'a HeaderMap) -> Self {
        Self(headers)
    }

    /// What a coding weighs that is named or covered by `*`; 0 if it is not accepted.
    fn weight(&self, coding: &str) -> f32 {
        self.named(coding)
            .or_else(|| self.named("*"))
            .unwrap_or(0.0)
    }

    /// The last weight that is given for a name.
    fn named(&self, wanted: &str) -> Option<f32> {
        let lists = self.0.get_all(ACCEPT_ENCODING).iter();
        lists
            .filter_map(|list| list.to_str().ok())
            .flat_map(|list| list.split(','))
            .filter_map(|item| {
                let (name, parameters) = item.split_once(';').unwrap_or((item, ""));
                let name = name.trim();
                let name = name.strip_prefix("x-").unwrap_or(name);
                name.eq_ignore_ascii_case(wanted).then(|| {
                    let weight = parameters.split(';').find_map(|parameter| {
                        let parameter = parameter.trim();
                        parameter
                            .strip_prefix("q=")
                            .or_else(|| parameter.strip_prefix("Q="))
                    });
                    // What is no number counts as if it was not there, as upstream has it.
                    weight.map_or(1.0, |weight| weight.trim().parse().unwrap_or(1.0))
                })
            })
            .next_back()
    }
}

const COMPRESSIBLE: [&str; 47] = [
    "text/html",
    "text/richtext",
    "text/plain",
    "text/css",
    "text/x-script",
    "text/x-component",
    "text/x-java-source",
    "text/x-markdown",
    "application/javascript",
    "application/x-javascript",
    "text/javascript",
    "text/js",
    "image/x-icon",
    "image/vnd.microsoft.icon",
    "application/x-perl",
    "application/x-httpd-cgi",
    "text/xml",
    "application/xml",
    "application/rss+xml",
    "application/vnd.api+json",
    "application/x-protobuf",
    "application/json",
    "multipart/bag",
    "multipart/mixed",
    "application/xhtml+xml",
    "font/ttf",
    "font/otf",
    "font/x-woff",
    "image/svg+xml",
    "application/vnd.ms-fontobject",
    "application/ttf",
    "application/x-ttf",
    "application/otf",
    "application/x-otf",
    "application/truetype",
    "application/opentype",
    "application/x-opentype",
    "application/font-woff",
    "application/eot",
    "application/font",
    "application/font-sfnt",
    "application/wasm",
    "application/javascript-binast",
    "application/manifest+json",
    "application/ld+json",
    "application/graphql+json",
    "application/geo+json",
];
