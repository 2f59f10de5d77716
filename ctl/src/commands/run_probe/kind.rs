//! The kinds of probes, and what only one of them takes.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand, ValueEnum};
use lastseen_proto::limits::{PROBE_HOPS, PROBE_MTU, PROBE_NEIGHBORS, PROBE_SIZE};
use lastseen_proto::table::NodeTable;
use lastseen_proto::target::Target;
use lastseen_proto::url::WebUrl;
use lastseen_proto::v1;
use lastseen_proto::v1::probe_spec::Kind as Asked;

use super::Common;
use crate::{parse, probe};

/// How.
#[derive(Debug, Subcommand)]
pub(super) enum Kind {
    /// ICMP echo.
    #[command(after_help = "\
Examples:
  ctl run-probe icmp 10.244.2.10 --all-nodes
  ctl run-probe icmp 10.244.2.10 --nodes node-a --size 1422 --df")]
    Icmp {
        #[command(flatten)]
        targets: Hosts,
        /// Bytes behind the ICMP header.
        #[arg(long, value_name = "N", default_value = "56", value_parser = parse::whole(*PROBE_SIZE.start(), *PROBE_SIZE.end()))]
        size: u32,
        /// Do not let it be fragmented, neither on the way nor here.
        #[arg(long)]
        df: bool,
        #[command(flatten)]
        common: Common,
    },
    /// TCP connections: whether a port is open, closed or filtered.
    #[command(after_help = "\
Examples:
  ctl run-probe tcp 10.244.2.10:80 '[fd00::a]:80' --all-nodes")]
    Tcp {
        #[command(flatten)]
        targets: Hosts,
        #[command(flatten)]
        common: Common,
    },
    /// UDP datagrams. Without an answer a port may be open or filtered.
    #[command(after_help = "\
Examples:
  ctl run-probe udp 10.244.2.10:9 --nodes node-a --payload hello")]
    Udp {
        #[command(flatten)]
        targets: Hosts,
        /// Text to send. Without it: 16 bytes that are unlike any other's.
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        payload: String,
        #[command(flatten)]
        common: Common,
    },
    /// Questions to name servers, each on its own, in datagrams and, where an answer does not fit one, over TCP.
    #[command(after_help = "\
Examples:
  ctl run-probe dns web.default.svc.cluster.local --all-nodes
  ctl run-probe dns web --from node-a:cni-1f2e --nameserver 10.96.0.10 --search default.svc.cluster.local
  ctl run-probe dns 10.244.2.10 --type ptr --nodes node-a --tcp")]
    Dns {
        /// Names to ask for; addresses for --type ptr. One that ends with a dot is not looked for in the search list.
        #[arg(required = true, value_name = "NAME")]
        targets: Vec<Target>,
        /// Servers to ask, with a port where it is not 53. Without it: those of resolv.conf at the source.
        #[arg(long, value_delimiter = ',', value_name = "ADDRESS")]
        nameserver: Vec<Target>,
        /// Records to ask for.
        #[arg(long = "type", value_name = "TYPE", default_value = "a", ignore_case = true)]
        record: Record,
        /// Domains to look for names in. Without it: those of resolv.conf at the source.
        #[arg(long, value_delimiter = ',', value_name = "DOMAIN")]
        search: Vec<String>,
        /// Ask over TCP from the start.
        #[arg(long)]
        tcp: bool,
        #[command(flatten)]
        common: Common,
    },
    /// GET over HTTP or HTTPS: status, timing and certificate. Redirects are not followed.
    #[command(after_help = "\
Examples:
  ctl run-probe http http://10.244.2.10:8080/healthz --all-nodes
  ctl run-probe http https://kubernetes.default.svc/livez --from node-a:cni-1f2e")]
    Http {
        /// Pages to get.
        #[arg(required = true, value_name = "URL")]
        targets: Vec<WebUrl>,
        /// Certificates of the authorities to trust, PEM. Without it: those that browsers trust.
        #[arg(long, value_name = "FILE")]
        ca: Option<PathBuf>,
        #[command(flatten)]
        common: Common,
    },
    /// The largest packet that comes through, and who says that larger ones do not.
    #[command(after_help = "\
Examples:
  ctl run-probe mtu 10.244.2.10 --all-nodes
  ctl run-probe mtu 10.244.2.10 --from node-a:cni-1f2e --max-size 1500")]
    Mtu {
        #[command(flatten)]
        targets: Hosts,
        /// Largest packet to try, in bytes with its IP header. Without it: what the interface takes.
        #[arg(long, value_name = "BYTES", value_parser = parse::whole(*PROBE_MTU.start(), *PROBE_MTU.end()))]
        max_size: Option<u32>,
        #[command(flatten)]
        common: Common,
    },
    /// The routers on the way, by packets of one flow. With many rounds: what mtr shows.
    #[command(after_help = "\
Examples:
  ctl run-probe trace 10.244.2.10 --all-nodes
  ctl run-probe trace 10.244.2.10:80 --tcp --nodes node-a --count 20")]
    Trace {
        #[command(flatten)]
        targets: Hosts,
        #[command(flatten)]
        protocol: Protocol,
        /// Routers to look for at most.
        #[arg(long, value_name = "N", default_value = "30", value_parser = parse::whole(*PROBE_HOPS.start(), *PROBE_HOPS.end()))]
        max_hops: u32,
        #[command(flatten)]
        common: Common,
    },
    /// Who has an address on the link, by ARP or neighbour solicitation: nobody, one, or more than one.
    #[command(after_help = "\
Examples:
  ctl run-probe neighbor 10.244.1.10 --nodes node-a")]
    Neighbor {
        #[command(flatten)]
        targets: Hosts,
        #[command(flatten)]
        common: Common,
    },
    /// Every source probes every other: who reaches whom, and which node is the one that is ill.
    #[command(after_help = "\
Examples:
  ctl run-probe mesh --all-nodes
  ctl run-probe mesh --tcp 10250 --all-nodes --neighbors 4
  ctl run-probe mesh --from 10.244.1.10,10.244.2.10,10.244.3.10 --count 20
  ctl run-probe mesh --all-nodes --network overlay --every 30s")]
    Mesh {
        #[command(flatten)]
        by: By,
        /// Others that each source probes. Without it: all of them, of more than 32 sources 8.
        #[arg(long, value_name = "K", value_parser = parse::whole(*PROBE_NEIGHBORS.start(), *PROBE_NEIGHBORS.end()))]
        neighbors: Option<u32>,
        #[command(flatten)]
        network: HostNetwork,
        #[command(flatten)]
        common: Common,
    },
    /// How much comes through from one source to another.
    #[command(after_help = "\
Examples:
  ctl run-probe throughput --from node-a --to node-b
  ctl run-probe throughput --from 10.244.1.10 --to 10.244.2.10 --udp --rate 100M
  ctl run-probe throughput --from node-a --to node-b --duration 2s --max-bytes 50MB --every 10m")]
    Throughput {
        /// The receiver: a node, a node with a network namespace as --from has it, or an address of a pod or a node.
        #[arg(long, value_name = "NODE[:NETNS]|ADDRESS")]
        to: String,
        #[command(flatten)]
        transport: Transport,
        /// How long it sends: 1s to 60s.
        #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = parse::duration)]
        duration: Duration,
        /// Bits of payload a second, 100k to 10G. Without it: 10M of UDP, as much as goes of TCP.
        #[arg(long, value_name = "BITS", value_parser = parse::rate)]
        rate: Option<u64>,
        /// End when so much payload is sent.
        #[arg(long, value_name = "BYTES", value_parser = parse::bytes)]
        max_bytes: Option<u64>,
        /// Where the receiver listens. Without it: a port from 20000 on.
        #[arg(long, value_name = "PORT", value_parser = parse::whole(1_u16, u16::MAX))]
        port: Option<u16>,
        #[command(flatten)]
        network: HostNetwork,
        #[command(flatten)]
        common: Common,
    },
    /// The gateways of the default routes, as neighbours and by echo.
    #[command(after_help = "\
Examples:
  ctl run-probe gateway --all-nodes
  ctl run-probe gateway --from node-a:cni-1f2e")]
    Gateway {
        #[command(flatten)]
        common: Common,
    },
    /// A table of the kernel, as it is then: what `ctl show-node` shows of one node.
    #[command(after_help = "\
Examples:
  ctl run-probe table neighbors --all-nodes --grep 10.244.2.10
  ctl run-probe table filters --from node-a:cni-1f2e,node-b
  ctl run-probe table conntrack --nodes node-a --every 30s")]
    Table {
        /// Which.
        #[arg(value_name = "TABLE", value_parser = tables())]
        table: NodeTable,
        /// Show only rows that contain this text.
        #[arg(long, value_name = "TEXT", conflicts_with_all = ["every", "no_wait"])]
        grep: Option<String>,
        #[command(flatten)]
        common: Common,
    },
}

/// By name.
fn tables() -> impl TypedValueParser<Value = NodeTable> {
    PossibleValuesParser::new(NodeTable::ALL.map(NodeTable::name)).try_map(|name| name.parse::<NodeTable>())
}

/// Addresses and names.
#[derive(Args, Debug)]
pub(super) struct Hosts {
    /// What to probe: an address or a name, with a port where the probe goes to one.
    #[arg(required = true, value_name = "TARGET")]
    targets: Vec<Target>,
}

/// Records of a name.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Record {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Hosts and ports of a service.
    Srv,
    /// The name of an address.
    Ptr,
}

/// How packets of a trace look.
#[derive(Args, Debug)]
#[group(multiple = false)]
pub(super) struct Protocol {
    /// With echo requests, as without any of these.
    #[arg(long)]
    icmp: bool,
    /// With datagrams, to port 33434 unless the target names one.
    #[arg(long)]
    udp: bool,
    /// With TCP SYN, to the port that the target names.
    #[arg(long)]
    tcp: bool,
}

/// How the sources of a mesh probe each other.
#[derive(Args, Debug)]
#[group(multiple = false)]
pub(super) struct By {
    /// With echo requests, as without any of these.
    #[arg(long)]
    icmp: bool,
    /// With connections to this port.
    #[arg(long, value_name = "PORT", value_parser = parse::whole(1_u16, u16::MAX))]
    tcp: Option<u16>,
    /// With datagrams to this port.
    #[arg(long, value_name = "PORT", value_parser = parse::whole(1_u16, u16::MAX))]
    udp: Option<u16>,
}

/// How a throughput is measured.
#[derive(Args, Debug)]
#[group(multiple = false)]
pub(super) struct Transport {
    /// By one connection, as without any of these.
    #[arg(long)]
    tcp: bool,
    /// By numbered datagrams: loss, order and jitter.
    #[arg(long)]
    udp: bool,
}

/// Which address stands for a node.
#[derive(Args, Debug)]
pub(super) struct HostNetwork {
    /// Which of a node's addresses is probed: that of the host, where its tunnels end, or that of its overlay device.
    #[arg(long, value_name = "NETWORK", default_value = "host")]
    network: Network,
}

/// See [`HostNetwork`].
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Network {
    /// Where its tunnels end, or else that of its default route.
    Host,
    /// That of its tunnel device.
    Overlay,
}

impl HostNetwork {
    fn number(&self) -> i32 {
        match self.network {
            Network::Host => v1::HostNetwork::Underlay.into(),
            Network::Overlay => v1::HostNetwork::Overlay.into(),
        }
    }
}

impl Kind {
    /// What rows are to contain, where there are some.
    pub(super) fn wanted(&self) -> Option<&str> {
        match self {
            Self::Table { grep, .. } => grep.as_deref(),
            _ => None,
        }
    }

    /// Of a mesh, who probes whom.
    pub(super) fn mesh(&self) -> Option<v1::Mesh> {
        let Self::Mesh { by, neighbors, network, .. } = self else { return None };
        let port = by.tcp.or(by.udp).unwrap_or_default().into();
        Some(v1::Mesh { neighbors: *neighbors, network: network.number(), port, members: Vec::new() })
    }

    /// What to ask, of whom, and the rest.
    pub(super) fn asked(self) -> anyhow::Result<(Asked, Vec<String>, Common)> {
        let texts = |targets: &[Target]| targets.iter().map(ToString::to_string).collect();
        Ok(match self {
            Self::Icmp { targets, size, df, common } => {
                let icmp = v1::IcmpProbe { size: Some(size), dont_fragment: df };
                (Asked::Icmp(icmp), texts(&targets.targets), common)
            }
            Self::Tcp { targets, common } => (Asked::Tcp(v1::TcpProbe {}), texts(&targets.targets), common),
            Self::Udp { targets, payload, common } => {
                let udp = v1::UdpProbe { payload: payload.into_bytes().into() };
                (Asked::Udp(udp), texts(&targets.targets), common)
            }
            Self::Dns { targets, nameserver, record, search, tcp, common } => {
                let record_type = match record {
                    Record::A => v1::DnsRecordType::DnsA,
                    Record::Aaaa => v1::DnsRecordType::DnsAaaa,
                    Record::Srv => v1::DnsRecordType::DnsSrv,
                    Record::Ptr => v1::DnsRecordType::DnsPtr,
                };
                let servers = texts(&nameserver);
                let dns = v1::DnsProbe { servers, record_type: record_type.into(), search, tcp };
                (Asked::Dns(dns), texts(&targets), common)
            }
            Self::Http { targets, ca, common } => {
                let ca_pem = parse::authorities(ca.as_deref())?;
                let urls = targets.iter().map(ToString::to_string).collect();
                (Asked::Http(v1::HttpProbe { ca_pem }), urls, common)
            }
            Self::Mtu { targets, max_size, common } => {
                (Asked::PathMtu(v1::PathMtuProbe { max_size }), texts(&targets.targets), common)
            }
            Self::Trace { targets, protocol, max_hops, common } => {
                let protocol = match protocol {
                    Protocol { udp: true, .. } => v1::TraceProtocol::TraceUdp,
                    Protocol { tcp: true, .. } => v1::TraceProtocol::TraceTcp,
                    _ => v1::TraceProtocol::TraceIcmp,
                };
                let trace = v1::TraceProbe { protocol: protocol.into(), max_hops: Some(max_hops) };
                (Asked::Trace(trace), texts(&targets.targets), common)
            }
            Self::Neighbor { targets, common } => {
                (Asked::Neighbor(v1::NeighborProbe {}), texts(&targets.targets), common)
            }
            Self::Mesh { by, common, .. } => {
                let asked = match by {
                    By { tcp: Some(_), .. } => Asked::Tcp(v1::TcpProbe {}),
                    By { udp: Some(_), .. } => Asked::Udp(v1::UdpProbe::default()),
                    By { .. } => Asked::Icmp(v1::IcmpProbe::default()),
                };
                (asked, Vec::new(), common)
            }
            Self::Throughput { to, transport, duration, rate, max_bytes, port, network, common } => {
                let protocol = if transport.udp {
                    v1::ThroughputProtocol::ThroughputUdp
                } else {
                    v1::ThroughputProtocol::ThroughputTcp
                };
                let throughput = v1::ThroughputProbe {
                    protocol: protocol.into(),
                    duration: Some(parse::proto_duration(duration)),
                    bits_per_second: rate,
                    max_bytes,
                    port: port.map(u32::from),
                    network: network.number(),
                    to: Some(probe::source_of(&to)),
                    ..Default::default()
                };
                (Asked::Throughput(throughput), Vec::new(), common)
            }
            Self::Gateway { common } => (Asked::Gateway(v1::GatewayProbe {}), Vec::new(), common),
            Self::Table { table, common, .. } => {
                let table = v1::TableProbe { table: table.message().into() };
                (Asked::Table(table), Vec::new(), common)
            }
        })
    }
}
