//! What keeps coordinators that share a database out of each other's way.

use std::sync::Arc;
use std::time::Duration;

use lastseen_coordinator::limits;
use lastseen_coordinator::model::{Capture, State};
use lastseen_coordinator::store::cluster::{CommandRow, MailRow};
use lastseen_coordinator::store::{Created, Fence, PostgresStore, Results, Shared, Store, StoreError};
use nix::sys::signal::Signal::{SIGCONT, SIGSTOP};
use nix::sys::signal::kill;
use nix::unistd::Pid;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _};

use super::samples::{capture, node, placed};
use crate::common::postgres::Database;
use crate::common::until;

async fn open(database: &Database) -> (Arc<dyn Store>, Shared) {
    let store = PostgresStore::open(&database.url()).await.unwrap();
    let shared = store.shared().unwrap();
    (Arc::new(store), shared)
}

async fn run(sql: &mut PgConnection, statement: &str) {
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(sql).await.unwrap();
}

async fn number(sql: &mut PgConnection, query: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(query.to_owned())).fetch_one(sql).await.unwrap()
}

/// Stores a new capture that its store leads.
async fn created(store: &Arc<dyn Store>, capture: &Capture) -> Fence {
    match store.create_capture(capture, None, &|_| Ok(())).await.unwrap() {
        Created::New(Some(fence)) => fence,
        other => panic!("{other:?}"),
    }
}

const EXPIRE: &str = "UPDATE captures SET lease_until = 0";

#[tokio::test(flavor = "multi_thread")]
async fn of_many_that_try_one_gets_each_capture() {
    const ROUNDS: i64 = 10;
    let database = Database::new().await;
    let (first, _) = open(&database).await;
    for id in ["c-1", "c-2", "c-3"] {
        first.save_capture(&capture(id, 1)).await.unwrap();
    }
    let mut others = Vec::new();
    for _ in 0..6 {
        others.push(open(&database).await.1);
    }
    let mut sql = database.sql().await;
    for round in 1..=ROUNDS {
        run(&mut sql, EXPIRE).await;
        let claims = others
            .iter()
            .cloned()
            .map(|shared| tokio::spawn(async move { shared.claim(&[]).await.unwrap() }));
        let mut claimed = Vec::new();
        for claim in claims.collect::<Vec<_>>() {
            claimed
                .extend(claim.await.unwrap().into_iter().map(|(capture, fence)| (capture.id, fence.token)));
        }
        claimed.sort();
        assert_eq!(claimed, ["c-1", "c-2", "c-3"].map(|id| (id.to_owned(), round)));
    }
    assert!(others[0].claim(&[]).await.unwrap().is_empty(), "all are led");
    run(&mut sql, &format!("{EXPIRE}, state = {}", State::Completed as i64)).await;
    assert!(others[0].claim(&[]).await.unwrap().is_empty(), "all have ended");
}

#[tokio::test]
async fn who_was_replaced_writes_nothing_any_more() {
    let database = Database::new().await;
    let ((first, _), (second, taking)) = (open(&database).await, open(&database).await);
    let told = capture("c-1", 1);
    let mine = first.fenced(created(&first, &told).await);
    mine.save_capture(&told).await.unwrap();
    mine.save_results("c-1", &Results { report: b"first".to_vec(), ..Default::default() }).await.unwrap();
    run(&mut database.sql().await, EXPIRE).await;
    mine.save_capture(&told).await.expect("nobody has taken it over yet");
    let (taken, fence) = taking.claim(&[]).await.unwrap().remove(0);
    assert_eq!(taken, told);
    let theirs = second.fenced(fence);
    let mut changed = told.clone();
    changed.reason = "by who woke up".into();
    let bytes = bytes::Bytes::from_static(b"late");
    let late = Results { report: b"late".to_vec(), ..Default::default() };
    for refused in [
        mine.save_capture(&changed).await,
        mine.save_topologies("c-1", &[("node-a".into(), bytes.clone())]).await,
        mine.save_translations("c-1", &[("node-a".into(), bytes.clone())]).await,
        mine.add_runs("c-1", 1).await.map(drop),
        mine.save_results("c-1", &late).await,
    ] {
        assert!(matches!(&refused, Err(StoreError::Fenced { capture }) if capture == "c-1"), "{refused:?}");
    }
    assert_eq!(second.capture("c-1").await.unwrap().unwrap(), told);
    assert_eq!(second.report("c-1").await.unwrap().unwrap(), b"first");
    assert!(second.topologies("c-1").await.unwrap().is_empty());
    assert!(second.translations("c-1").await.unwrap().is_empty());
    assert_eq!(theirs.add_runs("c-1", 1).await.unwrap(), 1);
    assert_eq!(mine.add_runs("c-1", -1).await.unwrap(), 0, "a run of before is called off");
    theirs.save_capture(&changed).await.unwrap();
    theirs.save_results("c-1", &late).await.unwrap();
    assert_eq!(second.report("c-1").await.unwrap().unwrap(), b"late");
}

#[tokio::test]
async fn a_lease_is_renewed_by_who_has_it_and_lost_by_who_had_it() {
    let database = Database::new().await;
    let ((first, renewing), (_, taking)) = (open(&database).await, open(&database).await);
    let held = [created(&first, &capture("c-1", 1)).await, created(&first, &capture("c-2", 2)).await];
    let mut sql = database.sql().await;
    run(&mut sql, "UPDATE captures SET lease_until = 0 WHERE id = 'c-1'").await;
    assert_eq!(taking.claim(&[]).await.unwrap().len(), 1);
    let renewed = renewing.renew(&held).await.unwrap();
    assert_eq!((renewed.kept, renewed.lost), (vec!["c-2".to_owned()], vec!["c-1".to_owned()]));
    assert!(renewed.is_new && !renewing.renew(&held).await.unwrap().is_new);
    renewing.release(&held[0]).await.unwrap();
    assert!(taking.claim(&[]).await.unwrap().is_empty(), "who had it cannot give it away");
    renewing.release(&held[1]).await.unwrap();
    assert_eq!(taking.claim(&[]).await.unwrap()[0].0.id, "c-2");
}

/// A lease whose row is being written is neither lost nor in the way of the others.
#[tokio::test]
async fn a_lease_that_is_being_written_holds_up_no_other() {
    let database = Database::new().await;
    let (first, renewing) = open(&database).await;
    let held = [created(&first, &capture("c-1", 1)).await, created(&first, &capture("c-2", 2)).await];
    let mut sql = database.sql().await;
    run(&mut sql, "BEGIN; SELECT 1 FROM captures WHERE id = 'c-1' FOR UPDATE").await;
    let renewed = tokio::time::timeout(Duration::from_secs(20), renewing.renew(&held)).await;
    let renewed = renewed.expect("it does not wait").unwrap();
    assert_eq!((renewed.kept, renewed.lost), (vec!["c-2".to_owned()], vec![]));
}

/// Waits until a commit of batches stands between its locks and its rows.
async fn commit_under_way(
    database: &Database,
    store: &Arc<dyn Store>,
) -> (PgConnection, tokio::task::JoinHandle<Result<(), StoreError>>) {
    let mut sql = database.sql().await;
    run(&mut sql, "BEGIN; LOCK TABLE batches IN SHARE MODE").await;
    let store = store.clone();
    // Of a point that no one else writes.
    let committing = tokio::spawn(async move { store.commit_batches(&[placed("c-1", "eth1", 0)]).await });
    let mut looking = database.sql().await;
    let waiting = "SELECT COUNT(*) FROM pg_locks WHERE NOT granted AND relation = 'batches'::regclass";
    until("the commit waits", async || number(&mut looking, waiting).await == 1).await;
    (sql, committing)
}

#[tokio::test]
async fn leases_are_renewed_while_batches_are_committed() {
    let database = Database::new().await;
    let (store, renewing) = open(&database).await;
    let held = [created(&store, &capture("c-1", 1)).await];
    let (mut sql, committing) = commit_under_way(&database, &store).await;
    assert_eq!(renewing.renew(&held).await.unwrap().kept, ["c-1"]);
    run(&mut sql, "ROLLBACK").await;
    committing.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_take_every_connection_cost_no_lease() {
    const CALLS: usize = 30;
    let database = Database::new().await;
    let (store, renewing) = open(&database).await;
    let held = [created(&store, &capture("c-1", 1)).await];
    let mut sql = database.sql().await;
    run(&mut sql, "BEGIN; LOCK TABLE nodes IN ACCESS EXCLUSIVE MODE").await;
    let call = || {
        let store = store.clone();
        tokio::spawn(async move { store.nodes().await })
    };
    let calls: Vec<_> = (0..CALLS).map(|_| call()).collect();
    let mut looking = database.sql().await;
    let waiting = "SELECT COUNT(*) FROM pg_locks WHERE NOT granted AND relation = 'nodes'::regclass";
    until("all wait", async || {
        let connections = store.connections();
        number(&mut looking, waiting).await == i64::from(connections.in_use) && connections.idle == 0
    })
    .await;
    assert_eq!(renewing.renew(&held).await.unwrap().kept, ["c-1"]);
    run(&mut sql, "ROLLBACK").await;
    for call in calls {
        assert!(call.await.unwrap().unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_does_not_answer_costs_no_lease() {
    let database = Database::new().await;
    let (store, renewing) = open(&database).await;
    let held = [created(&store, &capture("c-1", 1)).await];
    renewing.renew(&held).await.unwrap();
    let mut sql = database.sql().await;
    // The last that was said on it.
    let backend =
        "SELECT pid::BIGINT FROM pg_stat_activity WHERE query = 'COMMIT' AND datname = current_database()
                   ORDER BY state_change DESC LIMIT 1";
    let backend = Frozen::stop(number(&mut sql, backend).await);
    let late = tokio::time::timeout(Duration::from_millis(300), renewing.renew(&held)).await;
    assert!(late.is_err(), "it is another connection that stands still");
    assert_eq!(renewing.renew(&held).await.unwrap().kept, ["c-1"]);
    drop(backend);
}

#[tokio::test]
async fn a_question_that_is_not_answered_is_given_up_and_asked_again() {
    let database = Database::new().await;
    let (_store, shared) = open(&database).await;
    let mut sql = database.sql().await;
    sqlx::raw_sql("BEGIN; LOCK TABLE captures").execute(&mut sql).await.unwrap();
    // The server itself lets it wait for a minute.
    let asked = tokio::time::timeout(Duration::from_secs(40), shared.revisions()).await;
    let error = asked.expect("it is not waited for any longer").unwrap_err().to_string();
    assert!(error.contains("no answer within 10 s; check that it runs"), "{error}");
    sqlx::raw_sql("COMMIT").execute(&mut sql).await.unwrap();
    assert!(shared.revisions().await.unwrap().is_empty());
}

/// A process that stands still until this is dropped.
struct Frozen(Pid);

impl Frozen {
    fn stop(process: i64) -> Self {
        let process = Pid::from_raw(process as i32);
        kill(process, SIGSTOP).unwrap();
        Self(process)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = kill(self.0, SIGCONT);
    }
}

#[tokio::test]
async fn who_deletes_what_is_old_holds_up_no_new_capture() {
    let database = Database::new().await;
    let (store, _) = open(&database).await;
    let _turn = store.alone().await.unwrap().expect("nobody else has it");
    let told = capture("c-1", 1);
    let creating = tokio::time::timeout(Duration::from_secs(20), created(&store, &told));
    creating.await.expect("it does not wait");
}

#[tokio::test]
async fn what_comes_after_the_correlation_began_is_not_stored() {
    let database = Database::new().await;
    let (store, _) = open(&database).await;
    let mut told = capture("c-1", 1);
    store.save_capture(&told).await.unwrap();
    store.commit_batches(&[placed("c-1", "eth0", 0)]).await.unwrap();
    told.state = State::Correlating;
    store.save_capture(&told).await.unwrap();
    let late = store.commit_batches(&[placed("c-1", "eth0", 1)]).await;
    assert!(matches!(&late, Err(StoreError::Closed { capture }) if capture == "c-1"), "{late:?}");
    assert_eq!(store.batches("c-1").await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_commit_under_way_is_waited_for_before_the_correlation_begins() {
    let database = Database::new().await;
    let (store, _) = open(&database).await;
    let mut told = capture("c-1", 1);
    store.save_capture(&told).await.unwrap();
    let (mut sql, committing) = commit_under_way(&database, &store).await;
    let mut looking = database.sql().await;
    told.state = State::Correlating;
    let saving = {
        let store = store.clone();
        tokio::spawn(async move { store.save_capture(&told).await })
    };
    let blocked = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database()
                   AND cardinality(pg_blocking_pids(pid)) > 0";
    until("both wait", async || number(&mut looking, blocked).await == 2).await;
    run(&mut sql, "ROLLBACK").await;
    committing.await.unwrap().unwrap();
    saving.await.unwrap().unwrap();
    assert_eq!(store.batches("c-1").await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_hold_over_all_coordinators_and_a_repeated_call_starts_nothing() {
    let database = Database::new().await;
    let stores = [open(&database).await.0, open(&database).await.0];
    let admission = |others: &[Capture]| {
        if others.len() < limits::CAPTURES_PER_FABRIC { Ok(()) } else { Err("full".to_owned()) }
    };
    let calls: Vec<_> = (0..20)
        .map(|n| {
            let store = stores[n % 2].clone();
            tokio::spawn(async move {
                store.create_capture(&capture(&format!("c-{n:02}"), 1), None, &admission).await
            })
        })
        .collect();
    let (mut new, mut refused) = (0, 0);
    for call in calls {
        match call.await.unwrap() {
            Ok(Created::New(Some(_))) => new += 1,
            Err(StoreError::NotAdmitted(reason)) if reason == "full" => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((new, refused), (limits::CAPTURES_PER_FABRIC, 20 - limits::CAPTURES_PER_FABRIC));
    let all = |_: &[Capture]| Ok(());
    let first = stores[0].create_capture(&capture("c-x", 1), Some("mine"), &all).await.unwrap();
    assert!(matches!(first, Created::New(_)));
    let again = stores[1].create_capture(&capture("c-y", 1), Some("mine"), &admission).await.unwrap();
    assert_eq!(again, Created::Known("c-x".into()));
    let mut other = capture("c-z", 1);
    other.created_by = "somebody else".into();
    assert!(matches!(stores[1].create_capture(&other, Some("mine"), &all).await.unwrap(), Created::New(_)));
    assert!(stores[1].capture("c-y").await.unwrap().is_none());
}

fn mail(content: &str, connected_at_nanos: i64) -> MailRow {
    MailRow {
        capture: "c-1".into(),
        node: "node-a".into(),
        kind: "status".into(),
        subject: String::new(),
        connected_at_nanos,
        content: content.into(),
        attachment: Some(vec![0, 0xff].into()),
    }
}

#[tokio::test]
async fn of_mail_the_last_counts_and_an_older_stream_replaces_nothing() {
    let database = Database::new().await;
    let ((_, first), (_, second)) = (open(&database).await, open(&database).await);
    let captures = ["c-1".to_owned()];
    first.post(&[mail("armed", 5)]).await.unwrap();
    let before = second.mail_numbers(&captures).await.unwrap();
    first.post(&[mail("running", 5)]).await.unwrap();
    let numbers = second.mail_numbers(&captures).await.unwrap();
    assert!(numbers.len() == 1 && numbers != before);
    assert_eq!(second.mail(&captures, &numbers).await.unwrap(), [(numbers[0], mail("running", 5))]);
    second.post(&[mail("armed", 4)]).await.unwrap();
    assert_eq!(second.mail_numbers(&captures).await.unwrap(), numbers);
    first.forget("c-1").await.unwrap();
    assert!(second.mail_numbers(&captures).await.unwrap().is_empty());
}

#[tokio::test]
async fn mail_that_cannot_be_stored_holds_up_no_other() {
    let database = Database::new().await;
    let (_, shared) = open(&database).await;
    let captures = ["c-1".to_owned()];
    let about = |subject: &str| MailRow { subject: subject.into(), ..mail("refused", 5) };
    // More than a page's third, however it is compressed.
    let long: String = (0..4_000).map(|_| char::from(rand::random_range(b'a'..=b'z'))).collect();
    // The last two are one, as they are stored.
    shared.post(&[about("first"), about(&long), about("\0"), about("\u{FFFD}")]).await.unwrap();
    let numbers = shared.mail_numbers(&captures).await.unwrap();
    let stored = shared.mail(&captures, &numbers).await.unwrap();
    let subjects: Vec<_> = stored.iter().map(|(_, row)| row.subject.as_str()).collect();
    assert_eq!(subjects, ["first", "\u{FFFD}"]);
}

#[tokio::test]
async fn commands_are_taken_once_and_only_who_leads_leaves_any() {
    let database = Database::new().await;
    let ((first, sending), (_, taking)) = (open(&database).await, open(&database).await);
    let fence = created(&first, &capture("c-1", 1)).await;
    let command = |session, text: &str| CommandRow { session, node: "node-a".into(), command: text.into() };
    let orders = [command(7, "arm"), command(7, "commit"), command(8, "arm")];
    sending.send(Some(&fence), &orders).await.unwrap();
    assert_eq!(taking.take_commands(&[7]).await.unwrap(), orders[..2]);
    assert!(taking.take_commands(&[7]).await.unwrap().is_empty());
    run(&mut database.sql().await, EXPIRE).await;
    taking.claim(&[]).await.unwrap();
    let refused = sending.send(Some(&fence), &[command(8, "end")]).await;
    assert!(matches!(refused, Err(StoreError::Fenced { .. })), "{refused:?}");
    assert_eq!(taking.take_commands(&[8]).await.unwrap(), orders[2..]);
}

/// One that is frozen in the middle of a COPY holds its locks for as long as it is frozen.
#[tokio::test]
async fn transactions_of_a_coordinator_that_is_gone_are_ended() {
    let database = Database::new().await;
    let (store, living) = open(&database).await;
    let (_, frozen) = open(&database).await;
    store.save_capture(&capture("c-1", 1)).await.unwrap();
    frozen.renew(&[]).await.unwrap();
    let named = format!("SET application_name = 'lastseen-coordinator {}'; ", frozen.id());
    let mut sql = database.sql().await;
    run(&mut sql, &(named + "BEGIN; SELECT 1 FROM captures FOR UPDATE")).await;
    assert_eq!(living.reap().await.unwrap(), 0, "it lives");
    assert!(living.claim(&[]).await.unwrap().is_empty(), "its row is held");
    run(&mut database.sql().await, "UPDATE coordinators SET alive_until = 0").await;
    assert_eq!(living.reap().await.unwrap(), 1);
    until("the claim", async || !living.claim(&[]).await.unwrap().is_empty()).await;
    assert!(sql.ping().await.is_err(), "its connection is gone");
}

#[tokio::test]
async fn what_is_told_late_of_a_node_that_was_heard_of_elsewhere_is_not_stored() {
    let database = Database::new().await;
    let ((first, _), (second, _)) = (open(&database).await, open(&database).await);
    let (mut old, mut new) = (node("node-a"), node("node-a"));
    (new.incarnation, new.last_seen_nanos) = (2, 9);
    first.save_node(&old).await.unwrap();
    second.save_node(&new).await.unwrap();
    old.last_seen_nanos = 8;
    first.save_node(&old).await.unwrap();
    assert_eq!(first.nodes().await.unwrap(), [new.clone()]);
    old.last_seen_nanos = 10;
    first.save_node(&old).await.unwrap();
    assert_eq!(first.nodes().await.unwrap(), [old]);
}
