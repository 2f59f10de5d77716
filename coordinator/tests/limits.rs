//! What one peer may not use up.

mod common;

use common::agent::Agent;
use common::{Fabric, job, running, until};
use lastseen_coordinator::limits;
use lastseen_proto::v1::agent_message::Kind;
use lastseen_proto::{PROTOCOL_VERSION, v1};
use lastseen_runtime::client::connect;
use sqlx::sqlite::SqliteConnection;
use tonic::Code;

#[tokio::test]
async fn a_node_takes_no_more_captures_than_the_limit() {
    let (fabric, mut agent) = Fabric::with_one().await;
    let mut ids = Vec::new();
    for _ in 0..limits::CAPTURES_PER_NODE {
        ids.push(running(&fabric, &mut agent, 60_000).await);
    }
    let status = fabric.captures().await.start_capture(job(&["node-a"], 60_000)).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().starts_with("nodes: node-a works on 4 captures, the limit"), "{status}");
    assert!(ids.iter().all(|id| status.message().contains(id)), "{status}");
    fabric.stop().await;
}

#[tokio::test]
async fn the_fabric_takes_no_more_captures_than_the_limit() {
    let fabric = Fabric::start().await;
    let mut ids = Vec::new();
    let mut agents = Vec::new();
    while ids.len() < limits::CAPTURES_PER_FABRIC {
        let mut agent = Agent::connect(&fabric, &format!("node-{}", agents.len()), 1, &[]).await;
        for _ in 0..limits::CAPTURES_PER_NODE {
            ids.push(running(&fabric, &mut agent, 60_000).await);
        }
        agents.push(agent);
    }
    let _idle = Agent::connect(&fabric, "node-idle", 1, &[]).await;
    let status = fabric.captures().await.start_capture(job(&["node-idle"], 60_000)).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().starts_with("captures: 8 have not ended, the limit"), "{status}");
    assert!(ids.iter().all(|id| status.message().contains(id)), "{status}");
    let stop = v1::StopCaptureRequest { capture_id: ids[0].clone() };
    fabric.captures().await.stop_capture(stop).await.unwrap();
    assert!(!fabric.get(&ids[0]).await.reason.is_empty());
    fabric.stop().await;
}

#[tokio::test]
async fn a_node_has_no_more_streams_than_the_limit() {
    let (fabric, mut agent) = Fabric::with_one().await;
    let mut open = Vec::new();
    for _ in 0..limits::BATCH_STREAMS_PER_NODE {
        open.push(agent.publish().await);
    }
    let status = agent.try_publish().await.err().unwrap();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().starts_with("node node-a has 4 streams of batches open, the limit"), "{status}");
    Agent::connect(&fabric, "node-b", 1, &[]).await.publish().await;
    open.pop();
    // The coordinator hears of its end in its own time.
    until("room for a stream", async || agent.try_publish().await.is_ok()).await;
    let mut silent = Vec::new();
    let refused = loop {
        match agent.client.connect(tokio_stream::pending()).await {
            Ok(stream) => silent.push(stream),
            Err(status) => break status,
        }
    };
    assert_eq!(silent.len(), limits::CONTROL_STREAMS_PER_NODE - 1, "the agent has one itself");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().contains("4 control streams open"), "{refused}");
    fabric.stop().await;
}

#[tokio::test]
async fn an_agent_has_no_more_connections_than_the_limit() {
    let fabric = Fabric::start().await;
    let mut open = Vec::new();
    for _ in 0..limits::CONNECTIONS_PER_AGENT {
        open.push(fabric.channel("agent", "node-a").await);
    }
    let pki = fabric.authority.identity("agent", "node-a");
    let address = fabric.address.to_string();
    assert!(connect(&address, &pki).await.is_err());
    assert_eq!(fabric.counter("refused_connections"), 1);
    fabric.channel("agent", "node-b").await;
    fabric.nodes().await.list_nodes(v1::ListNodesRequest {}).await.unwrap();
    open.pop();
    // The coordinator hears of its end in its own time.
    until("room for a connection", async || connect(&address, &pki).await.is_ok()).await;
    fabric.stop().await;
}

/// A connection to the database, which from now on notes each time that a node is stored anew.
async fn tallied(fabric: &Fabric) -> SqliteConnection {
    let mut sql = fabric.sql().await;
    for statement in [
        "CREATE TABLE stored (incarnation BIGINT)",
        "CREATE TRIGGER tally AFTER UPDATE ON nodes BEGIN INSERT INTO stored VALUES (NEW.incarnation); END",
    ] {
        sqlx::query(statement).execute(&mut sql).await.unwrap();
    }
    sql
}

/// How often a node was stored since.
async fn stored(sql: &mut SqliteConnection) -> i64 {
    sqlx::query_scalar("SELECT COUNT(*) FROM stored").fetch_one(sql).await.unwrap()
}

#[tokio::test]
async fn of_many_networks_the_newest_is_stored() {
    const TOLD: i64 = 50;
    let (fabric, agent) = Fabric::with_one().await;
    let mut sql = tallied(&fabric).await;
    for number in 1..=TOLD {
        agent.network(&format!("eth{number}")).await;
    }
    let newest = "SELECT COUNT(*) FROM nodes WHERE instr(topology, CAST('eth50' AS BLOB)) > 0";
    let is_stored = async || sqlx::query_scalar::<_, i64>(newest).fetch_one(&mut sql).await.unwrap() > 0;
    until("the newest network in the database", is_stored).await;
    let stored = stored(&mut sql).await;
    assert!(stored < TOLD, "{stored} of {TOLD} were stored");
    let request = v1::GetNodeRequest { name: "node-a".into() };
    let node = fabric.nodes().await.get_node(request).await.unwrap().into_inner().node.unwrap();
    assert_eq!(node.topology.unwrap().interfaces[0].name, "eth50");
    fabric.stop().await;
}

#[tokio::test]
async fn an_agent_that_comes_and_goes_is_stored_less_often_than_it_comes() {
    const TIMES: u64 = 30;
    let (fabric, mut agent) = Fabric::with_one().await;
    let mut sql = tallied(&fabric).await;
    for incarnation in 2..=TIMES {
        let messages = [v1::AgentMessage {
            kind: Some(Kind::Register(v1::Register {
                node_name: "node-a".into(),
                protocol_version: PROTOCOL_VERSION,
                incarnation,
                ..Default::default()
            })),
        }];
        // The coordinator hears of the end of those before in its own time.
        until("a place", async || agent.client.connect(tokio_stream::iter(messages.clone())).await.is_ok())
            .await;
    }
    let newest = async || {
        let query = sqlx::query_scalar::<_, i64>("SELECT incarnation FROM nodes");
        query.fetch_one(&mut sql).await.unwrap() == TIMES as i64
    };
    until("the newest process in the database", newest).await;
    let stored = stored(&mut sql).await;
    assert!(stored < TIMES as i64, "stored {stored} times");
    fabric.stop().await;
}
