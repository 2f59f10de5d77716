//! Segment files: their names, making one, reading all of one.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::record::{FILE_MAGIC, LONGEST_BYTES};

/// Size at which the next segment is begun, unless the spool is small. The last record may reach beyond it.
pub(super) const SEGMENT_BYTES: u64 = 8 << 20;
/// More no segment has. What lies behind that in a file is not looked at.
const LONGEST_SEGMENT_BYTES: u64 = SEGMENT_BYTES + LONGEST_BYTES as u64;
const SUFFIX: &str = ".seg";

/// Where segment `number` lies. Numbers count up, over restarts too.
pub(super) fn path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:016x}{SUFFIX}"))
}

/// Numbers of the segments in a directory, oldest first. Other files are none of ours.
pub(super) fn list(directory: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let name = entry?.file_name();
        let digits = name.to_str().and_then(|name| name.strip_suffix(SUFFIX));
        let number = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
        numbers.extend(number.filter(|number| path(directory, *number).file_name() == Some(&name)));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// A new segment without records, readable for its owner alone. Left behind in part it is removed.
pub(super) fn create(directory: &Path, number: u64) -> io::Result<File> {
    let path = path(directory, number);
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    if let Err(error) = file.write_all_at(FILE_MAGIC, 0) {
        let _ = std::fs::remove_file(&path);
        return Err(error);
    }
    Ok(file)
}

/// Opens a segment for reading.
pub(super) fn open(directory: &Path, number: u64) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path(directory, number))
}

/// All of a segment, and how long its file is.
pub(super) fn read(directory: &Path, number: u64) -> io::Result<(Bytes, u64)> {
    let file = open(directory, number)?;
    let length = file.metadata()?.len();
    let mut bytes = Vec::with_capacity(length.min(LONGEST_SEGMENT_BYTES) as usize);
    file.take(LONGEST_SEGMENT_BYTES).read_to_end(&mut bytes)?;
    Ok((bytes.into(), length))
}

/// Whether a file begins as a segment of this version does.
pub(super) fn is_ours(bytes: &[u8]) -> bool {
    bytes.starts_with(FILE_MAGIC)
}

/// Whether a file may be one whose making broke off.
pub(super) fn is_begun(bytes: &[u8]) -> bool {
    FILE_MAGIC.starts_with(bytes)
}
