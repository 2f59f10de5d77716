//! What is served at `/metrics`, taken apart: names, types, labels and their values (OpenMetrics 1.0 §5).

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};

/// Labels whose values are not listed, because a release changes them, or a certificate or a probe holds them.
const FREE: &[&str] = &["version", "role", "name", "probe", "node", "netns", "target"];

/// A metric family.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Family {
    /// `counter`, `gauge`, `histogram` or `info`.
    pub kind: String,
    /// What it means.
    pub help: String,
    /// Values by label, but for `le`.
    pub labels: BTreeMap<String, BTreeSet<String>>,
}

/// Families by the name that a query uses: with `_total` of counters and `_info` of infos, without suffix of histograms.
pub type Families = BTreeMap<String, Family>;

/// Reads the body of an answer.
pub fn parse(text: &str) -> Result<Families> {
    let mut families = Families::new();
    let mut help = BTreeMap::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, words) =
                rest.split_once(' ').with_context(|| format!("help without words: {line}"))?;
            help.insert(name, words.trim_end_matches('.'));
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').with_context(|| format!("no type: {line}"))?;
            let help = (*help.get(name).with_context(|| format!("{name} has no help"))?).to_owned();
            let suffix = suffixes(kind).first().filter(|_| kind != "histogram").copied().unwrap_or_default();
            let family = Family { kind: kind.to_owned(), help, ..Family::default() };
            if families.insert(format!("{name}{suffix}"), family).is_some() {
                bail!("{name} is served twice");
            }
        } else if !line.starts_with('#') && !line.is_empty() {
            let (name, labels) = sample(line).with_context(|| format!("no sample: {line}"))?;
            let family = of_sample(&mut families, name).with_context(|| format!("{name} has no type"))?;
            for (label, value) in labels.into_iter().filter(|(label, _)| *label != "le") {
                family.labels.entry(label.to_owned()).or_default().insert(value.to_owned());
            }
        }
    }
    Ok(families)
}

/// The family that a name in a query belongs to.
pub fn family<'f>(families: &'f Families, name: &str) -> Option<&'f Family> {
    let of_histogram = suffixes("histogram").iter().find_map(|suffix| name.strip_suffix(suffix));
    let histogram =
        of_histogram.and_then(|name| families.get(name)).filter(|found| found.kind == "histogram");
    families.get(name).filter(|found| found.kind != "histogram").or(histogram)
}

fn of_sample<'f>(families: &'f mut Families, name: &str) -> Option<&'f mut Family> {
    let stem = suffixes("histogram").iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
    let name = if families.contains_key(name) { name } else { stem };
    families.get_mut(name)
}

fn suffixes(kind: &str) -> &'static [&'static str] {
    match kind {
        "counter" => &["_total"],
        "info" => &["_info"],
        "histogram" => &["_bucket", "_sum", "_count"],
        _ => &[],
    }
}

type Labels<'l> = Vec<(&'l str, &'l str)>;

/// `name{label="value",…} number`. No value here holds a quote.
fn sample<'l>(line: &'l str) -> Option<(&'l str, Labels<'l>)> {
    let Some((name, rest)) = line.split_once('{') else { return Some((line.split_once(' ')?.0, Vec::new())) };
    let (inside, _) = rest.rsplit_once('}')?;
    let pair = |pair: &'l str| pair.split_once('=').map(|(label, value)| (label, value.trim_matches('"')));
    let labels: Option<Labels<'l>> = inside.split(',').filter(|part| !part.is_empty()).map(pair).collect();
    Some((name, labels?))
}

/// A family as a row of the table in docs/METRICS.md.
pub fn row(name: &str, family: &Family) -> String {
    let values = |(label, values): (&String, &BTreeSet<String>)| {
        let values: Vec<_> = values.iter().map(|value| format!("`{value}`")).collect();
        let values = if FREE.contains(&label.as_str()) { "any".to_owned() } else { values.join(" ") };
        format!("`{label}`: {values}")
    };
    let labels = family.labels.iter().map(values).collect::<Vec<_>>().join("; ");
    let stem = name.trim_end_matches("_total");
    let unit = [("_seconds", "s"), ("_bytes", "bytes")].into_iter().find(|(end, _)| stem.ends_with(end));
    let unit = unit.map_or("", |(_, unit)| unit);
    format!("| `{name}` | {} | {labels} | {unit} | {} |", family.kind, family.help)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVED: &str = "# HELP a_visits Visits.\n# TYPE a_visits counter\na_visits_total{door=\"back\"} 1\n\
                          a_visits_total{door=\"front\"} 2\n# HELP a_wait_seconds Wait.\n# TYPE a_wait_seconds histogram\n\
                          a_wait_seconds_sum 0.0\na_wait_seconds_bucket{le=\"1.0\"} 0\n# EOF\n";

    #[test]
    fn names_are_those_of_queries_and_labels_come_with_their_values() {
        let families = parse(SERVED).unwrap();
        let rows: Vec<_> = families.iter().map(|(name, family)| row(name, family)).collect();
        assert_eq!(
            rows,
            [
                "| `a_visits_total` | counter | `door`: `back` `front` |  | Visits |",
                "| `a_wait_seconds` | histogram |  | s | Wait |"
            ]
        );
        for (name, is_known) in [
            ("a_visits_total", true),
            ("a_visits", false),
            ("a_wait_seconds_bucket", true),
            ("a_wait_seconds", false),
            ("a_visits_total_sum", false),
        ] {
            assert_eq!(family(&families, name).is_some(), is_known, "{name}");
        }
    }
}
