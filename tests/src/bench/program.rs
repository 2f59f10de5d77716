//! Programs that measure, or are measured: run to their end, never longer than they may take.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Longest run of one program.
const PATIENCE: Duration = Duration::from_mins(2);

/// How a run went.
#[derive(Debug)]
pub struct Run {
    /// Standard output.
    pub stdout: String,
    /// From start to end.
    pub elapsed: Duration,
}

/// Path of an example of the same build as this program.
pub fn example(name: &str) -> Result<PathBuf> {
    let program = std::env::current_exe().context("find the running program")?;
    let path = program.with_file_name("examples").join(name);
    if !path.is_file() {
        bail!("{} does not exist: run `cargo build --workspace --release --examples --bins`", path.display());
    }
    Ok(path)
}

/// Runs `program` on this thread. It is stopped after [`PATIENCE`], and when this process dies.
pub fn run(program: impl AsRef<OsStr>, arguments: &[impl AsRef<OsStr>]) -> Result<Run> {
    run_into(Stdio::piped(), program.as_ref(), arguments)
}

/// The same, with what it prints thrown away.
pub fn run_silent(program: impl AsRef<OsStr>, arguments: &[impl AsRef<OsStr>]) -> Result<Run> {
    run_into(Stdio::null(), program.as_ref(), arguments)
}

fn run_into(stdout: Stdio, program: &OsStr, arguments: &[impl AsRef<OsStr>]) -> Result<Run> {
    let patience = PATIENCE.as_secs().to_string();
    let started = Instant::now();
    // `timeout` passes the signal on to the program.
    let output = Command::new("setpriv")
        .args(["--pdeathsig", "TERM", "timeout", "--foreground", &patience])
        .arg(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(Stdio::piped())
        .spawn()
        .and_then(std::process::Child::wait_with_output)
        .with_context(|| format!("run {}", program.display()))?;
    let elapsed = started.elapsed();
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{} ended with {} after {elapsed:.1?}: {}", program.display(), output.status, said.trim());
    }
    Ok(Run { stdout: String::from_utf8_lossy(&output.stdout).into_owned(), elapsed })
}

/// The number right before the first `unit` in `text`.
pub fn number_before(text: &str, unit: &str) -> Result<f64> {
    let (head, _) = text.split_once(unit).with_context(|| format!("no {unit:?} in {text:?}"))?;
    let word = head.rsplit(|c: char| c.is_whitespace() || c == '(').next().unwrap_or_default();
    word.parse().with_context(|| format!("no number before {unit:?} in {text:?}"))
}

/// The line that starts with `label`, without it.
pub fn line_after<'text>(text: &'text str, label: &str) -> Result<&'text str> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(label));
    lines.next().with_context(|| format!("no line {label:?} in {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::{line_after, number_before};

    #[test]
    fn numbers_are_found_by_their_units() {
        let text = "decode: 20.1 Mpps\nall: 8.25 Mpps per core, median of 5 (slowest 7.9, peak 31 MiB)";
        let line = line_after(text, "all:").unwrap();
        assert!((number_before(line, " Mpps").unwrap() - 8.25).abs() < f64::EPSILON);
        assert!((number_before(line, " MiB").unwrap() - 31.0).abs() < f64::EPSILON);
        assert!(number_before(line, " Gpps").is_err());
        assert!(number_before(line, " per core").is_err());
        assert!(line_after(text, "none").is_err());
    }
}
