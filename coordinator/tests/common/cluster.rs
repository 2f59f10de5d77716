//! Coordinators as processes of their own over one Postgres, so that they can be killed and frozen, and agents that go
//! from one to the next.
#![allow(clippy::disallowed_methods, reason = "tests start programs")]

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lastseen_proto::v1::analysis_service_client::AnalysisServiceClient;
use lastseen_proto::v1::capture_service_client::CaptureServiceClient;
use lastseen_proto::v1::fleet_service_client::FleetServiceClient;
use lastseen_proto::{PROTOCOL_VERSION, v1};
use lastseen_runtime::client::connect;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tonic::transport::Channel;

use super::agent::Agent;
use super::data::{Data, Sql};
use super::emulators::Bucket;
use super::pki::Authority;
use super::postgres::Database;
use super::until;

/// A coordinator that is up.
pub struct Member {
    pub address: SocketAddr,
    /// What the database knows it by.
    pub id: i64,
    process: Child,
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Several over one database, and one directory or one bucket.
pub struct Cluster {
    pub authority: Authority,
    pub data: Data,
    bucket: Option<Bucket>,
    pub members: Vec<Member>,
}

impl Cluster {
    pub async fn start(members: usize) -> Self {
        Self::start_on(None, members).await
    }

    /// With a bucket they share no directory.
    pub async fn start_on(bucket: Option<Bucket>, members: usize) -> Self {
        let data = Data::on(Some(Database::new().await));
        let mut cluster = Self { authority: Authority::new(), data, bucket, members: Vec::new() };
        for _ in 0..members {
            cluster.add().await;
        }
        cluster
    }

    /// One more.
    pub async fn add(&mut self) -> usize {
        let pki = self.authority.coordinator();
        // Ports that are free now; another process may be quicker, and then the next two are.
        for _ in 0..10 {
            let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let (address, admin) = (free(), free());
            let mut command = Command::new(program());
            command.arg("--listen").arg(address.to_string()).arg("--admin-listen").arg(admin.to_string());
            match &self.bucket {
                None => command.arg("--data-dir").arg(self.data.path()),
                Some(bucket) => {
                    let own = self.data.path().join(self.members.len().to_string());
                    command.args(["--object-store", &bucket.url]).envs(bucket.variables.iter().cloned());
                    command.arg("--data-dir").arg(own)
                }
            };
            command.arg("--pki-dir").arg(pki.dir());
            command.env("LASTSEEN_DATABASE_URL", self.data.url().unwrap());
            command.env("RUST_LOG", std::env::var("RUST_LOG").unwrap_or_else(|_| "warn".into()));
            command.stdin(Stdio::null());
            let mut member = Member { address, id: 0, process: command.spawn().unwrap() };
            if member.is_up(&self.authority).await {
                let known: Vec<String> = self.members.iter().map(|one| one.id.to_string()).collect();
                let new =
                    format!("SELECT MAX(id) FROM coordinators WHERE id <> ALL('{{{}}}')", known.join(","));
                member.id = self.sql().await.number(&new).await;
                self.members.push(member);
                return self.members.len() - 1;
            }
        }
        panic!("a coordinator does not start");
    }

    pub fn signal(&self, member: usize, signal: Signal) {
        kill(Pid::from_raw(self.members[member].process.id() as i32), signal).unwrap();
    }

    /// Observation files that one of them has open.
    pub fn open_files(&self, member: usize) -> usize {
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.members[member].process.id())).unwrap();
        // One may be closed just now.
        let names = open.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok());
        names.filter(|name| name.to_string_lossy().contains(".obs")).count()
    }

    /// As a power cut, for one of them.
    pub fn kill(&mut self, member: usize) {
        let process = &mut self.members[member].process;
        process.kill().unwrap();
        process.wait().unwrap();
    }

    pub async fn sql(&self) -> Sql {
        self.data.sql().await
    }

    pub async fn channel(&self, member: usize, role: &str, name: &str) -> Channel {
        let pki = self.authority.identity(role, name);
        connect(&self.members[member].address.to_string(), &pki).await.unwrap()
    }

    pub async fn captures(&self, member: usize) -> CaptureServiceClient<Channel> {
        CaptureServiceClient::new(self.channel(member, "operator", "eve").await)
    }

    pub async fn nodes(&self, member: usize) -> FleetServiceClient<Channel> {
        FleetServiceClient::new(self.channel(member, "viewer", "vic").await)
    }

    pub async fn analysis(&self, member: usize) -> AnalysisServiceClient<Channel> {
        AnalysisServiceClient::new(self.channel(member, "viewer", "vic").await)
    }

    /// An agent at this coordinator, seen as ready by `seen_by`.
    pub async fn agent(&self, member: usize, seen_by: usize, node: &str, works_on: &[&str]) -> Agent {
        let register = v1::Register {
            node_name: node.into(),
            agent_version: "0.1.0".into(),
            protocol_version: PROTOCOL_VERSION,
            incarnation: 1,
            capture_ids: works_on.iter().map(|&id| id.to_owned()).collect(),
            topology: Some(v1::NodeTopology::default()),
            ..Default::default()
        };
        let channel = self.channel(member, "agent", node).await;
        let agent = Agent::join(channel, register).await.unwrap();
        let mut nodes = self.nodes(seen_by).await;
        until("the agent is ready", async || {
            let listed = nodes.list_nodes(v1::ListNodesRequest {}).await.unwrap().into_inner().nodes;
            listed.iter().any(|one| one.name == node && one.state() == v1::NodeState::Ready)
        })
        .await;
        agent
    }

    pub async fn get(&self, member: usize, id: &str) -> v1::Capture {
        let request = v1::GetCaptureRequest { capture_id: id.to_owned() };
        self.captures(member).await.get_capture(request).await.unwrap().into_inner().capture.unwrap()
    }

    /// Waits until a coordinator says so of a capture.
    pub async fn wait(&self, member: usize, id: &str, holds: impl Fn(&v1::Capture) -> bool) -> v1::Capture {
        let mut client = self.captures(member).await;
        let mut last = None;
        let waiting = async {
            loop {
                let request = v1::GetCaptureRequest { capture_id: id.to_owned() };
                let capture = client.get_capture(request).await.unwrap().into_inner().capture.unwrap();
                let is_so = holds(&capture);
                last = Some(capture);
                if is_so {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_mins(2), waiting).await;
        waited.unwrap_or_else(|_| panic!("not within two minutes; it is {last:?}"));
        last.unwrap()
    }

    /// Which of them leads a capture.
    pub async fn leader(&self, id: &str) -> usize {
        let (owner, _) = self.lead(id).await;
        self.members.iter().position(|member| member.id == owner).expect("one of them leads")
    }

    /// Owner and token of a capture.
    pub async fn lead(&self, id: &str) -> (i64, i64) {
        let mut sql = self.sql().await;
        let owner = sql.number(&format!("SELECT COALESCE(owner, 0) FROM captures WHERE id = '{id}'")).await;
        (owner, sql.number(&format!("SELECT token FROM captures WHERE id = '{id}'")).await)
    }
}

impl Member {
    async fn is_up(&mut self, authority: &Authority) -> bool {
        let pki = authority.identity("viewer", "vic");
        for _ in 0..600 {
            if self.process.try_wait().unwrap().is_some() {
                return false;
            }
            if connect(&self.address.to_string(), &pki).await.is_ok() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("a coordinator does not listen");
    }
}

/// Beside the directory of the test or of the example that runs.
fn program() -> PathBuf {
    let program = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("coordinator");
    assert!(program.exists(), "{} is not built", program.display());
    program
}
