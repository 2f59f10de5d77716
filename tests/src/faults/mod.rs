//! What breaks under a fleet, and what must hold then: no acknowledged batch is lost, none is stored twice, and no report
//! says what is not so.
//!
//! Agents are the real code on [scripted](crate::scripted) nodes, so that the truth about every packet is known; a
//! [witness](tap) between them and the coordinator notes what was sent and what acknowledged. A [`Fault`] strikes while a
//! capture is under way, once a round; the [judge] compares the witness, the store, the report and the truth.

pub mod client;
pub mod clock_step;
pub mod coordinator;
pub mod disk;
pub mod expired;
pub mod fleet;
pub mod freeze;
pub mod full_disk;
pub mod gate;
pub mod in_a_row;
pub mod judge;
pub mod kill_agent;
pub mod kill_coordinator;
pub mod kill_database;
pub mod many;
pub mod nothing;
pub mod partition;
#[path = "../../../coordinator/tests/common/pki.rs"]
#[allow(missing_docs, clippy::new_without_default, reason = "a test's own, shared with the coordinator's")]
pub mod pki;
#[path = "../../../coordinator/tests/common/postgres.rs"]
#[allow(missing_docs, reason = "a test's own, shared with the coordinator's")]
pub mod postgres;
pub mod restart_coordinator;
pub mod results;
pub mod stored;
pub mod strike;
pub mod table;
pub mod tap;
pub mod variant;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::lab::cleanup;

/// A folder for one fleet, removed on drop and on a signal.
fn folder() -> Result<TempDir> {
    let prefix = format!("{}faults-", cleanup::own_prefix());
    tempfile::Builder::new().prefix(&prefix).tempdir().context("make a temporary folder")
}
