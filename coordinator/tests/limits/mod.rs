//! What one peer may not use up.

mod fairness;

use crate::common::agent::Agent;
use crate::common::data::Sql;
use crate::common::{Fabric, job, running, until};
use lastseen_coordinator::limits;
use lastseen_proto::v1::agent_message::Kind;
use lastseen_proto::v1::agent_service_client::AgentServiceClient;
use lastseen_proto::{PROTOCOL_VERSION, v1};
use lastseen_runtime::client::connect;
use tokio_stream::StreamExt as _;
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

#[tokio::test]
async fn a_person_has_no_more_connections_than_the_limit() {
    let fabric = Fabric::start().await;
    let pki = fabric.authority.identity("viewer", "vic");
    let address = fabric.address.to_string();
    let mut open = Vec::new();
    for _ in 0..limits::CONNECTIONS_PER_PERSON {
        open.push(connect(&address, &pki).await.unwrap());
    }
    assert!(connect(&address, &pki).await.is_err());
    assert_eq!(fabric.counter("refused_connections"), 1);
    fabric.channel("viewer", "eve").await;
    fabric.stop().await;
}

/// A connection to the database, which from now on notes each time that a node is stored anew.
async fn tallied(fabric: &Fabric) -> Sql {
    let mut sql = fabric.sql().await;
    sql.run("CREATE TABLE stored (incarnation BIGINT)").await;
    sql.at("AFTER UPDATE ON nodes", "INSERT INTO stored VALUES (NEW.incarnation)").await;
    sql
}

/// How often a node was stored since.
async fn stored(sql: &mut Sql) -> i64 {
    sql.number("SELECT COUNT(*) FROM stored").await
}

#[tokio::test]
async fn of_many_networks_the_newest_is_stored() {
    const TOLD: i64 = 50;
    let (fabric, agent) = Fabric::with_one().await;
    let mut sql = tallied(&fabric).await;
    for number in 1..=TOLD {
        agent.network(&format!("eth{number}")).await;
    }
    let is_stored = async || {
        let topology = sql.bytes("SELECT topology FROM nodes").await;
        topology.windows(5).any(|window| window == b"eth50")
    };
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
        let mut answers = None;
        until("a place", async || {
            answers = agent.client.connect(tokio_stream::iter(messages.clone())).await.ok();
            answers.is_some()
        })
        .await;
        // Its end comes after its turn: without it two of them may pass each other.
        let mut answers = answers.unwrap().into_inner();
        while let Ok(Some(_)) = answers.message().await {}
    }
    let newest = async || sql.number("SELECT incarnation FROM nodes").await == TIMES as i64;
    until("the newest process in the database", newest).await;
    let stored = stored(&mut sql).await;
    assert!(stored < TIMES as i64, "stored {stored} times");
    fabric.stop().await;
}

#[tokio::test]
async fn an_agent_that_says_nothing_is_offline() {
    let fabric = Fabric::start().await;
    let register = v1::Register {
        node_name: "node-a".into(),
        protocol_version: PROTOCOL_VERSION,
        incarnation: 1,
        ..Default::default()
    };
    let only = [v1::AgentMessage { kind: Some(Kind::Register(register)) }];
    let mut client = AgentServiceClient::new(fabric.channel("agent", "node-a").await);
    let silent = tokio_stream::iter(only).chain(tokio_stream::pending());
    let mut answers = client.connect(silent).await.unwrap().into_inner();
    let ended = loop {
        match answers.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it ends without a reason"),
            Err(status) => break status,
        }
    };
    assert_eq!((ended.code(), ended.message()), (Code::DeadlineExceeded, "the agent was silent for 10 s"));
    until("the node offline", async || {
        let nodes = fabric.nodes().await.list_nodes(v1::ListNodesRequest {}).await.unwrap().into_inner();
        nodes.nodes[0].state() == v1::NodeState::Offline
    })
    .await;
    fabric.stop().await;
}
