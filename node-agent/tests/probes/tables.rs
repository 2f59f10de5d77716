//! Tables of the kernel, each in a namespace in which the test has put something that must be there.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};

use lastseen_node_agent::probe::attempt::Outcome;
use lastseen_node_agent::probe::report::{Finding, Table};
use lastseen_node_agent::probe::spec::{Aim, Kind, Schedule, Spec};
use lastseen_proto::table::NodeTable;

use crate::support::{PATIENCE, apart, once, run};

/// A row by its columns.
type Row = BTreeMap<&'static str, String>;

fn read(table: NodeTable) -> Table {
    let spec = once(Kind::Table(table), &[]);
    let schedule = Schedule { count: 1, timeout: PATIENCE, ..spec.schedule };
    let report = run(Spec { targets: vec![Aim::Table(table)], schedule, ..spec });
    let found = &report.results[0];
    assert_eq!((found.target.as_str(), found.reason.as_str()), (table.name(), ""));
    assert_eq!(found.attempts.iter().map(|attempt| attempt.outcome).collect::<Vec<_>>(), [Outcome::Answered]);
    let Some(Finding::Table(table)) = &found.finding else { panic!("{found:?}") };
    assert_eq!(table.rows.len() as u64, table.total, "all of them are told");
    table.clone()
}

fn rows(table: &Table) -> Vec<Row> {
    let row = |cells: &Vec<String>| table.columns.iter().copied().zip(cells.iter().cloned()).collect();
    assert!(table.rows.iter().all(|cells| cells.len() == table.columns.len()));
    table.rows.iter().map(row).collect()
}

/// The one row in which these cells stand.
fn only(table: NodeTable, wanted: &[(&str, &str)]) -> Row {
    let read = read(table);
    let is_it = |row: &Row| wanted.iter().all(|(column, text)| row[column] == *text);
    let mut found: Vec<Row> = rows(&read).into_iter().filter(is_it).collect();
    assert_eq!(found.len(), 1, "{wanted:?} in {read:#?}");
    found.remove(0)
}

fn number(row: &Row, column: &str) -> u64 {
    row[column].parse().unwrap_or_else(|_| panic!("{column} of {row:?}"))
}

/// Runs a tool in this thread's namespace.
fn tool(line: &str, input: &str) -> String {
    let mut words = line.split_whitespace();
    #[allow(clippy::disallowed_methods)] // The test's own words, no input.
    let mut command = Command::new(words.next().unwrap());
    let pipes = command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().unwrap_or_else(|error| panic!("{line}: {error}"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn ip(lines: &str) {
    tool("ip -batch -", lines);
}

/// Sends a datagram to a port of the loopback.
fn send(to: &str) {
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"packet", to).unwrap();
}

#[test]
fn sockets_have_their_state_and_owner() {
    apart(|| {
        let listener = TcpListener::bind("127.0.0.1:8080").unwrap();
        let mut stream = TcpStream::connect("127.0.0.1:8080").unwrap();
        let (mut accepted, _) = listener.accept().unwrap();
        stream.write_all(&[1; 100]).unwrap();
        accepted.read_exact(&mut [0; 60]).unwrap();
        let six = UdpSocket::bind("[::1]:5353").unwrap();
        let pid = std::process::id().to_string();
        let listening = only(NodeTable::Sockets, &[("state", "listen")]);
        assert_eq!((listening["protocol"].as_str(), listening["local"].as_str()), ("tcp", "127.0.0.1:8080"));
        assert_eq!((listening["remote"].as_str(), listening["pid"].as_str()), ("", pid.as_str()));
        assert!(!listening["command"].is_empty() && listening["uid"] == "0", "{listening:?}");
        let open = only(NodeTable::Sockets, &[("state", "established"), ("local", "127.0.0.1:8080")]);
        assert_eq!(open["remote"], stream.local_addr().unwrap().to_string());
        assert_eq!((number(&open, "recv_q"), number(&open, "retransmits")), (40, 0));
        assert!(number(&open, "cwnd") > 0 && number(&open, "pmtu") > 1_000, "{open:?}");
        assert!(number(&open, "rtt_us") > 0, "{open:?}");
        let udp = only(NodeTable::Sockets, &[("protocol", "udp")]);
        assert_eq!((udp["local"].as_str(), udp["state"].as_str()), ("[::1]:5353", "unconnected"));
        assert_eq!(udp["rtt_us"], "");
        drop(six);
    });
}

#[test]
fn routes_rules_and_neighbours_are_those_of_the_namespace() {
    apart(|| {
        ip("link add v1 type veth peer name v2\n\
            link set v1 address 02:00:00:00:00:01\n\
            addr add 10.9.0.1/24 dev v1\n\
            addr add fd00::1/64 dev v1 nodad\n\
            link set v1 up\n\
            link set v2 up\n\
            route add 192.0.2.0/24 via 10.9.0.9 metric 50 mtu 1400 src 10.9.0.1\n\
            route add 198.51.100.0/24 nexthop via 10.9.0.2 weight 3 nexthop via 10.9.0.3\n\
            route add blackhole 203.0.113.0/24 table 100\n\
            route add 2001:db8::/32 via fd00::9\n\
            rule add fwmark 0x100/0xff00 from 10.1.0.0/16 iif v1 ipproto tcp dport 80-90 lookup 100 priority 77\n\
            neigh add 10.9.0.9 lladdr 02:00:00:00:00:09 dev v1\n\
            neigh add fd00::9 lladdr 02:00:00:00:00:0a dev v1 router\n\
            neigh add proxy 10.9.0.77 dev v1\n");
        tool("ip -6 rule add not to fd09::/16 unreachable priority 78", "");
        let route = only(NodeTable::Routes, &[("destination", "192.0.2.0/24")]);
        let cells = ["table", "type", "gateway", "device", "source", "metric", "mtu", "protocol", "scope"]
            .map(|column| route[column].as_str());
        assert_eq!(
            cells,
            ["main", "unicast", "10.9.0.9", "v1", "10.9.0.1", "50", "1400", "boot", "universe"]
        );
        let second = only(NodeTable::Routes, &[("destination", "198.51.100.0/24"), ("gateway", "10.9.0.3")]);
        assert_eq!(second["weight"], "1");
        let first = only(NodeTable::Routes, &[("destination", "198.51.100.0/24"), ("weight", "3")]);
        assert_eq!((first["gateway"].as_str(), first["device"].as_str()), ("10.9.0.2", "v1"));
        let hole = only(NodeTable::Routes, &[("table", "100")]);
        assert_eq!((hole["type"].as_str(), hole["device"].as_str()), ("blackhole", ""));
        let six = only(NodeTable::Routes, &[("destination", "2001:db8::/32")]);
        assert_eq!((six["gateway"].as_str(), six["metric"].as_str()), ("fd00::9", "1024"));
        let own = only(NodeTable::Routes, &[("destination", "10.9.0.1/32")]);
        assert_eq!((own["table"].as_str(), own["type"].as_str()), ("local", "local"));

        let rule = only(NodeTable::Rules, &[("priority", "77")]);
        let cells =
            ["family", "from", "incoming", "mark", "protocol", "destination_ports", "action", "table"]
                .map(|column| rule[column].as_str());
        assert_eq!(cells, ["ipv4", "10.1.0.0/16", "v1", "0x100/0xff00", "tcp", "80-90", "lookup", "100"]);
        let not = only(NodeTable::Rules, &[("priority", "78")]);
        let cells = ["family", "to", "action", "table", "flags"].map(|column| not[column].as_str());
        assert_eq!(cells, ["ipv6", "fd09::/16", "unreachable", "", "not"]);
        let last = only(NodeTable::Rules, &[("family", "ipv4"), ("priority", "32766")]);
        assert_eq!((last["action"].as_str(), last["table"].as_str()), ("lookup", "main"));

        let neighbor = only(NodeTable::Neighbors, &[("address", "10.9.0.9")]);
        let cells = ["link_address", "device", "state", "flags"].map(|column| neighbor[column].as_str());
        assert_eq!(cells, ["02:00:00:00:00:09", "v1", "permanent", ""]);
        assert_eq!(only(NodeTable::Neighbors, &[("address", "fd00::9")])["flags"], "router");
        assert_eq!(only(NodeTable::Neighbors, &[("address", "10.9.0.77")])["flags"], "proxy");
    });
}

#[test]
fn interfaces_and_forwarding_entries_tell_of_the_overlay() {
    apart(|| {
        ip("link add v1 type veth peer name v2\n\
            link set v1 mtu 1600\n\
            addr add 10.9.0.1/24 dev v1\n\
            addr add fd00::1/64 dev v1 nodad\n\
            link set v1 up\n\
            link add br0 type bridge\n\
            link add vx type vxlan id 42 dstport 4789 local 10.9.0.1 dev v1\n\
            link set vx master br0\n\
            link set br0 up\n\
            link set vx up\n");
        tool(
            "bridge -batch -",
            "fdb add 02:00:00:00:00:09 dev vx dst 10.9.0.9 vni 43 port 8472 self\n\
             fdb add 02:00:00:00:00:08 dev vx master static\n",
        );
        let before = only(NodeTable::Interfaces, &[("name", "lo")]);
        assert_eq!((before["kind"].as_str(), before["state"].as_str()), ("loopback", "up"));
        send("127.0.0.1:9");
        let after = only(NodeTable::Interfaces, &[("name", "lo")]);
        for column in ["rx_packets", "tx_packets", "rx_bytes", "tx_bytes"] {
            assert!(number(&after, column) > number(&before, column), "{column}: {before:?} {after:?}");
        }
        let tunnel = only(NodeTable::Interfaces, &[("name", "vx")]);
        let cells = ["kind", "mtu", "master", "vni", "port", "local", "underlay"]
            .map(|column| tunnel[column].as_str());
        assert_eq!(cells, ["vxlan", "1550", "br0", "42", "4789", "10.9.0.1", "v1"]);
        let pair = only(NodeTable::Interfaces, &[("name", "v1")]);
        assert_eq!(
            (pair["kind"].as_str(), pair["link"].as_str(), pair["state"].as_str()),
            ("veth", "v2", "no_carrier")
        );
        assert!(pair["addresses"].starts_with("10.9.0.1/24,fd00::1/64"), "{pair:?}");

        let remote = only(NodeTable::Fdb, &[("link_address", "02:00:00:00:00:09")]);
        let cells =
            ["device", "remote", "port", "vni", "state", "flags"].map(|column| remote[column].as_str());
        assert_eq!(cells, ["vx", "10.9.0.9", "8472", "43", "permanent", "self"]);
        let learned = only(NodeTable::Fdb, &[("link_address", "02:00:00:00:00:08")]);
        let cells = ["device", "vlan", "master", "state"].map(|column| learned[column].as_str());
        assert_eq!(cells, ["vx", "", "br0", "static"]);
    });
}

#[test]
fn connections_are_told_with_both_tuples_and_how_full_the_table_is() {
    apart(|| {
        tool(
            "nft -f -",
            "table ip nat {\nchain out {\ntype nat hook output priority -100\n\
             ip daddr 127.0.0.9 udp dport 53 dnat to 127.0.0.1:5353\n}\n}\n",
        );
        let server = UdpSocket::bind("127.0.0.1:5353").unwrap();
        server.set_read_timeout(Some(PATIENCE)).unwrap();
        let client = UdpSocket::bind("127.0.0.1:4000").unwrap();
        client.send_to(b"question", "127.0.0.9:53").unwrap();
        let translated = [("protocol", "udp"), ("original_destination", "127.0.0.9:53")];
        let before = only(NodeTable::Conntrack, &translated);
        let cells =
            ["original_source", "reply_source", "reply_destination"].map(|column| before[column].as_str());
        assert_eq!(cells, ["127.0.0.1:4000", "127.0.0.1:5353", "127.0.0.1:4000"]);
        assert_eq!(before["flags"], "unreplied,dnat");
        assert!(number(&before, "timeout_s") > 0, "{before:?}");
        let (_, from) = server.recv_from(&mut [0; 64]).unwrap();
        server.send_to(b"answer", from).unwrap();
        assert_eq!(only(NodeTable::Conntrack, &translated)["flags"], "dnat");

        let listener = TcpListener::bind("127.0.0.1:8080").unwrap();
        let _stream = TcpStream::connect("127.0.0.1:8080").unwrap();
        let _accepted = listener.accept().unwrap();
        let open = only(NodeTable::Conntrack, &[("original_destination", "127.0.0.1:8080")]);
        assert_eq!((open["state"].as_str(), open["flags"].as_str()), ("established", "assured"));
        let notes = read(NodeTable::Conntrack).notes;
        assert!(notes.len() == 1 && notes[0].starts_with("2 of at most "), "{notes:?}");
    });
}

#[test]
fn rules_of_nftables_count_packets() {
    apart(|| {
        tool(
            "nft -f -",
            "table inet guard {\n\
             set bad { type ipv4_addr . inet_service; elements = { 10.0.0.1 . 80 } }\n\
             map verdicts { type inet_service : verdict; }\n\
             chain web { }\n\
             chain in {\n\
             type filter hook input priority -5; policy drop;\n\
             ct state established,related accept\n\
             ip daddr 127.0.0.0/8 udp dport 9 counter drop comment \"nobody listens\"\n\
             ip saddr . tcp dport @bad reject with tcp reset\n\
             tcp dport vmap @verdicts\n\
             meta mark & 0xff00 == 0x100 jump web\n\
             iifname \"lo\" limit rate 10/second accept\n\
             }\n\
             }\n\
             table netdev early {\nchain in {\ntype filter hook ingress device lo priority 0;\n}\n}\n",
        );
        let chain = only(NodeTable::Filters, &[("table", "guard"), ("chain", "in"), ("rule", "")]);
        let cells =
            ["origin", "family", "type", "hook", "priority", "policy"].map(|column| chain[column].as_str());
        assert_eq!(cells, ["nftables", "inet", "filter", "input", "-5", "drop"]);
        let early = only(NodeTable::Filters, &[("table", "early")]);
        assert_eq!((early["family"].as_str(), early["hook"].as_str()), ("netdev", "ingress lo"));
        let drops = [("comment", "nobody listens")];
        let before = only(NodeTable::Filters, &drops);
        assert_eq!((number(&before, "packets"), number(&before, "bytes")), (0, 0));
        send("127.0.0.1:9");
        send("127.0.0.1:9");
        let after = only(NodeTable::Filters, &drops);
        // 20 and 8 bytes of headers before 6.
        assert_eq!((number(&after, "packets"), number(&after, "bytes")), (2, 68));
        assert!(number(&after, "rule") > 0, "{after:?}");
        let read = rows(&read(NodeTable::Filters));
        let words = |row: &Row| [row["text"].as_str(), row["action"].as_str()].join(" | ");
        let texts: Vec<String> = read.iter().filter(|row| row["chain"] == "in").map(words).collect();
        assert_eq!(
            texts,
            [
                " | ",
                "ct state established,related | accept",
                "meta nfproto ipv4 ip daddr 127.0.0.0/8 meta l4proto udp th dport 9 | drop",
                "meta nfproto ipv4 meta l4proto tcp ip saddr . th dport @bad | reject with tcp reset",
                "meta l4proto tcp | th dport vmap @verdicts",
                "meta mark & 0xff00 == 0x100 | jump web",
                "iifname lo limit rate 10/second burst 5 | accept",
                " | ",
            ]
        );
        let chains: Vec<&str> =
            read.iter().filter(|row| row["rule"].is_empty()).map(|row| row["chain"].as_str()).collect();
        assert_eq!(chains, ["web", "in", "in"]);
    });
}

#[test]
fn settings_are_those_of_the_namespace() {
    apart(|| {
        ip("link add eth0.100 type veth peer name other\n");
        std::fs::write("/proc/sys/net/ipv4/conf/eth0.100/rp_filter", "2").unwrap();
        let value = |setting: &str| only(NodeTable::Settings, &[("setting", setting)])["value"].clone();
        for forwarding in ["1", "0"] {
            std::fs::write("/proc/sys/net/ipv4/ip_forward", forwarding).unwrap();
            assert_eq!(value("net.ipv4.ip_forward"), forwarding);
            assert_eq!(value("net.ipv4.conf.all.forwarding"), forwarding);
        }
        assert_eq!(value("net.ipv4.conf.eth0/100.rp_filter"), "2");
        assert_eq!(value("net.ipv6.conf.lo.disable_ipv6"), "0");
        assert_eq!(value("net.ipv4.ip_local_port_range").split(' ').count(), 2);
    });
}

#[test]
fn counters_are_those_of_the_namespace() {
    apart(|| {
        let value = || only(NodeTable::Counters, &[("counter", "IpOutNoRoutes")])["value"].clone();
        assert_eq!(value(), "0");
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        let refused = socket.send_to(b"nowhere", "192.0.2.1:9").unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::ENETUNREACH));
        assert_eq!(value(), "1");
        let six = only(NodeTable::Counters, &[("counter", "Ip6OutNoRoutes")]);
        assert_eq!(six["value"], "0");
    });
}

/// The same rules are read from both kinds of iptables, but for what only one of them has.
const RULES: &str = "*filter
:INPUT DROP [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:WEB - [0:0]
-A INPUT -s 127.0.0.0/8 -i lo -p udp -m udp --dport 9 -m comment --comment \"nobody listens\" -j DROP
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT ! -i eth+ -p tcp -m multiport --dports 80,8000:8100 -j WEB
-A INPUT -m length --length 40:100 -g WEB
-A WEB ! -d 10.0.0.0/255.0.255.0 -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j REJECT --reject-with tcp-reset
-A WEB -j RETURN
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
-A PREROUTING -d 10.0.0.1/32 -p tcp -m statistic --mode random --probability 0.25 -j DNAT --to-destination 10.0.0.2:8080
-A POSTROUTING -m addrtype ! --dst-type LOCAL -j MASQUERADE
COMMIT
";

/// Chain, number, text and comment of what a table of IPv4 has.
fn rules_of(origin: &str, table: &str) -> Vec<String> {
    let read = rows(&read(NodeTable::Filters));
    let of_table = |row: &&Row| row["origin"] == origin && row["family"] == "ip" && row["table"] == table;
    let columns = ["chain", "policy", "text", "action", "comment"];
    let line = |row: &Row| columns.map(|column| row[column].as_str()).join("|");
    read.iter().filter(of_table).map(line).collect()
}

#[test]
fn rules_of_legacy_iptables_count_packets_and_tables_are_not_made() {
    apart(|| {
        let names = || std::fs::read_to_string("/proc/thread-self/net/ip_tables_names").unwrap();
        assert_eq!(read(NodeTable::Filters).total, 0);
        assert_eq!(names(), "", "reading makes none");
        tool("iptables-legacy-restore", RULES);
        let six = "*filter\n-A FORWARD -s fd00::/8 -o v1 -p ipv6-icmp -j REJECT --reject-with icmp6-adm-prohibited\nCOMMIT\n";
        tool("ip6tables-legacy-restore", six);
        assert_eq!(
            rules_of("iptables", "filter"),
            [
                "INPUT|drop|||",
                "INPUT||-s 127.0.0.0/8 -i lo -p udp -m udp --dport 9|-j DROP|nobody listens",
                "INPUT||-m conntrack --ctstate ESTABLISHED,RELATED|-j ACCEPT|",
                "INPUT||! -i eth+ -p tcp -m multiport --dports 80,8000:8100|-j WEB|",
                "INPUT||-m length [options not shown]|-g WEB|",
                "FORWARD|accept|||",
                "OUTPUT|accept|||",
                "WEB||||",
                "WEB||! -d 10.0.0.0/255.0.255.0 -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN|-j REJECT --reject-with tcp-reset|",
                "WEB|||-j RETURN|",
            ]
        );
        assert_eq!(
            rules_of("iptables", "nat"),
            [
                "PREROUTING|accept|||",
                "PREROUTING||-d 10.0.0.1/32 -p tcp -m statistic --mode random --probability 0.25000|-j DNAT --to-destination 10.0.0.2:8080|",
                "INPUT|accept|||",
                "OUTPUT|accept|||",
                "POSTROUTING|accept|||",
                "POSTROUTING||-m addrtype ! --dst-type LOCAL|-j MASQUERADE|",
            ]
        );
        assert_eq!(names().lines().count(), 2, "reading makes none: {}", names());
        let reject = only(NodeTable::Filters, &[("family", "ip6"), ("rule", "1")]);
        let cells = ["chain", "text", "action"].map(|column| reject[column].as_str());
        let action = "-j REJECT --reject-with icmp6-adm-prohibited";
        assert_eq!(cells, ["FORWARD", "-s fd00::/8 -o v1 -p icmpv6", action]);
        let drops = [("comment", "nobody listens"), ("origin", "iptables")];
        assert_eq!(number(&only(NodeTable::Filters, &drops), "packets"), 0);
        send("127.0.0.1:9");
        let after = only(NodeTable::Filters, &drops);
        assert_eq!((number(&after, "packets"), number(&after, "bytes"), number(&after, "rule")), (1, 34, 1));
        // The policy counts what no rule decides about.
        send("127.0.0.1:10");
        let policy = only(NodeTable::Filters, &[("chain", "INPUT"), ("table", "filter"), ("policy", "drop")]);
        assert_eq!((number(&policy, "packets"), policy["hook"].as_str()), (1, "input"));
    });
}

#[test]
fn rules_of_iptables_over_nftables_are_shown_as_they_were_written() {
    apart(|| {
        tool("iptables-nft-restore", RULES);
        let shown = rules_of("nftables", "filter");
        // Which of them are matches of its own, and which are nftables', every version decides for itself.
        let expected = [
            ("INPUT|drop|||", ""),
            ("INPUT||", "|drop|nobody listens"),
            ("INPUT||-m conntrack --ctstate ESTABLISHED,RELATED|accept|", ""),
            ("INPUT||iifname != eth* ", "|jump WEB|"),
            ("INPUT||-m length [options not shown]|goto WEB|", ""),
            ("FORWARD|accept|||", ""),
            ("OUTPUT|accept|||", ""),
            ("WEB||||", ""),
            ("WEB||", "|-j REJECT --reject-with tcp-reset|"),
            ("WEB|||return|", ""),
        ];
        assert_eq!(shown.len(), expected.len(), "{shown:#?}");
        for (line, (begin, end)) in shown.iter().zip(expected) {
            assert!(line.starts_with(begin) && line.ends_with(end), "{line}: {begin} {end}");
        }
        let dnat = only(NodeTable::Filters, &[("chain", "PREROUTING"), ("policy", "")]);
        assert_eq!(dnat["action"], "-j DNAT --to-destination 10.0.0.2:8080", "{dnat:?}");
        send("127.0.0.1:9");
        assert_eq!(number(&only(NodeTable::Filters, &[("comment", "nobody listens")]), "packets"), 1);
    });
}

#[test]
fn what_may_not_be_read_says_what_is_lacking_and_the_rest_is_read() {
    apart(|| {
        caps::drop(None, caps::CapSet::Effective, caps::Capability::CAP_NET_ADMIN).unwrap();
        for (table, what) in [
            (NodeTable::Conntrack, "the table of connections cannot be read: the agent lacks NET_ADMIN"),
            (NodeTable::Filters, "rules of nftables cannot be read: the agent lacks NET_ADMIN"),
        ] {
            let spec = once(Kind::Table(table), &[]);
            let schedule = Schedule { count: 1, ..spec.schedule };
            let report = run(Spec { targets: vec![Aim::Table(table)], schedule, ..spec });
            let found = &report.results[0];
            assert!(found.reason.starts_with(what), "{found:?}");
            assert_eq!((found.attempts[0].outcome, found.finding.clone()), (Outcome::NotSent, None));
        }
        assert_eq!(only(NodeTable::Interfaces, &[("name", "lo")])["state"], "up");
        let _listener = TcpListener::bind("127.0.0.1:8080").unwrap();
        assert_eq!(only(NodeTable::Sockets, &[("state", "listen")])["local"], "127.0.0.1:8080");
    });
}
