//! The parts of a capture's life that take longer than a test may wait.

use super::*;
use crate::limits;
use crate::model::{ClockFix, Counters, Point, PointKey, SECOND};
use crate::store::StoredCount;

const NOW: i64 = 1_000 * SECOND;

fn capture(nodes: &[&str], start_at_nanos: Option<i64>) -> Capture {
    let mut capture = Capture::sample(nodes);
    capture.spec.start_at_nanos = start_at_nanos;
    capture
}

fn links(nodes: &[&str]) -> Links {
    let clock = ClockFix {
        at_nanos: NOW,
        coordinator_minus_monotonic_nanos: 900 * SECOND,
        realtime_minus_monotonic_nanos: 0,
        error_nanos: 1,
        round_trip_nanos: 2,
    };
    let link = Link { session: 1, incarnation: 5, clock, works_on_it: false };
    nodes.iter().map(|&node| (node.to_owned(), link)).collect()
}

fn status(state: State, batches: u64) -> Status {
    let key = PointKey { netns: String::new(), interface: "eth0".into(), index: 2, direction: 1 };
    let point = Point { key, kind: 5, mtu: 1500, gso_known: true };
    let points = vec![PointStatus { point, counters: Counters::default(), batches }];
    Status { incarnation: 5, state, reason: String::new(), points, coverage: Vec::new(), translations: None }
}

fn stored(batches: u64) -> Vec<StoredCount> {
    let point = status(State::Armed, 0).points[0].point.key.clone();
    vec![StoredCount { node: "a".into(), point, incarnation: 5, batches }]
}

/// A capture on node `a` whose window begins half a second after `NOW`.
fn running() -> Machine {
    let mut machine = Machine::new(capture(&["a"], None));
    machine.step(NOW, &links(&["a"]));
    machine.status("a", status(State::Armed, 0), NOW);
    machine.step(NOW, &links(&["a"]));
    machine.status("a", status(State::Running, 0), NOW);
    machine
}

fn end_of(machine: &Machine) -> i64 {
    machine.capture().window.unwrap().end_nanos
}

#[test]
fn the_window_is_stored_before_anyone_is_told_and_speaks_the_agents_clock() {
    let mut machine = Machine::new(capture(&["a"], None));
    machine.step(NOW, &links(&["a"]));
    machine.status("a", status(State::Armed, 0), NOW);
    let effects = machine.step(NOW, &links(&["a"]));
    assert!(matches!(effects[0], Effect::Save), "{effects:?}");
    let Some(Effect::Send(_, Command::Commit { start_monotonic_nanos, end_monotonic_nanos, .. })) =
        effects.last()
    else {
        panic!("{effects:?}")
    };
    assert_eq!(*start_monotonic_nanos, 100 * SECOND + SECOND / 2);
    assert_eq!(*end_monotonic_nanos, 110 * SECOND + SECOND / 2);
}

#[test]
fn nodes_that_do_not_answer_are_left_out_at_the_deadline() {
    let mut machine = Machine::new(capture(&["a", "b", "c"], None));
    let both = links(&["a", "b"]);
    machine.step(NOW, &both);
    machine.status("a", status(State::Armed, 0), NOW);
    machine.step(NOW, &both);
    assert_eq!(machine.capture().state, State::Arming);
    let deadline = machine.wake_nanos().unwrap();
    assert_eq!(deadline, NOW + 5 * SECOND);
    machine.step(deadline, &both);
    assert_eq!(machine.capture().state, State::Running);
    let reasons: Vec<&str> = machine.capture().parts.iter().map(|part| part.reason.as_str()).collect();
    assert!(reasons[1].contains("did not get ready") && reasons[2].contains("went offline"), "{reasons:?}");
}

#[test]
fn arming_lasts_while_nodes_get_ready_but_not_for_ever() {
    let names: Vec<String> = (0..12).map(|node| format!("n{node}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (mut machine, all) = (Machine::new(capture(&names, None)), links(&names));
    machine.step(NOW, &all);
    let mut now = NOW;
    for (name, deadline) in names.iter().zip([9, 13, 17, 21, 25, 29, 30].map(|at| NOW + at * SECOND)) {
        now += 4 * SECOND;
        machine.step(now, &all);
        machine.status(name, status(State::Armed, 0), now);
        // Said once more it is no news.
        machine.status(name, status(State::Armed, 0), now + SECOND);
        assert_eq!(machine.wake_nanos(), Some(deadline));
    }
    machine.step(NOW + 30 * SECOND, &all);
    assert_eq!(machine.capture().state, State::Running);
    let late = machine.capture().parts.iter().filter(|part| part.reason.contains("within 30 s")).count();
    assert_eq!(late, 12 - 7);
    let start_nanos = NOW + 30 * SECOND + SECOND / 2 + 11 * limits::START_LEAD_PER_NODE_NANOS;
    assert_eq!(machine.capture().window.unwrap().start_nanos, start_nanos);
}

#[test]
fn a_rehearsal_hears_every_node_and_leaves_nothing_behind() {
    let mut machine = Machine::rehearsal(capture(&["a", "b"], None));
    let both = links(&["a", "b"]);
    let mut effects = machine.step(NOW, &both);
    let refusal = Status { reason: "filter: syntax error".into(), ..status(State::Failed, 0) };
    machine.status("b", refusal, NOW);
    effects.extend(machine.step(NOW, &both));
    assert_eq!(machine.capture().state, State::Arming, "one refusal does not end it");
    machine.status("a", status(State::Armed, 0), NOW);
    effects.extend(machine.step(NOW, &both));
    let told = effects.iter().map(|effect| match effect {
        Effect::Send(node, Command::Arm(_)) => format!("arm {node}"),
        Effect::Send(node, Command::End { end_monotonic_nanos: None, .. }) => format!("forget {node}"),
        other => format!("{other:?}"),
    });
    assert_eq!(told.collect::<Vec<_>>(), ["arm a", "arm b", "forget a", "forget b", "Finish"]);
    let states: Vec<_> = machine.capture().parts.iter().map(|part| part.state).collect();
    assert_eq!((machine.capture().state, states), (State::Cancelled, vec![State::Armed, State::Failed]));
}

#[test]
fn a_wanted_start_is_kept_unless_arming_took_longer() {
    for (start_at, expected) in [(NOW + 60 * SECOND, NOW + 60 * SECOND), (NOW + 1, NOW + SECOND / 2)] {
        let mut machine = Machine::new(capture(&["a"], Some(start_at)));
        machine.step(NOW, &links(&["a"]));
        machine.status("a", status(State::Armed, 0), NOW);
        machine.step(NOW, &links(&["a"]));
        assert_eq!(machine.capture().window.unwrap().start_nanos, expected);
    }
}

#[test]
fn stopped_before_its_window_a_capture_is_cancelled() {
    let mut machine = running();
    machine.stop("eve", NOW + 1);
    let effects = machine.step(NOW + 1, &links(&["a"]));
    assert_eq!(machine.capture().state, State::Cancelled);
    assert!(matches!(effects.last(), Some(Effect::Finish)));
    let forget =
        |effect: &Effect| matches!(effect, Effect::Send(_, Command::End { end_monotonic_nanos: None, .. }));
    assert!(effects.iter().any(forget), "{effects:?}");
}

#[test]
fn draining_waits_for_batches_and_then_correlates_once() {
    let mut machine = running();
    let end = end_of(&machine);
    machine.step(end, &links(&["a"]));
    machine.status("a", status(State::Completed, 3), end + SECOND);
    assert_eq!(machine.capture().state, State::Draining);
    machine.stored(stored(2), end + SECOND);
    machine.step(end + SECOND, &links(&["a"]));
    assert_eq!(machine.capture().state, State::Draining);
    machine.stored(stored(3), end + 2 * SECOND);
    let effects = machine.step(end + 2 * SECOND, &links(&["a"]));
    assert!(matches!(effects.last(), Some(Effect::Correlate)), "{effects:?}");
    assert!(machine.capture().parts[0].coverage.is_empty());
    let again = machine.step(end + 3 * SECOND, &links(&["a"]));
    assert!(again.is_empty(), "{again:?}");
}

#[test]
fn what_a_node_translated_is_stored_once_and_before_its_part_is() {
    let mut machine = running();
    let told = || Some(Bytes::from_static(b"told"));
    machine.status("a", Status { translations: told(), ..status(State::Completed, 0) }, NOW);
    let effects = machine.step(end_of(&machine), &links(&["a"]));
    let is_told = |effect: &Effect| matches!(effect, Effect::SaveTranslations(all) if *all == [("a".to_owned(), Bytes::from_static(b"told"))]);
    assert!(is_told(&effects[0]) && matches!(effects[1], Effect::Save), "{effects:?}");
    machine.untold(vec![("a".to_owned(), Bytes::from_static(b"told"))]);
    machine.unsaved();
    let effects = machine.step(end_of(&machine), &links(&["a"]));
    assert!(is_told(&effects[0]) && matches!(effects[1], Effect::Save), "{effects:?}");
    machine.status("a", Status { translations: told(), ..status(State::Completed, 0) }, NOW);
    let effects = machine.step(end_of(&machine), &links(&["a"]));
    assert!(!effects.iter().any(is_told), "{effects:?}");
}

#[test]
fn what_does_not_arrive_is_a_coverage_note() {
    let mut machine = running();
    let end = end_of(&machine);
    machine.step(end, &links(&["a"]));
    machine.status("a", status(State::Completed, 3), end + SECOND);
    machine.stored(stored(1), end + SECOND);
    machine.step(end + SECOND, &links(&["a"]));
    let deadline = machine.wake_nanos().unwrap();
    assert_eq!(deadline, end + limits::TAIL_NANOS + limits::DRAIN_IDLE_NANOS);
    machine.step(deadline - 1, &links(&["a"]));
    assert_eq!(machine.capture().state, State::Draining);
    machine.step(deadline, &links(&["a"]));
    assert_eq!(machine.capture().state, State::Correlating);
    assert_eq!(machine.capture().parts[0].coverage, ["eth0 in: 2 of 3 batches did not arrive"]);
}

#[test]
fn what_could_not_be_stored_fails_its_node_with_the_reason() {
    let mut machine = running();
    let end = end_of(&machine);
    machine.step(end, &links(&["a"]));
    machine.unstored("cannot make the directory: Permission denied".to_owned(), end);
    machine.status("a", status(State::Completed, 3), end + SECOND);
    machine.step(machine.wake_nanos().unwrap(), &links(&["a"]));
    let part = &machine.capture().parts[0];
    assert_eq!(part.state, State::Failed);
    assert!(
        part.reason.contains("could not be stored") && part.reason.contains("Permission denied"),
        "{}",
        part.reason
    );
    assert!(part.reason.contains("--data-dir"), "{}", part.reason);
}

#[test]
fn trouble_that_passed_fails_nobody() {
    let mut machine = running();
    let end = end_of(&machine);
    machine.step(end, &links(&["a"]));
    machine.unstored("No space left on device".to_owned(), end);
    machine.status("a", status(State::Completed, 3), end + SECOND);
    machine.stored(stored(3), end + SECOND);
    machine.step(end + SECOND, &links(&["a"]));
    assert_eq!(machine.capture().parts[0].state, State::Completed);
}

#[test]
fn a_store_that_is_away_at_the_end_gets_time_to_come_back_but_not_for_ever() {
    let mut machine = running();
    let tail_end = end_of(&machine) + limits::TAIL_NANOS;
    machine.step(end_of(&machine), &links(&["a"]));
    machine.status("a", status(State::Completed, 3), tail_end);
    let mut deadlines = Vec::new();
    for seconds in [9, 18, 29, 38] {
        let now = tail_end + seconds * SECOND;
        machine.unstored("Connection refused".to_owned(), now);
        machine.step(now, &links(&["a"]));
        deadlines.push((machine.wake_nanos().unwrap() - tail_end) / SECOND);
    }
    assert_eq!(deadlines, [19, 28, 39, 40]);
}

#[test]
fn a_node_that_failed_at_once_is_not_armed() {
    let mut capture = capture(&["a", "b"], None);
    (capture.parts[1].state, capture.parts[1].reason) = (State::Failed, "left out: offline".to_owned());
    let mut machine = Machine::new(capture);
    machine.step(NOW, &links(&["a"]));
    machine.status("a", status(State::Armed, 0), NOW);
    machine.step(NOW, &links(&["a"]));
    assert_eq!((machine.capture().state, machine.capture().parts[1].state), (State::Running, State::Failed));
}

#[test]
fn an_agent_that_stays_away_fails_but_not_its_capture() {
    let mut machine = running();
    let end = end_of(&machine);
    machine.step(end, &links(&[]));
    machine.step(machine.wake_nanos().unwrap(), &links(&[]));
    let part = &machine.capture().parts[0];
    assert_eq!((part.state, machine.capture().state), (State::Failed, State::Correlating));
    assert!(part.reason.starts_with("offline at the end"), "{}", part.reason);
}

#[test]
fn what_a_killed_agent_left_is_waited_for_and_no_other_process_is_believed() {
    let mut machine = running();
    let end = end_of(&machine);
    machine.step(end, &links(&["a"]));
    machine.status("a", status(State::Draining, 1), end);
    machine.stored(stored(1), end);
    let left =
        |incarnation, batches| Left { incarnation, status: status(State::Failed, batches).points.remove(0) };
    machine.left("a", vec![left(4, 9), left(5, 3), left(5, 2)], end + 1);
    let mut anew = links(&["a"]);
    anew.get_mut("a").unwrap().incarnation = 6;
    machine.step(end + 2, &anew);
    assert_eq!(machine.capture().parts[0].state, State::Failed);
    machine.stored(stored(2), end + 3);
    machine.step(end + 3, &anew);
    assert_eq!(machine.capture().state, State::Draining);
    machine.stored(stored(3), end + 4);
    machine.step(end + 4, &anew);
    assert_eq!(machine.capture().state, State::Correlating);
    assert!(machine.capture().parts[0].coverage.is_empty());
    machine.left("a", vec![left(5, 4)], end + 5);
    assert_eq!(machine.capture().parts[0].points[0].batches, 3, "too late");
}

#[test]
fn arrivals_prolong_draining_up_to_its_limit() {
    let mut machine = running();
    let end = end_of(&machine);
    machine.step(end, &links(&["a"]));
    machine.stored(stored(1), end + 20 * SECOND);
    assert_eq!(machine.wake_nanos(), Some(end + 30 * SECOND));
    machine.stored(stored(1), end + 25 * SECOND);
    assert_eq!(machine.wake_nanos(), Some(end + 30 * SECOND), "nothing new");
    machine.stored(stored(2), end + 900 * SECOND);
    assert_eq!(machine.wake_nanos(), Some(end + limits::TAIL_NANOS + limits::DRAIN_NANOS));
}

#[test]
fn a_coordinator_back_after_the_end_gives_agents_time_to_return() {
    let stored = running().capture().clone();
    let back = stored.window.unwrap().end_nanos + 600 * SECOND;
    let mut machine = Machine::recover(stored, back);
    machine.step(back, &links(&[]));
    assert_eq!(machine.capture().state, State::Draining);
    assert_eq!(machine.wake_nanos(), Some(back + limits::RECOVERY_NANOS));
}

#[test]
fn a_capture_without_a_window_goes_on_arming_elsewhere() {
    let mut first = Machine::new(capture(&["a", "b"], None));
    first.step(NOW, &links(&["a", "b"]));
    first.status("a", status(State::Armed, 0), NOW);
    first.step(NOW, &links(&["a", "b"]));
    let mut machine = Machine::recover(first.capture().clone(), NOW + SECOND);
    let effects = machine.step(NOW + SECOND, &links(&["b"]));
    let is_arm = |effect: &&Effect| matches!(effect, Effect::Send(_, Command::Arm(_)));
    let armed: Vec<_> = effects.iter().filter(is_arm).collect();
    assert!(matches!(armed[..], [Effect::Send(node, _)] if node == "b"), "{effects:?}");
    assert_eq!(machine.wake_nanos(), Some(NOW + SECOND + limits::RECOVERY_NANOS));
    machine.status("b", status(State::Armed, 0), NOW + 2 * SECOND);
    machine.step(NOW + 2 * SECOND, &links(&["a", "b"]));
    assert_eq!(machine.capture().state, State::Running);
}

#[test]
fn nodes_that_do_not_come_back_while_arming_are_left_out() {
    let mut first = Machine::new(capture(&["a", "b"], None));
    first.step(NOW, &links(&["a", "b"]));
    first.status("a", status(State::Armed, 0), NOW);
    let mut machine = Machine::recover(first.capture().clone(), NOW);
    machine.step(NOW + limits::RECOVERY_NANOS, &links(&["a"]));
    let part = &machine.capture().parts[1];
    assert_eq!((machine.capture().state, part.state), (State::Running, State::Failed));
    assert!(part.reason.contains("did not come back within 30 s"), "{}", part.reason);
}

#[test]
fn an_agent_that_loses_its_coordinator_while_arming_is_waited_for_once() {
    let mut machine = Machine::new(capture(&["a", "b"], None));
    machine.step(NOW, &links(&["a", "b"]));
    machine.status("a", status(State::Armed, 0), NOW);
    let deadline = machine.wake_nanos().unwrap();
    machine.step(deadline, &links(&["a"]));
    assert_eq!(machine.capture().parts[1].state, State::Arming);
    assert_eq!(machine.wake_nanos(), Some(deadline + limits::MOVE_NANOS));
    machine.step(deadline + limits::MOVE_NANOS, &links(&["a"]));
    assert_eq!((machine.capture().state, machine.capture().parts[1].state), (State::Running, State::Failed));
}

#[test]
fn an_agent_that_loses_its_coordinator_while_draining_gets_time_to_find_another() {
    let mut machine = running();
    let end = end_of(&machine);
    machine.step(end, &links(&["a"]));
    let late = end + limits::TAIL_NANOS + limits::DRAIN_IDLE_NANOS - 1;
    machine.step(late, &links(&[]));
    assert_eq!(machine.wake_nanos(), Some(late + limits::DRAIN_IDLE_NANOS));
}

#[test]
fn a_coordinator_that_stood_still_past_the_end_gives_agents_time_to_return() {
    let mut machine = running();
    let awake = end_of(&machine) + 600 * SECOND;
    machine.stood_still(awake);
    machine.step(awake, &links(&[]));
    assert_eq!(machine.capture().state, State::Draining);
    assert_eq!(machine.wake_nanos(), Some(awake + limits::RECOVERY_NANOS));
}

#[test]
fn a_run_that_was_cut_short_is_made_again() {
    let mut stored = running().capture().clone();
    stored.state = State::Correlating;
    let effects = Machine::recover(stored, NOW).step(NOW, &links(&[]));
    assert!(matches!(effects[..], [Effect::Correlate]), "{effects:?}");
}

#[test]
fn a_stop_reaches_an_agent_that_was_away() {
    let mut machine = running();
    let middle = NOW + 3 * SECOND;
    machine.stop("eve", middle);
    machine.step(middle, &links(&[]));
    let mut back = links(&["a"]);
    back.get_mut("a").unwrap().session = 2;
    let effects = machine.step(middle + SECOND, &back);
    let is_end = |effect: &Effect| matches!(effect, Effect::Send(_, Command::End { end_monotonic_nanos: Some(at), .. }) if *at == middle - 900 * SECOND);
    assert!(effects.iter().any(is_end), "{effects:?}");
}

#[test]
fn a_stop_reaches_an_agent_that_has_its_window_but_has_not_said_so() {
    let mut machine = Machine::new(capture(&["a"], None));
    machine.step(NOW, &links(&["a"]));
    machine.status("a", status(State::Armed, 0), NOW);
    machine.step(NOW, &links(&["a"]));
    let middle = NOW + 3 * SECOND;
    machine.stop("eve", middle);
    let effects = machine.step(middle, &links(&["a"]));
    let commands: Vec<&Command> = effects
        .iter()
        .filter_map(|effect| if let Effect::Send(_, command) = effect { Some(command) } else { None })
        .collect();
    let [Command::Commit { .. }, Command::End { end_monotonic_nanos: Some(at), .. }] = commands[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(*at, middle - 900 * SECOND);
}

/// What the effects are, in their order.
fn kinds(effects: &[Effect]) -> Vec<String> {
    effects.iter().map(|effect| format!("{effect:?}").split([' ', '{']).next().unwrap().to_owned()).collect()
}

#[test]
fn what_could_not_be_stored_is_asked_for_again() {
    let mut machine = Machine::new(capture(&["a"], None));
    let mut again = |change: &dyn Fn(&mut Machine), now_nanos: i64| {
        change(&mut machine);
        let first = machine.step(now_nanos, &links(&["a"]));
        machine.unsaved();
        let second = machine.step(now_nanos, &links(&["a"]));
        assert!(matches!(first[0], Effect::Save) && first.len() > 1, "{first:?}");
        let repeated = kinds(&second);
        assert!(kinds(&first).iter().all(|kind| repeated.contains(kind)), "{first:?} {second:?}");
        assert!(machine.step(now_nanos, &links(&["a"])).is_empty() || machine.capture().state.is_final());
    };
    again(&|_| {}, NOW);
    again(&|machine| machine.status("a", status(State::Armed, 0), NOW), NOW);
    let end = NOW + 11 * SECOND;
    again(&|machine| machine.status("a", status(State::Completed, 0), end), end);
    again(&|machine| machine.correlated(Ok(())), end);
}

#[test]
fn of_many_nodes_that_refuse_the_first_are_named_and_the_others_counted() {
    let nodes = ["a", "b", "c", "d", "e"];
    let mut machine = Machine::new(capture(&nodes, None));
    machine.step(NOW, &links(&nodes));
    for node in nodes {
        machine.status(node, Status { reason: "no eth9".into(), ..status(State::Failed, 0) }, NOW);
    }
    machine.step(NOW, &links(&nodes));
    let capture = machine.capture();
    let expected = format!(
        "no node could be armed: a: no eth9; b: no eth9; c: no eth9; and 2 more; see `ctl show-capture {}`",
        capture.id
    );
    assert_eq!((capture.state, &capture.reason), (State::Failed, &expected));
}
