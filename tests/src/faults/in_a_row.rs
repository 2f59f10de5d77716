//! One capture after the other: what each took it gives back.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use async_trait::async_trait;
use lastseen_proto::v1;
use rand::rngs::StdRng;
use tokio::net::UdpSocket;
use tokio::task::spawn_local;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use super::client::{Client, until};
use super::fleet::{Agents, Fleet, Setup};
use super::judge::batches;
use super::results::Tally;
use super::stored::Stored;
use super::strike::{Fault, Plan};
use crate::bench::memory::Resident;
use crate::product::process::Process;
use crate::scripted::script;

/// Captures under way at once, as many as a node allows.
const AT_ONCE: u64 = 4;
/// Of these the first do not count: caches and pools fill. With less than as many behind them growth is not judged.
const WARM_UP: u64 = 24;
/// By how much the memory of a process may differ from one moment to another.
const SLACK_BYTES: u64 = 6 << 20;
/// Likewise, by how much it may grow with each capture.
const MOST_BYTES_A_CAPTURE: f64 = 16_384.0;
/// With less of them a slope is chance.
const LEAST_SAMPLES: usize = 20;
/// Where datagrams go while captures run (discard, RFC 863), and how long after one the next does.
const PORT: u16 = 9;
const PAUSE: Duration = Duration::from_millis(2);
/// Length of a window.
const WINDOW: Duration = Duration::from_millis(1_500);

/// The agent as users have it, with rings on the loopback device.
#[derive(Debug, Clone, Copy)]
pub struct InARow;

/// What a process holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    bytes: u64,
    ring_bytes: u64,
    handles: usize,
    threads: usize,
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bytes, ring_bytes, handles, threads } = self;
        write!(f, "{} KiB, {ring_bytes} bytes of rings, {handles} handles, {threads} threads", bytes >> 10)
    }
}

impl Held {
    fn by(process: &Process) -> Result<Self> {
        let pid = process.id();
        let Resident { own, rings } = Resident::of(pid)?;
        let count = |folder: &str| {
            Ok::<_, std::io::Error>(std::fs::read_dir(format!("/proc/{pid}/{folder}"))?.count())
        };
        Ok(Self { bytes: own, ring_bytes: rings, handles: count("fd")?, threads: count("task")? })
    }

    /// Whether this is more than there was before.
    fn exceeds(&self, before: &Self) -> bool {
        self.bytes > before.bytes + SLACK_BYTES
            || self.ring_bytes > before.ring_bytes
            // A connection of the test's own may be about to close.
            || self.handles > before.handles + 2
            || self.threads > before.threads + 2
    }
}

#[async_trait(?Send)]
impl Fault for InARow {
    fn name(&self) -> String {
        "captures in a row without growth".to_owned()
    }

    fn rounds(&self) -> u64 {
        200
    }

    fn fleets(&self, _rounds: u64) -> u64 {
        1
    }

    fn setup(&self, seed: u64) -> Setup {
        Setup { agents: Agents::Real, ..Setup::new(seed) }
    }

    async fn strike(&self, _fleet: &mut Fleet, _random: &mut StdRng, _plan: &Plan) -> Result<()> {
        Ok(())
    }

    async fn run(&self, setup: Setup, rounds: u64, _is_full: bool) -> Result<Tally> {
        let fleet = Fleet::start(setup).await.context("start")?;
        let _talk = AbortOnDropHandle::new(spawn_local(talk()));
        let mut all = Tally::default();
        let warm_up = WARM_UP.min(rounds / 2);
        captures(&fleet, warm_up, &mut all).await?;
        let before = held(&fleet)?;
        let during = captures(&fleet, rounds - warm_up, &mut all).await?;
        let after = given_back(&fleet, &before).await?;
        let is_judged = warm_up == WARM_UP;
        for (index, ((name, before), (_, after))) in before.iter().zip(&after).enumerate() {
            let samples: Vec<_> = during.iter().map(|(at, held)| (*at, held[index].1.bytes)).collect();
            let slope = slope(&samples);
            let remark = if is_judged { "" } else { "; too few to judge growth" };
            println!(
                "{name}: after {warm_up} captures {before}; after {rounds} {after}; {slope:.0} bytes a capture{remark}"
            );
            let is_steep = samples.len() >= LEAST_SAMPLES && slope > MOST_BYTES_A_CAPTURE;
            if is_judged && (after.exceeds(before) || is_steep) {
                all.wrong.push(format!(
                    "{name} grew by {slope:.0} bytes a capture: {before} after {warm_up} captures, {after} after {rounds}"
                ));
            }
        }
        let left = [fleet.observations(), fleet.path("spools")]
            .iter()
            .map(|folder| files(folder, is_data))
            .sum::<usize>();
        if left > 0 {
            all.wrong.push(format!("{left} files are left of captures that were deleted"));
        }
        Ok(all)
    }
}

/// Datagrams that the agents see on the loopback device.
async fn talk() -> Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    loop {
        // Nobody listens there, which the kernel says.
        let _ = socket.send_to(&[0; 64], (Ipv4Addr::LOCALHOST, PORT)).await;
        sleep(PAUSE).await;
    }
}

/// Bytes a capture by which memory grows: the median of the slopes between any two samples, which a single leap does not
/// move (Sen 1968).
fn slope(samples: &[(u64, u64)]) -> f64 {
    let pairs = samples.iter().enumerate().flat_map(|(index, one)| {
        samples[index + 1..]
            .iter()
            .map(move |other| (other.1 as f64 - one.1 as f64) / (other.0 as f64 - one.0 as f64))
    });
    let mut slopes: Vec<f64> = pairs.collect();
    slopes.sort_unstable_by(f64::total_cmp);
    slopes.get(slopes.len() / 2).copied().unwrap_or_default()
}

/// Coordinator and agents.
fn held(fleet: &Fleet) -> Result<Vec<(String, Held)>> {
    let coordinator =
        fleet.coordinators.iter().filter_map(|one| Some(("coordinator".to_owned(), one.process.as_ref()?)));
    let agents = fleet
        .agents
        .iter()
        .enumerate()
        .filter_map(|(node, agent)| Some((script::name(node), agent.as_ref()?)));
    coordinator.chain(agents).map(|(name, process)| Ok((name, Held::by(process)?))).collect()
}

/// What they hold once they hold no more than before, or what they still do after a while: threads without work and
/// connections take their time to go.
async fn given_back(fleet: &Fleet, before: &[(String, Held)]) -> Result<Vec<(String, Held)>> {
    let settled = until("what captures took given back", async || {
        let now = held(fleet)?;
        let grew = now.iter().zip(before).any(|((_, now), (_, before))| now.exceeds(before));
        Ok((!grew).then_some(now))
    });
    settled.await.or_else(|_| held(fleet))
}

/// Makes captures, and tells what everyone held after how many of them.
async fn captures(fleet: &Fleet, count: u64, all: &mut Tally) -> Result<Vec<(u64, Vec<(String, Held)>)>> {
    let (mut left, mut samples) = (count, Vec::new());
    while left > 0 {
        let group = left.min(AT_ONCE);
        let started: Vec<_> =
            (0..group).map(|_| spawn_local(one(fleet.client(), fleet.setup.nodes))).collect();
        for capture in started {
            let capture = capture.await??;
            let stored = Stored::read(fleet, &capture.id).await?;
            all.add(batches(fleet, &capture, &stored));
            if capture.state() != v1::CaptureState::Completed {
                all.wrong.push(format!("{} ended as {:?}: {}", capture.id, capture.state(), capture.reason));
            }
            if stored.rows == 0 {
                all.wrong.push(format!("{}: nothing was recorded", capture.id));
            }
            fleet.client().delete(&capture.id).await?;
        }
        left -= group;
        samples.push((count - left, held(fleet)?));
    }
    Ok(samples)
}

async fn one(client: Client, nodes: usize) -> Result<v1::Capture> {
    let spec = v1::CaptureSpec {
        nodes: (0..nodes).map(script::name).collect(),
        interfaces: vec!["lo".into()],
        filter: format!("udp dst port {PORT}"),
        duration: Some(WINDOW.try_into()?),
        ..Default::default()
    };
    let id = client.start_as(v1::StartCaptureRequest { spec: Some(spec), ..Default::default() }).await?;
    client.ended(&id).await
}

fn is_data(name: &Path) -> bool {
    name.extension().is_some_and(|suffix| suffix == "obs" || suffix == "seg")
}

/// Files below a folder.
fn files(folder: &Path, is_meant: fn(&Path) -> bool) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries
        .map(|path| if path.is_dir() { files(&path, is_meant) } else { usize::from(is_meant(&path)) })
        .sum()
}
