//! Looks at what the others did, once an interval and whenever they say that they did something.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::ear::{self, Heard};
use super::letters::{self, Ordered};
use super::{Cluster, Lease, mailbox};
use crate::error::Error;
use crate::fleet::{Command, Detail, Remote};
use crate::jobs::{Asked, Followed, Jobs};
use crate::limits;
use crate::model::{Capture, MILLISECOND};
use crate::store::cluster::{CommandRow, LinkRow, Word};
use crate::store::{Shared, StoreError};

/// Who asks for a look at the captures of others may wait in such a queue.
const ASKING: usize = 64;
/// A rehearsal whose end was not told is over by then.
const REHEARSAL: Duration = Duration::from_mins(1);
/// Rounds after which leftovers are swept up.
const SWEEP: u64 = 64;

pub(super) struct Worker {
    cluster: Cluster,
    jobs: Jobs,
    /// What others lead, with the number of the last write that is known.
    followed: BTreeMap<String, (Followed, i64)>,
    /// What others rehearse with agents that are here.
    rehearsals: BTreeMap<String, (Followed, Instant)>,
    /// Mail that was handed on.
    read: HashSet<i64>,
    /// What the others know of agents that are here.
    published: BTreeMap<String, Remote>,
    /// Commands that were taken and wait until their captures are known here.
    taken: Vec<CommandRow>,
    asking: mpsc::Receiver<Asked>,
    heard: Arc<Heard>,
    rounds: u64,
}

impl Worker {
    /// Looks once, and goes on until `stopping`.
    pub(super) async fn start(
        cluster: Cluster,
        jobs: Jobs,
        stopping: CancellationToken,
    ) -> Result<(), Error> {
        let (lookout, asking) = mpsc::channel(ASKING);
        jobs.board().look_out(lookout);
        let heard = Arc::new(Heard::default());
        tokio::spawn(ear::listen(cluster.shared.clone(), heard.clone(), stopping.clone()));
        let mut worker = Self {
            cluster,
            jobs,
            followed: BTreeMap::new(),
            rehearsals: BTreeMap::new(),
            read: HashSet::new(),
            published: BTreeMap::new(),
            taken: Vec::new(),
            asking,
            heard,
            rounds: 0,
        };
        worker.claim(&stopping).await?;
        worker.refresh().await?;
        worker.merge_links().await?;
        tokio::spawn(worker.run(stopping));
        Ok(())
    }

    async fn run(mut self, stopping: CancellationToken) {
        let mut links = self.jobs.fleet().links();
        let mut tick = interval(limits::LEASE_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let heard = self.heard.clone();
        loop {
            let done = tokio::select! {
                () = stopping.cancelled() => return,
                _ = tick.tick() => self.round(&stopping).await,
                Some(asked) = self.asking.recv() => self.look(asked).await,
                () = heard.told.notified() => self.act(heard.take(), &stopping).await,
                link = links.recv() => match link {
                    Err(RecvError::Closed) => return,
                    Ok(_) | Err(RecvError::Lagged(_)) => self.publish_links().await,
                },
            };
            if let Err(error) = done {
                tracing::warn!(%error, "cannot see what other coordinators do; it is tried again in a moment");
            }
        }
    }

    /// Everything, because words get lost.
    async fn round(&mut self, stopping: &CancellationToken) -> Result<(), StoreError> {
        self.rounds += 1;
        self.act(Word::all(), stopping).await?;
        self.publish_links().await?;
        self.end_rehearsals();
        self.shared().reap().await?;
        if self.rounds.is_multiple_of(SWEEP) {
            self.shared().sweep().await?;
        }
        Ok(())
    }

    /// What fails holds up nothing else. The first error is returned.
    async fn act(&mut self, words: BTreeSet<Word>, stopping: &CancellationToken) -> Result<(), StoreError> {
        let mut all = Ok(());
        for word in words {
            let done = match word {
                Word::Captures => match self.claim(stopping).await {
                    Ok(()) => self.refresh().await,
                    failed => failed,
                },
                Word::Links => self.merge_links().await,
                Word::Commands => self.take_commands().await,
                Word::Mail => self.read_mail().await,
                Word::Probes => {
                    self.jobs.probes_changed().notify_one();
                    Ok(())
                }
                Word::Batches => {
                    let led = self.jobs.board().led();
                    self.jobs.board().committed(led.iter().map(String::as_str));
                    Ok(())
                }
            };
            all = all.and(done);
        }
        all
    }

    /// For those that are asking by now.
    async fn look(&mut self, first: Asked) -> Result<(), StoreError> {
        let mut asked = vec![first];
        while let Ok(another) = self.asking.try_recv() {
            asked.push(another);
        }
        let done = self.refresh().await;
        for one in asked {
            let _ = one.send(done.is_ok());
        }
        done
    }

    /// Takes up what nobody leads.
    async fn claim(&mut self, stopping: &CancellationToken) -> Result<(), StoreError> {
        let asked = Instant::now();
        for (capture, fence) in self.shared().claim(&self.jobs.board().led()).await? {
            // Its mail was read by somebody else so far.
            self.read.clear();
            let id = capture.id.clone();
            self.jobs.lead(capture, Lease::shared(fence, asked, stopping));
            if let Some((followed, _)) = self.followed.remove(&id) {
                followed.end(self.jobs.board(), &id);
            }
        }
        Ok(())
    }

    /// Brings up to date what others lead.
    async fn refresh(&mut self) -> Result<(), StoreError> {
        let revisions: BTreeMap<String, i64> = self.shared().revisions().await?.into_iter().collect();
        let led: BTreeSet<String> = self.jobs.board().led().into_iter().collect();
        for id in &led {
            if let Some((followed, _)) = self.followed.remove(id) {
                followed.end(self.jobs.board(), id);
            }
        }
        // It was led here in between.
        let board = self.jobs.board();
        let overtaken = self.followed.extract_if(.., |id, (followed, _)| !followed.stands(board, id));
        overtaken.for_each(|(id, (followed, _))| followed.end(board, &id));
        for (id, revision) in revisions.iter().filter(|(id, _)| !led.contains(*id)) {
            if self.followed.get(id).is_none_or(|(_, known)| known != revision)
                && let Some(capture) = self.jobs.store().capture(id).await?
            {
                self.follow(capture, *revision);
            }
        }
        let over: Vec<String> =
            self.followed.keys().filter(|id| !revisions.contains_key(*id)).cloned().collect();
        for id in over {
            let last = self.jobs.store().capture(&id).await?;
            let Some((followed, _)) = self.followed.remove(&id) else { continue };
            if let Some(capture) = last {
                followed.view.send_replace(Arc::new(capture));
            }
            followed.end(self.jobs.board(), &id);
        }
        Ok(())
    }

    fn follow(&mut self, capture: Capture, revision: i64) {
        let id = capture.id.clone();
        if let Some((followed, known)) = self.followed.get_mut(&id) {
            *known = revision;
            followed.view.send_replace(Arc::new(capture));
        } else if let Some(followed) = self.jobs.follow(capture) {
            self.followed.insert(id, (followed, revision));
        }
    }

    /// Tells the others of agents that came, went or whose clock is known better.
    async fn publish_links(&mut self) -> Result<(), StoreError> {
        if self.cluster.was_forgotten.swap(false, Ordering::Relaxed) {
            self.published.clear();
        }
        let local = self.jobs.fleet().local(self.jobs.clock().now());
        let is_news = |(name, link): &(&String, &Remote)| {
            self.published.get(*name).is_none_or(|known| known.session != link.session || differ(known, link))
        };
        let changed: Vec<LinkRow> =
            local.iter().filter(is_news).map(|(name, link)| row(name, link, self.shared().id())).collect();
        if changed.is_empty() && local.len() == self.published.len() {
            return Ok(());
        }
        let sessions: Vec<u64> = local.values().map(|link| link.session).collect();
        if let Err(error) = self.shared().publish_links(&changed, &sessions).await {
            self.cluster.was_forgotten.store(true, Ordering::Relaxed);
            return Err(error);
        }
        self.published = local;
        Ok(())
    }

    /// Learns which agents the others have.
    async fn merge_links(&mut self) -> Result<(), StoreError> {
        let mut remotes: BTreeMap<String, Remote> = BTreeMap::new();
        for row in self.shared().links().await? {
            let Ok(detail) = serde_json::from_str::<Detail>(&row.detail) else { continue };
            let remote = Remote { session: row.session, connected_at_nanos: row.connected_at_nanos, detail };
            let is_older = |known: &Remote| known.connected_at_nanos > remote.connected_at_nanos;
            if !remotes.get(&row.node).is_some_and(is_older) {
                remotes.insert(row.node, remote);
            }
        }
        let now = self.jobs.clock().now();
        if self.jobs.fleet().merge(remotes.clone(), now) {
            self.jobs.fleet().learn(self.jobs.store().nodes().await?);
            self.jobs.fleet().merge(remotes, now);
        }
        Ok(())
    }

    /// Hands on what others have for agents that are here. It is there once: what cannot be handed on now is kept.
    async fn take_commands(&mut self) -> Result<(), StoreError> {
        let sessions: Vec<u64> =
            self.jobs.fleet().local(self.jobs.clock().now()).values().map(|link| link.session).collect();
        self.taken.retain(|row| sessions.contains(&row.session));
        if sessions.is_empty() {
            return Ok(());
        }
        self.taken.extend(self.shared().take_commands(&sessions).await?);
        if self.taken.is_empty() {
            return Ok(());
        }
        // An agent answers at once, and its answers must find the capture.
        let refreshed = self.refresh().await;
        for row in std::mem::take(&mut self.taken) {
            let Some(order) = letters::ordered(&row.command) else { continue };
            let known = self.jobs.board().get(order.capture());
            let command = match (order, known) {
                (Ordered::Rehearsal(capture), _) => {
                    self.rehearse(&capture);
                    Command::Arm(capture)
                }
                // It may be there all the same.
                (_, None) if refreshed.is_err() => {
                    self.taken.push(row);
                    continue;
                }
                (Ordered::Command(command), _) => command,
                (Ordered::Arm(_), Some(handle)) => Command::Arm(handle.view.borrow().clone()),
                (Ordered::Arm(_), None) => continue,
            };
            self.hand_on(&row, command);
        }
        refreshed
    }

    fn hand_on(&mut self, row: &CommandRow, command: Command) {
        if !self.jobs.fleet().has_session(&row.node, row.session) {
            return;
        }
        if let Command::End { capture, end_monotonic_nanos: None } = &command
            && let Some((followed, _)) = self.rehearsals.remove(capture)
        {
            followed.end(self.jobs.board(), capture);
        }
        self.jobs.fleet().send(&row.node, command);
    }

    fn rehearse(&mut self, capture: &Arc<Capture>) {
        if self.rehearsals.contains_key(&capture.id) {
            return;
        }
        if let Some(followed) = self.jobs.follow(Capture::clone(capture)) {
            self.rehearsals.insert(capture.id.clone(), (followed, Instant::now()));
        }
    }

    /// Lets agents forget what they were armed for by a coordinator that is no more.
    fn end_rehearsals(&mut self) {
        let late: Vec<String> = self
            .rehearsals
            .iter()
            .filter(|(_, (_, began))| began.elapsed() > REHEARSAL)
            .map(|(id, _)| id.clone())
            .collect();
        for id in late {
            let Some((followed, _)) = self.rehearsals.remove(&id) else { continue };
            let capture = followed.view.borrow().clone();
            followed.end(self.jobs.board(), &id);
            for part in &capture.parts {
                let end = Command::End { capture: id.clone(), end_monotonic_nanos: None };
                self.jobs.fleet().send(&part.node, end);
            }
        }
    }

    /// Hands to who leads captures here what happened to them elsewhere.
    async fn read_mail(&mut self) -> Result<(), StoreError> {
        let led = self.jobs.board().led();
        if led.is_empty() {
            return Ok(());
        }
        let numbers: HashSet<i64> = self.shared().mail_numbers(&led).await?.into_iter().collect();
        let fresh: Vec<i64> = numbers.difference(&self.read).copied().collect();
        let rows = if fresh.is_empty() { Vec::new() } else { self.shared().mail(&led, &fresh).await? };
        let left = mailbox::hand_over(self.jobs.board(), rows, |row| letters::event(row, self.jobs.fleet()));
        self.read = numbers.difference(&left).copied().collect();
        Ok(())
    }

    fn shared(&self) -> &Shared {
        &self.cluster.shared
    }
}

/// Whether what is known of an agent's clock is of no use any more.
fn differ(known: &Remote, link: &Remote) -> bool {
    let (known, link) = (&known.detail.clock, &link.detail.clock);
    let step = known.realtime_minus_monotonic_nanos.abs_diff(link.realtime_minus_monotonic_nanos);
    known.at_nanos != link.at_nanos || step > MILLISECOND as u64
}

fn row(name: &str, link: &Remote, coordinator: i64) -> LinkRow {
    LinkRow {
        node: name.to_owned(),
        coordinator,
        session: link.session,
        connected_at_nanos: link.connected_at_nanos,
        detail: serde_json::to_string(&link.detail).expect("numbers and strings always serialise"),
    }
}
