//! The body of an answer, which ends early when its caller is denied.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::HeaderMap;

use crate::connections::{OpenCall, Peer};

pub(super) struct Cuttable {
    body: Body,
    peer: Arc<Peer>,
    denied: Pin<Box<WaitForCancellationFutureOwned>>,
    is_cut: bool,
    /// The call is open as long as its answer is.
    _open: OpenCall,
}

impl Cuttable {
    pub(super) fn new(body: Body, peer: Arc<Peer>, open: OpenCall) -> Self {
        let denied = Box::pin(peer.denied().clone().cancelled_owned());
        Self { body, peer, denied, is_cut: false, _open: open }
    }

    /// The end of a stream that says why, as gRPC wants it.
    fn farewell(&self) -> Frame<Bytes> {
        let mut trailers = HeaderMap::new();
        if let Some(status) = self.peer.denial() {
            // It has no metadata that could be invalid.
            let _ = status.add_header(&mut trailers);
        }
        Frame::trailers(trailers)
    }
}

impl http_body::Body for Cuttable {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.is_cut {
            return Poll::Ready(None);
        }
        if self.denied.as_mut().poll(context).is_ready() {
            self.is_cut = true;
            // The service behind it hears at once that nobody listens.
            self.body = Body::empty();
            return Poll::Ready(Some(Ok(self.farewell())));
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.is_cut || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
