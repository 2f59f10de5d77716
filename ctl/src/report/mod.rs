//! A report for people: where packets were lost, how sure that is, and why.

mod header;
mod hops;
pub mod junit;
mod loss;
mod path;
mod summary;

use lastseen_proto::v1::{DiffReport, PathReport};

use crate::output::escape;
use crate::output::style::Style;

/// How much is shown, and how.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Every path with its hops, the slowest delays and examples of lost packets.
    pub wide: bool,
    /// Colour.
    pub style: Style,
}

/// Paths without a finding that get a line each. A busy fabric has thousands, and the findings must stay in sight.
const CLEAN_PATHS: usize = 10;

/// The whole report, each line with its line break.
pub fn text(report: &DiffReport, options: Options) -> String {
    let mut text = header::text(report, options);
    let mut after_block = true;
    let mut clean = 0;
    for path in &report.paths {
        let is_block = path::has_details(path, options);
        clean += usize::from(!is_block);
        if clean > CLEAN_PATHS && !is_block {
            continue;
        }
        if is_block || after_block {
            text.push('\n');
        }
        text += &path::text(path, options);
        after_block = is_block;
    }
    if let Some(hidden @ 1..) = clean.checked_sub(CLEAN_PATHS) {
        text += &format!("{} without a finding; -o wide shows all\n", plural(hidden as u64, "more path"));
    }
    if report.omitted_paths > 0 {
        let (omitted, id) = (plural(report.omitted_paths, "more path"), escape::line(&report.capture_id));
        text +=
            &format!("{omitted} not listed: capture with a narrower filter, or see `ctl list-flows {id}`\n");
    }
    text.push('\n');
    text + &summary::text(report, options)
}

/// One path with all its points, and what is known of each.
pub fn traced(path: &PathReport, style: Style) -> String {
    path::text(path, Options { wide: true, style })
}

/// `number` and the word for it, in the plural unless it is one.
fn plural(number: u64, word: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{} {word}{ending}", crate::output::units::count(number))
}

/// `left`, and `right` from `column` on, or after two blanks where `left` is longer.
fn aligned(left: &str, right: &str, column: usize) -> String {
    let gap = column.saturating_sub(left.chars().count()).max(2);
    format!("{left}{:gap$}{right}\n", "")
}
