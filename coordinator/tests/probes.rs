//! Probes between operators, the coordinator and agents that follow the protocol, or do not.

use crate::common::agent::Agent;
use crate::common::cluster::Cluster;
use crate::common::{Fabric, PATIENCE, until};
use lastseen_coordinator::limits;
use lastseen_proto::v1;
use lastseen_proto::v1::agent_message::Kind;
use lastseen_proto::v1::coordinator_message::Kind as Told;
use lastseen_proto::v1::probe_service_client::ProbeServiceClient;
use tokio_stream::StreamExt as _;
use tonic::Code;

/// One attempt at `target` from the hosts of `nodes`.
fn spec(nodes: &[&str], target: &str) -> v1::ProbeSpec {
    v1::ProbeSpec {
        sources: nodes.iter().map(|node| source(node)).collect(),
        targets: vec![target.into()],
        kind: Some(v1::probe_spec::Kind::Icmp(v1::IcmpProbe::default())),
        count: Some(1),
        timeout: Some(prost_types::Duration { seconds: 0, nanos: 20_000_000 }),
        ..Default::default()
    }
}

fn source(node: &str) -> v1::ProbeSource {
    v1::ProbeSource { node: node.into(), netns: String::new() }
}

fn every_second(spec: v1::ProbeSpec) -> v1::ProbeSpec {
    v1::ProbeSpec { every: Some(prost_types::Duration { seconds: 1, nanos: 0 }), ..spec }
}

async fn run(fabric: &Fabric, spec: v1::ProbeSpec) -> v1::Probe {
    let request = v1::RunProbeRequest { spec: Some(spec), ..Default::default() };
    fabric.probes().await.run_probe(request).await.unwrap().into_inner().probe.unwrap()
}

async fn get(fabric: &Fabric, id: &str) -> v1::Probe {
    let request = v1::GetProbeRequest { probe_id: id.into(), runs: 100 };
    fabric.probes().await.get_probe(request).await.unwrap().into_inner().probe.unwrap()
}

/// The next message of this kind.
async fn next<T>(agent: &mut Agent, pick: impl Fn(Told) -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = pick(agent.told().await.unwrap()) {
                return found;
            }
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.expect("it is told")
}

async fn armed(agent: &mut Agent) -> v1::ArmProbe {
    next(agent, |told| match told {
        Told::ArmProbe(arm) => Some(arm),
        _ => None,
    })
    .await
}

/// The one report that is told to be stored.
async fn stored(agent: &mut Agent) -> v1::probe_stored::Report {
    let stored = next(agent, |told| match told {
        Told::ProbeStored(stored) => Some(stored),
        _ => None,
    });
    let mut reports = stored.await.reports;
    assert_eq!(reports.len(), 1, "{reports:?}");
    reports.remove(0)
}

async fn ended(agent: &mut Agent) -> String {
    next(agent, |told| match told {
        Told::EndProbe(end) => Some(end.probe_id),
        _ => None,
    })
    .await
}

fn found(probe: &str, run: u64) -> v1::ProbeFound {
    let attempt = v1::ProbeAttempt {
        outcome: v1::ProbeOutcome::ProbeAnswered as i32,
        delay_nanos: Some(7),
        ..Default::default()
    };
    let result = v1::ProbeResult { target: "10.0.0.1".into(), attempts: vec![attempt], ..Default::default() };
    v1::ProbeFound {
        probe_id: probe.into(),
        run,
        netns: String::new(),
        start_unix_nanos: 1,
        results: vec![result],
        is_cut: false,
    }
}

/// As it is shown of `node`.
fn shown(found: v1::ProbeFound, node: &str) -> v1::ProbeReport {
    let v1::ProbeFound { run, start_unix_nanos, results, .. } = found;
    v1::ProbeReport { run, source: Some(source(node)), start_unix_nanos, results, is_cut: false }
}

#[tokio::test]
async fn a_probe_is_handed_out_reported_acknowledged_and_ended() {
    let (fabric, [mut first, mut second]) = Fabric::with_two().await;
    let probe = run(&fabric, spec(&["node-a", "node-b"], "10.0.0.1")).await;
    assert_eq!(probe.state(), v1::ProbeState::ProbePending);
    let (arm, other) = (armed(&mut first).await, armed(&mut second).await);
    assert_eq!((&arm.probe_id, arm.first_run), (&probe.id, 0));
    assert_eq!(arm.spec.as_ref().unwrap().sources, [source("node-a")], "its own part alone");
    assert_eq!(other.spec.unwrap().sources, [source("node-b")]);
    assert_eq!(arm.spec.unwrap().count, Some(1));
    first.say(Kind::ProbeFound(found(&probe.id, 0))).await;
    let told = stored(&mut first).await;
    assert_eq!((told.probe_id, told.run, told.netns), (probe.id.clone(), 0, String::new()));
    let now = get(&fabric, &probe.id).await;
    assert_eq!(now.parts[0].state(), v1::ProbeState::ProbeCompleted, "what is acknowledged is stored");
    assert_eq!(now.reports, [shown(found(&probe.id, 0), "node-a")]);
    let failed = v1::ProbeStatus {
        probe_id: probe.id.clone(),
        netns: String::new(),
        state: v1::ProbeState::ProbeFailed as i32,
        reason: "no such place".into(),
    };
    second.say(Kind::ProbeStatus(failed)).await;
    assert_eq!((ended(&mut first).await, ended(&mut second).await), (probe.id.clone(), probe.id.clone()));
    let over = get(&fabric, &probe.id).await;
    assert_eq!(
        (over.state(), over.parts[1].reason.as_str()),
        (v1::ProbeState::ProbeCompleted, "no such place")
    );
    fabric.stop().await;
}

#[tokio::test]
async fn an_agent_that_comes_back_hears_what_is_wanted_of_it_and_what_is_not() {
    let (fabric, mut agent) = Fabric::with_one().await;
    let probe = run(&fabric, every_second(spec(&["node-a"], "10.0.0.1"))).await;
    armed(&mut agent).await;
    until("the first run", async || {
        agent.say(Kind::ProbeFound(found(&probe.id, 0))).await;
        get(&fabric, &probe.id).await.parts[0].runs == 1
    })
    .await;
    drop(agent);
    let register = |incarnation| v1::Register {
        node_name: "node-a".into(),
        protocol_version: lastseen_proto::PROTOCOL_VERSION,
        incarnation,
        probe_ids: vec![probe.id.clone(), "p-gone".into()],
        ..Default::default()
    };
    let channel = fabric.channel("agent", "node-a").await;
    let mut agent = Agent::join(channel, register(1)).await.unwrap();
    let (mut arm, mut end) = (None, None);
    while arm.is_none() || end.is_none() {
        match agent.told().await.unwrap() {
            Told::ArmProbe(told) => arm = Some(told),
            Told::EndProbe(told) => end = Some(told.probe_id),
            _ => {}
        }
    }
    assert_eq!(arm.unwrap().first_run, 1, "what is stored is not made again");
    assert_eq!(end.as_deref(), Some("p-gone"));
    // After a restart of the coordinator, too.
    let (authority, data) = fabric.kill();
    let fabric = Fabric::start_on(authority, data).await;
    let mut agent = Agent::join(fabric.channel("agent", "node-a").await, register(1)).await.unwrap();
    assert_eq!(armed(&mut agent).await.probe_id, probe.id);
    let request = v1::StopProbeRequest { probe_id: probe.id.clone() };
    let stopped = fabric.probes().await.stop_probe(request).await.unwrap().into_inner().probe.unwrap();
    assert_eq!(stopped.state(), v1::ProbeState::ProbeStopped);
    assert!(stopped.stopped_by.ends_with("/operator/eve"), "{}", stopped.stopped_by);
    loop {
        if ended(&mut agent).await == probe.id {
            break;
        }
    }
    fabric.stop().await;
}

#[tokio::test]
async fn an_agent_cannot_report_for_others_nor_what_nobody_asked_for() {
    let (fabric, [mut liar, _other]) = Fabric::with_two().await;
    let probe = run(&fabric, spec(&["node-a", "node-b"], "10.0.0.1")).await;
    armed(&mut liar).await;
    liar.say(Kind::ProbeFound(found(&probe.id, 0))).await;
    stored(&mut liar).await;
    let seen = get(&fabric, &probe.id).await;
    assert_eq!((seen.parts[0].runs, seen.parts[1].runs), (1, 0), "it is that of its certificate");
    assert_eq!(seen.reports[0].source, Some(source("node-a")));
    for dropped in [found(&probe.id, 1), found("p-none", 0)] {
        let (id, run) = (dropped.probe_id.clone(), dropped.run);
        liar.say(Kind::ProbeFound(dropped)).await;
        let told = stored(&mut liar).await;
        assert_eq!((told.probe_id, told.run), (id, run), "it must not come again and again");
    }
    // What is more than a probe comes to is dropped, need not come again, and its source has failed.
    let attempt = v1::ProbeAttempt { detail: "x".repeat(limits::AGENT_TEXT_BYTES), ..Default::default() };
    let result =
        |attempts: usize| v1::ProbeResult { attempts: vec![attempt.clone(); attempts], ..Default::default() };
    let (mut long, mut many, mut wide) = (found(&probe.id, 0), found(&probe.id, 0), found(&probe.id, 0));
    long.results = vec![result(limits::PROBE_REPORT_BYTES / limits::AGENT_TEXT_BYTES)];
    many.results = vec![v1::ProbeResult {
        attempts: vec![v1::ProbeAttempt::default(); limits::PROBE_ATTEMPTS + 1],
        ..Default::default()
    }];
    wide.results = vec![v1::ProbeResult::default(); limits::PROBE_TARGETS * limits::PROBE_SERVERS + 1];
    let nameless = found(&"p".repeat(limits::CAPTURE_ID_BYTES + 1), 0);
    for senseless in [many, wide, nameless] {
        liar.say(Kind::ProbeFound(senseless)).await;
    }
    let second = run(&fabric, spec(&["node-a"], "10.0.0.2")).await;
    armed(&mut liar).await;
    long.probe_id.clone_from(&second.id);
    liar.say(Kind::ProbeFound(long)).await;
    let mut told = Vec::new();
    while !told.contains(&second.id) {
        let stored = next(&mut liar, |told| match told {
            Told::ProbeStored(stored) => Some(stored),
            _ => None,
        });
        told.extend(stored.await.reports.into_iter().map(|report| report.probe_id));
    }
    let failed = get(&fabric, &second.id).await.parts.remove(0);
    assert_eq!(failed.state(), v1::ProbeState::ProbeFailed);
    assert!(failed.reason.contains("above the limit of 262144"), "{failed:?}");
    assert_eq!(get(&fabric, &probe.id).await.reports.len(), 1);
    fabric.stop().await;
}

#[tokio::test]
async fn a_source_that_never_comes_fails_and_the_watcher_sees_the_end() {
    let (fabric, agent) = Fabric::with_one().await;
    drop(agent);
    until("the node offline", async || {
        let nodes = fabric.nodes().await.list_nodes(v1::ListNodesRequest {}).await.unwrap().into_inner();
        nodes.nodes[0].state() == v1::NodeState::Offline
    })
    .await;
    let probe = run(&fabric, spec(&["node-a"], "10.0.0.1")).await;
    let request = v1::WatchProbeRequest { probe_id: probe.id };
    let mut watching = fabric.probes().await.watch_probe(request).await.unwrap().into_inner();
    let last = tokio::time::timeout(PATIENCE, async {
        let mut last = None;
        while let Some(answer) = watching.next().await {
            last = answer.unwrap().probe;
        }
        last.unwrap()
    });
    let last = last.await.expect("it ends");
    assert_eq!(last.state(), v1::ProbeState::ProbeFailed);
    assert!(last.parts[0].reason.contains("its agent was not there"), "{:?}", last.parts);
    fabric.stop().await;
}

#[tokio::test]
async fn the_fabric_takes_no_more_probes_than_the_limit_and_a_call_made_again_none() {
    let (fabric, _agent) = Fabric::with_one().await;
    let mut client = fabric.probes().await;
    let spec = every_second(spec(&["node-a"], "10.0.0.1"));
    let mut ids = Vec::new();
    for number in 0..limits::PROBES_PER_FABRIC {
        let request = v1::RunProbeRequest { spec: Some(spec.clone()), request_id: number.to_string() };
        ids.push(client.run_probe(request).await.unwrap().into_inner().probe.unwrap().id);
    }
    let again = v1::RunProbeRequest { spec: Some(spec.clone()), request_id: "0".into() };
    assert_eq!(client.run_probe(again).await.unwrap().into_inner().probe.unwrap().id, ids[0]);
    let status =
        client.run_probe(v1::RunProbeRequest { spec: Some(spec), ..Default::default() }).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().starts_with("probes: 32 have not ended, the limit"), "{status}");
    let listed = client.list_probes(v1::ListProbesRequest::default()).await.unwrap().into_inner().probes;
    assert_eq!(listed.len(), limits::PROBES_PER_FABRIC);
    let request = v1::GetProbeRequest { probe_id: ids[0].clone(), runs: limits::PROBE_RUNS_SHOWN + 1 };
    let status = client.get_probe(request).await.unwrap_err();
    assert_eq!(status.message(), "runs: 101 is above the limit of 100");
    fabric.stop().await;
}

#[tokio::test]
async fn a_policy_says_where_probes_may_go() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.toml");
    std::fs::write(&path, "probe-networks = [\"10.0.0.0/8\", \"fd00::/8\"]\n").unwrap();
    let fabric = Fabric::start_under(&path).await;
    let mut agent = Agent::connect(&fabric, "node-a", 1, &[]).await;
    run(&fabric, spec(&["node-a"], "10.0.0.1")).await;
    assert_eq!(armed(&mut agent).await.allowed_networks, ["10.0.0.0/8", "fd00::/8"]);
    let running = run(&fabric, every_second(spec(&["node-a"], "10.0.0.1"))).await;
    assert_eq!(armed(&mut agent).await.probe_id, running.id);
    std::fs::write(&path, "probe-networks = [\"10.0.0.0/9\"]\n").unwrap();
    loop {
        let arm = armed(&mut agent).await;
        if arm.probe_id == running.id && arm.allowed_networks == ["10.0.0.0/9"] {
            break;
        }
    }
    fabric.stop().await;
}

#[tokio::test]
async fn agents_of_every_coordinator_have_the_probe_and_a_report_told_to_two_of_them_is_stored_once() {
    let mut cluster = Cluster::start(2).await;
    let mut first = cluster.agent(0, 1, "node-a", &[]).await;
    let mut second = cluster.agent(1, 0, "node-b", &[]).await;
    let mut client = ProbeServiceClient::new(cluster.channel(0, "operator", "eve").await);
    let spec = every_second(spec(&["node-a", "node-b"], "10.0.0.1"));
    let request = v1::RunProbeRequest { spec: Some(spec), request_id: "once".into() };
    let probe = client.run_probe(request.clone()).await.unwrap().into_inner().probe.unwrap();
    for agent in [&mut first, &mut second] {
        assert_eq!(armed(agent).await.probe_id, probe.id);
        agent.say(Kind::ProbeFound(found(&probe.id, 0))).await;
        stored(agent).await;
    }
    cluster.kill(0);
    let mut client = ProbeServiceClient::new(cluster.channel(1, "operator", "eve").await);
    let again = client.run_probe(request).await.unwrap().into_inner().probe.unwrap();
    assert_eq!(again.id, probe.id, "the same call, made of another");
    // It did not hear the acknowledgement, and tells it once more.
    let mut first = cluster.agent(1, 1, "node-a", &[]).await;
    assert_eq!(armed(&mut first).await.first_run, 1);
    first.say(Kind::ProbeFound(found(&probe.id, 0))).await;
    stored(&mut first).await;
    let request = v1::GetProbeRequest { probe_id: probe.id.clone(), runs: 100 };
    let seen = client.get_probe(request).await.unwrap().into_inner().probe.unwrap();
    assert_eq!(seen.reports, ["node-a", "node-b"].map(|node| shown(found(&probe.id, 0), node)));
    assert_eq!(seen.parts.iter().map(|part| part.runs).collect::<Vec<_>>(), [1, 1]);
    client.stop_probe(v1::StopProbeRequest { probe_id: probe.id.clone() }).await.unwrap();
    assert_eq!((ended(&mut first).await, ended(&mut second).await), (probe.id.clone(), probe.id));
}

/// An agent of a node whose default route leaves by an interface with this address.
async fn at(fabric: &Fabric, node: &str, address: &str) -> Agent {
    let interface = v1::Interface {
        index: 2,
        kind: v1::InterfaceKind::Physical.into(),
        addresses: vec![format!("{address}/24")],
        ..Default::default()
    };
    let route = v1::Route {
        destination: "0.0.0.0/0".into(),
        output_index: Some(2),
        table: 254,
        r#type: "unicast".into(),
        ..Default::default()
    };
    let topology =
        v1::NodeTopology { interfaces: vec![interface], routes: vec![route], ..Default::default() };
    let register = v1::Register {
        node_name: node.into(),
        protocol_version: lastseen_proto::PROTOCOL_VERSION,
        incarnation: 1,
        topology: Some(topology),
        ..Default::default()
    };
    let agent = Agent::join(fabric.channel("agent", node).await, register).await.unwrap();
    fabric.ready(&[node]).await;
    agent
}

/// Who is told to probe whom.
fn mesh_of(arm: &v1::ArmProbe) -> Vec<(v1::ProbeSource, Vec<String>)> {
    let mesh = arm.spec.clone().unwrap().mesh.unwrap();
    mesh.members.into_iter().map(|member| (member.source.unwrap(), member.targets)).collect()
}

#[tokio::test]
async fn in_a_mesh_every_agent_hears_its_own_targets_and_who_has_no_address_fails_alone() {
    let fabric = Fabric::start().await;
    let mut first = at(&fabric, "node-a", "10.0.0.1").await;
    let mut second = at(&fabric, "node-b", "10.0.0.2").await;
    let _lost = Agent::connect(&fabric, "node-c", 1, &[]).await;
    let pod = v1::ProbeSource { node: "node-b".into(), netns: "@10.244.2.9".into() };
    let mesh = v1::Mesh { port: 80, ..Default::default() };
    let sources = ["node-a", "node-b", "node-c"].map(source).into_iter().chain([pod.clone()]).collect();
    let spec = v1::ProbeSpec {
        sources,
        targets: Vec::new(),
        kind: Some(v1::probe_spec::Kind::Tcp(v1::TcpProbe {})),
        mesh: Some(mesh),
        ..every_second(spec(&[], ""))
    };
    let probe = run(&fabric, spec).await;
    let seen = probe.spec.clone().unwrap().mesh.unwrap();
    assert_eq!(seen.neighbors, Some(2));
    let addresses: Vec<&str> = seen.members.iter().map(|member| member.address.as_str()).collect();
    assert_eq!(addresses, ["10.0.0.1", "10.0.0.2", "", "10.244.2.9"]);
    assert_eq!(probe.parts[2].state(), v1::ProbeState::ProbeFailed);
    assert!(probe.parts[2].reason.contains("neither the end of a tunnel nor a default route"), "{probe:?}");
    let own = |address: &str| format!("{address}:80");
    let of_first = [(source("node-a"), ["10.0.0.2", "10.244.2.9"].map(own).to_vec())];
    let of_second = [
        (source("node-b"), ["10.0.0.1", "10.244.2.9"].map(own).to_vec()),
        (pod, ["10.0.0.1", "10.0.0.2"].map(own).to_vec()),
    ];
    assert_eq!(mesh_of(&armed(&mut first).await), of_first);
    assert_eq!(mesh_of(&armed(&mut second).await), of_second);
    // Another coordinator, and tables that changed meanwhile: the choice stays.
    drop((first, second));
    let (authority, data) = fabric.kill();
    let fabric = Fabric::start_on(authority, data).await;
    let mut second = at(&fabric, "node-b", "10.0.0.77").await;
    assert_eq!(mesh_of(&armed(&mut second).await), of_second);
    let again = get(&fabric, &probe.id).await.spec.unwrap().mesh.unwrap();
    assert_eq!(again, seen);
    let listed = fabric.probes().await.list_probes(v1::ListProbesRequest::default()).await.unwrap();
    let listed = listed.into_inner().probes[0].spec.clone().unwrap().mesh.unwrap();
    assert_eq!((listed.neighbors, listed.members), (Some(2), Vec::new()), "too long for a list");
    fabric.stop().await;
}

#[tokio::test]
async fn a_mesh_that_cannot_be_is_refused() {
    let fabric = Fabric::start().await;
    let _agents = [at(&fabric, "node-a", "10.0.0.1").await, at(&fabric, "node-b", "10.0.0.2").await];
    let whole = v1::ProbeSpec {
        targets: Vec::new(),
        mesh: Some(v1::Mesh::default()),
        ..spec(&["node-a", "node-b"], "")
    };
    let targeted = v1::ProbeSpec { targets: vec!["10.0.0.1".into()], ..whole.clone() };
    let alone = v1::ProbeSpec { sources: vec![source("node-a")], ..whole.clone() };
    let six = v1::ProbeSpec { family: v1::IpFamily::Ipv6.into(), ..whole.clone() };
    let overlay = v1::Mesh { network: v1::HostNetwork::Overlay.into(), ..Default::default() };
    let overlay = v1::ProbeSpec { mesh: Some(overlay), ..whole };
    for (spec, words) in [
        (targeted, "targets: a mesh probes its own sources"),
        (alone, "sources: a mesh needs 2 with an address, and 1 have one"),
        (
            six,
            "0 have one: node-a: its tables show neither the end of a tunnel nor a default route with an address of IPv6",
        ),
        (overlay, "node-a: its tables show no tunnel device with an address"),
    ] {
        let request = v1::RunProbeRequest { spec: Some(spec), ..Default::default() };
        let status = fabric.probes().await.run_probe(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(status.message().contains(words), "{status}");
    }
    fabric.stop().await;
}

/// A throughput from the host of node-a to that of node-b, without an end.
fn throughput() -> v1::ProbeSpec {
    let asked = v1::ThroughputProbe { to: Some(source("node-b")), ..Default::default() };
    v1::ProbeSpec {
        targets: Vec::new(),
        kind: Some(v1::probe_spec::Kind::Throughput(asked)),
        every: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
        ..spec(&["node-a"], "")
    }
}

fn throughput_of(spec: Option<&v1::ProbeSpec>) -> v1::ThroughputProbe {
    match spec.unwrap().kind.clone() {
        Some(v1::probe_spec::Kind::Throughput(throughput)) => throughput,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn both_ends_of_a_throughput_hear_the_same_and_nobody_else_the_token() {
    let fabric = Fabric::start().await;
    let mut sender = at(&fabric, "node-a", "10.0.0.1").await;
    let mut receiver = at(&fabric, "node-b", "10.0.0.2").await;
    let probe = run(&fabric, throughput()).await;
    let parts: Vec<_> = probe.parts.iter().map(|part| part.source.clone().unwrap()).collect();
    assert_eq!(parts, [source("node-a"), source("node-b")], "the receiver is the second source");
    let (first, second) = (armed(&mut sender).await.spec.unwrap(), armed(&mut receiver).await.spec.unwrap());
    assert_eq!((&first.sources, &second.sources), (&vec![source("node-a")], &vec![source("node-b")]));
    assert_eq!((first.targets.len(), &first.targets), (1, &second.targets));
    assert!(first.targets[0].starts_with("10.0.0.2:2"), "{:?}", first.targets);
    let told = throughput_of(Some(&first));
    assert_eq!(told, throughput_of(Some(&second)));
    assert_eq!((told.token.len(), &told.senders[..]), (16, &["10.0.0.1".to_owned()][..]));
    assert_eq!(told.duration.unwrap().seconds, 5);
    let got = get(&fabric, &probe.id).await;
    let listed = fabric.probes().await.list_probes(v1::ListProbesRequest::default()).await.unwrap();
    for seen in [&probe, &got, &listed.into_inner().probes[0]] {
        let seen = throughput_of(seen.spec.as_ref());
        assert!(seen.token.is_empty() && seen.senders.is_empty(), "{seen:?}");
    }
    let records = fabric.audit().await;
    assert!(
        records.iter().any(|record| record.detail.contains("throughput Tcp for 5s to node-b")),
        "{records:?}"
    );
    for record in records {
        let token = format!("{:?}", told.token.to_vec());
        assert!(!record.detail.contains(token.trim_matches(['[', ']'])), "{record:?}");
    }
    // The token survives a restart.
    drop((sender, receiver));
    let (authority, data) = fabric.kill();
    let fabric = Fabric::start_on(authority, data).await;
    let mut receiver = at(&fabric, "node-b", "10.0.0.2").await;
    assert_eq!(throughput_of(armed(&mut receiver).await.spec.as_ref()), told);
    fabric.stop().await;
}

#[tokio::test]
async fn a_throughput_that_cannot_be_is_refused() {
    let fabric = Fabric::start().await;
    let _agents = [at(&fabric, "node-a", "10.0.0.1").await, at(&fabric, "node-b", "10.0.0.2").await];
    let change = |change: fn(&mut v1::ThroughputProbe)| {
        let mut asked = throughput_of(Some(&throughput()));
        change(&mut asked);
        v1::ProbeSpec { kind: Some(v1::probe_spec::Kind::Throughput(asked)), ..throughput() }
    };
    let all = v1::ProbeSpec { all_nodes: true, sources: Vec::new(), ..throughput() };
    let span = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    for (spec, words) in [
        (all, "sources: a throughput has one sender"),
        (change(|asked| asked.to = None), "to: missing"),
        (change(|asked| asked.to = Some(source("node-a"))), "to: node-a is the sender"),
        (change(|asked| asked.bits_per_second = Some(1)), "bits_per_second: 1 bits a second are not within"),
        (change(|asked| asked.port = Some(65_536)), "port: 65536 is not within 0 and 65535"),
        (
            change(|asked| asked.duration = Some(prost_types::Duration { seconds: 61, nanos: 0 })),
            "duration: 1m",
        ),
        (v1::ProbeSpec { count: Some(2), ..throughput() }, "count: a throughput is measured once"),
        (
            v1::ProbeSpec { targets: vec!["10.0.0.2:1".into()], ..throughput() },
            "targets: a throughput goes to another",
        ),
        (v1::ProbeSpec { every: span(5), ..throughput() }, "every: 5s is too short for a run"),
        (
            v1::ProbeSpec { mesh: Some(v1::Mesh::default()), ..throughput() },
            "kind: a mesh is of icmp, tcp, udp or mtu",
        ),
    ] {
        let request = v1::RunProbeRequest { spec: Some(spec), ..Default::default() };
        let status = fabric.probes().await.run_probe(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(status.message().starts_with(words), "{status}");
    }
    fabric.stop().await;
}
