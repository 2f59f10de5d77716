//! What every target has: first inputs, and a bug on request.
#![allow(dead_code, reason = "each target uses its own part")]

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// With this variable set, targets fail at what [`planted`] names.
static IS_PLANTED: LazyLock<bool> = LazyLock::new(|| std::env::var_os("PLANTED").is_some());

/// Stands for a bug behind what `is_reached` says: deep in the parsed result, and in none of the first inputs. A fuzzer
/// that finds it would find a real one there.
pub fn planted(is_reached: impl FnOnce() -> bool) {
    assert!(!*IS_PLANTED || !is_reached(), "the planted bug was found");
}

/// Puts first inputs into the directory that `SEEDS` names, if it does.
pub fn seeds<N: AsRef<str>>(inputs: impl IntoIterator<Item = (N, Vec<u8>)>) {
    let Some(directory) = std::env::var_os("SEEDS") else { return };
    std::fs::create_dir_all(&directory).unwrap();
    for (name, bytes) in inputs {
        std::fs::write(Path::new(&directory).join(name.as_ref()), bytes).unwrap();
    }
}

/// A directory in memory that this process has for itself.
pub fn scratch() -> PathBuf {
    let directory = Path::new("/dev/shm").join(format!("lastseen-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    directory
}

/// Changes one byte for each three: two say where, one how.
pub fn change(bytes: &mut [u8], edits: &[u8]) {
    let length = bytes.len();
    for edit in edits.chunks_exact(3) {
        bytes[usize::from(u16::from_le_bytes([edit[0], edit[1]])) % length] ^= edit[2];
    }
}

/// The parts that zero bytes separate.
pub fn parts(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    data.split(|byte| *byte == 0)
}
