//! What came of holding a report against the ground truth.

use lastseen_correlate::Ablation;

use super::packets::{LostPacket, Score};
use super::report::PointName;
use super::truth::Truth;

/// What came of a comparison.
#[derive(Debug, Clone, Default)]
pub struct Finding {
    /// What the report says, in one line.
    pub found: String,
    /// Segments judged.
    pub segments: u64,
    /// Segments the report calls lost on the right paths, for each leg of the truth.
    pub by_leg: Vec<u64>,
    /// Segments the report calls lost anywhere else.
    pub lost_elsewhere: u64,
    /// The legs on which it does.
    pub elsewhere: Vec<(PointName, Option<PointName>, u64)>,
    /// The datagrams it names, held against the ids of those that were lost.
    pub packets: Score,
    /// Largest error of a node's clock, nanoseconds.
    pub clock_error_nanos: i64,
    /// Whether the leg on which the report loses most is the right one; absent when nothing is to be found.
    pub hop_right: Option<bool>,
    /// The report as `ctl diff-nodes -o json` printed it.
    pub report: String,
    /// Everything that differs; empty means passed.
    pub differences: Vec<String>,
    /// The same without an idea of the method.
    pub without: Vec<(Ablation, Finding)>,
}

impl Finding {
    /// Segments that are called lost and truly are, at most as many as there are.
    pub fn correct(&self, truth: &Truth) -> u64 {
        truth.losses.iter().zip(&self.by_leg).map(|(loss, found)| loss.count.min(*found)).sum()
    }

    /// Segments that are called lost and are not.
    pub fn false_losses(&self, truth: &Truth) -> u64 {
        let excess =
            truth.losses.iter().zip(&self.by_leg).map(|(loss, found)| found.saturating_sub(loss.count));
        self.lost_elsewhere + excess.sum::<u64>()
    }

    /// Segments the report calls lost where some truly were.
    pub fn lost_right(&self) -> u64 {
        self.by_leg.iter().sum()
    }

    /// Holds the packets that are named as lost against those the generators miss.
    pub fn name_packets(&mut self, truth: &Truth, named: &[LostPacket]) {
        let scores = truth.oracles.iter().map(|oracle| oracle.score(named));
        self.packets = Score::sum(scores);
        let Score { lost, named, right } = self.packets;
        // What a point was too busy to see may be lost without being named.
        let is_all = lost <= right + truth.unseen();
        if named != right || !is_all {
            self.differ(format!("of {lost} lost datagrams {right} are named, and {} others", named - right));
        }
    }

    /// Notes something that differs.
    pub(super) fn differ(&mut self, text: String) {
        self.differences.push(text);
    }
}
