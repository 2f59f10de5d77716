//! An agent is killed, and started again on its spool.

use anyhow::Result;
use async_trait::async_trait;
use rand::Rng;
use rand::rngs::StdRng;

use super::fleet::Fleet;
use super::strike::{Fault, Plan};

/// `SIGKILL` for one of the agents.
#[derive(Debug, Clone, Copy)]
pub struct KillAgent;

#[async_trait(?Send)]
impl Fault for KillAgent {
    fn name(&self) -> String {
        "kill -9 of an agent".to_owned()
    }

    fn rounds(&self) -> u64 {
        100
    }

    async fn strike(&self, fleet: &mut Fleet, random: &mut StdRng, _plan: &Plan) -> Result<()> {
        let node = random.random_range(0..fleet.setup.nodes);
        fleet.kill_agent(node);
        fleet.start_agent(node)
    }
}
