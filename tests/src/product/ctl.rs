//! `ctl` as a user runs it: from the management network, with an operator's certificate.

use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::lab::netns::Netns;

/// A way to run `ctl` against one coordinator.
#[derive(Debug)]
pub struct Ctl<'lab> {
    /// Where it runs.
    pub netns: &'lab Netns,
    /// The program.
    pub program: PathBuf,
    /// `HOST:PORT` of the coordinator.
    pub server: String,
    /// Folder of its identity.
    pub pki: PathBuf,
}

/// How a run of `ctl` ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Exit code; -1 when a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Outcome {
    /// What is wrong with this as a refusal of bad input: exit code 2 and one line on standard error that holds
    /// every one of `words`, letter case aside; a pointer to the help may follow. Absent when it is right.
    pub fn fault_of_refusal(&self, words: &[&str]) -> Option<String> {
        let said = self.stderr.to_lowercase();
        let lines: Vec<_> = said
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with("for more information"))
            .collect();
        let missing: Vec<_> = words.iter().filter(|word| !said.contains(&word.to_lowercase())).collect();
        let right = self.code == 2 && lines.len() == 1 && missing.is_empty();
        (!right).then(|| format!("exit {}, missing {missing:?}, said: {}", self.code, self.stderr.trim()))
    }
}

impl Ctl<'_> {
    /// Runs `ctl` with `arguments`; any exit code is an outcome.
    pub fn run(&self, arguments: &[&str]) -> Result<Outcome> {
        let mut command = Command::new(&self.program);
        command.args(arguments).env("LASTSEEN_SERVER", &self.server).env("LASTSEEN_PKI_DIR", &self.pki);
        let output = self.netns.enter(move || command.output().context("run ctl"))?;
        Ok(Outcome {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// The same place and server with another identity.
    #[must_use]
    pub fn with_identity(&self, pki: PathBuf) -> Self {
        Self { netns: self.netns, program: self.program.clone(), server: self.server.clone(), pki }
    }

    /// Runs `ctl`; an exit code other than 0 is an error with what it printed.
    pub fn ok(&self, arguments: &[&str]) -> Result<String> {
        let Outcome { code, stdout, stderr } = self.run(arguments)?;
        if code != 0 {
            bail!("ctl {} exited with {code}: {}", arguments.join(" "), stderr.trim());
        }
        Ok(stdout)
    }

    /// Runs `ctl … -o json` and parses what it printed.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let text = self.ok(&[arguments, &["-o", "json"]].concat())?;
        serde_json::from_str(&text).with_context(|| format!("ctl {} printed: {text}", arguments.join(" ")))
    }

    /// Asks again until `answer` finds what it looks for, at most for `patience`. Failures of `ctl` count as
    /// "not yet": the coordinator may be starting.
    pub fn wait_for<T>(
        &self,
        what: &str,
        patience: Duration,
        arguments: &[&str],
        answer: impl Fn(&Value) -> Option<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + patience;
        loop {
            let reply = self.json(arguments);
            if let Some(found) = reply.as_ref().ok().and_then(&answer) {
                return Ok(found);
            }
            if Instant::now() > deadline {
                bail!("{what}: not within {patience:?}; the last answer was {reply:?}");
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}
