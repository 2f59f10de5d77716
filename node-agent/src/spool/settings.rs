//! Where the spool is, what it may take, and why it cannot be used.

use std::io;
use std::path::PathBuf;

/// When batches are made safe from a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Fsync {
    /// When the kernel likes, usually within half a minute
    Never,
    /// When a segment is full, and when the agent stops: a backlog is safe but for its end
    #[default]
    Close,
    /// At once, behind each batch: a power cut costs the last moment. It keeps a disk busy
    Batch,
}

/// Where the spool is and what it may take.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A directory of its own. It is made if need be.
    pub directory: PathBuf,
    /// Most bytes of all files together.
    pub max_bytes: u64,
    /// See [`Fsync`].
    pub fsync: Fsync,
}

/// The spool cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// It cannot be made, read or written.
    #[error(
        "spool-dir: cannot use {directory}: {source}; give a directory this agent may write to with --spool-dir"
    )]
    Directory {
        /// As configured.
        directory: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another agent has it.
    #[error(
        "spool-dir: {directory} is in use by another agent{process}; stop that one, or give this one a --spool-dir of \
         its own"
    )]
    InUse {
        /// As configured.
        directory: PathBuf,
        /// `, process 17`, if it is known.
        process: String,
    },
}
