//! The table of a path's observation points.

use lastseen_proto::v1::{Hop, PathReport};

use super::Options;
use crate::output::style::Style;
use crate::output::{escape, names, units};

const NONE: &str = "–";

/// One point in words.
struct Row {
    number: String,
    left: [String; 4],
    seen: String,
    lost: String,
    marker: String,
    delays: Vec<String>,
    /// TTL and MTU, of a traced path.
    traced: Vec<String>,
    remark: String,
}

/// How wide each column is, in characters.
struct Widths {
    number: usize,
    left: [usize; 4],
    seen: usize,
    lost: usize,
    marker: usize,
    delay: usize,
}

/// Widths of [`Row::traced`].
const TRACED_WIDTHS: [usize; 2] = [5, 5];
const LEFT_HEADERS: [&str; 4] = ["node", "interface", "dir", "sees"];

pub(super) fn text(path: &PathReport, options: Options) -> String {
    let is_in_pieces = path.in_pieces.is_some();
    let is_traced = path.hops.iter().any(|hop| hop.mtu.is_some() || hop.minimum_ttl.is_some());
    let row = |(i, hop)| {
        let row = row(i + 1, hop, options.wide, is_traced);
        // Pieces differ in length: a share of them is none of the traffic.
        let marker = if is_in_pieces && !row.marker.is_empty() { " ◀".to_owned() } else { row.marker };
        Row { marker, ..row }
    };
    let rows: Vec<Row> = path.hops.iter().enumerate().map(row).collect();
    let widths = widths(&rows, options.wide);
    let unit = if is_in_pieces { "pieces" } else { "segments" };
    let mut text = header(&widths, options.wide, is_traced, unit);
    for row in &rows {
        text += &line(row, &widths, options.style);
    }
    text
}

fn row(number: usize, hop: &Hop, wide: bool, is_traced: bool) -> Row {
    let escaped = |text: &str| escape::line(text).into_owned();
    let lost = hop.missing_after;
    let share = lost as f64 / hop.seen.max(1) as f64;
    let delay = |nanos: Option<i64>| nanos.map_or_else(|| NONE.to_owned(), units::delay);
    let mut delays = vec![delay(hop.delay_p50_nanos)];
    delays.extend(wide.then(|| delay(hop.delay_p99_nanos)));
    Row {
        number: number.to_string(),
        left: [
            escaped(&hop.node),
            escaped(&hop.interface),
            names::direction(hop.direction),
            escaped(&hop.view),
        ],
        seen: units::count(hop.seen),
        lost: if lost == 0 { NONE.to_owned() } else { units::count(lost) },
        marker: if lost == 0 { String::new() } else { format!(" ◀ {}", units::percent(share)) },
        delays,
        traced: if is_traced {
            vec![ttl(hop), hop.mtu.map_or_else(|| NONE.to_owned(), |mtu| mtu.to_string())]
        } else {
            Vec::new()
        },
        remark: remark(hop),
    }
}

/// `63`, or `62-63`.
fn ttl(hop: &Hop) -> String {
    match (hop.minimum_ttl, hop.maximum_ttl) {
        (Some(least), Some(most)) if least < most => format!("{least}-{most}"),
        (Some(ttl), _) => ttl.to_string(),
        (None, _) => NONE.to_owned(),
    }
}

fn remark(hop: &Hop) -> String {
    match (hop.blind_ratio > 0.0, hop.bypassed) {
        (true, _) => format!("blind {}", units::percent(hop.blind_ratio)),
        (false, true) => "bypassed".to_owned(),
        (false, false) => String::new(),
    }
}

fn widths(rows: &[Row], wide: bool) -> Widths {
    let widest = |least: usize, text: &dyn Fn(&Row) -> &str| {
        rows.iter().map(|row| text(row).chars().count()).max().unwrap_or(0).max(least)
    };
    let least_delay = if wide { 9 } else { 6 };
    let delays = rows.iter().flat_map(|row| &row.delays).map(|delay| delay.chars().count()).max();
    Widths {
        number: widest(1, &|row| &row.number),
        left: [
            widest(4, &|row| &row.left[0]),
            widest(10, &|row| &row.left[1]),
            widest(3, &|row| &row.left[2]),
            widest(11, &|row| &row.left[3]),
        ],
        seen: widest(8, &|row| &row.seen),
        lost: widest(6, &|row| &row.lost),
        marker: widest(8, &|row| &row.marker),
        delay: delays.unwrap_or(0).max(least_delay),
    }
}

fn header(widths: &Widths, wide: bool, is_traced: bool, unit: &str) -> String {
    let mut line = format!("  {:>1$}", "#", widths.number);
    for (header, width) in LEFT_HEADERS.iter().zip(widths.left) {
        line += &format!("  {header:<width$}");
    }
    line += &format!("  {unit:>0$}", widths.seen);
    line += &format!("   {:<1$}", "lost after", widths.lost + widths.marker);
    line += &format!(" {:<1$}", "p50 delay", widths.delay);
    if wide {
        line += "  p99 delay";
    }
    if is_traced {
        for (header, width) in ["ttl", "mtu"].iter().zip(TRACED_WIDTHS) {
            line += &format!("  {header:>width$}");
        }
    }
    format!("{}\n", line.trim_end())
}

fn line(row: &Row, widths: &Widths, style: Style) -> String {
    let mut line = format!("  {:>1$}", row.number, widths.number);
    for (cell, width) in row.left.iter().zip(widths.left) {
        line += &format!("  {cell:<width$}");
    }
    line += &format!("  {:>1$}", row.seen, widths.seen);
    let (lost, marker) =
        (format!("{:>1$}", row.lost, widths.lost), format!("{:<1$}", row.marker, widths.marker));
    let is_lossy = !row.marker.is_empty();
    line +=
        &if is_lossy { format!("   {}", style.bad(&(lost + &marker))) } else { format!("   {lost}{marker}") };
    for (i, delay) in row.delays.iter().enumerate() {
        line += &format!("{:1$}{delay:>2$}", "", i + 1, widths.delay);
    }
    for (cell, width) in row.traced.iter().zip(TRACED_WIDTHS) {
        line += &format!("  {cell:>width$}");
    }
    if !row.remark.is_empty() {
        line += &format!("  {}", style.doubtful(&row.remark));
    }
    format!("{}\n", line.trim_end())
}
