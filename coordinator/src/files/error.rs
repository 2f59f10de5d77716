//! What can be wrong with observation files.

use std::path::{Path, PathBuf};

/// An observation file cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The operating system refused.
    #[error("{path}: cannot {action}: {reason}")]
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why not.
        reason: std::io::Error,
    },
    /// The object store refused or did not answer.
    #[error("{url}: cannot {action}: {reason}; {advice}")]
    Object {
        /// Which object.
        url: String,
        /// What was tried.
        action: &'static str,
        /// Why not.
        reason: String,
        /// What to do.
        advice: &'static str,
    },
    /// There is no such object.
    #[error("{url}: it is gone; restore it, or delete the capture with `ctl delete-capture`")]
    Gone {
        /// Which object.
        url: String,
    },
    /// The bytes are not what was written.
    #[error("observation file {place}, offset {position}: {reason}")]
    Corrupt {
        /// Which file.
        place: String,
        /// Offset of the record.
        position: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// The configuration names no place.
    #[error("--object-store: {reason}; {advice}")]
    Target {
        /// What is wrong with it.
        reason: String,
        /// What to give.
        advice: &'static str,
    },
    /// Others collect as garbage what they do not know.
    #[error(
        "{place} holds the observation files of another database; give another place, or, if that database is gone for \
         good, remove {marker}: what it knew is then deleted"
    )]
    Foreign {
        /// Directory or URL.
        place: String,
        /// File that says so.
        marker: String,
    },
    /// What one coordinator acknowledges another one would not find.
    #[error(
        "{place} is not where this database's observation files are; give all its coordinators one --object-store, or one \
         --data-dir that they share, or, if all files are here now, write {expected} into {marker}"
    )]
    Elsewhere {
        /// Directory or URL.
        place: String,
        /// File that holds the place's name.
        marker: String,
        /// Name of the right place.
        expected: String,
    },
    /// A defect.
    #[error("work on observation files broke off: {0}")]
    Broken(String),
}

impl FileError {
    pub(super) fn io(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |reason| Self::Io { path, action, reason }
    }

    /// Nothing is wrong with what is stored: it cannot be reached now.
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Object { .. })
    }
}
