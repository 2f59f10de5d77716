//! Where the programs under test are.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

/// Names the folder of the programs instead of the one this program was built into.
pub const FOLDER_VARIABLE: &str = "LASTSEEN_BIN_DIR";

/// Paths of the three programs.
#[derive(Debug, Clone)]
pub struct Binaries {
    /// `coordinator`.
    pub coordinator: PathBuf,
    /// `node-agent`.
    pub node_agent: PathBuf,
    /// `ctl`.
    pub ctl: PathBuf,
}

impl Binaries {
    /// Finds the programs of the same build as the running test or tool.
    pub fn locate() -> Result<Self> {
        let folder = match std::env::var_os(FOLDER_VARIABLE) {
            Some(folder) => PathBuf::from(folder),
            None => build_folder()?,
        };
        let find = |name: &str| {
            let path = folder.join(name);
            if !path.is_file() {
                bail!("{} does not exist: run `cargo build --workspace` first", path.display());
            }
            Ok(path)
        };
        Ok(Self { coordinator: find("coordinator")?, node_agent: find("node-agent")?, ctl: find("ctl")? })
    }

    /// An agent whose clocks are off, of the same build as the running test or tool.
    pub fn skewed_agent() -> Result<PathBuf> {
        of_this_build("lastseen-skewed-agent")
    }

    /// Agents whose packets are made up, of the same build as the running test or tool.
    pub fn scripted_agent() -> Result<PathBuf> {
        of_this_build("lastseen-scripted-agent")
    }
}

fn of_this_build(name: &str) -> Result<PathBuf> {
    let path = build_folder()?.join(name);
    if !path.is_file() {
        bail!("{} does not exist: run `cargo build --workspace` first", path.display());
    }
    Ok(path)
}

/// `target/<profile>`: the folder of this program, or the one above for a test in `deps`.
fn build_folder() -> Result<PathBuf> {
    let program = std::env::current_exe().context("find the running program")?;
    let folder = program.parent().context("the running program has no folder")?;
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    Ok(folder.to_owned())
}
