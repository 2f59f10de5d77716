//! What really happened, from the fault's and the generators' own records only.

use std::fmt;
use std::net::SocketAddr;

use anyhow::{Context, Result, bail};

use super::casting::Staging;
use super::file::{Leg, Place, Scenario, Verdict};
use super::report::PointName;
use crate::fault::{Fault, Side};
use crate::traffic::ConversationLog;

/// Ground truth of one scenario run.
#[derive(Debug, Clone)]
pub struct Truth {
    /// What the report must come to.
    pub verdict: Verdict,
    /// The node whose agent was killed.
    pub killed: Option<String>,
    /// The filter hides the stream into the fault from some point on.
    pub is_hidden: bool,
    /// Every leg on which something is lost, the one that loses most first.
    pub losses: Vec<LegLoss>,
    /// The UDP stream into the fault.
    pub faulty: Stream,
    /// The node that gives the datagrams of this stream another tuple, once for each.
    pub translators: Vec<String>,
    /// The third node's UDP stream.
    pub clean: Stream,
}

/// Ground truth of one leg.
#[derive(Debug, Clone)]
pub struct LegLoss {
    /// Last point that sees the packets.
    pub from: PointName,
    /// First point that should.
    pub to: PointName,
    /// Segments lost between them, all protocols together.
    pub count: u64,
}

/// Ground truth of a UDP stream.
#[derive(Debug, Clone)]
pub struct Stream {
    /// Sender.
    pub source: SocketAddr,
    /// Receiver.
    pub destination: SocketAddr,
    /// Datagrams sent.
    pub sent: u64,
    /// Datagrams that did not arrive.
    pub lost: u64,
}

impl Stream {
    fn new(log: &ConversationLog, source_port: u16) -> Result<Self> {
        let udp = log.udp.as_ref().context("the conversation sent no UDP")?;
        Ok(Self {
            source: SocketAddr::new(log.source, source_port),
            destination: log.destination,
            sent: udp.sent.len() as u64,
            lost: udp.lost().len() as u64,
        })
    }
}

impl Truth {
    /// Puts the records together; records that contradict each other are an error of the lab.
    pub fn new(
        scenario: &Scenario,
        staging: &Staging<'_>,
        struck: &[u64],
        logs: &[ConversationLog],
    ) -> Result<Self> {
        let [faulty, clean] = logs else { bail!("two conversations must have two logs") };
        let port =
            |plan: &Option<crate::traffic::udp::UdpPlan>| plan.as_ref().map_or(0, |plan| plan.source_port);
        let mut faulty_stream = Stream::new(faulty, port(&staging.faulty.udp))?;
        if scenario.expect.lost_in_pod {
            if faulty_stream.lost == 0 {
                bail!("the pod lost nothing: there is nothing to find");
            }
            faulty_stream.lost = 0;
        }
        let clean_stream = Stream::new(clean, port(&staging.clean.udp))?;
        let lossy = scenario.legs().zip(struck).filter_map(|(leg, count)| Some((leg?, *count)));
        let mut losses: Vec<_> = lossy.map(|(leg, count)| leg_loss(staging, leg, count)).collect();
        losses.sort_by_key(|loss| std::cmp::Reverse(loss.count));
        let translations = if let Fault::Nat { way, .. } = scenario.fault { way.translations() } else { 0 };
        let truth = Self {
            verdict: scenario.expect.verdict,
            killed: killed(scenario, staging),
            is_hidden: scenario.expect.hidden,
            losses,
            faulty: faulty_stream,
            translators: vec![staging.cast.sender.plan.name.clone(); translations],
            clean: clean_stream,
        };
        for (fault, count) in scenario.faults().zip(struck) {
            if fault.strikes_packets() && *count == 0 {
                bail!("{fault:?} struck nothing: there is nothing to find");
            }
        }
        truth.consistent(clean)?;
        Ok(truth)
    }

    /// Segments lost on all legs.
    pub fn lost(&self) -> u64 {
        self.losses.iter().map(|loss| loss.count).sum()
    }

    fn consistent(&self, clean: &ConversationLog) -> Result<()> {
        if self.clean.lost > 0 || clean.tcp.iter().any(|tcp| !tcp.completed) {
            bail!("the lab lost traffic of the third node: {} datagrams, {:?}", self.clean.lost, clean.tcp);
        }
        if self.faulty.lost > self.lost() {
            bail!(
                "the generators miss {} datagrams, the fault counts only {}",
                self.faulty.lost,
                self.lost()
            );
        }
        Ok(())
    }
}

fn killed(scenario: &Scenario, staging: &Staging<'_>) -> Option<String> {
    match scenario.fault {
        Fault::AgentKilled { at } => Some(staging.cast.node(at).plan.name.clone()),
        _ => None,
    }
}

fn leg_loss(staging: &Staging<'_>, leg: &Leg, count: u64) -> LegLoss {
    LegLoss { from: name(staging, leg.from), to: name(staging, leg.to), count }
}

fn name(staging: &Staging<'_>, point: super::file::Point) -> PointName {
    let node = match point.side {
        Side::Sender => &staging.cast.sender.plan,
        Side::Receiver => &staging.cast.receiver.plan,
    };
    let place: Place = point.place;
    PointName { node: node.name.clone(), interface: place.interface(&node.veth).to_owned() }
}

impl fmt::Display for Truth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let legs: Vec<_> = self.losses.iter().map(|loss| format!("{} → {}", loss.from, loss.to)).collect();
        f.write_str(format!("{} {}", self.verdict.name(), legs.join(", ")).trim_end())
    }
}

impl fmt::Display for PointName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.node, self.interface)
    }
}
