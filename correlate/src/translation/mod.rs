//! Address translation: conversations that are one, because a node gave their packets another tuple on the way.
//!
//! A segment's identity survives translation, so what came out of one is recognised by the identities it shares with
//! what went in. That alone proves nothing where identities are few or poor: IP-IDs are 16 bits long and many
//! datagrams look alike. Two conversations are one only if
//!
//! - their tuples can be two sides of one translation,
//! - no point saw both,
//! - the later one was not sent by a captured pod, nor the earlier one delivered to one,
//! - at least half of the later one's identities are found in the earlier one, at the same time, and
//! - these come to more than chance: [`PROOF_BITS`], and
//! - no other pair excludes it.
//!
//! What answers a translated conversation is translated back, which needs no further proof; nor does what connection
//! tracking told, not even of what no point saw afterwards ([`onward`]). Where something is shared but not enough, the
//! earlier conversation is *doubtful*: what lies beyond is not observable.

pub(crate) mod hidden;
pub(crate) mod vanished;

mod evidence;
mod onward;
mod tuples;
pub(crate) mod way;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use lastseen_packet::observation::{FlowKey, SipKey};

use self::evidence::{Shared, Suspects};
pub(crate) use self::onward::Onward;
use crate::evidence::flows::{Conversation, Flows};
use crate::evidence::scratch::ScratchError;
use crate::evidence::sightings::Sightings;
use crate::fabric::network::{Network, Role};
use crate::input::Job;

/// What shared identities and kept ports must come to, as a power of two. One TCP sequence number is enough; datagrams
/// need an IP-ID and a port, or several of either.
const PROOF_BITS: u32 = 24;
/// What a kept port that was drawn at random adds.
const PORT_BITS: u32 = 12;

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Joins {
    /// Conversations that are one, in the order in which packets have their tuples.
    pub(crate) chains: Vec<Vec<u32>>,
    /// Conversations that may go on under a tuple nobody could prove.
    pub(crate) doubtful: HashSet<u32>,
    /// Those of which all vanished before the first point behind a translation, by the first of a chain.
    pub(crate) onward: Vec<Onward>,
}

/// Finds what belongs together. `sightings` name their flow.
pub(crate) fn find(
    job: &Job,
    network: &Network<'_>,
    flows: &Flows,
    sightings: &Sightings,
) -> Result<Joins, ScratchError> {
    let roles = roles(network, flows);
    let suspects = Suspects {
        before: roles.iter().map(|roles| roles.first.is_some() && !roles.delivered).collect(),
        after: roles.iter().map(|roles| roles.first.is_some() && !roles.sent).collect(),
    };
    let is_possible = suspects.before.contains(&true) && suspects.after.contains(&true);
    let shared =
        if is_possible { evidence::find(job, flows, sightings, &suspects)? } else { BTreeMap::new() };
    let known = job.nodes.iter().flat_map(|node| &node.translations);
    let mut told: Vec<_> = known.flat_map(tuples::steps).collect();
    if shared.is_empty() && told.is_empty() {
        return Ok(Joins::default());
    }
    told.sort_unstable();
    told.dedup();
    let mut joins = Joiner::new(job, network, flows, &roles).join(shared, &told);
    let (onward, unclear) = onward::find(job, flows, &roles, &joins.chains, &joins.doubtful);
    joins.doubtful.extend(unclear);
    Ok(Joins { onward, ..joins })
}

/// Where a conversation was seen, as far as its place in a translation goes.
#[derive(Clone, Copy, Debug, Default)]
struct Roles {
    /// By a pod's interface as it sent.
    sent: bool,
    /// By a pod's interface as it received.
    delivered: bool,
    /// Other than on the way into a node from the underlay.
    inside: bool,
    /// The first on the way from pod to pod; absent if nobody saw it.
    first: Option<Role>,
    /// Highest and lowest hop limit.
    hop_limits: Option<(u8, u8)>,
}

fn roles(network: &Network<'_>, flows: &Flows) -> Vec<Roles> {
    let mut all = vec![Roles::default(); flows.conversations.len()];
    for flow in flows.all.iter().filter(|flow| flow.segments > 0) {
        let role = network.stations[usize::from(flow.point)].role;
        let roles = &mut all[flow.conversation as usize];
        roles.sent |= matches!(role, Role::InsideOut | Role::PodIn);
        roles.delivered |= matches!(role, Role::PodOut | Role::InsideIn);
        roles.inside |= role != Role::PhysicalIn;
        roles.first = Some(roles.first.map_or(role, |first| first.min(role)));
        let (low, high) = flow.ttl;
        let known = roles.hop_limits.unwrap_or((high, low));
        roles.hop_limits = Some((known.0.max(high), known.1.min(low)));
    }
    all
}

impl Roles {
    /// Earlier tuples first: what a pod sent, what came from outside, what is on its way, what reached a pod. Where
    /// nothing tells what points are, hop limits do: they only fall.
    fn order(self) -> impl Ord + use<> {
        let stage = if self.sent { 0 } else { 1 + u8::from(self.delivered) };
        (stage, self.inside, self.first, Reverse(self.hop_limits))
    }
}

/// Puts pairs together to chains.
struct Joiner<'j, 'a> {
    network: &'j Network<'a>,
    flows: &'j Flows,
    roles: &'j [Roles],
    by_conversation: HashMap<Conversation, u32, SipKey>,
    /// Points that saw each conversation, or each chain at its lowest member.
    points: HashMap<u32, BTreeSet<u16>>,
    /// The lowest member of a conversation's chain.
    chain: HashMap<u32, u32>,
    members: BTreeMap<u32, Vec<u32>>,
    nodes: Vec<usize>,
}

impl<'j, 'a> Joiner<'j, 'a> {
    fn new(job: &Job, network: &'j Network<'a>, flows: &'j Flows, roles: &'j [Roles]) -> Self {
        let mut by_conversation = HashMap::with_hasher(SipKey(job.key.0));
        by_conversation.extend(flows.conversations.iter().zip(0..).map(|(one, at)| (*one, at)));
        let mut points: HashMap<u32, BTreeSet<u16>> = HashMap::new();
        for flow in flows.all.iter().filter(|flow| flow.segments > 0) {
            points.entry(flow.conversation).or_default().insert(flow.point);
        }
        let nodes = job.points.iter().map(|point| point.node).collect();
        let (chain, members) = (HashMap::new(), BTreeMap::new());
        Self { network, flows, roles, by_conversation, points, chain, members, nodes }
    }

    fn join(mut self, shared: BTreeMap<(u32, u32), Shared>, told: &[(FlowKey, FlowKey)]) -> Joins {
        let (proven, mut doubtful) = self.weigh(shared);
        let rivals = self.rivals(&proven);
        doubtful.extend(rivals.iter().map(|(before, _)| before));
        let mut pairs: Vec<_> = told.iter().flat_map(|step| self.of_tuples(step)).collect();
        pairs.extend(proven.iter().filter(|pair| !rivals.contains(pair)));
        let answers: Vec<_> = pairs.iter().filter_map(|pair| self.answers(*pair)).collect();
        for (one, other) in pairs.into_iter().chain(answers) {
            self.unite(one, other);
        }
        let doubtful = doubtful.into_iter().filter(|one| !self.chain.contains_key(one)).collect();
        Joins { doubtful, chains: self.chains(), onward: Vec::new() }
    }

    /// Pairs that are proven, the surest first, and conversations that may go on in another without proof.
    fn weigh(&self, shared: BTreeMap<(u32, u32), Shared>) -> (Vec<(u32, u32)>, Vec<u32>) {
        let (mut proven, mut doubtful) = (Vec::new(), Vec::new());
        for ((before, after), mut shared) in shared {
            let Some(port_bits) = self.kinship(before, after) else { continue };
            let is_near = self.has_common_node(before, after);
            let weight = shared.weight(is_near);
            if weight.count == 0 || weight.count * 2 < shared.sampled {
                continue;
            }
            if weight.bits > 0 && weight.bits + port_bits >= PROOF_BITS {
                let tuples = [before, after].map(|one| self.conversation(one));
                proven.push((!is_near, Reverse(weight.count), tuples, (before, after)));
            } else {
                doubtful.push(before);
            }
        }
        proven.sort_unstable();
        let near = proven.iter().filter(|(is_far, ..)| !is_far);
        let near: HashSet<u32> = near.flat_map(|(.., (before, after))| [*before, *after]).collect();
        // A node that translates sees both sides: what two nodes saw counts only where none saw both.
        proven.retain(|&(is_far, .., (before, after))| {
            !is_far || !near.contains(&before) && !near.contains(&after)
        });
        (proven.into_iter().map(|(.., pair)| pair).collect(), doubtful)
    }

    /// Pairs that exclude each other, because one point saw both of two partners: senders that look alike to the last
    /// identity, or one tuple that led to several destinations in turn. Which packet went which way is not known.
    fn rivals(&self, pairs: &[(u32, u32)]) -> HashSet<(u32, u32)> {
        let mut partners: BTreeMap<(bool, u32), Vec<(u32, u32)>> = BTreeMap::new();
        for &(before, after) in pairs {
            partners.entry((false, before)).or_default().push((before, after));
            partners.entry((true, after)).or_default().push((before, after));
        }
        let mut rivals = HashSet::new();
        for ((is_after, _), pairs) in &partners {
            let partner = |pair: &(u32, u32)| if *is_after { pair.0 } else { pair.1 };
            let mut first_at: HashMap<u16, (u32, u32)> = HashMap::new();
            for pair in pairs {
                for point in &self.points[&partner(pair)] {
                    let first = *first_at.entry(*point).or_insert(*pair);
                    if first != *pair {
                        rivals.extend([first, *pair]);
                    }
                }
            }
        }
        rivals
    }

    /// What the tuples add, if they can be those of one packet.
    fn kinship(&self, before: u32, after: u32) -> Option<u32> {
        let (from, to) = (self.conversation(before), self.conversation(after));
        // Without a topology any address may be a node's.
        let is_held = |address| self.network.is_unmapped() || self.network.holder(address).is_some();
        let kinship = tuples::kinship(&from.tuple, &to.tuple, is_held)?;
        let is_apart = self.points.get(&before)?.is_disjoint(self.points.get(&after)?);
        (from.domain == to.domain && is_apart).then_some(if kinship.keeps_port { PORT_BITS } else { 0 })
    }

    fn has_common_node(&self, one: u32, other: u32) -> bool {
        let nodes = |conversation: u32| -> BTreeSet<usize> {
            let points = self.points.get(&conversation).into_iter().flatten();
            points.map(|&point| self.nodes[usize::from(point)]).collect()
        };
        !nodes(one).is_disjoint(&nodes(other))
    }

    fn conversation(&self, index: u32) -> Conversation {
        self.flows.conversations[index as usize]
    }

    /// The conversations with two tuples, in every domain that has both.
    fn of_tuples(&self, (from, to): &(FlowKey, FlowKey)) -> Vec<(u32, u32)> {
        let of = |conversation: &Conversation| self.by_conversation.get(conversation).copied();
        let domains: BTreeSet<_> = self.flows.conversations.iter().map(|one| one.domain).collect();
        let pair = |domain| {
            Some((of(&Conversation { domain, tuple: *from })?, of(&Conversation { domain, tuple: *to })?))
        };
        domains.into_iter().filter_map(pair).collect()
    }

    /// What is sent back under the later tuple arrives under that of the earlier.
    fn answers(&self, (before, after): (u32, u32)) -> Option<(u32, u32)> {
        let answer = |conversation: u32| {
            let Conversation { domain, tuple } = self.conversation(conversation);
            let tuple = tuple.reversed()?;
            self.by_conversation.get(&Conversation { domain, tuple }).copied()
        };
        Some((answer(after)?, answer(before)?))
    }

    /// Makes the chains of two conversations one, unless a point saw both.
    fn unite(&mut self, one: u32, other: u32) {
        let of = |conversation: u32| self.chain.get(&conversation).copied().unwrap_or(conversation);
        let (kept, gone) = (of(one).min(of(other)), of(one).max(of(other)));
        let (Some(theirs), Some(own)) = (self.points.get(&gone), self.points.get(&kept)) else { return };
        if kept == gone || !own.is_disjoint(theirs) {
            return;
        }
        let points: Vec<_> = theirs.iter().copied().collect();
        self.points.entry(kept).or_default().extend(points);
        let joining = self.members.remove(&gone).unwrap_or_else(|| vec![gone]);
        let members = self.members.entry(kept).or_insert_with(|| vec![kept]);
        members.extend(joining);
        for member in members {
            self.chain.insert(*member, kept);
        }
    }

    fn chains(self) -> Vec<Vec<u32>> {
        let order = |member: &u32| {
            (self.roles[*member as usize].order(), self.flows.conversations[*member as usize].tuple)
        };
        let mut chains: Vec<_> = self.members.into_values().collect();
        for chain in &mut chains {
            chain.sort_by_key(order);
        }
        chains
    }
}
