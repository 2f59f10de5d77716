//! What each idea of the method is worth: the same captures judged once more without it.
//!
//! The coordinator keeps what it stored of a capture; from that the correlation runs again in this process, so that
//! one run in the lab serves every idea.

use anyhow::{Context, Result};
use lastseen_coordinator::analysis::replay;
use lastseen_correlate::Ablation;
use lastseen_ctl::output::json;
use lastseen_proto::v1::ListLostPacketsResponse;

use super::check::check;
use super::finding::Finding;
use super::packets;
use super::truth::Truth;
use crate::product::fleet::Fleet;

/// Which ideas to do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Ablate {
    /// The identity leaves out the IP identification.
    IpId,
    /// Identities are a set, not a multiset.
    Multiset,
    /// Super-packets are not expanded.
    Gso,
    /// Nothing is recorded after the window.
    Guard,
    /// Each of them in turn.
    All,
}

impl Ablate {
    /// The ideas, one after the other.
    pub fn ideas(self) -> &'static [Ablation] {
        match self {
            Self::IpId => &[Ablation::IpId],
            Self::Multiset => &[Ablation::Multiset],
            Self::Gso => &[Ablation::Gso],
            Self::Guard => &[Ablation::Guard],
            Self::All => &Ablation::ALL,
        }
    }
}

/// The method without an idea, in words.
pub fn name(idea: Ablation) -> &'static str {
    match idea {
        Ablation::IpId => "no IP-ID in the identity",
        Ablation::Multiset => "set instead of multiset",
        Ablation::Gso => "no GSO expansion",
        Ablation::Guard => "no guard after the window",
    }
}

/// What the method finds in a capture that has ended without each of `ideas`.
pub fn findings(
    fleet: &Fleet<'_>,
    capture: &str,
    truth: &Truth,
    ideas: &[Ablation],
) -> Result<Vec<(Ablation, Finding)>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let found = ideas.iter().map(|&idea| {
        let found = runtime.block_on(replay(&fleet.path("data"), capture, Some(idea)));
        let found = found.with_context(|| format!("correlate {capture} again: {}", name(idea)))?;
        let text = json::compact(&found.report)?;
        let report = serde_json::from_str(&text).with_context(|| format!("read {text}"))?;
        let lost = ListLostPacketsResponse { packets: found.lost, next_page_token: String::new() };
        let named = packets::parse(&json::compact(&lost)?)?;
        let mut finding = check(truth, &report, exit_code(&report.verdict));
        finding.name_packets(truth, &named);
        Ok((idea, finding))
    });
    found.collect()
}

/// As `ctl diff-nodes` exits.
fn exit_code(verdict: &str) -> i32 {
    match verdict {
        "DELIVERED" => 0,
        "LOST" => 1,
        _ => 3,
    }
}
