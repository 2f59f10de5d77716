//! The list.

use bytes::Bytes;
use lastseen_coordinator::audit::{Outcome, Query, Record};
use lastseen_coordinator::model::{PointStatus, State, Window};
use lastseen_coordinator::store::{Age, Cursor, Placed, Results, Store};

use super::Home;
pub(crate) use super::probes::*;
use super::samples::{capture, flow, node, placed, point};

fn found(batches: &[Placed]) -> Vec<Option<(u32, u32)>> {
    batches.iter().map(|placed| Some((placed.location.length, placed.location.checksum))).collect()
}

async fn find(store: &dyn Store, batches: &[Placed]) -> Vec<Option<(u32, u32)>> {
    let keys: Vec<_> = batches.iter().map(|placed| &placed.batch.key).collect();
    store.find_batches(&keys).await.unwrap()
}

pub(crate) async fn captures_come_back_as_they_were_after_a_restart(home: Home) {
    let store = home.open().await;
    let mut first = capture("c-1", 100);
    store.save_capture(&first).await.unwrap();
    first.state = State::Draining;
    first.parts[0].state = State::Completed;
    store.save_capture(&first).await.unwrap();
    store.save_topologies("c-1", &[("node-a".into(), Bytes::from_static(b"net"))]).await.unwrap();
    store.save_translations("c-1", &[("node-a".into(), Bytes::from_static(b"nat"))]).await.unwrap();
    store.close().await;
    assert!(store.capture("c-1").await.is_err(), "a store that is closed says so");
    let store = home.open().await;
    assert_eq!(store.capture("c-1").await.unwrap().unwrap(), first);
    assert_eq!(store.unfinished().await.unwrap(), [first]);
    assert_eq!(store.topologies("c-1").await.unwrap(), [("node-a".to_owned(), Bytes::from_static(b"net"))]);
    let nat = [("node-a".to_owned(), Bytes::from_static(b"nat"))];
    assert_eq!(store.translations("c-1").await.unwrap(), nat);
}

pub(crate) async fn a_capture_keeps_what_a_later_write_does_not_name(home: Home) {
    let store = home.open().await;
    let mut first = capture("c-1", 100);
    store.save_capture(&first).await.unwrap();
    store.save_topologies("c-1", &[("node-a".into(), Bytes::from_static(b"net"))]).await.unwrap();
    store.save_translations("c-1", &[("node-a".into(), Bytes::from_static(b"nat"))]).await.unwrap();
    store.commit_batches(&[placed("c-1", "eth0", 0)]).await.unwrap();
    store.add_runs("c-1", 1).await.unwrap();
    first.parts[0].points[0].counters.received = 1;
    first.parts[0].clock_end = first.parts[0].clock_start;
    first.window = None;
    store.save_capture(&first).await.unwrap();
    assert_eq!(store.capture("c-1").await.unwrap().unwrap(), first);
    assert_eq!(store.topologies("c-1").await.unwrap().len(), 1);
    assert_eq!(store.translations("c-1").await.unwrap().len(), 1);
    assert_eq!(store.batches("c-1").await.unwrap().len(), 1);
    assert_eq!(store.add_runs("c-1", 0).await.unwrap(), 1);
}

pub(crate) async fn twins_of_a_point_are_one_and_the_last_counts(home: Home) {
    let store = home.open().await;
    let mut told = capture("c-1", 100);
    let twin = PointStatus { batches: 9, ..told.parts[0].points[0].clone() };
    told.parts[0].points.push(twin.clone());
    store.save_capture(&told).await.unwrap();
    assert_eq!(store.capture("c-1").await.unwrap().unwrap().parts[0].points, [twin]);
}

pub(crate) async fn pages_are_newest_first_without_gaps(home: Home) {
    let store = home.open().await;
    for (id, age) in [("c-1", 1), ("c-2", 2), ("c-3", 2), ("c-4", 3)] {
        store.save_capture(&capture(id, age)).await.unwrap();
    }
    let all: Vec<_> = store.captures(None, 10).await.unwrap().into_iter().map(|capture| capture.id).collect();
    assert_eq!(all, ["c-4", "c-3", "c-2", "c-1"]);
    for size in [1, 2, 3] {
        let mut seen = Vec::new();
        let mut after = None;
        loop {
            let page = store.captures(after.as_ref(), size).await.unwrap();
            let Some(last) = page.last() else { break };
            assert!(page.len() <= size as usize);
            after = Some(Cursor { created_at_nanos: last.created_at_nanos, id: last.id.clone() });
            seen.extend(page.into_iter().map(|capture| capture.id));
        }
        assert_eq!(seen, all, "in pages of {size}");
    }
}

/// The test's Postgres sorts as people do: a, b, B, é. The contract is B, a, b, é.
pub(crate) async fn order_is_that_of_bytes(home: Home) {
    let store = home.open().await;
    let names = ["B", "_", "a", "b", "é"];
    for name in ["é", "b", "a", "_", "B"] {
        store.save_node(&node(name)).await.unwrap();
        store.save_capture(&capture(name, 7)).await.unwrap();
    }
    let found: Vec<_> = store.nodes().await.unwrap().into_iter().map(|node| node.name).collect();
    assert_eq!(found, names);
    let found: Vec<_> = store.captures(None, 9).await.unwrap().into_iter().rev().map(|c| c.id).collect();
    assert_eq!(found, names);
    let after = Cursor { created_at_nanos: 7, id: "a".into() };
    let found: Vec<_> = store.captures(Some(&after), 9).await.unwrap().into_iter().map(|c| c.id).collect();
    assert_eq!(found, ["_", "B"]);
    let mut told = capture("c-parts", 8);
    let part = told.parts.remove(0);
    for name in ["é", "b", "a", "_", "B"] {
        let mut part = part.clone();
        part.node = name.into();
        for interface in ["é", "b", "a", "_", "B"] {
            part.points.push(PointStatus { point: point(interface), ..part.points[0].clone() });
        }
        part.points.remove(0);
        told.parts.push(part);
    }
    store.save_capture(&told).await.unwrap();
    for name in ["é", "b", "a", "_", "B"] {
        store.save_topologies("c-parts", &[(name.into(), Bytes::new())]).await.unwrap();
        store.save_translations("c-parts", &[(name.into(), Bytes::new())]).await.unwrap();
        let group = [placed("c-parts", name, 1), placed("c-parts", name, 0)];
        store.commit_batches(&group).await.unwrap();
    }
    let parts = store.capture("c-parts").await.unwrap().unwrap().parts;
    assert_eq!(parts.iter().map(|part| part.node.as_str()).collect::<Vec<_>>(), names);
    for part in &parts {
        let found: Vec<_> = part.points.iter().map(|status| status.point.key.interface.as_str()).collect();
        assert_eq!(found, names);
    }
    let topologies = store.topologies("c-parts").await.unwrap();
    assert_eq!(topologies.iter().map(|(node, _)| node.as_str()).collect::<Vec<_>>(), names);
    let translations = store.translations("c-parts").await.unwrap();
    assert_eq!(translations.iter().map(|(node, _)| node.as_str()).collect::<Vec<_>>(), names);
    let batches = store.batches("c-parts").await.unwrap();
    let found: Vec<_> = batches.iter().map(|b| (b.point.key.interface.as_str(), b.sequence)).collect();
    assert_eq!(found, names.map(|name| [(name, 0), (name, 1)]).concat());
}

pub(crate) async fn unfinished_captures_come_oldest_first(home: Home) {
    let store = home.open().await;
    for (id, age, state) in [
        ("c-3", 2, State::Pending),
        ("c-2", 2, State::Correlating),
        ("c-1", 3, State::Arming),
        ("c-4", 1, State::Completed),
        ("c-5", 1, State::Failed),
        ("c-6", 1, State::Cancelled),
    ] {
        let mut capture = capture(id, age);
        capture.state = state;
        store.save_capture(&capture).await.unwrap();
    }
    let found: Vec<_> = store.unfinished().await.unwrap().into_iter().map(|capture| capture.id).collect();
    assert_eq!(found, ["c-2", "c-3", "c-1"]);
}

pub(crate) async fn what_is_not_there_is_none_or_empty(home: Home) {
    let store = home.open().await;
    for id in ["", "c-1", "c\0", "'; --"] {
        assert!(store.capture(id).await.unwrap().is_none());
        assert!(store.topologies(id).await.unwrap().is_empty());
        assert!(store.translations(id).await.unwrap().is_empty());
        assert!(store.batches(id).await.unwrap().is_empty());
        assert!(store.stored_counts(id).await.unwrap().is_empty());
        assert_eq!(store.report(id).await.unwrap(), None);
        assert!(store.flows(id, u64::MAX, u32::MAX).await.unwrap().is_empty());
        assert!(store.lost(id, u64::MAX, u32::MAX).await.unwrap().is_empty());
        assert_eq!(find(store.as_ref(), &[placed(id, "eth0", 0)]).await, [None]);
        // Nothing to delete is no error, and nothing to hang it on is none either.
        store.delete_capture(id).await.unwrap();
        store.save_topologies(id, &[("node-a".into(), Bytes::new())]).await.unwrap();
        store.save_translations(id, &[("node-a".into(), Bytes::new())]).await.unwrap();
        assert!(store.add_runs(id, 1).await.is_err());
        let results = Results { report: vec![1], flows: vec![flow(0)], lost: vec![vec![1]] };
        assert!(store.save_results(id, &results).await.is_err());
    }
    assert!(store.captures(None, 1).await.unwrap().is_empty());
    assert!(store.unfinished().await.unwrap().is_empty());
    assert!(store.nodes().await.unwrap().is_empty());
    assert!(store.files("c-1").await.unwrap().is_empty() && store.ages().await.unwrap().is_empty());
    assert_eq!(store.stored_bytes("c-1").await.unwrap(), 0);
    assert!(store.find_batches(&[]).await.unwrap().is_empty());
    store.commit_batches(&[]).await.unwrap();
}

pub(crate) async fn runs_are_counted(home: Home) {
    let store = home.open().await;
    store.save_capture(&capture("c-1", 1)).await.unwrap();
    store.save_capture(&capture("c-2", 1)).await.unwrap();
    assert_eq!(store.add_runs("c-1", 1).await.unwrap(), 1);
    assert_eq!(store.add_runs("c-1", 1).await.unwrap(), 2);
    assert_eq!(store.add_runs("c-1", -1).await.unwrap(), 1);
    assert_eq!(store.add_runs("c-2", 0).await.unwrap(), 0);
}

pub(crate) async fn batches_are_found_in_the_order_asked_for(home: Home) {
    let store = home.open().await;
    store.save_capture(&capture("c-1", 1)).await.unwrap();
    store.save_capture(&capture("c-2", 1)).await.unwrap();
    let mut group: Vec<_> = (0..4).map(|sequence| placed("c-1", "eth0", sequence)).collect();
    group.push(placed("c-1", "cni0", 0));
    group.push(placed("c-2", "eth0", 0));
    for (number, placed) in group.iter_mut().enumerate() {
        placed.location.length = 100 + number as u32;
        placed.location.checksum = 200 + number as u32;
    }
    store.commit_batches(&group).await.unwrap();
    group.reverse();
    assert_eq!(find(store.as_ref(), &group).await, found(&group));
    // One field of the key off at a time.
    let mut others = vec![group[0].clone(); 7];
    others[0].batch.key.capture = "c-3".into();
    others[1].batch.key.node = "node-b".into();
    others[2].batch.key.point.netns = "other".into();
    others[3].batch.key.point.index = 3;
    others[4].batch.key.point.direction = 2;
    others[5].batch.key.incarnation = 1;
    others[6].batch.key.sequence = 9;
    others.push(group[0].clone());
    let mut expected = vec![None; 7];
    expected.extend(found(&group[..1]));
    assert_eq!(find(store.as_ref(), &others).await, expected);
    let stored = store.batches("c-1").await.unwrap();
    let order: Vec<_> = stored.iter().map(|b| (b.point.key.interface.as_str(), b.sequence)).collect();
    assert_eq!(order, [("cni0", 0), ("eth0", 0), ("eth0", 1), ("eth0", 2), ("eth0", 3)]);
    for batch in &stored {
        assert_eq!((batch.node.as_str(), batch.incarnation), ("node-a", u64::MAX));
        let it = |placed: &&Placed| {
            placed.batch.key.capture == "c-1"
                && placed.batch.point == batch.point
                && placed.batch.key.sequence == batch.sequence
        };
        assert_eq!(group.iter().find(it).unwrap().location, batch.location);
    }
    let mut counts: Vec<_> = store.stored_counts("c-1").await.unwrap();
    counts.sort_by(|a, b| a.point.cmp(&b.point));
    let counts: Vec<_> =
        counts.iter().map(|c| (c.point.interface.as_str(), c.incarnation, c.batches)).collect();
    assert_eq!(counts, [("cni0", u64::MAX, 1), ("eth0", u64::MAX, 4)]);
    for capture in ["c-1", "c-2"] {
        let of_it = group.iter().filter(|placed| placed.batch.key.capture == capture);
        let bytes: u64 = of_it.map(|placed| u64::from(placed.location.length)).sum();
        assert_eq!(store.files(capture).await.unwrap(), ["000000.obs"]);
        assert_eq!(store.stored_bytes(capture).await.unwrap(), bytes);
    }
}

pub(crate) async fn a_batch_is_stored_once_and_a_group_wholly_or_not_at_all(home: Home) {
    let store = home.open().await;
    store.save_capture(&capture("c-1", 1)).await.unwrap();
    let first = placed("c-1", "eth0", 0);
    store.commit_batches(std::slice::from_ref(&first)).await.unwrap();
    let mut again = first.clone();
    again.location.position = 99;
    let group = [placed("c-1", "eth0", 7), again, placed("c-1", "cni0", 0)];
    assert!(store.commit_batches(&group).await.is_err(), "a key is stored once");
    assert!(store.commit_batches(&[group[0].clone(), group[0].clone()]).await.is_err(), "also in a group");
    assert_eq!(find(store.as_ref(), &[group[0].clone(), group[2].clone()]).await, [None, None]);
    let stored = store.batches("c-1").await.unwrap();
    assert_eq!(stored.len(), 1);
    assert_eq!(stored[0].location, first.location);
    store.commit_batches(&[group[0].clone()]).await.unwrap();
    assert_eq!(store.batches("c-1").await.unwrap().len(), 2, "what failed can be stored later");
}

pub(crate) async fn a_batch_needs_its_capture(home: Home) {
    let store = home.open().await;
    store.save_capture(&capture("c-1", 1)).await.unwrap();
    let group = [placed("c-1", "eth0", 0), placed("c-gone", "eth0", 0)];
    assert!(store.commit_batches(&group).await.is_err());
    assert_eq!(find(store.as_ref(), &group).await, [None, None]);
}

pub(crate) async fn a_point_that_changed_keeps_its_batches(home: Home) {
    let store = home.open().await;
    store.save_capture(&capture("c-1", 1)).await.unwrap();
    store.commit_batches(&[placed("c-1", "eth0", 0)]).await.unwrap();
    let mut second = placed("c-1", "eth0", 1);
    second.batch.point.mtu = 9_000;
    second.batch.point.gso_known = false;
    second.batch.point.kind = 6;
    store.commit_batches(&[second.clone()]).await.unwrap();
    let stored = store.batches("c-1").await.unwrap();
    assert_eq!(stored.iter().map(|batch| batch.sequence).collect::<Vec<_>>(), [0, 1]);
    assert!(stored.iter().all(|batch| batch.point == second.batch.point));
    let status = &store.capture("c-1").await.unwrap().unwrap().parts[0].points[0];
    assert_eq!((&status.point, status.batches), (&second.batch.point, 3), "counters stay");
}

pub(crate) async fn deleting_a_capture_leaves_nothing_of_it(home: Home) {
    let store = home.open().await;
    for id in ["c-1", "c-2"] {
        store.save_capture(&capture(id, 1)).await.unwrap();
        store.save_topologies(id, &[("node-a".into(), Bytes::from_static(b"net"))]).await.unwrap();
        store.commit_batches(&[placed(id, "eth0", 0), placed(id, "cni0", 0)]).await.unwrap();
        let results = Results { report: vec![1], flows: vec![flow(0), flow(1)], lost: vec![vec![1]] };
        store.save_results(id, &results).await.unwrap();
    }
    store.delete_capture("c-1").await.unwrap();
    let tables = [
        ("captures", 1),
        ("capture_nodes", 1),
        ("capture_points", 2),
        ("batches", 2),
        ("reports", 1),
        ("flow_records", 2),
        ("lost_packets", 1),
    ];
    for (table, left) in tables {
        assert_eq!(home.count(table).await, left, "{table}");
    }
    assert_eq!(store.files("c-1").await.unwrap(), [""; 0]);
    assert_eq!(store.files("c-2").await.unwrap(), ["000000.obs"]);
    // Its name is free again, and nothing of the old one shows.
    store.save_capture(&capture("c-1", 1)).await.unwrap();
    assert!(store.batches("c-1").await.unwrap().is_empty() && store.report("c-1").await.unwrap().is_none());
}

pub(crate) async fn results_replace_earlier_ones_and_are_paged(home: Home) {
    let store = home.open().await;
    store.save_capture(&capture("c-1", 1)).await.unwrap();
    assert_eq!(store.report("c-1").await.unwrap(), None);
    let mut results = Results { report: vec![1], flows: vec![flow(0); 9], lost: vec![vec![7]; 3] };
    store.save_results("c-1", &results).await.unwrap();
    results.report = vec![2];
    results.flows = (0..5).map(flow).collect();
    results.lost = vec![vec![8], vec![], vec![9]];
    store.save_results("c-1", &results).await.unwrap();
    assert_eq!(store.report("c-1").await.unwrap(), Some(vec![2]));
    assert_eq!(store.flows("c-1", 3, 10).await.unwrap(), [flow(3), flow(4)]);
    assert_eq!(store.flows("c-1", 0, 2).await.unwrap(), [flow(0), flow(1)]);
    assert_eq!(store.flows("c-1", 0, 10).await.unwrap(), results.flows);
    assert_eq!(store.lost("c-1", 0, 10).await.unwrap(), results.lost);
    assert_eq!(store.lost("c-1", 1, 1).await.unwrap(), [Vec::<u8>::new()]);
    store.save_results("c-1", &Results::default()).await.unwrap();
    assert_eq!(store.report("c-1").await.unwrap(), Some(vec![]));
    assert!(
        store.flows("c-1", 0, 1).await.unwrap().is_empty()
            && store.lost("c-1", 0, 1).await.unwrap().is_empty()
    );
}

pub(crate) async fn results_may_be_large(home: Home) {
    let store = home.open().await;
    store.save_capture(&capture("c-1", 1)).await.unwrap();
    // Every byte there is, and more rows than are sent at once.
    let report: Vec<u8> = (0..16 << 20).map(|n: u32| (n >> 3) as u8).collect();
    let flows: Vec<_> = (0..8_000).map(|n| flow(n as u8)).collect();
    let lost: Vec<_> = (0..8_000_u32).map(|n| report[n as usize..n as usize + 300].to_vec()).collect();
    let results = Results { report, flows, lost };
    store.save_results("c-1", &results).await.unwrap();
    assert!(store.report("c-1").await.unwrap().unwrap() == results.report);
    assert!(store.flows("c-1", 0, u32::MAX).await.unwrap() == results.flows);
    assert!(store.lost("c-1", 0, u32::MAX).await.unwrap() == results.lost);
}

pub(crate) async fn nodes_are_remembered(home: Home) {
    let store = home.open().await;
    let mut first = node("node-a");
    first.last_seen_nanos = -7;
    store.save_node(&first).await.unwrap();
    store.save_node(&node("node-b")).await.unwrap();
    first.incarnation = 1;
    first.last_seen_nanos = -6;
    first.agent_version = "0.2.0".into();
    first.kernel = "6.2".into();
    first.capabilities.clear();
    first.topology = Bytes::from_static(&[0, 0xff, 0x5c]);
    store.save_node(&first).await.unwrap();
    assert_eq!(store.nodes().await.unwrap(), [first, node("node-b")]);
}

pub(crate) async fn numbers_have_64_bits(home: Home) {
    let store = home.open().await;
    let mut told = capture("c-1", i64::MIN);
    told.window = Some(Window { start_nanos: i64::MIN, end_nanos: i64::MAX });
    told.parts[0].armed_at_nanos = Some(i64::MAX);
    let status = &mut told.parts[0].points[0];
    status.batches = u64::MAX;
    status.point.mtu = u32::MAX;
    status.point.kind = i32::MIN;
    status.point.key.index = u32::MAX;
    status.point.key.direction = i32::MIN;
    for (number, counter) in [
        &mut status.counters.received,
        &mut status.counters.kernel_drops,
        &mut status.counters.agent_drops,
        &mut status.counters.filtered,
        &mut status.counters.own_connections,
        &mut status.counters.undecoded,
        &mut status.counters.bytes,
        &mut status.counters.unreadable,
        &mut status.counters.sampled_out,
    ]
    .into_iter()
    .enumerate()
    {
        *counter = u64::MAX - number as u64;
    }
    store.save_capture(&told).await.unwrap();
    assert_eq!(store.capture("c-1").await.unwrap().unwrap(), told);
    let mut batch = placed("c-1", "eth0", 0);
    batch.batch.key.sequence = u64::MAX;
    batch.batch.rows = u32::MAX;
    batch.location.position = u64::MAX;
    batch.location.length = u32::MAX;
    store.commit_batches(std::slice::from_ref(&batch)).await.unwrap();
    assert_eq!(find(store.as_ref(), std::slice::from_ref(&batch)).await, [Some((u32::MAX, u32::MAX))]);
    let stored = &store.batches("c-1").await.unwrap()[0];
    assert_eq!((stored.sequence, &stored.location), (u64::MAX, &batch.location));
    assert!(store.batches("c-1").await.unwrap()[0].incarnation == u64::MAX);
}

/// Text is UTF-8 by its type. NUL, which Postgres cannot hold, comes back as U+FFFD from either backend.
pub(crate) async fn text_may_hold_anything(home: Home) {
    let store = home.open().await;
    let wild = "a\u{1}\t\n\\N\\.\"'{},;é\u{1F310}\u{FFFF}";
    let mut told = capture("c-1", 1);
    told.reason = format!("{wild}\0");
    told.created_by = wild.into();
    told.spec.filter = format!("{wild}\0");
    told.parts[0].reason = format!("\0{wild}");
    told.parts[0].coverage = vec![format!("\0{wild}")];
    told.parts[0].points[0].point.key.interface = format!("{wild}\0");
    told.parts[0].points[0].point.key.netns = wild.into();
    store.save_capture(&told).await.unwrap();
    let shown = |text: &str| text.replace('\0', "\u{FFFD}");
    let mut expected = told.clone();
    expected.reason = shown(&told.reason);
    expected.parts[0].reason = shown(&told.parts[0].reason);
    let interface = shown(&told.parts[0].points[0].point.key.interface);
    expected.parts[0].points[0].point.key.interface = interface;
    assert_eq!(store.capture("c-1").await.unwrap().unwrap(), expected, "what is inside JSON stays as it was");
    let mut batch = placed("c-1", &format!("{wild}\0"), 0);
    batch.location.file = format!("{wild}\0");
    store.commit_batches(std::slice::from_ref(&batch)).await.unwrap();
    assert_eq!(find(store.as_ref(), &[batch]).await.len(), 1);
    assert_eq!(store.files("c-1").await.unwrap(), [shown(&format!("{wild}\0"))]);
    let mut record = node(&format!("{wild}\0"));
    record.kernel = format!("{wild}\0");
    record.capabilities[0].reason = format!("{wild}\0");
    store.save_node(&record).await.unwrap();
    (record.name, record.kernel) = (shown(&record.name), shown(&record.kernel));
    assert_eq!(store.nodes().await.unwrap(), [record]);
    let mut wild_flow = flow(0);
    wild_flow.node = format!("{wild}\0");
    wild_flow.interface = wild.into();
    let results = Results { flows: vec![wild_flow.clone()], ..Results::default() };
    store.save_results("c-1", &results).await.unwrap();
    wild_flow.node = shown(&wild_flow.node);
    assert_eq!(store.flows("c-1", 0, 1).await.unwrap(), [wild_flow]);
}

pub(crate) async fn writers_at_once_lose_nothing(home: Home) {
    const EACH: u64 = 40;
    let (first, second) = (home.open().await, home.open().await);
    first.save_capture(&capture("c-1", 1)).await.unwrap();
    let mut tasks = Vec::new();
    for (store, interface) in [(&first, "eth0"), (&second, "eth1"), (&first, "eth2"), (&second, "eth3")] {
        let store = store.clone();
        tasks.push(tokio::spawn(async move {
            for sequence in 0..EACH {
                // Points in another order each time.
                let group =
                    [placed("c-1", interface, sequence), placed("c-1", &format!("x{interface}"), sequence)];
                store.commit_batches(&group).await.unwrap();
                store.add_runs("c-1", 1).await.unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(second.add_runs("c-1", 0).await.unwrap(), 4 * EACH as i64);
    let counts = second.stored_counts("c-1").await.unwrap();
    assert_eq!(counts.iter().map(|count| count.batches).collect::<Vec<_>>(), [EACH; 8]);
}

pub(crate) async fn writers_of_one_key_store_it_once(home: Home) {
    let stores = [home.open().await, home.open().await];
    stores[0].save_capture(&capture("c-1", 1)).await.unwrap();
    for sequence in 0..20 {
        let batch = placed("c-1", "eth0", sequence);
        let one = std::slice::from_ref(&batch);
        let (a, b) = tokio::join!(stores[0].commit_batches(one), stores[1].commit_batches(one));
        assert_eq!(usize::from(a.is_ok()) + usize::from(b.is_ok()), 1, "{a:?} {b:?}");
    }
    assert_eq!(stores[0].batches("c-1").await.unwrap().len(), 20);
}

pub(crate) async fn savers_and_committers_of_one_capture_do_not_block_each_other(home: Home) {
    const ROUNDS: u64 = 12;
    let (first, second) = (home.open().await, home.open().await);
    // So many that writing them takes a while, in no order.
    let names: Vec<String> = (0..300).map(|n| format!("eth{}", n * 7 % 300)).collect();
    let mut told = capture("c-1", 1);
    told.parts[0].points = names
        .iter()
        .map(|name| PointStatus { point: point(name), ..told.parts[0].points[0].clone() })
        .collect();
    first.save_capture(&told).await.unwrap();
    let saving = async {
        for round in 0..ROUNDS {
            told.parts[0].points.iter_mut().for_each(|status| status.batches = round);
            told.parts[0].points.reverse();
            first.save_capture(&told).await.unwrap();
        }
    };
    let committing = async {
        for round in 0..ROUNDS {
            let mut group: Vec<_> = names.iter().map(|name| placed("c-1", name, round)).collect();
            // As if the points had changed, so that their rows are written.
            for placed in &mut group {
                placed.batch.point.mtu = round as u32;
            }
            second.commit_batches(&group).await.unwrap();
        }
    };
    tokio::join!(saving, committing);
    assert_eq!(second.batches("c-1").await.unwrap().len(), names.len() * ROUNDS as usize);
    let stored = second.capture("c-1").await.unwrap().unwrap();
    assert!(stored.parts[0].points.iter().all(|status| status.batches == ROUNDS - 1));
}

pub(crate) async fn ages_are_oldest_first_by_the_end_of_the_window(home: Home) {
    let store = home.open().await;
    let mut told = Vec::new();
    for (id, created_at, window_end, state) in [
        ("c-1", 1, Some(90), State::Completed),
        ("c-2", 50, None, State::Cancelled),
        ("c-3", 2, Some(70), State::Running),
        ("c-4", 3, Some(70), State::Failed),
    ] {
        let mut capture = capture(id, created_at);
        capture.window = window_end.map(|end_nanos| Window { start_nanos: 10, end_nanos });
        capture.state = state;
        store.save_capture(&capture).await.unwrap();
        let until_nanos = window_end.unwrap_or(created_at);
        told.push(Age { id: id.into(), is_ended: state.is_final(), until_nanos });
    }
    told.sort_by_key(|age| age.until_nanos);
    assert_eq!(store.ages().await.unwrap(), told);
}

pub(crate) async fn one_at_a_time_deletes_what_is_old(home: Home) {
    let store = home.open().await;
    let turn = store.alone().await.unwrap();
    assert!(turn.is_some());
    let other = home.open().await;
    let is_shared = matches!(home, Home::Postgres(_));
    assert_eq!(other.alone().await.unwrap().is_none(), is_shared);
    drop(turn);
    let mut again = other.alone().await.unwrap();
    // The server hears of the end of a connection in a moment.
    while again.is_none() {
        again = other.alone().await.unwrap();
    }
}

pub(crate) async fn the_database_says_what_it_is(home: Home) {
    let version = home.open().await.version().await.unwrap();
    let name = if matches!(home, Home::Postgres(_)) { "Postgres " } else { "SQLite 3." };
    assert!(version.starts_with(name) && version.len() > name.len(), "{version}");
}

fn deed(number: i64, who: &str) -> Record {
    Record {
        at_nanos: 100 * number,
        who: who.into(),
        peer: "10.0.0.1:2".into(),
        action: "start-capture".into(),
        subject: format!("c-{number}"),
        outcome: [Outcome::Begun, Outcome::Done, Outcome::Refused, Outcome::Failed][number as usize % 4],
        detail: "why\u{1b}[2J 'not'".into(),
    }
}

pub(crate) async fn the_audit_is_paged_newest_first_and_searched(home: Home) {
    const ALL: u64 = 1_000;
    let store = home.open().await;
    assert!(store.audit(&Query::default(), 9).await.unwrap().is_empty());
    for number in 1..=9 {
        store.add_audit(&deed(number, if number % 3 == 0 { "bob" } else { "ann" }), ALL).await.unwrap();
    }
    store.close().await;
    let store = home.open().await;
    let found = async |query: Query, limit| {
        let found = store.audit(&query, limit).await.unwrap();
        assert!(found.is_sorted_by(|a, b| a.0 > b.0), "{found:?}");
        found
    };
    let all = found(Query::default(), 100).await;
    let expected = (1..=9).rev().map(|n| deed(n, if n % 3 == 0 { "bob" } else { "ann" }));
    assert_eq!(
        all.iter().map(|(_, record)| record.clone()).collect::<Vec<_>>(),
        expected.collect::<Vec<_>>()
    );
    let first = found(Query::default(), 4).await;
    let rest = found(Query { before: Some(first[3].0), ..Query::default() }, 100).await;
    assert_eq!([first, rest].concat(), all, "pages meet");
    let times =
        |found: Vec<(u64, Record)>| found.iter().map(|(_, record)| record.at_nanos).collect::<Vec<_>>();
    let since = Query { since_nanos: Some(700), ..Query::default() };
    assert_eq!(times(found(since, 100).await), [900, 800, 700]);
    let who = |names: &[&str]| Query { who: names.iter().map(|&n| n.into()).collect(), ..Query::default() };
    assert_eq!(times(found(who(&["bob"]), 100).await), [900, 600, 300]);
    assert_eq!(times(found(who(&["eve", "bob", "x"]), 2).await), [900, 600]);
    assert!(found(who(&["an%"]), 9).await.is_empty(), "a name is no pattern");
}

pub(crate) async fn the_audit_keeps_the_newest_records_and_changes_none(home: Home) {
    let store = home.open().await;
    for number in 1..=20 {
        store.add_audit(&deed(number, "ann"), 5).await.unwrap();
    }
    let found = store.audit(&Query::default(), 100).await.unwrap();
    let times: Vec<_> = found.iter().map(|(_, record)| record.at_nanos).collect();
    assert_eq!(times, [2_000, 1_900, 1_800, 1_700, 1_600]);
    assert_eq!(home.count("audit").await, 5);
    let refused = home.try_run("UPDATE audit SET who = 'nobody'").await.unwrap_err();
    assert!(refused.contains("audit records are never changed"), "{refused}");
}
