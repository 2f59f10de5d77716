//! Time and peak memory of correlating N million synthetic observations of an 8-point path with 1 % loss.
//!
//! With a second number, within so many MiB of memory.
//!
//! `cargo run --release -p lastseen-correlate --example correlation_rate -- 10 256`

#[path = "../tests/lab/mod.rs"]
mod lab;

use std::time::{Duration, Instant};

use lab::{HOPS, Lab, MICRO, POINTS, Packet, SECOND, T0, T1};
use lastseen_correlate::{Correlator, GUARD_NANOS, Slice, SliceCounters};
use lastseen_packet::observation::ColumnsBuilder;

/// Rows per batch, as agents send them.
const BATCH: usize = 4096;
/// Conversations the packets belong to.
const CONVERSATIONS: usize = 1000;

fn main() {
    let millions: f64 =
        std::env::args().nth(1).map_or(Ok(1.0), |text| text.parse()).expect("N: millions of observations");
    let packets = (millions * 1e6) as usize / HOPS;
    let lab = Lab::new(2);
    let mut correlator = Correlator::new(lab.job).expect("a valid job");
    if let Some(mebibytes) = std::env::args().nth(2) {
        let mebibytes: usize = mebibytes.parse().expect("MiB of memory");
        let file = tempfile::tempfile().expect("a temporary file");
        correlator = correlator.within(mebibytes << 20, Box::new(file));
    }
    let (mut adding, mut rows) = (Duration::ZERO, 0);
    for (hop, point) in Lab::path(0, 1).into_iter().enumerate() {
        let mut builder = ColumnsBuilder::new(BATCH, [1; 16]);
        for first in (0..packets).step_by(BATCH) {
            builder.clear();
            fill(&mut builder, hop, first..packets.min(first + BATCH), packets);
            let start = Instant::now();
            rows += builder.len();
            correlator.add(point, slice(first, builder.len()), 0, builder.columns()).expect("a valid batch");
            adding += start.elapsed();
        }
    }
    for point in 0..2 * POINTS {
        correlator
            .add(point, slice(0, 0), 0, &lastseen_packet::observation::Columns::default())
            .expect("a valid batch");
    }
    let start = Instant::now();
    let outcome = correlator.finish().expect("scratch space");
    print(rows, adding, start.elapsed(), &outcome);
}

/// Packets `range` of `packets` as hop `hop` saw them: every hundredth gets no further than hop 3.
fn fill(builder: &mut ColumnsBuilder, hop: usize, range: std::ops::Range<usize>, packets: usize) {
    for id in range {
        if hop > 3 && id % 100 == 0 {
            continue;
        }
        let (conversation, turn) = (id % CONVERSATIONS, id / CONVERSATIONS);
        let mut packet = Packet::tcp(turn as u16, (turn * 1400) as u32, 1400);
        packet.ports = (10_000 + conversation as u16, 80);
        packet.row.tcp_ack = conversation as u32;
        packet.row.time_nanos = T0 + (id as i64) * (9 * SECOND) / packets as i64 + hop as i64 * 20 * MICRO;
        builder.push(&packet.flow((0, 1), hop == 3 || hop == 4), packet.row);
    }
}

fn slice(_first: usize, rows: usize) -> Slice {
    let counters = SliceCounters { received: rows as u64, ..SliceCounters::default() };
    Slice { start_nanos: T0 - SECOND, end_nanos: T1 + GUARD_NANOS, counters }
}

fn print(rows: usize, adding: Duration, finishing: Duration, outcome: &lastseen_correlate::Outcome) {
    let total = adding + finishing;
    let totals = outcome.report.totals;
    println!(
        "{rows} observations: add {:.2} s, finish {:.2} s, {:.2} M/s, peak {} MiB; {} segments, {} lost",
        adding.as_secs_f64(),
        finishing.as_secs_f64(),
        rows as f64 / total.as_secs_f64() / 1e6,
        peak_mib(),
        totals.segments,
        totals.lost
    );
}

/// `VmHWM` of this process.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}
