//! Routers on the way to an address of the namespace itself, which are none.

use std::net::{SocketAddr, TcpListener};

use lastseen_node_agent::probe::attempt::Outcome;
use lastseen_node_agent::probe::spec::{Kind, TraceProtocol};

use crate::support::{V4, V6, apart, once, run};

fn ends(protocol: TraceProtocol, target: SocketAddr) -> Vec<(Outcome, Option<u8>)> {
    let report = run(once(Kind::Trace { protocol, max_hops: 5 }, &[target.to_string()]));
    let attempts = &report.results[0].attempts;
    assert!(
        attempts.iter().all(|attempt| attempt.responder.is_none() && attempt.delay.is_some()),
        "{report:?}"
    );
    attempts.iter().map(|attempt| (attempt.outcome, attempt.hop_limit)).collect()
}

#[test]
fn the_target_is_one_hop_away_and_no_packet_goes_further() {
    apart(|| {
        for address in [V4, V6] {
            let listener = TcpListener::bind((address, 0)).unwrap();
            let (open, closed) = (listener.local_addr().unwrap(), SocketAddr::new(address, 9));
            for (protocol, target, outcome) in [
                (TraceProtocol::Icmp, closed, Outcome::Answered),
                (TraceProtocol::Udp, closed, Outcome::Refused),
                (TraceProtocol::Tcp, closed, Outcome::Refused),
                (TraceProtocol::Tcp, open, Outcome::Answered),
            ] {
                // On a busy machine another one is under way before the first answer is looked at.
                let seen = ends(protocol, target);
                let first = seen.iter().filter(|end| **end == (outcome, Some(1))).count();
                assert!(
                    first == 3 && seen.iter().all(|end| end.0 == outcome),
                    "{protocol:?} {target}: {seen:?}"
                );
            }
        }
    });
}
