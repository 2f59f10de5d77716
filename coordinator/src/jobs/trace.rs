//! The spans of one capture: one for its life, and in it one for each phase.

use lastseen_runtime::telemetry::{TRACE, adopt, traceparent};
use tracing::field::Empty;
use tracing::{Span, info_span};

use crate::model::{Capture, Spec, State};

/// Follows a capture through its phases. Costs nothing while nothing is traced.
#[derive(Debug)]
pub(super) struct Trace {
    life: Span,
    phase: (State, Span),
}

impl Trace {
    /// Of a job that the call under way asked for. The job takes the trace along, to its agents and over a restart.
    pub(super) fn begin(id: &str, spec: &mut Spec) -> Self {
        let life = life(id, spec);
        spec.traceparent = traceparent(&life);
        Self::of(life)
    }

    /// Of a capture that an earlier process left unfinished.
    pub(super) fn resume(capture: &Capture) -> Self {
        let life = life(&capture.id, &capture.spec);
        if let Some(parent) = &capture.spec.traceparent {
            adopt(&life, parent);
        }
        Self::of(life)
    }

    fn of(life: Span) -> Self {
        Self { life, phase: (State::Completed, Span::none()) }
    }

    /// The span of the whole life.
    pub(super) fn life(&self) -> Span {
        self.life.clone()
    }

    /// The span of the phase that the capture is in.
    pub(super) fn phase(&self) -> Span {
        self.phase.1.clone()
    }

    /// Ends a phase and begins the next, if the capture has gone on.
    pub(super) fn follow(&mut self, capture: &Capture) {
        let phase = if capture.state == State::Pending { State::Arming } else { capture.state };
        if self.life.is_disabled() || self.phase.0 == phase {
            return;
        }
        let life = &self.life;
        let span = match phase {
            State::Arming => info_span!(target: TRACE, parent: life, "arm"),
            State::Running => info_span!(target: TRACE, parent: life, "window"),
            State::Draining => info_span!(target: TRACE, parent: life, "drain"),
            State::Correlating => info_span!(target: TRACE, parent: life, "correlate"),
            _ => Span::none(),
        };
        self.phase = (phase, span);
        if phase.is_final() {
            life.record("capture.state", format!("{phase:?}").to_lowercase());
            if phase == State::Failed {
                life.record("otel.status_code", "ERROR");
            }
        }
    }
}

fn life(id: &str, spec: &Spec) -> Span {
    info_span!(
        target: TRACE,
        "capture",
        capture.id = id,
        capture.nodes = spec.nodes.len(),
        capture.state = Empty,
        otel.status_code = Empty,
    )
}
