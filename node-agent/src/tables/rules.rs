//! Rules that choose a routing table, in the order in which they are tried, ip-rule(8).

use netlink_packet_core::Parseable as _;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage, RulePortRange};
use netlink_sys::protocols::NETLINK_ROUTE;

use super::listing::{Listing, text};
use super::trouble;
use super::words::{flags, ip_protocol, joined, routing_table};
use crate::netlink::dump::Request;

pub(super) const COLUMNS: [&str; 14] = [
    "family",
    "priority",
    "from",
    "to",
    "incoming",
    "outgoing",
    "mark",
    "protocol",
    "source_ports",
    "destination_ports",
    "users",
    "action",
    "table",
    "flags",
];

/// `RTM_GETRULE` and `RTM_NEWRULE`.
const GET: u16 = 34;
const NEW: u16 = 32;
/// `struct fib_rule_hdr`.
const HEADER: usize = 12;

pub(super) fn read(mut listing: Listing) -> Result<Listing, String> {
    for (family, what) in [(AddressFamily::Inet, "IPv4 rules"), (AddressFamily::Inet6, "IPv6 rules")] {
        let mut body = [0; HEADER];
        body[0] = family.into();
        let request = Request { protocol: NETLINK_ROUTE, kind: GET, body: &body };
        let dumped = listing.dump(what, request, |listing, kind, body| {
            let message = (kind == NEW).then(|| RuleMessage::parse(body).ok()).flatten()?;
            // A kernel without IPv6 answers with all others.
            if message.header.family == family {
                listing.row(|_| row(&message));
            }
            Some(())
        });
        dumped.map_err(|error| trouble(what, &error))?;
    }
    Ok(listing)
}

/// What a rule has, by kind of attribute.
#[derive(Default)]
struct Rule {
    priority: u32,
    from: String,
    to: String,
    incoming: String,
    outgoing: String,
    mark: Option<u32>,
    mask: Option<u32>,
    protocol: String,
    source_ports: String,
    destination_ports: String,
    users: String,
    table: u32,
    goto: u32,
    others: Vec<String>,
}

fn row(message: &RuleMessage) -> [String; 14] {
    let (header, rule) = (&message.header, rule(message));
    let action = match header.action {
        RuleAction::ToTable => "lookup".to_owned(),
        RuleAction::Goto => format!("goto {}", rule.goto),
        RuleAction::Other(number) => number.to_string(),
        known => format!("{known:?}").to_lowercase(),
    };
    let has = |flag| header.flags.contains(flag);
    let plain = flags([
        (has(RuleFlags::Invert), "not"),
        (has(RuleFlags::IifDetached), "incoming_detached"),
        (has(RuleFlags::OifDetached), "outgoing_detached"),
        (has(RuleFlags::Unresolved), "unresolved"),
    ]);
    let tos = if header.tos == 0 { String::new() } else { format!("tos {:#x}", header.tos) };
    [
        if header.family == AddressFamily::Inet6 { "ipv6" } else { "ipv4" }.to_owned(),
        rule.priority.to_string(),
        rule.from,
        rule.to,
        rule.incoming,
        rule.outgoing,
        mark(rule.mark, rule.mask),
        rule.protocol,
        rule.source_ports,
        rule.destination_ports,
        rule.users,
        action,
        if header.action == RuleAction::ToTable { routing_table(rule.table) } else { String::new() },
        joined([plain, tos].into_iter().chain(rule.others)),
    ]
}

fn rule(message: &RuleMessage) -> Rule {
    let header = &message.header;
    let mut rule = Rule { table: header.table.into(), ..Rule::default() };
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Priority(priority) => rule.priority = *priority,
            RuleAttribute::Source(address) => rule.from = format!("{address}/{}", header.src_len),
            RuleAttribute::Destination(address) => rule.to = format!("{address}/{}", header.dst_len),
            RuleAttribute::Iifname(name) => rule.incoming.clone_from(name),
            RuleAttribute::Oifname(name) => rule.outgoing.clone_from(name),
            RuleAttribute::FwMark(mark) => rule.mark = Some(*mark),
            RuleAttribute::FwMask(mask) => rule.mask = Some(*mask),
            RuleAttribute::IpProtocol(number) => rule.protocol = ip_protocol(i32::from(*number) as u8),
            RuleAttribute::SourcePortRange(range) => rule.source_ports = ports(*range),
            RuleAttribute::DestinationPortRange(range) => rule.destination_ports = ports(*range),
            RuleAttribute::UidRange(range) => rule.users = format!("{}-{}", range.start, range.end),
            RuleAttribute::Table(table) => rule.table = *table,
            RuleAttribute::Goto(priority) => rule.goto = *priority,
            RuleAttribute::L3MDev(true) => rule.others.push("l3mdev".to_owned()),
            // The kernel tells of it where it is not set, too: all bits.
            RuleAttribute::SuppressPrefixLen(length) if *length != u32::MAX => {
                rule.others.push(format!("suppress_prefixlength {length}"));
            }
            RuleAttribute::SuppressIfGroup(group) if *group != u32::MAX => {
                rule.others.push(format!("suppress_ifgroup {group}"));
            }
            RuleAttribute::TunId(id) => rule.others.push(format!("tun_id {id}")),
            _ => {}
        }
    }
    rule
}

fn mark(mark: Option<u32>, mask: Option<u32>) -> String {
    match (mark, mask) {
        (None, None) => String::new(),
        (mark, None | Some(u32::MAX)) => text(mark.map(|mark| format!("{mark:#x}"))),
        (mark, Some(mask)) => format!("{:#x}/{mask:#x}", mark.unwrap_or_default()),
    }
}

fn ports(range: RulePortRange) -> String {
    if range.start == range.end { range.start.to_string() } else { format!("{}-{}", range.start, range.end) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_has_its_mask_unless_it_is_whole() {
        let marks = [(None, None), (Some(1), None), (Some(1), Some(u32::MAX)), (Some(0), Some(0x80))];
        assert_eq!(marks.map(|(value, mask)| mark(value, mask)), ["", "0x1", "0x1", "0x0/0x80"]);
        assert_eq!(ports(RulePortRange { start: 53, end: 53 }), "53");
        assert_eq!(ports(RulePortRange { start: 1, end: 1023 }), "1-1023");
    }
}
