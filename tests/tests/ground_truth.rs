//! Every scenario, without the product: packets do vanish on the leg the file names, as many as the fault counts.
//! The oracle is `tcpdump` at both ends of that leg.

#![allow(clippy::disallowed_methods, reason = "tcpdump is a program")]

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lastseen_tests::fault::{Cast, Fault, Side, nat};
use lastseen_tests::lab::node::NIC;
use lastseen_tests::lab::plan::VXLAN_PORT;
use lastseen_tests::lab::{Lab, counter};
use lastseen_tests::scenario::casting::Staging;
use lastseen_tests::scenario::file::{self, Leg, Place, Point, Scenario, Segmentation};
use lastseen_tests::scenario::{run, truth::Truth};
use lastseen_tests::traffic;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const SEED: u64 = 22;
/// Labs side by side.
const LABS: usize = 4;
const SECONDS: f64 = 0.8;
/// Cuts off the TCP connections that cannot end.
const DEADLINE: Duration = Duration::from_millis(1_500);

const RECEIVER_NIC: Point = Point { side: Side::Receiver, place: Place::Nic };

/// `tcpdump` counting the packets from sender to receiver at one point.
struct Tap {
    child: Child,
    log: BufReader<std::process::ChildStderr>,
}

impl Tap {
    /// At the start or the end of a leg.
    fn open(cast: Cast<'_>, fault: &Fault, point: Point, is_start: bool) -> Self {
        let node = if point.side == Side::Sender { cast.sender } else { cast.receiver };
        let filter = filter(cast, fault, point, is_start);
        let interface = point.place.interface(&node.plan);
        let mut command = Command::new("tcpdump");
        command.args(["-n", "-s", "96", "-B", "16384", "-w", "/dev/null", "-i", interface, &filter]);
        command.stderr(Stdio::piped());
        let mut child = node.netns.enter(move || Ok(command.spawn()?)).expect("start tcpdump");
        let mut log = BufReader::new(child.stderr.take().expect("piped"));
        let mut line = String::new();
        log.read_line(&mut line).expect("tcpdump's first line");
        assert!(line.contains("listening on"), "tcpdump: {line}");
        Self { child, log }
    }

    /// Stops and returns how many packets passed.
    fn count(mut self) -> u64 {
        // tcpdump reads its ring at most a second late.
        std::thread::sleep(Duration::from_millis(1_200));
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGINT).expect("stop tcpdump");
        let mut text = String::new();
        self.log.read_to_string(&mut text).expect("tcpdump's summary");
        self.child.wait().expect("tcpdump");
        assert!(text.contains("\n0 packets dropped by kernel"), "{text}");
        let captured =
            text.lines().find(|line| line.contains("packets captured") || line.contains("packet captured"));
        let number = captured.and_then(|line| line.split(' ').next()?.parse().ok());
        number.unwrap_or_else(|| panic!("tcpdump printed: {text}"))
    }
}

/// What a tap at one end of a leg counts: the packets from sender to receiver, as they are there.
fn filter(cast: Cast<'_>, fault: &Fault, point: Point, is_start: bool) -> String {
    let (from, to) = (&cast.sender.plan, &cast.receiver.plan);
    let (from, to) = if fault.strikes_answers() { (to, from) } else { (from, to) };
    match (point.place, fault) {
        (_, Fault::Hairpin { .. } | Fault::ServiceBlackHole { .. }) if is_start => {
            format!("src {} and dst {}", from.pod, nat::SERVICE)
        }
        (Place::Nic, Fault::Ipv6Carrier { .. }) => {
            format!("src {} and dst {} and udp", from.underlay6(), to.underlay6())
        }
        (Place::Nic, fault) if !matches!(fault, Fault::HostEnds { .. }) => {
            format!("src {} and dst {} and udp", from.underlay, to.underlay)
        }
        (Place::SecondNic, _) => format!(
            "udp port {VXLAN_PORT} and (src {} or src {}) and (dst {} or dst {})",
            from.underlay,
            from.loopback(),
            to.second_underlay,
            to.loopback()
        ),
        _ if fault.strikes_answers() => {
            format!("src {} and dst {}", from.pod_in(cast.family), to.pod_in(cast.family))
        }
        _ => format!("src {} and dst {}", fault.source_beyond(cast), fault.destination_beyond(cast)),
    }
}

/// Packets that arrived at the receiver's `eth0`, before any are merged.
fn arrived(cast: Cast<'_>) -> u64 {
    counter::interface(&cast.receiver.netns, NIC, "rx", "packets").expect("counter")
}

/// Sends a scenario's UDP and TCP through its fault and compares taps, fault and generators.
fn verify(lab: &Lab, scenario: &Scenario) {
    let name = &scenario.name;
    let staging = Staging::new(lab, scenario, SEED, SECONDS);
    let injected = run::inject(scenario, staging.cast).unwrap_or_else(|error| panic!("{name}: {error:#}"));
    let fault = &scenario.fault;
    let open = |leg: &Leg| {
        [(leg.from, true), (leg.to, false)]
            .map(|(point, is_start)| Tap::open(staging.cast, fault, point, is_start))
    };
    let taps: Vec<_> = scenario.legs().map(|leg| leg.map(open)).collect();
    let merging = (scenario.segmentation == Segmentation::Merged)
        .then(|| (Tap::open(staging.cast, fault, RECEIVER_NIC, false), arrived(staging.cast)));
    let deadline = Instant::now() + DEADLINE;
    let logs = traffic::run(&staging.conversations(), deadline).expect("traffic");
    let struck: Vec<_> = injected.iter().map(|fault| fault.struck().expect("counter")).collect();
    let truth =
        Truth::new(scenario, &staging, &struck, &logs).unwrap_or_else(|error| panic!("{name}: {error:#}"));
    if let Some((tap, before)) = merging {
        let (merged, arrived) = (tap.count(), arrived(staging.cast) - before);
        assert!(merged < arrived, "{name}: {merged} packets from {arrived} segments");
    }
    // A box that doubles packets stands on the leg it does not lose on, too.
    let copies = if fault.doubles() { struck[0] } else { 0 };
    let segments = u64::from(scenario.traffic.udp_segments.unwrap_or(1));
    for (nth, (taps, struck)) in taps.into_iter().zip(struck).enumerate() {
        let Some([before, after]) = taps.map(|taps| taps.map(Tap::count)) else { continue };
        assert!(
            nth > 0
                || fault.strikes_answers()
                || before * segments >= truth.faulty.sent
                || matches!(fault, Fault::TwoUnderlays { .. }),
            "{name}: every datagram reaches the start of the leg"
        );
        assert_eq!(before + copies - after, struck, "{name}: what is lost is lost on this leg");
    }
    run::undo(scenario, staging.cast, injected).expect("undo");
}

#[test]
fn every_scenario_loses_its_packets_on_the_leg_it_names() {
    let mut scenarios = file::load(&file::folder()).expect("scenario files");
    scenarios.push(file::read(&file::folder().with_file_name("demo.toml")).expect("the demo's scenario"));
    // Most of the time is spent waiting, so labs stand side by side.
    std::thread::scope(|scope| {
        for scenarios in scenarios.chunks(scenarios.len().div_ceil(LABS)) {
            scope.spawn(move || {
                let lab = Lab::build(SEED).expect("lab");
                for scenario in scenarios {
                    verify(&lab, scenario);
                }
            });
        }
    });
}
