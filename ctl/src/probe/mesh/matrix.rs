//! Rows are sources, columns are targets.

use super::Run;
use crate::output::table::Table;

/// Where a row and a column are of the same source.
const SAME: &str = "·";

pub(super) fn text(run: &Run) -> String {
    let columns: Vec<String> = run.names.iter().map(|name| format!(">{name}")).collect();
    let mut headers = vec!["FROM \\ TO"];
    headers.extend(columns.iter().map(String::as_str));
    let mut table = Table::new(&headers);
    for (from, name) in run.names.iter().enumerate() {
        let cell = |to: usize| {
            let pair = run.pairs.iter().find(|pair| (pair.from, pair.to) == (from, to));
            if from == to { SAME.to_owned() } else { pair.map_or_else(String::new, super::Pair::cell) }
        };
        table.row(std::iter::once(name.clone()).chain((0..run.names.len()).map(cell)));
    }
    table.text()
}
