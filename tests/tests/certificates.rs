//! Who may do what: every certificate that is not the right one is refused, and everything runs on.

#![allow(clippy::disallowed_methods, reason = "the programs under test are started")]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use lastseen_tests::lab::Lab;
use lastseen_tests::product::fleet::{Fleet, STOP};
use lastseen_tests::product::pki::Pki;
use lastseen_tests::product::process::Process;

/// An identity of another authority that claims to trust ours.
fn impostor(fleet: &Fleet<'_>, right: &Path) -> PathBuf {
    let folder = fleet.path("other");
    fs::create_dir(&folder).expect("make a folder");
    let other = Pki::create(&fleet.binaries.ctl, &folder).expect("another authority");
    let identity = other.issue("operator", "tester", &[]).expect("its operator");
    fs::copy(right.join("ca.crt"), identity.join("ca.crt")).expect("copy our authority's certificate");
    identity
}

#[test]
fn only_the_right_certificate_opens_the_door() {
    let lab = Lab::build(41).expect("lab");
    let mut fleet = Fleet::start(&lab).expect("fleet");
    let stranger_folder = fleet.path("stranger");
    fs::create_dir(&stranger_folder).expect("make a folder");
    let stranger = Pki::create(&fleet.binaries.ctl, &stranger_folder).expect("a stranger's authority");
    let empty = fleet.path("empty");
    fs::create_dir(&empty).expect("make a folder");
    let issue = |role: &str, name: &str, extra: &[&str]| fleet.pki.issue(role, name, extra).expect("issue");
    let expired = issue("operator", "late", &["--valid-for", "1s"]);
    std::thread::sleep(Duration::from_secs(2));
    let empty_name = empty.display().to_string();
    let no_identity = ["pki", empty_name.as_str()];
    let list: &[&str] = &["list-nodes"];
    let start: &[&str] = &["start-capture", "--all-nodes", "--no-wait"];
    let cases: Vec<(&str, PathBuf, &[&str], &[&str])> = vec![
        (
            "another authority",
            stranger.issue("operator", "tester", &[]).expect("issue"),
            list,
            &["certificate"],
        ),
        ("an impostor", impostor(&fleet, &fleet.ctl.pki), list, &["certificate"]),
        ("an expired certificate", expired, list, &["expired"]),
        (
            "an agent's certificate",
            fleet.path(&format!("agent-{}", lab.nodes[0].plan.name)),
            list,
            &["agent"],
        ),
        ("a viewer that starts a capture", issue("viewer", "guest", &[]), start, &["viewer"]),
        ("no certificate", empty, list, &no_identity),
    ];
    let mut wrong = Vec::new();
    for (what, identity, arguments, words) in cases {
        let outcome = fleet.ctl.with_identity(identity).run(arguments).expect("run ctl");
        println!("{what}\n  {}", outcome.stderr.trim());
        wrong.extend(outcome.fault_of_refusal(words).map(|fault| format!("{what}: {fault}")));
    }
    fleet.ctl.with_identity(fleet.path("viewer-guest")).ok(list).expect("a viewer may read");
    wrong.extend(fleet.casualties());
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn an_agent_speaks_only_for_its_own_node() {
    let lab = Lab::build(42).expect("lab");
    let mut fleet = Fleet::start(&lab).expect("fleet");
    let [own, other, _] = &lab.nodes[..] else { panic!("three nodes") };
    let cases = [
        (fleet.path(&format!("agent-{}", other.plan.name)), other.plan.name.clone()),
        (fleet.ctl.pki.clone(), "operator".to_owned()),
    ];
    for (number, (identity, word)) in cases.into_iter().enumerate() {
        let mut command = Command::new(&fleet.binaries.node_agent);
        command.args(["--coordinator", &fleet.ctl.server, "--node-name", &own.plan.name]);
        command.args(["--admin-listen", "127.0.0.1:0"]).arg("--pki-dir").arg(identity);
        let log = fleet.path(&format!("impostor-{number}.log"));
        let (code, text) = Process::run(&own.netns, command, &log, STOP).expect("it gives up");
        println!("{text}");
        assert_eq!(code, 2, "{text}");
        assert!(text.contains(&own.plan.name) && text.contains(&word), "{text}");
    }
    assert_eq!(fleet.casualties(), Vec::<String>::new());
}

#[test]
fn garbage_on_the_port_disturbs_nobody() {
    let lab = Lab::build(43).expect("lab");
    let mut fleet = Fleet::start(&lab).expect("fleet");
    let server = fleet.ctl.server.clone();
    let garbage: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\n\r\n",
        &[0xff; 9_000],
        &[0x16, 3, 1, 0xff, 0xff, 1],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ];
    let mut open = Vec::new();
    for bytes in garbage {
        let stream = lab.management.enter(|| TcpStream::connect(&server).context("connect"));
        let mut stream = stream.expect("the port is open");
        // The other end may hang up before all is written, which is an answer too.
        let _ = stream.write_all(bytes);
        open.push(stream);
    }
    assert_eq!(fleet.casualties(), Vec::<String>::new());
    fleet
        .ctl
        .ok(&["start-capture", "--all-nodes", "--duration", "1s"])
        .expect("a capture beside the garbage");
    let plain = &mut open[0];
    plain.set_read_timeout(Some(STOP)).expect("set a timeout");
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/"), "the port speaks without TLS");
}
