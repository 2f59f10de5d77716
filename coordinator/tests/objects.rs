//! Observation files in object stores: captures on a directory, on moto's S3 and on azurite, over loopback.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::common::agent::{Agent, Publisher, batch, columns, realtime_nanos};
use crate::common::data::Data;
use crate::common::emulators::Bucket;
use crate::common::pki::Authority;
use crate::common::{Fabric, is_final, running, until};
use lastseen_coordinator::files::Files;
use lastseen_coordinator::model::{BatchKey, CheckedBatch, Point, PointKey};
use lastseen_coordinator::retention::inventory::{collect, examine};
use lastseen_proto::convert::nanos;
use lastseen_proto::v1;
use lastseen_proto::v1::CaptureState::{Completed, Failed};

/// A coordinator that keeps its files there, and an agent.
async fn fabric_on(bucket: &Bucket) -> (Fabric, Agent) {
    let (url, environment) = (bucket.url.clone(), bucket.environment());
    let data = Data::new().await.telling(move |config| {
        config.object_store = Some(url.clone());
        config.object_store_environment = environment.clone();
    });
    let fabric = Fabric::start_on(Authority::new(), data).await;
    let agent = Agent::connect(&fabric, "node-a", 1, &[]).await;
    (fabric, agent)
}

/// Time that a batch is about.
const SLICE_NANOS: i64 = 150_000_000;

/// Batches of 100 packets each. Forty of them cover a window of a second with its lead and its tail, and have no packet
/// near its ends.
async fn batches(fabric: &Fabric, id: &str, sequences: std::ops::Range<u64>) -> Vec<v1::ObservationBatch> {
    let lead = nanos(&fabric.get(id).await.window_start.unwrap()) - 1_000_000_000;
    let one = |sequence: u64| {
        let start = lead + sequence as i64 * SLICE_NANOS;
        let columns = columns(100, start + 1_000_000, sequence);
        let slice_end_nanos = start + SLICE_NANOS;
        v1::ObservationBatch { slice_end_nanos, ..batch(id, 1, sequence, start, &columns) }
    };
    sequences.map(one).collect()
}

/// What a report says, without what differs from capture to capture.
async fn told(fabric: &Fabric, id: &str) -> (v1::DiffReport, Vec<v1::FlowRecord>) {
    let request = v1::DiffNodesRequest { capture_id: id.to_owned(), ..Default::default() };
    let mut report = fabric.analysis().await.diff_nodes(request).await.unwrap().into_inner();
    report.capture_id = String::new();
    report.window = None;
    for node in &mut report.nodes {
        (node.clock_offset_nanos, node.clock_error_nanos) = (None, None);
    }
    let request = v1::ListFlowsRequest { capture_id: id.to_owned(), ..Default::default() };
    let mut flows = fabric.analysis().await.list_flows(request).await.unwrap().into_inner().flows;
    for flow in &mut flows {
        (flow.flow_start, flow.flow_end) = (None, None);
    }
    flows.sort_by_key(|flow| flow.source_transport_port);
    (report, flows)
}

fn packets(flows: &[v1::FlowRecord]) -> u64 {
    flows.iter().map(|flow| flow.packet_delta_count).sum()
}

async fn committed(publisher: &mut Publisher, batches: Vec<v1::ObservationBatch>) {
    let expected: Vec<u64> = batches.iter().map(|batch| batch.key.as_ref().unwrap().sequence).collect();
    assert_eq!(publisher.send(batches).await, (expected, vec![]));
}

/// A capture of four groups from start to report.
async fn whole(fabric: &Fabric, agent: &mut Agent) -> (String, (v1::DiffReport, Vec<v1::FlowRecord>)) {
    let id = running(fabric, agent, 1_000).await;
    let mut publisher = agent.publish().await;
    for group in 0..4 {
        let batches = batches(fabric, &id, group * 10..group * 10 + 10).await;
        committed(&mut publisher, batches).await;
    }
    // An agent that ends before would end the window as well.
    let end = nanos(&fabric.get(&id).await.window_end.unwrap());
    until("the end of the window", async || realtime_nanos() > end).await;
    agent.status(&id, Completed, "", 40).await;
    let done = fabric.follow(&id, is_final).await;
    assert_eq!((done.state(), done.nodes[0].coverage.len()), (Completed, 0), "{done:?}");
    let told = told(fabric, &id).await;
    (id, told)
}

#[tokio::test]
async fn a_capture_gives_the_same_report_wherever_its_files_lie_and_leaves_nothing_when_it_is_deleted() {
    let (fabric, mut agent) = Fabric::with_one().await;
    let (_, expected) = whole(&fabric, &mut agent).await;
    assert_eq!(packets(&expected.1), 4_000);
    fabric.stop().await;
    for bucket in [Bucket::local(), Bucket::s3().await, Bucket::azure().await] {
        let (fabric, mut agent) = fabric_on(&bucket).await;
        let (id, found) = whole(&fabric, &mut agent).await;
        assert_eq!(found, expected, "{}", bucket.url);
        let files = bucket.files().await;
        assert_eq!(files.captures().await.unwrap(), [id.as_str()]);
        assert!(files.list(&id).await.unwrap().len() >= 4, "an object for each group");
        let local = fabric.data.path().join("observations");
        assert_eq!(std::fs::read_dir(local).unwrap().count(), 0);
        let request = v1::DeleteCaptureRequest { capture_id: id.clone() };
        fabric.captures().await.delete_capture(request).await.unwrap();
        assert_eq!(files.captures().await.unwrap(), [""; 0], "{}", bucket.url);
        fabric.stop().await;
    }
}

async fn loses_nothing_that_was_acknowledged(mut bucket: Bucket) {
    let (fabric, mut agent) = fabric_on(&bucket).await;
    let id = running(&fabric, &mut agent, 1_000).await;
    let mut publisher = agent.publish().await;
    committed(&mut publisher, batches(&fabric, &id, 0..10).await).await;
    bucket.gate.as_mut().unwrap().close().await;
    let late = batches(&fabric, &id, 10..11).await;
    publisher.batches.send(late[0].clone()).await.unwrap();
    let answer = publisher.answer().await;
    assert_eq!((answer.failed, answer.committed.len()), (vec![late[0].key.clone().unwrap()], 0));
    bucket.gate.as_mut().unwrap().open().await;
    committed(&mut publisher, late).await;
    // Gone again when the correlation run begins, which waits for it.
    bucket.gate.as_mut().unwrap().close().await;
    agent.status(&id, Completed, "", 11).await;
    let mut sql = fabric.sql().await;
    until("a correlation run", async || {
        sql.number(&format!("SELECT runs FROM captures WHERE id = '{id}'")).await == 1
    })
    .await;
    bucket.gate.as_ref().unwrap().turn_one_away().await;
    bucket.gate.as_mut().unwrap().open().await;
    let done = fabric.follow(&id, is_final).await;
    assert_eq!((done.state(), done.nodes[0].coverage.len()), (Completed, 0), "{done:?}");
    let (report, flows) = told(&fabric, &id).await;
    assert_eq!((packets(&flows), report.nodes[0].coverage.len()), (1_100, 0), "{report:?}");
    fabric.stop().await;
}

#[tokio::test]
async fn an_s3_store_that_goes_away_and_comes_back_loses_nothing_that_was_acknowledged() {
    loses_nothing_that_was_acknowledged(Bucket::s3().await).await;
}

#[tokio::test]
async fn an_azure_store_that_goes_away_and_comes_back_loses_nothing_that_was_acknowledged() {
    loses_nothing_that_was_acknowledged(Bucket::azure().await).await;
}

#[tokio::test]
async fn a_capture_that_ends_while_the_store_is_away_says_why() {
    let mut bucket = Bucket::s3().await;
    let (fabric, mut agent) = fabric_on(&bucket).await;
    let id = running(&fabric, &mut agent, 100).await;
    let mut publisher = agent.publish().await;
    committed(&mut publisher, batches(&fabric, &id, 0..1).await).await;
    bucket.gate.as_mut().unwrap().close().await;
    agent.status(&id, Completed, "", 2).await;
    let late = batches(&fabric, &id, 1..2).await;
    publisher.batches.send(late[0].clone()).await.unwrap();
    assert_eq!(publisher.answer().await.failed.len(), 1);
    let ended = fabric.follow(&id, |capture| capture.nodes[0].state() == Failed).await;
    let reason = &ended.nodes[0].reason;
    for part in [&format!("s3://fabric/some/prefix/{id}/"), ".obs: cannot write: ", "Connection refused"] {
        assert!(reason.contains(part), "{reason}");
    }
    assert!(!reason.contains("s/cret"), "{reason}");
    bucket.gate.as_mut().unwrap().open().await;
    fabric.follow(&id, is_final).await;
    let (report, flows) = told(&fabric, &id).await;
    assert_eq!(packets(&flows), 100);
    let missing = "eth0 in: 1 of 2 batches did not arrive";
    assert!(report.nodes[0].coverage.iter().any(|note| note == missing), "{report:?}");
    fabric.stop().await;
}

/// Writes a file that gets no row; returns its name.
async fn write(files: &Files, capture: &str) -> String {
    let point = PointKey { netns: String::new(), interface: "eth0".into(), index: 2, direction: 1 };
    let key = BatchKey {
        capture: capture.into(),
        node: "node-a".into(),
        point: point.clone(),
        incarnation: 1,
        sequence: 1_000,
    };
    let point = Point { key: point, kind: 5, mtu: 1500, gso_known: true };
    let batch = CheckedBatch { key, point, bytes: "batch".into(), checksum: 0, rows: 1, slice_nanos: [0; 2] };
    let group = BTreeMap::from([(capture.to_owned(), vec![batch])]);
    let written = files.writer().write(group).await.remove(0);
    format!("{capture}/{}", written.placed.unwrap()[0].location.file)
}

#[tokio::test]
async fn garbage_is_found_and_collected_and_what_is_gone_is_told() {
    for bucket in [Bucket::local(), Bucket::s3().await, Bucket::azure().await] {
        let (fabric, mut agent) = fabric_on(&bucket).await;
        let (id, _) = whole(&fabric, &mut agent).await;
        let (_, data) = fabric.stop().await;
        let (store, files) = (data.store().await, bucket.files().await);
        let (store, now) = (store.as_ref(), Duration::ZERO);
        let foreign = files.claim("another").await.unwrap_err().to_string();
        let marker = format!("{}/fabric", bucket.url);
        assert!(foreign.starts_with(&bucket.url) && foreign.contains(&marker), "{foreign}");
        files.claim(&store.fabric().await.unwrap()).await.unwrap();
        let known = files.list(&id).await.unwrap();
        let mut garbage = vec![write(&files, &id).await, write(&files, "c-gone").await];
        garbage.sort();
        assert_eq!(examine(store, &files, Duration::from_hours(1)).await.unwrap().without_row.count, 0);
        // By the clock of the store, whose seconds are whole.
        until("an age", async || {
            examine(store, &files, now).await.unwrap().without_row.examples.len() == garbage.len()
        })
        .await;
        let found = examine(store, &files, now).await.unwrap();
        assert_eq!((&found.without_row.examples, found.without_row.bytes), (&garbage, 2 * (8 + 8 + 5)));
        assert_eq!((found.missing.count, found.files), (0, known.len() as u64 + 2), "{}", bucket.url);
        assert_eq!(collect(store, &files, Duration::from_hours(1)).await.unwrap().count, 0);
        assert_eq!(collect(store, &files, now).await.unwrap(), found.without_row);
        assert_eq!(files.captures().await.unwrap(), [id.as_str()]);
        assert_eq!(files.list(&id).await.unwrap().len(), known.len());
        files.remove(&id, vec![known[0].file.clone()]).await.unwrap();
        let found = examine(store, &files, now).await.unwrap();
        assert_eq!(found.missing.examples, [format!("{id}/{}", known[0].file)]);
        assert_eq!((found.without_row.count, found.files), (0, known.len() as u64 - 1));
        store.close().await;
    }
}
