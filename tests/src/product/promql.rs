//! What PromQL expressions ask for: names and labels. Their grammar is promtool's business.

use std::collections::BTreeSet;

/// A name in an expression, and the labels it is selected by, with the values that `=` and `=~` name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    /// Name of the metric.
    pub name: String,
    /// Label and wanted values.
    pub matchers: Vec<(String, Vec<String>)>,
}

/// Every metric of ours and of the process, and `up`, in the order of the text.
pub fn selectors(expression: &str) -> Vec<Selector> {
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(start) = rest.find(is_word) {
        let (word, after) = split_word(&rest[start..]);
        let is_metric = word == "up" || word.starts_with("lastseen_") || word.starts_with("process_");
        rest = after;
        if is_metric {
            let braces = after.strip_prefix('{').and_then(|after| after.split_once('}'));
            let matchers = braces.map(|(inside, _)| matchers(inside)).unwrap_or_default();
            rest = braces.map_or(after, |(_, after)| after);
            found.push(Selector { name: word.to_owned(), matchers });
        } else if let Some(quoted) = after.strip_prefix('"') {
            rest = quoted.split_once('"').map_or("", |(_, after)| after);
        }
    }
    found
}

/// Labels that results are grouped by.
pub fn groupings(expression: &str) -> BTreeSet<String> {
    let lists = expression.split("by (").skip(1).filter_map(|rest| rest.split(')').next());
    lists.flat_map(|list| list.split(',')).map(|label| label.trim().to_owned()).collect()
}

/// `label="value"`, `label=~"one|other"` and their opposites.
fn matchers(inside: &str) -> Vec<(String, Vec<String>)> {
    let matcher = |text: &str| {
        let (label, value) = text.split_once(['=', '!'])?;
        let value = value.trim_start_matches(['=', '~']).trim_matches('"');
        Some((label.trim().to_owned(), value.split('|').map(str::to_owned).collect()))
    };
    inside.split(',').filter_map(matcher).collect()
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn split_word(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c| !is_word(c)).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_matchers_and_groupings_are_found() {
        let text = r#"sum by (instance, le) (rate(lastseen_a_total{outcome=~"x|y", job!="z"}[5m])) / up{job="j"} > process_b"#;
        let found = selectors(text);
        let names: Vec<_> = found.iter().map(|selector| selector.name.as_str()).collect();
        assert_eq!(names, ["lastseen_a_total", "up", "process_b"]);
        let wanted = |label: &str, values: &[&str]| {
            (label.to_owned(), values.iter().map(|&value| value.to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(found[0].matchers, [wanted("outcome", &["x", "y"]), wanted("job", &["z"])]);
        assert_eq!(groupings(text).into_iter().collect::<Vec<_>>(), ["instance", "le"]);
    }
}
