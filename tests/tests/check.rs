//! Checks in the lab: all is well, and each thing that is not is found where it is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use lastseen_tests::fault::{Cast, Fault, Side};
use lastseen_tests::lab::Lab;
use lastseen_tests::lab::node::Node;
use lastseen_tests::lab::plan::Family;
use lastseen_tests::product::fleet::Fleet;
use lastseen_tests::served::Server;
use serde_json::Value;

const SEED: u64 = 151;
/// A port on which a pod accepts connections, and one of its web server.
const OPEN: u16 = 8080;
const PAGES: u16 = 8000;
const CLOSED: u16 = 8081;

/// A report, and the exit code.
fn check(fleet: &Fleet<'_>, arguments: &[&str]) -> (Value, i32) {
    let outcome = fleet.ctl.run(&[arguments, &["-o", "json"]].concat()).unwrap();
    let report = serde_json::from_str(&outcome.stdout)
        .unwrap_or_else(|error| panic!("{error}: {outcome:?}\n{}", fleet.logs()));
    (report, outcome.code)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// `ITEM source` and, of what another node has, `→ node`; with reason.
fn results(report: &Value, verdict: &str) -> BTreeMap<String, String> {
    let all = report["results"].as_array().expect("results").iter();
    let wanted = all.filter(|result| result["verdict"] == format!("VERDICT_{verdict}"));
    let named = wanted.map(|result| {
        let (item, source) = (text(&result["item"]).trim_start_matches("CHECK_"), &result["source"]);
        let pod = if text(&source["netns"]).is_empty() { "" } else { " pod" };
        let far = match text(&result["targetNode"]) {
            "" => String::new(),
            node => format!(" → {node}"),
        };
        (format!("{item} {}{pod}{far}", text(&source["node"])), text(&result["reason"]).to_owned())
    });
    named.collect()
}

/// How many results there are of each item.
fn items(report: &Value) -> BTreeMap<String, usize> {
    let mut items = BTreeMap::new();
    for result in report["results"].as_array().expect("results") {
        *items.entry(text(&result["item"]).trim_start_matches("CHECK_").to_owned()).or_default() += 1;
    }
    items
}

/// Each node has the next one as its gateway.
fn give_gateways(lab: &Lab) {
    for (node, next) in lab.nodes.iter().zip(lab.nodes.iter().cycle().skip(1)) {
        node.netns.ip(&format!("route add default via {}\n", next.plan.underlay)).expect("route");
    }
}

#[test]
fn hosts_that_are_well_pass_and_what_is_broken_fails_where_it_is() {
    let lab = Lab::build(SEED).expect("lab");
    give_gateways(&lab);
    let mut fleet = Fleet::start(&lab).expect("fleet");
    let names: Vec<&str> = lab.nodes.iter().map(|node| node.plan.name.as_str()).collect();
    let [a, b, c] = names[..] else { panic!("{names:?}") };
    let (report, code) = check(&fleet, &["check-host", "--all-nodes"]);
    assert_eq!(
        (code, results(&report, "FAIL").len(), results(&report, "UNKNOWN").len()),
        (0, 0, 0),
        "{report:#}\n{}",
        fleet.logs()
    );
    let each = ["GATEWAY", "NEIGHBORS", "CONNTRACK", "FORWARDING", "RP_FILTER"].map(|item| (item, 3));
    let pairs = ["PATH_MTU", "OVERLAY_MTU", "OVERLAY"].map(|item| (item, 6));
    let expected = each.into_iter().chain(pairs).map(|(item, count)| (item.to_owned(), count)).collect();
    assert_eq!(items(&report), expected);
    let well = results(&report, "PASS");
    let tunnel = &well[&format!("OVERLAY {a} → {b}")];
    assert_eq!(*tunnel, format!("3 of 3 frames arrive on eth0 of {b} (vxlan 1)"));
    assert_eq!(
        well[&format!("OVERLAY_MTU {a} → {b}")],
        "1450 of 1450 bytes: as large as the interface takes"
    );

    // What fails, wherever else that shows: at least this, and nothing of the other items that are named.
    let failing = |report: &Value, items: &[&str]| -> BTreeSet<String> {
        let all = results(report, "FAIL");
        all.into_keys()
            .filter(|name| items.iter().any(|item| name.starts_with(&format!("{item} "))))
            .collect()
    };
    let only = |names: &[String]| -> BTreeSet<String> { names.iter().cloned().collect() };
    let cast = Cast::first(&lab);
    for (fault, expected, reason) in [
        (
            Fault::SwitchLoss { percent: 100 },
            format!("OVERLAY {a} → {b}"),
            format!("3 frames left eth0 (vxlan 1), and none arrived on {b}"),
        ),
        (
            Fault::VxlanBlocked { at: Side::Receiver },
            format!("OVERLAY {a} → {b}"),
            format!("frames arrive on eth0 of {b} (vxlan 1) and do not come out of its tunnel"),
        ),
        (Fault::FdbMissing, format!("OVERLAY {a} → {b}"), format!("3 were sent, and no frame left {a}")),
        (
            Fault::ForwardingOff,
            format!("FORWARDING {b}"),
            "packets of pods are not passed on: net.ipv4.conf.flannel/1.forwarding is 0".to_owned(),
        ),
    ] {
        let injected = fault.inject(cast).expect("fault");
        let (report, code) = check(&fleet, &["check-host"]);
        injected.undo().unwrap();
        let found = failing(&report, &["OVERLAY", "FORWARDING", "GATEWAY", "CONNTRACK", "RP_FILTER"]);
        assert_eq!((code, &found), (1, &only(std::slice::from_ref(&expected))), "{fault:?}: {report:#}");
        assert_eq!(results(&report, "FAIL")[&expected], reason, "{fault:?}");
    }

    // A subset: what concerns it, and no more.
    let injected = Fault::MtuBlackHole.inject(cast).expect("fault");
    let (report, code) = check(&fleet, &["check-host", "--nodes", a]);
    injected.undo().unwrap();
    assert_eq!(code, 1, "{report:#}");
    let found = results(&report, "FAIL");
    let of_mtu = &found[&format!("OVERLAY_MTU {a} → {b}")];
    assert!(of_mtu.contains("BLACK HOLE"), "{of_mtu}");
    assert!(!found.contains_key(&format!("OVERLAY_MTU {a} → {c}")), "{found:?}");
    let others = report["results"].as_array().unwrap().iter();
    let others: Vec<_> =
        others.filter(|result| result["source"]["node"] != a && result["targetNode"] != a).collect();
    assert!(others.is_empty(), "{others:#?}");

    let injected = Fault::ReversePath.inject(cast).expect("fault");
    let (from, to) = (lab.nodes[0].pod_source(), lab.nodes[1].plan.pod.to_string());
    fleet
        .ctl
        .ok(&["run-probe", "icmp", &to, "--from", &from, "--count", "2", "--timeout", "1s"])
        .expect("probe");
    let (report, _) = check(&fleet, &["check-host"]);
    injected.undo().unwrap();
    let found = results(&report, "FAIL");
    let reason = found.get(&format!("RP_FILTER {b}")).unwrap_or_else(|| panic!("{report:#}"));
    assert!(reason.starts_with("strict on flannel.1, and "), "{reason}");

    // A gateway that nobody is.
    let nobody = format!("route replace default via {}\n", unused(&lab));
    lab.nodes[0].netns.ip(&nobody).unwrap();
    let (report, code) = check(&fleet, &["check-host"]);
    let found = failing(&report, &["GATEWAY", "NEIGHBORS", "OVERLAY"]);
    assert_eq!(code, 1, "{report:#}");
    assert_eq!(found, only(&[format!("GATEWAY {a}"), format!("NEIGHBORS {a}")]), "{report:#}");

    // Who is unknown or away is told, and the others are looked at.
    fleet.kill_agent(&lab.nodes[2]).expect("agent");
    let away = |report: &Value| results(report, "UNKNOWN").get(&format!("AGENT {c}")).cloned();
    let gone = until(|| away(&check(&fleet, &["check-host"]).0));
    assert_eq!(gone, "its agent is not connected");
    let (report, code) = check(&fleet, &["check-host", "--nodes", &format!("{b},nobody")]);
    let unknown = results(&report, "UNKNOWN");
    assert!(unknown["AGENT nobody"].contains("no node named \"nobody\""), "{unknown:?}");
    let tunnel = &results(&report, "PASS")[&format!("OVERLAY {b} → {a}")];
    assert!(code == 3 && tunnel.starts_with("3 of 3 frames arrive"), "{code} {report:#}");

    // In words, with the next step.
    let shown =
        fleet.ctl.run(&["check-host", "--nodes", &format!("{a},{b}"), "--external", "192.0.2.1"]).unwrap();
    assert_eq!(shown.code, 1, "{shown:?}");
    assert!(shown.stdout.contains("ctl trace-path") && shown.stdout.contains(" FAIL"), "{}", shown.stdout);
}

/// Asks until there is an answer: agents are missed after a while.
fn until<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    (0..20).find_map(|_| ask()).expect("an answer")
}

/// An address of the underlay that no node has.
fn unused(lab: &Lab) -> std::net::Ipv4Addr {
    let taken: Vec<_> = lab.nodes.iter().map(|node| node.plan.underlay).collect();
    let [x, y, z, _] = taken[0].octets();
    (2..250).map(|last| [x, y, z, last].into()).find(|address| !taken.contains(address)).expect("an address")
}

#[test]
fn a_path_is_checked_both_ways_with_what_carries_it() {
    let lab = Lab::build(SEED + 1).expect("lab");
    give_gateways(&lab);
    let fleet = Fleet::start(&lab).expect("fleet");
    let (from, to) = (&lab.nodes[0], &lab.nodes[1]);
    let at = |port| SocketAddr::new(to.plan.pod_in(Family::V4), port);
    let _open = Server::connections(&to.pod, at(OPEN)).expect("server");
    let _pages = Server::pages(&to.pod, at(PAGES), 100).expect("server");
    let (source, target) = (from.plan.pod.to_string(), format!("{}:{OPEN}", to.plan.pod));
    let page = format!("http://{}:{PAGES}/", to.plan.pod);
    let arguments = ["check-path", &source, &target, "--endpoint", &page];
    let (report, code) = check(&fleet, &arguments);
    assert_eq!((code, results(&report, "FAIL").len()), (0, 0), "{report:#}\n{}", fleet.logs());
    let of = |node: &Node| node.plan.name.clone();
    let well = results(&report, "PASS");
    for expected in [
        format!("ICMP {} pod → {}", of(from), of(to)),
        format!("TCP {} pod → {}", of(from), of(to)),
        format!("PATH_MTU {} pod → {}", of(from), of(to)),
        format!("ENDPOINT {} pod → {}", of(from), of(to)),
        format!("ICMP {} pod → {}", of(to), of(from)),
        format!("OVERLAY {} → {}", of(from), of(to)),
        format!("OVERLAY {} → {}", of(to), of(from)),
        format!("FORWARDING {}", of(to)),
    ] {
        assert!(well.contains_key(&expected), "{expected} in {well:#?}");
    }
    let of_another = |name: &String| name.contains(&of(&lab.nodes[2])) && !name.starts_with("GATEWAY ");
    assert!(!well.keys().any(of_another), "{well:#?}");

    let drop = format!(
        "table inet check {{\nchain forward {{\ntype filter hook forward priority 0\nip daddr {} drop\n}}\n}}\n",
        to.plan.pod
    );
    to.netns.nft(&drop).expect("rule");
    let (report, code) = check(&fleet, &arguments);
    to.netns.nft("delete table inet check").expect("rule");
    let broken = results(&report, "FAIL");
    assert_eq!(code, 1, "{report:#}");
    assert_eq!(broken[&format!("TCP {} pod → {}", of(from), of(to))], "filtered: no answer");
    assert!(!broken.keys().any(|name| name.starts_with("OVERLAY ")), "the tunnel is well: {broken:#?}");

    let closed = format!("{}:{CLOSED}", to.plan.pod);
    let (report, code) = check(&fleet, &["check-path", &source, &closed]);
    let broken = results(&report, "FAIL");
    assert_eq!((code, broken.len()), (1, 1), "{report:#}");
    assert!(broken[&format!("TCP {} pod → {}", of(from), of(to))].starts_with("closed"), "{broken:#?}");
    // Nobody knows who has it, and it does not answer.
    let (report, code) = check(&fleet, &["check-path", &source, "192.0.2.1"]);
    assert_eq!(code, 1, "{report:#}");
    assert!(
        report["notes"]
            .as_array()
            .unwrap()
            .iter()
            .any(|note| text(note) == "the way back: no node has 192.0.2.1")
    );
    for (arguments, words) in [
        (&["check-path", "nobody", "10.0.0.1"][..], "no node named \"nobody\""),
        (&["check-host", "--external", "10.0.0.1:99999"], "has a port that is not within 1 and 65535"),
        (&["check-host", "--name", "a b"], "a b"),
        (&["check-host", "--endpoint", "ftp://x/"], "ftp"),
        (&["check-host", "--ca", "/nowhere/ca.pem"], "--ca: /nowhere/ca.pem"),
    ] {
        let refused = fleet.ctl.run(arguments).unwrap();
        assert_eq!(refused.code, 2, "{arguments:?} {refused:?}");
        assert!(refused.stderr.contains(words), "{arguments:?} {refused:?}");
    }
}
