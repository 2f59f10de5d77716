//! How long a capture is without a coordinator when the one that leads it is killed, or frozen: from then until its row
//! names the next one. `cargo build --release --bins --example takeover`, then run it; the arguments are `kill` or
//! `freeze`, and the number of rounds.

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::{Duration, Instant};

use common::cluster::Cluster;
use common::job;
use lastseen_proto::v1::CaptureState::{Armed, Running};
use nix::sys::signal::Signal;

const ROUNDS: usize = 20;

/// Time from the fault to the new lead.
async fn round(cluster: &mut Cluster, id: &str, freezes: bool) -> Duration {
    let (leader, (owner, _)) = (cluster.leader(id).await, cluster.lead(id).await);
    let mut sql = cluster.sql().await;
    let query = format!("SELECT owner FROM captures WHERE id = '{id}'");
    let struck = Instant::now();
    if freezes {
        cluster.signal(leader, Signal::SIGSTOP);
    } else {
        cluster.kill(leader);
    }
    while sql.number(&query).await == owner {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let took = struck.elapsed();
    if freezes {
        cluster.kill(leader);
    }
    cluster.add().await;
    took
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let freezes = match arguments.next().as_deref() {
        Some("freeze") => true,
        Some("kill") | None => false,
        Some(other) => panic!("{other}: neither kill nor freeze"),
    };
    let rounds = arguments.next().map_or(ROUNDS, |text| text.parse().expect("a number of rounds"));
    let mut cluster = Cluster::start(2).await;
    let mut agent = cluster.agent(0, 0, "node-a", &[]).await;
    let mut client = cluster.captures(0).await;
    let starting = tokio::spawn(async move { client.start_capture(job(&["node-a"], 3_600_000)).await });
    let id = agent.arm().await.capture_id;
    agent.status(&id, Armed, "", 0).await;
    starting.await.unwrap().unwrap();
    agent.status(&id, Running, "", 0).await;
    let mut took = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        took.push(round(&mut cluster, &id, freezes).await);
    }
    took.sort();
    let (median, most) = (took[took.len() / 2], took[took.len() - 1]);
    println!(
        "take-over: median {:.2} s, max {:.2} s, {rounds} rounds",
        median.as_secs_f64(),
        most.as_secs_f64()
    );
}
