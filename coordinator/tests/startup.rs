//! What keeps a coordinator from starting, and how it says so.

mod common;

use std::path::Path;

use common::{Fabric, config};
use lastseen_coordinator::config::Config;
use lastseen_coordinator::server::Coordinator;
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn a_data_directory_has_one_coordinator() {
    let fabric = Fabric::start().await;
    let second = async || {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = config(fabric.data.path().to_owned());
        Coordinator::on(listener, fabric.authority.coordinator(), &config, CancellationToken::new()).await
    };
    let error = second().await.err().expect("the directory is taken").to_string();
    let expected = format!("--data-dir: {} is in use by another coordinator", fabric.data.path().display());
    assert!(error.starts_with(&expected), "{error}");
    let (authority, data) = fabric.stop().await;
    Fabric::start_on(authority, data).await.stop().await;
}

/// Why a coordinator with a changed configuration does not open.
async fn refusal(pki: &Path, change: impl Fn(&mut Config)) -> String {
    let data = tempfile::tempdir().unwrap();
    let mut config = config(data.path().to_owned());
    config.listen = "127.0.0.1:0".into();
    config.admin_listen = "127.0.0.1:0".into();
    config.pki_dir = pki.to_owned();
    change(&mut config);
    let opened = Coordinator::open(&config, CancellationToken::new()).await;
    format!("{:#}", opened.err().expect("the coordinator does not open"))
}

#[tokio::test]
async fn what_keeps_it_from_starting_is_one_line_that_says_what_to_do() {
    let fabric = Fabric::start().await;
    let pki = fabric.authority.coordinator().dir().to_owned();
    let taken = fabric.address.to_string();
    let listening = [
        ("foo", "invalid socket address; give HOST:PORT, for example 0.0.0.0:7443"),
        ("127.0.0.1:99999", "invalid port value; give HOST:PORT, for example 0.0.0.0:7443"),
        (&taken, "Address already in use (os error 98); choose another port or stop what uses it"),
        ("192.0.2.1:0", "(os error 99); give an address of this machine, or 0.0.0.0 for all of them"),
    ];
    for (address, expected) in listening {
        let error = refusal(&pki, |config| config.listen = address.into()).await;
        assert!(error.starts_with(&format!("--listen {address}: cannot listen there: ")), "{error}");
        assert!(error.ends_with(expected), "{error}");
    }
    let error = refusal(&pki, |config| config.admin_listen = "foo".into()).await;
    assert!(error.starts_with("--admin-listen foo: ") && error.ends_with("127.0.0.1:7481"), "{error}");
    // A file where a directory belongs: root may write anywhere else.
    let error = refusal(&pki, |config| config.data_dir = pki.join("tls.crt")).await;
    assert!(
        error.starts_with("--data-dir: ") && error.contains("tls.crt/observations: cannot make"),
        "{error}"
    );
    assert!(error.ends_with("; give a directory that this user may write to"), "{error}");
    let late = rcgen::date_time_ymd(2020, 1, 1);
    let late = fabric.authority.issue_until("spiffe://lastseen/coordinator", late).dir().to_owned();
    let error = refusal(&late, |_| {}).await;
    assert_eq!(
        error,
        format!(
            "--pki-dir: the certificate in {} has expired; issue a new one with `ctl pki issue`",
            late.display()
        )
    );
    let agent = fabric.authority.identity("agent", "node-a").dir().to_owned();
    let error = refusal(&agent, |_| {}).await;
    assert!(error.contains("holds the certificate of spiffe://lastseen/agent/node-a; issue one"), "{error}");
    fabric.stop().await;
}
