//! Space on disk for what memory has no room for: a file without a name, so that nothing is left of it when its owner
//! is done, whether it finished, panicked or was killed with the process.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::OnceLock;

/// A file that is made when it is first written to, and that only this process ever sees.
#[derive(Debug)]
pub struct ScratchFile {
    directory: PathBuf,
    file: OnceLock<File>,
}

impl ScratchFile {
    /// In `directory`, which exists.
    pub fn new(directory: PathBuf) -> Self {
        Self { directory, file: OnceLock::new() }
    }

    fn on_file<R>(&self, work: impl FnOnce(&File) -> io::Result<R>) -> io::Result<R> {
        let place = |error: io::Error| {
            let directory = self.directory.display();
            io::Error::new(error.kind(), format!("a file without a name in {directory}: {error}"))
        };
        self.file().and_then(work).map_err(place)
    }

    /// Two threads that make it at once make two, of which one is closed again before anything was written to it.
    fn file(&self) -> io::Result<&File> {
        if let Some(file) = self.file.get() {
            return Ok(file);
        }
        let made = tempfile::tempfile_in(&self.directory)?;
        Ok(self.file.get_or_init(|| made))
    }
}

/// Errors name the directory.
impl FileExt for ScratchFile {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.on_file(|file| file.read_at(bytes, offset))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.on_file(|file| file.write_at(bytes, offset))
    }

    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.on_file(|file| file.read_exact_at(bytes, offset))
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.on_file(|file| file.write_all_at(bytes, offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &std::path::Path) -> usize {
        std::fs::read_dir(directory).unwrap().count()
    }

    #[test]
    fn what_was_written_is_read_and_nothing_is_left_even_after_a_panic() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().to_owned();
        let panicked = std::panic::catch_unwind(|| {
            let scratch = ScratchFile::new(directory.clone());
            scratch.write_all_at(b"later", 100).unwrap();
            scratch.write_all_at(b"early", 0).unwrap();
            let mut bytes = [0; 5];
            scratch.read_exact_at(&mut bytes, 100).unwrap();
            assert_eq!((&bytes, names(&directory)), (b"later", 0));
            panic!("the run broke off");
        });
        assert!(panicked.is_err());
        assert_eq!(names(home.path()), 0);
    }

    #[test]
    fn a_directory_that_cannot_be_written_to_is_named() {
        let home = tempfile::tempdir().unwrap();
        let scratch = ScratchFile::new(home.path().join("gone"));
        let error = scratch.write_all_at(b"bytes", 0).unwrap_err().to_string();
        assert!(error.contains("/gone: ") && error.contains("No such file"), "{error}");
    }
}
