//! Connections that the kernel tracks, and how full the table is.

use lastseen_packet::observation::FlowKey;
use netlink_sys::protocols::NETLINK_NETFILTER;

use super::listing::{Listing, text};
use super::words::{ip_protocol, mark};
use super::{settings, trouble};
use crate::conntrack::entry::{Entry, is_icmp};
use crate::netlink::dump::Request;

pub(super) const COLUMNS: [&str; 14] = [
    "protocol",
    "state",
    "original_source",
    "original_destination",
    "reply_source",
    "reply_destination",
    "timeout_s",
    "mark",
    "zone",
    "flags",
    "original_packets",
    "original_bytes",
    "reply_packets",
    "reply_bytes",
];

/// `IPCTNL_MSG_CT_GET` and `IPCTNL_MSG_CT_NEW` of `NFNL_SUBSYS_CTNETLINK`.
const GET: u16 = 1 << 8 | 1;
const NEW: u16 = 1 << 8;
/// `struct nfgenmsg`; zeroes: of all families.
const HEADER: usize = 4;

pub(super) fn read(mut listing: Listing) -> Result<Listing, String> {
    const WHAT: &str = "the table of connections";
    let request = Request { protocol: NETLINK_NETFILTER, kind: GET, body: &[0; HEADER] };
    let dumped = listing.dump(WHAT, request, |listing, kind, body| {
        let entry = (kind == NEW).then(|| body.get(HEADER..).and_then(Entry::read)).flatten()?;
        listing.row(|_| row(&entry));
        Some(())
    });
    dumped.map_err(|error| trouble(WHAT, &error))?;
    let [count, most] = ["nf_conntrack_count", "nf_conntrack_max"]
        .map(|name| settings::value(&format!("net/netfilter/{name}")).ok()?.parse::<u64>().ok());
    if let (Some(count), Some(most)) = (count, most) {
        let percent = (count * 100).checked_div(most).unwrap_or_default();
        listing.note(format!("{count} of at most {most} connections are tracked, {percent} %"));
    }
    Ok(listing)
}

fn row(entry: &Entry) -> [String; 14] {
    let [original, reply] =
        [(&entry.original, 0), (&entry.reply, 1)].map(|(tuple, way)| ends(tuple, entry.icmp_ids[way]));
    let [(packets, bytes), (reply_packets, reply_bytes)] = entry.counters.map(|counters| {
        (text(counters.map(|counters| counters.packets)), text(counters.map(|counters| counters.bytes)))
    });
    [
        ip_protocol(entry.original.protocol),
        text(entry.state),
        original.0,
        original.1,
        reply.0,
        reply.1,
        text(entry.timeout_seconds),
        mark(entry.mark),
        text(entry.zone),
        entry.flags().join(","),
        packets,
        bytes,
        reply_packets,
        reply_bytes,
    ]
}

/// Both ends with their ports; of ICMP type, code and id stand with the destination.
fn ends(tuple: &FlowKey, icmp_id: Option<u16>) -> (String, String) {
    let FlowKey { source, destination, protocol, source_port, destination_port, .. } = *tuple;
    if is_icmp(protocol) {
        let [kind, code] = destination_port.to_be_bytes();
        let id = icmp_id.map_or_else(String::new, |id| format!(" id {id}"));
        return (source.to_string(), format!("{destination} type {kind} code {code}{id}"));
    }
    if (source_port, destination_port) == (0, 0) {
        return (source.to_string(), destination.to_string());
    }
    let end = |address, port| std::net::SocketAddr::new(address, port).to_string();
    (end(source, source_port), end(destination, destination_port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_have_ports_or_what_icmp_has() {
        let tcp = FlowKey {
            source: [10, 0, 0, 1].into(),
            destination: "fd00::1".parse().unwrap(),
            protocol: 6,
            source_port: 40_000,
            destination_port: 80,
            overlay: None,
        };
        assert_eq!(ends(&tcp, None), ("10.0.0.1:40000".into(), "[fd00::1]:80".into()));
        let icmp = FlowKey { protocol: 1, source_port: 0, destination_port: 0x0800, ..tcp };
        assert_eq!(ends(&icmp, Some(7)), ("10.0.0.1".into(), "fd00::1 type 8 code 0 id 7".into()));
        let gre = FlowKey { protocol: 47, source_port: 0, destination_port: 0, ..tcp };
        assert_eq!(ends(&gre, None), ("10.0.0.1".into(), "fd00::1".into()));
    }
}
