//! The life of one capture as a machine without I/O: events and time in, effects out.
//!
//! Its rules look at how things stand and not at what just happened, so a lost connection, a restart of the coordinator
//! and a message that came twice need no cases of their own.

mod events;
mod phases;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::drain::Ledger;
use crate::fleet::{Command, Link};
use crate::limits;
use crate::model::{Capture, PointStatus, State, Window};

/// What an agent says about its part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// What its connection tracking translated, encoded; once its part is over.
    #[serde(skip)]
    pub translations: Option<Bytes>,
}

/// What a process that is no more left of one point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// The process.
    pub incarnation: u64,
    /// The point, and how many batches the process made at least.
    pub status: PointStatus,
}

/// What is to be done, in this order; networks are stored together, before anything is sent.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Store the capture before anything that follows.
    Save,
    /// Keep the node's topology with the capture.
    SaveTopology(String),
    /// Keep what these nodes translated with the capture.
    SaveTranslations(Vec<(String, Bytes)>),
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
    arm_began_nanos: i64,
    arm_deadline_nanos: i64,
    /// When the deadline was put off for agents that were away then.
    put_off_nanos: Option<i64>,
    /// Nodes whose agents were connected at the last look.
    present: BTreeSet<String>,
    /// Sessions that were told to arm, and to start.
    asked: HashMap<String, u64>,
    committed: HashMap<String, u64>,
    ledger: Ledger,
    progress_nanos: i64,
    recovered_nanos: Option<i64>,
    /// Why batches could not be stored when that was last tried in vain.
    storage_trouble: Option<(i64, String)>,
    /// What was said of the capture before its report had to wait.
    reason_before: Option<String>,
    /// What nodes translated and is not stored yet.
    translations: Vec<(String, Bytes)>,
    saved: Option<Snapshot>,
    has_told_end: bool,
    has_correlated: bool,
    is_rehearsal: bool,
}

/// What a transition changes; it is stored whenever it does.
type Snapshot = (State, Option<Window>, Vec<State>);

impl Machine {
    /// A capture that was just stored.
    pub fn new(capture: Capture) -> Self {
        let saved = Some(snapshot(&capture));
        Self {
            capture,
            arm_began_nanos: 0,
            arm_deadline_nanos: i64::MAX,
            put_off_nanos: None,
            present: BTreeSet::new(),
            asked: HashMap::new(),
            committed: HashMap::new(),
            ledger: Ledger::default(),
            progress_nanos: 0,
            recovered_nanos: None,
            storage_trouble: None,
            reason_before: None,
            translations: Vec::new(),
            saved,
            has_told_end: false,
            has_correlated: false,
            is_rehearsal: false,
        }
    }

    /// A capture that is armed and called off: nothing of it is stored, and each part stays as its agent answered.
    pub fn rehearsal(capture: Capture) -> Self {
        Self { is_rehearsal: true, ..Self::new(capture) }
    }

    /// See [`Machine::rehearsal`].
    pub fn is_rehearsal(&self) -> bool {
        self.is_rehearsal
    }

    /// A capture that another process left unfinished. One without a window goes on arming, and agents get time to come
    /// back: whoever asked for it asks again by the same name.
    pub fn recover(capture: Capture, now_nanos: i64) -> Self {
        let mut machine = Self::new(capture);
        machine.recovered_nanos = Some(now_nanos);
        machine.progress_nanos = now_nanos;
        machine.arm_began_nanos = now_nanos;
        machine.arm_deadline_nanos = machine.while_armed(now_nanos + limits::RECOVERY_NANOS);
        machine
    }

    /// As it is now.
    pub fn capture(&self) -> &Capture {
        &self.capture
    }

    /// How things stand, brought up to `now_nanos`. Call it after every event and at [`Machine::wake_nanos`].
    pub fn step(&mut self, now_nanos: i64, links: &Links) -> Vec<Effect> {
        self.look(now_nanos, links);
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
        // Before the capture itself: a part that is stored as completed has told everything.
        let told = std::mem::take(&mut self.translations);
        let mut effects = Vec::new();
        if !told.is_empty() {
            effects.push(Effect::SaveTranslations(told));
        }
        let now = snapshot(&self.capture);
        if self.saved.as_ref() != Some(&now) {
            self.saved = Some(now);
            effects.push(Effect::Save);
        }
        effects.append(&mut sends);
        self.wind_up(links, &mut effects);
        if self.is_rehearsal {
            let is_stored = |effect: &Effect| {
                matches!(effect, Effect::Save | Effect::SaveTopology(_) | Effect::SaveTranslations(..))
            };
            effects.retain(|effect| !is_stored(effect));
        }
        effects
    }

    /// An agent that comes or goes is news: one that lost its coordinator is given time to find another.
    fn look(&mut self, now_nanos: i64, links: &Links) {
        let nodes = self.capture.parts.iter().map(|part| &part.node);
        let present: BTreeSet<String> = nodes.filter(|node| links.contains_key(*node)).cloned().collect();
        if present != self.present {
            self.present = present;
            self.progress_nanos = now_nanos;
        }
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

    /// This process stood still until now, as a stopped one or one on a frozen machine does: agents whose connections it
    /// let die meanwhile get as long to come back as after a restart.
    pub fn stood_still(&mut self, now_nanos: i64) {
        self.recovered_nanos = Some(now_nanos);
    }

    /// Not all of the last step could be stored or sent: the next step asks for all of it again. What was sent twice
    /// counts once.
    pub fn unsaved(&mut self) {
        self.saved = None;
        self.asked.clear();
        self.committed.clear();
        self.has_told_end = false;
        self.has_correlated = false;
    }

    /// What nodes translated could not be stored.
    pub fn untold(&mut self, told: Vec<(String, Bytes)>) {
        self.translations.extend(told);
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

#[cfg(test)]
mod tests;
