//! Connections, limited per identity: a certificate must not be able to use up the coordinator's file descriptors.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use lastseen_runtime::identity::{Identity, Role};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::transport::server::Connected;

use crate::limits;
use crate::metrics::Metrics;
use crate::quota::{Place, Quota};

type Tls = TlsStream<TcpStream>;

/// A connection and its place in the quota.
#[derive(Debug)]
pub struct Counted {
    stream: Tls,
    _place: Place,
}

/// Lets through the connections that are within the limit of their identity, and closes the others.
pub fn limited(
    incoming: impl Stream<Item = io::Result<Tls>>,
    metrics: Metrics,
) -> impl Stream<Item = io::Result<Counted>> {
    let quota = Quota::default();
    incoming.filter_map(move |accepted| match accepted {
        Ok(stream) => count(stream, &quota, &metrics).map(Ok),
        Err(error) => Some(Err(error)),
    })
}

fn count(stream: Tls, quota: &Quota, metrics: &Metrics) -> Option<Counted> {
    let (socket, session) = stream.get_ref();
    let leaf = session.peer_certificates().and_then(|chain| chain.first());
    // Without an identity every call is refused with the reason; such connections share one quota.
    let identity = leaf.and_then(|leaf| Identity::from_certificate(leaf).ok());
    let is_agent = identity.as_ref().is_some_and(|identity| identity.role == Role::Agent);
    let most = if is_agent { limits::CONNECTIONS_PER_AGENT } else { limits::CONNECTIONS_PER_PERSON };
    let holder = identity.map_or_else(String::new, |identity| identity.to_string());
    let place = quota.take(&holder, most);
    if place.is_none() {
        metrics.refused_connections.inc();
        let peer = socket.peer_addr().map_or_else(|error| error.to_string(), |peer| peer.to_string());
        tracing::warn!(identity = holder, peer, limit = most, "connection closed: its identity has too many");
    }
    place.map(|place| Counted { stream, _place: place })
}

impl Connected for Counted {
    type ConnectInfo = <Tls as Connected>::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
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
