//! Scratch space of a correlation run.

use std::io;

use lastseen_correlate::Scratch;
use lastseen_runtime::scratch::ScratchFile;

/// What memory has no room for, in a file.
#[derive(Debug)]
pub(super) struct OnDisk(pub(super) ScratchFile);

impl Scratch for OnDisk {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_at(bytes, offset)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_at(bytes, offset)
    }
}
