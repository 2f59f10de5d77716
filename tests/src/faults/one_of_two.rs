//! One of two coordinators goes away, and the other ends what it led.

use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;
use nix::sys::signal::Signal::{SIGCONT, SIGSTOP};
use rand::Rng;
use rand::rngs::StdRng;
use tokio::time::sleep;

use super::fleet::{Fleet, Setup};
use super::strike::{Fault, Plan};

/// How long it stands still: several times as long as a lease.
const FULL: Duration = Duration::from_secs(15);
/// Likewise, where time is short.
const SHORT: Duration = Duration::from_secs(6);

/// `SIGKILL` for one of two; it is gone until the capture has its report.
#[derive(Debug, Clone, Copy)]
pub struct KillOneOfTwo;

/// `SIGSTOP` for one of two, which wakes when the other has long taken its place.
#[derive(Debug, Clone, Copy)]
pub struct FreezeOneOfTwo;

fn two(seed: u64) -> Setup {
    Setup { coordinators: 2, postgres: true, ..Setup::new(seed) }
}

#[async_trait(?Send)]
impl Fault for KillOneOfTwo {
    fn name(&self) -> String {
        "kill -9 of one of two coordinators".to_owned()
    }

    fn rounds(&self) -> u64 {
        100
    }

    fn setup(&self, seed: u64) -> Setup {
        two(seed)
    }

    async fn strike(&self, fleet: &mut Fleet, random: &mut StdRng, _plan: &Plan) -> Result<()> {
        let victim = random.random_range(0..fleet.coordinators.len());
        fleet.coordinators[victim].kill();
        Ok(())
    }

    fn keeps_most(&self) -> bool {
        true
    }
}

#[async_trait(?Send)]
impl Fault for FreezeOneOfTwo {
    fn name(&self) -> String {
        "one of two coordinators frozen".to_owned()
    }

    fn rounds(&self) -> u64 {
        20
    }

    fn setup(&self, seed: u64) -> Setup {
        two(seed)
    }

    async fn strike(&self, fleet: &mut Fleet, random: &mut StdRng, plan: &Plan) -> Result<()> {
        let victim = &fleet.coordinators[random.random_range(0..fleet.coordinators.len())];
        victim.signal(SIGSTOP)?;
        sleep(if plan.is_full { FULL } else { SHORT }).await;
        victim.signal(SIGCONT)
    }

    fn keeps_most(&self) -> bool {
        true
    }
}
