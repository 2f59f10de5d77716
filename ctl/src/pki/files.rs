//! Writing key material: never readable by others, never half written.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context as _, ensure};
use lastseen_runtime::tls::Pki;

use super::{Authority, CA_CERTIFICATE, CA_KEY, Leaf};

/// Mode of files that everyone may read.
pub(super) const PUBLIC: u32 = 0o644;
/// Mode of keys.
pub(super) const PRIVATE: u32 = 0o600;
/// Mode of directories with keys.
const PRIVATE_DIR: u32 = 0o700;

/// Writes an identity to `dir`: `ca.crt`, `tls.crt`, `tls.key`. Replaces an older certificate of the same identity,
/// so that a running program takes over the new one; refuses to replace another's.
pub fn store_identity(dir: &Path, authority: &Authority, leaf: &Leaf) -> anyhow::Result<()> {
    let place = dir.display();
    ensure!(
        !dir.join(CA_KEY).exists(),
        "out: {place} is an authority; its key must not lie beside an identity, take another directory"
    );
    if let Some(other) = Pki::open(dir).ok().map(|pki| pki.identity()).filter(|other| *other != leaf.identity)
    {
        anyhow::bail!("out: {place} holds the identity {other}; take another directory");
    }
    make_dir(dir)?;
    replace(&dir.join(CA_CERTIFICATE), &authority.certificate, PUBLIC)?;
    replace(&dir.join("tls.key"), &leaf.key, PRIVATE)?;
    replace(&dir.join("tls.crt"), &leaf.certificate, PUBLIC)
}

/// True if no one but the owner can read or write `path`.
pub fn is_private(path: &Path) -> std::io::Result<bool> {
    let others = fs::metadata(path)?.permissions().mode() & 0o077;
    Ok(others == 0)
}

pub(super) fn make_dir(dir: &Path) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(PRIVATE_DIR)
        .create(dir)
        .with_context(|| format!("cannot make the directory {}", dir.display()))
}

/// Writes a file that must not exist.
pub(super) fn create(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

fn replace(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = Path::new(&fresh);
    // Left over from a run that was interrupted.
    let _ = fs::remove_file(fresh);
    create(fresh, text, mode)?;
    fs::rename(fresh, path).with_context(|| format!("cannot write {}", path.display()))
}
