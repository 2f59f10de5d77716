//! The examples in the help work when they are pasted.

use crate::wire;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use crate::support::{Fabric, Run, Script};
use lastseen_proto::v1::*;
use tokio::process::Command;

/// A stand-in for a program that needs a network with packets.
const SHELL: &str = "set -o pipefail; tcpdump() { cat eth0.pcap; }";
/// The header of a classic pcap file of Ethernet.
const PCAP: [u8; 24] = [0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0];
/// IPv4 and UDP from 10.0.0.1:9 to 10.0.0.2:9 without payload.
const DATAGRAM: [u8; 28] =
    [0x45, 0, 0, 28, 0, 1, 0, 0, 64, 17, 0x66, 0xce, 10, 0, 0, 1, 10, 0, 0, 2, 0, 9, 0, 9, 0, 8, 0, 0];

/// A capture file in which one packet comes twice.
fn pcap() -> Vec<u8> {
    let frame = [[2; 12].as_slice(), &[8, 0], &DATAGRAM].concat();
    let length = (frame.len() as u32).to_le_bytes();
    let record = [[0; 8].as_slice(), &length, &length, &frame].concat();
    [PCAP.as_slice(), &record, &record].concat()
}

/// What can be said of a fabric where something is amiss, as far as it does not make a command fail.
fn script(second_node: NodeState) -> Script {
    let node =
        |name: &str, state: NodeState| Node { name: name.into(), state: state as i32, ..Default::default() };
    let capture =
        Capture { id: "c-7f3k".into(), state: CaptureState::Completed as i32, ..Default::default() };
    let loss = Loss {
        cause: Some(Cause { text: "a black hole".into(), ..Default::default() }),
        ..Default::default()
    };
    let path = PathReport { losses: vec![loss], ..Default::default() };
    Script {
        nodes: vec![node("node-a", NodeState::Ready), node("node-b", second_node)],
        flows: vec![FlowRecord { retransmissions: 3, ..Default::default() }],
        captures: vec![capture.clone()],
        started: capture.clone(),
        watches: vec![vec![capture]],
        report: Some(DiffReport {
            verdict: diff_report::Verdict::Delivered as i32,
            paths: vec![path],
            ..Default::default()
        }),
        probe: Probe {
            id: "p-7f3kab".into(),
            state: ProbeState::ProbeCompleted as i32,
            reports: vec![ProbeReport { results: vec![ProbeResult::default()], ..Default::default() }],
            ..Default::default()
        },
        audit: vec![AuditRecord { outcome: audit_record::Outcome::Refused.into(), ..Default::default() }],
        ..Default::default()
    }
}

/// The name of each command with the lines of its examples; those of `completion` write to the system.
fn examples(command: &clap::Command) -> Vec<(String, Vec<String>)> {
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let lines = help.lines().skip_while(|line| !line.starts_with("Example")).skip(1);
    let lines = lines.take_while(|line| line.starts_with("  ")).map(|line| line.trim().to_owned()).collect();
    let mut all = vec![(command.get_name().to_owned(), lines)];
    all.extend(
        command.get_subcommands().filter(|command| command.get_name() != "completion").flat_map(examples),
    );
    all
}

async fn paste(fabric: &Fabric, line: &str, dir: &Path) -> Run {
    let programs = Path::new(env!("CARGO_BIN_EXE_ctl")).parent().unwrap().display().to_string();
    let path = std::env::var("PATH").unwrap_or_default();
    let mut bash = Command::new("bash");
    bash.arg("-c").arg(format!("{SHELL}; {line}")).current_dir(dir).stdin(Stdio::null()).kill_on_drop(true);
    bash.env("PATH", format!("{programs}:{path}"));
    bash.env("LASTSEEN_SERVER", fabric.address.to_string()).env("LASTSEEN_PKI_DIR", fabric.operator());
    Run::of(bash.output().await.unwrap())
}

#[tokio::test]
async fn every_example_works_when_pasted() {
    let fabric = Fabric::serve(script(NodeState::Ready)).await;
    let ailing = Fabric::serve(script(NodeState::Offline)).await;
    for (command, lines) in examples(&lastseen_ctl::cli::command()) {
        assert!(!lines.is_empty(), "{command}: no example");
        let dir = tempfile::tempdir().unwrap();
        for file in ["eth0.pcap", "eth0.pcapng"] {
            std::fs::write(dir.path().join(file), pcap()).unwrap();
        }
        captures(dir.path());
        for line in lines {
            let run = paste(&fabric, &line, dir.path()).await;
            assert!(run.code == Some(0) && run.err.is_empty(), "{line}: {run:?}");
            if line.contains("jq") {
                // A field that does not exist is null to jq, or chooses nothing.
                let answers = run.out + &paste(&ailing, &line, dir.path()).await.out;
                assert!(!answers.is_empty() && !answers.contains("null"), "{line}: {answers:?}");
            }
        }
    }
}

/// What the examples of `diff-files` name.
fn captures(dir: &Path) {
    wire::Wire::default().write(dir);
    wire::topology(dir);
    let mut zipped = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    zipped.write_all(&std::fs::read(dir.join("b-eth0.pcap")).unwrap()).unwrap();
    std::fs::write(dir.join("b-eth0.pcap.gz"), zipped.finish().unwrap()).unwrap();
}
