//! `stop-probe`.

use std::io::Write;

use clap::Args;
use lastseen_proto::v1::{StopProbeRequest, StopProbeResponse};

use crate::Outcome;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::{self, View, escape, names};
use crate::rpc::{self, Fabric};

/// End a probe. What was reported is kept.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ctl stop-probe p-7f3kab
  ctl stop-probe $(ctl list-probes --limit 1 -o name)         # the newest")]
pub struct Arguments {
    /// Probe id, as run-probe and list-probes print it.
    id: String,
}

pub(super) async fn run(arguments: Arguments, context: &Context, out: &mut dyn Write) -> Outcome {
    let fabric = Fabric::connect(&context.global).await?;
    let request = rpc::request(StopProbeRequest { probe_id: arguments.id });
    let answer = fabric.probes().stop_probe(request).await;
    output::print(answer.map_err(|status| fabric.failed(&status))?.get_ref(), context, out)?;
    Ok(Exit::Done)
}

impl View for StopProbeResponse {
    fn text(&self, _context: &Context) -> String {
        let probe = self.probe.clone().unwrap_or_default();
        format!("{} {}\n", escape::line(&probe.id), names::probe_state(probe.state))
    }

    fn names(&self) -> Vec<String> {
        names::of_probe(self.probe.as_ref())
    }
}
