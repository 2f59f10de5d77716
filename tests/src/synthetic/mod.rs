//! Scenarios from written capture files, for what the lab's kernel cannot build: Geneve, IP in IP, `WireGuard`, tagged
//! underlays and IPVS. Packets of a path between two nodes are written as every point on it would have captured them,
//! some vanish, and `ctl diff-files` must say where and how many, with a topology and without.

mod carriage;
mod case;
mod cast;
mod fabric;
mod files;
mod judge;
mod traffic;

use std::path::Path;

use anyhow::{Context, Result};

pub use self::case::{Case, cases};
use self::cast::Cast;
use self::traffic::Traffic;
use crate::scenario::file::selected;
use crate::scenario::results::ScenarioResult;

/// Whether there is a case whose name contains `wanted`, letter case aside.
pub fn is_any(wanted: &str) -> bool {
    cases().iter().any(|case| selected(&case.name(), &[wanted]))
}

/// Runs every case that `only` selects through the program `ctl`.
pub fn run(ctl: &Path, seed: u64, only: &[String]) -> Result<Vec<ScenarioResult>> {
    let chosen = cases().into_iter().filter(|case| selected(&case.name(), only));
    chosen.map(|case| play(ctl, &case, seed).with_context(|| case.name())).collect()
}

fn play(ctl: &Path, case: &Case, seed: u64) -> Result<ScenarioResult> {
    let cast = Cast::new(seed);
    let traffic = Traffic::new(case, &cast, seed);
    let folder = tempfile::tempdir().context("make a folder")?;
    let mut arguments = files::write(case, &cast, &traffic, folder.path())?;
    if case.has_topology {
        let file = folder.path().join("fabric.json");
        std::fs::write(&file, fabric::json(case, &cast).to_string()).context("write the topology")?;
        arguments.extend(["--topology".to_owned(), file.display().to_string()]);
    }
    judge::judge(ctl, case, &cast, &traffic, &arguments, seed)
}
