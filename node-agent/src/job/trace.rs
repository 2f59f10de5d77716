//! The spans of one job, as children of the coordinator's span of the capture.

use std::sync::Arc;

use lastseen_runtime::telemetry::{TRACE, adopt};
use tracing::field::Empty;
use tracing::{Instrument as _, Span, info_span};

use super::spec::Spec;
use super::status::State;
use crate::spool::Spool;

/// Follows a job from the commit of its window. Costs nothing while nothing is traced.
pub(super) struct Trace {
    job: Span,
    phase: (State, Span),
    /// From the opening of the window to the last acknowledgement.
    upload: Span,
}

/// The span of a whole job on this node.
pub(super) fn job(node: &str, spec: &Spec) -> Span {
    let span = info_span!(
        target: TRACE,
        "job",
        capture.id = spec.capture,
        node = node,
        capture.state = Empty,
        otel.status_code = Empty,
    );
    adopt(&span, &spec.traceparent);
    span
}

impl Trace {
    /// Of the job whose span is entered here.
    pub(super) fn here() -> Self {
        Self { job: Span::current(), phase: (State::Armed, Span::none()), upload: Span::none() }
    }

    /// Ends a phase and begins the next, if the job has gone on.
    pub(super) fn follow(&mut self, state: State) {
        if self.job.is_disabled() || self.phase.0 == state {
            return;
        }
        let job = &self.job;
        let span = match state {
            State::Running => {
                self.upload = info_span!(target: TRACE, parent: job, "upload");
                info_span!(target: TRACE, parent: job, "capture")
            }
            State::Draining => info_span!(target: TRACE, parent: job, "flush"),
            _ => Span::none(),
        };
        self.phase = (state, span);
        if state.is_final() {
            job.record("capture.state", format!("{state:?}").to_lowercase());
        }
        if state == State::Failed {
            job.record("otel.status_code", "ERROR");
        }
    }

    /// The job is over; its upload is once nothing of it waits any more.
    pub(super) fn finish(self, spool: Arc<Spool>, capture: String) {
        if !self.upload.is_disabled() {
            let delivered = async move { spool.delivered(&capture).await };
            tokio::spawn(delivered.instrument(self.upload));
        }
    }
}
