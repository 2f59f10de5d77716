//! The notes of a report: what the verdict rests on and what was missing.

use std::collections::BTreeSet;

use crate::clock::READING_NANOS;
use crate::evidence::flows::Flow;
use crate::input::CaptureState;
use crate::report::advice;
use crate::report::assemble::Assembler;
use crate::report::text::grouped;
use crate::report::{Hop, PointName, Report, Sampling};

/// Most notes about single points.
const POINT_NOTES: usize = 20;

/// A line each, most important first.
pub(crate) fn write(found: &Assembler<'_, '_>, report: &Report) -> Vec<String> {
    let mut notes = Vec::new();
    notes.extend(sampled(report));
    notes.extend(nothing_seen(found, report));
    notes.extend(nothing_compared(report).filter(|_| !found.coverage.iter().any(|point| point.is_apart)));
    notes.extend(failed_nodes(report));
    notes.extend(wrong_clocks(found));
    let doubts = blind_points(found);
    if doubts.is_empty() && !report.paths.is_empty() {
        let points = match found.job.points.len() {
            1 => "the only point".to_owned(),
            count => format!("any of {count} points"),
        };
        notes.push(format!("observed with no capture loss at {points}"));
    }
    let more = doubts.len().saturating_sub(POINT_NOTES);
    notes.extend(doubts.into_iter().take(POINT_NOTES));
    if more > 0 {
        notes.push(format!("{} more points were blind at times", grouped(more as u64)));
    }
    notes.extend(incomplete(found));
    notes.extend(cut_short(found));
    notes.extend(unknown_tenants(found));
    notes.extend(not_captured(found));
    notes.extend(translated_unseen(found));
    notes.extend(in_pieces(report));
    notes.extend(limits(found, report));
    notes
}

fn nothing_seen(found: &Assembler<'_, '_>, report: &Report) -> Option<String> {
    if report.nodes.iter().any(|node| node.packets > 0) {
        return report.paths.is_empty().then(|| {
            "no packet was first seen within the window: all of them belong to its lead or tail".to_owned()
        });
    }
    let (start, end) = (found.job.window.start_nanos, found.job.window.end_nanos);
    let silent = found.coverage.iter().filter(|point| point.uncovered(start, end) >= end - start).count();
    if silent > 0 {
        return Some(format!(
            "no packet is known of: nothing arrived from {silent} of {} captured points; see the state of the nodes",
            found.coverage.len()
        ));
    }
    let received: u64 = found.coverage.iter().map(|point| point.totals.received).sum();
    let sampled_out: u64 = found.coverage.iter().map(|point| point.totals.sampled_out).sum();
    if sampled_out > 0 {
        let of = grouped(sampled_out);
        return Some(format!("none of {of} packets was selected: capture longer, or leave out --sample"));
    }
    let filter = &found.job.filter;
    Some(if found.job.points.is_empty() {
        "no interface was captured: see the state of the nodes".to_owned()
    } else if received > 0 && !filter.is_empty() {
        format!("the filter \"{filter}\" matched none of {} packets", grouped(received))
    } else if filter.is_empty() {
        "no packet passed any of the captured interfaces during the window".to_owned()
    } else {
        format!(
            "no packet matched the filter \"{filter}\": check it and that the traffic ran during the window"
        )
    })
}

/// That the counts are not of everything.
fn sampled(report: &Report) -> Option<String> {
    report.sampling.map(|Sampling { interval, varied }| {
        let at_times = if varied { ", at times more" } else { "" };
        format!(
            "sampled: 1 in {} segments was judged{at_times}; every count is of these, none is scaled up",
            grouped(interval.into())
        )
    })
}

fn nothing_compared(report: &Report) -> Option<String> {
    let alone = !report.paths.is_empty() && report.paths.iter().all(|path| path.hops.len() < 2);
    alone.then(|| {
        "captured at one point only: nothing to compare; capture more nodes or interfaces".to_owned()
    })
}

/// What the sums leave out. Where nothing was compared at all another note says so.
pub(crate) fn uncompared(report: &Report, count: u64) -> Option<String> {
    (count > 0 && nothing_compared(report).is_none()).then(|| {
        format!(
            "{} segments were seen at one point only and compared with nothing: they are not judged",
            grouped(count)
        )
    })
}

fn failed_nodes(report: &Report) -> impl Iterator<Item = String> {
    report.nodes.iter().filter(|node| is_failed(node.state)).map(|node| {
        let reason = if node.reason.is_empty() { "no reason given" } else { &node.reason };
        format!("{} did not complete: {reason}", node.node)
    })
}

fn is_failed(state: CaptureState) -> bool {
    matches!(state, CaptureState::Failed | CaptureState::Cancelled)
}

/// Clocks that packets show to be elsewhere than the coordinator measured them.
fn wrong_clocks(found: &Assembler<'_, '_>) -> Vec<String> {
    let wrong = found.job.nodes.iter().enumerate().filter_map(|(index, node)| {
        let ahead = found.clocks.ahead_nanos(index);
        (ahead.abs() > node.clock_error_nanos?.saturating_add(READING_NANOS)).then(|| {
            let side = if ahead > 0 { "ahead of" } else { "behind" };
            let seconds = ahead.abs() as f64 / 1e9;
            format!("{}: its clock is {seconds:.6} s {side} what was measured; packets show it, its times are corrected", node.name)
        })
    });
    wrong.take(POINT_NOTES).collect()
}

fn blind_points(found: &Assembler<'_, '_>) -> Vec<String> {
    let mut notes: Vec<_> = (0..found.job.points.len()).flat_map(|point| blind_point(found, point)).collect();
    notes.sort();
    notes
}

/// Where first fragments came without the rest, which whoever puts them together drops in silence.
fn incomplete(found: &Assembler<'_, '_>) -> Vec<String> {
    let counts = found.incomplete.iter().enumerate().filter(|(_, count)| **count > 0);
    let note = |(point, count): (usize, &u64)| {
        let name = point_name(found, point);
        format!(
            "{name}: {} packets did not come with all of their fragments and count as not seen",
            grouped(*count)
        )
    };
    let mut notes: Vec<_> = counts.map(note).collect();
    notes.sort();
    notes.truncate(POINT_NOTES);
    notes
}

/// `a eth0 in`.
fn point_name(found: &Assembler<'_, '_>, index: usize) -> String {
    let point = &found.job.points[index];
    let direction = match point.direction {
        Some(crate::fabric::topology::Direction::In) => " in",
        Some(crate::fabric::topology::Direction::Out) => " out",
        None => "",
    };
    format!("{} {}{direction}", found.job.nodes[point.node].name, point.interface)
}

fn blind_point(found: &Assembler<'_, '_>, index: usize) -> Vec<String> {
    let window = found.job.window;
    let coverage = &found.coverage[index];
    let name = point_name(found, index);
    let mut notes = Vec::new();
    let gap = coverage.uncovered(window.start_nanos, window.end_nanos);
    if gap > 0 {
        notes.push(format!("{name}: not captured for {:.3} s of the window", gap as f64 / 1e9));
    }
    let totals = &coverage.totals;
    let dropped = totals.kernel_drops.saturating_add(totals.agent_drops);
    if dropped > 0 {
        let total = totals.received.saturating_add(totals.kernel_drops);
        let is_ring = totals.kernel_drops >= totals.agent_drops;
        notes.push(format!(
            "{name}: dropped {} of {} packets{}",
            grouped(dropped),
            grouped(total),
            advice::dropped(found.job, is_ring)
        ));
    }
    let unreadable = totals.unreadable.saturating_add(coverage.cut);
    if unreadable > 0 {
        notes.push(format!(
            "{name}: {} of {} packets were cut too short{}",
            grouped(unreadable),
            grouped(totals.received),
            advice::cut(found.job)
        ));
    }
    notes
}

/// Where paths end because nothing says which tunnel goes on from there.
fn unknown_tenants(found: &Assembler<'_, '_>) -> Vec<String> {
    let paths = found.plans.plans.iter().map(|plan| &plan.path).filter(|path| path.is_tenant_unknown);
    let ends: BTreeSet<_> = paths
        .filter_map(|path| {
            let last = &found.job.points[*path.points.last()?];
            Some((&found.job.nodes[last.node].name, &last.interface))
        })
        .collect();
    let note = |(node, interface): (&String, &String)| {
        format!(
            "{node} {interface}: some packets to pods belong to none of its tunnels for certain; what became of them is \
             not observable; see the routes of {node}"
        )
    };
    ends.into_iter().take(POINT_NOTES).map(note).collect()
}

/// Where paths end before the pod they lead to. What nodes that failed hide is said of them already.
fn cut_short(found: &Assembler<'_, '_>) -> Vec<String> {
    let paths = found.plans.plans.iter().map(|plan| &plan.path).filter(|path| path.is_cut_short);
    let ends: BTreeSet<_> = paths
        .filter_map(|path| {
            let last = &found.job.points[*path.points.last()?];
            let node = &found.job.nodes[path.destination_node?];
            (!is_failed(node.state)).then_some((
                &node.name,
                &found.job.nodes[last.node].name,
                &last.interface,
            ))
        })
        .collect();
    let way_out = advice::uncaptured(found.job);
    let note = |(node, last, interface): (&String, &String, &String)| {
        format!(
            "{node}: some pods' interfaces are not captured; what passed {last} {interface} on its way to them is not \
             observable; {way_out}"
        )
    };
    ends.into_iter().take(POINT_NOTES).map(note).collect()
}

/// Nodes at an end of a path that nobody asked to capture.
fn not_captured(found: &Assembler<'_, '_>) -> impl Iterator<Item = String> {
    let ends = found.plans.courses.iter().map(|course| &found.plans.plans[course.plan as usize].path);
    let ends = ends.flat_map(|path| [path.source_node, path.destination_node]).flatten();
    let ends: BTreeSet<_> = ends
        .map(|node| &found.job.nodes[node])
        .filter(|node| node.is_bystander)
        .map(|node| &node.name)
        .collect();
    ends.into_iter().take(POINT_NOTES).map(|node| {
        format!("{node} was not captured: what became of packets there is not observable; capture it too")
    })
}

/// Where packets may have gone on under addresses that nothing ties to theirs.
fn translated_unseen(found: &Assembler<'_, '_>) -> Vec<String> {
    let open = |flow: &Flow| {
        let course = found.plans.courses[flow.conversation as usize];
        let plan = &found.plans.plans[course.plan as usize];
        let is_open = flow.segments > 0 && (course.is_open || plan.path.is_open);
        plan.path.points.get(course.last() as usize).filter(|_| is_open)
    };
    let points: BTreeSet<_> = found.flows.all.iter().filter_map(open).collect();
    let points: BTreeSet<_> = points.into_iter().map(|point| found.name(*point)).collect();
    let hint =
        if found.job.filter.is_empty() { "" } else { "; capture without addresses and ports in the filter" };
    let note = |PointName { node, interface }: PointName| {
        format!(
            "{node}: packets last seen at {interface} may go on under translated addresses and are not observable beyond{hint}"
        )
    };
    points.into_iter().take(POINT_NOTES).map(note).collect()
}

/// Where what is counted are no segments.
fn in_pieces(report: &Report) -> impl Iterator<Item = String> {
    let paths = report.paths.iter().filter(|path| path.in_pieces.is_some());
    let name = |hop: &Hop| format!("{} {}", hop.node, hop.interface);
    let ends = paths.filter_map(|path| {
        let (one, other) = (name(path.hops.first()?), name(path.hops.last()?));
        Some(if one < other { (one, other) } else { (other, one) })
    });
    let ends: BTreeSet<_> = ends.collect();
    ends.into_iter().take(POINT_NOTES).map(|(one, other)| {
        format!(
            "TCP between {one} and {other} is counted in pieces, not segments (segment size unknown): capture at the underlay interface too"
        )
    })
}

fn limits(found: &Assembler<'_, '_>, report: &Report) -> Vec<String> {
    let mut notes = Vec::new();
    if found.network.is_unmapped() {
        notes.extend(inferred(found));
    } else if found.plans.plans.iter().any(|plan| plan.path.is_unordered) {
        notes.push("some packets belong to addresses no node knows and were seen at several points: their order is not known, only one point is shown".to_owned());
    }
    if found.plans.courses.iter().any(|course| course.is_coarse) && report.totals.segments > 0 {
        notes.push("some TCP was captured without segment sizes and cut in too many places to be compared by its bytes: what super-packets may hide of it is not called lost".to_owned());
    }
    notes
}

/// What was concluded without a topology, and what could not be.
fn inferred(found: &Assembler<'_, '_>) -> Vec<String> {
    let paths = || found.plans.plans.iter().map(|plan| &plan.path);
    let mut notes = vec![
        "no topology: the order of points is inferred from hop limits, encapsulation and times".to_owned(),
    ];
    if paths().any(|path| path.is_unordered) {
        notes.push(
            "the place of some points on some paths cannot be told from the packets: they are left out there; give a \
             topology (ctl export-topology)"
                .to_owned(),
        );
    }
    if paths().any(|path| path.is_cut_short) {
        notes.push(
            "some packets were answered from beyond the last point that saw them, or not at all: whether they arrived \
             cannot be told without a topology (ctl export-topology)"
                .to_owned(),
        );
    }
    notes
}
