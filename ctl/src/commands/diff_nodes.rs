//! `diff-nodes`.

use std::io::Write;

use anyhow::bail;
use clap::Args;
use lastseen_proto::v1::diff_report::Verdict;
use lastseen_proto::v1::{DiffNodesRequest, DiffReport};

use crate::Outcome;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::{self, Format, View};
use crate::parse;
use crate::report::{self, Options};
use crate::rpc::{self, Fabric};

/// Report where packets disappeared.
///
/// Exits with 0 if nothing was lost above the threshold, with 1 if something was, with 2 if the report could not be
/// made, and with 3 if too much could not be observed to tell. On a running capture the report covers what has passed
/// the guard and says `partial`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ctl diff-nodes                              # the newest capture
  ctl diff-nodes -o wide                      # every path with its hops, and examples of lost packets
  ctl diff-nodes c-7f3k --from node-a --to 10.244.2.10 --min-loss 0.1%
  ctl diff-nodes -o junit > report.xml        # a test case per path, for CI
  ctl diff-nodes -o json | jq '.paths[].losses[].cause.text'")]
pub struct Arguments {
    /// Capture id; the newest capture without it.
    #[arg(default_value = "", hide_default_value = true)]
    id: String,
    /// Only paths from this node or address.
    #[arg(long, value_name = "NODE|IP", default_value = "", hide_default_value = true)]
    from: String,
    /// Only paths to this node or address.
    #[arg(long, value_name = "NODE|IP", default_value = "", hide_default_value = true)]
    to: String,
    /// Share of a path's segments that must be lost to count, such as 0.1%. Any loss counts without it.
    #[arg(long, value_name = "SHARE", value_parser = parse::ratio)]
    min_loss: Option<f64>,
}

pub(super) async fn run(arguments: Arguments, context: &Context, out: &mut dyn Write) -> Outcome {
    let fabric = Fabric::connect(&context.global).await?;
    let request = DiffNodesRequest {
        capture_id: arguments.id,
        from: arguments.from,
        to: arguments.to,
        min_loss_ratio: arguments.min_loss,
    };
    let asking = fabric.again(|| {
        let (mut client, request) = (fabric.analysis(), rpc::analysis_request(request.clone()));
        async move { client.diff_nodes(request).await }
    });
    let report = asking.await.map_err(|status| fabric.failed(&status))?;
    show(report.get_ref(), arguments.min_loss, context, out)
}

/// Writes a report in the form that was asked for and turns its verdict into an exit code.
pub(super) fn show(
    report: &DiffReport,
    min_loss: Option<f64>,
    context: &Context,
    out: &mut dyn Write,
) -> Outcome {
    match context.global.output {
        Format::Junit => writeln!(out, "{}", report::junit::text(report, min_loss.unwrap_or(0.0))?)?,
        _ => output::print(report, context, out)?,
    }
    judge(report)
}

fn judge(report: &DiffReport) -> Outcome {
    match Verdict::try_from(report.verdict) {
        Ok(Verdict::Delivered) => Ok(Exit::Done),
        Ok(Verdict::Lost) => Ok(Exit::Loss),
        Ok(Verdict::Inconclusive) => Ok(Exit::Unsure),
        Ok(Verdict::Unspecified) | Err(_) => {
            bail!("the report carries no verdict this ctl knows; use a newer ctl")
        }
    }
}

impl View for DiffReport {
    fn text(&self, context: &Context) -> String {
        let wide = context.global.output == Format::Wide;
        report::text(self, Options { wide, style: context.style })
    }

    fn names(&self) -> Vec<String> {
        vec![self.capture_id.clone()]
    }
}
