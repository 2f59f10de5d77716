//! `follow-capture`.

use std::io::Write;

use clap::Args;
use lastseen_proto::v1::WatchCaptureResponse;

use crate::Outcome;
use crate::context::Context;
use crate::follow::{self, Display};
use crate::output::{Format, json};
use crate::rpc::Fabric;

/// Follow a capture to its end. Exits with 0 if it completed on every node, with 2 otherwise.
///
/// With -o json each answer is printed on a line of its own as it comes, with -o yaml as a document of its own. An
/// interrupt ends the following, with exit code 2; the capture goes on.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ctl follow-capture $(ctl list-captures --limit 1 -o name)   # the newest
  ctl follow-capture c-7f3k -o json | jq -r .capture.state")]
pub struct Arguments {
    /// Capture id, as start-capture and list-captures print it.
    id: String,
}

pub(super) async fn run(arguments: Arguments, context: &Context, out: &mut dyn Write) -> Outcome {
    let fabric = Fabric::connect(&context.global).await?;
    let mut display = Display::new(context);
    let mut observe = |answer: &WatchCaptureResponse| {
        if let Some(capture) = &answer.capture {
            display.update(capture);
        }
        stream(answer, context, out)
    };
    let capture = follow::to_end(&fabric, &arguments.id, &mut observe).await?;
    drop(display);
    match context.global.output {
        Format::Table => out.write_all(super::show_capture::text(&capture, false).as_bytes())?,
        Format::Wide => out.write_all(super::show_capture::text(&capture, true).as_bytes())?,
        Format::Name => writeln!(out, "{}", crate::output::escape::line(&capture.id))?,
        Format::Json | Format::Yaml | Format::Junit => {}
    }
    follow::outcome(&capture)
}

/// Prints an answer at once where programs read along.
fn stream(answer: &WatchCaptureResponse, context: &Context, out: &mut dyn Write) -> anyhow::Result<()> {
    match context.global.output {
        Format::Json => writeln!(out, "{}", json::compact(answer)?)?,
        Format::Yaml => write!(out, "---\n{}", json::yaml(answer)?)?,
        Format::Table | Format::Wide | Format::Name | Format::Junit => {}
    }
    Ok(())
}
