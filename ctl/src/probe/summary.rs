//! All attempts at one target in a line.

use std::collections::BTreeMap;

use lastseen_proto::v1;
use lastseen_proto::v1::ProbeOutcome as Outcome;
use lastseen_proto::v1::probe_spec::Kind;

use crate::output::units;

/// What the attempts came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Attempts that went out.
    pub sent: u64,
    /// Those of them that were answered.
    pub answered: u64,
    /// Why nothing was sent at all.
    reason: String,
    /// Until the answers, sorted, nanoseconds.
    delays: Vec<u64>,
    /// How often what else happened, in words.
    others: BTreeMap<(i32, String), u64>,
}

impl Summary {
    /// Of one result.
    pub fn of(result: &v1::ProbeResult) -> Self {
        let mut summary = Self { reason: result.reason.clone(), ..Self::default() };
        for attempt in &result.attempts {
            let outcome = attempt.outcome();
            summary.sent += u64::from(outcome != Outcome::ProbeNotSent);
            if outcome == Outcome::ProbeAnswered {
                summary.answered += 1;
                summary.delays.extend(attempt.delay_nanos);
            } else {
                let by = if attempt.responder.is_empty() {
                    String::new()
                } else {
                    format!(" says {}", attempt.responder)
                };
                *summary.others.entry((attempt.outcome, format!("{}{by}", attempt.detail))).or_default() += 1;
            }
        }
        summary.delays.sort_unstable();
        summary
    }

    /// Share without an answer.
    pub fn lost(&self) -> String {
        if self.sent == 0 {
            return String::new();
        }
        units::percent((self.sent - self.answered) as f64 / self.sent as f64)
    }

    /// Shortest delay, nanoseconds.
    pub fn least(&self) -> Option<u64> {
        self.delays.first().copied()
    }

    /// The one in the middle.
    pub fn median(&self) -> Option<u64> {
        self.delays.get(self.delays.len() / 2).copied()
    }

    /// Longest.
    pub fn most(&self) -> Option<u64> {
        self.delays.last().copied()
    }

    /// What happened, in words that fit the kind.
    pub fn words(&self, spec: Option<&v1::ProbeSpec>) -> String {
        if !self.reason.is_empty() {
            return self.reason.clone();
        }
        let kind = spec.and_then(|spec| spec.kind.as_ref());
        let mut words = Vec::new();
        if self.answered > 0 {
            let word = if matches!(kind, Some(Kind::Tcp(_))) { "open" } else { "answers" };
            words.push(if self.others.is_empty() {
                word.to_owned()
            } else {
                format!("{} {word}", self.answered)
            });
        }
        for ((outcome, detail), count) in &self.others {
            let word = match (Outcome::try_from(*outcome), kind) {
                (Ok(Outcome::ProbeRefused), Some(Kind::Tcp(_) | Kind::Udp(_))) => "closed",
                (Ok(Outcome::ProbeRefused), _) => "refused",
                (Ok(Outcome::ProbeUnreachable), _) => "unreachable",
                (Ok(Outcome::ProbeSilent), Some(Kind::Tcp(_))) => "filtered: no answer",
                (Ok(Outcome::ProbeSilent), Some(Kind::Udp(_))) => "open or filtered: no answer",
                (Ok(Outcome::ProbeSilent), _) => "no answer",
                (Ok(Outcome::ProbeNotSent), _) => "not sent",
                _ => "of a newer version",
            };
            let detail = if detail.is_empty() { String::new() } else { format!(": {detail}") };
            let is_all = self.others.len() == 1 && self.answered == 0;
            words.push(if is_all { format!("{word}{detail}") } else { format!("{count} {word}{detail}") });
        }
        words.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(attempts: &[(Outcome, Option<u64>, &str, &str)]) -> v1::ProbeResult {
        let attempt = |(outcome, delay_nanos, responder, detail): &(Outcome, Option<u64>, &str, &str)| {
            v1::ProbeAttempt {
                outcome: *outcome as i32,
                delay_nanos: *delay_nanos,
                responder: (*responder).to_owned(),
                detail: (*detail).to_owned(),
                ..Default::default()
            }
        };
        v1::ProbeResult { attempts: attempts.iter().map(attempt).collect(), ..Default::default() }
    }

    fn spec(kind: Kind) -> v1::ProbeSpec {
        v1::ProbeSpec { kind: Some(kind), ..Default::default() }
    }

    #[test]
    fn attempts_come_to_counts_delays_and_words() {
        let all = [(Outcome::ProbeAnswered, Some(300), "", ""), (Outcome::ProbeAnswered, Some(100), "", "")];
        let summary = Summary::of(&result(&all));
        assert_eq!((summary.sent, summary.answered, summary.lost()), (2, 2, "0 %".to_owned()));
        assert_eq!((summary.least(), summary.median(), summary.most()), (Some(100), Some(300), Some(300)));
        assert_eq!(summary.words(Some(&spec(Kind::Tcp(v1::TcpProbe {})))), "open");
        let some = [
            (Outcome::ProbeAnswered, Some(100), "", ""),
            (Outcome::ProbeSilent, None, "", ""),
            (Outcome::ProbeUnreachable, Some(9), "10.0.0.1", "host unreachable"),
            (Outcome::ProbeNotSent, None, "", "there is no route to it from here"),
        ];
        let summary = Summary::of(&result(&some));
        assert_eq!((summary.sent, summary.answered, summary.lost()), (3, 1, "66.7 %".to_owned()));
        assert_eq!(
            summary.words(Some(&spec(Kind::Icmp(v1::IcmpProbe::default())))),
            "1 answers; 1 unreachable: host unreachable says 10.0.0.1; 1 no answer; \
             1 not sent: there is no route to it from here"
        );
    }

    #[test]
    fn a_port_that_says_nothing_is_told_apart_by_kind() {
        let silent = Summary::of(&result(&[(Outcome::ProbeSilent, None, "", "")]));
        assert_eq!(silent.words(Some(&spec(Kind::Tcp(v1::TcpProbe {})))), "filtered: no answer");
        assert_eq!(
            silent.words(Some(&spec(Kind::Udp(v1::UdpProbe::default())))),
            "open or filtered: no answer"
        );
        let closed = Summary::of(&result(&[(Outcome::ProbeRefused, Some(5), "", "")]));
        assert_eq!(closed.words(Some(&spec(Kind::Tcp(v1::TcpProbe {})))), "closed");
        let none =
            Summary::of(&v1::ProbeResult { reason: "x does not resolve".into(), ..Default::default() });
        assert_eq!((none.lost(), none.words(None)), (String::new(), "x does not resolve".to_owned()));
    }
}
