//! What each source says of the others and they of it, and whom that points at.

use super::{Pair, Run};
use crate::output::table::Table;
use crate::output::{escape, units};

/// Sources that are listed unless all are wanted, if there are too many for a matrix.
const SHOWN: usize = 20;

pub(super) fn text(run: &Run, is_wide: bool) -> String {
    let mut views: Vec<View<'_>> = (0..run.names.len()).map(|at| View::of(run, at)).collect();
    views.sort_by_key(|view| std::cmp::Reverse(view.to.losing() + view.from.losing()));
    let is_long = run.names.len() > super::MATRIX && !is_wide;
    let shown = if is_long { SHOWN } else { views.len() };
    let mut table =
        Table::new(&["SOURCE", ">LOSE TO IT", ">LOST", ">MEDIAN", ">IT LOSES TO", ">LOST", ">MEDIAN"]);
    for view in views.iter().take(shown) {
        let [to, from] = [&view.to, &view.from].map(Side::cells);
        table.row(std::iter::once(view.name.to_owned()).chain(to).chain(from));
    }
    let rest = views.len().saturating_sub(shown);
    let rest = if rest == 0 { String::new() } else { format!("{rest} more are no worse, see -o wide\n") };
    format!("{}{rest}{}", table.text(), verdict(run))
}

/// One source, as target and as source.
struct View<'a> {
    name: &'a str,
    to: Side<'a>,
    from: Side<'a>,
}

/// Pairs that have it at one end.
struct Side<'a>(Vec<&'a Pair>);

impl<'a> View<'a> {
    fn of(run: &'a Run, at: usize) -> Self {
        let side = |is: fn(&Pair) -> usize| Side(run.pairs.iter().filter(|pair| is(pair) == at).collect());
        Self { name: &run.names[at], to: side(|pair| pair.to), from: side(|pair| pair.from) }
    }
}

impl Side<'_> {
    fn losing(&self) -> usize {
        self.0.iter().filter(|pair| pair.is_losing()).count()
    }

    fn is_mostly_losing(&self) -> bool {
        2 * self.losing() > self.0.len()
    }

    fn cells(&self) -> [String; 3] {
        if self.0.is_empty() {
            return Default::default();
        }
        let lost = self.0.iter().map(|pair| pair.lost()).sum::<f64>() / self.0.len() as f64;
        let mut delays: Vec<u64> = self.0.iter().filter_map(|pair| pair.summary.median()).collect();
        delays.sort_unstable();
        let median =
            delays.get(delays.len() / 2).map_or_else(String::new, |nanos| units::delay(*nanos as i64));
        [format!("{} of {}", self.losing(), self.0.len()), units::percent(lost), median]
    }
}

/// Who explains the losses: the one with most of them, then the one with most of the rest, as long as most of what it has
/// to do with loses.
fn sick(run: &Run) -> Vec<usize> {
    let (mut sick, mut rest) =
        (Vec::new(), run.pairs.iter().filter(|pair| pair.is_losing()).collect::<Vec<_>>());
    // Of two nobody can tell which it is.
    while run.names.len() > 2 && !rest.is_empty() {
        let touches = |pair: &Pair, at: usize| pair.to == at || pair.from == at;
        let count = |at: usize| rest.iter().filter(|pair| touches(pair, at)).count();
        let candidates = (0..run.names.len()).filter(|at| {
            let view = View::of(run, *at);
            !sick.contains(at) && (view.to.is_mostly_losing() || view.from.is_mostly_losing())
        });
        let Some(worst) = candidates.max_by_key(|at| (count(*at), std::cmp::Reverse(*at))) else { break };
        if count(worst) < 2 {
            break;
        }
        sick.push(worst);
        rest.retain(|pair| !touches(pair, worst));
    }
    sick
}

fn verdict(run: &Run) -> String {
    let sick = sick(run);
    if sick.is_empty() {
        return String::new();
    }
    if 2 * sick.len() > run.names.len() {
        return "most sources lose: look at what they share\n".to_owned();
    }
    let line = |at: usize| {
        let view = View::of(run, at);
        let (to, from) = (&view.to, &view.from);
        format!(
            "look at {}: {} of {} that probe it lose, and it loses to {} of {}\n",
            escape::line(view.name),
            to.losing(),
            to.0.len(),
            from.losing(),
            from.0.len()
        )
    };
    sick.into_iter().map(line).collect()
}
