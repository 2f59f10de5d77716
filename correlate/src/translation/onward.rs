//! Where packets went on under a tuple that no point saw: connection tracking tells of a translation, and everything
//! vanished before the first point behind it. Only that tuple says which point should have been the next.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use lastseen_packet::observation::{FlowKey, SipKey};

use super::{Roles, tuples};
use crate::evidence::flows::Flows;
use crate::input::Job;

/// A conversation, the tuple its packets have after all that were seen, and the node that gives it to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Onward {
    pub(crate) conversation: u32,
    pub(crate) tuple: FlowKey,
    pub(crate) node: usize,
}

/// What goes on unseen, and the conversations of which connection tracking tells more than one tuple, so that nobody
/// knows which it was. `chains` are conversations that are one; what is `doubtful` already is left alone.
pub(super) fn find(
    job: &Job,
    flows: &Flows,
    roles: &[Roles],
    chains: &[Vec<u32>],
    doubtful: &HashSet<u32>,
) -> (Vec<Onward>, Vec<u32>) {
    let seen = Seen::new(job, flows, roles, chains);
    let (mut onward, mut unclear) = (Vec::new(), Vec::new());
    for (conversation, told) in told(job, &seen) {
        let mut unseen = told.iter().filter(|(tuple, _)| !seen.by_tuple.contains_key(tuple));
        match unseen.next() {
            Some(&(tuple, node)) if told.len() == 1 && !doubtful.contains(&conversation) => {
                onward.push(Onward { conversation, tuple, node });
            }
            Some(_) => unclear.push(conversation),
            None => {}
        }
    }
    (onward, unclear)
}

/// What points saw.
struct Seen {
    by_tuple: HashMap<FlowKey, Vec<u32>, SipKey>,
    nodes: BTreeSet<(u32, usize)>,
    /// Of chains, by their last member the first, and all others.
    heads: HashMap<u32, u32>,
    inner: HashSet<u32>,
    /// By conversation: it reached a pod.
    delivered: Vec<bool>,
}

impl Seen {
    fn new(job: &Job, flows: &Flows, roles: &[Roles], chains: &[Vec<u32>]) -> Self {
        let mut by_tuple: HashMap<_, Vec<_>, SipKey> = HashMap::with_hasher(SipKey(job.key.0));
        for (conversation, at) in flows.conversations.iter().zip(0..) {
            by_tuple.entry(conversation.tuple).or_default().push(at);
        }
        let of_node = |flow: &crate::evidence::flows::Flow| {
            (flow.conversation, job.points[usize::from(flow.point)].node)
        };
        Self {
            by_tuple,
            nodes: flows.all.iter().filter(|flow| flow.segments > 0).map(of_node).collect(),
            heads: chains.iter().filter_map(|chain| Some((*chain.last()?, *chain.first()?))).collect(),
            inner: chains
                .iter()
                .flat_map(|chain| chain.split_last().map_or(&[][..], |(_, rest)| rest))
                .copied()
                .collect(),
            delivered: roles.iter().map(|roles| roles.delivered).collect(),
        }
    }

    /// The conversations that `node` saw as `tuple` and nobody saw as another after it; each by the first of its chain.
    fn ending_as(&self, tuple: &FlowKey, node: usize) -> impl Iterator<Item = u32> {
        let all = self.by_tuple.get(tuple).into_iter().flatten().copied();
        all.filter(move |one| {
            self.nodes.contains(&(*one, node)) && !self.inner.contains(one) && !self.delivered[*one as usize]
        })
        .map(|one| self.heads.get(&one).copied().unwrap_or(one))
    }
}

/// By conversation, the tuples that nodes gave to the last of its own.
fn told(job: &Job, seen: &Seen) -> BTreeMap<u32, BTreeSet<(FlowKey, usize)>> {
    let mut told: BTreeMap<u32, BTreeSet<_>> = BTreeMap::new();
    for (node, known) in job.nodes.iter().enumerate() {
        for (from, to) in known.translations.iter().flat_map(tuples::last_steps) {
            for conversation in seen.ending_as(&from, node) {
                told.entry(conversation).or_default().insert((to, node));
            }
        }
    }
    told
}
