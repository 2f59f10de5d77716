//! How long a capture is without a coordinator when the one that leads it is killed or frozen.

use anyhow::{Context, Result};

use super::program::{self, number_before};
use super::table::{Row, Table};

/// Coordinators that are struck each time.
const ROUNDS: &str = "15";

/// Adds the times from a fault until another coordinator leads.
pub fn measure(table: &mut Table) -> Result<()> {
    for (fault, named) in [("kill", "kill -9 of"), ("freeze", "SIGSTOP for")] {
        let printed = program::run(program::example("takeover")?, &[fault, ROUNDS])?.stdout;
        let (median, most) = printed.split_once(" max ").context("no largest time")?;
        let (median, most) = (number_before(median, " s,")?, number_before(most, " s,")?);
        let name = format!("take-over of a capture after {named} its coordinator, s, median of {ROUNDS}");
        let row = Row::new(name, format!("{median:.2}, most {most:.2}"));
        table.add(row.beside("a lease is 3 s, renewed each second"));
    }
    Ok(())
}
