//! ICMP echo, RFC 792 and RFC 4443 §4.

use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::{Protocol, Type};
use tokio::time::Instant;

use super::attempt::Attempt;
use super::datagrams::Datagrams;
use super::spec::Schedule;
use super::train::{self, About, Message};

/// Bytes of the ICMP header.
pub(super) const HEADER_BYTES: usize = 8;
/// What tells our echoes from all others, behind the header.
const TOKEN_BYTES: usize = 8;
/// The token, and what evens the number out.
pub(super) const LEAST_BYTES: usize = TOKEN_BYTES + 2;

/// Sends echo requests of `size` bytes behind the header.
pub(super) async fn run(
    to: IpAddr,
    size: usize,
    dont_fragment: bool,
    schedule: &Schedule,
    begin: Instant,
) -> io::Result<Vec<Attempt>> {
    let socket = open(SocketAddr::new(to, 0))?;
    socket.may_fragment(to.is_ipv6(), !dont_fragment)?;
    Ok(train::run(&socket, &Echo::new(to.is_ipv6(), vec![size]), to, schedule, begin).await)
}

/// A socket of ICMP. The port of the address means nothing, its scope may.
pub(super) fn open(to: SocketAddr) -> io::Result<Datagrams> {
    let protocol = if to.is_ipv6() { Protocol::ICMPV6 } else { Protocol::ICMPV4 };
    Datagrams::open(Type::RAW, Some(protocol), to)
}

/// Echo requests of one series.
pub(super) struct Echo {
    is_v6: bool,
    identifier: u16,
    token: [u8; TOKEN_BYTES],
    /// Bytes behind the header, one after the other and then again.
    sizes: Vec<usize>,
}

impl Echo {
    /// With so many bytes behind the header, one after the other and then again; each with what it takes to know it again.
    pub(super) fn new(is_v6: bool, sizes: Vec<usize>) -> Self {
        Self { is_v6, identifier: rand::random(), token: rand::random(), sizes }
    }

    fn request(&self) -> u8 {
        if self.is_v6 { 128 } else { 8 }
    }

    fn reply(&self) -> u8 {
        if self.is_v6 { 129 } else { 0 }
    }

    /// The number of a message of this type that is ours. Quotes may end within the token.
    fn number(&self, kind: u8, message: &[u8]) -> Option<u16> {
        let header = message.first_chunk::<HEADER_BYTES>()?;
        let [first, _, _, _, id @ .., high, low] = *header;
        let token = &message[HEADER_BYTES..message.len().min(HEADER_BYTES + TOKEN_BYTES)];
        let is_ours = first == kind && id == self.identifier.to_be_bytes() && self.token.starts_with(token);
        is_ours.then(|| u16::from_be_bytes([high, low]))
    }
}

impl Message for Echo {
    fn write(&self, sequence: u16, datagram: &mut Vec<u8>) {
        datagram.extend([self.request(), 0, 0, 0]);
        datagram.extend(self.identifier.to_be_bytes());
        datagram.extend(sequence.to_be_bytes());
        datagram.extend(self.token);
        // Evens the number out: all requests of a series have the same checksum, which routers may tell flows by.
        datagram.extend((!sequence).to_be_bytes());
        let size = self.sizes.get(usize::from(sequence) % self.sizes.len().max(1));
        datagram.resize(HEADER_BYTES + size.map_or(LEAST_BYTES, |size| (*size).max(LEAST_BYTES)), 0);
        if !self.is_v6 {
            // That of ICMPv6 covers addresses, and is the kernel's.
            let checksum = checksum(datagram);
            datagram[2..4].copy_from_slice(&checksum.to_be_bytes());
        }
    }

    fn answered(&self, datagram: &[u8]) -> About {
        let message = if self.is_v6 { Some(datagram) } else { behind_ipv4(datagram) };
        let number = message.filter(|message| message.len() >= HEADER_BYTES + TOKEN_BYTES);
        number.and_then(|message| self.number(self.reply(), message)).map_or(About::None, About::One)
    }

    fn quoted(&self, original: &[u8]) -> About {
        self.number(self.request(), original).map_or(About::None, About::One)
    }
}

/// Raw sockets of IPv4 give the header too (raw(7)).
pub(super) fn behind_ipv4(datagram: &[u8]) -> Option<&[u8]> {
    let length = usize::from(datagram.first()? & 0x0f) * 4;
    datagram.get(length..)
}

/// RFC 1071.
pub(super) fn checksum(message: &[u8]) -> u16 {
    let words =
        message.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low)));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !(((folded & 0xffff) + (folded >> 16)) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn echo(is_v6: bool) -> Echo {
        Echo { is_v6, identifier: 0x1234, token: [7; TOKEN_BYTES], sizes: vec![16] }
    }

    fn written(echo: &Echo, sequence: u16) -> Vec<u8> {
        let mut datagram = Vec::new();
        echo.write(sequence, &mut datagram);
        datagram
    }

    #[test]
    fn a_request_is_whole_and_its_checksum_right() {
        let request = written(&echo(false), 5);
        assert_eq!((request.len(), request[0], &request[4..8]), (24, 8, &[0x12, 0x34, 0, 5][..]));
        // RFC 1071 §1: summed with its checksum, a message comes to zero.
        assert_eq!(checksum(&request), 0);
    }

    #[test]
    fn replies_and_quotes_are_known_by_all_that_they_hold() {
        for is_v6 in [false, true] {
            let echo = echo(is_v6);
            let request = written(&echo, 9);
            assert_eq!(echo.quoted(&request), About::One(9));
            assert_eq!(echo.quoted(&request[..8]), About::One(9), "routers may quote no more");
            assert_eq!(echo.quoted(&request[..7]), About::None);
            let mut reply = request.clone();
            reply[0] = echo.reply();
            let header = if is_v6 { vec![] } else { [vec![0x45], vec![0; 19]].concat() };
            let arrived = |message: &[u8]| [&header, message].concat();
            assert_eq!(echo.answered(&arrived(&reply)), About::One(9));
            assert_eq!(echo.answered(&arrived(&request)), About::None, "our own request, on loopback");
            for at in [4, 8] {
                let mut other = reply.clone();
                other[at] ^= 1;
                assert_eq!(echo.answered(&arrived(&other)), About::None, "another's, by byte {at}");
            }
            assert_eq!(echo.answered(&arrived(&reply[..12])), About::None, "cut");
            assert_eq!(echo.answered(&[]), About::None);
        }
    }
}
