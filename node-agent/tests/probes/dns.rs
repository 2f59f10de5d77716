//! Name servers that answer, refuse, lie and say nothing.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::str::FromStr;
use std::thread;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, PTR, SRV};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use lastseen_node_agent::probe::attempt::Outcome;
use lastseen_node_agent::probe::report::{Finding, Found, Names};
use lastseen_node_agent::probe::spec::{Allowed, Kind, Questions, Spec};

use crate::support::{V4, V6, apart, once, run};

/// More than a datagram takes.
const MANY: u8 = 40;

fn name(text: &str) -> Name {
    Name::from_str(text).unwrap()
}

/// What the server says of a question; none: nothing.
fn answer(question: &Message, is_tcp: bool) -> Option<Message> {
    let mut answer = question.clone().into_response();
    let query = question.queries[0].clone();
    let asked = query.name().to_string();
    let mut add = |data: RData| {
        answer.add_answer(Record::from_rdata(query.name().clone(), 30, data));
    };
    let (mut code, mut is_cut) = (ResponseCode::NoError, false);
    match (asked.as_str(), query.query_type()) {
        ("web.default.svc.cluster.local.", RecordType::A) => {
            add(RData::A(A::new(10, 0, 0, 1)));
            add(RData::A(A::new(10, 0, 0, 2)));
        }
        ("web.default.svc.cluster.local.", RecordType::AAAA) => {
            add(RData::AAAA(AAAA::from_str("fd00::1").unwrap()));
        }
        ("_http._tcp.web.", RecordType::SRV) => add(RData::SRV(SRV::new(10, 5, 80, name("web.")))),
        ("1.0.0.10.in-addr.arpa.", RecordType::PTR) => add(RData::PTR(PTR(name("web.")))),
        ("many.", _) if is_tcp => (0..MANY).for_each(|n| add(RData::A(A::new(10, 1, 0, n)))),
        ("many.", _) => is_cut = true,
        ("empty." | "web.", _) => {}
        ("broken.", _) => code = ResponseCode::ServFail,
        ("private.", _) => code = ResponseCode::Refused,
        ("mute.", _) => return None,
        _ => code = ResponseCode::NXDomain,
    }
    answer.metadata.response_code = code;
    answer.metadata.truncation = is_cut;
    Some(answer)
}

/// A server until the test ends. `has_tcp`: also over TCP.
fn serve(address: IpAddr, has_tcp: bool) -> SocketAddr {
    let udp = UdpSocket::bind((address, 0)).unwrap();
    let at = udp.local_addr().unwrap();
    let tcp = has_tcp.then(|| TcpListener::bind(at).unwrap());
    thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = udp.recv_from(&mut buffer) {
            let question = Message::from_vec(&buffer[..length]).unwrap();
            let Some(answer) = answer(&question, false) else { continue };
            // Whoever guesses is not believed: another number, and another question.
            let mut guessed = answer.clone();
            guessed.metadata.id ^= 1;
            let mut other = answer.clone();
            other.queries[0].set_name(name("other."));
            for message in [guessed, other, answer] {
                udp.send_to(&message.to_vec().unwrap(), from).unwrap();
            }
        }
    });
    if let Some(tcp) = tcp {
        thread::spawn(move || {
            for stream in tcp.incoming() {
                let mut stream = stream.unwrap();
                let mut length = [0; 2];
                stream.read_exact(&mut length).unwrap();
                let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
                stream.read_exact(&mut question).unwrap();
                let Some(answer) = answer(&Message::from_vec(&question).unwrap(), true) else { continue };
                let answer = answer.to_vec().unwrap();
                stream.write_all(&[&(answer.len() as u16).to_be_bytes()[..], &answer].concat()).unwrap();
            }
        });
    }
    at
}

fn questions(servers: &[SocketAddr], record_type: RecordType) -> Questions {
    Questions { servers: servers.to_vec(), record_type, search: Vec::new(), tcp: false }
}

fn ask(questions: Questions, name: &str) -> Vec<Found> {
    run(once(Kind::Dns(questions), &[name.to_owned()])).results
}

/// What every attempt came to, and what was said last.
fn said(found: &Found) -> (Outcome, String, Option<Names>) {
    let first = &found.attempts[0];
    let alike = |attempt: &&_| {
        let attempt: &lastseen_node_agent::probe::attempt::Attempt = attempt;
        (attempt.outcome, &attempt.detail) == (first.outcome, &first.detail)
    };
    assert_eq!(found.attempts.iter().filter(alike).count(), 3, "{found:?}");
    let names = match found.finding.clone() {
        Some(Finding::Dns(names)) => Some(names),
        None => None,
        Some(other) => panic!("{other:?}"),
    };
    (first.outcome, first.detail.clone(), names)
}

#[test]
fn each_server_says_what_it_knows_of_each_kind_of_record() {
    apart(|| {
        let servers = [serve(V4, true), serve(V6, true)];
        for (record_type, asked, records) in [
            (RecordType::A, "web.default.svc.cluster.local.", &["10.0.0.1", "10.0.0.2"][..]),
            (RecordType::AAAA, "web.default.svc.cluster.local.", &["fd00::1"]),
            (RecordType::SRV, "_http._tcp.web.", &["10 5 80 web."]),
            (RecordType::PTR, "10.0.0.1", &["web."]),
        ] {
            let found = ask(questions(&servers, record_type), asked);
            let addresses: Vec<_> = found.iter().map(|found| found.address).collect();
            assert_eq!(addresses, [Some(V4), Some(V6)], "a result for each server");
            let asked: Vec<_> = found.iter().filter_map(|found| found.server).collect();
            assert_eq!(asked, servers, "with its port");
            for found in &found {
                let (outcome, detail, names) = said(found);
                let names = names.unwrap();
                assert_eq!(
                    (outcome, detail.as_str(), names.code.as_str()),
                    (Outcome::Answered, "", "NOERROR")
                );
                assert_eq!(
                    (names.records, names.tcp, names.questions),
                    (records.iter().map(ToString::to_string).collect(), false, 1)
                );
                assert!(found.attempts.iter().all(|attempt| attempt.delay.is_some()));
            }
        }
    });
}

#[test]
fn names_are_looked_for_where_resolvers_look() {
    apart(|| {
        let server = serve(V4, true);
        let search = vec![name("nowhere.cluster.local"), name("default.svc.cluster.local")];
        let found = ask(Questions { search, ..questions(&[server], RecordType::A) }, "web");
        let (outcome, _, names) = said(&found[0]);
        let names = names.unwrap();
        assert_eq!(outcome, Outcome::Answered);
        assert_eq!((names.name.as_str(), names.questions), ("web.default.svc.cluster.local.", 2));
        let search = vec![name("nowhere.cluster.local")];
        let found = ask(Questions { search, ..questions(&[server], RecordType::A) }, "web");
        let (outcome, detail, names) = said(&found[0]);
        assert_eq!((outcome, names.unwrap().name.as_str()), (Outcome::Refused, "web."));
        assert_eq!(detail, "the name has no such records (NODATA)");
    });
}

#[test]
fn what_does_not_fit_a_datagram_is_asked_for_over_tcp() {
    apart(|| {
        let (whole, without_tcp) = (serve(V4, true), serve(V4, false));
        let found = ask(questions(&[whole, without_tcp], RecordType::A), "many.");
        let (outcome, _, names) = said(&found[0]);
        let names = names.unwrap();
        assert_eq!((outcome, names.tcp, names.records.len()), (Outcome::Answered, true, 16), "16 are told");
        let (outcome, detail, _) = said(&found[1]);
        assert_eq!((outcome, detail.as_str()), (Outcome::Refused, "TCP, connecting: connection refused"));
        let over_tcp = Questions { tcp: true, ..questions(&[whole], RecordType::A) };
        let (outcome, _, names) = said(&ask(over_tcp, "web.default.svc.cluster.local.")[0]);
        assert_eq!((outcome, names.unwrap().tcp), (Outcome::Answered, true));
    });
}

#[test]
fn every_way_to_say_no_is_told_apart() {
    apart(|| {
        let server = serve(V4, true);
        for (asked, outcome, detail) in [
            ("nobody.", Outcome::Refused, "there is no such name (NXDOMAIN)"),
            ("empty.", Outcome::Refused, "the name has no such records (NODATA)"),
            ("broken.", Outcome::Refused, "the server failed (SERVFAIL)"),
            ("private.", Outcome::Refused, "the server will not answer (REFUSED)"),
            ("mute.", Outcome::Silent, ""),
        ] {
            let (said, words, _) = said(&ask(questions(&[server], RecordType::A), asked)[0]);
            assert_eq!((said, words.as_str()), (outcome, detail), "{asked}");
        }
        let closed = SocketAddr::new(V4, 9);
        let (outcome, ..) = said(&ask(questions(&[closed], RecordType::A), "web.")[0]);
        assert_eq!(outcome, Outcome::Refused, "nobody listens there");
        let metadata = "169.254.169.254:53".parse().unwrap();
        let found = ask(questions(&[metadata], RecordType::A), "web.");
        assert!(found[0].reason.contains("metadata service") && found[0].attempts.is_empty(), "{found:?}");
        let allowed = Allowed::new(vec!["10.0.0.0/8".parse().unwrap()]);
        let spec = Spec { allowed, ..once(Kind::Dns(questions(&[server], RecordType::A)), &["web.".into()]) };
        let refused = run(spec);
        assert!(refused.results[0].reason.contains("probe-networks"), "{refused:?}");
    });
}
