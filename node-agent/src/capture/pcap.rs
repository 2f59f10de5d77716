//! Capture through libpcap, where packet sockets with `TPACKET_V3` are not to be had. It does not tell the segment
//! size of super-packets.

use std::os::fd::{AsFd, BorrowedFd};

use lastseen_packet::{Gso, LinkType};
use pcap::{Active, Capture};

use super::backend::{Direction, Frame, Settings, Source, SourceError, Target};
use super::socket;

/// Packets read in one turn.
const PACKETS_PER_TURN: usize = 2048;
/// libpcap hands packets over at the latest after this time, in milliseconds.
const TIMEOUT_MILLIS: i32 = 20;
/// libpcap refuses to read large packets from a smaller buffer.
const BUFFER_MINIMUM: i32 = 64 << 10;

/// One point's libpcap handle.
pub struct Pcap {
    handle: Capture<Active>,
    name: String,
    link: LinkType,
    dropped: u32,
}

impl Pcap {
    /// Opens a handle on `target`. Packets flow into it from here on.
    pub fn open(target: &Target, settings: Settings) -> Result<Self, SourceError> {
        let failed =
            |e: pcap::Error| SourceError::Open { interface: target.name.clone(), reason: e.to_string() };
        let handle = activate(target, settings).map_err(failed)?;
        let number = handle.get_datalink();
        let link = LinkType::from_dlt(number.0 as u32).ok_or_else(|| SourceError::Open {
            interface: target.name.clone(),
            reason: format!("link type {} is not supported", number.0),
        })?;
        Ok(Self { handle, name: target.name.clone(), link, dropped: 0 })
    }

    fn gone(&self, error: &impl ToString) -> SourceError {
        SourceError::Gone { interface: self.name.clone(), reason: error.to_string() }
    }

    fn down(&self) -> SourceError {
        SourceError::Down { interface: self.name.clone() }
    }

    /// libpcap keeps it to itself that the interface is down, so this asks.
    fn check(&self) -> Result<(), SourceError> {
        let is_up = socket::is_up(self.fd(), &self.name).map_err(|e| self.gone(&e))?;
        if is_up { Ok(()) } else { Err(self.down()) }
    }
}

fn activate(target: &Target, settings: Settings) -> Result<Capture<Active>, pcap::Error> {
    let handle = Capture::from_device(target.name.as_str())?
        .snaplen(settings.snap_length as i32)
        .buffer_size(i32::try_from(settings.ring_bytes).unwrap_or(i32::MAX).max(BUFFER_MINIMUM))
        .timeout(TIMEOUT_MILLIS)
        .precision(pcap::Precision::Nano)
        .open()?
        .setnonblock()?;
    handle.direction(match target.direction {
        Direction::In => pcap::Direction::In,
        Direction::Out => pcap::Direction::Out,
    })?;
    Ok(handle)
}

impl Source for Pcap {
    fn fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }

    fn link(&self) -> LinkType {
        self.link
    }

    fn gso_known(&self) -> bool {
        false
    }

    fn read(&mut self, each: &mut dyn FnMut(&Frame<'_>)) -> Result<bool, SourceError> {
        let result = self.handle.dispatch(Some(PACKETS_PER_TURN), |packet| {
            each(&Frame {
                bytes: packet.data,
                original_length: packet.header.len,
                // With nanosecond precision `tv_usec` holds nanoseconds.
                time_nanos: packet.header.ts.tv_sec * 1_000_000_000 + packet.header.ts.tv_usec,
                gso: Gso::UNKNOWN,
            });
        });
        let more = match result {
            Ok(count) => count == PACKETS_PER_TURN,
            // Nothing there: libpcap's ways to say so after a wake-up without packets.
            Err(pcap::Error::TimeoutExpired | pcap::Error::NoMorePackets) => false,
            Err(pcap::Error::PcapError(text)) if text.is_empty() => false,
            Err(pcap::Error::PcapError(text)) if text.contains("went down") => return Err(self.down()),
            Err(error) => return Err(self.gone(&error)),
        };
        self.check()?;
        Ok(more)
    }

    fn drops(&mut self) -> Result<u64, SourceError> {
        let total = self.handle.stats().map_err(|e| self.gone(&e))?.dropped;
        let new = total.wrapping_sub(self.dropped);
        self.dropped = total;
        Ok(u64::from(new))
    }
}
