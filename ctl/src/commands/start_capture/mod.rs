//! `start-capture`.

mod dry_run;
mod job;

use std::io::Write;
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use jiff::Timestamp;
use lastseen_proto::limits::SNAP_LENGTH;
use lastseen_proto::v1::{
    Capture, CaptureSpec, CaptureState, StartCaptureRequest, StartCaptureResponse, WatchCaptureResponse,
};
use uuid::Uuid;

use crate::Outcome;
use crate::context::Context;
use crate::exit::Exit;
use crate::follow::{self, Display};
use crate::output::{self, Format, View, escape};
use crate::parse;
use crate::rpc::{self, Fabric};

/// Capture on many nodes in one window, and follow it to its end.
///
/// Arms every node, starts once all are armed and, unless --no-wait is given, follows to the end. Prints the capture's
/// id last; -o name prints it alone. Exits with 0 if the capture completed on every node asked for, with 2 otherwise.
/// An interrupt ends the following, with exit code 2; the capture goes on.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ctl start-capture --all-nodes
  ctl start-capture --nodes node-a,node-b --filter 'host 10.244.2.10 and tcp port 80' --duration 30s
  id=$(ctl start-capture --all-nodes --duration 10s -q -o name) && ctl diff-nodes $id")]
#[command(group = clap::ArgGroup::new("where").required(true).args(["all_nodes", "nodes"]))]
pub struct Arguments {
    /// Capture on every node. One that is offline fails at once, and after a day is taken for removed.
    #[arg(long)]
    all_nodes: bool,
    /// Capture on these nodes.
    #[arg(long, value_delimiter = ',', value_name = "NODE")]
    nodes: Vec<String>,
    /// What to capture, in terms of the pods' packets: a pcap-filter(7) expression that holds inside tunnels too.
    #[arg(long, value_name = "BPF", value_parser = filter)]
    filter: Option<String>,
    /// Where to capture: auto, or interface names.
    #[arg(long, value_delimiter = ',', value_name = "NAME", default_value = "auto")]
    interfaces: Vec<String>,
    /// How long to capture; 60s unless given.
    #[arg(long, value_parser = parse::duration, value_name = "DURATION")]
    duration: Option<Duration>,
    /// Stop a node after this many packets.
    #[arg(long, value_name = "N", value_parser = parse::positive::<u64>)]
    max_packets: Option<u64>,
    /// Stop a node after this many captured bytes, for example 64MiB.
    #[arg(long, value_name = "N", value_parser = parse::bytes)]
    max_bytes: Option<u64>,
    /// Begin at this time, for example 2026-03-01T14:03:20Z. Without it: as soon as all nodes are armed.
    #[arg(long, value_name = "RFC3339", value_parser = parse::instant)]
    start_at: Option<Timestamp>,
    /// Begin this long from now, by this machine's clock.
    #[arg(long, value_name = "DURATION", value_parser = parse::duration, conflicts_with = "start_at")]
    start_in: Option<Duration>,
    /// Bytes of each packet that are looked at; 192 unless given.
    #[arg(long, value_name = "N", value_parser = parse::whole(*SNAP_LENGTH.start(), *SNAP_LENGTH.end()))]
    snaplen: Option<u32>,
    /// Record 1 in N segments, for example 1/100: those that a hash chooses, the same at every node.
    #[arg(long, value_name = "1/N", value_parser = parse::one_in)]
    sample: Option<u32>,
    /// A name to find it by; need not be unique.
    #[arg(long, value_name = "S", default_value = "", hide_default_value = true)]
    name: String,
    /// A label; may be repeated.
    #[arg(long, value_name = "K=V", value_parser = parse::label)]
    label: Vec<(String, String)>,
    /// Do not follow: print the id alone, once the nodes are armed.
    #[arg(long)]
    no_wait: bool,
    /// Have every node get ready as for the capture, print what it would capture on or why it cannot, and start
    /// nothing. Exits with 0 if every node can, with 2 otherwise.
    #[arg(long, conflicts_with = "no_wait")]
    dry_run: bool,
}

pub(super) async fn run(arguments: Arguments, context: &Context, out: &mut dyn Write) -> Outcome {
    let (dry_run, no_wait) = (arguments.dry_run, arguments.no_wait);
    let spec = job::spec(arguments)?;
    let fabric = Fabric::connect(&context.global).await?;
    let capture = start(&fabric, spec, dry_run).await?;
    if dry_run {
        let outcome = dry_run::rehearsed(&capture);
        print(capture, context, context.global.quiet, out)?;
        return outcome;
    }
    if !context.global.quiet {
        for line in left_out(&capture) {
            eprintln!("{line}");
        }
    }
    if no_wait {
        print(capture, context, true, out)?;
        return Ok(Exit::Done);
    }
    let capture = follow_to_end(&fabric, capture, context).await?;
    let outcome = follow::outcome(&capture);
    print(capture, context, context.global.quiet, out)?;
    outcome
}

async fn start(fabric: &Fabric, spec: CaptureSpec, dry_run: bool) -> anyhow::Result<Capture> {
    // Asked again by the same name it starts nothing twice.
    let request = StartCaptureRequest { spec: Some(spec), dry_run, request_id: Uuid::new_v4().to_string() };
    let starting = fabric.again(|| {
        let (mut client, request) = (fabric.captures(), rpc::request(request.clone()));
        async move { client.start_capture(request).await }
    });
    let answer = tokio::select! {
        answer = starting => answer.map_err(|status| fabric.failed(&status))?,
        _ = tokio::signal::ctrl_c() => {
            bail!("interrupted before the coordinator answered; `ctl list-captures` tells whether it started")
        }
    };
    Ok(answer.into_inner().capture.unwrap_or_default())
}

/// A warning for each node that the capture does without from its beginning.
fn left_out(capture: &Capture) -> Vec<String> {
    let failed = capture.nodes.iter().filter(|node| node.state == CaptureState::Failed as i32);
    failed
        .map(|node| escape::line(&format!("warning: {}: {}", node.node, node.reason)).into_owned())
        .collect()
}

async fn follow_to_end(fabric: &Fabric, capture: Capture, context: &Context) -> anyhow::Result<Capture> {
    let mut display = Display::new(context);
    display.update(&capture);
    let mut observe = |answer: &WatchCaptureResponse| {
        answer.capture.iter().for_each(|capture| display.update(capture));
        Ok(())
    };
    follow::to_end(fabric, &capture.id, &mut observe).await
}

/// For people the capture, unless only its id is of interest, and then the id in a line of its own.
fn print(capture: Capture, context: &Context, id_alone: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    let for_people = matches!(context.global.output, Format::Table | Format::Wide);
    let id = capture.id.clone();
    if !(for_people && id_alone) {
        output::print(&StartCaptureResponse { capture: Some(capture) }, context, out)?;
    }
    if for_people && !id.is_empty() {
        writeln!(out, "{}", escape::line(&id))?;
    }
    Ok(())
}

impl View for StartCaptureResponse {
    fn text(&self, context: &Context) -> String {
        match &self.capture {
            Some(capture) if capture.id.is_empty() => dry_run::plan(capture),
            Some(capture) => {
                let wide = context.global.output == Format::Wide;
                format!("{}\n", crate::commands::show_capture::text(capture, wide))
            }
            None => String::new(),
        }
    }

    fn names(&self) -> Vec<String> {
        self.capture.iter().map(|capture| capture.id.clone()).filter(|id| !id.is_empty()).collect()
    }
}

/// A filter that was given on purpose: an empty one is a script's unset variable more often than a wish for everything.
fn filter(text: &str) -> Result<String, &'static str> {
    if text.trim().is_empty() {
        Err("is empty; leave the flag out to capture everything")
    } else {
        Ok(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use lastseen_proto::v1::CaptureNode;

    use super::*;

    #[test]
    fn a_node_that_failed_at_once_is_warned_about() {
        let node = |node: &str, state: CaptureState, reason: &str| CaptureNode {
            node: node.into(),
            state: state as i32,
            reason: reason.into(),
            ..Default::default()
        };
        let nodes = vec![
            node("a", CaptureState::Running, ""),
            node("b", CaptureState::Failed, "left out: offline since noon; start its agent"),
        ];
        let warned = left_out(&Capture { nodes, ..Default::default() });
        assert_eq!(warned, ["warning: b: left out: offline since noon; start its agent"]);
    }
}
