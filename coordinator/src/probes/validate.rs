//! What is asked for, before anything is stored.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use lastseen_proto::limits::{
    PROBE_CA_BYTES, PROBE_COUNT, PROBE_EVERY_NANOS, PROBE_HOP_NANOS, PROBE_HOPS, PROBE_INTERVAL_NANOS,
    PROBE_MTU, PROBE_PAYLOAD_BYTES, PROBE_SEARCH, PROBE_SERVERS, PROBE_SIZE, PROBE_SIZES, PROBE_TARGETS,
    PROBE_TIMEOUT_NANOS,
};
use lastseen_proto::target::{Host, Target, TargetError};
use lastseen_proto::url::{UrlError, WebUrl};
use lastseen_runtime::roots;

use super::model::{Family, Kind, Record, Source, Spec, TraceProtocol};
use super::whereabouts::place;
use crate::error::Error;
use crate::fleet::NodeView;
use crate::jobs::check_labels;
use crate::limits;
use crate::model::{MILLISECOND, SECOND};
use crate::time::display_span;

/// As it is asked for: what is absent is filled in.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// For people.
    pub name: String,
    /// For people and tools.
    pub labels: BTreeMap<String, String>,
    /// The host of every node that is ready.
    pub all_nodes: bool,
    /// Whence.
    pub sources: Vec<Source>,
    /// Whither.
    pub targets: Vec<String>,
    /// How.
    pub kind: Option<Kind>,
    /// Attempts.
    pub count: Option<u32>,
    /// Between two.
    pub interval_nanos: Option<i64>,
    /// Patience.
    pub timeout_nanos: Option<i64>,
    /// For names.
    pub family: Option<Family>,
    /// Begin.
    pub start_at_nanos: Option<i64>,
    /// Again and again.
    pub every_nanos: Option<i64>,
}

/// What a kind does when the caller does not say.
struct Defaults {
    /// Attempts.
    count: u32,
    /// Between two of them.
    interval_nanos: i64,
    /// Patience.
    timeout_nanos: i64,
}

impl Defaults {
    fn of(kind: &Kind) -> Self {
        let usual = Self { count: 5, interval_nanos: 200 * MILLISECOND, timeout_nanos: 2 * SECOND };
        match kind {
            // Every size that does not come through is waited for.
            Kind::PathMtu { .. } => {
                Self { count: 3, interval_nanos: 50 * MILLISECOND, timeout_nanos: 500 * MILLISECOND }
            }
            // Routers answer about one a second to each address (icmp_ratelimit).
            Kind::Trace { .. } => Self { count: 3, interval_nanos: SECOND, ..usual },
            _ => usual,
        }
    }
}

/// Where a trace by UDP goes unless a port is named, as `traceroute` has it.
const TRACE_PORT: u16 = 33_434;

/// Between two runs: the end of one must not delay the next.
const REST_NANOS: i64 = 100 * MILLISECOND;

/// The probe, and its sources, or what is wrong with it. `nodes` are all that are known.
pub fn resolve(request: Request, nodes: &[NodeView], now_nanos: i64) -> Result<(Spec, Vec<Source>), Error> {
    check_labels(&request.name, &request.labels)?;
    let kind = request.kind.ok_or_else(|| Error::invalid("kind", "missing; say how to probe"))?;
    check_kind(&kind)?;
    let targets = targets(request.targets, &kind)?;
    let within = |field: &'static str, asked: Option<i64>, default: i64, limits: &RangeInclusive<i64>| {
        let nanos = asked.unwrap_or(default);
        let reason = || {
            let [asked, least, most] = [nanos, *limits.start(), *limits.end()].map(display_span);
            format!("{asked} is not within {least} and {most}")
        };
        if limits.contains(&nanos) { Ok(nanos) } else { Err(Error::invalid(field, reason())) }
    };
    let defaults = Defaults::of(&kind);
    let count = request.count.unwrap_or(defaults.count);
    if !PROBE_COUNT.contains(&count) {
        let reason = format!("{count} is not within {} and {}", PROBE_COUNT.start(), PROBE_COUNT.end());
        return Err(Error::invalid("count", reason));
    }
    let every = request.every_nanos;
    let spec = Spec {
        name: request.name,
        labels: request.labels,
        all_nodes: request.all_nodes,
        targets,
        kind,
        count,
        interval_nanos: within(
            "interval",
            request.interval_nanos,
            defaults.interval_nanos,
            &PROBE_INTERVAL_NANOS,
        )?,
        timeout_nanos: within(
            "timeout",
            request.timeout_nanos,
            defaults.timeout_nanos,
            &PROBE_TIMEOUT_NANOS,
        )?,
        family: request.family.unwrap_or(Family::Any),
        every_nanos: every.map(|nanos| within("every", Some(nanos), 0, &PROBE_EVERY_NANOS)).transpose()?,
    };
    check_rate(&spec)?;
    if let Some(at) =
        request.start_at_nanos.filter(|at| at.saturating_sub(now_nanos) > limits::START_AHEAD_NANOS)
    {
        let ahead = display_span(at.saturating_sub(now_nanos));
        let most = display_span(limits::START_AHEAD_NANOS);
        return Err(Error::invalid("start_at", format!("{ahead} ahead is above the limit of {most}")));
    }
    let sources = sources(request.all_nodes, request.sources, nodes)?;
    Ok((spec, sources))
}

fn check_kind(kind: &Kind) -> Result<(), Error> {
    let check = |field: &'static str, given: u32, limits: &RangeInclusive<u32>, unit: &str| {
        let reason = format!("{given} is not within {} and {}{unit}", limits.start(), limits.end());
        if limits.contains(&given) { Ok(()) } else { Err(Error::invalid(field, reason)) }
    };
    match kind {
        Kind::Icmp { size, .. } => check("size", *size, &PROBE_SIZE, " bytes"),
        Kind::PathMtu { max_size: Some(size) } => check("max_size", *size, &PROBE_MTU, " bytes"),
        Kind::Trace { max_hops, .. } => check("max_hops", *max_hops, &PROBE_HOPS, ""),
        Kind::Path { sizes, .. } if !(1..=PROBE_SIZES).contains(&sizes.len()) => {
            let reason = format!("{} are not within 1 and {PROBE_SIZES}", sizes.len());
            Err(Error::invalid("sizes", reason))
        }
        Kind::Path { sizes, .. } => {
            sizes.iter().try_for_each(|size| check("sizes", *size, &PROBE_MTU, " bytes"))
        }
        Kind::Dns { servers, search, .. } => check_dns(servers, search),
        Kind::Http { ca_pem } if ca_pem.is_empty() => Ok(()),
        Kind::Http { ca_pem } if ca_pem.len() > PROBE_CA_BYTES => {
            let reason = format!("{} bytes are above the limit of {PROBE_CA_BYTES}", ca_pem.len());
            Err(Error::invalid("ca_pem", reason))
        }
        Kind::Http { ca_pem } => {
            roots::from_pem(ca_pem).map(drop).map_err(|reason| Error::invalid("ca_pem", reason))
        }
        Kind::Udp { payload } if payload.len() > PROBE_PAYLOAD_BYTES => {
            let reason = format!("{} bytes are above the limit of {PROBE_PAYLOAD_BYTES}", payload.len());
            Err(Error::invalid("payload", reason))
        }
        _ => Ok(()),
    }
}

fn check_dns(servers: &[String], search: &[String]) -> Result<(), Error> {
    for (field, given, most) in [("servers", servers, PROBE_SERVERS), ("search", search, PROBE_SEARCH)] {
        if given.len() > most {
            let reason = format!("{} are above the limit of {most}", given.len());
            return Err(Error::invalid(field, reason));
        }
    }
    for (field, text) in
        servers.iter().map(|text| ("servers", text)).chain(search.iter().map(|text| ("search", text)))
    {
        let target: Result<Target, TargetError> = text.parse();
        let target = target.map_err(|error| Error::invalid(field, error.to_string()))?;
        match (field, &target.host, target.port) {
            ("servers", Host::Name(name), _) => {
                let reason = format!("{name} is a name; give the server's address");
                return Err(Error::invalid(field, reason));
            }
            ("search", Host::Address(_), _) | ("search", _, Some(_)) => {
                return Err(Error::invalid(field, format!("{target} is no domain")));
            }
            _ => {}
        }
    }
    Ok(())
}

/// As they are stored: one way to write each.
fn targets(given: Vec<String>, kind: &Kind) -> Result<Vec<String>, Error> {
    if *kind == Kind::Gateway {
        let reason = "gateways are found on the node; leave the targets out";
        return if given.is_empty() { Ok(given) } else { Err(Error::invalid("targets", reason)) };
    }
    if given.is_empty() || given.len() > PROBE_TARGETS {
        let reason = format!("{} targets; give 1 to {PROBE_TARGETS}", given.len());
        return Err(Error::invalid("targets", reason));
    }
    let targets: Result<Vec<String>, String> = given.into_iter().map(|given| target(&given, kind)).collect();
    let targets = targets.map_err(|reason| Error::invalid("targets", reason))?;
    let mut seen = BTreeSet::new();
    match targets.iter().find(|target| !seen.insert(*target)) {
        Some(twice) => Err(Error::invalid("targets", format!("{twice} comes twice; leave one out"))),
        None => Ok(targets),
    }
}

fn target(given: &str, kind: &Kind) -> Result<String, String> {
    if matches!(kind, Kind::Http { .. }) {
        let url: WebUrl = given.parse().map_err(|error: UrlError| error.to_string())?;
        return Ok(url.to_string());
    }
    let mut target: Target = given.parse().map_err(|error: TargetError| error.to_string())?;
    let has_port = match kind {
        Kind::Path { protocol, .. } => *protocol != TraceProtocol::Icmp,
        Kind::Trace { protocol: TraceProtocol::Udp, .. } => {
            target.port = target.port.or(Some(TRACE_PORT));
            true
        }
        Kind::Tcp | Kind::Udp { .. } | Kind::Trace { protocol: TraceProtocol::Tcp, .. } => true,
        _ => false,
    };
    match (has_port, target.port) {
        (true, None) => return Err(format!("{target} lacks a port; give {target}:80 for example")),
        (false, Some(_)) => {
            return Err(format!("{target} has a port, and such a probe has none; leave it out"));
        }
        _ => {}
    }
    match (kind, &target.host) {
        (Kind::Dns { record: Record::Ptr, .. }, Host::Name(name)) => {
            Err(format!("{name} is a name, and PTR asks for that of an address"))
        }
        (Kind::Dns { record: Record::A | Record::Aaaa | Record::Srv, .. }, Host::Address(address)) => {
            Err(format!("{address} is an address; ask for its name with type ptr"))
        }
        _ => Ok(target.to_string()),
    }
}

/// What one source sends, and that a run ends before the next.
fn check_rate(spec: &Spec) -> Result<(), Error> {
    let targets = spec.targets.len().max(1);
    let attempts = targets * spec.kind.attempts(spec.count);
    if attempts > limits::PROBE_ATTEMPTS {
        let (each, most) = (spec.kind.attempts(spec.count), limits::PROBE_ATTEMPTS);
        let reason = format!("{each} at each of {targets} targets are {attempts}, above the limit of {most}");
        return Err(Error::invalid("count", reason));
    }
    if let Kind::Trace { max_hops, .. } = spec.kind
        && spec.count > 1
    {
        let least = i64::from(max_hops) * PROBE_HOP_NANOS;
        if spec.interval_nanos < least {
            let [given, least] = [spec.interval_nanos, least].map(display_span);
            let reason = format!(
                "{given} is too short for rounds of {max_hops} hops; give {least} or more, or fewer hops"
            );
            return Err(Error::invalid("interval", reason));
        }
    }
    let at_once = targets as f64 * spec.kind.attempts_at_once();
    let per_second = at_once * SECOND as f64 / spec.interval_nanos as f64;
    if per_second > limits::PROBES_PER_SECOND {
        let least = at_once / limits::PROBES_PER_SECOND;
        return Err(Error::invalid(
            "interval",
            format!(
                "{targets} targets every {} come to {per_second:.0} packets a second from each source, above the limit of {:.0}; \
                 give {} or more",
                display_span(spec.interval_nanos),
                limits::PROBES_PER_SECOND,
                display_span((least * SECOND as f64).ceil() as i64),
            ),
        ));
    }
    let least = spec.run_nanos() + REST_NANOS;
    if let Some(every) = spec.every_nanos.filter(|every| *every < least) {
        let [every, least] = [every, least].map(display_span);
        let reason = format!("{every} is too short for a run; give {least} or more");
        return Err(Error::invalid("every", reason));
    }
    Ok(())
}

fn sources(all_nodes: bool, given: Vec<Source>, nodes: &[NodeView]) -> Result<Vec<Source>, Error> {
    if all_nodes != given.is_empty() {
        return Err(Error::invalid("sources", "give either sources or all_nodes"));
    }
    let mut given: Vec<Source> = if all_nodes {
        let ready = nodes.iter().filter(|node| node.is_ready);
        ready.map(|node| Source { node: node.record.name.clone(), netns: String::new() }).collect()
    } else {
        given
    };
    if given.is_empty() {
        return Err(Error::Precondition("all_nodes: no node is ready; `ctl list-nodes` says why".to_owned()));
    }
    if given.len() > limits::NODES_PER_CAPTURE {
        let reason = format!("{} sources; the limit is {}", given.len(), limits::NODES_PER_CAPTURE);
        return Err(Error::invalid("sources", reason));
    }
    let (mut sources, mut places) = (BTreeSet::new(), BTreeMap::<&str, usize>::new());
    for source in &mut given {
        *source = place("sources", source.clone(), nodes)?;
    }
    for source in &given {
        if !sources.insert(source) {
            let reason = format!("{}:{} comes twice; leave one out", source.node, source.netns);
            return Err(Error::invalid("sources", reason));
        }
        let of_node = places.entry(&source.node).or_default();
        *of_node += 1;
        if *of_node > limits::PROBE_PLACES {
            let most = limits::PROBE_PLACES;
            return Err(Error::invalid(
                "sources",
                format!("{} has more than {most} of them, the limit", source.node),
            ));
        }
    }
    Ok(given)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::NodeRecord;

    fn nodes() -> Vec<NodeView> {
        let node = |name: &str, is_ready| NodeView {
            record: NodeRecord {
                name: name.into(),
                agent_version: String::new(),
                kernel: String::new(),
                incarnation: 1,
                last_seen_nanos: 0,
                capabilities: Vec::new(),
                topology: bytes::Bytes::new(),
            },
            is_ready,
            clock: None,
            round_trip_nanos: None,
            resident_bytes: None,
            notes: Vec::new(),
        };
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
            ("max_hops", 1, 64, |n| Request {
                kind: Some(trace(TraceProtocol::Icmp, n as u32)),
                ..request()
            }),
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
        assert_eq!(
            refused(places(limits::PROBE_PLACES + 1)),
            "sources: a has more than 64 of them, the limit"
        );
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
        assert!(
            reason.starts_with("interval: 20 targets every 10ms come to 2000 packets a second"),
            "{reason}"
        );
        assert!(reason.ends_with("above the limit of 1000; give 20ms or more"), "{reason}");
    }

    #[test]
    fn a_run_has_as_many_attempts_and_as_much_time_as_its_kind_takes() {
        let spec = |kind: Kind, target: &str| resolve(of(kind, target), &nodes(), 0).unwrap().0;
        let mtu = spec(Kind::PathMtu { max_size: None }, "10.0.0.1");
        assert_eq!((mtu.count, mtu.run_nanos()), (3, 20 * 600 * MILLISECOND));
        let udp = spec(trace(TraceProtocol::Udp, 30), "10.0.0.1");
        assert_eq!(udp.targets, ["10.0.0.1:33434"]);
        assert_eq!(
            (udp.kind.attempts(udp.count), udp.run_nanos()),
            (90, (2 + 2) * SECOND + 300 * MILLISECOND)
        );
        assert_eq!(spec(of_dns(&[], Record::A, &[]), "web").kind.attempts(5), 15);
        let gateways = Request { targets: Vec::new(), kind: Some(Kind::Gateway), ..request() };
        assert_eq!(resolve(gateways, &nodes(), 0).unwrap().0.kind.attempts(5), 40);
        let hasty = Request {
            interval_nanos: Some(299 * MILLISECOND),
            ..of(trace(TraceProtocol::Icmp, 30), "10.0.0.1")
        };
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
}
