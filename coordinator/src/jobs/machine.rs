//! The life of one capture as a machine without I/O: events and time in, effects out.
//!
//! Its rules look at how things stand and not at what just happened, so a lost connection, a restart of the coordinator
//! and a message that came twice need no cases of their own.

use std::collections::{BTreeMap, HashMap};

use super::drain::Ledger;
use crate::fleet::{Command, Link};
use crate::limits;
use crate::model::{BatchKey, Capture, MILLISECOND, Part, PointStatus, State, Window};
use crate::store::StoredCount;

/// What an agent says about its part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Process that says so.
    pub incarnation: u64,
    /// Where the part is.
    pub state: State,
    /// Why it failed or stopped early.
    pub reason: String,
    /// Points and counters.
    pub points: Vec<PointStatus>,
    /// What was not covered.
    pub coverage: Vec<String>,
}

/// What is to be done, in this order.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Store the capture before anything that follows.
    Save,
    /// Keep the node's topology with the capture.
    SaveTopology(String),
    /// Tell an agent.
    Send(String, Command),
    /// No batch is accepted any more; match what there is.
    Correlate,
    /// Nothing follows.
    Finish,
}

/// The agents that are ready, by node name.
pub type Links = BTreeMap<String, Link>;

/// One capture.
#[derive(Debug)]
pub struct Machine {
    capture: Capture,
    arm_deadline_nanos: i64,
    /// Sessions that were told to arm, and to start.
    asked: HashMap<String, u64>,
    committed: HashMap<String, u64>,
    ledger: Ledger,
    progress_nanos: i64,
    recovered_nanos: Option<i64>,
    saved: Option<Snapshot>,
    has_told_end: bool,
    has_correlated: bool,
}

/// What a transition changes; it is stored whenever it does.
type Snapshot = (State, Option<Window>, Vec<State>);

impl Machine {
    /// A capture that was just stored.
    pub fn new(capture: Capture) -> Self {
        let saved = Some(snapshot(&capture));
        Self {
            capture,
            arm_deadline_nanos: i64::MAX,
            asked: HashMap::new(),
            committed: HashMap::new(),
            ledger: Ledger::default(),
            progress_nanos: 0,
            recovered_nanos: None,
            saved,
            has_told_end: false,
            has_correlated: false,
        }
    }

    /// A capture that an earlier process left unfinished. One without a window is given up: whoever asked for it has
    /// lost the call and will ask again.
    pub fn recover(capture: Capture, now_nanos: i64) -> Self {
        let mut machine = Self::new(capture);
        machine.recovered_nanos = Some(now_nanos);
        machine.progress_nanos = now_nanos;
        if machine.capture.window.is_none() {
            machine.end(
                State::Failed,
                "the coordinator was restarted before the window was fixed; start it again",
            );
        }
        machine
    }

    /// As it is now.
    pub fn capture(&self) -> &Capture {
        &self.capture
    }

    /// How things stand, brought up to `now_nanos`. Call it after every event and at [`Machine::wake_nanos`].
    pub fn step(&mut self, now_nanos: i64, links: &Links) -> Vec<Effect> {
        let mut sends = Vec::new();
        loop {
            let state = self.capture.state;
            match state {
                State::Pending => self.begin(now_nanos),
                State::Arming => self.arm(now_nanos, links, &mut sends),
                State::Running => self.run(now_nanos, links, &mut sends),
                State::Draining => self.drain(now_nanos, links, &mut sends),
                _ => {}
            }
            if self.capture.state == state {
                break;
            }
        }
        let mut effects = Vec::new();
        let now = snapshot(&self.capture);
        if self.saved.as_ref() != Some(&now) {
            self.saved = Some(now);
            effects.push(Effect::Save);
        }
        effects.append(&mut sends);
        self.wind_up(links, &mut effects);
        effects
    }

    fn wind_up(&mut self, links: &Links, effects: &mut Vec<Effect>) {
        let state = self.capture.state;
        if state >= State::Correlating && !self.has_told_end {
            self.has_told_end = true;
            effects.extend(self.forget(links));
        }
        if state == State::Correlating && !self.has_correlated {
            self.has_correlated = true;
            effects.push(Effect::Correlate);
        }
        if state.is_final() {
            effects.push(Effect::Finish);
        }
    }

    /// When to step again though nothing happens.
    pub fn wake_nanos(&self) -> Option<i64> {
        match self.capture.state {
            State::Arming => Some(self.arm_deadline_nanos),
            State::Running => self.capture.window.map(|window| window.end_nanos),
            State::Draining => Some(self.drain_deadline_nanos()),
            _ => None,
        }
    }

    /// The last step could not be stored and nothing that followed [`Effect::Save`] was done: the next step asks for
    /// all of it again.
    pub fn unsaved(&mut self) {
        self.saved = None;
        self.asked.clear();
        self.committed.clear();
        self.has_told_end = false;
        self.has_correlated = false;
    }

    /// An agent spoke.
    pub fn status(&mut self, node: &str, status: Status, now_nanos: i64) {
        let capture_state = self.capture.state;
        let Some(part) = self.capture.part_mut(node).filter(|part| !part.state.is_final()) else { return };
        if *part.incarnation.get_or_insert(status.incarnation) != status.incarnation {
            return;
        }
        if part.state != status.state {
            self.progress_nanos = now_nanos;
        }
        part.points = status.points;
        part.coverage = status.coverage;
        match status.state {
            State::Armed => {
                part.armed_at_nanos.get_or_insert(now_nanos);
                if part.state == State::Arming {
                    part.state = State::Armed;
                }
            }
            State::Running | State::Draining if capture_state >= State::Running => part.state = status.state,
            State::Completed | State::Failed | State::Cancelled => {
                part.state = status.state;
                part.reason = status.reason;
            }
            _ => {}
        }
    }

    /// What is on stable storage now.
    pub fn stored(&mut self, counts: Vec<StoredCount>, now_nanos: i64) {
        if self.ledger.replace(counts) {
            self.progress_nanos = now_nanos;
        }
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

    /// The correlation run came to its end.
    pub fn correlated(&mut self, result: Result<(), String>) {
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

    /// Why nodes failed, for the caller of the start: the first few, because one mistake often fails all.
    pub fn reasons(&self) -> String {
        const NAMED: usize = 3;
        let failed = || self.capture.parts.iter().filter(|part| part.state == State::Failed);
        let mut reasons: Vec<String> =
            failed().take(NAMED).map(|part| format!("{}: {}", part.node, part.reason)).collect();
        if let Some(more @ 1..) = failed().count().checked_sub(NAMED) {
            reasons.push(format!("and {more} more; see `ctl show-capture {}`", self.capture.id));
        }
        reasons.join("; ")
    }

    fn begin(&mut self, now_nanos: i64) {
        self.arm_deadline_nanos = now_nanos + limits::ARM_NANOS;
        self.capture.state = State::Arming;
        self.capture.parts.iter_mut().for_each(|part| part.state = State::Arming);
    }

    fn arm(&mut self, now_nanos: i64, links: &Links, sends: &mut Vec<Effect>) {
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
                _ if now_nanos >= self.arm_deadline_nanos => {
                    fail(part, &not_armed(links.contains_key(&part.node)));
                }
                _ => {}
            }
        }
        let refusal = |part: &&Part| part.state == State::Failed && part.reason.starts_with("filter:");
        if let Some(reason) = self.capture.parts.iter().find(refusal).map(|part| part.reason.clone()) {
            self.end(State::Failed, &reason);
        } else if self.capture.parts.iter().all(|part| part.state.is_final()) {
            self.end(State::Failed, &format!("no node could be armed: {}", self.reasons()));
        } else if self.capture.parts.iter().all(|part| part.state != State::Arming) {
            self.fix_window(now_nanos);
        }
    }

    fn fix_window(&mut self, now_nanos: i64) {
        let earliest = now_nanos + limits::START_LEAD_NANOS;
        let start_nanos = self.capture.spec.start_at_nanos.map_or(earliest, |at| at.max(earliest));
        let end_nanos = start_nanos + self.capture.spec.duration_nanos;
        self.capture.window = Some(Window { start_nanos, end_nanos });
        self.capture.state = State::Running;
    }

    fn run(&mut self, now_nanos: i64, links: &Links, sends: &mut Vec<Effect>) {
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
                fail(part, "its agent was restarted during the capture; what it had not sent is lost");
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

    fn drain(&mut self, now_nanos: i64, links: &Links, sends: &mut Vec<Effect>) {
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
            self.ledger.note_missing(part);
        }
        self.capture.state = State::Correlating;
    }

    fn drain_deadline_nanos(&self) -> i64 {
        let end = self.capture.window.map_or(0, |window| window.end_nanos);
        let tail_end = end + limits::TAIL_NANOS;
        let idle = self.progress_nanos.max(tail_end) + limits::DRAIN_IDLE_NANOS;
        let recovery = self.recovered_nanos.map_or(0, |at| at + limits::RECOVERY_NANOS);
        let latest = tail_end.max(self.recovered_nanos.unwrap_or(0)) + limits::DRAIN_NANOS;
        idle.max(recovery).min(latest)
    }

    /// Agents need not keep anything of it.
    fn forget(&self, links: &Links) -> Vec<Effect> {
        let connected = self.capture.parts.iter().filter(|part| links.contains_key(&part.node));
        let end = || Command::End { capture: self.capture.id.clone(), end_monotonic_nanos: None };
        connected.map(|part| Effect::Send(part.node.clone(), end())).collect()
    }

    fn end(&mut self, state: State, reason: &str) {
        self.capture.state = state;
        reason.clone_into(&mut self.capture.reason);
        for part in self.capture.parts.iter_mut().filter(|part| !part.state.is_final()) {
            part.state = State::Cancelled;
        }
    }
}

fn snapshot(capture: &Capture) -> Snapshot {
    (capture.state, capture.window, capture.parts.iter().map(|part| part.state).collect())
}

fn fail(part: &mut Part, reason: &str) {
    part.state = State::Failed;
    reason.clone_into(&mut part.reason);
}

fn not_armed(is_connected: bool) -> String {
    let seconds = limits::ARM_NANOS / 1_000_000_000;
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

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
