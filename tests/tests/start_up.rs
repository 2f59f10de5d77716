//! Daemons that cannot start say why, all at once, and leave with 2.

#![allow(clippy::disallowed_methods, reason = "the programs under test are started")]

use std::fs;
use std::net::TcpListener;
use std::process::Command;

use anyhow::Context;
use lastseen_tests::product::fleet::STOP;
use lastseen_tests::product::host::Host;
use lastseen_tests::product::process::Process;

/// Runs to the end; the exit code must be 2, and one line say what is wrong, with every word.
fn refuses(host: &Host, command: Command, words: &[&str]) {
    let log = host.path("refused.log");
    let _ = fs::remove_file(&log);
    let (code, text) = Process::run(&host.netns, command, &log, STOP).expect("it gives up");
    println!("{text}");
    assert_eq!(code, 2, "{text}");
    let errors: Vec<_> = text.lines().filter(|line| line.to_lowercase().contains("error")).collect();
    let &[error] = errors.as_slice() else { panic!("{} error lines: {text}", errors.len()) };
    let missing: Vec<_> = words.iter().filter(|word| !error.contains(**word)).collect();
    assert!(error.starts_with("error: ") && missing.is_empty(), "missing {missing:?}: {text}");
    assert!(!text.contains("panicked"), "{text}");
}

#[test]
fn a_data_directory_that_cannot_be_written() {
    let host = Host::new("data").expect("host (needs root)");
    let mut command = host.coordinator().expect("identity");
    command.args(["--data-dir", "/proc/lastseen"]);
    refuses(&host, command, &["data-dir", "/proc/lastseen"]);
}

#[test]
fn a_port_in_use() {
    let host = Host::new("port").expect("host (needs root)");
    let taken = host.netns.enter(|| TcpListener::bind("127.0.0.1:7443").context("bind")).expect("bind");
    let mut command = host.coordinator().expect("identity");
    command.arg("--data-dir").arg(host.path("data"));
    refuses(&host, command, &["listen", "127.0.0.1:7443"]);
    drop(taken);
}

#[test]
fn unknown_configuration_keys_are_all_named() {
    let host = Host::new("keys").expect("host (needs root)");
    let file = host.path("config.toml");
    fs::write(&file, "colour = \"red\"\nlisten = \"127.0.0.1:0\"\nspeed = 3\n").expect("write");
    for program in [&host.binaries.coordinator, &host.binaries.node_agent] {
        let mut command = Command::new(program);
        command.arg("--config").arg(&file);
        refuses(&host, command, &["colour", "speed"]);
    }
}

#[test]
fn an_identity_of_the_wrong_role_or_none() {
    let host = Host::new("role").expect("host (needs root)");
    let agent = host.pki.issue("agent", "node-1", &[]).expect("issue");
    let mut as_agent = Command::new(&host.binaries.coordinator);
    as_agent.arg("--pki-dir").arg(&agent).arg("--data-dir").arg(host.path("data"));
    refuses(&host, as_agent, &["agent/node-1", "coordinator"]);
    let mut without = Command::new(&host.binaries.coordinator);
    without.arg("--pki-dir").arg(host.path("nothing")).arg("--data-dir").arg(host.path("data"));
    refuses(&host, without, &["pki", "nothing"]);
}
