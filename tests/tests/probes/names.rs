//! Names and pages over the overlay, where it carries them and where it does not.

use std::net::SocketAddr;

use lastseen_tests::fault::{Cast, Fault};
use lastseen_tests::lab::Lab;
use lastseen_tests::lab::plan::Family;
use lastseen_tests::product::fleet::Fleet;
use lastseen_tests::served::Server;

use super::{SEED, all, only_result, run_one};

/// Where the pod's name server and web server are.
const NAMES: u16 = 53;
const PAGES: u16 = 8000;
/// Of a page: many packets of the largest size.
const PAGE_BYTES: usize = 200_000;

#[test]
fn a_name_server_answers_or_is_told_to_be_silent_or_refused() {
    let lab = Lab::build(SEED + 20).expect("lab");
    let fleet = Fleet::start(&lab).expect("fleet");
    let (from, to) = (&lab.nodes[0], &lab.nodes[1]);
    let _server = Server::names(&to.pod, SocketAddr::new(to.plan.pod_in(Family::V4), NAMES)).expect("server");
    let (source, server) = (from.pod_source(), to.plan.pod.to_string());
    let common =
        ["--from", &source, "--nameserver", &server, "--count", "2", "--interval", "20ms", "--timeout", "1s"];
    let arguments = [&["dns", "web.example."][..], &common].concat();
    let result = only_result(&fleet, &arguments);
    assert_eq!(result["dns"]["records"][0], "10.9.8.7", "{result}");
    assert_eq!(result["address"], server, "{result}");
    assert_eq!(run_one(&fleet, &arguments), all("PROBE_ANSWERED", 2));
    for (verdict, found) in [
        ("drop", "PROBE_SILENT"),
        ("reject with icmp port-unreachable", "PROBE_UNREACHABLE port unreachable"),
    ] {
        let rule = format!(
            "table inet probes {{\nchain forward {{\ntype filter hook forward priority 0\nudp dport {NAMES} {verdict}\n}}\n}}\n"
        );
        to.netns.nft(&rule).unwrap();
        let seen = run_one(&fleet, &arguments);
        // A router that says so is named.
        assert!(seen.len() == 1 && seen.keys().all(|said| said.starts_with(found)), "{verdict}: {seen:?}");
        to.netns.nft("delete table inet probes").unwrap();
    }
    // Over TCP nobody answers there.
    let by_tcp = [&arguments[..], &["--tcp"]].concat();
    assert_eq!(run_one(&fleet, &by_tcp), all("PROBE_REFUSED TCP, connecting: connection refused", 2));
}

#[test]
fn a_page_comes_or_stalls_in_the_middle_where_large_packets_vanish() {
    let lab = Lab::build(SEED + 21).expect("lab");
    let fleet = Fleet::start(&lab).expect("fleet");
    let (from, to) = (&lab.nodes[0], &lab.nodes[1]);
    let at = SocketAddr::new(from.plan.pod_in(Family::V4), PAGES);
    let _server = Server::pages(&from.pod, at, PAGE_BYTES).expect("server");
    let url = format!("http://{}:{PAGES}/", from.plan.pod);
    // The page goes the way that the fault is on.
    let source = to.pod_source();
    let arguments =
        ["http", &url, "--from", &source, "--count", "2", "--interval", "20ms", "--timeout", "2s"];
    let result = only_result(&fleet, &arguments);
    assert_eq!(result["http"]["bodyBytes"], PAGE_BYTES.to_string(), "{result}");
    assert_eq!(run_one(&fleet, &arguments), all("PROBE_ANSWERED 200 OK", 2));
    let black_hole = Fault::MtuBlackHole.inject(Cast::first(&lab)).expect("fault");
    assert_eq!(run_one(&fleet, &arguments), all("PROBE_SILENT in the middle of the body", 2));
    black_hole.undo().unwrap();
    assert_eq!(run_one(&fleet, &arguments), all("PROBE_ANSWERED 200 OK", 2));
}
