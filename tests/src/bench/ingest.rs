//! From an agent's stream over mutual TLS to committed, beside writing the same bytes to a file.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};

use super::program::{self, number_before};
use super::spread::Spread;
use super::table::{Row, Table};
use super::{Options, folder};

/// Millions of observations in a run.
const MILLIONS: &str = "12";
/// Agents that send them, each on a stream of its own.
const AGENTS: [&str; 4] = ["1", "10", "100", "1000"];
/// Rows in a batch.
const ROWS: &str = "4096";

/// Bytes of one plain write.
const WRITE_BYTES: usize = 1 << 20;
/// Plain writes between two fsyncs; a group commit waits for no more bytes than these.
const WRITES_PER_SYNC: usize = 16;

/// Adds the rates of ingest, into each database and from each number of agents.
pub fn measure(table: &mut Table, options: &Options) -> Result<()> {
    let folder = folder()?;
    for agents in AGENTS {
        let (mut taken, mut written) = (Vec::new(), Vec::new());
        for _ in 0..options.rounds.max(1) {
            let (sqlite, postgres) = (run("sqlite", agents)?, run("postgres", agents)?);
            let bytes = sqlite.observations * sqlite.bytes_each;
            written.push(sqlite.observations / write(&folder.path().join("plain"), bytes as usize)? / 1e3);
            taken.push((sqlite, postgres));
        }
        if agents == AGENTS[0] {
            let name = "bytes per observation, batches of ingest: random times, acknowledgements, hashes and outer IP-IDs";
            table.add(Row::new(name, format!("{:.1}", taken[0].0.bytes_each)).aim("≤ 16"));
        }
        add(table, agents, &taken, Spread::from_takes(written)?)?;
    }
    Ok(())
}

fn add(table: &mut Table, agents: &str, taken: &[(Run, Run)], written: Spread) -> Result<()> {
    let rates = |of: fn(&(Run, Run)) -> f64| Spread::from_takes(taken.iter().map(of).collect());
    let (sqlite, postgres) = (rates(|(sqlite, _)| sqlite.rate)?, rates(|(_, postgres)| postgres.rate)?);
    let copied = rates(|(_, postgres)| postgres.copied)?;
    let plain = format!("the same bytes written and fsynced in groups of 16 MiB: {written:.0}");
    let name = |database| {
        let plural = if agents == "1" { "" } else { "s" };
        format!("ingest from {agents} agent{plural} over mTLS to committed in {database}, k observations/s")
    };
    let row = Row::new(name("SQLite"), format!("{sqlite:.0}")).aim("≥ 500").beside(plain);
    table.add(row.ratio(sqlite.median / written.median));
    let copy = format!("one bare COPY of the same rows: {copied:.0}");
    let row = Row::new(name("Postgres"), format!("{postgres:.0}")).aim("≥ 500").beside(copy);
    table.add(row.ratio(postgres.median / copied.median));
    Ok(())
}

/// How a run went; rates in thousands of observations per second.
struct Run {
    observations: f64,
    bytes_each: f64,
    rate: f64,
    /// Of the rows alone; zero where that was not measured.
    copied: f64,
}

fn run(database: &str, agents: &str) -> Result<Run> {
    let printed = program::run(program::example("ingest_rate")?, &[MILLIONS, agents, ROWS, database])?.stdout;
    let observations = number_before(&printed, " observations,")?;
    let copied = match printed.lines().find(|line| line.starts_with("COPY:")) {
        Some(line) => observations / number_before(line, " ms")?,
        None => 0.0,
    };
    Ok(Run {
        observations,
        bytes_each: number_before(&printed, " bytes each")?,
        rate: number_before(&printed, " observations/s")? / 1e3,
        copied,
    })
}

/// Seconds to write this many bytes to stable storage.
fn write(path: &Path, bytes: usize) -> Result<f64> {
    let noise: Vec<u8> = (0..WRITE_BYTES).map(|_| rand::random()).collect();
    let started = Instant::now();
    let mut file = File::create(path).with_context(|| format!("create {}", path.display()))?;
    for index in 0..bytes.div_ceil(WRITE_BYTES) {
        file.write_all(&noise[..WRITE_BYTES.min(bytes - index * WRITE_BYTES)])?;
        if (index + 1) % WRITES_PER_SYNC == 0 {
            file.sync_data()?;
        }
    }
    file.sync_data()?;
    Ok(started.elapsed().as_secs_f64())
}
