//! Streams that come, go and push each other out.

use super::*;
use crate::model::SECOND;

fn record(incarnation: u64) -> NodeRecord {
    NodeRecord {
        name: "node-a".into(),
        agent_version: "0.1.0".into(),
        kernel: "6.1".into(),
        incarnation,
        last_seen_nanos: 0,
        capabilities: Vec::new(),
        topology: Bytes::new(),
    }
}

fn exchange() -> Exchange {
    Exchange {
        sent_nanos: 10 * SECOND,
        node_received_nanos: SECOND,
        node_sent_nanos: SECOND,
        received_nanos: 10 * SECOND + 200,
        realtime_minus_monotonic_nanos: 0,
        coordinator_error_nanos: 0,
    }
}

#[test]
fn a_node_is_ready_once_its_clock_is_measured() {
    let fleet = Fleet::new(Vec::new());
    let session = fleet.connect(record(1), BTreeSet::new(), "10.0.0.1:1");
    assert!(fleet.link("node-a", "c-1", 0).is_none());
    fleet.measured("node-a", session.id, &exchange());
    assert_eq!(
        fleet.link("node-a", "c-1", 0).unwrap().clock.coordinator_minus_monotonic_nanos,
        9 * SECOND + 100
    );
    fleet.disconnect("node-a", session.id);
    assert!(!fleet.node("node-a", 0).unwrap().is_ready);
}

#[test]
fn a_newer_stream_replaces_the_older_and_its_end_is_ignored() {
    let fleet = Fleet::new(Vec::new());
    let mut old = fleet.connect(record(1), BTreeSet::new(), "10.0.0.1:1");
    fleet.measured("node-a", old.id, &exchange());
    let mut new = fleet.connect(record(1), BTreeSet::from(["c-1".to_owned()]), "10.0.0.2:2");
    assert_eq!(old.cut_off.try_recv(), Ok(CutOff::Replaced("10.0.0.2:2".into())));
    assert!(new.cut_off.try_recv().is_err());
    assert!(!fleet.disconnect("node-a", old.id));
    let link = fleet.link("node-a", "c-1", 0).unwrap();
    assert!(link.works_on_it && link.session == new.id);
    fleet.connect(record(2), BTreeSet::new(), "10.0.0.1:1");
    assert!(fleet.link("node-a", "c-1", 0).is_none(), "a new process has a clock of its own");
}

#[test]
fn an_agent_that_takes_no_commands_is_cut_off() {
    let fleet = Fleet::new(Vec::new());
    let mut session = fleet.connect(record(1), BTreeSet::new(), "10.0.0.1:1");
    let end = || Command::End { capture: "c-1".into(), end_monotonic_nanos: None };
    assert!((0..limits::AGENT_QUEUE).all(|_| fleet.send("node-a", end())));
    assert!(!fleet.send("node-a", end()));
    assert_eq!(session.cut_off.try_recv(), Ok(CutOff::Stuck));
}

#[test]
fn only_what_a_job_must_know_of_is_told_to_jobs() {
    let fleet = Fleet::new(Vec::new());
    let (mut links, mut changes) = (fleet.links(), fleet.changes());
    let session = fleet.connect(record(1), BTreeSet::new(), "10.0.0.1:1");
    fleet.measured("node-a", session.id, &exchange());
    assert_eq!((links.len(), changes.len()), (2, 2));
    fleet.heartbeat("node-a", session.id, 1);
    fleet.measured("node-a", session.id, &exchange());
    assert_eq!((links.len(), changes.len()), (2, 3), "heartbeats are for people");
    fleet.disconnect("node-a", session.id);
    assert_eq!((links.len(), changes.len()), (3, 4));
    assert_eq!((links.try_recv(), changes.try_recv()), (Ok("node-a".into()), Ok("node-a".into())));
}

/// Notes on the node at `at` after processes with these numbers connected, one a second from 0 on.
fn notes(incarnations: &[u64], at: i64) -> Vec<String> {
    let fleet = Fleet::new(Vec::new());
    for (second, &incarnation) in (0..).zip(incarnations) {
        let record = NodeRecord { last_seen_nanos: second * SECOND, ..record(incarnation) };
        fleet.connect(record, BTreeSet::new(), &format!("10.0.0.{incarnation}:1"));
    }
    fleet.node("node-a", at).unwrap().notes
}

#[test]
fn agents_that_share_a_certificate_show() {
    let notes_of_two = notes(&[1, 2, 1, 2, 1], 4 * SECOND);
    assert!(
        notes_of_two[0].contains("the last from 10.0.0.1:1; give each agent its own"),
        "{notes_of_two:?}"
    );
    assert!(notes(&[1, 2, 1, 2], 4 * SECOND).is_empty(), "three times may be restarts");
    assert!(notes(&[1; 9], 9 * SECOND).is_empty(), "one process that reconnects is one agent");
    assert!(notes(&[1, 2, 1, 2, 1], 70 * SECOND).is_empty(), "over once it stops");
}

#[test]
fn a_census_counts_each_node_once_and_tells_the_worst_clock_of_those_that_are_here() {
    let named = |name: &str| NodeRecord { name: name.into(), ..record(1) };
    let fleet = Fleet::new(vec![named("gone"), named("away")]);
    let mut clock = exchange();
    for (name, round_trip) in [("near", 200), ("far", 9_000), ("away", 70_000)] {
        let session = fleet.connect(named(name), BTreeSet::new(), "10.0.0.1:1");
        clock.received_nanos = clock.sent_nanos + round_trip;
        fleet.measured(name, session.id, &clock);
        if name == "away" {
            fleet.disconnect(name, session.id);
        }
    }
    let _new = fleet.connect(named("new"), BTreeSet::new(), "10.0.0.1:1");
    fleet.learn(vec![named("moved")]);
    let detail = Detail {
        incarnation: 1,
        clock: ClockFix::sample(),
        round_trip_nanos: None,
        works_on: BTreeSet::new(),
    };
    let remote = Remote { session: 1, connected_at_nanos: SECOND, detail };
    fleet.merge(BTreeMap::from([("moved".to_owned(), remote)]), 0);
    let census = fleet.census(10 * SECOND);
    let clock_error_nanos = census.clock_error_nanos;
    let expected = Census { ready: 2, connecting: 1, elsewhere: 1, offline: 2, gone: 0, clock_error_nanos };
    assert_eq!(census, expected);
    let later = fleet.census(10 * SECOND + limits::MISSED_NANOS);
    assert_eq!((later.offline, later.gone), (0, 2));
    assert!((4_500..5_000).contains(&census.clock_error_nanos), "{census:?}");
    // It was there until its coordinator said no more of it.
    fleet.merge(BTreeMap::new(), 20 * SECOND);
    let moved = fleet.node("moved", 30 * SECOND).unwrap();
    assert_eq!((moved.is_ready, moved.record.last_seen_nanos), (false, 20 * SECOND));
}
