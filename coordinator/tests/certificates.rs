//! Certificates come to their end and are replaced while everything runs.

use crate::common;
use crate::common::agent::Agent;
use crate::common::pki::Authority;
use crate::common::{Fabric, running};
use lastseen_proto::v1;
use lastseen_proto::v1::agent_service_client::AgentServiceClient;
use lastseen_proto::v1::capture_service_client::CaptureServiceClient;
use lastseen_runtime::client::connect;
use lastseen_runtime::tls::Pki;
use time::OffsetDateTime;

#[tokio::test]
async fn certificates_are_replaced_under_open_streams() {
    let fabric = Fabric::start().await;
    let old = &fabric.authority;
    let (server, client) = (fabric.pki_dir.clone(), old.identity("agent", "node-a").dir().to_owned());
    let agents = Pki::open(&client).unwrap();
    let address = fabric.address.to_string();
    let mut agent = Agent::connect_on(&fabric, "node-a", connect(&address, &agents).await.unwrap()).await;
    let id = running(&fabric, &mut agent, 60_000).await;
    let mut stream = agent.publish().await;
    assert_eq!(stream.send(vec![agent.batch(&id, 0)]).await.0, [0]);
    // Both ends trust both authorities; then each has a certificate of the new one.
    let new = Authority::new();
    for dir in [&server, &client] {
        std::fs::write(dir.join("ca.crt"), format!("{}{}", old.pem(), new.pem())).unwrap();
    }
    let mut seen = Vec::new();
    for (step, dir, uri) in
        [(1, &server, "spiffe://lastseen/coordinator"), (2, &client, "spiffe://lastseen/agent/node-a")]
    {
        new.renew(dir, uri, |_| ());
        // A new connection with what is there now, beside the streams that were open before.
        let mut channel = AgentServiceClient::new(connect(&address, &agents).await.unwrap());
        let publishing = channel.publish_observations(tokio_stream::pending()).await.unwrap();
        seen.push(publishing);
        assert_eq!(stream.send(vec![agent.batch(&id, step)]).await.0, [step]);
    }
    // At last the old authority goes: who still shows its certificate stays out, and who is in stays in.
    let late = old.identity("viewer", "late");
    std::fs::write(late.dir().join("ca.crt"), format!("{}{}", old.pem(), new.pem())).unwrap();
    connect(&address, &late).await.unwrap();
    std::fs::write(server.join("ca.crt"), new.pem()).unwrap();
    let refused = connect(&address, &late).await.unwrap_err().to_string();
    assert!(refused.contains("it refused our certificate: signed by another authority"), "{refused}");
    connect(&address, &agents).await.unwrap();
    assert_eq!(stream.send(vec![agent.batch(&id, 3)]).await.0, [3]);
    let eve = connect(&address, &new.identity("operator", "eve")).await.unwrap();
    CaptureServiceClient::new(eve)
        .stop_capture(v1::StopCaptureRequest { capture_id: id.clone() })
        .await
        .unwrap();
    assert_eq!(agent.end().await.capture_id, id, "the control stream is the first one still");
    fabric.stop().await;
}

#[tokio::test]
async fn the_end_of_a_certificate_is_told_two_weeks_ahead() {
    let (fabric, _far) = Fabric::with_one().await;
    let in_days = |days: i64| OffsetDateTime::now_utc() + time::Duration::days(days);
    let soon = fabric.authority.issue_until("spiffe://lastseen/agent/node-soon", in_days(10));
    let channel = connect(&fabric.address.to_string(), &soon).await.unwrap();
    let agent = Agent::connect_on(&fabric, "node-soon", channel).await;
    let list = async || fabric.nodes().await.list_nodes(v1::ListNodesRequest {}).await.unwrap().into_inner();
    let listed = list().await;
    let [far, near] = &listed.nodes[..] else { panic!("{listed:?}") };
    assert!(far.notes.is_empty() && far.certificate_not_after.is_some(), "{far:?}");
    let end = near.certificate_not_after.unwrap().seconds;
    assert_eq!(end, in_days(10).unix_timestamp().min(end), "{near:?}");
    let expected = "its certificate expires in 9 days; issue a new one into its --pki-dir with `ctl pki issue CA agent \
                    node-soon --out DIR`";
    assert_eq!(near.notes, [expected]);
    let figure = |role: &str, name: &str| {
        fabric.shown(&format!("lastseen_certificate_not_after_seconds{{role=\"{role}\",name=\"{name}\"}}"))
    };
    assert_eq!(figure("agent", "node-soon"), Some(end.to_string()));
    assert!(figure("agent", "node-a").is_some() && figure("operator", "eve").is_none());
    // The coordinator's own, as it is on disk now.
    assert!(listed.notes.is_empty());
    let not_after = in_days(3);
    let own = "spiffe://lastseen/coordinator";
    fabric.authority.renew(&fabric.pki_dir, own, |params| params.not_after = not_after);
    assert_eq!(figure("coordinator", ""), Some(not_after.unix_timestamp().to_string()));
    let notes = list().await.notes;
    assert!(
        notes[0].starts_with("the coordinator's certificate expires in 2 days; issue a new one"),
        "{notes:?}"
    );
    // It has a new one; the stream is the old one still.
    let renewed = in_days(90).replace_nanosecond(0).unwrap();
    agent.beat(renewed.into()).await;
    let is_told = async || figure("agent", "node-soon") == Some(renewed.unix_timestamp().to_string());
    common::until("the new end", is_told).await;
    assert!(list().await.nodes[1].notes.is_empty());
    drop(agent);
    let is_gone = async || figure("agent", "node-soon").is_none();
    common::until("the end of its connection", is_gone).await;
    assert_eq!(list().await.nodes[1].certificate_not_after, None);
    fabric.stop().await;
}
