//! What is compared of the results of one source at one target.

use std::collections::BTreeSet;

use lastseen_proto::v1;
use lastseen_proto::v1::ProbeOutcome as Outcome;
use lastseen_proto::v1::probe_result::Finding;

use super::median;

/// Results of one source at one target, of all runs.
#[derive(Debug, Default)]
pub(super) struct Merged<'p> {
    /// Newest first.
    results: Vec<&'p v1::ProbeResult>,
    /// Value of the row that the target is.
    cell: Option<&'p str>,
}

/// What they come to.
#[derive(Debug)]
pub(super) struct Found {
    /// Whether attempts were answered.
    pub(super) outcome: String,
    /// What they showed beyond that, the last time; absent: nothing that can be compared.
    pub(super) finding: Option<String>,
    /// Median until the answers, nanoseconds.
    pub(super) delay_nanos: Option<u64>,
}

impl<'p> Merged<'p> {
    pub(super) fn add(&mut self, result: &'p v1::ProbeResult) {
        self.results.push(result);
    }

    /// The newest counts.
    pub(super) fn add_cell(&mut self, cell: &'p str) {
        self.cell.get_or_insert(cell);
    }

    pub(super) fn found(&self) -> Found {
        if let Some(cell) = self.cell {
            return Found { outcome: String::new(), finding: Some(cell.to_owned()), delay_nanos: None };
        }
        let attempts: Vec<&v1::ProbeAttempt> =
            self.results.iter().flat_map(|result| &result.attempts).collect();
        let is_trace = attempts.iter().any(|attempt| attempt.hop_limit > 0);
        let outcome = if is_trace { of_trace(&attempts) } else { self.of_attempts(&attempts) };
        // The delay of a hop is not that of the target.
        let answered =
            attempts.iter().filter(|attempt| !is_trace && attempt.outcome() == Outcome::ProbeAnswered);
        let delays: Vec<u64> = answered.filter_map(|attempt| attempt.delay_nanos).collect();
        Found {
            outcome,
            finding: self.results.iter().find_map(|result| result.finding.as_ref()).and_then(words),
            delay_nanos: (!delays.is_empty()).then(|| median(delays)),
        }
    }

    fn of_attempts(&self, attempts: &[&v1::ProbeAttempt]) -> String {
        let Some(first) = attempts.first() else {
            let reason = self.results.iter().map(|result| &result.reason).find(|reason| !reason.is_empty());
            return format!("not probed: {}", reason.map_or("no attempt", String::as_str));
        };
        let answered = attempts.iter().filter(|attempt| attempt.outcome() == Outcome::ProbeAnswered).count();
        match attempts.len() - answered {
            0 => return "all answered".to_owned(),
            missing if answered > 0 => return some(missing, attempts.len()),
            _ => {}
        }
        // Of attempts that nobody answered, the one that says most.
        let said = attempts.iter().copied().max_by_key(|attempt| rank(attempt.outcome())).unwrap_or(first);
        let word = match said.outcome() {
            Outcome::ProbeRefused => "refused",
            Outcome::ProbeUnreachable => "unreachable",
            Outcome::ProbeNotSent => "not sent",
            _ => "no answer",
        };
        if said.detail.is_empty() { word.to_owned() } else { format!("{word}: {}", said.detail) }
    }
}

/// Shares by chance differ from source to source: they are told in steps.
fn some(missing: usize, of: usize) -> String {
    if missing * 2 > of { "most lost".to_owned() } else { "some lost".to_owned() }
}

fn rank(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::ProbeRefused => 3,
        Outcome::ProbeUnreachable => 2,
        Outcome::ProbeNotSent => 1,
        _ => 0,
    }
}

/// How far a trace came: routers that do not answer are no difference.
fn of_trace(attempts: &[&v1::ProbeAttempt]) -> String {
    let ended = |outcome: Outcome| attempts.iter().any(|attempt| attempt.outcome() == outcome);
    match () {
        () if ended(Outcome::ProbeAnswered) => "reached",
        () if ended(Outcome::ProbeRefused) => "refused",
        () if ended(Outcome::ProbeUnreachable) => "unreachable",
        () => "not reached",
    }
    .to_owned()
}

fn words(finding: &Finding) -> Option<String> {
    Some(match finding {
        Finding::Dns(dns) => {
            let records: BTreeSet<&str> = dns.records.iter().map(String::as_str).collect();
            let records: Vec<&str> = records.into_iter().collect();
            format!("{} {}", dns.code, records.join(", ")).trim_end().to_owned()
        }
        Finding::Http(http) if http.status == 0 => return None,
        Finding::Http(http) => {
            let certificate = http.certificate.as_ref();
            let fault = certificate.filter(|certificate| !certificate.fault.is_empty());
            let fault =
                fault.map_or_else(String::new, |certificate| format!(", certificate {}", certificate.fault));
            format!("status {}{fault}", http.status)
        }
        Finding::PathMtu(path) if path.mtu == 0 => return None,
        Finding::PathMtu(path) => {
            let how = match path.method() {
                v1::PathMtuMethod::PathMtuProbing => ", larger ones vanish",
                _ => "",
            };
            format!("{} bytes{how}", path.mtu)
        }
        Finding::Neighbor(neighbor) => {
            let addresses: BTreeSet<&str> = neighbor.link_addresses.iter().map(String::as_str).collect();
            let addresses: Vec<&str> = addresses.into_iter().collect();
            if addresses.is_empty() {
                return None;
            }
            addresses.join(", ")
        }
        // Its rows are compared one by one, where they can be; and no two ends see the same.
        Finding::Table(_) | Finding::Throughput(_) => return None,
    })
}
