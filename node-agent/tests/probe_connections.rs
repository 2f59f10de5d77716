//! The connections of all probes of a node together: what one takes the others lack, so this test has a process of its own.

#[allow(dead_code, reason = "the tests of probes use the rest")]
#[path = "probes/support.rs"]
mod support;

use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use lastseen_node_agent::probe::attempt::Outcome;
use lastseen_node_agent::probe::spec::{Aim, Kind, Schedule, Spec};
use support::{V4, apart, once, run};

#[test]
fn no_more_connections_are_open_than_the_limit() {
    apart(|| {
        // Takes connections, and says nothing.
        let listener = TcpListener::bind((V4, 0)).unwrap();
        let at = listener.local_addr().unwrap();
        thread::spawn(move || {
            let mut held = Vec::new();
            listener.incoming().for_each(|stream| held.push(stream));
        });
        let urls = (0..4).map(|n| Aim::Url(format!("http://{at}/{n}").parse().unwrap()));
        let spec = once(Kind::Http { ca_pem: String::new() }, &[]);
        let (interval, timeout) = (Duration::from_millis(1), Duration::from_secs(2));
        let schedule = Schedule { count: 100, interval, timeout, ..spec.schedule };
        let report = run(Spec { targets: urls.collect(), schedule, ..spec });
        let attempts = report.results.iter().flat_map(|found| &found.attempts);
        let (silent, others): (Vec<_>, Vec<_>) =
            attempts.partition(|attempt| attempt.outcome == Outcome::Silent);
        assert_eq!((silent.len(), others.len()), (256, 144));
        for attempt in others {
            assert_eq!(attempt.outcome, Outcome::NotSent);
            assert!(
                attempt.detail.starts_with("256 connections of probes are open on this node"),
                "{attempt:?}"
            );
        }
    });
}
