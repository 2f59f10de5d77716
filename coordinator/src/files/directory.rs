//! The directory of observation files, one of each capture in it.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use super::{FileError, Listed};

/// The directory of observation files in a data directory.
pub fn within(data_dir: &Path) -> PathBuf {
    data_dir.join("observations")
}

/// Makes the directory and proves that files can be made in it.
pub fn prepare(data_dir: &Path) -> Result<PathBuf, FileError> {
    let directory = within(data_dir);
    std::fs::create_dir_all(&directory).map_err(FileError::io(&directory, "make the directory"))?;
    // Coordinators that share the directory start at the same time.
    let probe = directory.join(format!(".probe-{:016x}", rand::random::<u64>()));
    std::fs::write(&probe, b"").map_err(FileError::io(&probe, "write"))?;
    std::fs::remove_file(&probe).map_err(FileError::io(&probe, "remove"))?;
    Ok(directory)
}

/// Makes the file `name` with these contents, unless it is there; returns what is in it. Of several that make it at once, one
/// does.
pub(super) fn mark(directory: &Path, name: &str, contents: &str) -> Result<Vec<u8>, FileError> {
    let marker = directory.join(name);
    if !marker.exists() {
        let written = directory.join(format!(".{name}-{:016x}", rand::random::<u64>()));
        File::create(&written)
            .and_then(|mut file| file.write_all(contents.as_bytes()).and_then(|()| file.sync_all()))
            .map_err(FileError::io(&written, "write"))?;
        let linked = std::fs::hard_link(&written, &marker);
        std::fs::remove_file(&written).map_err(FileError::io(&written, "remove"))?;
        match linked {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(FileError::io(&marker, "make")(error));
            }
            _ => {}
        }
        File::open(directory).and_then(|it| it.sync_all()).map_err(FileError::io(directory, "sync"))?;
    }
    std::fs::read(&marker).map_err(FileError::io(&marker, "read"))
}

/// Names of the directories in it.
pub(super) fn captures(directory: &Path) -> Result<Vec<String>, FileError> {
    let mut captures = names(directory)?;
    captures.retain(|capture| directory.join(capture).is_dir());
    Ok(captures)
}

/// The observation files in a capture's directory.
pub(super) fn list(capture: &Path) -> Result<Vec<Listed>, FileError> {
    let mut files = names(capture)?;
    files.retain(|file| super::is_file(file));
    files.into_iter().filter_map(|file| look_at(capture, file).transpose()).collect()
}

/// None if it is gone.
fn look_at(capture: &Path, file: String) -> Result<Option<Listed>, FileError> {
    let path = capture.join(&file);
    let looked = path.metadata().and_then(|found| Ok((found.len(), found.modified()?)));
    match looked {
        Ok((bytes, modified)) => Ok(Some(Listed { file, bytes, modified })),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(FileError::io(&path, "look at")(error)),
    }
}

/// Removes files of a capture's directory.
pub(super) fn remove(capture: &Path, files: &[String]) -> Result<(), FileError> {
    for file in files {
        let path = capture.join(file);
        unless_gone(std::fs::remove_file(&path)).map_err(FileError::io(&path, "remove"))?;
    }
    Ok(())
}

/// Removes a capture's directory.
pub(super) fn remove_all(capture: &Path) -> Result<(), FileError> {
    unless_gone(std::fs::remove_dir_all(capture)).map_err(FileError::io(capture, "remove"))
}

fn unless_gone(removed: std::io::Result<()>) -> std::io::Result<()> {
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Names in a directory; none if it is gone.
fn names(directory: &Path) -> Result<Vec<String>, FileError> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(FileError::io(directory, "list"))?,
    };
    entries
        .map(|entry| Ok(entry.map_err(FileError::io(directory, "list"))?.file_name()))
        .filter_map(|name| name.map(|name| name.into_string().ok()).transpose())
        .collect()
}
