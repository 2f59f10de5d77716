//! Puts the report together.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use lastseen_packet::observation::{FlowKey, Overlay};

use crate::FLOW_ROWS;
use crate::clock::Clocks;
use crate::evidence::coverage::Coverage;
use crate::evidence::flows::{Flows, bare, view};
use crate::fabric::network::{Network, Role};
use crate::fabric::topology::Direction;
use crate::input::{Job, SliceCounters};
use crate::losses::doubts;
use crate::losses::tally::{Missing, Tally};
use crate::losses::testimony::{LegLoss, Settlement, Settler};
use crate::matching::plan::{Course, Plan, Plans};
use crate::matching::run::Findings;
use crate::pattern::{self, Legs, Member, Row, Timeline};
use crate::report::cause::{self, Leg};
use crate::report::notes;
use crate::report::text::{ends, protocol_name};
use crate::report::view::verdict;
use crate::report::{
    Hop, Loss, LostPacket, NodeReport, Outcome, OverlayReport, PathReport, PieceBytes, PointName, Report,
    Sampling, SegmentTotals, Translation, Verdict,
};

/// Most paths of a report.
pub const PATH_LIMIT: usize = 1_000;

static NO_CARRIERS: BTreeSet<Overlay> = BTreeSet::new();

/// Everything a report is made of.
pub(crate) struct Assembler<'r, 'a> {
    pub(crate) job: &'a Job,
    pub(crate) network: &'r Network<'a>,
    pub(crate) flows: &'r Flows,
    pub(crate) coverage: &'r [Coverage],
    pub(crate) plans: &'r Plans,
    pub(crate) clocks: &'r Clocks,
    pub(crate) timeline: &'r Timeline,
    /// Packets that did not come with all of their fragments, by point.
    pub(crate) incomplete: &'r [u64],
    pub(crate) sampling: Option<Sampling>,
    pub(crate) settler: Settler<'r>,
}

/// A conversation with its settled losses.
pub(crate) struct Settled {
    pub(crate) conversation: u32,
    pub(crate) tally: Tally,
    pub(crate) settlement: Settlement,
}

/// Tunnels of the conversations that are listed, by conversation and point.
type Carriers = BTreeMap<(u32, usize), BTreeSet<Overlay>>;
/// Tuples of the conversations that are listed and were translated, by conversation and point.
type Tuples = BTreeMap<(u32, usize), FlowKey>;

impl Assembler<'_, '_> {
    pub(crate) fn outcome(&self, findings: Findings) -> Outcome {
        let mut settled = self.settle(findings.tallies);
        let totals = SegmentTotals::sum(settled.iter().map(|one| &one.tally.totals));
        let lost = self.lost_packets(&findings.missing, &settled);
        let uncompared = self.uncompared(&settled);
        let doubts = doubts::doubts(self, &settled);
        let weak_words = doubts::notes(self, &settled, &doubts);
        let legs = self.legs(&settled);
        settled.sort_by_key(|one| self.badness(one));
        let omitted_paths = settled.len().saturating_sub(PATH_LIMIT) as u64;
        settled.truncate(PATH_LIMIT);
        let carriers = self.carriers(&settled);
        let tuples = self.tuples(&settled);
        let paths: Vec<_> = settled.iter().map(|one| self.path(one, &legs, &carriers, &tuples)).collect();
        let mut report = Report { totals, paths, omitted_paths, ..self.head() };
        report.verdict = verdict(&report, 0.0);
        report.notes = notes::write(self, &report);
        report.notes.extend(notes::uncompared(&report, uncompared));
        report.notes.extend(weak_words);
        let (flows, flood) = self.flows.records(self.job, FLOW_ROWS);
        report.notes.extend(flood);
        Outcome { omitted_lost: totals.lost - lost.len() as u64, flows, lost, doubts, report }
    }

    /// A report without paths.
    fn head(&self) -> Report {
        Report {
            capture_id: self.job.capture_id.clone(),
            name: self.job.name.clone(),
            filter: self.job.filter.clone(),
            window: self.job.window,
            partial: self.job.partial,
            verdict: Verdict::default(),
            notes: Vec::new(),
            totals: SegmentTotals::default(),
            nodes: self.nodes(),
            paths: Vec::new(),
            omitted_paths: 0,
            sampling: self.sampling,
        }
    }

    fn lost_packets(&self, missing: &[Missing], settled: &[Settled]) -> Vec<LostPacket> {
        let settled: BTreeMap<u32, &Settled> = settled.iter().map(|one| (one.conversation, one)).collect();
        let of = |missing: &Missing| self.lost_packet(missing, settled.get(&missing.conversation)?);
        missing.iter().filter_map(of).collect()
    }

    fn settle(&self, tallies: BTreeMap<u32, Tally>) -> Vec<Settled> {
        let is_used = |tally: &Tally| {
            tally.totals != SegmentTotals::default() || tally.hops.iter().any(|hop| hop.seen > 0)
        };
        let used = tallies.into_iter().filter(|(_, tally)| is_used(tally));
        let settled = used.map(|(conversation, mut tally)| {
            let (course, plan) = self.course(conversation);
            let settlement = self.settler.settle(plan, course, &mut tally);
            Settled { conversation, tally, settlement }
        });
        settled.collect()
    }

    /// Segments that were seen at one point and compared with nothing.
    fn uncompared(&self, settled: &[Settled]) -> u64 {
        let alone = settled.iter().filter(|one| self.course(one.conversation).1.is_uncompared);
        alone.flat_map(|one| &one.tally.hops).map(|hop| hop.seen).sum()
    }

    pub(crate) fn course(&self, conversation: u32) -> (Course, &Plan) {
        let course = self.plans.courses[conversation as usize];
        (course, &self.plans.plans[course.plan as usize])
    }

    /// Worst first; then by tuple and path. Domains are numbered in the order batches come in, so the path stands for
    /// them: tenants whose tuples are alike have paths that are not.
    fn badness(&self, one: &Settled) -> impl Ord + use<> {
        let totals = &one.tally.totals;
        let conversation = self.flows.conversations[one.conversation as usize];
        let doubt = totals.not_observable + totals.ambiguous;
        let plan = self.course(one.conversation).1.path.points.clone();
        (Reverse((totals.lost, doubt, totals.segments)), conversation.tuple, plan)
    }

    fn member<'s>(&'s self, one: &'s Settled) -> Member<'s> {
        let (course, plan) = self.course(one.conversation);
        Member {
            conversation: one.conversation,
            plan: course.plan,
            points: &plan.path.points,
            tally: &one.tally,
            losses: &one.settlement.losses,
            is_in_pieces: course.is_in_pieces,
        }
    }

    /// What the losses of every leg have in common.
    fn legs(&self, settled: &[Settled]) -> Legs {
        if settled.iter().all(|one| one.settlement.losses.is_empty()) {
            return Legs::default();
        }
        let classes = self.flows.classes(|conversation, point| self.course(conversation).1.position(point));
        let row = |conversation: u32| {
            let (tuple, class) =
                (self.flows.conversations[conversation as usize].tuple, classes[conversation as usize]);
            Row { conversation, tuple, dscp: class.dscp(), ecn: class.ecn(), lost: 0, passed: 0 }
        };
        let place = |at: usize, is_mirrored: bool| {
            let point = &self.job.points[at];
            // A point of both directions is its own mirror.
            let is_in = point.direction.map(|direction| (direction == Direction::In) != is_mirrored);
            (point.node, &point.netns, &point.interface, is_in)
        };
        let places: BTreeMap<_, _> = (0..self.job.points.len()).map(|at| (place(at, false), at)).collect();
        let mirror = |at: usize| places.get(&place(at, true)).copied();
        Legs::new(self.timeline, settled.iter().map(|one| self.member(one)), mirror, row)
    }

    fn carriers(&self, settled: &[Settled]) -> Carriers {
        let mut listed: Vec<_> = settled.iter().map(|one| one.conversation).collect();
        listed.sort_unstable();
        let mut carriers = Carriers::new();
        for flow in &self.flows.all {
            let Some(overlay) = flow.key.overlay else { continue };
            if listed.binary_search(&flow.conversation).is_ok() {
                let point = usize::from(flow.point);
                carriers.entry((flow.conversation, point)).or_default().insert(overlay);
            }
        }
        carriers
    }

    fn tuples(&self, settled: &[Settled]) -> Tuples {
        let listed = settled.iter().map(|one| one.conversation);
        let translated: BTreeSet<_> =
            listed.filter(|conversation| !self.flows.later_tuples(*conversation).is_empty()).collect();
        let flows = self.flows.all.iter().filter(|flow| translated.contains(&flow.conversation));
        flows.map(|flow| ((flow.conversation, usize::from(flow.point)), bare(&flow.key))).collect()
    }

    pub(crate) fn name(&self, point: usize) -> PointName {
        let known = &self.job.points[point];
        PointName { node: self.job.nodes[known.node].name.clone(), interface: known.interface.clone() }
    }

    fn path(&self, one: &Settled, legs: &Legs, carriers: &Carriers, tuples: &Tuples) -> PathReport {
        let (course, plan) = self.course(one.conversation);
        let tuple = self.flows.conversations[one.conversation as usize].tuple;
        let (source, destination) = ends(&tuple);
        let seen = plan.path.points.iter().find_map(|&point| carriers.get(&(one.conversation, point)));
        let overlay = seen.and_then(first).or_else(|| self.expected_tunnel(plan));
        PathReport {
            source,
            destination,
            protocol: protocol_name(tuple.protocol),
            overlay,
            translations: self.translations(one.conversation, tuples),
            totals: one.tally.totals,
            in_pieces: course.is_in_pieces.then(|| PieceBytes {
                total: one.tally.bytes,
                lost: one.settlement.losses.iter().map(|loss| loss.missing.bytes).sum(),
            }),
            hops: self.hops(one, overlay, carriers),
            losses: one.settlement.losses.iter().map(|loss| self.loss(one, loss, legs, carriers)).collect(),
        }
    }

    /// The later tuples of a conversation, each with the node that both it and the one before it were seen on, or that
    /// told of it.
    fn translations(&self, conversation: u32, tuples: &Tuples) -> Vec<Translation> {
        let later = self.flows.later_tuples(conversation);
        if later.is_empty() {
            return Vec::new();
        }
        let path = &self.course(conversation).1.path.points;
        let here = |point: &usize| Some((self.job.points[*point].node, tuples.get(&(conversation, *point))?));
        let seen: Vec<_> = path.iter().filter_map(here).collect();
        let translation = |tuple: &FlowKey| {
            let (source, destination) = ends(tuple);
            let at = seen.iter().position(|(_, known)| *known == tuple);
            let pair = at.filter(|at| *at > 0).map(|at| (seen[at - 1].0, seen[at].0));
            let node = pair.filter(|(before, after)| before == after).map(|(node, _)| node);
            let node = node.or_else(|| self.flows.onward(conversation).filter(|_| at.is_none()));
            Translation { source, destination, node: node.map(|node| self.job.nodes[node].name.clone()) }
        };
        later.iter().map(translation).collect()
    }

    fn expected_tunnel(&self, plan: &Plan) -> Option<OverlayReport> {
        let device = self.network.tables[plan.path.source_node?].interface(plan.path.overlay?)?;
        device.overlay.map(|overlay| OverlayReport { kind: overlay.kind, id: overlay.id })
    }

    fn hops(&self, one: &Settled, overlay: Option<OverlayReport>, carriers: &Carriers) -> Vec<Hop> {
        let (course, plan) = self.course(one.conversation);
        let hops = plan.path.points.iter().zip(&one.tally.hops).enumerate().map(|(at, (&point, tally))| {
            let known = &self.job.points[point];
            let is_carrier =
                matches!(self.network.stations[point].role, Role::PhysicalIn | Role::PhysicalOut);
            let expected = overlay.filter(|_| is_carrier && plan.path.overlay.is_some());
            let seen = carriers.get(&(one.conversation, point)).and_then(first);
            let PointName { node, interface } = self.name(point);
            Hop {
                node,
                interface,
                kind: self.network.stations[point].kind,
                direction: known.direction,
                view: view(seen.or(expected)),
                seen: tally.seen,
                missing_after: one
                    .settlement
                    .losses
                    .iter()
                    .filter(|loss| loss.from == at as u32)
                    .map(|loss| loss.missing.count)
                    .sum(),
                blind_ratio: tally.blind_ratio(one.tally.totals.segments),
                delay_p50_nanos: tally.delays.quantile(0.5),
                delay_p99_nanos: tally.delays.quantile(0.99),
                bypassed: course.bypassed & 1 << at != 0,
            }
        });
        hops.collect()
    }

    fn loss(&self, one: &Settled, loss: &LegLoss, legs: &Legs, carriers: &Carriers) -> Loss {
        let (course, plan) = self.course(one.conversation);
        let (from, to) = self.member(one).leg(loss);
        let grain = &self.timeline.grains[one.conversation as usize];
        let found = pattern::find(&self.member(one), loss, legs, grain);
        let mut before = plan.path.points.iter().take(loss.from as usize + 1).rev();
        let carriers = before.find_map(|&point| carriers.get(&(one.conversation, point)));
        let leg = Leg {
            job: self.job,
            network: self.network,
            path: &plan.path,
            loss,
            destination: self.flows.destination(one.conversation),
            carriers: carriers.unwrap_or(&NO_CARRIERS),
            size_limit: found.size_limit,
            is_in_pieces: course.is_in_pieces,
        };
        Loss {
            from: self.name(from),
            to: Some(self.name(to)),
            count: loss.missing.count,
            total: loss.total,
            confidence: loss.confidence,
            reason: loss.reason.clone(),
            pattern: Some(found.pattern),
            cause: (!self.network.is_unmapped()).then(|| cause::find(&leg)).flatten(),
            examples: loss
                .missing
                .examples
                .iter()
                .filter_map(|missing| self.lost_packet(missing, one))
                .collect(),
        }
    }

    /// Absent if it was not called lost after all.
    fn lost_packet(&self, missing: &Missing, settled: &Settled) -> Option<LostPacket> {
        let (_, plan) = self.course(missing.conversation);
        let fate = settled.settlement.fates.get(&missing.class())?;
        let tuple = self.flows.conversations[missing.conversation as usize].tuple;
        let (source, destination) = ends(&tuple);
        let is_tcp = tuple.protocol == lastseen_packet::observation::protocol::TCP;
        let at = |at: u32| self.name(plan.path.points[at as usize]);
        let seen = (0..32).filter(|at| missing.mask & 1 << at != 0);
        Some(LostPacket {
            first_seen_nanos: missing.first,
            source,
            destination,
            protocol: protocol_name(tuple.protocol),
            ip_id: tuple.source.is_ipv4().then_some(missing.ip_id),
            tcp_seq: is_tcp.then_some(missing.tcp_seq),
            tcp_flags: is_tcp.then_some(missing.tcp_flags),
            ip_length: missing.ip_length.into(),
            payload_length: missing.payload_length().into(),
            last_seen: at(missing.mask.ilog2()),
            missing_at: Some(at(fate.to)),
            trajectory: seen.map(at).collect(),
            confidence: fate.confidence,
        })
    }

    fn nodes(&self) -> Vec<NodeReport> {
        let mut packets = vec![0; self.job.points.len()];
        for flow in &self.flows.all {
            packets[usize::from(flow.point)] += flow.packets;
        }
        let mut nodes: Vec<_> = self
            .job
            .nodes
            .iter()
            .enumerate()
            .filter(|(_, node)| !node.is_bystander)
            .map(|(index, node)| {
                let own = || (0..self.job.points.len()).filter(|&point| self.job.points[point].node == index);
                let sum = |count: fn(&SliceCounters) -> u64| {
                    own().map(|point| count(&self.coverage[point].totals)).sum()
                };
                NodeReport {
                    node: node.name.clone(),
                    state: node.state,
                    reason: node.reason.clone(),
                    clock_offset_nanos: node
                        .clock_offset_nanos
                        .map(|offset| offset.saturating_add(self.clocks.ahead_nanos(index))),
                    clock_error_nanos: self.clocks.error_nanos(index),
                    packets: own().map(|point| packets[point]).sum(),
                    kernel_drops: sum(|totals| totals.kernel_drops),
                    agent_drops: sum(|totals| totals.agent_drops),
                    own_connections: sum(|totals| totals.own_connections),
                    undecoded: sum(|totals| totals.undecoded),
                    unreadable: sum(|totals| totals.unreadable),
                    sampled_out: sum(|totals| totals.sampled_out),
                    coverage: node.coverage.clone(),
                }
            })
            .collect();
        nodes.sort_by(|a, b| a.node.cmp(&b.node));
        nodes
    }
}

/// The tunnel a report names where there are several.
fn first(carriers: &BTreeSet<Overlay>) -> Option<OverlayReport> {
    carriers.first().map(|overlay| OverlayReport { kind: overlay.kind, id: overlay.id })
}
