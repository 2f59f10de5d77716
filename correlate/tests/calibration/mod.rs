//! How far stated confidence can be trusted: packets that the network loses and packets that a capture misses, mixed on
//! one leg, and the report held against which of the two it was.
#![allow(dead_code, missing_docs, unreachable_pub)]

use std::collections::BTreeSet;
use std::fmt;

use lastseen_correlate::{GUARD_NANOS, Outcome, Slice, SliceCounters};

use super::lab::{ALL, Lab, MICRO, MILLI, POINTS, Packet, SECOND, T0, T1, up_to};

/// Shares of packets that the network loses.
pub const NETWORK: [f64; 5] = [0.0001, 0.001, 0.01, 0.05, 0.2];
/// Shares of packets that the capture misses.
pub const CAPTURE: [f64; 4] = [0.0, 0.01, 0.05, 0.2];

const DATAGRAMS: u32 = 3000;
const SEGMENTS: u32 = 1000;
const PAYLOAD: u32 = 1000;
/// A lost segment is sent again this much later.
const TIMEOUT: i64 = 200 * MILLI;
/// Identifications of what is sent again.
const AGAIN: u16 = 30_000;
/// A burst of drops, of which half are dropped.
const BURST: i64 = 50 * MILLI;

/// How a capture misses packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misses {
    /// The ring of the receiving node overflows in bursts, and its counters say so.
    Declared,
    /// The last point of the path misses some now and then, and says nothing.
    Silent,
}

/// What came of the missing packets of one or more captures.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Score {
    /// Lost by the network.
    pub lost: u64,
    /// Called lost.
    pub called: u64,
    /// Of these, wrongly.
    pub false_losses: u64,
    /// Delivered, and missed by every point after the leg.
    pub unseen: u64,
    /// Missing packets of which a confidence was stated, whether they were called lost or not.
    pub stated: u64,
    /// Of these, lost.
    pub stated_lost: u64,
    /// Sum over them of the squared distance of the confidence from the truth.
    pub squares: f64,
}

impl Score {
    fn add(&mut self, other: &Self) {
        self.lost += other.lost;
        self.called += other.called;
        self.false_losses += other.false_losses;
        self.unseen += other.unseen;
        self.stated += other.stated;
        self.stated_lost += other.stated_lost;
        self.squares += other.squares;
    }

    /// Brier score of the stated confidence: 0 is perfect.
    pub fn brier(&self) -> f64 {
        self.squares / self.stated.max(1) as f64
    }

    /// That of always stating the share of the missing that was lost.
    pub fn base_rate_brier(&self) -> f64 {
        let rate = self.stated_lost as f64 / self.stated.max(1) as f64;
        rate * (1.0 - rate)
    }

    /// Share of delivered packets that no point saw arrive and that were rightly not called lost.
    pub fn unseen_right(&self) -> f64 {
        1.0 - self.false_losses as f64 / self.unseen.max(1) as f64
    }
}

/// A row of the table: all shares of network loss under one of capture loss.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub misses: Misses,
    pub capture: f64,
    pub score: Score,
}

#[derive(Clone, Debug)]
pub struct Sweep {
    pub rows: Vec<Row>,
    pub total: Score,
}

/// Every mixture once.
pub fn sweep(seed: u64) -> Sweep {
    let mut random = Random(seed);
    let mut sweep = Sweep { rows: Vec::new(), total: Score::default() };
    for misses in [Misses::Declared, Misses::Silent] {
        for capture in CAPTURE {
            let mut score = Score::default();
            for network in NETWORK {
                score.add(&Run::new(&mut random, misses, network, capture).score());
            }
            sweep.total.add(&score);
            sweep.rows.push(Row { misses, capture, score });
        }
    }
    sweep
}

impl fmt::Display for Sweep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "capture loss     truly lost  called lost  falsely  unseen not called lost   Brier  base rate"
        )?;
        for Row { misses, capture, score } in &self.rows {
            let kind = format!("{misses:?}").to_lowercase();
            writeln!(f, "{:>4.0} % {kind:<9}{}", capture * 100.0, Line(score))?;
        }
        writeln!(f, "{:<16}{}", "all", Line(&self.total))
    }
}

struct Line<'s>(&'s Score);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Score { lost, called, false_losses, unseen, .. } = self.0;
        let right = format!("{:.2} % of {unseen}", self.0.unseen_right() * 100.0);
        let (brier, base) = (self.0.brier(), self.0.base_rate_brier());
        write!(f, "{lost:>11}  {called:>11}  {false_losses:>7}  {right:>22}  {brier:>6.4}  {base:>9.4}")
    }
}

/// The `SplitMix64` generator.
struct Random(u64);

impl Random {
    fn happens(&mut self, chance: f64) -> bool {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64 <= chance && chance > 0.0
    }
}

/// Protocol and identification, which are unique in a run.
type Id = (&'static str, u16);

struct Run<'r> {
    random: &'r mut Random,
    misses: Misses,
    network: f64,
    capture: f64,
    lab: Lab,
    bursts: BTreeSet<i64>,
    lost: BTreeSet<Id>,
    unseen: BTreeSet<Id>,
}

impl<'r> Run<'r> {
    fn new(random: &'r mut Random, misses: Misses, network: f64, capture: f64) -> Self {
        let (lost, unseen, mut bursts) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        if misses == Misses::Declared {
            let all = (T0 - SECOND) / BURST..(T1 + GUARD_NANOS) / BURST;
            bursts = all.filter(|_| random.happens(2.0 * capture)).collect();
        }
        let mut run = Self { random, misses, network, capture, lab: Lab::new(2), bursts, lost, unseen };
        run.declare();
        run.send_datagrams();
        run.send_stream();
        run
    }

    /// The receiving node's counters.
    fn declare(&mut self) {
        let slice = |burst: i64, drops: bool| Slice {
            start_nanos: burst * BURST,
            end_nanos: (burst + 1) * BURST,
            counters: SliceCounters {
                received: 10,
                kernel_drops: u64::from(drops) * 10,
                ..SliceCounters::default()
            },
        };
        if !self.bursts.is_empty() {
            let all = (T0 - SECOND) / BURST..(T1 + GUARD_NANOS) / BURST;
            let slices: Vec<_> = all.map(|burst| slice(burst, self.bursts.contains(&burst))).collect();
            self.lab.slices.extend((POINTS..2 * POINTS).map(|point| (point, slices.clone())));
        }
    }

    /// Whether the points after the leg miss a packet.
    fn is_missed(&mut self, time: i64) -> bool {
        match self.misses {
            Misses::Declared => self.bursts.contains(&(time / BURST)) && self.random.happens(0.5),
            Misses::Silent => self.random.happens(self.capture),
        }
    }

    /// Sends a packet over the leg, and says whether it arrived.
    fn send(&mut self, id: Id, packet: &Packet, time: i64) -> bool {
        let leg = if self.misses == Misses::Declared { 4 } else { 7 };
        let (is_lost, is_missed) = (self.random.happens(self.network), self.is_missed(time));
        if is_lost {
            self.lost.insert(id);
        } else if is_missed {
            self.unseen.insert(id);
        }
        self.lab.send((0, 1), packet, time, if is_lost || is_missed { up_to(leg) } else { ALL });
        !is_lost
    }

    fn send_datagrams(&mut self) {
        for id in 0..DATAGRAMS {
            let time = T0 + i64::from(id) * 3 * MILLI;
            self.send(("udp", id as u16), &Packet::udp(id, 100), time);
        }
    }

    /// A stream whose losses are sent again until they arrive, and its acknowledgments.
    fn send_stream(&mut self) {
        let mut due: BTreeSet<(i64, u32, u16)> =
            (0..SEGMENTS).map(|id| (T0 + i64::from(id) * 8 * MILLI + MILLI, id, id as u16)).collect();
        let mut arrived = BTreeSet::new();
        let mut next = 0;
        let mut again = AGAIN;
        while let Some((time, id, ip_id)) = due.pop_first() {
            let mut packet = Packet::tcp(ip_id, id * PAYLOAD, PAYLOAD);
            packet.row.ts_value = (time / MILLI) as u32;
            if !self.send(("tcp", ip_id), &packet, time) {
                due.insert((time + TIMEOUT, id, again));
                again += 1;
                continue;
            }
            arrived.insert(id);
            while arrived.contains(&next) {
                next += 1;
            }
            self.acknowledge(next, id, (time / MILLI) as u32, time + 400 * MICRO);
        }
    }

    fn acknowledge(&mut self, next: u32, newest: u32, echo: u32, time: i64) {
        let mut ack = Packet::tcp(newest as u16, 1, 0);
        ack.ports = (80, 41822);
        (ack.row.tcp_ack, ack.row.ts_echo) = (next * PAYLOAD, echo);
        if newest >= next {
            (ack.row.sack_left, ack.row.sack_right) = (newest * PAYLOAD, (newest + 1) * PAYLOAD);
        }
        let is_missed = self.misses == Misses::Declared && self.is_missed(time);
        self.lab.send((1, 0), &ack, time, if is_missed { ALL & !up_to(4) } else { ALL });
    }

    fn score(&self) -> Score {
        let outcome = self.lab.run();
        super::lab::assert_sums(&outcome);
        let mut score =
            Score { lost: self.lost.len() as u64, unseen: self.unseen.len() as u64, ..Score::default() };
        let mut called_right = 0;
        for packet in &outcome.lost {
            let protocol = if packet.protocol == "udp" { "udp" } else { "tcp" };
            let is_lost = self.lost.contains(&(protocol, packet.ip_id.unwrap_or(0)));
            score.state(packet.confidence, u64::from(is_lost), 1);
            called_right += u64::from(is_lost);
        }
        score.called = outcome.lost.len() as u64;
        score.false_losses = score.called - called_right;
        score.state_doubts(&outcome, self.lost.len() as u64 - called_right);
        score
    }
}

impl Score {
    /// `lost` of `count` packets that were said to be lost with this confidence were.
    fn state(&mut self, confidence: f64, lost: u64, count: u64) {
        self.stated += count;
        self.stated_lost += lost;
        self.squares += lost as f64 * (1.0 - confidence).powi(2) + (count - lost) as f64 * confidence.powi(2);
    }

    /// What was doubted. On the leg of a silent capture nothing else hides a loss, so that the losses not called are
    /// all among the doubted.
    fn state_doubts(&mut self, outcome: &Outcome, not_called: u64) {
        let count: u64 = outcome.doubts.iter().map(|doubt| doubt.count).sum();
        let sum: f64 = outcome.doubts.iter().map(|doubt| doubt.count as f64 * doubt.confidence).sum();
        if count > 0 {
            assert!(not_called <= count, "{not_called} of {count}: a loss was not even doubted");
            self.state(sum / count as f64, not_called, count);
        }
    }
}
