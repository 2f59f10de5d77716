//! Every fault there is.

use std::time::Duration;

use super::clock_step::ClockStep;
use super::expired::Expired;
use super::freeze::{FrozenAgent, FrozenCoordinator, SlowCoordinator};
use super::full_disk::{FullDataDisk, FullSpool, FullSpoolDisk};
use super::in_a_row::InARow;
use super::kill_agent::KillAgent;
use super::kill_coordinator::KillCoordinator;
use super::kill_database::KillDatabase;
use super::many::Many;
use super::nothing::Nothing;
use super::partition::Partition;
use super::restart_coordinator::RestartCoordinator;
use super::strike::Fault;

/// In the order of the table.
pub fn faults() -> Vec<Box<dyn Fault>> {
    let killed = KillDatabase { name: "kill -9 of the database", rounds: 100, away: Duration::ZERO };
    let away = KillDatabase { name: "database away for 5 s", rounds: 10, away: Duration::from_secs(5) };
    vec![
        Box::new(Nothing),
        Box::new(KillAgent),
        Box::new(KillCoordinator),
        Box::new(killed),
        Box::new(away),
        Box::new(RestartCoordinator),
        Box::new(Partition),
        Box::new(FrozenAgent),
        Box::new(FrozenCoordinator),
        Box::new(SlowCoordinator),
        Box::new(ClockStep),
        Box::new(FullSpoolDisk),
        Box::new(FullSpool),
        Box::new(FullDataDisk),
        Box::new(Expired),
        Box::new(InARow),
        Box::new(Many),
    ]
}
