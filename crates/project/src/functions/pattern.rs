//! A route's path as the regular expressions that path-to-regexp 6.3.0 makes of it, which
//! is what Pages matches with (pages.md 5.4). They are made here, once for each build, and
//! not at each request.
//!
//! The syntax that reaches this module is small: text, `:name`, and `:name*` for a
//! catch-all. Everything else in a file's name is literal text. A few paths build on Pages
//! and then throw at each request; they come out as [`Pattern::Broken`].

use std::fmt::Write as _;

/// What a path compiles to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// Sources of JavaScript regular expressions, for the flag `i`.
    Matches {
        /// Matches the whole path, with at most one `/` after it.
        full: String,
        /// Matches a path, or its beginning up to the end of a segment.
        prefix: String,
        /// The parameters, in the order of the groups.
        params: Vec<Param>,
    },
    /// Asking whether it matches throws a `TypeError` with this text.
    Broken(String),
}

/// A parameter of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Param {
    /// The key in `context.params`.
    pub name: String,
    /// Zero or more segments, as an array.
    pub catch_all: bool,
}

/// Compiles a route path or a mount path.
pub(crate) fn compile(path: &str) -> Pattern {
    match compile_tokens(path) {
        Ok(pattern) => pattern,
        Err(message) => Pattern::Broken(message),
    }
}

/// A character of a parameter that is not the delimiter.
const SEGMENT_CHAR: &str = r"[^\/#\?]";

enum Token {
    Text(String),
    /// `slash`: the `/` in front belongs to the parameter. `class`: what one of its
    /// characters may be.
    Param {
        name: String,
        slash: bool,
        class: String,
        catch_all: bool,
    },
}

fn compile_tokens(path: &str) -> Result<Pattern, String> {
    let tokens = tokenize(path)?;
    let mut source = String::from("^");
    let mut params = Vec::new();
    for token in &tokens {
        match token {
            Token::Text(text) => source.push_str(&escape(text)),
            Token::Param {
                name,
                slash,
                class,
                catch_all,
            } => {
                match (slash, catch_all) {
                    (true, true) => {
                        let _ = write!(source, r"(?:\/((?:{class}+?)(?:\/(?:{class}+?))*))?");
                    }
                    (true, false) => {
                        let _ = write!(source, r"(?:\/({class}+?))");
                    }
                    (false, true) => {
                        return Err(format!(
                            "Can not repeat \"{name}\" without a prefix and suffix"
                        ));
                    }
                    (false, false) => {
                        let _ = write!(source, "({class}+?)");
                    }
                }
                params.push(Param {
                    name: name.clone(),
                    catch_all: *catch_all,
                });
            }
        }
    }
    // Upstream looks the last character up in the text `[\/#\?]`, brackets and all.
    let ends_delimited = match tokens.last() {
        None => true,
        Some(Token::Text(text)) => text.ends_with(['[', '\\', '/', '#', '?', ']']),
        Some(Token::Param { .. }) => false,
    };
    let boundary = if ends_delimited { "" } else { r"(?=[\/#\?]|$)" };
    Ok(Pattern::Matches {
        full: format!(r"{source}[\/#\?]?$"),
        prefix: format!(r"{source}(?:[\/#\?](?=$))?{boundary}"),
        params,
    })
}

fn tokenize(path: &str) -> Result<Vec<Token>, String> {
    let chars: Vec<char> = path.chars().collect();
    let mut tokens: Vec<Token> = Vec::new();
    let mut text = String::new();
    let mut at = 0;
    while at < chars.len() {
        match chars[at] {
            ':' => {
                let start = at + 1;
                let mut end = start;
                while end < chars.len() && (chars[end].is_ascii_alphanumeric() || chars[end] == '_')
                {
                    end += 1;
                }
                if end == start {
                    return Err(format!("Missing parameter name at {at}"));
                }
                let name: String = chars[start..end].iter().collect();
                at = end;
                let catch_all = chars.get(at) == Some(&'*');
                at += usize::from(catch_all);

                let slash = text.ends_with('/');
                if slash {
                    text.pop();
                }
                if !text.is_empty() {
                    tokens.push(Token::Text(std::mem::take(&mut text)));
                }
                let class = class_after(slash, tokens.last())?;
                tokens.push(Token::Param {
                    name,
                    slash,
                    class,
                    catch_all,
                });
            }
            '*' => return Err(format!("Unexpected MODIFIER at {at}, expected END")),
            other => {
                text.push(other);
                at += 1;
            }
        }
    }
    if !text.is_empty() {
        tokens.push(Token::Text(text));
    }
    Ok(tokens)
}

/// A parameter that follows text without a `/` ends before the next such text.
fn class_after(slash: bool, previous: Option<&Token>) -> Result<String, String> {
    match previous {
        _ if slash => Ok(SEGMENT_CHAR.to_owned()),
        None => Ok(SEGMENT_CHAR.to_owned()),
        Some(Token::Param { name, .. }) => Err(format!(
            "Must have text between two parameters, missing text after \"{name}\""
        )),
        Some(Token::Text(text)) if text.contains(['/', '#', '?']) => Ok(SEGMENT_CHAR.to_owned()),
        Some(Token::Text(text)) => Ok(format!("(?:(?!{}){SEGMENT_CHAR})", escape(text))),
    }
}

/// The characters that path-to-regexp escapes.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if ".+*?=^!:${}()[]|/\\".contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}
