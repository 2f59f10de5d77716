//! Interfaces that vanish or go down while they are captured: what a point cannot see it does not testify to.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::common::reach;
use crate::recording::{
    Delivered, MS, Open, Record, SETTINGS, lens, open, open_pcap, pair, send_udp, target,
};
use lastseen_node_agent::capture::backend::{Direction, Settings};
use lastseen_node_agent::capture::counters::Counters;
use lastseen_node_agent::capture::slices::TICK_NANOS;
use lastseen_node_agent::capture::window::Window;
use lastseen_node_agent::capture::worker::{self, Point};
use lastseen_node_agent::clock;
use tokio::sync::mpsc::channel;

#[test]
fn a_vanished_interface_is_noted_and_testifies_no_longer() {
    vanishes(open);
}

#[test]
fn a_vanished_interface_of_the_pcap_backend_testifies_no_longer() {
    vanishes(open_pcap);
}

fn vanishes(open: Open) {
    let (left, right) = pair();
    right.ip("link add d0 type veth peer name d1");
    right.ip("link set d0 up");
    right.ip("link set d1 up");
    let sources = ["v0", "d0"].map(|name| open(&right, target(&right, name, Direction::In), SETTINGS));
    let sinks = [Delivered::default(), Delivered::default()];
    let window = Arc::new(Window::new(None, None));
    window.open(clock::monotonic_nanos(), clock::monotonic_nanos() + 60_000 * MS);
    let (news, mut heard) = channel(8);
    let worker = thread::spawn({
        let points = sources.into_iter().zip(&sinks).map(|(s, sink)| Point::new(s, sink.clone(), [1; 16]));
        let (points, window) = (points.collect(), window.clone());
        move || worker::run(points, lens("", &[]), &window, &news)
    });
    send_udp(&left, "10.9.0.2:9000", 20, 100);
    left.ip("link del v0");
    assert!(heard.blocking_recv().unwrap().starts_with("v0: "));
    let noticed = clock::realtime_nanos();
    // Long enough for slices that would be wrong.
    thread::sleep(Duration::from_millis(300));
    window.shorten(clock::monotonic_nanos());
    worker.join().unwrap();
    let [vanished, other] = sinks.map(|sink| sink.0.lock().unwrap().clone());
    assert_eq!(vanished.udp().len(), 20, "what came before is kept");
    let until = |record: &Record| record.slices.iter().map(|slice| slice.1).max().unwrap();
    assert!(until(&vanished) <= noticed + TICK_NANOS, "{:?}, noticed {noticed}", vanished.slices);
    // The clocks' offset drifts meanwhile.
    let longer = noticed + 4 * TICK_NANOS;
    assert!(until(&other) >= longer, "the other point goes on: {:?}, {longer}", other.slices);
}

#[test]
fn what_libpcap_dropped_is_told_after_its_interface_vanished() {
    let (left, right) = pair();
    let settings = Settings { ring_bytes: 131_072, ..SETTINGS };
    let mut source = open_pcap(&right, target(&right, "v0", Direction::In), settings);
    send_udp(&left, "10.9.0.2:9000", 5000, 200);
    left.ip("link del v0");
    assert!((0..1000).any(|_| source.read(&mut |_| {}).is_err()), "it is gone");
    assert!(source.drops().unwrap() > 0);
}

#[test]
fn an_interface_that_comes_back_testifies_again() {
    comes_back(open);
}

#[test]
fn an_interface_of_the_pcap_backend_that_comes_back_testifies_again() {
    comes_back(open_pcap);
}

fn comes_back(open: Open) {
    let (left, right) = pair();
    let source = open(&right, target(&right, "v0", Direction::In), SETTINGS);
    let sink = Delivered::default();
    let window = Arc::new(Window::new(None, None));
    window.open(clock::monotonic_nanos(), clock::monotonic_nanos() + 60_000 * MS);
    let (news, mut heard) = channel(8);
    let worker = thread::spawn({
        let (points, window) = (vec![Point::new(source, sink.clone(), [1; 16])], window.clone());
        move || worker::run(points, lens("", &[]), &window, &news)
    });
    right.ip("link set v0 down");
    assert_eq!(heard.blocking_recv().unwrap(), "v0: went down");
    let noticed = clock::realtime_nanos();
    thread::sleep(Duration::from_millis(100));
    let restored = clock::realtime_nanos();
    right.ip("link set v0 up");
    reach(&left, "10.9.0.2:9000", &right);
    send_udp(&left, "10.9.0.2:9000", 20, 100);
    window.shorten(clock::monotonic_nanos());
    worker.join().unwrap();
    let record = sink.0.lock().unwrap().clone();
    let seen = record.udp().iter().filter(|(_, row)| row.payload_length == 100).count();
    assert_eq!(seen, 20);
    let silent = |slice: &&(i64, i64, Counters)| slice.0 < restored && slice.1 > noticed + TICK_NANOS;
    assert_eq!(record.slices.iter().find(silent).map(|s| (s.0, s.1)), None, "{noticed} to {restored}");
    assert!(record.slices.iter().any(|slice| slice.0 >= restored && slice.1 > slice.0));
}
