//! `_headers` (pages.md 2). miniflare: workers-shared `parseHeaders.ts`.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::rules::{
    Captures, LINE_UNITS, Pattern, RuleWarning, UrlRules, is_space, replace_names, trim, units,
    validate_url,
};

/// The documented limit. The check runs when the next path is met, so one more survives.
const RULES: usize = 100;

/// One block as it was parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadersRule {
    /// The path or `https://host/path`, encoded, or a pattern.
    pub path: String,
    /// Names in lower case and their values, in order of first mention.
    pub set: Vec<(String, String)>,
    /// Names to remove, as written.
    pub unset: Vec<String>,
}

/// Reads a `_headers` file. What is wrong is in the second list and nowhere else.
pub fn parse_headers(input: &str) -> (Vec<HeadersRule>, Vec<RuleWarning>) {
    let lines: Vec<&str> = input.split('\n').collect();
    let mut parser = Parser::default();
    for (index, line) in lines.iter().enumerate() {
        let line = trim(line);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if units(line) > LINE_UNITS {
            parser.warnings.push(RuleWarning {
                file: "_headers",
                line_number: None,
                line: None,
                message: format!(
                    "Ignoring line {} as it exceeds the maximum allowed length of {LINE_UNITS}.",
                    index + 1
                ),
            });
            continue;
        }
        if is_path(line) {
            if parser.rules.len() >= RULES {
                parser.warnings.push(RuleWarning {
                    file: "_headers",
                    line_number: None,
                    line: None,
                    message: format!(
                        "Maximum number of rules supported is {RULES}. Skipping remaining {} \
                         lines of file.",
                        lines.len() - index
                    ),
                });
                break;
            }
            parser.end_block(Some(index + 1));
            parser.begin_block(line, index + 1);
        } else if !parser.skipping {
            parser.header_line(line, index + 1);
        }
    }
    parser.end_block(None);
    (parser.rules, parser.warnings)
}

#[derive(Default)]
struct Parser {
    rules: Vec<HeadersRule>,
    warnings: Vec<RuleWarning>,
    /// The block being read and its path line.
    block: Option<(HeadersRule, String)>,
    /// After a bad path its headers are passed over without a word.
    skipping: bool,
}

impl Parser {
    fn warn(&mut self, line: &str, line_number: Option<usize>, message: impl Into<String>) {
        self.warnings.push(RuleWarning {
            file: "_headers",
            line_number,
            line: Some(line.to_owned()),
            message: message.into(),
        });
    }

    fn end_block(&mut self, next_path_line: Option<usize>) {
        let Some((rule, line)) = self.block.take() else {
            return;
        };
        if rule.set.is_empty() && rule.unset.is_empty() {
            self.warn(&line, next_path_line, "No headers specified");
        } else {
            self.rules.push(rule);
        }
    }

    fn begin_block(&mut self, line: &str, number: usize) {
        let rules = UrlRules {
            no_ports: true,
            ..UrlRules::default()
        };
        let checked =
            validate_url(line, rules).and_then(|path| check_wildcards(&path).map(|()| path));
        self.skipping = checked.is_err();
        match checked {
            Ok(path) => {
                let rule = HeadersRule {
                    path,
                    set: Vec::new(),
                    unset: Vec::new(),
                };
                self.block = Some((rule, line.to_owned()));
            }
            Err(message) => self.warn(line, Some(number), message),
        }
    }

    fn header_line(&mut self, line: &str, number: usize) {
        let Some((name, value)) = line.split_once(':') else {
            match &mut self.block {
                None => self.warn(
                    line,
                    Some(number),
                    "Expected a path beginning with at least one forward-slash",
                ),
                Some((rule, _)) => match line.strip_prefix("! ") {
                    Some(name) => rule.unset.push(name.to_owned()),
                    None => self.warn(
                        line,
                        Some(number),
                        "Expected a colon-separated header pair (e.g. name: value)",
                    ),
                },
            }
            return;
        };
        let name = trim(name).to_lowercase();
        let value = trim(value);
        let complaint = if name.contains(' ') {
            Some("Header name cannot include spaces".to_owned())
        } else if name.is_empty() {
            Some("No header name specified".to_owned())
        } else if value.is_empty() {
            Some("No header value specified".to_owned())
        } else if self.block.is_none() {
            Some(format!("Path should come before header ({name}: {value})"))
        } else {
            None
        };
        if let Some(message) = complaint {
            self.warn(line, Some(number), message);
            return;
        }
        if let Some((rule, _)) = &mut self.block {
            match rule.set.iter_mut().find(|(existing, _)| *existing == name) {
                Some((_, values)) => {
                    values.push_str(", ");
                    values.push_str(value);
                }
                None => rule.set.push((name, value.to_owned())),
            }
        }
    }
}

/// The rules of one site, ready to apply.
#[derive(Default)]
pub(crate) struct HeaderRules {
    rules: Vec<CompiledRule>,
    needs_host: bool,
}

struct CompiledRule {
    pattern: Pattern,
    unset: Vec<HeaderName>,
    set: Vec<(HeaderName, Value)>,
}

enum Value {
    Fixed(HeaderValue),
    /// Names to be replaced by what the pattern captured.
    Template(String),
}

impl HeaderRules {
    pub(crate) fn compile(rules: Vec<HeadersRule>, warnings: &mut Vec<RuleWarning>) -> Self {
        // A later block of the same path replaces the earlier one and keeps its place.
        let mut blocks: Vec<HeadersRule> = Vec::with_capacity(rules.len());
        for rule in rules {
            match blocks.iter_mut().find(|block| block.path == rule.path) {
                Some(block) => *block = rule,
                None => blocks.push(rule),
            }
        }
        let mut compiled = Self::default();
        for block in blocks {
            let mut warn = |line: &str, message: &str| {
                warnings.push(RuleWarning {
                    file: "_headers",
                    line_number: None,
                    line: Some(line.to_owned()),
                    message: message.to_owned(),
                });
            };
            let Some(pattern) = Pattern::compile(&block.path) else {
                warn(
                    &block.path,
                    "This rule never matches: a placeholder is used twice, or one placeholder's \
                     name begins with another's.",
                );
                continue;
            };
            // Cloudflare takes such names and then fails on every request that matches.
            let bad_name = "This is no valid name of a header; it is left out.";
            let mut unset = Vec::new();
            for name in &block.unset {
                match HeaderName::from_bytes(name.as_bytes()) {
                    Ok(name) => unset.push(name),
                    Err(_) => warn(name, bad_name),
                }
            }
            let mut set = Vec::new();
            for (name, value) in block.set {
                let Ok(header) = HeaderName::from_bytes(name.as_bytes()) else {
                    warn(&name, bad_name);
                    continue;
                };
                let fixed = HeaderValue::from_bytes(value.as_bytes());
                match fixed {
                    Ok(_) if value.contains(':') => set.push((header, Value::Template(value))),
                    Ok(fixed) => set.push((header, Value::Fixed(fixed))),
                    Err(_) => warn(
                        &name,
                        "This header's value has a control character; it is left out.",
                    ),
                }
            }
            compiled.needs_host |= pattern.is_cross_host();
            compiled.rules.push(CompiledRule {
                pattern,
                unset,
                set,
            });
        }
        compiled
    }

    /// Applies every rule that matches the path (and host) asked for, in order. The first
    /// rule to name a header replaces what is there, further ones append.
    pub(crate) fn apply(&self, path: &str, host: &str, headers: &mut HeaderMap) {
        if self.rules.is_empty() {
            return;
        }
        let target = if self.needs_host {
            format!("https://{host}{path}")
        } else {
            String::new()
        };
        let mut seen: Vec<&HeaderName> = Vec::new();
        for rule in &self.rules {
            let Some(captures) = rule.pattern.captures(path, &target) else {
                continue;
            };
            for name in &rule.unset {
                headers.remove(name);
            }
            for (name, value) in &rule.set {
                let Some(value) = value.fill(&captures) else {
                    continue;
                };
                if seen.contains(&name) {
                    headers.append(name.clone(), value);
                } else {
                    headers.insert(name.clone(), value);
                    seen.push(name);
                }
            }
        }
    }
}

impl Value {
    fn fill(&self, captures: &Captures<'_>) -> Option<HeaderValue> {
        match self {
            Self::Fixed(value) => Some(value.clone()),
            Self::Template(text) => {
                HeaderValue::from_bytes(replace_names(text, captures).as_bytes()).ok()
            }
        }
    }
}

/// A line that begins like a path or like `scheme://`.
fn is_path(line: &str) -> bool {
    line.starts_with('/')
        || line
            .find("://")
            .is_some_and(|at| at > 0 && !line[..at].contains(is_space))
}

fn check_wildcards(path: &str) -> Result<(), String> {
    let wildcards = path.matches('*').count();
    let has_splat = path.match_indices(":splat").any(|(at, name)| {
        !path[at + name.len()..].starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
    });
    if wildcards > 1 {
        return Err(format!(
            "Only one wildcard is allowed per rule. Use a named placeholder (e.g. :project) \
             instead. Skipping {path}."
        ));
    }
    if wildcards > 0 && has_splat {
        return Err(format!(
            "Cannot combine a wildcard * with a :splat placeholder because wildcards are \
             converted to :splat at runtime. Skipping {path}."
        ));
    }
    Ok(())
}
