//! Fleets of one to a thousand agents on one coordinator: how far apart their windows begin, and what each costs the
//! coordinator while it idles. Packets are made up; agents, TLS and coordinator are not.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use lastseen_proto::limits::LEAD_NANOS;
use lastseen_proto::v1;
use tokio::time::{Instant, sleep};

use super::Options;
use super::memory::Resident;
use super::spread::Spread;
use super::table::{Row, Table};
use crate::faults::fleet::{Agents, Fleet, Setup};
use crate::faults::stored::{Point, Stored};
use crate::scripted::script::{self, Script};

/// Agents of each fleet.
const FLEETS: [usize; 4] = [1, 10, 100, 1_000];
/// Until what the agents' arrival took is given back.
const SETTLING: Duration = Duration::from_secs(5);
/// Windows begin so long after all agents of the largest fleet are armed.
const AHEAD: Duration = Duration::from_secs(20);
/// Length of a window.
const WINDOW: Duration = Duration::from_secs(1);

/// What one fleet came to.
struct Take {
    /// Of the coordinator, with all agents idle.
    idle_bytes: f64,
    /// Seconds from the call until every agent was armed and the window fixed.
    armed: f64,
    /// Of every point: from when its window was to begin until it began, milliseconds, the smallest first.
    skews: Vec<f64>,
}

/// Adds the rows of each fleet.
pub fn measure(table: &mut Table, options: &Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut alone = None;
    for agents in FLEETS {
        let rounds = 0..options.rounds.max(1);
        let takes: Vec<_> = rounds
            .map(|round| runtime.block_on(take(agents, options.seed + round as u64)))
            .collect::<Result<_>>()
            .with_context(|| format!("{agents} agents"))?;
        let spread = |of: &dyn Fn(&Take) -> f64| Spread::from_takes(takes.iter().map(of).collect());
        let at = |share: f64| spread(&|take| quantile(&take.skews, share));
        let name = format!("{agents} agents: begin of the window off by, ms, 99th percentile of all points");
        let beside = format!("median {:.3}, most {:.3}", at(0.5)?, at(1.0)?);
        table.add(Row::new(name, format!("{:.3}", at(0.99)?)).aim("≤ 5").beside(beside));
        let name = format!("{agents} agents: from the call until all are armed, s");
        table.add(Row::new(name, spread(&|take| take.armed)?));
        let idle = spread(&|take| take.idle_bytes)?;
        let alone = *alone.get_or_insert(idle.median);
        if agents > 1 {
            let each = idle.times(1.0 / 1024.0).median - alone / 1024.0;
            let name = format!("{agents} agents: coordinator memory per idle agent, KiB");
            let beside =
                format!("{:.1} MiB in all, {:.1} with one", idle.median / 1_048_576.0, alone / 1_048_576.0);
            let each = format!("{:.0}", each / (agents - 1) as f64);
            table.add(Row::new(name, each).aim("≤ 200").beside(beside));
        }
    }
    Ok(())
}

async fn take(agents: usize, seed: u64) -> Result<Take> {
    let script = Script { seed, flows: 1, every_nanos: 20_000_000, lost_permille: 40 };
    let setup =
        Setup { script, nodes: agents, agents: Agents::Together, witnessed: false, ..Setup::new(seed) };
    let fleet = Fleet::start(setup).await?;
    sleep(SETTLING).await;
    let coordinator = fleet.coordinators[0].process.as_ref().context("the coordinator is down")?;
    let idle_bytes = Resident::of(coordinator.id())?.own as f64;
    let spec = v1::CaptureSpec {
        nodes: (0..agents).map(script::name).collect(),
        duration: Some(WINDOW.try_into()?),
        start_at: Some((SystemTime::now() + AHEAD).into()),
        ..Default::default()
    };
    let called = Instant::now();
    let request = v1::StartCaptureRequest { spec: Some(spec), ..Default::default() };
    let id = fleet.client().start_as(request).await.with_context(|| fleet.logs())?;
    let armed = called.elapsed().as_secs_f64();
    let capture = fleet.client().ended(&id).await?;
    let state = capture.state();
    ensure!(state == v1::CaptureState::Completed, "{id} ended as {state:?}: {}", capture.reason);
    let begin = capture.window_start.context("a capture without a window")?;
    let begin = begin.seconds * 1_000_000_000 + i64::from(begin.nanos) - LEAD_NANOS;
    let stored = Stored::read(&fleet, &id).await?;
    let began = stored.points.values().filter_map(Point::began);
    let mut skews: Vec<f64> = began.map(|nanos| (nanos - begin).abs() as f64 / 1e6).collect();
    ensure!(skews.len() == 4 * agents, "{} points of {agents} agents recorded", skews.len());
    skews.sort_by(f64::total_cmp);
    Ok(Take { idle_bytes, armed, skews })
}

/// Of figures that are sorted.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * share).round() as usize]
}
