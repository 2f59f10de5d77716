//! What a run comes to, for people: the method and what it is without each idea, legs that were confused, and how far
//! confidence can be trusted.

use lastseen_ctl::output::table::Table;

use super::results::{AblationResult, NotObservable, Results, Totals};
use crate::calibration::{Misses, Sweep};
use crate::probed::results::Probed;
use crate::traced::results::Traces;

/// Scenarios named of those that fail without an idea.
const NAMED: usize = 5;
/// How lines of the table are called.
const METHOD: &str = "the method";

impl Results {
    /// Takes over what confidence is worth over synthetic mixtures of network and capture loss.
    pub fn calibrate(&mut self, sweep: &Sweep) {
        self.totals.brier = Some(sweep.total.brier());
        let row = |row: &crate::calibration::Row| NotObservable {
            capture_loss: row.capture,
            is_declared: row.misses == Misses::Declared,
            unseen: row.score.unseen,
            called_lost: row.score.false_losses,
        };
        self.not_observable = sweep.rows.iter().map(row).collect();
    }
}

/// The tables, one below the other.
pub fn text(results: &Results, sweep: &Sweep) -> String {
    format!(
        "{}\n{}\nconfidence of losses over mixtures of network and capture loss\n{sweep}\n{}\n{}\n{}",
        methods(results),
        confusion(results),
        line(&results.totals),
        traced(&results.trace_path),
        probed(&results.probes)
    )
}

/// A line for the method, and one without each idea.
fn methods(results: &Results) -> String {
    let headers = [
        "METHOD",
        ">PASSED",
        ">PRECISION",
        ">RECALL",
        ">TOP-1",
        ">FALSE",
        ">FALSE RATE",
        ">DATAGRAMS",
        ">MISSED",
        ">WRONG",
        ">CLOCK",
    ];
    let mut table = Table::new(&headers);
    table.row(cells(METHOD, &results.totals));
    for one in &results.ablations {
        table.row(cells(&one.without, &one.totals));
    }
    let hurt: String = results.ablations.iter().map(hurt).collect();
    let heading = if hurt.is_empty() { "" } else { "\nfail without it\n" };
    format!("{}{heading}{hurt}", table.text())
}

/// Scenarios that fail without an idea, the first few by name.
fn hurt(one: &AblationResult) -> String {
    if one.hurt.is_empty() {
        return String::new();
    }
    let mut lines = vec![format!("  {}", one.without)];
    lines.extend(one.hurt.iter().take(NAMED).map(|name| format!("    {name}")));
    lines.extend(one.hurt.len().checked_sub(NAMED + 1).map(|more| format!("    and {} more", more + 1)));
    lines.join("\n") + "\n"
}

fn cells(method: &str, totals: &Totals) -> [String; 11] {
    [
        method.to_owned(),
        format!("{} of {}", totals.passed, totals.scenarios),
        share(totals.loss_precision),
        share(totals.loss_recall),
        share(totals.hop_top1),
        totals.false_losses.to_string(),
        share(totals.false_loss_rate),
        totals.datagrams_lost.to_string(),
        (totals.datagrams_lost - totals.datagrams_right).to_string(),
        totals.datagrams_wrong.to_string(),
        format!("{:.3} ms", totals.clock_error_nanos_max as f64 / 1e6),
    ]
}

fn share(share: Option<f64>) -> String {
    share.map_or(String::new(), |share| format!("{share:.4}"))
}

fn confusion(results: &Results) -> String {
    if results.confusion.is_empty() {
        return "every lost segment is on the leg that lost it\n".to_owned();
    }
    let mut table = Table::new(&["LOST ON", "REPORTED ON", ">SEGMENTS"]);
    for cell in &results.confusion {
        table.row([cell.expected.clone(), cell.found.clone(), cell.segments.to_string()]);
    }
    table.text()
}

fn traced(Traces { scenarios, passed, .. }: &Traces) -> String {
    format!("{scenarios} traced paths, {passed} passed")
}

fn probed(Probed { scenarios, passed, .. }: &Probed) -> String {
    format!("probes of every kind through {scenarios} faults, {passed} passed")
}

fn line(totals: &Totals) -> String {
    let Totals { scenarios, passed, skipped, false_losses, .. } = totals;
    let percent =
        |share: Option<f64>| share.map_or("–".to_owned(), |share| format!("{:.2} %", share * 100.0));
    format!(
        "{scenarios} scenarios, {passed} passed, {skipped} skipped; leg named {}; loss precision {}, recall {}; \
         {false_losses} false losses; Brier {}",
        percent(totals.hop_top1),
        percent(totals.loss_precision),
        percent(totals.loss_recall),
        totals.brier.map_or("–".to_owned(), |brier| format!("{brier:.4}")),
    )
}
