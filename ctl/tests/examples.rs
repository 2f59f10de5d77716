//! The examples in the help work when they are pasted.

mod support;

use std::path::Path;
use std::process::Stdio;

use lastseen_proto::v1::*;
use support::{Fabric, Run, Script};
use tokio::process::Command;

/// Stand-ins for programs of others that need not be here, and that are not under test.
const SHELL: &str = "set -o pipefail; jq() { cat; }; tcpdump() { cat eth0.pcap; }";
/// A classic pcap file of Ethernet without packets.
const EMPTY_PCAP: [u8; 24] =
    [0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0];

fn script() -> Script {
    let node = |name: &str| Node { name: name.into(), state: NodeState::Ready as i32, ..Default::default() };
    let capture =
        Capture { id: "c-7f3k".into(), state: CaptureState::Completed as i32, ..Default::default() };
    Script {
        nodes: vec![node("node-a"), node("node-b")],
        captures: vec![capture.clone()],
        started: capture.clone(),
        watches: vec![vec![capture]],
        report: Some(DiffReport { verdict: diff_report::Verdict::Delivered as i32, ..Default::default() }),
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
    let fabric = Fabric::serve(script()).await;
    for (command, lines) in examples(&lastseen_ctl::cli::command()) {
        assert!(!lines.is_empty(), "{command}: no example");
        let dir = tempfile::tempdir().unwrap();
        for file in ["eth0.pcap", "eth0.pcapng"] {
            std::fs::write(dir.path().join(file), EMPTY_PCAP).unwrap();
        }
        for line in lines {
            let run = paste(&fabric, &line, dir.path()).await;
            assert!(run.code == Some(0) && run.err.is_empty(), "{line}: {run:?}");
        }
    }
}
