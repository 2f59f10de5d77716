//! When each datagram passed the host side of its sender's veth, by the kernel's own stamp: that is where a segment is
//! first seen.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::{Result, anyhow, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::udp::id_of;
use crate::lab::node::Node;
use crate::lab::packet_socket::{LONGEST, OFFLOAD_HEADER, PacketSocket};

const ETHERNET: usize = 14;
const HEADERS: usize = ETHERNET + 20 + 8;
/// How often it looks whether to stop.
const POLL_MILLIS: u16 = 50;

/// A datagram with an id that passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    /// Its sender.
    pub source: SocketAddr,
    /// What it is sent to.
    pub destination: SocketAddr,
    /// Its id.
    pub id: u64,
    /// Nanoseconds since 1970.
    pub nanos: i64,
}

/// Watches until [`Witness::finish`].
#[derive(Debug)]
pub struct Witness {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Vec<Passed>>>,
}

impl Witness {
    /// Begins to watch what the pod of `node` sends.
    pub fn start(node: &Node) -> Result<Self> {
        let socket = PacketSocket::open(&node.netns, &node.plan.veth)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        Ok(Self { stop, thread: thread::spawn(move || watch(&socket, &stopped)) })
    }

    /// Stops, and returns what passed, in order.
    pub fn finish(self) -> Result<Vec<Passed>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the witness panicked"))?
    }
}

fn watch(socket: &PacketSocket, stop: &AtomicBool) -> Result<Vec<Passed>> {
    let (mut passed, mut buffer) = (Vec::new(), vec![0; LONGEST]);
    while !stop.load(Ordering::Relaxed) {
        let mut waiting = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut waiting, PollTimeout::from(POLL_MILLIS));
        while let Some((frame, nanos)) = socket.receive_stamped(&mut buffer)? {
            passed.extend(read(&frame[OFFLOAD_HEADER..], nanos));
        }
    }
    match socket.dropped()? {
        0 => Ok(passed),
        dropped => bail!("the witness missed {dropped} packets: this machine is too busy to judge"),
    }
}

/// Only whole UDP over IPv4 without options.
fn read(frame: &[u8], nanos: i64) -> Option<Passed> {
    let (headers, payload) = frame.split_at_checked(HEADERS)?;
    let ip = &headers[ETHERNET..];
    let is_udp = headers[12..ETHERNET] == [8, 0] && ip[0] == 0x45 && ip[9] == 17;
    let id = id_of(payload).filter(|_| is_udp)?;
    let end = |address: usize, port: usize| {
        let address = Ipv4Addr::new(ip[address], ip[address + 1], ip[address + 2], ip[address + 3]);
        SocketAddrV4::new(address, u16::from_be_bytes([ip[port], ip[port + 1]])).into()
    };
    Some(Passed { source: end(12, 20), destination: end(16, 22), id, nanos })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_datagrams_with_an_id_are_read() {
        let mut frame = vec![0; HEADERS + 40];
        frame[12] = 8;
        frame[14] = 0x45;
        frame[23] = 17;
        frame[26..34].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        frame[34..38].copy_from_slice(&[0, 80, 1, 0]);
        frame[HEADERS + 39] = 9;
        let passed = read(&frame, 7).expect("a datagram");
        let ends = (passed.source.to_string(), passed.destination.to_string());
        assert_eq!(ends, ("10.0.0.1:80".to_owned(), "10.0.0.2:256".to_owned()));
        assert_eq!((passed.id, passed.nanos), (9, 7));
        frame[23] = 6;
        assert_eq!(read(&frame, 7), None);
        assert_eq!(read(&frame[..HEADERS - 1], 7), None);
    }
}
