//! Results as JSON text, written straight from SQLite's columns in the two forms that the
//! binding asks for (workerd.md 4.3). Numbers read as JavaScript prints them, except that
//! integers keep all their digits: `JSON.parse` rounds those beyond 2^53 by itself.

use std::io::Write as _;

use super::D1Format;
use super::ffi::{Column, Statement};

/// Collects the rows of one statement.
pub(super) struct Rows {
    format: D1Format,
    out: Vec<u8>,
    /// `Objects`: what precedes a value (`{"a":` or `,"b":`), and the value's column. A
    /// name that occurs twice has the place of the first and the value of the last.
    fields: Vec<(Vec<u8>, usize)>,
    columns: usize,
    is_first: bool,
}

impl Rows {
    pub(super) fn new(format: D1Format, statement: &Statement) -> Self {
        let columns = statement.column_count();
        let names = (0..columns).map(|index| statement.column_name(index));
        let mut out = Vec::with_capacity(256);
        let mut fields = Vec::new();
        match format {
            D1Format::RowsAndColumns => {
                out.extend_from_slice(b"{\"columns\":[");
                for (index, name) in names.enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    write_text(&mut out, name.as_bytes());
                }
                out.extend_from_slice(b"],\"rows\":[");
            }
            D1Format::Objects => {
                out.push(b'[');
                let mut distinct: Vec<(String, usize)> = Vec::with_capacity(columns);
                for (index, name) in names.enumerate() {
                    match distinct.iter_mut().find(|(known, _)| *known == name) {
                        Some((_, last)) => *last = index,
                        None => distinct.push((name, index)),
                    }
                }
                for (place, (name, index)) in distinct.into_iter().enumerate() {
                    let mut before = vec![if place == 0 { b'{' } else { b',' }];
                    write_text(&mut before, name.as_bytes());
                    before.push(b':');
                    fields.push((before, index));
                }
            }
        }
        Self {
            format,
            out,
            fields,
            columns,
            is_first: true,
        }
    }

    /// Adds the statement's current row.
    pub(super) fn push(&mut self, statement: &Statement) {
        if !std::mem::replace(&mut self.is_first, false) {
            self.out.push(b',');
        }
        match self.format {
            D1Format::RowsAndColumns => {
                self.out.push(b'[');
                for index in 0..self.columns {
                    if index > 0 {
                        self.out.push(b',');
                    }
                    write_value(&mut self.out, statement.column(index));
                }
                self.out.push(b']');
            }
            D1Format::Objects => {
                for (before, index) in &self.fields {
                    self.out.extend_from_slice(before);
                    write_value(&mut self.out, statement.column(*index));
                }
                self.out.push(b'}');
            }
        }
    }

    pub(super) fn len_bytes(&self) -> usize {
        self.out.len()
    }

    /// The complete text.
    pub(super) fn finish(mut self) -> Vec<u8> {
        match self.format {
            D1Format::RowsAndColumns => self.out.extend_from_slice(b"]}"),
            D1Format::Objects => self.out.push(b']'),
        }
        self.out
    }
}

fn write_value(out: &mut Vec<u8>, value: Column<'_>) {
    match value {
        Column::Null => out.extend_from_slice(b"null"),
        Column::Integer(number) => {
            write!(out, "{number}").expect("a Vec takes everything");
        }
        Column::Real(number) => write_number(out, number),
        Column::Text(text) => write_text(out, text),
        Column::Blob(bytes) => {
            out.push(b'[');
            for (index, byte) in bytes.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write!(out, "{byte}").expect("a Vec takes everything");
            }
            out.push(b']');
        }
    }
}

/// A text, whatever its bytes: what is not UTF-8 becomes U+FFFD.
fn write_text(out: &mut Vec<u8>, text: &[u8]) {
    let text = String::from_utf8_lossy(text);
    serde_json::to_writer(out, &*text).expect("a string is JSON and a Vec takes everything");
}

/// `JSON.stringify` of a number (ECMAScript `Number::toString`): the shortest digits that
/// read back the same, without exponent between 1e-7 and 1e21.
pub(super) fn write_number(out: &mut Vec<u8>, number: f64) {
    if !number.is_finite() {
        out.extend_from_slice(b"null");
        return;
    }
    if number == 0.0 {
        // Also for minus zero.
        out.push(b'0');
        return;
    }
    // `d.ddde±x`: Rust's digits are the shortest too.
    let scientific = format!("{:e}", number.abs());
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let digits: Vec<u8> = mantissa.bytes().filter(u8::is_ascii_digit).collect();
    let count = i32::try_from(digits.len()).unwrap_or(i32::MAX);
    // The decimal point stands after this many digits.
    let point = exponent + 1;
    let zeros = |count: i32| std::iter::repeat_n(b'0', usize::try_from(count).unwrap_or(0));
    if number < 0.0 {
        out.push(b'-');
    }
    if count <= point && point <= 21 {
        out.extend_from_slice(&digits);
        out.extend(zeros(point - count));
    } else if 0 < point && point <= 21 {
        let (whole, fraction) = digits.split_at(usize::try_from(point).unwrap_or(0));
        out.extend_from_slice(whole);
        out.push(b'.');
        out.extend_from_slice(fraction);
    } else if -6 < point && point <= 0 {
        out.extend_from_slice(b"0.");
        out.extend(zeros(-point));
        out.extend_from_slice(&digits);
    } else {
        let (first, rest) = digits.split_at(1);
        out.extend_from_slice(first);
        if !rest.is_empty() {
            out.push(b'.');
            out.extend_from_slice(rest);
        }
        let sign = if exponent < 0 { '-' } else { '+' };
        write!(out, "e{sign}{}", exponent.abs()).expect("a Vec takes everything");
    }
}
