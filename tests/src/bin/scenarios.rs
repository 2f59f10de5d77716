//! Runs the scenarios through the real programs and holds every report against the ground truth.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result, anyhow, bail};
use clap::Parser;
use lastseen_tests::calibration;
use lastseen_tests::lab::{Lab, cleanup};
use lastseen_tests::probed::results::{Probed, ProbedResult};
use lastseen_tests::product::binaries::Binaries;
use lastseen_tests::product::fleet::Fleet;
use lastseen_tests::scenario::ablation::Ablate;
use lastseen_tests::scenario::file::{self, Scenario, selected};
use lastseen_tests::scenario::results::{Results, ScenarioResult};
use lastseen_tests::scenario::run::{self, Options, Outcome};
use lastseen_tests::scenario::summary;
use lastseen_tests::traced::results::{TraceResult, Traces};
use lastseen_tests::{probed, synthetic, traced};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

/// Inject faults into an overlay lab and check that the report names the hop and the count
#[derive(Debug, Parser)]
struct Arguments {
    /// Chooses addresses, names, sizes, rates and who sends [default: random]
    #[arg(long)]
    seed: Option<u64>,
    /// Only scenarios whose name contains this, letter case aside; may be given several times
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// Runs the set this many times, each with the next seed
    #[arg(long, default_value_t = 1)]
    runs: u64,
    /// Runs them in an order that the seed chooses: none may leave anything behind for another
    #[arg(long)]
    shuffle: bool,
    /// Only one part of what is done with a scenario
    #[arg(long, value_enum)]
    part: Option<Part>,
    /// Labs that run side by side, each with its own fleet
    #[arg(long, default_value_t = 2)]
    labs: usize,
    /// SIGKILL the coordinator in the middle of every window and start it again
    #[arg(long)]
    kill_coordinator: bool,
    /// Judges every capture once more without one idea of the method, to show what it is worth
    #[arg(long, value_enum, value_name = "IDEA")]
    ablate: Option<Ablate>,
    /// Where the results go, as JSON
    #[arg(long, default_value = "target/scenarios.json")]
    results: PathBuf,
    /// Shows the programs' logs after each failure
    #[arg(short, long)]
    verbose: bool,
}

/// Part of what is done with a scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// A capture of its traffic.
    Captures,
    /// A traced path through its fault.
    Traces,
    /// Probes of every kind through its fault.
    Probes,
}

impl Arguments {
    fn does(&self, part: Part) -> bool {
        self.part.is_none_or(|only| only == part)
    }
}

/// What came of it.
#[derive(Debug, Default)]
struct Found {
    scenarios: Vec<(usize, ScenarioResult)>,
    traces: Vec<(usize, TraceResult)>,
    probes: Vec<(usize, ProbedResult)>,
}

/// How often the machine may have been too busy for one scenario.
const UNFIT: u32 = 3;

/// Scenarios that wait, with their numbers.
type Queue<'set> = Mutex<std::vec::IntoIter<(usize, &'set Scenario)>>;

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<bool> {
    cleanup::on_signal()?;
    if let Some(folder) = arguments.results.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    }
    let scenarios = select(arguments)?;
    let first = arguments.seed.unwrap_or_else(|| rand::random::<u32>().into());
    let (mut results, mut traces, mut probes) = (Vec::new(), Vec::new(), Vec::new());
    for seed in (0..arguments.runs).map(|index| first.wrapping_add(index)) {
        println!("seed {seed}");
        if !scenarios.is_empty() {
            let found = run_set(&scenarios, seed, arguments)?;
            results.extend(found.scenarios.into_iter().map(|(_, result)| result));
            traces.extend(found.traces.into_iter().map(|(_, result)| result));
            probes.extend(found.probes.into_iter().map(|(_, result)| result));
        }
        if arguments.does(Part::Captures) {
            results.extend(run_synthetic(seed, arguments)?);
        }
    }
    let mut results = Results::new(results, Traces::new(traces), Probed::new(probes));
    let confidence = calibration::sweep(first);
    results.calibrate(&confidence);
    results.write(&arguments.results)?;
    println!("{}", summary::text(&results, &confidence));
    Ok(results.all_passed())
}

fn select(arguments: &Arguments) -> Result<Vec<Scenario>> {
    let mut scenarios = file::load(&file::folder())?;
    for text in &arguments.only {
        let is_meant = |scenario: &Scenario| selected(&scenario.name, &[text]);
        if !scenarios.iter().any(is_meant) && !synthetic::is_any(text) {
            bail!("--only {text:?} matches no scenario in {}", file::folder().display());
        }
    }
    scenarios.retain(|scenario| selected(&scenario.name, &arguments.only));
    Ok(scenarios)
}

/// Runs what the lab cannot build, from written files.
fn run_synthetic(seed: u64, arguments: &Arguments) -> Result<Vec<ScenarioResult>> {
    let results = synthetic::run(&Binaries::locate()?.ctl, seed, &arguments.only)?;
    for result in &results {
        println!("{result}");
    }
    Ok(results)
}

/// Runs all scenarios, in labs side by side. Results are in the order of the scenarios.
fn run_set(scenarios: &[Scenario], seed: u64, arguments: &Arguments) -> Result<Found> {
    let mut order: Vec<_> = scenarios.iter().enumerate().collect();
    order.retain(|(_, scenario)| match arguments.part {
        Some(Part::Traces) => scenario.trace.is_some(),
        Some(Part::Probes) => scenario.probes.is_some(),
        Some(Part::Captures) | None => true,
    });
    if arguments.shuffle {
        order.shuffle(&mut StdRng::seed_from_u64(seed));
    }
    let labs = arguments.labs.clamp(1, order.len().max(1));
    let queue = Mutex::new(order.into_iter());
    let parts = thread::scope(|scope| {
        let working: Vec<_> = (0..labs).map(|_| scope.spawn(|| work(&queue, seed, arguments))).collect();
        let finished =
            working.into_iter().map(|one| one.join().map_err(|_| anyhow!("a lab's thread panicked"))?);
        finished.collect::<Result<Vec<_>>>()
    })?;
    let mut found = Found::default();
    for part in parts {
        found.scenarios.extend(part.scenarios);
        found.traces.extend(part.traces);
        found.probes.extend(part.probes);
    }
    found.scenarios.sort_by_key(|(number, _)| *number);
    found.traces.sort_by_key(|(number, _)| *number);
    found.probes.sort_by_key(|(number, _)| *number);
    Ok(found)
}

/// Runs scenarios from the queue in one lab; after one that ended without a report, in a new one.
fn work(queue: &Queue<'_>, seed: u64, arguments: &Arguments) -> Result<Found> {
    let without = arguments.ablate.map_or(&[][..], Ablate::ideas);
    let options = Options { kill_coordinator: arguments.kill_coordinator, without };
    let mut found = Found::default();
    let (mut waiting, mut unfit) = (take(queue), 0);
    while waiting.is_some() {
        let lab = Lab::build(seed).context("build the lab")?;
        let mut fleet = Fleet::start(&lab).context("start the programs")?;
        while let Some((number, scenario)) = waiting {
            if arguments.does(Part::Captures) {
                let outcome = run::run(&mut fleet, scenario, seed, options);
                if let Outcome::Failed(error) = &outcome
                    && outcome.is_unfit()
                    && unfit < UNFIT
                {
                    println!("again {}: {error}", scenario.name);
                    unfit += 1;
                    break;
                }
                unfit = 0;
                let result = conclude(&fleet, (number, scenario), seed, &outcome, arguments)?;
                found.scenarios.push((number, result));
                if !matches!(outcome, Outcome::Judged(..)) {
                    waiting = take(queue);
                    break;
                }
            }
            waiting = take(queue);
            // One that did not end as it should may have left something behind.
            let mut is_clean = true;
            if arguments.does(Part::Traces)
                && let Some(result) = traced::run(&fleet, scenario, seed)
            {
                is_clean &= result.passed;
                found.traces.push((number, conclude_trace(&fleet, number, result, arguments)?));
            }
            if is_clean
                && arguments.does(Part::Probes)
                && let Some(result) = probed::run(&fleet, scenario, seed)
            {
                println!("{result}");
                is_clean &= result.passed;
                found.probes.push((number, result));
            }
            if !is_clean {
                break;
            }
        }
    }
    Ok(found)
}

fn take<'set>(queue: &Queue<'set>) -> Option<(usize, &'set Scenario)> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).next()
}

/// Prints the result, and keeps what explains a failure.
fn conclude(
    fleet: &Fleet<'_>,
    (number, scenario): (usize, &Scenario),
    seed: u64,
    outcome: &Outcome,
    arguments: &Arguments,
) -> Result<ScenarioResult> {
    let result = ScenarioResult::new(&scenario.name, seed, outcome);
    println!("{result}");
    if !result.passed {
        keep_evidence(outcome, &arguments.results, seed, number)?;
        if arguments.verbose {
            println!("{}", fleet.logs());
        }
    }
    Ok(result)
}

/// The same of a traced path.
fn conclude_trace(
    fleet: &Fleet<'_>,
    number: usize,
    result: TraceResult,
    arguments: &Arguments,
) -> Result<TraceResult> {
    println!("{result}");
    if !result.passed {
        let path = arguments.results.with_extension(format!("{}-{number}.trace.json", result.seed));
        std::fs::write(&path, &result.trace).with_context(|| format!("write {}", path.display()))?;
        println!("      trace in {}", path.display());
        if arguments.verbose {
            println!("{}", fleet.logs());
        }
    }
    Ok(result)
}

/// Writes a report that differs from the truth beside the results.
fn keep_evidence(outcome: &Outcome, results: &Path, seed: u64, number: usize) -> Result<()> {
    let Outcome::Judged(_, finding) = outcome else { return Ok(()) };
    let path = results.with_extension(format!("{seed}-{number}.report.json"));
    std::fs::write(&path, &finding.report).with_context(|| format!("write {}", path.display()))?;
    println!("      report in {}", path.display());
    Ok(())
}
