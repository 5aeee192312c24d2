//! The path and query of a request, as a browser's URL parser would have them.

use std::borrow::Cow;

use http::Uri;
use percent_encoding::percent_decode_str;
use url::Url;

/// A request's target after WHATWG normalisation: dot segments resolved, backslashes
/// turned, escapes left alone. "Raw path" means this; every rule that looks at a path sees
/// the same one, and the worker is sent it too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    text: Text,
    path_len: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Text {
    /// Nothing to normalise: the request's own.
    Same(Uri),
    Changed(String),
}

impl Target {
    pub(crate) fn of(uri: &Uri) -> Self {
        let text = uri.path_and_query().map_or("/", |target| target.as_str());
        let text = if text.starts_with('/') { text } else { "/" };
        let path_len = text.find('?').unwrap_or(text.len());
        if is_normal(&text[..path_len], &text[path_len..]) {
            return Self {
                text: Text::Same(uri.clone()),
                path_len,
            };
        }
        // A path cannot make the URL invalid; the default is for the compiler.
        let normal = Url::parse(&format!("http://x{text}")).map_or_else(
            |_| "/".to_owned(),
            |url| url[url::Position::BeforePath..url::Position::AfterQuery].to_owned(),
        );
        Self {
            path_len: normal.find('?').unwrap_or(normal.len()),
            text: Text::Changed(normal),
        }
    }

    /// Path and query.
    pub(crate) fn as_str(&self) -> &str {
        match &self.text {
            Text::Same(uri) => match uri.path_and_query() {
                Some(target) if target.as_str().starts_with('/') => target.as_str(),
                _ => "/",
            },
            Text::Changed(text) => text,
        }
    }

    /// The raw path.
    pub(crate) fn path(&self) -> &str {
        &self.as_str()[..self.path_len]
    }

    /// The query with its `?`, or nothing if it is empty.
    pub(crate) fn search(&self) -> &str {
        let search = &self.as_str()[self.path_len..];
        if search == "?" { "" } else { search }
    }

    /// Whether the request's own spelling is normal already.
    pub(crate) fn changed(&self) -> Option<&str> {
        match &self.text {
            Text::Same(_) => None,
            Text::Changed(text) => Some(text),
        }
    }
}

/// Whether the URL parser would leave all of it alone. Errs on the side of "no".
fn is_normal(path: &str, search: &str) -> bool {
    let mut previous = [0, 0];
    for &byte in path.as_bytes() {
        let special = match byte {
            // `/.` may begin a dot segment, `%2e` may be a dot.
            b'.' => previous[1] == b'/',
            b'e' | b'E' => previous == *b"%2",
            b'\\' | b'^' | b'`' | b'{' | b'}' | b'"' | b'<' | b'>' | b'#' | b' ' => true,
            _ => !byte.is_ascii_graphic(),
        };
        if special {
            return false;
        }
        previous = [previous[1], byte];
    }
    path.starts_with('/')
        && search.bytes().all(|byte| {
            byte.is_ascii_graphic() && !matches!(byte, b'"' | b'<' | b'>' | b'\'' | b'#')
        })
}

/// JavaScript's `decodeURIComponent`, or the text itself where that would throw.
pub(crate) fn decode(path: &str) -> Cow<'_, str> {
    if !path.contains('%') {
        return Cow::Borrowed(path);
    }
    let well_formed = path.match_indices('%').all(|(at, _)| {
        let digits = path.as_bytes().get(at + 1..at + 3);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    });
    if !well_formed {
        return Cow::Borrowed(path);
    }
    match percent_decode_str(path).decode_utf8() {
        Ok(decoded) => Cow::Owned(decoded.into_owned()),
        Err(_) => Cow::Borrowed(path),
    }
}

/// Each segment through [`decode`], and a run of slashes made one, whatever made it
/// (miniflare: workers-shared `handler.ts`).
pub(crate) fn decode_segments(path: &str) -> Cow<'_, str> {
    if !path.contains('%') && !path.contains("//") {
        return Cow::Borrowed(path);
    }
    let mut decoded = String::with_capacity(path.len());
    for (index, segment) in path.split('/').enumerate() {
        if index > 0 {
            decoded.push('/');
        }
        decoded.push_str(&decode(segment));
    }
    let mut previous = '\0';
    decoded.retain(|c| {
        let repeated = c == '/' && previous == '/';
        previous = c;
        !repeated
    });
    Cow::Owned(decoded)
}

/// Each segment through `encodeURIComponent`.
pub(crate) fn encode(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len());
    for (index, segment) in path.split('/').enumerate() {
        if index > 0 {
            encoded.push('/');
        }
        encoded.extend(percent_encoding::utf8_percent_encode(segment, COMPONENT));
    }
    encoded
}

/// A decoded path as it stands in `Location`: each segment through `encodeURIComponent`
/// (pages-shared 0.13.181 and newer), a leading run of slashes of any spelling made one.
pub(crate) fn location(path: &str, search: &str) -> String {
    let encoded = encode(path);
    let mut rest = encoded.as_str();
    loop {
        let stripped = ["/", "\\", "%2F", "%2f", "%5C", "%5c", "%09"]
            .iter()
            .find_map(|run| rest.strip_prefix(run));
        match stripped.or_else(|| rest.strip_prefix(super::rules::is_space)) {
            Some(stripped) => rest = stripped,
            None => return format!("/{rest}{search}"),
        }
    }
}

/// What `encodeURIComponent` encodes.
const COMPONENT: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'!')
    .remove(b'~')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')');
