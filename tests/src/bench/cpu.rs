//! Processor time of a process.

use std::fs;

use anyhow::{Context, Result};

/// What times in /proc are counted in, `USER_HZ` of include/asm-generic/param.h.
const TICKS: f64 = 100.0;

/// Seconds of user and system time so far, as proc(5) has them in `stat`.
pub fn seconds(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| path.clone())?;
    // A name may have anything in it; what follows does not.
    let (_, fields) = stat.rsplit_once(") ").with_context(|| path.clone())?;
    let ticks: Vec<f64> = fields.split(' ').skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
    Ok(ticks.iter().sum::<f64>() / TICKS)
}

#[cfg(test)]
mod tests {
    #[test]
    fn work_takes_time() {
        let before = super::seconds(std::process::id()).unwrap();
        let mut sum = 0_u64;
        while super::seconds(std::process::id()).unwrap() < before + 0.02 {
            sum = (0..100_000_u64).fold(sum, |sum, number| std::hint::black_box(sum ^ number));
        }
        assert!(super::seconds(u32::MAX).is_err());
    }
}
