//! From files to a report: the same correlation that a coordinator runs.

use anyhow::anyhow;
use lastseen_correlate::input::{CaptureState, Node, Point, Slice, SliceCounters, Window};
use lastseen_correlate::offsets::offsets;
use lastseen_correlate::report::{NodeReport, Report};
use lastseen_correlate::segmentation::SegmentSizes;
use lastseen_correlate::steps::{Step, steps};
use lastseen_correlate::topology::{Direction, InterfaceKind};
use lastseen_correlate::{BatchError, Correlator, Job};
use lastseen_packet::DecodeConfig;
use lastseen_packet::TunnelPort;
use lastseen_packet::observation::Columns;

use super::fabric::Fabric;
use super::filters;
use super::name::Named;
use super::places::Witness;
use super::shelf::{Room, Shelf, no_room};
use super::sides::Sides;
use super::strays::{self, Spanned};
use super::tap::{self, Batch, KEY, Known, Tap};
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
    /// By node: how its clock was set while it captured.
    steps: Vec<Option<Step>>,
}

/// What a clock is set by from which on nothing brings its stamps together with others, nanoseconds. Less is an error
/// like any other.
const LARGE_STEP_NANOS: u64 = 1_000_000_000;

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
    let (names, ahead, steps) = (nodes(files), Vec::new(), Vec::new());
    let mut evidence = Evidence { names, fabric, taps: Vec::new(), shelf, ahead, steps };
    for (at, named) in files.iter().enumerate() {
        let tap = evidence.tap(named, at, &config)?;
        evidence.taps.push(tap);
    }
    evidence.compare_clocks();
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
        let known = self.fabric.as_ref().zip(place).map(|(fabric, (tables, interface))| Known {
            sides: Sides::new(tables, interface),
            witness: Witness::new(&fabric.places, tables, interface, &named.node),
        });
        let mut tap = tap::read(named, (self.node(named), config), known, &mut self.shelf)?;
        tap.stamps.iter_mut().for_each(|stamp| stamp.point = at);
        Ok(tap)
    }

    fn compare_clocks(&mut self) {
        let nodes = self.names.len();
        let mut stamps: Vec<_> =
            self.taps.iter_mut().flat_map(|tap| std::mem::take(&mut tap.stamps)).collect();
        let backwards: Vec<i64> = self.taps.iter().map(|tap| tap.backwards_nanos).collect();
        self.steps = steps(nodes, &backwards, &mut stamps);
        let is_large = |node: usize| self.steps[node].is_some_and(is_large);
        stamps.retain(|stamp| !is_large(stamp.node));
        self.ahead = offsets(nodes, stamps);
        // Where no two others have a packet in common either, one of those that were not set is compared with itself.
        if (0..nodes).any(|node| self.ahead[node].is_some() && is_large(node)) {
            let reference = (0..nodes).find(|&node| !is_large(node));
            self.ahead = (0..nodes).map(|node| (Some(node) == reference).then_some(0)).collect();
        }
    }

    fn of_node(&self, node: usize) -> impl Iterator<Item = &Tap> {
        self.taps.iter().filter(move |tap| self.node(&tap.named) == node)
    }

    /// How far the clock of a file is ahead; zero if that is not known.
    fn ahead_of(&self, tap: &Tap) -> i64 {
        self.ahead[self.node(&tap.named)].unwrap_or(0)
    }

    fn report(mut self, room: Room<'_>) -> anyhow::Result<Report> {
        let mut compared: Vec<Spanned> = self.taps.iter().filter_map(|tap| self.spanned(tap)).collect();
        let left_out = strays::leave_out(&mut compared);
        let (names, spans): (Vec<_>, Vec<_>) =
            compared.into_iter().map(|file| (file.name, file.span)).unzip();
        let Some(overlap) = Overlap::of(&spans) else {
            let is_empty = self.taps.iter().all(|tap| tap.span.is_none());
            let reason =
                if is_empty { "no file holds a packet" } else { "every clock was set while it captured" };
            return Ok(self.inconclusive(format!("{reason}: nothing can be compared")));
        };
        let (start_nanos, end_nanos) = match overlap.window(&names) {
            Ok(window) => window,
            Err(reason) => return Ok(self.inconclusive(reason)),
        };
        let job = self.job(Window { start_nanos, end_nanos }, overlap.tail_nanos())?;
        let apart = (0..self.names.len()).filter(|&node| self.ahead[node].is_none());
        let correlator = Correlator::new(job)?.within(room.memory, room.scratch());
        let mut correlator = apart.fold(correlator, Correlator::apart);
        self.feed(&mut correlator)?;
        let mut report = correlator.finish().map_err(no_room)?.report;
        let window = stated(overlap, self.taps.len());
        report.notes.splice(0..0, std::iter::once(window).chain(left_out));
        report.notes.extend(self.notes());
        let asked: Vec<_> = filters::notes(&report).collect();
        report.notes.extend(asked);
        Ok(report)
    }

    /// On the clock that all are compared by; absent for a file without packets and for one that cannot be compared.
    fn spanned(&self, tap: &Tap) -> Option<Spanned> {
        let (ahead, (start, end)) = (self.ahead[self.node(&tap.named)]?, tap.span?);
        Some(Spanned {
            name: tap.named.name(),
            span: (start.saturating_sub(ahead), end.saturating_sub(ahead)),
            strays: tap.strays.map(|stray| Some(stray?.back(ahead))),
        })
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
            from_files: true,
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
            clock_error_nanos: self.clock_error(node, is_reference),
            state: CaptureState::Completed,
            is_bystander: false,
            translations: Vec::new(),
            reason: String::new(),
            coverage: self.coverage(node),
            name,
        }
    }

    /// Bound of the error of a clock as far as it is known before packets refine it.
    fn clock_error(&self, node: usize, is_reference: bool) -> Option<i64> {
        let step = self.steps[node].filter(|_| self.ahead[node].is_some());
        step.map(|step| step.nanos.abs()).or(is_reference.then_some(0))
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

    fn slice(&self, tap: &Tap, batch: &Batch) -> Slice {
        let ahead = self.ahead_of(tap);
        let start_nanos = batch.start_nanos.saturating_sub(ahead);
        let end_nanos = batch.end_nanos.saturating_sub(ahead);
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
        notes.extend(self.elsewhen(node));
        notes.extend(self.steps[node].map(stepped));
        let is_set = self.steps[node].is_some_and(is_large);
        if self.ahead[node].is_none() && !is_set && here().any(|tap| tap.span.is_some()) {
            notes.push(self.incomparable(node));
        }
        notes
    }

    /// From the first to the last packet of a node, by its own stamps.
    fn span(&self, node: usize) -> Option<(i64, i64)> {
        let spans = || self.of_node(node).filter_map(|tap| tap.span);
        Some((spans().map(|span| span.0).min()?, spans().map(|span| span.1).max()?))
    }

    /// That a node whose clock cannot be compared captured at another time than the reference, by its own stamps.
    fn elsewhen(&self, node: usize) -> Option<String> {
        let reference = self.ahead.iter().position(Option::is_some).filter(|_| self.ahead[node].is_none())?;
        let (own, other) = (self.span(node)?, self.span(reference)?);
        let of = |(start, end)| {
            let [start, end] = [start, end].map(|time| units::instant(Some(&instant(time))));
            format!("{start} – {end}")
        };
        (own.1 <= other.0 || other.1 <= own.0).then(|| {
            format!(
                "by their stamps its files do not overlap with those of {}: {} and {}; capture at the same time at all \
                 points",
                self.names[reference],
                of(own),
                of(other)
            )
        })
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

fn is_large(step: Step) -> bool {
    step.nanos.unsigned_abs() >= LARGE_STEP_NANOS
}

fn stepped(step: Step) -> String {
    let (by, at) = (units::delay(step.nanos), units::time_of_day(Some(&instant(step.at_nanos))));
    let meaning = if is_large(step) {
        "its clock cannot be compared, and what it did not see is not observable; split its files there (editcap -A, -B)"
    } else {
        "its times are that uncertain"
    };
    format!("its clock steps by about {by} at {at}: {meaning}")
}

fn instant(nanos: i64) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: nanos.div_euclid(1_000_000_000),
        nanos: nanos.rem_euclid(1_000_000_000) as i32,
    }
}

fn stated(overlap: Overlap, files: usize) -> String {
    let (all, lead, tail) =
        (units::delay(overlap.nanos()), units::delay(LEAD_NANOS), units::delay(overlap.tail_nanos()));
    let whose = match (overlap.common, files) {
        (1, 1) => "of the file".to_owned(),
        (1, _) => format!("of 1 of {files} files"),
        (common, _) if common == files => format!("that {files} files overlap"),
        (common, _) => format!("that {common} of {files} files overlap"),
    };
    let rest = if overlap.common < files { "; the others are blind outside of what they span" } else { "" };
    format!("window: the {all} {whose}, less {lead} at its begin and {tail} at its end{rest}")
}
