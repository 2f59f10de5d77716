//! What acknowledgments prove of segments that later points did not see.
//!
//! An ACK (RFC 9293 §3.4) or SACK block (RFC 2018) over the bytes of a segment says that its receiver has these bytes. It
//! says so of this segment only if no other transmission of the bytes had been seen by then, or if the timestamp it
//! echoes (RFC 7323 §4.3) is this transmission's.

use std::collections::HashMap;
use std::sync::OnceLock;

use lastseen_packet::observation::{FlowKey, Observation, SipKey, protocol, tcp_flags};

use crate::clock::Clocks;
use crate::evidence::flows::{Conversation, Flows};
use crate::evidence::sighting::Sighting;
use crate::input::Job;
use crate::matching::plan::Plans;
use crate::matching::trajectory::Trajectory;

/// Most acknowledgments kept in a run, 16 bytes each; beyond it none is used.
const ACK_LIMIT: usize = 1 << 24;
/// Most repeats kept in a run; beyond it no acknowledgment is used.
pub(crate) const REPEAT_LIMIT: usize = 1 << 22;
/// SACKs looked at for one segment: those after it was sent.
const SACKS_ASKED: usize = 1 << 10;
/// Repeats near a segment that are looked at; with more, no acknowledgment proves its arrival.
const REPEATS_ASKED: usize = 1 << 12;
/// Longest segment.
const LONGEST: u32 = u16::MAX as u32;
/// A sender's timestamp clock is told from stamps at least this far apart, nanoseconds.
const CLOCK_SPAN_NANOS: i64 = 50_000_000;
/// Nanoseconds per tick of timestamp clocks in use, RFC 7323 §5.4.
const TICKS: std::ops::RangeInclusive<f64> = 0.5e6..=1e9;

/// An ACK that said more than those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Ack {
    time: i64,
    number: u32,
    echo: u32,
}

/// The first block of a SACK option.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Sack {
    time: i64,
    left: u32,
    right: u32,
}

/// What one flow acknowledges at one point, and the timestamps it sends.
#[derive(Clone, Debug, Default)]
struct Log {
    /// Time and number of the last of `acks`, here because every packet asks for it.
    last: Option<(i64, u32)>,
    acks: Vec<Ack>,
    sacks: Vec<Sack>,
    /// Earliest and latest time with the timestamp sent then.
    stamps: Option<[(i64, u32); 2]>,
}

/// Acknowledgments of all flows while observations are collected.
#[derive(Debug, Default)]
pub(crate) struct AckLogs {
    logs: Vec<Log>,
    count: usize,
}

/// Bytes that a point saw another time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Repeat {
    /// The flow while repeats are collected, the conversation afterwards.
    pub(crate) owner: u32,
    pub(crate) seq: u32,
    pub(crate) length: u32,
    pub(crate) time: i64,
    pub(crate) point: u16,
}

impl AckLogs {
    /// Notes what a packet of `flow`, which is TCP, acknowledges.
    pub(crate) fn note(&mut self, flow: u32, row: &Observation, shift: i64) {
        // A firewall that resets a connection acknowledges in its receiver's name what it has dropped.
        if row.tcp_flags & (tcp_flags::ACK | tcp_flags::RST) != tcp_flags::ACK || self.count >= ACK_LIMIT {
            return;
        }
        let index = flow as usize;
        if index >= self.logs.len() {
            self.logs.resize(index + 1, Log::default());
        }
        self.count += self.logs[index].note(row, row.time_nanos.saturating_add(shift));
    }
}

impl Log {
    /// Says how many entries that made.
    fn note(&mut self, row: &Observation, time: i64) -> usize {
        if row.marks & lastseen_packet::observation::marks::TCP_TIMESTAMPS != 0 {
            let stamp = (time, row.ts_value);
            let [first, last] = self.stamps.get_or_insert([stamp; 2]);
            if stamp > *last {
                *last = stamp;
            } else if stamp < *first {
                *first = stamp;
            }
        }
        let mut made = 0;
        let ack = Ack { time, number: row.tcp_ack, echo: row.ts_echo };
        // Neither order nor size of batches may change what is left once the log is sealed: only what comes later and
        // says no more is left out.
        if self.last.is_none_or(|(last, number)| last > time || is_after(ack.number, number)) {
            self.last = Some((time, ack.number));
            self.acks.push(ack);
            made += 1;
        }
        let sack = Sack { time, left: row.sack_left, right: row.sack_right };
        let is_known = |last: &Sack| last.time <= time && (last.left, last.right) == (sack.left, sack.right);
        if sack.left != sack.right && !self.sacks.last().is_some_and(is_known) {
            self.sacks.push(sack);
            made += 1;
        }
        made
    }

    /// Puts the log in order and keeps of the ACKs those that say more than all before.
    fn sealed(&self, correct: impl Fn(i64) -> i64) -> Sealed {
        let mut acks = self.acks.clone();
        acks.sort_unstable();
        let mut advances: Vec<(Ack, i64)> = Vec::new();
        for ack in acks {
            let offset = advances
                .last()
                .map_or(0, |(last, offset)| offset + i64::from(ack.number.wrapping_sub(last.number) as i32));
            if advances.last().is_none_or(|(_, last)| offset > *last) {
                advances.push((Ack { time: correct(ack.time), ..ack }, offset));
            }
        }
        let mut sacks = self.sacks.clone();
        for sack in &mut sacks {
            sack.time = correct(sack.time);
        }
        sacks.sort_unstable();
        sacks.dedup_by_key(|sack| (sack.left, sack.right));
        Sealed { advances, sacks }
    }
}

/// A log in order.
#[derive(Debug, Default)]
struct Sealed {
    /// With the offset of each in the stream, which does not wrap.
    advances: Vec<(Ack, i64)>,
    sacks: Vec<Sack>,
}

/// A proof that bytes arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Proof {
    time: i64,
    /// The timestamp of the transmission that arrived, if the proof tells it.
    echo: Option<u32>,
}

impl Sealed {
    /// The earliest proof from `since` on that `[seq, end)` arrived. Absent if that was acknowledged before.
    fn proof(&self, seq: u32, end: u32, since: i64) -> Option<Proof> {
        let first = self.advances.partition_point(|(ack, _)| ack.time < since);
        let by_ack = self.by_ack(first, seq, end);
        let was_known = first > 0 && !is_after(end, self.advances[first - 1].0.number);
        if was_known {
            return None;
        }
        [by_ack, self.by_sack(seq, end, since)].into_iter().flatten().min_by_key(|proof| proof.time)
    }

    fn by_ack(&self, first: usize, seq: u32, end: u32) -> Option<Proof> {
        let (near, offset) = self.advances.get(first)?;
        let wanted = offset + i64::from(end.wrapping_sub(near.number) as i32);
        let at = first + self.advances[first..].partition_point(|(_, offset)| *offset < wanted);
        let (ack, _) = self.advances.get(at)?;
        // The echoed timestamp is that of the segment at the left edge of what is newly acknowledged.
        let edge = at.checked_sub(1).map(|before| self.advances[before].0.number);
        let is_at_edge = edge.is_some_and(|edge| !is_after(seq, edge) && is_after(end, edge));
        Some(Proof { time: ack.time, echo: is_at_edge.then_some(ack.echo) })
    }

    fn by_sack(&self, seq: u32, end: u32, since: i64) -> Option<Proof> {
        let first = self.sacks.partition_point(|sack| sack.time < since);
        let covers = |sack: &&Sack| !is_after(sack.left, seq) && !is_after(end, sack.right);
        let sack = self.sacks[first..].iter().take(SACKS_ASKED).find(covers)?;
        Some(Proof { time: sack.time, echo: None })
    }
}

/// Whether `a` comes after `b` in the stream, RFC 9293 §3.4.
fn is_after(a: u32, b: u32) -> bool {
    a.wrapping_sub(b) as i32 > 0
}

/// Acknowledgments of all conversations.
#[derive(Debug)]
pub(crate) struct Acks<'a> {
    job: &'a Job,
    clocks: &'a Clocks,
    flows: &'a Flows,
    logs: &'a [Log],
    /// By conversation: the flow that acknowledges it, and its own at the point nearest to its sender.
    answers: Vec<Option<(u32, Option<u32>)>>,
    /// By conversation, sealed when first asked.
    sealed: Vec<OnceLock<Sealed>>,
    /// By conversation and sequence number.
    repeats: Vec<Repeat>,
    is_partial: bool,
}

impl<'a> Acks<'a> {
    pub(crate) fn new(
        job: &'a Job,
        clocks: &'a Clocks,
        flows: &'a Flows,
        plans: &Plans,
        logs: &'a AckLogs,
        mut repeats: Vec<Repeat>,
    ) -> Self {
        for repeat in &mut repeats {
            repeat.owner = flows.all[repeat.owner as usize].conversation;
            repeat.time = clocks.correct(job.points[usize::from(repeat.point)].node, repeat.time);
        }
        repeats.sort_unstable();
        let is_full = logs.count >= ACK_LIMIT || repeats.len() >= REPEAT_LIMIT;
        let answers = if is_full { Vec::new() } else { answers(job, flows, plans, &logs.logs) };
        let sealed = answers.iter().map(|_| OnceLock::new()).collect();
        Self { job, clocks, flows, logs: &logs.logs, answers, sealed, repeats, is_partial: false }
    }

    /// Of a capture that left packets out: another transmission of the bytes may not have been seen.
    #[must_use]
    pub(crate) fn of_some(self, is_partial: bool) -> Self {
        Self { is_partial, ..self }
    }

    /// Whether a proof may be that of a transmission that was left out. Many of them still show that packets arrive.
    pub(crate) fn is_partial(&self) -> bool {
        self.is_partial
    }

    /// Whether segments of a conversation are acknowledged at all where that can be seen, and that proves each.
    pub(crate) fn has(&self, conversation: u32) -> bool {
        !self.is_partial && self.answers.get(conversation as usize).is_some_and(Option::is_some)
    }

    /// When the arrival of this very transmission was proved. `slack` is the disorder of stamps along the path.
    pub(crate) fn proved(&self, sighting: &Sighting, copy: &Trajectory, slack: i64) -> Option<i64> {
        let length = sighting.payload_length();
        if length == 0 || sighting.tcp_flags & (tcp_flags::SYN | tcp_flags::RST) != 0 {
            return None;
        }
        let (answer, own) = (*self.answers.get(sighting.owner as usize)?)?;
        let sealed = self.sealed[sighting.owner as usize].get_or_init(|| {
            let node = self.node(answer);
            self.logs[answer as usize].sealed(|time| self.clocks.correct(node, time))
        });
        let end = sighting.tcp_seq.wrapping_add(length);
        let proof = sealed.proof(sighting.tcp_seq, end, copy.first.saturating_sub(slack))?;
        let others = self.others(sighting, length, proof.time.saturating_add(slack))?;
        let is_single = others.is_empty() || self.is_echoed(own, proof.echo, copy, &others);
        is_single.then_some(proof.time)
    }

    fn node(&self, flow: u32) -> usize {
        self.job.points[usize::from(self.flows.all[flow as usize].point)].node
    }

    /// Times of sightings of bytes of the segment that had been seen before, until `until`. Absent if too many are near.
    fn others(&self, of: &Sighting, length: u32, until: i64) -> Option<Vec<i64>> {
        let (owner, seq) = (of.owner, of.tcp_seq);
        let near = |from: u32, to: u32| {
            let first = self.repeats.partition_point(|r| (r.owner, r.seq) < (owner, from));
            let count = self.repeats[first..].partition_point(|r| (r.owner, r.seq) <= (owner, to));
            &self.repeats[first..first + count]
        };
        let (from, to) = (seq.wrapping_sub(LONGEST), seq.wrapping_add(length));
        let parts = if from <= to { [near(from, to), &[]] } else { [near(from, u32::MAX), near(0, to)] };
        if parts.iter().map(|part| part.len()).sum::<usize>() > REPEATS_ASKED {
            return None;
        }
        let overlaps = |r: &&Repeat| is_after(r.seq.wrapping_add(r.length), seq) && is_after(to, r.seq);
        let seen = parts.into_iter().flatten().filter(overlaps).map(|repeat| repeat.time);
        Some(seen.filter(|time| *time <= until).collect())
    }

    /// Whether this is the first transmission of its bytes and the echoed timestamp was sent with it and no other.
    fn is_echoed(&self, own: Option<u32>, echo: Option<u32>, copy: &Trajectory, others: &[i64]) -> bool {
        let (Some(own), Some(echo)) = (own, echo) else { return false };
        let Some([(start, value), (end, last)]) = self.logs[own as usize].stamps else { return false };
        let span = end.saturating_sub(start);
        let tick = span as f64 / f64::from(last.wrapping_sub(value));
        if span < CLOCK_SPAN_NANOS || !TICKS.contains(&tick) {
            return false;
        }
        let sent = start as f64 + f64::from(echo.wrapping_sub(value) as i32) * tick;
        let sent = self.clocks.correct(self.node(own), sent as i64);
        let apart = |time: i64| time.saturating_sub(sent).saturating_abs() as f64;
        let near = 2.0 * tick;
        apart(copy.first) <= near && others.iter().all(|&time| time > copy.last && apart(time) > 2.0 * near)
    }
}

/// For each conversation the flow that acknowledges it: of the reverse tuple, on the node where the path ends, which
/// nobody between can answer for, nearest to the sender of the ACKs. And its own flow nearest to its sender.
fn answers(job: &Job, flows: &Flows, plans: &Plans, logs: &[Log]) -> Vec<Option<(u32, Option<u32>)>> {
    let mut nearest: Vec<Option<(u32, u32)>> = vec![None; flows.conversations.len()];
    for (index, flow) in flows.all.iter().enumerate().take(logs.len()) {
        let plan = &plans.plans[plans.courses[flow.conversation as usize].plan as usize];
        let is_in_use = !logs[index].acks.is_empty();
        if let Some(at) = plan.position(flow.point).filter(|_| is_in_use) {
            let known = &mut nearest[flow.conversation as usize];
            *known = Some(known.map_or((at, index as u32), |known| known.min((at, index as u32))));
        }
    }
    let mut by_tuple: HashMap<Conversation, u32, SipKey> = HashMap::with_hasher(SipKey(job.key.0));
    let is_tcp = |tuple: &FlowKey| tuple.protocol == protocol::TCP;
    let all = || (0..).zip(&flows.conversations).filter(|(_, one)| is_tcp(&one.tuple));
    by_tuple.extend(all().map(|(index, one)| (*one, index)));
    let mut answers = vec![None; flows.conversations.len()];
    for (index, conversation) in all() {
        let plan = &plans.plans[plans.courses[index as usize].plan as usize];
        let end = plan.path.points.last().map(|&point| job.points[point].node);
        let reverse = by_tuple.get(&conversation.reversed());
        let found = reverse.and_then(|&reverse| nearest[reverse as usize]);
        let is_at_end = |flow: u32| Some(job.points[usize::from(flows.all[flow as usize].point)].node) == end;
        answers[index as usize] = found
            .filter(|(_, flow)| is_at_end(*flow))
            .map(|(_, flow)| (flow, nearest[index as usize].map(|(_, own)| own)));
    }
    answers
}
