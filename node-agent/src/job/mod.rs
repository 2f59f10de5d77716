//! Capture jobs on this node.

mod arm;
pub mod board;
mod life;
pub mod spec;
pub mod status;
mod threads;
mod trace;

use std::collections::HashMap;
use std::sync::Arc;

use lastseen_proto::limits::CAPTURES_PER_NODE;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use self::board::Board;
use self::spec::{Backend, Spec};
use self::status::Status;
use crate::capture::budget::Budget;
use crate::interfaces::watch::Network;
use crate::metrics::Metrics;
use crate::spool::Spool;

/// Commands that wait for a job.
const COMMANDS: usize = 16;

/// What every job needs. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// This node's name, for messages.
    pub node: Arc<str>,
    /// How packets are captured.
    pub backend: Backend,
    /// Ring memory of one observation point in bytes, as far as the budget allows.
    pub ring_bytes: usize,
    /// Ring memory of all jobs together.
    pub rings: Budget,
    /// The node's interfaces.
    pub network: Network,
    /// Where batches go.
    pub spool: Arc<Spool>,
    /// Where statuses go.
    pub board: Board,
    /// Where those of probes go.
    pub probes: crate::probe::board::Board,
    /// What is counted for the admin port.
    pub metrics: Arc<Metrics>,
}

/// What a job is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Say again where you are.
    Arm,
    /// The window on this node's `CLOCK_MONOTONIC`, in nanoseconds.
    Commit {
        /// Start.
        start: i64,
        /// End.
        end: i64,
    },
    /// End the window at `at`, or now and without a trace.
    End {
        /// On `CLOCK_MONOTONIC`, in nanoseconds.
        at: Option<i64>,
    },
    /// The process is about to end.
    Shutdown,
}

/// The jobs that run.
pub struct Jobs {
    context: Context,
    running: HashMap<String, mpsc::Sender<Command>>,
    tasks: JoinSet<()>,
}

impl Jobs {
    /// None yet.
    pub fn new(context: Context) -> Self {
        Self { context, running: HashMap::new(), tasks: JoinSet::new() }
    }

    /// Starts a job, or lets a known one repeat where it is.
    pub fn arm(&mut self, spec: Spec) {
        while self.tasks.try_join_next().is_some() {}
        self.running.retain(|_, commands| !commands.is_closed());
        let capture = spec.capture.clone();
        if self.running.contains_key(&capture) {
            return self.tell(&capture, Command::Arm);
        }
        if self.running.len() >= CAPTURES_PER_NODE {
            let node = &self.context.node;
            return self.refuse(
                capture,
                format!("node {node}: {CAPTURES_PER_NODE} captures are running, the limit; stop one or wait"),
            );
        }
        let (commands, queue) = mpsc::channel(COMMANDS);
        self.running.insert(capture, commands);
        self.tasks.spawn(life::live(self.context.clone(), spec, queue));
    }

    /// Posts that a job cannot be done.
    pub fn refuse(&self, capture: String, reason: String) {
        tracing::warn!(capture, reason, "capture refused");
        self.context.board.post(Status::failed(capture, reason));
    }

    /// Passes a command on. A job that is over is forgotten when it is told to end without a trace.
    pub fn tell(&mut self, capture: &str, command: Command) {
        match self.running.get(capture).filter(|commands| !commands.is_closed()) {
            Some(commands) => {
                if commands.try_send(command).is_err() {
                    tracing::warn!(capture, ?command, "the job does not listen; the command is lost");
                }
                if command == (Command::End { at: None }) {
                    // Its rings may take a moment to close; its place is free for the next job now.
                    self.running.remove(capture);
                }
            }
            None if command == (Command::End { at: None }) => {
                self.context.board.remove(capture);
                self.context.spool.forget_soon(capture);
            }
            None => tracing::debug!(capture, ?command, "no such job"),
        }
    }

    /// Ends every job as early as its data allows.
    pub fn shutdown(&self) {
        for commands in self.running.values() {
            let _ = commands.try_send(Command::Shutdown);
        }
    }

    /// Whether every job has ended.
    pub fn is_idle(&mut self) -> bool {
        while self.tasks.try_join_next().is_some() {}
        self.tasks.is_empty()
    }
}
