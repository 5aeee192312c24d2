//! The stream to a worker, on which an early answer is never lost.
//!
//! workerd may answer before it has read a request's body (`413`, a redirect to sign in)
//! and closes the connection then. What is still being sent meets a broken pipe, and hyper
//! would report that without looking at what lies ready to be read. So a write to a peer
//! that has gone stays pending, and the reading side decides: it finds the answer, or the
//! end of the stream.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;

/// A connection to a worker.
#[derive(Debug)]
pub(crate) struct WorkerStream {
    stream: UnixStream,
    /// The peer takes nothing any more.
    peer_gone: bool,
}

impl WorkerStream {
    /// Wraps a connection that was just made.
    pub(crate) const fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            peer_gone: false,
        }
    }

    /// Runs a write, unless the peer has gone. No waker is kept then: whoever writes also
    /// reads, and is woken by the end of the stream.
    fn write(
        &mut self,
        write: impl FnOnce(Pin<&mut UnixStream>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if self.peer_gone {
            return Poll::Pending;
        }
        match write(Pin::new(&mut self.stream)) {
            Poll::Ready(Err(error))
                if matches!(
                    error.kind(),
                    io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
                ) =>
            {
                self.peer_gone = true;
                Poll::Pending
            }
            other => other,
        }
    }
}

impl AsyncRead for WorkerStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for WorkerStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.write(|stream| stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write(|stream| stream.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::{Read as _, Write as _};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn an_answer_before_the_requests_end_is_read_although_writing_breaks() {
        let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().expect("a pair");
        ours.set_nonblocking(true).expect("set");
        let mut stream = WorkerStream::new(UnixStream::from_std(ours).expect("a stream"));
        stream.write_all(b"half a request").await.expect("written");
        // The peer reads a part of it, answers and goes.
        theirs.read_exact(&mut [0; 4]).expect("read");
        theirs.write_all(b"413").expect("written");
        drop(theirs);

        for _ in 0..2 {
            let written =
                poll_fn(|cx| Poll::Ready(Pin::new(&mut stream).poll_write(cx, b"the rest"))).await;
            assert!(written.is_pending(), "{written:?}");
        }
        let mut answer = [0; 3];
        stream.read_exact(&mut answer).await.expect("the answer");
        assert_eq!(&answer, b"413");
        // Unread bytes make the end a reset.
        let end = stream.read(&mut [0; 1]).await;
        assert!(!matches!(end, Ok(1..)), "{end:?}");
    }
}
