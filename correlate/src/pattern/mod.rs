//! What the lost have in common that the delivered have not.
//!
//! Every trait that a few counts can tell splits the segments of a leg four ways: lost or passed, with it or without.
//! Fisher's exact test says how likely chance alone makes the lost share it as much as they do, Bonferroni's
//! correction how likely that is for any of the traits that were tried on any loss of the report. What is left is a
//! pattern if it covers the lost and makes segments several times as likely to be lost; of several the best
//! explanation, and of those that explain as well the simplest. Losses at random have none.
//!
//! A loss is compared first with what passed the same leg of its own path, then, together with the losses of other
//! paths there, with everything that passed the leg.

mod candidate;
mod chance;
mod conversations;
mod legs;
mod profile;
mod service;
mod timeline;
mod times;
mod traits;

pub(crate) use conversations::Row;
pub(crate) use legs::{Legs, Member};
pub(crate) use profile::Profile;
pub(crate) use timeline::{Grain, Timeline};

use candidate::{Candidate, Holders, Kind, choose};
use chance::Split;

use crate::losses::testimony::LegLoss;
use crate::report::text::{grouped, segments};
use crate::report::{Pattern, PatternSupport};

/// The pattern of a loss, and what the cause wants to know of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Found {
    pub(crate) pattern: Pattern,
    /// Inner IP length of the longest that passed where everything longer is lost.
    pub(crate) size_limit: Option<u16>,
}

/// The pattern of one loss of a path.
pub(crate) fn find(member: &Member<'_>, loss: &LegLoss, legs: &Legs, grain: &Grain) -> Found {
    own(member, loss, legs.tests, grain)
        .or_else(|| shared(member, loss, legs, grain))
        .unwrap_or_else(|| Found { pattern: none(loss, member.is_in_pieces), size_limit: None })
}

/// What sets the lost apart from what passed on the same path.
fn own(member: &Member<'_>, loss: &LegLoss, tests: usize, grain: &Grain) -> Option<Found> {
    let mut passed = Profile::default();
    member.passed_profiles(loss.to as usize).for_each(|profile| passed.merge(profile));
    let mut candidates = traits::candidates(&loss.missing.profile, &passed, !member.is_in_pieces);
    candidates.extend(times::candidates(&loss.missing.profile, &passed, grain));
    let trait_ = choose(candidates, tests)?;
    Some(Found { size_limit: size_limit(&trait_, passed.longest()), pattern: pattern(&trait_, 1) })
}

/// What sets the losses of a leg apart, if it holds for this one.
fn shared(member: &Member<'_>, loss: &LegLoss, legs: &Legs, grain: &Grain) -> Option<Found> {
    let leg = legs.of(member, loss, grain)?;
    let mut pattern = pattern(&leg.trait_, leg.paths);
    if leg.trait_.kind == Kind::Direction && loss.passed == 0 {
        pattern.text = format!("nothing passed; {}", pattern.text);
    }
    Some(Found { size_limit: size_limit(&leg.trait_, leg.longest_passed), pattern })
}

fn size_limit(trait_: &Candidate, longest_passed: u16) -> Option<u16> {
    let is_upper = matches!(&trait_.holders, Holders::Lengths(lengths) if *lengths.end() == u16::MAX);
    (is_upper && trait_.split.passed_with == 0).then_some(longest_passed)
}

/// In words, for a loss on `paths` paths.
fn pattern(trait_: &Candidate, paths: u64) -> Pattern {
    let Candidate { kind, split, what, rest, .. } = trait_;
    let place = if paths > 1 { format!(" lost here on {} paths", grouped(paths)) } else { String::new() };
    let subject = if split.lost_without == 0 {
        format!("all {}{place}", grouped(split.lost_with))
    } else {
        format!("{} of {}{place}", grouped(split.lost_with), grouped(split.lost()))
    };
    let others = split.passed_without + split.lost_without;
    let others = match split.lost_without {
        0 if *kind == Kind::Size => format!("every {rest} one arrived"),
        0 => format!("none of {} {rest} was lost", grouped(others)),
        1 => format!("of {} {rest} one was lost", grouped(others)),
        lost => format!("of {} {rest} {} were lost", grouped(others), grouped(lost)),
    };
    let alike = match split.passed_with {
        0 => String::new(),
        passed => format!("; {} like them arrived", grouped(passed)),
    };
    Pattern {
        kind: kind.name().into(),
        text: format!("{subject} {what}; {others}{alike}"),
        support: Some(support(trait_, paths)),
    }
}

fn support(trait_: &Candidate, paths: u64) -> PatternSupport {
    let Split { lost_with, lost_without, passed_with, passed_without } = trait_.split;
    let chance = trait_.ln_chance().exp().min(1.0);
    PatternSupport { lost_with, lost_without, passed_with, passed_without, paths, chance }
}

/// Nothing sets the lost apart.
fn none(loss: &LegLoss, is_in_pieces: bool) -> Pattern {
    let count = loss.missing.count;
    if loss.passed == 0 {
        return Pattern {
            kind: "all".into(),
            text: format!("nothing passed: all {} are lost", segments(count)),
            support: None,
        };
    }
    let text = if is_in_pieces {
        let (lost, passed) = (grouped(count), grouped(loss.passed));
        format!(
            "nothing sets the {lost} pieces apart from the {passed} that arrived; their lengths tell nothing"
        )
    } else if count == 1 {
        format!("one of {} shows no pattern: {}", grouped(loss.total), lengths(loss))
    } else {
        let passed = grouped(loss.passed);
        format!("nothing sets them apart from the {passed} that arrived: {}", lengths(loss))
    };
    Pattern { kind: "none".into(), text, support: None }
}

fn lengths(loss: &LegLoss) -> String {
    let (shortest, longest) = (grouped(loss.missing.shortest.into()), grouped(loss.missing.longest.into()));
    let lost = if shortest == longest { shortest } else { format!("{shortest} to {longest}") };
    format!("{lost} bytes, while up to {} arrived", grouped(loss.longest_passed.into()))
}
