//! What is on record, and what is not done without a record.

use crate::common;
use crate::common::agent::Agent;
use crate::common::{Fabric, job, running};
use lastseen_proto::v1;
use lastseen_proto::v1::audit_record::Outcome;
use lastseen_proto::v1::audit_service_client::AuditServiceClient;
use tonic::Code;
use tonic::codegen::http::Request;
use tower::ServiceExt as _;

/// Action, subject and outcome of what `name` did, oldest first; refusals are stored in their own time.
async fn deeds(fabric: &Fabric, name: &str, expected: usize) -> Vec<(String, String, Outcome)> {
    let (who, mut found) = (format!("/{name}"), Vec::new());
    common::until("every record", async || {
        let records = fabric.audit().await;
        let its = records.into_iter().rev().filter(|record| record.who.ends_with(&who));
        found = its.map(|r| (r.action.clone(), r.subject.clone(), r.outcome())).collect();
        found.len() >= expected
    })
    .await;
    found
}

#[tokio::test]
async fn every_job_and_every_download_is_on_record_with_who_and_from_where() {
    let (fabric, mut agent) = Fabric::with_one().await;
    let id = running(&fabric, &mut agent, 60_000).await;
    let mut eve = fabric.captures().await;
    let delete = v1::DeleteCaptureRequest { capture_id: id.clone() };
    assert_eq!(eve.delete_capture(delete).await.unwrap_err().code(), Code::FailedPrecondition);
    let missing = v1::DeleteCaptureRequest { capture_id: "c-nope\u{1b}[2J".into() };
    eve.delete_capture(missing).await.unwrap_err();
    let stop = v1::StopCaptureRequest { capture_id: id.clone() };
    eve.stop_capture(stop).await.unwrap();
    let deed = |action: &str, subject: &str, outcome| (action.to_owned(), subject.to_owned(), outcome);
    assert_eq!(
        deeds(&fabric, "eve", 7).await,
        [
            deed("start-capture", "", Outcome::Begun),
            deed("start-capture", &id, Outcome::Done),
            deed("delete-capture", &id, Outcome::Begun),
            deed("delete-capture", &id, Outcome::Failed),
            deed("delete-capture", "c-nope\u{1b}[2J", Outcome::Begun),
            deed("delete-capture", "c-nope\u{1b}[2J", Outcome::Failed),
            deed("stop-capture", &id, Outcome::Done),
        ]
    );
    let mut vic = fabric.analysis().await;
    let topology = v1::GetTopologyRequest { capture_id: id.clone() };
    for _ in 0..3 {
        vic.get_topology(topology.clone()).await.unwrap();
    }
    // There is no report yet; that it was asked for counts all the same.
    let diff = v1::DiffNodesRequest { capture_id: id.clone(), ..Default::default() };
    let _ = vic.diff_nodes(diff).await;
    assert_eq!(
        deeds(&fabric, "vic", 2).await,
        [deed("export-topology", &id, Outcome::Done), deed("diff-nodes", &id, Outcome::Done)]
    );
    let records = fabric.audit().await;
    let begun = records.iter().find(|record| record.outcome() == Outcome::Begun).unwrap();
    assert!(begun.peer.starts_with("127.0.0.1:") && begun.at.is_some(), "{begun:?}");
    let begun = records.iter().rev().find(|record| record.action == "start-capture").unwrap();
    assert_eq!(begun.detail, "filter=\"\" snap_length=192 duration=1m nodes=node-a");
    fabric.stop().await;
}

#[tokio::test]
async fn nothing_begins_and_nothing_is_given_away_unless_it_is_on_record() {
    let (fabric, mut agent) = Fabric::with_one().await;
    let id = running(&fabric, &mut agent, 60_000).await;
    let mut sql = fabric.sql().await;
    sql.break_on("INSERT", "audit").await;
    for dry_run in [false, true] {
        let mut request = job(&["node-a"], 1_000);
        request.dry_run = dry_run;
        let refused = fabric.captures().await.start_capture(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::Internal);
        let text = refused.message();
        assert!(text.contains("not done, because its audit record could not be stored: "), "{text}");
        assert!(text.ends_with("look at the coordinator's database and try again"), "{text}");
    }
    let topology = v1::GetTopologyRequest { capture_id: id.clone() };
    for _ in 0..2 {
        let refused = fabric.analysis().await.get_topology(topology.clone()).await.unwrap_err();
        assert!(refused.message().starts_with("export-topology: not done"), "{refused}");
    }
    // What runs can always be stopped.
    let stop = v1::StopCaptureRequest { capture_id: id.clone() };
    fabric.captures().await.stop_capture(stop).await.unwrap();
    let delete = v1::DeleteCaptureRequest { capture_id: id.clone() };
    let refused = fabric.captures().await.delete_capture(delete).await.unwrap_err();
    assert!(refused.message().starts_with("delete-capture: not done"), "{refused}");
    assert!(fabric.counter("lost_audit_records") >= 5);
    sql.mend("audit").await;
    assert_eq!(sql.number("SELECT COUNT(*) FROM captures").await, 1, "nothing else was begun");
    fabric.analysis().await.get_topology(topology).await.unwrap();
    fabric.stop().await;
}

#[tokio::test]
async fn refusals_are_on_record_once_however_often_they_are_tried() {
    let fabric = Fabric::start().await;
    let mut vic =
        v1::capture_service_client::CaptureServiceClient::new(fabric.channel("viewer", "vic").await);
    for _ in 0..20 {
        vic.start_capture(job(&["node-a"], 1_000)).await.unwrap_err();
    }
    assert_eq!(fabric.counter_for("refused_calls", "role"), 20);
    let found = deeds(&fabric, "vic", 1).await;
    assert_eq!(found, [("StartCapture".to_owned(), "role".to_owned(), Outcome::Refused)]);
    let channel = fabric.channel("viewer", "max").await;
    for number in 0..20 {
        let path = format!("/lastseen.v1.CaptureService/StartCapture{number}");
        let request = Request::post(path).body(tonic::body::Body::empty()).unwrap();
        channel.clone().oneshot(request).await.unwrap();
    }
    let found = deeds(&fabric, "max", 1).await;
    assert_eq!(found, [("unknown call".to_owned(), "role".to_owned(), Outcome::Refused)]);
    let records = fabric.audit().await;
    let refused = records.iter().rfind(|record| record.outcome() == Outcome::Refused).unwrap();
    assert!(refused.detail.contains("may not call StartCapture; it needs the role operator"), "{refused:?}");
    fabric.stop().await;
}

#[tokio::test]
async fn the_audit_is_read_in_pages_by_who_and_since() {
    let fabric = Fabric::start().await;
    for name in ["ann", "bob", "ann"] {
        let mut client =
            v1::capture_service_client::CaptureServiceClient::new(fabric.channel("operator", name).await);
        let id = v1::DeleteCaptureRequest { capture_id: "c-nope".into() };
        client.delete_capture(id).await.unwrap_err();
    }
    deeds(&fabric, "ann", 4).await;
    deeds(&fabric, "bob", 2).await;
    let mut client = AuditServiceClient::new(fabric.channel("operator", "eve").await);
    let mut list = async |request: v1::ListAuditRequest| {
        client.list_audit(request).await.map(tonic::Response::into_inner)
    };
    let (mut ids, mut token) = (Vec::new(), String::new());
    loop {
        let request =
            v1::ListAuditRequest { page_size: 3, page_token: token, who: "ann".into(), since: None };
        let page = list(request).await.unwrap();
        assert!(page.records.iter().all(|record| record.who == "spiffe://lastseen/operator/ann"));
        ids.extend(page.records.iter().map(|record| record.id));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(ids.len(), 4);
    assert!(ids.is_sorted_by(|a, b| a > b), "newest first, none twice: {ids:?}");
    let whole = v1::ListAuditRequest { who: "spiffe://lastseen/operator/bob".into(), ..Default::default() };
    assert_eq!(list(whole).await.unwrap().records.len(), 2);
    let later = Some(prost_types::Timestamp { seconds: 32_503_680_000, nanos: 0 });
    let later = v1::ListAuditRequest { since: later, who: "ann".into(), ..Default::default() };
    let later = list(later).await;
    assert!(later.is_err_and(|status| status.message().starts_with("since: ")), "beyond 64 bits");
    let next_century = Some(prost_types::Timestamp { seconds: 4_102_444_800, nanos: 0 });
    let next_century = v1::ListAuditRequest { since: next_century, who: "ann".into(), ..Default::default() };
    assert!(list(next_century).await.unwrap().records.is_empty());
    let bad = v1::ListAuditRequest { page_token: "x".into(), ..Default::default() };
    assert!(list(bad).await.unwrap_err().message().starts_with("page_token: \"x\" is not"));
    fabric.stop().await;
}

#[tokio::test]
async fn what_was_recorded_survives_and_is_complete_after_a_clean_stop() {
    let (fabric, agent) = Fabric::with_one().await;
    drop(agent);
    let delete = v1::DeleteCaptureRequest { capture_id: "c-nope".into() };
    fabric.captures().await.delete_capture(delete).await.unwrap_err();
    let (authority, data) = fabric.stop().await;
    let fabric = Fabric::start_on(authority, data).await;
    let records = fabric.audit().await;
    let kept: Vec<_> = records.iter().filter(|record| record.action == "delete-capture").collect();
    assert_eq!(kept.len(), 2, "{records:?}");
    let _ = Agent::connect(&fabric, "node-a", 2, &[]).await;
    fabric.stop().await;
}
