//! What the figures were taken on.

use std::fmt;
use std::fs;
use std::thread;

/// The machine and the day.
#[derive(Debug)]
pub struct Machine {
    day: String,
    kernel: String,
    processor: String,
    cores: usize,
    memory_gib: u64,
}

impl Machine {
    /// Asks `/proc`.
    pub fn here() -> Self {
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let memory_kib: u64 = field("/proc/meminfo", "MemTotal")
            .and_then(|text| text.split_whitespace().next()?.parse().ok())
            .unwrap_or(0);
        Self {
            day: jiff::Zoned::now().strftime("%F").to_string(),
            kernel: kernel.trim().to_owned(),
            processor: field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown processor".into()),
            cores: thread::available_parallelism().map_or(1, usize::from),
            memory_gib: memory_kib.div_ceil(1 << 20),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { day, kernel, processor, cores, memory_gib } = self;
        write!(f, "{day} · Linux {kernel} · {processor} · {cores} cores · {memory_gib} GiB")
    }
}

/// The value of the first `name: value` line of a file.
fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned())
}
