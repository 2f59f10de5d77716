//! What can be seen on a node alone.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lastseen_correlate::nodes_claiming;
use lastseen_correlate::topology::{InterfaceKind, Topology};
use lastseen_proto::v1::CheckItem;

use super::Judged;
use super::table::Rows;
use crate::analysis::read_topology;
use crate::fleet::NodeView;
use crate::probes::is_link_local;
use crate::probes::model::Source;

/// Share of the table of connections from which on it is full soon, percent.
const CONNECTIONS_PERCENT: u64 = 90;
/// Names that are shown of many.
const SHOWN: usize = 5;

/// What the tables of all nodes say of addresses.
#[derive(Default)]
pub(super) struct Fabric {
    names: Vec<String>,
    topologies: Vec<Topology>,
    nodes: BTreeMap<IpAddr, String>,
    /// What was looked for already: it takes a walk through all tables.
    behind: RefCell<BTreeMap<IpAddr, Option<usize>>>,
    /// By node: devices by which packets of pods come in.
    devices: BTreeMap<String, BTreeSet<String>>,
    with_v6: BTreeSet<String>,
}

impl Fabric {
    pub(super) fn of(nodes: &[NodeView]) -> Self {
        let mut fabric = Self::default();
        // An entry that failed of a node that is away tells nothing new.
        for node in nodes.iter().filter(|node| node.is_ready) {
            let Ok(topology) = read_topology(&node.record.topology) else { continue };
            for interface in &topology.interfaces {
                // Of other devices of a host nothing can be said: every kernel may have them.
                let is_of_pods = interface.overlay.is_some()
                    || matches!(interface.kind, InterfaceKind::Bridge | InterfaceKind::PodVeth);
                if is_of_pods && interface.netns.is_empty() {
                    let devices = fabric.devices.entry(node.record.name.clone()).or_default();
                    devices.insert(interface.name.clone());
                }
                for prefix in &interface.addresses {
                    let address = prefix.address;
                    let is_shared = address.is_loopback() || is_link_local(address);
                    if !is_shared {
                        fabric.nodes.insert(address, node.record.name.clone());
                    }
                    if address.is_ipv6() && !is_shared && is_of_pods {
                        fabric.with_v6.insert(node.record.name.clone());
                    }
                }
            }
            fabric.names.push(node.record.name.clone());
            fabric.topologies.push(topology);
        }
        fabric
    }

    /// The one node that tables lead to for an address, of a pod or its own.
    pub(super) fn behind(&self, address: IpAddr) -> Option<&str> {
        let look = || match nodes_claiming(&self.topologies, address)[..] {
            [node] => Some(node),
            _ => None,
        };
        self.node(address).or_else(|| {
            let found = *self.behind.borrow_mut().entry(address).or_insert_with(look);
            found.map(|node| self.names[node].as_str())
        })
    }

    /// Whose own an address is.
    pub(super) fn node(&self, address: IpAddr) -> Option<&str> {
        self.nodes.get(&address).map(String::as_str)
    }

    /// Whether packets of pods of a node may be of IPv6.
    fn has_v6(&self, node: &str) -> bool {
        self.with_v6.contains(node)
    }
}

/// Whether whoever matters has a link-layer address.
pub(super) fn neighbors(
    rows: &Rows<'_>,
    gateways: &BTreeSet<IpAddr>,
    source: &Source,
    fabric: &Fabric,
) -> Judged {
    const ITEM: CheckItem = CheckItem::CheckNeighbors;
    let (mut complete, mut missing, mut strangers) = (0_u64, Vec::new(), Vec::new());
    for [address, device, state] in rows.cells(["address", "device", "state"]) {
        if !matches!(state, "failed" | "incomplete") {
            complete += u64::from(!state.is_empty());
            continue;
        }
        let parsed: Option<IpAddr> = address.parse().ok();
        let holder = parsed.and_then(|address| fabric.node(address));
        let is_gateway = parsed.is_some_and(|address| gateways.contains(&address));
        match holder {
            Some(node) => missing.push((address, format!("{address} of {node} on {device} is {state}"))),
            None if is_gateway => {
                missing.push((address, format!("{address}, a gateway, on {device} is {state}")));
            }
            None => strangers.push(address.to_owned()),
        }
    }
    let others = match strangers.len() {
        0 => String::new(),
        count => format!("; {count} failed that no node has: {}", some(&strangers)),
    };
    if let Some((address, _)) = missing.first() {
        let words: Vec<String> = missing.iter().map(|(_, words)| words.clone()).collect();
        let next = format!("`ctl run-probe neighbor {address} --from {source}` asks the link");
        return Judged::fail(ITEM, some(&words), next);
    }
    if let Some(gap) = rows.gap() {
        return Judged::unknown(ITEM, gap, show(source, "neighbors --grep failed"));
    }
    Judged::pass(ITEM, format!("{complete} complete{others}"))
}

/// Whether the table of connections has room.
pub(super) fn connections(settings: &Rows<'_>, source: &Source) -> Judged {
    const ITEM: CheckItem = CheckItem::CheckConntrack;
    let number =
        |name: &str| settings.value(&format!("net.netfilter.nf_conntrack_{name}"))?.parse::<u64>().ok();
    match (number("count"), number("max")) {
        (Some(count), Some(most)) if most > 0 => {
            let percent = count.saturating_mul(100) / most;
            let words = format!("{count} of at most {most}, {percent} %");
            if percent < CONNECTIONS_PERCENT {
                return Judged::pass(ITEM, words);
            }
            let next = format!(
                "raise net.netfilter.nf_conntrack_max, or find who opens them: {}",
                show(source, "conntrack")
            );
            Judged::fail(ITEM, format!("the table is full soon: {words}"), next)
        }
        _ => match settings.gap() {
            Some(gap) => Judged::unknown(ITEM, gap, show(source, "settings --grep conntrack")),
            None => Judged::pass(ITEM, "connections are not tracked here"),
        },
    }
}

/// Whether packets of others are passed on: by the kernel as a whole, and from each device by which those of pods come in
/// (`IN_DEV_FORWARD`, net/ipv4/route.c).
pub(super) fn forwarding(settings: &Rows<'_>, source: &Source, fabric: &Fabric) -> Judged {
    const ITEM: CheckItem = CheckItem::CheckForwarding;
    const V4: &str = "net.ipv4.ip_forward";
    const V6: &str = "net.ipv6.conf.all.forwarding";
    let has_v6 = fabric.has_v6(&source.node);
    let wanted: &[&str] = if has_v6 { &[V4, V6] } else { &[V4] };
    if let Some(name) = wanted.iter().find(|name| settings.value(name).unwrap_or_default().is_empty()) {
        return Judged::unknown(ITEM, format!("{name} cannot be read"), show(source, "settings"));
    }
    let devices = fabric.devices.get(&source.node).into_iter().flatten();
    let own = devices.map(|device| format!("net.ipv4.conf.{}.forwarding", device.replace('.', "/")));
    let all = wanted.iter().map(ToString::to_string).chain(own);
    let off: Vec<String> = all.filter(|name| settings.value(name) == Some("0")).collect();
    if fabric.devices.get(&source.node).is_none_or(BTreeSet::is_empty) {
        return Judged::pass(ITEM, "no tunnel, bridge or pod is here whose packets would be passed on");
    }
    if off.is_empty() {
        return match settings.gap() {
            Some(gap) => Judged::unknown(ITEM, gap, show(source, "settings --grep forward")),
            None => Judged::pass(ITEM, if has_v6 { "of IPv4 and IPv6" } else { "of IPv4" }),
        };
    }
    let words: Vec<String> = off.iter().map(|name| format!("{name} is 0")).collect();
    let next: Vec<String> = off.iter().map(|name| format!("{name}=1")).collect();
    Judged::fail(
        ITEM,
        format!("packets of pods are not passed on: {}", some(&words)),
        format!("`sysctl -w {}` on the node, and keep it in /etc/sysctl.d", next.join(" ")),
    )
}

/// Whether a strict filter (RFC 3704 §2.2) drops what comes in. The kernel takes the higher of the two settings of an
/// interface and of all (`Documentation/networking/ip-sysctl.rst`, `rp_filter`).
pub(super) fn rp_filter(settings: &Rows<'_>, counters: [Option<&Rows<'_>>; 2], source: &Source) -> Judged {
    const ITEM: CheckItem = CheckItem::CheckRpFilter;
    const DROPPED: &str = "TcpExtIPReversePathFilter";
    let all = settings.value("net.ipv4.conf.all.rp_filter").and_then(|value| value.parse::<u8>().ok());
    let Some(all) = all else {
        return Judged::unknown(ITEM, "net.ipv4.conf.all.rp_filter cannot be read", show(source, "settings"));
    };
    let of_interface = |[name, value]: [&str; 2]| {
        let interface = name.strip_prefix("net.ipv4.conf.")?.strip_suffix(".rp_filter")?;
        let is_one = !matches!(interface, "all" | "default" | "lo");
        (is_one && value.parse::<u8>().ok()?.max(all) == 1).then(|| interface.replace('/', "."))
    };
    let strict: Vec<String> = settings.cells(["setting", "value"]).filter_map(of_interface).collect();
    if strict.is_empty() {
        return match settings.gap() {
            Some(gap) => Judged::unknown(ITEM, gap, show(source, "settings --grep rp_filter")),
            None => Judged::pass(ITEM, "none is strict"),
        };
    }
    let strict = some(&strict);
    let [before, after] = counters.map(|rows| rows.and_then(|rows| rows.value(DROPPED)?.parse::<u64>().ok()));
    let again =
        format!("{} again tells whether it grows", show(source, &format!("counters --grep {DROPPED}")));
    match (before, after) {
        (Some(before), Some(after)) if after > before => Judged::fail(
            ITEM,
            format!("strict on {strict}, and {} packets were dropped meanwhile", after - before),
            "let answers go the way that packets come, or set rp_filter=2 (loose) there",
        ),
        (_, Some(0)) => Judged::pass(ITEM, format!("strict on {strict}, and nothing was dropped")),
        (_, Some(dropped)) => Judged::unknown(
            ITEM,
            format!(
                "strict on {strict}, and {dropped} packets were dropped since the node started, none just now"
            ),
            again,
        ),
        (_, None) => {
            Judged::unknown(ITEM, format!("strict on {strict}; what it dropped is not known"), again)
        }
    }
}

/// How to see a table of a place.
pub(super) fn show(source: &Source, table: &str) -> String {
    let netns = if source.netns.is_empty() { String::new() } else { format!(" --netns {}", source.netns) };
    format!("`ctl show-node {} --{table}{netns}`", source.node)
}

/// The first few.
fn some(all: &[String]) -> String {
    let shown = all.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match all.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use lastseen_proto::v1;
    use lastseen_proto::v1::check_result::Verdict;

    use super::*;
    use crate::fleet::fixtures::{node, node_at};

    fn table(columns: &[&str], rows: &[&[&str]]) -> v1::TableFinding {
        let owned = |cells: &[&str]| cells.iter().map(ToString::to_string).collect::<Vec<_>>();
        v1::TableFinding {
            columns: owned(columns),
            rows: rows.iter().map(|cells| v1::TableRow { cells: owned(cells) }).collect(),
            rows_total: rows.len() as u64,
            ..v1::TableFinding::default()
        }
    }

    fn settings(rows: &[&[&str]]) -> v1::TableFinding {
        table(&["setting", "value"], rows)
    }

    fn source() -> Source {
        Source { node: "a".into(), netns: String::new() }
    }

    #[test]
    fn a_neighbour_matters_that_a_node_or_a_gateway_is() {
        let fabric = Fabric::of(&[node_at("a", "10.0.0.1"), node_at("b", "10.0.0.2"), node("c", true)]);
        let gateways = BTreeSet::from(["10.0.255.254".parse().unwrap()]);
        let judged = |rows: &[&[&str]]| {
            let table = table(&["address", "link_address", "device", "state"], rows);
            let judged = neighbors(&Rows::from(&table), &gateways, &source(), &fabric);
            (judged.verdict, judged.reason)
        };
        let well: &[&str] = &["10.0.0.2", "02::1", "eth0", "reachable"];
        let stranger: &[&str] = &["10.0.9.9", "", "eth0", "failed"];
        assert_eq!(judged(&[well]), (Verdict::Pass, "1 complete".into()));
        assert_eq!(
            judged(&[well, stranger]),
            (Verdict::Pass, "1 complete; 1 failed that no node has: 10.0.9.9".into())
        );
        for (address, words) in [
            ("10.0.0.2", "10.0.0.2 of b on eth0 is incomplete"),
            ("10.0.255.254", "10.0.255.254, a gateway, on eth0 is incomplete"),
        ] {
            let broken = judged(&[well, stranger, &[address, "", "eth0", "incomplete"]]);
            assert_eq!(broken, (Verdict::Fail, words.to_owned()));
        }
        let mut cut = table(&["address", "device", "state"], &[&["10.0.0.2", "eth0", "stale"]]);
        cut.rows_total = 2;
        assert_eq!(neighbors(&Rows::from(&cut), &gateways, &source(), &fabric).verdict, Verdict::Unknown);
    }

    #[test]
    fn connections_have_room_or_do_not() {
        let judged = |count: &str, most: &str| {
            let table = settings(&[
                &["net.netfilter.nf_conntrack_count", count],
                &["net.netfilter.nf_conntrack_max", most],
            ]);
            let judged = connections(&Rows::from(&table), &source());
            (judged.verdict, judged.reason)
        };
        assert_eq!(judged("899", "1000"), (Verdict::Pass, "899 of at most 1000, 89 %".into()));
        assert_eq!(judged("900", "1000").0, Verdict::Fail);
        assert_eq!(judged("", ""), (Verdict::Pass, "connections are not tracked here".into()));
        let mut hidden = settings(&[]);
        hidden.notes.push("2 settings may not be read".into());
        assert_eq!(connections(&Rows::from(&hidden), &source()).verdict, Verdict::Unknown);
    }

    #[test]
    fn forwarding_of_what_pods_have_is_needed() {
        let judged = |v4: &str, v6: &str, device: &str, has_v6: bool| {
            let table = settings(&[
                &["net.ipv4.ip_forward", v4],
                &["net.ipv6.conf.all.forwarding", v6],
                &["net.ipv4.conf.eth0.forwarding", "0"],
                &["net.ipv4.conf.flannel/1.forwarding", device],
            ]);
            let with_v6 = has_v6.then(|| "a".to_owned()).into_iter().collect();
            let devices = BTreeMap::from([("a".to_owned(), BTreeSet::from(["flannel.1".to_owned()]))]);
            let fabric = Fabric { devices, with_v6, ..Fabric::default() };
            forwarding(&Rows::from(&table), &source(), &fabric)
        };
        assert_eq!(judged("1", "0", "1", false).verdict, Verdict::Pass);
        assert_eq!(judged("", "0", "1", false).verdict, Verdict::Unknown);
        let off = judged("1", "0", "1", true);
        assert_eq!(
            (off.verdict, off.next_step.contains("net.ipv6.conf.all.forwarding=1")),
            (Verdict::Fail, true)
        );
        assert_eq!(judged("0", "0", "0", true).reason.matches(" is 0").count(), 3);
        let device = judged("1", "1", "0", true).reason;
        assert_eq!(device, "packets of pods are not passed on: net.ipv4.conf.flannel/1.forwarding is 0");
    }

    #[test]
    fn a_strict_filter_is_a_fault_where_it_drops() {
        let judged = |all: &str, own: &str, dropped: [Option<&str>; 2]| {
            let table = settings(&[
                &["net.ipv4.conf.all.rp_filter", all],
                &["net.ipv4.conf.default.rp_filter", "1"],
                &["net.ipv4.conf.lo.rp_filter", "1"],
                &["net.ipv4.conf.eth0/100.rp_filter", own],
            ]);
            let counters = dropped.map(|dropped| dropped.map(counters_of));
            let rows = counters.each_ref().map(|table| table.as_ref().map(Rows::from));
            let [before, after] = &rows;
            let judged = rp_filter(&Rows::from(&table), [before.as_ref(), after.as_ref()], &source());
            (judged.verdict, judged.reason)
        };
        let (none, some) = ([None, None], [Some("5"), Some("6")]);
        assert_eq!(judged("0", "0", none), (Verdict::Pass, "none is strict".into()));
        assert_eq!(judged("0", "2", some).0, Verdict::Pass);
        assert_eq!(judged("2", "1", some).0, Verdict::Pass, "the higher one counts");
        assert_eq!(judged("0", "1", [None, Some("0")]).1, "strict on eth0.100, and nothing was dropped");
        let grows = judged("1", "0", some);
        assert_eq!(grows, (Verdict::Fail, "strict on eth0.100, and 1 packets were dropped meanwhile".into()));
        assert_eq!(judged("1", "0", [Some("5"), Some("5")]).0, Verdict::Unknown, "that was before");
        assert_eq!(judged("1", "0", none).0, Verdict::Unknown);
        assert_eq!(judged("", "1", some).0, Verdict::Unknown);
    }

    fn counters_of(dropped: &str) -> v1::TableFinding {
        table(&["counter", "value"], &[&["TcpExtIPReversePathFilter", dropped]])
    }
}
