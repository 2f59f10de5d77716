//! Traced paths: `ctl trace-path` through the fault of a scenario, held against what the fault and the sender count.

mod judge;
pub mod plan;
pub mod results;
mod seen;

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

use self::judge::Expected;
use self::plan::{Protocol, Traced};
use self::results::TraceResult;
use self::seen::Trace;
use crate::fault::{Cast, Injected};
use crate::lab::netns::Netns;
use crate::lab::node::Node;
use crate::product::fleet::Fleet;
use crate::scenario::casting::Staging;
use crate::scenario::file::Scenario;
use crate::scenario::run::{inject, undo};
use crate::served::Server;
use crate::traffic;
use crate::traffic::sink::Reader;

/// Packets of one trace: of one in twenty lost some are among them.
const COUNT: u64 = 100;
const INTERVAL: &str = "10ms";
/// Longer than a trace sends, once it has begun.
const BESIDE_SECONDS: f64 = 8.0;

/// Traces through the scenario's fault and puts the lab back as it was. None: the scenario is not traced.
pub fn run(fleet: &Fleet<'_>, scenario: &Scenario, seed: u64) -> Option<TraceResult> {
    let traced = scenario.trace.as_ref()?;
    let result = TraceResult::new(&scenario.name, seed);
    let staging = Staging::new(fleet.lab, scenario, seed, BESIDE_SECONDS);
    let injected = match inject(scenario, staging.cast) {
        Ok(injected) => injected,
        Err(error) => return Some(result.skipped(&error)),
    };
    let judged = judge(fleet, scenario, traced, &staging, &injected);
    Some(match (judged, undo(scenario, staging.cast, injected)) {
        (Err(error), _) | (Ok(_), Err(error)) => result.failed(&error),
        (Ok((expected, trace)), Ok(())) => result.judged(&expected, &trace),
    })
}

fn judge(
    fleet: &Fleet<'_>,
    scenario: &Scenario,
    traced: &Traced,
    staging: &Staging<'_>,
    injected: &[Injected<'_>],
) -> Result<(Expected, Trace)> {
    let aim = Aim::of(traced, staging);
    let _hops = traced.ttl.map(|ttl| Hops::limit(staging, ttl)).transpose()?;
    let reader = scenario.traffic.reader;
    let _echo = (reader == Reader::Attentive).then(|| aim.answer(traced.protocol)).transpose()?;
    let before = struck(injected)?;
    let traced_path = || aim.trace(fleet, traced);
    let (json, code) = if traced.beside { beside(staging, traced_path)? } else { traced_path()? };
    let struck: Vec<u64> = struck(injected)?.iter().zip(&before).map(|(now, then)| now - then).collect();
    let trace = Trace::read(&json, code)?;
    let expected = Expected::new(scenario, traced, staging, &struck, &trace)?;
    Ok((expected, trace))
}

fn struck(injected: &[Injected<'_>]) -> Result<Vec<u64>> {
    injected.iter().map(Injected::struck).collect()
}

/// Traces while the scenario's datagrams are under way.
fn beside<T>(staging: &Staging<'_>, trace: impl FnOnce() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + Duration::from_secs_f64(2.0 * BESIDE_SECONDS);
    thread::scope(|scope| {
        let traffic = scope.spawn(|| traffic::run(&[&staging.faulty], deadline));
        let traced = trace();
        traffic.join().map_err(|_| anyhow!("the traffic panicked"))??;
        traced
    })
}

/// Whence and whither.
struct Aim<'lab> {
    from: String,
    to: SocketAddr,
    end: &'lab Netns,
    listening: SocketAddr,
}

impl<'lab> Aim<'lab> {
    fn of(traced: &Traced, staging: &Staging<'lab>) -> Self {
        let faulty = &staging.faulty;
        // What is under way beside it has a listener there.
        let port = faulty.port + u16::from(traced.beside);
        Self {
            from: source(staging.cast, faulty.from.netns),
            to: SocketAddr::new(faulty.dialled.unwrap_or(faulty.to.address), port),
            end: faulty.to.netns,
            listening: SocketAddr::new(faulty.to.address, port),
        }
    }

    fn answer(&self, protocol: Protocol) -> Result<Option<Server>> {
        match protocol {
            Protocol::Udp => Server::echo(self.end, self.listening).map(Some),
            Protocol::Tcp => Server::connections(self.end, self.listening).map(Some),
            Protocol::Icmp => Ok(None),
        }
    }

    fn trace(&self, fleet: &Fleet<'_>, traced: &Traced) -> Result<(Value, i32)> {
        let (to, port) = (self.to.ip().to_string(), self.to.port().to_string());
        let count = traced.count.unwrap_or(COUNT).to_string();
        let mut arguments = vec!["trace-path", &self.from, &to, "--count", &count, "--interval", INTERVAL];
        arguments.extend(["-o", "json"]);
        match traced.protocol {
            Protocol::Udp => arguments.extend(["--udp", &port]),
            Protocol::Tcp => arguments.extend(["--tcp", &port]),
            Protocol::Icmp => {}
        }
        let size = traced.size.map(|size| size.to_string());
        arguments.extend(size.iter().flat_map(|size| ["--size", size]));
        if traced.dont_fragment {
            arguments.push("--df");
        }
        let outcome = fleet.ctl.run(&arguments)?;
        let answer: Value = serde_json::from_str(&outcome.stdout)
            .with_context(|| format!("trace-path exited {}: {}", outcome.code, outcome.stderr.trim()))?;
        Ok((answer["trace"].clone(), outcome.code))
    }
}

/// A namespace of the lab as `trace-path` takes it.
fn source(cast: Cast<'_>, netns: &Netns) -> String {
    let owner =
        |node: &&Node| [&node.netns, &node.pod, &node.neighbor].iter().any(|own| own.name() == netns.name());
    let node = cast.lab.nodes.iter().find(owner).expect("a namespace of the lab");
    if node.netns.name() == netns.name() {
        return node.plan.name.clone();
    }
    format!("{}:{}", node.plan.name, netns.name())
}

/// Lets every datagram of the sending pod begin with so many hops.
struct Hops<'lab>(&'lab Netns);

impl<'lab> Hops<'lab> {
    fn limit(staging: &Staging<'lab>, ttl: u8) -> Result<Self> {
        let netns = staging.faulty.from.netns;
        netns.nft(&format!(
            "table ip lastseen_hops {{\n\
             chain leaving {{ type filter hook output priority -150; meta l4proto udp ip ttl set {ttl}; }}\n\
             }}\n"
        ))?;
        Ok(Self(netns))
    }
}

impl Drop for Hops<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.nft("delete table ip lastseen_hops\n") {
            eprintln!("{}: {error:#}", self.0.name());
        }
    }
}

/// Whether the scenario's file asks for something that cannot be traced.
pub(crate) fn validate(scenario: &Scenario) -> Result<()> {
    let Some(traced) = &scenario.trace else { return Ok(()) };
    if traced.size.is_some() && traced.protocol == Protocol::Tcp {
        bail!("trace.size: TCP SYN has a size of its own");
    }
    Ok(())
}
