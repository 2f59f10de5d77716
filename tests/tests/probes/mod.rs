//! Probes in the lab: what each kind finds where all is well, and where something is broken.

mod names;
mod pairs;
mod paths;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use lastseen_tests::fault::{Cast, Fault};
use lastseen_tests::lab::Lab;
use lastseen_tests::lab::node::Node;
use lastseen_tests::lab::plan::Family;
use lastseen_tests::product::fleet::Fleet;
use lastseen_tests::served::Server;
use serde_json::Value;

const SEED: u64 = 91;
/// A port on which pods answer, and one on which they do not.
const OPEN: u16 = 8080;
const CLOSED: u16 = 8081;
/// What does not happen within this time does not happen.
const PATIENCE: Duration = Duration::from_secs(30);

/// Answers on [`OPEN`]: every connection is accepted, every datagram comes back.
fn answer(node: &Node) -> Vec<Server> {
    let addresses = [node.plan.pod_in(Family::V4), node.plan.pod_in(Family::V6)];
    let servers = addresses.into_iter().flat_map(|address| {
        let at = SocketAddr::new(address, OPEN);
        [Server::connections(&node.pod, at), Server::echo(&node.pod, at)]
    });
    servers.collect::<Result<_, _>>().expect("servers")
}

/// The answer of a probe that every source can do.
fn reply(fleet: &Fleet<'_>, arguments: &[&str]) -> Value {
    let arguments = [&["run-probe"], arguments].concat();
    fleet.ctl.json(&arguments).unwrap_or_else(|error| panic!("{error:#}\n{}", fleet.logs()))
}

/// The one result of a probe with one source and one target.
fn only_result(fleet: &Fleet<'_>, arguments: &[&str]) -> Value {
    let reply = reply(fleet, arguments);
    let results = reply["probe"]["reports"][0]["results"].as_array().expect("results");
    assert_eq!(results.len(), 1, "{reply}");
    results[0].clone()
}

/// What became of the attempts at one target: how often which outcome, and what was said of it.
type Found = BTreeMap<String, usize>;

/// By source and target.
fn found(reply: &Value) -> BTreeMap<(String, String), Found> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut all = BTreeMap::new();
    for report in reply["probe"]["reports"].as_array().expect("reports") {
        let source = format!("{}:{}", text(&report["source"]["node"]), text(&report["source"]["netns"]));
        for result in report["results"].as_array().expect("results") {
            let mut found = Found::new();
            for attempt in result["attempts"].as_array().into_iter().flatten() {
                let said =
                    [&attempt["outcome"], &attempt["detail"], &attempt["responder"]].map(text).join(" ");
                *found.entry(said.trim().to_owned()).or_default() += 1;
            }
            if let Some(reason) = result["reason"].as_str().filter(|reason| !reason.is_empty()) {
                found.insert(reason.to_owned(), 0);
            }
            all.insert((source.clone(), text(&result["target"])), found);
        }
    }
    all
}

/// Runs a probe that every source can do, and returns what each found at each target.
fn run(fleet: &Fleet<'_>, arguments: &[&str]) -> BTreeMap<(String, String), Found> {
    found(&reply(fleet, arguments))
}

/// The same of one source and one target.
fn run_one(fleet: &Fleet<'_>, arguments: &[&str]) -> Found {
    let found = run(fleet, arguments);
    assert_eq!(found.len(), 1, "{found:?}");
    found.into_values().next().unwrap()
}

fn all(said: &str, count: usize) -> Found {
    Found::from([(said.to_owned(), count)])
}

#[test]
fn every_kind_finds_what_is_there_from_pods_and_hosts_alike() {
    let lab = Lab::build(SEED).expect("lab");
    let fleet = Fleet::start(&lab).expect("fleet");
    let (from, to) = (&lab.nodes[0], &lab.nodes[1]);
    let _servers = answer(to);
    let sources = format!("{},{},{}", from.pod_source(), from.plan.name, lab.nodes[2].pod_source());
    for family in [Family::V4, Family::V6] {
        let address = to.plan.pod_in(family);
        let echo = run(&fleet, &["icmp", &address.to_string(), "--from", &sources, "--interval", "20ms"]);
        assert_eq!(echo.len(), 3);
        for (who, found) in echo {
            assert_eq!(found, all("PROBE_ANSWERED", 5), "{who:?}");
        }
        let [open, closed] = [OPEN, CLOSED].map(|port| SocketAddr::new(address, port).to_string());
        let common = ["--from", &sources, "--interval", "20ms", "--count", "3"];
        let tcp = run(&fleet, &[&["tcp", &open, &closed][..], &common].concat());
        let udp = run(&fleet, &[&["udp", &open, &closed][..], &common].concat());
        assert_eq!((tcp.len(), udp.len()), (6, 6));
        for ((source, target), found) in tcp {
            let said = if target == open { "PROBE_ANSWERED" } else { "PROBE_REFUSED" };
            assert_eq!(found, all(said, 3), "tcp {source} {target}");
        }
        for ((source, target), found) in udp {
            let said = if target == open { "PROBE_ANSWERED" } else { "PROBE_REFUSED port unreachable" };
            // A host answers no more than some ICMP errors a second (net.ipv4.icmp_ratelimit).
            let is_limited = target == closed && found.get(said).is_some_and(|count| *count >= 1);
            assert!(is_limited || found == all(said, 3), "udp {source} {target}: {found:?}");
        }
    }
}

#[test]
fn an_echo_that_must_not_be_fragmented_tells_where_it_is_too_large() {
    let lab = Lab::build(SEED + 1).expect("lab");
    let fleet = Fleet::start(&lab).expect("fleet");
    let (from, to) = (&lab.nodes[0], &lab.nodes[1]);
    let (source, address) = (from.pod_source(), to.plan.pod.to_string());
    let echo = |size: &str, df: &[&str]| {
        let common =
            ["icmp", &address, "--from", &source, "--size", size, "--count", "2", "--interval", "20ms"];
        run_one(&fleet, &[&common[..], df].concat())
    };
    // 1,450 less 20 and 8 bytes of headers.
    assert_eq!(echo("1422", &["--df"]), all("PROBE_ANSWERED", 2));
    let too_large = echo("1423", &["--df"]);
    let said = "PROBE_NOT_SENT it is larger than the MTU on the way, and must not be fragmented";
    assert_eq!(too_large, all(said, 2));
    assert_eq!(echo("1423", &[]), all("PROBE_ANSWERED", 2), "in fragments");
    from.netns.ip(&format!("link set {} mtu 1500\nlink set cni0 mtu 1500\n", from.plan.veth)).unwrap();
    from.pod.ip("link set eth0 mtu 1500\n").unwrap();
    let by_router = echo("1423", &["--df"]);
    let said = format!("PROBE_UNREACHABLE fragmentation needed {}", from.plan.gateway());
    assert_eq!(by_router, all(&said, 2), "each time, whatever the kernel remembers");
    assert_eq!(echo("1423", &[]), all("PROBE_ANSWERED", 2), "in fragments that the router makes");
}

#[test]
fn what_is_broken_is_told_apart() {
    let lab = Lab::build(SEED + 2).expect("lab");
    let fleet = Fleet::start(&lab).expect("fleet");
    let (from, to) = (&lab.nodes[0], &lab.nodes[1]);
    let _servers = answer(to);
    let (source, address) = (from.pod_source(), to.plan.pod.to_string());
    let port = format!("{address}:{OPEN}");
    let common = ["--from", &source, "--count", "2", "--interval", "20ms", "--timeout", "1s"];
    let three = || {
        let kind = |kind: &str, target: &str| run_one(&fleet, &[&[kind, target][..], &common].concat());
        [kind("icmp", &address), kind("tcp", &port), kind("udp", &port)]
    };
    let rule = |verdict: &str| {
        let script = format!(
            "table inet probes {{\nchain forward {{\ntype filter hook forward priority 0\nip daddr {address} {verdict}\n}}\n}}\n"
        );
        to.netns.nft(&script).unwrap();
    };
    assert_eq!(three(), [all("PROBE_ANSWERED", 2), all("PROBE_ANSWERED", 2), all("PROBE_ANSWERED", 2)]);
    rule("drop");
    assert_eq!(three(), [all("PROBE_SILENT", 2), all("PROBE_SILENT", 2), all("PROBE_SILENT", 2)]);
    to.netns.nft("delete table inet probes").unwrap();
    rule("reject with icmp type admin-prohibited");
    for (kind, found) in ["icmp", "tcp", "udp"].into_iter().zip(three()) {
        let said =
            if kind == "tcp" { "PROBE_UNREACHABLE" } else { "PROBE_UNREACHABLE administratively prohibited" };
        let told =
            found.iter().filter(|(words, _)| words.starts_with(said)).map(|(_, count)| count).sum::<usize>();
        assert!(told >= 1, "{kind}: {found:?}");
    }
    to.netns.nft("delete table inet probes").unwrap();
    let cast = Cast::first(&lab);
    let no_route = Fault::NoRoute.inject(cast).expect("fault");
    let [icmp, ..] = three();
    let said = format!("PROBE_UNREACHABLE network unreachable {}", from.plan.gateway());
    assert!(icmp.contains_key(&said), "{icmp:?}");
    no_route.undo().unwrap();
    let gone = Fault::PodGone.inject(cast).expect("fault");
    let patient =
        ["icmp", &address, "--from", &source, "--count", "2", "--interval", "20ms", "--timeout", "6s"];
    let found = run_one(&fleet, &patient);
    assert!(found.keys().all(|said| said.starts_with("PROBE_UNREACHABLE host unreachable")), "{found:?}");
    gone.undo().unwrap();
    assert_eq!(three(), [all("PROBE_ANSWERED", 2), all("PROBE_ANSWERED", 2), all("PROBE_ANSWERED", 2)]);
}

#[test]
fn what_cannot_be_done_is_said_of_its_source_and_the_others_go_on() {
    let lab = Lab::build(SEED + 3).expect("lab");
    let mut fleet = Fleet::start(&lab).expect("fleet");
    let (from, to) = (&lab.nodes[0], &lab.nodes[1]);
    let address = to.plan.pod.to_string();
    let sources = format!("{},{}:no-such-namespace", from.pod_source(), to.plan.name);
    let outcome =
        fleet.ctl.run(&["run-probe", "icmp", &address, "--from", &sources, "--count", "1"]).unwrap();
    assert_eq!(outcome.code, 2, "{outcome:?}");
    let (whole, broken) = (format!("{} ", from.pod_source()), "there is no no-such-namespace on this node");
    assert!(outcome.stdout.contains(broken), "{}", outcome.stdout);
    assert!(
        outcome.stdout.lines().any(|line| line.starts_with(&whole) && line.contains("answers")),
        "{}",
        outcome.stdout
    );
    let targets = [&address, "169.254.169.254", "no-such-name.invalid"];
    let from = ["--nodes", &lab.nodes[0].plan.name, "--count", "1"];
    let found = run(&fleet, &[&["icmp"][..], &targets, &from].concat());
    let of = |target: &str| {
        let source = format!("{}:", lab.nodes[0].plan.name);
        found[&(source, target.to_owned())].keys().next().unwrap().clone()
    };
    assert_eq!(of(&address), "PROBE_ANSWERED");
    assert!(of(targets[1]).contains("link-local or a metadata service"), "{}", of(targets[1]));
    assert!(of(targets[2]).contains("does not resolve"), "{}", of(targets[2]));
    for (arguments, words) in [
        (&["icmp", "10.0.0.1:80", "--all-nodes"][..], &["targets", "such a probe has none"][..]),
        (&["tcp", "10.0.0.1", "--all-nodes"], &["targets", "lacks a port"]),
        (&["tcp", "10.0.0.1:70000", "--all-nodes"], &["port that is not within 1 and 65535"]),
        (&["icmp", "10.0.0.1", "--nodes", "nobody"], &["no node named", "nobody"]),
        (&["icmp", "10.0.0.1", "--all-nodes", "--size", "65508"], &["--size", "65507"]),
        (&["icmp", "10.0.0.1", "--all-nodes", "--count", "0"], &["--count", "100"]),
        (&["icmp", "10.0.0.1", "--all-nodes", "--interval", "1ms"], &["interval", "10ms"]),
        (&["icmp", "10.0.0.1", "--all-nodes", "--every", "2s"], &["every", "too short for a run"]),
        (&["icmp", "10.0.0.1", "10.0.0.1", "--all-nodes"], &["targets", "twice"]),
        (&["icmp", "10.0.0.1", "--from", "nobody:../../etc"], &["nobody"]),
        (&["icmp", "10.0.0.1"], &["--all-nodes"]),
    ] {
        let outcome = fleet.ctl.run(&[&["run-probe"], arguments].concat()).unwrap();
        assert_eq!(outcome.fault_of_refusal(words), None, "{arguments:?}");
    }
    // Without its agent a source is known to be missing.
    fleet.stop_agent(&lab.nodes[2]).unwrap();
    let absent = &lab.nodes[2].plan.name;
    let quick = ["--count", "1", "--timeout", "100ms"];
    let outcome =
        fleet.ctl.run(&[&["run-probe", "icmp", &address, "--nodes", absent][..], &quick].concat()).unwrap();
    assert!(outcome.code == 2 && outcome.stdout.contains("its agent was not there"), "{outcome:?}");
}

#[test]
fn a_schedule_goes_on_whoever_dies_until_it_is_stopped() {
    let lab = Lab::build(SEED + 4).expect("lab");
    let mut fleet = Fleet::start(&lab).expect("fleet");
    let address = lab.nodes[1].plan.pod.to_string();
    let every = ["--every", "1s", "--count", "2", "--interval", "20ms", "--timeout", "200ms", "-o", "name"];
    let nodes = format!("{},{}", lab.nodes[0].plan.name, lab.nodes[2].plan.name);
    let id =
        fleet.ctl.ok(&[&["run-probe", "icmp", &address, "--nodes", &nodes][..], &every].concat()).unwrap();
    let id = id.trim().to_owned();
    let show = ["show-probe", &id, "--runs", "100"];
    // Numbers of the runs that each node reported.
    let runs = |reply: &Value, node: &Node| -> Option<Vec<u64>> {
        let reports = reply["probe"]["reports"].as_array()?.iter();
        let mine = reports.filter(|report| report["source"]["node"] == *node.plan.name);
        let mut runs: Vec<u64> =
            mine.map(|report| report["run"].as_str().map_or(0, |run| run.parse().unwrap())).collect();
        runs.reverse();
        Some(runs)
    };
    let (steady, killed) = (&lab.nodes[0], &lab.nodes[2]);
    let after = |fleet: &Fleet<'_>, node: &Node, run: u64| {
        let is_there = |reply: &Value| runs(reply, node)?.last().filter(|last| **last > run).copied();
        let what = format!("a run of {} after {run}", node.plan.name);
        fleet
            .ctl
            .wait_for(&what, PATIENCE, &show, is_there)
            .unwrap_or_else(|e| panic!("{e:#}\n{}", fleet.logs()))
    };
    let first = after(&fleet, steady, 0);
    fleet.kill_coordinator();
    thread::sleep(Duration::from_secs(3));
    fleet.start_coordinator().unwrap();
    let later = after(&fleet, steady, first + 3);
    fleet.kill_agent(killed).unwrap();
    after(&fleet, killed, later + 1);
    let reply = fleet.ctl.json(&show).unwrap();
    let seen = runs(&reply, steady).unwrap();
    let whole: Vec<u64> = (0..=*seen.last().unwrap()).collect();
    assert_eq!(seen, whole, "who was cut off keeps what it found");
    assert_eq!(reply["probe"]["state"], "PROBE_RUNNING");
    for report in reply["probe"]["reports"].as_array().unwrap() {
        assert_eq!(report["results"][0]["attempts"].as_array().unwrap().len(), 2, "{report}");
    }
    fleet.ctl.ok(&["stop-probe", &id]).unwrap();
    let stopped = |reply: &Value| runs(reply, steady)?.last().copied();
    let last = fleet.ctl.wait_for("the last run", PATIENCE, &show, stopped).unwrap();
    thread::sleep(Duration::from_secs(3));
    let reply = fleet.ctl.json(&show).unwrap();
    assert!(*runs(&reply, steady).unwrap().last().unwrap() <= last + 1, "one was under way at most");
    assert_eq!(reply["probe"]["state"], "PROBE_STOPPED");
    let listed = fleet.ctl.ok(&["list-probes"]).unwrap();
    assert!(listed.lines().any(|line| line.starts_with(&id) && line.contains("stopped")), "{listed}");
}
