//! What every way of capturing packets offers: one handle per observation point, read without blocking.

use std::os::fd::BorrowedFd;

use lastseen_packet::{Gso, LinkType};

/// Direction of packets through an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// Received by the interface.
    In,
    /// Sent by the interface (`PACKET_OUTGOING`).
    Out,
}

/// A captured packet, borrowed from the ring.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Captured bytes, link header first.
    pub bytes: &'a [u8],
    /// Length on the wire in bytes, before the snap length cut it.
    pub original_length: u32,
    /// Kernel stamp, nanoseconds since 1970 on `CLOCK_REALTIME`.
    pub time_nanos: i64,
    /// Offload fields of the socket buffer.
    pub gso: Gso,
}

/// What a handle is opened for.
#[derive(Clone, Debug)]
pub struct Target {
    /// Interface name.
    pub name: String,
    /// Interface index.
    pub index: u32,
    /// Its layer 3 MTU in bytes: longer frames are super-packets.
    pub mtu: u32,
    /// What its frames start with.
    pub link: LinkType,
    /// Which packets.
    pub direction: Direction,
}

/// How a handle is opened.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Bytes kept of each packet.
    pub snap_length: u32,
    /// Ring memory of one handle in bytes.
    pub ring_bytes: usize,
}

/// A handle on one observation point, in one network namespace: the one of the thread that opened it.
pub trait Source: Send {
    /// Becomes readable when packets wait.
    fn fd(&self) -> BorrowedFd<'_>;

    /// What the frames start with.
    fn link(&self) -> LinkType;

    /// Whether frames come with `gso_type` and `gso_size`.
    fn gso_known(&self) -> bool;

    /// Hands waiting packets to `each`, oldest first, and returns true if more may wait: one call is bounded, so
    /// that a busy point leaves the others their turn. An error comes after the packets.
    fn read(&mut self, each: &mut dyn FnMut(&Frame<'_>)) -> Result<bool, SourceError>;

    /// Packets the kernel dropped since the last call because the ring was full. It is told as well where `read` failed
    /// because the interface is down or gone.
    fn drops(&mut self) -> Result<u64, SourceError>;
}

/// A handle that failed.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The handle could not be opened.
    #[error("{interface}: cannot capture: {reason}")]
    Open {
        /// Interface name.
        interface: String,
        /// What failed and what to do.
        reason: String,
    },
    /// The interface went down; packets come again when it is up.
    #[error("{interface}: went down")]
    Down {
        /// Interface name.
        interface: String,
    },
    /// The interface is gone or the handle broke: no more packets from it.
    #[error("{interface}: {reason}")]
    Gone {
        /// Interface name.
        interface: String,
        /// What happened.
        reason: String,
    },
}
