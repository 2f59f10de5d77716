//! `run-probe`.

mod kind;

use std::io::Write;
use std::time::Duration;

use anyhow::bail;
use clap::{ArgGroup, Args};
use jiff::Timestamp;
use lastseen_proto::limits::PROBE_COUNT;
use lastseen_proto::v1::{self, ProbeSpec, RunProbeRequest, RunProbeResponse, WatchProbeRequest};
use uuid::Uuid;

use self::kind::Kind;
use crate::Outcome;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::{self, Format, View, escape, names};
use crate::rpc::{self, Fabric};
use crate::{parse, probe};

/// Probe addresses from many nodes at the same time.
///
/// Unless --no-wait or --every is given it follows to the end and prints what each source found. Exits with 0 if every
/// source did its part, whatever it found, and with 2 otherwise.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ctl run-probe icmp 10.244.2.10 --all-nodes
  ctl run-probe tcp kube-dns.kube-system.svc:53 --from node-a:cni-1f2e,node-b --count 20
  ctl run-probe dns web.default.svc.cluster.local --all-nodes
  ctl run-probe trace 10.244.2.10:80 --tcp --nodes node-a
  ctl run-probe mesh --all-nodes
  ctl run-probe throughput --from node-a --to node-b
  ctl run-probe udp 10.244.2.10:53 --nodes node-a --every 30s")]
pub struct Arguments {
    #[command(subcommand)]
    kind: Kind,
}

/// What every kind takes.
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("where").required(true).args(["all_nodes", "nodes", "from"]))]
struct Common {
    /// From every node that is ready.
    #[arg(long)]
    all_nodes: bool,
    /// From these nodes.
    #[arg(long, value_delimiter = ',', value_name = "NODE")]
    nodes: Vec<String>,
    /// From these nodes, each with a network namespace: a name under /run/netns, or the number of a process. Or from the
    /// network namespace that has an address, of a pod or a node.
    #[arg(long, value_delimiter = ',', value_name = "NODE[:NETNS]|ADDRESS")]
    from: Vec<String>,
    /// From the network namespace of this process on the one node of --nodes, as a pod's process is numbered there.
    #[arg(long, value_name = "PID", requires = "nodes", value_parser = parse::positive::<u32>)]
    pid: Option<u32>,
    /// Attempts at each target; at each size for mtu, rounds for trace. 5 unless given, 3 for those two.
    #[arg(long, value_name = "N", value_parser = parse::whole(*PROBE_COUNT.start(), *PROBE_COUNT.end()))]
    count: Option<u32>,
    /// Between the beginnings of two attempts; 200ms unless given, 50ms for mtu and 1s for trace.
    #[arg(long, value_name = "DURATION", value_parser = parse::duration)]
    interval: Option<Duration>,
    /// How long an answer may take; 2s unless given, 500ms for mtu.
    #[arg(long, value_name = "DURATION", value_parser = parse::duration)]
    timeout: Option<Duration>,
    /// Run again and again, this far apart, until `ctl stop-probe`.
    #[arg(long, value_name = "DURATION", value_parser = parse::duration)]
    every: Option<Duration>,
    /// Begin then; as soon as every source can unless given.
    #[arg(long, value_name = "RFC3339", value_parser = parse::instant)]
    start_at: Option<Timestamp>,
    #[command(flatten)]
    family: Family,
    /// A name to find it by; need not be unique.
    #[arg(long, value_name = "S", default_value = "", hide_default_value = true)]
    name: String,
    /// A label; may be repeated.
    #[arg(long, value_name = "K=V", value_parser = parse::label)]
    label: Vec<(String, String)>,
    /// Do not follow: print the id alone.
    #[arg(long)]
    no_wait: bool,
}

/// Which addresses a name stands for.
#[derive(Args, Debug)]
struct Family {
    /// Probe IPv4 addresses of names only.
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    ipv4: bool,
    /// Probe IPv6 addresses of names only.
    #[arg(short = '6', long)]
    ipv6: bool,
}

pub(super) async fn run(arguments: Arguments, context: &Context, out: &mut dyn Write) -> Outcome {
    let wanted = arguments.kind.wanted().map(str::to_owned);
    let (spec, follows) = spec(arguments)?;
    let fabric = Fabric::connect(&context.global).await?;
    let probe = start(&fabric, spec).await?;
    if !follows {
        print(probe, context, true, out)?;
        return Ok(Exit::Done);
    }
    let mut probe = follow(&fabric, &probe.id).await?;
    if let Some(wanted) = wanted {
        probe::table::keep(&mut probe, &wanted);
    }
    let is_whole = probe.parts.iter().all(|part| part.state() == v1::ProbeState::ProbeCompleted);
    print(probe, context, context.global.quiet, out)?;
    Ok(if is_whole { Exit::Done } else { Exit::Failed })
}

/// The probe, and whether to wait for its end.
fn spec(arguments: Arguments) -> anyhow::Result<(ProbeSpec, bool)> {
    let mesh = arguments.kind.mesh();
    let (kind, targets, common) = arguments.kind.asked()?;
    let family = match (common.family.ipv4, common.family.ipv6) {
        (true, _) => v1::IpFamily::Ipv4,
        (_, true) => v1::IpFamily::Ipv6,
        _ => v1::IpFamily::Any,
    };
    if common.pid.is_some() && common.nodes.len() != 1 {
        bail!(
            "--pid is of one node's process; give one node with --nodes, or several as --from NODE:PID,NODE:PID"
        );
    }
    let mut sources: Vec<v1::ProbeSource> =
        common.nodes.into_iter().chain(common.from).map(|text| probe::source_of(&text)).collect();
    if let (Some(pid), [source]) = (common.pid, &mut sources[..]) {
        source.netns = pid.to_string();
    }
    let follows = !common.no_wait && common.every.is_none();
    let spec = ProbeSpec {
        name: common.name,
        labels: common.label.into_iter().collect(),
        all_nodes: common.all_nodes,
        sources,
        targets,
        kind: Some(kind),
        count: common.count,
        interval: common.interval.map(parse::proto_duration),
        timeout: common.timeout.map(parse::proto_duration),
        family: family.into(),
        start_at: common.start_at.map(parse::proto_timestamp),
        every: common.every.map(parse::proto_duration),
        mesh,
    };
    Ok((spec, follows))
}

pub(super) async fn start(fabric: &Fabric, spec: ProbeSpec) -> anyhow::Result<v1::Probe> {
    // Asked again by the same name it starts nothing twice.
    let request = RunProbeRequest { spec: Some(spec), request_id: Uuid::new_v4().to_string() };
    let starting = fabric.again(|| {
        let (mut client, request) = (fabric.probes(), rpc::request(request.clone()));
        async move { client.run_probe(request).await }
    });
    let answer = starting.await.map_err(|status| fabric.failed(&status))?;
    Ok(answer.into_inner().probe.unwrap_or_default())
}

/// Until it has ended, at another coordinator if this one goes.
pub(super) async fn follow(fabric: &Fabric, id: &str) -> anyhow::Result<v1::Probe> {
    let following = fabric.again(|| {
        let mut client = fabric.probes();
        let request = tonic::Request::new(WatchProbeRequest { probe_id: id.to_owned() });
        async move {
            let mut stream = client.watch_probe(request).await?.into_inner();
            let mut last = None;
            while let Some(answer) = stream.message().await? {
                last = answer.probe;
            }
            let is_over = |probe: &v1::Probe| probe.state() >= v1::ProbeState::ProbeCompleted;
            last.filter(is_over)
                .ok_or_else(|| tonic::Status::unavailable("it stopped before the probe ended"))
        }
    });
    tokio::select! {
        followed = following => followed.map_err(|status| fabric.failed(&status)),
        _ = tokio::signal::ctrl_c() => {
            bail!("interrupted; the probe goes on: `ctl show-probe {id}` shows it, `ctl stop-probe {id}` ends it")
        }
    }
}

/// For people the probe, unless only its id is of interest, and then the id in a line of its own.
fn print(probe: v1::Probe, context: &Context, id_alone: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    let for_people = matches!(context.global.output, Format::Table | Format::Wide);
    let id = probe.id.clone();
    if !(for_people && id_alone) {
        output::print(&RunProbeResponse { probe: Some(probe) }, context, out)?;
    }
    if for_people {
        writeln!(out, "{}", escape::line(&id))?;
    }
    Ok(())
}

impl View for RunProbeResponse {
    fn text(&self, context: &Context) -> String {
        let is_wide = context.global.output == Format::Wide;
        self.probe.as_ref().map_or_else(String::new, |probe| format!("{}\n", probe::text(probe, is_wide)))
    }

    fn names(&self) -> Vec<String> {
        names::of_probe(self.probe.as_ref())
    }
}
