//! How long a capture is without a coordinator when the one that leads it is killed: from the kill until its row names
//! the next one. `cargo build --release --bins --example takeover`, then run it; the argument is the number of rounds.

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::{Duration, Instant};

use common::cluster::Cluster;
use common::job;
use lastseen_proto::v1::CaptureState::{Armed, Running};
use sqlx::Connection as _;

const ROUNDS: usize = 20;

/// Time from the kill to the new lead.
async fn round(cluster: &mut Cluster, leader: usize, id: &str) -> Duration {
    let (owner, _) = cluster.lead(id).await;
    let mut sql = cluster.sql().await;
    let query = format!("SELECT owner FROM captures WHERE id = '{id}'");
    let killed = Instant::now();
    cluster.kill(leader);
    while sql.number(&query).await == owner {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let took = killed.elapsed();
    if let common::data::Sql::Postgres(sql) = sql {
        sql.close().await.unwrap();
    }
    took
}

/// Which of those that live leads it.
async fn leader(cluster: &Cluster, id: &str, members: &[(usize, i64)]) -> usize {
    let (owner, _) = cluster.lead(id).await;
    members.iter().find(|(_, coordinator)| *coordinator == owner).expect("one of them leads").0
}

#[tokio::main]
async fn main() {
    let rounds = std::env::args().nth(1).map_or(ROUNDS, |text| text.parse().expect("a number of rounds"));
    let mut cluster = Cluster::start(1).await;
    let mut sql = cluster.sql().await;
    let known = async |sql: &mut common::data::Sql, others: &[(usize, i64)]| {
        let others: Vec<String> = others.iter().map(|(_, id)| id.to_string()).collect();
        let except = if others.is_empty() { "0".to_owned() } else { others.join(",") };
        sql.number(&format!(
            "SELECT MAX(id) FROM coordinators WHERE id NOT IN ({except}) AND alive_until > lastseen_now()"
        ))
        .await
    };
    let mut members = vec![(0, known(&mut sql, &[]).await)];
    let second = cluster.add().await;
    members.push((second, known(&mut sql, &members).await));
    let mut agent = cluster.agent(0, 0, "node-a", &[]).await;
    let mut client = cluster.captures(0).await;
    let starting = tokio::spawn(async move { client.start_capture(job(&["node-a"], 3_600_000)).await });
    let id = agent.arm().await.capture_id;
    agent.status(&id, Armed, "", 0).await;
    starting.await.unwrap().unwrap();
    agent.status(&id, Running, "", 0).await;
    let mut took = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let leading = leader(&cluster, &id, &members).await;
        took.push(round(&mut cluster, leading, &id).await);
        members.retain(|(member, _)| *member != leading);
        let next = cluster.add().await;
        members.push((next, known(&mut sql, &members).await));
    }
    took.sort();
    let (median, most) = (took[took.len() / 2], took[took.len() - 1]);
    println!(
        "take-over after kill -9: median {:.2} s, max {:.2} s, {rounds} rounds",
        median.as_secs_f64(),
        most.as_secs_f64()
    );
}
