//! Probes between sources, in the coordinator's own words.

use std::fmt;
use std::net::IpAddr;

use lastseen_proto::target::{Host, Target};
use serde::{Deserialize, Serialize};

use crate::probes::model::Source;

/// Which address stands for a node's host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostNetwork {
    /// Where its tunnels end, or else that of its default route.
    #[default]
    Underlay,
    /// That of its tunnel device.
    Overlay,
}

impl From<HostNetwork> for lastseen_correlate::HostNetwork {
    fn from(network: HostNetwork) -> Self {
        match network {
            HostNetwork::Underlay => Self::Underlay,
            HostNetwork::Overlay => Self::Overlay,
        }
    }
}

/// Every source probes other sources.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mesh {
    /// Others that each probes.
    pub neighbors: u32,
    /// Which address stands for a host.
    pub network: HostNetwork,
    /// Of TCP and UDP; 0: none.
    pub port: u16,
    /// In the order of the sources.
    pub members: Vec<Member>,
}

/// One source of a mesh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Whence.
    pub source: Source,
    /// By which others probe it; absent: it has no part.
    pub address: Option<IpAddr>,
    /// Why it has no part.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Whom it probes, as indices of members.
    pub targets: Vec<u16>,
}

impl Mesh {
    /// What stands for a member in results; empty: it has no part.
    pub fn target(&self, member: &Member) -> String {
        let target = |address| match self.port {
            0 => Target { host: Host::Address(address), port: None },
            port => Target { host: Host::Address(address), port: Some(port) },
        };
        member.address.map_or_else(String::new, |address| target(address).to_string())
    }

    /// Whom a member probes.
    pub fn targets_of(&self, member: &Member) -> Vec<String> {
        let others = member.targets.iter().filter_map(|at| self.members.get(usize::from(*at)));
        others.map(|other| self.target(other)).collect()
    }

    /// Why a source has no part; absent: it has one.
    pub fn fault(&self, source: &Source) -> Option<&str> {
        let member = self.members.iter().find(|member| member.source == *source)?;
        Some(member.reason.as_str()).filter(|reason| !reason.is_empty())
    }
}

/// By what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// A connection.
    Tcp,
    /// Numbered datagrams.
    Udp,
}

/// What is measured between two sources, of which `to` receives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Throughput {
    /// By what.
    pub transport: Transport,
    /// How long it sends.
    pub duration_nanos: i64,
    /// Bits of payload a second; absent: what goes, of UDP the usual rate.
    pub bits_per_second: Option<u64>,
    /// It ends with these.
    pub max_bytes: u64,
    /// Where the receiver listens; 0 until it is chosen.
    pub port: u16,
    /// Which address stands for a host.
    pub network: HostNetwork,
    /// Who receives.
    pub to: Source,
    /// What the sender shows to the receiver.
    pub token: Token,
    /// Addresses the sender may come from; empty: any.
    pub senders: Vec<IpAddr>,
}

/// A secret of two agents, which no log and no answer has.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token(pub Vec<u8>);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}
