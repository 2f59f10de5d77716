//! Frames of tunnels, as a capture saw them on both ends.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use lastseen_proto::v1;
use lastseen_proto::v1::{CheckItem, ProbeOutcome as Outcome};

use super::super::FLOWS_MOST;
use super::{Found, Judged};
use crate::model::{Capture, Part, PointStatus, State};
use crate::probes::model::Source;
use crate::wire::probe::source;

const ITEM: CheckItem = CheckItem::CheckOverlay;
/// IANA number of UDP.
const UDP: u32 = 17;

/// What is known of them.
pub(in crate::checks) struct Frames {
    /// Nodes by their addresses in the tunnel.
    members: BTreeMap<IpAddr, String>,
    datagrams: Found,
    seen: Result<Seen, String>,
}

/// What the capture saw.
struct Seen {
    capture: String,
    /// By both ends.
    pairs: BTreeMap<(IpAddr, IpAddr), Pair>,
    /// Nodes of which it saw not everything.
    partly: BTreeSet<String>,
}

/// Datagrams from one host to another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Pair {
    /// Frames on the sender's carrier.
    left: Point,
    /// Frames on the receiver's.
    arrived: Point,
    /// Out of the receiver's tunnel.
    inside: Point,
    tunnel: String,
}

/// Where most of them were seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Point {
    packets: u64,
    interface: String,
}

impl Point {
    fn see(&mut self, record: &v1::FlowRecord) {
        if record.packet_delta_count > self.packets {
            (self.packets, self.interface) = (record.packet_delta_count, record.interface.clone());
        }
    }
}

impl Frames {
    pub(in crate::checks) fn new(
        members: BTreeMap<IpAddr, String>,
        port: u16,
        datagrams: Found,
        seen: Result<(Arc<Capture>, Vec<v1::FlowRecord>), String>,
    ) -> Self {
        let seen = seen.map(|(capture, flows)| {
            let is_whole = |part: &&Part| {
                let dropped = |point: &PointStatus| point.counters.kernel_drops + point.counters.agent_drops;
                part.state == State::Completed
                    && part.coverage.is_empty()
                    && part.points.iter().all(|point| dropped(point) == 0)
            };
            let partly = capture.parts.iter().filter(|part| !is_whole(part)).map(|part| part.node.clone());
            let mut partly: BTreeSet<String> = partly.collect();
            // What is summed up cannot be told apart.
            partly.extend(flows.iter().filter(|flow| flow.aggregate.is_some()).map(|flow| flow.node.clone()));
            if flows.len() >= FLOWS_MOST {
                partly.extend(members.values().cloned());
            }
            Seen { capture: capture.id.clone(), pairs: pairs(&members, port, &flows), partly }
        });
        Self { members, datagrams, seen }
    }

    /// The probe that sent them.
    pub(super) fn probe(&self) -> &str {
        self.datagrams.as_ref().map_or("", |probe| probe.id.as_str())
    }

    /// The capture that watched; empty: there was none.
    pub(super) fn capture(&self) -> &str {
        self.seen.as_ref().map_or("", |seen| seen.capture.as_str())
    }

    /// From each host to each that it sent to.
    pub(super) fn judge(&self) -> Vec<(Source, Judged)> {
        let probe = match &self.datagrams {
            Ok(probe) => probe,
            Err(why) => {
                let host = |node: &String| Source { node: node.clone(), netns: String::new() };
                return self
                    .members
                    .values()
                    .map(|node| (host(node), Judged::unknown(ITEM, why, "")))
                    .collect();
            }
        };
        let mut judged = Vec::new();
        for part in &probe.parts {
            let from = source(part.source.clone().unwrap_or_default());
            if let Some(report) = probe.reports.iter().find(|report| report.source == part.source) {
                judged.extend(report.results.iter().map(|result| (from.clone(), self.of(&from, result))));
            } else {
                let why = if part.reason.is_empty() { "it did not report" } else { &part.reason };
                judged.push((from, Judged::unknown(ITEM, why, "")));
            }
        }
        judged
    }

    fn of(&self, from: &Source, result: &v1::ProbeResult) -> Judged {
        let own = self.members.iter().find(|(_, node)| **node == from.node).map(|(address, _)| *address);
        let to: Option<IpAddr> = result.address.parse().ok();
        let far = to.and_then(|to| self.members.get(&to)).cloned().unwrap_or_default();
        let judged = match (&self.seen, own.zip(to)) {
            _ if !result.reason.is_empty() => Judged::unknown(ITEM, &result.reason, ""),
            (Ok(seen), Some(ends)) => {
                let pair = seen.pairs.get(&ends).cloned().unwrap_or_default();
                let is_partly = seen.partly.contains(&far) || seen.partly.contains(&from.node);
                judge(
                    &pair,
                    &Sent::of(result),
                    is_partly.then_some(seen.capture.as_str()),
                    from,
                    &far,
                    &result.address,
                )
            }
            (Err(why), _) if Sent::of(result).answered > 0 => {
                Judged::pass(ITEM, format!("datagrams come through; no frame was looked at: {why}"))
            }
            (Err(why), _) => Judged::unknown(ITEM, format!("no frame was looked at: {why}"), ""),
            (Ok(_), None) => Judged::unknown(ITEM, "its addresses are not known", ""),
        };
        Judged { target: result.target.clone(), target_node: far, ..judged }
    }
}

/// What the sender knows.
struct Sent {
    sent: u64,
    /// By the receiver's kernel: nobody listens there. It does so now and then only (`icmp_ratelimit`).
    answered: u64,
}

impl Sent {
    fn of(result: &v1::ProbeResult) -> Self {
        let count = |is: fn(Outcome) -> bool| {
            result.attempts.iter().filter(|attempt| is(attempt.outcome())).count() as u64
        };
        Self {
            sent: count(|outcome| outcome != Outcome::ProbeNotSent),
            answered: count(|outcome| matches!(outcome, Outcome::ProbeAnswered | Outcome::ProbeRefused)),
        }
    }
}

/// Datagrams to this port by their ends.
fn pairs(
    members: &BTreeMap<IpAddr, String>,
    port: u16,
    flows: &[v1::FlowRecord],
) -> BTreeMap<(IpAddr, IpAddr), Pair> {
    let mut pairs: BTreeMap<(IpAddr, IpAddr), Pair> = BTreeMap::new();
    for flow in flows {
        let is_one = flow.protocol_identifier == UDP && flow.destination_transport_port == u32::from(port);
        let ends = flow.source_address.parse().ok().zip(flow.destination_address.parse().ok());
        let Some((from, to)) = ends.filter(|_| is_one && flow.aggregate.is_none()) else { continue };
        let (Some(sender), Some(receiver)) = (members.get(&from), members.get(&to)) else { continue };
        let pair = pairs.entry((from, to)).or_default();
        match &flow.overlay {
            Some(overlay) if flow.node == *sender => {
                pair.left.see(flow);
                pair.tunnel = tunnel(*overlay);
            }
            Some(overlay) if flow.node == *receiver => {
                pair.arrived.see(flow);
                pair.tunnel = tunnel(*overlay);
            }
            None if flow.node == *receiver => pair.inside.see(flow),
            _ => {}
        }
    }
    pairs
}

/// `vxlan 42`.
fn tunnel(overlay: v1::OverlayReport) -> String {
    let kind = overlay.kind().as_str_name().to_lowercase();
    if overlay.id == 0 { kind } else { format!("{kind} {}", overlay.id) }
}

fn judge(pair: &Pair, sent: &Sent, gaps_in: Option<&str>, from: &Source, to: &str, address: &str) -> Judged {
    let Pair { left, arrived, inside, tunnel } = pair;
    let Sent { sent, answered } = *sent;
    let trace = format!("`ctl trace-path {from} {address}` shows where");
    let some = |of: &Point, what: &str| format!("{} of {sent} {what} {} of {to}", of.packets, of.interface);
    match () {
        () if sent == 0 => Judged::unknown(ITEM, "none could be sent", trace),
        () if arrived.packets >= sent && (inside.packets >= sent || inside.packets == 0 && answered > 0) => {
            Judged::pass(ITEM, format!("{} ({tunnel})", some(arrived, "frames arrive on")))
        }
        // Frames of an encrypted tunnel cannot be told from others.
        () if inside.packets >= sent => Judged::pass(ITEM, some(inside, "come out of")),
        () if answered > 0 && arrived.packets == 0 => Judged::pass(ITEM, "answered, and seen nowhere"),
        () if let Some(capture) = gaps_in => Judged::unknown(
            ITEM,
            "not all came through, and the capture has gaps",
            format!("run it again; `ctl show-capture {capture}` says what is missing"),
        ),
        () if arrived.packets >= sent && inside.packets == 0 => Judged::fail(
            ITEM,
            format!(
                "frames arrive on {} of {to} ({tunnel}) and do not come out of its tunnel",
                arrived.interface
            ),
            format!("compare VNI, port and checksums of both ends: `ctl show-node {to} --interfaces`"),
        ),
        () if arrived.packets > 0 && arrived.packets < sent => {
            Judged::fail(ITEM, format!("{} ({tunnel})", some(arrived, "frames arrive on")), trace)
        }
        () if inside.packets > 0 => Judged::fail(ITEM, some(inside, "come out of"), trace),
        () if left.packets > 0 => Judged::fail(
            ITEM,
            format!("{} frames left {} ({tunnel}), and none arrived on {to}", left.packets, left.interface),
            format!(
                "let the tunnel's packets through from {from} to {to}: firewalls, security groups, routes of the underlay"
            ),
        ),
        () => Judged::fail(
            ITEM,
            format!("{sent} were sent, and no frame left {from}"),
            format!("look at `ctl show-node {} --routes` and `--fdb`; {trace}", from.node),
        ),
    }
}

#[cfg(test)]
mod tests {
    use lastseen_proto::v1::check_result::Verdict;

    use super::*;

    fn address(last: u8) -> IpAddr {
        [10, 244, last, 0].into()
    }

    const PORT: u16 = 20_001;

    /// Datagrams from the first host to the second.
    fn flow(node: &str, overlay: bool, packets: u64) -> v1::FlowRecord {
        v1::FlowRecord {
            node: node.into(),
            interface: if overlay { "eth0" } else { "vxlan0" }.into(),
            source_address: address(1).to_string(),
            destination_address: address(2).to_string(),
            protocol_identifier: UDP,
            destination_transport_port: PORT.into(),
            overlay: overlay.then(|| v1::OverlayReport { kind: v1::OverlayKind::Vxlan.into(), id: 1 }),
            packet_delta_count: packets,
            ..v1::FlowRecord::default()
        }
    }

    fn judged(flows: &[v1::FlowRecord], answered: u64, is_partly: bool) -> (Verdict, String) {
        let members = BTreeMap::from([(address(1), "a".to_owned()), (address(2), "b".to_owned())]);
        let pair = pairs(&members, PORT, flows).remove(&(address(1), address(2))).unwrap_or_default();
        let from = Source { node: "a".into(), netns: String::new() };
        let judged =
            judge(&pair, &Sent { sent: 3, answered }, is_partly.then_some("c-1"), &from, "b", "10.244.2.0");
        (judged.verdict, judged.reason)
    }

    fn fails(words: &str) -> (Verdict, String) {
        (Verdict::Fail, words.to_owned())
    }

    #[test]
    fn frames_tell_where_they_were_seen_last() {
        let (left, arrived, inside) = (flow("a", true, 3), flow("b", true, 3), flow("b", false, 3));
        let well = (Verdict::Pass, "3 of 3 frames arrive on eth0 of b (vxlan 1)".to_owned());
        assert_eq!(judged(&[left.clone(), arrived.clone(), inside.clone()], 1, false), well);
        assert_eq!(
            judged(&[left.clone(), arrived.clone(), inside], 0, false),
            well,
            "answers are the other way's"
        );
        assert_eq!(
            judged(&[left.clone(), arrived], 0, false),
            fails("frames arrive on eth0 of b (vxlan 1) and do not come out of its tunnel")
        );
        assert_eq!(
            judged(std::slice::from_ref(&left), 0, false),
            fails("3 frames left eth0 (vxlan 1), and none arrived on b")
        );
        assert_eq!(
            judged(&[left, flow("b", true, 1)], 1, false),
            fails("1 of 3 frames arrive on eth0 of b (vxlan 1)")
        );
        let out_of_it = [flow("b", true, 3), flow("b", false, 1)];
        assert_eq!(judged(&out_of_it, 0, false), fails("1 of 3 come out of vxlan0 of b"));
        assert_eq!(judged(&[], 0, false), fails("3 were sent, and no frame left a"));
    }

    #[test]
    fn an_encrypted_tunnel_is_well_if_datagrams_come_out_of_it() {
        let out = |packets| judged(&[flow("b", false, packets)], 0, false);
        assert_eq!(out(3), (Verdict::Pass, "3 of 3 come out of vxlan0 of b".into()));
        assert_eq!(out(2), fails("2 of 3 come out of vxlan0 of b"));
        assert_eq!(judged(&[], 1, false).0, Verdict::Pass, "and if it is answered");
    }

    #[test]
    fn what_was_not_seen_is_not_held_against_a_tunnel() {
        assert_eq!(judged(&[flow("a", true, 3)], 0, true).0, Verdict::Unknown, "the capture has gaps");
        let other = v1::FlowRecord { destination_transport_port: 53, ..flow("b", true, 3) };
        assert_eq!(judged(&[other], 0, false).0, Verdict::Fail, "another's datagrams");
        let summed = v1::FlowRecord { aggregate: Some(v1::FlowAggregate::default()), ..flow("b", true, 3) };
        assert_eq!(judged(&[summed], 0, false).0, Verdict::Fail);
    }
}
