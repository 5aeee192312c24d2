//! Bodies on the binding socket.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use engawa_storage::r2::R2Body;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full};

/// Whatever a body can fail with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A body of a request or an answer.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// Any body as a [`Body`].
pub(super) fn boxed<B>(body: B) -> Body
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    body.map_err(Into::into).boxed_unsync()
}

/// An answer without a body.
pub(super) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(boxed(Empty::new()));
    *response.status_mut() = status;
    response
}

/// An answer of these bytes.
pub(super) fn full(bytes: Bytes) -> Response<Body> {
    Response::new(boxed(Full::new(bytes)))
}

/// An answer for people.
pub(super) fn text(status: StatusCode, text: String) -> Response<Body> {
    let mut response = full(text.into());
    *response.status_mut() = status;
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain;charset=UTF-8"),
    );
    response
}

/// An answer of `prefix` followed by a stored value, with its length.
pub(super) fn stored(prefix: Bytes, value: Value) -> Response<Body> {
    let len = prefix.len() as u64 + value.len_bytes();
    let mut response = match value.as_bytes() {
        Some(bytes) if prefix.is_empty() => full(bytes.clone()),
        Some(bytes) => {
            let mut both = BytesMut::with_capacity(prefix.len() + bytes.len());
            both.extend_from_slice(&prefix);
            both.extend_from_slice(bytes);
            full(both.freeze())
        }
        None => Response::new(boxed(Stored::new([
            Piece::Bytes(prefix),
            Piece::Value(value),
        ]))),
    };
    response
        .headers_mut()
        .insert(CONTENT_LENGTH, HeaderValue::from(len));
    response
}

/// An answer of these pieces, one after the other, with its length.
pub(super) fn joined(pieces: Vec<Piece>) -> Response<Body> {
    let stored = Stored::new(pieces);
    let len = stored.left;
    let mut response = Response::new(boxed(stored));
    response
        .headers_mut()
        .insert(CONTENT_LENGTH, HeaderValue::from(len));
    response
}

/// Reads a body into memory. `None` when it is longer than `limit_bytes`; it has been
/// read to its end all the same.
pub(super) async fn collect<B>(mut body: B, limit_bytes: usize) -> Result<Option<Bytes>, BoxError>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    let mut len = 0;
    while let Some(chunk) = next_chunk(&mut body).await? {
        len += chunk.len();
        if len > limit_bytes {
            whole.clear();
        } else if first.is_empty() && whole.is_empty() {
            // Nearly every body is one chunk, which needs no copy.
            first = chunk;
        } else {
            whole.extend_from_slice(&std::mem::take(&mut first));
            whole.extend_from_slice(&chunk);
        }
    }
    Ok((len <= limit_bytes).then(|| {
        if whole.is_empty() {
            first
        } else {
            whole.freeze()
        }
    }))
}

/// Hands a body on, chunk by chunk, to `write`.
pub(super) async fn pour<B, E>(
    mut body: B,
    mut write: impl AsyncFnMut(Bytes) -> Result<(), E>,
) -> Result<(), PourError<E>>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    while let Some(chunk) = next_chunk(&mut body).await.map_err(PourError::Body)? {
        if let Err(error) = write(chunk).await {
            // The sender must be allowed to finish, or it will not read our answer.
            discard(body).await.map_err(PourError::Body)?;
            return Err(PourError::Write(error));
        }
    }
    Ok(())
}

/// Why a body was not kept.
pub(super) enum PourError<E> {
    /// It broke off: there is nobody to answer.
    Body(BoxError),
    /// It was not taken.
    Write(E),
}

/// Reads a body to its end and keeps nothing.
pub(super) async fn discard<B>(mut body: B) -> Result<(), BoxError>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    while next_chunk(&mut body).await?.is_some() {}
    Ok(())
}

/// The next data of a body; trailers are skipped.
pub(super) async fn next_chunk<B>(body: &mut B) -> Result<Option<Bytes>, BoxError>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    while let Some(frame) = body.frame().await {
        if let Ok(chunk) = frame.map_err(Into::into)?.into_data() {
            return Ok(Some(chunk));
        }
    }
    Ok(None)
}

/// A value on its way out of the store.
pub(super) enum Value {
    /// Of KV.
    Entry(engawa_storage::Body),
    /// Of R2.
    Object(R2Body),
}

impl Value {
    fn len_bytes(&self) -> u64 {
        match self {
            Self::Entry(body) => body.len_bytes(),
            Self::Object(body) => body.len_bytes(),
        }
    }

    /// All of it, if it is in memory already.
    fn as_bytes(&self) -> Option<&Bytes> {
        match self {
            Self::Entry(engawa_storage::Body::Bytes(bytes)) => Some(bytes),
            Self::Entry(engawa_storage::Body::Blob(_)) => None,
            Self::Object(body) => body.as_bytes(),
        }
    }

    async fn next_chunk(&mut self) -> Option<Result<Bytes, engawa_storage::Error>> {
        match self {
            Self::Entry(body) => body.next_chunk().await,
            Self::Object(body) => body.next_chunk().await,
        }
    }
}

type NextChunk =
    Pin<Box<dyn Future<Output = (Value, Option<Result<Bytes, engawa_storage::Error>>)> + Send>>;

/// A part of an answer.
pub(super) enum Piece {
    Bytes(Bytes),
    Value(Value),
}

/// Stored values, and what is said between them, as an HTTP body.
struct Stored {
    pieces: VecDeque<Piece>,
    left: u64,
    /// The next bytes of a value that has begun.
    next: Option<NextChunk>,
}

impl Stored {
    fn new(pieces: impl IntoIterator<Item = Piece>) -> Self {
        let pieces: VecDeque<Piece> = pieces.into_iter().collect();
        let left = pieces.iter().map(|piece| match piece {
            Piece::Bytes(bytes) => bytes.len() as u64,
            Piece::Value(value) => value.len_bytes(),
        });
        Self {
            left: left.sum(),
            pieces,
            next: None,
        }
    }

    fn read(mut value: Value) -> NextChunk {
        Box::pin(async move {
            let chunk = value.next_chunk().await;
            (value, chunk)
        })
    }

    fn hand_out(&mut self, bytes: Bytes) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.left = self.left.saturating_sub(bytes.len() as u64);
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }
}

impl http_body::Body for Stored {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            if let Some(next) = &mut self.next {
                let Poll::Ready((value, chunk)) = next.as_mut().poll(context) else {
                    return Poll::Pending;
                };
                self.next = None;
                match chunk {
                    Some(Ok(bytes)) => {
                        self.next = Some(Self::read(value));
                        return self.hand_out(bytes);
                    }
                    Some(Err(error)) => {
                        self.pieces.clear();
                        return Poll::Ready(Some(Err(error.into())));
                    }
                    None => {}
                }
            }
            match self.pieces.pop_front() {
                Some(Piece::Bytes(bytes)) if bytes.is_empty() => {}
                Some(Piece::Bytes(bytes)) => return self.hand_out(bytes),
                Some(Piece::Value(value)) => self.next = Some(Self::read(value)),
                None => return Poll::Ready(None),
            }
        }
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.left)
    }
}
