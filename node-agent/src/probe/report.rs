//! What one source found in one run.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use lastseen_proto::place::Place;
use lastseen_proto::table::NodeTable;

use super::attempt::Attempt;

/// All targets of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Probe id.
    pub probe: String,
    /// Number of the run.
    pub run: u64,
    /// Whence.
    pub place: Place,
    /// When it began, nanoseconds since 1970 on this node's clock.
    pub start: i64,
    /// In the order of the targets.
    pub results: Vec<Found>,
}

impl Report {
    /// How many there are.
    pub fn attempts(&self) -> usize {
        self.results.iter().map(|found| found.attempts.len()).sum()
    }

    /// Memory that its rows take, about, bytes.
    pub fn row_bytes(&self) -> usize {
        let rows = self.results.iter().filter_map(|found| match &found.finding {
            Some(Finding::Table(table)) => Some(&table.rows),
            _ => None,
        });
        rows.flatten().flatten().map(|cell| size_of::<String>() + cell.len()).sum()
    }
}

/// All attempts at one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// As it was given.
    pub target: String,
    /// What was probed; absent: nothing.
    pub address: Option<IpAddr>,
    /// What it was sent from, where that is of interest.
    pub source: Option<IpAddr>,
    /// Of DNS, whom it asked.
    pub server: Option<SocketAddr>,
    /// Why nothing was sent.
    pub reason: String,
    /// In their order.
    pub attempts: Vec<Attempt>,
    /// What they showed beyond that.
    pub finding: Option<Finding>,
}

impl Found {
    /// Nothing was sent.
    pub fn nothing(target: String, reason: String) -> Self {
        Self {
            target,
            address: None,
            source: None,
            server: None,
            reason,
            attempts: Vec::new(),
            finding: None,
        }
    }
}

/// What attempts showed, by kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// A name server's answer.
    Dns(Names),
    /// A web server's.
    Http(Page),
    /// Of the path.
    PathMtu(PathMtu),
    /// Of the link.
    Neighbor(Neighbor),
    /// Of the kernel.
    Table(Table),
    /// Of one end of a throughput.
    Throughput(Throughput),
}

/// Which end of a throughput.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It sends.
    Sender,
    /// It counts.
    Receiver,
}

/// One second of a throughput.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interval {
    /// Payload.
    pub bytes: u64,
    /// Datagrams.
    pub packets: u64,
}

/// What one end of a throughput saw. What only the other end or the other protocol has is absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Throughput {
    /// Which end.
    pub role: Role,
    /// Payload that was sent, of TCP acknowledged; or that came, without copies.
    pub bytes: u64,
    /// Datagrams, without copies.
    pub packets: u64,
    /// From the first byte to the last.
    pub duration: Duration,
    /// Mean.
    pub bits_per_second: u64,
    /// Datagrams that did not come.
    pub lost: Option<u64>,
    /// Datagrams that came again.
    pub duplicates: Option<u64>,
    /// Datagrams that came late.
    pub reordered: Option<u64>,
    /// Mean variation of the delay.
    pub jitter: Option<Duration>,
    /// Segments that were sent again.
    pub retransmits: Option<u64>,
    /// Round trip.
    pub rtt: Option<Duration>,
    /// Datagrams that the receiver's socket had no room for.
    pub overflowed: Option<u64>,
    /// What came of others.
    pub strangers: u64,
    /// Datagrams that this node did not let out.
    pub not_sent: u64,
    /// Second by second.
    pub seconds: Vec<Interval>,
}

impl Throughput {
    /// Nothing so far.
    pub fn of(role: Role) -> Self {
        Self {
            role,
            bytes: 0,
            packets: 0,
            duration: Duration::ZERO,
            bits_per_second: 0,
            lost: None,
            duplicates: None,
            reordered: None,
            jitter: None,
            retransmits: None,
            rtt: None,
            overflowed: None,
            strangers: 0,
            not_sent: 0,
            seconds: Vec::new(),
        }
    }
}

/// What a name server said last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Asked for in the end.
    pub name: String,
    /// Response code in words.
    pub code: String,
    /// Those of the type that was asked for.
    pub records: Vec<String>,
    /// Over TCP.
    pub tcp: bool,
    /// Until then, over all names.
    pub questions: u32,
}

/// What a web server showed last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// 0: none.
    pub status: u16,
    /// Of HTTP.
    pub version: String,
    /// As many as were read.
    pub body_bytes: u64,
    /// Of HTTPS.
    pub certificate: Option<Certificate>,
    /// Of HTTPS.
    pub tls_version: String,
    /// Where it redirects to.
    pub location: String,
}

/// The first certificate of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Whose.
    pub subject: String,
    /// By whom.
    pub issuer: String,
    /// Names and addresses it is for.
    pub names: Vec<String>,
    /// Valid from.
    pub not_before: SystemTime,
    /// Valid until.
    pub not_after: SystemTime,
    /// Why it is not to be trusted; empty: it is.
    pub fault: String,
}

/// How a path MTU was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// The interface's own.
    Interface,
    /// Somebody said so.
    Icmp,
    /// By sizes alone.
    Probing,
    /// All that was asked for came through.
    Asked,
}

/// The largest packet that came through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathMtu {
    /// Bytes; absent: none came through.
    pub mtu: Option<u16>,
    /// How it was found.
    pub method: Method,
    /// Who said that larger ones do not fit.
    pub limited_by: Option<IpAddr>,
    /// Of the interface that the route leaves by.
    pub interface_mtu: u32,
}

/// What the link says of an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Neighbor {
    /// Where it is looked for.
    pub interface: String,
    /// Of the kernel's entry before.
    pub kernel_state: String,
    /// Of the kernel's entry.
    pub kernel_link_address: String,
    /// Those that answered.
    pub link_addresses: Vec<String>,
    /// It is an address of the place itself: whoever answers has it too.
    pub is_own: bool,
}

/// Rows of a table of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Which.
    pub table: NodeTable,
    /// What stands in the cells of a row.
    pub columns: &'static [&'static str],
    /// As many as a report holds.
    pub rows: Vec<Vec<String>>,
    /// How many there were.
    pub total: u64,
    /// What else is to be known.
    pub notes: Vec<String>,
}
