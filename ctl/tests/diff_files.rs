//! `diff-files` on files of two nodes: losses, legs, orders and forms of the report.

#![allow(clippy::disallowed_methods, reason = "a program that checks schemas is started")]

use crate::wire;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use crate::diff::{diff, diff_beside, hit, losses, notes, number, only, report, unsure, with_topology};
use crate::wire::{Fault, SECOND, Wire};
use serde_json::Value;
use tempfile::TempDir;

#[test]
fn a_loss_is_found_on_every_leg_with_a_topology_and_without() {
    let dir = TempDir::new().unwrap();
    let points = ["a/veth", "a/flannel.1", "a/eth0", "b/eth0", "b/flannel.1", "b/veth"];
    for after in 0..points.len() - 1 {
        let fault = Fault { every: 7, after };
        let files = Wire { fault: Some(fault), ..Wire::default() }.write(dir.path());
        for arguments in [with_topology(files.clone(), dir.path()), files] {
            let (report, code) = report(&arguments);
            let expected = (points[after].to_owned(), points[after + 1].to_owned(), hit(fault));
            assert_eq!((losses(&report), code), (vec![expected], 1), "{arguments:?}\n{report:#}");
            assert_eq!(number(&report["totals"]["notObservable"]), 0, "{report:#}");
        }
    }
}

#[test]
fn little_memory_changes_nothing_and_leaves_nothing_behind() {
    let (dir, scratch) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let fault = Fault { every: 7, after: 2 };
    let files = Wire { fault: Some(fault), ahead_nanos: SECOND / 2, ..Wire::default() }.write(dir.path());
    for mut arguments in [with_topology(files.clone(), dir.path()), files] {
        arguments.extend(["-o", "json"].map(str::to_owned));
        let held = diff_beside(&arguments, scratch.path());
        arguments.extend(["--correlation-memory-bytes", "65536"].map(str::to_owned));
        let away = diff_beside(&arguments, scratch.path());
        assert_eq!((away.code, &away.out), (Some(1), &held.out), "{away:?}");
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
        let nowhere = scratch.path().join("gone");
        let refused = diff_beside(&arguments, &nowhere);
        let is_said = |text: &str| refused.err.contains(text);
        let place = nowhere.display().to_string();
        assert!(refused.code == Some(2) && is_said(&place) && is_said("TMPDIR"), "{refused:?}");
    }
}

#[test]
fn nothing_lost_exits_with_0() {
    let dir = TempDir::new().unwrap();
    let files = Wire::default().write(dir.path());
    for arguments in [with_topology(files.clone(), dir.path()), files] {
        let (report, code) = report(&arguments);
        assert_eq!((report["verdict"].as_str(), code), (Some("DELIVERED"), 0), "{report:#}");
        assert!(
            notes(&report).contains("that 6 files overlap, less 100 ms at its begin and 1.50 s at its end"),
            "{report:#}"
        );
    }
}

#[test]
fn one_way_traffic_loses_on_the_right_leg_and_its_end_is_open_without_a_topology() {
    let dir = TempDir::new().unwrap();
    let fault = Fault { every: 5, after: 2 };
    let wire = Wire { fault: Some(fault), is_one_way: true, ahead_nanos: 3 * SECOND };
    let files = wire.write(dir.path());
    let (with, code) = report(&with_topology(files.clone(), dir.path()));
    let expected = ("a/eth0".to_owned(), "b/eth0".to_owned());
    let legs =
        |report: &Value| losses(report).into_iter().map(|(from, to, _)| (from, to)).collect::<Vec<_>>();
    assert_eq!((legs(&with), code), (vec![expected.clone()], 1), "{with:#}");
    let (without, _) = report(&files);
    assert_eq!(legs(&without), vec![expected], "{without:#}");
    let clean = Wire { is_one_way: true, ..Wire::default() }.write(dir.path());
    let (open, code) = report(&clean);
    assert_eq!((open["verdict"].as_str(), code), (Some("INCONCLUSIVE"), 3), "{open:#}");
    assert!(notes(&open).contains("cannot be told without a topology"), "{open:#}");
    assert_eq!(report(&with_topology(clean, dir.path())).1, 0);
}

#[test]
fn a_black_hole_before_the_last_point_of_a_node_needs_no_other_clock() {
    let dir = TempDir::new().unwrap();
    let fault = Fault { every: 2, after: 1 };
    let wire = Wire { fault: Some(fault), is_one_way: true, ..Wire::default() };
    let files: Vec<String> =
        wire.write(dir.path()).into_iter().filter(|name| name.starts_with("a/")).collect();
    let (report, code) = report(&with_topology(files, dir.path()));
    let (from, to, _) = &losses(&report)[0];
    assert_eq!((from.as_str(), to.as_str(), code), ("a/flannel.1", "a/eth0", 1), "{report:#}");
}

#[test]
fn ends_and_threshold_choose_as_on_a_fabric() {
    let dir = TempDir::new().unwrap();
    let fault = Fault { every: 50, after: 2 };
    let files = Wire { fault: Some(fault), ..Wire::default() }.write(dir.path());
    let with = |more: &[&str]| {
        let more = more.iter().map(|&argument| argument.to_owned());
        report(&files.iter().cloned().chain(more).collect::<Vec<_>>())
    };
    assert_eq!(with(&["--min-loss", "50%"]).1, 0);
    let (from_b, code) = with(&["--from", "b"]);
    assert_eq!(
        (code, notes(&from_b).contains("only paths from b; 1 more not shown")),
        (0, true),
        "{from_b:#}"
    );
    assert_eq!(with(&["--from", "10.244.1.10", "--to", "b"]).1, 1);
    assert_eq!(with(&["--to", "10.9.9.9"]).1, 3);
}

/// Holds `xml` against the schema that Jenkins' xUnit plug-in publishes with `xmllint` and counts the elements named `element`.
fn valid_junit(xml: &str, element: &str) -> usize {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(xml.as_bytes()).unwrap();
    let schema = concat!(env!("CARGO_TARGET_TMPDIR"), "/../schemas/jenkins-junit.xsd");
    assert!(Path::new(schema).exists(), "{schema}: `make packages` fetches it");
    let output = Command::new("xmllint").args(["--noout", "--schema", schema]).arg(file.path()).output();
    let output = output.expect("xmllint: install libxml2-utils");
    assert!(output.status.success(), "{}\n{xml}", String::from_utf8_lossy(&output.stderr));
    xml.matches(&format!("<{element} ")).count()
}

#[test]
fn junit_has_a_case_for_each_path_and_obeys_the_schema() {
    let dir = TempDir::new().unwrap();
    let junit = |wire: Wire, more: &[&str]| {
        let more = more.iter().map(|&argument| argument.to_owned());
        diff(&wire.write(dir.path()).into_iter().chain(more).collect::<Vec<_>>())
    };
    let lossy = || Wire { fault: Some(Fault { every: 50, after: 2 }), ..Wire::default() };
    let lost = junit(lossy(), &["-o", "junit"]);
    assert_eq!((lost.code, valid_junit(&lost.out, "testcase")), (Some(1), 2), "{lost:?}");
    assert_eq!(valid_junit(&lost.out, "failure"), 1, "{lost:?}");
    assert!(lost.out.contains("a eth0 → b eth0"), "{lost:?}");
    let below = junit(lossy(), &["-o", "junit", "--min-loss", "50%"]);
    assert_eq!((below.code, valid_junit(&below.out, "failure")), (Some(0), 0), "{below:?}");
    let open = junit(Wire { is_one_way: true, ..Wire::default() }, &["-o", "junit"]);
    assert_eq!((open.code, valid_junit(&open.out, "error")), (Some(3), 1), "{open:?}");
    let nothing = dir.path().join("nothing.pcap");
    fs::write(&nothing, wire::pcap(&[])).unwrap();
    let nothing = diff(&[format!("a/eth0={}", nothing.display()), "-o".into(), "junit".into()]);
    assert_eq!((nothing.code, valid_junit(&nothing.out, "error")), (Some(3), 1), "{nothing:?}");
}

#[test]
fn the_order_is_inferred_from_both_ways_and_left_open_where_packets_go_one_way() {
    let dir = TempDir::new().unwrap();
    let fault = Some(Fault { every: 7, after: 2 });
    let ends = ["a/eth0", "b/eth0"];
    let wire = Wire { fault, ahead_nanos: -5 * SECOND, is_one_way: false };
    let (found, code) = report(&only(wire.write(dir.path()), &ends));
    let leg = ("a/eth0".to_owned(), "b/eth0".to_owned(), hit(Fault { every: 7, after: 2 }));
    assert_eq!((losses(&found), code), (vec![leg], 1), "{found:#}");
    let one_way = || only(Wire { fault, is_one_way: true, ..Wire::default() }.write(dir.path()), &ends);
    unsure(&one_way(), "the place of some points on some paths cannot be told");
    let named: Vec<String> = one_way()
        .iter()
        .map(|file| file.replace("a/eth0=", "a/eth0/out=").replace("b/eth0=", "b/eth0/in="))
        .collect();
    let (found, code) = report(&named);
    assert_eq!((losses(&found).len(), code), (1, 1), "directions tell the order: {found:#}");
}
