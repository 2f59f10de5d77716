//! Holds batches and report of a capture against what was sent, acknowledged and true.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use lastseen_proto::v1;

use super::fleet::Fleet;
use super::results::Tally;
use super::stored::{Point, Stored, key};
use crate::scripted::script::{Passage, number, peer, pod};

/// A packet must be judged where every point of its way saw everything for so long before and after it.
const MARGIN_NANOS: i64 = 300_000_000;
/// What two readings of one clock may differ by, and what it is slewed by meanwhile.
const CLOCK_SLACK_NANOS: i64 = 1_000_000;
/// Contradictions that are shown of one path.
const SHOWN: usize = 3;

/// A flow of one direction.
type Flow = (usize, u16);

/// What is true of a flow in a window, and what a report must know of it.
#[derive(Debug, Default)]
struct Truth {
    delivered: u64,
    lost: u64,
    /// Of the delivered, those that every point of their way was there for.
    surely_delivered: u64,
    /// Of the lost, likewise.
    surely_lost: u64,
}

/// Judges a capture that has ended.
pub async fn judge(fleet: &Fleet, capture: &v1::Capture) -> Result<Tally> {
    let stored = Stored::read(fleet, &capture.id).await?;
    let mut tally = batches(fleet, capture, &stored);
    // The database came back after the window: nobody recorded, and the capture says so.
    if capture.state() == v1::CaptureState::Failed && tally.sent == 0 {
        return Ok(Tally { not_started: 1, ..tally });
    }
    // What was acknowledged is counted all the same.
    if capture.state() == v1::CaptureState::Failed && !capture.reason.is_empty() {
        tally.wrong.push(format!("{} has no report: {}", capture.id, capture.reason));
        return Ok(Tally { no_report: 1, ..tally });
    }
    if capture.state() != v1::CaptureState::Completed {
        tally.wrong.push(format!("{} ended as {:?}: {}", capture.id, capture.state(), capture.reason));
        return Ok(tally);
    }
    let client = fleet.client();
    let (report, lost) = (client.report(&capture.id).await?, client.lost(&capture.id).await?);
    let (start, end) = window(capture)?;
    let edges = Edges { start, end, unsure: unsure(&report) };
    let truths = truths(fleet, &stored, edges);
    tally.wrong.extend(unsaid(fleet, &stored, capture, edges).take(SHOWN));
    tally.wrong.extend(compare(&report, &truths));
    tally.wrong.extend(falsely_lost(fleet, &lost, start, end));
    tally.wrong.extend(clocks(fleet, &report));
    tally.wrong.extend(unaccounted(fleet, &stored).take(SHOWN));
    let totals = report.totals.unwrap_or_default();
    tally.judged = totals.delivered + totals.lost;
    tally.in_window = truths.values().map(|truth| truth.delivered + truth.lost).sum();
    tally.not_observable = report.totals.as_ref().map_or(0, |totals| totals.not_observable);
    tally.agent_drops = report.nodes.iter().map(|node| node.agent_drops).sum();
    tally.is_sampled = report.sampling.is_some();
    Ok(tally)
}

/// Points whose batches do not account for every packet.
fn unaccounted(fleet: &Fleet, stored: &Stored) -> impl Iterator<Item = String> {
    let ways = (0..fleet.setup.nodes).flat_map(Passage::all);
    let points = ways.filter_map(|at| Some((at, stored.points.get(&key(at))?)));
    points.flat_map(|(at, point)| point.unaccounted(fleet.setup.script, at))
}

/// Points that are not there from one end of the window to the other although their node says that it missed nothing.
fn unsaid(
    fleet: &Fleet,
    stored: &Stored,
    capture: &v1::Capture,
    edges: Edges,
) -> impl Iterator<Item = String> {
    let is_whole =
        |node: &&v1::CaptureNode| node.state() == v1::CaptureState::Completed && node.coverage.is_empty();
    let whole: Vec<_> = capture.nodes.iter().filter(is_whole).filter_map(|node| number(&node.node)).collect();
    let ways = (0..fleet.setup.nodes).flat_map(Passage::all).filter(move |at| whole.contains(&at.node));
    ways.filter_map(move |at| {
        let span = stored.points.get(&key(at)).and_then(Point::span);
        let is_there = span.is_some_and(|(start, end)| {
            start <= edges.start + edges.unsure && edges.end - edges.unsure <= end
        });
        (!is_there).then(|| format!("{at:?}: {span:?} is not the window, and nobody says so"))
    })
}

/// Sent and acknowledged as the witness saw it, beside what is stored.
pub fn batches(fleet: &Fleet, capture: &v1::Capture, stored: &Stored) -> Tally {
    let is_completed = capture.state() == v1::CaptureState::Completed;
    let capture = &capture.id;
    let seen = fleet.seen.witnessed(capture);
    let missing: Vec<_> = seen.acked.keys().filter(|name| !stored.batches.contains_key(name)).collect();
    let twice = stored.batches.values().map(|count| count - 1).sum::<u64>();
    let repeated =
        stored.points.values().flat_map(|point| point.seen.values()).map(|count| count - 1).sum::<u64>();
    let strange = stored.points.values().map(|point| point.strange).sum::<u64>();
    let mut wrong = Vec::new();
    if strange > 0 {
        wrong.push(format!("{capture}: {strange} observations are of no packet that was sent"));
    }
    wrong.extend(
        stored
            .unreadable
            .iter()
            .take(SHOWN)
            .map(|reason| format!("{capture}: stored, not readable: {reason}")),
    );
    wrong.extend(
        missing.iter().take(SHOWN).map(|name| format!("{capture}: acknowledged, not stored: {name:?}")),
    );
    let of_a_report = is_completed.then_some(&seen.refused).into_iter().flatten().take(SHOWN);
    wrong.extend(of_a_report.map(|(name, why)| format!("refused: {name:?}: {why}")));
    Tally {
        sent: seen.sent.len() as u64,
        acked: seen.acked.len() as u64,
        stored: stored.batches.len() as u64,
        duplicated: twice + repeated,
        lost: (missing.len() + stored.unreadable.len()) as u64,
        refused: seen.refused.len() as u64,
        failed: seen.failed.len() as u64,
        wrong,
        ..Tally::default()
    }
}

fn window(capture: &v1::Capture) -> Result<(i64, i64)> {
    let nanos = |time: &Option<prost_types::Timestamp>| {
        let time = time.as_ref().context("a capture without a window")?;
        Ok::<_, anyhow::Error>(time.seconds * 1_000_000_000 + i64::from(time.nanos))
    };
    Ok((nanos(&capture.window_start)?, nanos(&capture.window_end)?))
}

/// A window, and how far from its edges a packet may be on the other side of them for all that is known of the clocks.
#[derive(Debug, Clone, Copy)]
struct Edges {
    start: i64,
    end: i64,
    unsure: i64,
}

/// The largest error of a clock that the report admits.
fn unsure(report: &v1::DiffReport) -> i64 {
    report.nodes.iter().filter_map(|node| node.clock_error_nanos).max().unwrap_or_default()
}

/// Nodes whose clocks are not what the report says: they share the machine's with the coordinator.
fn clocks(fleet: &Fleet, report: &v1::DiffReport) -> Vec<String> {
    let is_off = |node: &&v1::NodeReport| {
        let admitted = node.clock_error_nanos.unwrap_or_default() + CLOCK_SLACK_NANOS;
        node.clock_offset_nanos.is_some_and(|offset| offset.abs() > admitted)
    };
    let off = report.nodes.iter().filter(|_| fleet.setup.step.is_none()).filter(is_off);
    off.map(|node| {
        let (offset, error) = (node.clock_offset_nanos, node.clock_error_nanos);
        format!("{}: {}: clock off by {offset:?} ± {error:?} ns", report.capture_id, node.node)
    })
    .collect()
}

fn truths(fleet: &Fleet, stored: &Stored, edges: Edges) -> HashMap<Flow, Truth> {
    let Edges { start, end, unsure } = edges;
    let (script, margin) = (fleet.setup.script, MARGIN_NANOS + 2 * unsure);
    let mut truths: HashMap<Flow, Truth> = HashMap::new();
    for from in 0..fleet.setup.nodes {
        let way = Passage::all(from);
        let points = way.map(|at| stored.points.get(&key(at)));
        for (time, packet) in script.passing(way[0], start - unsure, end + unsure) {
            let is_inside = (start + unsure..end - unsure).contains(&time);
            let is_sure = is_inside
                && points
                    .iter()
                    .all(|point| point.is_some_and(|point| point.covers(time - margin, time + margin)));
            let truth = truths.entry((from, script.flow(packet))).or_default();
            let is_lost = script.is_lost(packet);
            truth.lost += u64::from(is_lost);
            truth.delivered += u64::from(!is_lost);
            truth.surely_lost += u64::from(is_lost && is_sure);
            truth.surely_delivered += u64::from(!is_lost && is_sure);
        }
    }
    truths
}

fn compare(report: &v1::DiffReport, truths: &HashMap<Flow, Truth>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut found: HashMap<Flow, v1::SegmentTotals> = HashMap::new();
    for path in &report.paths {
        match ends(&path.source, &path.destination) {
            Some(flow) if truths.contains_key(&flow) && !found.contains_key(&flow) => {
                found.insert(flow, path.totals.unwrap_or_default());
            }
            _ => wrong.push(format!("{} → {}: no such path", path.source, path.destination)),
        }
    }
    for (flow, truth) in truths {
        let totals = found.get(flow).copied().unwrap_or_default();
        // Where less was recorded for a while, only what was selected throughout is judged.
        let sure =
            if report.sampling.is_some() { (0, 0) } else { (truth.surely_lost, truth.surely_delivered) };
        let is_right = (sure.0..=truth.lost).contains(&totals.lost)
            && (sure.1..=truth.delivered).contains(&totals.delivered)
            && totals.segments <= truth.lost + truth.delivered
            && (totals.ambiguous, totals.duplicated, totals.transformed) == (0, 0, 0);
        if !is_right {
            wrong.push(format!("{}: flow {flow:?}: {totals:?} where {truth:?}", report.capture_id));
        }
    }
    wrong
}

/// Packets that the report calls lost and that arrived, or never were; one line for each flow.
fn falsely_lost(fleet: &Fleet, lost: &[v1::LostPacket], start: i64, end: i64) -> Vec<String> {
    let script = fleet.setup.script;
    let mut wrong: HashMap<String, u64> = HashMap::new();
    for one in lost {
        let flow = ends(&one.source, &one.destination);
        let is_true = flow.is_some_and(|(from, _)| {
            let ip_id = one.ip_id.and_then(|id| u16::try_from(id).ok());
            let packet = ip_id.map(|id| script.packet_near(from, id, start.midpoint(end)));
            packet.is_some_and(|packet| script.is_lost(packet))
        });
        if !is_true {
            *wrong.entry(format!("{} → {}", one.source, one.destination)).or_default() += 1;
        }
    }
    wrong
        .into_iter()
        .map(|(path, count)| format!("{path}: {count} packets called lost that arrived"))
        .collect()
}

/// Node and flow of a path's ends.
fn ends(source: &str, destination: &str) -> Option<Flow> {
    let (address, port) = source.rsplit_once(':')?;
    let (to, _) = destination.rsplit_once(':')?;
    let (address, to): (Ipv4Addr, Ipv4Addr) = (address.parse().ok()?, to.parse().ok()?);
    let [_, high, low, _] = address.octets();
    let from = usize::from(high.checked_sub(64)?) << 8 | usize::from(low);
    let flow = port.parse::<u16>().ok()?.checked_sub(40_000)?;
    (pod(from) == address && pod(peer(from)) == to).then_some((from, flow))
}
