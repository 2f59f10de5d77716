//! `start-capture`.

use std::collections::HashSet;
use std::io::Write;
use std::time::Duration;

use anyhow::{bail, ensure};
use clap::Args;
use jiff::Timestamp;
use lastseen_proto::limits::SNAP_LENGTH;
use lastseen_proto::v1::{
    Capture, CaptureNode, CaptureSpec, CaptureState, StartCaptureRequest, StartCaptureResponse,
    WatchCaptureResponse,
};

use crate::Outcome;
use crate::context::Context;
use crate::exit::Exit;
use crate::follow::{self, Display};
use crate::output::{self, Format, View, escape, names};
use crate::parse;
use crate::rpc::{self, Fabric};

/// Bytes that a capture's name, and each part of a label, may have.
const LONGEST_TEXT: usize = 63;

/// Characters of a text that is too long which the error repeats.
const SHOWN_TEXT: usize = 20;

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
    let spec = spec(arguments)?;
    let fabric = Fabric::connect(&context.global).await?;
    let capture = start(&fabric, spec, dry_run).await?;
    if dry_run {
        let outcome = rehearsed(&capture);
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
    let request = rpc::request(StartCaptureRequest { spec: Some(spec), dry_run });
    let mut client = fabric.captures();
    let answer = tokio::select! {
        answer = client.start_capture(request) => answer.map_err(|status| fabric.failed(&status))?,
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
            Some(capture) if capture.id.is_empty() => plan(capture),
            Some(capture) => {
                let wide = context.global.output == Format::Wide;
                format!("{}\n", super::show_capture::text(capture, wide))
            }
            None => String::new(),
        }
    }

    fn names(&self) -> Vec<String> {
        self.capture.iter().map(|capture| capture.id.clone()).filter(|id| !id.is_empty()).collect()
    }
}

/// What a dry run found.
fn plan(capture: &Capture) -> String {
    let mut facts = super::show_capture::job(&capture.spec.clone().unwrap_or_default());
    let nodes: Vec<&str> = capture.nodes.iter().map(|node| node.node.as_str()).collect();
    facts.push(("nodes", nodes.join(",")));
    let mut text = format!("dry run: nothing was started\n\n{}\n", output::facts(&facts));
    for node in &capture.nodes {
        for line in std::iter::once(&prospect(node)).chain(&node.coverage) {
            text += &format!("{}: {}\n", escape::line(&node.node), escape::line(line));
        }
    }
    text
}

/// What a node would do, or why it cannot.
fn prospect(node: &CaptureNode) -> String {
    match (can_capture(node), node.interfaces.len(), node.reason.as_str()) {
        (true, 1, _) => "would capture on 1 interface".to_owned(),
        (true, count, _) => format!("would capture on {count} interfaces"),
        (false, _, "") => format!("not ready, but {}", names::capture_state(node.state)),
        (false, _, reason) => reason.to_owned(),
    }
}

fn can_capture(node: &CaptureNode) -> bool {
    node.state == CaptureState::Armed as i32
}

/// Done if every node can; otherwise an error that names the first nodes and their reasons.
fn rehearsed(capture: &Capture) -> Outcome {
    let cannot: Vec<_> = capture.nodes.iter().filter(|node| !can_capture(node)).collect();
    if cannot.is_empty() {
        return Ok(Exit::Done);
    }
    let first = cannot.iter().take(follow::NAMED);
    let reasons: Vec<_> = first.map(|node| format!("{}: {}", node.node, prospect(node))).collect();
    let (count, all) = (cannot.len(), capture.nodes.len());
    bail!("dry run: {count} of {all} nodes cannot capture: {}", escape::line(&reasons.join("; ")))
}

/// The job that the flags ask for; what can be seen to be wrong here is refused here.
fn spec(arguments: Arguments) -> anyhow::Result<CaptureSpec> {
    unique("nodes", &arguments.nodes)?;
    short("name", &arguments.name)?;
    for text in arguments.label.iter().flat_map(|(key, value)| [key, value]) {
        short("label", text)?;
    }
    let start_in = arguments.start_in.map(parse::from_now).transpose();
    let start_in = start_in.map_err(|reason| anyhow::anyhow!("start-in: {reason}"))?;
    Ok(CaptureSpec {
        name: arguments.name,
        labels: arguments.label.into_iter().collect(),
        all_nodes: arguments.all_nodes,
        nodes: arguments.nodes,
        filter: arguments.filter.unwrap_or_default(),
        interfaces: interfaces(arguments.interfaces)?,
        duration: arguments.duration.map(proto_duration),
        max_packets: arguments.max_packets,
        max_bytes: arguments.max_bytes,
        snap_length: arguments.snaplen,
        start_at: arguments.start_at.or(start_in).map(proto_timestamp),
    })
}

/// A filter that was given on purpose: an empty one is a script's unset variable more often than a wish for everything.
fn filter(text: &str) -> Result<String, &'static str> {
    if text.trim().is_empty() {
        Err("is empty; leave the flag out to capture everything")
    } else {
        Ok(text.to_owned())
    }
}

/// Interface names; none means `auto`.
fn interfaces(names: Vec<String>) -> anyhow::Result<Vec<String>> {
    ensure!(
        !names.iter().any(|name| name == "any"),
        "interfaces: \"any\" sees one packet many times; name interfaces, or leave it out for auto"
    );
    if names == ["auto"] {
        return Ok(Vec::new());
    }
    ensure!(
        !names.iter().any(|name| name == "auto"),
        "interfaces: \"auto\" stands alone; leave out the other names, or auto"
    );
    unique("interfaces", &names)?;
    Ok(names)
}

fn unique(field: &str, names: &[String]) -> anyhow::Result<()> {
    let mut seen = HashSet::new();
    for name in names {
        ensure!(!name.is_empty(), "{field}: an empty name; look for a stray comma");
        ensure!(seen.insert(name), "{field}: {name:?} is named twice; leave one out");
    }
    Ok(())
}

fn short(field: &str, text: &str) -> anyhow::Result<()> {
    let length = text.len();
    let shown: String = text.chars().take(SHOWN_TEXT).collect();
    ensure!(length <= LONGEST_TEXT, "{field}: {shown:?}… has {length} bytes; give at most {LONGEST_TEXT}");
    Ok(())
}

fn proto_duration(duration: Duration) -> prost_types::Duration {
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    prost_types::Duration { seconds, nanos: duration.subsec_nanos() as i32 }
}

fn proto_timestamp(time: Timestamp) -> prost_types::Timestamp {
    // A Timestamp of the protocol counts nanoseconds forward, also before 1970; jiff's nanoseconds share the sign.
    let nanos = time.subsec_nanosecond();
    let borrow = i64::from(nanos < 0);
    prost_types::Timestamp {
        seconds: time.as_second() - borrow,
        nanos: nanos + borrow as i32 * 1_000_000_000,
    }
}

#[cfg(test)]
mod tests {
    use lastseen_runtime::usage;

    use super::*;
    use crate::commands::Command;

    fn parsed(line: &str) -> anyhow::Result<CaptureSpec> {
        let args =
            ["ctl", "start-capture"].into_iter().chain(line.split_whitespace()).map(Into::into).collect();
        let cli = crate::cli::resolve(args).map_err(|error| anyhow::anyhow!(usage::line(&error)))?;
        match cli.command {
            Command::StartCapture(arguments) => spec(arguments),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn flags_become_a_job() {
        let spec = parsed(
            "--nodes a,b --filter tcp --interfaces eth0,cni0 --duration 1m30s --max-packets 5 --max-bytes 64MiB \
             --start-at 2026-03-01T14:03:20.5Z --snaplen 256 --name n --label k=v --label team=net",
        )
        .unwrap();
        assert_eq!(
            (spec.nodes, spec.all_nodes, spec.filter),
            (vec!["a".into(), "b".into()], false, "tcp".into())
        );
        assert_eq!(spec.interfaces, ["eth0", "cni0"]);
        assert_eq!(spec.duration, Some(prost_types::Duration { seconds: 90, nanos: 0 }));
        assert_eq!(
            (spec.max_packets, spec.max_bytes, spec.snap_length),
            (Some(5), Some(64 << 20), Some(256))
        );
        let start = prost_types::Timestamp { seconds: 1_772_373_800, nanos: 500_000_000 };
        assert_eq!((spec.start_at, spec.name, spec.labels.len()), (Some(start), "n".into(), 2));
    }

    #[test]
    fn nothing_but_the_place_is_needed() {
        let spec = parsed("--all-nodes").unwrap();
        assert_eq!(spec, CaptureSpec { all_nodes: true, ..Default::default() });
    }

    #[test]
    fn start_in_counts_from_now() {
        let before = Timestamp::now().as_second();
        let start = parsed("--all-nodes --start-in 1h").unwrap().start_at.unwrap();
        let after = Timestamp::now().as_second();
        assert!((before + 3_600..=after + 3_600).contains(&start.seconds), "{start:?} {before}");
    }

    #[test]
    fn mistakes_name_the_field_and_the_way_out() {
        for (line, expected) in [
            ("", "--all-nodes or --nodes <NODE>: missing; see `ctl start-capture --help`"),
            ("--all-nodes --nodes a", "--all-nodes: does not go with --nodes; leave one out"),
            ("--nodes a,b,a", "nodes: \"a\" is named twice; leave one out"),
            ("--nodes a,,b", "nodes: an empty name; look for a stray comma"),
            (
                "--all-nodes --duration 0s",
                "--duration: \"0s\" is not longer than 0; give, for example, 30s or 5m",
            ),
            (
                "--all-nodes --duration -1s",
                "--duration: \"-1s\" is not longer than 0; give, for example, 30s or 5m",
            ),
            (
                "--all-nodes --duration 30",
                "--duration: \"30\" is not a duration; give a number with a unit, for example 30s or 5m",
            ),
            ("--all-nodes --snaplen 10", "--snaplen: \"10\" is not a whole number from 64 to 65535"),
            ("--all-nodes --snaplen x", "--snaplen: \"x\" is not a whole number from 64 to 65535"),
            (
                "--all-nodes --max-packets -5",
                "--max-packets: \"-5\" is not a whole number above 0; give, for example, 100",
            ),
            (
                "--all-nodes --max-bytes -5",
                "--max-bytes: \"-5\" is not a number of bytes; give, for example, 1000000, 64MiB or 2GB",
            ),
            (
                "--all-nodes --interfaces any",
                "interfaces: \"any\" sees one packet many times; name interfaces, or leave it out for auto",
            ),
            (
                "--all-nodes --interfaces auto,eth0",
                "interfaces: \"auto\" stands alone; leave out the other names, or auto",
            ),
            (
                "--all-nodes --start-at yesterday",
                "--start-at: \"yesterday\" is not a time; give RFC 3339 with an offset, for example \
                 2026-03-01T14:03:20Z",
            ),
            (
                "--all-nodes --start-in 1s --start-at 2026-03-01T14:03:20Z",
                "--start-in: does not go with --start-at; leave one out",
            ),
            ("--all-nodes --label x", "--label: \"x\" is not KEY=VALUE; give, for example, team=network"),
            ("--all-nodes --zap 1/2", "--zap: there is no such flag; see `ctl start-capture --help`"),
            ("--all-node", "--all-node: there is no such flag; did you mean --all-nodes?"),
        ] {
            assert_eq!(parsed(line).expect_err(line).to_string(), expected);
        }
        let long = format!("--all-nodes --name {}", "x".repeat(5_000));
        let refused = parsed(&long).unwrap_err().to_string();
        assert_eq!(refused, format!("name: {:?}… has 5000 bytes; give at most 63", "x".repeat(20)));
        let refused = parsed("--all-nodes --filter=").unwrap_err().to_string();
        assert_eq!(refused, "--filter: \"\" is empty; leave the flag out to capture everything");
    }

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

    #[test]
    fn instants_before_1970_keep_positive_nanoseconds() {
        let time = proto_timestamp(Timestamp::new(-1, -500_000_000).unwrap());
        assert_eq!((time.seconds, time.nanos), (-2, 500_000_000));
    }
}
