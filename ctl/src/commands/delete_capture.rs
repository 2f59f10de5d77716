//! `delete-capture`.

use std::io::Write;

use clap::Args;
use lastseen_proto::v1::{DeleteCaptureRequest, DeleteCaptureResponse};

use crate::Outcome;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::{Format, escape, json};
use crate::rpc::{self, Fabric};

/// Remove a capture, its observations and its report.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ctl delete-capture c-7f3k
  ctl delete-capture $(ctl list-captures -o name | tail -1)   # the oldest")]
pub struct Arguments {
    /// Capture id, as list-captures prints it.
    id: String,
}

pub(super) async fn run(arguments: Arguments, context: &Context, out: &mut dyn Write) -> Outcome {
    let fabric = Fabric::connect(&context.global).await?;
    let request = rpc::request(DeleteCaptureRequest { capture_id: arguments.id.clone() });
    let answer = fabric.captures().delete_capture(request).await.map_err(|status| fabric.failed(&status))?;
    print(answer.into_inner(), &arguments.id, context, out)?;
    Ok(Exit::Done)
}

/// The answer is empty, so for people the id comes from the question.
fn print(
    answer: DeleteCaptureResponse,
    id: &str,
    context: &Context,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    match context.global.output {
        Format::Table | Format::Wide | Format::Junit => writeln!(out, "{} deleted", escape::line(id))?,
        Format::Json => writeln!(out, "{}", json::pretty(&answer)?)?,
        Format::Yaml => out.write_all(json::yaml(&answer)?.as_bytes())?,
        Format::Name => writeln!(out, "{}", escape::line(id))?,
    }
    Ok(())
}
