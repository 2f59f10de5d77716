//! Points of a test whose packets are made up.
#![allow(dead_code, unreachable_pub)] // Each test binary uses its own part.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use lastseen_node_agent::capture::backend::{Frame, Source, SourceError};
use lastseen_node_agent::capture::slices::Sink;
use lastseen_node_agent::capture::window::Window;
use lastseen_node_agent::capture::worker::{self, Point};
use lastseen_packet::{Gso, LinkType};
use tokio::sync::mpsc::channel;

use crate::recording::lens;

/// What happens at a point whose packets are bare IP.
pub trait Script: Send + 'static {
    /// As [`Source::read`].
    fn read(&mut self, each: &mut dyn FnMut(&Frame<'_>)) -> Result<bool, SourceError>;

    /// As [`Source::drops`].
    fn drops(&mut self) -> u64 {
        0
    }
}

struct Scripted<S> {
    script: S,
    /// Nothing ever waits in it.
    socket: (UnixStream, UnixStream),
}

impl<S: Script> Source for Scripted<S> {
    fn fd(&self) -> BorrowedFd<'_> {
        self.socket.0.as_fd()
    }

    fn link(&self) -> LinkType {
        LinkType::Raw
    }

    fn gso_known(&self) -> bool {
        true
    }

    fn read(&mut self, each: &mut dyn FnMut(&Frame<'_>)) -> Result<bool, SourceError> {
        self.script.read(each)
    }

    fn drops(&mut self) -> Result<u64, SourceError> {
        Ok(self.script.drops())
    }
}

/// A window that nothing but its time closes.
pub fn window() -> Arc<Window> {
    Arc::new(Window::new(None, None))
}

/// Records what happens at a point until the window has closed.
pub fn record_script(script: impl Script, sink: impl Sink + 'static, window: &Arc<Window>) {
    let source = Scripted { script, socket: UnixStream::pair().unwrap() };
    let points = vec![Point::new(Box::new(source), sink, [1; 16])];
    worker::run(points, lens("", &[]), window, &channel(8).0);
}

/// Shows a datagram that came at `time_nanos` on `CLOCK_REALTIME`.
pub fn show(time_nanos: i64, each: &mut dyn FnMut(&Frame<'_>)) {
    let mut frame = [0_u8; 40];
    frame[..10].copy_from_slice(&[0x45, 0, 0, 40, 0, 1, 0, 0, 64, 17]);
    frame[12..28].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2, 0, 9, 0, 9, 0, 20, 0, 0]);
    each(&Frame { bytes: &frame, original_length: 40, time_nanos, gso: Gso::UNKNOWN });
}
