//! What is said of the files beside what the run found.

use lastseen_correlate::steps::Step;

use super::super::fabric::Fabric;
use super::super::window::{LEAD_NANOS, Overlap};
use super::{Evidence, is_large};
use crate::output::units;

impl Evidence {
    /// What a node's files do not cover.
    pub(super) fn coverage(&self, node: usize) -> Vec<String> {
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
        notes.extend(here().filter_map(|tap| tap.elsewhere.clone()));
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

    pub(super) fn notes(&self) -> Vec<String> {
        let reference = self.ahead.iter().position(Option::is_some);
        let reference = reference.filter(|_| self.names.len() > 1).map(|node| &self.names[node]);
        let clocks = reference.map(|name| format!("clocks are compared with that of {name}"));
        let missing =
            self.fabric.iter().flat_map(Fabric::names).filter(|name| !self.names.iter().any(|n| n == name));
        let missing: Vec<&str> = missing.collect();
        let missing = (!missing.is_empty()).then(|| format!("no file of {}", missing.join(", ")));
        clocks.into_iter().chain(missing).collect()
    }
}

pub(super) fn stated(overlap: Overlap, files: usize) -> String {
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
