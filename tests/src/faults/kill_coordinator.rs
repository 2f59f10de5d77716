//! The coordinator is killed, and started again on its data.

use anyhow::Result;
use async_trait::async_trait;
use rand::rngs::StdRng;

use super::fleet::Fleet;
use super::strike::{Fault, Plan};

/// `SIGKILL` for the coordinator.
#[derive(Debug, Clone, Copy)]
pub struct KillCoordinator;

#[async_trait(?Send)]
impl Fault for KillCoordinator {
    fn name(&self) -> String {
        "kill -9 of the coordinator".to_owned()
    }

    fn rounds(&self) -> u64 {
        100
    }

    async fn strike(&self, fleet: &mut Fleet, _random: &mut StdRng, _plan: &Plan) -> Result<()> {
        fleet.coordinators[0].kill();
        fleet.start_coordinator(0)
    }

    fn keeps_most(&self) -> bool {
        true
    }
}
