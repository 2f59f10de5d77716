//! Tells agents what the rows say, and ends what is over.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::Probes;
use super::model::{News, Probe, State, What};
use crate::fleet::ProbeCommand;
use crate::limits;
use crate::store::StoreError;

/// Between two looks at the rows, whatever happens.
const INTERVAL: Duration = Duration::from_secs(1);
/// Between two looks, however much happens.
const REST: Duration = Duration::from_millis(50);
/// An agent's clock drifts: it is told anew when a scheduled probe runs, this often.
const RETELL: Duration = Duration::from_mins(10);

#[derive(Clone, Debug)]
struct Telling {
    /// Of the stream; none for what the agent brought along.
    session: Option<u64>,
    at: Instant,
    /// Networks it may go to.
    allowed: Vec<String>,
}

impl Telling {
    /// Another stream needs to be told again, and who was told another policy, and a clock that drifts.
    fn is_old(&self, now: &Self, probe: &Probe) -> bool {
        let is_late = probe.spec.every_nanos.is_some() && self.at.elapsed() >= RETELL;
        self.session != now.session || self.allowed != now.allowed || is_late
    }
}

/// What agents of this coordinator have, by probe and node.
#[derive(Debug, Default)]
pub(super) struct Told(Mutex<HashMap<(String, String), Telling>>);

impl Told {
    /// An agent came with these.
    pub(super) fn came(&self, node: &str, probes: Vec<String>) {
        let telling = Telling { session: None, at: Instant::now(), allowed: Vec::new() };
        self.lock().extend(probes.into_iter().map(|probe| ((probe, node.to_owned()), telling.clone())));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(String, String), Telling>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) struct Dispatch {
    probes: Probes,
}

impl Dispatch {
    pub(super) fn new(probes: Probes) -> Self {
        Self { probes }
    }

    pub(super) async fn run(self) {
        let means = &self.probes.0.means;
        let mut links = means.fleet.links();
        let mut tick = interval(INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = means.changed.notified() => {}
                link = links.recv() => if matches!(link, Err(RecvError::Closed)) {
                    return;
                },
            }
            if let Err(error) = self.look().await {
                tracing::warn!(%error, "probes cannot be looked at now; they are in a moment");
            }
            sleep(REST).await;
            while links.try_recv().is_ok() {}
        }
    }

    async fn look(&self) -> Result<(), StoreError> {
        let means = &self.probes.0.means;
        let open = means.store.open_probes().await?;
        self.probes.0.figures.keep(&open.iter().map(|probe| probe.id.as_str()).collect());
        let (now, mut is_changed) = (means.clock.now(), false);
        for probe in &open {
            let late = late(probe, now);
            if probe.parts.iter().all(|part| part.state.is_final()) {
                means.store.end_probe(&probe.id, now, None).await?;
                is_changed = true;
            } else if !late.is_empty() {
                means.store.save_probe_news(&late).await?;
                is_changed = true;
            }
        }
        self.tell(open, now);
        if is_changed {
            self.probes.moved();
            means.changed.notify_one();
        }
        Ok(())
    }

    /// Brings every agent that is here up to date. Ends come first: an agent has room for so many probes.
    fn tell(&self, open: Vec<Probe>, now_nanos: i64) {
        let means = &self.probes.0.means;
        let told = &mut *self.probes.0.told.lock();
        let policy = means.guard.policy.current();
        let allowed: Vec<String> = policy.probe_networks().iter().map(ToString::to_string).collect();
        let open: Vec<Arc<Probe>> = open.into_iter().map(Arc::new).collect();
        let key = |probe: &Probe, node: &str| (probe.id.clone(), node.to_owned());
        let wanted: HashSet<_> =
            open.iter().flat_map(|probe| probe.nodes().into_iter().map(|node| key(probe, node))).collect();
        for ((probe, node), _) in told.extract_if(|key, _| !wanted.contains(key)) {
            means.fleet.send(&node, ProbeCommand::End(probe));
        }
        for probe in &open {
            for node in probe.nodes() {
                let link = means.fleet.link(node, "", now_nanos);
                let here = link.filter(|_| means.fleet.session_elsewhere(node).is_none());
                let Some(link) = here else { continue };
                let telling =
                    Telling { session: Some(link.session), at: Instant::now(), allowed: allowed.clone() };
                let key = key(probe, node);
                if told.get(&key).is_some_and(|before| !before.is_old(&telling, probe)) {
                    continue;
                }
                let start_monotonic_nanos = link.clock.to_monotonic(probe.start_nanos);
                let (probe, allowed) = (probe.clone(), allowed.clone());
                means.fleet.send(node, ProbeCommand::Arm { probe, start_monotonic_nanos, allowed });
                told.insert(key, telling);
            }
        }
    }
}

/// Parts of a single run that should have been heard of long ago.
fn late(probe: &Probe, now_nanos: i64) -> Vec<(News, u64)> {
    let end_nanos = probe.start_nanos + probe.spec.run_nanos() + limits::PROBE_GRACE_NANOS;
    if probe.spec.every_nanos.is_some() || now_nanos < end_nanos {
        return Vec::new();
    }
    let open = probe.parts.iter().filter(|part| !part.state.is_final());
    let failed = open.map(|part| {
        let reason = if part.state == State::Pending {
            "its agent was not there, or too old to know of probes; look at `ctl list-nodes`"
        } else {
            "its agent did not report in time; look at its log"
        };
        let what = What::Failed(reason.to_owned());
        (News { probe: probe.id.clone(), source: part.source.clone(), what }, 0)
    });
    failed.collect()
}
