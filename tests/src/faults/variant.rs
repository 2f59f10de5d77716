//! A fault in other circumstances than its own.

use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;
use rand::rngs::StdRng;

use super::fleet::{Fleet, Setup};
use super::results::Tally;
use super::strike::{Fault, Plan, any_moment};

/// Rounds of a full run.
const MOST: u64 = 50;

/// With rows in Postgres instead of a file.
pub struct OnPostgres<F>(pub F);

/// At any moment instead of the one at which it costs most; what it costs then is open.
pub struct AtAnyMoment<F>(pub F);

#[async_trait(?Send)]
impl<F: Fault> Fault for OnPostgres<F> {
    fn name(&self) -> String {
        format!("{}, Postgres", self.0.name())
    }

    fn rounds(&self) -> u64 {
        self.0.rounds().min(MOST)
    }

    fn fleets(&self, rounds: u64) -> u64 {
        self.0.fleets(rounds)
    }

    fn is_alone(&self) -> bool {
        self.0.is_alone()
    }

    fn setup(&self, seed: u64) -> Setup {
        Setup { postgres: true, ..self.0.setup(seed) }
    }

    async fn strike(&self, fleet: &mut Fleet, random: &mut StdRng, plan: &Plan) -> Result<()> {
        self.0.strike(fleet, random, plan).await
    }

    async fn run(&self, setup: Setup, rounds: u64, is_full: bool) -> Result<Tally> {
        self.0.run(setup, rounds, is_full).await
    }
}

#[async_trait(?Send)]
impl<F: Fault> Fault for AtAnyMoment<F> {
    fn name(&self) -> String {
        format!("{}, any moment", self.0.name())
    }

    fn rounds(&self) -> u64 {
        self.0.rounds()
    }

    fn fleets(&self, rounds: u64) -> u64 {
        self.0.fleets(rounds)
    }

    fn is_alone(&self) -> bool {
        self.0.is_alone()
    }

    fn setup(&self, seed: u64) -> Setup {
        self.0.setup(seed)
    }

    fn ahead(&self) -> Duration {
        self.0.ahead()
    }

    fn moment(&self, random: &mut StdRng, plan: &Plan) -> Duration {
        any_moment(random, plan)
    }

    async fn strike(&self, fleet: &mut Fleet, random: &mut StdRng, plan: &Plan) -> Result<()> {
        self.0.strike(fleet, random, plan).await
    }
}
