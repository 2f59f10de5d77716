use std::time::UNIX_EPOCH;

use prometheus_client::registry::Registry;
use tokio::io::{AsyncReadExt as _, DuplexStream};

use super::*;

const IDLE: Duration = Duration::from_mins(5);

fn connections() -> Connections {
    Connections::new(Metrics::register(&mut Registry::default()), IDLE)
}

fn open(connections: &Connections, uri: &str, serial: &str) -> Counted<DuplexStream> {
    let facts = Facts { serial: serial.parse().unwrap(), not_after: UNIX_EPOCH, is_client: true };
    let identity = Identity::from_uri(uri).unwrap();
    connections.admit(tokio::io::duplex(64).0, Some(identity), facts, None).unwrap()
}

/// Whether the connection has ended, or waits for what the peer says.
async fn is_closed(connection: &mut Counted<DuplexStream>) -> bool {
    tokio::select! {
        biased;
        read = connection.read_u8() => read.is_err(),
        () = tokio::task::yield_now() => false,
    }
}

const ALICE: &str = "spiffe://x/operator/alice";

#[tokio::test]
async fn a_connection_without_calls_is_closed_and_one_with_a_stream_is_not() {
    let connections = connections();
    // What the peers' ends hold open.
    let ((near, _far), (other, _its_far)) = (tokio::io::duplex(64), tokio::io::duplex(64));
    let admit = |stream| {
        let facts = Facts { serial: "1".parse().unwrap(), not_after: UNIX_EPOCH, is_client: true };
        connections.admit(stream, Identity::from_uri(ALICE).ok(), facts, None).unwrap()
    };
    let (mut idle, mut used) = (admit(near), admit(other));
    let call = used.peer().call();
    connections.sweep(Instant::now() + IDLE);
    assert!(is_closed(&mut idle).await && !is_closed(&mut used).await);
    let before = Instant::now();
    drop(call);
    connections.sweep(before + IDLE - Duration::from_nanos(1));
    assert!(!is_closed(&mut used).await, "its time begins when its last call ends");
    connections.sweep(Instant::now() + IDLE);
    assert!(is_closed(&mut used).await);
}

#[tokio::test]
async fn who_is_denied_hears_of_it_first_and_is_closed_after() {
    let connections = connections();
    let alice = open(&connections, ALICE, "A1");
    let bob = open(&connections, "spiffe://x/operator/bob", "B2");
    let list = |names: &[&str], serials: &[&str]| DenyList {
        names: names.iter().map(|uri| Identity::from_uri(uri).unwrap()).collect(),
        serials: serials.iter().map(|serial| serial.parse().unwrap()).collect(),
    };
    let denied = Instant::now();
    let found = connections.deny(list(&[ALICE], &[]));
    assert_eq!(found.len(), 1);
    assert!(alice.peer().denied().is_cancelled() && !bob.peer().denied().is_cancelled());
    connections.sweep(denied);
    assert!(!alice.peer().closed().is_cancelled(), "there is time to say why");
    connections.sweep(Instant::now() + limits::DENIED_GRACE);
    assert!(alice.peer().closed().is_cancelled());
    let found = connections.deny(list(&[ALICE], &["b2"]));
    assert_eq!(found.len(), 1, "alice was told before");
    assert!(bob.peer().denial().unwrap().message().contains("by serial B2; issue a new one"));
    let late = open(&connections, ALICE, "A3");
    assert!(late.peer().denial().is_some(), "its handshake was before the list");
    drop((alice, bob, late));
    assert!(connections.lock().open.is_empty(), "nothing is kept of connections that are gone");
}

#[tokio::test]
async fn of_an_agents_connections_the_last_end_counts() {
    let connections = connections();
    let admit = |uri: &str, seconds| {
        let not_after = UNIX_EPOCH + Duration::from_secs(seconds);
        let facts = Facts { serial: "1".parse().unwrap(), not_after, is_client: true };
        connections.admit(tokio::io::duplex(1).0, Identity::from_uri(uri).ok(), facts, None).unwrap()
    };
    let _open = [admit("spiffe://x/agent/a", 5), admit("spiffe://x/agent/a", 9), admit(ALICE, 7)];
    let agents = connections.agents();
    assert_eq!(agents.len(), 1);
    assert_eq!((agents[0].0.name.as_str(), agents[0].1), ("a", UNIX_EPOCH + Duration::from_secs(9)));
}
