//! Neighbour solicitations, RFC 4861 §4.3.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddrV6};

use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use super::inquiry::{Inquiry, Mac};

const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// Options: the link-layer address of the source, and of the target; both of one unit of eight bytes.
const SOURCE_ADDRESS: [u8; 2] = [1, 1];
const TARGET_ADDRESS: [u8; 2] = [2, 1];
/// Whatever came over a router has fewer, RFC 4861 §7.1.2.
const HOP_LIMIT: u32 = 255;
/// Where the hop limit is in an IPv6 header, and how a filter finds that header.
const HOP_LIMIT_AT: u32 = (libc::SKF_NET_OFF as u32).wrapping_add(7);

/// Asks who has `target` on interface `index`, whose own addresses are `mac` and `source`.
pub(super) fn open(index: u32, mac: Mac, source: Ipv6Addr, target: Ipv6Addr) -> io::Result<Inquiry> {
    let socket = Socket::new(Domain::IPV6, Type::RAW.cloexec(), Some(Protocol::ICMPV6))?;
    socket.attach_filter(&advertisements())?;
    let scope = if source.is_unicast_link_local() { index } else { 0 };
    socket.bind(&SocketAddrV6::new(source, 0, 0, scope).into())?;
    socket.set_multicast_if_v6(index)?;
    socket.set_multicast_hops_v6(HOP_LIMIT)?;
    // The checksum is the kernel's, RFC 3542 §3.1.
    let question =
        [&[SOLICITATION, 0, 0, 0, 0, 0, 0, 0][..], &target.octets(), &SOURCE_ADDRESS, &mac].concat();
    let everybody = SocketAddrV6::new(solicited_node(target), 0, 0, index);
    Inquiry::new(socket, question, everybody.into(), read, target.into())
}

/// The group that whoever has the address is in, RFC 4291 §2.7.1.
fn solicited_node(target: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = target.octets();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]))
}

/// Those that no router has passed on.
fn advertisements() -> [SockFilter; 6] {
    let step = |code: u32, jt, jf, k| SockFilter::new(code as u16, jt, jf, k);
    let (load, is) =
        (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K);
    [
        step(load, 0, 0, 0),
        step(is, 0, 3, ADVERTISEMENT.into()),
        step(load, 0, 0, HOP_LIMIT_AT),
        step(is, 0, 1, HOP_LIMIT),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
    ]
}

fn read(message: &[u8], target: IpAddr) -> Option<Mac> {
    let IpAddr::V6(target) = target else { return None };
    let (header, mut options) = message.split_first_chunk::<24>()?;
    if header[0] != ADVERTISEMENT || header[8..24] != target.octets() {
        return None;
    }
    while let Some((option, rest)) = options.split_first_chunk::<8>() {
        if option[..2] == TARGET_ADDRESS {
            return option[2..].first_chunk().copied();
        }
        // The option's length counts eights, this one among them; none of no length, RFC 4861 §4.6.
        options = rest.get(usize::from(option[1]).checked_sub(1)? * 8..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_advertisement_says_who_has_the_target() {
        let (mac, target) = ([2, 0, 0, 0, 0, 1], "fd00::12:3456".parse::<Ipv6Addr>().unwrap());
        let header = [&[ADVERTISEMENT, 0, 0, 0, 0x60, 0, 0, 0][..], &target.octets()].concat();
        let other = [5, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let own = [&TARGET_ADDRESS[..], &mac].concat();
        assert_eq!(read(&[&header[..], &own].concat(), target.into()), Some(mac));
        assert_eq!(read(&[&header[..], &other, &own].concat(), target.into()), Some(mac));
        assert_eq!(read(&header, target.into()), None, "it does not say");
        assert_eq!(read(&[&header[..], &[5, 0, 0, 0, 0, 0, 0, 0], &own].concat(), target.into()), None);
        assert_eq!(read(&[&header[..], &own].concat(), "fd00::1".parse().unwrap()), None);
        assert_eq!(read(&header[..23], target.into()), None);
        assert_eq!(solicited_node(target).to_string(), "ff02::1:ff12:3456");
    }
}
