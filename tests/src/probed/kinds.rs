//! The kinds of probes, how each is run here, and what it finds where nothing is wrong.

use anyhow::{Context, Result};
use serde_json::Value;

use super::found;
use super::{NAMES, OPEN, PAGES};
use crate::fault::Cast;
use crate::lab::plan::Family;
use crate::product::ctl::Ctl;

/// One kind.
pub(super) struct Kind {
    pub(super) name: &'static str,
    /// What it finds where nothing is wrong.
    pub(super) healthy: &'static str,
    /// Arguments, targets among them.
    arguments: fn(Aims) -> Vec<String>,
    word: fn(&Value) -> String,
}

/// Whither.
struct Aims {
    pod: String,
    /// As it stands before a port.
    bracketed: String,
    gateway: String,
}

/// Waits no longer than tells.
const PATIENCE: [&str; 6] = ["--count", "3", "--interval", "20ms", "--timeout", "1s"];
/// So many that of one in ten some are lost for sure.
const MANY: [&str; 6] = ["--count", "100", "--interval", "10ms", "--timeout", "1s"];
const SERIES: [&str; 6] = ["--count", "2", "--interval", "10ms", "--timeout", "300ms"];
const ROUND: [&str; 6] = ["--count", "1", "--max-hops", "6", "--timeout", "1s"];

pub(super) const KINDS: [Kind; 9] = [
    Kind {
        name: "icmp",
        healthy: "answered",
        arguments: |to| words(&["icmp", &to.pod], &PATIENCE),
        word: found::outcome,
    },
    Kind {
        name: "tcp",
        healthy: "answered",
        arguments: |to| words(&["tcp", &format!("{}:{OPEN}", to.bracketed)], &PATIENCE),
        word: found::outcome,
    },
    Kind {
        name: "udp",
        healthy: "answered",
        arguments: |to| words(&["udp", &format!("{}:{OPEN}", to.bracketed)], &MANY),
        word: found::outcome,
    },
    Kind {
        name: "dns",
        healthy: "answered",
        arguments: |to| {
            let server = format!("{}:{NAMES}", to.bracketed);
            words(&["dns", "web.example.", "--nameserver", &server], &PATIENCE)
        },
        word: found::outcome,
    },
    Kind {
        name: "http",
        healthy: "answered",
        arguments: |to| words(&["http", &format!("http://{}:{PAGES}/", to.bracketed)], &PATIENCE),
        word: found::outcome,
    },
    Kind {
        name: "mtu",
        healthy: "1450 interface",
        arguments: |to| words(&["mtu", &to.pod], &SERIES),
        word: found::path_mtu,
    },
    Kind {
        name: "trace",
        healthy: "reached",
        arguments: |to| words(&["trace", &to.pod], &ROUND),
        word: found::trace,
    },
    Kind {
        name: "neighbor",
        healthy: "one",
        arguments: |to| words(&["neighbor", &to.gateway], &PATIENCE),
        word: found::neighbor,
    },
    Kind {
        name: "gateway",
        healthy: "answered",
        arguments: |_| words(&["gateway"], &PATIENCE),
        word: found::outcome,
    },
];

fn words(own: &[&str], common: &[&str]) -> Vec<String> {
    own.iter().chain(common).map(ToString::to_string).collect()
}

/// What it finds, in words.
pub(super) fn run(kind: &Kind, ctl: &Ctl<'_>, cast: Cast<'_>) -> Result<String> {
    let (sender, receiver) = (&cast.sender.plan, &cast.receiver.plan);
    let pod = receiver.pod_in(cast.family).to_string();
    let (bracketed, gateway) = match cast.family {
        Family::V4 => (pod.clone(), sender.gateway().to_string()),
        Family::V6 => (format!("[{pod}]"), sender.gateway6().to_string()),
    };
    let arguments = (kind.arguments)(Aims { pod, bracketed, gateway });
    let source = cast.sender.pod_source();
    let mut all = vec!["run-probe"];
    all.extend(arguments.iter().map(String::as_str));
    all.extend(["--from", &source, "-o", "json"]);
    let outcome = ctl.run(&all)?;
    let answer: Value = serde_json::from_str(&outcome.stdout)
        .with_context(|| format!("{all:?} exited {}: {}", outcome.code, outcome.stderr.trim()))?;
    Ok((kind.word)(&answer["probe"]["reports"][0]))
}
