//! Probes in the coordinator's own words.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use lastseen_proto::limits::{
    PROBE_GATEWAYS, PROBE_HOP_NANOS, PROBE_MTU_STEPS, PROBE_OWN_SERVERS, PROBE_SEARCH,
};
use lastseen_proto::table::NodeTable;
use serde::{Deserialize, Serialize};

use crate::probes::pairs::{Mesh, Throughput};

/// Whence.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Source {
    /// Node name.
    pub node: String,
    /// Name of a network namespace, or number of a process; empty: the host's.
    pub netns: String,
}

impl fmt::Display for Source {
    /// As it is written on the command line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.node)?;
        if self.netns.is_empty() { Ok(()) } else { write!(f, ":{}", self.netns) }
    }
}

/// How.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// ICMP echo.
    Icmp {
        /// Bytes behind the header.
        size: u32,
        /// DF.
        dont_fragment: bool,
    },
    /// A connection.
    Tcp,
    /// A datagram; empty: one that is unlike all others.
    Udp {
        /// What it holds.
        payload: Vec<u8>,
    },
    /// A question to name servers.
    Dns {
        /// Empty: those of the source.
        servers: Vec<String>,
        /// What for.
        record: Record,
        /// Empty: as the source has it.
        search: Vec<String>,
        /// Over TCP from the start.
        tcp: bool,
    },
    /// GET.
    Http {
        /// Empty: those of the web.
        ca_pem: String,
    },
    /// The largest packet that comes through.
    PathMtu {
        /// Nothing larger is tried.
        max_size: Option<u32>,
    },
    /// Routers on the way.
    Trace {
        /// How the packets look.
        protocol: TraceProtocol,
        /// Routers at most.
        max_hops: u32,
    },
    /// Packets that a capture of the same time can follow.
    Path {
        /// How the packets look.
        protocol: TraceProtocol,
        /// Bytes with the IP header, one after the other and then again.
        sizes: Vec<u32>,
        /// DF.
        dont_fragment: bool,
        /// Of UDP and TCP.
        source_port: u16,
    },
    /// Who has an address on the link.
    Neighbor,
    /// The gateways of default routes.
    Gateway,
    /// A table of the source's kernel.
    Table {
        /// Which.
        #[serde(with = "by_name")]
        table: NodeTable,
    },
    /// How much comes through to another source.
    Throughput(Throughput),
}

/// Tables are stored by their names.
mod by_name {
    use lastseen_proto::table::NodeTable;
    use serde::{Deserialize as _, Deserializer, Serializer, de};

    // Its shape is serde's.
    #[allow(clippy::trivially_copy_pass_by_ref)]
    pub(super) fn serialize<S: Serializer>(table: &NodeTable, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(table.name())
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(deserializer: D) -> Result<NodeTable, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// What a name server is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Hosts and ports of a service.
    Srv,
    /// Name of an address.
    Ptr,
}

/// How packets of a trace look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TraceProtocol {
    /// Echo requests.
    Icmp,
    /// Datagrams.
    Udp,
    /// SYN.
    Tcp,
}

impl Kind {
    /// Attempts at one target in a run, at most, if there are `count` of each kind.
    pub fn attempts(&self, count: u32) -> usize {
        let times = match self {
            Self::Dns { servers, .. } if servers.is_empty() => PROBE_OWN_SERVERS,
            Self::Dns { servers, .. } => servers.len(),
            Self::PathMtu { .. } => PROBE_MTU_STEPS as usize,
            Self::Trace { max_hops, .. } => *max_hops as usize,
            Self::Gateway => PROBE_GATEWAYS,
            _ => 1,
        };
        count as usize * times
    }

    /// What is sent to one target from one attempt to the next, at most.
    pub fn attempts_at_once(&self) -> f64 {
        match self {
            Self::Trace { max_hops, .. } => f64::from(*max_hops),
            Self::PathMtu { .. } => 1.0,
            // Each name of the search list is a question of its own, and the name as it is.
            Self::Dns { search, .. } => {
                let names = 1 + if search.is_empty() { PROBE_SEARCH } else { search.len() };
                (self.attempts(1) * names) as f64
            }
            kind => kind.attempts(1) as f64,
        }
    }
}

/// Which addresses a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// IPv4 where there is one.
    Any,
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The one of these two.
    pub fn of(is_v6: bool) -> Self {
        if is_v6 { Self::V6 } else { Self::V4 }
    }

    /// Whether an address is of it.
    pub fn takes(self, address: IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::V4 => address.is_ipv4(),
            Self::V6 => address.is_ipv6(),
        }
    }

    /// ` of IPv4`; nothing of any.
    pub fn words(self) -> &'static str {
        match self {
            Self::Any => "",
            Self::V4 => " of IPv4",
            Self::V6 => " of IPv6",
        }
    }
}

/// What to do, with every default filled in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// For people.
    pub name: String,
    /// For people and tools.
    pub labels: BTreeMap<String, String>,
    /// It was asked for on every node.
    pub all_nodes: bool,
    /// Whither.
    pub targets: Vec<String>,
    /// How.
    pub kind: Kind,
    /// Attempts at each target in a run.
    pub count: u32,
    /// Between the beginnings of two attempts.
    pub interval_nanos: i64,
    /// How long an answer may take.
    pub timeout_nanos: i64,
    /// For names.
    pub family: Family,
    /// From one run to the next; absent: there is one.
    pub every_nanos: Option<i64>,
    /// The sources are the targets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mesh: Option<Mesh>,
}

impl Spec {
    /// That one source has.
    pub fn targets_of_each(&self) -> usize {
        let targets = self.mesh.as_ref().map_or(self.targets.len(), |mesh| mesh.neighbors as usize);
        targets.max(1)
    }

    /// From the first attempt of a run until the last has its answer, or none.
    pub fn run_nanos(&self) -> i64 {
        let series = self.interval_nanos * i64::from(self.count.saturating_sub(1)) + self.timeout_nanos;
        match self.kind {
            Kind::PathMtu { .. } => series * i64::from(PROBE_MTU_STEPS),
            Kind::Trace { max_hops, .. } => series + i64::from(max_hops) * PROBE_HOP_NANOS,
            // Until the call is answered, and until the end is.
            Kind::Throughput(Throughput { duration_nanos, .. }) => duration_nanos + 2 * self.timeout_nanos,
            _ => series,
        }
    }
}

/// Where a probe, or one source's part of it, is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(i64)]
pub enum State {
    /// Not every source has it.
    Pending = 1,
    /// It waits for its time.
    Armed = 2,
    /// It is at work.
    Running = 3,
    /// It has reported everything.
    Completed = 4,
    /// It could not be done.
    Failed = 5,
    /// Somebody ended it.
    Stopped = 6,
}

impl State {
    /// By its number.
    pub fn from_number(number: i64) -> Option<Self> {
        let all = [Self::Pending, Self::Armed, Self::Running, Self::Completed, Self::Failed, Self::Stopped];
        all.into_iter().find(|state| *state as i64 == number)
    }

    /// Whether nothing follows.
    pub fn is_final(self) -> bool {
        self >= Self::Completed
    }
}

/// One source's part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Whence.
    pub source: Source,
    /// Where it is.
    pub state: State,
    /// Why it failed.
    pub reason: String,
    /// Runs that were reported.
    pub runs: u64,
    /// Number of the last one.
    pub last_run: Option<u64>,
}

impl Part {
    /// Nothing is known of it.
    pub fn new(source: Source) -> Self {
        Self { source, state: State::Pending, reason: String::new(), runs: 0, last_run: None }
    }

    /// It cannot be done.
    pub fn failed(source: Source, reason: String) -> Self {
        Self { state: State::Failed, reason, ..Self::new(source) }
    }
}

/// One probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Its id.
    pub id: String,
    /// What to do.
    pub spec: Spec,
    /// When it was stored.
    pub created_at_nanos: i64,
    /// Identity of who asked for it.
    pub created_by: String,
    /// Begin of the first run.
    pub start_nanos: i64,
    /// Nothing follows since.
    pub ended_at_nanos: Option<i64>,
    /// Who stopped it; empty: nobody.
    pub stopped: String,
    /// In the order of its sources.
    pub parts: Vec<Part>,
}

impl Probe {
    /// What its parts come to.
    pub fn state(&self, now_nanos: i64) -> State {
        let all = |is: fn(&Part) -> bool| self.parts.iter().all(is);
        if !self.stopped.is_empty() {
            State::Stopped
        } else if all(|part| part.state == State::Failed) {
            State::Failed
        } else if all(|part| part.state.is_final()) {
            State::Completed
        } else if now_nanos >= self.start_nanos {
            State::Running
        } else if all(|part| part.state >= State::Armed) {
            State::Armed
        } else {
            State::Pending
        }
    }

    /// Nodes with a part for which something follows.
    pub fn nodes(&self) -> BTreeSet<&str> {
        let open = self.parts.iter().filter(|part| !part.state.is_final());
        open.map(|part| part.source.node.as_str()).collect()
    }
}

/// News of a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// Probe id.
    pub probe: String,
    /// Whose.
    pub source: Source,
    /// What.
    pub what: What,
}

/// See [`News`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The agent has it.
    Armed,
    /// It cannot be done, for this reason.
    Failed(String),
    /// What a run found.
    Report {
        /// Which.
        run: u64,
        /// Encoded.
        content: Vec<u8>,
    },
    /// What a run found cannot be kept.
    Dropped {
        /// Which.
        run: u64,
        /// Why.
        reason: String,
    },
}
