//! Filters put together of every word and sign that pcap-filter(7) knows, compiled and run.
//!
//! Each byte chooses a word. Names stand only where libpcap does not look them up in the network.

#![no_main]

mod common;
#[path = "../../node-agent/src/filter/mod.rs"]
#[allow(dead_code, reason = "the agent uses more of it")]
mod filter;

use common::{planted, seeds};
use filter::Filter;
use libfuzzer_sys::fuzz_target;

const WORDS: [&str; 64] = [
    "host",
    "net",
    "port",
    "portrange 1000-2000",
    "src",
    "dst",
    "and",
    "or",
    "not",
    "(",
    ")",
    "[",
    "]",
    ":",
    "ip",
    "ip6",
    "tcp",
    "udp",
    "icmp",
    "icmp6",
    "sctp",
    "proto \\tcp",
    "10.1.0.2",
    "10.0.0.0/8",
    "fd00::1",
    "fd00::/8",
    "0",
    "1",
    "2",
    "4",
    "8",
    "13",
    "20",
    "80",
    "443",
    "9",
    "65535",
    "0xff",
    "4294967295",
    "4294967296",
    "-",
    "+",
    "*",
    "/",
    "%",
    "&",
    "|",
    "^",
    "<<",
    ">>",
    "=",
    "!=",
    "<",
    ">",
    "<=",
    ">=",
    "tcp-syn",
    "tcpflags",
    "len",
    "less",
    "greater",
    "vlan",
    "ether",
    "mpls",
];

fuzz_target!(init: seeds(filters()), |data: &[u8]| {
    let words: Vec<&str> = data.iter().map(|byte| WORDS[usize::from(*byte) % WORDS.len()]).collect();
    let expression = words.join(" ");
    match Filter::compile(&expression) {
        Ok(filter) => {
            let (v4, v6) = (packet_v4(), packet_v6());
            let matched = [&v4[..], &v6, &v4[..1], &[]].map(|packet| filter.matches_packet(packet));
            assert!(!filter.is_empty() || matched == [true; 4]);
            // Joined by `or` with what holds for every packet, it holds for every whole packet.
            planted(|| matched[0] && !matched[1] && words.contains(&"[") && words.contains(&"or"));
        }
        Err(error) => {
            let text = error.to_string();
            assert!(text.starts_with("filter: ") && text.len() < 2 * expression.len() + 1_000, "{text}");
        }
    }
});

/// The words of a filter as the bytes that choose them.
fn chosen(expression: &str) -> Vec<u8> {
    let index = |word: &str| WORDS.iter().position(|known| *known == word).expect(word) as u8;
    expression.split(' ').map(index).collect()
}

fn filters() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("pair", chosen("host 10.1.0.2 and tcp port 80")),
        ("either", chosen("( udp or icmp ) and not net 10.0.0.0/8")),
        ("flags", chosen("tcp [ tcpflags ] & tcp-syn != 0")),
        ("raw", chosen("ip [ 20 : 2 ] = 443")),
        ("range", chosen("src port 443 and dst host fd00::1")),
    ]
}

/// A SYN from 10.1.0.2 to port 80.
fn packet_v4() -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 1, 0, 2, 10, 2, 0, 2];
    packet.extend([0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]);
    packet
}

/// A datagram from fd00::1 to port 443.
fn packet_v6() -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0, 0, 8, 17, 64];
    for last in [1, 2] {
        packet.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    packet.extend([0x9c, 0x40, 1, 0xbb, 0, 8, 0, 0]);
    packet
}
