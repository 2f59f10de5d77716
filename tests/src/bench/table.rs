//! The result: one Markdown table under a line about the machine.

use std::fmt::{self, Display};

use super::machine::Machine;

/// Shown where a cell has nothing to say.
const NOTHING: &str = "–";

/// One figure, its aim, and what stands beside it.
#[derive(Debug, Clone)]
pub struct Row {
    measure: String,
    aim: String,
    figure: String,
    beside: String,
    ratio: String,
}

impl Row {
    /// A figure under a name.
    pub fn new(measure: impl Display, figure: impl Display) -> Self {
        let nothing = || NOTHING.to_owned();
        Self {
            measure: measure.to_string(),
            figure: figure.to_string(),
            aim: nothing(),
            beside: nothing(),
            ratio: nothing(),
        }
    }

    /// What the figure should be.
    #[must_use]
    pub fn aim(mut self, aim: &str) -> Self {
        aim.clone_into(&mut self.aim);
        self
    }

    /// What it is compared with.
    #[must_use]
    pub fn beside(mut self, beside: impl Display) -> Self {
        self.beside = beside.to_string();
        self
    }

    /// The figure divided by the one beside it.
    #[must_use]
    pub fn ratio(mut self, ratio: f64) -> Self {
        self.ratio = if ratio < 10.0 { format!("{ratio:.2}") } else { format!("{ratio:.0}") };
        self
    }
}

/// Rows in the order they were measured.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Row>,
}

impl Table {
    /// Adds a row and shows it at once, so that a long run can be followed.
    pub fn add(&mut self, row: Row) {
        println!("{}: {}  [beside: {}]", row.measure, row.figure, row.beside);
        self.rows.push(row);
    }

    /// The whole text.
    pub fn markdown(&self, machine: &Machine) -> String {
        format!("{machine}\n\n{self}")
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| figure | aim | Lastseen | beside it | ratio |\n|---|---|---|---|---|")?;
        for Row { measure, aim, figure, beside, ratio } in &self.rows {
            writeln!(f, "| {measure} | {aim} | {figure} | {beside} | {ratio} |")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Row, Table};

    #[test]
    fn every_row_has_the_header_s_cells() {
        let mut table = Table::default();
        table.add(Row::new("decode", 8).aim("≥ 8").beside("tcpdump 5").ratio(1.6));
        table.add(Row::new("memory", "12 MiB"));
        let text = table.to_string();
        assert!(text.lines().all(|line| line.matches('|').count() == 6), "{text}");
        assert!(text.contains("| decode | ≥ 8 | 8 | tcpdump 5 | 1.60 |"), "{text}");
    }
}
