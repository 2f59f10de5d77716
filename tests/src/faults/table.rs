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
use super::variant::{AtAnyMoment, OnPostgres};

/// In the order of the table.
pub fn faults() -> Vec<Box<dyn Fault>> {
    let killed = KillDatabase { name: "kill -9 of the database", rounds: 100, away: Duration::ZERO };
    let away = KillDatabase { name: "database away for 5 s", rounds: 10, away: Duration::from_secs(5) };
    vec![
        Box::new(Nothing),
        Box::new(KillAgent),
        Box::new(OnPostgres(KillAgent)),
        Box::new(KillCoordinator { of: 1 }),
        Box::new(OnPostgres(KillCoordinator { of: 1 })),
        Box::new(killed),
        Box::new(away),
        Box::new(KillCoordinator { of: 2 }),
        Box::new(FrozenCoordinator { of: 2 }),
        Box::new(RestartCoordinator),
        Box::new(OnPostgres(RestartCoordinator)),
        Box::new(Partition),
        Box::new(OnPostgres(Partition)),
        Box::new(FrozenAgent),
        Box::new(FrozenCoordinator { of: 1 }),
        Box::new(SlowCoordinator),
        Box::new(OnPostgres(SlowCoordinator)),
        Box::new(ClockStep),
        Box::new(FullSpoolDisk),
        Box::new(AtAnyMoment(FullSpoolDisk)),
        Box::new(FullSpool),
        Box::new(FullDataDisk),
        Box::new(AtAnyMoment(FullDataDisk)),
        Box::new(AtAnyMoment(OnPostgres(FullDataDisk))),
        Box::new(Expired),
        Box::new(InARow),
        Box::new(OnPostgres(InARow)),
        Box::new(Many),
        Box::new(OnPostgres(Many)),
    ]
}
