//! Requests byte by byte: what a client library would smooth over is seen here.

#![expect(clippy::unwrap_used, reason = "a test fails by it")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use engawa_testkit::Dev;
use serde_json::Value;

/// What a request gets.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) text: String,
    pub(crate) marks: String,
    pub(crate) headers: ureq::http::HeaderMap,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text)
            .unwrap_or_else(|error| panic!("{error}: {} {}", self.status, self.text))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

pub(crate) fn ask(dev: &Dev, method: &str, path: &str, body: Option<&str>) -> Answer {
    ask_at(dev.address, method, path, "", body)
}

/// `headers` are whole lines.
pub(crate) fn ask_at(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &str,
    body: Option<&str>,
) -> Answer {
    // Written by hand: a client library would mend paths like `/users//x` and `%E0%A4%A`.
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(engawa_testkit::PATIENCE))
        .unwrap();
    let length = body.map_or(String::new(), |body| {
        format!("Content-Length: {}\r\n", body.len())
    });
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}{length}\r\n{}",
        body.unwrap_or_default()
    )
    .unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    parse(&bytes)
}

/// An answer that ended with its connection.
pub(crate) fn parse(bytes: &[u8]) -> Answer {
    let end = bytes
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .expect("a head");
    let head = std::str::from_utf8(&bytes[..end]).expect("a text");
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .unwrap()
        .split(' ')
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    let mut headers = ureq::http::HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(": ").expect("a header");
        headers.append(
            ureq::http::HeaderName::from_bytes(name.as_bytes()).unwrap(),
            ureq::http::HeaderValue::from_str(value).unwrap(),
        );
    }
    let mut body = bytes[end + 4..].to_vec();
    if headers
        .get("transfer-encoding")
        .is_some_and(|value| value == "chunked")
    {
        body = unchunk(&body);
    }
    let marks = headers
        .get_all("x-marks")
        .iter()
        .map(|value| value.to_str().unwrap())
        .collect::<Vec<_>>()
        .join(", ");
    Answer {
        status,
        text: String::from_utf8(body).expect("a text"),
        marks,
        headers,
    }
}

fn unchunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        let size =
            usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).expect("a size");
        if size == 0 {
            break;
        }
        body.extend_from_slice(&rest[end + 2..end + 2 + size]);
        rest = &rest[end + 4 + size..];
    }
    body
}

pub(crate) fn get(dev: &Dev, path: &str) -> Answer {
    ask(dev, "GET", path, None)
}
