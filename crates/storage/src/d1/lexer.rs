//! Just enough of SQLite's tokenizer (`tokenize.c`) to see where a comment, a string or a
//! name ends. What a statement *means* is never decided here; SQLite does that.

/// A piece of SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    Blank,
    LineComment,
    BlockComment,
    /// `'…'`.
    Text,
    /// `"…"`, `` `…` `` or `[…]`.
    Quoted,
    /// Letters, digits and what else a name may have.
    Word,
    /// Any other single byte.
    Sign(u8),
}

/// The piece at the beginning of `sql`: what it is, its length, and whether it is complete
/// (a comment or string that the text cuts off is not). `sql` is not empty.
pub(super) fn next(sql: &[u8]) -> (Token, usize, bool) {
    let upto = |end: Option<usize>| end.map_or((sql.len(), false), |end| (end, true));
    let (token, (length, complete)) = match sql {
        [b' ' | b'\t'..=b'\r', ..] => {
            let length = sql.iter().take_while(|byte| is_blank(**byte)).count();
            (Token::Blank, (length, true))
        }
        [b'-', b'-', ..] => {
            let end = sql.iter().position(|byte| *byte == b'\n');
            (Token::LineComment, upto(end.map(|at| at + 1)))
        }
        [b'/', b'*', ..] => {
            let end = sql[2..].windows(2).position(|pair| pair == b"*/");
            (Token::BlockComment, upto(end.map(|at| at + 4)))
        }
        [b'\'', ..] => (Token::Text, upto(quoted(sql, b'\''))),
        [quote @ (b'"' | b'`'), ..] => (Token::Quoted, upto(quoted(sql, *quote))),
        [b'[', ..] => {
            let end = sql.iter().position(|byte| *byte == b']');
            (Token::Quoted, upto(end.map(|at| at + 1)))
        }
        [byte, ..] if is_word(*byte) => {
            let length = sql.iter().take_while(|byte| is_word(**byte)).count();
            (Token::Word, (length, true))
        }
        _ => (Token::Sign(sql.first().copied().unwrap_or(0)), (1, true)),
    };
    (token, length, complete)
}

/// How many bytes of blanks and comments `sql` begins with, and whether the last of them
/// is cut off by the end of the text.
pub(super) fn skip_blanks(sql: &[u8]) -> (usize, bool) {
    let mut position = 0;
    while position < sql.len() {
        match next(&sql[position..]) {
            (Token::Blank | Token::LineComment | Token::BlockComment, length, complete) => {
                position += length;
                if !complete {
                    return (position, true);
                }
            }
            // SQLite takes the mark of UTF-8 files for a blank.
            _ if sql[position..].starts_with(b"\xEF\xBB\xBF") => position += 3,
            _ => break,
        }
    }
    (position, false)
}

/// What has to come before a semicolon that ends a stored definition: the definition may
/// end in a comment, which would swallow it.
pub(super) fn before_semicolon(sql: &str) -> &'static str {
    let bytes = sql.as_bytes();
    let mut position = 0;
    while position < bytes.len() {
        let (token, length, complete) = next(&bytes[position..]);
        position += length;
        match token {
            Token::LineComment if !complete => return "\n",
            Token::BlockComment if !complete => return "*/",
            _ => {}
        }
    }
    ""
}

/// A name or string without its quotes.
pub(super) fn unquote(text: &str) -> String {
    let (first, last) = match text.as_bytes() {
        [b'[', .., b']'] => return text[1..text.len() - 1].to_owned(),
        [first, .., last] => (*first, *last),
        _ => return text.to_owned(),
    };
    if first == last && matches!(first, b'\'' | b'"' | b'`') {
        let quote = char::from(first);
        let doubled = format!("{quote}{quote}");
        return text[1..text.len() - 1].replace(&doubled, &quote.to_string());
    }
    text.to_owned()
}

/// Behind the quote that ends a string; two of them are one.
fn quoted(sql: &[u8], quote: u8) -> Option<usize> {
    let mut position = 1;
    loop {
        position += sql
            .get(position..)?
            .iter()
            .position(|byte| *byte == quote)?
            + 1;
        if sql.get(position) != Some(&quote) {
            return Some(position);
        }
        position += 1;
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 0x80..)
}
