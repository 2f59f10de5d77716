//! How exact losses are over shares of loss, legs, rates, segmentation offload and address translation: synthetic
//! packets whose fate is known, through the real correlation.
#![allow(dead_code, missing_docs, unreachable_pub)]

use std::collections::BTreeMap;
use std::fmt;

use lastseen_packet::observation::gso;

use super::lab::{ALL, HOPS, Lab, Packet, SECOND, T0, assert_sums, up_to};

/// Shares of packets that the network loses.
pub const LOSS: [f64; 7] = [0.0001, 0.001, 0.01, 0.02, 0.05, 0.1, 0.2];
/// Segments per second, for nine seconds.
pub const RATES: [u32; 3] = [100, 1_000, 4_000];

const SECONDS: u32 = 9;
const PAYLOAD: u32 = 1000;
/// Segments of a super-packet.
const SUPER: u32 = 4;
/// First position that sees single segments where there is segmentation offload: the sender's NIC.
const CUT: usize = 3;
/// First position that sees the translated tuple.
const TRANSLATED: usize = 1;

/// What is the same of a run.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    pub loss: f64,
    /// Position after which packets are lost.
    pub leg: usize,
    pub has_offload: bool,
    pub is_translated: bool,
    pub rate: u32,
}

/// What came of runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Score {
    pub sent: u64,
    pub lost: u64,
    /// Called lost, packet by packet.
    pub named: u64,
    /// Of these, rightly.
    pub right: u64,
    /// Of these, on their leg.
    pub on_leg: u64,
}

impl Score {
    fn add(&mut self, other: Self) {
        self.sent += other.sent;
        self.lost += other.lost;
        self.named += other.named;
        self.right += other.right;
        self.on_leg += other.on_leg;
    }

    /// Every lost packet is named, on its leg, and no other.
    pub fn is_exact(&self) -> bool {
        self.named == self.lost && self.right == self.lost && self.on_leg == self.lost
    }
}

/// Sums by the value of each dimension.
#[derive(Clone, Debug, Default)]
pub struct Table {
    rows: BTreeMap<(usize, &'static str, String), Score>,
    pub total: Score,
}

/// Every combination of `loss` and `rates` with legs, offload and translation.
pub fn sweep(seed: u64, loss: &[f64], rates: &[u32]) -> Table {
    let mut table = Table::default();
    let mut random = Random(seed);
    for &loss in loss {
        for leg in 0..HOPS - 1 {
            for &rate in rates {
                for (has_offload, is_translated) in
                    [(false, false), (false, true), (true, false), (true, true)]
                {
                    let setting = Setting { loss, leg, has_offload, is_translated, rate };
                    table.add(setting, run(setting, &mut random));
                }
            }
        }
    }
    table
}

fn run(setting: Setting, random: &mut Random) -> Score {
    let mut lab = Lab::new(2);
    let step = if setting.has_offload { SUPER } else { 1 };
    let count = setting.rate * SECONDS / step * step;
    let mut lost = Vec::new();
    for first in (0..count).step_by(step as usize) {
        let time = T0 + i64::from(first) * SECOND / i64::from(setting.rate);
        let is_whole_lost = random.happens(setting.loss);
        let mut seen_beyond = Vec::new();
        for id in first..first + step {
            let is_lost = if setting.leg < CUT { is_whole_lost } else { random.happens(setting.loss) };
            if is_lost {
                lost.push(id as u16);
            }
            seen_beyond.push((id, is_lost));
        }
        let mut whole = packet(first, step);
        if step > 1 {
            (whole.row.gso_type, whole.row.gso_size) = (gso::TCPV4, PAYLOAD as u16);
        }
        let reached = |is_lost: bool| if is_lost { up_to(setting.leg + 1) } else { ALL };
        if step > 1 {
            let is_gone = is_whole_lost && setting.leg < CUT;
            send(&mut lab, setting, &whole, time, reached(is_gone) & up_to(CUT));
        }
        let single = if step > 1 { ALL & !up_to(CUT) } else { ALL };
        for (id, is_lost) in seen_beyond {
            send(&mut lab, setting, &packet(id, 1), time, reached(is_lost) & single);
        }
    }
    score(&lab, setting, count, &lost)
}

/// A stream's segment, or several in one.
fn packet(id: u32, segments: u32) -> Packet {
    Packet::tcp(id as u16, 1 + id * PAYLOAD, segments * PAYLOAD)
}

fn send(lab: &mut Lab, setting: Setting, packet: &Packet, time: i64, mask: u32) {
    if !setting.is_translated {
        return lab.send((0, 1), packet, time, mask);
    }
    let beyond = Packet { ports: (packet.ports.0, 8080), ..*packet };
    lab.send((0, 1), packet, time, mask & up_to(TRANSLATED));
    lab.send((0, 1), &beyond, time, mask & !up_to(TRANSLATED));
}

fn score(lab: &Lab, setting: Setting, count: u32, lost: &[u16]) -> Score {
    let outcome = lab.run();
    assert_sums(&outcome);
    assert_eq!(outcome.report.totals.segments, u64::from(count), "{setting:?}");
    let [from, to] = [setting.leg, setting.leg + 1].map(|hop| &lab.job.points[Lab::path(0, 1)[hop]]);
    let is_at = |name: &lastseen_correlate::report::PointName, point: &lastseen_correlate::Point| {
        name.node == lab.job.nodes[point.node].name && name.interface == point.interface
    };
    let right = outcome.lost.iter().filter(|one| one.ip_id.is_some_and(|id| lost.contains(&id)));
    let right: Vec<_> = right.collect();
    let on_leg = right.iter().filter(|one| {
        is_at(&one.last_seen, from) && one.missing_at.as_ref().is_some_and(|missing| is_at(missing, to))
    });
    Score {
        sent: count.into(),
        lost: lost.len() as u64,
        named: outcome.report.totals.lost,
        right: right.len() as u64,
        on_leg: on_leg.count() as u64,
    }
}

impl Table {
    fn add(&mut self, setting: Setting, score: Score) {
        let Setting { loss, leg, has_offload, is_translated, rate } = setting;
        let on = |is_on: bool| if is_on { "on" } else { "off" }.to_owned();
        let cells = [
            ("loss", format!("{:>7.2} %", loss * 100.0)),
            ("leg", format!("hop {} → {}", leg + 1, leg + 2)),
            ("offload", on(has_offload)),
            ("translation", on(is_translated)),
            ("segments/s", format!("{rate:>6}")),
        ];
        for (at, (dimension, value)) in cells.into_iter().enumerate() {
            self.rows.entry((at, dimension, value)).or_default().add(score);
        }
        self.total.add(score);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:25}     sent     lost    named  precision   recall  on its leg", "")?;
        for ((_, dimension, value), score) in &self.rows {
            writeln!(f, "{dimension:<12} {value:<12}{}", Line(score))?;
        }
        writeln!(f, "{:<12} {:<12}{}", "all", "", Line(&self.total))
    }
}

struct Line<'s>(&'s Score);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Score { sent, lost, named, right, on_leg } = *self.0;
        let share = |part: u64, whole: u64| if whole == 0 { 1.0 } else { part as f64 / whole as f64 };
        let (precision, recall, leg) = (share(right, named), share(right, lost), share(on_leg, lost));
        write!(f, "{sent:>9} {lost:>8} {named:>8} {precision:>10.4} {recall:>8.4} {leg:>11.4}")
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
        (((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64) < chance
    }
}
