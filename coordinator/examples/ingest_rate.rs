//! Ingest over mutual TLS on loopback, from a client's stream to committed: observations per second and bytes each.
//!
//! `cargo run --release -p lastseen-coordinator --example ingest_rate [MILLION_OBSERVATIONS] [STREAMS] [ROWS_PER_BATCH]`

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::Instant;

use common::agent::{Agent, Publisher, batch, columns, realtime_nanos};
use common::{Fabric, job};
use lastseen_proto::v1;

#[tokio::main]
async fn main() {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<usize>().expect("a number"));
    let total = numbers.next().unwrap_or(4) * 1_000_000;
    let streams = numbers.next().unwrap_or(2);
    let rows = numbers.next().unwrap_or(4_096);
    let per_stream = total.div_ceil(streams * rows);
    let fabric = Fabric::start().await;
    let mut agents = Vec::new();
    for number in 0..streams {
        agents.push(Agent::connect(&fabric, &format!("node-{number}"), 1, &[]).await);
    }
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
    fabric.stop().await;
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
    let now = realtime_nanos();
    let batch_at = |sequence: u64| batch(id, 1, sequence, now, &columns(rows, now, sequence));
    (0..count as u64).map(batch_at).collect()
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
