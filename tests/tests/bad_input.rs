//! Bad input to `ctl`: one clear line, exit code 2, and everything runs on.

use lastseen_tests::lab::Lab;
use lastseen_tests::product::fleet::Fleet;

/// Runs every refused call and returns what was wrong with each answer.
fn refused(fleet: &Fleet<'_>, calls: &[(&[&str], &[&str])]) -> Vec<String> {
    let judged = calls.iter().filter_map(|(arguments, words)| {
        let outcome = fleet.ctl.run(arguments).expect("run ctl");
        println!("ctl {}\n  {}", arguments.join(" "), outcome.stderr.trim());
        Some(format!("ctl {}: {}", arguments.join(" "), outcome.fault_of_refusal(words)?))
    });
    judged.collect()
}

fn assert_none(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn what_a_user_mistypes_is_refused_in_one_line() {
    let lab = Lab::build(31).expect("lab");
    let mut fleet = Fleet::start(&lab).expect("fleet");
    let here = lab.nodes[0].plan.name.as_str();
    let nodes = format!("{here},nowhere-9");
    let start = ["start-capture", "--all-nodes", "--no-wait"];
    let with = |more: &[&'static str]| [&start[..], more].concat();
    let mut wrong = refused(
        &fleet,
        &[
            (&with(&["--filter", "prot 80"]), &["filter", "prot 80"]),
            (&with(&["--filter", "ether host 1:2:3:4:5:6"]), &["filter", "ether"]),
            (&["start-capture", "--no-wait", "--nodes", &nodes], &["nodes", "nowhere-9"]),
            (&with(&["--duration", "0s"]), &["duration", "0"]),
            (&with(&["--duration", "1000h"]), &["duration", "1h"]),
            (&with(&["--duration", "soon"]), &["duration", "soon"]),
            (&with(&["--start-at", "2020-01-01T00:00:00Z"]), &["start", "2020-01-01T00:00:00"]),
            (&with(&["--start-at", "yesterday noon-ish"]), &["start", "yesterday noon-ish"]),
            (&with(&["--snaplen", "1"]), &["snap", "1"]),
        ],
    );
    for command in [
        "show-capture",
        "diff-nodes",
        "follow-capture",
        "stop-capture",
        "delete-capture",
        "list-flows",
        "list-lost",
    ] {
        wrong.extend(refused(&fleet, &[(&[command, "c-nosuch"], &["c-nosuch"])]));
    }
    wrong.extend(refused(&fleet, &[(&["show-node", "nowhere-9"], &["nowhere-9"])]));
    wrong.extend(fleet.casualties());
    assert_none(&wrong);
}

#[test]
fn nodes_and_interfaces_that_cannot_take_part_are_named() {
    let lab = Lab::build(32).expect("lab");
    let mut fleet = Fleet::start(&lab).expect("fleet");
    let (absent, veth) = (&lab.nodes[1], lab.nodes[0].plan.veth.as_str());
    let elsewhere = ["start-capture", "-q", "--all-nodes", "--duration", "1s", "--interfaces", veth];
    let mut wrong = refused(&fleet, &[(&elsewhere, &["interface", veth, &absent.plan.name])]);
    fleet.stop_agent(absent).expect("stop an agent");
    let name = absent.plan.name.as_str();
    wrong.extend(refused(
        &fleet,
        &[(&["start-capture", "--no-wait", "--nodes", name], &["nodes", name, "offline"])],
    ));
    fleet.start_agent(absent, &[]).expect("start it again");
    wrong.extend(fleet.casualties());
    assert_none(&wrong);
}

#[test]
fn a_dry_run_tells_what_each_node_would_do_and_leaves_nothing_behind() {
    let lab = Lab::build(34).expect("lab");
    let mut fleet = Fleet::start(&lab).expect("fleet");
    let (absent, veth) = (lab.nodes[1].plan.name.as_str(), lab.nodes[0].plan.veth.as_str());
    let rehearsal = |interfaces| ["start-capture", "--all-nodes", "--dry-run", "--interfaces", interfaces];
    let text = fleet.ctl.ok(&rehearsal("auto")).expect("a dry run");
    for node in &lab.nodes {
        assert!(text.contains(&format!("\n{}: would capture on ", node.plan.name)), "{text}");
    }
    let mut wrong = refused(&fleet, &[(&rehearsal(veth), &["dry run", "interface", veth, absent])]);
    assert_eq!(fleet.ctl.ok(&["list-captures", "-o", "name"]).expect("list").trim(), "");
    let here = lab.nodes[0].plan.name.as_str();
    fleet
        .ctl
        .ok(&["start-capture", "--nodes", here, "--duration", "1s", "--interfaces", veth])
        .expect("a capture after the dry run");
    wrong.extend(fleet.casualties());
    assert_none(&wrong);
}

#[test]
fn captures_beyond_the_cap_are_refused_and_the_others_go_on() {
    const MORE_THAN_ANY_CAP: usize = 40;
    let lab = Lab::build(33).expect("lab");
    let mut fleet = Fleet::start(&lab).expect("fleet");
    let call = ["start-capture", "--all-nodes", "--no-wait", "--start-in", "10m", "-o", "name"];
    let mut running = Vec::new();
    while running.len() < MORE_THAN_ANY_CAP {
        let outcome = fleet.ctl.run(&call).expect("run ctl");
        if outcome.code != 0 {
            break;
        }
        running.push(outcome.stdout.trim().to_owned());
    }
    let cap = running.len().to_string();
    assert!(!running.is_empty() && running.len() < MORE_THAN_ANY_CAP, "{cap} captures were started");
    let mut wrong = refused(&fleet, &[(&call, &["capture", &cap]), (&call, &["capture", &cap])]);
    for capture in &running {
        fleet.ctl.ok(&["stop-capture", capture]).expect("stop");
    }
    fleet
        .ctl
        .ok(&["start-capture", "--all-nodes", "--duration", "1s"])
        .expect("a capture after the cap was reached");
    wrong.extend(fleet.casualties());
    assert_none(&wrong);
}
