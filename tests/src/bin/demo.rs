//! The main job from end to end, as a user sees it, with the ground truth beside it.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use lastseen_tests::lab::{Lab, cleanup};
use lastseen_tests::product::fleet::Fleet;
use lastseen_tests::scenario::casting::Staging;
use lastseen_tests::scenario::check::check;
use lastseen_tests::scenario::file::{self, Scenario};
use lastseen_tests::scenario::run::{self, Options};
use lastseen_tests::scenario::truth::Truth;

/// Build a three-node VXLAN lab with an MTU black hole on its underlay and let Lastseen find it
#[derive(Debug, Parser)]
struct Arguments {
    /// Chooses addresses, names, sizes and rates [default: random]
    #[arg(long)]
    seed: Option<u64>,
    /// Leaves the lab and the programs running and says how to reach them
    #[arg(long)]
    keep: bool,
}

fn main() -> ExitCode {
    match demonstrate(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn demonstrate(arguments: &Arguments) -> Result<bool> {
    cleanup::on_signal()?;
    let scenario = file::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("demo.toml"))?;
    let seed = arguments.seed.unwrap_or_else(|| rand::random::<u32>().into());
    println!("seed {seed}: building three nodes, a pod on each, joined by VXLAN over an underlay switch");
    let lab = Lab::build(seed).context("build the lab")?;
    println!("starting the coordinator and three agents with fresh certificates");
    let mut fleet = Fleet::start(&lab).context("start the programs")?;
    let staging = Staging::new(&lab, &scenario, seed, run::TRAFFIC_SECONDS);
    let injected = run::inject(&scenario, staging.cast).context("inject the fault")?;
    let agree = capture_and_compare(&mut fleet, &scenario, &staging, &injected)?;
    drop(injected);
    if arguments.keep {
        keep(fleet);
        std::mem::forget(lab);
    }
    Ok(agree)
}

/// Captures while TCP and UDP run into the black hole, prints the report and the truth, and compares them.
fn capture_and_compare(
    fleet: &mut Fleet<'_>,
    scenario: &Scenario,
    staging: &Staging<'_>,
    injected: &[lastseen_tests::fault::Injected<'_>],
) -> Result<bool> {
    println!("\n$ ctl start-capture --all-nodes --duration {}", run::WINDOW);
    let capture = run::start_capture(fleet, "demo")?;
    println!("{capture}\n(TCP and UDP between the pods, some of it into the black hole)");
    let truth = run::observe(fleet, &capture, scenario, staging, injected, Options::default())?;
    let (report, _, exit_code) = run::report(fleet, &capture).with_context(|| fleet.logs())?;
    println!("\n$ ctl diff-nodes {capture}");
    print!("{}", fleet.ctl.run(&["diff-nodes", &capture])?.stdout);
    let finding = check(&truth, &report, exit_code);
    print_truth(&truth, finding.lost_right());
    for difference in &finding.differences {
        println!("differs: {difference}");
    }
    Ok(finding.differences.is_empty())
}

fn print_truth(truth: &Truth, found: u64) {
    let (lost, faulty) = (truth.lost(), &truth.faulty);
    let verdict = if found == lost { "the report says the same" } else { "the report differs" };
    println!(
        "\nground truth: {lost} segments dropped by the switch (its own counter), of them {} datagrams",
        faulty.lost
    );
    println!("              missing at the receiver (its own log); {verdict}");
}

/// Lets everything outlive this program.
fn keep(mut fleet: Fleet<'_>) {
    let folder = fleet.keep_folder().display().to_string();
    let (ctl, prefix) = (&fleet.ctl, &fleet.lab.plan.prefix);
    println!("\nleft running, logs in {folder}; to reach it:");
    println!(
        "  sudo ip netns exec {} {} --server {} --pki-dir {} list-nodes",
        ctl.netns.name(),
        ctl.program.display(),
        ctl.server,
        ctl.pki.display()
    );
    println!("to remove it:");
    let lab = ctl.program.with_file_name("lastseen-lab");
    println!("  sudo {} clean --prefix {prefix}", lab.display());
    std::mem::forget(fleet);
}
