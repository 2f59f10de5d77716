//! From files to a report: the same correlation that a coordinator runs.

mod feed;
mod job;
mod nothing;
mod remarks;

use anyhow::anyhow;
use lastseen_correlate::Correlator;
use lastseen_correlate::input::Window;
use lastseen_correlate::offsets::offsets;
use lastseen_correlate::report::Report;
use lastseen_correlate::steps::{Step, steps};
use lastseen_packet::{DecodeConfig, TunnelPort};

use self::remarks::stated;
use super::fabric::Fabric;
use super::filters;
use super::name::Named;
use super::places::Witness;
use super::shelf::{Room, Shelf, no_room};
use super::sides::Sides;
use super::strays::{self, Spanned};
use super::tap::{self, Known, Tap};
use super::window::Overlap;

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
}

fn is_large(step: Step) -> bool {
    step.nanos.unsigned_abs() >= LARGE_STEP_NANOS
}
