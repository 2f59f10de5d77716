//! Sockets of TCP and UDP, `sock_diag(7)`, and whose they are.

use std::net::SocketAddr;

use netlink_packet_core::{Emitable as _, Parseable as _};
use netlink_packet_sock_diag::inet::nlas::Nla;
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;

use super::listing::{Listing, text};
use super::{owners, trouble};
use crate::netlink::dump::Request;

pub(super) const COLUMNS: [&str; 15] = [
    "protocol",
    "state",
    "local",
    "remote",
    "recv_q",
    "send_q",
    "rtt_us",
    "retransmits",
    "cwnd",
    "pmtu",
    "uid",
    "inode",
    "pid",
    "command",
    "device",
];
/// Where they stand in a row.
const INODE: usize = 11;
const PID: usize = 12;
const COMMAND: usize = 13;

/// `SOCK_DIAG_BY_FAMILY`.
const BY_FAMILY: u16 = 20;
const V4: u8 = libc::AF_INET as u8;
const V6: u8 = libc::AF_INET6 as u8;
const TCP: u8 = libc::IPPROTO_TCP as u8;
const UDP: u8 = libc::IPPROTO_UDP as u8;

/// By number, `include/net/tcp_states.h`.
const TCP_STATES: [&str; 14] = [
    "",
    "established",
    "syn_sent",
    "syn_recv",
    "fin_wait1",
    "fin_wait2",
    "time_wait",
    "close",
    "close_wait",
    "last_ack",
    "listen",
    "closing",
    "new_syn_recv",
    "bound_inactive",
];

pub(super) fn read(mut listing: Listing) -> Result<Listing, String> {
    let listen = StateFlags::LISTEN.bits();
    // Who listens comes first: a report may not hold all connections.
    let parts = [
        (TCP, listen, "TCP sockets that listen"),
        (UDP, u32::MAX, "UDP sockets"),
        (TCP, !listen, "TCP connections"),
    ];
    let mut failed = Vec::new();
    for (protocol, states, what) in parts {
        for family in [V4, V6] {
            if let Err(error) = part(&mut listing, what, family, protocol, states) {
                failed.push(trouble(what, &error));
            }
        }
    }
    failed.dedup();
    if listing.total == 0 && !failed.is_empty() {
        return Err(failed.remove(0));
    }
    listing.notes.extend(failed);
    name_owners(&mut listing);
    Ok(listing)
}

fn part(listing: &mut Listing, what: &str, family: u8, protocol: u8, states: u32) -> std::io::Result<()> {
    let request = InetRequest {
        family,
        protocol,
        extensions: ExtensionFlags::INFO,
        states: StateFlags::from_bits_retain(states),
        socket_id: if family == V4 { SocketId::new_v4() } else { SocketId::new_v6() },
    };
    let mut body = vec![0; request.buffer_len()];
    request.emit(&mut body);
    let request = Request { protocol: NETLINK_SOCK_DIAG, kind: BY_FAMILY, body: &body };
    listing.dump(what, request, |listing, kind, body| {
        let socket = (kind == BY_FAMILY).then(|| InetResponse::parse(body).ok()).flatten()?;
        listing.row(|listing| row(listing, protocol, &socket));
        Some(())
    })
}

fn row(listing: &mut Listing, protocol: u8, socket: &InetResponse) -> [String; 15] {
    let (header, id) = (&socket.header, &socket.header.socket_id);
    let info = socket.nlas.iter().find_map(|attribute| match attribute {
        Nla::TcpInfo(info) => Some(TcpInfo(info)),
        _ => None,
    });
    let is_listening = header.state == 10;
    let info = info.filter(|_| protocol == TCP && !is_listening);
    let [rtt, retransmits, congestion_window, path_mtu] = info
        .map_or([None; 4], |info| {
            [info.rtt_micros(), info.retransmits(), info.congestion_window(), info.path_mtu()]
        })
        .map(text);
    let remote = SocketAddr::new(id.destination_address, id.destination_port);
    let has_remote = id.destination_port != 0 || !id.destination_address.is_unspecified();
    [
        if protocol == TCP { "tcp" } else { "udp" }.to_owned(),
        state(protocol, header.state),
        SocketAddr::new(id.source_address, id.source_port).to_string(),
        if has_remote { remote.to_string() } else { String::new() },
        header.recv_queue.to_string(),
        header.send_queue.to_string(),
        rtt,
        retransmits,
        congestion_window,
        path_mtu,
        header.uid.to_string(),
        if header.inode == 0 { String::new() } else { header.inode.to_string() },
        String::new(),
        String::new(),
        listing.device(id.interface_id),
    ]
}

/// Of UDP there are two: whether it has a remote end or not.
fn state(protocol: u8, number: u8) -> String {
    match (protocol, TCP_STATES.get(usize::from(number))) {
        (UDP, Some(&"close")) => "unconnected".to_owned(),
        (_, Some(name)) => (*name).to_owned(),
        (_, None) => number.to_string(),
    }
}

/// `struct tcp_info`, include/uapi/linux/tcp.h, as much of it as the kernel has.
struct TcpInfo<'a>(&'a [u8]);

impl TcpInfo<'_> {
    fn number(&self, at: usize) -> Option<u32> {
        self.0.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
    }

    /// Path MTU as the kernel believes it, bytes.
    fn path_mtu(&self) -> Option<u32> {
        self.number(60)
    }

    /// Smoothed; absent: none was measured.
    fn rtt_micros(&self) -> Option<u32> {
        self.number(68).filter(|rtt| *rtt > 0)
    }

    /// Segments.
    fn congestion_window(&self) -> Option<u32> {
        self.number(80)
    }

    /// Segments that were sent again since the connection began.
    fn retransmits(&self) -> Option<u32> {
        self.number(100)
    }
}

fn name_owners(listing: &mut Listing) {
    let inodes = listing.rows.iter().filter_map(|row| row[INODE].parse().ok()).collect();
    let owners = owners::of(&inodes, listing.deadline);
    for row in &mut listing.rows {
        if let Some(owner) = row[INODE].parse().ok().and_then(|inode: u64| owners.by_inode.get(&inode)) {
            row[PID] = owner.pids();
            row[COMMAND].clone_from(&owner.command);
        }
    }
    listing.notes.extend(owners.notes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_old_kernel_does_not_tell_is_absent() {
        let mut bytes = [0; 104];
        for (at, value) in [(60, 1_450_u32), (68, 250), (80, 10), (100, 3)] {
            bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        }
        let all = TcpInfo(&bytes);
        assert_eq!(
            [all.path_mtu(), all.rtt_micros(), all.congestion_window(), all.retransmits()],
            [Some(1_450), Some(250), Some(10), Some(3)]
        );
        for length in 0..bytes.len() {
            let short = TcpInfo(&bytes[..length]);
            assert_eq!(short.retransmits(), None);
            assert_eq!(short.path_mtu().is_some(), length >= 64);
        }
        assert_eq!(state(UDP, 7), "unconnected");
        assert_eq!((state(TCP, 10), state(TCP, 99)), ("listen".into(), "99".into()));
    }
}
