//! Packets that two neighbouring nodes of a path each saw once: how much later the second stamped them.

use std::collections::BTreeMap;

use super::envelope::Envelope;
use crate::evidence::sighting::Sighting;
use crate::input::Job;
use crate::matching::judge::longest_delay;
use crate::matching::plan::{Plan, Plans};

/// Two nodes, in the direction of the packets.
type Way = (usize, usize);

/// Shortest differences by way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Differences {
    pub(crate) by_way: BTreeMap<Way, Envelope>,
}

impl Differences {
    pub(crate) fn merge(&mut self, other: Self) {
        for (way, envelope) in other.by_way {
            match self.by_way.get_mut(&way) {
                Some(known) => known.merge(&envelope),
                None => drop(self.by_way.insert(way, envelope)),
            }
        }
    }
}

/// Where paths cross from node to node.
#[derive(Debug)]
pub(crate) struct Crossings {
    /// By plan: neighbouring points on two nodes.
    by_plan: Vec<Vec<((u16, u16), Way)>>,
    /// By plan: how long after a sighting the next one of the same packet can be.
    bounds: Vec<i64>,
    recording: (i64, i64),
}

impl Crossings {
    /// Only between points that missed nothing: elsewhere two sightings that seem to be one packet may be two.
    pub(crate) fn new(job: &Job, plans: &Plans, recording: (i64, i64)) -> Self {
        let node = |point: usize| job.points[point].node;
        let of_plan = |plan: &Plan| {
            let is_clean = |point: usize| !plan.dirty.iter().any(|&(_, dirty)| dirty == point);
            let pairs = plan.path.points.windows(2).map(|pair| (pair[0], pair[1]));
            let across = pairs.filter(|&(from, to)| node(from) != node(to) && is_clean(from) && is_clean(to));
            across.map(|(from, to)| ((from as u16, to as u16), (node(from), node(to)))).collect()
        };
        let bound = longest_delay(job);
        let bounds = plans.plans.iter().map(|plan| bound.saturating_add(plan.slack)).collect();
        Self { by_plan: plans.plans.iter().map(of_plan).collect(), bounds, recording }
    }

    /// Takes in the sightings of one identity of one conversation, which follows `plan`, in order of time.
    pub(crate) fn compare(&self, plan: u32, group: &[Sighting], found: &mut Differences) {
        let crossings = &self.by_plan[plan as usize];
        if crossings.is_empty() {
            return;
        }
        let bound = self.bounds[plan as usize];
        for packet in group.chunk_by(|a, b| b.time.saturating_sub(a.time) <= bound) {
            for &((from, to), way) in crossings {
                if let (Some(sent), Some(received)) = (only(packet, from), only(packet, to)) {
                    let envelope = found.by_way.entry(way).or_insert_with(|| Envelope::new(self.recording));
                    envelope.add(sent, received.saturating_sub(sent));
                }
            }
        }
    }
}

/// The time of the only sighting at a point. Fragments are several of one packet, and stamped at any of them.
fn only(group: &[Sighting], point: u16) -> Option<i64> {
    let mut here = group.iter().filter(|sighting| sighting.point == point);
    let one = here.next().filter(|sighting| !sighting.is_datagram())?;
    here.next().is_none().then_some(one.time)
}
