//! What breaks while batches are written.

use tokio::sync::watch;

use super::*;
use crate::files::Files;
use crate::jobs::Handle;
use crate::model::{Capture, ClockFix, Part, SECOND, State, Window};
use crate::store::SqliteStore;

fn batch(capture: &str) -> CheckedBatch {
    CheckedBatch::sample(capture, 0, b"batch")
}

fn handle(capture: Capture, is_led: bool) -> Handle {
    let (events, view) = (mpsc::channel(4).0, watch::channel(Arc::new(capture)).1);
    Handle { events, committed: Arc::default(), view, is_led }
}

/// A writer that takes batches of the running captures `c-1` and `c-2`.
async fn writer(home: &std::path::Path) -> Writer {
    let store = SqliteStore::open(None, home).await.unwrap();
    let board = Board::default();
    for id in ["c-1", "c-2"] {
        let capture = Capture { id: id.into(), state: State::Running, ..Capture::sample(&["node-a"]) };
        store.save_capture(&capture).await.unwrap();
        board.insert(id, handle(capture, true));
    }
    let files = Files::in_directory(crate::files::prepare(home).unwrap());
    let metrics = Metrics::register(&mut prometheus_client::registry::Registry::default());
    Writer::new(mpsc::channel(1).1, Arc::new(store), files.writer(), board, metrics)
}

/// What becomes of these batches as one group, by capture.
async fn outcomes(writer: &mut Writer, batches: &[CheckedBatch]) -> Vec<(String, Outcome)> {
    let (reply, mut answers) = mpsc::channel(batches.len());
    let memory = super::super::memory::Memory::default();
    let mut deliveries = Vec::new();
    for batch in batches {
        let permit = memory.reserve(&batch.key.node, 1).await.unwrap();
        deliveries.push(Delivery { batch: batch.clone(), reply: reply.clone(), permit });
    }
    writer.commit(Group { deliveries, bytes: 0 }).await;
    batches.iter().map(|_| answers.try_recv().map(|(key, outcome)| (key.capture, outcome)).unwrap()).collect()
}

#[tokio::test]
async fn what_breaks_one_capture_holds_up_no_other() {
    let home = tempfile::tempdir().unwrap();
    let mut writer = writer(home.path()).await;
    // A file where the directory of the capture's files belongs.
    let in_the_way = crate::files::within(home.path()).join("c-1");
    std::fs::write(&in_the_way, b"").unwrap();
    let batches = [batch("c-1"), batch("c-2")];
    let found = outcomes(&mut writer, &batches).await;
    assert_eq!(found, [("c-1".into(), Outcome::Failed), ("c-2".into(), Outcome::Committed)]);
    assert_eq!(writer.metrics.failed_batches.get(), 1);
    std::fs::remove_file(in_the_way).unwrap();
    let found = outcomes(&mut writer, &batches).await;
    assert_eq!(found, [("c-1".into(), Outcome::Committed), ("c-2".into(), Outcome::Committed)]);
    assert_eq!(writer.metrics.committed_batches.get(), 2);
}

#[tokio::test]
async fn what_was_written_long_ago_is_not_committed_because_it_may_be_collected_by_now() {
    let home = tempfile::tempdir().unwrap();
    let mut writer = writer(home.path()).await;
    let group = || BTreeMap::from([("c-1".to_owned(), vec![batch("c-1")])]);
    let mut written = writer.files.write(group()).await.remove(0);
    written.begun -= limits::COMMIT_AGE + limits::GROUP_DELAY;
    let error = writer.make_durable(written).await.unwrap_err();
    assert!(error.contains("stood still"), "{error}");
    let files = async || writer.store.files("c-1").await.unwrap();
    assert_eq!(files().await, [""; 0]);
    let written = writer.files.write(group()).await.remove(0);
    writer.make_durable(written).await.unwrap();
    assert_eq!(files().await.len(), 1);
}

#[tokio::test]
async fn a_file_that_the_database_may_not_know_is_not_written_to_again() {
    let home = tempfile::tempdir().unwrap();
    let mut writer = writer(home.path()).await;
    let id = "c-1";
    writer.store.delete_capture(id).await.unwrap();
    assert_eq!(outcomes(&mut writer, &[batch(id)]).await[0].1, Outcome::Failed);
    let capture = Capture { id: id.into(), state: State::Running, ..Capture::sample(&["node-a"]) };
    writer.store.save_capture(&capture).await.unwrap();
    assert_eq!(outcomes(&mut writer, &[batch(id)]).await[0].1, Outcome::Committed);
    let known = writer.store.files(id).await.unwrap();
    let written = std::fs::read_dir(crate::files::within(home.path()).join(id)).unwrap().count();
    assert_eq!((known.len(), written), (1, 2));
}

#[tokio::test]
async fn refused_batches_are_counted_by_reason() {
    let home = tempfile::tempdir().unwrap();
    let mut registry = prometheus_client::registry::Registry::default();
    let mut writer = writer(home.path()).await;
    writer.metrics = Metrics::register(&mut registry);
    let mut other = batch("c-1");
    other.checksum ^= 1;
    let found = outcomes(&mut writer, &[batch("c-1"), other, batch("c-9")]).await;
    let is_refused = |outcome: &Outcome| matches!(outcome, Outcome::Refused(_));
    assert_eq!(found.iter().map(|(_, outcome)| is_refused(outcome)).collect::<Vec<_>>(), [false, true, true]);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for (reason, count) in [("conflict", 1), ("not_wanted", 1), ("points", 0), ("malformed", 0)] {
        let line = format!("lastseen_coordinator_refused_batches_total{{reason=\"{reason}\"}} {count}\n");
        assert!(text.contains(&line), "{line}{text}");
    }
}

/// Of the captures `c-1` and `c-2`, which are led here, and of others.
#[tokio::test]
async fn what_another_coordinator_may_lead_is_not_refused_before_that_is_known() {
    let home = tempfile::tempdir().unwrap();
    let mut writer = writer(home.path()).await;
    let (lookout, mut asking) = mpsc::channel::<crate::jobs::Asked>(1);
    writer.board.look_out(lookout);
    let mut stranger = batch("c-2");
    stranger.key.node = "node-z".into();
    let batches = [batch("c-1"), stranger, batch("c-8"), batch("c-9")];
    let is_refused = |(_, outcome): &(String, Outcome)| matches!(outcome, Outcome::Refused(_));
    let answering = async { asking.recv().await.unwrap().send(false).unwrap() };
    let (found, ()) = tokio::join!(outcomes(&mut writer, &batches), answering);
    assert!(found[0].1 == Outcome::Committed && is_refused(&found[1]), "{found:?}");
    assert!(found[2..].iter().all(|(_, outcome)| *outcome == Outcome::Failed), "{found:?}");
    let answering = async { asking.recv().await.unwrap().send(true).unwrap() };
    let (found, ()) = tokio::join!(outcomes(&mut writer, &batches), answering);
    assert!(found[1..].iter().all(is_refused), "{found:?}");
    assert!(asking.try_recv().is_err(), "one look for each group");
}

#[tokio::test]
async fn batches_of_a_capture_that_is_left_without_an_end_come_again() {
    let home = tempfile::tempdir().unwrap();
    let mut writer = writer(home.path()).await;
    let committed = writer.board.get("c-1").unwrap().committed;
    writer.board.leave("c-1", &committed);
    assert_eq!(outcomes(&mut writer, &[batch("c-1")]).await[0].1, Outcome::Failed);
}

#[tokio::test]
async fn a_slice_far_from_the_window_is_refused_although_its_capture_was_unknown_when_it_arrived() {
    let home = tempfile::tempdir().unwrap();
    let mut writer = writer(home.path()).await;
    let (lookout, mut asking) = mpsc::channel::<crate::jobs::Asked>(1);
    writer.board.look_out(lookout);
    let clock = ClockFix { coordinator_minus_monotonic_nanos: 1_000 * SECOND, ..ClockFix::sample() };
    let capture = Capture {
        id: "c-9".into(),
        state: State::Running,
        window: Some(Window { start_nanos: 2_000 * SECOND, end_nanos: 2_010 * SECOND }),
        parts: vec![Part { clock_start: Some(clock), ..Part::new("node-a") }],
        ..Capture::sample(&["node-a"])
    };
    writer.store.save_capture(&capture).await.unwrap();
    let board = writer.board.clone();
    let learning = async {
        let asked = asking.recv().await.unwrap();
        board.insert("c-9", handle(capture, false));
        asked.send(true).unwrap();
    };
    let at = |sequence, second| CheckedBatch {
        slice_nanos: [second * SECOND; 2],
        ..CheckedBatch::sample("c-9", sequence, b"batch")
    };
    let batches = [at(0, 1_005), at(1, 4_605)];
    let (found, ()) = tokio::join!(outcomes(&mut writer, &batches), learning);
    assert_eq!(found[0].1, Outcome::Committed);
    let Outcome::Refused(reason) = &found[1].1 else { panic!("{found:?}") };
    assert!(reason.contains("s away from the capture's window, above the limit of 60 s"), "{reason}");
}

#[tokio::test]
async fn a_node_names_as_many_points_as_the_limit_says() {
    let home = tempfile::tempdir().unwrap();
    let mut writer = writer(home.path()).await;
    let at = |index: usize| {
        let mut batch = batch("c-1");
        batch.key.point.index = index as u32;
        batch.point.key.index = index as u32;
        batch
    };
    let batches: Vec<_> = (0..=limits::POINTS_PER_NODE).map(at).collect();
    let found = outcomes(&mut writer, &batches).await;
    let taken = found.iter().filter(|(_, outcome)| *outcome == Outcome::Committed).count();
    assert_eq!(taken, limits::POINTS_PER_NODE);
    assert_eq!(found.last().unwrap().1, Outcome::Refused("more than 512 observation points".to_owned()));
    let again = CheckedBatch { key: BatchKey { sequence: 1, ..at(0).key }, ..at(0) };
    assert_eq!(outcomes(&mut writer, &[again]).await[0].1, Outcome::Committed, "a known point goes on");
}
