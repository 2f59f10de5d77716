//! A connection that the coordinator can close whenever it wants to.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::transport::server::Connected;

use super::{Entry, Peer};
use crate::quota::Place;

/// A connection, its place in the quota and its entry among the open ones.
pub struct Counted<S> {
    stream: S,
    peer: Arc<Peer>,
    closed: Pin<Box<WaitForCancellationFutureOwned>>,
    _place: Place,
    _entry: Entry,
}

/// What a call knows of the connection it came on.
#[derive(Clone, Debug)]
pub struct Arrival<T> {
    /// What tonic makes of the stream.
    pub info: T,
    /// The other end.
    pub peer: Arc<Peer>,
}

impl<S> Counted<S> {
    pub(super) fn new(stream: S, peer: Arc<Peer>, place: Place, entry: Entry) -> Self {
        let closed = Box::pin(peer.closed().clone().cancelled_owned());
        Self { stream, peer, closed, _place: place, _entry: entry }
    }

    /// The other end.
    pub fn peer(&self) -> &Arc<Peer> {
        &self.peer
    }
}

impl<S: Connected> Connected for Counted<S> {
    type ConnectInfo = Arrival<S::ConnectInfo>;

    fn connect_info(&self) -> Self::ConnectInfo {
        Arrival { info: self.stream.connect_info(), peer: self.peer.clone() }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    /// Ends as a connection does that the other side has closed.
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.closed.as_mut().poll(context).is_ready() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        // A peer that takes nothing must not hold the connection.
        if self.peer.closed().is_cancelled() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.peer.closed().is_cancelled() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
