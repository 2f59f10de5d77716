//! Rows of a table that a kernel keeps, by the names of their columns.

use lastseen_proto::v1;
use lastseen_proto::v1::probe_result::Finding;

/// Those of one finding.
pub(super) struct Rows<'f> {
    table: &'f v1::TableFinding,
}

impl<'f> From<&'f v1::TableFinding> for Rows<'f> {
    fn from(table: &'f v1::TableFinding) -> Self {
        Self { table }
    }
}

impl<'f> Rows<'f> {
    /// Of a result, or why there are none.
    pub(super) fn of(result: &'f v1::ProbeResult) -> Result<Self, String> {
        match &result.finding {
            Some(Finding::Table(table)) => Ok(table.into()),
            _ if !result.reason.is_empty() => Err(result.reason.clone()),
            _ => {
                let said = result.attempts.first().map_or("it reported nothing", |attempt| &attempt.detail);
                Err(said.to_owned())
            }
        }
    }

    /// Cells of these columns in each row; empty ones where there is no such column.
    pub(super) fn cells<const N: usize>(&self, columns: [&str; N]) -> impl Iterator<Item = [&'f str; N]> {
        let table = self.table;
        let at = columns.map(|name| table.columns.iter().position(|column| column == name));
        table.rows.iter().map(move |row| {
            at.map(|at| at.and_then(|at| row.cells.get(at)).map(String::as_str).unwrap_or_default())
        })
    }

    /// The value that belongs to a name, of a table of two columns.
    pub(super) fn value(&self, name: &str) -> Option<&'f str> {
        let mut pairs = self.table.rows.iter().filter_map(|row| row.cells.split_first_chunk::<2>());
        pairs.find(|([found, _], _)| found == name).map(|([_, value], _)| value.as_str())
    }

    /// Why these are not all; absent: they are.
    pub(super) fn gap(&self) -> Option<String> {
        let total = self.table.rows_total;
        if total > self.table.rows.len() as u64 {
            return Some(format!("there are {total} rows, more than a report holds"));
        }
        self.table.notes.first().cloned()
    }
}
