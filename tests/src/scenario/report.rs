//! The parts of `ctl diff-nodes -o json` that the checker reads.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Deserializer};

/// A `DiffReport`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Report {
    /// Capture id.
    pub capture_id: String,
    /// `DELIVERED`, `LOST`, `INCONCLUSIVE`.
    pub verdict: String,
    /// Whether the window was still open.
    pub partial: bool,
    /// Sums over all paths.
    pub totals: Totals,
    /// Nodes.
    pub nodes: Vec<NodeReport>,
    /// Paths, one per direction of a conversation.
    pub paths: Vec<Path>,
    /// Further paths, those with the least to say.
    #[serde(deserialize_with = "count")]
    pub omitted_paths: u64,
    /// Which share was judged; absent: all.
    pub sampling: Option<Sampling>,
}

/// Hash-based selection.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Sampling {
    /// One in this many.
    pub interval: u32,
    /// At times more.
    pub varied: bool,
}

/// How one node took part.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeReport {
    /// Name.
    pub node: String,
    /// Final state.
    pub state: String,
    /// Why it failed.
    pub reason: String,
    /// Packets that its rings held.
    #[serde(deserialize_with = "count")]
    pub packets: u64,
    /// Packets that its rings had no room for, as the kernel counts them.
    #[serde(deserialize_with = "count")]
    pub kernel_drops: u64,
    /// Its clock less the coordinator's, nanoseconds.
    #[serde(deserialize_with = "signed")]
    pub clock_offset_nanos: Option<i64>,
    /// Bound of that offset's error, nanoseconds.
    #[serde(deserialize_with = "signed")]
    pub clock_error_nanos: Option<i64>,
}

/// States of segments.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs, reason = "the names are the report's")]
pub struct Totals {
    #[serde(deserialize_with = "count")]
    pub segments: u64,
    #[serde(deserialize_with = "count")]
    pub delivered: u64,
    #[serde(deserialize_with = "count")]
    pub lost: u64,
    #[serde(deserialize_with = "count")]
    pub not_observable: u64,
    #[serde(deserialize_with = "count")]
    pub ambiguous: u64,
    #[serde(deserialize_with = "count")]
    pub in_flight: u64,
    #[serde(deserialize_with = "count")]
    pub transformed: u64,
}

impl Totals {
    /// The states added up; must equal `segments`.
    pub fn sum(&self) -> u64 {
        self.delivered + self.lost + self.not_observable + self.ambiguous + self.in_flight + self.transformed
    }

    /// Adds each state of `other`.
    pub fn add(&mut self, other: &Self) {
        self.segments += other.segments;
        self.delivered += other.delivered;
        self.lost += other.lost;
        self.not_observable += other.not_observable;
        self.ambiguous += other.ambiguous;
        self.in_flight += other.in_flight;
        self.transformed += other.transformed;
    }
}

/// One direction of a conversation.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Path {
    /// Source, with its port where there is one.
    pub source: String,
    /// Destination, likewise.
    pub destination: String,
    /// `tcp`, `udp`, …
    pub protocol: String,
    /// Its other tuples.
    pub translations: Vec<Translation>,
    /// States of its segments.
    pub totals: Totals,
    /// Points in path order.
    pub hops: Vec<Hop>,
    /// Losses by leg.
    pub losses: Vec<Loss>,
}

impl Path {
    /// Protocol, source and destination, for people.
    pub fn name(&self) -> String {
        format!("{} {} → {}", self.protocol, self.source, self.destination)
    }

    /// Addresses of source and destination.
    pub fn addresses(&self) -> Option<(IpAddr, IpAddr)> {
        Some((address(&self.source)?, address(&self.destination)?))
    }
}

fn address(text: &str) -> Option<IpAddr> {
    text.parse().or_else(|_| text.parse().map(|socket: SocketAddr| socket.ip())).ok()
}

/// A tuple beyond a translation.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Translation {
    /// Source, with its port where there is one.
    pub source: String,
    /// Destination, likewise.
    pub destination: String,
    /// Who translated.
    pub node: Option<String>,
}

impl Translation {
    /// Addresses of source and destination.
    pub fn addresses(&self) -> Option<(IpAddr, IpAddr)> {
        Some((address(&self.source)?, address(&self.destination)?))
    }
}

/// A point by node and interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PointName {
    /// Node name.
    pub node: String,
    /// Interface name.
    pub interface: String,
}

/// A point of a path.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Hop {
    /// Which.
    #[serde(flatten)]
    pub point: PointName,
    /// Segments it saw.
    #[serde(deserialize_with = "count")]
    pub seen: u64,
    /// Median time since the point before, nanoseconds.
    #[serde(deserialize_with = "signed")]
    pub delay_p50_nanos: Option<i64>,
    /// Time that 99 of 100 segments did not exceed.
    #[serde(deserialize_with = "signed")]
    pub delay_p99_nanos: Option<i64>,
}

/// Segments lost on one leg.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Loss {
    /// Last point that saw them.
    pub from: PointName,
    /// First that should have; absent when unknown.
    pub to: Option<PointName>,
    /// How many.
    #[serde(deserialize_with = "count")]
    pub count: u64,
}

fn signed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| text.parse().map_err(serde::de::Error::custom)).transpose()
}

/// Canonical proto3 JSON writes 64-bit integers as strings.
fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::Report;

    #[test]
    fn reads_canonical_proto_json() {
        let text = r#"{"captureId":"c-1","verdict":"LOST","totals":{"segments":"10","delivered":"7","lost":"3"},
            "paths":[{"source":"10.1.0.2:5","destination":"10.2.0.3:6","protocol":"udp","losses":[
            {"from":{"node":"a","interface":"eth0"},"to":{"node":"b","interface":"eth0"},"count":"3"}]}]}"#;
        let report: Report = serde_json::from_str(text).expect("report");
        assert_eq!((report.totals.sum(), report.paths[0].losses[0].count), (10, 3));
        let (source, _) = report.paths[0].addresses().expect("addresses");
        assert_eq!(source.to_string(), "10.1.0.2");
    }
}
