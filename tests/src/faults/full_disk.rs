//! Disks without room for another page, and a spool that has reached its limit.

use std::time::Duration;

use anyhow::{Context, Result};
use async_trait::async_trait;
use rand::rngs::StdRng;
use tokio::time::sleep;

use super::fleet::{Fleet, Setup};
use super::results::Tally;
use super::strike::{Fault, Plan, WINDOW};
use crate::scripted::script::Script;

/// Holds what a few captures leave.
const DATA_BYTES: u64 = 64 << 20;
/// Within it an agent deals with the acknowledgements that it had when its way was cut.
const UNDER_WAY: Duration = Duration::from_millis(100);
/// How long the coordinator has no room.
const AWAY: Duration = Duration::from_secs(3);

/// The disk of one of the agents.
#[derive(Debug, Clone, Copy)]
pub struct FullSpoolDisk;

/// The coordinator's disk.
#[derive(Debug, Clone, Copy)]
pub struct FullDataDisk;

/// More comes than the spool may hold while nothing gets through.
#[derive(Debug, Clone, Copy)]
pub struct FullSpool;

#[async_trait(?Send)]
impl Fault for FullSpoolDisk {
    fn name(&self) -> String {
        "disk of the spool full".to_owned()
    }

    fn rounds(&self) -> u64 {
        10
    }

    fn setup(&self, seed: u64) -> Setup {
        Setup { spool_disk: Some(2 << 20), ..Setup::new(seed) }
    }

    fn moment(&self, _random: &mut StdRng, plan: &Plan) -> Duration {
        plan.just_before()
    }

    async fn strike(&self, fleet: &mut Fleet, _random: &mut StdRng, _plan: &Plan) -> Result<()> {
        let disk = fleet.spool_disk.as_ref().context("a fleet without a small disk")?;
        // Acknowledgements would make room.
        fleet.part(0);
        sleep(UNDER_WAY).await;
        disk.fill()?;
        sleep(WINDOW).await;
        disk.empty()?;
        fleet.join(0);
        Ok(())
    }

    fn demands(&self, tally: &Tally) -> Vec<String> {
        counted(tally)
    }
}

#[async_trait(?Send)]
impl Fault for FullSpool {
    fn name(&self) -> String {
        "spool at its limit".to_owned()
    }

    fn rounds(&self) -> u64 {
        10
    }

    fn setup(&self, seed: u64) -> Setup {
        much_in_little(seed)
    }

    fn moment(&self, _random: &mut StdRng, plan: &Plan) -> Duration {
        plan.just_before()
    }

    async fn strike(&self, fleet: &mut Fleet, _random: &mut StdRng, _plan: &Plan) -> Result<()> {
        (0..fleet.setup.nodes).for_each(|node| fleet.part(node));
        sleep(WINDOW).await;
        (0..fleet.setup.nodes).for_each(|node| fleet.join(node));
        Ok(())
    }

    fn demands(&self, tally: &Tally) -> Vec<String> {
        sampled(tally)
    }
}

/// More in a window than the spools hold half of.
pub fn much_in_little(seed: u64) -> Setup {
    let setup = Setup::new(seed);
    let agent_flags = ["--spool-max-bytes", "1048576"].map(str::to_owned).to_vec();
    Setup { script: Script { every_nanos: 100_000, ..setup.script }, agent_flags, ..setup }
}

/// Less was recorded, chosen by hash, and the report says so.
pub fn sampled(tally: &Tally) -> Vec<String> {
    if tally.is_sampled { Vec::new() } else { vec!["the report does not say that less was recorded".into()] }
}

/// What was not kept is counted, and the report says that it cannot know.
fn counted(tally: &Tally) -> Vec<String> {
    let mut missing = Vec::new();
    if tally.agent_drops == 0 {
        missing.push("the report counts no drop".into());
    }
    if tally.not_observable == 0 {
        missing.push("the report calls nothing not observable".into());
    }
    missing
}

#[async_trait(?Send)]
impl Fault for FullDataDisk {
    fn name(&self) -> String {
        "disk of the coordinator full".to_owned()
    }

    fn rounds(&self) -> u64 {
        10
    }

    fn setup(&self, seed: u64) -> Setup {
        Setup { data_disk: Some(DATA_BYTES), ..Setup::new(seed) }
    }

    fn moment(&self, _random: &mut StdRng, plan: &Plan) -> Duration {
        plan.just_before()
    }

    async fn strike(&self, fleet: &mut Fleet, _random: &mut StdRng, _plan: &Plan) -> Result<()> {
        let disk = fleet.data_disk.as_ref().context("a fleet without a small disk")?;
        disk.fill()?;
        sleep(AWAY).await;
        disk.empty()
    }

    fn demands(&self, tally: &Tally) -> Vec<String> {
        if tally.failed == 0 { vec!["every batch could be stored".into()] } else { Vec::new() }
    }
}
