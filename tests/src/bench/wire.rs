//! Bytes per observation of synthetic traffic, and what encoding costs. Real traffic is measured in the lab.

use anyhow::{Context, Result};

use super::program;
use super::table::{Row, Table};

/// Timed rounds of each kind of traffic.
const ROUNDS: &str = "60";

/// Adds one row per kind of traffic.
pub fn measure(table: &mut Table) -> Result<()> {
    let printed = program::run(program::example("batch_rate")?, &[ROUNDS])?.stdout;
    for line in printed.lines().skip(1) {
        let row = row(line).with_context(|| format!("no figures in {line:?}"))?;
        table.add(row);
    }
    Ok(())
}

/// `NAME BYTES ENCODE DECODE`, the name in several words.
fn row(line: &str) -> Option<Row> {
    let numbers: Vec<&str> = line.split_whitespace().rev().take(3).collect();
    let [decode, encode, bytes] = numbers[..] else { return None };
    let name = line.get(..line.rfind(bytes)?)?.trim();
    let _: (f64, f64, f64) = (bytes.parse().ok()?, encode.parse().ok()?, decode.parse().ok()?);
    Some(
        Row::new(format!("bytes per observation, {name}"), bytes)
            .aim("≤ 16")
            .beside(format!("encoding {encode} ns, decoding {decode} ns")),
    )
}
