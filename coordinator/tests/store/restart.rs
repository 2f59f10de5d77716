//! Servers that die and connections that break in the middle of commits.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use lastseen_coordinator::store::{PostgresStore, Store, StoreError};
use nix::sys::signal::Signal;

use super::samples::{capture, node, placed};
use crate::common::postgres::Database;
use crate::common::until;

const ROUNDS: u64 = 5;

/// What a writer was told of the batches it committed one by one.
#[derive(Default)]
struct Told {
    committed: BTreeSet<u64>,
    uncertain: BTreeSet<u64>,
}

/// Commits batches of one point until it is told to stop, and keeps those apart of which nobody knows.
async fn commit_on(
    store: Arc<PostgresStore>,
    interface: &str,
    done: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
) -> Told {
    let mut told = Told::default();
    for sequence in 0.. {
        match store.commit_batches(&[placed("c-1", interface, sequence)]).await {
            Ok(()) => drop(told.committed.insert(sequence)),
            Err(StoreError::Uncertain(_) | StoreError::Lost { .. }) => drop(told.uncertain.insert(sequence)),
            Err(error) => panic!("{error}"),
        }
        done.fetch_add(1, Ordering::Relaxed);
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_amid_commits_loses_nothing_that_was_told_and_doubles_nothing() {
    let database = Database::alone().await;
    let store = Arc::new(PostgresStore::open(&database.url()).await.unwrap());
    store.save_capture(&capture("c-1", 1)).await.unwrap();
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let names = ["eth0", "eth1", "eth2", "eth3"];
    let writers = names.map(|name| tokio::spawn(commit_on(store.clone(), name, done.clone(), stop.clone())));
    for _ in 0..ROUNDS {
        let before = done.load(Ordering::Relaxed);
        until("commits go on", async || done.load(Ordering::Relaxed) > before + 50).await;
        let server = database.server.clone();
        let restart = move || {
            server.kill();
            server.start_again();
        };
        tokio::task::spawn_blocking(restart).await.unwrap();
    }
    let before = done.load(Ordering::Relaxed);
    until("commits go on", async || done.load(Ordering::Relaxed) > before + 50).await;
    stop.store(true, Ordering::Relaxed);
    let stored = async |interface: &str| {
        let batches = store.batches("c-1").await.unwrap();
        batches
            .into_iter()
            .filter(|b| b.point.key.interface == interface)
            .map(|b| b.sequence)
            .collect::<Vec<_>>()
    };
    let mut uncertain = 0;
    for (writer, name) in writers.into_iter().zip(names) {
        let told = writer.await.unwrap();
        let stored = stored(name).await;
        let once: BTreeSet<u64> = stored.iter().copied().collect();
        assert_eq!(stored.len(), once.len(), "{name}: nothing twice");
        assert_eq!(told.committed.difference(&once).count(), 0, "{name}: nothing told is lost");
        let all: BTreeSet<u64> = told.committed.union(&told.uncertain).copied().collect();
        assert_eq!(once.difference(&all).count(), 0, "{name}: nothing from nowhere");
        uncertain += told.uncertain.len();
    }
    eprintln!("{} commits, {ROUNDS} kills, {uncertain} of unknown end", done.load(Ordering::Relaxed));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_repeated_waits_for_a_server_that_comes_back() {
    let database = Database::alone().await;
    let store = Arc::new(PostgresStore::open(&database.url()).await.unwrap());
    store.save_node(&node("node-a")).await.unwrap();
    database.server.kill();
    let asking = {
        let store = store.clone();
        tokio::spawn(async move {
            store.save_node(&node("node-b")).await?;
            store.nodes().await
        })
    };
    let server = database.server.clone();
    tokio::task::spawn_blocking(move || server.start_again()).await.unwrap();
    assert_eq!(asking.await.unwrap().unwrap(), [node("node-a"), node("node-b")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stays_away_is_named_and_taken_up_when_it_is_back() {
    let database = Database::alone().await;
    let store = PostgresStore::open(&database.url()).await.unwrap();
    database.server.kill();
    let error = store.capture("c-1").await.unwrap_err();
    assert!(matches!(error, StoreError::Lost { .. }), "{error}");
    let error = error.to_string();
    assert!(
        error.starts_with("database postgres://owner@/") && error.contains("check that it runs"),
        "{error}"
    );
    let server = database.server.clone();
    tokio::task::spawn_blocking(move || server.start_again()).await.unwrap();
    assert!(store.nodes().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_freezes_is_named_and_taken_up_when_it_thaws() {
    let database = Database::alone().await;
    let store = PostgresStore::open(&database.url()).await.unwrap();
    store.save_node(&node("node-a")).await.unwrap();
    database.server.signal(Signal::SIGSTOP);
    let error = store.capture("c-1").await.unwrap_err();
    assert!(matches!(error, StoreError::Lost { .. }), "{error}");
    database.server.signal(Signal::SIGCONT);
    assert_eq!(store.nodes().await.unwrap(), [node("node-a")]);
}

/// As a failover, an administrator or a firewall does it.
#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_cut_off_are_made_again() {
    let database = Database::new().await;
    let store = Arc::new(PostgresStore::open(&database.url()).await.unwrap());
    store.save_capture(&capture("c-1", 1)).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let saving = {
        let (store, stop) = (store.clone(), stop.clone());
        tokio::spawn(async move {
            let mut saved = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                store.save_capture(&capture("c-1", 1)).await.unwrap();
                assert_eq!(store.unfinished().await.unwrap().len(), 1);
                saved += 1;
            }
            saved
        })
    };
    let cut = "SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity
               WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let mut sql = database.sql().await;
    let mut cuts = 0;
    while cuts < 30 && !saving.is_finished() {
        let ended: i64 = sqlx::query_scalar(cut).fetch_one(&mut sql).await.unwrap();
        cuts += ended;
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    stop.store(true, Ordering::Relaxed);
    assert!(saving.await.unwrap() > 0);
}
