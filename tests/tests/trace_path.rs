//! Traced paths in the lab: where packets vanish, told from the outside.

use std::net::{SocketAddr, UdpSocket};
use std::thread;

use lastseen_tests::fault::{Cast, Fault, Side};
use lastseen_tests::lab::Lab;
use lastseen_tests::lab::node::Node;
use lastseen_tests::lab::plan::Family;
use lastseen_tests::product::fleet::Fleet;
use serde_json::Value;

const SEED: u64 = 131;

fn pod(node: &Node) -> String {
    format!("{}:{}", node.plan.name, node.pod.name())
}

fn cast(lab: &Lab) -> Cast<'_> {
    Cast {
        lab,
        sender: &lab.nodes[0],
        receiver: &lab.nodes[1],
        bystander: &lab.nodes[2],
        bystander_meets_sender: false,
        family: Family::V4,
    }
}

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
        let (trace, code) = trace(&fleet, &[&pod(from), &address, "--count", "20"]);
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
    eprintln!("{}", shown.stdout);
}
