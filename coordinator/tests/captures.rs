//! Captures from start to report over real TLS, with agents that follow a script.

use crate::common;
use crate::common::agent::Agent;
use crate::common::{Fabric, is_final, job, running};
use lastseen_coordinator::limits;
use lastseen_coordinator::model::State;
use lastseen_proto::v1;
use lastseen_proto::v1::CaptureState::{Armed, Completed, Failed, Running};
use lastseen_proto::v1::coordinator_message::Kind as Told;
use tokio::task::JoinHandle;
use tonic::{Code, Status};

type Starting = JoinHandle<Result<v1::Capture, Status>>;

/// Starts a job while the agents arm.
async fn start(fabric: &Fabric, request: v1::StartCaptureRequest) -> Starting {
    let mut client = fabric.captures().await;
    tokio::spawn(async move { Ok(client.start_capture(request).await?.into_inner().capture.unwrap()) })
}

/// Starts a job that both agents are told to arm for, and returns its id.
async fn start_on_both(fabric: &Fabric, [a, b]: [&mut Agent; 2], millis: i64) -> (Starting, String) {
    let starting = start(fabric, job(&["node-a", "node-b"], millis)).await;
    let id = a.arm().await.capture_id;
    assert_eq!(b.arm().await.capture_id, id);
    (starting, id)
}

#[tokio::test]
async fn two_nodes_arm_start_together_and_end_with_a_report() {
    let (fabric, [mut a, mut b]) = Fabric::with_two().await;
    let (starting, id) = start_on_both(&fabric, [&mut a, &mut b], 300).await;
    a.status(&id, Armed, "", 0).await;
    assert!(!starting.is_finished(), "the window waits for the slower node");
    b.status(&id, Armed, "", 0).await;
    let capture = starting.await.unwrap().unwrap();
    assert_eq!((capture.id.as_str(), capture.state()), (id.as_str(), Running));
    let (at_a, at_b) = (a.commit().await, b.commit().await);
    assert_eq!(at_a.start_unix_nanos, at_b.start_unix_nanos);
    // Both scripted agents share one monotonic clock, so their windows differ by the error of its measurement only, half
    // of a round trip on a busy machine.
    assert!((at_a.start_monotonic_nanos - at_b.start_monotonic_nanos).abs() < 1_000_000_000);
    assert_eq!(at_a.end_monotonic_nanos - at_a.start_monotonic_nanos, 300_000_000);
    for agent in [&mut a, &mut b] {
        agent.status(&id, Running, "", 0).await;
        let mut publisher = agent.publish().await;
        let batches = vec![agent.batch(&id, 0), agent.batch(&id, 1)];
        assert_eq!(publisher.send(batches).await, (vec![0, 1], vec![]));
        agent.status(&id, Completed, "", 2).await;
    }
    let done = fabric.follow(&id, is_final).await;
    assert_eq!((done.state(), done.reason.as_str()), (Completed, ""));
    assert!(done.nodes.iter().all(|node| node.state() == Completed && node.packets == 8));
    assert!(done.nodes.iter().all(|node| node.clock_error_nanos.is_some() && node.coverage.is_empty()));
    assert_eq!(a.end().await.end_monotonic_nanos, None, "the agent may forget it");
    let report =
        fabric.analysis().await.diff_nodes(v1::DiffNodesRequest::default()).await.unwrap().into_inner();
    assert_eq!((report.capture_id, report.partial), (id.clone(), false));
    let request = v1::ListFlowsRequest { capture_id: id, ..Default::default() };
    fabric.analysis().await.list_flows(request).await.unwrap();
    fabric.stop().await;
}

#[tokio::test]
async fn a_dry_run_asks_the_agents_and_stores_nothing() {
    let (fabric, [mut a, mut b]) = Fabric::with_two().await;
    let request = v1::StartCaptureRequest { dry_run: true, ..job(&["node-a", "node-b"], 100) };
    let starting = start(&fabric, request).await;
    let id = a.arm().await.capture_id;
    b.arm().await;
    b.status(&id, Failed, "filter: syntax error", 0).await;
    a.status(&id, Armed, "", 0).await;
    let capture = starting.await.unwrap().unwrap();
    assert_eq!((capture.id.as_str(), capture.window_start), ("", None));
    let found: Vec<_> =
        capture.nodes.iter().map(|n| (n.state(), n.interfaces.len(), n.reason.as_str())).collect();
    assert_eq!(found, [(Armed, 1, ""), (Failed, 0, "filter: syntax error")]);
    let next = a.told().await.unwrap();
    assert!(
        matches!(&next, Told::EndCapture(end) if end.capture_id == id && end.end_monotonic_nanos.is_none()),
        "{next:?}"
    );
    let all = fabric.captures().await.list_captures(v1::ListCapturesRequest::default()).await.unwrap();
    assert!(all.into_inner().captures.is_empty());
    fabric.stop().await;
}

#[tokio::test]
async fn a_node_that_cannot_is_left_out_with_its_reason() {
    let (fabric, [mut a, mut b]) = Fabric::with_two().await;
    let (starting, id) = start_on_both(&fabric, [&mut a, &mut b], 100).await;
    a.status(&id, Armed, "", 0).await;
    b.status(&id, Failed, "interface: veth9 does not exist on node node-b", 0).await;
    let capture = starting.await.unwrap().unwrap();
    assert_eq!(capture.nodes[1].state(), Failed);
    assert!(capture.nodes[1].reason.contains("veth9"));
    a.commit().await;
    a.status(&id, Completed, "", 0).await;
    let done = fabric.follow(&id, is_final).await;
    assert_eq!(done.state(), Completed);
    fabric.stop().await;
}

#[tokio::test]
async fn a_filter_that_every_node_refuses_is_said_once_and_starts_nothing() {
    let (fabric, [mut a, mut b]) = Fabric::with_two().await;
    let (starting, id) = start_on_both(&fabric, [&mut a, &mut b], 100).await;
    for agent in [&a, &b] {
        agent.status(&id, Failed, "filter: syntax error at \"prot 80\"", 0).await;
    }
    let status = starting.await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(status.message(), format!("filter: syntax error at \"prot 80\" ({id})"));
    assert_eq!(a.end().await.end_monotonic_nanos, None);
    assert_eq!(fabric.get(&id).await.state(), Failed);
    fabric.stop().await;
}

#[tokio::test]
async fn a_filter_that_one_node_refuses_fails_that_node_and_the_others_go_on() {
    let (fabric, [mut a, mut b]) = Fabric::with_two().await;
    let (starting, id) = start_on_both(&fabric, [&mut a, &mut b], 100).await;
    b.status(&id, Failed, "filter: needs a newer libpcap", 0).await;
    a.status(&id, Armed, "", 0).await;
    let capture = starting.await.unwrap().unwrap();
    assert_eq!(capture.nodes[0].state(), Armed);
    assert_eq!(
        (capture.nodes[1].state(), &*capture.nodes[1].reason),
        (Failed, "filter: needs a newer libpcap")
    );
    a.commit().await;
    fabric.stop().await;
}

#[tokio::test]
async fn a_killed_coordinator_goes_on_with_the_window_it_had_fixed() {
    let (fabric, mut agent) = Fabric::with_one().await;
    let starting = start(&fabric, job(&["node-a"], 2_000)).await;
    let id = agent.arm().await.capture_id;
    agent.status(&id, Armed, "", 0).await;
    let before = starting.await.unwrap().unwrap();
    agent.commit().await;
    agent.status(&id, Running, "", 0).await;
    let mut publisher = agent.publish().await;
    let first = agent.batch(&id, 0);
    assert_eq!(publisher.send(vec![first.clone()]).await.0, [0]);
    let (authority, data) = fabric.kill();

    let fabric = Fabric::start_on(authority, data).await;
    let mut agent = Agent::connect(&fabric, "node-a", 1, &[&id]).await;
    agent.status(&id, Running, "", 1).await;
    let mut publisher = agent.publish().await;
    // The first one is sent again: its acknowledgement may have been lost.
    let batches = vec![first, agent.batch(&id, 1)];
    assert_eq!(publisher.send(batches).await, (vec![0, 1], vec![]));
    agent.status(&id, Completed, "", 2).await;
    let done = fabric.follow(&id, is_final).await;
    assert_eq!((done.state(), done.reason.as_str()), (Completed, ""));
    assert_eq!(done.window_start, before.window_start);
    assert!(done.nodes[0].coverage.is_empty(), "{:?}", done.nodes[0].coverage);
    fabric.stop().await;
}

#[tokio::test]
async fn a_capture_whose_window_was_not_fixed_goes_on_after_a_restart() {
    let request = v1::StartCaptureRequest { request_id: "c0ffee".into(), ..job(&["node-a"], 60_000) };
    let (fabric, mut agent) = Fabric::with_one().await;
    let starting = start(&fabric, request.clone()).await;
    let id = agent.arm().await.capture_id;
    let (authority, data) = fabric.kill();
    assert!(starting.await.unwrap().is_err());
    let fabric = Fabric::start_on(authority, data).await;
    let mut agent = Agent::connect(&fabric, "node-a", 1, &[&id]).await;
    // Its caller asks again by the same name.
    let starting = start(&fabric, request.clone()).await;
    agent.status(&id, Armed, "", 0).await;
    assert_eq!(starting.await.unwrap().unwrap().id, id);
    assert_eq!(agent.commit().await.capture_id, id);
    let again = fabric.captures().await.start_capture(request).await.unwrap().into_inner();
    assert_eq!(again.capture.unwrap().id, id);
    fabric.stop().await;
}

#[tokio::test]
async fn a_call_has_a_short_and_plain_name() {
    let (fabric, _agent) = Fabric::with_one().await;
    for name in ["a b".to_owned(), "ü".to_owned(), "a".repeat(limits::REQUEST_ID_BYTES + 1)] {
        let request = v1::StartCaptureRequest { request_id: name, ..job(&["node-a"], 1_000) };
        let status = fabric.captures().await.start_capture(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().starts_with("request_id: give at most 64"), "{status}");
    }
    fabric.stop().await;
}

#[tokio::test]
async fn an_agent_that_missed_the_window_hears_of_it_when_it_is_back() {
    let (fabric, [mut a, mut b]) = Fabric::with_two().await;
    let (starting, id) = start_on_both(&fabric, [&mut a, &mut b], 1_000).await;
    a.status(&id, Armed, "", 0).await;
    // Ready again before the other node is, so that it is gone when the window is fixed.
    let arming = |capture: &v1::Capture| capture.nodes[0].state() == Armed;
    fabric.follow(&id, arming).await;
    drop(a);
    b.status(&id, Armed, "", 0).await;
    starting.await.unwrap().unwrap();
    let mut a = Agent::connect(&fabric, "node-a", 1, &[&id]).await;
    a.status(&id, Armed, "", 0).await;
    assert_eq!(a.commit().await.start_unix_nanos, b.commit().await.start_unix_nanos);
    fabric.stop().await;
}

#[tokio::test]
async fn an_agent_started_anew_has_lost_its_part() {
    let fabric = Fabric::start().await;
    let mut a = Agent::connect(&fabric, "node-a", 1, &[]).await;
    let starting = start(&fabric, job(&["node-a"], 60_000)).await;
    let id = a.arm().await.capture_id;
    a.status(&id, Armed, "", 0).await;
    starting.await.unwrap().unwrap();
    drop(a);
    let _again = Agent::connect(&fabric, "node-a", 7, &[]).await;
    let done = fabric.follow(&id, is_final).await;
    assert_eq!(done.state(), Failed, "the only node is gone, so the window is not waited for");
    assert!(done.nodes[0].reason.contains("restarted"), "{:?}", done.nodes[0]);
    fabric.stop().await;
}

#[tokio::test]
async fn what_a_killed_agent_had_not_sent_is_waited_for_and_counts() {
    let (fabric, mut a) = Fabric::with_one().await;
    let id = running(&fabric, &mut a, 60_000).await;
    let old: Vec<_> = (0..4).map(|sequence| a.batch(&id, sequence)).collect();
    assert_eq!(a.publish().await.send(old[..1].to_vec()).await, (vec![0], vec![]));
    // It lived to announce one of four.
    a.status(&id, Running, "", 1).await;
    fabric.follow(&id, |capture| capture.nodes[0].packets == 4).await;
    drop(a);
    let mut again = Agent::anew(&fabric, "node-a", 7, &id, 4).await;
    let draining = fabric.follow(&id, |capture| capture.nodes[0].state() == Failed).await;
    assert!(draining.nodes[0].reason.contains("restarted"), "{:?}", draining.nodes[0]);
    let mut publisher = again.publish().await;
    // The first one once more: it had not heard that it was acknowledged.
    for batches in [&old[..1], &old[1..3], &old[3..]] {
        let sequences = batches.iter().map(|batch| batch.key.as_ref().unwrap().sequence).collect();
        assert_eq!(publisher.send(batches.to_vec()).await, (sequences, vec![]));
    }
    let done = fabric.follow(&id, is_final).await;
    assert_eq!((done.nodes[0].coverage.len(), fabric.counter("committed_batches")), (0, 4), "{done:?}");
    let mut late = old[3].clone();
    late.key.as_mut().unwrap().sequence = 4;
    let (known, late) = publisher.send(vec![old[3].clone(), late]).await;
    assert_eq!((known, late[0].0), (vec![3], 4), "what is stored is acknowledged at any time");
    assert!(late[0].1.contains("has ended") || late[0].1.contains("too late"), "{late:?}");
    fabric.stop().await;
}

#[tokio::test]
async fn an_agent_that_comes_with_batches_of_a_capture_that_is_over_is_told_to_forget_them() {
    let fabric = Fabric::start().await;
    let mut a = Agent::anew(&fabric, "node-a", 7, "c-gone", 4).await;
    let end = a.end().await;
    assert_eq!((end.capture_id.as_str(), end.end_monotonic_nanos), ("c-gone", None));
    fabric.stop().await;
}

#[tokio::test]
async fn stopping_ends_the_window_early_and_keeps_what_there_is() {
    let (fabric, mut agent) = Fabric::with_one().await;
    let starting = start(&fabric, job(&["node-a"], 60_000)).await;
    let id = agent.arm().await.capture_id;
    agent.status(&id, Armed, "", 0).await;
    let capture = starting.await.unwrap().unwrap();
    agent.commit().await;
    agent.status(&id, Running, "", 0).await;
    let start_at = capture.window_start.unwrap();
    fabric
        .follow(&id, |capture| {
            let now = common::agent::realtime_nanos();
            capture.nodes[0].state() == Running
                && now > lastseen_proto::convert::nanos(&start_at) + 10_000_000
        })
        .await;
    let request = v1::StopCaptureRequest { capture_id: id.clone() };
    let stopped =
        fabric.captures().await.stop_capture(request.clone()).await.unwrap().into_inner().capture.unwrap();
    assert!(stopped.window_end.unwrap().seconds < capture.window_end.unwrap().seconds);
    assert!(stopped.reason.contains("spiffe://lastseen/operator/eve"));
    assert!(agent.end().await.end_monotonic_nanos.is_some(), "an end, not a discard");
    agent.status(&id, Completed, "", 0).await;
    assert_eq!(fabric.follow(&id, is_final).await.state(), Completed);
    let again = fabric.captures().await.stop_capture(request).await.unwrap().into_inner().capture.unwrap();
    assert_eq!(again.state(), Completed, "stopping what has ended does nothing");
    let delete = v1::DeleteCaptureRequest { capture_id: id.clone() };
    fabric.captures().await.delete_capture(delete.clone()).await.unwrap();
    let gone = fabric.captures().await.delete_capture(delete).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
    fabric.stop().await;
}

#[tokio::test]
async fn a_bad_batch_is_refused_by_key_and_the_stream_goes_on() {
    let (fabric, mut agent) = Fabric::with_one().await;
    let starting = start(&fabric, job(&["node-a"], 300)).await;
    let id = agent.arm().await.capture_id;
    agent.status(&id, Armed, "", 0).await;
    starting.await.unwrap().unwrap();
    agent.commit().await;
    let mut publisher = agent.publish().await;
    let good = agent.batch(&id, 0);
    let mut damaged = agent.batch(&id, 1);
    let mut bytes = damaged.columns.to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    damaged.columns = bytes.into();
    let mut miscounted = agent.batch(&id, 2);
    miscounted.rows += 1;
    let (committed, refused) = publisher.send(vec![good, damaged, miscounted, agent.batch(&id, 3)]).await;
    assert_eq!(committed, [0, 3]);
    assert!(
        refused[0].1.contains("checksum") && refused[1].1.contains("rows: 5 claimed, 4 in columns"),
        "{refused:?}"
    );
    // The same key with other contents.
    let mut other = agent.batch(&id, 3);
    other.slice_end_nanos += 1;
    let (_, refused) = publisher.send(vec![other]).await;
    assert!(refused[0].1.contains("other contents"), "{refused:?}");
    let (_, refused) = publisher.send(vec![agent.batch("c-nobody", 0)]).await;
    assert!(refused[0].1.contains("does not run"), "{refused:?}");
    agent.status(&id, Completed, "", 4).await;
    let done = fabric.follow(&id, is_final).await;
    assert_eq!(done.state(), Completed, "refused batches are not waited for");
    assert!(
        done.nodes[0].coverage[0].contains("3 of 4 batches were refused"),
        "{:?}",
        done.nodes[0].coverage
    );
    let late = publisher.send(vec![agent.batch(&id, 9)]).await.1;
    assert!(late[0].1.contains("ended") || late[0].1.contains("too late"), "{late:?}");
    fabric.stop().await;
}

/// A capture as it lies there after a process died `runs` times while it correlated; how its next process ends it.
async fn after_broken_runs(runs: i64) -> v1::Capture {
    let (fabric, mut agent) = Fabric::with_one().await;
    let starting = start(&fabric, job(&["node-a"], 2_000)).await;
    let id = agent.arm().await.capture_id;
    agent.status(&id, Armed, "", 0).await;
    starting.await.unwrap().unwrap();
    let (authority, data) = fabric.kill();
    let store = data.store().await;
    let mut capture = store.capture(&id).await.unwrap().unwrap();
    capture.state = State::Correlating;
    capture.parts[0].state = State::Completed;
    store.save_capture(&capture).await.unwrap();
    assert_eq!(store.add_runs(&id, runs).await.unwrap(), runs);
    store.close().await;
    let fabric = Fabric::start_on(authority, data).await;
    let done = fabric.follow(&id, is_final).await;
    fabric.stop().await;
    done
}

#[tokio::test]
async fn a_correlation_run_that_kills_the_process_is_not_repeated_forever() {
    assert_eq!(after_broken_runs(1).await.state(), Completed);
    let broken = after_broken_runs(2).await;
    assert_eq!(broken.state(), Failed);
    assert!(broken.reason.starts_with("correlation did not finish twice; "), "{}", broken.reason);
}
