//! Time, rate and peak memory of correlation, for two sizes and within little memory: is it linear, and bounded?

use anyhow::{Result, ensure};

use super::Options;
use super::program::{self, number_before};
use super::spread::Spread;
use super::table::{Row, Table};

/// Millions of observations, and MiB of memory for them where there is a bound.
const SIZES: [(&str, Option<&str>); 3] = [("1", None), ("10", None), ("10", Some("64"))];

/// Most memory that ten million observations may take, MiB, however much a run is given.
const MOST: f64 = 1024.0;

/// Adds one row per size. Fails if a run takes more memory than it may.
pub fn measure(table: &mut Table, options: &Options) -> Result<()> {
    let mut smaller: Option<Spread> = None;
    for (millions, memory) in SIZES {
        let arguments: Vec<_> = [millions].into_iter().chain(memory).collect();
        let (mut rates, mut seconds, mut peak) = (Vec::new(), Vec::new(), 0.0_f64);
        for _ in 0..options.rounds.max(1) {
            let printed = program::run(program::example("correlation_rate")?, &arguments)?.stdout;
            rates.push(number_before(&printed, " M/s")?);
            let observations = number_before(&printed, " observations")?;
            seconds.push(observations / 1e6 / rates[rates.len() - 1]);
            peak = peak.max(number_before(&printed, " MiB")?);
        }
        ensure!(peak <= MOST, "correlation of {millions} M observations took {peak} MiB, above {MOST}");
        let (rates, seconds) = (Spread::from_takes(rates)?, Spread::from_takes(seconds)?);
        let within = memory.map_or(String::new(), |memory| format!(" within {memory} MiB"));
        let name = format!("correlation of {millions} M observations{within}, M/s");
        let mut row = Row::new(name, format!("{rates}; {seconds} s; peak {peak:.0} MiB"))
            .aim("≥ 2, linear, ≤ 1024 MiB");
        if let Some(smaller) = smaller {
            row = row
                .beside(if memory.is_some() { "the rate in memory" } else { "the rate of a tenth of them" })
                .ratio(rates.median / smaller.median);
        }
        smaller = Some(rates);
        table.add(row);
    }
    Ok(())
}
