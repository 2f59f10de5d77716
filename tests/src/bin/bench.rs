//! Measures the release programs and prints one table.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use lastseen_tests::bench::machine::Machine;
use lastseen_tests::bench::table::Table;
use lastseen_tests::bench::{
    Options, agents, correlation, decode, ingest, live, mesh, probes, takeover, wire,
};
use lastseen_tests::lab::cleanup;

/// Measure decoding, batches, ingest, fleets, take-over, correlation, memory, capture drops, probes and traced paths; medians, beside other programs
#[derive(Debug, Parser)]
struct Arguments {
    /// Only these parts
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Folder of the capture files whose packets the decoder gets
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/pcaps"))]
    captures: PathBuf,
    /// Packets the decoder gets
    #[arg(long, default_value_t = 10_000_000)]
    packets: u64,
    /// Times each figure is taken
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Chooses the lab's addresses and names
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where the table goes
    #[arg(long, default_value = "target/bench.md")]
    out: PathBuf,
}

/// A group of figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Decode,
    Wire,
    Ingest,
    Agents,
    Takeover,
    Correlation,
    Live,
    Probes,
    Mesh,
}

fn main() -> ExitCode {
    let mut table = Table::default();
    let arguments = Arguments::parse();
    let outcome = measure(&arguments, &mut table).and(write(&arguments.out, &table));
    outcome.map_or_else(
        |error| {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}

/// Every part runs, whatever becomes of the others; the first failure is returned.
fn measure(arguments: &Arguments, table: &mut Table) -> Result<()> {
    cleanup::on_signal()?;
    let Arguments { only, captures, packets, rounds, seed, .. } = arguments;
    let options = Options { captures: captures.clone(), packets: *packets, rounds: *rounds, seed: *seed };
    let parts = Part::value_variants().iter().filter(|part| only.is_empty() || only.contains(part));
    let failures = parts.filter_map(|&part| {
        let outcome = measure_part(part, table, &options);
        outcome.with_context(|| format!("{part:?}")).inspect_err(|error| eprintln!("{error:#}")).err()
    });
    failures.collect::<Vec<_>>().into_iter().next().map_or(Ok(()), Err)
}

fn measure_part(part: Part, table: &mut Table, options: &Options) -> Result<()> {
    match part {
        Part::Decode => decode::measure(table, options),
        Part::Wire => wire::measure(table),
        Part::Ingest => ingest::measure(table, options),
        Part::Agents => agents::measure(table, options),
        Part::Takeover => takeover::measure(table),
        Part::Correlation => correlation::measure(table, options),
        Part::Live => live::measure(table, options),
        Part::Probes => probes::measure(table, options),
        Part::Mesh => mesh::measure(table, options),
    }
}

fn write(path: &Path, table: &Table) -> Result<()> {
    let text = table.markdown(&Machine::here());
    println!("\n{text}");
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}
