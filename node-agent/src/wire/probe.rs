//! Probes as messages.

use std::time::Duration;

use lastseen_proto::convert::span_nanos;
use lastseen_proto::limits::{
    CAPTURE_ID_BYTES, PROBE_COUNT, PROBE_EVERY_NANOS, PROBE_INTERVAL_NANOS, PROBE_PAYLOAD_BYTES, PROBE_SIZE,
    PROBE_TARGETS, PROBE_TIMEOUT_NANOS,
};
use lastseen_proto::place::Place;
use lastseen_proto::v1;
use lastseen_proto::v1::probe_spec::Kind as Asked;

use crate::probe::attempt::{Attempt, Outcome};
use crate::probe::board::{News, Status};
use crate::probe::report::{Found, Report};
use crate::probe::spec::{Allowed, Family, Kind, Schedule, Spec};

/// The probe in an `ArmProbe`, or what is wrong with it.
pub(crate) fn spec(message: v1::ArmProbe) -> Result<Spec, String> {
    let v1::ArmProbe { probe_id, spec, start_monotonic_nanos, allowed_networks, first_run } = message;
    if !(1..=CAPTURE_ID_BYTES).contains(&probe_id.len()) || probe_id.chars().any(char::is_control) {
        return Err(format!("probe_id: {probe_id:?} is not 1 to {CAPTURE_ID_BYTES} bytes of text"));
    }
    let asked = spec.ok_or("spec: missing; is the coordinator of another version?")?;
    let schedule = schedule(&asked, start_monotonic_nanos, first_run)?;
    let places =
        asked.sources.iter().map(|source| source.netns.parse()).collect::<Result<Vec<Place>, _>>()?;
    if places.is_empty() || asked.targets.is_empty() || asked.targets.len() > PROBE_TARGETS {
        return Err(format!("sources, targets: at least one of each, and at most {PROBE_TARGETS} targets"));
    }
    let targets = asked.targets.iter().map(|target| target.parse()).collect::<Result<_, _>>();
    let networks = allowed_networks.iter().map(|network| network.parse()).collect::<Result<_, _>>();
    Ok(Spec {
        probe: probe_id,
        places,
        targets: targets.map_err(|error| format!("targets: {error}"))?,
        family: match asked.family() {
            v1::IpFamily::Any => Family::Any,
            v1::IpFamily::Ipv4 => Family::V4,
            v1::IpFamily::Ipv6 => Family::V6,
        },
        kind: kind(asked.kind)?,
        schedule,
        allowed: Allowed::new(networks.map_err(|error| format!("allowed_networks: {error}"))?),
    })
}

fn kind(asked: Option<Asked>) -> Result<Kind, String> {
    match asked {
        Some(Asked::Icmp(icmp)) => {
            let size = icmp.size.unwrap_or_default();
            if !PROBE_SIZE.contains(&size) {
                return Err(format!(
                    "size: {size} is not within {} and {}",
                    PROBE_SIZE.start(),
                    PROBE_SIZE.end()
                ));
            }
            Ok(Kind::Icmp { size: size as usize, dont_fragment: icmp.dont_fragment })
        }
        Some(Asked::Tcp(v1::TcpProbe {})) => Ok(Kind::Tcp),
        Some(Asked::Udp(udp)) if udp.payload.len() > PROBE_PAYLOAD_BYTES => {
            Err(format!("payload: {} bytes are above {PROBE_PAYLOAD_BYTES}", udp.payload.len()))
        }
        Some(Asked::Udp(udp)) => {
            Ok(Kind::Udp { payload: Some(udp.payload.to_vec()).filter(|payload| !payload.is_empty()) })
        }
        None => Err("kind: this agent does not know it; is it older than the coordinator?".to_owned()),
    }
}

fn schedule(asked: &v1::ProbeSpec, start: i64, first_run: u64) -> Result<Schedule, String> {
    let span = |field: &str,
                asked: Option<&prost_types::Duration>,
                limits: &std::ops::RangeInclusive<i64>| {
        let nanos = asked.map_or(0, |asked| span_nanos(asked).unwrap_or(i64::MAX));
        let is_within = limits.contains(&nanos);
        let wrong = || format!("{field}: {nanos} ns are not within {} and {}", limits.start(), limits.end());
        is_within.then(|| Duration::from_nanos(nanos as u64)).ok_or_else(wrong)
    };
    let count = asked.count.unwrap_or_default();
    if !PROBE_COUNT.contains(&count) {
        return Err(format!(
            "count: {count} is not within {} and {}",
            PROBE_COUNT.start(),
            PROBE_COUNT.end()
        ));
    }
    let every = asked.every.as_ref();
    Ok(Schedule {
        start,
        first_run,
        count: count as u16,
        interval: span("interval", asked.interval.as_ref(), &PROBE_INTERVAL_NANOS)?,
        timeout: span("timeout", asked.timeout.as_ref(), &PROBE_TIMEOUT_NANOS)?,
        every: every.map(|every| span("every", Some(every), &PROBE_EVERY_NANOS)).transpose()?,
    })
}

/// Something to tell.
pub(crate) fn news(news: &News) -> v1::agent_message::Kind {
    match news {
        News::Status(status) => v1::agent_message::Kind::ProbeStatus(self::status(status)),
        News::Report(report) => v1::agent_message::Kind::ProbeFound(found(report)),
    }
}

fn status(status: &Status) -> v1::ProbeStatus {
    let Status { probe, place, failure } = status;
    let state = if failure.is_some() { v1::ProbeState::ProbeFailed } else { v1::ProbeState::ProbeArmed };
    v1::ProbeStatus {
        probe_id: probe.clone(),
        netns: place.to_string(),
        state: state.into(),
        reason: failure.clone().unwrap_or_default(),
    }
}

fn found(report: &Report) -> v1::ProbeFound {
    v1::ProbeFound {
        probe_id: report.probe.clone(),
        run: report.run,
        netns: report.place.to_string(),
        start_unix_nanos: report.start,
        results: report.results.iter().map(result).collect(),
    }
}

fn result(found: &Found) -> v1::ProbeResult {
    v1::ProbeResult {
        target: found.target.clone(),
        address: found.address.map(|address| address.to_string()).unwrap_or_default(),
        reason: found.reason.clone(),
        attempts: found.attempts.iter().map(attempt).collect(),
    }
}

fn attempt(attempt: &Attempt) -> v1::ProbeAttempt {
    let outcome = match attempt.outcome {
        Outcome::Answered => v1::ProbeOutcome::ProbeAnswered,
        Outcome::Refused => v1::ProbeOutcome::ProbeRefused,
        Outcome::Unreachable => v1::ProbeOutcome::ProbeUnreachable,
        Outcome::Silent => v1::ProbeOutcome::ProbeSilent,
        Outcome::NotSent => v1::ProbeOutcome::ProbeNotSent,
    };
    v1::ProbeAttempt {
        sent_unix_nanos: attempt.sent,
        outcome: outcome.into(),
        delay_nanos: attempt.delay.map(|delay| delay.as_nanos() as u64),
        responder: attempt.responder.map(|address| address.to_string()).unwrap_or_default(),
        detail: attempt.detail.clone(),
    }
}
