//! Names and pages over the overlay, where it carries them and where it does not.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::thread;

use lastseen_tests::fault::Fault;
use lastseen_tests::lab::Lab;
use lastseen_tests::lab::node::Node;
use lastseen_tests::lab::plan::Family;
use lastseen_tests::product::fleet::Fleet;

use super::{SEED, all, cast, only_result, pod, run_one};

/// Where the pod's name server and web server are.
const NAMES: u16 = 53;
const PAGES: u16 = 8000;
/// Of a page: many packets of the largest size.
const PAGE_BYTES: usize = 200_000;

/// Answers every question with one address (RFC 1035 §4.1), until the test ends.
fn serve_names(node: &Node) {
    let at = SocketAddr::new(node.plan.pod_in(Family::V4), NAMES);
    let socket = node.pod.enter(|| Ok(UdpSocket::bind(at)?)).expect("socket");
    thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let mut answer = buffer[..length].to_vec();
            // A response without an error, with one answer.
            answer[2..8].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1]);
            // The question's name, A, IN, 30 s, four bytes.
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4, 10, 9, 8, 7]);
            let _ = socket.send_to(&answer, from);
        }
    });
}

/// Serves one large page, until the test ends.
fn serve_pages(node: &Node) {
    let at = SocketAddr::new(node.plan.pod_in(Family::V4), PAGES);
    let listener = node.pod.enter(|| Ok(TcpListener::bind(at)?)).expect("socket");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            thread::spawn(move || {
                let mut request = [0; 1_024];
                let _ = stream.read(&mut request);
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {PAGE_BYTES}\r\n\r\n");
                let _ = stream.write_all(head.as_bytes());
                let _ = stream.write_all(&vec![b'x'; PAGE_BYTES]);
            });
        }
    });
}

#[test]
fn a_name_server_answers_or_is_told_to_be_silent_or_refused() {
    let lab = Lab::build(SEED + 20).expect("lab");
    let fleet = Fleet::start(&lab).expect("fleet");
    let (from, to) = (&lab.nodes[0], &lab.nodes[1]);
    serve_names(to);
    let (source, server) = (pod(from), to.plan.pod.to_string());
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
    serve_pages(from);
    let url = format!("http://{}:{PAGES}/", from.plan.pod);
    // The page goes the way that the fault is on.
    let source = pod(to);
    let arguments =
        ["http", &url, "--from", &source, "--count", "2", "--interval", "20ms", "--timeout", "2s"];
    let result = only_result(&fleet, &arguments);
    assert_eq!(result["http"]["bodyBytes"], PAGE_BYTES.to_string(), "{result}");
    assert_eq!(run_one(&fleet, &arguments), all("PROBE_ANSWERED 200 OK", 2));
    let black_hole = Fault::MtuBlackHole.inject(cast(&lab)).expect("fault");
    assert_eq!(run_one(&fleet, &arguments), all("PROBE_SILENT in the middle of the body", 2));
    black_hole.undo().unwrap();
    assert_eq!(run_one(&fleet, &arguments), all("PROBE_ANSWERED 200 OK", 2));
}
