//! What the kernel says of this process, under the names that Prometheus clients agree on, and which build it is.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::{sampled, telemetry};

/// `USER_HZ`, in which proc(5) counts processor time; 100 wherever we run.
const TICKS_PER_SECOND: f64 = 100.0;
/// proc(5), `/proc/pid/status` counts memory in KiB.
const KIB: f64 = 1024.0;

/// Registers what both daemons show: the build, the process, and its spans.
pub fn register(registry: &mut Registry) {
    let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("lastseen_build", "Version of the program", build);
    telemetry::register(registry);
    let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    sampled::gauge(registry, "process_start_time_seconds", "Unix time of the start", move || started);
    sampled::counter(registry, "process_cpu_seconds", "Processor time used", cpu_seconds);
    sampled::gauge(registry, "process_resident_memory_bytes", "Resident memory", || resident_bytes() as f64);
    sampled::gauge(registry, "process_open_fds", "Open file descriptors", open_fds);
    sampled::gauge(registry, "process_max_fds", "Most file descriptors that may be open", max_fds);
}

/// Resident memory of this process; 0 if the kernel does not say.
pub fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    (after(&status, "VmRSS:").unwrap_or_default() * KIB) as u64
}

fn open_fds() -> f64 {
    // Less the one that lists them.
    fs::read_dir("/proc/self/fd").map_or(0.0, |entries| entries.count().saturating_sub(1) as f64)
}

fn max_fds() -> f64 {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    after(&limits, "Max open files").unwrap_or_default()
}

/// The first number behind the words that begin a line.
fn after(text: &str, words: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(words))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// Fields 14 and 15 of proc(5), `/proc/pid/stat`. The name in field 2 may hold anything.
fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let behind_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let ticks = behind_name.split(' ').skip(11).take(2).filter_map(|field| field.parse::<f64>().ok());
    ticks.sum::<f64>() / TICKS_PER_SECOND
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_knows_this_process() {
        assert!(resident_bytes() > 1 << 20);
        assert!(max_fds() > open_fds());
        let before = open_fds();
        let files: Vec<_> = (0..100).map(|_| fs::File::open("/proc/self/stat").unwrap()).collect();
        assert!(open_fds() >= before + 50.0, "{before}, then {} files more", files.len());
        let begun = cpu_seconds();
        let spin = || (0..1_000_000_u64).fold(0_u64, |sum, next| std::hint::black_box(sum ^ next));
        while cpu_seconds() <= begun {
            std::hint::black_box(spin());
        }
    }
}
