//! The database is killed, and comes up again on its data, at once or later.

use std::time::Duration;

use anyhow::{Context, Result};
use async_trait::async_trait;
use rand::rngs::StdRng;
use tokio::time::sleep;

use super::fleet::{Fleet, Setup};
use super::strike::{Fault, Plan};

/// `SIGKILL` for every process of Postgres.
#[derive(Debug, Clone, Copy)]
pub struct KillDatabase {
    /// As the table calls it.
    pub name: &'static str,
    /// Rounds of a full run.
    pub rounds: u64,
    /// How long it is gone.
    pub away: Duration,
}

#[async_trait(?Send)]
impl Fault for KillDatabase {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn rounds(&self) -> u64 {
        self.rounds
    }

    fn setup(&self, seed: u64) -> Setup {
        Setup { postgres: true, ..Setup::new(seed) }
    }

    async fn strike(&self, fleet: &mut Fleet, _random: &mut StdRng, _plan: &Plan) -> Result<()> {
        let server = fleet.database.as_ref().context("a fleet without Postgres")?.server.clone();
        let killed = server.clone();
        tokio::task::spawn_blocking(move || killed.kill()).await?;
        sleep(self.away).await;
        Ok(tokio::task::spawn_blocking(move || server.start_again()).await?)
    }

    fn keeps_most(&self) -> bool {
        true
    }
}
