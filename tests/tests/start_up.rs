//! Daemons that cannot start say why, all at once, and leave with 2.

#![allow(clippy::disallowed_methods, reason = "the programs under test are started")]

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context;
use lastseen_tests::lab::cleanup;
use lastseen_tests::lab::netns::Netns;
use lastseen_tests::product::binaries::Binaries;
use lastseen_tests::product::fleet::STOP;
use lastseen_tests::product::pki::Pki;
use lastseen_tests::product::process::Process;
use tempfile::TempDir;

/// A namespace with nothing but its loopback, and certificates for it.
struct Host {
    netns: Netns,
    folder: TempDir,
    binaries: Binaries,
    pki: Pki,
}

impl Host {
    fn new(name: &str) -> Self {
        let prefix = format!("{}{name}-", cleanup::own_prefix());
        let netns = Netns::create(&format!("{prefix}host")).expect("namespace (needs root)");
        let folder = tempfile::Builder::new().prefix(&prefix).tempdir().expect("folder");
        let binaries = Binaries::locate().expect("programs");
        let pki = Pki::create(&binaries.ctl, folder.path()).expect("authority");
        Self { netns, folder, binaries, pki }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn coordinator(&self) -> Command {
        let identity = self.path("coordinator-coordinator");
        if !identity.exists() {
            self.pki.coordinator(Ipv4Addr::LOCALHOST).expect("issue");
        }
        let mut command = Command::new(&self.binaries.coordinator);
        command.arg("--pki-dir").arg(identity);
        command
    }

    /// Runs to the end; the exit code must be 2, and one line say what is wrong, with every word.
    fn refuses(&self, command: Command, words: &[&str]) {
        let log = self.path("refused.log");
        let _ = fs::remove_file(&log);
        let (code, text) = Process::run(&self.netns, command, &log, STOP).expect("it gives up");
        println!("{text}");
        assert_eq!(code, 2, "{text}");
        let errors: Vec<_> = text.lines().filter(|line| line.to_lowercase().contains("error")).collect();
        let &[error] = errors.as_slice() else { panic!("{} error lines: {text}", errors.len()) };
        let missing: Vec<_> = words.iter().filter(|word| !error.contains(**word)).collect();
        assert!(error.starts_with("error: ") && missing.is_empty(), "missing {missing:?}: {text}");
        assert!(!text.contains("panicked"), "{text}");
    }
}

#[test]
fn a_data_directory_that_cannot_be_written() {
    let host = Host::new("data");
    let mut command = host.coordinator();
    command.args(["--data-dir", "/proc/lastseen"]);
    host.refuses(command, &["data-dir", "/proc/lastseen"]);
}

#[test]
fn a_port_in_use() {
    let host = Host::new("port");
    let taken = host.netns.enter(|| TcpListener::bind("127.0.0.1:7443").context("bind")).expect("bind");
    let mut command = host.coordinator();
    command.arg("--data-dir").arg(host.path("data"));
    host.refuses(command, &["listen", "127.0.0.1:7443"]);
    drop(taken);
}

#[test]
fn unknown_configuration_keys_are_all_named() {
    let host = Host::new("keys");
    let file = host.path("config.toml");
    fs::write(&file, "colour = \"red\"\nlisten = \"127.0.0.1:0\"\nspeed = 3\n").expect("write");
    for program in [&host.binaries.coordinator, &host.binaries.node_agent] {
        let mut command = Command::new(program);
        command.arg("--config").arg(&file);
        host.refuses(command, &["colour", "speed"]);
    }
}

#[test]
fn an_identity_of_the_wrong_role_or_none() {
    let host = Host::new("role");
    let agent = host.pki.issue("agent", "node-1", &[]).expect("issue");
    let mut as_agent = Command::new(&host.binaries.coordinator);
    as_agent.arg("--pki-dir").arg(&agent).arg("--data-dir").arg(host.path("data"));
    host.refuses(as_agent, &["agent/node-1", "coordinator"]);
    let mut without = Command::new(&host.binaries.coordinator);
    without.arg("--pki-dir").arg(host.path("nothing")).arg("--data-dir").arg(host.path("data"));
    host.refuses(without, &["pki", "nothing"]);
}
