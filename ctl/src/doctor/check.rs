//! What a check found.

use serde::Serialize;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Status {
    /// As it should be.
    Pass,
    /// Works, but wants attention.
    Warn,
    /// Does not work.
    Fail,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// How it is.
    pub status: Status,
    /// What was found.
    pub detail: String,
    /// What to do; empty when it passed.
    pub next_step: String,
}

impl Check {
    /// All is well.
    pub fn pass(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { name: name.into(), status: Status::Pass, detail: detail.into(), next_step: String::new() }
    }

    /// Works, but `next_step` should be done.
    pub fn warn(name: impl Into<String>, detail: impl Into<String>, next_step: impl Into<String>) -> Self {
        Self { name: name.into(), status: Status::Warn, detail: detail.into(), next_step: next_step.into() }
    }

    /// Does not work until `next_step` is done.
    pub fn fail(name: impl Into<String>, detail: impl Into<String>, next_step: impl Into<String>) -> Self {
        Self { name: name.into(), status: Status::Fail, detail: detail.into(), next_step: next_step.into() }
    }
}
