//! `assets` of a Workers project: how its static files are served (docs: workers static
//! assets; pages.md 12).

use serde::{Deserialize, Serialize};

use crate::limits::{ROUTES_RULE_CHARS, ROUTES_RULES};

/// The settings of a Workers project's static files.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AssetsConfig {
    /// `html_handling`.
    pub html_handling: HtmlHandling,
    /// `not_found_handling`.
    pub not_found_handling: NotFoundHandling,
    /// `run_worker_first`.
    pub run_worker_first: RunWorkerFirst,
    /// `base_path`.
    pub base_path: BasePath,
    /// A browser's navigation gets what `not_found_handling` says rather than the worker:
    /// flag `assets_navigation_prefers_asset_serving`, on from date 2025-04-01.
    pub navigation_prefers_assets: bool,
}

/// How URLs of HTML files end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HtmlHandling {
    /// `auto-trailing-slash`: as the file lies.
    #[default]
    AutoTrailingSlash,
    /// `force-trailing-slash`.
    ForceTrailingSlash,
    /// `drop-trailing-slash`.
    DropTrailingSlash,
    /// `none`: exact paths only.
    None,
}

/// What is served where nothing matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NotFoundHandling {
    /// `none`: an empty 404, or the worker.
    #[default]
    None,
    /// `404-page`: the nearest `404.html`.
    #[serde(rename = "404-page")]
    NotFoundPage,
    /// `single-page-application`: `/index.html` with 200.
    SinglePageApplication,
}

/// Which requests reach the worker before the static files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunWorkerFirst {
    /// All of them, or none that matches a file.
    All(bool),
    /// Those that match a rule.
    Rules(StaticRouting),
}

impl Default for RunWorkerFirst {
    fn default() -> Self {
        Self::All(false)
    }
}

/// The rules of `run_worker_first`. In both lists `*` stands for any text, and a rule
/// matches the whole path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StaticRouting {
    /// Paths of the static files, tried first; written with a `!` before them.
    pub assets: Vec<String>,
    /// Paths of the worker.
    pub worker: Vec<String>,
}

/// Why `run_worker_first` is refused. The texts are wrangler's own
/// (`parseStaticRouting.ts`), so that a search finds them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StaticRoutingError {
    /// No rule.
    #[error("No `run_worker_first` rules were provided; must provide at least 1 rule.")]
    NoRules,
    /// More than [`ROUTES_RULES`].
    #[error(
        "Too many `run_worker_first` rules were provided; {0} rules provided exceeds max of {ROUTES_RULES}."
    )]
    TooMany(usize),
    /// Nothing would ever reach the worker by a rule.
    #[error(
        "Only negative `run_worker_first` rules were provided; must provide at least 1 non-negative rule"
    )]
    OnlyNegative,
    /// What is wrong, rule by rule.
    #[error("Invalid routes in `run_worker_first`:\n{}", .0.join("\n"))]
    Invalid(Vec<String>),
}

impl StaticRouting {
    /// Reads and checks the list.
    pub fn parse(rules: &[String]) -> Result<Self, StaticRoutingError> {
        if rules.is_empty() {
            return Err(StaticRoutingError::NoRules);
        }
        if rules.len() > ROUTES_RULES {
            return Err(StaticRoutingError::TooMany(rules.len()));
        }
        let mut negative: Vec<&str> = Vec::new();
        let mut positive: Vec<&str> = Vec::new();
        let mut invalid = Vec::new();
        for rule in rules {
            if rule.starts_with("!/") {
                negative.push(rule);
            } else if rule.starts_with('/') {
                positive.push(rule);
            } else if rule.starts_with('!') {
                invalid.push(format!("'{rule}': negative rules must start with '!/'"));
            } else {
                invalid.push(format!("'{rule}': rules must start with '/' or '!/'"));
            }
        }
        if !negative.is_empty() && positive.is_empty() {
            return Err(StaticRoutingError::OnlyNegative);
        }
        check(&positive, &mut invalid);
        check(&negative, &mut invalid);
        if !invalid.is_empty() {
            return Err(StaticRoutingError::Invalid(invalid));
        }
        let owned = |rule: &&str| rule.strip_prefix('!').unwrap_or(rule).to_owned();
        Ok(Self {
            assets: negative.iter().map(owned).collect(),
            worker: positive.iter().map(owned).collect(),
        })
    }
}

/// At most [`ROUTES_RULES`] rules come in, so comparing all pairs is cheap.
fn check(rules: &[&str], invalid: &mut Vec<String>) {
    for (index, rule) in rules.iter().enumerate() {
        if rule.encode_utf16().count() > ROUTES_RULE_CHARS {
            invalid.push(format!(
                "'{rule}': all rules must be less than {ROUTES_RULE_CHARS} characters in length"
            ));
        }
        if rules[..index].contains(rule) {
            invalid.push(format!(
                "'{rule}': rule is a duplicate; rules must be unique"
            ));
        }
        if let Some(prefix) = rule.strip_suffix('*') {
            let covered = rules
                .iter()
                .filter(|other| *other != rule && other.starts_with(prefix));
            invalid.extend(
                covered.map(|other| format!("'{other}': rule '{rule}' makes it redundant")),
            );
        }
    }
}

/// The path below which a Workers project's files are served: `/`, or `/x/`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BasePath(String);

impl Default for BasePath {
    fn default() -> Self {
        Self("/".to_owned())
    }
}

/// Why `base_path` is refused, in wrangler's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BasePathError {
    /// It is the empty text.
    #[error("The value must not be empty.")]
    Empty,
    /// It names a host or a scheme.
    #[error("The value must be a pathname, not a URL.")]
    Url,
    /// It has a `\`.
    #[error("The value must not contain backslashes.")]
    Backslash,
    /// It has a control character.
    #[error("The value must not contain control characters.")]
    Control,
    /// It has a `?` or a `#`.
    #[error("The value must not contain query strings or fragments.")]
    Query,
    /// It has a `%`.
    #[error("The value must not contain percent-encoded sequences.")]
    Percent,
}

impl BasePath {
    /// Reads and normalises a path: dot segments and repeated slashes go, a slash stands
    /// at both ends.
    pub fn parse(text: &str) -> Result<Self, BasePathError> {
        if text.is_empty() {
            return Err(BasePathError::Empty);
        }
        let scheme_end = text
            .find(|c: char| !(c.is_ascii_alphanumeric() || "+-.".contains(c)))
            .unwrap_or(text.len());
        let has_scheme = text.starts_with(|c: char| c.is_ascii_alphabetic())
            && text[scheme_end..].starts_with(':');
        if has_scheme || text.starts_with("//") {
            return Err(BasePathError::Url);
        }
        if text.contains('\\') {
            return Err(BasePathError::Backslash);
        }
        if text.contains(|c: char| c.is_ascii_control()) {
            return Err(BasePathError::Control);
        }
        if text.contains(['?', '#']) {
            return Err(BasePathError::Query);
        }
        if text.contains('%') {
            return Err(BasePathError::Percent);
        }
        let mut segments = Vec::new();
        for segment in text.split('/') {
            match segment {
                "" | "." => {}
                ".." => drop(segments.pop()),
                segment => segments.push(segment),
            }
        }
        Ok(if segments.is_empty() {
            Self::default()
        } else {
            Self(format!("/{}/", segments.join("/")))
        })
    }

    /// With a slash at both ends.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routing(rules: &[&str]) -> Result<StaticRouting, String> {
        let rules: Vec<String> = rules.iter().map(|rule| (*rule).to_owned()).collect();
        StaticRouting::parse(&rules).map_err(|error| error.to_string())
    }

    // workers-shared: parseStaticRouting.test.ts
    #[test]
    fn rules_are_checked_as_upstream_does() {
        for (rules, said) in [
            (vec![], "No `run_worker_first` rules were provided"),
            (vec!["!/assets"], "Only negative `run_worker_first` rules"),
            (
                vec!["/a", "b", "!c"],
                "'b': rules must start with '/' or '!/'\n'!c': negative rules must start with '!/'",
            ),
            (
                vec!["/b/*", "/b/c", "!/x/*", "!/x/y"],
                "'/b/c': rule '/b/*' makes it redundant\n'!/x/y': rule '!/x/*' makes it redundant",
            ),
            (
                vec!["/a", "/a", "!/b", "!/b"],
                "'/a': rule is a duplicate; rules must be unique\n'!/b': rule is a duplicate",
            ),
        ] {
            let error = routing(&rules).unwrap_err();
            assert!(error.contains(said), "{rules:?}: {error}");
        }
        let many: Vec<String> = (0..101).map(|number| format!("/{number}x")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(routing(&many[..100]).is_ok());
        assert!(
            routing(&many)
                .unwrap_err()
                .contains("101 rules provided exceeds max of 100")
        );
        let long = format!("/{}", "a".repeat(100));
        assert!(routing(&[&long[..100]]).is_ok());
        assert!(
            routing(&[&long])
                .unwrap_err()
                .contains("must be less than 100 characters")
        );
        assert_eq!(
            routing(&["/assets/*", "!/assets/static", "/*.html"]),
            Ok(StaticRouting {
                assets: vec!["/assets/static".to_owned()],
                worker: vec!["/assets/*".to_owned(), "/*.html".to_owned()],
            })
        );
    }

    // workers-shared: `utils/base-path.ts` of wrangler 4.164
    #[test]
    fn base_paths_have_a_slash_at_both_ends() {
        for (text, path) in [
            ("/", "/"),
            ("app", "/app/"),
            ("/app", "/app/"),
            ("/a//b/./c/../", "/a/b/"),
            ("/..", "/"),
        ] {
            assert_eq!(BasePath::parse(text).unwrap().as_str(), path, "{text}");
        }
        for (text, error) in [
            ("", BasePathError::Empty),
            ("//host/", BasePathError::Url),
            ("https://x.test/", BasePathError::Url),
            ("x:", BasePathError::Url),
            ("/a\\b", BasePathError::Backslash),
            ("/a\nb", BasePathError::Control),
            ("/a?b", BasePathError::Query),
            ("/a#b", BasePathError::Query),
            ("/a%20b", BasePathError::Percent),
        ] {
            assert_eq!(BasePath::parse(text), Err(error), "{text}");
        }
    }
}
