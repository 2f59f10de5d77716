//! Messages of `ctnetlink`: `linux/netlink.h`, `linux/netfilter/nfnetlink.h`, `linux/netfilter/nfnetlink_conntrack.h`.

use std::net::IpAddr;

use lastseen_packet::observation::{FlowKey, protocol};

use super::Translation;
use crate::netlink::attributes::each;

/// `NFNL_SUBSYS_CTNETLINK`.
const SUBSYSTEM: u16 = 1;
const NEW: u16 = SUBSYSTEM << 8;
const GET: u16 = SUBSYSTEM << 8 | 1;
/// `NLMSG_ERROR` and `NLMSG_DONE`.
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// `NLM_F_REQUEST` and `NLM_F_DUMP`.
const LIST: u16 = 0x0001 | 0x0300;
/// `struct nlmsghdr` and `struct nfgenmsg`.
const HEADER: usize = 16;
const FAMILY: usize = 4;

/// `IPS_SRC_NAT` and `IPS_DST_NAT`.
const TRANSLATED: u32 = 0x30;

// Attributes, `enum ctattr_type` and those nested in it.
pub(super) const TUPLE_ORIGINAL: u16 = 1;
pub(super) const TUPLE_REPLY: u16 = 2;
pub(super) const STATUS: u16 = 3;
const TUPLE_IP: u16 = 1;
pub(super) const TUPLE_PROTO: u16 = 2;

/// What a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// A connection that is translated.
    Translated(Translation),
    /// The end of a list.
    Done,
    /// The kernel refused, with this `errno`.
    Refused(i32),
    /// Nothing of interest.
    Nothing,
}

/// A request for every connection.
pub(super) fn request() -> [u8; HEADER + FAMILY] {
    let mut request = [0; HEADER + FAMILY];
    request[..4].copy_from_slice(&((HEADER + FAMILY) as u32).to_ne_bytes());
    request[4..6].copy_from_slice(&GET.to_ne_bytes());
    request[6..8].copy_from_slice(&LIST.to_ne_bytes());
    request
}

/// Reads the messages of one datagram. What does not hold together ends it.
pub(super) fn read(datagram: &[u8], said: &mut impl FnMut(Said)) {
    let mut rest = datagram;
    while let Some(length) = rest.first_chunk().map(|length| u32::from_ne_bytes(*length) as usize) {
        let Some(message) = rest.get(..length).filter(|message| message.len() >= HEADER) else { return };
        said(one(message));
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
}

fn one(message: &[u8]) -> Said {
    let (header, body) = message.split_at(HEADER);
    match u16::from_ne_bytes([header[4], header[5]]) {
        NEW => body.get(FAMILY..).and_then(connection).map_or(Said::Nothing, Said::Translated),
        DONE => Said::Done,
        ERROR => match body.first_chunk().map(|code| i32::from_ne_bytes(*code)) {
            Some(0) => Said::Nothing,
            code => Said::Refused(code.unwrap_or(0).saturating_neg()),
        },
        _ => Said::Nothing,
    }
}

fn connection(attributes: &[u8]) -> Option<Translation> {
    let (mut original, mut reply, mut status) = (None, None, 0);
    for (kind, value) in each(attributes) {
        match kind {
            TUPLE_ORIGINAL => original = tuple(value),
            TUPLE_REPLY => reply = tuple(value),
            STATUS => status = u32::from_be_bytes(value.try_into().ok()?),
            _ => {}
        }
    }
    let translation = Translation { original: original?, reply: reply? };
    let is_translated = status & TRANSLATED != 0 && translation.reply.reversed()? != translation.original;
    is_translated.then_some(translation)
}

/// Of ICMP, see [`transport`].
pub(super) fn tuple(attributes: &[u8]) -> Option<FlowKey> {
    let (mut source, mut destination) = (None, None);
    let mut tuple = FlowKey::UNSPECIFIED;
    for (kind, value) in each(attributes) {
        match kind {
            TUPLE_IP => {
                for (kind, value) in each(value) {
                    match kind {
                        1 | 3 => source = address(value),
                        2 | 4 => destination = address(value),
                        _ => {}
                    }
                }
            }
            TUPLE_PROTO => transport(value, &mut tuple),
            _ => {}
        }
    }
    (tuple.source, tuple.destination) = (source?, destination?);
    Some(tuple)
}

/// `enum ctattr_l4proto`. In ICMP type and code stand in place of the destination port, and the id, which translation
/// changes, is left out.
fn transport(attributes: &[u8], tuple: &mut FlowKey) {
    let (mut ports, mut kind_and_code) = ([0_u16; 2], [0_u8; 2]);
    for (kind, value) in each(attributes) {
        let port = || value.first_chunk().map_or(0, |port| u16::from_be_bytes(*port));
        let octet = || value.first().copied().unwrap_or(0);
        match kind {
            1 => tuple.protocol = octet(),
            2 => ports[0] = port(),
            3 => ports[1] = port(),
            5 | 8 => kind_and_code[0] = octet(),
            6 | 9 => kind_and_code[1] = octet(),
            _ => {}
        }
    }
    let is_icmp = matches!(tuple.protocol, protocol::ICMP | protocol::ICMPV6);
    [tuple.source_port, tuple.destination_port] =
        if is_icmp { [0, u16::from_be_bytes(kind_and_code)] } else { ports };
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = [(4 + value.len() as u16).to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn nested(kind: u16, value: &[Vec<u8>]) -> Vec<u8> {
        attribute(kind | 0x8000, &value.concat())
    }

    fn tuple_of(kind: u16, source: [u8; 4], destination: [u8; 4], transport: &[Vec<u8>]) -> Vec<u8> {
        let ip = nested(TUPLE_IP, &[attribute(1, &source), attribute(2, &destination)]);
        nested(kind, &[ip, nested(TUPLE_PROTO, transport)])
    }

    fn udp(from: u16, to: u16) -> [Vec<u8>; 3] {
        [attribute(1, &[17]), attribute(2, &from.to_be_bytes()), attribute(3, &to.to_be_bytes())]
    }

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.resize(HEADER, 0);
        bytes.extend(body);
        bytes
    }

    /// A pod's query to a service, translated both ways.
    fn query(status: u32) -> Vec<u8> {
        let attributes = [
            tuple_of(TUPLE_ORIGINAL, [10, 1, 0, 2], [10, 96, 0, 10], &udp(40_000, 53)),
            tuple_of(TUPLE_REPLY, [10, 2, 0, 2], [10, 1, 0, 0], &udp(53, 61_000)),
            attribute(STATUS, &status.to_be_bytes()),
        ];
        message(NEW, &[&[2, 0, 0, 0][..], &attributes.concat()].concat())
    }

    fn said(datagram: &[u8]) -> Vec<Said> {
        let mut all = Vec::new();
        read(datagram, &mut |one| all.push(one));
        all
    }

    #[test]
    fn a_translated_connection_has_both_tuples() {
        let [Said::Translated(found)] = said(&query(0x38))[..] else { panic!("{:?}", said(&query(0x38))) };
        assert_eq!((found.original.source, found.original.source_port), ([10, 1, 0, 2].into(), 40_000));
        assert_eq!(
            (found.original.destination, found.original.destination_port),
            ([10, 96, 0, 10].into(), 53)
        );
        assert_eq!((found.reply.source, found.reply.destination_port), ([10, 2, 0, 2].into(), 61_000));
        assert_eq!(said(&query(0x08)), [Said::Nothing], "its status says that nothing is translated");
    }

    #[test]
    fn echoes_are_known_by_their_type() {
        let icmp =
            |kind: u8| [attribute(1, &[1]), attribute(4, &[0, 7]), attribute(5, &[kind]), attribute(6, &[0])];
        let attributes = [
            tuple_of(TUPLE_ORIGINAL, [10, 1, 0, 2], [192, 168, 0, 9], &icmp(8)),
            tuple_of(TUPLE_REPLY, [192, 168, 0, 9], [192, 168, 0, 1], &icmp(0)),
            attribute(STATUS, &0x10_u32.to_be_bytes()),
        ];
        let body = [&[2, 0, 0, 0][..], &attributes.concat()].concat();
        let [Said::Translated(found)] = said(&message(NEW, &body))[..] else { panic!("not translated") };
        assert_eq!((found.original.destination_port, found.reply.destination_port), (0x0800, 0));
    }

    #[test]
    fn lists_end_and_refusals_say_why() {
        let refused = message(ERROR, &(-1_i32).to_ne_bytes());
        let datagram = [query(0x38), message(DONE, &[0; 4]), refused].concat();
        let all = said(&datagram);
        assert!(matches!(all[..], [Said::Translated(_), Said::Done, Said::Refused(1)]), "{all:?}");
    }

    #[test]
    fn damaged_messages_are_never_a_connection_nor_a_panic() {
        let whole = query(0x38);
        for length in 0..whole.len() {
            assert!(said(&whole[..length]).is_empty(), "{length}");
        }
        for at in 0..whole.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut damaged = whole.clone();
                damaged[at] = value;
                said(&damaged);
            }
        }
    }
}
