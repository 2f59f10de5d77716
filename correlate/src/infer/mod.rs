//! Paths without a topology: the order of points from the packets themselves.
//!
//! What is asked for each pair of points that saw packets between two addresses, surest first: the hop limit, which
//! only falls; on one node the stamps, which one clock made, and encapsulation where they are equal, as they are on
//! the way up from a network device; between nodes which of them puts packets into the tunnel and which takes them
//! out, and the stamps of both ways together, which need no common clock: a packet that goes from A to B is stamped
//! later at B by the clocks' difference and its way, one that goes back earlier by the difference less its way.
//!
//! What cannot be placed is left out. An end that may lie beyond the last point is not taken for the end: without a
//! topology a total black hole looks like a destination.

mod order;
mod tenancy;
mod times;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

pub(crate) use tenancy::Tenancy;

use self::order::Relation;
use self::times::Times;
use lastseen_packet::observation::FlowKey;

use crate::evidence::flows::Flows;
use crate::evidence::scratch::ScratchError;
use crate::evidence::sightings::Sightings;
use crate::fabric::domain::Domain;
use crate::fabric::topology::Direction;
use crate::input::{Job, Point};
use crate::path::{MAX_HOPS, Path};

/// Addresses within a domain, in the direction of the packets: as they are sent and as they arrive, which differs where
/// they are translated on the way.
type Ends = (Domain, [IpAddr; 2], [IpAddr; 2]);

/// How packets looked at a point.
#[derive(Clone, Copy, Debug)]
struct Look {
    /// Lowest and highest inner hop limit.
    ttl: (u8, u8),
    is_tunnelled: bool,
    is_bare: bool,
}

/// Paths of a job without topology.
#[derive(Debug)]
pub(crate) struct Inference<'j> {
    job: &'j Job,
    numbers: BTreeMap<Ends, u32>,
    /// By conversation.
    way_of: Vec<u32>,
    looks: Vec<BTreeMap<usize, Look>>,
    times: Times,
}

impl<'j> Inference<'j> {
    /// From flows that name their conversation and sightings that do too.
    pub(crate) fn new(job: &'j Job, flows: &Flows, sightings: &Sightings) -> Result<Self, ScratchError> {
        let mut numbers = BTreeMap::new();
        let mut way_of = Vec::with_capacity(flows.conversations.len());
        for conversation in 0..flows.conversations.len() {
            let next = numbers.len() as u32;
            way_of.push(*numbers.entry(ends(flows, conversation as u32)).or_insert(next));
        }
        let mut looks: Vec<BTreeMap<usize, Look>> = vec![BTreeMap::new(); numbers.len()];
        for flow in flows.all.iter().filter(|flow| flow.segments > 0) {
            let of_way = &mut looks[way_of[flow.conversation as usize] as usize];
            let is_tunnelled = flow.key.overlay.is_some();
            let look = Look { ttl: flow.ttl, is_tunnelled, is_bare: !is_tunnelled };
            of_way.entry(usize::from(flow.point)).and_modify(|known| known.join(look)).or_insert(look);
        }
        Ok(Self { job, numbers, looks, times: Times::new(sightings, &way_of)?, way_of })
    }

    /// The number of the way a conversation's packets take.
    pub(crate) fn way_of(&self, conversation: u32) -> u32 {
        self.way_of[conversation as usize]
    }

    /// The path of every way, of which every point that saw packets between its ends is a part.
    pub(crate) fn paths(&self) -> impl Iterator<Item = Path> {
        let mut ways: Vec<_> = self.numbers.iter().map(|(&ends, &number)| (number, ends)).collect();
        ways.sort_unstable();
        ways.into_iter().map(|(number, ends)| Way { inference: self, number, ends }.path())
    }
}

/// The ends of a conversation, under the first and under the last of its tuples.
fn ends(flows: &Flows, conversation: u32) -> Ends {
    let head = flows.head(conversation);
    let first = &flows.conversations[head as usize];
    let last = flows.later_tuples(head).last().unwrap_or(&first.tuple);
    let of = |tuple: &FlowKey| [tuple.source, tuple.destination];
    (first.domain, of(&first.tuple), of(last))
}

impl Look {
    fn join(&mut self, other: Self) {
        self.ttl = (self.ttl.0.min(other.ttl.0), self.ttl.1.max(other.ttl.1));
        self.is_tunnelled |= other.is_tunnelled;
        self.is_bare |= other.is_bare;
    }

    /// True if packets surely meet this point before `other`: the hop limit of the same packets fell.
    fn is_higher(self, other: Self) -> bool {
        self.ttl.0 >= other.ttl.0 && self.ttl.1 > other.ttl.1
            || self.ttl.0 > other.ttl.0 && self.ttl.1 >= other.ttl.1
    }
}

/// What a node does to packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Encapsulates,
    Decapsulates,
}

/// One direction between two addresses.
struct Way<'i, 'j> {
    inference: &'i Inference<'j>,
    number: u32,
    ends: Ends,
}

impl Way<'_, '_> {
    fn path(&self) -> Path {
        let seen: Vec<usize> = self.looks().keys().copied().collect();
        let placed = self.ordered(&seen[..seen.len().min(MAX_HOPS)]);
        let is_unordered = placed.len() < seen.len();
        let is_cut_short = is_unordered && placed.len() < 2 || !self.is_whole();
        Path { points: placed, is_unordered, is_cut_short, ..Path::default() }
    }

    fn looks(&self) -> &BTreeMap<usize, Look> {
        &self.inference.looks[self.number as usize]
    }

    fn point(&self, point: usize) -> &Point {
        &self.inference.job.points[point]
    }

    /// The packets that come back.
    fn back(&self) -> Option<Self> {
        let (domain, [source, destination], [last_source, last_destination]) = self.ends;
        let ends = (domain, [last_destination, last_source], [destination, source]);
        let number = *self.inference.numbers.get(&ends)?;
        Some(Way { inference: self.inference, number, ends })
    }

    fn ordered(&self, points: &[usize]) -> Vec<usize> {
        let mut relation = Relation::new(points.len());
        for (i, &p) in points.iter().enumerate() {
            for (j, &q) in points.iter().enumerate().skip(i + 1) {
                match self.is_before(p, q) {
                    Some(true) => relation.add(i, j),
                    Some(false) => relation.add(j, i),
                    None => {}
                }
            }
        }
        relation.close();
        relation.chain().into_iter().map(|at| points[at]).collect()
    }

    fn is_before(&self, p: usize, q: usize) -> Option<bool> {
        let (look, other) = (self.looks()[&p], self.looks()[&q]);
        match (look.is_higher(other), other.is_higher(look)) {
            (true, _) => return Some(true),
            (_, true) => return Some(false),
            _ => {}
        }
        if self.point(p).node == self.point(q).node {
            return self.is_before_on_node(p, q);
        }
        self.by_part(p, q).or_else(|| self.by_both_ways(p, q))
    }

    /// On one node: by its clock, then by encapsulation, then as the packets that come back have it.
    fn is_before_on_node(&self, p: usize, q: usize) -> Option<bool> {
        let by_stamp = |way: &Self| way.inference.times.median(way.number, p, q).filter(|nanos| *nanos != 0);
        if let Some(nanos) = by_stamp(self) {
            return Some(nanos > 0);
        }
        let (look, other) = (self.looks()[&p], self.looks()[&q]);
        let is_tied = self.inference.times.median(self.number, p, q) == Some(0);
        if is_tied && look.is_tunnelled != other.is_tunnelled {
            return Some(look.is_tunnelled);
        }
        self.back().and_then(|back| by_stamp(&back)).map(|nanos| nanos < 0)
    }

    /// Between nodes: what encapsulates comes before what decapsulates.
    fn by_part(&self, p: usize, q: usize) -> Option<bool> {
        let part = |point: usize| self.part(self.point(point).node);
        match (part(p)?, part(q)?) {
            (Part::Encapsulates, Part::Decapsulates) => Some(true),
            (Part::Decapsulates, Part::Encapsulates) => Some(false),
            _ => None,
        }
    }

    /// From the directions of its tunnelled packets where they are known, else from the order of a bare and a
    /// tunnelled point.
    fn part(&self, node: usize) -> Option<Part> {
        let here = || self.looks().iter().filter(|(point, _)| self.point(**point).node == node);
        let is_only = |look: &Look| look.is_tunnelled != look.is_bare;
        let tunnelled: Vec<usize> =
            here().filter(|(_, look)| is_only(look) && look.is_tunnelled).map(|(&point, _)| point).collect();
        let bare = here().filter(|(_, look)| is_only(look) && look.is_bare).map(|(&point, _)| point);
        let directions: BTreeSet<_> =
            tunnelled.iter().filter_map(|&point| self.point(point).direction).collect();
        match (directions.contains(&Direction::Out), directions.contains(&Direction::In)) {
            (true, false) => return Some(Part::Encapsulates),
            (false, true) => return Some(Part::Decapsulates),
            (true, true) => return None,
            (false, false) => {}
        }
        let parts: Vec<Part> = bare
            .flat_map(|bare| tunnelled.iter().map(move |&tunnelled| (bare, tunnelled)))
            .filter_map(|(bare, tunnelled)| self.bare_first(bare, tunnelled))
            .map(|bare_first| if bare_first { Part::Encapsulates } else { Part::Decapsulates })
            .collect();
        let first = *parts.first()?;
        parts.iter().all(|part| *part == first).then_some(first)
    }

    fn bare_first(&self, bare: usize, tunnelled: usize) -> Option<bool> {
        let (look, other) = (self.looks()[&bare], self.looks()[&tunnelled]);
        match (look.is_higher(other), other.is_higher(look)) {
            (true, _) => Some(true),
            (_, true) => Some(false),
            _ => self.is_before_on_node(bare, tunnelled),
        }
    }

    /// Between nodes, whatever their clocks are: there and back take time.
    fn by_both_ways(&self, p: usize, q: usize) -> Option<bool> {
        let there = self.inference.times.median(self.number, p, q)?;
        let back = self.back()?;
        let back = self.inference.times.median(back.number, p, q)?;
        (there != back).then_some(there > back)
    }

    /// True if the packets that come back were seen nowhere else: then the last point is taken for the end. Packets to
    /// many have no end.
    fn is_whole(&self) -> bool {
        let (.., [_, destination]) = self.ends;
        if destination.is_multicast() || destination == IpAddr::from([255; 4]) {
            return true;
        }
        let places = |way: &Way<'_, '_>| -> BTreeSet<(usize, String, String)> {
            let points = way.looks().keys().map(|&point| way.point(point));
            points.map(|point| (point.node, point.netns.clone(), point.interface.clone())).collect()
        };
        self.back().is_some_and(|back| {
            let back = places(&back);
            !back.is_empty() && back.is_subset(&places(self))
        })
    }
}
