//! What breaks under the coordinator, and how it goes on.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use crate::common::agent::{Agent, batch, columns};
use crate::common::data::Data;
use crate::common::pki::Authority;
use crate::common::{Fabric, is_final, job, running, until};
use lastseen_coordinator::limits;
use lastseen_proto::v1;
use lastseen_proto::v1::CaptureState::{Armed, Cancelled, Completed};
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
    until("a correlation run", async || {
        sql.number(&format!("SELECT runs FROM captures WHERE id = '{id}'")).await == 1
    })
    .await;
}

#[tokio::test]
async fn a_correlation_run_that_a_stop_calls_off_is_made_again_and_does_not_count_as_broken() {
    let (mut fabric, mut agent) = Fabric::with_one().await;
    let id = running(&fabric, &mut agent, 200).await;
    let mut publisher = agent.publish().await;
    assert_eq!(publisher.send(vec![agent.batch(&id, 0)]).await.0, [0]);
    let directory = fabric.data.path().join("observations").join(&id);
    let file = std::fs::read_dir(directory).unwrap().next().unwrap().unwrap().path();
    let kept = fabric.data.path().join("kept");
    block(&file, &kept);
    agent.status(&id, Completed, "", 1).await;
    for _ in 0..=limits::BROKEN_RUNS {
        is_correlating(&fabric, &id).await;
        let (authority, data) = fabric.stop().await;
        drop(unblock(&file));
        let store = data.store().await;
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
async fn a_report_that_cannot_be_stored_waits_says_why_and_comes() {
    let (fabric, mut agent) = Fabric::with_one().await;
    let id = running(&fabric, &mut agent, 200).await;
    let mut publisher = agent.publish().await;
    assert_eq!(publisher.send(vec![agent.batch(&id, 0)]).await.0, [0]);
    let mut sql = fabric.sql().await;
    sql.break_on("INSERT", "reports").await;
    agent.status(&id, Completed, "", 1).await;
    let waits = fabric.follow(&id, |capture| capture.reason.starts_with("the report waits: database")).await;
    assert_eq!(waits.state(), v1::CaptureState::Correlating);
    sql.mend("reports").await;
    let done = fabric.follow(&id, is_final).await;
    assert_eq!((done.state(), done.reason.as_str()), (Completed, ""));
    let report = fabric.analysis().await.diff_nodes(v1::DiffNodesRequest::default()).await.unwrap();
    assert_eq!(report.into_inner().capture_id, id);
    assert_eq!(sql.number("SELECT runs FROM captures").await, 1, "it was one run");
    fabric.stop().await;
}

#[tokio::test]
async fn batches_that_cannot_be_stored_are_not_acknowledged_and_come_again() {
    let (fabric, mut agent) = Fabric::with_one().await;
    let id = running(&fabric, &mut agent, 300).await;
    let mut sql = fabric.sql().await;
    sql.break_on("INSERT", "batches").await;
    let batch = agent.batch(&id, 0);
    let mut publisher = agent.publish().await;
    for attempt in 1..=2 {
        publisher.batches.send(batch.clone()).await.unwrap();
        let answer = publisher.answer().await;
        assert_eq!((answer.failed, answer.committed.len()), (vec![batch.key.clone().unwrap()], 0));
        assert_eq!((fabric.counter("failed_batches"), fabric.counter("committed_batches")), (attempt, 0));
    }
    sql.mend("batches").await;
    assert_eq!(publisher.send(vec![batch]).await, (vec![0], vec![]));
    assert_eq!((fabric.counter("failed_batches"), fabric.counter("committed_batches")), (2, 1));
    agent.status(&id, Completed, "", 1).await;
    let done = fabric.follow(&id, is_final).await;
    assert_eq!((done.state(), done.nodes[0].coverage.len()), (Completed, 0), "{done:?}");
    fabric.stop().await;
}

#[tokio::test]
async fn a_capture_that_cannot_be_stored_holds_up_no_other_on_the_same_stream() {
    let (fabric, mut agent) = Fabric::with_one().await;
    let broken = running(&fabric, &mut agent, 60_000).await;
    let sound = running(&fabric, &mut agent, 60_000).await;
    // A file where the directory of the capture's files belongs.
    let in_the_way = fabric.data.path().join("observations").join(&broken);
    std::fs::write(&in_the_way, b"").unwrap();
    let mut publisher = agent.publish().await;
    let (mut failed, mut committed) = (BTreeSet::new(), BTreeSet::new());
    for sequence in 0..20 {
        for id in [&broken, &sound] {
            publisher.batches.send(agent.batch(id, sequence)).await.unwrap();
        }
    }
    while failed.len() + committed.len() < 40 {
        let answer = publisher.answer().await;
        failed.extend(answer.failed.into_iter().map(|key| (key.capture_id, key.sequence)));
        committed.extend(answer.committed.into_iter().map(|key| (key.capture_id, key.sequence)));
    }
    let all_of = |id: &String| (0..20).map(|sequence| (id.clone(), sequence)).collect::<BTreeSet<_>>();
    assert_eq!((failed, committed), (all_of(&broken), all_of(&sound)));
    std::fs::remove_file(in_the_way).unwrap();
    let again = agent.batch(&broken, 0);
    assert_eq!(publisher.send(vec![again]).await, (vec![0], vec![]));
    fabric.stop().await;
}

#[tokio::test]
async fn a_stop_that_cannot_be_stored_is_not_confirmed() {
    let (fabric, mut agent) = Fabric::with_one().await;
    let id = running(&fabric, &mut agent, 60_000).await;
    let mut sql = fabric.sql().await;
    sql.break_on("UPDATE", "captures").await;
    let stop = v1::StopCaptureRequest { capture_id: id.clone() };
    let status = fabric.captures().await.stop_capture(stop.clone()).await.unwrap_err();
    let start = format!("capture {id} goes on until its stop can be stored");
    assert_eq!(status.code(), Code::Internal);
    assert!(status.message().starts_with(&start) && status.message().contains("disk I/O error"), "{status}");
    sql.mend("captures").await;
    fabric.captures().await.stop_capture(stop).await.unwrap();
    agent.end().await;
    assert!(fabric.get(&id).await.reason.starts_with("stopped by "));
    fabric.stop().await;
}

/// Files below `directory` that this process has open.
fn open_below(directory: &Path) -> Vec<PathBuf> {
    let links = std::fs::read_dir("/proc/self/fd").unwrap();
    let files = links.filter_map(|link| std::fs::read_link(link.unwrap().path()).ok());
    files.filter(|file| file.starts_with(directory)).collect()
}

#[tokio::test]
async fn a_capture_stopped_before_its_window_leaves_no_file_open() {
    let (fabric, mut agent) = Fabric::with_one().await;
    let mut request = job(&["node-a"], 60_000);
    let start_at = std::time::SystemTime::now() + std::time::Duration::from_mins(30);
    request.spec.as_mut().unwrap().start_at = Some(start_at.into());
    let mut client = fabric.captures().await;
    let starting = tokio::spawn(async move { client.start_capture(request).await });
    let id = agent.arm().await.capture_id;
    agent.status(&id, Armed, "", 0).await;
    starting.await.unwrap().unwrap();
    let start_nanos = agent.commit().await.start_unix_nanos;
    let batch = batch(&id, agent.incarnation, 0, start_nanos, &columns(4, start_nanos, 0));
    assert_eq!(agent.publish().await.send(vec![batch]).await, (vec![0], vec![]));
    let files = fabric.data.path().join("observations").join(&id);
    assert_eq!(open_below(&files).len(), 1);
    fabric.captures().await.stop_capture(v1::StopCaptureRequest { capture_id: id.clone() }).await.unwrap();
    assert_eq!(fabric.get(&id).await.state(), Cancelled);
    assert_eq!(open_below(&files), Vec::<PathBuf>::new());
    fabric.stop().await;
}

#[tokio::test]
async fn a_node_that_cannot_be_stored_is_stored_once_that_works() {
    // Of SQLite, because there a statement can fail and leave a trace (its manual, "CREATE TRIGGER", RAISE).
    let fabric = Fabric::start_on(Authority::new(), Data::on(None)).await;
    let agent = Agent::connect(&fabric, "node-a", 1, &[]).await;
    let mut sql = fabric.sql().await;
    until("the node in the database", async || sql.number("SELECT COUNT(*) FROM nodes").await == 1).await;
    sql.run("CREATE TABLE tried (once BIGINT)").await;
    let fault = "INSERT INTO tried VALUES (1); SELECT RAISE(FAIL, 'disk I/O error')";
    sql.at("BEFORE UPDATE ON nodes", fault).await;
    agent.network("eth50").await;
    until("an attempt", async || sql.number("SELECT COUNT(*) FROM tried").await > 0).await;
    sql.mend("nodes").await;
    let is_stored = async || {
        let topology = sql.bytes("SELECT topology FROM nodes").await;
        topology.windows(5).any(|window| window == b"eth50")
    };
    until("the network in the database", is_stored).await;
    fabric.stop().await;
}
