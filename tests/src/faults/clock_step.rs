//! Someone sets the clock of a node.

use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;
use nix::sys::signal::Signal::SIGUSR1;
use rand::rngs::StdRng;

use super::fleet::{Fleet, Setup};
use super::strike::{Fault, Plan};

/// By how much.
const STEP: Duration = Duration::from_secs(7);

/// `CLOCK_REALTIME` of the first node, forward and back in turn.
#[derive(Debug, Clone, Copy)]
pub struct ClockStep;

#[async_trait(?Send)]
impl Fault for ClockStep {
    fn name(&self) -> String {
        "clock step on a node".to_owned()
    }

    fn rounds(&self) -> u64 {
        20
    }

    fn setup(&self, seed: u64) -> Setup {
        Setup { step: Some(STEP), ..Setup::new(seed) }
    }

    async fn strike(&self, fleet: &mut Fleet, _random: &mut StdRng, _plan: &Plan) -> Result<()> {
        fleet.signal_agent(0, SIGUSR1)
    }

    fn keeps_most(&self) -> bool {
        true
    }
}
