//! Probes between nodes: meshes and throughput.

use std::collections::BTreeMap;

use lastseen_tests::fault::{Cast, Fault};
use lastseen_tests::lab::Lab;
use lastseen_tests::lab::node::Node;
use lastseen_tests::product::fleet::Fleet;
use serde_json::Value;

use super::{PATIENCE, SEED, all, found, reply};

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
    let underlay = |node: &Node| (node.plan.underlay.to_string(), node.plan.name.clone());
    assert_eq!(members(&hosts), lab.nodes.iter().map(underlay).collect::<BTreeMap<_, _>>());
    let overlay = mesh(&["--all-nodes", "--network", "overlay", "-6"]);
    let in_tunnel = |node: &Node| (node.plan.pods6.to_string(), node.plan.name.clone());
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
        .nft("table inet mesh {\nchain ports {\ntype filter hook input priority 0\niifname \"eth0\" tcp dport 9 drop\n}\n}\n")
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
    let sources = format!("{},{},{}", first.pod_source(), second.plan.name, third.plan.pod);
    let mesh = ["run-probe", "mesh", "--from", &sources, "--count", "2", "--interval", "20ms"];
    let outcome = fleet.ctl.run(&mesh).unwrap();
    assert_eq!(outcome.code, 2, "{outcome:?}");
    let reason = format!("{}: the address of this network namespace is not known", first.pod_source());
    assert!(outcome.stdout.contains(&reason), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("1 others each"), "{}", outcome.stdout);
    let shown = fleet.ctl.json(&["show-probe"]).unwrap();
    let found = found(&shown);
    assert_eq!(found.len(), 2, "{shown}");
    assert!(found.values().all(|found| *found == all("PROBE_ANSWERED", 2)), "{found:?}");
}

/// What both ends found, the sender's first.
fn ends(reply: &Value) -> [Value; 2] {
    let reports = reply["probe"]["reports"].as_array().expect("reports");
    let of = |role: &str| {
        let mut results = reports.iter().map(|report| &report["results"][0]);
        let found = results.find(|result| result["throughput"]["role"] == role);
        found.unwrap_or_else(|| panic!("{reply}")).clone()
    };
    [of("THROUGHPUT_SENDER"), of("THROUGHPUT_RECEIVER")]
}

/// A counter of 64 bits, which JSON has as text.
fn number(end: &Value, key: &str) -> u64 {
    let text = end["throughput"][key].as_str().unwrap_or_else(|| panic!("no {key}: {end}"));
    text.parse().unwrap()
}

#[test]
fn a_throughput_is_what_comes_through_and_its_loss_what_the_switch_drops() {
    let lab = Lab::build(SEED + 22).expect("lab");
    let fleet = Fleet::start(&lab).expect("fleet");
    let [first, second] = [&lab.nodes[0], &lab.nodes[1]];
    let run = |from: &str, to: &str, how: &[&str]| {
        ends(&reply(&fleet, &[&["throughput", "--from", from, "--to", to, "--duration", "1s"], how].concat()))
    };
    let (pod4, pod6) = (|node: &Node| node.plan.pod.to_string(), |node: &Node| node.plan.pod6.to_string());
    let mut pairs = vec![(first.plan.name.clone(), second.plan.name.clone(), vec![])];
    pairs.push((first.plan.name.clone(), second.plan.name.clone(), vec!["--network", "overlay"]));
    pairs.push((first.pod_source(), pod4(second), vec![]));
    pairs.push((pod6(first), pod6(second), vec![]));
    // Both on one node.
    pairs.push((first.plan.name.clone(), pod4(first), vec![]));
    for (from, to, how) in &pairs {
        let [sent, came] = run(from, to, &[&["--udp", "--rate", "5M"][..], how].concat());
        assert_eq!([number(&came, "lost"), number(&came, "duplicates")], [0, 0], "{from} {to}: {came}");
        assert_eq!(number(&came, "packets"), number(&sent, "packets"), "{from} {to}");
        assert!(number(&sent, "packets") > 0);
        let [sent, came] = run(from, to, &[&["--tcp", "--rate", "20M"][..], how].concat());
        assert_eq!(number(&came, "bytes"), number(&sent, "bytes"), "{from} {to}: {sent} {came}");
        assert!(number(&came, "bytes") > 0);
        assert_eq!(came["throughput"]["strangers"], "0", "{came}");
    }
    let loss = Fault::SwitchLoss { percent: 5 }.inject(Cast::first(&lab)).expect("fault");
    let [sent, came] = run(&pod4(first), &pod4(second), &["--udp", "--rate", "20M"]);
    println!("{sent}\n{came}");
    let (lost, dropped) = (number(&came, "lost"), loss.struck().unwrap());
    assert_eq!(number(&sent, "packets"), number(&came, "packets") + lost);
    // A call or the end may be among the dropped, and is said again.
    assert!(lost > 0 && lost <= dropped && dropped <= lost + 4, "lost {lost}, dropped {dropped}");
    let [sent, came] = run(&pod4(first), &pod4(second), &["--tcp", "--rate", "20M"]);
    assert!(number(&sent, "retransmits") > 0, "{sent}");
    assert!(number(&came, "bytes") > 0, "{came}");
    let shown = fleet.ctl.ok(&["show-probe", "-o", "wide"]).unwrap();
    println!("{shown}");
    assert!(shown.contains("RETRANSMITS") && shown.contains("SECOND"), "{shown}");
    loss.undo().unwrap();
}

#[test]
fn a_throughput_of_which_nothing_comes_is_told_by_both_ends_and_a_schedule_goes_on() {
    let lab = Lab::build(SEED + 23).expect("lab");
    let fleet = Fleet::start(&lab).expect("fleet");
    let [first, second] = [&lab.nodes[0], &lab.nodes[1]];
    let (from, to) = (first.plan.pod.to_string(), second.plan.pod.to_string());
    let rule = format!(
        "table inet probes {{\nchain forward {{\ntype filter hook forward priority 0\nip daddr {to} drop\n}}\n}}\n"
    );
    second.netns.nft(&rule).unwrap();
    let common = ["--from", &from, "--to", &to, "--duration", "1s", "--timeout", "1s"];
    for how in ["--tcp", "--udp"] {
        let [sent, came] = ends(&reply(&fleet, &[&["throughput", how][..], &common].concat()));
        assert_eq!(sent["attempts"][0]["outcome"], "PROBE_SILENT", "{how}: {sent}");
        assert_eq!(came["attempts"][0]["detail"], format!("nothing arrived from {from}"), "{how}: {came}");
    }
    second.netns.nft("delete table inet probes").unwrap();
    let back = format!(
        "table inet probes {{\nchain forward {{\ntype filter hook forward priority 0\nip saddr {to} drop\n}}\n}}\n"
    );
    second.netns.nft(&back).unwrap();
    let [sent, came] = ends(&reply(&fleet, &[&["throughput", "--udp"][..], &common].concat()));
    assert_eq!(sent["attempts"][0]["outcome"], "PROBE_SILENT", "{sent}");
    assert!(
        came["attempts"][0]["detail"].as_str().unwrap().contains("the answers do not come back"),
        "{came}"
    );
    second.netns.nft("delete table inet probes").unwrap();
    let every = ["--every", "4s", "-o", "name"];
    let id = fleet.ctl.ok(&[&["run-probe", "throughput", "--udp"][..], &common, &every].concat()).unwrap();
    let show = ["show-probe", id.trim(), "--runs", "100"];
    let both = |reply: &Value| {
        let reports = reply["probe"]["reports"].as_array()?;
        let runs = |run: &str| reports.iter().filter(|report| report["run"] == run).count();
        (runs("0") == 2 && runs("1") == 2).then(|| reports.clone())
    };
    let reports = fleet.ctl.wait_for("two runs", PATIENCE, &show, both).unwrap();
    for report in &reports {
        assert_eq!(report["results"][0]["attempts"][0]["outcome"], "PROBE_ANSWERED", "{report}");
    }
    fleet.ctl.ok(&["stop-probe", id.trim()]).unwrap();
}
