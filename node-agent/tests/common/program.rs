//! The program itself on a node that a test makes, what it is told, and what it must have delivered.
#![allow(dead_code, unreachable_pub)] // Each test binary uses its own part.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use lastseen_node_agent::clock::monotonic_nanos;
use lastseen_proto::batch;
use lastseen_proto::v1::coordinator_message::Kind as Down;
use lastseen_proto::v1::{ArmCapture, CaptureSpec, CaptureStatus, CommitWindow, PointStatus};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::{Namespace, listen, reach, veth};
use crate::coordinator::Coordinator;
use crate::pki::Authority;

const MS: i64 = 1_000_000;

/// A node in a namespace, with a link to a peer, and the key material of its agent and coordinator.
pub struct Lab {
    pub node: Arc<Namespace>,
    /// Holds the other end of the link.
    _peer: Namespace,
    pub authority: Authority,
    pub coordinator_pki: PathBuf,
    pub agent_pki: PathBuf,
}

impl Lab {
    pub fn new() -> Self {
        let (node, peer) = (Namespace::new(), Namespace::new());
        veth(&node, &peer, "eth0");
        listen(&peer, 9000);
        reach(&node, "10.9.0.2:9000", &peer);
        let authority = Authority::new();
        let (coordinator_pki, agent_pki) = (authority.issue("coordinator"), authority.issue("agent/node-a"));
        Self { node: Arc::new(node), _peer: peer, authority, coordinator_pki, agent_pki }
    }

    /// Runs `test` in the node's namespace.
    pub fn run<F: Future<Output = ()> + 'static>(&self, test: impl FnOnce() -> F + Send + 'static) {
        self.node.run(|| {
            // Its threads are made in this namespace and stay there.
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(test());
        });
    }
}

/// Runs `test` on a node, with a coordinator and the directory of what its agent shows it.
pub fn on_node<F: Future<Output = ()> + 'static>(
    test: impl FnOnce(Coordinator, PathBuf) -> F + Send + 'static,
) {
    let lab = Lab::new();
    let (server, client) = (lab.coordinator_pki.clone(), lab.agent_pki.clone());
    lab.run(move || async move { test(Coordinator::start(&server, 0).await, client).await });
}

/// A running agent, killed when dropped.
pub struct Agent(pub Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Agent {
    /// Asks it to stop and returns how it ended.
    pub fn terminate(mut self) -> std::process::ExitStatus {
        kill(Pid::from_raw(self.0.id() as i32), Signal::SIGTERM).unwrap();
        self.0.wait().unwrap()
    }
}

#[allow(clippy::disallowed_methods)] // The program under test.
pub fn command(pki: &Path, port: u16) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_node-agent"));
    // The environment gives way to flags, so that a test can set each.
    command.env_clear().env("LASTSEEN_NODE_NAME", "node-a").env("LASTSEEN_ADMIN_LISTEN", "127.0.0.1:0");
    command.env("LASTSEEN_COORDINATOR", format!("127.0.0.1:{port}")).arg("--pki-dir").arg(pki);
    command.env("LASTSEEN_SPOOL_DIR", unused_spool(pki));
    command.stderr(Stdio::piped());
    command
}

/// A directory that no agent used yet, where one that is not root may make it.
fn unused_spool(pki: &Path) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let spools = pki.with_file_name("spools");
    if pki.exists() {
        std::fs::create_dir_all(&spools).unwrap();
        std::fs::set_permissions(&spools, PermissionsExt::from_mode(0o777)).unwrap();
    }
    spools.join(COUNT.fetch_add(1, Ordering::Relaxed).to_string())
}

/// Starts an agent in the namespace of the calling thread.
pub fn agent(pki: &Path, port: u16, more: &[&str]) -> Agent {
    Agent(command(pki, port).args(more).stderr(Stdio::inherit()).spawn().unwrap())
}

/// Segments in the directory of a spool.
pub fn segments(directory: &Path) -> usize {
    let names = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    names.filter(|path| path.extension().is_some_and(|suffix| suffix == "seg")).count()
}

pub fn arm(capture: &str, spec: CaptureSpec) -> Down {
    Down::ArmCapture(ArmCapture {
        capture_id: capture.into(),
        spec: Some(spec),
        identity_key: vec![5; 16].into(),
        fabric_endpoints: Vec::new(),
        traceparent: String::new(),
    })
}

/// A window that starts after `ahead` and lasts `length` milliseconds.
pub fn commit(capture: &str, ahead: i64, length: i64) -> Down {
    let start = monotonic_nanos() + ahead * MS;
    Down::CommitWindow(CommitWindow {
        capture_id: capture.into(),
        start_monotonic_nanos: start,
        end_monotonic_nanos: start + length * MS,
        start_unix_nanos: 0,
    })
}

pub fn on_eth0() -> CaptureSpec {
    CaptureSpec { interfaces: vec!["eth0".into()], filter: "udp port 9000".into(), ..Default::default() }
}

/// Sends datagrams to the peer's address.
pub async fn traffic(count: u32) {
    let socket = tokio::net::UdpSocket::bind("10.9.0.1:0").await.unwrap();
    for number in 0..count {
        // The peer may answer that nobody listens; the packets were sent all the same.
        let _ = socket.send_to(&number.to_be_bytes(), "10.9.0.2:9000").await;
    }
}

pub fn batches_by_point(status: &CaptureStatus) -> BTreeMap<(u32, i32), u64> {
    let point = |p: &PointStatus| {
        let point = p.point.as_ref().unwrap();
        ((point.index, point.direction), p.batches)
    };
    status.points.iter().map(point).collect()
}

/// Every sequence below the reported count came, and rows and counters agree.
pub fn check_complete(coordinator: &Coordinator, status: &CaptureStatus) -> u32 {
    let batches = coordinator.state.batches.lock().unwrap();
    let mut rows = 0;
    for ((index, direction), count) in batches_by_point(status) {
        let of_point: Vec<_> =
            batches.iter().filter(|((i, d, _), _)| (*i, *d) == (index, direction)).collect();
        let sequences: Vec<_> = of_point.iter().map(|((_, _, sequence), _)| *sequence).collect();
        assert_eq!(sequences, (0..count).collect::<Vec<_>>());
        for pair in of_point.windows(2) {
            let [(_, before), (_, after)] = [pair[0], pair[1]];
            // On CLOCK_MONOTONIC, from which CLOCK_REALTIME drifts.
            let end = before.slice_end_nanos - before.realtime_minus_monotonic_nanos;
            assert_eq!(end, after.slice_start_nanos - after.realtime_minus_monotonic_nanos, "slices meet");
        }
        for (_, batch) in of_point {
            let columns = batch::decode(&batch.columns, &batch::Limits::default()).unwrap();
            assert_eq!(columns.len(), batch.rows as usize);
            rows += batch.rows;
        }
    }
    rows
}
