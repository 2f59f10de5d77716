//! The lab captured by plain `tcpdump` at every point beside the agents: `ctl diff-files` finds what `ctl diff-nodes`
//! finds, and both what really happened.

#![allow(clippy::disallowed_methods, reason = "tcpdump is a program")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

use lastseen_tests::lab::Lab;
use lastseen_tests::lab::node::{BRIDGE, NIC, Node, OVERLAY};
use lastseen_tests::product::fleet::Fleet;
use lastseen_tests::scenario::casting::Staging;
use lastseen_tests::scenario::check::check;
use lastseen_tests::scenario::file::{self, Scenario};
use lastseen_tests::scenario::report::{Report, Totals};
use lastseen_tests::scenario::run::{self, Options, TRAFFIC_SECONDS};
use lastseen_tests::scenario::truth::Truth;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const SEED: u64 = 73;
/// A loss on a node, a total black hole, a loss between nodes behind segmentation, segments merged on the way, and lost
/// fragments of carriers.
const SCENARIOS: [&str; 5] = [
    "03-forward-drop-on-receiver.toml",
    "06-fdb-entry-missing.toml",
    "07-switch-loss.toml",
    "33-receiver-merges.toml",
    "70-later-outer-fragments-lost.toml",
];

/// `tcpdump` writing what passes one interface.
struct Tap {
    child: Child,
    log: BufReader<ChildStderr>,
    /// `node/interface=FILE`.
    argument: String,
}

impl Tap {
    /// `number` varies what tools do differently: precision of stamps and snap length.
    fn open(node: &Node, interface: &str, folder: &Path, number: usize) -> Self {
        let file = folder.join(format!("{}-{interface}.pcap", node.plan.name));
        let precision = if number.is_multiple_of(2) { "nano" } else { "micro" };
        let length = if number.is_multiple_of(3) { "0" } else { "256" };
        let mut command = Command::new("tcpdump");
        command.args([
            "-n",
            "-s",
            length,
            "--time-stamp-precision",
            precision,
            "-B",
            "32768",
            "-i",
            interface,
        ]);
        command.arg("-w").arg(&file).stderr(Stdio::piped());
        let mut child = node.netns.enter(move || Ok(command.spawn()?)).expect("start tcpdump");
        let mut log = BufReader::new(child.stderr.take().expect("piped"));
        let mut line = String::new();
        log.read_line(&mut line).expect("tcpdump's first line");
        assert!(line.contains("listening on"), "tcpdump: {line}");
        Self { child, log, argument: format!("{}/{interface}={}", node.plan.name, file.display()) }
    }

    /// Stops and returns the argument that names the file.
    fn close(mut self) -> String {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGINT).expect("stop tcpdump");
        let mut text = String::new();
        self.log.read_to_string(&mut text).expect("tcpdump's summary");
        self.child.wait().expect("tcpdump");
        assert!(text.contains("\n0 packets dropped by kernel"), "{text}");
        std::mem::take(&mut self.argument)
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Taps at every interface that packets between pods meet.
fn taps(lab: &Lab, folder: &Path) -> Vec<Tap> {
    let points = lab
        .nodes
        .iter()
        .flat_map(|node| [node.plan.veth.as_str(), BRIDGE, OVERLAY, NIC].map(|interface| (node, interface)));
    points.enumerate().map(|(number, (node, interface))| Tap::open(node, interface, folder, number)).collect()
}

/// What the agents reported, what really happened, and the arguments for `diff-files`.
struct Seen {
    truth: Truth,
    agents: Report,
    files: Vec<String>,
    topology: PathBuf,
}

/// Captures one scenario both ways. A packet through every point before and after it: files cover no more than the time
/// from their first to their last packet.
fn capture(fleet: &mut Fleet<'_>, scenario: &Scenario, folder: &Path) -> Seen {
    let lab = fleet.lab;
    let staging = Staging::new(lab, scenario, SEED, TRAFFIC_SECONDS);
    let taps = taps(lab, folder);
    lab.warm_up().expect("a packet through every point");
    let injected = run::inject(scenario, staging.cast).expect("inject");
    let capture = run::start_capture(fleet, &scenario.name).expect("start");
    let truth = run::observe(fleet, &capture, scenario, &staging, &injected, Options::default());
    run::undo(scenario, staging.cast, injected).expect("undo");
    let truth = truth.expect("truth");
    let (agents, ..) = run::report(fleet, &capture).expect("the agents' report");
    lab.warm_up().expect("a packet through every point");
    // tcpdump reads its ring at most a second late.
    std::thread::sleep(Duration::from_millis(1_200));
    let files = taps.into_iter().map(Tap::close).collect();
    let topology = folder.join("fabric.json");
    let exported = fleet.ctl.ok(&["export-topology", &capture]).expect("export-topology");
    std::fs::write(&topology, exported).expect("write the topology");
    Seen { truth, agents, files, topology }
}

/// Runs `diff-files` without a coordinator in reach.
fn diff_files(fleet: &Fleet<'_>, seen: &Seen, topology: bool) -> (Report, String, i32) {
    let mut command = Command::new(&fleet.binaries.ctl);
    command.arg("diff-files").args(&seen.files).args(["-o", "json"]);
    if topology {
        command.arg("--topology").arg(&seen.topology);
    }
    let output = command.output().expect("run ctl");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let report = serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    (report, text, output.status.code().unwrap_or(-1))
}

type Losses = Vec<(String, String, u64)>;

/// What a report says of each conversation of the generators, losses by leg.
fn conversations(report: &Report) -> BTreeMap<(String, String, String), (Totals, Losses)> {
    let of_generators = report.paths.iter().filter(|path| ["udp", "tcp"].contains(&path.protocol.as_str()));
    let one = |path: &lastseen_tests::scenario::report::Path| {
        let to = |loss: &lastseen_tests::scenario::report::Loss| {
            loss.to.as_ref().map_or_else(String::new, ToString::to_string)
        };
        let losses = path.losses.iter().map(|loss| (loss.from.to_string(), to(loss), loss.count)).collect();
        let name = (path.source.clone(), path.destination.clone(), path.protocol.clone());
        (name, (path.totals, losses))
    };
    of_generators.map(one).collect()
}

#[test]
fn plain_tcpdump_files_give_the_losses_and_legs_that_the_agents_found() {
    let lab = Lab::build(SEED).expect("lab");
    let mut fleet = Fleet::start(&lab).expect("fleet");
    for file in SCENARIOS {
        let scenario = file::read(&file::folder().join(file)).expect("scenario");
        let folder = tempfile::Builder::new().prefix(&lab.plan.prefix).tempdir().expect("folder");
        let seen = capture(&mut fleet, &scenario, folder.path());
        let (report, text, code) = diff_files(&fleet, &seen, true);
        let found = check(&seen.truth, &report, code);
        assert_eq!(found.differences, Vec::<String>::new(), "{file}: {text}");
        assert_eq!(conversations(&report), conversations(&seen.agents), "{file}: {text}");
        let (inferred, text, _) = diff_files(&fleet, &seen, false);
        let legs = |report: &Report| {
            let losses = conversations(report).into_values().flat_map(|(_, losses)| losses);
            losses.collect::<Vec<_>>()
        };
        assert_eq!(legs(&inferred), legs(&seen.agents), "{file}, without a topology: {text}");
    }
}
