//! Network namespaces that live as long as a value, and commands inside them.
#![allow(dead_code, unreachable_pub)] // Each test binary uses its own part.

use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::gettid;

type Task = Box<dyn FnOnce() + Send>;

/// A network namespace held by one thread, gone when the value is dropped.
pub struct Namespace {
    tasks: Option<SyncSender<Task>>,
    thread: Option<JoinHandle<()>>,
    thread_id: i32,
}

impl Namespace {
    /// A new, empty namespace with its loopback up.
    pub fn new() -> Self {
        let (tasks, queue) = sync_channel::<Task>(1);
        let (ready, entered) = sync_channel(1);
        let thread = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("these tests make network namespaces: run them as root");
            ready.send(gettid().as_raw()).unwrap();
            for task in queue {
                task();
            }
        });
        let thread_id = entered.recv().expect("namespace thread ended: run as root");
        let namespace = Self { tasks: Some(tasks), thread: Some(thread), thread_id };
        // Nobody but the test speaks: no neighbour discovery, no multicast reports.
        namespace.run(|| std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").unwrap());
        namespace.ip("link set lo up");
        namespace
    }

    /// Runs `work` inside.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = sync_channel(1);
        let task: Task = Box::new(move || drop(done.send(work())));
        self.tasks.as_ref().unwrap().send(task).unwrap();
        result.recv().expect("the task inside the namespace panicked")
    }

    /// Runs `ip` with these arguments inside.
    pub fn ip(&self, arguments: &str) {
        self.command(&format!("ip {arguments}"));
    }

    /// Runs a command inside; it must succeed.
    pub fn command(&self, line: &str) {
        let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        #[allow(clippy::disallowed_methods)] // The test's own words, no input.
        let output = self.run(move || Command::new(&words[0]).args(&words[1..]).output().unwrap());
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// What `ip link set … netns` takes.
    pub fn id(&self) -> i32 {
        self.thread_id
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.tasks.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Joins two namespaces by a veth pair, `name` on both sides, with `10.9.0.1/24` and `10.9.0.2/24`.
pub fn veth(left: &Namespace, right: &Namespace, name: &str) {
    left.ip(&format!("link add {name} type veth peer name {name} netns {}", right.id()));
    left.ip(&format!("addr add 10.9.0.1/24 dev {name}"));
    right.ip(&format!("addr add 10.9.0.2/24 dev {name}"));
    left.ip(&format!("link set {name} up"));
    right.ip(&format!("link set {name} up"));
}

/// Index of an interface of a namespace.
pub fn index(namespace: &Namespace, name: &'static str) -> u32 {
    namespace.run(move || nix::net::if_::if_nametoindex(name).unwrap())
}

/// Keeps a port open, so that no ICMP error answers.
pub fn listen(namespace: &Namespace, port: u16) {
    namespace.run(move || std::mem::forget(UdpSocket::bind(("0.0.0.0", port)).unwrap()));
}

/// Returns once datagrams arrive: carriers are up and neighbours resolved.
pub fn reach(from: &Namespace, to: &'static str, receiver: &Namespace) {
    let address: SocketAddr = to.parse().unwrap();
    let (socket, probe) = receiver.run(move || {
        let socket = UdpSocket::bind((address.ip(), 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let probe = socket.local_addr().unwrap();
        (socket, probe)
    });
    while socket.recv(&mut [0; 16]).is_err() {
        from.run(move || UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"?", probe).unwrap());
    }
}
