//! A namespace of its own for each test, and probes of one run.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::thread;
use std::time::{Duration, Instant};

use lastseen_node_agent::clock::monotonic_nanos;
use lastseen_node_agent::probe::Probes;
use lastseen_node_agent::probe::attempt::{Attempt, Outcome};
use lastseen_node_agent::probe::board::{Board, News};
use lastseen_node_agent::probe::report::Report;
use lastseen_node_agent::probe::spec::{Aim, Allowed, Family, Kind, Schedule, Spec};
use lastseen_proto::place::Place;
use nix::sched::{CloneFlags, unshare};

/// What does not happen within this time does not happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
pub(crate) const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// Runs `test` on a thread in a network namespace of its own, in which loopback is up and nothing else.
pub(crate) fn apart(test: impl FnOnce() + Send) {
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

pub(crate) fn once(kind: Kind, targets: &[String]) -> Spec {
    Spec {
        probe: "p-1".into(),
        places: vec![Place::Host],
        targets: targets.iter().map(|target| Aim::Host(target.parse().unwrap())).collect(),
        mesh: BTreeMap::new(),
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
pub(crate) fn posted(board: &Board, enough: impl Fn(&[News]) -> bool) -> Vec<News> {
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

pub(crate) fn reports(news: &[News]) -> Vec<Report> {
    let report = |news: &News| match news {
        News::Report(report) => Some(Report::clone(report)),
        News::Status(_) => None,
    };
    news.iter().filter_map(report).collect()
}

pub(crate) fn failures(news: &[News]) -> Vec<String> {
    let failure = |news: &News| match news {
        News::Status(status) => status.failure.clone(),
        News::Report(_) => None,
    };
    news.iter().filter_map(failure).collect()
}

/// The report of a probe of one run.
pub(crate) fn run(spec: Spec) -> Report {
    let mut probes = Probes::new(Board::default());
    probes.arm(spec);
    reports(&posted(probes.board(), |news| !reports(news).is_empty())).remove(0)
}

/// Outcomes of the attempts at each target, all of which must be alike.
pub(crate) fn outcomes(report: &Report) -> Vec<Outcome> {
    let alike = |attempts: &[Attempt]| {
        assert_eq!(attempts.len(), 3, "{report:?}");
        let outcome = attempts[0].outcome;
        assert!(attempts.iter().all(|attempt| attempt.outcome == outcome), "{report:?}");
        outcome
    };
    report.results.iter().map(|found| alike(&found.attempts)).collect()
}
