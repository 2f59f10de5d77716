//! `diff-probes`.

use std::io::Write;

use anyhow::{Context as _, bail};
use clap::Args;
use lastseen_proto::v1::probe_diff::Verdict;
use lastseen_proto::v1::{DiffProbeRequest, ProbeAspect, ProbeDiff, ProbeDifference};

use crate::Outcome;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::table::Table;
use crate::output::{self, View};
use crate::rpc::{self, Fabric};
use crate::{parse, probe};

/// Say which sources of a probe found something else than the others.
///
/// Exits with 0 if all found the same, with 1 if some did not, with 2 if it could not be done, and with 3 if there was too
/// little to compare.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ctl diff-probes                          # the newest probe
  ctl diff-probes p-7f3kab --runs 20       # the last 20 runs of a scheduled one together
  ctl diff-probes -o json | jq .verdict")]
pub struct Arguments {
    /// Probe id, as run-probe and list-probes print it; the newest probe without it.
    #[arg(default_value = "", hide_default_value = true)]
    id: String,
    /// How many of the newest runs of a scheduled probe.
    #[arg(long, value_name = "N", default_value = "1", value_parser = parse::whole(1_u32, 100))]
    runs: u32,
}

pub(super) async fn run(arguments: Arguments, context: &Context, out: &mut dyn Write) -> Outcome {
    let fabric = Fabric::connect(&context.global).await?;
    let request = DiffProbeRequest { probe_id: arguments.id, runs: arguments.runs };
    let answer = fabric.probes().diff_probe(rpc::request(request)).await;
    let answer = answer.map_err(|status| fabric.failed(&status))?.into_inner();
    let diff = answer.diff.context("the coordinator compared nothing; is it of another version?")?;
    output::print(&diff, context, out)?;
    match diff.verdict() {
        Verdict::Alike => Ok(Exit::Done),
        Verdict::Different => Ok(Exit::Loss),
        Verdict::Inconclusive => Ok(Exit::Unsure),
        Verdict::Unspecified => bail!("the answer carries no verdict this ctl knows; use a newer ctl"),
    }
}

impl View for ProbeDiff {
    fn text(&self, _: &Context) -> String {
        let mut text = String::new();
        if !self.differences.is_empty() {
            let mut table = Table::new(&["TARGET", "SOURCE", "DIFFERS IN", "FOUND", "OTHERS FOUND"]);
            for difference in &self.differences {
                table.row(row(difference));
            }
            text += &table.text();
            text.push('\n');
        }
        let verdict = match self.verdict() {
            Verdict::Alike => "all sources found the same",
            Verdict::Different => "some sources found something else than the others",
            Verdict::Inconclusive | Verdict::Unspecified => "too little to compare",
        };
        text += &format!(
            "{}: {verdict}; {} sources, {} targets compared\n",
            self.probe_id, self.sources, self.targets
        );
        for note in &self.notes {
            text += &format!("note: {}\n", output::escape::line(note));
        }
        text
    }

    fn names(&self) -> Vec<String> {
        let names = self.differences.iter().map(|difference| probe::source(difference.source.as_ref()));
        let mut names: Vec<String> = names.collect();
        names.sort();
        names.dedup();
        names
    }
}

fn row(difference: &ProbeDifference) -> [String; 5] {
    let aspect = match difference.aspect() {
        ProbeAspect::Outcome => "outcome",
        ProbeAspect::Finding => "finding",
        ProbeAspect::Delay => "delay",
        ProbeAspect::Unspecified => "",
    };
    let others = match (difference.agreeing, difference.others.as_str()) {
        (0, _) => "no majority".to_owned(),
        (agreeing, "") => format!("nothing ({agreeing} of {})", difference.compared),
        (agreeing, others) => format!("{others} ({agreeing} of {})", difference.compared),
    };
    [
        difference.target.clone(),
        probe::source(difference.source.as_ref()),
        aspect.to_owned(),
        difference.found.clone(),
        others,
    ]
}
