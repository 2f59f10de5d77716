//! A coordinator whose database server dies and comes back under it, with agents on real TLS.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::common::agent::Agent;
use crate::common::data::Data;
use crate::common::pki::Authority;
use crate::common::postgres::{Database, Server};
use crate::common::{Fabric, is_final, running};
use lastseen_proto::v1::CaptureState::Completed;

async fn fabric() -> (Fabric, Agent, Arc<Server>) {
    let database = Database::alone().await;
    let server = database.server.clone();
    let fabric = Fabric::start_on(Authority::new(), Data::on(Some(database))).await;
    let agent = Agent::connect(&fabric, "node-a", 1, &[]).await;
    (fabric, agent, server)
}

async fn kill(server: &Arc<Server>) {
    let server = server.clone();
    tokio::task::spawn_blocking(move || server.kill()).await.unwrap();
}

async fn start_again(server: &Arc<Server>) {
    let server = server.clone();
    tokio::task::spawn_blocking(move || server.start_again()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_that_arrive_while_the_server_is_away_come_again() {
    let (fabric, mut agent, server) = fabric().await;
    let id = running(&fabric, &mut agent, 60_000).await;
    let mut publisher = agent.publish().await;
    assert_eq!(publisher.send(vec![agent.batch(&id, 0)]).await, (vec![0], vec![]));
    kill(&server).await;
    let batch = agent.batch(&id, 1);
    publisher.batches.send(batch.clone()).await.unwrap();
    let answer = publisher.answer().await;
    assert_eq!((answer.failed, answer.committed.len()), (vec![batch.key.clone().unwrap()], 0));
    assert_eq!((fabric.counter("failed_batches"), fabric.counter("committed_batches")), (1, 1));
    start_again(&server).await;
    assert_eq!(publisher.send(vec![batch]).await, (vec![1], vec![]));
    fabric.stop().await;
}

/// It does not wait for the server as long as a running one would.
#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_stops_while_the_server_is_away() {
    let (fabric, _agent, server) = fabric().await;
    kill(&server).await;
    tokio::time::timeout(Duration::from_secs(40), fabric.stop()).await.expect("it stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_amid_batches_loses_none_that_was_acknowledged_and_doubles_none() {
    const BATCHES: u64 = 300;
    const KILLS: u64 = 3;
    let (fabric, mut agent, server) = fabric().await;
    let id = running(&fabric, &mut agent, 1_000).await;
    let mut publisher = agent.publish().await;
    let (mut unsent, mut pending): (Vec<u64>, _) = ((0..BATCHES).rev().collect(), BTreeSet::new());
    let (mut committed, mut failed, mut kills) = (BTreeSet::new(), 0, 0);
    let mut restarting = None;
    while (committed.len() as u64) < BATCHES {
        while pending.len() < 16
            && let Some(sequence) = unsent.pop()
        {
            publisher.batches.send(agent.batch(&id, sequence)).await.unwrap();
            pending.insert(sequence);
        }
        if committed.len() as u64 >= (kills + 1) * BATCHES / (KILLS + 1) {
            kills += 1;
            let server = server.clone();
            restarting = Some(tokio::task::spawn_blocking(move || {
                server.kill();
                server.start_again();
            }));
        }
        let answer = publisher.answer().await;
        assert!(answer.refused.is_empty(), "{:?}", answer.refused);
        for key in answer.committed {
            assert!(pending.remove(&key.sequence) && committed.insert(key.sequence));
        }
        for key in answer.failed {
            failed += 1;
            pending.remove(&key.sequence);
            unsent.push(key.sequence);
        }
        if let Some(restarting) = restarting.take() {
            restarting.await.unwrap();
        }
    }
    assert_eq!(kills, KILLS);
    agent.status(&id, Completed, "", BATCHES).await;
    let done = fabric.follow(&id, is_final).await;
    assert_eq!((done.state(), done.nodes[0].coverage.len()), (Completed, 0), "{done:?}");
    let (_, data) = fabric.stop().await;
    let store = data.store().await;
    let stored: Vec<u64> = store.batches(&id).await.unwrap().iter().map(|batch| batch.sequence).collect();
    assert_eq!(stored, (0..BATCHES).collect::<Vec<_>>());
    eprintln!("{BATCHES} batches, {kills} kills, {failed} sent again");
    store.close().await;
}
