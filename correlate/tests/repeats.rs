//! An identity that comes round again and again within the longest delay, while points drop some of what passes them.
#![allow(missing_docs)]

use std::collections::{BTreeMap, BTreeSet};

use crate::lab::*;
use lastseen_correlate::{GUARD_NANOS, Outcome, Slice, SliceCounters};

/// What agents cut their slices to.
const SLICE: i64 = 50 * MILLI;
/// A packet this far from any time at which a point dropped, and of which the next of its identity is, is beyond doubt.
const FAR: i64 = 300 * MILLI;

/// A stream of few identities.
struct Stream {
    /// Packets until an identity comes round.
    identities: u32,
    /// Between two packets.
    spacing: i64,
    count: u32,
    /// Longest time that a packet spends between the nodes.
    longest: i64,
    /// Share of packets that the network loses.
    lost: f64,
    /// What the nodes' clocks may be off.
    clock_error: i64,
    /// Points that drop: how many times each, and how long.
    blind: usize,
    /// Points on one node drop at the same times.
    together: bool,
    /// Time tells which of the packets of an identity is which.
    is_told_apart: bool,
}

/// splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, end: i64) -> i64 {
        (self.next() >> 1) as i64 % end
    }

    fn happens(&mut self, chance: f64) -> bool {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64 <= chance
    }
}

/// What happened to it.
struct Case {
    lab: Lab,
    /// First time seen of those lost, and whether that is far from all doubt.
    lost: BTreeMap<i64, bool>,
    /// The leg that lost them.
    from: usize,
}

impl Stream {
    fn cast(&self, seed: u64) -> Case {
        let mut random = Random(seed);
        let mut lab = Lab::new(2);
        lab.job.nodes.iter_mut().for_each(|node| node.clock_error_nanos = Some(self.clock_error));
        let from = random.below(HOPS as i64 - 1) as usize;
        let blind = self.blind(&mut random);
        let is_blind = |hop: usize, at: i64| blind[hop].iter().any(|(s, e)| (*s..*e).contains(&at));
        let path = Lab::path(0, 1);
        let mut dropped: BTreeMap<(usize, i64), u64> = BTreeMap::new();
        let (mut lost, mut last) = (BTreeMap::new(), [0; HOPS]);
        for n in 0..self.count {
            let mut packet = Packet::udp(n % self.identities, 100);
            packet.row.transport_hash = 1;
            let sent = T0 + 100 * MILLI + i64::from(n) * self.spacing;
            let is_lost = random.happens(self.lost);
            let (mut time, mut first) = (sent, None);
            for (hop, point) in path.into_iter().enumerate().take(if is_lost { from + 1 } else { HOPS }) {
                time += if hop == 4 { 200 * MICRO + random.below(self.longest) } else { 10 * MICRO };
                // Queues keep the order.
                time = time.max(last[hop] + 1);
                last[hop] = time;
                if is_blind(hop, time) && random.happens(0.7) {
                    *dropped.entry((point, time.div_euclid(SLICE))).or_default() += 1;
                    continue;
                }
                first.get_or_insert(time);
                lab.see(point, packet.flow((0, 1), hop == 3 || hop == 4), packet.row, time);
            }
            if let (true, Some(first)) = (is_lost, first) {
                let doubt = first - FAR..first + FAR + i64::from(self.identities) * self.spacing;
                let is_near =
                    |hop: &[(i64, i64)]| hop.iter().any(|span| span.0 < doubt.end && span.1 > doubt.start);
                let is_far = !blind.iter().any(|hop| is_near(hop));
                lost.insert(first, is_far);
            }
        }
        for point in path {
            lab.slices.insert(point, slices(point, &dropped));
        }
        Case { lab, lost, from }
    }

    /// By hop.
    fn blind(&self, random: &mut Random) -> [Vec<(i64, i64)>; HOPS] {
        let length = i64::from(self.count) * self.spacing;
        let mut blind: [Vec<(i64, i64)>; HOPS] = Default::default();
        for _ in 0..self.blind {
            let (hop, start) = (random.below(HOPS as i64) as usize, T0 + 100 * MILLI + random.below(length));
            let span = (start, start + SLICE + random.below(7 * SLICE));
            let hops = if self.together { hop / 4 * 4..hop / 4 * 4 + 4 } else { hop..hop + 1 };
            hops.for_each(|hop| blind[hop].push(span));
        }
        blind
    }
}

/// A slice per tick, from the start of recording to its end.
fn slices(point: usize, dropped: &BTreeMap<(usize, i64), u64>) -> Vec<Slice> {
    let (start, end) = (T0 - SECOND, T1 + GUARD_NANOS);
    let slice = |tick: i64| {
        let kernel_drops = dropped.get(&(point, tick)).copied().unwrap_or(0);
        let counters =
            SliceCounters { received: 100 + kernel_drops, kernel_drops, ..SliceCounters::default() };
        Slice { start_nanos: tick * SLICE, end_nanos: (tick + 1) * SLICE, counters }
    };
    (start / SLICE..end / SLICE).map(slice).collect()
}

/// How many legs of the report span the leg, and how many losses they have.
fn spanning(outcome: &Outcome, lab: &Lab, from: usize) -> (u64, u64) {
    let path = Lab::path(0, 1);
    let at = |name: &lastseen_correlate::report::PointName| {
        path.iter().position(|&point| {
            let point = &lab.job.points[point];
            lab.job.nodes[point.node].name == name.node && point.interface == name.interface
        })
    };
    let losses = outcome.report.paths.iter().flat_map(|path| &path.losses);
    losses.fold((0, 0), |(right, wrong), loss| {
        let ends = (at(&loss.from), loss.to.as_ref().and_then(at));
        match ends {
            (Some(a), Some(b)) if a <= from && b > from => (right + loss.count, wrong),
            _ => (right, wrong + loss.count),
        }
    })
}

/// Returns how many losses were found.
fn check(stream: &Stream, seeds: std::ops::Range<u64>) -> u64 {
    let (mut all, mut sure, mut named) = (0, 0, 0);
    let mut problems = Vec::new();
    for seed in seeds {
        let case = stream.cast(seed);
        let outcome = case.lab.run();
        assert_sums(&outcome);
        let (right, wrong) = spanning(&outcome, &case.lab, case.from);
        let found: BTreeSet<_> = outcome.lost.iter().map(|lost| lost.first_seen_nanos).collect();
        let missed = case.lost.iter().filter(|(at, is_far)| **is_far && !found.contains(at)).count();
        let false_names = found.iter().filter(|at| !case.lost.contains_key(at)).count();
        all += case.lost.len();
        sure += case.lost.values().filter(|is_far| **is_far).count();
        named += right;
        let (missed, false_names) = if stream.is_told_apart { (missed, false_names) } else { (0, 0) };
        if wrong > 0 || right > case.lost.len() as u64 || missed > 0 || false_names > 0 {
            problems.push(format!(
                "seed {seed}: lost {} named {right}, elsewhere {wrong}, sure ones missed {missed}, others named {false_names}",
                case.lost.len()
            ));
        }
    }
    println!("lost {all}, far from doubt {sure}, named {named}");
    assert!(problems.is_empty(), "{} seeds: {problems:#?}", problems.len());
    named
}

const WRAPPING: Stream = Stream {
    identities: 30,
    spacing: 10 * MILLI,
    count: 900,
    longest: 2 * MILLI,
    lost: 0.03,
    clock_error: 200 * MICRO,
    blind: 0,
    together: false,
    is_told_apart: true,
};

#[test]
fn repeats_without_blindness_are_lost_one_by_one() {
    check(&WRAPPING, 0..20);
}

#[test]
fn a_blind_point_makes_no_loss_of_repeats() {
    check(&Stream { blind: 6, ..WRAPPING }, 0..60);
}

#[test]
fn a_blind_node_makes_no_loss_of_repeats() {
    check(&Stream { blind: 4, together: true, ..WRAPPING }, 0..60);
}

#[test]
fn a_blind_node_makes_no_loss_of_repeats_that_clocks_cannot_tell_apart() {
    check(
        &Stream {
            blind: 4,
            together: true,
            identities: 4,
            clock_error: 30 * MILLI,
            is_told_apart: false,
            ..WRAPPING
        },
        0..60,
    );
}

#[test]
fn a_blind_node_makes_no_loss_of_identical_packets() {
    check(
        &Stream {
            blind: 4,
            together: true,
            identities: 1,
            spacing: 2 * MILLI,
            count: 4000,
            longest: 3 * MILLI,
            is_told_apart: false,
            ..WRAPPING
        },
        0..30,
    );
}

#[test]
fn of_identical_packets_those_are_lost_that_no_blind_point_can_have_missed() {
    for together in [false, true] {
        let named = check(
            &Stream {
                blind: 1,
                together,
                identities: 1,
                spacing: 5 * MILLI,
                count: 1800,
                longest: 30 * MILLI,
                lost: 0.3,
                is_told_apart: false,
                ..WRAPPING
            },
            0..60,
        );
        // Some 540 are, and of 160 a point that was blind may have missed.
        assert!(named > 60 * 300, "{named}");
    }
}
