//! Small file systems that only this program and those it starts can see.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

/// Gives the calling thread, and all it starts, a mount namespace of its own. Mounts made there are gone with the last
/// process that is in it, however that ends. Call it before there are other threads.
pub fn keep_mounts_private() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("make a mount namespace (needs root)")?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context("make mounts private")
}

/// A file system in memory; unmounted on drop.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Mounts one of this size on a directory.
    pub fn mount(path: &Path, bytes: u64) -> Result<Self> {
        let size = format!("size={bytes}");
        mount(Some("none"), path, Some("tmpfs"), MsFlags::empty(), Some(size.as_str()))
            .with_context(|| format!("mount a file system on {}", path.display()))?;
        Ok(Self { path: path.to_owned() })
    }

    /// Leaves no room for another page.
    pub fn fill(&self) -> Result<()> {
        let mut file = File::create(self.ballast())?;
        while file.write(&[1; 4096]).is_ok_and(|written| written > 0) {}
        Ok(())
    }

    /// Takes back [`SmallDisk::fill`].
    pub fn empty(&self) -> Result<()> {
        Ok(std::fs::remove_file(self.ballast())?)
    }

    fn ballast(&self) -> PathBuf {
        self.path.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Whoever still has a file open there keeps it until then.
        let _ = umount2(&self.path, MntFlags::MNT_DETACH);
    }
}
