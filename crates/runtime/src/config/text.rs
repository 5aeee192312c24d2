//! Cap'n Proto text. Every text that comes from a tenant (a var, a module's name, a
//! secret) goes through [`quote`], so that none can end its literal and begin a
//! service of its own.

use std::fmt::Write as _;

/// A Cap'n Proto string literal that holds exactly the bytes of `text`.
///
/// Each byte outside 0x20–0x7e, `"` and `\` becomes `\xNN`: the parser knows that form
/// for every byte, and refuses `\u`.
pub(super) fn quote(text: &str) -> String {
    let mut literal = String::with_capacity(text.len() + 2);
    literal.push('"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => write_hex(&mut literal, byte),
            0x20..=0x7e => literal.push(char::from(byte)),
            _ => write_hex(&mut literal, byte),
        }
    }
    literal.push('"');
    literal
}

fn write_hex(literal: &mut String, byte: u8) {
    write!(literal, "\\x{byte:02x}").expect("writing to a String cannot fail");
}

#[cfg(test)]
mod tests {
    use super::quote;

    #[test]
    fn only_plain_ascii_stays_as_it_is() {
        assert_eq!(quote("a b"), "\"a b\"");
        assert_eq!(quote("\"\\\n"), r#""\x22\x5c\x0a""#);
        assert_eq!(quote("é"), r#""\xc3\xa9""#);
    }
}
