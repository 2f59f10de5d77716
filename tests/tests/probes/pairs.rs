//! Probes between nodes: meshes.

use std::collections::BTreeMap;

use lastseen_tests::lab::Lab;
use lastseen_tests::product::fleet::Fleet;
use serde_json::Value;

use super::{SEED, all, found, pod, reply};

/// Which source an address of the results stands for.
fn members(reply: &Value) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let members = reply["probe"]["spec"]["mesh"]["members"].as_array().expect("members");
    members.iter().map(|member| (text(&member["address"]), text(&member["source"]["node"]))).collect()
}

#[test]
fn a_mesh_reaches_all_and_points_at_the_node_whose_packets_are_dropped() {
    let lab = Lab::build(SEED + 20).expect("lab");
    let fleet = Fleet::start(&lab).expect("fleet");
    let sick = &lab.nodes[1];
    let quick = ["--count", "3", "--interval", "20ms", "--timeout", "300ms"];
    let mesh = |arguments: &[&str]| reply(&fleet, &[&["mesh"], arguments, &quick].concat());
    let pods: Vec<String> = lab.nodes.iter().map(|node| node.plan.pod.to_string()).collect();
    let pods6: Vec<String> = lab.nodes.iter().map(|node| node.plan.pod6.to_string()).collect();

    let hosts = mesh(&["--all-nodes"]);
    let underlay =
        |node: &lastseen_tests::lab::node::Node| (node.plan.underlay.to_string(), node.plan.name.clone());
    assert_eq!(members(&hosts), lab.nodes.iter().map(underlay).collect::<BTreeMap<_, _>>());
    let overlay = mesh(&["--all-nodes", "--network", "overlay", "-6"]);
    let in_tunnel =
        |node: &lastseen_tests::lab::node::Node| (node.plan.pods6.to_string(), node.plan.name.clone());
    assert_eq!(members(&overlay), lab.nodes.iter().map(in_tunnel).collect::<BTreeMap<_, _>>());
    for well in [hosts, overlay, mesh(&["--from", &pods.join(",")]), mesh(&["--from", &pods6.join(",")])] {
        let found = found(&well);
        assert_eq!(found.len(), 6, "{well}");
        assert!(found.values().all(|found| *found == all("PROBE_ANSWERED", 3)), "{found:?}");
    }
    let sparse = mesh(&["--all-nodes", "--neighbors", "1"]);
    let found_sparsely = found(&sparse);
    let targets: std::collections::BTreeSet<_> = found_sparsely.keys().map(|(_, target)| target).collect();
    assert_eq!((found_sparsely.len(), targets.len()), (3, 3), "each probes one and is probed by one");

    sick.netns
        .nft("table inet mesh {\nchain input {\ntype filter hook input priority 0\niifname \"eth0\" icmp type echo-request drop\n}\n}\n")
        .unwrap();
    let table = |arguments: &[&str]| {
        fleet.ctl.ok(&[&["run-probe", "mesh"], arguments, &quick].concat()).expect("a mesh")
    };
    let shown = table(&["--all-nodes"]);
    println!("{shown}");
    let verdict = format!("look at {}: 2 of 2 that probe it lose, and it loses to 0 of 2\n", sick.plan.name);
    assert!(shown.contains(&verdict), "{shown}");
    assert_eq!(shown.matches("look at ").count(), 1, "{shown}");
    let filtered = table(&["--tcp", "9", "--all-nodes"]);
    assert!(filtered.contains("closed") && !filtered.contains("look at"), "{filtered}");
    sick.netns
        .nft("table inet mesh {\nchain tcp {\ntype filter hook input priority 0\niifname \"eth0\" tcp dport 9 drop\n}\n}\n")
        .unwrap();
    let filtered = table(&["--tcp", "9", "--all-nodes"]);
    println!("{filtered}");
    assert!(filtered.contains("filtered") && filtered.contains(&verdict), "{filtered}");
    sick.netns.nft("delete table inet mesh").unwrap();
}

#[test]
fn a_source_of_a_mesh_whose_address_nobody_knows_fails_and_the_others_go_on() {
    let lab = Lab::build(SEED + 21).expect("lab");
    let fleet = Fleet::start(&lab).expect("fleet");
    let [first, second, third] = [&lab.nodes[0], &lab.nodes[1], &lab.nodes[2]];
    let sources = format!("{},{},{}", pod(first), second.plan.name, third.plan.pod);
    let mesh = ["run-probe", "mesh", "--from", &sources, "--count", "2", "--interval", "20ms"];
    let outcome = fleet.ctl.run(&mesh).unwrap();
    assert_eq!(outcome.code, 2, "{outcome:?}");
    let reason = format!("{}: the address of this network namespace is not known", pod(first));
    assert!(outcome.stdout.contains(&reason), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("1 others each"), "{}", outcome.stdout);
    let shown = fleet.ctl.json(&["show-probe"]).unwrap();
    let found = found(&shown);
    assert_eq!(found.len(), 2, "{shown}");
    assert!(found.values().all(|found| *found == all("PROBE_ANSWERED", 2)), "{found:?}");
}
