//! What one result comes to, in words that fit the kind.

use crate::v1;
use crate::v1::ProbeOutcome as Outcome;
use crate::v1::probe_result::Finding;
use crate::v1::probe_spec::Kind;

use super::summary::Summary;

/// `open`; `4 answers; 1 no answer`; `1,450, says 10.0.0.1`.
pub fn of(spec: Option<&v1::ProbeSpec>, result: &v1::ProbeResult, summary: &Summary) -> String {
    if !result.reason.is_empty() {
        return result.reason.clone();
    }
    let kind = spec.and_then(|spec| spec.kind.as_ref());
    if let (Some(Kind::PathMtu(_)), Some(Finding::PathMtu(path))) = (kind, &result.finding) {
        return path_mtu(path);
    }
    let mut words = Vec::new();
    let answers = answers(kind, result, summary);
    let is_alone = summary.kinds() == 1;
    for ((outcome, detail), count) in summary.outcomes() {
        let outcome = Outcome::try_from(*outcome).unwrap_or_default();
        let word = match (outcome, kind) {
            (Outcome::ProbeAnswered, _) => answers.as_str(),
            (Outcome::ProbeRefused, Some(Kind::Tcp(_) | Kind::Udp(_))) => "closed",
            (Outcome::ProbeRefused, _) => "refused",
            (Outcome::ProbeUnreachable, _) => "unreachable",
            (Outcome::ProbeSilent, Some(Kind::Tcp(_))) => "filtered: no answer",
            (Outcome::ProbeSilent, Some(Kind::Udp(_))) => "open or filtered: no answer",
            (Outcome::ProbeSilent, Some(Kind::Neighbor(_))) if is_own(result) => "nobody else has it",
            (Outcome::ProbeSilent, Some(Kind::Neighbor(_))) => "nobody has it",
            (Outcome::ProbeSilent, _) => "no answer",
            (Outcome::ProbeNotSent, _) => "not sent",
            (Outcome::ProbeExpired, _) => "out of hops",
            (Outcome::Unspecified, _) => "of a newer version",
        };
        let detail = if detail.is_empty() { String::new() } else { format!(": {detail}") };
        words.push(if is_alone { format!("{word}{detail}") } else { format!("{count} {word}{detail}") });
    }
    words.extend(beyond(kind, result));
    words.join("; ")
}

/// Those that are well.
fn answers(kind: Option<&Kind>, result: &v1::ProbeResult, summary: &Summary) -> String {
    match (kind, &result.finding) {
        (Some(Kind::Tcp(_)), _) => "open".to_owned(),
        (Some(Kind::Dns(_)), Some(Finding::Dns(dns))) if summary.answered > 0 => {
            let transport = if dns.tcp { " over TCP" } else { "" };
            format!("{} {}{transport}", dns.name, dns.records.join(", "))
        }
        (Some(Kind::Neighbor(_)), Some(Finding::Neighbor(neighbor))) => on_link(neighbor),
        (Some(Kind::Table(_)), Some(Finding::Table(table))) => {
            format!("{} rows", table.rows_total)
        }
        _ => "answers".to_owned(),
    }
}

/// Who has the address.
fn on_link(neighbor: &v1::NeighborFinding) -> String {
    match &neighbor.link_addresses[..] {
        others if neighbor.is_own => format!("DUPLICATE ADDRESS: {} has it too", others.join(" and ")),
        [one] => one.clone(),
        several => {
            format!("DUPLICATE ADDRESS, or a host with two interfaces there: {}", several.join(" and "))
        }
    }
}

/// What no attempt shows by itself.
fn beyond(kind: Option<&Kind>, result: &v1::ProbeResult) -> Option<String> {
    match (kind, result.finding.as_ref()?) {
        (Some(Kind::Http(_)), Finding::Http(page)) => {
            let certificate = page.certificate.as_ref()?;
            let until = certificate.not_after.as_ref().map_or_else(String::new, ToString::to_string);
            let names = if certificate.subject.is_empty() {
                certificate.names.join(", ")
            } else {
                certificate.subject.clone()
            };
            Some(format!("{} certificate of {names} until {until}", page.tls_version))
        }
        (Some(Kind::Neighbor(_)), Finding::Neighbor(neighbor)) => believed(neighbor),
        (Some(Kind::Gateway(_)), Finding::Neighbor(neighbor)) => Some(match &neighbor.link_addresses[..] {
            [] => format!("nobody on {} has it{}", neighbor.interface, kernel(neighbor)),
            _ => format!("{} on {}", on_link(neighbor), neighbor.interface),
        }),
        _ => None,
    }
}

fn is_own(result: &v1::ProbeResult) -> bool {
    matches!(&result.finding, Some(Finding::Neighbor(neighbor)) if neighbor.is_own)
}

fn believed(neighbor: &v1::NeighborFinding) -> Option<String> {
    if neighbor.is_own {
        return None;
    }
    let v1::NeighborFinding { kernel_state, kernel_link_address, link_addresses, .. } = neighbor;
    let is_other = !kernel_link_address.is_empty()
        && !link_addresses.is_empty()
        && !link_addresses.contains(kernel_link_address);
    if is_other {
        return Some(format!("the node still sends to {kernel_link_address} ({kernel_state})"));
    }
    matches!(kernel_state.as_str(), "failed" | "incomplete")
        .then(|| format!("the node's entry: {kernel_state}"))
}

fn kernel(neighbor: &v1::NeighborFinding) -> String {
    if neighbor.kernel_state.is_empty() {
        String::new()
    } else {
        format!(" (the node's entry: {})", neighbor.kernel_state)
    }
}

fn path_mtu(path: &v1::PathMtuFinding) -> String {
    let who = if path.limited_by.is_empty() { "the node itself" } else { &path.limited_by };
    match path.method() {
        _ if path.mtu == 0 => "nothing comes through, not even the smallest".to_owned(),
        v1::PathMtuMethod::PathMtuInterface => "as large as the interface takes".to_owned(),
        v1::PathMtuMethod::PathMtuAsked => "as large as was asked for; the interface takes more".to_owned(),
        v1::PathMtuMethod::PathMtuIcmp => format!("larger ones are refused by {who}"),
        v1::PathMtuMethod::PathMtuProbing => {
            "BLACK HOLE: larger ones vanish without a word; lower the MTU of the interface, or let ICMP \
             fragmentation needed through"
                .to_owned()
        }
        v1::PathMtuMethod::Unspecified => "of a newer version".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(attempts: &[(Outcome, &str, &str)], finding: Option<Finding>) -> v1::ProbeResult {
        let attempt = |(outcome, responder, detail): &(Outcome, &str, &str)| v1::ProbeAttempt {
            outcome: *outcome as i32,
            responder: (*responder).to_owned(),
            detail: (*detail).to_owned(),
            ..Default::default()
        };
        v1::ProbeResult { attempts: attempts.iter().map(attempt).collect(), finding, ..Default::default() }
    }

    fn words(kind: Kind, result: &v1::ProbeResult) -> String {
        let spec = v1::ProbeSpec { kind: Some(kind), ..Default::default() };
        of(Some(&spec), result, &Summary::of(result))
    }

    const WELL: (Outcome, &str, &str) = (Outcome::ProbeAnswered, "", "");

    #[test]
    fn a_port_that_says_nothing_is_told_apart_by_kind() {
        let tcp = || Kind::Tcp(v1::TcpProbe {});
        assert_eq!(words(tcp(), &result(&[WELL, WELL], None)), "open");
        let silent = result(&[(Outcome::ProbeSilent, "", "")], None);
        assert_eq!(words(tcp(), &silent), "filtered: no answer");
        assert_eq!(words(Kind::Udp(v1::UdpProbe::default()), &silent), "open or filtered: no answer");
        let none = v1::ProbeResult { reason: "x does not resolve".into(), ..Default::default() };
        assert_eq!(words(tcp(), &none), "x does not resolve");
        let some = [
            WELL,
            (Outcome::ProbeSilent, "", ""),
            (Outcome::ProbeUnreachable, "10.0.0.1", "host unreachable"),
            (Outcome::ProbeNotSent, "", "there is no route to it from here"),
        ];
        assert_eq!(
            words(Kind::Icmp(v1::IcmpProbe::default()), &result(&some, None)),
            "1 answers; 1 unreachable: host unreachable says 10.0.0.1; 1 no answer; \
             1 not sent: there is no route to it from here"
        );
    }

    #[test]
    fn a_finding_says_what_attempts_do_not() {
        let dns = v1::DnsFinding {
            name: "web.default.svc.".into(),
            records: vec!["10.0.0.1".into(), "10.0.0.2".into()],
            tcp: true,
            ..Default::default()
        };
        let of_dns = || Kind::Dns(v1::DnsProbe::default());
        assert_eq!(
            words(of_dns(), &result(&[WELL], Some(Finding::Dns(dns.clone())))),
            "web.default.svc. 10.0.0.1, 10.0.0.2 over TCP"
        );
        let missing = [(Outcome::ProbeRefused, "", "there is no such name (NXDOMAIN)")];
        assert_eq!(
            words(of_dns(), &result(&missing, Some(Finding::Dns(dns)))),
            "refused: there is no such name (NXDOMAIN)"
        );
        let page = v1::HttpFinding {
            status: 503,
            tls_version: "TLSv1_3".into(),
            certificate: Some(v1::ProbeCertificate { subject: "CN=web".into(), ..Default::default() }),
            ..Default::default()
        };
        let unavailable = (Outcome::ProbeAnswered, "", "503 Service Unavailable");
        let shown =
            words(Kind::Http(v1::HttpProbe::default()), &result(&[unavailable], Some(Finding::Http(page))));
        assert!(
            shown.starts_with("answers: 503 Service Unavailable; TLSv1_3 certificate of CN=web"),
            "{shown}"
        );
        let neighbor = |link_addresses: &[&str], kernel_state: &str| {
            let link_addresses = link_addresses.iter().map(ToString::to_string).collect();
            let (interface, kernel_state) = ("eth0".into(), kernel_state.into());
            let kernel_link_address = "02::1".into();
            Finding::Neighbor(v1::NeighborFinding {
                interface,
                kernel_state,
                kernel_link_address,
                link_addresses,
                is_own: false,
            })
        };
        let on_link = |attempt, finding| {
            words(Kind::Neighbor(v1::NeighborProbe {}), &result(&[attempt], Some(finding)))
        };
        let nobody = (Outcome::ProbeSilent, "", "");
        assert_eq!(on_link(WELL, neighbor(&["02::1"], "reachable")), "02::1");
        assert_eq!(
            on_link(WELL, neighbor(&["02::2"], "stale")),
            "02::2; the node still sends to 02::1 (stale)"
        );
        assert_eq!(
            on_link(WELL, neighbor(&["02::1", "02::2"], "")),
            "DUPLICATE ADDRESS, or a host with two interfaces there: 02::1 and 02::2"
        );
        let own = |link_addresses: &[&str]| match neighbor(link_addresses, "") {
            Finding::Neighbor(found) => Finding::Neighbor(v1::NeighborFinding { is_own: true, ..found }),
            other => other,
        };
        assert_eq!(on_link(nobody, own(&[])), "nobody else has it");
        assert!(on_link(WELL, own(&["02::2"])).starts_with("DUPLICATE ADDRESS: 02::2 has it too"));
        assert_eq!(on_link(nobody, neighbor(&[], "failed")), "nobody has it; the node's entry: failed");
        let gateway =
            |attempt, finding| words(Kind::Gateway(v1::GatewayProbe {}), &result(&[attempt], Some(finding)));
        assert_eq!(gateway(WELL, neighbor(&["02::1"], "")), "answers; 02::1 on eth0");
        assert_eq!(
            gateway(nobody, neighbor(&[], "failed")),
            "no answer; nobody on eth0 has it (the node's entry: failed)"
        );
    }

    #[test]
    fn a_path_mtu_says_how_it_was_found() {
        let path = |mtu, method: v1::PathMtuMethod, limited_by: &str| {
            let (method, limited_by) = (method.into(), limited_by.into());
            let finding =
                Finding::PathMtu(v1::PathMtuFinding { mtu, method, limited_by, interface_mtu: 1500 });
            words(Kind::PathMtu(v1::PathMtuProbe::default()), &result(&[WELL], Some(finding)))
        };
        assert_eq!(path(1500, v1::PathMtuMethod::PathMtuInterface, ""), "as large as the interface takes");
        assert_eq!(
            path(1450, v1::PathMtuMethod::PathMtuIcmp, "10.0.0.1"),
            "larger ones are refused by 10.0.0.1"
        );
        assert!(path(1400, v1::PathMtuMethod::PathMtuProbing, "").starts_with("BLACK HOLE"));
        assert!(path(0, v1::PathMtuMethod::PathMtuProbing, "").starts_with("nothing comes through"));
    }
}
