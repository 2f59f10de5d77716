//! What the kernel counts of each protocol (`Documentation/networking/snmp_counter.rst`), of the network
//! namespace of this thread.

use std::fs;

use super::listing::Listing;

pub(super) const COLUMNS: [&str; 2] = ["counter", "value"];

/// Of this thread: /proc/net is that of the process.
const ROOT: &str = "/proc/thread-self/net";
/// Files in which a line of names stands before each line of values.
const IN_PAIRS: [&str; 2] = ["snmp", "netstat"];
/// The file of IPv6, with one counter in a line; a kernel without IPv6 has none.
const IN_LINES: &str = "snmp6";

pub(super) fn read(mut listing: Listing) -> Result<Listing, String> {
    let read = |file: &str| {
        let path = format!("{ROOT}/{file}");
        fs::read_to_string(&path)
            .map_err(|error| format!("{path} cannot be read: {error}; mount /proc for the agent"))
    };
    for file in IN_PAIRS {
        let text = read(file)?;
        for (name, value) in pairs(&text) {
            listing.row(|_| [name, value.to_owned()]);
        }
    }
    let text = read(IN_LINES).unwrap_or_default();
    for (name, value) in text.lines().filter_map(|line| line.split_once(char::is_whitespace)) {
        listing.row(|_| [name.to_owned(), value.trim().to_owned()]);
    }
    Ok(listing)
}

/// `Ip: A B` and `Ip: 1 2` make `IpA` 1 and `IpB` 2, as nstat(8) has them.
fn pairs(text: &str) -> Vec<(String, &str)> {
    let lines: Vec<&str> = text.lines().collect();
    lines.as_chunks::<2>().0.iter().flat_map(|[names, values]| block(names, values)).collect()
}

/// Of two lines that are of one protocol.
fn block<'t>(names: &str, values: &'t str) -> Vec<(String, &'t str)> {
    match (names.split_once(": "), values.split_once(": ")) {
        (Some((protocol, names)), Some((same, values))) if protocol == same => names
            .split_whitespace()
            .zip(values.split_whitespace())
            .map(|(name, value)| (format!("{protocol}{name}"), value))
            .collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_above_values() {
        let text = "Ip: Forwarding InReceives\nIp: 1 42\nTcpExt: SyncookiesSent\nTcpExt: 7\nIpExt: Odd\n";
        let read = pairs(text);
        let read: Vec<(&str, &str)> = read.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        assert_eq!(read, [("IpForwarding", "1"), ("IpInReceives", "42"), ("TcpExtSyncookiesSent", "7")]);
        assert!(pairs("Ip: A\nTcp: 1\n").is_empty(), "of two protocols");
    }
}
