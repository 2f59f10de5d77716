//! The coordinator is stopped as an upgrade does, in the middle of the window, and started again.

use std::time::Duration;

use anyhow::{Context, Result};
use async_trait::async_trait;
use nix::sys::signal::Signal;
use rand::Rng;
use rand::rngs::StdRng;

use super::client::until;
use super::fleet::Fleet;
use super::strike::{Fault, Plan};

/// `SIGTERM` for the coordinator.
#[derive(Debug, Clone, Copy)]
pub struct RestartCoordinator;

#[async_trait(?Send)]
impl Fault for RestartCoordinator {
    fn name(&self) -> String {
        "coordinator restarted mid-window".to_owned()
    }

    fn rounds(&self) -> u64 {
        20
    }

    fn moment(&self, random: &mut StdRng, plan: &Plan) -> Duration {
        Duration::from_secs_f64(random.random_range(plan.start.as_secs_f64()..plan.end.as_secs_f64()))
    }

    async fn strike(&self, fleet: &mut Fleet, _random: &mut StdRng, _plan: &Plan) -> Result<()> {
        fleet.coordinators[0].signal(Signal::SIGTERM)?;
        let process = fleet.coordinators[0].process.as_mut().context("the coordinator is down")?;
        until("the end of the coordinator", async || Ok((!process.is_running()).then_some(()))).await?;
        fleet.start_coordinator(0)
    }

    fn keeps_most(&self) -> bool {
        true
    }
}
