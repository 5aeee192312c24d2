//! `_routes.json`: which paths go to the worker (pages.md 4.2).

use engawa_model::RoutesJson;

/// The rules of one site, ready to match.
///
/// A path is matched as it was asked for, still encoded and with case; a rule's only
/// special character is `*`.
#[derive(Debug)]
pub struct RoutesMatcher {
    include: Vec<Rule>,
    exclude: Vec<Rule>,
}

impl RoutesMatcher {
    /// Compiles rules that were checked when they were uploaded.
    pub fn new(routes: &RoutesJson) -> Self {
        let compile = |rules: &[String]| rules.iter().map(|rule| Rule::new(rule)).collect();
        Self {
            include: compile(&routes.include),
            exclude: compile(&routes.exclude),
        }
    }

    /// Whether this path goes to the worker. Exclusions come first.
    pub fn matches(&self, path: &str) -> bool {
        !self.exclude.iter().any(|rule| rule.matches(path))
            && self.include.iter().any(|rule| rule.matches(path))
    }
}

/// A rule as the texts between its stars, with what may follow.
#[derive(Debug)]
struct Rule {
    parts: Vec<String>,
    tail: Tail,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tail {
    /// Nothing may follow.
    None,
    /// One slash may: `/foo` and `/foo/`.
    Slash,
    /// A slash and anything may: `/foo/*`.
    SlashAndAnything,
}

impl Rule {
    fn new(rule: &str) -> Self {
        let (stem, tail) = if rule == "/" || rule == "/*" {
            (rule, Tail::None)
        } else if let Some(stem) = rule.strip_suffix("/*") {
            (stem, Tail::SlashAndAnything)
        } else if let Some(stem) = rule.strip_suffix('/') {
            (stem, Tail::Slash)
        } else if rule.ends_with('*') {
            (rule, Tail::None)
        } else {
            (rule, Tail::Slash)
        };
        Self {
            parts: stem.split('*').map(str::to_owned).collect(),
            tail,
        }
    }

    fn matches(&self, path: &str) -> bool {
        match self.tail {
            Tail::None => glob(&self.parts, path),
            Tail::Slash => {
                glob(&self.parts, path)
                    || path
                        .strip_suffix('/')
                        .is_some_and(|path| glob(&self.parts, path))
            }
            Tail::SlashAndAnything => match self.parts.as_slice() {
                [stem] => path
                    .strip_prefix(stem.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
                parts => {
                    glob(parts, path)
                        || path
                            .match_indices('/')
                            .any(|(at, _)| glob(parts, &path[..at]))
                }
            },
        }
    }
}

/// Whether `text` is the parts with anything between them. Taking each middle part at its
/// first place is enough, since only the last one is bound to the end.
fn glob(parts: &[String], text: &str) -> bool {
    let [first, middle @ .., last] = parts else {
        return parts.first().is_none_or(|only| only == text);
    };
    let Some(mut rest) = text.strip_prefix(first.as_str()) else {
        return false;
    };
    for part in middle {
        let Some(at) = rest.find(part.as_str()) else {
            return false;
        };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last.as_str())
}
