//! One daemon of the product inside a namespace, with its log in a file.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::lab::cleanup;
use crate::lab::netns::Netns;

/// Lines of a log that a failure shows.
const TAIL_LINES: usize = 30;

/// A running daemon; killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` inside `netns`; both its outputs are appended to `log`.
    pub fn start(netns: &Netns, command: Command, log: &Path) -> Result<Self> {
        // The child inherits the namespace of the thread that starts it.
        Self::spawn(command, log, |start| cleanup::alone(|| netns.enter(start)))
    }

    /// As [`Process::start`], where the caller runs.
    pub fn start_here(command: Command, log: &Path) -> Result<Self> {
        Self::spawn(command, log, cleanup::alone)
    }

    fn spawn(
        mut command: Command,
        log: &Path,
        place: impl FnOnce(Box<dyn FnOnce() -> Result<Child> + Send>) -> Result<Child>,
    ) -> Result<Self> {
        let file = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("open log {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let start = move || command.spawn().with_context(|| format!("start {}", name(&command)));
        let child = place(Box::new(start))?;
        Ok(Self { child, log: log.to_owned() })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(self.child.id() as i32);
        kill(pid, signal).with_context(|| format!("send {signal} to process {pid}"))
    }

    /// Waits until the daemon has left; still running after `patience` is an error.
    pub fn wait(&mut self, patience: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("process {} still runs after {patience:?}; {}", self.child.id(), self.tail());
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Runs `command` inside `netns` to its end and returns its exit code and all it printed.
    pub fn run(netns: &Netns, command: Command, log: &Path, patience: Duration) -> Result<(i32, String)> {
        let mut process = Self::start(netns, command, log)?;
        let status = process.wait(patience)?;
        let text = fs::read_to_string(log).with_context(|| format!("read {}", log.display()))?;
        Ok((status.code().unwrap_or(-1), text))
    }

    /// Whether it has not left yet.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The end of its log, for a failure message.
    pub fn tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        let tail = &lines[lines.len().saturating_sub(TAIL_LINES)..];
        format!("last lines of {}:\n{}", self.log.display(), tail.join("\n"))
    }
}

fn name(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
