//! The rules of each state: what it waits for, whom it tells, and when the next one comes.

use super::{Effect, Links, Machine};
use crate::fleet::Command;
use crate::limits;
use crate::model::{MILLISECOND, Part, SECOND, State, Window};

/// What to do when observations cannot be stored.
const STORAGE_ADVICE: &str =
    "look at the coordinator's --data-dir or --object-store, its permissions and its free space";

impl Machine {
    pub(super) fn begin(&mut self, now_nanos: i64) {
        self.arm_began_nanos = now_nanos;
        self.arm_deadline_nanos = now_nanos + self.arm_patience_nanos();
        self.capture.state = State::Arming;
        let missing = |part: &&mut Part| !part.state.is_final();
        self.capture.parts.iter_mut().filter(missing).for_each(|part| part.state = State::Arming);
    }

    pub(super) fn arm(&mut self, now_nanos: i64, links: &Links, sends: &mut Vec<Effect>) {
        let waited_nanos = now_nanos - self.arm_began_nanos;
        let (is_late, mut is_awaited) = (now_nanos >= self.arm_deadline_nanos, false);
        let job = std::sync::Arc::new(self.capture.clone());
        for part in self.capture.parts.iter_mut().filter(|part| part.state == State::Arming) {
            match links.get(&part.node) {
                Some(link) if self.asked.get(&part.node) != Some(&link.session) => {
                    self.asked.insert(part.node.clone(), link.session);
                    sends.push(Effect::SaveTopology(part.node.clone()));
                    // One that came back with it will say by itself that it is ready.
                    if !link.works_on_it {
                        sends.push(Effect::Send(part.node.clone(), Command::Arm(job.clone())));
                    }
                }
                // It was here: its coordinator may be gone, and it needs a moment to find another one.
                None if is_late && self.put_off_nanos.is_none() && self.asked.contains_key(&part.node) => {
                    is_awaited = true;
                }
                _ if is_late => {
                    fail(part, &not_armed(links.contains_key(&part.node), waited_nanos));
                }
                _ => {}
            }
        }
        if is_awaited {
            self.put_off_nanos = Some(now_nanos);
            self.arm_deadline_nanos = self.while_armed(now_nanos + limits::MOVE_NANOS);
        }
        if self.is_rehearsal {
            self.end_rehearsal();
        } else {
            self.judge_armed(now_nanos);
        }
    }

    /// Agents of a coordinator that is no more have to find another one first.
    fn arm_patience_nanos(&self) -> i64 {
        self.recovered_nanos.map_or(limits::ARM_NANOS, |_| limits::RECOVERY_NANOS)
    }

    /// This deadline, or an earlier one before nodes that are armed give up.
    pub(super) fn while_armed(&self, deadline_nanos: i64) -> i64 {
        let armed = self.capture.parts.iter().filter(|part| part.state == State::Armed);
        let first = armed.filter_map(|part| part.armed_at_nanos).min();
        first.map_or(deadline_nanos, |at| deadline_nanos.min(at + limits::ARMED_NANOS))
    }

    /// A node got ready, or said that it cannot: others may be as slow, and be it for their number.
    pub(super) fn arm_longer(&mut self, now_nanos: i64) {
        let latest_nanos = self.arm_began_nanos.saturating_add(limits::ARM_LONGEST_NANOS);
        let deadline_nanos = latest_nanos.min(now_nanos + limits::ARM_NANOS);
        self.arm_deadline_nanos = self.arm_deadline_nanos.max(deadline_nanos);
    }

    /// Once everyone has answered, or did not in time.
    fn end_rehearsal(&mut self) {
        if self.capture.parts.iter().all(|part| part.state != State::Arming) {
            self.capture.state = State::Cancelled;
        }
    }

    fn judge_armed(&mut self, now_nanos: i64) {
        if self.capture.parts.iter().all(|part| part.state.is_final()) {
            let reason = match self.refused_by_all() {
                Some(reason) => reason.to_owned(),
                None => format!("no node could be armed: {}", self.reasons()),
            };
            self.end(State::Failed, &reason);
        } else if self.capture.parts.iter().all(|part| part.state != State::Arming) {
            self.fix_window(now_nanos);
        }
    }

    /// What every node says that answered: then it is the job that is wrong, and no node need be named.
    fn refused_by_all(&self) -> Option<&str> {
        let answered = || self.capture.parts.iter().filter(|part| part.incarnation.is_some());
        let reason = answered().next()?.reason.as_str();
        let is_of_the_job = reason.starts_with("filter:");
        (is_of_the_job && answered().all(|part| part.reason == reason)).then_some(reason)
    }

    fn fix_window(&mut self, now_nanos: i64) {
        let others = self.capture.parts.len().saturating_sub(1) as i64;
        let earliest = now_nanos + limits::START_LEAD_NANOS + others * limits::START_LEAD_PER_NODE_NANOS;
        let start_nanos = self.capture.spec.start_at_nanos.map_or(earliest, |at| at.max(earliest));
        let end_nanos = start_nanos + self.capture.spec.duration_nanos;
        self.capture.window = Some(Window { start_nanos, end_nanos });
        self.capture.state = State::Running;
    }

    pub(super) fn run(&mut self, now_nanos: i64, links: &Links, sends: &mut Vec<Effect>) {
        let Some(window) = self.capture.window else { return };
        self.follow(links, window, sends);
        if self.capture.parts.iter().all(|part| part.state.is_final()) {
            let end_nanos = window.end_nanos.min(now_nanos).max(window.start_nanos + MILLISECOND);
            self.capture.window = Some(Window { end_nanos, ..window });
            self.start_draining(now_nanos);
        } else if now_nanos >= window.end_nanos {
            self.start_draining(now_nanos);
        }
    }

    fn start_draining(&mut self, now_nanos: i64) {
        self.capture.state = State::Draining;
        self.progress_nanos = now_nanos;
    }

    /// Keeps clocks, tells the window to whom has not heard it, and notices agents that were started anew.
    fn follow(&mut self, links: &Links, window: Window, sends: &mut Vec<Effect>) {
        let was_stopped = window.end_nanos < window.start_nanos + self.capture.spec.duration_nanos;
        for part in self.capture.parts.iter_mut().filter(|part| !part.state.is_final()) {
            let Some(link) = links.get(&part.node) else { continue };
            if part.incarnation.is_some_and(|known| known != link.incarnation) {
                fail(
                    part,
                    "its agent was restarted during the capture; what passed from then on was not seen",
                );
                continue;
            }
            part.clock_start.get_or_insert(link.clock);
            part.clock_end = Some(link.clock);
            if self.committed.get(&part.node) == Some(&link.session) {
                continue;
            }
            self.committed.insert(part.node.clone(), link.session);
            let capture = self.capture.id.clone();
            let end_monotonic_nanos = link.clock.to_monotonic(window.end_nanos);
            if part.state == State::Armed {
                let start_monotonic_nanos = link.clock.to_monotonic(window.start_nanos);
                let start_nanos = window.start_nanos;
                let commit =
                    Command::Commit { capture, start_monotonic_nanos, end_monotonic_nanos, start_nanos };
                // Agents tell their network once more right before they say that they are ready.
                sends.push(Effect::SaveTopology(part.node.clone()));
                sends.push(Effect::Send(part.node.clone(), commit));
            }
            // An agent that has its window already takes no other: only an end shortens it.
            if was_stopped {
                let capture = self.capture.id.clone();
                let end = Command::End { capture, end_monotonic_nanos: Some(end_monotonic_nanos) };
                sends.push(Effect::Send(part.node.clone(), end));
            }
        }
    }

    pub(super) fn drain(&mut self, now_nanos: i64, links: &Links, sends: &mut Vec<Effect>) {
        let Some(window) = self.capture.window else { return };
        self.follow(links, window, sends);
        let is_over = now_nanos >= self.drain_deadline_nanos();
        let all_final = self.capture.parts.iter().all(|part| part.state.is_final());
        if !(is_over || all_final && self.ledger.is_complete(&self.capture)) {
            return;
        }
        for part in &mut self.capture.parts {
            if !part.state.is_final() {
                fail(part, &not_drained(links.contains_key(&part.node)));
            }
            if let Some((_, trouble)) = self.storage_trouble.as_ref().filter(|_| self.ledger.lacks(part)) {
                fail(part, &format!("its observations could not be stored: {trouble}; {STORAGE_ADVICE}"));
            }
            self.ledger.note_missing(part);
        }
        self.capture.state = State::Correlating;
    }

    pub(super) fn drain_deadline_nanos(&self) -> i64 {
        let end = self.capture.window.map_or(0, |window| window.end_nanos);
        let tail_end = end + limits::TAIL_NANOS;
        // Batches that come and cannot be stored are news too, but not for ever: a full disk does not pass by itself.
        let trouble = self.storage_trouble.as_ref().map_or(0, |(at, _)| *at);
        let progress = self.progress_nanos.max(trouble.min(tail_end + limits::STORE_TROUBLE_NANOS));
        let idle = progress.max(tail_end) + limits::DRAIN_IDLE_NANOS;
        let recovery = self.recovered_nanos.map_or(0, |at| at + limits::RECOVERY_NANOS);
        let latest = tail_end.max(self.recovered_nanos.unwrap_or(0)) + limits::DRAIN_NANOS;
        idle.max(recovery).min(latest)
    }
}

fn fail(part: &mut Part, reason: &str) {
    part.state = State::Failed;
    reason.clone_into(&mut part.reason);
}

fn not_armed(is_connected: bool, waited_nanos: i64) -> String {
    let seconds = waited_nanos / SECOND;
    if is_connected {
        format!("did not get ready within {seconds} s; look at its agent's log")
    } else {
        format!("went offline and did not come back within {seconds} s; start its agent")
    }
}

fn not_drained(is_connected: bool) -> String {
    if is_connected {
        "did not finish in time; what it had not sent is missing".to_owned()
    } else {
        "offline at the end of the capture; what it had not sent is missing".to_owned()
    }
}
