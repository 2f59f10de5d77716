//! One agent per directory.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::SpoolError;

/// Name of the file that is locked. It holds the process id of the agent, for people.
const NAME: &str = "lock";

/// Held until it is dropped or the process ends, however that happens: `flock(2)`.
pub(super) struct DirectoryLock(#[allow(dead_code, reason = "held, never read")] Flock<std::fs::File>);

/// Makes the directory if need be, readable for its owner alone, and takes it.
pub(super) fn take(directory: &Path) -> Result<DirectoryLock, SpoolError> {
    let unusable = |source| SpoolError::Directory { directory: directory.to_owned(), source };
    if let Some(parent) = directory.parent() {
        std::fs::create_dir_all(parent).map_err(unusable)?;
    }
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(unusable(error)),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    let mut file = options.open(directory.join(NAME)).map_err(unusable)?;
    let mut holder = String::new();
    // Whoever holds it has told who that is; a lock that cannot be read is as good.
    let _ = (&mut file).take(20).read_to_string(&mut holder);
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut locked) => {
            // For people alone: not being able to, on a full disk, hurts nothing.
            let _ = locked.set_len(0).and_then(|()| {
                std::io::Seek::rewind(&mut *locked)?;
                write!(&mut *locked, "{}", std::process::id())
            });
            Ok(DirectoryLock(locked))
        }
        Err((_, Errno::EWOULDBLOCK)) => Err(SpoolError::InUse {
            directory: directory.to_owned(),
            process: holder
                .trim()
                .parse()
                .map_or(String::new(), |process: u32| format!(", process {process}")),
        }),
        Err((_, error)) => Err(unusable(error.into())),
    }
}
