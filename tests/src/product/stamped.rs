//! A node's packets under the stamps of a clock that is wrong.

use std::os::fd::BorrowedFd;

use lastseen_node_agent::capture::backend::{Frame, Source, SourceError};
use lastseen_packet::LinkType;

/// A source whose stamps are what such a clock shows at the true time, nanoseconds since 1970.
pub struct Stamped<F> {
    source: Box<dyn Source>,
    shown: F,
}

impl<F: Fn(i64) -> i64> Stamped<F> {
    /// What `source` reads, by a clock that shows `shown`.
    pub fn new(source: Box<dyn Source>, shown: F) -> Self {
        Self { source, shown }
    }
}

impl<F: Fn(i64) -> i64 + Send> Source for Stamped<F> {
    fn fd(&self) -> BorrowedFd<'_> {
        self.source.fd()
    }

    fn link(&self) -> LinkType {
        self.source.link()
    }

    fn gso_known(&self) -> bool {
        self.source.gso_known()
    }

    fn read(&mut self, each: &mut dyn FnMut(&Frame<'_>)) -> Result<bool, SourceError> {
        let Self { source, shown } = self;
        source.read(&mut |frame| each(&Frame { time_nanos: shown(frame.time_nanos), ..*frame }))
    }

    fn drops(&mut self) -> Result<u64, SourceError> {
        self.source.drops()
    }
}
