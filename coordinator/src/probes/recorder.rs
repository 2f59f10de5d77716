//! Stores what agents say, many at once: with a thousand agents each would otherwise wait for a commit of its own.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Means;
use super::figures::Figures;
use super::model::{News, Source, What};
use crate::fleet::{Fleet, ProbeCommand};
use crate::limits;
use crate::store::probes::Head;
use crate::store::{Store, StoreError};
use crate::time::Clock;

/// Between two attempts to store the same.
const PAUSE: Duration = Duration::from_secs(1);

/// The way in.
pub(super) struct Recorder(mpsc::Sender<News>);

impl Recorder {
    pub(super) fn start(
        means: &Means,
        figures: Figures,
        changes: watch::Sender<u64>,
        tasks: &TaskTracker,
        stopping: &CancellationToken,
    ) -> Self {
        let (sender, queue) = mpsc::channel(limits::PROBE_QUEUE);
        let writer = Writer {
            queue,
            clock: means.clock.clone(),
            store: means.store.clone(),
            fleet: means.fleet.clone(),
            changed: means.changed.clone(),
            figures,
            changes,
            stopping: stopping.clone(),
        };
        tasks.spawn(writer.run());
        Self(sender)
    }

    /// False if there is no room for it: the database is away.
    pub(super) fn put(&self, news: News) -> bool {
        self.0.try_send(news).is_ok()
    }
}

struct Writer {
    queue: mpsc::Receiver<News>,
    clock: Clock,
    store: Arc<dyn Store>,
    fleet: Arc<Fleet>,
    changed: Arc<Notify>,
    figures: Figures,
    changes: watch::Sender<u64>,
    stopping: CancellationToken,
}

impl Writer {
    async fn run(mut self) {
        let mut waiting = Vec::new();
        loop {
            tokio::select! {
                biased;
                received = self.queue.recv_many(&mut waiting, limits::PROBE_QUEUE) => {
                    if received == 0 {
                        return;
                    }
                }
                () = self.stopping.cancelled() => return,
            }
            while let Err(error) = self.save(&waiting).await {
                tracing::error!(%error, news = waiting.len(), "what agents say of probes waits to be stored");
                // Agents tell it again to who comes next.
                if self.stopping.run_until_cancelled(sleep(PAUSE)).await.is_none() {
                    return;
                }
            }
            waiting.clear();
        }
    }

    async fn save(&self, waiting: &[News]) -> Result<(), StoreError> {
        let now = self.clock.now();
        let mut heads: HashMap<&str, Option<Head>> = HashMap::new();
        for news in waiting {
            if !heads.contains_key(news.probe.as_str()) {
                heads.insert(&news.probe, self.store.probe_head(&news.probe).await?);
            }
        }
        let head = |news: &News| heads[news.probe.as_str()].as_ref();
        let wanted: Vec<(News, u64)> = waiting
            .iter()
            .filter_map(|news| {
                let head = head(news)?;
                let what = match &news.what {
                    What::Report { run, content } if !head.may_report(*run, now) => {
                        let (probe, node) = (&news.probe, &news.source.node);
                        tracing::warn!(
                            probe,
                            node,
                            run,
                            bytes = content.len(),
                            "a report is dropped: it is of no run"
                        );
                        return None;
                    }
                    What::Dropped { run, reason } => {
                        let (probe, node) = (&news.probe, &news.source.node);
                        tracing::warn!(probe, node, run, reason, "a report is dropped");
                        news.what.clone()
                    }
                    what => what.clone(),
                };
                let bytes = if let What::Report { content, .. } = &what { content.len() } else { 0 };
                Some((News { what, ..news.clone() }, head.kept_runs(bytes)))
            })
            .collect();
        self.store.save_probe_news(&wanted).await?;
        for (news, _) in &wanted {
            let is_open = |head: &Head| head.every_nanos.is_some() && head.ended_at_nanos.is_none();
            if let What::Report { run, content } = &news.what
                && head(news).is_some_and(is_open)
            {
                self.figures.report(&news.probe, &news.source, *run, content);
            }
        }
        self.answer(waiting);
        // The reports of a schedule change nothing that agents are to be told.
        let is_report = |news: &News| matches!(news.what, What::Report { .. });
        if waiting
            .iter()
            .any(|news| !is_report(news) || head(news).is_some_and(|head| head.every_nanos.is_none()))
        {
            self.changed.notify_one();
        }
        self.changes.send_modify(|changes| *changes += 1);
        Ok(())
    }

    /// Tells each node once which of its reports need not come again: they are stored, or nobody wants them.
    fn answer(&self, waiting: &[News]) {
        let mut stored: BTreeMap<&str, Vec<(String, u64, Source)>> = BTreeMap::new();
        for news in waiting {
            if let What::Report { run, .. } | What::Dropped { run, .. } = &news.what {
                let report = (news.probe.clone(), *run, news.source.clone());
                stored.entry(&news.source.node).or_default().push(report);
            }
        }
        for (node, reports) in stored {
            self.fleet.send(node, ProbeCommand::Stored(reports));
        }
    }
}
