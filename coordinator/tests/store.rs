//! What every store backend must do, on real files.

use std::collections::BTreeMap;

use bytes::Bytes;
use lastseen_coordinator::model::{
    BatchKey, Capability, Capture, CheckedBatch, ClockFix, Counters, IdentityKey, NodeRecord, Part, Point,
    PointKey, PointStatus, Spec, State, Window,
};
use lastseen_coordinator::store::{Cursor, Location, Placed, Results, SqliteStore, Store, StoreError};

use lastseen_correlate::report::{FlowRecord, OverlayReport};
use lastseen_correlate::topology::Direction;
use lastseen_packet::observation::OverlayKind;
use sqlx::ConnectOptions as _;
use sqlx::sqlite::SqliteConnectOptions;

fn spec() -> Spec {
    Spec {
        name: "mtu".into(),
        labels: BTreeMap::from([("team".into(), "net".into())]),
        all_nodes: false,
        nodes: vec!["node-a".into()],
        filter: "tcp port 80".into(),
        interfaces: vec!["eth0".into()],
        duration_nanos: 30,
        max_packets: Some(u64::MAX),
        max_bytes: None,
        snap_length: 192,
        start_at_nanos: Some(5),
        sampling_interval: 4,
    }
}

fn point(interface: &str) -> Point {
    let key = PointKey { netns: String::new(), interface: interface.into(), index: 2, direction: 1 };
    Point { key, kind: 5, mtu: 1500, gso_known: true }
}

fn capture(id: &str, created_at_nanos: i64) -> Capture {
    let fix = ClockFix {
        at_nanos: 1,
        coordinator_minus_monotonic_nanos: -2,
        realtime_minus_monotonic_nanos: 3,
        error_nanos: 4,
        round_trip_nanos: 5,
    };
    // No two alike, so that a mixed-up column shows.
    let counters = Counters {
        received: u64::MAX,
        kernel_drops: 1,
        agent_drops: 2,
        filtered: 3,
        own_connections: 4,
        undecoded: 5,
        bytes: 6,
        unreadable: 7,
        sampled_out: 8,
    };
    let part = Part {
        state: State::Armed,
        reason: "slow".into(),
        armed_at_nanos: Some(9),
        incarnation: Some(u64::MAX),
        clock_start: Some(fix),
        clock_end: None,
        points: vec![PointStatus { point: point("eth0"), counters, batches: 3 }],
        coverage: vec!["eth1 vanished".into()],
        ..Part::new("node-a")
    };
    Capture {
        id: id.into(),
        spec: spec(),
        state: State::Running,
        reason: String::new(),
        created_at_nanos,
        created_by: "spiffe://lastseen/operator/eve".into(),
        window: Some(Window { start_nanos: 10, end_nanos: 40 }),
        parts: vec![part],
        identity_key: IdentityKey([9; 16]),
    }
}

fn placed(capture: &str, interface: &str, sequence: u64) -> Placed {
    let point = point(interface);
    let key = BatchKey {
        capture: capture.into(),
        node: "node-a".into(),
        point: point.key.clone(),
        incarnation: u64::MAX,
        sequence,
    };
    let batch = CheckedBatch { key, point, bytes: Bytes::from_static(b"x"), checksum: u32::MAX, rows: 1 };
    let location =
        Location { file: "000000.obs".into(), position: 8 + sequence, length: 1, checksum: u32::MAX };
    Placed { batch, location }
}

#[tokio::test]
async fn captures_come_back_as_they_were_after_a_restart() {
    let home = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(None, home.path()).await.unwrap();
    let mut first = capture("c-1", 100);
    store.save_capture(&first).await.unwrap();
    first.state = State::Draining;
    first.parts[0].state = State::Completed;
    store.save_capture(&first).await.unwrap();
    store.save_topology("c-1", "node-a", &Bytes::from_static(b"net")).await.unwrap();
    store.save_translations("c-1", "node-a", &Bytes::from_static(b"nat")).await.unwrap();
    store.close().await;
    let store = SqliteStore::open(None, home.path()).await.unwrap();
    assert_eq!(store.capture("c-1").await.unwrap().unwrap(), first);
    assert_eq!(store.unfinished().await.unwrap(), [first]);
    assert_eq!(store.topologies("c-1").await.unwrap(), [("node-a".to_owned(), Bytes::from_static(b"net"))]);
    let nat = [("node-a".to_owned(), Bytes::from_static(b"nat"))];
    assert_eq!(store.translations("c-1").await.unwrap(), nat);
    assert!(store.capture("c-2").await.unwrap().is_none());
}

#[tokio::test]
async fn pages_are_newest_first_without_gaps() {
    let home = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(None, home.path()).await.unwrap();
    for (id, age) in [("c-1", 1), ("c-2", 2), ("c-3", 2), ("c-4", 3)] {
        store.save_capture(&capture(id, age)).await.unwrap();
    }
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = store.captures(after.as_ref(), 1).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(Cursor { created_at_nanos: last.created_at_nanos, id: last.id.clone() });
        seen.extend(page.into_iter().map(|capture| capture.id));
    }
    assert_eq!(seen, ["c-4", "c-3", "c-2", "c-1"]);
}

#[tokio::test]
async fn batches_are_found_counted_and_go_with_their_capture() {
    let home = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(None, home.path()).await.unwrap();
    store.save_capture(&capture("c-1", 1)).await.unwrap();
    let group = [placed("c-1", "eth0", 1), placed("c-1", "eth0", 0), placed("c-1", "cni0", 0)];
    store.commit_batches(&group).await.unwrap();
    assert_eq!(store.find_batch(&group[0].batch.key).await.unwrap(), Some((1, u32::MAX)));
    assert_eq!(store.find_batch(&placed("c-1", "eth0", 2).batch.key).await.unwrap(), None);
    let again = store.commit_batches(&[placed("c-1", "eth0", 7), placed("c-1", "eth0", 0)]).await;
    assert!(again.is_err(), "a key is stored once");
    assert_eq!(store.find_batch(&placed("c-1", "eth0", 7).batch.key).await.unwrap(), None, "all or nothing");
    let order: Vec<_> = store.batches("c-1").await.unwrap();
    let order: Vec<_> = order.iter().map(|b| (b.point.key.interface.as_str(), b.sequence)).collect();
    assert_eq!(order, [("cni0", 0), ("eth0", 0), ("eth0", 1)]);
    let counts = store.stored_counts("c-1").await.unwrap();
    assert!(
        counts.iter().any(|c| c.point.interface == "eth0" && c.batches == 2 && c.incarnation == u64::MAX)
    );
    assert_eq!(store.files().await.unwrap(), [("c-1".to_owned(), "000000.obs".to_owned())]);
    let orphan = store.commit_batches(&[placed("c-gone", "eth0", 0)]).await;
    assert!(orphan.is_err(), "a batch belongs to a capture");
    store.delete_capture("c-1").await.unwrap();
    assert!(store.files().await.unwrap().is_empty() && store.batches("c-1").await.unwrap().is_empty());
}

/// No two numbers alike, so that a mixed-up column shows.
fn flow(n: u8) -> FlowRecord {
    let overlay = n.is_multiple_of(2).then_some(OverlayReport { kind: OverlayKind::VxlanGpe, id: 1 << 23 });
    FlowRecord {
        node: "node-a".into(),
        interface: "eth0".into(),
        direction: if n.is_multiple_of(2) { Direction::In } else { Direction::Out },
        source_address: "10.244.1.2".parse().unwrap(),
        destination_address: "2001:db8::1".parse().unwrap(),
        protocol_identifier: n,
        source_transport_port: 65_535,
        destination_transport_port: 80,
        overlay,
        packet_delta_count: u64::MAX,
        octet_delta_count: 11,
        segments: 12,
        flow_start_nanos: -13,
        flow_end_nanos: i64::MAX,
        tcp_control_bits: 0xff,
        retransmissions: 14,
        out_of_order: 15,
        minimum_ip_total_length: 16,
        maximum_ip_total_length: u32::MAX,
        minimum_ttl: 17,
        maximum_ttl: 255,
    }
}

#[tokio::test]
async fn results_replace_earlier_ones_and_are_paged() {
    let home = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(None, home.path()).await.unwrap();
    store.save_capture(&capture("c-1", 1)).await.unwrap();
    assert_eq!(store.report("c-1").await.unwrap(), None);
    let mut results = Results { report: vec![1], flows: vec![flow(0); 9], lost: vec![vec![7]] };
    store.save_results("c-1", &results).await.unwrap();
    results.flows = (0..5).map(flow).collect();
    store.save_results("c-1", &results).await.unwrap();
    assert_eq!(store.report("c-1").await.unwrap(), Some(vec![1]));
    assert_eq!(store.flows("c-1", 3, 10).await.unwrap(), [flow(3), flow(4)]);
    assert_eq!(store.flows("c-1", 0, 2).await.unwrap(), [flow(0), flow(1)]);
    assert_eq!(store.lost("c-1", 0, 10).await.unwrap(), [vec![7]]);
}

#[tokio::test]
async fn nodes_are_remembered() {
    let home = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(None, home.path()).await.unwrap();
    let mut node = NodeRecord {
        name: "node-a".into(),
        agent_version: "0.1.0".into(),
        kernel: "6.1".into(),
        incarnation: u64::MAX,
        last_seen_nanos: 5,
        capabilities: vec![Capability { name: "capture".into(), available: true, reason: String::new() }],
        topology: Bytes::from_static(b"net"),
    };
    store.save_node(&node).await.unwrap();
    node.incarnation = 1;
    store.save_node(&node).await.unwrap();
    assert_eq!(store.nodes().await.unwrap(), [node]);
}

#[tokio::test]
async fn a_url_of_another_database_is_refused_without_its_password() {
    let home = tempfile::tempdir().unwrap();
    let error = SqliteStore::open(Some("postgres://me:secret@db/x"), home.path()).await.unwrap_err();
    assert!(matches!(error, StoreError::Scheme(_)));
    let text = error.to_string();
    assert!(text.contains("postgres") && !text.contains("secret"), "{text}");
    let missing = format!("sqlite://{}/nowhere/x.db", home.path().display());
    let error = SqliteStore::open(Some(&missing), home.path()).await.unwrap_err().to_string();
    assert!(error.contains("nowhere") && error.contains("writable"), "{error}");
}

#[tokio::test]
async fn a_database_that_is_not_ours_says_what_to_do() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("lastseen.db");
    std::fs::write(
        &path,
        "no database at all, but long enough to have a header of one hundred bytes".repeat(2),
    )
    .unwrap();
    let error = SqliteStore::open(None, home.path()).await.unwrap_err().to_string();
    assert!(error.contains("move that file away"), "{error}");
    std::fs::remove_file(&path).unwrap();
    SqliteStore::open(None, home.path()).await.unwrap().close().await;
    let mut sql = SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
                 VALUES (9999, 'of the future', TRUE, x'00', 0)";
    sqlx::query(newer).execute(&mut sql).await.unwrap();
    let error = SqliteStore::open(None, home.path()).await.unwrap_err().to_string();
    assert!(
        error.contains("9999") && error.contains("another version of the coordinator made it"),
        "{error}"
    );
}
