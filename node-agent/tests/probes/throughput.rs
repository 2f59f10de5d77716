//! Both ends of a throughput, over real sockets.

#![allow(clippy::disallowed_methods, reason = "nft drops and counts what the product must find lost")]

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use lastseen_node_agent::clock::monotonic_nanos;
use lastseen_node_agent::probe::Probes;
use lastseen_node_agent::probe::attempt::{Attempt, Outcome};
use lastseen_node_agent::probe::board::Board;
use lastseen_node_agent::probe::report::{Finding, Found, Report, Role, Throughput};
use lastseen_node_agent::probe::spec::{Aim, Allowed, Flow, FlowProtocol, Kind, Schedule, Spec, Token};
use lastseen_proto::place::Place;

use crate::support::{V4, V6, apart, once, posted, reports};

/// Bytes of a datagram of data.
const DATAGRAM: u64 = 1_232;
const RATE: u64 = 4_000_000;
const PORT: u16 = 20_001;
const TOKEN: [u8; 16] = *b"sixteen bytes...";

fn flow(protocol: FlowProtocol, from: IpAddr) -> Flow {
    Flow {
        protocol,
        duration: Duration::from_secs(1),
        bits_per_second: Some(RATE),
        max_bytes: 1 << 30,
        token: Token(TOKEN),
        receiver: None,
        senders: vec![from],
    }
}

fn sender(flow: &Flow, to: IpAddr) -> Spec {
    let target = SocketAddr::new(to, PORT).to_string();
    let spec = once(Kind::Throughput(flow.clone()), &[target]);
    let start = monotonic_nanos() + 300_000_000;
    Spec { schedule: Schedule { start, count: 1, ..spec.schedule }, ..spec }
}

fn receiver(sender: &Spec) -> Spec {
    let Kind::Throughput(flow) = sender.kind.clone() else { panic!() };
    Spec { kind: Kind::Throughput(Flow { receiver: Some(Place::Host), ..flow }), ..sender.clone() }
}

/// An agent at work. The probe ends with it.
struct Agent(Probes);

impl Agent {
    fn arm(spec: Spec) -> Self {
        let mut probes = Probes::new(Board::default());
        probes.arm(spec);
        Self(probes)
    }

    fn reports(&self, count: usize) -> Vec<Report> {
        reports(&posted(self.0.board(), |news| reports(news).len() >= count))
    }

    fn found(&self) -> Found {
        self.reports(1).remove(0).results.remove(0)
    }
}

fn seen(found: &Found) -> (&Attempt, &Throughput) {
    let Some(Finding::Throughput(seen)) = &found.finding else { panic!("{found:?}") };
    (&found.attempts[0], seen)
}

/// What both ends found: the sender's, then the receiver's.
fn both(flow: &Flow, to: IpAddr) -> [Found; 2] {
    let spec = sender(flow, to);
    let ends = [Agent::arm(spec.clone()), Agent::arm(receiver(&spec))];
    ends.map(|agent| agent.found())
}

/// In the namespace of this thread.
fn nft(script: &str) {
    let mut child = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().expect("nft runs");
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{script}");
}

/// Packets that a named counter of `inet t` counted.
fn counted(name: &str) -> u64 {
    let listed = Command::new("nft").args(["list", "counter", "inet", "t", name]).output().expect("nft runs");
    let text = String::from_utf8(listed.stdout).unwrap();
    let packets = text.split("packets ").nth(1).and_then(|rest| rest.split(' ').next());
    packets.and_then(|packets| packets.parse().ok()).unwrap_or_else(|| panic!("{text}"))
}

#[test]
fn datagrams_come_as_they_were_sent_and_in_the_rate_that_was_asked() {
    apart(|| {
        for address in [V4, V6] {
            let [sent, came] = both(&flow(FlowProtocol::Udp, address), address);
            let ((out, sent), (into, came)) = (seen(&sent), seen(&came));
            assert_eq!(
                (out.outcome, into.outcome),
                (Outcome::Answered, Outcome::Answered),
                "{sent:?} {came:?}"
            );
            assert_eq!((sent.role, came.role), (Role::Sender, Role::Receiver));
            assert_eq!((came.packets, came.bytes), (sent.packets, sent.bytes));
            assert_eq!([came.lost, came.duplicates, came.reordered, came.overflowed], [Some(0); 4]);
            assert_eq!((came.strangers, sent.not_sent), (0, 0));
            // Never more than was asked for; a busy machine sends less.
            assert!(sent.packets > 0 && sent.packets <= RATE / 8 / DATAGRAM, "{sent:?}");
            assert!(came.jitter.is_some() && sent.rtt.is_some());
            let seconds: u64 = came.seconds.iter().map(|second| second.packets).sum();
            assert_eq!(seconds, came.packets, "{came:?}");
        }
    });
}

#[test]
fn a_stream_comes_whole_with_and_without_a_rate() {
    apart(|| {
        for address in [V4, V6] {
            let paced = flow(FlowProtocol::Tcp, address);
            let bounded = Flow { bits_per_second: None, max_bytes: 10_000_000, ..paced.clone() };
            for flow in [paced, bounded] {
                let [sent, came] = both(&flow, address);
                assert_eq!(sent.source, Some(address));
                let ((out, sent), (into, came)) = (seen(&sent), seen(&came));
                assert_eq!((out.outcome, into.outcome), (Outcome::Answered, Outcome::Answered));
                assert_eq!(sent.bytes, came.bytes, "what was acknowledged is what came: {sent:?} {came:?}");
                // A busy machine acknowledges so late that something is sent again.
                assert!(sent.retransmits.is_some() && came.strangers == 0, "{sent:?} {came:?}");
                assert!(sent.rtt.is_some_and(|rtt| rtt > Duration::ZERO));
                let most = flow.bits_per_second.map_or(flow.max_bytes, |bits| bits / 8);
                assert!(came.bytes > 0 && came.bytes <= most, "{came:?}");
                assert_eq!(sent.seconds.len(), 1, "of one second: {sent:?}");
                for end in [sent, came] {
                    let seconds: u64 = end.seconds.iter().map(|second| second.bytes).sum();
                    assert_eq!(seconds, end.bytes, "{end:?}");
                }
            }
        }
    });
}

#[test]
fn what_is_lost_is_what_was_dropped_to_the_datagram() {
    apart(|| {
        // Calls and their answers are shorter, and come through.
        nft("table inet t {\ncounter dropped { }\nchain input {\ntype filter hook input priority 0\n\
             udp dport 20001 udp length > 500 numgen random mod 100 < 20 counter name dropped drop\n}\n}\n");
        let mut before = 0;
        for address in [V4, V6] {
            let [sent, came] = both(&flow(FlowProtocol::Udp, address), address);
            let ((_, sent), (_, came)) = (seen(&sent), seen(&came));
            let dropped = counted("dropped") - before;
            before += dropped;
            assert!(dropped > 0, "{sent:?}");
            assert_eq!(
                (came.lost, came.packets),
                (Some(dropped), sent.packets - dropped),
                "{sent:?} {came:?}"
            );
        }
        nft("delete table inet t");
        nft(
            "table inet t {\nchain input {\ntype filter hook input priority 0\nudp dport 20001 udp length > 500 drop\n}\n}\n",
        );
        let [sent, came] = both(&flow(FlowProtocol::Udp, V4), V4);
        let ((_, sent), (into, came)) = (seen(&sent), seen(&came));
        assert_eq!((came.lost, came.packets, into.outcome), (Some(sent.packets), 0, Outcome::Silent));
        let detail =
            format!("calls of 127.0.0.1 arrived, and none of the {} datagrams that it sent", sent.packets);
        assert_eq!(into.detail, detail);
        nft("delete table inet t");
    });
}

#[test]
fn who_nobody_hears_says_what_it_saw_and_who_hears_nothing_says_so() {
    apart(|| {
        let outcomes = |protocol| {
            let flow = flow(protocol, V4);
            let alone = Agent::arm(sender(&flow, V4)).found();
            let deaf = Agent::arm(receiver(&sender(&flow, V4))).found();
            let (deaf, nothing) = (deaf.attempts[0].clone(), seen(&deaf).1.clone());
            assert_eq!(
                (deaf.outcome, deaf.detail.as_str()),
                (Outcome::Silent, "nothing arrived from 127.0.0.1")
            );
            assert_eq!((nothing.role, nothing.bytes), (Role::Receiver, 0));
            assert_eq!(seen(&alone).1.bytes, 0);
            alone.attempts[0].clone()
        };
        let [tcp, udp] = [FlowProtocol::Tcp, FlowProtocol::Udp].map(outcomes);
        assert_eq!((tcp.outcome, udp.outcome), (Outcome::Refused, Outcome::Refused));
        assert_eq!(udp.detail, "port unreachable");
        nft("table inet t {\nchain input {\ntype filter hook input priority 0\n\
             meta l4proto { tcp, udp } th dport 20001 drop\n}\n}\n");
        assert_eq!(
            [FlowProtocol::Tcp, FlowProtocol::Udp].map(outcomes).map(|end| end.outcome),
            [Outcome::Silent; 2]
        );
        nft("delete table inet t");
        let far = Agent::arm(sender(&flow(FlowProtocol::Tcp, V4), "192.0.2.1".parse().unwrap())).found();
        assert_eq!(far.attempts[0].detail, "there is no route to it from here");
        let spec = sender(&flow(FlowProtocol::Udp, V4), V4);
        let allowed = Allowed::new(vec!["10.0.0.0/8".parse().unwrap()]);
        let refused = Agent::arm(Spec { allowed, ..spec }).found();
        assert!(refused.reason.contains("probe-networks") && refused.attempts.is_empty(), "{refused:?}");
        let elsewhere = receiver(&sender(&flow(FlowProtocol::Tcp, V4), "192.0.2.1".parse().unwrap()));
        let reason = Agent::arm(elsewhere).found().reason;
        assert_eq!(reason, "192.0.2.1 is no address of the receiver any more; run the probe anew");
    });
}

#[test]
fn others_and_those_without_the_token_are_ignored_and_counted() {
    apart(|| {
        let other = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
        for protocol in [FlowProtocol::Tcp, FlowProtocol::Udp] {
            // The sender comes from 127.0.0.1, and is not the one that may.
            let [sent, came] = both(&flow(protocol, other), V4);
            let ((out, _), (into, came)) = (seen(&sent), seen(&came));
            assert_ne!(out.outcome, Outcome::Answered, "{protocol:?} {out:?}");
            assert_eq!(into.detail, "nothing arrived from 127.0.0.2");
            assert!(came.strangers > 0, "{came:?}");
            // It may, and does not know the token.
            let spec = sender(&flow(protocol, V4), V4);
            let wrong = Flow { token: Token([0; 16]), ..flow(protocol, V4) };
            let [liar, ear] = [sender(&wrong, V4), receiver(&spec)].map(Agent::arm);
            let (liar, came) = (liar.found(), ear.found());
            assert_ne!(liar.attempts[0].outcome, Outcome::Answered, "{protocol:?} {liar:?}");
            let (into, came) = seen(&came);
            assert!(into.outcome == Outcome::Silent && came.strangers > 0, "{came:?}");
        }
    });
}

#[test]
fn hostile_first_bytes_do_not_keep_the_sender_out() {
    apart(|| {
        let spec = sender(&flow(FlowProtocol::Tcp, V4), V4);
        let ear = Agent::arm(receiver(&spec));
        let at = SocketAddr::new(V4, PORT);
        let connected = |deadline: std::time::Instant| loop {
            match TcpStream::connect(at) {
                Ok(stream) => return stream,
                Err(error) => assert!(std::time::Instant::now() < deadline, "{error}"),
            }
            thread::sleep(Duration::from_millis(2));
        };
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        // One says nothing, one says something else, one begins the token and stops, one goes at once.
        let silent = connected(deadline);
        let mut wrong = connected(deadline);
        wrong.write_all(&[b'x'; 4_096]).unwrap();
        let mut short = connected(deadline);
        short.write_all(&TOKEN[..15]).unwrap();
        drop(connected(deadline));
        let sent = Agent::arm(spec).found();
        assert_eq!(seen(&sent).0.outcome, Outcome::Answered, "{sent:?}");
        let came = ear.found();
        assert_eq!(seen(&came).1.strangers, 4, "{came:?}");
        assert_eq!(seen(&came).1.bytes, seen(&sent).1.bytes);
        let mut nothing = [0; 1];
        assert!(!matches!(wrong.read(&mut nothing), Ok(1)), "it is told nothing");
        drop((silent, short));

        let spec = sender(&flow(FlowProtocol::Udp, V4), V4);
        let ear = Agent::arm(receiver(&spec));
        let noise = UdpSocket::bind((V4, 0)).unwrap();
        noise.connect(at).unwrap();
        noise.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let agent = Agent::arm(spec);
        for _ in 0..200 {
            let _ = noise.send(&[b'x'; 41]);
            thread::sleep(Duration::from_millis(2));
        }
        let (sent, came) = (agent.found(), ear.found());
        assert_eq!(seen(&came).1.packets, seen(&sent).1.packets, "{came:?}");
        assert!(seen(&came).1.strangers > 0, "{came:?}");
        assert!(noise.recv(&mut [0; 64]).is_err(), "it is answered nothing");
    });
}

#[test]
fn a_schedule_measures_again_and_again_on_the_same_port() {
    apart(|| {
        for protocol in [FlowProtocol::Tcp, FlowProtocol::Udp] {
            let spec = sender(&flow(protocol, V4), V4);
            let every = Some(Duration::from_millis(2_200));
            let spec = Spec { schedule: Schedule { every, ..spec.schedule }, ..spec };
            let ends = [Agent::arm(spec.clone()), Agent::arm(receiver(&spec))];
            let [sent, came] = ends.map(|agent| agent.reports(2));
            for (run, (sent, came)) in sent.iter().zip(&came).enumerate() {
                assert_eq!((sent.run, came.run), (run as u64, run as u64));
                let (sent, came) = (seen(&sent.results[0]), seen(&came.results[0]));
                assert_eq!(came.0.outcome, Outcome::Answered, "{protocol:?} {run}: {came:?}");
                assert_eq!(came.1.bytes, sent.1.bytes, "{protocol:?} {run}");
            }
        }
    });
}

#[test]
fn the_target_is_shown_as_it_was_asked_for_and_the_token_never() {
    apart(|| {
        let spec = sender(&flow(FlowProtocol::Udp, V4), V4);
        let Aim::Host(target) = &spec.targets[0] else { panic!() };
        assert_eq!(target.to_string(), "127.0.0.1:20001");
        assert!(!format!("{spec:?}").contains("115, 105, 120"), "{spec:?}");
        assert!(format!("{spec:?}").contains("(secret)"));
    });
}
