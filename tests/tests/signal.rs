//! An interrupted program takes its lab with it.

#![allow(clippy::disallowed_methods, reason = "the program under test is started")]

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use lastseen_tests::lab::cleanup::{PREFIX, children, namespaces};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Sends `signal` once the demo has made `namespaces_first` namespaces; afterwards none may be left.
fn interrupt(signal: Signal, namespaces_first: usize) {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_lastseen-demo")).spawn().expect("start the demo");
    let prefix = format!("{PREFIX}{}-", demo.id());
    let patience = Instant::now() + Duration::from_mins(1);
    while namespaces(&prefix).len() < namespaces_first {
        assert!(Instant::now() < patience, "no lab came up");
        thread::sleep(Duration::from_millis(5));
    }
    kill(Pid::from_raw(demo.id() as i32), signal).expect("signal");
    assert_eq!(demo.wait().expect("wait").code(), Some(130));
    assert_eq!(namespaces(&prefix), Vec::<String>::new());
}

/// Programs that are in no namespace of their own end with the one that started them, too.
#[test]
fn interrupted_while_a_fleet_runs() {
    let home = tempfile::tempdir().expect("folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_lastseen-faults"));
    command.args(["--only", "nothing breaks", "--rounds", "1", "--out"]).arg(home.path().join("out.json"));
    let mut faults = command.spawn().expect("start the faults");
    let patience = Instant::now() + Duration::from_mins(1);
    let started = loop {
        let started = children(faults.id());
        // A coordinator and two agents.
        if started.len() >= 3 {
            break started;
        }
        assert!(Instant::now() < patience, "no fleet came up");
        thread::sleep(Duration::from_millis(5));
    };
    kill(Pid::from_raw(faults.id() as i32), Signal::SIGINT).expect("signal");
    assert_eq!(faults.wait().expect("wait").code(), Some(130));
    let left: Vec<_> = started.into_iter().filter(|pid| kill(*pid, None).is_ok()).collect();
    assert_eq!(left, []);
}

#[test]
fn interrupted_while_the_lab_is_built() {
    interrupt(Signal::SIGINT, 2);
}

#[test]
fn terminated_when_the_lab_stands() {
    interrupt(Signal::SIGTERM, 8);
}
