//! One coordinator per data directory, unless they share a database server: two that know nothing of each other would
//! collect each other's files and tell agents two things.

use std::fs::{File, TryLockError};
use std::path::Path;

use anyhow::Context as _;

/// The directory is ours until this is dropped or the process ends, however it ends (`flock(2)`).
#[derive(Debug)]
pub struct DataLock(File);

impl DataLock {
    /// Takes `lock` in the data directory, without waiting: alone, or with others of which each says that it is `shared`.
    ///
    /// # Errors
    /// If another coordinator has it, or the file cannot be made.
    pub fn take(data_dir: &Path, shared: bool) -> anyhow::Result<Self> {
        let path = data_dir.join("lock");
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.with_context(|| format!("--data-dir: {}: cannot open", path.display()))?;
        match if shared { file.try_lock_shared() } else { file.try_lock() } {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => anyhow::bail!(
                "--data-dir: {} is in use by another coordinator; stop it or give another directory",
                data_dir.display()
            ),
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("--data-dir: {}: cannot lock", path.display()))
            }
        }
    }
}

impl Drop for DataLock {
    fn drop(&mut self) {
        // Closing is not enough while a child between fork and exec still has a copy. An error leaves that to it.
        let _ = self.0.unlock();
    }
}
