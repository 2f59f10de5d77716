//! A mesh of many agents: the agents' own code with real connections and real echoes, fifty in a process, each with an
//! address of its own on one loopback interface.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use lastseen_proto::v1;

use super::Options;
use super::spread::Spread;
use super::table::{Row, Table};
use crate::faults::fleet::{Agents, Fleet, Setup};
use crate::lab::cleanup;
use crate::lab::netns::Netns;
use crate::scripted::script;

const AGENTS: usize = 100;
/// Echoes to each other.
const COUNT: u32 = 5;

/// Adds the rows of a mesh in which each probes eight others, and of one in which each probes sixty-four.
pub fn measure(table: &mut Table, options: &Options) -> Result<()> {
    let netns = Netns::create(&format!("{}mesh", cleanup::own_prefix()))?;
    let address = |node| format!("addr add {}/32 dev lo", script::underlay(node));
    let addresses: Vec<String> = (0..AGENTS).map(address).collect();
    netns.ip(&format!("link set lo up\n{}\n", addresses.join("\n")))?;
    let takes = netns.enter(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(takes(options))
    });
    for (neighbors, takes) in takes? {
        let spread = |of: fn(&Take) -> f64| Spread::from_takes(takes.iter().map(of).collect());
        let name = format!(
            "mesh of {AGENTS} agents, {neighbors} others each, {COUNT} echoes: from the call until all has been stored, s"
        );
        let beside =
            format!("{} pairs, {:.2} % answered", takes[0].pairs, spread(|take| take.answered)?.median);
        table.add(Row::new(name, spread(|take| take.seconds)?).beside(beside));
    }
    Ok(())
}

struct Take {
    seconds: f64,
    pairs: usize,
    /// Per cent.
    answered: f64,
}

async fn takes(options: &Options) -> Result<Vec<(u32, Vec<Take>)>> {
    let setup =
        Setup { nodes: AGENTS, agents: Agents::Together, witnessed: false, ..Setup::new(options.seed) };
    let fleet = Fleet::start(setup).await?;
    let mut all = Vec::new();
    for neighbors in [8, 64] {
        let mut takes = Vec::new();
        for _ in 0..options.rounds.max(1) {
            takes.push(take(&fleet, neighbors).await.with_context(|| fleet.logs())?);
        }
        all.push((neighbors, takes));
    }
    Ok(all)
}

async fn take(fleet: &Fleet, neighbors: u32) -> Result<Take> {
    let source =
        |node| v1::ProbeSource { node: script::name(node), netns: format!("@{}", script::underlay(node)) };
    let spec = v1::ProbeSpec {
        sources: (0..AGENTS).map(source).collect(),
        kind: Some(v1::probe_spec::Kind::Icmp(v1::IcmpProbe::default())),
        count: Some(COUNT),
        mesh: Some(v1::Mesh { neighbors: Some(neighbors), ..v1::Mesh::default() }),
        ..v1::ProbeSpec::default()
    };
    let began = Instant::now();
    let probe = fleet.client().probe(spec).await?;
    let seconds = began.elapsed().as_secs_f64();
    let failed = probe.parts.iter().find(|part| !part.reason.is_empty());
    ensure!(failed.is_none(), "a part of the mesh failed: {failed:?}");
    let results: Vec<_> = probe.reports.iter().flat_map(|report| &report.results).collect();
    let attempts = results.iter().flat_map(|result| &result.attempts);
    let answered = attempts.filter(|attempt| attempt.outcome() == v1::ProbeOutcome::ProbeAnswered).count();
    let most = results.len() * COUNT as usize;
    ensure!(results.len() == AGENTS * neighbors as usize, "{} pairs were reported", results.len());
    Ok(Take { seconds, pairs: results.len(), answered: 100.0 * answered as f64 / most as f64 })
}
