//! Time, rate and peak memory of correlation, for two sizes: is it linear?

use anyhow::Result;

use super::Options;
use super::program::{self, number_before};
use super::spread::Spread;
use super::table::{Row, Table};

/// Millions of observations.
const SIZES: [&str; 2] = ["1", "10"];

/// Adds one row per size.
pub fn measure(table: &mut Table, options: &Options) -> Result<()> {
    let mut smaller: Option<Spread> = None;
    for millions in SIZES {
        let (mut rates, mut seconds, mut peak) = (Vec::new(), Vec::new(), 0.0_f64);
        for _ in 0..options.rounds.max(1) {
            let printed = program::run(program::example("correlation_rate")?, &[millions])?.stdout;
            rates.push(number_before(&printed, " M/s")?);
            let observations = number_before(&printed, " observations")?;
            seconds.push(observations / 1e6 / rates[rates.len() - 1]);
            peak = peak.max(number_before(&printed, " MiB")?);
        }
        let (rates, seconds) = (Spread::from_takes(rates)?, Spread::from_takes(seconds)?);
        let name = format!("correlation of {millions} M observations, M/s");
        let mut row = Row::new(name, format!("{rates}; {seconds} s; peak {peak:.0} MiB")).aim("≥ 2, linear");
        if let Some(smaller) = smaller {
            row = row.beside("the rate of a tenth of them").ratio(rates.median / smaller.median);
        }
        smaller = Some(rates);
        table.add(row);
    }
    Ok(())
}
