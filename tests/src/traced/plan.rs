//! How a scenario is traced, as its file says.

use serde::Deserialize;

use crate::scenario::file::{Leg, Verdict};

/// How `trace-path` goes through the fault.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Traced {
    /// How the packets look.
    #[serde(default)]
    pub protocol: Protocol,
    /// Bytes of each with its IP header; absent: as `trace-path` has it.
    pub size: Option<u32>,
    /// None may be fragmented.
    #[serde(default)]
    pub dont_fragment: bool,
    /// Packets; absent: the usual.
    pub count: Option<u64>,
    /// Hops they begin with; absent: the kernel's default.
    pub ttl: Option<u8>,
    /// The scenario's own datagrams are under way at the same time, and meet the fault as well.
    #[serde(default)]
    pub beside: bool,
    /// What the trace must say, where that is not what the scenario expects.
    pub expect: Option<Expect>,
}

/// How the packets of a trace look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// Datagrams.
    #[default]
    Udp,
    /// SYN.
    Tcp,
    /// Echo requests.
    Icmp,
}

/// What a trace must say.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// `DELIVERED`, `LOST` or `INCONCLUSIVE`.
    pub verdict: Verdict,
    /// The leg on which the fault loses what it counts.
    pub leg: Option<Leg>,
}
