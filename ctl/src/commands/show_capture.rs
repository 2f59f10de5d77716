//! `show-capture`.

use std::io::Write;

use clap::Args;
use lastseen_proto::v1::{Capture, CaptureSpec, GetCaptureRequest, GetCaptureResponse};

use crate::Outcome;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::table::Table;
use crate::output::{self, View, escape, names, units};
use crate::rpc::{self, Fabric};

/// Show one capture with the state of each node.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ctl show-capture c-7f3k
  ctl show-capture c-7f3k -o json | jq .capture.state")]
pub struct Arguments {
    /// Capture id, as start-capture and list-captures print it.
    id: String,
}

pub(super) async fn run(arguments: Arguments, context: &Context, out: &mut dyn Write) -> Outcome {
    let fabric = Fabric::connect(&context.global).await?;
    let request = rpc::request(GetCaptureRequest { capture_id: arguments.id });
    let answer = fabric.captures().get_capture(request).await;
    output::print(answer.map_err(|status| fabric.failed(&status))?.get_ref(), context, out)?;
    Ok(Exit::Done)
}

impl View for GetCaptureResponse {
    fn text(&self, _context: &Context) -> String {
        self.capture.as_ref().map_or_else(String::new, text)
    }

    fn names(&self) -> Vec<String> {
        self.capture.iter().map(|capture| capture.id.clone()).collect()
    }
}

/// A capture for people: what was asked for, the window, each node's part.
pub(crate) fn text(capture: &Capture) -> String {
    let mut text = output::facts(&facts(capture));
    if !capture.nodes.is_empty() {
        text.push('\n');
        text += &nodes(capture);
    }
    for node in &capture.nodes {
        for note in &node.coverage {
            text += &format!("{}: {}\n", escape::line(&node.node), escape::line(note));
        }
    }
    text
}

fn facts(capture: &Capture) -> Vec<(&'static str, String)> {
    let spec = capture.spec.clone().unwrap_or_default();
    let window =
        match (units::instant(capture.window_start.as_ref()), units::instant(capture.window_end.as_ref())) {
            (start, end) if start.is_empty() && end.is_empty() => String::new(),
            (start, end) => format!("{start} – {end}"),
        };
    vec![
        ("capture", capture.id.clone()),
        ("name", spec.name.clone()),
        ("state", names::capture_state(capture.state)),
        ("reason", capture.reason.clone()),
        ("filter", spec.filter.clone()),
        (
            "interfaces",
            if spec.interfaces.is_empty() { "auto".to_owned() } else { spec.interfaces.join(",") },
        ),
        ("duration", units::span(spec.duration.as_ref())),
        ("max packets", spec.max_packets.map_or_else(String::new, units::count)),
        ("max bytes", spec.max_bytes.map_or_else(String::new, units::bytes)),
        ("snap length", spec.snap_length.map_or_else(String::new, |length| length.to_string())),
        ("start at", units::instant(spec.start_at.as_ref())),
        ("labels", labels(&spec)),
        ("window", window),
        ("created", units::second(capture.created_at.as_ref())),
        ("created by", capture.created_by.clone()),
    ]
}

fn nodes(capture: &Capture) -> String {
    let headers = [
        "NODE",
        "STATE",
        ">PACKETS",
        ">KERNEL DROPS",
        ">AGENT DROPS",
        ">FILTERED",
        "CLOCK OFFSET",
        "INTERFACES",
        "REASON",
    ];
    let mut table = Table::new(&headers);
    for node in &capture.nodes {
        table.row([
            node.node.clone(),
            names::capture_state(node.state),
            units::count(node.packets),
            units::count(node.kernel_drops),
            units::count(node.agent_drops),
            units::count(node.filtered),
            units::clock(node.clock_offset_nanos, node.clock_error_nanos),
            node.interfaces.join(","),
            node.reason.clone(),
        ]);
    }
    table.text()
}

/// `a=1,b=2`, sorted.
pub(super) fn labels(spec: &CaptureSpec) -> String {
    let mut labels: Vec<String> = spec.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    labels.sort();
    labels.join(",")
}
