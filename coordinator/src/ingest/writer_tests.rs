//! What breaks while batches are written.

use tokio::sync::{Semaphore, watch};

use super::*;
use crate::jobs::Handle;
use crate::model::{Capture, Point, State};
use crate::store::SqliteStore;

fn batch(capture: &str) -> CheckedBatch {
    let point = PointKey { netns: String::new(), interface: "eth0".into(), index: 2, direction: 1 };
    let (capture, node) = (capture.to_owned(), "node-a".to_owned());
    CheckedBatch {
        key: BatchKey { capture, node, point: point.clone(), incarnation: 1, sequence: 0 },
        point: Point { key: point, kind: 5, mtu: 1500, gso_known: true },
        bytes: "batch".into(),
        checksum: crc32fast::hash(b"batch"),
        rows: 1,
    }
}

/// A writer that takes batches of the running captures `c-1` and `c-2`.
async fn writer(home: &std::path::Path) -> Writer {
    let store = SqliteStore::open(None, home).await.unwrap();
    let board = Board::default();
    for id in ["c-1", "c-2"] {
        let capture = Capture { id: id.into(), state: State::Running, ..Capture::sample(&["node-a"]) };
        store.save_capture(&capture).await.unwrap();
        let (events, view) = (mpsc::channel(4).0, watch::channel(Arc::new(capture)).1);
        board.insert(id, Handle { events, committed: Arc::default(), view });
    }
    let directory = crate::files::prepare(home).unwrap();
    let metrics = Metrics::register(&mut prometheus_client::registry::Registry::default());
    Writer::new(mpsc::channel(1).1, Arc::new(store), directory, board, metrics)
}

/// What becomes of these batches as one group, by capture.
async fn outcomes(writer: &mut Writer, batches: &[CheckedBatch]) -> Vec<(String, Outcome)> {
    let (reply, mut answers) = mpsc::channel(batches.len());
    let memory = Arc::new(Semaphore::new(batches.len()));
    let deliver = |batch: &CheckedBatch| {
        let permit = memory.clone().try_acquire_owned().unwrap();
        Delivery { batch: batch.clone(), reply: reply.clone(), permit }
    };
    let deliveries = batches.iter().map(deliver).collect();
    writer.commit(Group { deliveries, bytes: 0 }).await;
    batches.iter().map(|_| answers.try_recv().map(|(key, outcome)| (key.capture, outcome)).unwrap()).collect()
}

#[tokio::test]
async fn what_breaks_one_capture_holds_up_no_other() {
    let home = tempfile::tempdir().unwrap();
    let mut writer = writer(home.path()).await;
    // A file where the directory of the capture's files belongs.
    let in_the_way = writer.directory.join("c-1");
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
async fn a_panic_while_writing_fails_what_was_written_and_nothing_after_it() {
    let home = tempfile::tempdir().unwrap();
    let mut writer = writer(home.path()).await;
    assert_eq!(outcomes(&mut writer, &[batch("c-1")]).await[0].1, Outcome::Committed);
    let broken = writer.on_files(|_| -> () { panic!("a defect") }).await.unwrap_err();
    assert!(broken.contains("broke off") && broken.contains("a defect"), "{broken}");
    let mut next = batch("c-1");
    next.key.sequence = 1;
    assert_eq!(outcomes(&mut writer, &[next]).await[0].1, Outcome::Committed);
}
