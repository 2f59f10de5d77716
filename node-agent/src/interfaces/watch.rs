//! The latest snapshot, renewed when the network changes.

use std::sync::Arc;
use std::time::Duration;

use lastseen_proto::v1;
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

use super::{NetlinkError, Snapshot};
use crate::host::{Host, Kernel};

/// How often the network is looked at.
const INTERVAL: Duration = Duration::from_secs(5);

/// The network as last seen. Cheap to clone.
#[derive(Clone)]
pub struct Network {
    host: Arc<dyn Host>,
    latest: Arc<watch::Sender<Snapshot>>,
    /// One look at a time: a slow one must not replace what a later one saw.
    turn: Arc<Mutex<()>>,
}

impl Network {
    /// Looks for the first time, as the kernel has it.
    pub async fn open() -> Result<Self, NetlinkError> {
        Self::of(Arc::new(Kernel)).await
    }

    /// Looks for the first time, as `host` has it.
    pub async fn of(host: Arc<dyn Host>) -> Result<Self, NetlinkError> {
        let latest = Arc::new(watch::Sender::new(host.look().await?));
        Ok(Self { host, latest, turn: Arc::default() })
    }

    /// Whose network it is.
    pub fn host(&self) -> &dyn Host {
        &*self.host
    }

    /// Looks again, now.
    pub async fn refresh(&self) -> Result<Snapshot, NetlinkError> {
        let _turn = self.turn.lock().await;
        let new = self.host.look().await?;
        self.latest.send_if_modified(|old| {
            let differs = essence(&old.topology) != essence(&new.topology);
            *old = new.clone();
            differs
        });
        Ok(new)
    }

    /// Tells of changes; the first is the network as it is.
    pub fn subscribe(&self) -> watch::Receiver<Snapshot> {
        let mut receiver = self.latest.subscribe();
        receiver.mark_changed();
        receiver
    }

    /// Looks every few seconds until `shutdown`.
    pub async fn follow(self, shutdown: CancellationToken) {
        let mut interval = tokio::time::interval(INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while shutdown.run_until_cancelled(interval.tick()).await.is_some() {
            if let Err(error) = self.refresh().await {
                tracing::warn!(%error, "the network was not looked at; trying again");
            }
        }
    }
}

/// Without what changes all the time and means nothing: when the snapshot was taken, and how fresh a neighbour is.
fn essence(topology: &v1::NodeTopology) -> v1::NodeTopology {
    let mut essence = v1::NodeTopology { taken_unix_nanos: 0, ..topology.clone() };
    for neighbor in &mut essence.neighbors {
        if !["failed", "incomplete"].contains(&neighbor.state.as_str()) {
            neighbor.state.clear();
        }
    }
    essence.neighbors.sort_by(|a, b| (a.index, &a.address).cmp(&(b.index, &b.address)));
    essence.forwarding.sort_by(|a, b| (a.index, &a.mac, &a.remote).cmp(&(b.index, &b.mac, &b.remote)));
    essence
}
