//! Runs of `diff-files` and what their reports say.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
#![allow(clippy::disallowed_methods, reason = "the program under test is started")]

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::wire::{self, Fault, PACKETS, SECOND, START};

/// How a run ended.
#[derive(Debug)]
pub struct Run {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

pub fn diff(arguments: &[String]) -> Run {
    diff_beside(arguments, &std::env::temp_dir())
}

/// The same with another directory for temporary files.
pub fn diff_beside(arguments: &[String], scratch: &Path) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ctl"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("LASTSEEN_")) {
        command.env_remove(name);
    }
    let output = command.env("TMPDIR", scratch).arg("diff-files").args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Run { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// The report and the exit code.
pub fn report(arguments: &[String]) -> (Value, i32) {
    let run = diff(&[arguments, &["-o".to_owned(), "json".to_owned()]].concat());
    let code = run.code.unwrap();
    (serde_json::from_str(&run.out).unwrap_or_else(|error| panic!("{error}: {run:?}")), code)
}

pub fn with_topology(mut arguments: Vec<String>, dir: &Path) -> Vec<String> {
    arguments.push("--topology".to_owned());
    arguments.push(wire::topology(dir).display().to_string());
    arguments
}

pub fn notes(report: &Value) -> String {
    report["notes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|note| note.as_str().unwrap())
        .collect::<Vec<_>>()
        .join("\n")
}

pub fn number(value: &Value) -> u64 {
    value.as_str().map_or_else(|| value.as_u64().unwrap(), |text| text.parse().unwrap())
}

/// Every loss as (from, to, count).
pub fn losses(report: &Value) -> Vec<(String, String, u64)> {
    let point = |point: &Value| {
        format!("{}/{}", point["node"].as_str().unwrap(), point["interface"].as_str().unwrap())
    };
    let paths = report["paths"].as_array().unwrap().iter();
    let losses = paths.flat_map(|path| path["losses"].as_array().unwrap());
    losses.map(|loss| (point(&loss["from"]), point(&loss["to"]), number(&loss["count"]))).collect()
}

/// Numbers of packets from a to b that are hit by a fault and first seen in the window.
pub fn hit(fault: Fault) -> u64 {
    // Number 0 is always hit, so some files begin with the packet that comes back 10 ms later.
    let start = START + 11_000_000;
    let end = START + i64::from(PACKETS - 1) * 20_000_000 + 10_000_000;
    let window = start + SECOND / 10..end - (end - start) / 4;
    let sent = |number: u16| START + i64::from(number) * 20_000_000;
    (0..PACKETS)
        .filter(|number| number.is_multiple_of(fault.every) && window.contains(&sent(*number)))
        .count() as u64
}

/// Runs and expects exit code 2 and one line that contains each of `parts`.
pub fn refused(arguments: &[&str], parts: &[&str]) {
    let run = diff(&arguments.iter().map(|&argument| argument.to_owned()).collect::<Vec<_>>());
    let is_one_line = run.err.lines().count() == 1 && run.err.starts_with("error: ");
    assert!(run.code == Some(2) && run.out.is_empty() && is_one_line, "{arguments:?}: {run:?}");
    for part in parts {
        assert!(run.err.contains(part), "{part:?} is not in {:?}", run.err);
    }
}

/// Expects an inconclusive report one of whose notes contains `part`.
pub fn unsure(arguments: &[String], part: &str) {
    let (report, code) = report(arguments);
    assert_eq!((report["verdict"].as_str(), code), (Some("INCONCLUSIVE"), 3), "{report:#}");
    let coverage = report["nodes"].to_string();
    assert!(notes(&report).contains(part) || coverage.contains(part), "{part:?} is not in {report:#}");
}

/// The files of these points only.
pub fn only(files: Vec<String>, points: &[&str]) -> Vec<String> {
    files
        .into_iter()
        .filter(|file| points.iter().any(|point| file.starts_with(&format!("{point}="))))
        .collect()
}
