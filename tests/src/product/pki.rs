//! Certificates for one lab, made by `ctl pki` as a user would.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::lab::command::Tool;

/// A certificate authority in a folder, and one folder per identity beside it.
#[derive(Debug, Clone)]
pub struct Pki {
    ctl: PathBuf,
    folder: PathBuf,
}

impl Pki {
    /// Makes an authority under `folder`.
    pub fn create(ctl: &Path, folder: &Path) -> Result<Self> {
        let pki = Self { ctl: ctl.to_owned(), folder: folder.to_owned() };
        pki.run(&["init", &pki.authority()])?;
        Ok(pki)
    }

    /// Issues an identity; `extra` holds further flags. Returns the folder for `--pki-dir`.
    pub fn issue(&self, role: &str, name: &str, extra: &[&str]) -> Result<PathBuf> {
        let out = self.folder.join(format!("{role}-{name}"));
        let (authority, folder) = (self.authority(), out.to_string_lossy());
        let mut arguments = vec!["issue", &authority, role, name, "--out", &folder];
        arguments.extend(extra);
        self.run(&arguments)?;
        Ok(out)
    }

    /// Issues the coordinator's identity for `address`, and for loopback, where a relay may stand for it.
    pub fn coordinator(&self, address: Ipv4Addr) -> Result<PathBuf> {
        self.issue("coordinator", "coordinator", &["--ip", &address.to_string(), "--ip", "127.0.0.1"])
    }

    fn authority(&self) -> String {
        self.folder.join("authority").to_string_lossy().into_owned()
    }

    fn run(&self, arguments: &[&str]) -> Result<()> {
        Tool::new(&self.ctl.to_string_lossy()).args(["pki"]).args(arguments).run().map(drop)
    }
}
