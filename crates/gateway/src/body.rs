//! The one body type of requests and answers: bytes, a file, a connection's own stream, a
//! channel, or any of them wrapped. Handlers never see hyper's `Incoming`.

use std::error::Error as StdError;
use std::fs::File;
use std::io::{self, Read as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// How much of a file is read at a time.
const FILE_CHUNK_BYTES: u64 = 128 * 1024;

/// A body, whatever its source. Streams are read only as fast as they are taken.
#[derive(Default)]
pub struct Body(Repr);

#[derive(Default)]
enum Repr {
    #[default]
    Empty,
    Full(Bytes),
    Incoming(Incoming),
    File(FileBody),
    Channel(mpsc::Receiver<Result<Bytes, BodyError>>),
    Wrapped(Pin<Box<dyn HttpBody<Data = Bytes, Error = BodyError> + Send>>),
}

/// Why a body ended early.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The peer went away or broke the rules of HTTP.
    #[error("the connection ended before the body did")]
    Connection(#[source] hyper::Error),
    /// The file could not be read, or is shorter than it should be.
    #[error("a file could not be read to its end")]
    File(#[source] io::Error),
    /// The body is longer than its taker allows.
    #[error("the body is larger than {limit_bytes} bytes")]
    TooLarge {
        /// What is allowed.
        limit_bytes: u64,
    },
    /// Whoever produced the body gave up.
    #[error("the body was cut off")]
    Aborted(#[source] Box<dyn StdError + Send + Sync>),
}

impl Body {
    /// No bytes.
    pub const fn empty() -> Self {
        Self(Repr::Empty)
    }

    /// These bytes.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        if bytes.is_empty() {
            Self::empty()
        } else {
            Self(Repr::Full(bytes))
        }
    }

    /// The next `len_bytes` of an open file, read in chunks on the runtime's blocking
    /// threads, one chunk at a time. A shorter file breaks the body off.
    pub fn file(file: File, len_bytes: u64) -> Self {
        if len_bytes == 0 {
            return Self::empty();
        }
        Self(Repr::File(FileBody {
            step: FileStep::Idle(file),
            remaining_bytes: len_bytes,
        }))
    }

    /// A body that is fed through a channel of `capacity` chunks; it ends when the sender
    /// is dropped, and is cut off by an error sent.
    pub fn channel(capacity: usize) -> (mpsc::Sender<Result<Bytes, BodyError>>, Self) {
        let (sender, receiver) = mpsc::channel(capacity.max(1));
        (sender, Self(Repr::Channel(receiver)))
    }

    /// Any other body.
    pub fn wrap<B>(body: B) -> Self
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        Self(Repr::Wrapped(Box::pin(body.map_err(
            |error| match error.into().downcast::<BodyError>() {
                Ok(ours) => *ours,
                Err(other) => BodyError::Aborted(other),
            },
        ))))
    }

    /// The same body; `look` sees each piece before it is passed on, and goes with the body.
    pub(crate) fn inspect(self, look: impl FnMut(&Bytes) + Send + Unpin + 'static) -> Self {
        Self(Repr::Wrapped(Box::pin(Inspected { inner: self, look })))
    }

    /// What hyper read from a connection.
    pub(crate) fn incoming(body: Incoming) -> Self {
        if body.is_end_stream() {
            Self::empty()
        } else {
            Self(Repr::Incoming(body))
        }
    }

    /// The next piece of data, or `None` at the end. Trailers are skipped.
    pub async fn next_chunk(&mut self) -> Option<Result<Bytes, BodyError>> {
        loop {
            let frame = std::future::poll_fn(|cx| Pin::new(&mut *self).poll_frame(cx)).await?;
            match frame.map(Frame::into_data) {
                Ok(Ok(data)) => return Some(Ok(data)),
                Ok(Err(_trailers)) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// The whole body in memory, if it is no longer than `limit_bytes`. What exceeds the
    /// limit is not read.
    pub async fn to_bytes(mut self, limit_bytes: u64) -> Result<Bytes, BodyError> {
        if self.size_hint().lower() > limit_bytes {
            return Err(BodyError::TooLarge { limit_bytes });
        }
        let Some(first) = self.next_chunk().await.transpose()? else {
            return Ok(Bytes::new());
        };
        if self.is_end_stream() {
            return Ok(first);
        }
        let mut all = BytesMut::from(first);
        while let Some(chunk) = self.next_chunk().await.transpose()? {
            if (all.len() + chunk.len()) as u64 > limit_bytes {
                return Err(BodyError::TooLarge { limit_bytes });
            }
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        match &mut this.0 {
            Repr::Empty => Poll::Ready(None),
            Repr::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                this.0 = Repr::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Repr::Incoming(body) => Pin::new(body).poll_frame(cx).map_err(BodyError::Connection),
            Repr::File(file) => {
                let chunk = ready!(file.poll_chunk(cx));
                if !matches!(chunk, Some(Ok(_))) || file.remaining_bytes == 0 {
                    this.0 = Repr::Empty;
                }
                Poll::Ready(chunk.map(|chunk| chunk.map(Frame::data).map_err(BodyError::File)))
            }
            Repr::Channel(receiver) => receiver
                .poll_recv(cx)
                .map(|chunk| chunk.map(|chunk| chunk.map(Frame::data))),
            Repr::Wrapped(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Repr::Empty => true,
            Repr::Full(_) | Repr::File(_) | Repr::Channel(_) => false,
            Repr::Incoming(body) => body.is_end_stream(),
            Repr::Wrapped(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Repr::Empty => SizeHint::with_exact(0),
            Repr::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Repr::Incoming(body) => body.size_hint(),
            Repr::File(file) => SizeHint::with_exact(file.remaining_bytes),
            Repr::Channel(_) => SizeHint::default(),
            Repr::Wrapped(body) => body.size_hint(),
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::full(bytes)
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Self::full(text)
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Self::full(text)
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Body")
            .field("size", &self.size_hint().exact())
            .finish_non_exhaustive()
    }
}

struct Inspected<F> {
    inner: Body,
    look: F,
}

impl<F: FnMut(&Bytes) + Unpin> HttpBody for Inspected<F> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            (self.look)(data);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

struct FileBody {
    step: FileStep,
    remaining_bytes: u64,
}

enum FileStep {
    Idle(File),
    Reading(JoinHandle<(File, io::Result<Bytes>)>),
    Done,
}

impl FileBody {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        loop {
            match std::mem::replace(&mut self.step, FileStep::Done) {
                FileStep::Done => return Poll::Ready(None),
                FileStep::Idle(file) => {
                    if self.remaining_bytes == 0 {
                        return Poll::Ready(None);
                    }
                    let want_bytes = self.remaining_bytes.min(FILE_CHUNK_BYTES);
                    self.step = FileStep::Reading(tokio::task::spawn_blocking(move || {
                        read_chunk(file, want_bytes)
                    }));
                }
                FileStep::Reading(mut reading) => match Pin::new(&mut reading).poll(cx) {
                    Poll::Pending => {
                        self.step = FileStep::Reading(reading);
                        return Poll::Pending;
                    }
                    Poll::Ready(Ok((file, Ok(chunk)))) => {
                        self.remaining_bytes =
                            self.remaining_bytes.saturating_sub(chunk.len() as u64);
                        self.step = FileStep::Idle(file);
                        return Poll::Ready(Some(Ok(chunk)));
                    }
                    Poll::Ready(Ok((_, Err(error)))) => return Poll::Ready(Some(Err(error))),
                    Poll::Ready(Err(join)) => {
                        return Poll::Ready(Some(Err(io::Error::other(join))));
                    }
                },
            }
        }
    }
}

fn read_chunk(mut file: File, want_bytes: u64) -> (File, io::Result<Bytes>) {
    let mut chunk = Vec::with_capacity(usize::try_from(want_bytes).unwrap_or(0));
    let read = (&mut file).take(want_bytes).read_to_end(&mut chunk);
    let result = match read {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(_) => Ok(Bytes::from(chunk)),
        Err(error) => Err(error),
    };
    (file, result)
}
