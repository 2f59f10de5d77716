//! External tools of the lab (`ip`, `bridge`, `nft`, `ethtool`), with their errors kept readable.

use std::ffi::OsStr;
use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// One run of an external tool: arguments, optional standard input, captured output.
#[derive(Debug)]
pub struct Tool {
    command: Command,
    name: String,
    input: Option<String>,
}

impl Tool {
    /// Prepares to run `name`, found through `PATH`.
    pub fn new(name: &str) -> Self {
        Self { command: Command::new(name), name: name.to_owned(), input: None }
    }

    /// Appends arguments.
    #[must_use]
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(arguments);
        self
    }

    /// Feeds `text` to the tool's standard input.
    #[must_use]
    pub fn input(mut self, text: &str) -> Self {
        self.input = Some(text.to_owned());
        self
    }

    /// Runs to the end and returns standard output; a non-zero exit is an error with standard error in it.
    pub fn run(mut self) -> Result<String> {
        let stdin = if self.input.is_some() { Stdio::piped() } else { Stdio::null() };
        let mut child = self
            .command
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {}: is it installed?", self.name))?;
        if let (Some(mut pipe), Some(text)) = (child.stdin.take(), &self.input) {
            // A tool that fails on its first line closes the pipe early; its exit status tells more.
            let _ = pipe.write_all(text.as_bytes());
        }
        let output = child.wait_with_output().with_context(|| format!("wait for {}", self.name))?;
        if !output.status.success() {
            let arguments: Vec<_> = self.command.get_args().map(OsStr::to_string_lossy).collect();
            bail!(
                "{} {} failed ({}): {}\n{}",
                self.name,
                arguments.join(" "),
                output.status,
                String::from_utf8_lossy(&output.stderr).trim(),
                self.input.unwrap_or_default()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// Names of the tools in `wanted` that are not on `PATH`.
pub fn missing(wanted: &[&str]) -> Vec<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = |tool: &str| std::env::split_paths(&path).any(|folder| folder.join(tool).is_file());
    wanted.iter().filter(|tool| !found(tool)).map(|tool| (*tool).to_owned()).collect()
}
