//! Output: what a person sees, and the same data for programs.

pub mod escape;
pub mod json;
pub mod names;
pub mod style;
pub mod table;
pub mod units;

use std::io::Write;

use clap::ValueEnum;

use crate::context::Context;
use crate::output::json::Response;

/// Form of the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For people, with more columns.
    Wide,
    /// Canonical proto3 JSON of the answer.
    Json,
    /// The same data as YAML.
    Yaml,
    /// Names or ids alone, one a line.
    Name,
    /// `JUnit` XML, a test case per path: reports only.
    Junit,
}

/// How an answer looks to a person.
pub trait View {
    /// Complete lines, each with its line break. Untrusted text in it is escaped.
    fn text(&self, context: &Context) -> String;
    /// The names or ids in it.
    fn names(&self) -> Vec<String>;
}

/// Writes `response` in the form that was asked for.
pub fn print<R: Response + View>(response: &R, context: &Context, out: &mut dyn Write) -> anyhow::Result<()> {
    match context.global.output {
        Format::Table | Format::Wide | Format::Junit => out.write_all(response.text(context).as_bytes())?,
        Format::Json => writeln!(out, "{}", json::pretty(response)?)?,
        Format::Yaml => out.write_all(json::yaml(response)?.as_bytes())?,
        Format::Name => {
            for name in response.names() {
                writeln!(out, "{}", escape::line(&name))?;
            }
        }
    }
    Ok(())
}

/// Lines of `name: value` with the values below each other. Empty values are left out.
pub fn facts(facts: &[(&str, String)]) -> String {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 2;
    let known = facts.iter().filter(|(_, value)| !value.is_empty());
    known.map(|(name, value)| format!("{name:<width$}{}\n", escape::line(value))).collect()
}
