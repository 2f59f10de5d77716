//! A stream that goes across both edges of the window: which of its datagrams are judged.

use std::collections::{HashMap, HashSet};

use anyhow::{Result, bail};

use super::report::Report;
use super::truth::Stream;
use crate::traffic::log::UdpLog;
use crate::traffic::witness::Passed;

/// Beyond the error of a node's clock in the middle of the window: what that error may change to its edges.
const MARGIN_NANOS: i64 = 100_000;

/// Its datagrams by the time each was first seen.
#[derive(Debug, Clone)]
pub struct Crossing {
    /// Start and end of the window, nanoseconds since 1970.
    window: (i64, i64),
    /// The node that first sees them.
    node: String,
    /// Time and whether it was lost.
    datagrams: Vec<(i64, bool)>,
}

impl Crossing {
    /// Puts the stream's log and what was seen of it together.
    pub fn new(
        window: (i64, i64),
        node: &str,
        stream: &Stream,
        log: &UdpLog,
        passed: &[Passed],
    ) -> Result<Self> {
        let is_its = |one: &&Passed| (one.source, one.destination) == (stream.source, stream.destination);
        let times: HashMap<u64, i64> = passed.iter().filter(is_its).map(|one| (one.id, one.nanos)).collect();
        let lost: HashSet<u64> = log.lost().into_iter().collect();
        let seen = |id: &u64| Some((*times.get(id)?, lost.contains(id)));
        let datagrams: Vec<_> = log.sent.iter().filter_map(seen).collect();
        if datagrams.len() != log.sent.len() {
            bail!("{} datagrams were sent and {} seen on the veth", log.sent.len(), datagrams.len());
        }
        let begins = datagrams.first().is_some_and(|(time, _)| *time < window.0 - MARGIN_NANOS);
        let ends = datagrams.last().is_some_and(|(time, _)| *time > window.1 + MARGIN_NANOS);
        if !begins || !ends {
            bail!("the traffic did not cross both edges of the window: this machine is too busy to judge");
        }
        Ok(Self { window, node: node.to_owned(), datagrams })
    }

    /// How many datagrams the report must judge, and how many of these must be lost: where one is as near to an edge as
    /// the report is wrong about the node's clock, the report decides. `ahead` is a node whose clock is ahead, and by how
    /// much.
    pub fn judged(&self, report: &Report, stream: &Stream, ahead: Option<&(String, i64)>) -> (u64, u64) {
        let node = report.nodes.iter().find(|node| node.node == self.node);
        let ahead = ahead.filter(|(node, _)| *node == self.node).map_or(0, |(_, nanos)| *nanos);
        let offset = node.and_then(|node| node.clock_offset_nanos).unwrap_or(0);
        let error = offset.saturating_sub(ahead).saturating_abs();
        let margin = error.saturating_add(MARGIN_NANOS);
        let found = stream.path(report).map_or((0, 0), |path| (path.totals.segments, path.totals.lost));
        let count = |margin: i64, only_lost: bool| {
            let (start, end) = (self.window.0 - margin, self.window.1 + margin);
            let inside = self.datagrams.iter().filter(|(time, _)| (start..end).contains(time));
            inside.filter(|(_, lost)| *lost || !only_lost).count() as u64
        };
        (
            found.0.clamp(count(-margin, false), count(margin, false)),
            found.1.clamp(count(-margin, true), count(margin, true)),
        )
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const MS: i64 = 1_000_000;

    #[test]
    fn only_where_a_clock_cannot_tell_the_report_decides() {
        let parse = |text: &str| text.parse().expect("address");
        let (source, destination) = (parse("10.0.1.2:5"), parse("10.0.2.2:6"));
        let stream = Stream { source, destination, sent: 100, lost: 10, flows: Vec::new(), crossing: None };
        // One every millisecond, the window between two of them but for its start.
        let times: Vec<(u64, i64)> = (0..100).map(|id| (id, id as i64 * MS)).collect();
        let pass = |(id, nanos): &(u64, i64)| Passed {
            source: stream.source,
            destination: stream.destination,
            id: *id,
            nanos: *nanos,
        };
        let passed: Vec<_> = times.iter().map(pass).collect();
        let sent: Vec<u64> = (0..100).collect();
        let received = (0..100).filter(|id| id % 10 != 0).collect();
        let log = UdpLog { sent, received, ..UdpLog::default() };
        let crossing = Crossing::new((20 * MS, 60 * MS - MS / 2), "a", &stream, &log, &passed).expect("both");
        let judge = |segments: u64, lost: u64, offset: &str, ahead: Option<&(String, i64)>| {
            let totals = json!({"segments": segments.to_string(), "lost": lost.to_string()});
            let path = json!({"source": "10.0.1.2:5", "destination": "10.0.2.2:6", "protocol": "udp", "totals": totals});
            let report = json!({"nodes": [{"node": "a", "clockOffsetNanos": offset}], "paths": [path]});
            crossing.judged(&serde_json::from_value(report).expect("report"), &stream, ahead)
        };
        let judged = |segments, lost| judge(segments, lost, "-7", None);
        assert_eq!([judged(40, 4), judged(39, 3)], [(40, 4), (39, 3)]);
        assert_eq!([judged(41, 5), judged(38, 2)], [(40, 4), (39, 3)]);
        let ahead = ("a".to_owned(), 500 * MS);
        assert_eq!(judge(41, 5, "500000007", Some(&ahead)), (40, 4));
        assert_eq!(judge(41, 4, "1500000", None), (41, 4));
        assert!(Crossing::new((-MS, 60 * MS), "a", &stream, &log, &passed).is_err(), "it begins inside");
        assert!(
            Crossing::new((20 * MS, 60 * MS), "a", &stream, &log, &passed[1..]).is_err(),
            "one was not seen"
        );
    }
}
