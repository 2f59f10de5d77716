//! What stands before every call: who may call what, who is denied, how often, and that it is on record.

use std::sync::Arc;
use std::time::SystemTime;

use lastseen_runtime::certificate::days_left_if_soon;
use lastseen_runtime::expiry::End;
use lastseen_runtime::identity::{Identity, Role};
use lastseen_runtime::tls::Pki;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::access::Caller;
use crate::audit::Audit;
use crate::connections::Connections;
use crate::error::Error;
use crate::limits;
use crate::metrics::Metrics;
use crate::model::Spec;
use crate::policy::{Policy, PolicyFile};
use crate::rate::Rates;

/// The parts that guard the coordinator. One for all services.
pub struct Guard {
    /// Part before the path in the identities that are let in.
    pub trust_domain: String,
    /// What is on record.
    pub audit: Audit,
    /// Who is connected.
    pub connections: Connections,
    /// What certificates alone do not decide.
    pub policy: PolicyFile,
    /// How often an identity may call.
    pub rates: Rates,
    /// Figures.
    pub metrics: Metrics,
    pki: Pki,
}

impl Guard {
    /// Puts the policy in force and keeps it so until `stopping`.
    pub fn start(
        pki: Pki,
        policy: PolicyFile,
        audit: Audit,
        metrics: Metrics,
        stopping: CancellationToken,
    ) -> Arc<Self> {
        let guard = Arc::new(Self {
            trust_domain: pki.identity().trust_domain,
            audit,
            connections: Connections::new(metrics.clone(), limits::CONNECTION_IDLE),
            policy,
            rates: Rates::new(limits::CALLS_PER_SECOND, limits::CALLS_AT_ONCE),
            metrics,
            pki,
        });
        guard.enforce(&guard.policy.current());
        tokio::spawn(watch_over(guard.clone(), stopping.clone()));
        let follower = guard.clone();
        tokio::spawn(async move { follower.policy.follow(stopping).await });
        guard
    }

    /// The job asks for more of packets than their headers, which takes a permission. Refuses it without.
    pub fn check_payload(&self, caller: &Caller, spec: &Spec) -> Result<(), Error> {
        if spec.snap_length <= limits::DEFAULT_SNAP_LENGTH
            || self.policy.current().allows_payload(&caller.identity)
        {
            return Ok(());
        }
        let next = match self.policy.path() {
            Some(path) => format!("have it added to `payload` in {}", path.display()),
            None => "start the coordinator with a --policy file that lists it as `payload`".to_owned(),
        };
        let (length, most) = (spec.snap_length, limits::DEFAULT_SNAP_LENGTH);
        Err(Error::Denied(format!(
            "snap_length: {length} bytes of a packet hold payload, and {} may not capture that; give {most} at most, or \
             {next}",
            caller.identity
        )))
    }

    /// What is wrong with the coordinator itself, a line each that ends with what to do.
    pub fn notes(&self) -> Vec<String> {
        let trouble = self.policy.trouble().map(|error| {
            format!("policy file {error}; the policy before it stays in force: mend the file and save it")
        });
        let ending = ending(self.pki.not_after(), "the coordinator's certificate", "coordinator", "NAME");
        ending.into_iter().chain(trouble).collect()
    }

    /// The end of the certificate that a node's agent has, and a note if that is soon or the agent is denied.
    pub fn end_of(&self, node: &str) -> (Option<SystemTime>, Option<String>) {
        let end = self.connections.end_of(node);
        let agent = Identity::new(&self.trust_domain, Role::Agent, node);
        if self.policy.current().denied().names.contains(&agent) {
            return (
                end,
                Some(format!(
                    "its agent is denied; take {agent} off `deny-names` in the policy file to let it in"
                )),
            );
        }
        (end, end.and_then(|end| ending(end, "its certificate", "agent", node)))
    }

    /// Ends of the certificates of this process and of the agents that are connected.
    pub fn ends(&self) -> Vec<End> {
        let own = (self.pki.identity(), self.pki.not_after());
        std::iter::once(own).chain(self.connections.agents()).collect()
    }

    fn enforce(&self, policy: &Policy) {
        self.pki.deny(policy.denied().clone());
        for (peer, found) in self.connections.deny(policy.denied().clone()) {
            tracing::warn!(identity = peer.name(), peer = peer.address, found, "denied: its streams are cut");
            self.audit.refused(&peer, "cut-off", &found, "on the deny list of the policy file");
        }
    }
}

fn ending(not_after: SystemTime, whose: &str, role: &str, name: &str) -> Option<String> {
    let days = days_left_if_soon(not_after, SystemTime::now())?;
    let when = match days {
        _ if not_after <= SystemTime::now() => "has expired".to_owned(),
        0 => "expires within a day".to_owned(),
        days => format!("expires in {days} days"),
    };
    Some(format!(
        "{whose} {when}; issue a new one into its --pki-dir with `ctl pki issue CA {role} {name} --out DIR`"
    ))
}

/// Takes over each policy, and closes what is overdue.
async fn watch_over(guard: Arc<Guard>, stopping: CancellationToken) {
    let mut policy = guard.policy.subscribe();
    let mut ticks = tokio::time::interval(limits::POLICY_INTERVAL);
    loop {
        tokio::select! {
            () = stopping.cancelled() => return,
            Ok(()) = policy.changed() => {
                let policy = policy.borrow_and_update().clone();
                guard.enforce(&policy);
            }
            _ = ticks.tick() => guard.connections.sweep(Instant::now()),
        }
    }
}
