//! What answers and what does not.

use std::net::SocketAddr;

use lastseen_proto::probed::{Summary, words};
use lastseen_proto::v1;
use lastseen_proto::v1::CheckItem;
use lastseen_proto::v1::probe_result::Finding;

use super::Judged;
use super::node::show;
use crate::probes::model::{Source, Spec};
use crate::wire::probe::kind_message;

/// One result of a probe.
pub(super) fn judge(item: CheckItem, spec: &Spec, result: &v1::ProbeResult, source: &Source) -> Judged {
    let summary = Summary::of(result);
    let kind = v1::ProbeSpec { kind: Some(kind_message(&spec.kind)), ..Default::default() };
    let said = words(Some(&kind), result, &summary);
    let target = result.target.as_str();
    let judged = match item {
        // Nothing went out: whether it would have come through is not known.
        _ if !result.reason.is_empty() => Judged::unknown(item, &result.reason, ""),
        CheckItem::CheckGateway => gateway(result, &summary, said, source),
        CheckItem::CheckDns => dns(result, &summary, &said, source),
        CheckItem::CheckEndpoint | CheckItem::CheckApiServer => page(item, result, &summary, said, source),
        CheckItem::CheckPathMtu | CheckItem::CheckOverlayMtu => path_mtu(item, result, &said, source),
        _ if summary.sent > 0 && summary.answered == summary.sent => {
            Judged::pass(item, answered(&summary, &said))
        }
        _ => {
            let port = match target.rsplit_once(':').filter(|_| item == CheckItem::CheckTcp) {
                Some((host, port)) => format!("{} --tcp {port}", host.trim_matches(['[', ']'])),
                None => target.to_owned(),
            };
            Judged::fail(item, said, format!("`ctl trace-path {source} {port}` shows where"))
        }
    };
    judged.at(target)
}

fn answered(summary: &Summary, said: &str) -> String {
    match summary.median() {
        Some(nanos) => format!("{said} in {:.3} ms", nanos as f64 / 1e6),
        None => said.to_owned(),
    }
}

/// One that answers no echo and is there all the same is as well: many do.
fn gateway(result: &v1::ProbeResult, summary: &Summary, said: String, source: &Source) -> Judged {
    let item = CheckItem::CheckGateway;
    let is_there =
        matches!(&result.finding, Some(Finding::Neighbor(found)) if !found.link_addresses.is_empty());
    if summary.answered > 0 || is_there {
        return Judged::pass(item, said);
    }
    let next = format!("look at the link: {}, then cable, VLAN and gateway", show(source, "interfaces"));
    Judged::fail(item, said, next)
}

/// By one name server.
fn dns(result: &v1::ProbeResult, summary: &Summary, said: &str, source: &Source) -> Judged {
    let item = CheckItem::CheckDns;
    // What the agent says of itself does not go into a command unseen.
    let server = result.server.parse::<SocketAddr>().map_or_else(|_| String::new(), |at| at.to_string());
    let by = format!("{server}: {said}");
    match &result.finding {
        Some(Finding::Dns(found)) if !found.records.is_empty() && summary.answered == summary.sent => {
            Judged::pass(item, by)
        }
        _ => {
            let next = format!(
                "look at name server {}; `ctl run-probe dns {} --from {source} --nameserver OTHER` asks another",
                server, result.target
            );
            Judged::fail(item, by, next)
        }
    }
}

/// Of an API server every answer is one: who asks has no account there.
fn page(
    item: CheckItem,
    result: &v1::ProbeResult,
    summary: &Summary,
    said: String,
    source: &Source,
) -> Judged {
    let found = match &result.finding {
        Some(Finding::Http(found)) if found.status > 0 && summary.answered == summary.sent => found,
        _ => {
            let next = format!("`ctl run-probe http {} --from {source}` shows each step", result.target);
            return Judged::fail(item, said, next);
        }
    };
    let fault = found.certificate.as_ref().map(|certificate| certificate.fault.as_str()).unwrap_or_default();
    if !fault.is_empty() {
        let next = "renew the certificate, or give with --ca whom to trust";
        return Judged::fail(item, format!("certificate: {fault}"), next);
    }
    let is_well = match item {
        CheckItem::CheckApiServer => found.status < 500,
        _ => found.status < 400,
    };
    if is_well {
        return Judged::pass(item, said);
    }
    Judged::fail(item, said, format!("look at the log of {}", result.target))
}

/// As large as the interface takes, or a router says how large.
fn path_mtu(item: CheckItem, result: &v1::ProbeResult, said: &str, source: &Source) -> Judged {
    let sweep = format!("`ctl trace-path {source} {} --size sweep` shows where they vanish", result.target);
    match &result.finding {
        Some(Finding::PathMtu(found)) if found.mtu == 0 => unanswered(item),
        Some(Finding::PathMtu(found)) => {
            let v1::PathMtuFinding { mtu, interface_mtu, .. } = found;
            let words = format!("{mtu} of {interface_mtu} bytes: {said}");
            match found.method() {
                v1::PathMtuMethod::PathMtuProbing => Judged::fail(item, words, sweep),
                _ => Judged::pass(item, words),
            }
        }
        _ => unanswered(item),
    }
}

/// Where echoes come back or not is another item.
fn unanswered(item: CheckItem) -> Judged {
    Judged::unknown(item, "no echo is answered, so that no size can be tried", "")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use lastseen_proto::v1::ProbeOutcome as Outcome;
    use lastseen_proto::v1::check_result::Verdict;

    use super::*;
    use crate::probes::model::{Family, Kind};

    fn spec(kind: Kind) -> Spec {
        Spec {
            name: String::new(),
            labels: BTreeMap::new(),
            all_nodes: false,
            targets: Vec::new(),
            kind,
            count: 1,
            interval_nanos: 1,
            timeout_nanos: 1,
            family: Family::Any,
            every_nanos: None,
            mesh: None,
        }
    }

    fn result(outcomes: &[Outcome], finding: Option<Finding>) -> v1::ProbeResult {
        let attempt = |outcome: &Outcome| v1::ProbeAttempt {
            outcome: (*outcome).into(),
            delay_nanos: (*outcome == Outcome::ProbeAnswered).then_some(1_500_000),
            ..v1::ProbeAttempt::default()
        };
        let attempts = outcomes.iter().map(attempt).collect();
        v1::ProbeResult { target: "[fd00::1]:80".into(), attempts, finding, ..v1::ProbeResult::default() }
    }

    fn judged(item: CheckItem, kind: Kind, result: &v1::ProbeResult) -> Judged {
        let source = Source { node: "a".into(), netns: "blue".into() };
        judge(item, &spec(kind), result, &source)
    }

    use Outcome::{ProbeAnswered as Answered, ProbeRefused as Refused, ProbeSilent as Silent};

    #[test]
    fn a_target_is_well_if_it_answers_every_time() {
        let tcp = |outcomes: &[Outcome]| judged(CheckItem::CheckTcp, Kind::Tcp, &result(outcomes, None));
        let well = tcp(&[Answered, Answered]);
        assert_eq!((well.verdict, well.reason.as_str()), (Verdict::Pass, "open in 1.500 ms"));
        let some = tcp(&[Answered, Silent]);
        assert_eq!((some.verdict, some.reason.as_str()), (Verdict::Fail, "1 open; 1 filtered: no answer"));
        assert_eq!(some.next_step, "`ctl trace-path a:blue fd00::1 --tcp 80` shows where");
        assert_eq!(tcp(&[Refused]).reason, "closed");
        let nothing = v1::ProbeResult { reason: "not allowed".into(), ..result(&[], None) };
        assert_eq!(judged(CheckItem::CheckTcp, Kind::Tcp, &nothing).verdict, Verdict::Unknown);
    }

    #[test]
    fn a_gateway_is_well_if_anybody_is_there() {
        let gateway = |outcomes: &[Outcome], link: &[&str]| {
            let link_addresses = link.iter().map(ToString::to_string).collect();
            let found = v1::NeighborFinding { link_addresses, ..v1::NeighborFinding::default() };
            let result = result(outcomes, Some(Finding::Neighbor(found)));
            judged(CheckItem::CheckGateway, Kind::Gateway, &result).verdict
        };
        assert_eq!(gateway(&[Silent], &["02::1"]), Verdict::Pass);
        assert_eq!(gateway(&[Answered], &[]), Verdict::Pass);
        assert_eq!(gateway(&[Silent], &[]), Verdict::Fail);
    }

    #[test]
    fn a_page_is_well_by_its_status_and_certificate() {
        let page = |item, status, fault: &str| {
            let certificate = v1::ProbeCertificate { fault: fault.into(), ..v1::ProbeCertificate::default() };
            let found =
                v1::HttpFinding { status, certificate: Some(certificate), ..v1::HttpFinding::default() };
            let result = result(&[Answered], Some(Finding::Http(found)));
            judged(item, Kind::Http { ca_pem: String::new() }, &result).verdict
        };
        let (endpoint, api) = (CheckItem::CheckEndpoint, CheckItem::CheckApiServer);
        assert_eq!((page(endpoint, 302, ""), page(api, 302, "")), (Verdict::Pass, Verdict::Pass));
        assert_eq!((page(endpoint, 403, ""), page(api, 403, "")), (Verdict::Fail, Verdict::Pass));
        assert_eq!((page(endpoint, 500, ""), page(api, 500, "")), (Verdict::Fail, Verdict::Fail));
        assert_eq!(
            (page(endpoint, 200, "expired"), page(api, 200, "expired")),
            (Verdict::Fail, Verdict::Fail)
        );
        assert_eq!(page(endpoint, 0, ""), Verdict::Fail);
    }

    #[test]
    fn a_name_is_well_if_it_has_addresses() {
        let dns = |records: &[&str]| {
            let records = records.iter().map(ToString::to_string).collect();
            let found = v1::DnsFinding { records, ..v1::DnsFinding::default() };
            let kind = Kind::Dns {
                servers: Vec::new(),
                record: crate::probes::model::Record::A,
                search: Vec::new(),
                tcp: false,
            };
            judged(CheckItem::CheckDns, kind, &result(&[Answered], Some(Finding::Dns(found)))).verdict
        };
        assert_eq!((dns(&["10.0.0.1"]), dns(&[])), (Verdict::Pass, Verdict::Fail));
    }

    #[test]
    fn a_path_mtu_is_well_unless_larger_packets_vanish() {
        let mtu = |mtu, method: v1::PathMtuMethod| {
            let found =
                v1::PathMtuFinding { mtu, method: method.into(), interface_mtu: 1500, ..Default::default() };
            let result = result(&[Answered], Some(Finding::PathMtu(found)));
            judged(CheckItem::CheckPathMtu, Kind::PathMtu { max_size: None }, &result)
        };
        assert_eq!(mtu(1500, v1::PathMtuMethod::PathMtuInterface).verdict, Verdict::Pass);
        assert_eq!(mtu(1400, v1::PathMtuMethod::PathMtuIcmp).verdict, Verdict::Pass);
        let hole = mtu(1400, v1::PathMtuMethod::PathMtuProbing);
        assert_eq!(hole.verdict, Verdict::Fail);
        assert!(hole.reason.starts_with("1400 of 1500 bytes: BLACK HOLE"), "{}", hole.reason);
        assert_eq!(mtu(0, v1::PathMtuMethod::PathMtuProbing).verdict, Verdict::Unknown);
        let silent =
            judged(CheckItem::CheckPathMtu, Kind::PathMtu { max_size: None }, &result(&[Silent], None));
        assert_eq!(silent.verdict, Verdict::Unknown);
    }
}
