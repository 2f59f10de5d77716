//! Who may call what, and what is refused before anything starts.

mod common;

use std::sync::Arc;

use common::agent::{Agent, Publisher};
use common::{Fabric, job};
use hyper_util::rt::TokioIo;
use lastseen_coordinator::access::{TABLE, is_allowed};
use lastseen_proto::v1;
use lastseen_proto::v1::agent_service_client::AgentServiceClient;
use lastseen_proto::v1::fleet_service_client::FleetServiceClient;
use lastseen_runtime::client::connect;
use lastseen_runtime::identity::Role;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Request, Status};

/// Calls any method with an empty message and says how it ended.
async fn call(fabric: &Fabric, uri: &str, path: &str) -> Result<(), Status> {
    let pki = fabric.authority.issue(uri);
    let channel = connect(&fabric.address.to_string(), &pki).await.unwrap();
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<v1::ListNodesRequest, v1::ListNodesResponse>::default();
    let path = PathAndQuery::try_from(path.to_owned()).unwrap();
    grpc.server_streaming(Request::new(v1::ListNodesRequest {}), path, codec).await.map(drop)
}

#[tokio::test]
async fn every_method_is_refused_to_every_role_that_the_table_does_not_name() {
    let fabric = Fabric::start().await;
    let roles = [
        (Role::Agent, "spiffe://lastseen/agent/node-a"),
        (Role::Operator, "spiffe://lastseen/operator/eve"),
        (Role::Viewer, "spiffe://lastseen/viewer/vic"),
        (Role::Coordinator, "spiffe://lastseen/coordinator"),
    ];
    let methods = TABLE.iter().filter(|(path, _)| !path.ends_with('/'));
    for (path, allowed) in methods {
        for (role, uri) in roles {
            let denied = call(&fabric, uri, path).await.is_err_and(|s| s.code() == Code::PermissionDenied);
            assert_eq!(denied, !allowed.contains(&role), "{role:?} {path}");
        }
    }
    for (role, uri) in roles {
        let unknown = call(&fabric, uri, "/lastseen.v1.CaptureService/Undo").await.unwrap_err();
        assert_eq!(unknown.code(), Code::PermissionDenied, "{role:?}");
    }
    assert!(!is_allowed(Role::Coordinator, "/grpc.health.v1.Health/Check"));
    assert!(is_allowed(Role::Agent, "/grpc.health.v1.Health/Check"));
    fabric.stop().await;
}

#[tokio::test]
async fn the_table_names_every_method_of_the_services() {
    let descriptors: prost_types::FileDescriptorSet =
        prost::Message::decode(lastseen_proto::FILE_DESCRIPTOR_SET).unwrap();
    let mut methods = Vec::new();
    for file in descriptors.file.iter().filter(|file| file.package() == "lastseen.v1") {
        for service in &file.service {
            methods.extend(
                service.method.iter().map(|m| format!("/lastseen.v1.{}/{}", service.name(), m.name())),
            );
        }
    }
    assert_eq!(methods.len(), 15);
    for method in &methods {
        assert!(TABLE.iter().any(|(path, _)| path == method), "{method}");
    }
}

#[tokio::test]
async fn another_trust_domain_of_the_same_authority_is_refused() {
    let fabric = Fabric::start().await;
    // The client finds out first: the coordinator's certificate is foreign to it just the same.
    let stranger = fabric.authority.issue("spiffe://elsewhere/operator/eve");
    let error = connect(&fabric.address.to_string(), &stranger).await.unwrap_err().to_string();
    assert!(error.contains("spiffe://lastseen/coordinator, not to spiffe://elsewhere"), "{error}");
    fabric.stop().await;
}

/// As `runtime::client` connects, but without its judgement of the server.
async fn connect_regardless(fabric: &Fabric, uri: &str) -> Channel {
    let dir = fabric.authority.issue(uri).dir().to_owned();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(dir.join("ca.crt")).unwrap()).unwrap();
    let chain = vec![CertificateDer::from_pem_file(dir.join("tls.crt")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(dir.join("tls.key")).unwrap();
    let config = ClientConfig::builder().with_root_certificates(roots);
    let mut config = config.with_client_auth_cert(chain, key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let (tls, address) = (TlsConnector::from(Arc::new(config)), fabric.address);
    let connector = tower::service_fn(move |_: Uri| {
        let tls = tls.clone();
        async move {
            let socket = TcpStream::connect(address).await?;
            tls.connect(address.ip().into(), socket).await.map(TokioIo::new)
        }
    });
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    endpoint.connect_with_connector(connector).await.unwrap()
}

#[tokio::test]
async fn the_coordinator_refuses_another_trust_domain_by_itself() {
    let fabric = Fabric::start().await;
    for (uri, expected) in [
        ("spiffe://elsewhere/operator/eve", Some("is not of trust domain \"lastseen\"")),
        ("spiffe://lastseen/operator/eve", None),
    ] {
        let mut nodes = FleetServiceClient::new(connect_regardless(&fabric, uri).await);
        let refused = nodes.list_nodes(v1::ListNodesRequest {}).await.err();
        assert_eq!(refused.as_ref().map(Status::code), expected.map(|_| Code::Unauthenticated), "{uri}");
        let text = refused.as_ref().map_or("", Status::message);
        assert!(text.contains(expected.unwrap_or_default()), "{text}");
    }
    fabric.stop().await;
}

#[tokio::test]
async fn an_agent_speaks_only_for_its_own_node_and_protocol() {
    let fabric = Fabric::start().await;
    let shown = |version: u32| format!("{}.{}", version / 1_000, version % 1_000);
    let ours = lastseen_proto::PROTOCOL_VERSION;
    let mut imposter = Agent::register(&fabric, "node-a", "node-b", 1, &[], ours).await;
    let status = imposter.told().await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(status.message().contains("node-b") && status.message().contains("node-a"), "{status}");
    for version in [ours - 1_000, ours + 1_007] {
        let mut other = Agent::register(&fabric, "node-a", "node-a", 1, &[], version).await;
        let status = other.told().await.unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition);
        let expected = format!("speaks {}, the coordinator (0.1.0) {}", shown(version), shown(ours));
        assert!(status.message().contains(&expected), "{status}");
    }
    assert!(
        fabric.nodes().await.list_nodes(v1::ListNodesRequest {}).await.unwrap().into_inner().nodes.is_empty()
    );
    fabric.stop().await;
}

#[tokio::test]
async fn an_agent_cannot_publish_for_a_capture_of_other_nodes() {
    let fabric = Fabric::start().await;
    let mut a = Agent::connect(&fabric, "node-a", 1, &[]).await;
    let mut client = fabric.captures().await;
    let starting = tokio::spawn(async move { client.start_capture(job(&["node-a"], 5_000)).await });
    let id = a.arm().await.capture_id;
    a.status(&id, v1::CaptureState::Armed, "", 0).await;
    starting.await.unwrap().unwrap();
    let mut b = AgentServiceClient::new(fabric.channel("agent", "node-b").await);
    let (batches, stream) = tokio::sync::mpsc::channel(8);
    let stream = tokio_stream::wrappers::ReceiverStream::new(stream);
    let acks = b.publish_observations(stream).await.unwrap().into_inner();
    let (_, refused) = Publisher { batches, acks }.send(vec![a.batch(&id, 0)]).await;
    assert!(refused[0].1.contains("node-b is not part of"), "{refused:?}");
    fabric.stop().await;
}

type Change = Box<dyn Fn(&mut v1::CaptureSpec)>;

/// What a start with a changed job answers.
async fn refusal(fabric: &Fabric, change: impl Fn(&mut v1::CaptureSpec)) -> (Code, String) {
    let mut request = job(&["node-a"], 1_000);
    request.dry_run = true;
    change(request.spec.as_mut().unwrap());
    let status = fabric.captures().await.start_capture(request).await.unwrap_err();
    (status.code(), status.message().to_owned())
}

#[tokio::test]
async fn bad_jobs_are_refused_with_field_value_and_next_step() {
    let fabric = Fabric::start().await;
    let _a = Agent::connect(&fabric, "node-a", 1, &[]).await;
    drop(Agent::connect(&fabric, "node-b", 1, &[]).await);
    let span = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let past = Some(prost_types::Timestamp { seconds: 1_000_000_000, nanos: 0 });
    let cases: [(&str, Change); 10] = [
        ("duration: 0s is below 100ms; give 100ms to 1h", Box::new(move |s| s.duration = span(0))),
        ("duration: 1h 1s is above the limit of 1h", Box::new(move |s| s.duration = span(3_601))),
        ("duration: ", Box::new(move |s| s.duration = span(i64::MAX))),
        ("start_at: 2001-09-09T01:46:40.000Z is in the past", Box::new(move |s| s.start_at = past)),
        (
            "nodes: no node named \"node-x\"; known: node-a, node-b",
            Box::new(|s| s.nodes = vec!["node-x".into()]),
        ),
        ("nodes: given together with all_nodes", Box::new(|s| s.all_nodes = true)),
        ("nodes: none given", Box::new(|s| s.nodes.clear())),
        ("snap_length: 63 is not from 64 to 65535", Box::new(|s| s.snap_length = Some(63))),
        ("max_packets: 0 captures nothing", Box::new(|s| s.max_packets = Some(0))),
        ("interfaces: \"any\" sees one packet many times", Box::new(|s| s.interfaces = vec!["any".into()])),
    ];
    for (expected, change) in cases {
        let (code, message) = refusal(&fabric, change).await;
        assert_eq!(code, Code::InvalidArgument, "{message}");
        assert!(message.starts_with(expected), "{message} does not start with {expected}");
    }
    let offline = async || refusal(&fabric, |s| s.nodes = vec!["node-b".into()]).await;
    // The stream of node-b was dropped; the coordinator notices in its own time.
    let mut stream = fabric.nodes().await.watch_nodes(v1::WatchNodesRequest {}).await.unwrap().into_inner();
    loop {
        let node = stream.message().await.unwrap().unwrap().node.unwrap();
        if node.name == "node-b" && node.state() == v1::NodeState::Offline {
            break;
        }
    }
    let (code, message) = offline().await;
    assert_eq!(code, Code::FailedPrecondition);
    assert!(message.starts_with("nodes: node-b is offline since 20"), "{message}");
    let none = fabric.analysis().await.diff_nodes(v1::DiffNodesRequest::default()).await.unwrap_err();
    assert!(none.message().contains("there is no capture yet"));
    let unknown = v1::GetCaptureRequest { capture_id: "c-nope".into() };
    let unknown = fabric.captures().await.get_capture(unknown).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    fabric.stop().await;
}

#[tokio::test]
async fn agents_that_share_a_certificate_hear_of_each_other_and_the_node_shows_it() {
    let fabric = Fabric::start().await;
    let mut last = Agent::connect(&fabric, "node-a", 1, &[]).await;
    for incarnation in [2, 1, 2, 1] {
        let mut old = std::mem::replace(&mut last, Agent::connect(&fabric, "node-a", incarnation, &[]).await);
        let status = loop {
            match old.told().await {
                Ok(_) => {}
                Err(status) => break status,
            }
        };
        assert_eq!(status.code(), Code::Aborted);
        let text = status.message();
        assert!(text.starts_with("node node-a connected again from 127.0.0.1:"), "{text}");
        assert!(text.ends_with("one certificate serves one agent, so give each agent its own"), "{text}");
    }
    let request = v1::GetNodeRequest { name: "node-a".into() };
    let node = fabric.nodes().await.get_node(request).await.unwrap().into_inner().node.unwrap();
    assert!(node.notes[0].contains("another agent connected with this certificate"), "{:?}", node.notes);
    fabric.stop().await;
}
