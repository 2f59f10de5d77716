//! What every leg with a loss lost and passed, over all conversations that cross it.

use std::collections::BTreeMap;

use super::candidate::{Candidate, Holders, Kind, choose};
use super::chance::Split;
use super::conversations::{self, Row};
use super::profile::Profile;
use super::timeline::{Grain, Timeline};
use super::{times, traits};
use crate::losses::tally::Tally;
use crate::losses::testimony::LegLoss;

/// Two points, by index into the job: the last that saw what was lost and the first that should have.
pub(crate) type Leg = (usize, usize);

/// A conversation whose losses are settled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member<'s> {
    pub(crate) conversation: u32,
    pub(crate) plan: u32,
    /// The points of its path in order.
    pub(crate) points: &'s [usize],
    pub(crate) tally: &'s Tally,
    pub(crate) losses: &'s [LegLoss],
    /// Its lengths are those of pieces of super-packets and no trait.
    pub(crate) is_in_pieces: bool,
}

impl Member<'_> {
    pub(crate) fn leg(&self, loss: &LegLoss) -> Leg {
        (self.points[loss.from as usize], self.points[loss.to as usize])
    }

    /// Segments that got as far as position `to`.
    fn passed(&self, to: usize) -> u64 {
        self.tally.hops[to..].iter().map(|hop| hop.ended).sum()
    }

    /// What these are like.
    pub(crate) fn passed_profiles(&self, to: usize) -> impl Iterator<Item = &Profile> {
        self.tally.hops[to..].iter().filter_map(|hop| hop.profile.as_deref())
    }
}

/// Lost and passed segments of one conversation.
#[derive(Clone, Copy, Debug)]
struct Use {
    conversation: u32,
    lost: u64,
    passed: u64,
}

/// What a leg lost and passed.
#[derive(Debug, Default)]
struct Load {
    uses: Vec<Use>,
    lost: Profile,
    passed: Profile,
    /// Lost and passed on the way back.
    back: (u64, u64),
    /// Some lengths are those of pieces of super-packets.
    has_pieces: bool,
}

/// The pattern of a leg.
#[derive(Debug)]
pub(crate) struct LegPattern {
    pub(crate) trait_: Candidate,
    /// Conversations that lost something.
    pub(crate) paths: u64,
    /// Inner IP length of the longest segment that passed.
    pub(crate) longest_passed: u16,
}

/// The patterns of all legs.
#[derive(Debug, Default)]
pub(crate) struct Legs {
    patterns: BTreeMap<Leg, LegPattern>,
    whole: Grain,
    /// Losses that are tested for patterns.
    pub(crate) tests: usize,
}

impl Legs {
    /// `mirror` names the point on the same interface for the other direction, `row` describes a conversation with
    /// what it lost and passed left open.
    pub(crate) fn new<'s>(
        timeline: &Timeline,
        members: impl Iterator<Item = Member<'s>> + Clone,
        mirror: impl Fn(usize) -> Option<usize>,
        row: impl Fn(u32) -> Row,
    ) -> Self {
        let mut loads: BTreeMap<Leg, Load> = BTreeMap::new();
        let mut tests = 0;
        for member in members.clone() {
            for loss in member.losses {
                loads.entry(member.leg(loss)).or_default();
                tests += 1;
            }
        }
        tests += loads.len();
        fill(&mut loads, timeline, members, mirror);
        let patterns = loads
            .into_iter()
            .filter_map(|(leg, load)| Some((leg, load.pattern(&timeline.whole, &row, tests)?)));
        Self { patterns: patterns.collect(), whole: timeline.whole, tests }
    }

    /// The pattern of the leg of a loss, if the loss has it.
    pub(crate) fn of(&self, member: &Member<'_>, loss: &LegLoss, grain: &Grain) -> Option<&LegPattern> {
        let found = self.patterns.get(&member.leg(loss))?;
        let lost = &loss.missing.profile;
        let with = match &found.trait_.holders {
            Holders::Conversations(holders) => {
                holders.binary_search(&member.conversation).map_or(0, |_| lost.count())
            }
            holders @ Holders::Bins(_) => holders.count(&on_whole(lost, grain, &self.whole)?),
            holders => holders.count(lost),
        };
        let has = Split::new((with, lost.count()), (0, 0)).coverage() >= super::candidate::MIN_COVERAGE;
        has.then_some(found)
    }
}

/// The positions at which a path has crossed each leg, and at which it has on the way back.
struct Crossings {
    there: Vec<(Leg, usize)>,
    back: Vec<(Leg, usize)>,
}

impl Crossings {
    fn new(points: &[usize], legs: &[Leg], mirror: &impl Fn(usize) -> Option<usize>) -> Self {
        let position = |point| points.iter().position(|&known| known == point);
        let crossed = |from, to| Some((position(from)?, position(to)?)).filter(|(from, to)| from < to);
        let there = legs.iter().filter_map(|&leg| Some((leg, crossed(leg.0, leg.1)?.1)));
        let back = legs.iter().filter_map(|&leg| Some((leg, crossed(mirror(leg.1)?, mirror(leg.0)?)?.1)));
        Self { there: there.collect(), back: back.collect() }
    }
}

fn fill<'s>(
    loads: &mut BTreeMap<Leg, Load>,
    timeline: &Timeline,
    members: impl Iterator<Item = Member<'s>>,
    mirror: impl Fn(usize) -> Option<usize>,
) {
    let legs: Vec<_> = loads.keys().copied().collect();
    let mut by_plan: BTreeMap<u32, Crossings> = BTreeMap::new();
    for member in members {
        let crossings =
            by_plan.entry(member.plan).or_insert_with(|| Crossings::new(member.points, &legs, &mirror));
        for &(leg, to) in &crossings.there {
            if let Some(load) = loads.get_mut(&leg) {
                let grain = &timeline.grains[member.conversation as usize];
                load.add(&member, leg, to, grain, &timeline.whole);
            }
        }
        for &(leg, to) in &crossings.back {
            if let Some(load) = loads.get_mut(&leg) {
                let (from, end) = (mirror(leg.1), mirror(leg.0));
                let is_back = |loss: &&LegLoss| {
                    let (a, b) = member.leg(loss);
                    (Some(a), Some(b)) == (from, end)
                };
                load.back.0 +=
                    member.losses.iter().filter(is_back).map(|loss| loss.missing.count).sum::<u64>();
                load.back.1 += member.passed(to);
            }
        }
    }
}

impl Load {
    fn add(&mut self, member: &Member<'_>, leg: Leg, to: usize, grain: &Grain, whole: &Grain) {
        let loss = member.losses.iter().find(|loss| member.leg(loss) == leg);
        let (lost, passed) = (loss.map_or(0, |loss| loss.missing.count), member.passed(to));
        if lost + passed == 0 {
            return;
        }
        self.has_pieces |= member.is_in_pieces;
        self.uses.push(Use { conversation: member.conversation, lost, passed });
        if let Some(loss) = loss {
            add_profile(&mut self.lost, &loss.missing.profile, grain, whole);
        }
        for profile in member.passed_profiles(to) {
            add_profile(&mut self.passed, profile, grain, whole);
        }
    }

    fn pattern(&self, whole: &Grain, row: impl Fn(u32) -> Row, tests: usize) -> Option<LegPattern> {
        let rows =
            self.uses.iter().map(|one| Row { lost: one.lost, passed: one.passed, ..row(one.conversation) });
        let rows: Vec<_> = rows.collect();
        let mut candidates = conversations::candidates(&rows);
        candidates.extend(traits::candidates(&self.lost, &self.passed, !self.has_pieces));
        candidates.extend(times::candidates(&self.lost, &self.passed, whole));
        let trait_ = choose(candidates, tests).or_else(|| choose(vec![self.direction()], tests))?;
        Some(LegPattern {
            trait_,
            paths: self.uses.iter().filter(|one| one.lost > 0).count() as u64,
            longest_passed: self.passed.longest(),
        })
    }

    fn direction(&self) -> Candidate {
        let sum = |count: fn(&Use) -> u64| self.uses.iter().map(count).sum::<u64>();
        let (lost, passed) = (sum(|one| one.lost), sum(|one| one.passed));
        let split = Split::new((lost, lost + self.back.0), (passed, passed + self.back.1));
        Candidate {
            kind: Kind::Direction,
            holders: Holders::Leg,
            split,
            ln_tried: 2_f64.ln(),
            what: "go this way".into(),
            rest: "the other way",
        }
    }
}

/// Merges a conversation's profile into that of a leg. Times that are binned more widely than the leg's are left out.
fn add_profile(sum: &mut Profile, one: &Profile, grain: &Grain, whole: &Grain) {
    sum.merge_traits(one);
    if let Some(timed) = on_whole(one, grain, whole) {
        timed.times.iter().enumerate().for_each(|(at, &count)| sum.time(at as u16, count));
    }
}

/// The times of a profile in the bins of the leg; absent where they are binned more widely.
fn on_whole(profile: &Profile, grain: &Grain, whole: &Grain) -> Option<Profile> {
    if grain.level > whole.level {
        return None;
    }
    let mut timed = Profile::default();
    for (at, &count) in profile.times.iter().enumerate().filter(|(_, count)| **count > 0) {
        timed.time(whole.place_of(grain, at), count);
    }
    Some(timed)
}
