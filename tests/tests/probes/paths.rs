//! What probes say of a path: how large a packet it takes, who is on it, who is on its links.

use lastseen_tests::fault::{Cast, Fault};
use lastseen_tests::lab::Lab;
use lastseen_tests::lab::node::Node;
use lastseen_tests::lab::plan::Family;
use lastseen_tests::product::fleet::Fleet;
use serde_json::Value;

use super::{SEED, all, answer, found, only_result, reply};

/// Bytes of the overlay's packets.
const OVERLAY: u64 = 1_450;
/// Of what a broken underlay carries of them: a veth of 1,400 lets a VLAN tag's four bytes more pass
/// (`is_skb_forwardable`, include/linux/netdevice.h), of which the tunnel takes 50.
const BROKEN: u64 = 1_354;

/// MTU, how it was found, and who limits it.
fn path_mtu(fleet: &Fleet<'_>, arguments: &[&str]) -> (u64, String, String) {
    let result = only_result(fleet, &[&["mtu"], arguments].concat());
    let path = &result["pathMtu"];
    let text = |key: &str| path[key].as_str().unwrap_or_default().to_owned();
    assert!(path.is_object(), "{result}");
    (path["mtu"].as_u64().unwrap_or_default(), text("method"), text("limitedBy"))
}

#[test]
fn a_path_mtu_is_found_with_who_limits_it_and_where_nobody_says_so() {
    let lab = Lab::build(SEED + 10).expect("lab");
    let fleet = Fleet::start(&lab).expect("fleet");
    let (from, to) = (&lab.nodes[0], &lab.nodes[1]);
    let source = from.pod_source();
    let quick = ["--from", &source, "--timeout", "200ms"];
    let look = |family: Family| {
        let address = to.plan.pod_in(family).to_string();
        path_mtu(&fleet, &[&[address.as_str()][..], &quick].concat())
    };
    let own = |mtu: u64| (mtu, "PATH_MTU_INTERFACE".to_owned(), String::new());
    assert_eq!((look(Family::V4), look(Family::V6)), (own(OVERLAY), own(OVERLAY)));

    let black_hole = Fault::MtuBlackHole.inject(Cast::first(&lab)).expect("fault");
    let vanished = (BROKEN, "PATH_MTU_PROBING".to_owned(), String::new());
    assert_eq!((look(Family::V4), look(Family::V6)), (vanished.clone(), vanished), "the wire says nothing");
    black_hole.undo().unwrap();

    from.netns.ip(&format!("link set {} mtu 1500\nlink set cni0 mtu 1500\n", from.plan.veth)).unwrap();
    from.pod.ip("link set eth0 mtu 1500\n").unwrap();
    let said = |by: String| (OVERLAY, "PATH_MTU_ICMP".to_owned(), by);
    assert_eq!(look(Family::V4), said(from.plan.gateway().to_string()));
    assert_eq!(look(Family::V6), said(from.plan.gateway6().to_string()));
    let silence = "table inet probes {\nchain out {\ntype filter hook output priority 0\n\
                   icmp type destination-unreachable drop\nicmpv6 type packet-too-big drop\n}\n}\n";
    from.netns.nft(silence).unwrap();
    let by_sizes = (OVERLAY, "PATH_MTU_PROBING".to_owned(), String::new());
    assert_eq!((look(Family::V4), look(Family::V6)), (by_sizes.clone(), by_sizes), "ICMP is filtered");
    from.netns.nft("delete table inet probes").unwrap();

    let gone =
        "table inet probes {\nchain forward {\ntype filter hook forward priority 0; policy drop;\n}\n}\n";
    from.netns.nft(gone).unwrap();
    let (mtu, ..) = look(Family::V4);
    assert_eq!(mtu, 0, "nothing comes through at all");
}

/// Who answered at each hop, and how often which outcome, by hop.
fn hops(result: &Value) -> Vec<(u64, String, String)> {
    let mut hops = Vec::new();
    for attempt in result["attempts"].as_array().expect("attempts") {
        let text = |key: &str| attempt[key].as_str().unwrap_or_default().to_owned();
        let hop = (attempt["hopLimit"].as_u64().expect("a hop limit"), text("responder"), text("outcome"));
        if !hops.contains(&hop) {
            hops.push(hop);
        }
    }
    hops.sort();
    hops
}

/// Addresses by which the two routers between the pods answer.
fn routers(from: &Node, to: &Node, family: Family) -> [String; 2] {
    match family {
        Family::V4 => [from.plan.gateway().to_string(), to.plan.pods.to_string()],
        Family::V6 => [from.plan.gateway6().to_string(), to.plan.pods6.to_string()],
    }
}

#[test]
fn a_trace_names_every_router_and_where_the_path_ends() {
    let lab = Lab::build(SEED + 11).expect("lab");
    let fleet = Fleet::start(&lab).expect("fleet");
    let (from, to) = (&lab.nodes[0], &lab.nodes[1]);
    let _servers = answer(to);
    let source = from.pod_source();
    // Routers answer about one a second to each address.
    let common =
        ["--from", &source, "--count", "2", "--interval", "1s", "--timeout", "1s", "--max-hops", "8"];
    let trace = |target: &str, how: &[&str]| {
        hops(&only_result(&fleet, &[&["trace", target][..], how, &common].concat()))
    };
    for family in [Family::V4, Family::V6] {
        let address = to.plan.pod_in(family);
        let [open, closed] =
            [super::OPEN, super::CLOSED].map(|port| std::net::SocketAddr::new(address, port).to_string());
        let address = address.to_string();
        for (target, how, end) in [
            (&address, &["--icmp"][..], "PROBE_ANSWERED"),
            (&address, &["--udp"], "PROBE_REFUSED"),
            (&open, &["--udp"], "PROBE_ANSWERED"),
            (&open, &["--tcp"], "PROBE_ANSWERED"),
            (&closed, &["--tcp"], "PROBE_REFUSED"),
        ] {
            let [first, second] = routers(from, to, family);
            let expired = || "PROBE_EXPIRED".to_owned();
            let expected =
                [(1, first, expired()), (2, second, expired()), (3, String::new(), end.to_owned())];
            // On a busy machine another one is under way before the first answer is looked at.
            let is_beyond =
                |(hop, who, outcome): &(u64, String, String)| *hop > 3 && who.is_empty() && outcome == end;
            let ends_well = |hops: &[(u64, String, String)]| {
                hops.starts_with(&expected) && hops[3..].iter().all(is_beyond)
            };
            // What the second round asks beyond a known end is not sent.
            let seen = trace(target, how);
            assert!(ends_well(&seen), "{how:?} {target}: {seen:?}");
        }
    }
    let shown =
        fleet.ctl.ok(&[&["run-probe", "trace", &to.plan.pod.to_string()][..], &common].concat()).unwrap();
    assert!(shown.contains("reached after 3 hops"), "{shown}");

    let address = to.plan.pod.to_string();
    let rule =
        "table inet probes {\nchain forward {\ntype filter hook forward priority 0; policy drop;\n}\n}\n";
    to.netns.nft(rule).unwrap();
    let seen = trace(&address, &["--icmp"]);
    let [first, second] = routers(from, to, Family::V4);
    let expired = |who: &String| ("PROBE_EXPIRED".to_owned(), who.clone());
    let said: Vec<_> = seen.iter().map(|(_, who, outcome)| (outcome.clone(), who.clone())).collect();
    assert_eq!(said[..2], [expired(&first), expired(&second)]);
    assert!(said[2..].iter().all(|(outcome, who)| who.is_empty() && outcome == "PROBE_SILENT"), "{said:?}");
    let shown = fleet.ctl.ok(&[&["run-probe", "trace", &address][..], &common].concat()).unwrap();
    assert!(shown.contains(&format!("nothing answers beyond {second}, hop 2")), "{shown}");
    to.netns.nft("delete table inet probes").unwrap();
    let no_route = Fault::NoRoute.inject(Cast::first(&lab)).expect("fault");
    let seen = trace(&address, &["--icmp"]);
    assert_eq!(seen.last().unwrap().2, "PROBE_UNREACHABLE", "{seen:?}");
    assert!(seen.iter().all(|(_, who, _)| *who == from.plan.gateway().to_string()), "{seen:?}");
    no_route.undo().unwrap();
}

#[test]
fn a_link_says_who_is_on_it_and_who_is_there_twice() {
    let lab = Lab::build(SEED + 12).expect("lab");
    let fleet = Fleet::start(&lab).expect("fleet");
    let node = &lab.nodes[0];
    let host = node.plan.name.clone();
    let quick = ["--count", "2", "--interval", "50ms", "--timeout", "300ms"];
    let look = |target: &str, source: &str| {
        only_result(&fleet, &[&["neighbor", target, "--from", source][..], &quick].concat())
    };
    let answered = |result: &Value| result["neighbor"]["linkAddresses"].as_array().map_or(0, Vec::len);
    for (target, source) in [
        (node.plan.pod.to_string(), &host),
        (node.plan.pod6.to_string(), &host),
        (node.plan.gateway().to_string(), &node.pod_source()),
        (node.plan.gateway6().to_string(), &node.pod_source()),
    ] {
        let result = look(&target, source);
        assert_eq!(answered(&result), 1, "{result}");
        assert_eq!(result["attempts"][0]["outcome"], "PROBE_ANSWERED", "{result}");
        let mac = result["neighbor"]["linkAddresses"][0].clone();
        let kernel = &result["neighbor"]["kernelLinkAddress"];
        assert!(kernel.is_null() || *kernel == mac, "{result}");
    }
    let absent = look(&unused(node), &host);
    assert_eq!((answered(&absent), &absent["attempts"][0]["outcome"]), (0, &Value::from("PROBE_SILENT")));
    let far = look(&lab.nodes[1].plan.pod.to_string(), &host);
    assert!(far["reason"].as_str().unwrap().contains("not on a link of this place"), "{far}");

    node.plug_neighbor("cni0", node.plan.pod).unwrap();
    let twice = look(&node.plan.pod.to_string(), &host);
    assert_eq!(answered(&twice), 2, "{twice}");
    let own = look(&node.plan.pod.to_string(), &node.pod_source());
    assert_eq!(answered(&own), 1, "another one has the pod's own address: {own}");
    let shown = fleet
        .ctl
        .ok(&[&["run-probe", "neighbor", &node.plan.pod.to_string(), "--nodes", &host][..], &quick].concat())
        .unwrap();
    assert!(shown.contains("DUPLICATE ADDRESS"), "{shown}");
    node.unplug_neighbor().unwrap();
    let own = look(&node.plan.pod.to_string(), &node.pod_source());
    assert_eq!(answered(&own), 0, "{own}");
}

/// An address of the pods' network that nobody has.
fn unused(node: &Node) -> String {
    let [a, b, c, _] = node.plan.pods.octets();
    let taken = [node.plan.pod, node.plan.neighbor.address, node.plan.gateway()];
    let free = (2..255).map(|last| std::net::Ipv4Addr::new(a, b, c, last)).find(|free| !taken.contains(free));
    free.expect("a free address").to_string()
}

#[test]
fn gateways_are_found_on_the_node_and_are_there_or_not() {
    let lab = Lab::build(SEED + 13).expect("lab");
    let fleet = Fleet::start(&lab).expect("fleet");
    let node = &lab.nodes[0];
    let arguments =
        ["gateway", "--from", &node.pod_source(), "--count", "2", "--interval", "50ms", "--timeout", "1s"];
    let gateways = [node.plan.gateway().to_string(), node.plan.gateway6().to_string()];
    let source = node.pod_source();
    let well = reply(&fleet, &arguments);
    for gateway in &gateways {
        assert_eq!(found(&well)[&(source.clone(), gateway.clone())], all("PROBE_ANSWERED", 2), "{well}");
    }
    for result in well["probe"]["reports"][0]["results"].as_array().unwrap() {
        assert_eq!(result["neighbor"]["linkAddresses"].as_array().map(Vec::len), Some(1), "{result}");
    }
    // It lets nobody ping it, and is there all the same.
    node.netns.nft("table inet probes {\nchain in {\ntype filter hook input priority 0\nicmp type echo-request drop\nicmpv6 type echo-request drop\n}\n}\n").unwrap();
    let mute = reply(&fleet, &arguments);
    for result in mute["probe"]["reports"][0]["results"].as_array().unwrap() {
        assert_eq!(result["neighbor"]["linkAddresses"].as_array().map(Vec::len), Some(1), "{result}");
        assert_eq!(result["attempts"][0]["outcome"], "PROBE_SILENT", "{result}");
    }
    node.netns.ip(&format!("link set {} down\n", node.plan.veth)).unwrap();
    let gone = reply(&fleet, &arguments);
    for result in gone["probe"]["reports"][0]["results"].as_array().into_iter().flatten() {
        let answered =
            result["attempts"].as_array().into_iter().flatten().any(|a| a["outcome"] == "PROBE_ANSWERED");
        assert!(
            !answered && result["neighbor"]["linkAddresses"].as_array().is_none_or(Vec::is_empty),
            "{result}"
        );
    }
}
