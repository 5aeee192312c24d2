//! What `_headers` and `_redirects` share: how a line is read and how a pattern matches.
//!
//! Cloudflare turns a pattern into a JavaScript regular expression by replacing text. The
//! same replacements are made here and the result is given to the `regex` crate, whose
//! leftmost-first captures are those of JavaScript, in linear time. So a pattern that does
//! not compile there (a name used twice, a name that begins a later one) does not here.
//! miniflare: workers-shared `rules-engine.ts`.

use std::fmt;

use regex::Regex;
use url::Url;

/// The longest line, in UTF-16 units after trimming.
pub(crate) const LINE_UNITS: usize = 2000;

/// A line of `_headers` or `_redirects` that was not taken, or a rule that cannot work. It
/// never makes a deployment fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleWarning {
    /// `_headers` or `_redirects`.
    pub file: &'static str,
    /// The line, from 1, where known.
    pub line_number: Option<usize>,
    /// Its text, where known.
    pub line: Option<String>,
    /// What is wrong, in Cloudflare's words where it has some.
    pub message: String,
}

impl fmt::Display for RuleWarning {
    /// As wrangler prints it, without the mark.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(line) = &self.line {
            write!(f, "\n    at {}", self.file)?;
            if let Some(number) = self.line_number {
                write!(f, ":{number}")?;
            }
            write!(f, " | {line}")?;
        }
        Ok(())
    }
}

/// A compiled pattern: `*` and `:name` in a path, or in `https://host/path`.
pub(crate) struct Pattern {
    /// Whether host and path are matched, or the path alone.
    cross_host: bool,
    matcher: Matcher,
}

enum Matcher {
    /// No `*`, no `:name`.
    Exact(String),
    /// One `*`, at the end.
    Prefix(String),
    /// Anything else. The literal beginning is tried first, since it is so much cheaper.
    Regex { literal: String, regex: Regex },
}

/// What the names of a pattern stood for, in order.
pub(crate) type Captures<'a> = Vec<(String, &'a str)>;

impl Pattern {
    /// `None` if it is a pattern that Cloudflare silently drops.
    pub(crate) fn compile(rule: &str) -> Option<Self> {
        let cross_host = rule.starts_with("https://");
        let has_names = rule
            .match_indices(':')
            .any(|(at, _)| rule[at + 1..].starts_with(|c: char| c.is_ascii_alphabetic()));
        let stars = rule.matches('*').count();
        let matcher = if !has_names && stars == 0 {
            Matcher::Exact(rule.to_owned())
        } else if !has_names && stars == 1 && rule.ends_with('*') {
            Matcher::Prefix(rule[..rule.len() - 1].to_owned())
        } else {
            let literal_end = rule
                .char_indices()
                .find(|&(at, c)| {
                    c == '*'
                        || c == ':' && rule[at + 1..].starts_with(|c: char| c.is_ascii_alphabetic())
                })
                .map_or(rule.len(), |(at, _)| at);
            Matcher::Regex {
                literal: rule[..literal_end].to_owned(),
                regex: regex_of(rule)?,
            }
        };
        Some(Self {
            cross_host,
            matcher,
        })
    }

    /// Matches the raw, encoded path asked for (and the host, if the rule names one).
    /// `target` is `https://host/path`, made only when needed.
    pub(crate) fn captures<'a>(&self, path: &'a str, target: &'a str) -> Option<Captures<'a>> {
        let text = if self.cross_host { target } else { path };
        match &self.matcher {
            Matcher::Exact(rule) => (text == rule).then(Vec::new),
            Matcher::Prefix(prefix) => text
                .strip_prefix(prefix.as_str())
                .map(|rest| vec![("splat".to_owned(), rest)]),
            Matcher::Regex { literal, regex } => {
                if !text.starts_with(literal.as_str()) {
                    return None;
                }
                let found = regex.captures(text)?;
                Some(
                    regex
                        .capture_names()
                        .flatten()
                        .filter_map(|name| Some((name.to_owned(), found.name(name)?.as_str())))
                        .collect(),
                )
            }
        }
    }

    /// Whether the host matters.
    pub(crate) fn is_cross_host(&self) -> bool {
        self.cross_host
    }
}

/// Puts captured texts in place of their names, name by name. An unknown name stays.
pub(crate) fn replace_names(text: &str, captures: &Captures<'_>) -> String {
    let mut text = text.to_owned();
    for (name, value) in captures {
        text = text.replace(&format!(":{name}"), value);
    }
    text
}

fn regex_of(rule: &str) -> Option<Regex> {
    let mut pattern = rule
        .split('*')
        .map(escape)
        .collect::<Vec<_>>()
        .join("(?<splat>.*)");
    for name in names_in_host(&pattern) {
        pattern = pattern.replace(&format!(":{name}"), &format!("(?<{name}>[^/.]+)"));
    }
    for name in names(&pattern) {
        pattern = pattern.replace(&format!(":{name}"), &format!("(?<{name}>[^/]+)"));
    }
    Regex::new(&format!("^{pattern}$")).ok()
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if "-/\\^$*+?.()|[]{}".contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// `:name` for each name in an escaped pattern, in order.
fn names(pattern: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = pattern;
    while let Some(at) = rest.find(':') {
        rest = &rest[at + 1..];
        let name = leading_name(rest);
        if !name.is_empty() {
            found.push(name.to_owned());
            rest = &rest[name.len()..];
        }
    }
    found
}

/// The names that stand in the host of an escaped pattern and are followed by something.
fn names_in_host(pattern: &str) -> Vec<String> {
    let Some(after) = pattern.strip_prefix("https:\\/\\/") else {
        return Vec::new();
    };
    let host = &after[..after.find('/').unwrap_or(after.len())];
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(colon) = host[at..].find(':') {
        at += colon + 1;
        let name = leading_name(&host[at..]);
        at += name.len();
        if !name.is_empty() && after[at..].starts_with('\\') {
            found.push(name.to_owned());
        }
    }
    found
}

/// A letter followed by letters, digits and underscores; else nothing.
fn leading_name(text: &str) -> &str {
    if !text.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return "";
    }
    let end = text
        .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .unwrap_or(text.len());
    &text[..end]
}

/// Whether a rule has a `*` or a `:name`.
pub(crate) fn is_dynamic(rule: &str) -> bool {
    rule.contains('*')
        || rule
            .match_indices(':')
            .any(|(at, _)| !leading_name(&rule[at + 1..]).is_empty())
}

/// JavaScript's `trim`.
pub(crate) fn trim(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// JavaScript's `\s`.
pub(crate) fn is_space(c: char) -> bool {
    (c.is_whitespace() && c != '\u{85}') || c == '\u{feff}'
}

/// JavaScript's `length`.
pub(crate) fn units(text: &str) -> usize {
    if text.is_ascii() {
        text.len()
    } else {
        text.encode_utf16().count()
    }
}

/// What a URL in a rule may be. miniflare: workers-shared `validateURL.ts`.
#[derive(Clone, Copy, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "upstream's four independent options"
)]
pub(crate) struct UrlRules {
    pub(crate) only_relative: bool,
    pub(crate) no_ports: bool,
    pub(crate) with_query: bool,
    pub(crate) with_fragment: bool,
}

/// Checks and normalises a URL of a rule; the error is Cloudflare's text.
pub(crate) fn validate_url(token: &str, rules: UrlRules) -> Result<String, String> {
    if let Some((host, path)) = https_parts(token) {
        if rules.only_relative {
            return Err(format!(
                "Only relative URLs are allowed. Skipping absolute URL {token}."
            ));
        }
        let has_port = host.rfind(':').is_some_and(|colon| {
            let port = &host[colon + 1..];
            !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit())
        });
        if rules.no_ports && has_port {
            return Err(format!(
                "Specifying ports is not supported. Skipping absolute URL {token}."
            ));
        }
        let path = extract_path(path, rules)
            .ok_or_else(|| format!("Error parsing URL segment {token}. Skipping."))?;
        return Ok(format!("https://{host}{path}"));
    }
    if token.starts_with('/') || rules.only_relative {
        return extract_path(token, rules)
            .ok_or_else(|| format!("Error parsing URL segment {token}. Skipping."));
    }
    Err(
        "URLs should either be relative (e.g. begin with a forward-slash), or use HTTPS (e.g. \
         begin with \"https://\")."
            .to_owned(),
    )
}

/// Whether a checked target names a host.
pub(crate) fn has_host(url: &str) -> bool {
    https_parts(url).is_some()
}

fn https_parts(token: &str) -> Option<(&str, &str)> {
    let rest = token.strip_prefix("https://")?.trim_start_matches('/');
    let end = rest.find('/').unwrap_or(rest.len());
    let (host, path) = rest.split_at(end);
    (!host.is_empty()).then(|| (host, path.strip_prefix('/').unwrap_or(path)))
}

fn extract_path(path: &str, rules: UrlRules) -> Option<String> {
    let slash = if path.starts_with('/') { "" } else { "/" };
    // A scheme that is not special keeps backslashes, and its empty host a leading `//`.
    let url = Url::parse(&format!("relative://{slash}{path}")).ok()?;
    let mut text = url.path().to_owned();
    if rules.with_query
        && let Some(query) = url.query().filter(|query| !query.is_empty())
    {
        text.push('?');
        text.push_str(query);
    }
    if rules.with_fragment
        && let Some(fragment) = url.fragment().filter(|fragment| !fragment.is_empty())
    {
        text.push('#');
        text.push_str(fragment);
    }
    Some(text)
}
