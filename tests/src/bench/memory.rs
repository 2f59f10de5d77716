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
    /// `VmRSS`, the rings among it.
    pub total: u64,
    /// Mappings of packet sockets: all their pages are resident from the start.
    pub rings: u64,
}

impl Resident {
    /// Of the process `pid`.
    pub fn of(pid: u32) -> Result<Self> {
        let read = |name: &str| {
            let path = PathBuf::from(format!("/proc/{pid}/{name}"));
            fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
        };
        // The mappings first: a ring that appears in between counts as the process's own, never the other way round.
        let rings = rings(&read("maps")?);
        Ok(Self { total: resident(&read("status")?).context("a process without VmRSS")?, rings })
    }

    /// What the process needs besides its rings.
    pub fn own(self) -> u64 {
        self.total.saturating_sub(self.rings)
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
                let now = Resident::of(pid)?;
                if now.own() >= most.own() {
                    most = now;
                }
            }
            Ok(most)
        });
        Self { stop, thread }
    }

    /// The moment when the process needed most besides its rings.
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
