//! What can go wrong, and the gRPC code of each: the only place where a domain error becomes a `Status`.

use tonic::{Code, Status};

use crate::files::FileError;
use crate::store::StoreError;

/// An error that a caller sees. Every text says what, where and what to do next.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field of the request is wrong. Nothing was started.
    #[error("{field}: {reason}")]
    Invalid {
        /// Field of the request.
        field: &'static str,
        /// The value, what is wrong with it and what to give instead.
        reason: String,
    },
    /// Nodes refused the job, and none could be armed.
    #[error("{0}")]
    Refused(String),
    /// No such capture.
    #[error("capture_id: no capture named {0:?}; `ctl list-captures` names them")]
    NoCapture(String),
    /// There is no capture at all.
    #[error("capture_id: there is no capture yet; make one with `ctl start-capture`")]
    NoCaptures,
    /// No such probe.
    #[error("probe_id: no probe named {0:?}; `ctl list-probes` names them")]
    NoProbe(String),
    /// There is no probe at all.
    #[error("probe_id: there is no probe yet; make one with `ctl run-probe`")]
    NoProbes,
    /// No such node.
    #[error("name: no node named {name:?}; known: {known}")]
    NoNode {
        /// As asked.
        name: String,
        /// What exists.
        known: String,
    },
    /// The state of things forbids it now.
    #[error("{0}")]
    Precondition(String),
    /// A limit is reached.
    #[error("{0}")]
    Exhausted(String),
    /// The caller's role does not allow it.
    #[error("{0}")]
    Denied(String),
    /// What must be on record could not be recorded.
    #[error(
        "{action}: not done, because its audit record could not be stored: {source}; look at the coordinator's database \
         and try again"
    )]
    Unaudited {
        /// What was asked for.
        action: String,
        /// Why there is no record.
        source: StoreError,
    },
    /// The agent and the coordinator do not understand each other.
    #[error("{0}")]
    Incompatible(String),
    /// The coordinator stops.
    #[error("the coordinator is stopping; try again in a moment")]
    Stopping,
    /// Nobody knows now what other coordinators lead.
    #[error(
        "captures of other coordinators cannot be looked up now; check that the coordinator's database runs and can be \
         reached"
    )]
    Unseen,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A capture cannot be stopped, because the database failed.
    #[error(
        "capture {capture} goes on until its stop can be stored, and that failed: {reason}; look at the coordinator's \
         disk and try again"
    )]
    NotStopped {
        /// Capture id.
        capture: String,
        /// What the database said.
        reason: String,
    },
    /// An observation file failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// A defect.
    #[error("internal error: {0}; the coordinator's log says more")]
    Internal(String),
}

impl Error {
    /// A wrong field.
    pub fn invalid(field: &'static str, reason: impl Into<String>) -> Self {
        Self::Invalid { field, reason: reason.into() }
    }

    /// Nothing is wrong with what was asked for: what it needs cannot be reached or has no room, for now.
    pub fn passes(&self) -> bool {
        match self {
            Self::Store(error) => error.passes(),
            Self::File(error) => error.is_away(),
            _ => false,
        }
    }

    fn code(&self) -> Code {
        match self {
            Self::Invalid { .. } | Self::Refused(_) => Code::InvalidArgument,
            Self::NoCapture(_)
            | Self::NoCaptures
            | Self::NoProbe(_)
            | Self::NoProbes
            | Self::NoNode { .. } => Code::NotFound,
            Self::Precondition(_) | Self::Incompatible(_) => Code::FailedPrecondition,
            Self::Exhausted(_) => Code::ResourceExhausted,
            Self::Denied(_) => Code::PermissionDenied,
            Self::Stopping
            | Self::Unseen
            | Self::Store(StoreError::Lost { .. })
            | Self::Unaudited { source: StoreError::Lost { .. }, .. } => Code::Unavailable,
            Self::File(error) if error.is_away() => Code::Unavailable,
            Self::Store(_)
            | Self::Unaudited { .. }
            | Self::NotStopped { .. }
            | Self::File(_)
            | Self::Internal(_) => Code::Internal,
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let code = error.code();
        if code == Code::Internal {
            tracing::error!(%error, "a call failed");
        }
        Self::new(code, error.to_string())
    }
}
