//! What a node's kernel has, through the whole product: asked for by `ctl`, read by the agent where it was told to.

use std::net::{SocketAddr, TcpListener};

use lastseen_tests::lab::Lab;
use lastseen_tests::lab::plan::Family;
use lastseen_tests::product::fleet::Fleet;
use serde_json::Value;

const SEED: u64 = 97;

/// Rows of the one table in an answer, each by its columns.
fn rows(answer: &Value) -> Vec<serde_json::Map<String, Value>> {
    let results = answer["probe"]["reports"][0]["results"].as_array().expect("results");
    assert_eq!(results.len(), 1, "{answer}");
    let table = &results[0]["table"];
    let columns = table["columns"].as_array().expect("columns");
    let rows = table["rows"].as_array().expect("rows").iter();
    rows.map(|row| {
        let cells = row["cells"].as_array().expect("cells");
        assert_eq!(cells.len(), columns.len(), "{row}");
        let named = columns.iter().zip(cells);
        named.map(|(column, cell)| (column.as_str().expect("name").to_owned(), cell.clone())).collect()
    })
    .collect()
}

fn show(fleet: &Fleet<'_>, arguments: &[&str]) -> Vec<serde_json::Map<String, Value>> {
    let arguments = [&["show-node"], arguments].concat();
    rows(&fleet.ctl.json(&arguments).unwrap_or_else(|error| panic!("{error:#}\n{}", fleet.logs())))
}

/// The one row in which these cells stand.
fn only(fleet: &Fleet<'_>, arguments: &[&str], wanted: &[(&str, &str)]) -> serde_json::Map<String, Value> {
    let all = show(fleet, arguments);
    let is_it =
        |row: &&serde_json::Map<String, Value>| wanted.iter().all(|(column, text)| row[*column] == *text);
    let found: Vec<_> = all.iter().filter(is_it).collect();
    assert_eq!(found.len(), 1, "{wanted:?} in {all:#?}");
    found[0].clone()
}

fn number(row: &serde_json::Map<String, Value>, column: &str) -> u64 {
    row[column].as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{column} of {row:?}"))
}

#[test]
fn each_table_is_that_of_the_namespace_it_is_asked_of() {
    let lab = Lab::build(SEED).expect("lab");
    let fleet = Fleet::start(&lab).expect("fleet");
    let (node, other) = (&lab.nodes[0], &lab.nodes[1]);
    let name = node.plan.name.as_str();
    let (pod, address) = (node.pod.name(), node.plan.pod_in(Family::V4));
    let at = SocketAddr::new(address, 8080);
    let _listener = node.pod.enter(|| Ok(TcpListener::bind(at)?)).expect("socket");
    let pid = std::process::id().to_string();

    let own = only(&fleet, &[name, "--sockets", "--netns", pod], &[("state", "listen")]);
    assert_eq!(
        (own["local"].as_str(), own["pid"].as_str()),
        (Some(at.to_string().as_str()), Some(pid.as_str()))
    );
    let agent =
        only(&fleet, &[name, "--sockets"], &[("remote", &fleet.ctl.server), ("state", "established")]);
    assert_eq!(agent["command"], "node-agent");

    let by_address = format!("@{address}");
    let gateway = node.plan.gateway().to_string();
    for netns in [pod, &by_address] {
        let route = only(
            &fleet,
            &[name, "--routes", "--netns", netns],
            &[("destination", "0.0.0.0/0"), ("table", "main")],
        );
        assert_eq!(
            (route["gateway"].as_str(), route["device"].as_str()),
            (Some(gateway.as_str()), Some("eth0"))
        );
    }
    let rule = only(&fleet, &[name, "--rules"], &[("family", "ipv4"), ("priority", "32766")]);
    assert_eq!(rule["table"], "main");
    let before = only(&fleet, &[name, "--interfaces", "--netns", pod], &[("name", "eth0")]);

    // A drop that counts, on the way between two pods.
    let to = other.plan.pod.to_string();
    let script = format!(
        "table inet guard {{\nchain forward {{\ntype filter hook forward priority 0\n\
         ip daddr {to} counter drop comment \"nothing goes there\"\n}}\n}}\n"
    );
    node.netns.nft(&script).expect("nft");
    let drops = [name, "--filters", "--grep", "nothing goes there"];
    assert_eq!(number(&only(&fleet, &drops, &[]), "packets"), 0);
    let from = format!("{name}:{pod}");
    fleet
        .ctl
        .ok(&["run-probe", "icmp", &to, "--from", &from, "--count", "2", "--timeout", "1s"])
        .expect("probe");
    let after = only(&fleet, &drops, &[]);
    assert_eq!((number(&after, "packets"), after["action"].as_str()), (2, Some("drop")));
    let passed = only(&fleet, &[name, "--interfaces", "--netns", pod], &[("name", "eth0")]);
    assert!(number(&passed, "tx_packets") >= number(&before, "tx_packets") + 2, "{before:?} {passed:?}");
    let neighbor = only(&fleet, &[name, "--neighbors", "--netns", pod], &[("address", &gateway)]);
    assert!(!neighbor["link_address"].as_str().unwrap().is_empty(), "{neighbor:?}");

    let tunnel = show(&fleet, &[name, "--fdb"]);
    let underlay = other.plan.underlay.to_string();
    assert!(tunnel.iter().any(|row| row["remote"] == underlay), "{underlay} in {tunnel:#?}");
    let forward = only(&fleet, &[name, "--settings"], &[("setting", "net.ipv4.ip_forward")]);
    assert_eq!(forward["value"], "1");
    node.pod.sysctl("net/ipv4/conf/eth0/rp_filter", "2").expect("sysctl");
    let settings = show(&fleet, &[name, "--settings", "--netns", pod]);
    let value = |setting: &str| {
        let found = settings.iter().find(|row| row["setting"] == setting);
        found.map(|row| row["value"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(value("net.ipv4.conf.eth0.rp_filter").as_deref(), Some("2"));
    assert_eq!(value("net.ipv4.conf.cni0.rp_filter"), None, "that is the host's");
    node.netns.nft("add rule inet guard forward ct state invalid counter").expect("nft");
    fleet.ctl.ok(&["run-probe", "icmp", &gateway, "--from", &from, "--count", "1"]).expect("probe");
    let tracked = show(&fleet, &[name, "--conntrack", "--grep", &gateway]);
    assert!(tracked.iter().any(|row| row["protocol"] == "icmp"), "{tracked:#?}");
}

#[test]
fn many_rows_are_cut_and_counted_and_refusals_say_why() {
    let lab = Lab::build(SEED + 1).expect("lab");
    let fleet = Fleet::start(&lab).expect("fleet");
    let node = &lab.nodes[0];
    let (name, pod) = (node.plan.name.as_str(), node.pod.name());
    let route = |n| format!("route add blackhole 10.99.{}.{}/32 table 99", n / 250, n % 250);
    let routes: Vec<String> = (0..10_000).map(route).collect();
    node.pod.ip(&routes.join("\n")).expect("routes");
    let asked = ["show-node", name, "--routes", "--netns", pod];
    let text = fleet.ctl.ok(&asked).expect("table");
    let last = text.lines().last().unwrap_or_default();
    let words: Vec<u64> = last.split(' ').filter_map(|word| word.replace(',', "").parse().ok()).collect();
    let [shown, total] = words[..] else { panic!("{last}") };
    assert!(shown > 1_000 && shown < 10_000 && total > 10_000, "{last}");
    assert_eq!(text.lines().count() as u64, shown + 2, "a header, the rows, and how many there are");
    assert!(text.starts_with("TABLE"), "{}", text.lines().next().unwrap_or_default());
    let answer = fleet.ctl.json(&asked).expect("answer");
    let result = &answer["probe"]["reports"][0]["results"][0];
    assert_eq!(result["table"]["rowsTotal"], total.to_string());
    assert_eq!(result["attempts"][0]["outcome"], "PROBE_ANSWERED");

    let nowhere = fleet.ctl.run(&["show-node", name, "--routes", "--netns", "no-such"]).expect("ctl");
    assert_eq!(nowhere.fault_of_refusal(&["there is no no-such on this node"]), None);
    let unknown = fleet.ctl.run(&["show-node", "no-node", "--routes"]).expect("ctl");
    assert_eq!(unknown.fault_of_refusal(&["no node named \"no-node\""]), None);
    let twice = fleet.ctl.run(&["show-node", name, "--routes", "--rules"]).expect("ctl");
    assert_eq!(twice.fault_of_refusal(&["--routes", "--rules"]), None);

    let everywhere = fleet.ctl.ok(&["run-probe", "table", "interfaces", "--all-nodes", "--grep", "vxlan"]);
    let text = everywhere.expect("table");
    for node in &lab.nodes {
        assert!(text.contains(&format!("{} interfaces\nINDEX", node.plan.name)), "{text}");
    }
    assert!(!text.contains("loopback") && text.contains("kind        table, interfaces"), "{text}");
}
