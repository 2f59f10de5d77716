//! Drop events: the kernel's word that it freed a packet, and why.
//!
//! An event proves the loss of one copy of the segment it names, on its node. It overrides what points say: a loss that
//! nobody could have seen is one all the same.

use std::collections::{BTreeMap, HashMap};

use lastseen_packet::observation::SipKey;

use crate::clock::Clocks;
use crate::input::{DropEvent, Job};
use crate::losses::tally::Class;
use crate::matching::plan::{Course, Plan};
use crate::report::DropReason;

/// Most drop events of a run.
pub(crate) const DROP_LIMIT: usize = 1 << 20;
/// Most different causes, which are a node, reason and location each.
const CAUSE_LIMIT: usize = u16::MAX as usize;
/// Most events of one identity.
const COPY_LIMIT: usize = 1 << 12;
/// What tells of drops.
const SOURCE: &str = "kfree_skb";

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Event {
    time: i64,
    cause: u16,
}

/// What events have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Cause {
    node: usize,
    reason: String,
    location: String,
}

/// All events, by identity.
#[derive(Debug)]
pub(crate) struct Drops {
    /// In order of time.
    by_identity: HashMap<u64, Vec<Event>, SipKey>,
    /// A cause's number is its index and 1.
    causes: Vec<Cause>,
}

impl Drops {
    pub(crate) fn new(job: &Job, clocks: &Clocks, events: &[DropEvent]) -> Self {
        let mut numbers: BTreeMap<Cause, u16> = events.iter().map(|event| (Cause::of(event), 0)).collect();
        for (number, (_, slot)) in (1..).zip(numbers.iter_mut().take(CAUSE_LIMIT)) {
            *slot = number;
        }
        let mut by_identity: HashMap<u64, Vec<Event>, SipKey> = HashMap::with_hasher(SipKey(job.key.0));
        for event in events {
            let cause = numbers[&Cause::of(event)];
            let time = clocks.correct(event.node, event.time_nanos);
            if cause != 0 {
                by_identity.entry(event.k0 & !1).or_default().push(Event { time, cause });
            }
        }
        for events in by_identity.values_mut() {
            events.sort_unstable();
            events.truncate(COPY_LIMIT);
        }
        Self { by_identity, causes: numbers.into_keys().take(CAUSE_LIMIT).collect() }
    }

    /// The events of one identity that no copy has taken yet. The lowest bit of `k0` is not part of an identity.
    pub(crate) fn of(&self, k0: u64) -> Open<'_> {
        let events = if self.by_identity.is_empty() { None } else { self.by_identity.get(&(k0 & !1)) };
        Open { events: events.map_or(&[], Vec::as_slice), taken: Vec::new() }
    }

    pub(crate) fn reason(&self, cause: u16) -> DropReason {
        let Cause { reason, location, .. } = &self.causes[usize::from(cause) - 1];
        DropReason { code: reason.clone(), source: SOURCE.to_owned(), location: location.clone() }
    }

    /// The later end of the leg on which an event's packet was lost: the first point from the event's node on that
    /// testifies; without any, the node's last point that is still to come; else the next point.
    pub(crate) fn leg_end(&self, job: &Job, plan: &Plan, course: Course, class: Class) -> u32 {
        let node = self.causes[usize::from(class.drop) - 1].node;
        let later = course.active & !((2_u32 << class.from).wrapping_sub(1));
        let points = plan.path.points.iter().enumerate();
        let on_node = points.filter(|(_, point)| job.points[**point].node == node);
        let on_node = on_node.fold(0_u32, |mask, (at, _)| mask | 1 << at) & later;
        let from_node_on = (on_node & on_node.wrapping_neg()).wrapping_sub(1);
        match (class.testify & !(if on_node == 0 { 0 } else { from_node_on }), on_node) {
            (0, 0) => later.trailing_zeros(),
            (0, on_node) => on_node.ilog2(),
            (witnesses, _) => witnesses.trailing_zeros(),
        }
    }
}

impl Cause {
    fn of(event: &DropEvent) -> Self {
        Self { node: event.node, reason: event.reason.clone(), location: event.location.clone() }
    }
}

/// Events that are still to be matched with a copy each.
#[derive(Debug)]
pub(crate) struct Open<'a> {
    events: &'a [Event],
    taken: Vec<bool>,
}

impl Open<'_> {
    /// The cause of the first event in `[start, end]` that no other copy has taken; 0 without one.
    pub(crate) fn take(&mut self, start: i64, end: i64) -> u16 {
        let events = self.events;
        self.taken.resize(events.len(), false);
        let range = events.partition_point(|event| event.time < start)
            ..events.partition_point(|event| event.time <= end);
        let Some(at) = range.into_iter().find(|&at| !self.taken[at]) else { return 0 };
        self.taken[at] = true;
        events[at].cause
    }
}
