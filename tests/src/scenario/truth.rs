//! What really happened, from the fault's and the generators' own records only.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, bail};

use super::casting::Staging;
use super::edges::Crossing;
use super::file::{Leg, Place, Point, Scenario, Verdict};
use super::legs::Roles;
use super::packets::Oracle;
use super::report::{NodeReport, Path, PointName, Report};
use super::sample::Sampled;
use crate::fault::{Cast, Fault, Side};
use crate::traffic::log::UdpLog;
use crate::traffic::udp::UdpPlan;
use crate::traffic::witness::Passed;
use crate::traffic::{Conversation, ConversationLog};

/// Ground truth of one scenario run.
#[derive(Debug, Clone)]
pub struct Truth {
    /// What the report must come to.
    pub verdict: Verdict,
    /// The node whose agent was killed or did not run.
    pub killed: Option<String>,
    /// The node whose wall clock is ahead, and by how many nanoseconds in the middle of the window.
    pub clock_ahead: Option<(String, i64)>,
    /// Least and most share of the datagrams into the fault, in percent, that no point could see where it was to be
    /// seen. What is lost of these cannot be told.
    pub unseen_percent: Option<[f64; 2]>,
    /// The filter hides the stream into the fault from some point on.
    pub is_hidden: bool,
    /// Least and most time that datagrams take between the nodes, milliseconds.
    pub delay_millis: Option<[i64; 2]>,
    /// Every leg on which something is lost, the one that loses most first.
    pub losses: Vec<LegLoss>,
    /// The UDP stream into the fault.
    pub faulty: Stream,
    /// The node that gives the datagrams of this stream another tuple, once for each.
    pub translators: Vec<String>,
    /// Source and destination with which they arrive then, or should; absent: as they were sent.
    pub beyond: Option<(IpAddr, IpAddr)>,
    /// The third node's UDP stream.
    pub clean: Stream,
    /// What is known of single datagrams.
    pub oracles: Vec<Oracle>,
    /// Who plays which part.
    pub roles: Roles,
    /// The UDP streams of the other conversations.
    pub others: Vec<Stream>,
    /// Points that see what arrives of the faulty stream, and of the answers beside it.
    pub routes: [Option<Vec<PointName>>; 2],
    /// What a capture that sampled must have judged.
    pub sampled: Option<Sampled>,
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
    /// Whether they were on their way back to the sender's pod.
    pub is_answer: bool,
    /// How many of them no point was there to miss.
    pub unseen: u64,
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
    /// Source port and datagrams lost of each of its flows, where it has several.
    pub flows: Vec<(u16, u64)>,
    /// Where it goes across the edges of the window.
    pub crossing: Option<Crossing>,
}

impl Stream {
    fn new(log: &ConversationLog, conversation: &Conversation<'_>) -> Result<Self> {
        let source_port = conversation.udp.as_ref().map_or(0, |plan| plan.source_port);
        let udp = log.udp.as_ref().context("the conversation sent no UDP")?;
        Ok(Self {
            source: SocketAddr::new(log.source, source_port),
            destination: log.destination,
            sent: udp.sent.len() as u64,
            lost: udp.lost().len() as u64,
            flows: Vec::new(),
            crossing: None,
        })
    }

    /// What the report says of it.
    pub fn path<'r>(&self, report: &'r Report) -> Option<&'r Path> {
        let (source, destination) = (self.source.to_string(), self.destination.to_string());
        let mut udp = report.paths.iter().filter(|path| path.protocol == "udp");
        udp.find(|path| path.source == source && path.destination == destination)
    }

    /// Leaves only what is judged.
    fn cut(&mut self, report: &Report, ahead: Option<&(String, i64)>) {
        if let Some(crossing) = &self.crossing {
            (self.sent, self.lost) = crossing.judged(report, self, ahead);
        }
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
        let [faulty, clean, others @ ..] = logs else { bail!("two conversations must have two logs") };
        let expect = &scenario.expect;
        let (translators, beyond) = translation(&scenario.fault, staging.cast);
        let route = |points: &Option<Vec<Point>>| Some(names(staging, points.as_deref()?));
        let truth = Self {
            verdict: expect.verdict,
            killed: killed(scenario, staging),
            clock_ahead: None,
            unseen_percent: expect.not_observable_percent,
            is_hidden: expect.hidden,
            delay_millis: expect.delay_millis,
            losses: losses(scenario, staging, struck),
            faulty: faulty_stream(scenario, staging, struck, faulty)?,
            translators,
            beyond,
            clean: Stream::new(clean, &staging.clean)?,
            oracles: oracles(scenario, staging, [faulty, clean]),
            roles: Roles::new(staging),
            others: streams(&staging.others, others)?,
            routes: [&expect.route, &expect.return_route].map(route),
            sampled: None,
        };
        all_struck(scenario, struck)?;
        truth.consistent(clean)?;
        Ok(truth)
    }

    /// Notes which datagrams of both streams the window covers, by when they were first seen.
    pub fn cross(
        &mut self,
        window: (i64, i64),
        staging: &Staging<'_>,
        logs: &[ConversationLog],
        passed: &[Passed],
    ) -> Result<()> {
        if self.lost() != self.faulty.lost {
            bail!("{} datagrams are missing of {} that the fault counts", self.faulty.lost, self.lost());
        }
        for (stream, log) in [&mut self.faulty, &mut self.clean].into_iter().zip(logs) {
            let node = &staging.node_of(log.source).context("a stream from nowhere")?.plan.name;
            let log = log.udp.as_ref().context("the conversation sent no UDP")?;
            stream.crossing = Some(Crossing::new(window, node, stream, log, passed)?);
        }
        // Which of them are judged, and so may be named, only the report says.
        self.oracles.clear();
        Ok(())
    }

    /// Leaves what can be judged: of streams that go across the edges of the window what is inside, and of the losses
    /// those that a point was there to miss.
    pub fn cut(&mut self, report: &Report) {
        if let ([leg], Some(_)) = (&mut self.losses[..], self.unseen_percent) {
            let path = self.faulty.path(report);
            let (lost, unseen) = path.map_or((0, 0), |path| (path.totals.lost, path.totals.not_observable));
            leg.unseen = leg.count.saturating_sub(lost).min(unseen);
            leg.count -= leg.unseen;
        }
        let ahead = self.clock_ahead.as_ref();
        self.faulty.cut(report, ahead);
        self.clean.cut(report, ahead);
        if let ([leg], true) = (&mut self.losses[..], self.faulty.crossing.is_some()) {
            leg.count = self.faulty.lost;
        }
    }

    /// Of the segments lost, those that no point was there to miss.
    pub fn unseen(&self) -> u64 {
        self.losses.iter().map(|loss| loss.unseen).sum()
    }

    /// Segments lost on all legs.
    pub fn lost(&self) -> u64 {
        self.losses.iter().map(|loss| loss.count).sum()
    }

    /// How much more of a node's clock the report takes for an error than is one, nanoseconds: all nodes of a lab share
    /// one clock, so every offset but one that was injected.
    pub fn clock_error(&self, node: &NodeReport) -> i64 {
        let injected = self.clock_ahead.as_ref().filter(|(name, _)| *name == node.node);
        node.clock_offset_nanos.unwrap_or(0).saturating_sub(injected.map_or(0, |(_, nanos)| *nanos))
    }

    fn consistent(&self, clean: &ConversationLog) -> Result<()> {
        if self.clean.lost > 0 || clean.tcp.iter().any(|tcp| !tcp.completed) {
            bail!("the lab lost traffic of the third node: {} datagrams, {:?}", self.clean.lost, clean.tcp);
        }
        let missed = [&self.faulty].into_iter().chain(&self.others).map(|stream| stream.lost).sum::<u64>();
        if missed > self.lost() {
            bail!("the generators miss {missed} datagrams, the fault counts only {}", self.lost());
        }
        Ok(())
    }
}

fn all_struck(scenario: &Scenario, struck: &[u64]) -> Result<()> {
    for (fault, count) in scenario.faults().zip(struck) {
        if fault.strikes_packets() && *count == 0 {
            bail!("{fault:?} struck nothing: there is nothing to find");
        }
    }
    Ok(())
}

/// The stream into the fault, without what no report can know of: datagrams that vanished before the first point or behind
/// the last.
fn faulty_stream(
    scenario: &Scenario,
    staging: &Staging<'_>,
    struck: &[u64],
    log: &ConversationLog,
) -> Result<Stream> {
    let mut stream = Stream::new(log, &staging.faulty)?;
    let struck = struck.first().copied().unwrap_or(0);
    if scenario.expect.lost_in_pod {
        if stream.lost == 0 {
            bail!("the pod lost nothing: there is nothing to find");
        }
        if scenario.fault.counts_losses() && struck != stream.lost {
            bail!("the pod lost {} datagrams, the fault struck {struck}", stream.lost);
        }
        stream.lost = 0;
    }
    if let Some(plan) = staging.faulty.udp.as_ref().filter(|plan| plan.flows > 1) {
        stream.flows = flows(plan, log);
    }
    if scenario.expect.out_of_sight {
        (stream.sent, stream.lost) = (stream.sent - struck, stream.lost - struck);
    }
    Ok(stream)
}

/// What each fault took on its leg, the most first.
fn losses(scenario: &Scenario, staging: &Staging<'_>, struck: &[u64]) -> Vec<LegLoss> {
    // A counter counts super-frames.
    let segments = u64::from(scenario.traffic.udp_segments.unwrap_or(1));
    let lossy = scenario.faults().zip(scenario.legs()).zip(struck);
    let lossy = lossy.filter_map(|((fault, leg), count)| Some((fault, leg?, *count)));
    let mut losses: Vec<_> =
        lossy.map(|(fault, leg, count)| leg_loss(staging, fault, leg, count * segments)).collect();
    losses.sort_by_key(|loss| std::cmp::Reverse(loss.count));
    losses
}

/// Who translates, once for each tuple, and the addresses behind the last translation.
fn translation(fault: &Fault, cast: Cast<'_>) -> (Vec<String>, Option<(IpAddr, IpAddr)>) {
    let translations = fault.translations();
    let beyond = (fault.source_beyond(cast), fault.destination_beyond(cast));
    (vec![cast.sender.plan.name.clone(); translations], (translations > 0).then_some(beyond))
}

/// Points by their names in the lab.
pub(crate) fn names(staging: &Staging<'_>, points: &[Point]) -> Vec<PointName> {
    points.iter().map(|&point| name(staging, point)).collect()
}

fn oracles(
    scenario: &Scenario,
    staging: &Staging<'_>,
    [faulty, clean]: [&ConversationLog; 2],
) -> Vec<Oracle> {
    let is_unnamed = scenario.expect.lost_in_pod || scenario.expect.out_of_sight;
    let plans = [staging.faulty.udp.as_ref(), staging.clean.udp.as_ref()];
    let streams = [faulty, clean].into_iter().zip(plans).zip([is_unnamed, false]);
    streams.filter_map(|((log, plan), arrives)| Oracle::new(log, plan, arrives)).collect()
}

/// What each flow lost.
fn flows(plan: &UdpPlan, log: &ConversationLog) -> Vec<(u16, u64)> {
    let mut flows: Vec<_> = (0..plan.flows).map(|flow| (plan.source_port + flow, 0)).collect();
    for id in log.udp.iter().flat_map(UdpLog::lost) {
        flows[usize::from(plan.flow_of(id))].1 += 1;
    }
    flows
}

fn streams(conversations: &[Conversation<'_>], logs: &[ConversationLog]) -> Result<Vec<Stream>> {
    if conversations.len() != logs.len() {
        bail!("{} conversations have {} logs", conversations.len(), logs.len());
    }
    logs.iter().zip(conversations).map(|(log, conversation)| Stream::new(log, conversation)).collect()
}

fn killed(scenario: &Scenario, staging: &Staging<'_>) -> Option<String> {
    match scenario.fault {
        Fault::AgentKilled { at } | Fault::AgentAbsent { at } => {
            Some(staging.cast.node(at).plan.name.clone())
        }
        _ => None,
    }
}

fn leg_loss(staging: &Staging<'_>, fault: &Fault, leg: &Leg, count: u64) -> LegLoss {
    let (from, to) = (name(staging, leg.from), name(staging, leg.to));
    LegLoss { from, to, count, is_answer: fault.strikes_answers(), unseen: 0 }
}

/// A point by its name in the lab.
pub(crate) fn name(staging: &Staging<'_>, point: Point) -> PointName {
    let node = match point.side {
        Side::Sender => &staging.cast.sender.plan,
        Side::Receiver => &staging.cast.receiver.plan,
    };
    let place: Place = point.place;
    PointName { node: node.name.clone(), interface: place.interface(node).to_owned() }
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
