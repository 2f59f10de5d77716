//! Who may pose as a coordinator: nobody but a certificate of the right authority, role, trust domain and host. The
//! clients are the agent and `ctl` themselves.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use lastseen_ctl::cli::Global;
use lastseen_ctl::output::Format;
use lastseen_ctl::rpc::Fabric;
use lastseen_node_agent::config::Config;
use lastseen_node_agent::run::run;
use lastseen_runtime::refusal::Refusal;
use lastseen_runtime::server::incoming;
use lastseen_runtime::tls::Pki;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// An agent tries again by itself; what does not come by then does not come.
const PATIENCE: Duration = Duration::from_secs(30);

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> anyhow::Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Ok(Self { pem: params.self_signed(&key)?.pem(), issuer: Issuer::new(params, key) })
    }

    /// The files of an identity that could serve and call alike, at `host`, and that trusts `trusted`.
    fn issue(&self, dir: &Path, uri: &str, host: [u8; 4], trusted: &str) -> anyhow::Result<PathBuf> {
        let key = KeyPair::generate()?;
        let params = parameters(uri, host)?;
        write(dir, &params.signed_by(&key, &self.issuer)?.pem(), &key, trusted)
    }
}

fn parameters(uri: &str, host: [u8; 4]) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(uri.try_into()?), SanType::IpAddress(host.into())];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params)
}

fn write(dir: &Path, certificate: &str, key: &KeyPair, trusted: &str) -> anyhow::Result<PathBuf> {
    fs::create_dir_all(dir)?;
    for (file, text) in [("tls.crt", certificate), ("tls.key", &key.serialize_pem()), ("ca.crt", trusted)] {
        fs::write(dir.join(file), text)?;
    }
    Ok(dir.to_owned())
}

/// What a server hears of a caller: that it came in, or why it did not.
type Heard = mpsc::Receiver<Result<(), &'static str>>;

/// Serves TLS with the identity in `dir` until it is dropped.
async fn pose(dir: &Path) -> anyhow::Result<(SocketAddr, Heard)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (tell, heard) = mpsc::channel(16);
    let refused = {
        let tell = tell.clone();
        move |refusal: &Refusal| {
            let _ = tell.try_send(Err(refusal.kind));
        }
    };
    let mut accepted = incoming(listener, Pki::open(dir)?, refused).into_inner();
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Some(Ok(mut stream)) = accepted.recv().await {
            // What a server says first, RFC 9113 §3.4: its settings.
            let is_taken = stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.is_ok();
            open.push(stream);
            if !is_taken || tell.send(Ok(())).await.is_err() {
                return;
            }
        }
    });
    Ok((address, heard))
}

fn global(server: SocketAddr, pki: &Path) -> Global {
    Global {
        server: server.to_string(),
        pki_dir: Some(pki.to_owned()),
        output: Format::Table,
        quiet: true,
        verbose: false,
        otlp_endpoint: None,
        config: None,
    }
}

/// Runs the agent until the server has heard of it.
async fn agent(
    server: SocketAddr,
    pki: &Path,
    heard: &mut Heard,
) -> anyhow::Result<Result<(), &'static str>> {
    let home = TempDir::new()?;
    let arguments = ["node-agent", "--node-name", "node-a", "--admin-listen", "127.0.0.1:0", "--coordinator"];
    let mut arguments: Vec<std::ffi::OsString> = arguments.iter().map(Into::into).collect();
    arguments.push(server.to_string().into());
    arguments.extend([
        "--pki-dir".into(),
        pki.into(),
        "--spool-dir".into(),
        home.path().join("spool").into(),
    ]);
    let config: Config = lastseen_runtime::config::resolve(arguments)?;
    let shutdown = tokio_util::sync::CancellationToken::new();
    let mut running = tokio::spawn(run(config, shutdown.clone()));
    let verdict = tokio::select! {
        verdict = tokio::time::timeout(PATIENCE, heard.recv()) => verdict?.context("the server is gone")?,
        ended = &mut running => anyhow::bail!("the agent ended by itself: {:?}", ended?),
    };
    // It has nothing to deliver, and nobody to take its leave of.
    running.abort();
    Ok(verdict)
}

const HERE: [u8; 4] = [127, 0, 0, 1];
const COORDINATOR: &str = "spiffe://lastseen/coordinator";

#[tokio::test]
async fn a_server_must_be_the_coordinator_of_our_fabric_at_the_address_that_was_dialled() {
    let folder = TempDir::new().unwrap();
    let (ours, theirs) = (Authority::new().unwrap(), Authority::new().unwrap());
    let of = |authority: &Authority, name: &str, uri: &str, host| {
        authority.issue(&folder.path().join(name), uri, host, &ours.pem).unwrap()
    };
    let alone = KeyPair::generate().unwrap();
    let alone_pem = parameters(COORDINATOR, HERE).unwrap().self_signed(&alone).unwrap().pem();
    let alone = write(&folder.path().join("alone"), &alone_pem, &alone, &ours.pem).unwrap();
    let not_ours = "its certificate was not signed by our ca.crt";
    let servers = [
        (
            "an agent",
            of(&ours, "agent", "spiffe://lastseen/agent/node-b", HERE),
            Err("not to spiffe://lastseen/coordinator"),
        ),
        (
            "an operator",
            of(&ours, "operator", "spiffe://lastseen/operator/eve", HERE),
            Err("belongs to spiffe://lastseen/operator/eve"),
        ),
        (
            "a viewer",
            of(&ours, "viewer", "spiffe://lastseen/viewer/vic", HERE),
            Err("belongs to spiffe://lastseen/viewer/vic"),
        ),
        ("one that signed itself", alone, Err(not_ours)),
        ("another authority's", of(&theirs, "theirs", COORDINATOR, HERE), Err(not_ours)),
        (
            "another trust domain's",
            of(&ours, "domain", "spiffe://elsewhere/coordinator", HERE),
            Err("belongs to spiffe://elsewhere/coordinator"),
        ),
        ("another host's", of(&ours, "host", COORDINATOR, [127, 0, 0, 2]), Err("does not name this host")),
        ("the coordinator", of(&ours, "right", COORDINATOR, HERE), Ok(())),
    ];
    let operator = of(&ours, "caller", "spiffe://lastseen/operator/alice", HERE);
    let node = of(&ours, "node", "spiffe://lastseen/agent/node-a", HERE);
    for (what, dir, expected) in servers {
        let (address, mut heard) = pose(&dir).await.unwrap();
        let called = Fabric::connect(&global(address, &operator)).await.map(drop).map_err(|e| e.to_string());
        match expected {
            Ok(()) => assert_eq!(called, Ok(()), "ctl, {what}"),
            Err(text) => {
                assert!(called.as_ref().is_err_and(|told| told.contains(text)), "ctl, {what}: {called:?}");
            }
        }
        let let_in = expected.map_err(|_| "refuses_us");
        assert_eq!(heard.recv().await, Some(let_in), "ctl, {what}");
        assert_eq!(agent(address, &node, &mut heard).await.unwrap(), let_in, "agent, {what}");
    }
}
