//! Capture through packet sockets: a `TPACKET_V3` ring with `PACKET_VNET_HDR` for each observation point.
//!
//! Each direction has a ring of its own, told apart in the kernel by the socket filter, so that packets dropped for
//! want of room are known per point and not only per interface.

use std::os::fd::BorrowedFd;

use lastseen_packet::LinkType;

use super::backend::{Frame, Settings, Source, SourceError, Target};
use super::ring::{Geometry, Ring};
use super::snap;
use super::socket::PacketSocket;

/// Blocks read in one turn.
const BLOCKS_PER_TURN: usize = 4;

/// One point's ring.
pub struct AfPacket {
    // Unmapped before the socket closes.
    ring: Ring,
    socket: PacketSocket,
    name: String,
    link: LinkType,
}

impl AfPacket {
    /// Opens a ring on `target`. Packets flow into it from here on.
    pub fn open(target: &Target, settings: Settings) -> Result<Self, SourceError> {
        let failed = |reason| SourceError::Open { interface: target.name.clone(), reason };
        let geometry = Geometry::for_bytes(settings.ring_bytes);
        let filter = snap::program(target.link, target.mtu, settings.snap_length, target.direction);
        let socket =
            PacketSocket::open(target.index, geometry, &filter).map_err(|e| failed(e.explain(geometry)))?;
        let ring =
            Ring::map(socket.fd(), geometry).map_err(|e| failed(format!("cannot map the ring: {e}")))?;
        Ok(Self { ring, socket, name: target.name.clone(), link: target.link })
    }

    /// Whether this kernel and this process can have a ring at all. The error says what is missing.
    pub fn probe() -> Result<(), String> {
        let geometry = Geometry::for_bytes(0);
        PacketSocket::prepare(geometry).map(drop).map_err(|e| e.explain(geometry))
    }

    fn check(&self) -> Result<(), SourceError> {
        let gone =
            |e: std::io::Error| SourceError::Gone { interface: self.name.clone(), reason: e.to_string() };
        match self.socket.take_error().map_err(gone)? {
            None => Ok(()),
            Some(e) if e.raw_os_error() == Some(libc::ENETDOWN) => {
                Err(SourceError::Down { interface: self.name.clone() })
            }
            Some(e) => Err(gone(e)),
        }
    }
}

impl Source for AfPacket {
    fn fd(&self) -> BorrowedFd<'_> {
        self.socket.fd()
    }

    fn link(&self) -> LinkType {
        self.link
    }

    fn gso_known(&self) -> bool {
        true
    }

    fn read(&mut self, each: &mut dyn FnMut(&Frame<'_>)) -> Result<bool, SourceError> {
        let more = self.ring.read(BLOCKS_PER_TURN, each);
        self.check()?;
        Ok(more)
    }

    fn drops(&mut self) -> Result<u64, SourceError> {
        self.socket
            .drops()
            .map_err(|e| SourceError::Gone { interface: self.name.clone(), reason: e.to_string() })
    }
}
