//! Daemons that die, restart and stop: the report stays right, agents come back, SIGTERM ends with 0.

use lastseen_tests::lab::Lab;
use lastseen_tests::product::fleet::{Fleet, STOP};
use lastseen_tests::scenario::file::{self, Scenario};
use lastseen_tests::scenario::run::{self, Options, Outcome};
use nix::sys::signal::Signal;

const SEED: u64 = 51;

fn scenario(part_of_name: &str) -> Scenario {
    let scenarios = file::load(&file::folder()).expect("scenario files");
    let found = scenarios.into_iter().find(|scenario| scenario.name.contains(part_of_name));
    found.unwrap_or_else(|| panic!("no scenario {part_of_name:?}"))
}

#[test]
fn the_report_is_right_although_the_coordinator_was_killed_in_the_window() {
    let lab = Lab::build(SEED).expect("lab");
    let mut fleet = Fleet::start(&lab).expect("fleet");
    let outcome = run::run(
        &mut fleet,
        &scenario("switch drops"),
        SEED,
        Options { kill_coordinator: true, ..Options::default() },
    );
    let Outcome::Judged(truth, finding) = outcome else { panic!("{outcome:?}\n{}", fleet.logs()) };
    assert_eq!(finding.differences, Vec::<String>::new(), "{}", fleet.logs());
    assert!(truth.lost() > 0);
}

#[test]
fn agents_come_back_after_the_coordinator_was_away() {
    let lab = Lab::build(SEED + 1).expect("lab");
    let mut fleet = Fleet::start(&lab).expect("fleet");
    fleet.kill_coordinator();
    fleet.start_coordinator().expect("start again");
    fleet.wait_until_ready().expect("agents reconnect");
    fleet.ctl.ok(&["start-capture", "--all-nodes", "--duration", "1s"]).expect("a capture afterwards");
}

#[test]
fn an_agent_that_was_killed_registers_again() {
    let lab = Lab::build(SEED + 2).expect("lab");
    let mut fleet = Fleet::start(&lab).expect("fleet");
    fleet.agents[0].signal(Signal::SIGKILL).expect("kill");
    fleet.agents[0].wait(STOP).expect("it is gone");
    fleet.start_agent(&lab.nodes[0], &[]).expect("start again");
    fleet.ctl.ok(&["start-capture", "--all-nodes", "--duration", "1s"]).expect("a capture afterwards");
}

#[test]
fn sigterm_ends_every_daemon_with_0() {
    let lab = Lab::build(SEED + 3).expect("lab");
    let mut fleet = Fleet::start(&lab).expect("fleet");
    let processes = fleet.agents.iter_mut().chain(&mut fleet.coordinator);
    for process in processes {
        process.signal(Signal::SIGTERM).expect("signal");
        let status = process.wait(STOP).expect("it stops");
        assert_eq!(status.code(), Some(0), "{}", process.tail());
    }
}
