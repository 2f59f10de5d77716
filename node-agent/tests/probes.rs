//! The probes of a node, in network namespaces of the test's own.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use lastseen_node_agent::clock::monotonic_nanos;
use lastseen_node_agent::probe::Probes;
use lastseen_node_agent::probe::attempt::Outcome;
use lastseen_node_agent::probe::board::{Board, News};
use lastseen_node_agent::probe::report::Report;
use lastseen_node_agent::probe::spec::{Allowed, Family, Kind, Schedule, Spec};
use lastseen_proto::limits::PROBES_PER_NODE;
use lastseen_proto::place::Place;
use nix::sched::{CloneFlags, unshare};

/// What does not happen within this time does not happen.
const PATIENCE: Duration = Duration::from_secs(30);
const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// Runs `test` on a thread in a network namespace of its own, in which loopback is up and nothing else.
fn apart(test: impl FnOnce() + Send) {
    thread::scope(|scope| {
        let joined = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("these tests make network namespaces: run them as root");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (connection, handle, _) = rtnetlink::new_connection().unwrap();
                tokio::spawn(connection);
                let up = rtnetlink::LinkUnspec::new_with_index(1).up().build();
                handle.link().set(up).execute().await.unwrap();
            });
            test();
        });
        joined.join().unwrap();
    });
}

fn once(kind: Kind, targets: &[String]) -> Spec {
    Spec {
        probe: "p-1".into(),
        places: vec![Place::Host],
        targets: targets.iter().map(|target| target.parse().unwrap()).collect(),
        kind,
        schedule: Schedule {
            start: monotonic_nanos() + 100_000_000,
            every: None,
            first_run: 0,
            count: 3,
            interval: Duration::from_millis(20),
            timeout: Duration::from_millis(500),
        },
        family: Family::Any,
        allowed: Allowed::default(),
    }
}

/// What is posted, until `enough` of it is there.
fn posted(board: &Board, enough: impl Fn(&[News]) -> bool) -> Vec<News> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (news, _) = board.subscribe().borrow().since(0, usize::MAX);
        if enough(&news) {
            return news;
        }
        assert!(Instant::now() < deadline, "{news:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn reports(news: &[News]) -> Vec<Report> {
    let report = |news: &News| match news {
        News::Report(report) => Some(Report::clone(report)),
        News::Status(_) => None,
    };
    news.iter().filter_map(report).collect()
}

fn failures(news: &[News]) -> Vec<String> {
    let failure = |news: &News| match news {
        News::Status(status) => status.failure.clone(),
        News::Report(_) => None,
    };
    news.iter().filter_map(failure).collect()
}

/// The report of a probe of one run.
fn run(spec: Spec) -> Report {
    let mut probes = Probes::new(Board::default());
    probes.arm(spec);
    reports(&posted(probes.board(), |news| !reports(news).is_empty())).remove(0)
}

/// Outcomes of the attempts at each target, all of which must be alike.
fn outcomes(report: &Report) -> Vec<Outcome> {
    let alike = |attempts: &[lastseen_node_agent::probe::attempt::Attempt]| {
        assert_eq!(attempts.len(), 3, "{report:?}");
        let outcome = attempts[0].outcome;
        assert!(attempts.iter().all(|attempt| attempt.outcome == outcome), "{report:?}");
        outcome
    };
    report.results.iter().map(|found| alike(&found.attempts)).collect()
}

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
