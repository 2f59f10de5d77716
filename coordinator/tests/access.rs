//! Who may call what, and what is refused before anything starts.

use crate::common;
use std::sync::Arc;

use crate::common::agent::Agent;
use crate::common::{Fabric, job};
use hyper_util::rt::TokioIo;
use lastseen_coordinator::access::{TABLE, is_allowed};
use lastseen_proto::v1;
use lastseen_proto::v1::audit_record;
use lastseen_proto::v1::fleet_service_client::FleetServiceClient;
use lastseen_runtime::client::{connect, explain, explain_status};
use lastseen_runtime::identity::Role;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, SanType};
use tokio::io::AsyncBufReadExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Endpoint, Uri};
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

/// Every method that the coordinator serves, from the descriptors of its services.
fn methods() -> Vec<String> {
    let sets = [
        lastseen_proto::FILE_DESCRIPTOR_SET,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
    ];
    let mut methods = Vec::new();
    for set in sets {
        let set: prost_types::FileDescriptorSet = prost::Message::decode(set).unwrap();
        for file in &set.file {
            for service in &file.service {
                let path = |m: &prost_types::MethodDescriptorProto| {
                    format!("/{}.{}/{}", file.package(), service.name(), m.name())
                };
                methods.extend(service.method.iter().map(path));
            }
        }
    }
    methods
}

const ROLES: [(Role, &str); 4] = [
    (Role::Agent, "spiffe://lastseen/agent/node-a"),
    (Role::Operator, "spiffe://lastseen/operator/eve"),
    (Role::Viewer, "spiffe://lastseen/viewer/vic"),
    (Role::Coordinator, "spiffe://lastseen/coordinator"),
];

/// Each method that the services have, called in each role; and what that comes to as the document says it. A method
/// without a line in the table is denied to everybody, which the document shows.
#[tokio::test]
async fn every_method_is_allowed_to_whom_the_document_says_and_denied_to_the_others() {
    let fabric = Fabric::start().await;
    let mut table = String::new();
    for path in methods() {
        assert!(is_in_table(&path), "{path} has no line in the table");
        table.extend(["| `", path.trim_start_matches('/'), "` |"]);
        for (role, uri) in ROLES {
            let answer = call(&fabric, uri, &path).await;
            let is_denied = answer
                .is_err_and(|s| s.code() == Code::PermissionDenied && s.message().contains(" may not call "));
            assert_eq!(is_denied, !is_allowed(role, &path), "{role:?} {path}");
            table += if is_denied { " – |" } else { " allow |" };
        }
        table += "\n";
    }
    for (role, uri) in ROLES {
        let unknown = call(&fabric, uri, "/lastseen.v1.CaptureService/Undo").await.unwrap_err();
        assert_eq!(unknown.code(), Code::PermissionDenied, "{role:?}");
    }
    let stale = |(entry, _): &&(&str, _)| !methods().iter().any(|path| path.starts_with(entry));
    assert_eq!(TABLE.iter().find(stale).map(|(entry, _)| entry), None, "a line without a method");
    println!("{table}");
    check_document(&table);
    fabric.stop().await;
}

fn is_in_table(path: &str) -> bool {
    TABLE.iter().any(|(entry, _)| if entry.ends_with('/') { path.starts_with(entry) } else { path == *entry })
}

/// Compares with `docs/ACCESS.md`; `UPDATE_DOCS=1` writes it.
fn check_document(table: &str) {
    let certificates: String =
        CERTIFICATES.iter().flat_map(|(what, says, _, _)| ["| ", what, " | ", says, " |\n"]).collect();
    let text = format!(
        "# Who may call what\n\n\
         Written by a test that makes every call in every role against a running coordinator; `UPDATE_DOCS=1 cargo test\n\
         --workspace --test fabric access` writes it anew. The role is in the certificate's only SAN URI,\n\
         `spiffe://<trust-domain>/<role>/<name>`.\n\n\
         | call | agent | operator | viewer | coordinator |\n|---|---|---|---|---|\n{table}\n\
         An agent speaks for the node of its certificate and no other: no message but `Register` names a node, and that\n\
         name must be the certificate's. Capturing more of a packet than {} bytes takes an entry under `payload` in the\n\
         policy file besides the role.\n\n\
         # Which certificates are refused\n\n\
         | certificate | what its owner hears |\n|---|---|\n{certificates}",
        lastseen_proto::limits::DEFAULT_SNAP_LENGTH
    );
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/ACCESS.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, text, "{} is stale: run with UPDATE_DOCS=1 and look at the change", path.display());
}

/// What makes a good certificate a bad one, and where to look for the count of it.
type Spoil = fn(&mut CertificateParams);
const CERTIFICATES: [(&str, &str, (&str, &str), Spoil); 8] = [
    (
        "ended",
        "it refused our certificate: expired, or not valid yet; issue a new one with `ctl pki issue`",
        ("refused_handshakes", "expired"),
        |params| params.not_after = rcgen::date_time_ymd(2020, 1, 1),
    ),
    (
        "begins later",
        "it refused our certificate: expired, or not valid yet; issue a new one with `ctl pki issue`",
        ("refused_handshakes", "not_valid_yet"),
        |params| params.not_before = rcgen::date_time_ymd(4000, 1, 1),
    ),
    (
        "made for a server only",
        "it refused our certificate: not made for a client; issue one with `ctl pki issue`",
        ("refused_handshakes", "not_a_client"),
        |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth],
    ),
    (
        "does not say what it is made for",
        "it refused our certificate: not made for a client; issue one with `ctl pki issue`",
        ("refused_handshakes", "not_a_client"),
        |params| params.extended_key_usages.clear(),
    ),
    (
        "without a SAN URI",
        "client certificate: 0 SAN URIs where exactly one is needed; issue it with `ctl pki issue`",
        ("refused_calls", "identity"),
        |params| drop(params.subject_alt_names.remove(0)),
    ),
    (
        "with two SAN URIs",
        "client certificate: 2 SAN URIs where exactly one is needed; issue it with `ctl pki issue`",
        ("refused_calls", "identity"),
        |params| {
            params.subject_alt_names.push(SanType::URI("spiffe://lastseen/viewer/vic".try_into().unwrap()));
        },
    ),
    (
        "of an unknown role",
        "client certificate: SAN URI \"spiffe://lastseen/root/eve\" is not \
         spiffe://<trust-domain>/agent|operator|viewer/<name> or …/coordinator",
        ("refused_calls", "identity"),
        |params| params.subject_alt_names[0] = SanType::URI("spiffe://lastseen/root/eve".try_into().unwrap()),
    ),
    (
        "of another trust domain",
        "spiffe://elsewhere/operator/eve is not of trust domain \"lastseen\"; use a certificate of this fabric",
        ("refused_calls", "identity"),
        |params| {
            params.subject_alt_names[0] = SanType::URI("spiffe://elsewhere/operator/eve".try_into().unwrap());
        },
    ),
];

const EVE: &str = "spiffe://lastseen/operator/eve";

#[tokio::test]
async fn a_certificate_that_is_not_as_it_should_be_is_refused_and_told_why() {
    let fabric = Fabric::start().await;
    for (what, says, (name, reason), spoil) in CERTIFICATES {
        let before = fabric.counter_for(name, reason);
        let dir = fabric.authority.write(EVE, spoil);
        assert_eq!(attempt(&fabric, &dir, true).await.unwrap_err(), says, "{what}");
        // It is counted after it was told.
        common::until(what, async || fabric.counter_for(name, reason) == before + 1).await;
    }
    let good = fabric.authority.write(EVE, |_| ());
    assert_eq!(attempt(&fabric, &good, true).await, Ok(()));
    let none = attempt(&fabric, &good, false).await.unwrap_err();
    assert_eq!(none, "it refused our certificate: missing; set --pki-dir");
    let other = common::pki::Authority::new();
    let stranger = other.write(EVE, |_| ());
    std::fs::copy(good.join("ca.crt"), stranger.join("ca.crt")).unwrap();
    let refused = attempt(&fabric, &stranger, true).await.unwrap_err();
    assert_eq!(
        refused,
        "it refused our certificate: signed by another authority; issue one with the fabric's CA"
    );
    let audit = fabric.audit().await;
    let is_foreign = |record: &&v1::AuditRecord| record.who == "spiffe://elsewhere/operator/eve";
    let foreign = audit.iter().find(is_foreign).expect("refusals are on record");
    assert_eq!((foreign.action.as_str(), foreign.outcome()), ("ListNodes", audit_record::Outcome::Refused));
    fabric.stop().await;
}

/// Asks for the nodes with the certificate in `dir`, if it is shown, as `runtime::client` does but without its judgement
/// of the server and of our own certificate. The error is what a person would read.
async fn attempt(fabric: &Fabric, dir: &std::path::Path, is_shown: bool) -> Result<(), String> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(dir.join("ca.crt")).unwrap()).unwrap();
    let config = ClientConfig::builder().with_root_certificates(roots);
    let mut config = if is_shown {
        let chain = vec![CertificateDer::from_pem_file(dir.join("tls.crt")).unwrap()];
        config
            .with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(dir.join("tls.key")).unwrap())
            .unwrap()
    } else {
        config.with_no_client_auth()
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let (tls, address) = (TlsConnector::from(Arc::new(config)), fabric.address);
    let connector = tower::service_fn(move |_: Uri| {
        let tls = tls.clone();
        async move {
            let socket = TcpStream::connect(address).await?;
            let mut stream = tls.connect(address.ip().into(), socket).await?;
            // The server's verdict comes with its first bytes.
            if stream.fill_buf().await?.is_empty() {
                return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof));
            }
            Ok(TokioIo::new(stream))
        }
    });
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let channel = endpoint.connect_with_connector(connector).await.map_err(|error| explain(&error))?;
    let answer = FleetServiceClient::new(channel).list_nodes(v1::ListNodesRequest {}).await;
    answer.map(drop).map_err(|status| explain_status(&status))
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

/// Names of text fields, in all that an agent may send, that could name a node.
fn node_fields() -> Vec<String> {
    let set: prost_types::FileDescriptorSet =
        prost::Message::decode(lastseen_proto::FILE_DESCRIPTOR_SET).unwrap();
    let messages: std::collections::BTreeMap<String, &prost_types::DescriptorProto> = set
        .file
        .iter()
        .flat_map(|file| {
            file.message_type.iter().map(move |m| (format!(".{}.{}", file.package(), m.name()), m))
        })
        .collect();
    let mut open = vec![".lastseen.v1.AgentMessage".to_owned(), ".lastseen.v1.ObservationBatch".to_owned()];
    let (mut seen, mut found) = (std::collections::BTreeSet::new(), Vec::new());
    while let Some(name) = open.pop() {
        let Some(message) = messages.get(&name).filter(|_| seen.insert(name.clone())) else { continue };
        for field in &message.field {
            open.extend(field.type_name.clone());
            let is_text = field.r#type() == prost_types::field_descriptor_proto::Type::String;
            if is_text && field.name().contains("node") {
                found.push(format!("{}.{}", message.name(), field.name()));
            }
        }
    }
    assert!(seen.len() > 15, "{seen:?}");
    found
}

#[test]
fn only_the_introduction_of_an_agent_names_a_node() {
    assert_eq!(node_fields(), ["Register.node_name"], "whoever adds one checks it against the certificate");
}

#[tokio::test]
async fn what_an_agent_says_of_a_capture_of_other_nodes_counts_for_nothing_and_its_stream_stays() {
    let (fabric, [mut a, mut b]) = Fabric::with_two().await;
    let foreign = common::running(&fabric, &mut a, 60_000).await;
    let own = common::running(&fabric, &mut b, 60_000).await;
    let before = fabric.get(&foreign).await;
    // A status, with translations where the state has them; then it is told to forget what it has no part in.
    b.translated(&foreign).await;
    b.status(&foreign, v1::CaptureState::Failed, "not mine", 0).await;
    b.status(&foreign, v1::CaptureState::Running, "", 7).await;
    assert_eq!(b.end().await.capture_id, foreign);
    // A topology is kept with the node that the certificate names, whoever sends it.
    b.network("eth77").await;
    let node = async |name: &str| {
        let request = v1::GetNodeRequest { name: name.into() };
        let node = fabric.nodes().await.get_node(request).await.unwrap().into_inner().node.unwrap();
        node.topology.unwrap().interfaces.iter().any(|interface| interface.name == "eth77")
    };
    common::until("the topology of node-b", async || node("node-b").await).await;
    assert!(!node("node-a").await);
    // A batch is refused by its key and the next one on the same stream is stored.
    let mut stream = b.publish().await;
    let (committed, refused) = stream.send(vec![a.batch(&foreign, 0), b.batch(&own, 0)]).await;
    assert_eq!(committed, [0]);
    assert!(refused[0].1.contains("node-b is not part of"), "{refused:?}");
    assert_eq!(stream.send(vec![b.batch(&own, 1)]).await.0, [1]);
    // What it says that an earlier process of its own left.
    drop(b);
    let _b = Agent::anew(&fabric, "node-b", 9, &foreign, 5).await;
    fabric.ready(&["node-b"]).await;
    let after = fabric.get(&foreign).await;
    assert_eq!(after.nodes.len(), 1);
    assert_eq!(
        (&after.nodes[0].reason, after.nodes[0].state),
        (&before.nodes[0].reason, before.nodes[0].state)
    );
    let translations = "SELECT COUNT(*) FROM capture_nodes WHERE translations IS NOT NULL";
    assert_eq!(fabric.sql().await.number(translations).await, 0);
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
