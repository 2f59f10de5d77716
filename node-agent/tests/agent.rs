//! The program itself, against a coordinator that the test plays.

mod common;
#[path = "common/coordinator.rs"]
mod coordinator;
#[path = "common/pki.rs"]
mod pki;

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use common::{Namespace, listen, reach, veth};
use coordinator::Coordinator;
use lastseen_node_agent::clock::monotonic_nanos;
use lastseen_proto::v1::CaptureState::{Armed, Cancelled, Completed, Draining, Failed, Running};
use lastseen_proto::v1::agent_message::Kind as Up;
use lastseen_proto::v1::coordinator_message::Kind as Down;
use lastseen_proto::v1::{
    ArmCapture, CaptureSpec, CaptureStatus, ClockPing, CommitWindow, Direction, EndCapture, InterfaceKind,
};
use lastseen_proto::{PROTOCOL_VERSION, batch};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pki::Authority;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const MS: i64 = 1_000_000;

/// A node in a namespace, with a link to a peer, and the key material of its agent and coordinator.
struct Lab {
    node: Arc<Namespace>,
    /// Holds the other end of the link.
    _peer: Namespace,
    authority: Authority,
    coordinator_pki: PathBuf,
    agent_pki: PathBuf,
}

impl Lab {
    fn new() -> Self {
        let (node, peer) = (Namespace::new(), Namespace::new());
        veth(&node, &peer, "eth0");
        listen(&peer, 9000);
        reach(&node, "10.9.0.2:9000", &peer);
        let authority = Authority::new();
        let (coordinator_pki, agent_pki) = (authority.issue("coordinator"), authority.issue("agent/node-a"));
        Self { node: Arc::new(node), _peer: peer, authority, coordinator_pki, agent_pki }
    }

    /// Runs `test` in the node's namespace.
    fn run<F: Future<Output = ()> + 'static>(&self, test: impl FnOnce() -> F + Send + 'static) {
        self.node.run(|| {
            // Its threads are made in this namespace and stay there.
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(test());
        });
    }
}

/// A running agent, killed when dropped.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Agent {
    /// Asks it to stop and returns how it ended.
    fn terminate(mut self) -> std::process::ExitStatus {
        kill(Pid::from_raw(self.0.id() as i32), Signal::SIGTERM).unwrap();
        self.0.wait().unwrap()
    }
}

#[allow(clippy::disallowed_methods)] // The program under test.
fn command(pki: &std::path::Path, port: u16) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_node-agent"));
    // The environment gives way to flags, so that a test can set each.
    command.env_clear().env("LASTSEEN_NODE_NAME", "node-a").env("LASTSEEN_ADMIN_LISTEN", "127.0.0.1:0");
    command.env("LASTSEEN_COORDINATOR", format!("127.0.0.1:{port}")).arg("--pki-dir").arg(pki);
    command.stderr(Stdio::piped());
    command
}

/// Starts an agent in the namespace of the calling thread.
fn agent(pki: &std::path::Path, port: u16, more: &[&str]) -> Agent {
    Agent(command(pki, port).args(more).stderr(Stdio::inherit()).spawn().unwrap())
}

fn arm(capture: &str, spec: CaptureSpec) -> Down {
    Down::ArmCapture(ArmCapture {
        capture_id: capture.into(),
        spec: Some(spec),
        identity_key: vec![5; 16].into(),
        fabric_endpoints: Vec::new(),
    })
}

/// A window that starts after `ahead` and lasts `length` milliseconds.
fn commit(capture: &str, ahead: i64, length: i64) -> Down {
    let start = monotonic_nanos() + ahead * MS;
    Down::CommitWindow(CommitWindow {
        capture_id: capture.into(),
        start_monotonic_nanos: start,
        end_monotonic_nanos: start + length * MS,
        start_unix_nanos: 0,
    })
}

fn on_eth0() -> CaptureSpec {
    CaptureSpec { interfaces: vec!["eth0".into()], filter: "udp port 9000".into(), ..Default::default() }
}

/// Sends datagrams to the peer's address.
async fn traffic(count: u32) {
    let socket = tokio::net::UdpSocket::bind("10.9.0.1:0").await.unwrap();
    for number in 0..count {
        // The peer may answer that nobody listens; the packets were sent all the same.
        let _ = socket.send_to(&number.to_be_bytes(), "10.9.0.2:9000").await;
    }
}

fn batches_by_point(status: &CaptureStatus) -> BTreeMap<(u32, i32), u64> {
    let point = |p: &lastseen_proto::v1::PointStatus| {
        let point = p.point.as_ref().unwrap();
        ((point.index, point.direction), p.batches)
    };
    status.points.iter().map(point).collect()
}

/// Every sequence below the reported count came, and rows and counters agree.
fn check_complete(coordinator: &Coordinator, status: &CaptureStatus) -> u32 {
    let batches = coordinator.state.batches.lock().unwrap();
    let mut rows = 0;
    for ((index, direction), count) in batches_by_point(status) {
        let of_point: Vec<_> =
            batches.iter().filter(|((i, d, _), _)| (*i, *d) == (index, direction)).collect();
        let sequences: Vec<_> = of_point.iter().map(|((_, _, sequence), _)| *sequence).collect();
        assert_eq!(sequences, (0..count).collect::<Vec<_>>());
        for pair in of_point.windows(2) {
            assert_eq!(pair[0].1.slice_end_nanos, pair[1].1.slice_start_nanos, "slices meet");
        }
        for (_, batch) in of_point {
            let columns = batch::decode(&batch.columns, &batch::Limits::default()).unwrap();
            assert_eq!(columns.len(), batch.rows as usize);
            rows += batch.rows;
        }
    }
    rows
}

#[test]
fn a_capture_runs_from_arming_to_completion() {
    let lab = Lab::new();
    let (server, client) = (lab.coordinator_pki.clone(), lab.agent_pki.clone());
    lab.run(move || async move {
        let mut coordinator = Coordinator::start(&server, 0).await;
        coordinator.state.acking.store(true, Ordering::Relaxed);
        let agent = agent(&client, coordinator.port, &[]);

        let register = coordinator.register().await;
        assert_eq!((register.node_name.as_str(), register.protocol_version), ("node-a", PROTOCOL_VERSION));
        assert!(register.capabilities.iter().all(|c| c.available), "{:?}", register.capabilities);
        let interfaces = register.topology.unwrap().interfaces;
        let eth0 = interfaces.iter().find(|i| i.name == "eth0").unwrap();
        assert_eq!(eth0.kind(), InterfaceKind::Physical);

        let before = monotonic_nanos();
        coordinator.send(Down::ClockPing(ClockPing { sequence: 7, sent_unix_nanos: 70 })).await;
        let reply = coordinator.next(|up| if let Up::ClockReply(r) = up { Some(r) } else { None }).await;
        assert_eq!((reply.sequence, reply.ping_unix_nanos), (7, 70));
        assert!((before..=reply.sent_monotonic_nanos).contains(&reply.received_monotonic_nanos));
        assert!(reply.sent_monotonic_nanos <= monotonic_nanos());

        coordinator.send(arm("c-1", on_eth0())).await;
        let armed = coordinator.status("c-1", &[Armed, Failed]).await;
        assert_eq!((armed.state(), armed.points.len()), (Armed, 2), "{armed:?}");
        let directions: Vec<_> = armed.points.iter().map(|p| p.point.as_ref().unwrap().direction()).collect();
        assert_eq!(directions, [Direction::In, Direction::Out]);

        coordinator.send(commit("c-1", 100, 400)).await;
        coordinator.status("c-1", &[Running]).await;
        traffic(300).await;
        coordinator.status("c-1", &[Draining]).await;
        let done = coordinator.status("c-1", &[Completed, Failed]).await;
        assert_eq!((done.state(), done.reason.as_str(), done.coverage.len()), (Completed, "", 0), "{done:?}");
        let total: u64 = batches_by_point(&done).values().sum();
        coordinator.until("all batches", |state| state.batches.lock().unwrap().len() as u64 == total).await;
        assert_eq!(check_complete(&coordinator, &done), 300);
        let received: u64 = done.points.iter().map(|p| p.counters.unwrap().received).sum();
        assert!(received >= 300);

        let exit = tokio::task::spawn_blocking(|| agent.terminate()).await.unwrap();
        assert_eq!(exit.code(), Some(0));
    });
}

#[test]
fn the_admin_port_tells_readiness_and_counts_packets() {
    let lab = Lab::new();
    let (server, client) = (lab.coordinator_pki.clone(), lab.agent_pki.clone());
    lab.run(move || async move {
        let mut coordinator = Coordinator::start(&server, 0).await;
        coordinator.state.acking.store(true, Ordering::Relaxed);
        let _agent = agent(&client, coordinator.port, &["--admin-listen", "127.0.0.1:7482"]);
        coordinator.register().await;
        coordinator.send(arm("c-1", on_eth0())).await;
        coordinator.status("c-1", &[Armed]).await;
        assert!(get("/readyz").await.starts_with("HTTP/1.1 200"));
        coordinator.send(commit("c-1", 0, 300)).await;
        coordinator.status("c-1", &[Running]).await;
        traffic(60).await;
        coordinator.status("c-1", &[Completed]).await;
        let metrics = get("/metrics").await;
        assert!(metrics.contains("lastseen_agent_packets_total{outcome=\"recorded\"} 60"), "{metrics}");
        assert!(metrics.contains("lastseen_agent_connected 1"), "{metrics}");
    });
}

async fn get(path: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect("127.0.0.1:7482").await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[test]
fn a_killed_coordinator_gets_everything_again_and_nothing_twice_under_another_face() {
    let lab = Lab::new();
    let (server, client) = (lab.coordinator_pki.clone(), lab.agent_pki.clone());
    lab.run(move || async move {
        let mut coordinator = Coordinator::start(&server, 0).await;
        let _agent = agent(&client, coordinator.port, &[]);
        let first = coordinator.register().await;
        coordinator.send(arm("c-1", on_eth0())).await;
        coordinator.status("c-1", &[Armed]).await;
        coordinator.send(commit("c-1", 100, 800)).await;
        coordinator.status("c-1", &[Running]).await;
        traffic(200).await;
        coordinator.until("first batches", |state| state.batches.lock().unwrap().len() > 2).await;

        // In the middle of the window, with nothing acknowledged.
        let mut coordinator = coordinator.restart().await;
        let again = coordinator.register().await;
        assert_eq!(again.incarnation, first.incarnation);
        assert_eq!(again.capture_ids, ["c-1"]);
        traffic(100).await;
        let done = coordinator.status("c-1", &[Completed, Failed]).await;
        assert_eq!(done.state(), Completed);

        // And once more after the end: the last state and every batch are told again.
        let mut coordinator = coordinator.restart().await;
        coordinator.state.acking.store(true, Ordering::Relaxed);
        coordinator.register().await;
        assert_eq!(coordinator.status("c-1", &[Completed]).await.points, done.points);
        let total: u64 = batches_by_point(&done).values().sum();
        coordinator
            .until("every batch three times or less", |state| {
                state.batches.lock().unwrap().len() as u64 == total
                    && state.repeated.load(Ordering::Relaxed) >= total
            })
            .await;
        assert_eq!(check_complete(&coordinator, &done), 300);
        assert_eq!(coordinator.state.altered.load(Ordering::Relaxed), 0);

        // What is acknowledged does not come again.
        coordinator.until("acknowledged", |_| true).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let repeated = coordinator.state.repeated.load(Ordering::Relaxed);
        let mut coordinator = coordinator.restart().await;
        coordinator.register().await;
        coordinator.status("c-1", &[Completed]).await;
        assert_eq!(coordinator.state.repeated.load(Ordering::Relaxed), repeated);
    });
}

#[test]
fn jobs_that_cannot_be_done_say_why_and_leave_the_agent_running() {
    let lab = Lab::new();
    let (server, client) = (lab.coordinator_pki.clone(), lab.agent_pki.clone());
    lab.run(move || async move {
        let mut coordinator = Coordinator::start(&server, 0).await;
        let _agent = agent(&client, coordinator.port, &[]);
        coordinator.register().await;
        let spec = |change: fn(&mut CaptureSpec)| {
            let mut spec = on_eth0();
            change(&mut spec);
            spec
        };
        let cases = [
            ("c-filter", spec(|s| s.filter = "tcp prot 80".into()), "filter: "),
            (
                "c-interface",
                spec(|s| s.interfaces = vec!["veth9".into()]),
                "interface: veth9 does not exist on node node-a; it has: eth0",
            ),
            (
                "c-any",
                spec(|s| s.interfaces = vec!["any".into()]),
                "interface: \"any\" sees one packet many times",
            ),
            ("c-snap", spec(|s| s.snap_length = Some(10)), "snap_length: 10 is not within 64 and 65535"),
        ];
        for (capture, spec, reason) in cases {
            coordinator.send(arm(capture, spec)).await;
            let status = coordinator.status(capture, &[Armed, Failed]).await;
            assert_eq!(status.state(), Failed, "{capture}");
            assert!(status.reason.starts_with(reason), "{}", status.reason);
        }
        for number in 0..5 {
            coordinator.send(arm(&format!("c-{number}"), on_eth0())).await;
        }
        let fifth = coordinator.status("c-4", &[Armed, Failed]).await;
        assert_eq!(fifth.reason, "node node-a: 4 captures are running, the limit; stop one or wait");

        // A window that is over, one that is told to end, one that is forgotten.
        coordinator.send(commit("c-0", -3000, 1000)).await;
        assert!(coordinator.status("c-0", &[Failed]).await.reason.contains("ago"));
        coordinator
            .send(Down::EndCapture(EndCapture { capture_id: "c-1".into(), end_monotonic_nanos: None }))
            .await;
        assert_eq!(coordinator.status("c-1", &[Cancelled]).await.reason, "stopped before it started");
        coordinator.send(commit("c-2", 0, 600_000)).await;
        coordinator.status("c-2", &[Running]).await;
        let now = Some(monotonic_nanos());
        coordinator
            .send(Down::EndCapture(EndCapture { capture_id: "c-2".into(), end_monotonic_nanos: now }))
            .await;
        let stopped = coordinator.status("c-2", &[Completed, Failed]).await;
        assert_eq!(stopped.state(), Completed);
        assert!(
            stopped.reason.starts_with("stopped 600.0 s before")
                || stopped.reason.starts_with("stopped 599."),
            "{}",
            stopped.reason
        );
    });
}

/// Bytes of the rings that a process has mapped.
fn mapped_rings(agent: &Agent) -> usize {
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", agent.0.id())).unwrap();
    let length = |line: &str| {
        let (begin, end) = line.split_whitespace().next()?.split_once('-')?;
        Some(usize::from_str_radix(end, 16).ok()? - usize::from_str_radix(begin, 16).ok()?)
    };
    maps.lines().filter(|line| line.contains("socket:[")).filter_map(length).sum()
}

#[test]
fn rings_keep_to_the_nodes_budget_and_are_given_back() {
    let lab = Lab::new();
    let (server, client) = (lab.coordinator_pki.clone(), lab.agent_pki.clone());
    lab.run(move || async move {
        let mut coordinator = Coordinator::start(&server, 0).await;
        let settings = client.join("agent.toml");
        std::fs::write(&settings, "ring-max-bytes = 3145728\n").unwrap();
        let agent = agent(&client, coordinator.port, &["--config", settings.to_str().unwrap()]);
        coordinator.register().await;
        let end = |capture: &str| {
            Down::EndCapture(EndCapture { capture_id: capture.into(), end_monotonic_nanos: None })
        };
        // Two rings of 4 MiB are wanted: 3 MiB hold two of 1 MiB, then two of half that, then none.
        for (capture, mapped) in [("c-1", 2 << 20), ("c-2", 3 << 20)] {
            coordinator.send(arm(capture, on_eth0())).await;
            let armed = coordinator.status(capture, &[Armed, Failed]).await;
            assert_eq!((armed.state(), mapped_rings(&agent)), (Armed, mapped), "{}", armed.reason);
        }
        coordinator.send(arm("c-3", on_eth0())).await;
        assert_eq!(
            coordinator.status("c-3", &[Armed, Failed]).await.reason,
            "node node-a: ring memory: 2 rings need at least 524288 bytes, and of the 3145728 bytes of \
             --ring-max-bytes 3145728 are in use; name fewer interfaces, wait for other captures to end, or give the \
             agent a larger --ring-max-bytes"
        );
        coordinator.send(end("c-1")).await;
        coordinator.status("c-1", &[Cancelled]).await;
        assert_eq!(mapped_rings(&agent), 1 << 20);
        coordinator.send(arm("c-4", on_eth0())).await;
        let armed = coordinator.status("c-4", &[Armed, Failed]).await;
        assert_eq!((armed.state(), mapped_rings(&agent)), (Armed, 3 << 20), "{}", armed.reason);
    });
}

#[test]
fn a_late_start_and_a_packet_limit_are_told() {
    let lab = Lab::new();
    let (server, client) = (lab.coordinator_pki.clone(), lab.agent_pki.clone());
    lab.run(move || async move {
        let mut coordinator = Coordinator::start(&server, 0).await;
        coordinator.state.acking.store(true, Ordering::Relaxed);
        let _agent = agent(&client, coordinator.port, &["--backend", "pcap"]);
        coordinator.register().await;
        coordinator.send(arm("c-0", CaptureSpec { sampling_interval: Some(4), ..on_eth0() })).await;
        let refused = coordinator.status("c-0", &[Armed, Failed]).await;
        assert_eq!(
            (refused.state(), refused.reason.as_str()),
            (
                Failed,
                "node node-a: eth0: cannot sample: libpcap does not tell the segment size of super-packets; leave \
                 out --sample, or start the agent with --backend af_packet"
            )
        );
        coordinator.send(arm("c-1", CaptureSpec { max_packets: Some(50), ..on_eth0() })).await;
        let armed = coordinator.status("c-1", &[Armed, Failed]).await;
        assert_eq!(armed.state(), Armed, "{}", armed.reason);
        assert!(!armed.points[0].point.as_ref().unwrap().gso_known);
        coordinator.send(commit("c-1", -1200, 600_000)).await;
        coordinator.status("c-1", &[Running]).await;
        traffic(500).await;
        let done = coordinator.status("c-1", &[Completed, Failed]).await;
        assert!(
            done.coverage
                .iter()
                .any(|note| note.starts_with("joined 1.") && note.ends_with("after the start")),
            "{:?}",
            done.coverage
        );
        assert!(done.reason.starts_with("reached its limit of packets or bytes"), "{}", done.reason);
    });
}

#[test]
fn what_is_not_selected_is_counted_and_every_batch_says_by_what() {
    let lab = Lab::new();
    let (server, client) = (lab.coordinator_pki.clone(), lab.agent_pki.clone());
    lab.run(move || async move {
        let mut coordinator = Coordinator::start(&server, 0).await;
        coordinator.state.acking.store(true, Ordering::Relaxed);
        let _agent = agent(&client, coordinator.port, &[]);
        coordinator.register().await;
        coordinator.send(arm("c-1", CaptureSpec { sampling_interval: Some(3), ..on_eth0() })).await;
        coordinator.status("c-1", &[Armed]).await;
        coordinator.send(commit("c-1", 100, 400)).await;
        coordinator.status("c-1", &[Running]).await;
        traffic(3_000).await;
        let done = coordinator.status("c-1", &[Completed, Failed]).await;
        let total: u64 = batches_by_point(&done).values().sum();
        coordinator.until("all batches", |state| state.batches.lock().unwrap().len() as u64 == total).await;
        let rows = check_complete(&coordinator, &done);
        let left_out: u64 = done.points.iter().map(|p| p.counters.unwrap().sampled_out).sum();
        assert_eq!(u64::from(rows) + left_out, 3_000);
        assert!((800..1_200).contains(&rows), "{rows} of 3000 are a third");
        let batches = coordinator.state.batches.lock().unwrap();
        let thresholds: std::collections::BTreeSet<_> =
            batches.values().map(|batch| batch.sampling_threshold).collect();
        assert_eq!(thresholds, [Some(u64::MAX / 3)].into());
    });
}

#[test]
fn a_refused_batch_is_dropped_and_the_stream_goes_on() {
    let lab = Lab::new();
    let (server, client) = (lab.coordinator_pki.clone(), lab.agent_pki.clone());
    lab.run(move || async move {
        let mut coordinator = Coordinator::start(&server, 0).await;
        coordinator.state.acking.store(true, Ordering::Relaxed);
        *coordinator.state.refuse.lock().unwrap() = Some(0);
        let agent = agent(&client, coordinator.port, &[]);
        coordinator.register().await;
        coordinator.send(arm("c-1", on_eth0())).await;
        coordinator.status("c-1", &[Armed]).await;
        coordinator.send(commit("c-1", 0, 200)).await;
        let done = coordinator.status("c-1", &[Completed]).await;
        let total: u64 = batches_by_point(&done).values().map(|count| count - 1).sum();
        assert!(total > 0);
        coordinator.until("the others", |state| state.batches.lock().unwrap().len() as u64 == total).await;
        let exit = tokio::task::spawn_blocking(|| agent.terminate()).await.unwrap();
        assert_eq!(exit.code(), Some(0));
    });
}

#[test]
fn stopping_the_agent_ends_its_captures_and_delivers_what_it_has() {
    let lab = Lab::new();
    let (server, client) = (lab.coordinator_pki.clone(), lab.agent_pki.clone());
    lab.run(move || async move {
        let mut coordinator = Coordinator::start(&server, 0).await;
        coordinator.state.acking.store(true, Ordering::Relaxed);
        let agent = agent(&client, coordinator.port, &[]);
        coordinator.register().await;
        coordinator.send(arm("c-1", on_eth0())).await;
        coordinator.status("c-1", &[Armed]).await;
        coordinator.send(commit("c-1", 0, 60_000)).await;
        coordinator.status("c-1", &[Running]).await;
        traffic(100).await;
        let exit = tokio::task::spawn_blocking(|| agent.terminate()).await.unwrap();
        assert_eq!(exit.code(), Some(0));
        let done = coordinator.status("c-1", &[Completed, Failed]).await;
        assert!(done.reason.starts_with("the agent was stopped"), "{}", done.reason);
        assert_eq!(check_complete(&coordinator, &done), 100);
    });
}

#[test]
fn without_root_it_captures_with_the_capability_alone_and_names_what_is_missing() {
    let lab = Lab::new();
    let (server, client) = (lab.coordinator_pki.clone(), lab.agent_pki.clone());
    lab.run(move || async move {
        let mut coordinator = Coordinator::start(&server, 0).await;
        let mut command = command(&client, coordinator.port);
        let raw = caps::Capability::CAP_NET_RAW;
        let drop_root = move || {
            let error = |e: caps::errors::CapsError| std::io::Error::other(e.to_string());
            nix::unistd::setgroups(&[])?;
            caps::securebits::set_keepcaps(true).map_err(error)?;
            nix::unistd::setresgid(65534.into(), 65534.into(), 65534.into())?;
            nix::unistd::setresuid(65534.into(), 65534.into(), 65534.into())?;
            let only = [raw].into();
            for set in [caps::CapSet::Effective, caps::CapSet::Permitted, caps::CapSet::Inheritable] {
                caps::set(None, set, &only).map_err(error)?;
            }
            caps::raise(None, caps::CapSet::Ambient, raw).map_err(error)
        };
        run_as(&mut command, drop_root);
        let _agent = Agent(command.stderr(Stdio::inherit()).spawn().unwrap());
        let capabilities = coordinator.register().await.capabilities;
        let available: BTreeMap<_, _> = capabilities.iter().map(|c| (c.name.as_str(), c.available)).collect();
        assert!(available["capture"] && available["af_packet"] && available["pcap"], "{capabilities:?}");
        assert!(!available["conntrack"], "{capabilities:?}");
        coordinator.send(arm("c-1", on_eth0())).await;
        let armed = coordinator.status("c-1", &[Armed, Failed]).await;
        assert_eq!(armed.state(), Armed, "{}", armed.reason);
    });
}

#[test]
fn without_any_capability_it_still_reports_the_network() {
    let lab = Lab::new();
    let (server, client) = (lab.coordinator_pki.clone(), lab.agent_pki.clone());
    lab.run(move || async move {
        let mut coordinator = Coordinator::start(&server, 0).await;
        let mut command = command(&client, coordinator.port);
        command.uid(65534).gid(65534);
        let _agent = Agent(command.stderr(Stdio::inherit()).spawn().unwrap());
        let register = coordinator.register().await;
        assert!(register.topology.unwrap().interfaces.iter().any(|i| i.name == "eth0"));
        let capture = register.capabilities.iter().find(|c| c.name == "capture").unwrap();
        assert!(
            !capture.available && capture.reason.starts_with("NET_RAW is missing: "),
            "{}",
            capture.reason
        );
        coordinator.send(arm("c-1", on_eth0())).await;
        let failed = coordinator.status("c-1", &[Armed, Failed]).await;
        assert_eq!(failed.state(), Failed);
        assert!(failed.reason.contains("NET_RAW is missing"), "{}", failed.reason);
    });
}

#[allow(unsafe_code)] // Dropping privileges between fork and exec has no safe interface.
fn run_as(command: &mut Command, change: impl FnMut() -> std::io::Result<()> + Send + Sync + 'static) {
    // SAFETY: the closure makes system calls only.
    unsafe { command.pre_exec(change) };
}

/// Runs an agent that must not start.
fn fails(lab: &Lab, pki: PathBuf, more: &'static [&'static str]) -> (Option<i32>, String) {
    let output: Output = lab.node.run(move || command(&pki, 1).args(more).output().unwrap());
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn bad_settings_are_one_line_and_exit_code_2() {
    let lab = Lab::new();
    let other_node = lab.authority.issue("agent/node-b");
    let viewer = lab.authority.issue("viewer/ann");
    let cases: [(PathBuf, &[&str], &str); 6] = [
        (other_node, &[], "node-name: node-a is not the node of the certificate, node-b"),
        (viewer, &[], "pki-dir: the certificate is for spiffe://test/viewer/ann, not for an agent"),
        (PathBuf::from("/nonexistent"), &[], "pki-dir: cannot read /nonexistent/ca.crt"),
        (lab.agent_pki.clone(), &["--coordinator", "nowhere"], "coordinator: \"nowhere\" is not HOST:PORT"),
        (lab.agent_pki.clone(), &["--ring-bytes", "5"], "--ring-bytes: \"5\" is out of range; give 8192 to"),
        (
            lab.agent_pki.clone(),
            &["--backend", "ebpf"],
            "--backend: \"ebpf\" is not one of auto, af_packet, pcap",
        ),
    ];
    for (pki, more, expected) in cases {
        let (code, text) = fails(&lab, pki, more);
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains(expected), "{text}");
    }
    let taken = lab.node.run(|| std::net::TcpListener::bind("127.0.0.1:7482").unwrap());
    let (code, text) = fails(&lab, lab.agent_pki.clone(), &["--admin-listen", "127.0.0.1:7482"]);
    drop(taken);
    assert_eq!(code, Some(2));
    assert!(
        text.contains("admin-listen: cannot listen on 127.0.0.1:7482")
            && text.contains("Choose another port"),
        "{text}"
    );
}
