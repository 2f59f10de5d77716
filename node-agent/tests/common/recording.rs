//! Recorders of a test: points whose packets end in memory, and the traffic for them.
#![allow(dead_code, unreachable_pub)] // Each test binary uses its own part.

use std::net::UdpSocket;
use std::sync::{Arc, Mutex};
use std::thread;

use lastseen_node_agent::capture::af_packet::AfPacket;
use lastseen_node_agent::capture::backend::{Direction, Settings, Source, Target};
use lastseen_node_agent::capture::counters::Counters;
use lastseen_node_agent::capture::lens::{Lens, OwnEndpoints};
use lastseen_node_agent::capture::pcap::Pcap;
use lastseen_node_agent::capture::slices::{Sink, Slice};
use lastseen_node_agent::capture::window::Window;
use lastseen_node_agent::capture::worker::{self, Point};
use lastseen_node_agent::clock;
use lastseen_node_agent::filter::Filter;
use lastseen_packet::observation::{FlowKey, Observation};
use lastseen_packet::{DecodeConfig, IdentityKey, LinkType};
use tokio::sync::mpsc::channel;

use crate::common::{Namespace, index, listen, reach, veth};

pub const SETTINGS: Settings = Settings { snap_length: 192, ring_bytes: 4 << 20 };
pub const MS: i64 = 1_000_000;

/// What a point delivered.
#[derive(Clone, Default)]
pub struct Delivered(pub Arc<Mutex<Record>>);

#[derive(Clone, Default)]
pub struct Record {
    pub rows: Vec<(FlowKey, Observation)>,
    pub slices: Vec<(i64, i64, Counters)>,
}

impl Record {
    pub fn total(&self) -> Counters {
        self.slices.iter().fold(Counters::default(), |mut sum, slice| {
            sum += slice.2;
            sum
        })
    }

    pub fn udp(&self) -> Vec<(FlowKey, Observation)> {
        self.rows
            .iter()
            .filter(|(flow, _)| flow.protocol == 17 && flow.destination_port == 9000)
            .copied()
            .collect()
    }
}

impl Sink for Delivered {
    fn offer(&mut self, slice: &Slice<'_>) -> bool {
        let mut record = self.0.lock().unwrap();
        for index in 0..slice.columns.len() {
            let row = slice.columns.row(index);
            record.rows.push((slice.columns.flows[row.flow as usize], row));
        }
        record.slices.push((slice.start_nanos, slice.end_nanos, slice.counters));
        true
    }
}

pub fn target(namespace: &Namespace, name: &'static str, direction: Direction) -> Target {
    let index = index(namespace, name);
    Target { name: name.into(), index, mtu: 1500, link: LinkType::Ethernet, direction }
}

pub type Open = fn(&Namespace, Target, Settings) -> Box<dyn Source>;

pub fn open(namespace: &Namespace, target: Target, settings: Settings) -> Box<dyn Source> {
    namespace.run(move || Box::new(AfPacket::open(&target, settings).unwrap()) as Box<dyn Source>)
}

pub fn open_pcap(namespace: &Namespace, target: Target, settings: Settings) -> Box<dyn Source> {
    namespace.run(move || Box::new(Pcap::open(&target, settings).unwrap()) as Box<dyn Source>)
}

pub fn lens(filter: &str, own: &[&str]) -> Lens {
    Lens::new(
        DecodeConfig::default(),
        IdentityKey([7; 16]),
        Filter::compile(filter).unwrap(),
        OwnEndpoints::new(own.iter().map(|e| e.parse().unwrap())),
    )
}

/// Records `sources` while `traffic` runs, and returns what each delivered.
pub fn record(sources: Vec<Box<dyn Source>>, filter: &'static str, traffic: impl FnOnce()) -> Vec<Record> {
    record_with(sources, filter, &[], traffic)
}

pub fn record_with(
    sources: Vec<Box<dyn Source>>,
    filter: &'static str,
    own: &'static [&'static str],
    traffic: impl FnOnce(),
) -> Vec<Record> {
    let delivered: Vec<_> = sources.iter().map(|_| Delivered::default()).collect();
    let points: Vec<_> = sources
        .into_iter()
        .zip(&delivered)
        .map(|(source, sink)| Point::new(source, sink.clone(), [1; 16]))
        .collect();
    let (news, mut heard) = channel(8);
    let window = Arc::new(Window::new(None, None));
    window.open(clock::monotonic_nanos(), clock::monotonic_nanos() + 60_000 * MS);
    let worker = thread::spawn({
        let window = window.clone();
        move || worker::run(points, lens(filter, own), &window, &news)
    });
    // Packets wait in the ring, so the reader needs no head start.
    traffic();
    window.shorten(clock::monotonic_nanos());
    worker.join().unwrap();
    assert_eq!(heard.try_recv().ok(), None, "nothing went wrong");
    delivered.iter().map(|d| d.0.lock().unwrap().clone()).collect()
}

/// Sends `count` datagrams of `length` bytes from `namespace` to 10.9.0.2:9000, each with its number in front.
pub fn send_udp(namespace: &Namespace, to: &'static str, count: u32, length: usize) {
    namespace.run(move || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        let mut payload = vec![0u8; length];
        for number in 0..count {
            payload[..4].copy_from_slice(&number.to_be_bytes());
            socket.send_to(&payload, to).unwrap();
        }
    });
}

pub fn pair() -> (Namespace, Namespace) {
    let (left, right) = (Namespace::new(), Namespace::new());
    veth(&left, &right, "v0");
    listen(&right, 9000);
    reach(&left, "10.9.0.2:9000", &right);
    (left, right)
}
