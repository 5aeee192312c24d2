//! `_redirects` (pages.md 3). miniflare: workers-shared `parseRedirects.ts`.

use std::collections::{HashMap, HashSet};

use engawa_model::HtmlHandling;

use super::rules::{
    Captures, LINE_UNITS, Pattern, RuleWarning, UrlRules, has_host, is_dynamic, is_space,
    replace_names, trim, units, validate_url,
};

/// Rules without `*` and `:name` (docs: pages redirects).
const STATIC_RULES: usize = 2000;
/// Rules with them, and all that follow the first (docs: pages redirects).
const DYNAMIC_RULES: usize = 100;

/// One rule as it was parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedirectRule {
    /// The path, encoded, or a pattern.
    pub from: String,
    /// The target, encoded; may hold names.
    pub to: String,
    /// 200, 301, 302, 303, 307 or 308.
    pub status: u16,
    /// The line, from 1.
    pub line_number: usize,
}

/// Reads a `_redirects` file. What is wrong is in the second list and nowhere else.
/// `html_handling` is a Worker's setting; Pages' own is the default.
pub fn parse_redirects(
    input: &str,
    html_handling: HtmlHandling,
) -> (Vec<RedirectRule>, Vec<RuleWarning>) {
    let lines: Vec<&str> = input.split('\n').collect();
    let mut rules = Vec::new();
    let mut warnings = Vec::new();
    let mut seen = HashSet::new();
    let mut static_rules = 0;
    let mut dynamic_rules = 0;

    for (index, line) in lines.iter().enumerate() {
        let line = trim(line);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let about_file = |message: String| RuleWarning {
            file: "_redirects",
            line_number: None,
            line: None,
            message,
        };
        let about_line = |message: String| RuleWarning {
            file: "_redirects",
            line_number: Some(index + 1),
            line: Some(line.to_owned()),
            message,
        };
        if units(line) > LINE_UNITS {
            warnings.push(about_file(format!(
                "Ignoring line {} as it exceeds the maximum allowed length of {LINE_UNITS}.",
                index + 1
            )));
            continue;
        }
        let tokens: Vec<&str> = without_comment(line)
            .split(is_space)
            .filter(|t| !t.is_empty())
            .collect();
        let (&[from, to], status) = match tokens.as_slice() {
            [from, to] => (&[*from, *to], "302"),
            [from, to, status] => (&[*from, *to], *status),
            _ => {
                warnings.push(about_line(format!(
                    "Expected exactly 2 or 3 whitespace-separated tokens. Got {}.",
                    tokens.len()
                )));
                continue;
            }
        };
        let from_rules = UrlRules {
            only_relative: true,
            no_ports: true,
            ..UrlRules::default()
        };
        let from = match validate_url(from, from_rules) {
            Ok(from) => from,
            Err(message) => {
                warnings.push(about_line(message));
                continue;
            }
        };
        // Every rule after the first dynamic one counts as dynamic, so that the map of
        // static rules followed by the list of the others is the order of the file.
        if dynamic_rules == 0 && !is_dynamic(&from) {
            static_rules += 1;
            if static_rules > STATIC_RULES {
                warnings.push(about_file(format!(
                    "Maximum number of static rules supported is {STATIC_RULES}. Skipping line."
                )));
                continue;
            }
        } else {
            dynamic_rules += 1;
            if dynamic_rules > DYNAMIC_RULES {
                warnings.push(about_file(format!(
                    "Maximum number of dynamic rules supported is {DYNAMIC_RULES}. Skipping \
                     remaining {} lines of file.",
                    lines.len() - index
                )));
                break;
            }
        }
        let to_rules = UrlRules {
            with_query: true,
            with_fragment: true,
            ..UrlRules::default()
        };
        let to = match validate_url(to, to_rules) {
            Ok(to) => to,
            Err(message) => {
                warnings.push(about_line(message));
                continue;
            }
        };
        let Some(status) = permitted_status(status) else {
            warnings.push(about_line(format!(
                "Valid status codes are 200, 301, 302 (default), 303, 307, or 308. Got {status}."
            )));
            continue;
        };
        if !has_host(&to) && is_loop(&from, &to, html_handling) {
            warnings.push(about_line(
                "Infinite loop detected in this rule and has been ignored. This will cause a \
                 redirect to strip `.html` or `/index` and end up triggering this rule again. \
                 Please fix or remove this rule to silence this warning."
                    .to_owned(),
            ));
            continue;
        }
        if !seen.insert(from.clone()) {
            warnings.push(about_line(format!(
                "Ignoring duplicate rule for path {from}."
            )));
            continue;
        }
        if status == 200 && has_host(&to) {
            warnings.push(about_line(format!(
                "Proxy (200) redirects can only point to relative paths. Got {to}"
            )));
            continue;
        }
        rules.push(RedirectRule {
            from,
            to,
            status,
            line_number: index + 1,
        });
    }
    (rules, warnings)
}

/// The rules of one site, ready to match.
#[derive(Default)]
pub(crate) struct Redirects {
    static_rules: HashMap<String, (u16, String)>,
    dynamic_rules: Vec<(Pattern, u16, String)>,
}

impl Redirects {
    pub(crate) fn compile(rules: Vec<RedirectRule>, warnings: &mut Vec<RuleWarning>) -> Self {
        let mut compiled = Self::default();
        for rule in rules {
            if compiled.dynamic_rules.is_empty() && !is_dynamic(&rule.from) {
                compiled
                    .static_rules
                    .insert(rule.from, (rule.status, rule.to));
                continue;
            }
            match Pattern::compile(&rule.from) {
                Some(pattern) => {
                    compiled.dynamic_rules.push((pattern, rule.status, rule.to));
                }
                // Cloudflare drops it without a word.
                None => warnings.push(RuleWarning {
                    file: "_redirects",
                    line_number: Some(rule.line_number),
                    line: Some(rule.from),
                    message: "This rule never matches: a wildcard or placeholder is used twice, \
                              or one placeholder's name begins with another's."
                        .to_owned(),
                }),
            }
        }
        compiled
    }

    /// Status and target for a raw path.
    pub(crate) fn find(&self, path: &str) -> Option<(u16, String)> {
        if let Some((status, to)) = self.static_rules.get(path) {
            return Some((*status, to.clone()));
        }
        self.dynamic_rules.iter().find_map(|(pattern, status, to)| {
            let captures = pattern.captures(path, path)?;
            Some((*status, fill_target(to, &captures)))
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.static_rules.is_empty() && self.dynamic_rules.is_empty()
    }
}

/// The target of a dynamic rule with its names filled in. What a visitor asked for must not
/// turn a path into a host (`//evil.test`), so that a relative target gets one slash where
/// it has several (workers-shared `rules-engine.ts` of wrangler 4.164).
fn fill_target(template: &str, captures: &Captures<'_>) -> String {
    let filled = replace_names(template, captures);
    let filled = trim(&filled);
    if is_external(trim(template)) {
        return filled.to_owned();
    }
    let (path, suffix) = filled.split_at(filled.find(['?', '#']).unwrap_or(filled.len()));
    let mut target = String::with_capacity(filled.len());
    for c in path.chars() {
        match c {
            '/' | '\\' if target.ends_with('/') => {}
            '/' | '\\' => target.push('/'),
            c => target.push(c),
        }
    }
    target.push_str(suffix);
    target
}

/// `scheme://…` or `//host…`, as the rule is written.
fn is_external(template: &str) -> bool {
    let word_end = template
        .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .unwrap_or(template.len());
    if word_end > 0 {
        return template[word_end..].starts_with("://");
    }
    template.strip_prefix("//").is_some_and(|host| {
        host.starts_with(|c: char| !matches!(c, '/' | '\\' | '?' | '#') && !is_space(c))
    })
}

/// Cuts a trailing comment: white space, then `#` to the end. `/b#x` is no comment.
fn without_comment(line: &str) -> &str {
    let comment = line
        .char_indices()
        .find(|&(at, c)| c == '#' && line[..at].ends_with(is_space));
    comment.map_or(line, |(at, _)| line[..at].trim_end_matches(is_space))
}

/// JavaScript's `Number`, then one of the six.
fn permitted_status(text: &str) -> Option<u16> {
    let radix = |prefixes: [&str; 2], radix| {
        prefixes
            .iter()
            .find_map(|prefix| text.strip_prefix(prefix))
            .map(|digits| u32::from_str_radix(digits, radix).map_or(f64::NAN, f64::from))
    };
    let number = radix(["0x", "0X"], 16)
        .or_else(|| radix(["0o", "0O"], 8))
        .or_else(|| radix(["0b", "0B"], 2))
        .unwrap_or_else(|| text.parse().unwrap_or(f64::NAN));
    [200_u16, 301, 302, 303, 307, 308]
        .into_iter()
        .find(|&status| (f64::from(status) - number).abs() < f64::EPSILON)
}

/// Whether HTML handling would send the target's visitors back to this rule.
fn is_loop(from: &str, to: &str, html_handling: HtmlHandling) -> bool {
    let to_index = to.ends_with("/index")
        || to.strip_suffix("html").is_some_and(|stem| {
            // Upstream's dot stands for any character.
            let mut chars = stem.chars();
            chars.next_back();
            chars.as_str().ends_with("/index")
        });
    let from_root = from.ends_with('/') && html_handling != HtmlHandling::None;
    to_index && (from.ends_with("/*") || from_root)
}
