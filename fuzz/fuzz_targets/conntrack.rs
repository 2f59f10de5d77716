//! Arbitrary `ctnetlink` datagrams through the agent's reader.

#![no_main]

#[path = "../../node-agent/src/netlink/attributes.rs"]
#[allow(dead_code, reason = "the agent uses more of it")]
mod attributes;
mod common;
#[path = "../../node-agent/src/conntrack/message.rs"]
#[allow(dead_code, reason = "the agent uses more of it")]
mod message;

use common::{planted, seeds};
use lastseen_packet::observation::{FlowKey, protocol};
use libfuzzer_sys::fuzz_target;
use message::Said;

mod netlink {
    pub(crate) use super::attributes;
}

/// As the agent has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    pub original: FlowKey,
    pub reply: FlowKey,
}

/// `struct nlmsghdr`.
const HEADER: usize = 16;
const NEW: u16 = 0x100;

fuzz_target!(init: seeds(datagrams()), |data: &[u8]| {
    let mut count = 0;
    message::read(data, &mut |said| {
        count += 1;
        if let Said::Translated(found) = said {
            assert_ne!(found.reply.reversed(), Some(found.original), "nothing is translated");
            planted(|| found.original.protocol == protocol::UDP && found.original.destination_port == 0);
        }
    });
    assert!(count <= data.len() / HEADER, "{count} messages of {} bytes", data.len());
});

fn datagrams() -> Vec<(&'static str, Vec<u8>)> {
    let v4 = connection(&[10, 1, 0, 2], &[10, 96, 0, 10], 17);
    let v6 = connection(&[0xfd; 16], &[0xfc; 16], 6);
    let done = message(3, &[0; 4]);
    vec![
        ("udp", v4.clone()),
        ("tcp-over-ipv6", v6.clone()),
        ("icmp", connection(&[10, 1, 0, 2], &[192, 168, 0, 9], 1)),
        ("list", [v4, done].concat()),
        ("refused", message(2, &(-1_i32).to_ne_bytes())),
    ]
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = [(4 + value.len() as u16).to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn message(kind: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.resize(HEADER, 0);
    bytes.extend(body);
    bytes
}

/// From `source` to `destination`, answered by another address.
fn connection(source: &[u8], destination: &[u8], protocol: u8) -> Vec<u8> {
    let first = if source.len() == 4 { 1 } else { 3 };
    let transport = [
        attribute(1, &[protocol]),
        attribute(2, &[0x9c, 0x40]),
        attribute(3, &[0, 53]),
        attribute(5, &[8]),
        attribute(6, &[0]),
    ];
    let tuple = |kind: u16, from: &[u8], to: &[u8]| {
        let ip = attribute(0x8001, &[attribute(first, from), attribute(first + 1, to)].concat());
        attribute(0x8000 | kind, &[ip, attribute(0x8002, &transport.concat())].concat())
    };
    let server = vec![7; source.len()];
    let body = [
        vec![2, 0, 0, 0],
        tuple(1, source, destination),
        tuple(2, &server, source),
        attribute(3, &0x38_u32.to_be_bytes()),
    ];
    message(NEW, &body.concat())
}
