//! The identification that the kernel gave a datagram, as the first interface that it leaves by shows it: a connected socket numbers its
//! datagrams one after the other, so one is enough to know them all.

use std::os::fd::AsFd;

use anyhow::Result;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;

use super::End;
use super::udp::id_of;
use crate::lab::packet_socket::{LONGEST, OFFLOAD_HEADER, PacketSocket};

const ETHERNET: usize = 14;
const IPV4: usize = 20;
const UDP: usize = 8;
/// A datagram that waits for its neighbour's address is shown late.
const PATIENCE_MILLIS: u16 = 1_000;

/// A datagram's id and its identification in the IPv4 header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Numbered {
    /// Of the generator.
    pub id: u64,
    /// Of the kernel.
    pub ip_id: u16,
}

/// Looks for the first datagram that leaves a port.
#[derive(Debug)]
pub struct Numbering {
    socket: PacketSocket,
    port: u16,
    buffer: Vec<u8>,
}

impl Numbering {
    /// Begins to look at what leaves `port` of the sender.
    pub fn start(from: End<'_>, port: u16) -> Result<Self> {
        let socket = PacketSocket::open_everywhere(from.netns)?;
        Ok(Self { socket, port, buffer: vec![0; LONGEST] })
    }

    /// What has been shown so far.
    pub fn look(&mut self) -> Result<Option<Numbered>> {
        while let Some(frame) = self.socket.receive(&mut self.buffer)? {
            if let Some(found) = read(&frame[OFFLOAD_HEADER..], self.port) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// As [`Self::look`], and waits if nothing has been shown yet.
    pub fn wait(&mut self) -> Result<Option<Numbered>> {
        let mut waiting = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        poll(&mut waiting, PollTimeout::from(PATIENCE_MILLIS))?;
        self.look()
    }
}

/// Absent for all that is no UDP over IPv4 with an id.
fn read(frame: &[u8], port: u16) -> Option<Numbered> {
    let (headers, payload) = frame.split_at_checked(ETHERNET + IPV4 + UDP)?;
    let (ethernet, ip) = headers.split_at(ETHERNET);
    let is_udp = ethernet[12..] == [8, 0] && ip[0] == 0x45 && ip[9] == 17;
    let is_own = is_udp && ip[IPV4..IPV4 + 2] == port.to_be_bytes();
    let id = id_of(payload).filter(|_| is_own)?;
    Some(Numbered { id, ip_id: u16::from_be_bytes([ip[4], ip[5]]) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_datagrams_of_the_port_are_read() {
        let mut frame = vec![0; ETHERNET + IPV4 + UDP + 40];
        frame[12] = 8;
        (frame[14], frame[23]) = (0x45, 17);
        frame[18..20].copy_from_slice(&[1, 2]);
        frame[34..36].copy_from_slice(&[0, 80]);
        frame[ETHERNET + IPV4 + UDP + 39] = 9;
        assert_eq!(read(&frame, 80), Some(Numbered { id: 9, ip_id: 0x102 }));
        assert_eq!(read(&frame, 81), None);
        frame[23] = 6;
        assert_eq!(read(&frame, 80), None);
    }
}
