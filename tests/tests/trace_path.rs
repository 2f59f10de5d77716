//! Traced paths in the lab: where packets vanish, told from the outside.

use std::net::SocketAddr;

use lastseen_tests::fault::{Cast, Fault, Side};
use lastseen_tests::lab::Lab;
use lastseen_tests::lab::node::Node;
use lastseen_tests::lab::plan::Family;
use lastseen_tests::product::fleet::Fleet;
use lastseen_tests::served::Server;
use serde_json::Value;

const SEED: u64 = 131;

/// A trace in JSON, and the exit code.
fn trace(fleet: &Fleet<'_>, arguments: &[&str]) -> (Value, i32) {
    let arguments = [&["trace-path"], arguments, &["-o", "json"]].concat();
    let outcome = fleet.ctl.run(&arguments).unwrap();
    let answer: Value = serde_json::from_str(&outcome.stdout)
        .unwrap_or_else(|error| panic!("{error}: {outcome:?}\n{}", fleet.logs()));
    (answer["trace"].clone(), outcome.code)
}

/// `node interface` of each point of a way, in order.
fn points(way: &Value) -> Vec<String> {
    let hops = way["hops"].as_array().cloned().unwrap_or_default();
    hops.iter()
        .map(|hop| format!("{} {}", hop["node"].as_str().unwrap(), hop["interface"].as_str().unwrap()))
        .collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[test]
fn a_whole_path_is_told_point_by_point_with_ttl_mtu_and_tunnel() {
    let lab = Lab::build(SEED).expect("lab");
    let fleet = Fleet::start(&lab).expect("fleet");
    let (from, to) = (&lab.nodes[0], &lab.nodes[1]);
    for family in [Family::V4, Family::V6] {
        let address = to.plan.pod_in(family).to_string();
        let (trace, code) = trace(&fleet, &[&from.pod_source(), &address, "--count", "20"]);
        assert_eq!((code, text(&trace["verdict"])), (0, "DELIVERED"), "{trace:#}");
        assert_eq!(text(&trace["sourceAddress"]), from.plan.pod_in(family).to_string());
        assert_eq!(trace["result"]["attempts"].as_array().unwrap().len(), 20);
        let expected = |here: &Node, there: &Node| {
            let of = |node: &Node, interface: &str| format!("{} {interface}", node.plan.name);
            vec![
                of(here, &here.plan.veth),
                of(here, "cni0"),
                of(here, "flannel.1"),
                of(here, "eth0"),
                of(there, "eth0"),
                of(there, "flannel.1"),
                of(there, "cni0"),
                of(there, &there.plan.veth),
            ]
        };
        for (way, here, there) in [("forward", from, to), ("back", to, from)] {
            let way = &trace[way];
            assert_eq!(points(way), expected(here, there), "{way:#}");
            for (hop, ttl) in way["hops"].as_array().unwrap().iter().zip([64, 64, 63, 63, 63, 63, 62, 62]) {
                assert_eq!(
                    (hop["seen"].as_str(), hop["minimumTtl"].as_u64()),
                    (Some("20"), Some(ttl)),
                    "{hop}"
                );
                let mtu = if text(&hop["interface"]) == "eth0" { 1500 } else { 1450 };
                assert_eq!(hop["mtu"], mtu, "{hop}");
            }
            assert_eq!(way["hops"][3]["view"], "vxlan 1");
        }
    }
    let shown = fleet.ctl.run(&["trace-path", &from.plan.pod.to_string(), &to.plan.pod.to_string()]).unwrap();
    assert!(shown.stdout.contains("nothing lost") && shown.stdout.contains("ttl    mtu"), "{shown:?}");
}

/// A port on which the receiving pod returns every datagram.
const ECHO: u16 = 7;

/// The leg on which most of a way was lost, `from → to`, and how many.
fn lost(way: &Value) -> Option<(String, u64)> {
    let name = |point: &Value| format!("{} {}", text(&point["node"]), text(&point["interface"]));
    let loss = way["losses"].as_array()?.first()?;
    Some((format!("{} → {}", name(&loss["from"]), name(&loss["to"])), text(&loss["count"]).parse().unwrap()))
}

#[test]
fn every_black_hole_is_found_on_its_leg_whatever_made_it() {
    let lab = Lab::build(SEED + 1).expect("lab");
    let fleet = Fleet::start(&lab).expect("fleet");
    let (from, to) = (&lab.nodes[0], &lab.nodes[1]);
    let _server = Server::echo(&to.pod, SocketAddr::new(to.plan.pod_in(Family::V4), ECHO)).expect("server");
    let leg =
        |a: (&Node, &str), b: (&Node, &str)| format!("{} {} → {} {}", a.0.plan.name, a.1, b.0.plan.name, b.1);
    let special = |route: &str| Fault::SpecialRoute { route: route.to_owned() };
    let faults = [
        (Fault::ForwardDrop { percent: 100 }, leg((to, "flannel.1"), (to, "cni0"))),
        (Fault::PreroutingDrop { percent: 100 }, leg((from, &from.plan.veth), (from, "cni0"))),
        (Fault::VxlanBlocked { at: Side::Receiver }, leg((to, "eth0"), (to, "flannel.1"))),
        (Fault::VxlanBlocked { at: Side::Sender }, leg((from, "flannel.1"), (from, "eth0"))),
        (Fault::FdbMissing, leg((from, "flannel.1"), (from, "eth0"))),
        (Fault::NeighborMissing, leg((from, "cni0"), (from, "flannel.1"))),
        (Fault::VniMismatch, leg((to, "eth0"), (to, "flannel.1"))),
        (Fault::PortMismatch, leg((to, "eth0"), (to, "flannel.1"))),
        (Fault::InnerMacWrong, leg((to, "flannel.1"), (to, "cni0"))),
        (Fault::ReversePath, leg((to, "flannel.1"), (to, "cni0"))),
        (Fault::ForwardingOff, leg((to, "flannel.1"), (to, "cni0"))),
        (Fault::NoRoute, leg((from, "cni0"), (from, "flannel.1"))),
        (special("blackhole"), leg((to, "flannel.1"), (to, "cni0"))),
        (special("unreachable"), leg((to, "flannel.1"), (to, "cni0"))),
        (Fault::SwitchLoss { percent: 100 }, leg((from, "eth0"), (to, "eth0"))),
        (Fault::PortDisabled, leg((to, "flannel.1"), (to, "cni0"))),
    ];
    let (source, address, port) = (from.pod_source(), to.plan.pod.to_string(), ECHO.to_string());
    let arguments = [source.as_str(), &address, "--udp", &port, "--count", "30", "--interval", "10ms"];
    let mut wrong = Vec::new();
    for (fault, expected) in faults {
        let injected = fault.inject(Cast::first(&lab)).expect("fault");
        let (trace, code) = trace(&fleet, &arguments);
        injected.undo().unwrap();
        let told = lost(&trace["forward"]);
        if (told.clone(), code) != (Some((expected.clone(), 30)), 1) {
            wrong.push(format!(
                "{fault:?}: {told:?} instead of {expected}, exit {code}: {:#}",
                trace["forward"]
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let (trace, code) = trace(&fleet, &arguments);
    assert_eq!((code, text(&trace["verdict"])), (0, "DELIVERED"), "all is well again: {trace:#}");
}

#[test]
fn a_sweep_finds_the_size_at_which_packets_begin_to_vanish_and_where() {
    let lab = Lab::build(SEED + 2).expect("lab");
    let fleet = Fleet::start(&lab).expect("fleet");
    let (from, to) = (&lab.nodes[0], &lab.nodes[1]);
    let (source, address) = (from.pod_source(), to.plan.pod.to_string());
    let black_hole = Fault::MtuBlackHole.inject(Cast::first(&lab)).expect("fault");
    let arguments = ["trace-path", &source, &address, "--size", "sweep"];
    let shown = fleet.ctl.run(&arguments).unwrap();
    black_hole.undo().unwrap();
    assert_eq!(shown.code, 1, "{shown:?}");
    // 1,354 bytes come through; sizes are four bytes apart. The pod's interface takes 1,450.
    let words = "packets of up to 1,352 bytes come through, and from 1,356 on all vanish on the way there; from 1,452 on the \
                 source itself does not send them";
    assert!(shown.stdout.contains(words), "{}", shown.stdout);
    let leg = format!("LOST  {} eth0 → {} eth0", from.plan.name, to.plan.name);
    assert!(shown.stdout.contains(&leg), "{}", shown.stdout);
}

#[test]
fn the_way_back_may_lose_too_and_bad_requests_start_nothing() {
    let lab = Lab::build(SEED + 3).expect("lab");
    let fleet = Fleet::start(&lab).expect("fleet");
    let (from, to) = (&lab.nodes[0], &lab.nodes[1]);
    let (source, address) = (from.pod_source(), to.plan.pod.to_string());
    let rule = format!(
        "table inet probes {{\nchain forward {{\ntype filter hook forward priority 0\nip daddr {} icmp type echo-reply drop\n}}\n}}\n",
        from.plan.pod
    );
    from.netns.nft(&rule).unwrap();
    let (traced, code) = trace(&fleet, &[&source, &address, "--count", "20"]);
    from.netns.nft("delete table inet probes").unwrap();
    assert_eq!((code, lost(&traced["forward"])), (1, None), "{traced:#}");
    let leg = format!("{0} flannel.1 → {0} cni0", from.plan.name);
    assert_eq!(lost(&traced["back"]), Some((leg, 20)), "{:#}", traced["back"]);
    let captures = fleet.ctl.ok(&["list-captures"]).unwrap();
    for (arguments, words) in [
        (&[source.as_str(), "10.0.0.1:80"][..], &["--tcp 80"][..]),
        (&[&source, "10.0.0.1", "--tcp", "0"], &["--tcp"]),
        (&["nobody", "10.0.0.1"], &["no node named", "nobody"]),
        (&["192.0.2.1", "10.0.0.1"], &["from", "no node has 192.0.2.1"]),
        (&["127.0.0.1", "10.0.0.1"], &["from", "on every node"]),
        (&[&source, "no-such-name.invalid"], &["to", "no-such-name.invalid"]),
        (&[&source, &address, "--size", "20"], &["--size"]),
        (&[&source, &address, "--tcp", "80", "--size", "100"], &["size", "TCP"]),
    ] {
        let outcome = fleet.ctl.run(&[&["trace-path"], arguments].concat()).unwrap();
        assert_eq!(outcome.fault_of_refusal(words), None, "{arguments:?}");
    }
    assert_eq!(fleet.ctl.ok(&["list-captures"]).unwrap(), captures);
}
