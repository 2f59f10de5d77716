//! The program itself, against a coordinator that the test plays.

use std::sync::atomic::Ordering;

use crate::coordinator::{Key, State};
use crate::program::{
    agent, arm, batches_by_point, check_complete, commit, on_eth0, on_node, segments, traffic,
};
use lastseen_node_agent::clock::monotonic_nanos;
use lastseen_proto::PROTOCOL_VERSION;
use lastseen_proto::v1::CaptureState::{Armed, Completed, Draining, Failed, Running};
use lastseen_proto::v1::agent_message::Kind as Up;
use lastseen_proto::v1::coordinator_message::Kind as Down;
use lastseen_proto::v1::{CaptureSpec, ClockPing, Direction, InterfaceKind, ObservationBatch};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[test]
fn a_capture_runs_from_arming_to_completion() {
    on_node(|mut coordinator, client| async move {
        coordinator.state.acking.store(true, Ordering::Relaxed);
        let agent = agent(&client, coordinator.port, &[]);

        let register = coordinator.register().await;
        assert_eq!((register.node_name.as_str(), register.protocol_version), ("node-a", PROTOCOL_VERSION));
        assert!(register.capabilities.iter().all(|c| c.available), "{:?}", register.capabilities);
        let interfaces = register.topology.unwrap().interfaces;
        let eth0 = interfaces.iter().find(|i| i.name == "eth0").unwrap();
        assert_eq!(eth0.kind(), InterfaceKind::Physical);

        let before = monotonic_nanos();
        coordinator.send(Down::ClockPing(ClockPing { sequence: 7, sent_unix_nanos: 70 })).await;
        let reply = coordinator.next(|up| if let Up::ClockReply(r) = up { Some(r) } else { None }).await;
        assert_eq!((reply.sequence, reply.ping_unix_nanos), (7, 70));
        assert!((before..=reply.sent_monotonic_nanos).contains(&reply.received_monotonic_nanos));
        assert!(reply.sent_monotonic_nanos <= monotonic_nanos());

        coordinator.send(arm("c-1", on_eth0())).await;
        let armed = coordinator.status("c-1", &[Armed, Failed]).await;
        assert_eq!((armed.state(), armed.points.len()), (Armed, 2), "{armed:?}");
        let directions: Vec<_> = armed.points.iter().map(|p| p.point.as_ref().unwrap().direction()).collect();
        assert_eq!(directions, [Direction::In, Direction::Out]);

        coordinator.send(commit("c-1", 1_000, 400)).await;
        coordinator.status("c-1", &[Running]).await;
        traffic(300).await;
        coordinator.status("c-1", &[Draining]).await;
        let done = coordinator.status("c-1", &[Completed, Failed]).await;
        assert_eq!((done.state(), done.reason.as_str(), done.coverage.len()), (Completed, "", 0), "{done:?}");
        let total: u64 = batches_by_point(&done).values().sum();
        coordinator.until("all batches", |state| state.batches.lock().unwrap().len() as u64 == total).await;
        assert_eq!(check_complete(&coordinator, &done), 300);
        let received: u64 = done.points.iter().map(|p| p.counters.unwrap().received).sum();
        assert!(received >= 300);

        let exit = tokio::task::spawn_blocking(|| agent.terminate()).await.unwrap();
        assert_eq!(exit.code(), Some(0));
    });
}

#[test]
fn the_admin_port_tells_readiness_and_counts_packets() {
    on_node(|mut coordinator, client| async move {
        coordinator.state.acking.store(true, Ordering::Relaxed);
        let _agent = agent(&client, coordinator.port, &["--admin-listen", "127.0.0.1:7482"]);
        coordinator.register().await;
        coordinator.send(arm("c-1", on_eth0())).await;
        coordinator.status("c-1", &[Armed]).await;
        assert!(get("/readyz").await.starts_with("HTTP/1.1 200"));
        coordinator.send(commit("c-1", 1_000, 300)).await;
        coordinator.status("c-1", &[Running]).await;
        traffic(60).await;
        coordinator.status("c-1", &[Completed]).await;
        let metrics = get("/metrics").await;
        assert!(metrics.contains("lastseen_agent_packets_total{outcome=\"recorded\"} 60"), "{metrics}");
        assert!(metrics.contains("lastseen_agent_connected 1"), "{metrics}");
    });
}

async fn get(path: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect("127.0.0.1:7482").await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[test]
fn a_killed_coordinator_gets_everything_again_and_nothing_twice_under_another_face() {
    on_node(|mut coordinator, client| async move {
        let spool = client.with_file_name("emptied");
        let agent = agent(&client, coordinator.port, &["--spool-dir", spool.to_str().unwrap()]);
        let first = coordinator.register().await;
        coordinator.send(arm("c-1", on_eth0())).await;
        coordinator.status("c-1", &[Armed]).await;
        coordinator.send(commit("c-1", 1_000, 2_000)).await;
        coordinator.status("c-1", &[Running]).await;
        traffic(200).await;
        coordinator.until("first batches", |state| state.batches.lock().unwrap().len() > 2).await;

        // In the middle of the window, with nothing acknowledged.
        let mut coordinator = coordinator.restart().await;
        let again = coordinator.register().await;
        assert_eq!(again.incarnation, first.incarnation);
        assert_eq!(again.capture_ids, ["c-1"]);
        traffic(100).await;
        let done = coordinator.status("c-1", &[Completed, Failed]).await;
        assert_eq!(done.state(), Completed);

        // And once more after the end: the last state and every batch are told again.
        let mut coordinator = coordinator.restart().await;
        coordinator.state.acking.store(true, Ordering::Relaxed);
        coordinator.register().await;
        assert_eq!(coordinator.status("c-1", &[Completed]).await.points, done.points);
        let total: u64 = batches_by_point(&done).values().sum();
        coordinator
            .until("every batch three times or less", |state| {
                state.batches.lock().unwrap().len() as u64 == total
                    && state.repeated.load(Ordering::Relaxed) >= total
            })
            .await;
        assert_eq!(check_complete(&coordinator, &done), 300);
        assert_eq!(coordinator.state.altered.load(Ordering::Relaxed), 0);

        // What is acknowledged does not come again, also not before an agent ends that delivers all it has.
        coordinator.until("an empty spool", |_| segments(&spool) == 0).await;
        let repeated = coordinator.state.repeated.load(Ordering::Relaxed);
        let mut coordinator = coordinator.restart().await;
        coordinator.register().await;
        coordinator.status("c-1", &[Completed]).await;
        let exit = tokio::task::spawn_blocking(|| agent.terminate()).await.unwrap();
        assert_eq!(exit.code(), Some(0));
        assert_eq!(coordinator.state.repeated.load(Ordering::Relaxed), repeated);
    });
}

#[test]
fn a_killed_agent_delivers_what_it_saw_up_to_its_end() {
    on_node(|mut coordinator, client| async move {
        let spool = client.with_file_name("kept");
        let flags = ["--spool-dir", spool.to_str().unwrap()];
        let killed = agent(&client, coordinator.port, &flags);
        let first = coordinator.register().await.incarnation;
        coordinator.send(arm("c-1", on_eth0())).await;
        coordinator.status("c-1", &[Armed]).await;
        coordinator.send(commit("c-1", 0, 60_000)).await;
        coordinator.status("c-1", &[Running]).await;
        traffic(200).await;
        let rows =
            |state: &State| state.batches.lock().unwrap().values().map(|batch| batch.rows).sum::<u32>();
        coordinator.until("what was seen, unacknowledged", |state| rows(state) == 200).await;
        // `SIGKILL`, in the middle of the window.
        drop(killed);

        let seen = std::mem::take(&mut *coordinator.state.batches.lock().unwrap());
        coordinator.state.acking.store(true, Ordering::Relaxed);
        let _again = agent(&client, coordinator.port, &flags);
        let told = coordinator.register().await.spooled;
        assert!(told.iter().all(|left| (left.capture_id.as_str(), left.incarnation) == ("c-1", first)));
        let made: u64 = told.iter().map(|left| left.batches).sum();
        coordinator.until("all of it", |state| state.batches.lock().unwrap().len() as u64 == made).await;
        let found = coordinator.state.batches.lock().unwrap();
        for (key, batch) in &seen {
            assert_eq!(&found[key], batch, "under its own key");
        }
        for left in told {
            let point = left.point.unwrap();
            let of_point =
                |&(index, direction, _): &Key| (index, direction) == (point.index, point.direction);
            let of_point: Vec<_> =
                found.iter().filter(|(key, _)| of_point(key)).map(|(_, batch)| batch).collect();
            assert_eq!(of_point.len() as u64, left.batches);
            // On CLOCK_MONOTONIC: each is stamped by its own reading of the clocks' offset.
            let monotonic = |batch: &ObservationBatch, nanos| nanos - batch.realtime_minus_monotonic_nanos;
            for pair in of_point.windows(2) {
                let end = monotonic(pair[0], pair[0].slice_end_nanos);
                assert_eq!(end, monotonic(pair[1], pair[1].slice_start_nanos), "slices meet");
            }
        }
    });
}

#[test]
fn a_late_start_and_a_packet_limit_are_told() {
    on_node(|mut coordinator, client| async move {
        coordinator.state.acking.store(true, Ordering::Relaxed);
        let _agent = agent(&client, coordinator.port, &["--backend", "pcap"]);
        coordinator.register().await;
        coordinator.send(arm("c-0", CaptureSpec { sampling_interval: Some(4), ..on_eth0() })).await;
        let refused = coordinator.status("c-0", &[Armed, Failed]).await;
        assert_eq!(
            (refused.state(), refused.reason.as_str()),
            (
                Failed,
                "node node-a: eth0: cannot sample: libpcap does not tell the segment size of super-packets; leave \
                 out --sample, or start the agent with --backend af_packet"
            )
        );
        coordinator.send(arm("c-1", CaptureSpec { max_packets: Some(50), ..on_eth0() })).await;
        let armed = coordinator.status("c-1", &[Armed, Failed]).await;
        assert_eq!(armed.state(), Armed, "{}", armed.reason);
        assert!(!armed.points[0].point.as_ref().unwrap().gso_known);
        coordinator.send(commit("c-1", -1200, 600_000)).await;
        coordinator.status("c-1", &[Running]).await;
        traffic(500).await;
        let done = coordinator.status("c-1", &[Completed, Failed]).await;
        let late =
            |note: &String| note.strip_prefix("joined ")?.strip_suffix(" s after the start")?.parse().ok();
        let late: Option<f64> = done.coverage.iter().find_map(late);
        assert!(late.is_some_and(|seconds| seconds >= 1.2), "{:?}", done.coverage);
        assert!(done.reason.starts_with("reached its limit of packets or bytes"), "{}", done.reason);
    });
}

#[test]
fn what_is_not_selected_is_counted_and_every_batch_says_by_what() {
    on_node(|mut coordinator, client| async move {
        coordinator.state.acking.store(true, Ordering::Relaxed);
        let _agent = agent(&client, coordinator.port, &[]);
        coordinator.register().await;
        coordinator.send(arm("c-1", CaptureSpec { sampling_interval: Some(3), ..on_eth0() })).await;
        coordinator.status("c-1", &[Armed]).await;
        coordinator.send(commit("c-1", 1_000, 400)).await;
        coordinator.status("c-1", &[Running]).await;
        traffic(3_000).await;
        let done = coordinator.status("c-1", &[Completed, Failed]).await;
        let total: u64 = batches_by_point(&done).values().sum();
        coordinator.until("all batches", |state| state.batches.lock().unwrap().len() as u64 == total).await;
        let rows = check_complete(&coordinator, &done);
        let left_out: u64 = done.points.iter().map(|p| p.counters.unwrap().sampled_out).sum();
        assert_eq!(u64::from(rows) + left_out, 3_000);
        assert!((800..1_200).contains(&rows), "{rows} of 3000 are a third");
        let batches = coordinator.state.batches.lock().unwrap();
        let thresholds: std::collections::BTreeSet<_> =
            batches.values().map(|batch| batch.sampling_threshold).collect();
        assert_eq!(thresholds, [Some(u64::MAX / 3)].into());
    });
}

#[test]
fn a_refused_batch_is_dropped_and_the_stream_goes_on() {
    on_node(|mut coordinator, client| async move {
        coordinator.state.acking.store(true, Ordering::Relaxed);
        *coordinator.state.refuse.lock().unwrap() = Some(0);
        let agent = agent(&client, coordinator.port, &[]);
        coordinator.register().await;
        coordinator.send(arm("c-1", on_eth0())).await;
        coordinator.status("c-1", &[Armed]).await;
        coordinator.send(commit("c-1", 1_000, 200)).await;
        let done = coordinator.status("c-1", &[Completed]).await;
        let total: u64 = batches_by_point(&done).values().map(|count| count - 1).sum();
        assert!(total > 0);
        coordinator.until("the others", |state| state.batches.lock().unwrap().len() as u64 == total).await;
        let exit = tokio::task::spawn_blocking(|| agent.terminate()).await.unwrap();
        assert_eq!(exit.code(), Some(0));
    });
}

#[test]
fn stopping_the_agent_ends_its_captures_and_delivers_what_it_has() {
    on_node(|mut coordinator, client| async move {
        coordinator.state.acking.store(true, Ordering::Relaxed);
        let agent = agent(&client, coordinator.port, &[]);
        coordinator.register().await;
        coordinator.send(arm("c-1", on_eth0())).await;
        coordinator.status("c-1", &[Armed]).await;
        coordinator.send(commit("c-1", 0, 60_000)).await;
        coordinator.status("c-1", &[Running]).await;
        traffic(100).await;
        let exit = tokio::task::spawn_blocking(|| agent.terminate()).await.unwrap();
        assert_eq!(exit.code(), Some(0));
        let done = coordinator.status("c-1", &[Completed, Failed]).await;
        assert!(done.reason.starts_with("the agent was stopped"), "{}", done.reason);
        assert_eq!(check_complete(&coordinator, &done), 100);
    });
}
