//! What operators look at: every metric is documented, dashboard and alerts ask for what is served, and readiness tells the
//! truth.

#![allow(clippy::disallowed_methods, reason = "promtool is started")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use lastseen_tests::product::admin;
use lastseen_tests::product::exposition::{self, Families};
use lastseen_tests::product::host::Host;
use lastseen_tests::product::process::Process;
use lastseen_tests::product::promql::{groupings, selectors};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(30);
/// Labels that Prometheus and its rules add.
const ADDED: [&str; 3] = ["job", "instance", "le"];

fn coordinator(host: &Host) -> Process {
    let mut command = host.coordinator().expect("identity");
    command.arg("--data-dir").arg(host.path("data"));
    host.start(command, "coordinator.log").expect("coordinator")
}

fn agent(host: &Host) -> Process {
    host.start(host.agent("node-1").expect("identity"), "agent.log").expect("agent")
}

/// Asks until the answer begins with this status, and returns its body.
fn wait_for(host: &Host, address: SocketAddrV4, path: &str, status: u16) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = admin::get(&host.netns, address, path);
        if let Some((head, body)) = answer.as_ref().ok().and_then(|answer| answer.split_once("\r\n\r\n"))
            && head.split(' ').nth(1) == Some(status.to_string().as_str())
        {
            return body.to_owned();
        }
        assert!(Instant::now() < deadline, "no {status} for {path} of {address}: {answer:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// What both daemons serve, as they were started a moment ago: nothing appears only when it happens, but for what a
/// scheduled probe finds.
fn served(name: &str) -> [Families; 2] {
    let host = Host::new(name).expect("host (needs root)");
    let _daemons = [coordinator(&host), agent(&host)];
    wait_for(&host, admin::AGENT, "/readyz", 200);
    let often = ["--every", "1s", "--count", "1", "--timeout", "500ms", "-o", "name"];
    let probe = ["run-probe", "icmp", "127.0.0.1", "--nodes", "node-1"];
    let ctl = host.ctl().expect("ctl");
    let id = ctl.ok(&[&probe[..], &often].concat()).expect("a scheduled probe");
    let has_reported = |answer: &Value| answer["probe"]["reports"].as_array()?.first().map(drop);
    ctl.wait_for("a run", PATIENCE, &["show-probe", id.trim()], has_reported).expect("a report");
    [admin::COORDINATOR, admin::AGENT].map(|address| {
        let body = wait_for(&host, address, "/metrics", 200);
        exposition::parse(&body).expect("OpenMetrics")
    })
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace").join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(repository(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The rows of the document's tables by the heading above them.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let mut sections: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let (text, mut heading) = (read("docs/METRICS.md"), String::new());
    for line in text.lines() {
        if let Some(words) = line.strip_prefix("## ") {
            words.clone_into(&mut heading);
        } else if line.starts_with("| `") {
            sections.entry(heading.clone()).or_default().insert(line.to_owned());
        }
    }
    sections
}

#[test]
fn every_metric_is_documented_and_every_documented_metric_is_served() {
    let [coordinator, agent] = served("names");
    let mut expected: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, family) in coordinator.iter().chain(&agent) {
        let heading = match (coordinator.contains_key(name), agent.contains_key(name)) {
            (true, true) => "Both daemons",
            (true, false) => "Coordinator",
            _ => "Agent",
        };
        expected.entry(heading.to_owned()).or_default().insert(exposition::row(name, family));
    }
    let documented = documented();
    for heading in documented.keys().chain(expected.keys()) {
        let [found, wanted] =
            [&documented, &expected].map(|all| all.get(heading).cloned().unwrap_or_default());
        let missing: Vec<_> = wanted.difference(&found).cloned().collect();
        let stale: Vec<_> = found.difference(&wanted).cloned().collect();
        assert!(
            missing.is_empty() && stale.is_empty(),
            "docs/METRICS.md, {heading}: not served as documented:\n{}\nserved and not documented:\n{}",
            stale.join("\n"),
            missing.join("\n")
        );
    }
}

/// Expressions of the dashboard, and those of the alerts, each with where it stands.
fn expressions() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let dashboard: Value = serde_json::from_str(&read("deploy/grafana/lastseen.json")).expect("JSON");
    for panel in dashboard["panels"].as_array().expect("panels") {
        let title = panel["title"].as_str().expect("a title");
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().expect("an expression");
            found.push((format!("panel {title:?}"), expression.replace("$__rate_interval", "5m")));
        }
    }
    for rule in rules() {
        found.push((rule["alert"].to_string(), rule["expr"].as_str().expect("an expression").to_owned()));
    }
    found
}

fn rules() -> Vec<Value> {
    let rules: Value = serde_yaml_ng::from_str(&read("deploy/prometheus/lastseen.rules.yaml")).expect("YAML");
    let groups = rules["groups"].as_array().expect("groups");
    groups.iter().flat_map(|group| group["rules"].as_array().expect("rules")).cloned().collect()
}

#[test]
fn dashboard_and_alerts_ask_for_what_is_served() {
    let families = served("asked");
    let expressions = expressions();
    assert!(expressions.len() > 40, "{}", expressions.len());
    for (place, expression) in expressions {
        let asked = selectors(&expression);
        assert!(!asked.is_empty(), "{place} asks for nothing: {expression}");
        let mut labels: BTreeSet<String> = ADDED.map(str::to_owned).into();
        for selector in asked.iter().filter(|selector| selector.name != "up") {
            let found: Vec<_> =
                families.iter().filter_map(|all| exposition::family(all, &selector.name)).collect();
            assert!(!found.is_empty(), "{place}: {} is not served", selector.name);
            labels.extend(found.iter().flat_map(|family| family.labels.keys().cloned()));
            for (label, values) in
                selector.matchers.iter().filter(|(label, _)| !ADDED.contains(&label.as_str()))
            {
                let known = found.iter().find_map(|family| family.labels.get(label));
                let known =
                    known.unwrap_or_else(|| panic!("{place}: {} has no label {label}", selector.name));
                for value in values {
                    assert!(known.contains(value), "{place}: {label} of {} is never {value}", selector.name);
                }
            }
        }
        let unknown: Vec<_> = groupings(&expression).difference(&labels).cloned().collect();
        assert!(unknown.is_empty(), "{place}: grouped by {unknown:?}, which nothing has: {expression}");
    }
}

/// `make test` unpacks it beside the build; a machine that has it may use its own.
fn promtool() -> Command {
    let target = std::env::current_exe().expect("this program");
    let ours = target.ancestors().map(|folder| folder.join("promtool")).find(|path| path.is_file());
    Command::new(ours.unwrap_or_else(|| "promtool".into()))
}

fn run(mut command: Command) {
    let output = command.output().expect("promtool; `make packages` gets it");
    let text = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&text));
}

#[test]
fn alerts_fire_when_they_should_and_say_what_to_do() {
    let tests = read("deploy/prometheus/lastseen.test.yaml");
    for rule in rules() {
        let name = rule["alert"].as_str().expect("a name");
        assert!(tests.contains(&format!("ALERTS{{alertname=\"{name}\"")), "{name} is not tested");
        for annotation in ["summary", "runbook"] {
            let text = rule["annotations"][annotation].as_str().unwrap_or_default();
            assert!(text.len() > 20, "{name} has no {annotation}");
        }
        assert!(["page", "ticket"].map(Value::from).contains(&rule["labels"]["severity"]), "{name}");
    }
    let folder = repository("deploy/prometheus");
    for arguments in [["check", "rules", "lastseen.rules.yaml"], ["test", "rules", "lastseen.test.yaml"]] {
        let mut command = promtool();
        command.current_dir(&folder).args(arguments);
        run(command);
    }
}

#[test]
fn the_dashboard_is_valid_promql() {
    let folder = tempfile::tempdir().expect("folder");
    let rules: Vec<Value> = expressions()
        .into_iter()
        .enumerate()
        .map(|(number, (_, expression))| serde_json::json!({"record": format!("panel:{number}"), "expr": expression}))
        .collect();
    let file = serde_json::json!({"groups": [{"name": "dashboard", "rules": rules}]});
    // YAML is a superset of JSON.
    fs::write(folder.path().join("panels.yaml"), file.to_string()).expect("write");
    let mut command = promtool();
    command.current_dir(folder.path()).args(["check", "rules", "panels.yaml"]);
    run(command);
}

#[test]
fn an_agent_is_ready_once_it_has_its_coordinator() {
    let host = Host::new("ready").expect("host (needs root)");
    let _agent = agent(&host);
    let reason = wait_for(&host, admin::AGENT, "/readyz", 503);
    for words in ["not ready: not connected to a coordinator", "127.0.0.1:7443", "--coordinator"] {
        assert!(reason.contains(words) && reason.lines().count() == 1, "{reason}");
    }
    assert_eq!(wait_for(&host, admin::AGENT, "/healthz", 200), "ok\n");
    let mut coordinator = coordinator(&host);
    assert_eq!(wait_for(&host, admin::COORDINATOR, "/readyz", 200), "ready\n");
    assert_eq!(wait_for(&host, admin::AGENT, "/readyz", 200), "ready\n");
    coordinator.signal(nix::sys::signal::Signal::SIGKILL).expect("kill");
    coordinator.wait(PATIENCE).expect("it is gone");
    wait_for(&host, admin::AGENT, "/readyz", 503);
}
