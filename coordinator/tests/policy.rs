//! The policy file: who may capture payload, and whose certificates are good no more. It is read while everything runs.

use std::path::{Path, PathBuf};

use crate::common::agent::{Agent, Publisher};
use crate::common::{Fabric, job, running, until};
use lastseen_proto::v1;
use lastseen_proto::v1::audit_record::Outcome;
use lastseen_proto::v1::capture_service_client::CaptureServiceClient;
use lastseen_proto::v1::coordinator_message::Kind as Told;
use lastseen_proto::v1::fleet_service_client::FleetServiceClient;
use lastseen_runtime::certificate::Facts;
use lastseen_runtime::client::connect;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tonic::{Code, Status};

struct Policy {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl Policy {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let policy = Self { path: folder.path().join("policy.toml"), _folder: folder };
        policy.write(text);
        policy
    }

    /// Whole, as an editor or a mounted volume replaces it.
    fn write(&self, text: &str) {
        let next = self.path.with_extension("next");
        std::fs::write(&next, text).unwrap();
        std::fs::rename(next, &self.path).unwrap();
    }
}

/// What asking for whole packets comes to, without starting anything.
async fn ask(fabric: &Fabric, name: &str, snap_length: u32) -> Result<(), Status> {
    let mut request = job(&["node-a"], 1_000);
    request.dry_run = true;
    request.spec.as_mut().unwrap().snap_length = Some(snap_length);
    let mut client = CaptureServiceClient::new(fabric.channel("operator", name).await);
    client.start_capture(request).await.map(drop)
}

/// An agent that says that it is armed whenever it is asked.
fn willing(mut agent: Agent) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        while let Ok(told) = agent.told().await {
            if let Told::ArmCapture(arm) = told {
                agent.status(&arm.capture_id, v1::CaptureState::Armed, "", 0).await;
            }
        }
    })
}

#[tokio::test]
async fn payload_takes_a_permission_and_a_policy_that_went_bad_leaves_the_one_before() {
    let policy = Policy::new("payload = ['spiffe://lastseen/operator/alice']");
    let fabric = Fabric::start_under(&policy.path).await;
    let agent = willing(Agent::connect(&fabric, "node-a", 1, &[]).await);
    ask(&fabric, "alice", 1_500).await.unwrap();
    ask(&fabric, "eve", 192).await.unwrap();
    let refused = ask(&fabric, "eve", 193).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let expected = format!(
        "snap_length: 193 bytes of a packet hold payload, and spiffe://lastseen/operator/eve may not capture that; give \
         192 at most, or have it added to `payload` in {}",
        policy.path.display()
    );
    assert_eq!(refused.message(), expected);
    assert_eq!(fabric.counter_for("refused_calls", "policy"), 1);
    let is_it = |record: &v1::AuditRecord| {
        record.action == "dry-run" && record.outcome() == Outcome::Refused && record.detail == expected
    };
    until("the refusal on record", async || fabric.audit().await.iter().any(is_it)).await;
    policy.write("payload = ['spiffe://lastseen/operator/eve'");
    until("word of the bad file", async || !notes(&fabric).await.is_empty()).await;
    let [note] = notes(&fabric).await.try_into().unwrap();
    let expected = format!("policy file {}: line 1: ", policy.path.display());
    assert!(
        note.starts_with(&expected) && note.contains("; the policy before it stays in force: "),
        "{note}"
    );
    assert_eq!(fabric.figure("policy_stale"), 1);
    ask(&fabric, "alice", 1_500).await.unwrap();
    ask(&fabric, "eve", 1_500).await.unwrap_err();
    policy.write("payload = ['spiffe://lastseen/operator/eve']");
    until("the new policy", async || ask(&fabric, "eve", 1_500).await.is_ok()).await;
    ask(&fabric, "alice", 1_500).await.unwrap_err();
    assert!(notes(&fabric).await.is_empty());
    assert_eq!(fabric.figure("policy_stale"), 0);
    agent.abort();
    fabric.stop().await;
}

#[tokio::test]
async fn without_a_policy_nobody_may_capture_payload() {
    let fabric = Fabric::start().await;
    let agent = willing(Agent::connect(&fabric, "node-a", 1, &[]).await);
    let refused = ask(&fabric, "eve", 65_535).await.unwrap_err();
    assert!(
        refused
            .message()
            .ends_with("or start the coordinator with a --policy file that lists it as `payload`")
    );
    ask(&fabric, "eve", 192).await.unwrap();
    agent.abort();
    fabric.stop().await;
}

async fn notes(fabric: &Fabric) -> Vec<String> {
    fabric.nodes().await.list_nodes(v1::ListNodesRequest {}).await.unwrap().into_inner().notes
}

/// Why a stream of acknowledgements ends.
async fn end(stream: &mut Publisher) -> Status {
    loop {
        match stream.acks.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it ends without a reason"),
            Err(status) => return status,
        }
    }
}

async fn farewell(agent: &mut Agent) -> Status {
    loop {
        if let Err(status) = agent.told().await {
            return status;
        }
    }
}

#[tokio::test]
async fn a_denied_name_is_cut_off_in_the_middle_of_its_streams_and_stays_out() {
    let policy = Policy::new("");
    let fabric = Fabric::start_under(&policy.path).await;
    let mut bad = Agent::connect(&fabric, "node-bad", 1, &[]).await;
    let mut good = Agent::connect(&fabric, "node-good", 2, &[]).await;
    let (bads, goods) = (running(&fabric, &mut bad, 60_000).await, running(&fabric, &mut good, 60_000).await);
    let (mut bad_stream, mut good_stream) = (bad.publish().await, good.publish().await);
    assert_eq!(bad_stream.send(vec![bad.batch(&bads, 0)]).await.0, [0]);
    let mallory = fabric.authority.identity("operator", "mallory");
    let mut watcher = FleetServiceClient::new(connect(&fabric.address.to_string(), &mallory).await.unwrap());
    let mut watching = watcher.watch_nodes(v1::WatchNodesRequest {}).await.unwrap().into_inner();
    policy.write("deny-names = ['spiffe://lastseen/agent/node-bad', 'spiffe://lastseen/operator/mallory']");
    let reason =
        "spiffe://lastseen/agent/node-bad is on the coordinator's deny list; ask who runs the coordinator";
    for status in [farewell(&mut bad).await, end(&mut bad_stream).await] {
        assert_eq!((status.code(), status.message()), (Code::PermissionDenied, reason));
    }
    let watched = loop {
        match watching.message().await {
            Ok(Some(_)) => {}
            ended => break ended.unwrap_err(),
        }
    };
    assert_eq!(watched.code(), Code::PermissionDenied);
    // The connections that it had are closed, and new ones do not come about, with a session to resume or without.
    until("the end of its connections", async || fabric.counter_for("closed_connections", "denied") >= 2)
        .await;
    for _ in 0..2 {
        let refused = connect(&fabric.address.to_string(), &mallory).await.unwrap_err().to_string();
        assert!(refused.contains("it is on the coordinator's deny list"), "{refused}");
    }
    until("both refusals", async || fabric.counter_for("refused_handshakes", "denied") == 2).await;
    assert_eq!(good_stream.send(vec![good.batch(&goods, 0)]).await.0, [0], "the others notice nothing");
    let is_cut =
        |record: &v1::AuditRecord| record.action == "cut-off" && record.subject.ends_with("/node-bad");
    until("the cut on record", async || fabric.audit().await.iter().any(is_cut)).await;
    let listed = fabric.nodes().await.list_nodes(v1::ListNodesRequest {}).await.unwrap().into_inner();
    let expected = "its agent is denied; take spiffe://lastseen/agent/node-bad off `deny-names` in the policy file to let \
                    it in";
    assert_eq!([&*listed.nodes[0].notes, &*listed.nodes[1].notes], [&[expected.to_owned()][..], &[]]);
    policy.write("");
    until("a way back", async || connect(&fabric.address.to_string(), &mallory).await.is_ok()).await;
    fabric.stop().await;
}

fn serial(dir: &Path) -> String {
    let certificate = CertificateDer::from_pem_file(dir.join("tls.crt")).unwrap();
    Facts::read(&certificate).unwrap().serial.to_string()
}

#[tokio::test]
async fn a_denied_serial_keeps_out_one_certificate_and_not_its_successor() {
    let policy = Policy::new("");
    let fabric = Fabric::start_under(&policy.path).await;
    let uri = "spiffe://lastseen/viewer/vic";
    let stolen = fabric.authority.issue(uri);
    let address = fabric.address.to_string();
    let mut client = FleetServiceClient::new(connect(&address, &stolen).await.unwrap());
    let mut watching = client.watch_nodes(v1::WatchNodesRequest {}).await.unwrap().into_inner();
    let denied = serial(stolen.dir());
    policy.write(&format!("deny-serials = ['{}']", denied.to_lowercase()));
    let ended = watching.message().await.unwrap_err();
    assert!(ended.message().contains(&format!("by serial {denied}; issue a new one")), "{ended}");
    assert!(connect(&address, &stolen).await.is_err());
    let next = fabric.authority.issue(uri);
    let mut client = FleetServiceClient::new(connect(&address, &next).await.unwrap());
    client.list_nodes(v1::ListNodesRequest {}).await.unwrap();
    fabric.stop().await;
}
