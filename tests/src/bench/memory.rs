//! Memory of a process without the capture rings it shares with the kernel.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

/// How often a process under load is looked at.
const INTERVAL: Duration = Duration::from_millis(50);

/// Resident memory of a process at one moment, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Resident {
    /// `VmRSS` less the rings.
    pub own: u64,
    /// Mappings of packet sockets: all their pages are resident from the start.
    pub rings: u64,
}

impl Resident {
    /// Of the process `pid`; absent while rings come or go.
    fn at_rest(pid: u32) -> Result<Option<Self>> {
        let read = |name: &str| {
            let path = PathBuf::from(format!("/proc/{pid}/{name}"));
            fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
        };
        let before = rings(&read("maps")?);
        let total = resident(&read("status")?).context("a process without VmRSS")?;
        let after = rings(&read("maps")?);
        Ok((before == after).then_some(Self { own: total.saturating_sub(after), rings: after }))
    }

    /// Of the process `pid`, once no ring comes or goes.
    pub fn of(pid: u32) -> Result<Self> {
        loop {
            if let Some(resident) = Self::at_rest(pid)? {
                return Ok(resident);
            }
        }
    }

    /// The larger of each part.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self { own: self.own.max(other.own), rings: self.rings.max(other.rings) }
    }
}

fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Bytes of the mappings that a socket backs.
fn rings(maps: &str) -> u64 {
    let of_sockets = maps.lines().filter(|line| line.contains(" socket:["));
    let size = |line: &str| {
        let (from, to) = line.split_whitespace().next()?.split_once('-')?;
        let (from, to) = (u64::from_str_radix(from, 16).ok()?, u64::from_str_radix(to, 16).ok()?);
        to.checked_sub(from)
    };
    of_sockets.filter_map(size).sum()
}

/// Watches a process until [`Watch::finish`].
#[derive(Debug)]
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Resident>>,
}

impl Watch {
    /// Begins to look at `pid`.
    pub fn start(pid: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut most = Resident::of(pid)?;
            while !stopping.load(Ordering::Relaxed) {
                thread::sleep(INTERVAL);
                most = most.max(Resident::of(pid)?);
            }
            Ok(most)
        });
        Self { stop, thread }
    }

    /// The most of each part that it had at any moment.
    pub fn finish(self) -> Result<Resident> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the watch over a process panicked"))?
    }
}

#[cfg(test)]
mod tests {
    use super::{resident, rings};

    #[test]
    fn only_mappings_of_sockets_are_rings() {
        let maps = "7f0000000000-7f0000400000 rw-s 00000000 00:08 4711   socket:[4711]\n\
                    7f0000400000-7f0000800000 rw-p 00000000 00:00 0 \n\
                    7f0000800000-7f0000801000 rw-s 00000000 00:08 4712   socket:[4712]\n";
        assert_eq!(rings(maps), (4 << 20) + 4096);
        assert_eq!(resident("VmHWM:\t  90 kB\nVmRSS:\t  12 kB\n"), Some(12 * 1024));
    }
}
