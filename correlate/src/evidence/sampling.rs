//! Agents that select packets by hash, each by a threshold of its own that may change from batch to batch.
//!
//! Whoever has the lower threshold selects a part of what the other selects (RFC 5475 §6.2 with one hash for all), so a
//! segment can be followed if every point would have selected it around its time: the smallest threshold near it
//! decides. Everything else is left out at every point, before anything is matched: where a point did not look, nothing
//! is missing.

use std::collections::HashSet;
use std::ops::RangeInclusive;

use lastseen_packet::observation::{FlowKey, SipKey};
use lastseen_packet::{Basis, IdentityKey, Ks, Threshold, datagram_key};

use crate::evidence::flows::Flows;
use crate::evidence::scratch::ScratchError;
use crate::evidence::sighting::Sighting;
use crate::evidence::sightings::Sightings;
use crate::input::{Job, LEAD_NANOS};
use crate::matching::judge::longest_delay;
use crate::report::Sampling;

/// A set of identities.
type Identities = HashSet<u64, SipKey>;

/// A time with a threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    start: i64,
    end: i64,
    threshold: Threshold,
}

/// The thresholds of a run while batches come in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Thresholds {
    /// Those that leave something out.
    spans: Vec<Span>,
    /// Some batch left nothing out.
    has_full: bool,
}

impl Thresholds {
    /// A batch of some point whose slice is `[start, end)`, on the coordinator's clock.
    pub(crate) fn note(&mut self, start: i64, end: i64, threshold: Threshold) {
        if threshold.is_all() {
            self.has_full = true;
            return;
        }
        // Batches of one point come one after the other.
        match self.spans.last_mut() {
            Some(last) if last.threshold == threshold && (last.start..=last.end).contains(&start) => {
                last.end = last.end.max(end);
            }
            _ => self.spans.push(Span { start, end, threshold }),
        }
    }

    /// What applies when all batches are in; absent where everything was selected.
    pub(crate) fn seal(mut self, job: &Job) -> Option<Selection> {
        let coarsest = self.spans.iter().map(|span| span.threshold).min()?;
        // Further than a segment's sightings can be apart, on clocks that may be measured wrong.
        let near = longest_delay(job).saturating_mul(2);
        for span in &mut self.spans {
            (span.start, span.end) = (span.start.saturating_sub(near), span.end.saturating_add(near));
        }
        let mut spans = flattened(self.spans);
        let recorded_to = job.window.end_nanos.saturating_add(job.guard_nanos);
        let recorded = job.window.start_nanos.saturating_sub(LEAD_NANOS)..=recorded_to;
        let is_all = |span: &Span| span.start <= *recorded.start() && span.end >= *recorded.end();
        if !self.has_full && spans.iter().all(|span| span.threshold == coarsest)
            || matches!(&spans[..], [only] if is_all(only))
        {
            spans.clear();
        }
        let finest = finest(&spans, &recorded);
        let left_out = HashSet::with_hasher(SipKey(job.key.0));
        Some(Selection { key: job.key, coarsest, spans, finest, left_out })
    }
}

/// The largest threshold while it was `recorded`.
fn finest(spans: &[Span], recorded: &RangeInclusive<i64>) -> Threshold {
    let is_closed = spans.windows(2).all(|pair| pair[0].end == pair[1].start);
    let is_covered = spans.first().is_some_and(|first| first.start <= *recorded.start())
        && spans.last().is_some_and(|last| last.end >= *recorded.end());
    let largest = spans.iter().map(|span| span.threshold).max().unwrap_or_default();
    if is_closed && is_covered { largest } else { Threshold::ALL }
}

/// Disjoint and ascending, the smallest threshold of each time.
fn flattened(mut spans: Vec<Span>) -> Vec<Span> {
    let mut edges: Vec<i64> = spans.iter().flat_map(|span| [span.start, span.end]).collect();
    edges.sort_unstable();
    edges.dedup();
    // The coarsest first: each takes the stretches that are still free, and none is looked at twice.
    spans.sort_unstable_by_key(|span| span.threshold);
    let mut taken: Vec<Option<Threshold>> = vec![None; edges.len()];
    let mut next: Vec<usize> = (0..=edges.len()).collect();
    for span in spans {
        let mut at = free(&mut next, edges.partition_point(|edge| *edge < span.start));
        while at < edges.len() && edges[at] < span.end {
            taken[at] = Some(span.threshold);
            next[at] = at + 1;
            at = free(&mut next, at);
        }
    }
    let stretches = edges.windows(2).zip(taken);
    let stretches = stretches
        .filter_map(|(edge, threshold)| Some(Span { start: edge[0], end: edge[1], threshold: threshold? }));
    let mut flat: Vec<Span> = Vec::new();
    for stretch in stretches {
        match flat.last_mut() {
            Some(last) if last.end == stretch.start && last.threshold == stretch.threshold => {
                last.end = stretch.end;
            }
            _ => flat.push(stretch),
        }
    }
    flat
}

/// The first stretch from `at` on that is free, with the way there made short.
fn free(next: &mut [usize], at: usize) -> usize {
    let mut end = at;
    while next[end] != end {
        end = next[end];
    }
    let mut here = at;
    while next[here] != end {
        (here, next[here]) = (next[here], end);
    }
    end
}

/// What is selected in a run.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    key: IdentityKey,
    coarsest: Threshold,
    /// Empty where one threshold applies throughout.
    spans: Vec<Span>,
    /// The largest threshold there is at any time, [`Threshold::ALL`] between spans.
    finest: Threshold,
    /// Identities that were left out at one time and would be selected at another.
    left_out: Identities,
}

impl Selection {
    /// For the report.
    pub(crate) fn report(&self) -> Sampling {
        Sampling { interval: self.coarsest.interval(), varied: !self.spans.is_empty() }
    }

    /// Points that do not tell what super-packets stand for, and so not what of them is selected: agents refuse to
    /// sample there. What they saw is taken away, and they are to be taken for blind.
    pub(crate) fn distrust(
        job: &mut Job,
        flows: &mut Flows,
        sightings: &mut Sightings,
    ) -> Result<Vec<usize>, ScratchError> {
        let mut blind = Vec::new();
        for (index, point) in job.points.iter_mut().enumerate() {
            if !point.gso_known {
                // Nothing is left there whose segments are unknown.
                point.gso_known = true;
                sightings.amend(index, |_, some| {
                    some.drain(..).for_each(|sighting| uncount(flows, &sighting));
                    true
                })?;
                blind.push(index);
            }
        }
        Ok(blind)
    }

    /// Leaves the selected of all sightings, by point and by flow, and has the flows count only those. `fragments` are
    /// the flow and identification of those that any hop saw.
    pub(crate) fn sift(
        &mut self,
        flows: &mut Flows,
        fragments: &HashSet<(u32, u16), SipKey>,
        sightings: &mut Sightings,
    ) -> Result<(), ScratchError> {
        let mut fragmented = HashSet::with_hasher(SipKey(self.key.0));
        for &(flow, ip_id) in fragments {
            let mut datagram = Sighting::default();
            datagram.become_datagram(datagram_key(&self.key, flows.all[flow as usize].key.protocol, ip_id));
            fragmented.insert(datagram.k0);
        }
        for point in 0..sightings.points() {
            sightings.amend(point, |_, some| {
                let count = some.len();
                some.retain(|sighting| self.keeps(flows, &fragmented, sighting));
                some.len() < count
            })?;
        }
        Ok(())
    }

    fn keeps(&mut self, flows: &mut Flows, fragmented: &Identities, sighting: &Sighting) -> bool {
        let flow = &mut flows.all[sighting.owner as usize];
        let is_selected = self.selects(self.threshold(sighting.time), &flow.key, sighting);
        if !is_selected {
            self.leave_out(&flow.key, fragmented, sighting);
            flow.segments = flow.segments.saturating_sub(1);
        }
        is_selected
    }

    /// Leaves out, of the sightings of a point whose identities are final, those whose identity was left out at some
    /// other time: a segment on its way when a threshold changed. And whole packets of which other hops saw fragments
    /// that do not tell whether they were selected.
    pub(crate) fn sweep(&self, flows: &mut Flows, of_point: &mut Vec<Sighting>) {
        of_point.retain(|sighting| {
            let is_out = self.left_out.contains(&sighting.k0)
                || sighting.is_datagram() && !self.selects_datagram(flows, sighting);
            if is_out {
                uncount(flows, sighting);
            }
            !is_out
        });
    }

    fn selects_datagram(&self, flows: &Flows, sighting: &Sighting) -> bool {
        self.selects(self.threshold(sighting.time), &flows.all[sighting.owner as usize].key, sighting)
    }

    fn selects(&self, threshold: Threshold, flow: &FlowKey, sighting: &Sighting) -> bool {
        if threshold.is_all() {
            return true;
        }
        match ks(flow, sighting) {
            Some(ks) => threshold.selects(ks.hash(&self.key)),
            // Fragments without identification: hops that see the whole may have selected otherwise. Over IPv6 those
            // whose whole is known have its name.
            None => !flow.source.is_ipv4(),
        }
    }

    /// The smallest threshold of any point near `time`.
    fn threshold(&self, time: i64) -> Threshold {
        if self.spans.is_empty() {
            return self.coarsest;
        }
        let at = self.spans.partition_point(|span| span.end <= time);
        self.spans.get(at).filter(|span| span.start <= time).map_or(self.finest, |span| span.threshold)
    }

    /// Remembers what may be selected at another time.
    fn leave_out(&mut self, flow: &FlowKey, fragmented: &Identities, sighting: &Sighting) {
        if self.spans.is_empty() || !self.selects(self.finest, flow, sighting) {
            return;
        }
        self.left_out.insert(sighting.k0);
        if fragmented.is_empty() {
            return;
        }
        // A hop that sees fragments gives all of them this one.
        let mut as_datagram = *sighting;
        as_datagram.become_datagram(datagram_key(&self.key, flow.protocol, sighting.ip_id));
        if fragmented.contains(&as_datagram.k0) {
            self.left_out.insert(as_datagram.k0);
        }
    }
}

/// What is taken away shows nothing, not even that its point is on the path.
fn uncount(flows: &mut Flows, sighting: &Sighting) {
    let flow = &mut flows.all[sighting.owner as usize];
    flow.segments = flow.segments.saturating_sub(1);
}

fn ks(flow: &FlowKey, sighting: &Sighting) -> Option<Ks> {
    let basis = Basis {
        protocol: flow.protocol,
        is_ipv4: flow.source.is_ipv4(),
        is_fragment: sighting.is_datagram(),
        has_payload: sighting.payload_length() != 0,
        tcp_seq: sighting.tcp_seq,
        ip_id: sighting.ip_id,
    };
    Ks::of(&basis, || Some(sighting.k0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(start: i64, end: i64, interval: u32) -> Span {
        Span { start, end, threshold: Threshold::one_in(interval) }
    }

    #[test]
    fn at_each_time_the_coarsest_of_all_points_applies() {
        let spans = [
            span(0, 100, 2),
            span(10, 20, 8),
            span(15, 30, 4),
            span(50, 60, 4),
            span(200, 300, 3),
            span(240, 400, 2),
        ];
        let flat = flattened(spans.to_vec());
        for time in -5..405 {
            let covers = |span: &&Span| (span.start..span.end).contains(&time);
            let expected = spans.iter().filter(covers).map(|span| span.threshold.interval()).max();
            let found: Vec<_> = flat.iter().filter(covers).map(|span| span.threshold.interval()).collect();
            assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "at {time}");
        }
        assert!(flat.windows(2).all(|pair| pair[0].end <= pair[1].start), "{flat:?}");
    }

    /// Every span overlaps every other: looking at each for each would take 10^11 steps.
    #[test]
    fn a_point_may_change_its_threshold_any_number_of_times() {
        let spans: Vec<_> = (0..300_000).map(|at| span(at, 1_000_000 - at, at as u32 + 2)).collect();
        let flat = flattened(spans);
        let coarsest = flat.iter().map(|span| span.threshold).min();
        assert_eq!(coarsest, Some(Threshold::one_in(300_001)));
    }

    #[test]
    fn batches_of_one_point_become_one_span() {
        let mut thresholds = Thresholds::default();
        for at in 0..1000 {
            thresholds.note(at * 10, at * 10 + 10, Threshold::one_in(4));
        }
        assert_eq!(thresholds.spans, [span(0, 10_000, 4)]);
    }
}
