//! How numbers, ends and protocols read.

use std::net::IpAddr;

use lastseen_packet::observation::{FlowKey, protocol};

/// `1,450`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 segment`, `37 segments`.
pub(crate) fn segments(count: u64) -> String {
    if count == 1 { "1 segment".to_owned() } else { format!("{} segments", grouped(count)) }
}

/// Source and destination, with ports where the protocol has them.
pub(crate) fn ends(tuple: &FlowKey) -> (String, String) {
    let has_ports = matches!(tuple.protocol, protocol::TCP | protocol::UDP | protocol::SCTP)
        && (tuple.source_port, tuple.destination_port) != (0, 0);
    let end = |address: IpAddr, port: u16| match address {
        _ if !has_ports => address.to_string(),
        IpAddr::V4(v4) => format!("{v4}:{port}"),
        IpAddr::V6(v6) => format!("[{v6}]:{port}"),
    };
    (end(tuple.source, tuple.source_port), end(tuple.destination, tuple.destination_port))
}

/// `tcp`, or the number of a protocol without a short name.
pub(crate) fn protocol_name(number: u8) -> String {
    match number {
        protocol::TCP => "tcp".to_owned(),
        protocol::UDP => "udp".to_owned(),
        protocol::ICMP => "icmp".to_owned(),
        protocol::ICMPV6 => "icmp6".to_owned(),
        protocol::SCTP => "sctp".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped() {
        let texts = [0, 999, 1000, 12_345, 1_234_567].map(grouped);
        assert_eq!(texts, ["0", "999", "1,000", "12,345", "1,234,567"]);
    }
}
