//! Backends, recorder and filters on real packets between network namespaces.

use std::io::Write;
use std::net::UdpSocket;
use std::thread;
use std::time::Duration;

use crate::common::{Namespace, listen, reach};
use crate::recording::{Record, SETTINGS, open, open_pcap, pair, record, record_with, send_udp, target};
use lastseen_node_agent::capture::backend::{Direction, Settings};
use lastseen_node_agent::capture::counters::Counters;
use lastseen_node_agent::clock;
use lastseen_packet::IdentityKey;
use lastseen_packet::observation::{FlowKey, Observation, gso, marks};

#[test]
fn both_ends_see_every_datagram_once_in_the_right_direction() {
    let (left, right) = pair();
    let sources = vec![
        open(&left, target(&left, "v0", Direction::Out), SETTINGS),
        open(&left, target(&left, "v0", Direction::In), SETTINGS),
        open(&right, target(&right, "v0", Direction::In), SETTINGS),
    ];
    let before = clock::realtime_nanos();
    let records = record(sources, "", || send_udp(&left, "10.9.0.2:9000", 500, 400));
    let [out, back, arrived] = &records[..] else { panic!() };
    assert_eq!((out.udp().len(), back.udp().len(), arrived.udp().len()), (500, 0, 500));
    for ((_, sent), (_, received)) in out.udp().iter().zip(arrived.udp()) {
        assert_eq!((sent.ip_id, sent.transport_hash), (received.ip_id, received.transport_hash));
        assert_eq!((sent.ip_length, sent.payload_length, sent.gso_type), (428, 400, gso::NONE));
        assert_eq!(sent.marks & marks::HASH_TRUNCATED, 0);
        assert!(sent.time_nanos > before && sent.time_nanos < clock::realtime_nanos());
    }
}

#[test]
fn slices_meet_and_their_counters_add_up() {
    let (left, right) = pair();
    let source = open(&right, target(&right, "v0", Direction::In), SETTINGS);
    let records = record(vec![source], "udp port 9000", || {
        for _ in 0..5 {
            send_udp(&left, "10.9.0.2:9000", 300, 100);
            send_udp(&left, "10.9.0.2:9001", 10, 100);
            thread::sleep(Duration::from_millis(70));
        }
    });
    let record = &records[0];
    // They meet on CLOCK_MONOTONIC, from which the clock of their stamps drifts.
    let is_gap = |pair: &[(i64, i64, Counters)]| pair[0].1.abs_diff(pair[1].0) >= 1_000_000;
    assert!(!record.slices.windows(2).any(is_gap), "{:?}", record.slices);
    assert!(record.slices.len() > 1);
    let total = record.total();
    assert_eq!(record.rows.len(), 1500);
    assert_eq!(total.filtered, 50);
    assert_eq!(total.received, 1500 + total.filtered + total.undecoded + total.unreadable);
    assert_eq!((total.kernel_drops, total.agent_drops), (0, 0));
}

#[test]
fn snap_length_cuts_small_packets_and_keeps_udp_super_packets_whole() {
    let (left, _right) = pair();
    let settings = Settings { snap_length: 64, ..SETTINGS };
    let sources = vec![
        open(&left, target(&left, "v0", Direction::Out), settings),
        open(&left, target(&left, "v0", Direction::Out), SETTINGS),
    ];
    let records = record(sources, "", || {
        send_super_packet(&left);
    });
    for record in &records {
        let udp = record.udp();
        assert_eq!(udp.len(), 13, "twelve datagrams of a super-packet and one alone");
        let mut hashes: Vec<_> = udp[..12].iter().map(|(_, row)| row.transport_hash).collect();
        assert!(udp[..12].iter().all(|(_, row)| row.payload_length == 1000));
        assert!(udp[..12].iter().all(|(_, row)| row.marks & marks::HASH_TRUNCATED == 0));
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), 12, "each datagram is hashed by its own payload");
    }
    // 64 bytes hold 22 of the payload: not enough for the hash.
    assert_ne!(records[0].udp()[12].1.marks & marks::HASH_TRUNCATED, 0);
    assert!(records[0].total().bytes < records[1].total().bytes);
}

/// Sends twelve datagrams of 1,000 bytes as one super-packet, then one of 900 bytes alone.
fn send_super_packet(namespace: &Namespace) {
    namespace.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::UdpGsoSegment, &1000).unwrap();
        let payload: Vec<u8> = (0..12_000u32).map(|i| (i / 1000) as u8).collect();
        socket.send_to(&payload, "10.9.0.2:9000").unwrap();
        socket.send_to(&[1; 900], "10.9.0.2:9000").unwrap();
    });
}

#[test]
fn a_payload_term_is_answered_only_by_frames_that_hold_one_whole_datagram() {
    let (left, _right) = pair();
    let out = || target(&left, "v0", Direction::Out);
    let short = Settings { snap_length: 64, ..SETTINGS };
    let cases = [
        // The first datagram of the super-packet starts with 0, the eleven others do not.
        ("udp[8] = 0", open(&left, out(), SETTINGS), (0, 0, 1)),
        ("udp[8] = 1", open(&left, out(), SETTINGS), (1, 1, 1)),
        ("udp[8] = 1", open_pcap(&left, out(), SETTINGS), (1, 1, 1)),
        ("udp[40] = 1", open(&left, out(), SETTINGS), (1, 1, 1)),
        // 64 bytes hold 22 of the payload.
        ("udp[29] = 1", open(&left, out(), short), (1, 1, 1)),
        ("udp[30] = 1", open(&left, out(), short), (0, 0, 2)),
        ("udp[28:4] = 1", open(&left, out(), short), (0, 0, 2)),
        ("udp[2:2] = 9000", open(&left, out(), short), (13, 2, 0)),
    ];
    for (filter, source, (rows, frames, unreadable)) in cases {
        let records = record(vec![source], filter, || send_super_packet(&left));
        let total = records[0].total();
        let found = (records[0].rows.len(), total.recorded(), total.unreadable);
        assert_eq!(found, (rows, frames, unreadable), "{filter}: {total:?}");
    }
}

#[test]
fn both_ends_see_the_same_segments_of_tcp_super_packets() {
    let (left, right) = pair();
    let sources = vec![
        open(&left, target(&left, "v0", Direction::Out), SETTINGS),
        open(&right, target(&right, "v0", Direction::In), SETTINGS),
    ];
    // The sender's link takes no super-packets, the receiver merges what comes.
    left.command("ethtool -K v0 tso off");
    right.command("ethtool -K v0 gro on");
    let records = record(sources, "tcp", || {
        let listener = right.run(|| std::net::TcpListener::bind("10.9.0.2:9100").unwrap());
        let reader = thread::spawn(move || {
            std::io::copy(&mut listener.accept().unwrap().0, &mut std::io::sink()).unwrap()
        });
        left.run(|| {
            let mut stream = std::net::TcpStream::connect("10.9.0.2:9100").unwrap();
            stream.write_all(&vec![7; 2_000_000]).unwrap();
        });
        assert_eq!(reader.join().unwrap(), 2_000_000);
    });
    let key = IdentityKey([7; 16]);
    let segments = |record: &Record| {
        let of_row = |(flow, row): &(FlowKey, Observation)| -> Vec<u64> {
            lastseen_packet::segments(flow, row, &key).map(|segment| segment.k0).collect()
        };
        let mut all: Vec<u64> = record.rows.iter().flat_map(of_row).collect();
        all.sort_unstable();
        all
    };
    let super_packets = |record: &Record| record.rows.iter().filter(|(_, row)| row.gso_size > 0).count();
    assert!(segments(&records[0]).len() > 1300);
    assert_eq!(segments(&records[0]), segments(&records[1]));
    let counts = (
        records[0].rows.len(),
        records[1].rows.len(),
        super_packets(&records[0]),
        super_packets(&records[1]),
    );
    assert!(counts.2 + counts.3 > 10, "no super-packets to compare: {counts:?}");
}

#[test]
fn a_stalled_reader_counts_every_dropped_packet() {
    let (left, right) = pair();
    let settings = Settings { ring_bytes: 131_072, ..SETTINGS };
    let mut source = open(&right, target(&right, "v0", Direction::In), settings);
    send_udp(&left, "10.9.0.2:9000", 5000, 200);
    let dropped = source.drops().unwrap();
    let mut seen = 0;
    // The last block is handed over when its timeout has passed.
    for _ in 0..1000 {
        if dropped + seen == 5000 {
            break;
        }
        thread::sleep(Duration::from_millis(5));
        source.read(&mut |frame| seen += u64::from(frame.bytes.len() > 100)).unwrap();
    }
    assert!(dropped > 1000 && seen > 100, "{dropped} dropped, {seen} seen");
    assert_eq!(dropped + seen, 5000);
    assert_eq!(source.drops().unwrap(), 0);
}

#[test]
fn filters_hold_inside_a_tunnel_and_fragments_pass() {
    let (left, right) = pair();
    for (side, own, peer) in [(&left, 1, 2), (&right, 2, 1)] {
        side.ip(&format!(
            "link add vx0 type vxlan id 5 dstport 8472 dev v0 local 10.9.0.{own} remote 10.9.0.{peer} nolearning"
        ));
        side.ip(&format!("addr add 10.44.0.{own}/24 dev vx0"));
        side.ip("link set vx0 up");
    }
    listen(&right, 9001);
    reach(&left, "10.44.0.2:9000", &right);
    let sources = vec![
        open(&left, target(&left, "vx0", Direction::Out), SETTINGS),
        open(&left, target(&left, "v0", Direction::Out), SETTINGS),
        open(&right, target(&right, "v0", Direction::In), SETTINGS),
    ];
    let records = record(sources, "dst host 10.44.0.2 and udp port 9000", || {
        send_udp(&left, "10.44.0.2:9000", 40, 300);
        send_udp(&left, "10.44.0.2:9001", 40, 300);
        send_udp(&left, "10.9.0.2:9000", 10, 3000);
    });
    let inner: Vec<_> =
        records.iter().map(|r| r.rows.iter().filter(|(_, o)| o.payload_length == 300).count()).collect();
    assert_eq!(inner, [40, 40, 40]);
    let overlay = |record: &Record| record.rows[0].0.overlay.map(|o| (o.id, o.port));
    assert_eq!(overlay(&records[0]), None);
    assert_eq!(overlay(&records[1]), Some((5, 8472)));
    // Of ten datagrams in three fragments, the twenty without a header pass the filter.
    let fragments = |r: &Record| r.rows.iter().filter(|(_, o)| o.fragment_offset > 0).count();
    assert_eq!((fragments(&records[1]), fragments(&records[2])), (20, 20));
}

#[test]
fn the_fabrics_own_connections_are_counted_and_left_out() {
    let (left, right) = pair();
    let source = open(&left, target(&left, "v0", Direction::Out), SETTINGS);
    let records = record_with(vec![source], "", &["10.9.0.2:7443"], || {
        let (own, other) = right.run(|| {
            let bind = |port| std::net::TcpListener::bind(("0.0.0.0", port)).unwrap();
            (bind(7443), bind(7444))
        });
        left.run(|| {
            drop(std::net::TcpStream::connect("10.9.0.2:7443").unwrap());
            drop(std::net::TcpStream::connect("10.9.0.2:7444").unwrap());
        });
        drop((own, other));
    });
    let ports: Vec<_> = records[0].rows.iter().map(|(flow, _)| flow.destination_port).collect();
    assert!(ports.contains(&7444) && !ports.contains(&7443), "{ports:?}");
    assert!(records[0].total().own_connections >= 3);
}

#[test]
fn pcap_backend_sees_the_same_packets() {
    let (left, right) = pair();
    let directions = [Direction::In, Direction::Out];
    let sources =
        directions.map(|direction| open_pcap(&right, target(&right, "v0", direction), SETTINGS)).into();
    let records = record(sources, "udp", || send_udp(&left, "10.9.0.2:9000", 200, 400));
    assert_eq!((records[0].udp().len(), records[1].udp().len()), (200, 0));
    assert!(records[0].udp().iter().all(|(_, row)| row.gso_type == gso::UNKNOWN && row.ip_length == 428));
}
