//! A handle whose packets are made up as they are read.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use lastseen_node_agent::capture::backend::{Frame, Source, SourceError};
use lastseen_node_agent::clock::{Clock, Kernel};
use lastseen_packet::{Gso, LinkType};

use super::script::{Passage, Script};

/// Ring memory that a packet takes.
const SLOT_BYTES: usize = 256;

/// A point of a node that is made up. Like a ring it holds what came since it was last read, up to its size.
pub struct Scripted {
    script: Script,
    at: Passage,
    capacity: usize,
    /// Packets until here were read, true nanoseconds since 1970.
    read_until: i64,
    dropped: u64,
    /// Nothing ever waits in it.
    socket: (UnixStream, UnixStream),
}

impl Scripted {
    /// A point that sees what passes from now on.
    pub fn open(script: Script, at: Passage, ring_bytes: usize) -> std::io::Result<Self> {
        let capacity = (ring_bytes / SLOT_BYTES).max(1);
        Ok(Self {
            script,
            at,
            capacity,
            read_until: Kernel.realtime_nanos(),
            dropped: 0,
            socket: UnixStream::pair()?,
        })
    }
}

impl Source for Scripted {
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
        let now = Kernel.realtime_nanos();
        let mut held = 0;
        for (time_nanos, packet) in self.script.passing(self.at, self.read_until, now) {
            held += 1;
            if held > self.capacity {
                self.dropped += 1;
                continue;
            }
            let bytes = &self.script.frame(packet, self.at.ttl());
            each(&Frame { bytes, original_length: bytes.len() as u32, time_nanos, gso: Gso::UNKNOWN });
        }
        self.read_until = now;
        Ok(false)
    }

    fn drops(&mut self) -> Result<u64, SourceError> {
        Ok(std::mem::take(&mut self.dropped))
    }
}
