//! What an export has to know of a virtual table: what its rows are, and whether they can
//! be written at all.
//!
//! The arguments are read as SQLite and FTS5 read them (`vtab.c`, `fts5_config.c`): split
//! at commas outside of parentheses; an FTS5 argument with `=` behind its first word is an
//! option, whose name may be cut short.

use super::lexer::{self, Token, unquote};

/// A virtual table by what an export does with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Virtual {
    /// Its rows are read from it and inserted into it: FTS5 with its own content, R*Tree.
    Rows { is_fts: bool },
    /// FTS5 over a table or view: its index is rebuilt from that.
    External,
    /// FTS5 without content: the index is all there is of it.
    Contentless(Contentless),
    /// A view of another table: `fts5vocab`.
    View,
    /// A module that D1 does not have.
    Unknown(String),
}

/// What decides whether words can be had back from an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Contentless {
    pub(super) words: Words,
    /// `detail`: whether the index knows the place of each word.
    pub(super) has_places: bool,
    /// `columnsize`: whether the rows are listed somewhere.
    pub(super) lists_rows: bool,
}

/// How the tokens of a document make a text that gives the same tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Words {
    /// A token is a word, and gives itself: `unicode61`, `ascii`.
    Whole,
    /// Three letters each, from every letter on: `trigram`.
    Trigrams,
    /// Not at all: `porter` cuts words, and cuts them again.
    Lost,
}

/// Reads the definition of a virtual table as SQLite stores it; `None` if it is none.
pub(super) fn parse(sql: &str) -> Option<Virtual> {
    let rest = strip_words(sql, &["CREATE", "VIRTUAL", "TABLE"])?;
    let (_, rest) = take(rest)?;
    let rest = strip_words(rest, &["USING"])?;
    let (module, rest) = take(rest)?;
    let arguments = arguments(rest);
    Some(match unquote(module).to_ascii_lowercase().as_str() {
        "fts5" => fts5(&arguments),
        "fts5vocab" => Virtual::View,
        "rtree" | "rtree_i32" => Virtual::Rows { is_fts: false },
        other => Virtual::Unknown(other.to_owned()),
    })
}

fn fts5(arguments: &[String]) -> Virtual {
    let mut content = None;
    let mut contentless = Contentless {
        words: Words::Whole,
        has_places: true,
        lists_rows: true,
    };
    for argument in arguments {
        let Some((name, value)) = option(argument) else {
            continue;
        };
        // In FTS5's order, since a short name means the first that it begins.
        let names = ["prefix", "tokenize", "content", "contentless_delete"];
        let more = ["contentless_unindexed", "content_rowid", "columnsize"];
        let last = ["locale", "detail", "tokendata"];
        let mut known = names.iter().chain(&more).chain(&last);
        match known.find(|known| known.starts_with(&name)) {
            Some(&"content") => content = Some(value),
            Some(&"tokenize") => contentless.words = words(&value),
            Some(&"columnsize") => contentless.lists_rows = value != "0",
            Some(&"detail") => {
                contentless.has_places = "full".starts_with(&value.to_ascii_lowercase());
            }
            _ => {}
        }
    }
    match content.as_deref() {
        None => Virtual::Rows { is_fts: true },
        Some("") => Virtual::Contentless(contentless),
        Some(_) => Virtual::External,
    }
}

fn words(tokenize: &str) -> Words {
    let (first, _) = take(tokenize).unwrap_or_default();
    match unquote(first).to_ascii_lowercase().as_str() {
        "unicode61" | "ascii" => Words::Whole,
        "trigram" => Words::Trigrams,
        _ => Words::Lost,
    }
}

/// `name = value`, the name in lower case, the value without quotes.
fn option(argument: &str) -> Option<(String, String)> {
    let (name, rest) = take(argument)?;
    let value = rest.trim_start().strip_prefix('=')?.trim();
    Some((name.to_ascii_lowercase(), unquote(value)))
}

/// The arguments in a module's parentheses.
fn arguments(rest: &str) -> Vec<String> {
    let mut all = vec![String::new()];
    let (mut position, mut depth) = (0, 0_u32);
    while position < rest.len() {
        let (token, length, _) = lexer::next(&rest.as_bytes()[position..]);
        let piece = rest.get(position..position + length).unwrap_or_default();
        position += length;
        match token {
            Token::Sign(b'(') => {
                depth += 1;
                if depth == 1 {
                    continue;
                }
            }
            Token::Sign(b')') => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    break;
                }
            }
            Token::Sign(b',') if depth == 1 => {
                all.push(String::new());
                continue;
            }
            _ => {}
        }
        if depth > 0
            && let Some(last) = all.last_mut()
        {
            last.push_str(piece);
        }
    }
    all.iter().map(|one| one.trim().to_owned()).collect()
}

/// What follows these words.
fn strip_words<'a>(mut rest: &'a str, words: &[&str]) -> Option<&'a str> {
    for word in words {
        let (found, behind) = take(rest)?;
        if !found.eq_ignore_ascii_case(word) {
            return None;
        }
        rest = behind;
    }
    Some(rest)
}

/// The first piece behind blanks and comments, and what follows it.
fn take(text: &str) -> Option<(&str, &str)> {
    let (blanks, _) = lexer::skip_blanks(text.as_bytes());
    let text = text.get(blanks..)?;
    if text.is_empty() {
        return None;
    }
    let (_, length, _) = lexer::next(text.as_bytes());
    text.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_told_apart() {
        let full = Contentless {
            words: Words::Whole,
            has_places: true,
            lists_rows: true,
        };
        let rows = Virtual::Rows { is_fts: true };
        for (rest, expected) in [
            ("f USING fts5(a, b)", rows.clone()),
            ("\"a \"\"b\" USING FTS5 (content, 'x=y')", rows.clone()),
            (
                "f USING fts5(a, tokenize = 'porter ascii', prefix='2 3')",
                rows,
            ),
            (
                "f USING fts5(a, content='messages', content_rowid='id')",
                Virtual::External,
            ),
            ("f using fts5(a, content=\"t\")", Virtual::External),
            ("f USING fts5(a, CONT=t)", Virtual::External),
            (
                "f USING fts5(a,content='')",
                Virtual::Contentless(full.clone()),
            ),
            (
                "f /* , */ USING fts5(a, -- content='t'\n content = \"\", contentless_delete=1)",
                Virtual::Contentless(full.clone()),
            ),
            (
                "f USING fts5(a, content='', tokenize=\"unicode61 tokenchars '-,'\")",
                Virtual::Contentless(full.clone()),
            ),
            (
                "f USING fts5(a, content='', tokenize=trigram, columnsize=0)",
                Virtual::Contentless(Contentless {
                    words: Words::Trigrams,
                    lists_rows: false,
                    ..full.clone()
                }),
            ),
            (
                "f USING fts5(a, content='', tokenize='porter unicode61', detail='column')",
                Virtual::Contentless(Contentless {
                    words: Words::Lost,
                    has_places: false,
                    ..full
                }),
            ),
            ("v USING fts5vocab(f, 'row')", Virtual::View),
            (
                "r USING rtree(id, x0, x1, +data TEXT)",
                Virtual::Rows { is_fts: false },
            ),
            ("m USING csv(filename='x')", Virtual::Unknown("csv".into())),
        ] {
            let sql = format!("CREATE VIRTUAL TABLE {rest}");
            assert_eq!(parse(&sql), Some(expected), "{sql}");
        }
        for sql in [
            "CREATE TABLE virtual (a)",
            "",
            "CREATE VIRTUAL",
            "CREATE VIRTUAL TABLE",
        ] {
            assert_eq!(parse(sql), None, "{sql}");
        }
    }
}
