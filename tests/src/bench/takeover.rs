//! How long a capture is without a coordinator when the one that leads it is killed.

use anyhow::{Context, Result};

use super::program::{self, number_before};
use super::table::{Row, Table};

/// Coordinators that are killed.
const KILLS: &str = "15";

/// Adds the time from a kill until another coordinator leads.
pub fn measure(table: &mut Table) -> Result<()> {
    let printed = program::run(program::example("takeover")?, &[KILLS])?.stdout;
    let (median, most) = printed.split_once(" max ").context("no largest time")?;
    let (median, most) = (number_before(median, " s,")?, number_before(most, " s,")?);
    let name = format!("take-over of a capture after kill -9 of its coordinator, s, median of {KILLS}");
    let row = Row::new(name, format!("{median:.2}, most {most:.2}"));
    table.add(row.beside("a lease is 3 s, renewed each second"));
    Ok(())
}
