//! What keeps a coordinator from starting, and how it says so.
#![allow(clippy::disallowed_methods, reason = "tests start programs")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::common::data::Data;
use crate::common::pki::Authority;
use crate::common::postgres::{Database, ENCODED_PASSWORD, PASSWORD};
use crate::common::{Fabric, config};
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

#[tokio::test]
async fn coordinators_that_share_a_database_server_share_a_data_directory_and_one_with_its_own_does_not() {
    let data = Data::on(Some(Database::new().await));
    let (directory, url) = (data.path().to_owned(), data.url());
    let fabric = Fabric::start_on(Authority::new(), data).await;
    let open = async |database_url: Option<String>| {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = Config { database_url, ..config(directory.clone()) };
        Coordinator::on(listener, fabric.authority.coordinator(), &config, CancellationToken::new()).await
    };
    open(url).await.unwrap_or_else(|error| panic!("{error}"));
    let error = open(None).await.err().expect("the directory is taken").to_string();
    assert!(error.contains("is in use by another coordinator"), "{error}");
    fabric.stop().await;
}

#[tokio::test]
async fn coordinators_that_share_a_database_server_keep_their_files_in_one_place() {
    let data = Data::on(Some(Database::new().await));
    let database_url = data.url();
    let fabric = Fabric::start_on(Authority::new(), data).await;
    let own = tempfile::tempdir().unwrap();
    let open = async || {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = Config { database_url: database_url.clone(), ..config(own.path().to_owned()) };
        Coordinator::on(listener, fabric.authority.coordinator(), &config, CancellationToken::new()).await
    };
    let error = open().await.err().expect("the others would not find its files").to_string();
    assert!(error.contains("give all its coordinators one --object-store"), "{error}");
    let [theirs, ours] = [fabric.data.path(), own.path()].map(|home| home.join("observations/place"));
    let way_out = format!("write {} into {}", std::fs::read_to_string(&theirs).unwrap(), ours.display());
    assert!(error.ends_with(&way_out), "{error}");
    std::fs::copy(theirs, ours).unwrap();
    open().await.unwrap_or_else(|error| panic!("{error}"));
    fabric.stop().await;
}

#[tokio::test]
async fn a_database_does_not_take_the_files_of_another_for_garbage() {
    let (authority, data) = Fabric::start_on(Authority::new(), Data::on(None)).await.stop().await;
    std::fs::remove_file(data.path().join("lastseen.db")).unwrap();
    let open = async || {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = config(data.path().to_owned());
        Coordinator::on(listener, authority.coordinator(), &config, CancellationToken::new()).await
    };
    let error = open().await.err().expect("the files are of another database").to_string();
    let marker = data.path().join("observations").join("fabric");
    let expected = format!("remove {}: what it knew is then deleted", marker.display());
    assert!(error.contains("of another database") && error.ends_with(&expected), "{error}");
    std::fs::remove_file(marker).unwrap();
    open().await.unwrap_or_else(|error| panic!("{error}"));
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
    let nobody = "postgres://me:secret@127.0.0.1:1/x";
    let error = refusal(&pki, |config| config.database_url = Some(nobody.into())).await;
    assert!(error.starts_with("database postgres://me@127.0.0.1:1/x: Connection refused"), "{error}");
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

/// What the program says of a database that it may not make tables in, with the password where `tell` puts it.
async fn told(fabric: &Fabric, database: &Database, tell: impl Fn(&mut Command, &Path)) -> String {
    let data = tempfile::tempdir().unwrap();
    let mut program = Command::new(env!("CARGO_BIN_EXE_coordinator"));
    program.env_clear().env("RUST_LOG", "trace").env("HOME", data.path());
    program.args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
    program.arg("--data-dir").arg(data.path()).arg("--pki-dir").arg(fabric.authority.coordinator().dir());
    program.env("LASTSEEN_DATABASE_URL", database.tcp_url("guest", "", "sslmode=require"));
    tell(&mut program, data.path());
    let output = tokio::task::spawn_blocking(move || program.output().unwrap()).await.unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    assert!(!said.contains(PASSWORD) && !said.contains(ENCODED_PASSWORD), "{said}");
    said.lines().last().unwrap().to_owned()
}

#[tokio::test]
async fn the_password_of_the_database_may_be_in_the_environment_or_in_a_file_and_is_shown_nowhere() {
    let (fabric, database) = (Fabric::start().await, Database::new().await);
    let guest = format!("CREATE ROLE guest LOGIN PASSWORD '{PASSWORD}'");
    sqlx::query(sqlx::AssertSqlSafe(guest)).execute(&mut database.sql().await).await.unwrap();
    let denied = "permission denied for schema public";
    let unknown = told(&fabric, &database, |_, _| {}).await;
    assert!(unknown.contains("password authentication failed"), "{unknown}");
    let in_environment = |program: &mut Command, _: &Path| {
        program.env("PGPASSWORD", PASSWORD);
    };
    let line = told(&fabric, &database, in_environment).await;
    assert!(
        line.starts_with("error: database postgres://guest@127.0.0.1:") && line.contains(denied),
        "{line}"
    );
    let from_file = |program: &mut Command, home: &Path| {
        let file = home.join("pgpass");
        std::fs::write(&file, format!("*:*:*:guest:{PASSWORD}\n")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        program.env("PGPASSFILE", file);
    };
    let line = told(&fabric, &database, from_file).await;
    assert!(line.contains(denied), "{line}");
    let in_url = |program: &mut Command, _: &Path| {
        program.env("LASTSEEN_DATABASE_URL", database.tcp_url("guest", ENCODED_PASSWORD, "sslmode=require"));
    };
    let line = told(&fabric, &database, in_url).await;
    assert!(line.contains(denied), "{line}");
    fabric.stop().await;
}
