//! Probes: what this node asks of addresses, at times that the coordinator sets, from any of its network namespaces.

mod arp;
pub mod attempt;
pub mod board;
mod certificate;
mod datagrams;
mod dns;
mod flow;
mod gateway;
mod http;
mod icmp;
mod inquiry;
mod life;
mod mtu;
mod neighbor;
pub mod netns;
mod path;
pub mod report;
mod resolver;
mod run;
mod series;
mod solicitation;
pub mod spec;
mod table;
mod tcp;
mod throughput;
mod trace;
mod train;
mod udp;
mod way;

use std::collections::HashMap;
use std::sync::Arc;

use lastseen_proto::limits::{PROBE_PLACES, PROBES_PER_NODE};
use lastseen_proto::place::Place;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::board::{Board, Status};
use self::netns::run_in;
use self::spec::{Schedule, Spec};

struct Running {
    spec: Arc<Spec>,
    schedule: watch::Sender<Schedule>,
    over: CancellationToken,
    /// One task for each place.
    lives: TaskTracker,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.over.cancel();
    }
}

/// The probes of this node. They go on while no coordinator is there, and end with this value.
pub struct Probes {
    board: Board,
    running: HashMap<String, Running>,
}

impl Probes {
    /// None yet.
    pub fn new(board: Board) -> Self {
        Self { board, running: HashMap::new() }
    }

    /// Where they post.
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// Begins a probe, or takes up new times of a known one.
    pub fn arm(&mut self, spec: Spec) {
        if let Some(known) = self.running.get(&spec.probe) {
            if known.spec.is_like(&spec) {
                known.schedule.send_replace(spec.schedule);
                // The coordinator may know nothing of it.
                return self.board.repeat(&spec.probe);
            }
            self.running.remove(&spec.probe);
        }
        if self.running.len() >= PROBES_PER_NODE {
            let board = &self.board;
            self.running.retain(|probe, running| !running.lives.is_empty() || board.has_reports(probe));
        }
        let places: usize = self.running.values().map(|running| running.lives.len()).sum();
        let full = if self.running.len() >= PROBES_PER_NODE {
            Some(format!("{PROBES_PER_NODE} probes run on this node, the limit; stop one or wait"))
        } else if places + spec.places.len() > PROBE_PLACES {
            Some(format!(
                "probes run from {places} places of this node, and the limit is {PROBE_PLACES}; stop one or wait"
            ))
        } else {
            None
        };
        if let Some(reason) = full {
            return spec.places.iter().for_each(|place| self.fail(&spec.probe, place, &reason));
        }
        let (spec, over) = (Arc::new(spec), CancellationToken::new());
        let (schedule, times) = watch::channel(spec.schedule);
        let lives = TaskTracker::new();
        for place in &spec.places {
            let life = life::Life {
                spec: spec.clone(),
                place: place.clone(),
                times: times.clone(),
                over: over.clone(),
                board: self.board.clone(),
            };
            let token = lives.token();
            let begun = run_in(place, &format!("probe {}", spec.probe), move |entered| async move {
                life.live(entered).await;
                drop(token);
            });
            if let Err(error) = begun {
                self.fail(&spec.probe, place, &format!("no thread for it: {error}"));
            }
        }
        self.running.insert(spec.probe.clone(), Running { spec, schedule, over, lives });
    }

    /// Posts that a part cannot be done.
    pub fn fail(&self, probe: &str, place: &Place, reason: &str) {
        tracing::warn!(probe, netns = %place, reason, "probe refused");
        let (probe, place) = (probe.to_owned(), place.clone());
        self.board.post(Status { probe, place, failure: Some(reason.to_owned()) });
    }

    /// Ends a probe, if it runs, and forgets it.
    pub fn end(&mut self, probe: &str) {
        self.running.remove(probe);
        self.board.forget(probe);
    }

    /// Begins no run any more.
    pub fn shutdown(&self) {
        self.running.values().for_each(|running| running.over.cancel());
    }

    /// Whether everything that was found is with the coordinator.
    pub fn is_idle(&self) -> bool {
        self.board.is_empty()
    }

    /// Those that are known here.
    pub fn ids(&self) -> Vec<String> {
        self.running.keys().cloned().collect()
    }
}
