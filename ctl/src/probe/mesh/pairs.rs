//! The worst pairs first: those that lose most, then the slowest.

use super::{Pair, Run};
use crate::output::table::Table;
use crate::output::units;

/// Pairs that are listed unless all are wanted.
const SHOWN: usize = 20;

pub(super) fn text(run: &Run, is_wide: bool) -> String {
    let mut pairs: Vec<&Pair> = run.pairs.iter().collect();
    pairs.sort_by(|a, b| {
        let slowness = |pair: &Pair| pair.summary.median().unwrap_or_default();
        b.lost().total_cmp(&a.lost()).then_with(|| slowness(b).cmp(&slowness(a)))
    });
    let losing = pairs.iter().filter(|pair| pair.is_losing()).count();
    let mut table = Table::new(&["FROM", "TO", ">LOST", ">MEDIAN", ">MAX", "RESULT"]);
    let shown = if is_wide { pairs.len() } else { SHOWN };
    for pair in pairs.iter().take(shown) {
        let delay = |nanos: Option<u64>| nanos.map_or_else(String::new, |nanos| units::delay(nanos as i64));
        table.row([
            run.names[pair.from].clone(),
            run.names[pair.to].clone(),
            units::percent(pair.lost()),
            delay(pair.summary.median()),
            delay(pair.summary.most()),
            pair.words.clone(),
        ]);
    }
    let all = units::count(pairs.len() as u64);
    let rest = pairs.len().saturating_sub(shown);
    let rest = if rest == 0 {
        String::new()
    } else {
        format!("; {} more are not shown here, see -o wide", units::count(rest as u64))
    };
    format!("{}{all} pairs: {} lose{rest}\n", table.text(), units::count(losing as u64))
}
