//! `show-probe`.

use std::io::Write;

use clap::Args;
use lastseen_proto::v1::{GetProbeRequest, GetProbeResponse};

use crate::Outcome;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::{self, Format, View, names};
use crate::rpc::{self, Fabric};
use crate::{parse, probe};

/// Show one probe and what its newest runs found.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ctl show-probe                                              # the newest
  ctl show-probe p-7f3kab --runs 10
  ctl show-probe p-7f3kab -o json | jq '.probe.reports[].results'")]
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
    let request = rpc::request(GetProbeRequest { probe_id: arguments.id, runs: arguments.runs });
    let answer = fabric.probes().get_probe(request).await;
    output::print(answer.map_err(|status| fabric.failed(&status))?.get_ref(), context, out)?;
    Ok(Exit::Done)
}

impl View for GetProbeResponse {
    fn text(&self, context: &Context) -> String {
        let is_wide = context.global.output == Format::Wide;
        self.probe.as_ref().map_or_else(String::new, |probe| probe::text(probe, is_wide))
    }

    fn names(&self) -> Vec<String> {
        names::of_probe(self.probe.as_ref())
    }
}
