//! A capture's report and a probe's result, as one story.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use lastseen_proto::v1;
use lastseen_proto::v1::diff_report::Verdict;

use super::plan::{Plan, sending_nanos};
use super::sizes;
use crate::model::Capture;
use crate::probes::model::{Probe, Source, TraceProtocol};
use crate::wire::probe::source_message;

/// What was stored of the capture.
pub(super) struct Evidence {
    pub(super) report: v1::DiffReport,
    pub(super) flows: Vec<v1::FlowRecord>,
    pub(super) lost: Vec<v1::LostPacket>,
    pub(super) topologies: BTreeMap<String, v1::NodeTopology>,
}

/// Who speaks to whom: addresses without ports.
type Ends = (IpAddr, IpAddr);

/// The trace.
pub(super) fn assemble(
    plan: &Plan,
    capture: &Capture,
    probe: &Probe,
    from: &Source,
    result: v1::ProbeResult,
    evidence: &Evidence,
) -> v1::PathTrace {
    let own: Option<IpAddr> = result.source_address.parse().ok();
    let report = &evidence.report;
    let way = |ends: Option<Ends>, is_back: bool| {
        let ends = ends?;
        let is_it = |path: &&v1::PathReport| {
            path.protocol == name(plan) && is_between(path, ends) && has_port(path, plan.source_port, is_back)
        };
        report.paths.iter().find(is_it).map(|path| detailed(path, evidence))
    };
    let mut forward = way(own.map(|own| (own, plan.address)), false);
    let back = way(own.map(|own| (plan.address, own)), true);
    let arrived = forward.as_mut().map_or(0, |way| arrived_unseen(way, &result));
    let there = forward.as_ref().map(tuples).unwrap_or_default();
    let lost = evidence
        .lost
        .iter()
        .filter(|packet| there.contains(&(packet.source.clone(), packet.destination.clone())));
    let past = (arrived > 0).then(|| {
        format!("{arrived} packets that the last points did not see were answered: something hands them to the target past these points")
    });
    let doubts = doubts(plan, capture, probe, &result, forward.as_ref(), back.as_ref());
    let verdict = verdict(report, forward.as_ref(), back.as_ref(), !doubts.is_empty());
    v1::PathTrace {
        capture_id: capture.id.clone(),
        probe_id: probe.id.clone(),
        from: Some(source_message(from)),
        source_address: result.source_address.clone(),
        to: plan.to.clone(),
        address: plan.address.to_string(),
        verdict: verdict.into(),
        notes: plan.notes.iter().chain(&past).chain(&doubts).chain(&report.notes).cloned().collect(),
        sizes: sizes::by_size(&result, lost),
        forward,
        back,
        result: Some(result),
        window: report.window,
        nodes: report.nodes.clone(),
    }
}

/// What the sender knows, and no point has seen: packets are not said to have arrived on the word of a capture alone.
fn doubts(
    plan: &Plan,
    capture: &Capture,
    probe: &Probe,
    result: &v1::ProbeResult,
    forward: Option<&v1::PathReport>,
    back: Option<&v1::PathReport>,
) -> Vec<String> {
    let (sent, answered) = (sent(result), answered(result));
    let mut doubts = Vec::new();
    let last = probe.start_nanos + sending_nanos(&probe.spec);
    if capture.window.is_none_or(|window| window.end_nanos <= last) {
        doubts
            .push("the capture ended before the last packet: some were sent unseen; trace again".to_owned());
    }
    let Some(forward) = forward else {
        if sent > 0 {
            doubts.push("none of the packets was seen at any point".to_owned());
        }
        return doubts;
    };
    let seen = forward.hops.first().map_or(0, |hop| hop.seen);
    if seen < sent {
        let missing = sent - seen;
        doubts.push(format!(
            "{missing} of {sent} packets were not seen at the first point: look at what drops them before it, at the source"
        ));
    }
    let is_at_target = forward.hops.last().is_some_and(|last| plan.owners.contains(&last.node));
    if !is_at_target && answered < sent {
        doubts.push(format!(
            "what lies behind the last point is not captured, and {} of {sent} packets were not answered",
            sent - answered
        ));
    }
    let returned = back.and_then(|back| back.hops.last()).map_or(0, |hop| hop.seen);
    // Of a packet that was doubled on its way both copies may be answered.
    let copies = forward.totals.as_ref().map_or(0, |totals| totals.duplicated);
    if returned > answered + copies {
        doubts.push(format!(
            "{returned} answers were seen at the last point before the source, and {answered} reached it: look at what \
             drops them there"
        ));
    }
    doubts
}

fn count(result: &v1::ProbeResult, is: fn(v1::ProbeOutcome) -> bool) -> u64 {
    result.attempts.iter().filter(|attempt| is(attempt.outcome())).count() as u64
}

fn sent(result: &v1::ProbeResult) -> u64 {
    count(result, |outcome| outcome != v1::ProbeOutcome::ProbeNotSent)
}

/// Packets that the target answered, one way or the other.
fn answered(result: &v1::ProbeResult) -> u64 {
    count(result, |outcome| {
        matches!(outcome, v1::ProbeOutcome::ProbeAnswered | v1::ProbeOutcome::ProbeRefused)
    })
}

/// Takes back losses on a leg behind which no point saw anything, if the target answered these packets: they went past the
/// points there, as packets do that a program redirects into the pod. Returns how many.
fn arrived_unseen(way: &mut v1::PathReport, result: &v1::ProbeResult) -> u64 {
    let Some(last) = way.hops.iter().rposition(|hop| hop.seen > 0) else { return 0 };
    let is_beyond = |loss: &v1::Loss| {
        loss.from.as_ref().is_some_and(|from| is_at(from, &way.hops[last])) && last + 1 < way.hops.len()
    };
    let Some(at) = way.losses.iter().position(is_beyond) else { return 0 };
    let lost: u64 = way.losses.iter().map(|loss| loss.count).sum();
    let arrived = (lost + answered(result)).saturating_sub(sent(result)).min(way.losses[at].count);
    way.losses[at].count -= arrived;
    way.hops[last].missing_after -= arrived.min(way.hops[last].missing_after);
    if way.losses[at].count == 0 {
        way.losses.remove(at);
        way.hops[last + 1..].iter_mut().for_each(|hop| hop.bypassed = true);
    }
    if let Some(totals) = &mut way.totals {
        totals.lost -= arrived.min(totals.lost);
        totals.delivered += arrived;
    }
    arrived
}

fn is_at(point: &v1::PointName, hop: &v1::Hop) -> bool {
    (&point.node, &point.interface) == (&hop.node, &hop.interface)
}

/// Whether the probe's own port is at that end of it, of protocols that have ports.
fn has_port(path: &v1::PathReport, port: u16, is_back: bool) -> bool {
    let ending = format!(":{port}");
    let mut tuples = tuples(path).into_iter();
    port == 0 || tuples.any(|(source, to)| if is_back { to } else { source }.ends_with(&ending))
}

/// As reports write it.
fn name(plan: &Plan) -> &'static str {
    match (plan.protocol, plan.address) {
        (TraceProtocol::Icmp, IpAddr::V4(_)) => "icmp",
        (TraceProtocol::Icmp, IpAddr::V6(_)) => "icmp6",
        (TraceProtocol::Udp, _) => "udp",
        (TraceProtocol::Tcp, _) => "tcp",
    }
}

/// `10.0.0.1`, `10.0.0.1:80` or `[fd00::1]:80`.
fn address(text: &str) -> Option<IpAddr> {
    text.parse().ok().or_else(|| text.parse().ok().map(|end: SocketAddr| end.ip()))
}

/// Every tuple of a path, before and after translations.
fn tuples(path: &v1::PathReport) -> BTreeSet<(String, String)> {
    let translated = path.translations.iter().map(|other| (other.source.clone(), other.destination.clone()));
    std::iter::once((path.source.clone(), path.destination.clone())).chain(translated).collect()
}

fn is_between(path: &v1::PathReport, ends: Ends) -> bool {
    let own = |(source, destination): &(String, String)| Some((address(source)?, address(destination)?));
    let tuples = tuples(path);
    // A translation may show the target under one address where the source is under another.
    let all: Vec<Ends> = tuples.iter().filter_map(own).collect();
    all.contains(&ends)
        || (all.iter().any(|(source, _)| *source == ends.0) && all.iter().any(|(_, to)| *to == ends.1))
}

/// With TTL and MTU of each point.
fn detailed(path: &v1::PathReport, evidence: &Evidence) -> v1::PathReport {
    let tuples: BTreeSet<Ends> = tuples(path)
        .iter()
        .filter_map(|(source, destination)| Some((address(source)?, address(destination)?)))
        .collect();
    let mut path = path.clone();
    for hop in &mut path.hops {
        let here = evidence.flows.iter().filter(|flow| {
            let ends = flow.source_address.parse().ok().zip(flow.destination_address.parse().ok());
            flow.node == hop.node
                && flow.interface == hop.interface
                && flow.direction == hop.direction
                && ends.is_some_and(|ends| tuples.contains(&ends))
        });
        let hops: Vec<(u32, u32)> = here.map(|flow| (flow.minimum_ttl, flow.maximum_ttl)).collect();
        hop.minimum_ttl = hops.iter().map(|(least, _)| *least).min();
        hop.maximum_ttl = hops.iter().map(|(_, most)| *most).max();
        let interfaces = evidence.topologies.get(&hop.node).map(|topology| &topology.interfaces);
        let interface = interfaces.into_iter().flatten().find(|interface| interface.name == hop.interface);
        hop.mtu = interface.map(|interface| interface.mtu);
    }
    path
}

/// Of the two ways alone: what else the filter let through says nothing of them.
fn verdict(
    report: &v1::DiffReport,
    forward: Option<&v1::PathReport>,
    back: Option<&v1::PathReport>,
    is_in_doubt: bool,
) -> Verdict {
    let ways: Vec<&v1::PathReport> = forward.into_iter().chain(back).collect();
    let totals = |of: fn(&v1::SegmentTotals) -> u64| -> u64 {
        ways.iter().filter_map(|path| path.totals.as_ref()).map(of).sum()
    };
    if ways.iter().any(|path| !path.losses.is_empty()) || totals(|totals| totals.lost) > 0 {
        Verdict::Lost
    } else if forward.is_none()
        || totals(|totals| totals.delivered) == 0
        || totals(|totals| totals.not_observable + totals.ambiguous) > 0
        || report.nodes.iter().any(is_unseen)
        || is_in_doubt
    {
        Verdict::Inconclusive
    } else {
        Verdict::Delivered
    }
}

/// What happened on a node that failed is not known.
fn is_unseen(node: &v1::NodeReport) -> bool {
    matches!(node.state(), v1::CaptureState::Failed | v1::CaptureState::Cancelled)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A way past the points `a`, `b` and `c` that saw so many, with losses between them.
    fn way(seen: [u64; 3]) -> v1::PathReport {
        let name = |interface: &str| v1::PointName { node: "n".into(), interface: interface.into() };
        let all = ["a", "b", "c"];
        let hop = |(interface, seen): (&str, u64)| v1::Hop {
            node: "n".into(),
            interface: interface.into(),
            seen,
            ..Default::default()
        };
        let lost = |at: usize| seen[at] - seen[at + 1];
        let loss = |at: usize| v1::Loss {
            from: Some(name(all[at])),
            to: Some(name(all[at + 1])),
            count: lost(at),
            ..Default::default()
        };
        let totals = v1::SegmentTotals {
            segments: seen[0],
            delivered: seen[2],
            lost: seen[0] - seen[2],
            ..Default::default()
        };
        v1::PathReport {
            hops: all.into_iter().zip(seen).map(hop).collect(),
            losses: (0..2).filter(|at| lost(*at) > 0).map(loss).collect(),
            totals: Some(totals),
            ..Default::default()
        }
    }

    fn answers(sent: usize, answered: usize) -> v1::ProbeResult {
        let of = |outcome: v1::ProbeOutcome, count| {
            vec![v1::ProbeAttempt { outcome: outcome.into(), ..Default::default() }; count]
        };
        let attempts = [
            of(v1::ProbeOutcome::ProbeAnswered, answered),
            of(v1::ProbeOutcome::ProbeSilent, sent - answered),
        ];
        v1::ProbeResult { attempts: attempts.concat(), ..Default::default() }
    }

    #[test]
    fn what_was_answered_was_not_lost_before_points_that_saw_nothing_at_all() {
        for (seen, answered, arrived, lost) in [
            ([10, 10, 0], 10, 10, vec![]),
            ([10, 7, 0], 7, 7, vec![3]),
            ([10, 7, 0], 5, 5, vec![3, 2]),
            ([10, 10, 0], 0, 0, vec![10]),
            // Some did come there: an answer to a copy says nothing of the packet that was lost.
            ([10, 7, 7], 10, 0, vec![3]),
            ([10, 10, 4], 10, 0, vec![6]),
        ] {
            let mut way = way(seen);
            assert_eq!(arrived_unseen(&mut way, &answers(10, answered)), arrived, "{seen:?} {answered}");
            assert_eq!(
                way.losses.iter().map(|loss| loss.count).collect::<Vec<_>>(),
                lost,
                "{seen:?} {answered}"
            );
            let totals = way.totals.unwrap();
            assert_eq!((totals.lost, totals.delivered + totals.lost), (lost.iter().sum(), 10));
        }
    }
}
