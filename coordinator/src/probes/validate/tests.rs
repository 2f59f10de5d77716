use lastseen_proto::limits::{
    PROBE_CA_BYTES, PROBE_PAYLOAD_BYTES, PROBE_SEARCH, PROBE_SERVERS, PROBE_SIZES, PROBE_TARGETS,
};
use lastseen_proto::table::NodeTable;

use super::*;
use crate::fleet::fixtures::node;
use crate::model::MILLISECOND;
use crate::probes::model::{Record, TraceProtocol};

fn nodes() -> Vec<NodeView> {
    vec![node("a", true), node("b", false), node("c", true)]
}

fn source(node: &str) -> Source {
    Source { node: node.into(), netns: String::new() }
}

fn request() -> Request {
    Request {
        sources: vec![source("a")],
        targets: vec!["10.0.0.1".into()],
        kind: Some(Kind::Icmp { size: 56, dont_fragment: false }),
        ..Request::default()
    }
}

fn trace(protocol: TraceProtocol, max_hops: u32) -> Kind {
    Kind::Trace { protocol, max_hops }
}

fn of_dns(servers: &[&str], record: Record, search: &[&str]) -> Kind {
    let all = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
    Kind::Dns { servers: all(servers), record, search: all(search), tcp: false }
}

fn dns(servers: i64, search: i64) -> Request {
    let (servers, search) = (vec!["10.0.0.1"; servers as usize], vec!["a.example"; search as usize]);
    Request { kind: Some(of_dns(&servers, Record::A, &search)), targets: vec!["web".into()], ..request() }
}

/// Certificates in so many bytes; none in none.
fn certificates(bytes: i64) -> String {
    if bytes == 0 {
        return String::new();
    }
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::default().self_signed(&key).unwrap().pem();
    let blanks = " ".repeat(bytes as usize - certificate.len());
    certificate + &blanks
}

fn refused(request: Request) -> String {
    resolve(request, &nodes(), 0).unwrap_err().to_string()
}

#[test]
fn what_is_left_out_is_filled_in_and_targets_have_one_form() {
    let request = Request {
        all_nodes: true,
        sources: Vec::new(),
        targets: vec!["[FD00::1]:080".into(), "dns:53".into()],
        kind: Some(Kind::Tcp),
        ..request()
    };
    let (spec, sources) = resolve(request, &nodes(), 0).unwrap();
    assert_eq!(sources, [source("a"), source("c")], "those that are ready");
    assert_eq!(spec.targets, ["[fd00::1]:80", "dns:53"]);
    assert_eq!((spec.count, spec.interval_nanos, spec.timeout_nanos), (5, 200 * MILLISECOND, 2 * SECOND));
    assert_eq!((spec.family, spec.every_nanos), (Family::Any, None));
    assert_eq!(spec.run_nanos(), 4 * 200 * MILLISECOND + 2 * SECOND);
}

/// A request that has just as much as this limit allows, less or more by a step.
type Given = fn(i64) -> Request;

#[test]
fn every_limit_takes_what_reaches_it_and_names_field_and_limit_beyond_it() {
    let limits: [(&str, i64, i64, Given); 14] = [
        ("count", 1, 100, |n| Request { count: Some(n as u32), ..request() }),
        ("interval", *PROBE_INTERVAL_NANOS.start(), *PROBE_INTERVAL_NANOS.end(), |n| Request {
            interval_nanos: Some(n),
            ..request()
        }),
        ("timeout", *PROBE_TIMEOUT_NANOS.start(), *PROBE_TIMEOUT_NANOS.end(), |n| Request {
            timeout_nanos: Some(n),
            ..request()
        }),
        ("every", *PROBE_EVERY_NANOS.start(), *PROBE_EVERY_NANOS.end(), |n| Request {
            every_nanos: Some(n),
            count: Some(1),
            timeout_nanos: Some(10 * MILLISECOND),
            ..request()
        }),
        ("size", 16, 65_507, |n| Request {
            kind: Some(Kind::Icmp { size: n as u32, dont_fragment: false }),
            ..request()
        }),
        ("payload", 0, PROBE_PAYLOAD_BYTES as i64, |n| Request {
            kind: Some(Kind::Udp { payload: vec![0; n.max(0) as usize] }),
            targets: vec!["a:1".into()],
            ..request()
        }),
        ("targets", 1, PROBE_TARGETS as i64, |n| Request {
            targets: (0..n).map(|n| format!("10.0.0.{n}")).collect(),
            ..request()
        }),
        ("servers", 0, PROBE_SERVERS as i64, |n| dns(n, 0)),
        ("search", 0, PROBE_SEARCH as i64, |n| dns(0, n)),
        ("ca_pem", 0, PROBE_CA_BYTES as i64, |n| Request {
            kind: Some(Kind::Http { ca_pem: certificates(n) }),
            targets: vec!["http://a/".into()],
            ..request()
        }),
        ("max_size", 68, 65_535, |n| Request {
            kind: Some(Kind::PathMtu { max_size: Some(n as u32) }),
            ..request()
        }),
        ("sizes", 1, PROBE_SIZES as i64, |n| Request {
            kind: Some(Kind::Path {
                protocol: TraceProtocol::Icmp,
                sizes: vec![100; n as usize],
                dont_fragment: false,
                source_port: 0,
            }),
            ..request()
        }),
        ("max_hops", 1, 64, |n| Request { kind: Some(trace(TraceProtocol::Icmp, n as u32)), ..request() }),
        ("start_at", i64::MIN, limits::START_AHEAD_NANOS, |n| Request {
            start_at_nanos: Some(n),
            ..request()
        }),
    ];
    for (field, least, most, given) in limits {
        for within in [least, most] {
            assert!(resolve(given(within), &nodes(), 0).is_ok(), "{field} {within}");
        }
        assert!(refused(given(most + 1)).starts_with(&format!("{field}: ")), "{field}");
        if least > 0 {
            assert!(refused(given(least - 1)).starts_with(&format!("{field}: ")), "{field}");
        }
    }
    let places = |number: usize| Request {
        sources: (0..number).map(|n| Source { node: "a".into(), netns: format!("n{n}") }).collect(),
        ..request()
    };
    assert!(resolve(places(limits::PROBE_PLACES), &nodes(), 0).is_ok());
    assert_eq!(refused(places(limits::PROBE_PLACES + 1)), "sources: a has more than 64 of them, the limit");
    let many = |targets: usize, count, interval_nanos| Request {
        targets: (0..targets).map(|n| format!("10.0.0.{n}")).collect(),
        count: Some(count),
        interval_nanos: Some(interval_nanos),
        ..request()
    };
    assert!(resolve(many(10, 100, SECOND), &nodes(), 0).is_ok());
    let reason = refused(many(11, 100, SECOND));
    assert_eq!(reason, "count: 100 at each of 11 targets are 1100, above the limit of 1000");
    assert!(resolve(many(10, 1, 10 * MILLISECOND), &nodes(), 0).is_ok());
    let reason = refused(many(20, 1, 10 * MILLISECOND));
    assert!(reason.starts_with("interval: 20 targets every 10ms come to 2000 packets a second"), "{reason}");
    assert!(reason.ends_with("above the limit of 1000; give 20ms or more"), "{reason}");
}

#[test]
fn a_run_has_as_many_attempts_and_as_much_time_as_its_kind_takes() {
    let spec = |kind: Kind, target: &str| resolve(of(kind, target), &nodes(), 0).unwrap().0;
    let mtu = spec(Kind::PathMtu { max_size: None }, "10.0.0.1");
    assert_eq!((mtu.count, mtu.run_nanos()), (3, 20 * 600 * MILLISECOND));
    let udp = spec(trace(TraceProtocol::Udp, 30), "10.0.0.1");
    assert_eq!(udp.targets, ["10.0.0.1:33434"]);
    assert_eq!((udp.kind.attempts(udp.count), udp.run_nanos()), (90, (2 + 2) * SECOND + 300 * MILLISECOND));
    assert_eq!(spec(of_dns(&[], Record::A, &[]), "web").kind.attempts(5), 15);
    let gateways = Request { targets: Vec::new(), kind: Some(Kind::Gateway), ..request() };
    assert_eq!(resolve(gateways, &nodes(), 0).unwrap().0.kind.attempts(5), 40);
    let table = Kind::Table { table: NodeTable::Sockets };
    let table = Request { targets: Vec::new(), kind: Some(table), ..request() };
    let table = resolve(table, &nodes(), 0).unwrap().0;
    assert_eq!((table.count, table.kind.attempts(1), table.run_nanos()), (1, 1, 10 * SECOND));
    let stored = serde_json::to_string(&table.kind).unwrap();
    assert_eq!(stored, r#"{"table":{"table":"sockets"}}"#);
    assert_eq!(serde_json::from_str::<Kind>(&stored).unwrap(), table.kind);
    let hasty =
        Request { interval_nanos: Some(299 * MILLISECOND), ..of(trace(TraceProtocol::Icmp, 30), "10.0.0.1") };
    let reason = "interval: 299ms is too short for rounds of 30 hops; give 300ms or more, or fewer hops";
    assert_eq!(refused(hasty), reason);
    let deep = of(trace(TraceProtocol::Icmp, 64), "10.0.0.1");
    let reason = refused(Request { count: Some(16), ..deep });
    assert_eq!(reason, "count: 1024 at each of 1 targets are 1024, above the limit of 1000");
}

fn of(kind: Kind, target: &str) -> Request {
    Request { kind: Some(kind), targets: vec![target.to_owned()], ..request() }
}

#[test]
fn what_cannot_be_is_refused() {
    for (given, words) in [
        (Request { kind: None, ..request() }, "kind: missing"),
        (Request { sources: Vec::new(), ..request() }, "sources: give either"),
        (Request { all_nodes: true, ..request() }, "sources: give either"),
        (Request { sources: vec![source("z")], ..request() }, "no node named \"z\"; known: a, b, c"),
        (Request { sources: vec![source("a"), source("a")], ..request() }, "sources: a: comes twice"),
        (
            Request { sources: vec![Source { node: "a".into(), netns: "../x".into() }], ..request() },
            "netns: ",
        ),
        (Request { name: "n".repeat(64), ..request() }, "name: "),
        (Request { kind: Some(Kind::Gateway), ..request() }, "targets: gateways are found on the node"),
        (of(Kind::Table { table: NodeTable::Routes }, "10.0.0.1"), "targets: a table is that of the node"),
        (
            Request {
                kind: Some(Kind::Table { table: NodeTable::Routes }),
                targets: Vec::new(),
                count: Some(2),
                ..request()
            },
            "count: a table is read once",
        ),
        (of(Kind::Http { ca_pem: String::new() }, "10.0.0.1"), "targets: \"10.0.0.1\" has no scheme"),
        (of(Kind::Http { ca_pem: "no PEM".into() }, "http://a/"), "ca_pem: holds no certificate"),
        (of(Kind::Neighbor, "10.0.0.1:80"), "has a port, and such a probe has none"),
        (of(trace(TraceProtocol::Tcp, 30), "10.0.0.1"), "lacks a port"),
        (of(of_dns(&[], Record::A, &[]), "10.0.0.1"), "ask for its name with type ptr"),
        (of(of_dns(&[], Record::Ptr, &[]), "web"), "PTR asks for that of an address"),
        (of(of_dns(&["ns.example"], Record::A, &[]), "web"), "servers: ns.example is a name"),
        (of(of_dns(&[], Record::A, &["10.0.0.1"]), "web"), "search: 10.0.0.1 is no domain"),
        (of(of_dns(&[], Record::A, &["a:1"]), "web"), "search: a:1 is no domain"),
    ] {
        let reason = refused(given);
        assert!(reason.contains(words), "{reason}");
    }
    let nobody = Request { all_nodes: true, sources: Vec::new(), ..request() };
    let reason = resolve(nobody, &nodes()[1..2], 0).unwrap_err().to_string();
    assert!(reason.starts_with("all_nodes: no node is ready"), "{reason}");
}
