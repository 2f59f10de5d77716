//! What `make bench` measures. Each part runs the release programs and adds its rows to one table.
//!
//! Nothing here asserts on time: the figures of a shared machine only mean something beside another program's
//! figures from the same minutes, so every part states medians, their spread, and a ratio where there is one.

pub mod agents;
pub mod correlation;
pub mod cpu;
pub mod decode;
pub mod flood;
pub mod ingest;
pub mod live;
pub mod machine;
pub mod memory;
pub mod mesh;
pub mod probes;
pub mod program;
pub mod spread;
pub mod table;
pub mod takeover;
pub mod tcpdump;
pub mod wire;
pub mod wire_live;

use std::path::PathBuf;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::lab::cleanup;

/// What all parts share.
#[derive(Debug, Clone)]
pub struct Options {
    /// Folder of the capture files that are repeated for the decoder.
    pub captures: PathBuf,
    /// Packets the decoder gets.
    pub packets: u64,
    /// Times each figure is taken.
    pub rounds: usize,
    /// Chooses the lab's addresses and names.
    pub seed: u64,
}

/// A folder for this program's files, removed on drop and on a signal.
pub fn folder() -> Result<TempDir> {
    let prefix = format!("{}bench-", cleanup::own_prefix());
    tempfile::Builder::new().prefix(&prefix).tempdir().context("make a temporary folder")
}
