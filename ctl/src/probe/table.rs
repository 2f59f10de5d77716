//! Tables of nodes' kernels as tables for people.

use lastseen_proto::v1;
use lastseen_proto::v1::probe_result::Finding;

use super::source;
use crate::output::table::Table;
use crate::output::{escape, units};

/// A block for each source.
pub(super) fn text(probe: &v1::Probe, is_wide: bool) -> String {
    let is_scheduled = probe.spec.as_ref().is_some_and(|spec| spec.every.is_some());
    let mut blocks = Vec::new();
    for report in &probe.reports {
        for result in &report.results {
            let run = if is_scheduled { format!("  run {}", report.run) } else { String::new() };
            let title = format!("{} {}{run}", source(report.source.as_ref()), result.target);
            blocks.push(format!("{}\n{}", escape::line(&title), block(result, is_wide)));
        }
    }
    blocks.join("\n")
}

/// The rows and what else is to be known, or why there are none. Unless `is_wide` columns in which nothing stands are
/// left out.
pub fn block(result: &v1::ProbeResult, is_wide: bool) -> String {
    if !result.reason.is_empty() {
        return format!("{}\n", escape::line(&result.reason));
    }
    let Some(Finding::Table(found)) = &result.finding else { return String::new() };
    let mut text = rows(found, is_wide);
    let told = found.rows.len() as u64;
    if told < found.rows_total {
        let [told, total] = [told, found.rows_total].map(units::count);
        text.push_str(&format!("showing {told} of {total} rows\n"));
    }
    text.extend(found.notes.iter().map(|note| format!("note: {}\n", escape::line(note))));
    text
}

fn rows(found: &v1::TableFinding, is_wide: bool) -> String {
    let cells =
        |column: usize| found.rows.iter().map(move |row| row.cells.get(column).map_or("", String::as_str));
    let shown: Vec<usize> = (0..found.columns.len())
        .filter(|column| is_wide || found.rows.is_empty() || cells(*column).any(|cell| !cell.is_empty()))
        .collect();
    let headers: Vec<String> = shown
        .iter()
        .map(|column| {
            let mut filled = cells(*column).filter(|cell| !cell.is_empty()).peekable();
            let are_numbers = filled.peek().is_some() && filled.all(|cell| cell.parse::<i64>().is_ok());
            let name = found.columns[*column].to_uppercase();
            format!("{}{}", if are_numbers { ">" } else { "" }, escape::line(&name))
        })
        .collect();
    let mut table = Table::new(&headers.iter().map(String::as_str).collect::<Vec<_>>());
    for row in &found.rows {
        table.row(shown.iter().map(|column| row.cells.get(*column).map_or("", String::as_str)));
    }
    table.text()
}

/// Keeps the rows in which a cell contains this text. What was not told cannot be looked through: a note says so.
pub fn keep(probe: &mut v1::Probe, wanted: &str) {
    let results = probe.reports.iter_mut().flat_map(|report| &mut report.results);
    for result in results {
        let Some(Finding::Table(found)) = &mut result.finding else { continue };
        let told = found.rows.len() as u64;
        if told < found.rows_total {
            let [told, total] = [told, found.rows_total].map(units::count);
            found
                .notes
                .push(format!("only the {told} of {total} rows that the node told were looked through"));
        }
        found.rows.retain(|row| row.cells.iter().any(|cell| cell.contains(wanted)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(rows: &[[&str; 3]], rows_total: u64) -> v1::ProbeResult {
        let row = |cells: &[&str; 3]| v1::TableRow { cells: cells.map(str::to_owned).into() };
        let finding = v1::TableFinding {
            columns: ["name", "packets", "master\u{1b}[2J"].map(str::to_owned).into(),
            rows: rows.iter().map(row).collect(),
            rows_total,
            notes: vec!["a\nb".into()],
            ..Default::default()
        };
        v1::ProbeResult { finding: Some(Finding::Table(finding)), ..Default::default() }
    }

    #[test]
    fn numbers_are_aligned_and_what_is_empty_is_left_out_unless_it_is_asked_for() {
        let result = found(&[["eth0", "12", ""], ["x\u{1b}[2J", "", ""]], 5);
        let expected = "NAME         PACKETS\n\
                        eth0              12\n\
                        x\\u{1b}[2J         -\n\
                        showing 2 of 5 rows\n\
                        note: a\\nb\n";
        assert_eq!(block(&result, false), expected);
        let wide = block(&result, true);
        assert!(wide.starts_with("NAME         PACKETS   MASTER\\u{1b}[2J\n"), "{wide}");
        let mut short = found(&[], 1);
        let Some(Finding::Table(table)) = &mut short.finding else { panic!() };
        table.rows.push(v1::TableRow { cells: vec!["lo".into()] });
        assert!(block(&short, true).contains("\nlo     -         -\n"), "{}", block(&short, true));
        assert!(block(&found(&[], 0), false).starts_with("NAME   PACKETS   MASTER"));
        let none = v1::ProbeResult { reason: "no\tkernel".into(), ..Default::default() };
        assert_eq!(block(&none, false), "no\\tkernel\n");
    }

    #[test]
    fn rows_are_kept_by_what_they_contain() {
        let results = vec![found(&[["eth0", "12", ""], ["lo", "0", "eth0"], ["br0", "7", ""]], 5)];
        let reports = vec![v1::ProbeReport { results, ..Default::default() }];
        let mut probe = v1::Probe { reports, ..Default::default() };
        keep(&mut probe, "eth0");
        let Some(Finding::Table(table)) = &probe.reports[0].results[0].finding else { panic!() };
        assert_eq!((table.rows.len(), table.rows_total), (2, 5));
        assert_eq!(table.notes[1], "only the 3 of 5 rows that the node told were looked through");
    }
}
