//! The parts of `ctl trace-path -o json` that are judged.

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

use crate::scenario::report::{Path, PointName};

/// A trace, and how `ctl` ended.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Trace {
    pub(super) verdict: String,
    pub(super) notes: Vec<String>,
    pub(super) forward: Option<Path>,
    pub(super) back: Option<Path>,
    pub(super) result: Sent,
    #[serde(skip)]
    pub(super) exit_code: i32,
    /// All of it, for people.
    #[serde(skip)]
    pub(super) text: String,
}

/// What the sender knows.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Sent {
    attempts: Vec<Attempt>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Attempt {
    outcome: String,
}

impl Trace {
    pub(super) fn read(json: &Value, exit_code: i32) -> Result<Self> {
        let trace = Self::deserialize(json).with_context(|| format!("no trace: {json:#}"))?;
        Ok(Self { exit_code, text: format!("{json:#}"), ..trace })
    }

    /// Packets that left the sender.
    pub(super) fn sent(&self) -> u64 {
        self.count(|outcome| outcome != "PROBE_NOT_SENT")
    }

    /// Packets that have an answer.
    pub(super) fn answered(&self) -> u64 {
        self.count(|outcome| outcome == "PROBE_ANSWERED")
    }

    fn count(&self, is: impl Fn(&str) -> bool) -> u64 {
        self.result.attempts.iter().filter(|attempt| is(&attempt.outcome)).count() as u64
    }
}

/// The points of a way that saw packets, in order.
pub(super) fn points(way: Option<&Path>) -> Vec<PointName> {
    way.into_iter()
        .flat_map(|way| &way.hops)
        .filter(|hop| hop.seen > 0)
        .map(|hop| hop.point.clone())
        .collect()
}
