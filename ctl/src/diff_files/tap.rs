//! A capture file as observations, cut into short slices so that what could not be read blurs no more than its moment.

use std::fs::File;
use std::io::BufReader;
use std::net::IpAddr;

use anyhow::{Context as _, anyhow, bail};
use lastseen_correlate::offsets::Stamp;
use lastseen_correlate::topology::Direction;
use lastseen_packet::observation::{ColumnsBuilder, FlowKey, Observation, marks};
use lastseen_packet::{Capture, DecodeConfig, Decoded, Gso, IdentityKey, LinkType, decode, k0, observe};

use super::name::Named;
use super::places::Witness;
use super::shelf::{Shelf, Stored};
use super::sides::Sides;
use super::slice::{SLICE_NANOS, Slice};
use super::strays::{self, Stray};
use crate::capture_file::{Frame, Item, Reader};

/// All files of a run agree on it. Zeros, so that the same files give the same report.
pub(super) const KEY: IdentityKey = IdentityKey([0; 16]);
/// Stamps kept of one file to compare clocks; of more packets a share is taken, chosen by identity.
const STAMPS: usize = 1 << 19;
/// Longest stretch of time one file may span, nanoseconds: a month. More is a damaged stamp.
const LONGEST_NANOS: i64 = 31 * 86_400 * 1_000_000_000;

/// Observations of one slice in one direction, which is absent where the file does not tell.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) direction: Option<Direction>,
    pub(super) start_nanos: i64,
    pub(super) end_nanos: i64,
    /// Times of the first and the last packet, of any direction.
    pub(super) busy: Option<(i64, i64)>,
    pub(super) received: u64,
    pub(super) unreadable: u64,
    /// Packets that are no IP packet.
    pub(super) undecoded: u64,
    pub(super) drops: u64,
    pub(super) columns: Stored,
}

/// A file, read.
#[derive(Debug)]
pub(super) struct Tap {
    pub(super) named: Named,
    /// Directions it has observations of, each a point.
    pub(super) directions: Vec<Option<Direction>>,
    pub(super) batches: Vec<Batch>,
    /// From the first to the last packet on the node's clock; absent without one.
    pub(super) span: Option<(i64, i64)>,
    pub(super) packets: u64,
    /// Packets whose direction neither file nor topology tells.
    pub(super) undirected: u64,
    /// Packets that were cut or malformed.
    pub(super) unreadable: u64,
    /// Packets that are no IP packet.
    pub(super) undecoded: u64,
    /// Nearly every packet is in the file more than once.
    pub(super) is_doubled: bool,
    /// Drops that the file's statistics tell of, at any time.
    pub(super) drops: u64,
    pub(super) stamps: Vec<Stamp>,
    /// By how much at most a stamp is earlier than one before it.
    pub(super) backwards_nanos: i64,
    /// What says that it is of another node.
    pub(super) elsewhere: Option<String>,
    /// Few packets far before and after the others.
    pub(super) strays: [Option<Stray>; 2],
}

/// What the topology says about a file's point.
pub(super) struct Known<'f> {
    /// Tell directions apart where the file does not.
    pub(super) sides: Sides,
    pub(super) witness: Witness<'f>,
}

/// Reads a file onto the shelf.
pub(super) fn read(
    named: &Named,
    (node, config): (usize, &DecodeConfig),
    known: Option<Known<'_>>,
    shelf: &mut Shelf,
) -> anyhow::Result<Tap> {
    let shown = named.file.display().to_string();
    let file = File::open(&named.file).with_context(|| format!("cannot open {shown}"))?;
    let mut reader = Reader::open(Box::new(BufReader::with_capacity(1 << 20, file)))
        .map_err(|e| anyhow!("{shown}: {e}"))?;
    let mut taking = Taking::new(named, (node, config), known, shelf);
    let mut number = 0_u64;
    while let Some(item) = reader.next() {
        number += 1;
        let refused = |reason: String| {
            anyhow!("{shown}: packet {number}: {reason}; `editcap {shown} WHOLE` keeps what is whole")
        };
        match item.map_err(refused)? {
            Item::Frame(frame) => {
                taking.frame(&frame).map_err(|e| anyhow!("{shown}: packet {number}: {e}"))?;
            }
            Item::Malformed(_) => taking.unreadable(),
        }
    }
    taking.tap.elsewhere = taking.known.as_ref().and_then(|known| known.witness.remark(named));
    let statistics = reader.statistics();
    taking.finish(statistics)
}

struct Taking<'t> {
    node: usize,
    config: &'t DecodeConfig,
    known: Option<Known<'t>>,
    shelf: &'t mut Shelf,
    decoded: Decoded,
    /// The file's only one.
    interface: Option<u32>,
    /// In, out and unknown.
    open: [ColumnsBuilder; 3],
    slice: Slice,
    /// When the packet before was captured.
    before_nanos: Option<i64>,
    /// Drops before the first packet.
    drops_before: u64,
    tap: Tap,
    share: u64,
}

const DIRECTIONS: [Option<Direction>; 3] = [Some(Direction::In), Some(Direction::Out), None];

impl<'t> Taking<'t> {
    fn new(
        named: &Named,
        (node, config): (usize, &'t DecodeConfig),
        known: Option<Known<'t>>,
        shelf: &'t mut Shelf,
    ) -> Self {
        let directions = match (named.direction, &known) {
            (Some(direction), _) => vec![Some(direction)],
            (None, Some(_)) => vec![Some(Direction::In), Some(Direction::Out)],
            (None, None) => Vec::new(),
        };
        Self {
            node,
            config,
            known,
            shelf,
            decoded: Decoded::default(),
            interface: None,
            open: std::array::from_fn(|_| ColumnsBuilder::new(0, KEY.0)),
            slice: Slice::default(),
            before_nanos: None,
            drops_before: 0,
            tap: Tap {
                named: named.clone(),
                directions,
                batches: Vec::new(),
                span: None,
                packets: 0,
                undirected: 0,
                unreadable: 0,
                undecoded: 0,
                is_doubled: false,
                drops: 0,
                stamps: Vec::new(),
                backwards_nanos: 0,
                elsewhere: None,
                strays: [None; 2],
            },
            share: 1,
        }
    }

    fn unreadable(&mut self) {
        self.slice.unreadable += 1;
        self.tap.unreadable += 1;
    }

    fn frame(&mut self, frame: &Frame<'_>) -> anyhow::Result<()> {
        let time = frame.time_nanos.context("it has no time; packets without one cannot be compared")?;
        let time = i64::try_from(time).map_err(|_| anyhow!("its time {time} ns is none"))?;
        let link = LinkType::from_dlt(frame.link)
            .with_context(|| format!("link type {} is not known; see `ctl show-file`", frame.link))?;
        if *self.interface.get_or_insert(frame.interface) != frame.interface {
            bail!(
                "it is of another interface than those before; give a file for each interface (not of -i any)"
            );
        }
        self.pass(time, frame.drops)?;
        self.tap.packets += 1;
        self.slice.receive(time);
        if decode(self.config, link, frame.data, frame.original_length, &mut self.decoded).is_err() {
            self.unreadable();
            return Ok(());
        }
        let direction = self.direction(link, frame);
        let slot = DIRECTIONS.iter().position(|known| *known == direction).unwrap_or(2);
        if let Some(known) = &mut self.known {
            known.witness.see(direction, &self.decoded);
        }
        if direction.is_none() && self.known.is_some() {
            self.leave_out();
            return Ok(());
        }
        let capture = Capture { time_nanos: time, gso: Gso::UNKNOWN };
        let (open, mut rows) = (&mut self.open[slot], Vec::new());
        let observed =
            observe(&self.decoded, frame.data, capture, &KEY, &mut |flow: &FlowKey, row: Observation| {
                open.push(flow, row);
                rows.push((*flow, row));
            });
        self.slice.undecoded += u64::from(observed.is_err());
        self.tap.undecoded += u64::from(observed.is_err());
        for (flow, row) in rows {
            self.stamp(&flow, &row);
        }
        Ok(())
    }

    /// A packet whose direction is not known may be one that either direction misses.
    fn leave_out(&mut self) {
        if self.decoded.network.is_some() {
            self.slice.unreadable += 1;
            self.tap.undirected += 1;
        }
    }

    fn direction(&self, link: LinkType, frame: &Frame<'_>) -> Option<Direction> {
        let told = || frame.direction.or_else(|| cooked(link, frame.data));
        let sides = self.known.as_ref().map(|known| &known.sides);
        let by_sides = || sides.and_then(|sides| sides.direction(link, frame.data, &self.decoded));
        self.tap.named.direction.or_else(told).or_else(by_sides)
    }

    fn stamp(&mut self, flow: &FlowKey, row: &Observation) {
        let is_partial =
            row.marks & (marks::HASH_TRUNCATED | marks::MORE_FRAGMENTS | marks::OUTER_FRAGMENT) != 0;
        if is_partial || row.fragment_offset != 0 {
            return;
        }
        let k0 = k0(&KEY, flow, row);
        if !k0.is_multiple_of(self.share) {
            return;
        }
        self.tap.stamps.push(Stamp {
            k0,
            pair: pair(flow),
            is_back: flow.source > flow.destination,
            point: 0,
            node: self.node,
            time_nanos: row.time_nanos,
        });
        if self.tap.stamps.len() > STAMPS {
            self.share *= 2;
            let share = self.share;
            self.tap.stamps.retain(|stamp| stamp.k0.is_multiple_of(share));
        }
    }

    /// Ends the slice at hand if a packet is beyond it, before which so many were dropped. Slices meet without gaps.
    fn pass(&mut self, time: i64, drops: u64) -> anyhow::Result<()> {
        let (first, last) = self.tap.span.unwrap_or((time, time));
        let span = (first.min(time), last.max(time));
        if span.1.saturating_sub(span.0) > LONGEST_NANOS {
            bail!("its time is more than a month from that of the others; a stamp is damaged");
        }
        self.tap.span = Some(span);
        self.tap.backwards_nanos = self.tap.backwards_nanos.max(span.1.saturating_sub(time));
        if let Some(end) = self.slice.ends {
            self.cut(end)?;
        }
        let before = self.before_nanos.replace(time);
        if drops > 0 {
            self.dropped(before, time, drops)?;
        }
        if self.slice.ends.is_none() && self.slice.is_over(time) {
            self.cut(time)?;
        }
        self.slice.start_nanos.get_or_insert(time);
        Ok(())
    }

    /// Packets that were dropped after the one before a packet, and before it (`epb_dropcount`): when that was is all of
    /// the time between these two, and no more of the time before.
    fn dropped(&mut self, before: Option<i64>, time: i64, drops: u64) -> anyhow::Result<()> {
        let from = before.unwrap_or(time).min(time);
        let to = before.unwrap_or(time).max(time);
        if before.is_none() {
            self.drops_before = drops;
        }
        if self.slice.is_over(to) {
            self.cut(from)?;
        }
        self.slice.drop((from, to), drops);
        Ok(())
    }

    fn cut(&mut self, end: i64) -> anyhow::Result<()> {
        let slice = std::mem::take(&mut self.slice);
        self.slice.start_nanos = Some(end);
        let (start_nanos, end_nanos) = slice.span(end);
        let Slice { busy, received, unreadable, undecoded, drops, .. } = slice;
        for (direction, open) in DIRECTIONS.into_iter().zip(&mut self.open) {
            if !open.is_empty() && !self.tap.directions.contains(&direction) {
                self.tap.directions.push(direction);
            }
            self.tap.batches.push(Batch {
                direction,
                start_nanos,
                end_nanos,
                busy,
                received,
                unreadable,
                undecoded,
                drops,
                columns: self.shelf.put(open.columns())?,
            });
            open.clear();
        }
        Ok(())
    }

    fn finish(mut self, statistics: crate::capture_file::Statistics) -> anyhow::Result<Tap> {
        if let Some((_, last)) = self.tap.span {
            self.cut(last)?;
        }
        let told = [statistics.start_nanos, statistics.end_nanos].map(|time| i64::try_from(time?).ok());
        if let [Some(start), Some(end)] = told
            && start <= end
        {
            let (first, last) = self.tap.span.unwrap_or((start, end));
            let span = (first.min(start), last.max(end));
            self.extend(span, (first, last));
        }
        self.tap.drops = statistics.drops;
        self.tap.is_doubled = is_doubled(&self.tap.stamps);
        if self.tap.directions.is_empty() {
            self.tap.directions.push(None);
        }
        let Tap { batches, directions, backwards_nanos, strays, .. } = &mut self.tap;
        batches.retain(|batch| directions.contains(&batch.direction));
        if *backwards_nanos < SLICE_NANOS {
            let of_one = batches.iter().filter(|batch| batch.direction == directions[0]);
            let busy = of_one.filter_map(|batch| Some((batch.busy?.0, batch.busy?.1, batch.received)));
            *strays = strays::find(busy);
        }
        Ok(self.tap)
    }

    /// Covers the time before the first and after the last packet in which the file says that it was capturing.
    fn extend(&mut self, span: (i64, i64), seen: (i64, i64)) {
        self.tap.span = Some(span);
        if self.drops_before > 0 {
            for first in self.tap.batches.iter_mut().take(DIRECTIONS.len()) {
                first.start_nanos = first.start_nanos.min(span.0);
            }
        }
        for (start_nanos, end_nanos) in [(span.0, seen.0), (seen.1, span.1)] {
            self.tap.batches.extend(DIRECTIONS.map(|direction| Batch {
                direction,
                start_nanos,
                end_nanos,
                busy: None,
                received: 0,
                unreadable: 0,
                undecoded: 0,
                drops: 0,
                columns: Stored::Nothing,
            }));
        }
    }
}

/// Nine of ten packets or more are in a file more than once.
fn is_doubled(stamps: &[Stamp]) -> bool {
    let mut names: Vec<u64> = stamps.iter().map(|stamp| stamp.k0).collect();
    names.sort_unstable();
    let often = names.chunk_by(|a, b| a == b).map(<[u64]>::len).filter(|count| *count > 1).sum::<usize>();
    often > 0 && often * 10 >= names.len() * 9
}

/// A number for a pair of addresses, the same both ways.
fn pair(flow: &FlowKey) -> u64 {
    let octets = |address: IpAddr| match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    };
    let (one, other) = (octets(flow.source), octets(flow.destination));
    KEY.hash([one.min(other), one.max(other)].as_flattened())
}

/// The packet type of a Linux cooked capture (`sll_pkttype`); `PACKET_OTHERHOST` tells nothing.
fn cooked(link: LinkType, frame: &[u8]) -> Option<Direction> {
    let kind = match link {
        LinkType::LinuxSll => u16::from_be_bytes(*frame.first_chunk()?),
        LinkType::LinuxSll2 => u16::from(*frame.get(10)?),
        _ => return None,
    };
    match kind {
        0..=2 => Some(Direction::In),
        4 => Some(Direction::Out),
        _ => None,
    }
}
