//! ARP requests, RFC 826; of an address of one's own, probes as RFC 5227 §2.1 has them.
#![allow(unsafe_code)] // The address of a packet socket has no safe interface.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};

use super::inquiry::{Inquiry, Mac};

/// `ARPHRD_ETHER`, `ETH_P_IP`, and the lengths of their addresses.
const KIND: [u8; 6] = [0, 1, 0x08, 0, 6, 4];
const REQUEST: [u8; 2] = [0, 1];
const REPLY: [u8; 2] = [0, 2];
const BROADCAST: Mac = [0xff; 6];

/// Asks who has `target` on interface `index`, whose own addresses are `mac` and `source`.
pub(super) fn open(index: u32, mac: Mac, source: Ipv4Addr, target: Ipv4Addr) -> io::Result<Inquiry> {
    let protocol = (libc::ETH_P_ARP as u16).to_be();
    // Of no protocol until it is bound: it would hear every interface.
    let socket = Socket::new(Domain::PACKET, Type::DGRAM.cloexec(), Some(Protocol::from(0)))?;
    let everybody = address(index, protocol);
    socket.bind(&everybody)?;
    let question = [&KIND[..], &REQUEST, &mac, &source.octets(), &[0; 6], &target.octets()].concat();
    Inquiry::new(socket, question, everybody, read, target.into())
}

/// Everybody on that interface, packet(7).
fn address(index: u32, protocol: u16) -> SockAddr {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: the storage is large enough for every kind of address, and this one is plain integers.
    let link = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    link.sll_family = libc::AF_PACKET as u16;
    link.sll_protocol = protocol;
    link.sll_ifindex = index as i32;
    link.sll_halen = BROADCAST.len() as u8;
    link.sll_addr[..BROADCAST.len()].copy_from_slice(&BROADCAST);
    // SAFETY: its family is set, and the length is that of the family's structure.
    unsafe { SockAddr::new(storage, size_of::<libc::sockaddr_ll>() as libc::socklen_t) }
}

fn read(packet: &[u8], target: IpAddr) -> Option<Mac> {
    let IpAddr::V4(target) = target else { return None };
    let packet = packet.first_chunk::<28>()?;
    let is_reply = packet[..6] == KIND && packet[6..8] == REPLY && packet[14..18] == target.octets();
    packet[8..14].first_chunk().copied().filter(|_| is_reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_says_who_has_the_target() {
        let (mac, target) = ([2, 0, 0, 0, 0, 1], Ipv4Addr::new(10, 0, 0, 2));
        let reply = [&KIND[..], &REPLY, &mac, &target.octets(), &[2; 6], &[10, 0, 0, 1]].concat();
        assert_eq!(read(&reply, target.into()), Some(mac));
        assert_eq!(read(&[&reply[..], &[0; 18]].concat(), target.into()), Some(mac), "padded");
        assert_eq!(read(&reply, Ipv4Addr::new(10, 0, 0, 3).into()), None);
        assert_eq!(read(&reply[..27], target.into()), None);
        let mut request = reply.clone();
        request[7] = 1;
        assert_eq!(read(&request, target.into()), None);
    }
}
