//! A Postgres of the test's own, from the programs of Debian's `postgresql`, in a directory of its own. No cluster of
//! the machine is touched. It ends with whoever holds it last, and with the process however that ends.
#![allow(clippy::disallowed_methods, reason = "tests start programs")]

use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};
use tempfile::TempDir;

use super::pki::Authority;

/// A server that is not up by then never will be.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);
/// Of every role that has one.
pub const PASSWORD: &str = "s/cret@1";
/// As it stands in a URL.
pub const ENCODED_PASSWORD: &str = "s%2Fcret%401";

/// A running server.
pub struct Server {
    directory: TempDir,
    port: u16,
    fsync: bool,
    process: Mutex<Option<Child>>,
    databases: AtomicUsize,
    /// Issued the server's certificate.
    pub authority: Authority,
}

/// A database of one test, empty at first.
pub struct Database {
    pub server: Arc<Server>,
    pub name: String,
}

impl Database {
    /// On a server that the tests of this process share. It does without fsync.
    pub async fn new() -> Self {
        static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
        let server = tokio::task::spawn_blocking(|| {
            let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
            shared.upgrade().unwrap_or_else(|| {
                let server = Arc::new(Server::start(false));
                *shared = Arc::downgrade(&server);
                server
            })
        });
        Self::on(server.await.unwrap()).await
    }

    /// On a server of this test alone that syncs its log as one in use does.
    pub async fn alone() -> Self {
        let server = tokio::task::spawn_blocking(|| Server::start(true));
        Self::on(Arc::new(server.await.unwrap())).await
    }

    async fn on(server: Arc<Server>) -> Self {
        let name = format!("test_{}", server.databases.fetch_add(1, Ordering::Relaxed));
        let mut sql = server.sql("postgres").await;
        sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut sql).await.unwrap();
        sql.close().await.unwrap();
        Self { server, name }
    }

    /// Over the socket in the server's directory, as its owner.
    pub fn url(&self) -> String {
        let (socket, port) = (self.server.directory.path().display(), self.server.port);
        format!("postgres:///{}?host={socket}&port={port}&user=owner", self.name)
    }

    /// Over TCP with a password.
    pub fn tcp_url(&self, user: &str, password: &str, parameters: &str) -> String {
        format!("postgres://{user}:{password}@127.0.0.1:{}/{}?{parameters}", self.server.port, self.name)
    }

    /// The test's own connection.
    pub async fn sql(&self) -> PgConnection {
        self.server.sql(&self.name).await
    }
}

impl Server {
    fn start(fsync: bool) -> Self {
        let directory = tempfile::Builder::new().prefix("pg").tempdir().unwrap();
        let authority = Authority::new();
        let mut server = Self {
            directory,
            port: 0,
            fsync,
            process: Mutex::default(),
            databases: AtomicUsize::default(),
            authority,
        };
        give(server.directory.path());
        server.initialise();
        let started = Instant::now();
        // A port that is free now may be taken in a moment.
        loop {
            server.port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            if server.launch() {
                return server;
            }
            assert!(started.elapsed() < PATIENCE, "the server does not start: {}", server.log());
        }
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Sorts as people do, which is not how bytes do.
    fn initialise(&self) {
        let mut command = self.command("initdb");
        command.arg("--pgdata").arg(self.data());
        command.args(["--username=owner", "--auth=trust", "--encoding=UTF8", "--no-sync", "--locale=C"]);
        command.args(["--locale-provider=icu", "--icu-locale=en-US"]);
        let made = command.output().unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let access = "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n";
        std::fs::write(self.data().join("pg_hba.conf"), access).unwrap();
        let pki = self.authority.coordinator();
        for file in ["tls.crt", "tls.key"] {
            let copy = self.data().join(file);
            std::fs::copy(pki.dir().join(file), &copy).unwrap();
            std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o600)).unwrap();
            give(&copy);
        }
    }

    /// Starts the server; false if it ended at once.
    fn launch(&self) -> bool {
        let log = std::fs::File::create(self.directory.path().join("log")).unwrap();
        let socket = self.directory.path().display();
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data()).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        for setting in [
            format!("port={}", self.port),
            "listen_addresses=127.0.0.1".to_owned(),
            format!("unix_socket_directories={socket}"),
            format!("fsync={}", if self.fsync { "on" } else { "off" }),
            "ssl=on".to_owned(),
            "ssl_cert_file=tls.crt".to_owned(),
            "ssl_key_file=tls.key".to_owned(),
            "max_connections=200".to_owned(),
        ] {
            command.arg("-c").arg(setting);
        }
        let mut child = spawn(command);
        let started = Instant::now();
        let is_up = loop {
            if child.try_wait().unwrap().is_some() {
                break false;
            }
            if self.log().contains("database system is ready to accept connections") {
                break true;
            }
            assert!(started.elapsed() < PATIENCE, "the server does not come up: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        };
        *self.process.lock().unwrap() = is_up.then_some(child);
        is_up
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// One of the server's programs, as the user that may run it: it refuses to be root. It is told to stop when this
    /// process is gone (prctl(2), `PR_SET_PDEATHSIG`).
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "QUIT"]).current_dir(self.directory.path());
        if let Some(user) = user() {
            command.arg(format!("--reuid={}", user.uid)).arg(format!("--regid={}", user.gid));
            command.arg("--clear-groups");
        }
        command
            .arg("--")
            .arg(programs().join(program))
            .env_clear()
            .env("LC_ALL", "C")
            .env("PATH", "/usr/bin:/bin");
        command
    }

    /// Pulls the plug: the server and all its processes are killed at once. Returns when they are gone.
    pub fn kill(&self) {
        let mut child = self.process.lock().unwrap().take().expect("it runs");
        let family = children(child.id());
        child.kill().unwrap();
        for pid in &family {
            // It may have ended by itself.
            let _ = kill(*pid, Signal::SIGKILL);
        }
        child.wait().unwrap();
        let started = Instant::now();
        while family.iter().any(|pid| Path::new(&format!("/proc/{pid}/fd/0")).exists()) {
            assert!(started.elapsed() < PATIENCE, "a process of the server does not end");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Who starts all others.
    pub fn process(&self) -> Pid {
        Pid::from_raw(self.process.lock().unwrap().as_ref().expect("it runs").id() as i32)
    }

    /// The server and those it started.
    pub fn processes(&self) -> Vec<Pid> {
        let server = self.process();
        children(server.as_raw() as u32).into_iter().chain([server]).collect()
    }

    /// Sends a signal to the server and all its processes.
    pub fn signal(&self, signal: Signal) {
        for pid in self.processes() {
            // It may have ended by itself.
            let _ = kill(pid, signal);
        }
    }

    /// Starts it once more after [`Server::kill`], on the same port.
    pub fn start_again(&self) {
        let started = Instant::now();
        while !self.launch() {
            assert!(started.elapsed() < PATIENCE, "the server does not start again: {}", self.log());
        }
    }

    async fn sql(&self, database: &str) -> PgConnection {
        let options = PgConnectOptions::new_without_pgpass().username("owner").database(database);
        let options = options.socket(self.directory.path()).port(self.port);
        options.connect().await.unwrap_or_else(|error| panic!("{error}: {}", self.log()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let process = self.process.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(mut child) = process.take() {
            // Immediate shutdown: children first, then itself, also of one that is stopped.
            for signal in [Signal::SIGQUIT, Signal::SIGCONT] {
                let _ = kill(Pid::from_raw(child.id() as i32), signal);
            }
            let _ = child.wait();
        }
    }
}

/// Whom the server runs as, if it cannot be whoever runs the test.
fn user() -> Option<User> {
    let known = |name: &&str| User::from_name(name).ok().flatten();
    geteuid()
        .is_root()
        .then(|| ["postgres", "nobody"].iter().find_map(known).expect("a user that is not root"))
}

/// Lets the server's user have a path.
fn give(path: &Path) {
    if let Some(user) = user() {
        chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
    }
}

/// The newest version that is installed.
fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest =
        versions.max_by_key(|entry| entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()));
    newest.expect("Debian's package postgresql is not installed; run `make packages`").path().join("bin")
}

/// From a thread that lives as long as the process: the signal that stops the server comes when the thread ends that
/// started it, not only with the process.
pub(super) fn spawn(mut command: Command) -> Child {
    let (sender, child) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || {
        sender.send(command.spawn().unwrap()).unwrap();
        loop {
            std::thread::park();
        }
    });
    child.recv().unwrap()
}

/// Processes that `parent` started (proc(5), `/proc/pid/stat`).
fn children(parent: u32) -> Vec<Pid> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_child = |pid: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let behind_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        behind_name.split(' ').nth(1) == Some(parent.to_string().as_str())
    };
    pids.filter(is_child).map(Pid::from_raw).collect()
}
