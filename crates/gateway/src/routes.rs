//! Which paths go to the worker: `_routes.json` of Pages (pages.md 4.2), and
//! `run_worker_first` of Workers (pages.md 12).

use engawa_model::{RoutesJson, StaticRouting};

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

/// The rules of `run_worker_first`, ready to match. They match a whole path, and `/x/*` is
/// not `/x` here.
#[derive(Debug)]
pub(crate) struct StaticRoutingMatcher {
    assets: Vec<Vec<String>>,
    worker: Vec<Vec<String>>,
}

impl StaticRoutingMatcher {
    pub(crate) fn new(rules: &StaticRouting) -> Self {
        let compile = |rules: &[String]| {
            let parts = |rule: &String| rule.split('*').map(str::to_owned).collect();
            rules.iter().map(parts).collect()
        };
        Self {
            assets: compile(&rules.assets),
            worker: compile(&rules.worker),
        }
    }

    /// Whether a path is the worker's; `None` if no rule says.
    pub(crate) fn decides(&self, path: &str) -> Option<bool> {
        if self.assets.iter().any(|rule| glob(rule, path)) {
            return Some(false);
        }
        let worker = self.worker.iter().any(|rule| glob(rule, path));
        worker.then_some(true)
    }
}

/// A rule as one or two patterns, each the texts between its stars.
#[derive(Debug)]
struct Rule {
    pattern: Vec<String>,
    /// The same with what else may follow: one slash, or a slash and anything.
    longer: Option<Vec<String>>,
}

impl Rule {
    fn new(rule: &str) -> Self {
        // `/foo/*` is also `/foo`; `/foo` and `/foo/` are each also the other.
        let (stem, end) = if rule == "/" || rule == "/*" {
            (rule, None)
        } else if let Some(stem) = rule.strip_suffix("/*") {
            (stem, Some("/*"))
        } else if let Some(stem) = rule.strip_suffix('/') {
            (stem, Some("/"))
        } else if rule.ends_with('*') {
            (rule, None)
        } else {
            (rule, Some("/"))
        };
        let split = |text: &str| text.split('*').map(str::to_owned).collect();
        Self {
            pattern: split(stem),
            longer: end.map(|end| split(&format!("{stem}{end}"))),
        }
    }

    fn matches(&self, path: &str) -> bool {
        glob(&self.pattern, path)
            || self
                .longer
                .as_ref()
                .is_some_and(|longer| glob(longer, path))
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
