//! One trace from `ctl` through the coordinator to each agent, as a collector sees it; and none to be had.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use lastseen_tests::product::admin;
use lastseen_tests::product::collector::{Collector, Span};
use lastseen_tests::product::fleet::STOP;
use lastseen_tests::product::host::Host;
use lastseen_tests::product::process::Process;
use nix::sys::signal::Signal;

const PATIENCE: Duration = Duration::from_secs(30);
const COLLECTOR: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 4317);

fn terminate(mut process: Process) {
    process.signal(Signal::SIGTERM).expect("signal");
    let status = process.wait(STOP).expect("it stops in time");
    assert_eq!(status.code(), Some(0), "{}", process.tail());
}

/// A coordinator and the agent of `node-1`, which is ready. Both have this environment.
fn start(host: &Host, environment: &[(&str, &str)]) -> [Process; 2] {
    let mut coordinator = host.coordinator().expect("identity");
    coordinator.arg("--data-dir").arg(host.path("data")).args(["--log-format", "json"]);
    coordinator.envs(environment.iter().copied());
    let coordinator = host.start(coordinator, "coordinator.log").expect("coordinator");
    [coordinator, join(host, environment, "node-1", "agent.log", &[])]
}

/// The agent of one more node, the last by name, which is ready.
fn join(host: &Host, environment: &[(&str, &str)], node: &str, log: &str, flags: &[&str]) -> Process {
    let mut agent = host.agent(node).expect("identity");
    agent.args(["--log-format", "json"]).args(flags).envs(environment.iter().copied());
    let agent = host.start(agent, log).expect("agent");
    let ready = |reply: &serde_json::Value| {
        let last = reply["nodes"].as_array()?.last()?;
        (last["name"] == node && last["state"] == "READY").then_some(())
    };
    let ctl = host.ctl().expect("identity");
    ctl.wait_for("the agent ready", PATIENCE, &["list-nodes"], ready).expect("it comes");
    agent
}

fn named<'s>(spans: &'s [Span], service: &str, name: &str) -> &'s Span {
    let found = all_named(spans, service, name);
    let [span] = found[..] else { panic!("not one {name} of {service} in {spans:#?}") };
    span
}

fn all_named<'s>(spans: &'s [Span], service: &str, name: &str) -> Vec<&'s Span> {
    spans.iter().filter(|span| span.service == service && span.name == name).collect()
}

#[test]
fn one_trace_goes_from_ctl_through_the_coordinator_to_each_agent() {
    let host = Host::new("trace").expect("host (needs root)");
    let collector = Collector::start(&host.netns, COLLECTOR).expect("collector");
    let environment = [("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint.as_str())];
    let [coordinator, agent] = start(&host, &environment);
    let other = ["--admin-listen", "127.0.0.1:0"];
    let other = join(&host, &environment, "node-2", "other.log", &other);
    let ctl = host.ctl().expect("identity");
    let job = [
        "start-capture",
        "--all-nodes",
        "--interfaces",
        "lo",
        "--filter",
        "udp port 9",
        "--duration",
        "300ms",
    ];
    let asked = [&job[..], &["--otlp-endpoint", &collector.endpoint]].concat();
    ctl.ok(&asked).expect("a capture");
    // Each sends what it has at its end.
    [coordinator, agent, other].into_iter().for_each(terminate);

    let all = collector.spans();
    let root = named(&all, "ctl", "start-capture");
    assert!(root.parent.is_empty(), "{root:?}");
    let spans: Vec<Span> = all.iter().filter(|span| span.trace == root.trace).cloned().collect();
    let call = named(&spans, "coordinator", "CaptureService/StartCapture");
    let capture = named(&spans, "coordinator", "capture");
    let correlate = named(&spans, "coordinator", "correlate");
    for (child, parent) in [(call, root), (capture, call), (correlate, capture)] {
        assert_eq!(child.parent, parent.id, "{child:#?} is not a child of {parent:#?}");
    }
    for (parent, children) in [
        (capture, &["arm", "window", "drain", "correlate"][..]),
        (correlate, &["load", "read", "match", "store"]),
    ] {
        for name in children {
            assert_eq!(named(&spans, "coordinator", name).parent, parent.id, "{name}");
        }
    }
    let jobs = all_named(&spans, "node-agent", "job");
    assert!(jobs.len() == 2 && jobs.iter().all(|job| job.parent == capture.id), "{jobs:#?} {capture:#?}");
    let arms = all_named(&spans, "node-agent", "arm");
    for (parents, children) in [(&jobs, &["arm", "capture", "flush", "upload"][..]), (&arms, &["open"])] {
        let parents: BTreeSet<_> = parents.iter().map(|span| &span.id).collect();
        for name in children {
            let found = all_named(&spans, "node-agent", name);
            let theirs: BTreeSet<_> = found.iter().map(|span| &span.parent).collect();
            assert!(found.len() == 2 && theirs == parents, "{name}: {found:#?}");
        }
    }
    let identities: Vec<_> = call.attributes.iter().filter(|(key, _)| key == "enduser.id").collect();
    assert_eq!(identities.len(), 1, "{call:?}");
    for (key, value) in all.iter().flat_map(|span| &span.attributes) {
        assert!(!value.contains("udp port 9"), "{key} tells what was asked for: {value}");
    }
    let trace = u128::from_be_bytes(root.trace.as_slice().try_into().expect("16 bytes"));
    let trace = format!("{trace:032x}");
    for log in ["coordinator.log", "agent.log", "other.log"] {
        let text = fs::read_to_string(host.path(log)).expect("log");
        let traced = text.lines().filter(|line| line.contains(&format!("\"trace_id\":\"{trace}\""))).count();
        assert!(traced > 0 && traced < text.lines().count(), "{log}: {text}");
        for line in text.lines() {
            serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        }
    }
}

/// The coordinator that began the capture dies with its spans; the next one goes on with the same trace.
#[test]
fn a_trace_outlives_the_coordinator() {
    let host = Host::new("again").expect("host (needs root)");
    let collector = Collector::start(&host.netns, COLLECTOR).expect("collector");
    let environment = [("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint.as_str())];
    let [mut coordinator, agent] = start(&host, &environment);
    let ctl = host.ctl().expect("identity");
    let job =
        ["start-capture", "--all-nodes", "--interfaces", "lo", "--duration", "2s", "--no-wait", "-o", "name"];
    let id = ctl.ok(&[&job[..], &["--otlp-endpoint", &collector.endpoint]].concat()).expect("a capture");
    coordinator.signal(Signal::SIGKILL).expect("kill");
    coordinator.wait(STOP).expect("it is gone");
    let mut command = host.coordinator().expect("identity");
    command.arg("--data-dir").arg(host.path("data")).envs(environment);
    let coordinator = host.start(command, "coordinator.log").expect("coordinator");
    let ended = |reply: &serde_json::Value| (reply["capture"]["state"] == "COMPLETED").then_some(());
    ctl.wait_for("the capture complete", PATIENCE, &["show-capture", id.trim()], ended).expect("it ends");
    [coordinator, agent].into_iter().for_each(terminate);

    let all = collector.spans();
    let root = named(&all, "ctl", "start-capture");
    let spans: Vec<Span> = all.iter().filter(|span| span.trace == root.trace).cloned().collect();
    let capture = named(&spans, "coordinator", "capture");
    assert_eq!(named(&spans, "coordinator", "correlate").parent, capture.id);
    let job = named(&spans, "node-agent", "job");
    assert!(!job.parent.is_empty() && job.parent == capture.parent, "{job:?} {capture:?}");
}

#[test]
fn a_collector_that_does_not_answer_holds_up_nobody() {
    let host = Host::new("mute").expect("host (needs root)");
    // Connections are made, and nobody takes them.
    let bind = || Ok(std::net::TcpListener::bind(COLLECTOR)?);
    let _mute = host.netns.enter(bind).expect("bind");
    let daemons = start(&host, &[("LASTSEEN_OTLP_ENDPOINT", "http://127.0.0.1:4317")]);
    let ctl = host.ctl().expect("identity");
    let job = ["start-capture", "--all-nodes", "--interfaces", "lo", "--duration", "100ms"];
    ctl.ok(&[&job[..], &["--otlp-endpoint", "http://127.0.0.1:4317"]].concat()).expect("a capture");
    daemons.into_iter().for_each(terminate);
}

#[test]
fn a_collector_that_is_away_costs_a_line_and_a_count() {
    let host = Host::new("away").expect("host (needs root)");
    let environment = [
        ("LASTSEEN_OTLP_ENDPOINT", "http://127.0.0.1:4317"),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
        ("RUST_LOG", "warn"),
    ];
    let daemons = start(&host, &environment);
    let ctl = host.ctl().expect("identity");
    for _ in 0..3 {
        ctl.ok(&["start-capture", "--all-nodes", "--interfaces", "lo", "--duration", "100ms"])
            .expect("a capture");
    }
    for address in [admin::COORDINATOR, admin::AGENT] {
        let deadline = Instant::now() + PATIENCE;
        while failed(&host, address) < 2.0 {
            assert!(Instant::now() < deadline, "failed spans are not counted at {address}");
            thread::sleep(Duration::from_millis(20));
        }
    }
    daemons.into_iter().for_each(terminate);
    for log in ["coordinator.log", "agent.log"] {
        let text = fs::read_to_string(host.path(log)).expect("log");
        let told: Vec<_> = text.lines().filter(|line| line.contains("spans are lost")).map(time_of).collect();
        assert!(!told.is_empty(), "{log}: {text}");
        // It is measured on another clock than the one that the log shows.
        let apart = told.windows(2).map(|pair| pair[1].duration_since(pair[0]).as_secs());
        assert!(apart.min().is_none_or(|seconds| seconds >= 55), "a line a minute at most: {log}: {text}");
    }
}

fn time_of(line: &str) -> jiff::Timestamp {
    let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
    line["timestamp"].as_str().expect("a time").parse().expect("RFC 3339")
}

fn failed(host: &Host, address: std::net::SocketAddrV4) -> f64 {
    let metrics = admin::get(&host.netns, address, "/metrics").expect("metrics");
    let line =
        metrics.lines().find_map(|line| line.strip_prefix("lastseen_trace_spans_total{outcome=\"failed\"} "));
    line.expect("the metric").parse().expect("a number")
}
