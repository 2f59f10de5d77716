//! What the store holds of a capture, read back from its rows and files.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result};
use bytes::Bytes;
use lastseen_coordinator::files::{FileError, Files};
use lastseen_coordinator::store::StoredBatch;
use lastseen_node_agent::capture::backend::Direction;
use lastseen_node_agent::clock::realtime_minus_monotonic;
use lastseen_packet::observation::Columns;
use lastseen_proto::batch::{self, Limits};
use lastseen_proto::v1;
use prost::Message;

use super::fleet::Fleet;
use super::tap::Name;
use crate::scripted::script::{Interface, Packet, Passage, Script, number};

/// Everything of one capture.
#[derive(Debug, Default)]
pub struct Stored {
    /// How often each batch is there.
    pub batches: HashMap<Name, u64>,
    /// Observations in them.
    pub rows: usize,
    /// Batches whose bytes are not what was committed, and why.
    pub unreadable: Vec<String>,
    /// What each point saw.
    pub points: BTreeMap<(usize, u32, i32), Point>,
}

/// What one observation point saw.
#[derive(Debug, Default)]
pub struct Point {
    /// How often each packet was recorded.
    pub seen: HashMap<Packet, u64>,
    /// Rows that are no packet that can have passed here.
    pub strange: u64,
    /// Times in which it saw everything, true nanoseconds since 1970, by begin.
    clear: Vec<(i64, i64)>,
    /// By incarnation and sequence.
    accounts: BTreeMap<(u64, u64), Account>,
}

/// What a batch says became of the packets of its slice.
#[derive(Debug, Clone, Copy)]
struct Account {
    /// True nanoseconds since 1970.
    start: i64,
    end: i64,
    /// Recorded, dropped, or not selected.
    packets: u64,
}

/// Two points of time in an account are each as exact as two clocks read one after the other.
const EDGE_PACKETS: u64 = 2;

impl Point {
    /// Says so if the batches of a process do not follow each other, or do not account for every packet that passed from
    /// its first slice to its last.
    pub fn unaccounted(&self, script: Script, at: Passage) -> Vec<String> {
        let batches: Vec<_> = self.accounts.iter().collect();
        let processes = batches.chunk_by(|((one, _), _), ((other, _), _)| one == other);
        let wrong = processes.filter_map(|batches| {
            let (first, ((_, last), end)) = (batches[0].1, batches[batches.len() - 1]);
            let gaps = last + 1 - batches.len() as u64;
            let passed = script.passing(at, first.start, end.end).count() as u64;
            let accounted = batches.iter().map(|(_, account)| account.packets).sum::<u64>();
            (gaps > 0 || passed.abs_diff(accounted) > EDGE_PACKETS).then(|| {
                format!(
                    "{at:?}: {gaps} batches missing, {accounted} packets accounted for where {passed} passed"
                )
            })
        });
        wrong.collect()
    }

    /// From the first slice to the last, true nanoseconds since 1970; absent without one.
    pub fn span(&self) -> Option<(i64, i64)> {
        let (accounts, ends) = (self.accounts.values(), self.accounts.values().map(|account| account.end));
        accounts.map(|account| account.start).min().zip(ends.max())
    }

    /// Whether it saw everything from `from` to `until`.
    pub fn covers(&self, from: i64, until: i64) -> bool {
        self.clear.iter().any(|(begin, end)| *begin <= from && until <= *end)
    }

    /// When it began to see everything, true nanoseconds since 1970.
    pub fn began(&self) -> Option<i64> {
        self.clear.first().map(|(begin, _)| *begin)
    }

    fn join(&mut self) {
        self.clear.sort_unstable();
        let mut joined: Vec<(i64, i64)> = Vec::new();
        for (begin, end) in self.clear.drain(..) {
            match joined.last_mut() {
                // Slices meet, but for the drift between two readings of the clocks.
                Some(last) if begin <= last.1 + 1_000 => last.1 = last.1.max(end),
                _ => joined.push((begin, end)),
            }
        }
        self.clear = joined;
    }
}

impl Stored {
    /// Reads all of it.
    pub async fn read(fleet: &Fleet, capture: &str) -> Result<Self> {
        let store = fleet.store().await.context("open the store")?;
        let batches = store.batches(capture).await?;
        store.close().await;
        let (script, capture) = (fleet.setup.script, capture.to_owned());
        let files = Files::in_directory(fleet.observations());
        let reading = move || {
            let mut stored = Self::default();
            for (batch, bytes) in batches.iter().zip(files.reader(&capture, &batches)) {
                stored.add(script, batch, bytes);
            }
            stored.points.values_mut().for_each(Point::join);
            stored
        };
        Ok(tokio::task::spawn_blocking(reading).await?)
    }

    fn add(&mut self, script: Script, batch: &StoredBatch, bytes: Result<Bytes, FileError>) {
        let key = &batch.point.key;
        let name = Name {
            node: batch.node.clone(),
            interface: key.index,
            direction: key.direction,
            incarnation: batch.incarnation,
            sequence: batch.sequence,
        };
        let place = number(&name.node).zip(passage(&name));
        *self.batches.entry(name.clone()).or_default() += 1;
        match decoded(bytes) {
            Ok((message, columns)) => {
                self.rows += columns.len();
                let Some((node, at)) = place else { return };
                let point = self.points.entry((node, key.index, key.direction)).or_default();
                point.add(script, at, &message, &columns);
            }
            Err(error) => self.unreadable.push(format!("{name:?}: {error:#}")),
        }
    }
}

impl Point {
    fn add(&mut self, script: Script, at: Passage, message: &v1::ObservationBatch, columns: &Columns) {
        // The machine's clock is right; the node's may have been set.
        let right = realtime_minus_monotonic();
        let truly = |nanos: i64| nanos - message.realtime_minus_monotonic_nanos + right;
        let counters = message.counters.unwrap_or_default();
        if let Some(key) = &message.key {
            let account = Account {
                start: truly(message.slice_start_nanos),
                end: truly(message.slice_end_nanos),
                packets: columns.len() as u64
                    + counters.kernel_drops
                    + counters.agent_drops
                    + counters.sampled_out,
            };
            self.accounts.insert((key.incarnation, key.sequence), account);
        }
        let is_whole = message.sampling_threshold.is_none();
        if counters.kernel_drops == 0 && counters.agent_drops == 0 && is_whole {
            self.clear.push((truly(message.slice_start_nanos), truly(message.slice_end_nanos)));
        }
        for row in (0..columns.len()).map(|index| columns.row(index)) {
            let packet = script.packet_near(at.sender(), row.ip_id, truly(row.time_nanos) - at.delay());
            let flow = &columns.flows[row.flow as usize];
            let is_right = (flow.source_port, flow.destination_port) == script.ports(script.flow(packet));
            if is_right {
                *self.seen.entry(packet).or_default() += 1;
            } else {
                self.strange += 1;
            }
        }
    }
}

fn decoded(bytes: Result<Bytes, FileError>) -> Result<(v1::ObservationBatch, Columns)> {
    let message = v1::ObservationBatch::decode(bytes?)?;
    let columns = batch::decode(&message.columns, &Limits::default())?;
    Ok((message, columns))
}

/// Where a batch was recorded.
fn passage(name: &Name) -> Option<Passage> {
    let interface = Interface::ALL.into_iter().find(|interface| interface.index() == name.interface)?;
    let direction = match v1::Direction::try_from(name.direction).ok()? {
        v1::Direction::In => Direction::In,
        v1::Direction::Out => Direction::Out,
        v1::Direction::Unspecified => return None,
    };
    Some(Passage { node: number(&name.node)?, interface, direction })
}

/// Key of [`Stored::points`].
pub fn key(at: Passage) -> (usize, u32, i32) {
    let direction = match at.direction {
        Direction::In => v1::Direction::In,
        Direction::Out => v1::Direction::Out,
    };
    (at.node, at.interface.index(), direction.into())
}
