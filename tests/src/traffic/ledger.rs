//! What pods sent and what reached them, segment by segment, as raw sockets at their interfaces see it.
//!
//! Independent of the product: it reads frames itself, and takes super-frames apart by the offload header that comes
//! with them.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::{Result, anyhow, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::udp::id_of;
use crate::lab::Lab;
use crate::lab::netns::Netns;
use crate::lab::packet_socket::{LONGEST, OFFLOAD_HEADER, PacketSocket};

const ETHERNET: usize = 14;
const TCP: u8 = 6;
const UDP: u8 = 17;
const SYN_RST: u8 = 0x06;
/// The interface in a pod.
const POD: &str = "eth0";
/// How often a socket looks whether to stop.
const POLL_MILLIS: u16 = 50;

/// What stays the same of a segment on its way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Contents {
    /// IANA protocol number.
    pub protocol: u8,
    /// IP identification.
    pub ip_id: u16,
    /// Transport payload in bytes.
    pub length: u32,
    /// Of TCP.
    pub seq: u32,
    /// Of TCP.
    pub ack: u32,
    /// Of TCP: SYN and RST.
    pub flags: u8,
    /// Of TCP: `TSval` and `TSecr`.
    pub timestamps: (u32, u32),
    /// Of a generator's datagram.
    pub id: Option<u64>,
}

/// A segment at one end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// Its sender as seen there.
    pub source: SocketAddr,
    /// Its receiver as seen there.
    pub destination: SocketAddr,
    /// What it is.
    pub contents: Contents,
    /// Whether no pod received it.
    pub is_lost: bool,
}

/// Watches all pods of a lab until [`Watch::finish`].
#[derive(Debug)]
pub struct Watch {
    stop: Arc<AtomicBool>,
    sending: Vec<JoinHandle<Result<Vec<Sent>>>>,
    receiving: Vec<JoinHandle<Result<Vec<Sent>>>>,
}

impl Watch {
    /// Begins to watch.
    pub fn start(lab: &Lab) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let watch = |netns: &Netns, interface: &str| {
            let (socket, stop) = (PacketSocket::open(netns, interface)?, Arc::clone(&stop));
            Ok::<_, anyhow::Error>(thread::spawn(move || watch(&socket, &stop)))
        };
        // The pods' own ends first: what is seen to be sent must be seen to arrive.
        let receiving = lab.nodes.iter().map(|node| watch(&node.pod, POD)).collect::<Result<_>>()?;
        let sending =
            lab.nodes.iter().map(|node| watch(&node.netns, &node.plan.veth)).collect::<Result<_>>()?;
        Ok(Self { stop: Arc::clone(&stop), sending, receiving })
    }

    /// Stops, and returns every TCP segment and UDP datagram that a pod sent, and whether it arrived.
    pub fn finish(self) -> Result<Vec<Sent>> {
        self.stop.store(true, Ordering::Relaxed);
        let join = |threads: Vec<JoinHandle<Result<Vec<Sent>>>>| {
            let all = threads.into_iter().map(|one| one.join().map_err(|_| anyhow!("a watch panicked"))?);
            Ok::<_, anyhow::Error>(all.collect::<Result<Vec<_>>>()?.concat())
        };
        let (mut sent, received) = (join(self.sending)?, join(self.receiving)?);
        let mut arrived: HashMap<Contents, u32> = HashMap::new();
        for one in received {
            *arrived.entry(one.contents).or_default() += 1;
        }
        for one in &mut sent {
            match arrived.get_mut(&one.contents).filter(|copies| **copies > 0) {
                Some(copies) => *copies -= 1,
                None => one.is_lost = true,
            }
        }
        Ok(sent)
    }
}

fn watch(socket: &PacketSocket, stop: &AtomicBool) -> Result<Vec<Sent>> {
    let (mut seen, mut buffer) = (Vec::new(), vec![0; LONGEST]);
    loop {
        let is_last = stop.load(Ordering::Relaxed);
        let mut waiting = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut waiting, PollTimeout::from(POLL_MILLIS));
        while let Some(frame) = socket.receive(&mut buffer)? {
            read(frame, &mut seen)?;
        }
        if is_last {
            break;
        }
    }
    match socket.dropped()? {
        0 => Ok(seen),
        dropped => bail!("the watch missed {dropped} packets: this machine is too busy to judge"),
    }
}

/// Adds the segments of a frame behind its offload header.
fn read(frame: &[u8], seen: &mut Vec<Sent>) -> Result<()> {
    let (offload, frame) = frame.split_at(OFFLOAD_HEADER);
    let Some(ip) = frame.get(ETHERNET..).filter(|ip| frame[12..ETHERNET] == [8, 0] && ip.len() >= 28) else {
        return Ok(());
    };
    if be16(ip, 6) & 0x3fff != 0 {
        bail!("a pod sent or received a fragment, which the watch cannot count");
    }
    let transport = &ip[usize::from(ip[0] & 0xf) * 4..usize::from(be16(ip, 2)).min(ip.len())];
    let mut contents = Contents { protocol: ip[9], ip_id: be16(ip, 4), ..Contents::default() };
    let header = match contents.protocol {
        UDP => 8,
        TCP => usize::from(transport[12] >> 4) * 4,
        _ => return Ok(()),
    };
    if contents.protocol == TCP {
        (contents.seq, contents.ack) = (be32(transport, 4), be32(transport, 8));
        contents.flags = transport[13] & SYN_RST;
        contents.timestamps = timestamps(&transport[20..header]).unwrap_or_default();
    }
    let payload = &transport[header..];
    // Of `struct virtio_net_hdr`, in the machine's own order.
    let size = usize::from(u16::from_ne_bytes([offload[4], offload[5]]));
    let step = if offload[1] == 0 || size == 0 { payload.len() } else { size }.max(1);
    let end = |address: usize, port: usize| {
        let address = Ipv4Addr::new(ip[address], ip[address + 1], ip[address + 2], ip[address + 3]);
        SocketAddrV4::new(address, be16(transport, port)).into()
    };
    let (source, destination) = (end(12, 0), end(16, 2));
    let empty = payload.is_empty().then_some(payload);
    for (index, part) in payload.chunks(step).chain(empty).enumerate() {
        let contents = Contents {
            ip_id: contents.ip_id.wrapping_add(index as u16),
            seq: if contents.protocol == TCP { contents.seq.wrapping_add((index * step) as u32) } else { 0 },
            length: part.len() as u32,
            id: id_of(part).filter(|_| contents.protocol == UDP),
            ..contents
        };
        seen.push(Sent { source, destination, contents, is_lost: false });
    }
    Ok(())
}

fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Of RFC 7323 §3.2.
fn timestamps(mut options: &[u8]) -> Option<(u32, u32)> {
    loop {
        match *options {
            [8, 10, ..] if options.len() >= 10 => return Some((be32(options, 2), be32(options, 6))),
            [1, ..] => options = &options[1..],
            [kind, length, ..] if kind >= 2 && length >= 2 => options = options.get(usize::from(length)..)?,
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_super_frame_is_its_segments() {
        let mut frame = vec![0; OFFLOAD_HEADER + ETHERNET + 20 + 32 + 250];
        frame[1] = 1;
        frame[4..6].copy_from_slice(&100_u16.to_ne_bytes());
        let packet = &mut frame[OFFLOAD_HEADER..];
        packet[12] = 8;
        let ip = &mut packet[ETHERNET..];
        (ip[0], ip[9]) = (0x45, TCP);
        ip[2..4].copy_from_slice(&302_u16.to_be_bytes());
        ip[4..6].copy_from_slice(&0xffff_u16.to_be_bytes());
        let tcp = &mut ip[20..];
        tcp[4..8].copy_from_slice(&5_u32.to_be_bytes());
        tcp[12] = 0x80;
        tcp[20..30].copy_from_slice(&[1, 1, 8, 10, 0, 0, 0, 3, 0, 0]);
        tcp[31] = 9;
        let mut seen = Vec::new();
        read(&frame, &mut seen).expect("a packet");
        let parts: Vec<_> =
            seen.iter().map(|one| (one.contents.seq, one.contents.length, one.contents.ip_id)).collect();
        assert_eq!(parts, [(5, 100, 0xffff), (105, 100, 0), (205, 50, 1)]);
        assert_eq!(seen[0].contents.timestamps, (3, 9));
        frame.truncate(OFFLOAD_HEADER + 10);
        frame.resize(OFFLOAD_HEADER + 60, 0);
        read(&frame, &mut seen).expect("no IPv4 packet");
        assert_eq!(seen.len(), 3);
    }
}
