//! Captures that retention deletes, files that no row knows, and how the store is looked at.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::common::agent::Agent;
use crate::common::data::Data;
use crate::common::{Fabric, is_final, running, until};
use lastseen_coordinator::limits;
use lastseen_proto::v1;
use lastseen_proto::v1::CaptureState::Completed;

/// A capture that has ended, with a batch.
async fn ended(fabric: &Fabric, agent: &mut Agent) -> String {
    let id = running(fabric, agent, 100).await;
    assert_eq!(agent.publish().await.send(vec![agent.batch(&id, 0)]).await, (vec![0], vec![]));
    agent.status(&id, Completed, "", 1).await;
    assert_eq!(fabric.follow(&id, is_final).await.state(), Completed);
    agent.end().await;
    id
}

/// Ids of the captures there are, newest first.
async fn captures(fabric: &Fabric) -> Vec<String> {
    let request = v1::ListCapturesRequest::default();
    let listed = fabric.captures().await.list_captures(request).await.unwrap().into_inner();
    listed.captures.into_iter().map(|capture| capture.id).collect()
}

/// Ids of the captures that have a directory, sorted.
fn directories(data: &Data) -> Vec<String> {
    let entries = std::fs::read_dir(data.path().join("observations")).unwrap();
    let directories = entries.map(|entry| entry.unwrap()).filter(|entry| entry.path().is_dir());
    let mut names: Vec<_> = directories.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn what_is_too_old_goes_with_all_its_rows_and_files_and_what_runs_stays() {
    let (fabric, mut agent) = Fabric::with_one().await;
    let old = ended(&fabric, &mut agent).await;
    let new = ended(&fabric, &mut agent).await;
    let runs = running(&fabric, &mut agent, 60_000).await;
    assert_eq!(agent.publish().await.send(vec![agent.batch(&runs, 0)]).await, (vec![0], vec![]));
    let mut sql = fabric.sql().await;
    let hour = "3600000000000";
    sql.run(&format!("UPDATE captures SET window_end = window_end - {hour} WHERE id IN ('{old}', '{runs}')"))
        .await;
    let (authority, data) = fabric.stop().await;
    let fabric = Fabric::start_on(authority, data).await;
    until("the old one to go", async || captures(&fabric).await == [runs.clone(), new.clone()]).await;
    let name = "retention_deleted_captures_total{reason=\"age\"}";
    until("it to be counted", async || fabric.figure(name) == 1).await;
    let mut expected = [new, runs];
    expected.sort();
    assert_eq!(directories(&fabric.data), expected);
    for table in ["capture_nodes", "capture_points", "reports", "flow_records", "lost_packets"] {
        let query = format!("SELECT COUNT(*) FROM {table} WHERE capture_id = '{old}'");
        assert_eq!(sql.number(&query).await, 0, "{table}");
    }
    assert_eq!(sql.number("SELECT COUNT(*) FROM batches").await, 2);
    fabric.stop().await;
}

#[tokio::test]
async fn what_is_too_much_goes_from_the_oldest_on() {
    let (fabric, mut agent) = Fabric::with_one().await;
    let mut kept = Vec::new();
    for _ in 0..3 {
        kept.insert(0, ended(&fabric, &mut agent).await);
    }
    let mut sql = fabric.sql().await;
    let bytes = sql.number("SELECT CAST(SUM(length) AS BIGINT) FROM batches").await as u64;
    assert_eq!(captures(&fabric).await, kept);
    let (authority, data) = fabric.stop().await;
    let data = data.telling(move |config| config.retention_bytes = Some(bytes - 1));
    let fabric = Fabric::start_on(authority, data).await;
    until("one to go", async || captures(&fabric).await == kept[..2]).await;
    let name = "retention_deleted_captures_total{reason=\"bytes\"}";
    until("it to be counted", async || fabric.figure(name) == 1).await;
    assert_eq!(fabric.figure("stored_bytes"), bytes as u64);
    fabric.stop().await;
}

fn make(path: &Path, age: Duration) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    File::create(path).unwrap().set_modified(SystemTime::now() - age).unwrap();
}

#[tokio::test]
async fn files_without_a_row_are_told_and_collected_once_no_other_coordinator_can_be_writing_them() {
    let (fabric, mut agent) = Fabric::with_one().await;
    let id = ended(&fabric, &mut agent).await;
    let (authority, data) = fabric.stop().await;
    let observations = data.path().join("observations");
    let old = limits::GARBAGE_AGE + Duration::from_mins(1);
    let young = observations.join(&id).join("young.obs");
    make(&young, limits::GARBAGE_AGE / 2);
    make(&observations.join(&id).join("old.obs"), old);
    make(&observations.join("c-gone").join("old.obs"), old);
    let foreign = observations.join("notes").join("old.obs");
    make(&foreign, old);
    let fabric = Fabric::start_on(authority, data).await;
    until("two to go", async || fabric.counter("collected_files") == 2).await;
    assert!(young.exists() && foreign.exists());
    assert_eq!(directories(&fabric.data), [id.as_str(), "notes"]);
    let check = async || {
        let answer = fabric.nodes().await.check_storage(v1::CheckStorageRequest {}).await;
        answer.unwrap().into_inner()
    };
    let well = check().await;
    assert!(well.database.starts_with("SQLite 3.") || well.database.starts_with("Postgres "), "{well:?}");
    assert_eq!(well.place, observations.display().to_string());
    assert_eq!((well.files, well.files_without_rows.unwrap().count), (2, 0));
    make(&young, old);
    let file = std::fs::read_dir(observations.join(&id)).unwrap().map(|entry| entry.unwrap().path());
    let file = file.into_iter().find(|file| *file != young).unwrap();
    std::fs::remove_file(&file).unwrap();
    let found = check().await;
    assert_eq!(found.files_without_rows.unwrap().examples, [format!("{id}/young.obs")]);
    let gone = found.rows_without_files.unwrap();
    assert_eq!(gone.examples, [format!("{id}/{}", file.file_name().unwrap().to_str().unwrap())]);
    fabric.stop().await;
}
