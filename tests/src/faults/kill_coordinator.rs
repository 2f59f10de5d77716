//! A coordinator is killed. An only one is started again on its data; for one of several another steps in.

use anyhow::Result;
use async_trait::async_trait;
use rand::Rng;
use rand::rngs::StdRng;

use super::fleet::{Fleet, Setup};
use super::strike::{Fault, Plan};

/// `SIGKILL` for one of so many coordinators. One of several is gone until the capture has its report.
#[derive(Debug, Clone, Copy)]
pub struct KillCoordinator {
    /// Coordinators of the fleet.
    pub of: usize,
}

#[async_trait(?Send)]
impl Fault for KillCoordinator {
    fn name(&self) -> String {
        format!("kill -9 of {}", which(self.of))
    }

    fn rounds(&self) -> u64 {
        100
    }

    fn setup(&self, seed: u64) -> Setup {
        Setup::of_coordinators(self.of, seed)
    }

    async fn strike(&self, fleet: &mut Fleet, random: &mut StdRng, _plan: &Plan) -> Result<()> {
        let victim = random.random_range(0..fleet.coordinators.len());
        fleet.coordinators[victim].kill();
        if self.of > 1 { Ok(()) } else { fleet.start_coordinator(victim) }
    }

    fn keeps_most(&self) -> bool {
        true
    }
}

/// What is struck, in the name of a fault.
pub(super) fn which(of: usize) -> String {
    if of > 1 { format!("one of {of} coordinators") } else { "the coordinator".to_owned() }
}
