//! Every fault, against the kernel alone: what it says it swallowed is what the generators miss, the third
//! node's traffic stays whole, and nothing is lost once it is taken away.

use std::time::{Duration, Instant};

use lastseen_tests::fault::{Cast, Fault, Side, offload};
use lastseen_tests::lab::Lab;
use lastseen_tests::lab::node::Node;
use lastseen_tests::lab::plan::Family;
use lastseen_tests::traffic::ConversationLog;
use lastseen_tests::traffic::sink::Reader;
use lastseen_tests::traffic::tcp::TcpPlan;
use lastseen_tests::traffic::udp::UdpPlan;
use lastseen_tests::traffic::{self, Conversation, End};

const SEED: u64 = 11;

fn end(node: &Node) -> End<'_> {
    End { netns: &node.pod, address: node.plan.pod.into() }
}

fn cast(lab: &Lab) -> Cast<'_> {
    let [sender, receiver, bystander] = &lab.nodes[..] else { panic!("three nodes") };
    Cast { lab, sender, receiver, bystander, bystander_meets_sender: true, family: Family::V4 }
}

fn stream(sizes: &[usize]) -> UdpPlan {
    UdpPlan { source_port: 0, sizes: sizes.to_vec(), per_second: 2_000, count: 1_000, ..UdpPlan::default() }
}

/// Sends UDP through the fault and both UDP and TCP past it.
fn exchange(cast: Cast<'_>, sizes: &[usize]) -> Vec<ConversationLog> {
    let faulty = Conversation {
        from: end(cast.sender),
        to: end(cast.receiver),
        dialled: None,
        port: 7000,
        udp: Some(stream(sizes)),
        tcp: Vec::new(),
        reader: Reader::Attentive,
    };
    let clean = Conversation {
        from: end(cast.bystander),
        to: end(cast.sender),
        dialled: None,
        port: 7001,
        udp: Some(stream(&[64, 1200])),
        tcp: vec![TcpPlan { messages: 20, request: 100_000, answer: 200 }],
        reader: Reader::Attentive,
    };
    traffic::run(&[&faulty, &clean], Instant::now() + Duration::from_secs(3)).expect("traffic")
}

fn assert_clean(log: &ConversationLog) {
    let udp = log.udp.as_ref().expect("UDP was sent");
    assert_eq!((udp.sent.len(), udp.lost().len()), (1_000, 0));
    assert!(log.tcp.iter().all(|tcp| tcp.completed), "{:?}", log.tcp);
}

fn check(fault: &Fault, sizes: &[usize], expected: std::ops::RangeInclusive<u64>) {
    let lab = Lab::build(SEED).expect("lab");
    let cast = cast(&lab);
    let injected = fault.inject(cast).expect("inject");
    let logs = exchange(cast, sizes);
    let lost = logs[0].udp.as_ref().expect("UDP was sent").lost().len() as u64;
    assert_eq!(injected.struck().expect("counter"), lost, "{fault:?}");
    assert!(expected.contains(&lost), "{fault:?} lost {lost} of 1000");
    assert_clean(&logs[1]);
    injected.undo().expect("undo");
    assert_eq!(exchange(cast, sizes)[0].udp.as_ref().expect("UDP was sent").lost(), Vec::<u64>::new());
}

#[test]
fn no_fault() {
    check(&Fault::None, &[64, 1200], 0..=0);
}

#[test]
fn forward_drop_of_a_share() {
    check(&Fault::ForwardDrop { percent: 30 }, &[64, 1200], 200..=400);
}

#[test]
fn vxlan_blocked_on_either_side() {
    check(&Fault::VxlanBlocked { at: Side::Receiver }, &[64], 1_000..=1_000);
    check(&Fault::VxlanBlocked { at: Side::Sender }, &[64], 1_000..=1_000);
}

#[test]
fn fdb_entry_missing() {
    check(&Fault::FdbMissing, &[64], 1_000..=1_000);
}

#[test]
fn switch_loss() {
    check(&Fault::SwitchLoss { percent: 5 }, &[64, 1200], 15..=110);
}

#[test]
fn packet_too_big_for_the_overlay() {
    check(&Fault::PacketTooBig, &[100, 1472], 500..=500);
}

#[test]
fn vni_mismatch() {
    check(&Fault::VniMismatch, &[64], 1_000..=1_000);
}

#[test]
fn mtu_black_hole() {
    check(&Fault::MtuBlackHole, &[100, 1400], 500..=500);
}

#[test]
fn software_segmentation_loses_nothing() {
    let lab = Lab::build(SEED).expect("lab");
    for node in &lab.nodes {
        offload::software_segmentation(&node.netns, true).expect("ethtool");
    }
    assert_clean(&exchange(cast(&lab), &[64])[1]);
}
