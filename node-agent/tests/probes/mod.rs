//! The probes of a node, in network namespaces of the test's own.

mod dns;
mod http;
mod tables;
mod throughput;
mod trace;

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{PATIENCE, V4, V6, apart, failures, once, outcomes, posted, reports, run};
use lastseen_node_agent::clock::monotonic_nanos;
use lastseen_node_agent::probe::Probes;
use lastseen_node_agent::probe::attempt::Outcome;
use lastseen_node_agent::probe::board::{Board, News};
use lastseen_node_agent::probe::report::{Finding, Method};
use lastseen_node_agent::probe::spec::{Aim, Allowed, Kind, Schedule, Spec};
use lastseen_proto::limits::PROBES_PER_NODE;

#[test]
fn echoes_come_back_in_order_and_in_time() {
    apart(|| {
        let spec = once(Kind::Icmp { size: 56, dont_fragment: true }, &[V4.to_string(), V6.to_string()]);
        let begin = spec.schedule.start;
        let report = run(spec);
        assert_eq!(outcomes(&report), [Outcome::Answered; 2]);
        assert!(monotonic_nanos() > begin);
        for found in &report.results {
            for pair in found.attempts.windows(2) {
                assert!(pair[1].sent - pair[0].sent >= 10_000_000, "{found:?}");
            }
            for attempt in &found.attempts {
                let delay = attempt.delay.expect("it was answered");
                assert!(delay > Duration::ZERO && delay < Duration::from_millis(500), "{attempt:?}");
                assert_eq!(attempt.responder, None);
            }
        }
    });
}

#[test]
fn ports_are_open_closed_or_silent() {
    apart(|| {
        let mut targets = Vec::new();
        let mut sockets = Vec::new();
        for address in [V4, V6] {
            let listener = TcpListener::bind((address, 0)).unwrap();
            targets.push(listener.local_addr().unwrap().to_string());
            targets.push(SocketAddr::new(address, 1).to_string());
            sockets.push(listener);
        }
        let expected = [Outcome::Answered, Outcome::Refused].repeat(2);
        assert_eq!(outcomes(&run(once(Kind::Tcp, &targets))), expected);
        let (mut targets, mut silent) = (Vec::new(), Vec::new());
        for address in [V4, V6] {
            let (echo, mute) =
                (UdpSocket::bind((address, 0)).unwrap(), UdpSocket::bind((address, 0)).unwrap());
            targets.push(echo.local_addr().unwrap().to_string());
            targets.push(mute.local_addr().unwrap().to_string());
            silent.push(mute);
            echo.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            thread::spawn(move || {
                let (mut buffer, deadline) = ([0; 64], Instant::now() + PATIENCE);
                while Instant::now() < deadline {
                    match echo.recv_from(&mut buffer) {
                        Ok((length, from)) => drop(echo.send_to(&buffer[..length], from)),
                        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                        }
                        Err(_) => return,
                    }
                }
            });
        }
        let expected = [Outcome::Answered, Outcome::Silent].repeat(2);
        assert_eq!(outcomes(&run(once(Kind::Udp { payload: None }, &targets))), expected);
        let given = once(Kind::Udp { payload: Some(b"hello".to_vec()) }, &targets);
        assert_eq!(outcomes(&run(given)), expected);
        let closed = run(once(Kind::Udp { payload: None }, &[SocketAddr::new(V4, 9).to_string()]));
        let first = &closed.results[0].attempts[0];
        assert_eq!(
            (first.outcome, first.detail.as_str()),
            (Outcome::Refused, "port unreachable"),
            "{closed:?}"
        );
    });
}

#[test]
fn what_cannot_be_sent_says_why() {
    apart(|| {
        let far = run(once(Kind::Icmp { size: 56, dont_fragment: false }, &["192.0.2.1".into()]));
        assert_eq!(far.results[0].reason, "there is no route to it from here");
        let large = once(Kind::Icmp { size: 65_507, dont_fragment: true }, &[V4.to_string()]);
        // The loopback's MTU is 65,536: 65,507 and 28 bytes of headers fit.
        assert_eq!(outcomes(&run(large)), [Outcome::Answered]);
        let tcp = run(once(Kind::Tcp, &["192.0.2.1:80".into()]));
        let first = &tcp.results[0].attempts[0];
        assert_eq!(
            (first.outcome, first.detail.as_str()),
            (Outcome::NotSent, "there is no route to it from here")
        );
        let refused = run(once(Kind::Tcp, &["169.254.169.254:80".into()]));
        assert!(refused.results[0].reason.contains("metadata service"), "{refused:?}");
        assert_eq!(refused.results[0].attempts, []);
        let allowed = Allowed::new(vec!["10.0.0.0/8".parse().unwrap()]);
        let refused = run(Spec { allowed, ..once(Kind::Tcp, &["127.0.0.1:80".into()]) });
        assert!(refused.results[0].reason.contains("probe-networks"), "{refused:?}");
    });
}

#[test]
fn a_node_takes_no_more_probes_than_the_limit() {
    apart(|| {
        let mut probes = Probes::new(Board::default());
        let often = |number: usize| {
            let spec = once(Kind::Icmp { size: 56, dont_fragment: false }, &[V4.to_string()]);
            let schedule = Schedule { every: Some(Duration::from_hours(1)), ..spec.schedule };
            Spec { probe: format!("p-{number}"), schedule, ..spec }
        };
        (0..PROBES_PER_NODE).for_each(|number| probes.arm(often(number)));
        probes.arm(often(PROBES_PER_NODE));
        let refused = failures(&posted(probes.board(), |news| !failures(news).is_empty()));
        assert_eq!(refused, ["32 probes run on this node, the limit; stop one or wait"]);
        probes.end("p-0");
        probes.arm(often(PROBES_PER_NODE + 1));
        assert!(probes.ids().contains(&format!("p-{}", PROBES_PER_NODE + 1)));
    });
}

#[test]
fn a_schedule_runs_without_gaps_takes_up_new_times_and_ends_when_told() {
    apart(|| {
        let mut probes = Probes::new(Board::default());
        let spec = once(Kind::Icmp { size: 56, dont_fragment: false }, &[V4.to_string()]);
        let every = Some(Duration::from_millis(200));
        let spec = Spec { schedule: Schedule { every, count: 1, ..spec.schedule }, ..spec };
        probes.arm(spec.clone());
        let runs = |news: &[News]| reports(news).iter().map(|report| report.run).collect::<Vec<_>>();
        let news = posted(probes.board(), |news| runs(news).len() >= 4);
        assert_eq!(runs(&news)[..4], [0, 1, 2, 3]);
        // The same probe once more, as after a lost connection: it goes on, and says again that it is armed.
        let before = probes.board().subscribe().borrow().since(0, usize::MAX).1;
        probes.arm(spec);
        let is_armed = |news: &[News]| news.iter().any(|news| matches!(news, News::Status(_)));
        assert!(is_armed(&probes.board().subscribe().borrow().since(before, usize::MAX).0));
        let news = posted(probes.board(), |news| runs(news).len() >= 6);
        let seen = runs(&news);
        assert_eq!(seen, (0..seen.len() as u64).collect::<Vec<_>>(), "none is made twice or left out");
        probes.end("p-1");
        thread::sleep(Duration::from_millis(500));
        assert_eq!(
            probes.board().subscribe().borrow().since(0, usize::MAX).0,
            [],
            "nobody wants to hear of it"
        );
    });
}

#[test]
fn a_path_of_one_interface_takes_what_the_interface_takes() {
    apart(|| {
        for target in [V4, V6] {
            let report = run(once(Kind::PathMtu { max_size: None }, &[target.to_string()]));
            let Some(Finding::PathMtu(path)) = &report.results[0].finding else { panic!("{report:?}") };
            // The loopback's is larger than an IPv4 packet can be.
            assert_eq!((path.mtu, path.method), (Some(u16::MAX), Method::Interface), "{report:?}");
            let small = run(once(Kind::PathMtu { max_size: Some(1_400) }, &[target.to_string()]));
            let Some(Finding::PathMtu(path)) = &small.results[0].finding else { panic!("{small:?}") };
            assert_eq!((path.mtu, path.interface_mtu, path.method), (Some(1_400), 65_536, Method::Asked));
            assert!(small.results[0].attempts.iter().all(|attempt| attempt.size == Some(1_400)), "{small:?}");
        }
        let tiny = run(once(Kind::PathMtu { max_size: Some(1_000) }, &[V6.to_string()]));
        assert!(tiny.results[0].reason.contains("every link takes 1280"), "{tiny:?}");
    });
}

#[test]
fn what_has_no_link_has_no_neighbours_nor_gateways() {
    apart(|| {
        let gateways = run(Spec { targets: vec![Aim::Gateways], ..once(Kind::Gateway, &[]) });
        assert_eq!(gateways.results[0].reason, "there is no default route with a gateway");
        let neighbor = run(once(Kind::Neighbor, &["127.0.0.2".into()]));
        assert!(neighbor.results[0].reason.contains("no interface"), "{neighbor:?}");
        let far = run(once(Kind::Neighbor, &["192.0.2.1".into()]));
        assert_eq!(far.results[0].reason, "there is no route to it from here");
    });
}
