//! What probes see while the database goes away and comes back, and what the figures say of a capture.

use std::sync::Arc;

use crate::common::data::Data;
use crate::common::pki::Authority;
use crate::common::postgres::{Database, Server};
use crate::common::{Fabric, is_final, running, until};
use lastseen_proto::v1::CaptureState::Completed;
use nix::sys::signal::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

/// Status and body of `/readyz`.
async fn readyz(fabric: &Fabric) -> (u16, String) {
    let mut stream = tokio::net::TcpStream::connect(fabric.admin).await.unwrap();
    stream.write_all(b"GET /readyz HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// What gRPC health says of the server and of one of its services.
async fn serving(fabric: &Fabric) -> [ServingStatus; 2] {
    let mut client = HealthClient::new(fabric.channel("viewer", "vic").await);
    let mut told = Vec::new();
    for service in ["", "lastseen.v1.CaptureService"] {
        let request = HealthCheckRequest { service: service.into() };
        told.push(client.check(request).await.unwrap().into_inner().status());
    }
    [told[0], told[1]]
}

async fn until_ready(fabric: &Fabric) {
    until("ready", async || readyz(fabric).await == (200, "ready\n".to_owned())).await;
    until("serving", async || serving(fabric).await == [ServingStatus::Serving; 2]).await;
}

/// Returns the reason.
async fn until_not_ready(fabric: &Fabric) -> String {
    until("not ready", async || readyz(fabric).await.0 == 503).await;
    until("not serving", async || serving(fabric).await == [ServingStatus::NotServing; 2]).await;
    let (status, reason) = readyz(fabric).await;
    assert_eq!((status, reason.lines().count()), (503, 1), "{reason}");
    reason
}

async fn fabric() -> (Fabric, Arc<Server>) {
    let database = Database::alone().await;
    let server = database.server.clone();
    (Fabric::start_on(Authority::new(), Data::on(Some(database))).await, server)
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_follow_a_database_that_is_stopped_and_started() {
    let (fabric, server) = fabric().await;
    until_ready(&fabric).await;
    let errors = fabric.counter("database_errors");
    let stopping = server.clone();
    tokio::task::spawn_blocking(move || stopping.kill()).await.unwrap();
    let reason = until_not_ready(&fabric).await;
    assert!(reason.starts_with("not ready: database") && reason.contains("check that it runs"), "{reason}");
    let starting = server.clone();
    tokio::task::spawn_blocking(move || starting.start_again()).await.unwrap();
    until_ready(&fabric).await;
    assert!(fabric.counter("database_errors") > errors);
    fabric.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_notice_a_database_that_takes_connections_and_does_not_answer() {
    let (fabric, server) = fabric().await;
    until_ready(&fabric).await;
    server.signal(Signal::SIGSTOP);
    let reason = until_not_ready(&fabric).await;
    server.signal(Signal::SIGCONT);
    assert!(reason.starts_with("not ready: database: no answer within 2 s"), "{reason}");
    until_ready(&fabric).await;
    fabric.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_notice_a_data_directory_that_cannot_be_written() {
    let fabric = Fabric::start().await;
    until_ready(&fabric).await;
    let (directory, aside) = (fabric.data.path().join("observations"), fabric.data.path().join("aside"));
    std::fs::rename(&directory, &aside).unwrap();
    let reason = until_not_ready(&fabric).await;
    assert!(reason.contains("--data-dir: cannot write in") && reason.contains("make room"), "{reason}");
    std::fs::rename(&aside, &directory).unwrap();
    until_ready(&fabric).await;
    fabric.stop().await;
}

#[tokio::test]
async fn figures_follow_a_capture_and_its_batches() {
    let (fabric, mut agent) = Fabric::with_one().await;
    let id = running(&fabric, &mut agent, 300).await;
    assert_eq!(
        (fabric.figure("captures{state=\"running\"}"), fabric.figure("nodes{state=\"ready\"}")),
        (1, 1)
    );
    let mut publisher = agent.publish().await;
    let batches = [0, 1].map(|sequence| agent.batch(&id, sequence));
    let rows: u64 = batches.iter().map(|batch| u64::from(batch.rows)).sum();
    assert_eq!(publisher.send(batches.to_vec()).await, (vec![0, 1], vec![]));
    // One comes again, and one lies.
    let lying = lastseen_proto::v1::ObservationBatch { rows: 1_000_000, ..agent.batch(&id, 2) };
    let (committed, refused) = publisher.send(vec![batches[0].clone(), lying]).await;
    assert_eq!((committed, refused.len()), (vec![0], 1));
    let counted =
        ["received_batches", "acknowledged_batches", "committed_batches"].map(|name| fabric.counter(name));
    assert_eq!(counted, [4, 3, 2]);
    assert_eq!(fabric.counter("committed_observations"), rows);
    assert_eq!(fabric.counter("received_observations"), rows + u64::from(batches[0].rows));
    assert_eq!(fabric.figure("refused_batches_total{reason=\"malformed\"}"), 1);
    agent.status(&id, Completed, "", 3).await;
    fabric.follow(&id, is_final).await;
    until("the capture counted", async || fabric.figure("ended_captures_total{state=\"completed\"}") == 1)
        .await;
    assert_eq!((fabric.figure("captures{state=\"running\"}"), fabric.figure("ingest_queue_bytes")), (0, 0));
    assert_eq!(fabric.figure("correlation_seconds_count"), 1);
    fabric.stop().await;
}
