//! What the ends of all throughputs of a node share: what one takes the others lack, so these tests have a process of their own.

#[allow(dead_code, reason = "the tests of probes use the rest")]
#[path = "probes/support.rs"]
mod support;

use std::io::Read as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use lastseen_node_agent::clock::monotonic_nanos;
use lastseen_node_agent::probe::Probes;
use lastseen_node_agent::probe::board::Board;
use lastseen_node_agent::probe::report::{Finding, Report};
use lastseen_node_agent::probe::spec::{Flow, FlowProtocol, Kind, Schedule, Spec, Token};
use lastseen_proto::place::Place;
use support::{V4, apart, once, posted, reports};

/// They share the ends of this process.
static ALONE: Mutex<()> = Mutex::new(());

/// A receiver that nobody calls.
fn receiver(number: u16, protocol: FlowProtocol) -> Spec {
    let flow = Flow {
        protocol,
        duration: Duration::from_secs(1),
        bits_per_second: Some(1_000_000),
        max_bytes: 1_000_000,
        token: Token([7; 16]),
        receiver: Some(Place::Host),
        senders: vec![V4],
    };
    let spec = once(Kind::Throughput(flow), &[SocketAddr::new(V4, 20_001 + number).to_string()]);
    let schedule = Schedule {
        start: monotonic_nanos() + 500_000_000,
        count: 1,
        timeout: Duration::from_secs(1),
        ..spec.schedule
    };
    Spec { probe: format!("p-{number}"), schedule, ..spec }
}

fn all(probes: &Probes, count: usize) -> Vec<Report> {
    reports(&posted(probes.board(), |news| reports(news).len() >= count))
}

#[test]
fn no_more_ends_are_at_work_than_the_limit() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    apart(|| {
        const LIMIT: u16 = 16;
        let mut probes = Probes::new(Board::default());
        (0..=LIMIT).for_each(|number| probes.arm(receiver(number, FlowProtocol::Udp)));
        let reasons = all(&probes, usize::from(LIMIT) + 1);
        let reasons = reasons.iter().map(|report| report.results[0].reason.as_str());
        let refused: Vec<&str> = reasons.filter(|reason| !reason.is_empty()).collect();
        assert_eq!(refused, ["16 ends of throughputs are at work on this node, the limit; stop one or wait"]);
    });
}

#[test]
fn a_receiver_holds_no_more_strangers_than_the_limit() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    apart(|| {
        const LIMIT: usize = 16;
        let mut probes = Probes::new(Board::default());
        probes.arm(receiver(0, FlowProtocol::Tcp));
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut held = Vec::new();
        while held.len() <= LIMIT {
            match TcpStream::connect((V4, 20_001)) {
                Ok(stream) => held.push(stream),
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
        }
        // The one too many is closed at once; the others wait for their turn to speak.
        let last = held.last_mut().unwrap();
        last.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let closed = last.read(&mut [0; 1]);
        assert!(
            matches!(closed, Ok(0))
                || closed.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset)
        );
        let report = all(&probes, 1).remove(0);
        let Some(Finding::Throughput(seen)) = &report.results[0].finding else { panic!("{report:?}") };
        assert!(seen.strangers >= 1, "{seen:?}");
    });
}
