//! `trace-path`.

use std::io::Write;
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use lastseen_proto::limits::{PROBE_MTU, PROBE_PACKETS};
use lastseen_proto::target::Target;
use lastseen_proto::v1::diff_report::Verdict;
use lastseen_proto::v1::{self, TracePathRequest, TracePathResponse};
use uuid::Uuid;

use crate::context::Context;
use crate::exit::Exit;
use crate::output::{self, View};
use crate::rpc::Fabric;
use crate::{Outcome, parse, path_trace, probe, steps};

/// Send marked packets to a target and follow them at every hop, there and back.
///
/// FROM is a node, a network namespace of one (NODE:NETNS, NODE:PID), or the address of a pod or a node. TO is an address or a
/// name. Exits with 0 if all arrived there and their answers here, with 1 if any was lost, with 3 if too much could not be
/// observed.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ctl trace-path 10.244.1.10 10.244.2.10
  ctl trace-path node-a:cni-1f2e web.default.svc --tcp 80
  ctl trace-path node-a 10.244.2.10 --size sweep")]
pub struct Arguments {
    /// Whence: NODE, NODE:NETNS, NODE:PID or an address.
    from: String,
    /// Whither: an address or a name.
    to: Target,
    #[command(flatten)]
    protocol: Protocol,
    /// Bytes of each packet with its IP header, or `sweep`: many sizes, none of them fragmented, to find the one from which on
    /// they vanish.
    #[arg(long, value_name = "BYTES|sweep", value_parser = size)]
    size: Option<Size>,
    /// Packets; 50 unless given, 3 of each size of a sweep.
    #[arg(long, value_name = "N", value_parser = parse::whole(*PROBE_PACKETS.start(), *PROBE_PACKETS.end()))]
    count: Option<u32>,
    /// Between two packets; 20ms unless given.
    #[arg(long, value_name = "DURATION", value_parser = parse::duration)]
    interval: Option<Duration>,
    /// Do not let them be fragmented, neither on the way nor here.
    #[arg(long)]
    df: bool,
    /// The IPv4 address of a name.
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    ipv4: bool,
    /// The IPv6 address of a name.
    #[arg(short = '6', long)]
    ipv6: bool,
}

/// How the packets look.
#[derive(Args, Debug)]
#[group(multiple = false)]
struct Protocol {
    /// Echo requests, as without any of these.
    #[arg(long)]
    icmp: bool,
    /// UDP datagrams to this port.
    #[arg(long, value_name = "PORT", value_parser = parse::positive::<u16>)]
    udp: Option<u16>,
    /// TCP SYN to this port; what opens is reset.
    #[arg(long, value_name = "PORT", value_parser = parse::positive::<u16>)]
    tcp: Option<u16>,
}

#[derive(Clone, Copy, Debug)]
enum Size {
    One(u32),
    Sweep,
}

fn size(text: &str) -> Result<Size, String> {
    if text == "sweep" {
        return Ok(Size::Sweep);
    }
    parse::whole(*PROBE_MTU.start(), *PROBE_MTU.end())(text)
        .map(Size::One)
        .map_err(|reason| format!("{reason}, nor `sweep`"))
}

pub(super) async fn run(arguments: Arguments, context: &Context, out: &mut dyn Write) -> Outcome {
    let request = request(arguments)?;
    let fabric = Fabric::connect(&context.global).await?;
    let interrupted = "the capture ends by itself: `ctl list-captures`";
    let answer = steps::follow(&fabric, context, interrupted, step, || {
        let (mut client, request) = (fabric.probes(), request.clone());
        async move { client.trace_path(request).await }
    })
    .await?;
    output::print(&answer, context, out)?;
    Ok(match answer.trace.unwrap_or_default().verdict() {
        Verdict::Delivered => Exit::Done,
        Verdict::Lost => Exit::Loss,
        Verdict::Inconclusive | Verdict::Unspecified => Exit::Unsure,
    })
}

fn request(arguments: Arguments) -> anyhow::Result<TracePathRequest> {
    let Arguments { from, to, protocol, size, count, interval, df, ipv4, ipv6 } = arguments;
    let (protocol, port) = match protocol {
        Protocol { udp: Some(port), .. } => (v1::TraceProtocol::TraceUdp, Some(port)),
        Protocol { tcp: Some(port), .. } => (v1::TraceProtocol::TraceTcp, Some(port)),
        Protocol { .. } => (v1::TraceProtocol::TraceIcmp, None),
    };
    if let (Some(given), target) = (to.port, &to)
        && port != Some(given)
    {
        bail!("{target}: give the port with --tcp {given} or --udp {given}, and leave it out of the target");
    }
    let family = match (ipv4, ipv6) {
        (true, _) => v1::IpFamily::Ipv4,
        (_, true) => v1::IpFamily::Ipv6,
        _ => v1::IpFamily::Any,
    };
    Ok(TracePathRequest {
        from: Some(probe::source_of(&from)),
        to: Target { port, ..to }.to_string(),
        protocol: protocol.into(),
        size: if let Some(Size::One(size)) = size { Some(size) } else { None },
        sweep: matches!(size, Some(Size::Sweep)),
        count,
        interval: interval.map(parse::proto_duration),
        dont_fragment: df,
        family: family.into(),
        request_id: Uuid::new_v4().to_string(),
    })
}

impl View for TracePathResponse {
    fn text(&self, context: &Context) -> String {
        self.trace.as_ref().map_or_else(String::new, |trace| path_trace::text(trace, context))
    }

    fn names(&self) -> Vec<String> {
        vec![self.capture_id.clone()]
    }
}

/// What is done, until the last answer.
fn step(answer: &TracePathResponse) -> Option<&str> {
    answer.trace.is_none().then_some(answer.step.as_str())
}
