//! A node whose agent is away: what it receives is not observable, and never "arrived".

use std::thread;
use std::time::{Duration, Instant};

use lastseen_tests::fault::{Cast, Fault, Side};
use lastseen_tests::lab::Lab;
use lastseen_tests::lab::plan::Family;
use lastseen_tests::product::fleet::Fleet;
use lastseen_tests::traffic::sink::Reader;
use lastseen_tests::traffic::udp::UdpPlan;
use lastseen_tests::traffic::{self, Conversation, End};
use serde_json::Value;

const SEED: u64 = 61;
const WINDOW: &str = "6s";

fn cast(lab: &Lab) -> Cast<'_> {
    let [sender, receiver, bystander] = &lab.nodes[..] else { panic!("three nodes") };
    Cast { lab, sender, receiver, bystander, bystander_meets_sender: true, family: Family::V4 }
}

/// Datagrams to the receiver throughout the window; none arrives.
fn send_into_the_void(cast: Cast<'_>) {
    let end = |node: &'_ lastseen_tests::lab::node::Node| node.plan.pod.into();
    let udp = UdpPlan { source_port: 0, sizes: vec![200], per_second: 100, count: 500, ..UdpPlan::default() };
    let conversation = Conversation {
        from: End { netns: &cast.sender.pod, address: end(cast.sender) },
        to: End { netns: &cast.receiver.pod, address: end(cast.receiver) },
        dialled: None,
        port: 7000,
        udp: Some(udp),
        tcp: Vec::new(),
        reader: Reader::Attentive,
    };
    let logs = traffic::run(&[&conversation], Instant::now() + Duration::from_secs(8)).expect("traffic");
    let udp = logs[0].udp.as_ref().expect("UDP was sent");
    assert_eq!(udp.lost().len(), udp.sent.len(), "the fault swallows all of it");
}

/// A number of the protocol's JSON: 64-bit ones are text, and zero is left out.
fn count(value: &Value) -> u64 {
    value.as_str().and_then(|text| text.parse().ok()).or_else(|| value.as_u64()).unwrap_or(0)
}

#[test]
fn what_a_node_without_an_agent_receives_has_not_arrived() {
    let lab = Lab::build(SEED).expect("lab");
    let mut fleet = Fleet::start(&lab).expect("fleet");
    let cast = cast(&lab);
    let away = cast.receiver.plan.name.as_str();
    fleet.stop_agent(cast.receiver).expect("stop the agent");
    let _injected = Fault::VxlanBlocked { at: Side::Receiver }.inject(cast).expect("inject");
    let started = thread::scope(|scope| {
        let capture = scope.spawn(|| fleet.ctl.run(&["start-capture", "--all-nodes", "--duration", WINDOW]));
        send_into_the_void(cast);
        capture.join().expect("no panic").expect("ctl runs")
    });
    assert_eq!(started.code, 2, "{}", started.stderr);
    for words in [&format!("warning: {away}: left out: offline since")[..], "completed on 2 of 3 nodes"] {
        assert!(started.stderr.contains(words), "{words:?} in {}", started.stderr);
    }
    let report = fleet
        .ctl
        .run(&["diff-nodes", "--to", &cast.receiver.plan.pod.to_string(), "-o", "json"])
        .expect("ctl runs");
    assert_eq!(report.code, 3, "{}", report.stdout);
    let found: Value = serde_json::from_str(&report.stdout).expect("JSON");
    assert!(count(&found["totals"]["notObservable"]) > 0, "{found:#}");
    assert_eq!((count(&found["totals"]["delivered"]), count(&found["totals"]["lost"])), (0, 0), "{found:#}");
    assert!(report.stdout.contains("left out: offline since"), "the report names the node: {found:#}");
}
