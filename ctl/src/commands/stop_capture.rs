//! `stop-capture`.

use std::io::Write;

use clap::Args;
use lastseen_proto::v1::{StopCaptureRequest, StopCaptureResponse};

use crate::Outcome;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::{self, View, escape, names};
use crate::rpc::{self, Fabric};

/// End a capture's window now. What was captured is kept and correlated.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ctl stop-capture $(ctl list-captures --limit 1 -o name)     # the newest
  ctl stop-capture c-7f3k && ctl follow-capture c-7f3k && ctl diff-nodes c-7f3k")]
pub struct Arguments {
    /// Capture id, as start-capture and list-captures print it.
    id: String,
}

pub(super) async fn run(arguments: Arguments, context: &Context, out: &mut dyn Write) -> Outcome {
    let fabric = Fabric::connect(&context.global).await?;
    let request = rpc::request(StopCaptureRequest { capture_id: arguments.id });
    let answer = fabric.captures().stop_capture(request).await;
    output::print(answer.map_err(|status| fabric.failed(&status))?.get_ref(), context, out)?;
    Ok(Exit::Done)
}

impl View for StopCaptureResponse {
    fn text(&self, _context: &Context) -> String {
        let capture = self.capture.clone().unwrap_or_default();
        format!("{} {}\n", escape::line(&capture.id), names::capture_state(capture.state))
    }

    fn names(&self) -> Vec<String> {
        self.capture.iter().map(|capture| capture.id.clone()).collect()
    }
}
