//! The rounds of a fault: a capture each, struck once while it is under way.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use async_trait::async_trait;
use lastseen_node_agent::clock::realtime_minus_monotonic;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::{Instant, sleep_until};

use super::fleet::{Fleet, Setup};
use super::judge::judge;
use super::results::Tally;

/// See [`Fault::ahead`]; for two nodes.
const AHEAD: Duration = Duration::from_millis(1_200);
/// Scripts go by this machine's clock, and windows by the coordinator's, which does not follow a clock that is set: where
/// somebody sets it, as when a virtual machine is moved, the truth about a round is not known, and there is another.
const STEP_NANOS: i64 = 5_000_000;
/// Rounds that may be made again for it.
const DISTURBED: u32 = 3;
/// See [`Plan::just_before`].
const EARLY: Duration = Duration::from_millis(300);
/// Length of a window: the scripts are silent around each whole second.
pub const WINDOW: Duration = Duration::from_secs(2);
/// After the window agents record their guard, hand in the rest, and the coordinator correlates.
const AFTER: Duration = Duration::from_millis(5_500);

/// Something that breaks.
#[async_trait(?Send)]
pub trait Fault {
    /// As the table calls it.
    fn name(&self) -> String;

    /// Rounds of a full run.
    fn rounds(&self) -> u64;

    /// Fleets that may share so many rounds.
    fn fleets(&self, rounds: u64) -> u64 {
        rounds.div_ceil(10)
    }

    /// Nothing else may run beside it.
    fn is_alone(&self) -> bool {
        false
    }

    /// The fleet it strikes.
    fn setup(&self, seed: u64) -> Setup {
        Setup::new(seed)
    }

    /// Between the call that starts a capture and its window: every node is armed by then.
    fn ahead(&self) -> Duration {
        AHEAD
    }

    /// When it strikes, counted from the call that starts the capture.
    fn moment(&self, random: &mut StdRng, plan: &Plan) -> Duration {
        any_moment(random, plan)
    }

    /// Breaks something, and mends it again. A coordinator that stays down comes up for the next round.
    async fn strike(&self, fleet: &mut Fleet, random: &mut StdRng, plan: &Plan) -> Result<()>;

    /// Runs rounds on a fleet of its own.
    async fn run(&self, setup: Setup, rounds: u64, is_full: bool) -> Result<Tally> {
        let seed = setup.script.seed;
        let mut random = StdRng::seed_from_u64(seed);
        let mut fleet = Fleet::start(setup.clone()).await.context("start")?;
        let (mut all, mut number, mut disturbed) = (Tally::default(), 0, 0);
        while number < rounds {
            let before = realtime_minus_monotonic();
            let tally = round(self, &mut fleet, &mut random, is_full).await;
            let step_nanos = realtime_minus_monotonic() - before;
            if step_nanos.abs() > STEP_NANOS && disturbed < DISTURBED {
                let millis = step_nanos / 1_000_000;
                println!("{}: again: this machine's clock was set by {millis} ms meanwhile", self.name());
                disturbed += 1;
                fleet = Fleet::start(setup.clone()).await.context("start anew")?;
                continue;
            }
            let mut tally = tally.with_context(|| format!("round {number}\n{}", fleet.logs()))?;
            for line in &mut tally.wrong {
                line.insert_str(0, &format!("seed {seed} round {number}: "));
            }
            all.add(tally);
            number += 1;
        }
        Ok(all)
    }

    /// Whether it costs a capture less than half of its packets once the window has begun: every node knows it by then.
    fn keeps_most(&self) -> bool {
        false
    }

    /// What must be true of the capture besides; a line for each that is not.
    fn demands(&self, _tally: &Tally) -> Vec<String> {
        Vec::new()
    }
}

/// When the capture of a round is where, counted from the call that starts it.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// When the window begins.
    pub start: Duration,
    /// When it ends.
    pub end: Duration,
    /// When the report is there, if nothing happens.
    pub over: Duration,
    /// Everything takes as long as it does outside.
    pub is_full: bool,
}

impl Plan {
    /// A moment before the window, when every node is armed.
    pub fn just_before(&self) -> Duration {
        self.start.saturating_sub(EARLY)
    }
}

/// Between the call that starts a capture and its report.
pub fn any_moment(random: &mut StdRng, plan: &Plan) -> Duration {
    Duration::from_secs_f64(random.random_range(0.0..plan.over.as_secs_f64()))
}

async fn round(
    fault: &(impl Fault + ?Sized),
    fleet: &mut Fleet,
    random: &mut StdRng,
    is_full: bool,
) -> Result<Tally> {
    fleet.ready().await?;
    let (called, now) = (Instant::now(), SystemTime::now());
    let start = next_second(now + fault.ahead());
    let ahead = start.duration_since(now)?;
    let plan = Plan { start: ahead, end: ahead + WINDOW, over: ahead + WINDOW + AFTER, is_full };
    let starting = tokio::spawn(fleet.client().start(fleet.setup.nodes, start, WINDOW));
    sleep_until(called + fault.moment(random, &plan)).await;
    let struck = SystemTime::now();
    fault.strike(fleet, random, &plan).await.context("strike")?;
    let tally = match starting.await? {
        Ok(capture) => {
            let ended = fleet.client().ended(&capture).await?;
            let mut tally = judge(fleet, &ended).await?;
            let is_under_way = SystemTime::try_from(ended.window_start.unwrap_or_default())? <= struck;
            if fault.keeps_most() && is_under_way {
                tally.wrong.extend(tally.mostly_judged());
            }
            tally.wrong.extend(fault.demands(&tally));
            tally
        }
        // The coordinator was gone until the time at which the window was to begin, and nobody had stored the capture.
        Err(error) => {
            println!("{}: not started: {error:#}", fault.name());
            Tally { not_started: 1, ..Tally::default() }
        }
    };
    fleet.start_coordinators()?;
    Ok(tally)
}

/// The first whole second after `time`.
pub fn next_second(time: SystemTime) -> SystemTime {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    UNIX_EPOCH + Duration::from_secs(since.as_secs() + 1)
}
