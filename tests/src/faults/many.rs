//! Many agents on one coordinator: no fault, but nothing may go wrong either.

use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;
use rand::rngs::StdRng;

use super::fleet::{Agents, Fleet, Setup};
use super::strike::{Fault, Plan};
use crate::scripted::script::Script;

/// Nodes, each with an agent that has its own connections, spool and threads. A build that is not optimised takes longer
/// for a thousand than their agents wait.
const NODES: usize = if cfg!(debug_assertions) { 100 } else { 1_000 };
/// Until so many are armed.
const AHEAD: Duration = Duration::from_secs(20);

/// All of them in every capture.
#[derive(Debug, Clone, Copy)]
pub struct Many;

#[async_trait(?Send)]
impl Fault for Many {
    fn name(&self) -> String {
        let number = if cfg!(debug_assertions) { "100" } else { "1,000" };
        format!("{number} agents on one coordinator")
    }

    fn rounds(&self) -> u64 {
        3
    }

    fn fleets(&self, _rounds: u64) -> u64 {
        1
    }

    fn is_alone(&self) -> bool {
        true
    }

    fn setup(&self, seed: u64) -> Setup {
        let script = Script { seed, flows: 1, every_nanos: 20_000_000, lost_permille: 40 };
        Setup { script, nodes: NODES, agents: Agents::Together, ..Setup::new(seed) }
    }

    fn ahead(&self) -> Duration {
        AHEAD
    }

    async fn strike(&self, _fleet: &mut Fleet, _random: &mut StdRng, _plan: &Plan) -> Result<()> {
        Ok(())
    }

    fn keeps_most(&self) -> bool {
        true
    }
}
