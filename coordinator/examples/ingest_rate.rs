//! Ingest over mutual TLS on loopback, from a client's stream to committed: observations per second and bytes each.
//!
//! `cargo run --release -p lastseen-coordinator --example ingest_rate [MILLION_OBSERVATIONS] [STREAMS] [ROWS_PER_BATCH] [sqlite|postgres]`
//!
//! Postgres is one of its own, which syncs as one in use does; then it also tells how long a bare COPY of the rows takes.

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::Instant;

use common::agent::{Agent, Publisher, batch, realtime_nanos};
use common::data::{Data, Sql};
use common::pki::Authority;
use common::postgres::Database;
use common::{Fabric, job};
use lastseen_packet::observation::{
    Columns, ColumnsBuilder, FlowKey, Observation, Overlay, OverlayKind, marks, protocol,
};
use lastseen_proto::{PROTOCOL_VERSION, v1};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

#[tokio::main]
async fn main() {
    let mut words = std::env::args().skip(1);
    let mut number = |default| words.next().map_or(default, |text| text.parse::<usize>().expect("a number"));
    let (total, streams, rows) = (number(4) * 1_000_000, number(2), number(4_096));
    let is_postgres = match words.next().as_deref() {
        Some("postgres") => true,
        Some("sqlite") | None => false,
        Some(other) => panic!("{other:?} is neither sqlite nor postgres"),
    };
    let per_stream = total.div_ceil(streams * rows);
    let fabric = Fabric::start_on(Authority::new(), Data::on(database(is_postgres).await)).await;
    let mut agents = Vec::new();
    let names: Vec<_> = (0..streams).map(|number| format!("node-{number}")).collect();
    for name in &names {
        agents.push(Agent::register(&fabric, name, name, 1, &[], PROTOCOL_VERSION).await);
    }
    fabric.ready(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let id = start(&fabric, &mut agents).await;
    // Encoding is the agents' work and is done before the clock runs.
    let prepared: Vec<Vec<_>> = agents.iter().map(|_| batches(&id, per_stream, rows)).collect();
    let bytes: usize = prepared.iter().flatten().map(prost::Message::encoded_len).sum();
    let started = Instant::now();
    let mut publishing = Vec::new();
    for (agent, batches) in agents.iter_mut().zip(prepared) {
        let publisher = agent.publish().await;
        publishing.push(tokio::spawn(publish(publisher, batches)));
    }
    for task in publishing {
        task.await.expect("every batch is committed");
    }
    let seconds = started.elapsed().as_secs_f64();
    let observations = (streams * per_stream * rows) as f64;
    println!(
        "{observations:.0} observations, {streams} streams, {rows} rows per batch: {:.0} observations/s committed, {:.1} bytes each, {:.1} MB/s",
        observations / seconds,
        bytes as f64 / observations,
        bytes as f64 / seconds / 1e6,
    );
    if is_postgres {
        let (rows, seconds) = copied(&mut fabric.sql().await).await;
        println!("COPY: {rows} rows in {:.3} ms", seconds * 1e3);
    }
    fabric.stop().await;
}

async fn database(is_postgres: bool) -> Option<Database> {
    if is_postgres { Some(Database::alone().await) } else { None }
}

/// Copies the rows of the batches once more, in one piece, into a table like theirs; how many, and the seconds it took.
async fn copied(sql: &mut Sql) -> (i64, f64) {
    sql.run("CREATE TABLE again (LIKE batches INCLUDING ALL); COPY batches TO '/proc/self/cwd/rows'").await;
    let started = Instant::now();
    sql.run("COPY again FROM '/proc/self/cwd/rows'").await;
    (sql.number("SELECT count(*) FROM again").await, started.elapsed().as_secs_f64())
}

/// Arms every node and waits for the window.
async fn start(fabric: &Fabric, agents: &mut [Agent]) -> String {
    let names: Vec<String> = agents.iter().map(|agent| agent.node.clone()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (mut client, request) = (fabric.captures().await, job(&names, 3_600_000));
    let starting = tokio::spawn(async move { client.start_capture(request).await });
    let mut id = String::new();
    for agent in &mut *agents {
        id = agent.arm().await.capture_id;
        agent.status(&id, v1::CaptureState::Armed, "", 0).await;
    }
    starting.await.expect("no panic").expect("the capture starts");
    id
}

fn batches(id: &str, count: usize, rows: usize) -> Vec<v1::ObservationBatch> {
    let mut traffic = Traffic::new(realtime_nanos());
    let mut make = |sequence: u64| {
        let start = traffic.now_nanos;
        batch(id, 1, sequence, start, &traffic.columns(rows))
    };
    (0..count as u64).map(&mut make).collect()
}

/// What a busy interface sees: many flows at once in no order, two thirds TCP, bursts, pure acknowledgements and
/// datagrams whose hashes no encoder can shorten.
struct Traffic {
    random: StdRng,
    now_nanos: i64,
    flows: Vec<Flow>,
}

#[derive(Clone, Default)]
struct Flow {
    ip_id: u16,
    seq: u32,
    ack: u32,
    clock_offset: u32,
}

impl Traffic {
    const FLOWS: usize = 400;

    fn new(now_nanos: i64) -> Self {
        let mut random = StdRng::seed_from_u64(7);
        let mut flow = || Flow {
            ip_id: random.random(),
            seq: random.random(),
            ack: random.random(),
            clock_offset: random.random(),
        };
        let flows = (0..Self::FLOWS).map(|_| flow()).collect();
        Self { random, now_nanos, flows }
    }

    fn columns(&mut self, rows: usize) -> Columns {
        let mut builder = ColumnsBuilder::new(rows, [7; 16]);
        for _ in 0..rows {
            // Few flows send most packets.
            let share: f64 = self.random.random();
            let index = (share * share * share * Self::FLOWS as f64) as usize;
            let (key, row) = self.packet(index);
            builder.push(&key, row);
        }
        builder.columns().clone()
    }

    fn packet(&mut self, index: usize) -> (FlowKey, Observation) {
        let is_tcp = !index.is_multiple_of(3);
        self.now_nanos += self.random.random_range(200..6_000);
        let random = &mut self.random;
        let flow = &mut self.flows[index];
        flow.ip_id = flow.ip_id.wrapping_add(1);
        let mut row = Observation {
            time_nanos: self.now_nanos,
            ip_id: flow.ip_id,
            outer_ip_id: random.random(),
            ttl: 63,
            marks: marks::IPV4 | marks::OUTER_IPV4 | marks::DONT_FRAGMENT,
            ..Observation::default()
        };
        if is_tcp {
            let is_pure_ack = random.random_ratio(1, 3);
            row.payload_length = if is_pure_ack {
                0
            } else {
                [1_398, 1_398, 1_398, random.random_range(1..1_398)][random.random_range(0..4)]
            };
            row.ip_length = row.payload_length + 52;
            row.tcp_flags = if row.payload_length == 1_398 || is_pure_ack { 0x10 } else { 0x18 };
            row.tcp_window = 500 + random.random_range(0..8);
            flow.ack = flow.ack.wrapping_add(random.random_range(0..3_000));
            (row.tcp_seq, row.tcp_ack) = (flow.seq, flow.ack);
            flow.seq = flow.seq.wrapping_add(row.payload_length);
            row.ts_value = flow.clock_offset.wrapping_add((self.now_nanos / 1_000_000) as u32);
            row.ts_echo = row.ts_value.wrapping_sub(random.random_range(1..40));
            row.marks |= marks::TCP_TIMESTAMPS;
        } else {
            row.payload_length = random.random_range(40..1_200);
            row.ip_length = row.payload_length + 28;
            row.transport_hash = random.random();
        }
        (key(index, is_tcp), row)
    }
}

/// A flow inside VXLAN.
fn key(index: usize, is_tcp: bool) -> FlowKey {
    let overlay = Overlay {
        kind: OverlayKind::Vxlan,
        id: 1,
        source: [192, 168, 0, 1].into(),
        destination: [192, 168, 0, 2].into(),
        port: 8472,
    };
    FlowKey {
        overlay: Some(overlay),
        source: [10, 244, 1, index as u8].into(),
        destination: [10, 244, 2, (index / 7) as u8].into(),
        protocol: if is_tcp { protocol::TCP } else { protocol::UDP },
        source_port: 30_000 + (index * 37 % 30_000) as u16,
        destination_port: 80,
    }
}

async fn publish(mut publisher: Publisher, batches: Vec<v1::ObservationBatch>) {
    let expected = batches.len();
    let sender = publisher.batches.clone();
    let sending = tokio::spawn(async move {
        for batch in batches {
            sender.send(batch).await.expect("the stream is open");
        }
    });
    let mut committed = 0;
    while committed < expected {
        let acks = publisher.acks.message().await.expect("no error").expect("an answer");
        assert!(acks.refused.is_empty(), "{:?}", acks.refused);
        committed += acks.committed.len();
    }
    sending.await.expect("no panic");
}
