//! A response as `cache.put()` sends it, and as it is stored.

use bytes::{Bytes, BytesMut};
use http::header::{AGE, DATE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use super::body::{self, BoxError};

/// Longer heads are not stored.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// The head of a serialised response, and what of its body was read with it.
#[derive(Debug)]
pub(super) struct Serialized {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) rest: Bytes,
}

impl Serialized {
    /// Reads up to the blank line; all that follows is the response's body, whatever its
    /// `Transfer-Encoding` says. `None` when it is no response, or its head is too long.
    ///
    /// # Errors
    /// When the body breaks off.
    pub(super) async fn read<B>(content: &mut B) -> Result<Option<Self>, BoxError>
    where
        B: http_body::Body<Data = Bytes> + Unpin,
        B::Error: Into<BoxError>,
    {
        let mut read = BytesMut::new();
        loop {
            // The end may lie across two chunks.
            let looked_at = read.len().saturating_sub(3);
            let Some(chunk) = body::next_chunk(content).await? else {
                return Ok(None);
            };
            read.extend_from_slice(&chunk);
            let end = read[looked_at..]
                .windows(4)
                .position(|window| window == b"\r\n\r\n");
            if let Some(end) = end {
                let head = read.split_to(looked_at + end);
                let rest = read.split_off(4).freeze();
                return Ok(parse(&head).map(|(status, headers)| Self {
                    status,
                    headers,
                    rest,
                }));
            }
            if read.len() > HEAD_BYTES_MAX {
                return Ok(None);
            }
        }
    }
}

/// A status line and header lines.
fn parse(head: &[u8]) -> Option<(StatusCode, HeaderMap)> {
    let mut lines = head
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii_end);
    let mut status_line = lines.next()?.splitn(3, |byte| *byte == b' ');
    if !status_line.next()?.starts_with(b"HTTP/") {
        return None;
    }
    let status = StatusCode::from_bytes(status_line.next()?).ok()?;
    Some((status, parse_headers(lines)?))
}

fn parse_headers<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    for line in lines.filter(|line| !line.is_empty()) {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
        headers.append(name, value);
    }
    Some(headers)
}

/// The head as it lies beside the bytes.
#[derive(Debug)]
pub(super) struct Head {
    status: StatusCode,
    headers: HeaderMap,
    stored_ms: u64,
}

impl Head {
    pub(super) fn new(status: StatusCode, headers: HeaderMap, stored_ms: u64) -> Self {
        Self {
            status,
            headers,
            stored_ms,
        }
    }

    /// A line with the status and the time, then a line for each header.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut text = format!("{} {}\n", self.status.as_u16(), self.stored_ms).into_bytes();
        for (name, value) in &self.headers {
            text.extend_from_slice(name.as_str().as_bytes());
            text.push(b':');
            text.extend_from_slice(value.as_bytes());
            text.push(b'\n');
        }
        text
    }

    pub(super) fn decode(text: &[u8]) -> Option<Self> {
        let mut lines = text.split(|byte| *byte == b'\n');
        let (status, stored_ms) = std::str::from_utf8(lines.next()?).ok()?.split_once(' ')?;
        Some(Self {
            status: StatusCode::from_bytes(status.as_bytes()).ok()?,
            headers: parse_headers(lines)?,
            stored_ms: stored_ms.parse().ok()?,
        })
    }

    /// The response without its body, `Age` and `Date` as of `now_ms`.
    pub(super) fn answer(self, now_ms: u64) -> Response<()> {
        let mut answer = Response::new(());
        *answer.status_mut() = self.status;
        *answer.headers_mut() = self.headers;
        let headers = answer.headers_mut();
        let resident_s = now_ms.saturating_sub(self.stored_ms) / 1000;
        let age_s = super::policy::age_s(headers).saturating_add(resident_s);
        headers.insert(AGE, HeaderValue::from(age_s));
        let date = HeaderValue::from_str(&super::policy::http_date(now_ms));
        headers.insert(DATE, date.expect("a date is a header value"));
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body::Frame;
    use http_body_util::StreamBody;

    use super::*;

    async fn read(chunks: &[&'static str]) -> Option<(Serialized, String)> {
        let frames = chunks
            .iter()
            .map(|chunk| Ok::<_, Infallible>(Frame::data(Bytes::from_static(chunk.as_bytes()))));
        let mut content = StreamBody::new(futures_util::stream::iter(frames.collect::<Vec<_>>()));
        let serialized = Serialized::read(&mut content).await.unwrap()?;
        let rest = body::collect(content, 1000).await.unwrap().unwrap();
        let body = [&serialized.rest[..], &rest].concat();
        Some((serialized, String::from_utf8(body).unwrap()))
    }

    // miniflare: test/fixtures/cache/parse-http.ts
    #[tokio::test]
    async fn a_response_is_read_wherever_its_chunks_end() {
        let cases: [&[&str]; 5] = [
            &[
                "HTTP/1.1 200 OK\r\n",
                "Content-Type: text/plain\r",
                "\nTransfer-Encoding: chunked\r\n",
                "\r\nabc",
                "def",
                "ghi",
            ],
            &[
                "HTTP/1 200 OK\r\n",
                "Transfer-",
                "Encoding: chun",
                "ked\r",
                "\nContent-Type: text/plain\r",
                "\n\r\nabc",
                "def",
                "ghi",
            ],
            &[
                "HTTP/1.1 200 OK\r\n",
                "Content-Type: text/plain\r\n\r\n",
                "abc",
                "def",
                "ghi",
            ],
            &[
                "HTTP/1.1 200 OK\r\n",
                "Content-Type: text/plain\r",
                "\nTransfer-Encoding: chunked\r",
                "\n\r",
                "\nabc",
                "def",
                "ghi",
            ],
            &["HTTP/1.1 200 OK\r\nContent-Type:text/plain\r\n\r\nabcdefghi"],
        ];
        for chunks in cases {
            let (serialized, body) = read(chunks).await.unwrap();
            assert_eq!(serialized.status, 200, "{chunks:?}");
            assert_eq!(serialized.headers["content-type"], "text/plain");
            assert_eq!(body, "abcdefghi", "{chunks:?}");
        }
    }

    // miniflare: test/fixtures/cache/parse-http.ts
    #[tokio::test]
    async fn what_is_no_response_is_none() {
        for chunks in [
            &["HTTP/1.1 200 OK\r\n", "Content-Type: text/plain\r\n"][..],
            &["200 OK\r\n\r\n"],
            &["HTTP/1.1 two OK\r\n\r\n"],
            &["HTTP/1.1 200 OK\r\nno colon\r\n\r\n"],
            &["\r\n\r\n"],
        ] {
            assert!(read(chunks).await.is_none(), "{chunks:?}");
        }
    }

    #[test]
    fn a_head_is_read_as_it_was_written() {
        let mut headers = HeaderMap::new();
        headers.append("x-one", HeaderValue::from_bytes("ä:b".as_bytes()).unwrap());
        headers.append("x-two", HeaderValue::from_static("1"));
        headers.append("x-two", HeaderValue::from_static("2"));
        headers.append("x-empty", HeaderValue::from_static(""));
        let head = Head::new(StatusCode::NOT_FOUND, headers.clone(), 5000);
        let read = Head::decode(&head.encode()).unwrap();
        assert_eq!((read.status, read.stored_ms), (StatusCode::NOT_FOUND, 5000));
        assert_eq!(read.headers, headers);
        assert_eq!(read.answer(65_999).headers()["age"], "60");
    }
}
