//! Breaks fleets under load in every way there is, and holds batches and reports against the truth.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::Parser;
use lastseen_tests::faults::disk::keep_mounts_private;
use lastseen_tests::faults::results::{Outcome, Results, Tally};
use lastseen_tests::faults::strike::Fault;
use lastseen_tests::faults::table::faults;
use lastseen_tests::lab::cleanup;
use lastseen_tests::scenario::file::selected;
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, LocalSet};

/// Kill, freeze, part and starve a fleet under load, and check that nothing acknowledged is lost and no report is wrong
#[derive(Debug, Parser)]
struct Arguments {
    /// Most rounds of each fault [default: as many as it is meant to have]
    #[arg(long)]
    rounds: Option<u64>,
    /// Only faults whose name contains this, letter case aside; may be given several times
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// Chooses moments, victims and which packets get lost [default: random]
    #[arg(long)]
    seed: Option<u64>,
    /// Fleets that run side by side
    #[arg(long, default_value_t = 4)]
    fleets: usize,
    /// Where the results go, as JSON
    #[arg(long, default_value = "target/faults.json")]
    out: PathBuf,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<bool> {
    keep_mounts_private()?;
    cleanup::on_signal()?;
    let seed = arguments.seed.unwrap_or_else(|| rand::random::<u32>().into());
    println!("seed {seed}");
    let chosen: Vec<_> =
        faults().into_iter().filter(|fault| selected(&fault.name(), &arguments.only)).collect();
    if chosen.is_empty() {
        bail!("--only {:?} matches no fault", arguments.only);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcomes = runtime.block_on(LocalSet::new().run_until(run_all(chosen, seed, arguments)))?;
    let results = Results::new(seed, outcomes);
    println!("\n{results}");
    write(&arguments.out, &results)?;
    Ok(results.are_right())
}

/// Rounds of a fault that one fleet makes, so that those of another can run beside them.
struct Share {
    fault: usize,
    rounds: u64,
    seed: u64,
}

async fn run_all(faults: Vec<Box<dyn Fault>>, seed: u64, arguments: &Arguments) -> Result<Vec<Outcome>> {
    let all = u32::try_from(arguments.fleets.max(1)).context("--fleets")?;
    let (faults, places) = (Rc::new(faults), Arc::new(Semaphore::new(all as usize)));
    let is_full = arguments.rounds.is_none();
    let mut running = JoinSet::new();
    for share in shares(&faults, seed, arguments) {
        let (faults, places) = (faults.clone(), places.clone());
        running.spawn_local(async move {
            let fault = &*faults[share.fault];
            let _place = places.acquire_many_owned(if fault.is_alone() { all } else { 1 }).await;
            let tally = fault.run(fault.setup(share.seed), share.rounds, is_full).await;
            println!("{}: {} rounds, seed {}", fault.name(), share.rounds, share.seed);
            (share, tally)
        });
    }
    let mut outcomes: Vec<_> = faults.iter().map(|_| (0, Tally::default())).collect();
    while let Some(ended) = running.join_next().await {
        let (share, tally) = ended?;
        let tally =
            tally.unwrap_or_else(|error| Tally { wrong: vec![format!("{error:#}")], ..Tally::default() });
        outcomes[share.fault].0 += share.rounds;
        outcomes[share.fault].1.add(tally);
    }
    let named = faults.iter().zip(outcomes);
    Ok(named.map(|(fault, (rounds, tally))| Outcome::new(&fault.name(), rounds, tally)).collect())
}

fn shares(faults: &[Box<dyn Fault>], seed: u64, arguments: &Arguments) -> Vec<Share> {
    let fleets = arguments.fleets.max(1) as u64;
    let mut shares = Vec::new();
    for (number, fault) in faults.iter().enumerate() {
        let rounds = fault.rounds().min(arguments.rounds.unwrap_or(u64::MAX));
        let parts = fleets.min(fault.fleets(rounds)).max(1);
        for part in 0..parts {
            let rounds = rounds / parts + u64::from(part < rounds % parts);
            let seed = seed.wrapping_add((number as u64) << 16 | part);
            shares.push(Share { fault: number, rounds, seed });
        }
    }
    shares
}

fn write(path: &Path, results: &Results) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    }
    let text = serde_json::to_string_pretty(results)?;
    std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
}
