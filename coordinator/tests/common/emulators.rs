//! Object stores of the test's own on loopback: moto's S3 and azurite, as `make packages` installs them.
#![allow(clippy::disallowed_methods, reason = "tests start programs")]

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use lastseen_coordinator::files::{Environment, Files};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::postgres::{PATIENCE, spawn};

const MAKE_CONTAINER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/emulators/container.py");
const CONTAINER: &str = "fabric";
/// Account and key that azurite documents for everybody.
const AZURE_ACCOUNT: &str = "devstoreaccount1";
const AZURE_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// What a coordinator is told of an object store, and the way there.
pub struct Bucket {
    /// For `--object-store`.
    pub url: String,
    /// Of its environment.
    pub variables: Vec<(String, String)>,
    pub gate: Option<Gate>,
    _server: Option<Server>,
    _directory: TempDir,
}

impl Bucket {
    /// A directory.
    pub fn local() -> Self {
        let directory = TempDir::new().unwrap();
        let url = format!("file://{}/objects", directory.path().display());
        Self { url, variables: Vec::new(), gate: None, _server: None, _directory: directory }
    }

    pub async fn s3() -> Self {
        let directory = TempDir::new().unwrap();
        let mut command = killed_with_us("moto/bin/moto_server");
        command.args(["-H", "127.0.0.1", "-p", "0"]);
        let server = Server::start(command, &directory, "Running on http://");
        make_container("s3", &format!("http://{}", server.address));
        let gate = Gate::new(server.address).await;
        let variables = [
            ("AWS_ENDPOINT", format!("http://{}", gate.address)),
            ("AWS_ALLOW_HTTP", "true".into()),
            ("AWS_REGION", "us-east-1".into()),
            ("AWS_ACCESS_KEY_ID", "tester".into()),
            ("AWS_SECRET_ACCESS_KEY", "s/cret".into()),
        ];
        Self::behind("s3", gate, &variables, server, directory)
    }

    pub async fn azure() -> Self {
        let directory = TempDir::new().unwrap();
        let mut command = killed_with_us("azurite/node_modules/.bin/azurite-blob");
        command.args(["--blobHost", "127.0.0.1", "--blobPort", "0", "--silent", "--disableTelemetry"]);
        command.args(["--skipApiVersionCheck", "--location"]).arg(directory.path());
        let server = Server::start(command, &directory, "listens on http://");
        make_container("azure", &format!("http://{}/{AZURE_ACCOUNT}", server.address));
        let gate = Gate::new(server.address).await;
        let variables = [
            ("AZURE_STORAGE_ENDPOINT", format!("http://{}/{AZURE_ACCOUNT}", gate.address)),
            ("AZURE_ALLOW_HTTP", "true".into()),
            ("AZURE_STORAGE_ACCOUNT_NAME", AZURE_ACCOUNT.into()),
            ("AZURE_STORAGE_ACCOUNT_KEY", AZURE_KEY.into()),
        ];
        Self::behind("az", gate, &variables, server, directory)
    }

    fn behind(
        scheme: &str,
        gate: Gate,
        variables: &[(&str, String)],
        server: Server,
        directory: TempDir,
    ) -> Self {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        Self {
            url: format!("{scheme}://{CONTAINER}/some/prefix"),
            variables: variables.collect(),
            gate: Some(gate),
            _server: Some(server),
            _directory: directory,
        }
    }

    pub fn environment(&self) -> Environment {
        Environment::of(self.variables.iter().cloned())
    }

    /// The test's own hand in it.
    pub async fn files(&self) -> Files {
        Files::open(Some(&self.url), &self.environment(), "/nowhere".into()).await.unwrap()
    }
}

/// A server that ends with the test, and with the process however that ends.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    /// Returns once the log says behind `sign` where it listens.
    fn start(mut command: Command, directory: &TempDir, sign: &str) -> Self {
        let log = directory.path().join("log");
        let output = std::fs::File::create(&log).unwrap();
        command.current_dir(directory.path()).stdin(Stdio::null());
        command.stdout(output.try_clone().unwrap()).stderr(output);
        let mut child = spawn(command);
        let started = Instant::now();
        loop {
            let said = std::fs::read_to_string(&log).unwrap();
            let address = said.lines().find_map(|line| line.split_once(sign)?.1.trim().parse().ok());
            if let Some(address) = address {
                return Self { child, address };
            }
            let ended = child.try_wait().unwrap();
            assert!(ended.is_none() && started.elapsed() < PATIENCE, "{ended:?}: {said}");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One of the programs beside what is built.
fn killed_with_us(program: &str) -> Command {
    // Examples share these modules, and have no such directory.
    let scratch = option_env!("CARGO_TARGET_TMPDIR").unwrap_or_default();
    let program = Path::new(scratch).with_file_name("emulators").join(program);
    assert!(program.exists(), "{} is not installed; run `make packages`", program.display());
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

fn make_container(kind: &str, endpoint: &str) {
    let made = Command::new("python3").args([MAKE_CONTAINER, kind, endpoint, CONTAINER]).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// The way to a server, which the test closes and opens.
pub struct Gate {
    pub address: SocketAddr,
    server: SocketAddr,
    passing: Option<JoinHandle<()>>,
}

impl Gate {
    async fn new(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Self { address, server, passing: Some(tokio::spawn(pass(listener, server))) }
    }

    /// Breaks every connection, and lets none be made.
    pub async fn close(&mut self) {
        let passing = self.passing.take().expect("it is open");
        passing.abort();
        assert!(passing.await.unwrap_err().is_cancelled());
    }

    /// Of a closed one: waits until somebody knocks, and breaks that off too.
    pub async fn turn_one_away(&self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        let knocking = tokio::time::timeout(PATIENCE, listener.accept());
        drop(knocking.await.expect("somebody knocks").unwrap());
    }

    pub async fn open(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.passing = Some(tokio::spawn(pass(listener, self.server)));
    }
}

/// Until it is aborted; connections end with it.
async fn pass(listener: TcpListener, server: SocketAddr) {
    let mut connections = JoinSet::new();
    loop {
        let (mut client, _) = listener.accept().await.unwrap();
        connections.spawn(async move {
            if let Ok(mut server) = TcpStream::connect(server).await {
                // Either side may break it off.
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            }
        });
        while connections.try_join_next().is_some() {}
    }
}
