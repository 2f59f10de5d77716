//! Bytes per observation on the wire, and what encoding and decoding cost, for traffic of three kinds.
//!
//! `cargo run --release -p lastseen-proto --example batch_rate [ROUNDS]`

use std::hint::black_box;
use std::net::IpAddr;
use std::time::Instant;

use lastseen_packet::observation::{
    Columns, FlowKey, Observation, Overlay, OverlayKind, gso, marks, protocol,
};
use lastseen_proto::batch::{Encoder, Limits, decode};

const ROWS: usize = 8_192;

/// `SplitMix64`: the same traffic in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

fn flow(index: usize, protocol: u8) -> FlowKey {
    let pod = |node: u8, pod: usize| IpAddr::from([10, 244, node, pod as u8]);
    let overlay = Overlay {
        kind: OverlayKind::Vxlan,
        id: 1,
        source: IpAddr::from([192, 168, 0, 1]),
        destination: IpAddr::from([192, 168, 0, 2]),
        port: 8472,
    };
    FlowKey {
        overlay: Some(overlay),
        source: pod(1, index),
        destination: pod(2, index / 7),
        protocol,
        source_port: 32_768 + index as u16,
        destination_port: 443,
    }
}

/// A batch of `flows` flows, each row from a random one: bulk TCP segments or UDP datagrams.
fn batch(flows: usize, protocol: u8) -> Columns {
    let mut random = Random(flows as u64);
    let mut columns =
        Columns { flows: (0..flows).map(|i| flow(i, protocol)).collect(), ..Columns::default() };
    let mut state = vec![(0_u32, 0_u16); flows];
    let mut time_nanos = 1_790_000_000_000_000_000;
    for row in 0..ROWS {
        let index = random.below(flows as u64) as usize;
        let (seq, ip_id) = &mut state[index];
        time_nanos += 800 + random.below(4_000) as i64;
        let mut observation = Observation {
            time_nanos,
            flow: index as u32,
            ip_id: *ip_id,
            outer_ip_id: row as u16,
            ttl: 63,
            marks: marks::IPV4 | marks::OUTER_IPV4 | marks::DONT_FRAGMENT,
            gso_type: gso::NONE,
            ..Observation::default()
        };
        if protocol == protocol::TCP {
            observation.payload_length = 1_398;
            observation.ip_length = 1_450;
            observation.marks |= marks::TCP_TIMESTAMPS;
            observation.tcp_flags = 0x10;
            observation.tcp_window = 502;
            observation.tcp_seq = *seq;
            observation.tcp_ack = 77;
            observation.ts_value = (time_nanos / 1_000_000) as u32;
            observation.ts_echo = observation.ts_value - 1;
        } else {
            observation.payload_length = 64 + random.below(1_200) as u32;
            observation.ip_length = observation.payload_length + 28;
            observation.transport_hash = random.next();
        }
        *seq = seq.wrapping_add(observation.payload_length);
        *ip_id = ip_id.wrapping_add(1);
        columns.push(&observation);
    }
    columns
}

fn main() {
    let rounds: usize = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(300);
    let mut encoder = Encoder::new().expect("zstd has memory");
    println!("{:<28} {:>10} {:>12} {:>12}", "traffic", "bytes/obs", "encode ns", "decode ns");
    for (name, flows, protocol) in [
        ("tcp bulk, 1 flow", 1, protocol::TCP),
        ("tcp bulk, 200 flows", 200, protocol::TCP),
        ("udp random sizes, 200 flows", 200, protocol::UDP),
    ] {
        let columns = batch(flows, protocol);
        let encoded = encoder.encode(&columns).expect("encodes");
        assert_eq!(decode(&encoded, &Limits::default()).expect("decodes"), columns);
        let encode_nanos = median(rounds, || drop(black_box(encoder.encode(black_box(&columns)))));
        let decode_nanos =
            median(rounds, || drop(black_box(decode(black_box(&encoded), &Limits::default()))));
        println!(
            "{name:<28} {:>10.2} {encode_nanos:>12.1} {decode_nanos:>12.1}",
            encoded.len() as f64 / ROWS as f64
        );
    }
}

/// Median nanoseconds per observation.
fn median(rounds: usize, mut work: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..rounds)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_nanos() as f64 / ROWS as f64
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[rounds / 2]
}
