//! A program that stands still, for a while or most of the time.

use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;
use nix::sys::signal::Signal::{SIGCONT, SIGSTOP};
use rand::Rng;
use rand::rngs::StdRng;
use tokio::time::{Instant, sleep};

use super::fleet::{Fleet, Setup};
use super::full_disk::{much_in_little, sampled};
use super::kill_coordinator::which;
use super::results::Tally;
use super::strike::{Fault, Plan};

/// How long it stands still.
const FULL: Duration = Duration::from_secs(15);
/// Likewise, where time is short.
const SHORT: Duration = Duration::from_secs(3);
/// When another has taken the place of one that stands still: more than a lease.
const TAKEN_OVER: Duration = Duration::from_secs(6);
/// How long one that is slow stands still and runs, in turn.
const STILL: Duration = Duration::from_millis(990);
const RUNNING: Duration = Duration::from_millis(10);

/// `SIGSTOP` for one of the agents.
#[derive(Debug, Clone, Copy)]
pub struct FrozenAgent;

/// `SIGSTOP` for one of so many coordinators. One of several wakes when another has long taken its place.
#[derive(Debug, Clone, Copy)]
pub struct FrozenCoordinator {
    /// Coordinators of the fleet.
    pub of: usize,
}

/// A coordinator that gets a hundredth of the time, with more to do than the agents can keep for it.
#[derive(Debug, Clone, Copy)]
pub struct SlowCoordinator;

fn time(plan: &Plan) -> Duration {
    if plan.is_full { FULL } else { SHORT }
}

#[async_trait(?Send)]
impl Fault for FrozenAgent {
    fn name(&self) -> String {
        "freeze of an agent".to_owned()
    }

    fn rounds(&self) -> u64 {
        10
    }

    async fn strike(&self, fleet: &mut Fleet, random: &mut StdRng, plan: &Plan) -> Result<()> {
        let node = random.random_range(0..fleet.setup.nodes);
        fleet.signal_agent(node, SIGSTOP)?;
        sleep(time(plan)).await;
        fleet.signal_agent(node, SIGCONT)
    }
}

#[async_trait(?Send)]
impl Fault for FrozenCoordinator {
    fn name(&self) -> String {
        format!("freeze of {}", which(self.of))
    }

    fn rounds(&self) -> u64 {
        10 * self.of as u64
    }

    fn setup(&self, seed: u64) -> Setup {
        Setup::of_coordinators(self.of, seed)
    }

    async fn strike(&self, fleet: &mut Fleet, random: &mut StdRng, plan: &Plan) -> Result<()> {
        let victim = &fleet.coordinators[random.random_range(0..fleet.coordinators.len())];
        victim.signal(SIGSTOP)?;
        sleep(if self.of > 1 { time(plan).max(TAKEN_OVER) } else { time(plan) }).await;
        victim.signal(SIGCONT)
    }

    fn keeps_most(&self) -> bool {
        true
    }
}

#[async_trait(?Send)]
impl Fault for SlowCoordinator {
    fn name(&self) -> String {
        "slow coordinator".to_owned()
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

    async fn strike(&self, fleet: &mut Fleet, _random: &mut StdRng, plan: &Plan) -> Result<()> {
        let until = Instant::now() + time(plan);
        while Instant::now() < until {
            fleet.coordinators[0].signal(SIGSTOP)?;
            sleep(STILL).await;
            fleet.coordinators[0].signal(SIGCONT)?;
            sleep(RUNNING).await;
        }
        Ok(())
    }

    fn demands(&self, tally: &Tally) -> Vec<String> {
        sampled(tally)
    }
}
