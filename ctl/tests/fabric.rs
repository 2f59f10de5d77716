//! Commands against a coordinator with real TLS: output, exit codes, and what is said when something is wrong.

use std::process::Stdio;

use crate::support::{Fabric, Run, Script, ctl, expired, issue, valid};
use lastseen_ctl::pki::Authority;
use lastseen_proto::v1::diff_report::Verdict;
use lastseen_proto::v1::*;
use lastseen_runtime::identity::Role;
use tokio::io::{AsyncBufReadExt, BufReader};

fn capture(state: CaptureState, nodes: &[(&str, CaptureState, &str)]) -> Capture {
    let node = |(node, state, reason): &(&str, CaptureState, &str)| CaptureNode {
        node: (*node).to_owned(),
        state: *state as i32,
        reason: (*reason).to_owned(),
        packets: 1_234,
        ..Default::default()
    };
    Capture {
        id: "c-7f3k".into(),
        state: state as i32,
        nodes: nodes.iter().map(node).collect(),
        ..Default::default()
    }
}

fn completed() -> Capture {
    capture(
        CaptureState::Completed,
        &[("a", CaptureState::Completed, ""), ("b", CaptureState::Completed, "")],
    )
}

fn running() -> Capture {
    capture(CaptureState::Running, &[("a", CaptureState::Running, ""), ("b", CaptureState::Running, "")])
}

fn ready(name: &str) -> Node {
    Node {
        name: name.into(),
        state: NodeState::Ready as i32,
        agent_version: env!("CARGO_PKG_VERSION").into(),
        clock_offset_nanos: Some(-310_000),
        clock_error_nanos: Some(40_000),
        ..Default::default()
    }
}

#[tokio::test]
async fn start_capture_follows_to_the_end_and_prints_the_id_last() {
    let watches = vec![vec![running(), completed()]];
    let fabric = Fabric::serve(Script { started: running(), watches, ..Default::default() }).await;
    let run = fabric.ctl("-v start-capture --all-nodes --filter tcp --duration 10s").await;
    assert_eq!(run.code, Some(0), "{run:?}");
    assert_eq!(run.out.lines().last(), Some("c-7f3k"));
    assert!(
        run.err.contains("c-7f3k running") && run.err.contains("c-7f3k a completed  1,234 packets"),
        "{run:?}"
    );
    let asked = fabric.coordinator.asked();
    let spec = asked[0].spec.as_ref().unwrap();
    assert!(spec.all_nodes && spec.filter == "tcp" && !asked[0].dry_run, "{asked:?}");
}

#[tokio::test]
async fn start_capture_in_the_forms_for_programs() {
    let watches = vec![vec![completed()]];
    let fabric = Fabric::serve(Script { started: running(), watches, ..Default::default() }).await;
    let run = fabric.ctl("start-capture --all-nodes -o name -q").await;
    assert_eq!((run.code, run.out.as_str(), run.err.as_str()), (Some(0), "c-7f3k\n", ""));
    let run = fabric.ctl("start-capture --nodes a,b -o json -q").await;
    let json: serde_json::Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!((json["capture"]["state"].as_str(), run.code), (Some("COMPLETED"), Some(0)));
    assert_eq!(json["capture"]["nodes"][0]["packets"], "1234");
    let run = fabric.ctl("start-capture --all-nodes --no-wait").await;
    assert_eq!((run.code, run.out.as_str(), run.err.as_str()), (Some(0), "c-7f3k\n", ""));
}

#[tokio::test]
async fn a_dry_run_says_that_nothing_was_started() {
    use CaptureState::{Armed, Cancelled, Failed};
    let mut started = capture(Cancelled, &[("a", Armed, ""), ("b", Armed, "")]);
    started.id = String::new();
    started.nodes[0].interfaces = vec!["cni0".into(), "eth0".into()];
    started.nodes[1].interfaces = vec!["eth0".into()];
    started.nodes[1].coverage = vec!["veth1: is down".into()];
    let mut refused = started.clone();
    let reason = "interface: veth9 does not exist on node b; it has: eth0";
    (refused.nodes[1].state, refused.nodes[1].reason) = (Failed as i32, reason.into());
    let fabric = Fabric::serve(Script { started, ..Default::default() }).await;
    let run = fabric.ctl("start-capture --all-nodes --dry-run").await;
    assert_eq!((run.code, run.err.as_str()), (Some(0), ""), "{run:?}");
    assert!(run.out.starts_with("dry run: nothing was started\n"), "{run:?}");
    let nodes = "nodes        a,b\n\na: would capture on 2 interfaces\nb: would capture on 1 interface\nb: veth1: is down\n";
    assert!(run.out.ends_with(nodes), "{run:?}");
    let fabric = Fabric::serve(Script { started: refused, ..Default::default() }).await;
    let run = fabric.ctl("start-capture --all-nodes --dry-run").await;
    assert_eq!(run.code, Some(2), "{run:?}");
    assert!(run.out.contains(&format!("\nb: {reason}\n")), "{run:?}");
    assert_eq!(run.err, format!("error: dry run: 1 of 2 nodes cannot capture: b: {reason}\n"));
}

#[tokio::test]
async fn wide_shows_more_than_the_table() {
    let node =
        Node { notes: vec!["two agents share its certificate; give each its own".into()], ..ready("a") };
    let mut capture = completed();
    capture.nodes[0].interfaces = vec!["eth0".into(), "cni0".into()];
    capture.nodes[0].undecoded = 4_321;
    capture.nodes[0].unreadable = 8_765;
    let packet = LostPacket { ip_id: Some(4_711), tcp_seq: Some(815), ..Default::default() };
    let topology =
        NodeTopology { routes: vec![Route { table: 254, ..Default::default() }], ..Default::default() };
    let script = Script {
        nodes: vec![Node { topology: Some(topology), ..node }],
        captures: vec![capture],
        lost: vec![packet],
        flows: vec![FlowRecord { retransmissions: 987, ..Default::default() }],
        ..Default::default()
    };
    let fabric = Fabric::serve(script).await;
    for (command, detail) in [
        ("list-nodes", "KERNEL"),
        ("show-node a", "main"),
        ("list-captures", "CREATED BY"),
        ("show-capture c-7f3k", "4,321"),
        ("show-capture c-7f3k", "8,765"),
        ("show-capture c-7f3k", "eth0,cni0"),
        ("list-flows", "987"),
        ("list-lost", "4711"),
        ("list-lost", "815"),
    ] {
        let (table, wide) =
            (fabric.ctl(command).await.out, fabric.ctl(&format!("{command} -o wide")).await.out);
        assert!(wide.contains(detail) && !table.contains(detail), "{command}:\n{table}\n{wide}");
    }
    let shown = fabric.ctl("show-node a").await.out;
    assert!(
        shown.contains("needs attention\n  two agents share its certificate; give each its own\n"),
        "{shown}"
    );
}

#[tokio::test]
async fn start_capture_fails_when_a_node_does() {
    let nodes =
        [("a", CaptureState::Completed, ""), ("b", CaptureState::Failed, "interface eth9: not found")];
    let watches = vec![vec![running(), capture(CaptureState::Completed, &nodes)]];
    let fabric = Fabric::serve(Script { started: running(), watches, ..Default::default() }).await;
    let run = fabric.ctl("start-capture --all-nodes -o name").await;
    run.failed_with(&["capture c-7f3k", "b failed", "interface eth9: not found"]);
    assert_eq!(run.out, "c-7f3k\n");
}

#[tokio::test]
async fn a_refused_capture_gives_the_coordinators_words() {
    let refusal = Some("filter: syntax error at \"prot 80\"; write `tcp port 80`".to_owned());
    let fabric = Fabric::serve(Script { refusal, ..Default::default() }).await;
    let run = fabric.ctl("start-capture --all-nodes").await;
    run.failed_with(&["error: filter: syntax error at \"prot 80\"; write `tcp port 80`"]);
    assert_eq!(run.out, "");
}

#[tokio::test]
async fn following_survives_a_stream_that_ends_early() {
    let watches = vec![vec![running()], vec![], vec![running(), completed()]];
    let fabric = Fabric::serve(Script { watches, ..Default::default() }).await;
    let run = fabric.ctl("-v follow-capture c-7f3k").await;
    assert_eq!((run.code, fabric.coordinator.watched()), (Some(0), 3), "{run:?}");
    assert_eq!(run.err.matches("c-7f3k running").count(), 1, "{run:?}");
}

#[tokio::test]
async fn follow_capture_streams_json_lines() {
    let watches = vec![vec![running(), completed()]];
    let fabric = Fabric::serve(Script { watches, ..Default::default() }).await;
    let run = fabric.ctl("follow-capture c-7f3k -o json -q").await;
    let parse = |line| serde_json::from_str::<serde_json::Value>(line).unwrap();
    let states: Vec<_> = run.out.lines().map(|line| parse(line)["capture"]["state"].clone()).collect();
    assert_eq!(states, ["RUNNING", "COMPLETED"]);
}

#[tokio::test]
async fn an_interrupt_leaves_the_capture_alone_and_says_so() {
    let fabric =
        Fabric::serve(Script { watches: vec![vec![running()]], hold: true, ..Default::default() }).await;
    let mut command = fabric.command(&fabric.operator(), "-v follow-capture c-7f3k");
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut last = String::new();
    while last != "c-7f3k running" {
        last = lines.next_line().await.unwrap().expect("a line per change with -v");
    }
    let pid = child.id().unwrap().to_string();
    assert!(ctl_kill(&pid).await);
    while let Some(line) = lines.next_line().await.unwrap() {
        last = line;
    }
    assert!(
        last.starts_with("error: interrupted; capture c-7f3k goes on: stop it with `ctl stop-capture"),
        "{last}"
    );
    assert_eq!(child.wait().await.unwrap().code(), Some(2));
}

async fn ctl_kill(pid: &str) -> bool {
    tokio::process::Command::new("kill").args(["-INT", pid]).status().await.unwrap().success()
}

#[tokio::test]
async fn diff_nodes_judges_by_exit_code() {
    for (verdict, code) in [(Verdict::Delivered, 0), (Verdict::Lost, 1), (Verdict::Inconclusive, 3)] {
        let report = DiffReport { capture_id: "c-1".into(), verdict: verdict as i32, ..Default::default() };
        let fabric = Fabric::serve(Script { report: Some(report), ..Default::default() }).await;
        for form in ["table", "json", "yaml"] {
            let run = fabric.ctl(&format!("diff-nodes c-1 -o {form}")).await;
            assert_eq!(run.code, Some(code), "{run:?}");
            assert!(run.out.contains("c-1") && run.err.is_empty(), "{run:?}");
        }
    }
    let without_verdict =
        Fabric::serve(Script { report: Some(DiffReport::default()), ..Default::default() }).await;
    without_verdict.ctl("diff-nodes").await.failed_with(&["no verdict"]);
    let without_report = Fabric::serve(Script::default()).await;
    without_report.ctl("diff-nodes").await.failed_with(&["capture_id: no capture yet; start one"]);
}

#[tokio::test]
async fn lists_follow_the_pages_to_the_end() {
    let lost = |seq| LostPacket {
        source: "10.0.0.1:1".into(),
        tcp_seq: Some(seq),
        last_seen: Some(PointName { node: "a".into(), interface: "eth0".into() }),
        trajectory: vec![PointName { node: "a".into(), interface: "veth1".into() }],
        ..Default::default()
    };
    let flow = |port| FlowRecord {
        node: "a".into(),
        source_address: "10.0.0.1".into(),
        destination_address: "10.0.0.2".into(),
        protocol_identifier: 6,
        destination_transport_port: port,
        ..Default::default()
    };
    let script = Script {
        lost: (100..105).map(lost).collect(),
        flows: (80..83).map(flow).collect(),
        captures: vec![completed(), running()],
        ..Default::default()
    };
    let fabric = Fabric::serve(script).await;
    let run = fabric.ctl("list-lost -o wide").await;
    assert_eq!((run.code, run.out.lines().count()), (Some(0), 6), "{run:?}");
    assert!(run.out.contains("104") && run.out.contains("a eth0 → unknown") && run.out.contains("a veth1"));
    assert_eq!(fabric.ctl("list-lost --limit 2").await.out.lines().count(), 3);
    let run = fabric.ctl("list-flows -o json").await;
    let json: serde_json::Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!(json["flows"].as_array().unwrap().len(), 3);
    assert_eq!(fabric.ctl("list-flows -o name").await.out.lines().last(), Some("10.0.0.1 → 10.0.0.2:82"));
    assert_eq!(fabric.ctl("list-captures -o name").await.out, "c-7f3k\nc-7f3k\n");
}

#[tokio::test]
async fn a_sum_of_flows_is_listed_by_its_prefixes() {
    let sum = |source: &str, source_prefix_length, destination_prefix_length| FlowRecord {
        source_address: source.into(),
        destination_address: "10.0.9.0".into(),
        protocol_identifier: 6,
        destination_transport_port: 80,
        aggregate: Some(FlowAggregate { flows: 1812, source_prefix_length, destination_prefix_length }),
        ..Default::default()
    };
    let flows = vec![sum("198.51.100.0", 24, 32), sum("0.0.0.0", 0, 0)];
    let fabric = Fabric::serve(Script { flows, ..Default::default() }).await;
    let names = fabric.ctl("list-flows -o name").await.out;
    assert_eq!(names, "198.51.100.0/24 (1,812 flows) → 10.0.9.0:80\n0.0.0.0/0 (1,812 flows) → 10.0.9.0/0\n");
    let table = fabric.ctl("list-flows").await.out;
    assert!(table.lines().nth(1).unwrap().contains(" tcp "), "{table}");
    assert!(table.lines().nth(2).unwrap().contains(" any "), "{table}");
}

#[tokio::test]
async fn captures_can_be_shown_stopped_and_deleted() {
    let mut capture = completed();
    capture.nodes[0].reason = "stopped early".into();
    capture.nodes[0].coverage = vec!["stopped early".into(), "eth9 vanished".into()];
    let fabric = Fabric::serve(Script { captures: vec![capture], ..Default::default() }).await;
    let run = fabric.ctl("show-capture c-7f3k").await;
    assert!(run.code == Some(0) && run.out.contains("state        completed"), "{run:?}");
    assert!(
        run.out.contains("\na: eth9 vanished\n") && run.out.matches("stopped early").count() == 1,
        "{run:?}"
    );
    assert_eq!(fabric.ctl("show-capture").await.out, run.out, "the newest");
    assert_eq!(fabric.ctl("stop-capture c-7f3k").await.out, "c-7f3k completed\n");
    assert_eq!(fabric.ctl("delete-capture c-7f3k").await.out, "c-7f3k deleted\n");
    assert_eq!(fabric.ctl("delete-capture c-7f3k -o json").await.out, "{}\n");
    fabric.ctl("show-capture c-0000").await.failed_with(&["no capture c-0000", "ctl list-captures"]);
}

#[tokio::test]
async fn of_a_capture_on_many_nodes_the_list_names_the_first() {
    let names: Vec<String> = (1..=5).map(|i| format!("n{i}")).collect();
    let nodes: Vec<_> = names.iter().map(|name| (name.as_str(), CaptureState::Completed, "")).collect();
    let captures = vec![capture(CaptureState::Completed, &nodes)];
    let fabric = Fabric::serve(Script { captures, ..Default::default() }).await;
    let (table, wide) = (fabric.ctl("list-captures").await, fabric.ctl("list-captures -o wide").await);
    assert!(
        table.out.contains(" n1,n2,n3 and 2 more ") && wide.out.contains(" n1,n2,n3,n4,n5 "),
        "{table:?}"
    );
}

#[tokio::test]
async fn nodes_are_listed_and_hostile_names_are_escaped() {
    let hostile = Node { name: "evil\u{1b}[2J".into(), ..ready("") };
    let fabric = Fabric::serve(Script { nodes: vec![ready("node-a"), hostile], ..Default::default() }).await;
    let run = fabric.ctl("list-nodes").await;
    assert!(run.out.contains("node-a") && run.out.contains("-0.31 ms ± 0.04 ms"), "{run:?}");
    assert!(run.out.contains("evil\\u{1b}[2J") && !run.out.contains('\u{1b}'), "{run:?}");
    assert!(fabric.ctl("show-node node-a").await.out.starts_with("node          node-a\n"));
    fabric.ctl("show-node node-x").await.failed_with(&["no node named \"node-x\""]);
}

#[tokio::test]
async fn doctor_passes_a_healthy_fabric_and_names_what_is_wrong() {
    let healthy = Fabric::serve(Script { nodes: vec![ready("a")], ..Default::default() }).await;
    let run = healthy.ctl("doctor").await;
    assert!(run.code == Some(0) && !run.out.contains("FAIL") && !run.out.contains("next steps"), "{run:?}");
    let offline = Node { state: NodeState::Offline as i32, ..ready("b") };
    let fabric = Fabric::serve(Script { nodes: vec![ready("a"), offline], ..Default::default() }).await;
    let run = fabric.ctl("doctor").await;
    assert!(run.code == Some(2) && run.out.contains("node b: start its agent"), "{run:?}");
    let notes = vec!["its agent is denied; take it off the list".to_owned()];
    let denied = Node { state: NodeState::Offline as i32, notes, ..ready("c") };
    let fenced = Fabric::serve(Script { nodes: vec![ready("a"), denied], ..Default::default() }).await;
    let run = fenced.ctl("doctor").await;
    assert!(run.code == Some(0) && run.out.contains("node c: take it off the list"), "{run:?}");
    let lost = StorageFinding { count: 1, bytes: 0, examples: vec!["c-1/0.obs".into()] };
    let storage = CheckStorageResponse { rows_without_files: Some(lost), ..Default::default() };
    let lossy = Fabric::serve(Script { nodes: vec![ready("a")], storage, ..Default::default() }).await;
    let run = lossy.ctl("doctor").await;
    assert!(run.code == Some(2) && run.out.contains("lost observation files: restore them"), "{run:?}");
    let run = fabric.ctl_as(&fabric.identity(Role::Agent, "a", valid()), "doctor -o json").await;
    let json: serde_json::Value = serde_json::from_str(&run.out).unwrap();
    let role = json["checks"].as_array().unwrap().iter().find(|check| check["name"] == "role").unwrap();
    assert_eq!((role["status"].as_str(), run.code), (Some("FAIL"), Some(2)));
}

#[tokio::test]
async fn certificates_that_do_not_fit_are_refused_with_the_next_step() {
    let fabric = Fabric::serve(Script::default()).await;
    let outdated = fabric.identity(Role::Operator, "outdated", expired());
    fabric.ctl_as(&outdated, "list-nodes").await.failed_with(&["expired", "ctl pki issue"]);

    let foreign = Authority::init(&fabric.dir.path().join("other-ca"), "test").unwrap();
    let stranger = fabric.dir.path().join("stranger");
    issue(&foreign, Role::Operator, "op", valid(), &stranger);
    fabric
        .ctl_as(&stranger, "list-nodes")
        .await
        .failed_with(&[&fabric.address.to_string(), "not signed by our ca.crt"]);

    fabric.ctl_as(&fabric.dir.path().join("absent"), "list-nodes").await.failed_with(&["pki-dir", "ca.crt"]);
}

#[tokio::test]
async fn without_a_coordinator_the_address_and_the_next_step_are_named() {
    let fabric = Fabric::serve(Script::default()).await;
    // Bound, so that nobody else takes it, and without anybody who listens.
    let port = tokio::net::TcpSocket::new_v4().unwrap();
    port.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let unused = port.local_addr().unwrap().to_string();
    let mut command = ctl("list-nodes");
    command.args(["--server", &unused, "--pki-dir"]).arg(fabric.operator());
    Run::of(command.output().await.unwrap()).failed_with(&[
        &unused,
        "connection refused",
        "is the coordinator running",
    ]);
    let mut command = ctl("list-nodes");
    command.args(["--server", "nonsense", "--pki-dir"]).arg(fabric.operator());
    Run::of(command.output().await.unwrap()).failed_with(&["\"nonsense\" is not HOST:PORT"]);
    // Of several each is looked at.
    let both = format!("{},{unused}", fabric.address);
    let mut command = ctl("doctor");
    command.args(["--server", &both, "--pki-dir"]).arg(fabric.operator());
    let run = Run::of(command.output().await.unwrap());
    let answers = format!("{} answers over TLS 1.3", fabric.address);
    let refused = format!("coordinator {unused}: connection refused");
    assert!(run.out.contains(&answers) && run.out.contains(&refused), "{run:?}");
}

#[tokio::test]
async fn the_topology_is_exported_as_json_that_reads_back() {
    let interface = Interface { index: 2, name: "eth0".into(), mtu: 1_500, ..Default::default() };
    let topology = NodeTopology { interfaces: vec![interface], ..Default::default() };
    let node = NodeSnapshot { node: "node-a".into(), topology: Some(topology) };
    let exported = FabricTopology { capture_id: String::new(), nodes: vec![node] };
    let fabric = Fabric::serve(Script { topology: exported.clone(), ..Script::default() }).await;
    let run = fabric.ctl("export-topology c-7f3k").await;
    assert_eq!(run.code, Some(0), "{run:?}");
    let read: FabricTopology = lastseen_ctl::output::json::parse(&run.out).unwrap();
    assert_eq!(read, FabricTopology { capture_id: "c-7f3k".into(), ..exported });
    assert_eq!(fabric.ctl("export-topology -o name").await.out, "node-a\n");
    let unknown = run.out.replace("\"mtu\"", "\"mtoo\"");
    let error = lastseen_ctl::output::json::parse::<FabricTopology>(&unknown).unwrap_err();
    assert!(error.to_string().contains("mtoo"), "{error}");
}

#[tokio::test]
async fn the_audit_is_listed_page_by_page_and_what_is_in_it_cannot_steer_the_terminal() {
    let record = |id: u64, who: &str| AuditRecord {
        id,
        at: Some(prost_types::Timestamp { seconds: 1_772_373_800, nanos: 0 }),
        who: format!("spiffe://test/operator/{who}"),
        peer: "10.0.0.1:2".into(),
        action: "delete-capture".into(),
        subject: "c-\u{1b}[2J".into(),
        outcome: audit_record::Outcome::Failed.into(),
        detail: "no capture\nof that name".into(),
    };
    let audit = vec![record(3, "ann"), record(2, "bob"), record(1, "ann")];
    let fabric = Fabric::serve(Script { audit, ..Default::default() }).await;
    let all = fabric.ctl("list-audit").await.out;
    assert_eq!(
        all.lines().nth(1),
        Some("2026-03-01T14:03:20Z   spiffe://test/operator/ann   delete-capture   c-\\u{1b}[2J   failed"),
        "{all}"
    );
    assert_eq!(all.lines().count(), 4, "{all}");
    let before = jiff::Timestamp::now().as_second();
    let wide = fabric.ctl("list-audit -o wide --since 90d").await.out;
    let ninety_days_ago = (before..=jiff::Timestamp::now().as_second()).map(|now| now - 90 * 86_400);
    let since: Vec<_> = fabric.coordinator.audited().into_iter().map(|request| request.since).collect();
    let (all, recent) = since.split_at(3);
    assert_eq!(all, [None; 3], "a page for each record");
    let is_it = |since: &Option<prost_types::Timestamp>| {
        since.is_some_and(|since| ninety_days_ago.clone().any(|at| at == since.seconds))
    };
    assert!(recent.len() == 3 && recent.iter().all(is_it), "{recent:?}");
    assert!(wide.contains("10.0.0.1:2") && wide.contains("no capture\\nof that name"), "{wide}");
    assert_eq!(fabric.ctl("list-audit --who ann -o name").await.out, "3\n1\n");
    assert_eq!(fabric.ctl("list-audit --limit 1 -o name").await.out, "3\n");
    let json: serde_json::Value = serde_json::from_str(&fabric.ctl("list-audit -o json").await.out).unwrap();
    assert_eq!(json["records"][2]["outcome"], "FAILED");
    let bad = fabric.ctl("list-audit --since yesterday").await;
    bad.failed_with(&["--since", "yesterday", "1h"]);
}

#[tokio::test]
async fn the_doctor_tells_what_is_wrong_with_the_coordinator_and_when_certificates_end() {
    let notes =
        vec!["policy file /p: line 1: bad; the policy before it stays in force; mend the file".to_owned()];
    let not_after = Some(prost_types::Timestamp { seconds: 1_772_373_800, nanos: 0 });
    let ending = vec!["its certificate expires in 4 days; issue a new one".to_owned()];
    let nodes = vec![Node { certificate_not_after: not_after, notes: ending, ..ready("a") }];
    let fabric = Fabric::serve(Script { nodes, notes, ..Default::default() }).await;
    let run = fabric.ctl("doctor").await;
    assert_eq!(run.code, Some(0), "a warning is no failure: {run:?}");
    let line = run.out.lines().find(|line| line.starts_with("warn")).unwrap();
    assert!(line.contains("coordinator") && line.contains("the policy before it stays in force"), "{run:?}");
    assert!(run.out.contains("\n  coordinator: mend the file\n"), "{run:?}");
    let listed = fabric.ctl("list-nodes").await.out;
    assert!(listed.contains("\na: its certificate expires in 4 days; issue a new one\n"), "{listed}");
    assert!(listed.contains("\ncoordinator: policy file /p: line 1: bad;"), "{listed}");
    let wide = fabric.ctl("list-nodes -o wide").await.out;
    assert!(wide.contains("CERTIFICATE ENDS") && wide.contains("2026-03-01T14:03:20Z"), "{wide}");
}
