//! Nothing gets through between an agent and the coordinator for a while, and nobody is told.

use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;
use rand::Rng;
use rand::rngs::StdRng;
use tokio::time::sleep;

use super::fleet::Fleet;
use super::strike::{Fault, Plan};

/// How long nothing gets through.
const FULL: Duration = Duration::from_mins(1);
/// Likewise, where time is short.
const SHORT: Duration = Duration::from_secs(3);

/// A switch between agent and coordinator that passes nothing.
#[derive(Debug, Clone, Copy)]
pub struct Partition;

#[async_trait(?Send)]
impl Fault for Partition {
    fn name(&self) -> String {
        "partition of an agent".to_owned()
    }

    fn rounds(&self) -> u64 {
        10
    }

    async fn strike(&self, fleet: &mut Fleet, random: &mut StdRng, plan: &Plan) -> Result<()> {
        let node = random.random_range(0..fleet.setup.nodes);
        fleet.part(node);
        sleep(if plan.is_full { FULL } else { SHORT }).await;
        fleet.join(node);
        Ok(())
    }
}
