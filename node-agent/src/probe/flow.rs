//! Packets of one flow, made by hand: what routers tell flows by, addresses and ports or the first bytes behind the IP header,
//! is the same in all of them; what differs is where a router's quote of eight bytes (RFC 792) still shows it.

use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::datagrams::Datagrams;
use super::icmp::{self, checksum};
use super::train::{About, Message};

/// RFC 768 and RFC 9293.
const UDP_HEADER_BYTES: usize = 8;
const TCP_HEADER_BYTES: usize = 20;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const SYN_ACK: u8 = 0x12;

/// Source, target, and what tells this probe's packets from what else has these ports.
pub(super) struct Flow {
    source: SocketAddr,
    target: SocketAddr,
    token: u16,
    /// Nobody else gets the port while this holds it.
    _held: Option<Socket>,
}

impl Flow {
    /// A flow of UDP or TCP, and a socket that hears what comes back. `port` is the source's; 0: any that is free.
    pub(super) fn open(to: SocketAddr, is_tcp: bool, port: u16) -> io::Result<(Self, Datagrams)> {
        let (number, kind) =
            if is_tcp { (Protocol::TCP, Type::STREAM) } else { (Protocol::UDP, Type::DGRAM) };
        let socket = Datagrams::open(Type::RAW, Some(number), SocketAddr::new(to.ip(), 0))?;
        let source = SocketAddr::new(socket.source()?, port);
        let held = Socket::new(Domain::for_address(source), kind.cloexec(), None)?;
        held.bind(&SockAddr::from(source))?;
        let port = held.local_addr()?.as_socket().map_or(0, |address| address.port());
        socket.hear_only(to.is_ipv6(), port)?;
        let source = SocketAddr::new(source.ip(), port);
        Ok((Self { source, target: to, token: rand::random(), _held: Some(held) }, socket))
    }

    fn ports(&self) -> [u8; 4] {
        let [[a, b], [c, d]] = [self.source.port(), self.target.port()].map(u16::to_be_bytes);
        [a, b, c, d]
    }

    /// What the checksum covers besides the message itself, RFC 768 and RFC 8200 §8.1.
    fn pseudo_header(&self, protocol: u8, length: usize) -> Vec<u8> {
        let mut header = Vec::with_capacity(40);
        match (self.source.ip(), self.target.ip()) {
            (IpAddr::V4(source), IpAddr::V4(target)) => {
                header.extend(source.octets());
                header.extend(target.octets());
                header.extend([0, protocol]);
                header.extend((length as u16).to_be_bytes());
            }
            (source, target) => {
                for address in [source, target] {
                    if let IpAddr::V6(address) = address {
                        header.extend(address.octets());
                    }
                }
                header.extend((length as u32).to_be_bytes());
                header.extend([0, 0, 0, protocol]);
            }
        }
        header
    }

    fn checksum(&self, protocol: u8, message: &[u8]) -> u16 {
        checksum(&[&self.pseudo_header(protocol, message.len()), message].concat())
    }
}

/// Datagrams that differ in their checksum, and in what makes it so.
pub(super) struct Datagram {
    flow: Flow,
    /// Bytes of their payload, one after the other and then again; each as many as it takes at least.
    payloads: Vec<usize>,
}

impl Datagram {
    const NUMBER: u8 = 17;

    pub(super) fn new(flow: Flow, payloads: Vec<usize>) -> Self {
        Self { flow, payloads }
    }

    /// Never 0, which says that there is none.
    fn checksum_of(&self, sequence: u16) -> u16 {
        ((u32::from(sequence) + u32::from(self.flow.token)) % 0xfffe + 1) as u16
    }

    fn sequence_of(&self, checksum: u16) -> u16 {
        let at = i32::from(checksum) - 1 - i32::from(self.flow.token) % 0xfffe;
        at.rem_euclid(0xfffe) as u16
    }
}

impl Message for Datagram {
    fn write(&self, sequence: u16, datagram: &mut Vec<u8>) {
        /// What is evened out, and the token.
        const LEAST: usize = 4;
        let payload = self.payloads.get(usize::from(sequence) % self.payloads.len().max(1));
        let length = UDP_HEADER_BYTES + payload.map_or(LEAST, |payload| (*payload).max(LEAST));
        let wanted = self.checksum_of(sequence);
        datagram.extend(self.flow.ports());
        datagram.extend((length as u16).to_be_bytes());
        datagram.extend(wanted.to_be_bytes());
        datagram.extend([0, 0]);
        datagram.extend(self.flow.token.to_be_bytes());
        datagram.resize(length, 0);
        // With the checksum in it, and this for the missing word, the whole sums up to nothing, as RFC 1071 has it.
        let missing = self.flow.checksum(Self::NUMBER, datagram);
        datagram[UDP_HEADER_BYTES..UDP_HEADER_BYTES + 2].copy_from_slice(&missing.to_be_bytes());
    }

    fn answered(&self, datagram: &[u8]) -> About {
        // Whoever answers does not say to which.
        let message = if self.flow.target.is_ipv6() { Some(datagram) } else { icmp::behind_ipv4(datagram) };
        let ports = message.and_then(|message| message.first_chunk::<4>());
        let [a, b, c, d] = self.flow.ports();
        if ports == Some(&[c, d, a, b]) { About::Some } else { About::None }
    }

    fn quoted(&self, original: &[u8]) -> About {
        let Some([a, b, c, d, _, _, high, low]) = original.first_chunk::<UDP_HEADER_BYTES>() else {
            return About::None;
        };
        if [*a, *b, *c, *d] != self.flow.ports() {
            return About::None;
        }
        About::One(self.sequence_of(u16::from_be_bytes([*high, *low])))
    }
}

/// Connections that are begun; they differ in their sequence number. The kernel resets what answers: nobody here asked.
pub(super) struct Syn(pub(super) Flow);

impl Syn {
    const NUMBER: u8 = 6;

    fn number(&self, sequence: u16) -> u32 {
        u32::from(self.0.token) << 16 | u32::from(sequence)
    }

    fn sequence(&self, number: u32) -> Option<u16> {
        (number >> 16 == u32::from(self.0.token)).then_some(number as u16)
    }
}

impl Message for Syn {
    fn write(&self, sequence: u16, datagram: &mut Vec<u8>) {
        const WINDOW: u16 = 64_240;
        datagram.extend(self.0.ports());
        datagram.extend(self.number(sequence).to_be_bytes());
        datagram.extend([0; 4]);
        datagram.extend([(TCP_HEADER_BYTES as u8 / 4) << 4, SYN]);
        datagram.extend(WINDOW.to_be_bytes());
        datagram.extend([0; 4]);
        let checksum = self.0.checksum(Self::NUMBER, datagram);
        datagram[16..18].copy_from_slice(&checksum.to_be_bytes());
    }

    fn answered(&self, datagram: &[u8]) -> About {
        let segment = if self.0.target.is_ipv6() { Some(datagram) } else { icmp::behind_ipv4(datagram) };
        let Some(header) = segment.and_then(|segment| segment.first_chunk::<TCP_HEADER_BYTES>()) else {
            return About::None;
        };
        let [a, b, c, d] = self.0.ports();
        if header[..4] != [c, d, a, b] {
            return About::None;
        }
        let acknowledged = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
        match (self.sequence(acknowledged.wrapping_sub(1)), header[13]) {
            (Some(sequence), flags) if flags & RST != 0 => About::Refused(sequence),
            (Some(sequence), flags) if flags & SYN_ACK == SYN_ACK => About::One(sequence),
            _ => About::None,
        }
    }

    fn quoted(&self, original: &[u8]) -> About {
        let Some([a, b, c, d, number @ ..]) = original.first_chunk::<8>() else { return About::None };
        if [*a, *b, *c, *d] != self.0.ports() {
            return About::None;
        }
        self.sequence(u32::from_be_bytes(*number)).map_or(About::None, About::One)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(is_v6: bool, token: u16) -> Flow {
        let address = |v4: &str, v6: &str| if is_v6 { v6 } else { v4 }.parse().unwrap();
        Flow {
            source: SocketAddr::new(address("10.0.0.1", "fd00::1"), 40_000),
            target: SocketAddr::new(address("10.0.0.2", "fd00::2"), 443),
            token,
            _held: None,
        }
    }

    fn written(message: &impl Message, sequence: u16) -> Vec<u8> {
        let mut datagram = Vec::new();
        message.write(sequence, &mut datagram);
        datagram
    }

    #[test]
    fn datagrams_of_a_flow_differ_in_their_checksum_alone_and_it_is_right() {
        for (is_v6, token) in [(false, 0xbeef), (true, 0xbeef), (false, 0xffff), (true, 0xfffd), (false, 0)] {
            let message = Datagram::new(flow(is_v6, token), vec![0, 1_000]);
            for sequence in [0, 1, 2, 3, 999, 6_399] {
                let datagram = written(&message, sequence);
                assert_eq!(message.flow.checksum(Datagram::NUMBER, &datagram), 0, "{sequence}");
                assert_eq!(datagram[..4], written(&message, 7)[..4]);
                assert_eq!(datagram.len(), if sequence % 2 == 0 { 12 } else { 1_008 });
                assert_eq!(message.quoted(&datagram[..8]), About::One(sequence), "token {token}");
            }
            assert_eq!(message.quoted(&written(&message, 5)[..7]), About::None);
        }
    }

    #[test]
    fn segments_of_a_flow_differ_in_their_number_and_answers_are_known_by_it() {
        for is_v6 in [false, true] {
            let message = Syn(flow(is_v6, 0xbeef));
            let segment = written(&message, 300);
            assert_eq!(message.0.checksum(Syn::NUMBER, &segment), 0);
            assert_eq!(message.quoted(&segment[..8]), About::One(300));
            let mut answer = segment.clone();
            answer[..4].copy_from_slice(&[segment[2], segment[3], segment[0], segment[1]]);
            answer[8..12].copy_from_slice(&(message.number(300) + 1).to_be_bytes());
            let header = if is_v6 { vec![] } else { [vec![0x45], vec![0; 19]].concat() };
            let answered = |flags: u8| {
                let mut answer = answer.clone();
                answer[13] = flags;
                message.answered(&[&header[..], &answer].concat())
            };
            assert_eq!(answered(SYN_ACK), About::One(300));
            assert_eq!(answered(RST | 0x10), About::Refused(300));
            assert_eq!(answered(SYN), About::None);
            answer[9] ^= 1;
            assert_eq!(message.answered(&[&header[..], &answer].concat()), About::None, "another's");
        }
    }
}
