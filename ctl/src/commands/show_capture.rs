//! `show-capture`.

use std::io::Write;

use anyhow::Context as _;
use clap::Args;
use lastseen_proto::v1::{
    Capture, CaptureNode, CaptureSpec, GetCaptureRequest, GetCaptureResponse, ListCapturesRequest,
};

use crate::Outcome;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::table::Table;
use crate::output::{self, Format, View, escape, names, units};
use crate::rpc::{self, Fabric};

/// Show one capture with the state of each node.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ctl show-capture                                            # the newest
  ctl show-capture c-7f3k -o wide                             # with interfaces, and what was left out
  ctl show-capture c-7f3k -o json | jq .capture.state")]
pub struct Arguments {
    /// Capture id, as start-capture and list-captures print it; the newest capture without it.
    id: Option<String>,
}

pub(super) async fn run(arguments: Arguments, context: &Context, out: &mut dyn Write) -> Outcome {
    let fabric = Fabric::connect(&context.global).await?;
    let id = match arguments.id {
        Some(id) => id,
        None => newest(&fabric).await?,
    };
    let request = rpc::request(GetCaptureRequest { capture_id: id });
    let answer = fabric.captures().get_capture(request).await;
    output::print(answer.map_err(|status| fabric.failed(&status))?.get_ref(), context, out)?;
    Ok(Exit::Done)
}

async fn newest(fabric: &Fabric) -> anyhow::Result<String> {
    let request = rpc::request(ListCapturesRequest { page_size: 1, ..Default::default() });
    let listed = fabric.captures().list_captures(request).await.map_err(|status| fabric.failed(&status))?;
    let newest = listed.into_inner().captures.into_iter().next();
    Ok(newest.context("there are no captures; begin one with `ctl start-capture`")?.id)
}

impl View for GetCaptureResponse {
    fn text(&self, context: &Context) -> String {
        let wide = context.global.output == Format::Wide;
        self.capture.as_ref().map_or_else(String::new, |capture| text(capture, wide))
    }

    fn names(&self) -> Vec<String> {
        self.capture.iter().map(|capture| capture.id.clone()).collect()
    }
}

/// A capture for people: what was asked for, the window, each node's part.
pub(super) fn text(capture: &Capture, wide: bool) -> String {
    let mut text = output::facts(&facts(capture));
    if !capture.nodes.is_empty() {
        text.push('\n');
        text += &nodes(capture, wide);
    }
    for node in &capture.nodes {
        // The reason stands in the table.
        for note in node.coverage.iter().filter(|note| **note != node.reason) {
            text += &format!("{}: {}\n", escape::line(&node.node), escape::line(note));
        }
    }
    text
}

fn facts(capture: &Capture) -> Vec<(&'static str, String)> {
    let window =
        match (units::instant(capture.window_start.as_ref()), units::instant(capture.window_end.as_ref())) {
            (start, end) if start.is_empty() && end.is_empty() => String::new(),
            (start, end) => format!("{start} – {end}"),
        };
    let mut facts = vec![
        ("capture", capture.id.clone()),
        ("state", names::capture_state(capture.state)),
        ("reason", capture.reason.clone()),
        ("window", window),
        ("created", units::second(capture.created_at.as_ref())),
        ("created by", capture.created_by.clone()),
    ];
    facts.extend(job(&capture.spec.clone().unwrap_or_default()));
    facts
}

/// What was asked for, with defaults filled in.
pub(super) fn job(spec: &CaptureSpec) -> Vec<(&'static str, String)> {
    let interfaces = if spec.interfaces.is_empty() { "auto".to_owned() } else { spec.interfaces.join(",") };
    vec![
        ("name", spec.name.clone()),
        ("labels", labels(spec)),
        ("filter", spec.filter.clone()),
        ("interfaces", interfaces),
        ("duration", units::span(spec.duration.as_ref())),
        ("start at", units::instant(spec.start_at.as_ref())),
        ("max packets", spec.max_packets.map_or_else(String::new, units::count)),
        ("max bytes", spec.max_bytes.map_or_else(String::new, units::bytes)),
        ("sample", spec.sampling_interval.map_or_else(String::new, |interval| format!("1/{interval}"))),
        ("snap length", spec.snap_length.map_or_else(String::new, |length| length.to_string())),
    ]
}

const WIDE: &[&str] = &[">FILTERED", ">UNDECODED", ">UNREADABLE", ">SAMPLED OUT", "ARMED", "CAPTURES ON"];

fn nodes(capture: &Capture, wide: bool) -> String {
    let mut headers =
        vec!["NODE", "STATE", ">PACKETS", ">KERNEL DROPS", ">AGENT DROPS", "CLOCK OFFSET", ">INTERFACES"];
    headers.extend(if wide { WIDE } else { &[] });
    headers.push("REASON");
    let mut table = Table::new(&headers);
    for node in &capture.nodes {
        table.row(row(node, wide));
    }
    table.text()
}

fn row(node: &CaptureNode, wide: bool) -> Vec<String> {
    let mut cells = vec![
        node.node.clone(),
        names::capture_state(node.state),
        units::count(node.packets),
        units::count(node.kernel_drops),
        units::count(node.agent_drops),
        units::clock(node.clock_offset_nanos, node.clock_error_nanos),
        node.interfaces.len().to_string(),
    ];
    if wide {
        cells.push(units::count(node.filtered));
        cells.push(units::count(node.undecoded));
        cells.push(units::count(node.unreadable));
        cells.push(units::count(node.sampled_out));
        cells.push(units::time_of_day(node.armed_at.as_ref()));
        cells.push(node.interfaces.join(","));
    }
    cells.push(node.reason.clone());
    cells
}

/// `a=1,b=2`, sorted.
pub(super) fn labels(spec: &CaptureSpec) -> String {
    let mut labels: Vec<String> = spec.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    labels.sort();
    labels.join(",")
}
