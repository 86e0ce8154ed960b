//! A connection and the bodies on it, watched for who owes whom the next byte.
//!
//! What is said passes unread; only its coming and going is told to the connection's seat.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use axum::body::HttpBody;
use http_body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::seats::{Phase, Seat};

/// A connection whose bytes are noticed.
pub(super) struct Line<S> {
    pub(super) stream: S,
    pub(super) seat: Arc<Seat>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Line<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
        if buf.filled().len() > before {
            self.seat.heard(Instant::now());
        }
        Poll::Ready(read)
    }
}

impl<S> Line<S> {
    fn noted<T>(&self, poll: Poll<T>) -> Poll<T> {
        self.seat.writes(poll.is_ready(), Instant::now());
        poll
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Line<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.noted(poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.noted(poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_flush(cx);
        // TLS takes bytes at once and sends them here.
        if poll.is_pending() { self.noted(poll) } else { poll }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A body after whose end the connection is at something else.
pub(super) struct Watched<B> {
    body: B,
    seat: Arc<Seat>,
    until: Phase,
    then: Phase,
}

impl<B> Watched<B> {
    /// A request's: after its end, the request is ours.
    pub(super) fn asked(body: B, seat: Arc<Seat>) -> Self {
        Self { body, seat, until: Phase::Body, then: Phase::Working }
    }

    /// An answer's: after its end, the next request may come.
    pub(super) fn answered(body: B, seat: Arc<Seat>) -> Self {
        Self { body, seat, until: Phase::Answering, then: Phase::Idle }
    }
}

impl<B: HttpBody + Unpin> HttpBody for Watched<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if frame.is_none() || self.body.is_end_stream() {
            self.seat.turn(self.until, self.then, Instant::now());
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> Drop for Watched<B> {
    fn drop(&mut self) {
        // An answer without a body, or to a question for its head only, is dropped unread.
        self.seat.turn(self.until, self.then, Instant::now());
    }
}
