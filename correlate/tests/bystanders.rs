//! Nodes that nobody asked to capture, but whose networks are known.
#![allow(missing_docs)]

use crate::lab::*;
use lastseen_correlate::Outcome;
use lastseen_correlate::report::Verdict;

/// Ten datagrams from the first node's pod to the second's, of which only the first node's points remain.
fn run_on_the_first_node_alone(lab: &Lab) -> Outcome {
    let mut traffic = lab.clone();
    for id in 0..10 {
        traffic.send((0, 1), &Packet::udp(id, 100), T0 + i64::from(id) * MILLI, ALL);
    }
    let mut job = lab.job.clone();
    job.points.truncate(POINTS);
    let batches = traffic.batches().into_iter().filter(|(point, ..)| *point < POINTS);
    let outcome = run(job, batches.collect());
    assert_sums(&outcome);
    outcome
}

fn with_bystander(nodes: usize) -> Lab {
    let mut lab = Lab::new(nodes);
    lab.job.nodes[1].is_bystander = true;
    lab
}

#[test]
fn what_a_node_out_of_sight_receives_is_not_observable() {
    let report = run_on_the_first_node_alone(&with_bystander(2)).report;
    assert_eq!((report.totals.delivered, report.totals.not_observable), (0, 10));
    assert_eq!(report.verdict, Verdict::Inconclusive);
    let names: Vec<_> = report.nodes.iter().map(|node| node.node.as_str()).collect();
    assert_eq!(names, ["a"]);
    assert!(report.notes.iter().any(|note| note.starts_with("b was not captured")), "{:?}", report.notes);
}

#[test]
fn an_address_of_no_node_is_outside_and_ends_at_the_edge() {
    let mut lab = with_bystander(2);
    lab.job.nodes.pop();
    let report = run_on_the_first_node_alone(&lab).report;
    assert_eq!((report.totals.delivered, report.totals.not_observable), (10, 0));
}

#[test]
fn an_address_that_moved_to_a_node_that_was_asked_for_is_there() {
    let lab = Lab::new(2);
    let mut job = lab.job.clone();
    let mut gone = job.nodes[1].clone();
    (gone.name, gone.is_bystander) = ("gone".to_owned(), true);
    job.nodes.push(gone);
    let mut traffic = lab;
    for id in 0..10 {
        traffic.send((0, 1), &Packet::udp(id, 100), T0 + i64::from(id) * MILLI, ALL);
    }
    let report = run(job, traffic.batches().into_iter().collect()).report;
    assert_eq!((report.totals.delivered, report.totals.not_observable), (10, 0), "{:?}", report.notes);
    assert_eq!(report.nodes.len(), 2);
}
