//! From files to a report: the same correlation that a coordinator runs.

use anyhow::anyhow;
use lastseen_correlate::input::{CaptureState, Node, Point, Slice, SliceCounters, Window};
use lastseen_correlate::offsets::offsets;
use lastseen_correlate::report::{NodeReport, Report};
use lastseen_correlate::segmentation::SegmentSizes;
use lastseen_correlate::topology::{Direction, InterfaceKind};
use lastseen_correlate::{BatchError, Correlator, Job};
use lastseen_packet::DecodeConfig;
use lastseen_packet::TunnelPort;
use lastseen_packet::observation::Columns;

use super::fabric::Fabric;
use super::filters;
use super::name::Named;
use super::shelf::{Room, Shelf, no_room};
use super::sides::Sides;
use super::tap::{self, Batch, KEY, Tap};
use super::window::{LEAD_NANOS, Overlap};
use crate::output::units;

/// What stands for a capture's id.
const ID: &str = "files";

/// Everything that was read.
struct Evidence {
    fabric: Option<Fabric>,
    /// Names of the nodes in the order of the command line.
    names: Vec<String>,
    taps: Vec<Tap>,
    /// What was read of them.
    shelf: Shelf,
    /// By node: how far its clock is ahead of the reference node's. Absent: cannot be compared.
    ahead: Vec<Option<i64>>,
}

/// The report on `files`, for whose observations there is `room`.
pub(super) fn run(
    files: &[Named],
    fabric: Option<Fabric>,
    mut config: DecodeConfig,
    room: Room<'_>,
) -> anyhow::Result<Report> {
    for overlay in fabric.iter().flat_map(Fabric::tunnels).filter_map(|interface| interface.overlay) {
        if overlay.port != 0 && !config.set(TunnelPort { port: overlay.port, kind: overlay.kind }) {
            return Err(anyhow!("topology: more than 32 tunnel ports"));
        }
    }
    let shelf = Shelf::new(room)?;
    let mut evidence = Evidence { names: nodes(files), fabric, taps: Vec::new(), shelf, ahead: Vec::new() };
    for (at, named) in files.iter().enumerate() {
        let tap = evidence.tap(named, at, &config)?;
        evidence.taps.push(tap);
    }
    let stamps = evidence.taps.iter_mut().flat_map(|tap| std::mem::take(&mut tap.stamps)).collect();
    evidence.ahead = offsets(evidence.names.len(), stamps);
    evidence.report(room)
}

/// Each node once.
fn nodes(files: &[Named]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for named in files {
        if !names.contains(&named.node) {
            names.push(named.node.clone());
        }
    }
    names
}

impl Evidence {
    fn node(&self, named: &Named) -> usize {
        self.names.iter().position(|name| *name == named.node).unwrap_or_default()
    }

    fn tap(&mut self, named: &Named, at: usize, config: &DecodeConfig) -> anyhow::Result<Tap> {
        let place = self.fabric.as_ref().map(|fabric| fabric.interface(named)).transpose()?;
        let sides = place.map(|(tables, interface)| Sides::new(tables, interface));
        let mut tap = tap::read(named, (self.node(named), config), sides.as_ref(), &mut self.shelf)?;
        tap.stamps.iter_mut().for_each(|stamp| stamp.point = at);
        Ok(tap)
    }

    fn of_node(&self, node: usize) -> impl Iterator<Item = &Tap> {
        self.taps.iter().filter(move |tap| self.node(&tap.named) == node)
    }

    /// How far the clock of a file is ahead; zero if that is not known.
    fn ahead_of(&self, tap: &Tap) -> i64 {
        self.ahead[self.node(&tap.named)].unwrap_or(0)
    }

    fn report(mut self, room: Room<'_>) -> anyhow::Result<Report> {
        let spans: Vec<(i64, i64)> = self
            .taps
            .iter()
            .filter(|tap| self.ahead[self.node(&tap.named)].is_some())
            .filter_map(|tap| {
                let (ahead, (start, end)) = (self.ahead_of(tap), tap.span?);
                Some((start.saturating_sub(ahead), end.saturating_sub(ahead)))
            })
            .collect();
        let Some(overlap) = Overlap::of(&spans) else {
            return Ok(self.inconclusive("no file holds a packet: nothing can be compared".to_owned()));
        };
        let (start_nanos, end_nanos) = match overlap.window() {
            Ok(window) => window,
            Err(reason) => return Ok(self.inconclusive(reason)),
        };
        let job = self.job(Window { start_nanos, end_nanos }, overlap.tail_nanos())?;
        let mut correlator = Correlator::new(job)?.within(room.memory, room.scratch());
        self.feed(&mut correlator)?;
        let mut report = correlator.finish().map_err(no_room)?.report;
        report.notes.insert(0, stated(overlap, self.taps.len()));
        report.notes.extend(self.notes());
        let asked: Vec<_> = filters::notes(&report).collect();
        report.notes.extend(asked);
        Ok(report)
    }

    fn job(&self, window: Window, guard_nanos: i64) -> anyhow::Result<Job> {
        let mut points = Vec::new();
        for tap in &self.taps {
            for &direction in &tap.directions {
                points.push(self.point(tap, direction)?);
            }
        }
        Ok(Job {
            capture_id: ID.to_owned(),
            name: String::new(),
            filter: String::new(),
            named_interfaces: true,
            partial: false,
            window,
            guard_nanos,
            key: KEY,
            nodes: (0..self.names.len()).map(|node| self.node_of_job(node)).collect(),
            points,
        })
    }

    fn point(&self, tap: &Tap, direction: Option<Direction>) -> anyhow::Result<Point> {
        let mut point = Point {
            node: self.node(&tap.named),
            netns: String::new(),
            interface: tap.named.interface.clone(),
            index: 0,
            direction,
            kind: InterfaceKind::Unspecified,
            mtu: 0,
            gso_known: false,
        };
        if let Some(fabric) = &self.fabric {
            let (_, interface) = fabric.interface(&tap.named)?;
            (point.index, point.kind, point.mtu) = (interface.index, interface.kind, interface.mtu);
            point.netns.clone_from(&interface.netns);
        }
        Ok(point)
    }

    fn node_of_job(&self, node: usize) -> Node {
        let name = self.names[node].clone();
        let is_reference = Some(node) == self.ahead.iter().position(Option::is_some);
        Node {
            topology: self.fabric.as_ref().map(|fabric| fabric.tables(&name)).unwrap_or_default(),
            clock_offset_nanos: self.ahead[node],
            clock_error_nanos: is_reference.then_some(0),
            state: CaptureState::Completed,
            is_bystander: false,
            translations: Vec::new(),
            reason: String::new(),
            coverage: self.coverage(node),
            name,
        }
    }

    /// Hands over every batch and gives its memory back.
    fn feed(&mut self, correlator: &mut Correlator) -> anyhow::Result<()> {
        let sizes = self.segment_sizes()?;
        let mut first_point = 0;
        for at in 0..self.taps.len() {
            let batches = std::mem::take(&mut self.taps[at].batches);
            let tap = &self.taps[at];
            for batch in batches {
                let Some(of_tap) = tap.directions.iter().position(|known| *known == batch.direction) else {
                    continue;
                };
                let slice = self.slice(tap, &batch);
                let mut columns = self.shelf.take(batch.columns)?;
                sizes.restore(&mut columns);
                add(correlator, first_point + of_tap, slice, -self.ahead_of(tap), &columns)?;
            }
            if let (Some(span), 1..) = (tap.span, tap.drops) {
                for of_tap in 0..tap.directions.len() {
                    let slice = self.dropping(tap, span);
                    add(correlator, first_point + of_tap, slice, 0, &Columns::default())?;
                }
            }
            first_point += tap.directions.len();
        }
        Ok(())
    }

    fn segment_sizes(&self) -> anyhow::Result<SegmentSizes> {
        let mut sizes = SegmentSizes::new(KEY.0);
        for (at, tap) in self.taps.iter().enumerate() {
            for batch in &tap.batches {
                self.shelf.show(&batch.columns, |columns| sizes.learn(at, columns))?;
            }
        }
        Ok(sizes)
    }

    /// Where the clock is not known nothing is covered: what the node did not see is not observable.
    fn slice(&self, tap: &Tap, batch: &Batch) -> Slice {
        let ahead = self.ahead_of(tap);
        let is_comparable = self.ahead[self.node(&tap.named)].is_some();
        let start_nanos = batch.start_nanos.saturating_sub(ahead);
        let end_nanos = if is_comparable { batch.end_nanos.saturating_sub(ahead) } else { start_nanos };
        // Drops of unknown time have a slice of their own, which counts every packet.
        let received = if tap.drops > 0 { 0 } else { batch.received };
        let Batch { unreadable, undecoded, drops, .. } = *batch;
        let counters = SliceCounters {
            received,
            kernel_drops: drops,
            unreadable,
            undecoded,
            ..SliceCounters::default()
        };
        Slice { start_nanos, end_nanos, counters }
    }

    fn dropping(&self, tap: &Tap, (start, end): (i64, i64)) -> Slice {
        let ahead = self.ahead_of(tap);
        let counters =
            SliceCounters { received: tap.packets, kernel_drops: tap.drops, ..SliceCounters::default() };
        Slice { start_nanos: start.saturating_sub(ahead), end_nanos: end.saturating_sub(ahead), counters }
    }

    /// What a node's files do not cover.
    fn coverage(&self, node: usize) -> Vec<String> {
        let here = || self.of_node(node);
        let mut notes: Vec<String> = here()
            .filter(|tap| tap.undirected > 0)
            .map(|tap| {
                format!(
                    "{}: neither the file nor the topology tells the direction of {} packets; give files by direction \
                     ({}/{}/in=…)",
                    tap.named.name(),
                    units::count(tap.undirected),
                    tap.named.node,
                    tap.named.interface
                )
            })
            .collect();
        let empty = here().filter(|tap| tap.span.is_none());
        notes.extend(
            empty.map(|tap| format!("{}: no packet in {}", tap.named.name(), tap.named.file.display())),
        );
        let undecoded = here().filter(|tap| tap.packets > 0 && tap.undecoded == tap.packets);
        notes.extend(undecoded.map(|tap| {
            format!(
                "{}: all of its {} packets are not IP and were left out; see them with `ctl show-file {}`",
                tap.named.name(),
                units::count(tap.packets),
                tap.named.file.display()
            )
        }));
        if self.ahead[node].is_none() && here().any(|tap| tap.span.is_some()) {
            notes.push(self.incomparable(node));
        }
        notes
    }

    /// Why a node's clock is not known.
    fn incomparable(&self, node: usize) -> String {
        let reason = if self.of_node(node).any(|tap| tap.is_doubled) {
            format!(
                "every packet of {} is in its file twice, or it mixes interfaces (-i any): remove doubles with editcap \
                 -d, or give a file per interface",
                self.names[node]
            )
        } else {
            "no packet in its files is in another node's too".to_owned()
        };
        format!("{reason}: its clock cannot be compared, and what it did not see is not observable")
    }

    fn notes(&self) -> Vec<String> {
        let reference = self.ahead.iter().position(Option::is_some);
        let reference = reference.filter(|_| self.names.len() > 1).map(|node| &self.names[node]);
        let clocks = reference.map(|name| format!("clocks are compared with that of {name}"));
        let missing =
            self.fabric.iter().flat_map(Fabric::names).filter(|name| !self.names.iter().any(|n| n == name));
        let missing: Vec<&str> = missing.collect();
        let missing = (!missing.is_empty()).then(|| format!("no file of {}", missing.join(", ")));
        clocks.into_iter().chain(missing).collect()
    }

    /// A report that says why there is nothing to say.
    fn inconclusive(&self, reason: String) -> Report {
        let mut nodes: Vec<NodeReport> =
            (0..self.names.len()).map(|node| self.node_of_report(node)).collect();
        nodes.sort_by(|a, b| a.node.cmp(&b.node));
        Report { capture_id: ID.to_owned(), notes: vec![reason], nodes, ..empty() }
    }

    fn node_of_report(&self, node: usize) -> NodeReport {
        let Node { name, state, clock_offset_nanos, clock_error_nanos, coverage, reason, .. } =
            self.node_of_job(node);
        let here = self.of_node(node);
        NodeReport {
            node: name,
            state,
            reason,
            clock_offset_nanos,
            clock_error_nanos,
            packets: here.map(|tap| tap.packets).sum(),
            kernel_drops: 0,
            agent_drops: 0,
            own_connections: 0,
            undecoded: 0,
            unreadable: self.of_node(node).map(|tap| tap.unreadable).sum(),
            sampled_out: 0,
            coverage,
        }
    }
}

fn add(
    correlator: &mut Correlator,
    point: usize,
    slice: Slice,
    to_reference_nanos: i64,
    columns: &Columns,
) -> anyhow::Result<()> {
    correlator.add(point, slice, to_reference_nanos, columns).map_err(|error| match error {
        BatchError::Scratch(error) => no_room(error),
        error => error.into(),
    })
}

fn empty() -> Report {
    Report {
        capture_id: String::new(),
        name: String::new(),
        filter: String::new(),
        window: Window::default(),
        partial: false,
        verdict: lastseen_correlate::report::Verdict::Inconclusive,
        notes: Vec::new(),
        totals: lastseen_correlate::report::SegmentTotals::default(),
        nodes: Vec::new(),
        paths: Vec::new(),
        omitted_paths: 0,
        sampling: None,
    }
}

fn stated(overlap: Overlap, files: usize) -> String {
    let (all, lead, tail) =
        (units::delay(overlap.nanos()), units::delay(LEAD_NANOS), units::delay(overlap.tail_nanos()));
    format!("window: the {all} that {files} files overlap, less {lead} at its begin and {tail} at its end")
}
