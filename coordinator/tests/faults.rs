//! What breaks under the coordinator, and how it goes on.

mod common;

use std::fs::{File, OpenOptions};
use std::path::Path;

use common::agent::Agent;
use common::{Fabric, is_final, running};
use lastseen_coordinator::limits;
use lastseen_coordinator::store::{SqliteStore, Store};
use lastseen_proto::v1::CaptureState::Completed;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tonic::Code;

/// Puts a pipe that nobody writes to in a file's place: who reads it waits.
fn block(file: &Path, kept: &Path) {
    std::fs::rename(file, kept).unwrap();
    mkfifo(file, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
}

/// Lets go of who waits for the pipe, if somebody does: opened both ways, a pipe does not wait itself (fifo(7)).
fn unblock(pipe: &Path) -> File {
    OpenOptions::new().read(true).write(true).open(pipe).unwrap()
}

/// Waits until a correlation run of the capture has begun.
async fn is_correlating(fabric: &Fabric, id: &str) {
    let mut sql = fabric.sql().await;
    loop {
        let runs = sqlx::query_scalar("SELECT runs FROM captures WHERE id = $1").bind(id);
        if runs.fetch_one(&mut sql).await.is_ok_and(|runs: i64| runs == 1) {
            return;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_correlation_run_that_a_stop_calls_off_is_made_again_and_does_not_count_as_broken() {
    let mut fabric = Fabric::start().await;
    let mut agent = Agent::connect(&fabric, "node-a", 1, &[]).await;
    let id = running(&fabric, &mut agent, 200).await;
    let mut publisher = agent.publish().await;
    assert_eq!(publisher.send(vec![agent.batch(&id, 0)]).await.0, [0]);
    let file = fabric.data.path().join("observations").join(&id).join("000000.obs");
    let kept = fabric.data.path().join("kept");
    block(&file, &kept);
    agent.status(&id, Completed, "", 1).await;
    for _ in 0..=limits::BROKEN_RUNS {
        is_correlating(&fabric, &id).await;
        let (authority, data) = fabric.stop().await;
        drop(unblock(&file));
        let store = SqliteStore::open(None, data.path()).await.unwrap();
        assert_eq!(store.add_runs(&id, 0).await.unwrap(), 0);
        store.close().await;
        fabric = Fabric::start_on(authority, data).await;
    }
    is_correlating(&fabric, &id).await;
    let (authority, data) = fabric.stop().await;
    drop(unblock(&file));
    std::fs::rename(&kept, &file).unwrap();
    let fabric = Fabric::start_on(authority, data).await;
    let done = fabric.follow(&id, is_final).await;
    assert_eq!((done.state(), done.reason.as_str()), (Completed, ""));
    fabric.stop().await;
}

#[tokio::test]
async fn batches_that_cannot_be_stored_are_not_acknowledged_and_come_again() {
    let fabric = Fabric::start().await;
    let mut agent = Agent::connect(&fabric, "node-a", 1, &[]).await;
    let id = running(&fabric, &mut agent, 300).await;
    let mut sql = fabric.sql().await;
    let fault =
        "CREATE TRIGGER fault BEFORE INSERT ON batches BEGIN SELECT RAISE(ABORT, 'disk I/O error'); END";
    sqlx::query(fault).execute(&mut sql).await.unwrap();
    let batch = agent.batch(&id, 0);
    for attempt in 1..=2 {
        let mut publisher = agent.publish().await;
        publisher.batches.send(batch.clone()).await.unwrap();
        let status = publisher.acks.message().await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
        assert!(status.message().contains("could not be stored; send it again"), "{status}");
        assert_eq!((fabric.counter("failed_batches"), fabric.counter("committed_batches")), (attempt, 0));
    }
    sqlx::query("DROP TRIGGER fault").execute(&mut sql).await.unwrap();
    assert_eq!(agent.publish().await.send(vec![batch]).await, (vec![0], vec![]));
    assert_eq!((fabric.counter("failed_batches"), fabric.counter("committed_batches")), (2, 1));
    agent.status(&id, Completed, "", 1).await;
    let done = fabric.follow(&id, is_final).await;
    assert_eq!((done.state(), done.nodes[0].coverage.len()), (Completed, 0), "{done:?}");
    fabric.stop().await;
}
