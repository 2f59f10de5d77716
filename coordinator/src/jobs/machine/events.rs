//! What happens to a capture: agents speak, batches arrive, people stop it, its correlation run ends.

use super::{Left, Machine, Status};
use crate::limits;
use crate::model::{BatchKey, State, Window};
use crate::store::StoredCount;

impl Machine {
    /// An agent spoke.
    pub fn status(&mut self, node: &str, status: Status, now_nanos: i64) {
        let capture_state = self.capture.state;
        let Some(part) = self.capture.part_mut(node).filter(|part| !part.state.is_final()) else { return };
        if *part.incarnation.get_or_insert(status.incarnation) != status.incarnation {
            return;
        }
        let is_news = part.state != status.state;
        let has_answered = is_news && part.state == State::Arming;
        part.points = status.points;
        part.coverage = status.coverage;
        match status.state {
            State::Armed => {
                part.armed_at_nanos.get_or_insert(now_nanos);
                if part.state == State::Arming {
                    part.state = State::Armed;
                }
            }
            State::Running | State::Draining if capture_state >= State::Running => {
                part.state = part.state.max(status.state);
            }
            State::Completed | State::Failed | State::Cancelled => {
                part.state = status.state;
                part.reason = status.reason;
                self.translations.extend(status.translations.map(|told| (node.to_owned(), told)));
            }
            _ => {}
        }
        if is_news {
            self.progress_nanos = now_nanos;
        }
        if has_answered {
            self.arm_longer(now_nanos);
        }
    }

    /// The agent of a part died, and what it had not sent follows: more batches than it lived to announce.
    pub fn left(&mut self, node: &str, left: Vec<Left>, now_nanos: i64) {
        let is_over = self.capture.state >= State::Correlating;
        let Some(part) = self.capture.part_mut(node).filter(|_| !is_over) else { return };
        let known = part.incarnation;
        for Left { status, .. } in left.into_iter().filter(|left| known == Some(left.incarnation)) {
            let has_room = part.points.len() < limits::POINTS_PER_NODE;
            match part.points.iter_mut().find(|point| point.point.key == status.point.key) {
                Some(point) => point.batches = point.batches.max(status.batches),
                None if has_room => part.points.push(status),
                None => {}
            }
            self.progress_nanos = now_nanos;
        }
    }

    /// What is on stable storage now.
    pub fn stored(&mut self, counts: Vec<StoredCount>, now_nanos: i64) {
        if self.ledger.replace(counts) {
            self.progress_nanos = now_nanos;
        }
    }

    /// Batches could not be stored, for now.
    pub fn unstored(&mut self, reason: String, now_nanos: i64) {
        self.storage_trouble = Some((now_nanos, reason));
    }

    /// A batch will never be stored.
    pub fn refused(&mut self, key: &BatchKey) {
        self.ledger.refuse(key);
    }

    /// Somebody asked to end it.
    pub fn stop(&mut self, who: &str, now_nanos: i64) {
        match (self.capture.state, self.capture.window) {
            (State::Running, Some(window)) if window.start_nanos < now_nanos => {
                let end_nanos = window.end_nanos.min(now_nanos);
                self.capture.window = Some(Window { end_nanos, ..window });
                self.capture.reason = format!("stopped by {who}");
                self.committed.clear();
            }
            (State::Pending | State::Arming | State::Running, _) => {
                self.end(State::Cancelled, &format!("stopped by {who} before its window began"));
            }
            _ => {}
        }
    }

    /// The report has to wait.
    pub fn postponed(&mut self, why: &str) {
        let before = self.capture.reason.clone();
        self.reason_before.get_or_insert(before);
        self.capture.reason = format!("the report waits: {why}");
    }

    /// The correlation run came to its end.
    pub fn correlated(&mut self, result: Result<(), String>) {
        if let Some(reason) = self.reason_before.take() {
            self.capture.reason = reason;
        }
        match result {
            Ok(()) => self.capture.state = State::Completed,
            Err(reason) => self.end(State::Failed, &reason),
        }
        if self.capture.state == State::Completed
            && self.capture.parts.iter().all(|part| part.state == State::Failed)
        {
            self.capture.state = State::Failed;
            self.capture.reason = format!("every node failed: {}", self.reasons());
        }
    }
}
