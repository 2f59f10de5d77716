//! Words that several tables have in common.

use std::net::IpAddr;

use lastseen_packet::observation::protocol;

/// `RT_TABLE_DEFAULT`, `RT_TABLE_MAIN` and `RT_TABLE_LOCAL` by name, as `ip route` has them; others by number.
pub(super) fn routing_table(number: u32) -> String {
    match number {
        253 => "default".to_owned(),
        254 => "main".to_owned(),
        255 => "local".to_owned(),
        other => other.to_string(),
    }
}

/// IANA protocol numbers that people know by name; others by number.
pub(super) fn ip_protocol(number: u8) -> String {
    let name = match number {
        protocol::ICMP => "icmp",
        2 => "igmp",
        4 => "ipip",
        protocol::TCP => "tcp",
        protocol::UDP => "udp",
        33 => "dccp",
        41 => "ipv6",
        47 => "gre",
        50 => "esp",
        51 => "ah",
        protocol::ICMPV6 => "icmpv6",
        protocol::SCTP => "sctp",
        136 => "udplite",
        other => return other.to_string(),
    };
    name.to_owned()
}

/// A mark, in the base it is thought in; empty: none.
pub(super) fn mark(mark: u32) -> String {
    if mark == 0 { String::new() } else { format!("{mark:#x}") }
}

/// A link-layer address, of any length.
pub(super) fn link_address(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

/// An address of 4 or 16 bytes.
pub(super) fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// Those that are set, in one cell.
pub(super) fn flags(flags: impl IntoIterator<Item = (bool, &'static str)>) -> String {
    let set: Vec<&str> = flags.into_iter().filter(|(is_set, _)| *is_set).map(|(_, name)| name).collect();
    set.join(",")
}

/// Several texts in one cell.
pub(super) fn joined(texts: impl IntoIterator<Item = String>) -> String {
    texts.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(",")
}
