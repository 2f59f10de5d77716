//! The coordinator and the nodes.

use jiff::{SignedDuration, Timestamp};
use lastseen_proto::limits::MISSED_NANOS;
use lastseen_proto::v1::fleet_service_client::FleetServiceClient;
use lastseen_proto::v1::{ListNodesRequest, Node, NodeState};
use lastseen_runtime::client::{self, ConnectError};
use lastseen_runtime::tls::Pki;

use super::check::Check;
use super::storage;
use crate::cli::Global;
use crate::output::units;
use crate::rpc;

/// Above this the order of events on two nodes blurs.
const LARGE_CLOCK_ERROR_NANOS: i64 = 5_000_000;
/// See [`MISSED_NANOS`].
const GONE: SignedDuration = SignedDuration::from_nanos(MISSED_NANOS);

pub(super) async fn examine(global: &Global, pki: &Pki) -> Vec<Check> {
    let (mut checks, mut answering) = (Vec::new(), None);
    for server in global.server.split(',') {
        match client::connect(server, pki).await {
            Ok(channel) => {
                checks.push(Check::pass("coordinator", format!("{server} answers over TLS 1.3")));
                answering.get_or_insert(channel);
            }
            Err(error) => checks.push(unreachable(&error)),
        }
    }
    let Some(channel) = answering else { return checks };
    match FleetServiceClient::new(channel.clone()).list_nodes(rpc::request(ListNodesRequest {})).await {
        Err(status) => checks.push(Check::fail(
            "access",
            client::explain_status(&status),
            "use a certificate that this coordinator's authority issued to an operator or viewer",
        )),
        Ok(answer) => {
            checks.push(Check::pass("access", "calls are accepted"));
            let answer = answer.into_inner();
            checks.extend(answer.notes.iter().map(|text| note("coordinator", text)));
            checks.extend(nodes(&answer.nodes, Timestamp::now()));
            checks.extend(storage::examine(channel).await);
        }
    }
    checks
}

/// Errors end with what to do where it is known.
fn unreachable(error: &ConnectError) -> Check {
    let text = error.to_string();
    let (found, next) = text.rsplit_once("; ").unwrap_or((
        &text,
        "check --server, that the coordinator runs, and the firewall between here and there",
    ));
    Check::fail("coordinator", found, next)
}

fn nodes(nodes: &[Node], now: Timestamp) -> Vec<Check> {
    if nodes.is_empty() {
        let next = "start node-agent on the nodes with --coordinator";
        return vec![Check::fail("nodes", "none has registered", next)];
    }
    nodes.iter().flat_map(|known| node(known, now)).collect()
}

/// One line for a node that is well, else one for each trouble.
fn node(node: &Node, now: Timestamp) -> Vec<Check> {
    let name = format!("node {}", node.name);
    if node.state != NodeState::Ready as i32 {
        let seen = units::second(node.last_seen_at.as_ref());
        let offline = format!("offline, last seen {seen}");
        if let [text, ..] = node.notes.as_slice() {
            let (found, next) = split(text);
            return vec![Check::warn(name, format!("{offline}: {found}"), next)];
        }
        return vec![if is_gone(node, now) {
            Check::warn(name, offline, "start its agent, unless it has left the fabric")
        } else {
            Check::fail(name, offline, "start its agent, or see its log for why it cannot connect")
        }];
    }
    let mut troubles: Vec<Check> =
        [capabilities(&name, node), clock(&name, node), version(&name, node)].into_iter().flatten().collect();
    troubles.extend(node.notes.iter().map(|text| note(&name, text)));
    if troubles.is_empty() {
        let clock = units::clock(node.clock_offset_nanos, node.clock_error_nanos);
        troubles.push(Check::pass(name, format!("ready, version {}, clock {clock}", node.agent_version)));
    }
    troubles
}

fn is_gone(node: &Node, now: Timestamp) -> bool {
    let seen = node.last_seen_at.and_then(|seen| Timestamp::new(seen.seconds, seen.nanos).ok());
    seen.is_some_and(|seen| now.duration_since(seen) > GONE)
}

fn capabilities(name: &str, node: &Node) -> Option<Check> {
    let missing: Vec<_> = node.capabilities.iter().filter(|capability| !capability.available).collect();
    if missing.is_empty() {
        return None;
    }
    let of = |field: fn(&lastseen_proto::v1::Capability) -> &str, separator: &str| {
        missing
            .iter()
            .map(|capability| field(capability))
            .filter(|text| !text.is_empty())
            .collect::<Vec<_>>()
            .join(separator)
    };
    let detail = format!("missing: {}", of(|capability| &capability.name, ", "));
    let reasons = of(|capability| &capability.reason, "; ");
    // Without capture the node is of no use; everything else has a fallback.
    let is_blind = missing.iter().any(|capability| capability.name == "capture");
    Some(if is_blind { Check::fail(name, detail, reasons) } else { Check::warn(name, detail, reasons) })
}

fn clock(name: &str, node: &Node) -> Option<Check> {
    match node.clock_error_nanos {
        None => Some(Check::warn(name, "clock not measured yet", "wait a few seconds and ask again")),
        Some(error) if error > LARGE_CLOCK_ERROR_NANOS => Some(Check::warn(
            name,
            format!("clock error ± {}", units::clock_error(error)),
            "the round trip to the coordinator is long; move the coordinator closer or take load off the link",
        )),
        Some(_) => None,
    }
}

fn note(name: &str, text: &str) -> Check {
    let (found, next) = split(text);
    Check::warn(name, found, next)
}

/// The coordinator ends a note with what to do.
fn split(text: &str) -> (&str, &str) {
    text.rsplit_once("; ").unwrap_or((text, "see the coordinator's log"))
}

fn version(name: &str, node: &Node) -> Option<Check> {
    let ours = env!("CARGO_PKG_VERSION");
    (node.agent_version != ours).then(|| {
        let detail = format!("agent is version {}, this ctl {ours}", node.agent_version);
        Check::warn(name, detail, "run neighbouring minor versions at most; update the older one")
    })
}

#[cfg(test)]
mod tests {
    use lastseen_proto::v1::Capability;

    use super::super::Status;
    use super::*;

    const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

    fn ready() -> Node {
        Node {
            name: "a".into(),
            state: NodeState::Ready as i32,
            agent_version: env!("CARGO_PKG_VERSION").into(),
            clock_offset_nanos: Some(1_000),
            clock_error_nanos: Some(200_000),
            ..Default::default()
        }
    }

    fn statuses(node: Node) -> Vec<Status> {
        nodes(&[node], NOW).into_iter().map(|check| check.status).collect()
    }

    #[test]
    fn a_node_without_trouble_passes() {
        assert_eq!(statuses(ready()), [Status::Pass]);
    }

    #[test]
    fn a_node_that_left_the_fabric_does_not_fail_for_ever() {
        let silent = |hours: i64| {
            let seconds = NOW.as_second() - hours * 3_600;
            let last_seen_at = Some(prost_types::Timestamp { seconds, nanos: 0 });
            statuses(Node { state: NodeState::Offline as i32, last_seen_at, ..ready() })
        };
        assert_eq!((silent(23), silent(25)), (vec![Status::Fail], vec![Status::Warn]));
    }

    #[test]
    fn each_trouble_is_told() {
        assert_eq!(statuses(Node { state: NodeState::Offline as i32, ..ready() }), [Status::Fail]);
        let slow = Node { clock_error_nanos: Some(5_000_001), agent_version: "9.9.9".into(), ..ready() };
        assert_eq!(statuses(slow), [Status::Warn, Status::Warn]);
        let lacks = |name: &str| Node {
            capabilities: vec![Capability {
                name: name.into(),
                available: false,
                reason: "needs CAP_NET_RAW".into(),
            }],
            ..ready()
        };
        assert_eq!(statuses(lacks("af_packet")), [Status::Warn]);
        assert_eq!(statuses(lacks("capture")), [Status::Fail]);
        assert_eq!(nodes(&[], NOW)[0].status, Status::Fail);
    }

    #[test]
    fn a_note_is_split_into_what_was_found_and_what_to_do() {
        let noted =
            Node { notes: vec!["two agents; of one certificate; give each its own".into()], ..ready() };
        let checks = nodes(&[noted], NOW);
        let [check] = checks.as_slice() else { panic!("{checks:?}") };
        assert_eq!((check.status, check.detail.as_str()), (Status::Warn, "two agents; of one certificate"));
        assert_eq!(check.next_step, "give each its own");
    }
}
