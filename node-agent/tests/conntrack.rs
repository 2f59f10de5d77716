//! Translations of a namespace's own connection tracking: those it has, those that come, and none that is not one.

use crate::common;
use std::net::{IpAddr, UdpSocket};

use crate::common::Namespace;
use lastseen_node_agent::conntrack::{Tracker, Translation};

/// A namespace in which packets to the service go to port 53 of its own loopback.
fn translating() -> Namespace {
    let namespace = Namespace::new();
    namespace.ip("route add 10.96.0.0/16 dev lo");
    namespace.command("nft add table ip nat");
    namespace.command("nft add chain ip nat out { type nat hook output priority -100 ; }");
    namespace.command("nft add rule ip nat out meta l4proto udp ip daddr 10.96.0.10 dnat to 127.0.0.1:53");
    common::listen(&namespace, 53);
    namespace
}

/// Sends a datagram and returns its source port.
fn ask(namespace: &Namespace, to: &'static str) -> u16 {
    namespace.run(move || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.send_to(b"query", to).unwrap();
        socket.local_addr().unwrap().port()
    })
}

fn is_of(translation: &Translation, port: u16) -> bool {
    let Translation { original, reply } = translation;
    let service = (IpAddr::from([10, 96, 0, 10]), 80);
    (original.source_port, (original.destination, original.destination_port)) == (port, service)
        && (reply.source, reply.source_port, reply.destination_port)
            == (IpAddr::from([127, 0, 0, 1]), 53, port)
}

#[test]
fn connections_before_and_after_the_start_are_known() {
    let namespace = translating();
    let before = ask(&namespace, "10.96.0.10:80");
    let plain = ask(&namespace, "127.0.0.1:53");
    let tracker = namespace.run(|| Tracker::open().unwrap());
    let known = tracker.since(0);
    assert!(matches!(&known[..], [one] if is_of(one, before)), "{known:?}, not {plain}");
    let after = ask(&namespace, "10.96.0.10:80");
    // The kernel queues the event before it hands the datagram on, so it is there now.
    let new = tracker.since(known.len());
    assert!(matches!(&new[..], [one] if is_of(one, after)), "{new:?}");
    let (told, trouble) = tracker.told();
    assert_eq!((told.translations.len(), told.omitted, trouble), (2, 0, None));
}
