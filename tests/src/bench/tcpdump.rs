//! tcpdump on the receiver's underlay interface.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use super::folder;
use super::live::Stage;
use super::program::number_before;
use crate::lab::node::NIC;
use crate::product::process::Process;

/// Ring memory in KiB: what an agent gives each of its points.
const RING_KIB: &str = "4096";
/// How long tcpdump may take to start, and to stop.
const PATIENCE: Duration = Duration::from_secs(10);
/// libpcap's block timeout and a little.
const FLUSH: Duration = Duration::from_millis(1_300);

/// What tcpdump says at its end.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// Packets it wrote.
    pub captured: u64,
    /// Packets that found the ring full.
    pub dropped: u64,
}

/// Runs tcpdump while `traffic` runs.
pub fn capture<T>(stage: &Stage<'_>, traffic: impl FnOnce() -> Result<T>) -> Result<(Seen, T)> {
    let folder = folder()?;
    let log = folder.path().join("tcpdump.log");
    let mut command = Command::new("tcpdump");
    command.args(["-n", "-i", NIC, "-s", "192", "-B", RING_KIB, "-w", "/dev/null"]);
    let mut tcpdump = Process::start(&stage.receiver.netns, command, &log)?;
    await_start(&mut tcpdump, &log)?;
    let outcome = traffic()?;
    // What the last block holds is handed over after a second at the latest.
    thread::sleep(FLUSH);
    tcpdump.signal(Signal::SIGINT)?;
    tcpdump.wait(PATIENCE)?;
    let said = fs::read_to_string(&log).with_context(|| format!("read {}", log.display()))?;
    let count = |unit| number_before(&said, unit).map(|count| count as u64);
    let seen = Seen {
        captured: count(" packets captured").or_else(|_| count(" packet captured"))?,
        dropped: count(" packets dropped by kernel").or_else(|_| count(" packet dropped by kernel"))?,
    };
    Ok((seen, outcome))
}

fn await_start(tcpdump: &mut Process, log: &Path) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !fs::read_to_string(log).is_ok_and(|said| said.contains("listening on")) {
        if !tcpdump.is_running() || Instant::now() > deadline {
            bail!("tcpdump does not capture: {}", tcpdump.tail());
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
