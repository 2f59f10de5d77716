//! Questions to name servers, RFC 1035: each server on its own, name after name of the search list.

use std::io;
use std::net::SocketAddr;

use futures_util::future::join_all;
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use lastseen_proto::place::Place;
use lastseen_proto::target::{Host, Target};
use socket2::Type;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};

use super::attempt::{Attempt, Outcome};
use super::datagrams::{Datagrams, Heard};
use super::report::{Finding, Found, Names};
use super::resolver::Resolver;
use super::spec::{Questions, Schedule, Spec};
use super::{series, tcp};
use crate::clock;

/// Without EDNS (RFC 6891) a server sends no more in a datagram, RFC 1035 §4.2.1; room to see that one does.
const DATAGRAM_BYTES: usize = 4_096;
/// Records that are told.
const RECORDS: usize = 16;

/// What each server says of one name. Unlike resolvers it stops at a server that fails: that is the news.
pub(super) async fn run(
    spec: &Spec,
    questions: &Questions,
    place: &Place,
    target: &Target,
    begin: Instant,
) -> Vec<Found> {
    let nothing = |reason| vec![Found::nothing(target.to_string(), reason)];
    // A mount of a container may never answer.
    let planning = {
        let (questions, place, target) = (questions.clone(), place.clone(), target.clone());
        spawn_blocking(move || plan(&questions, &place, &target))
    };
    let (servers, names) = match timeout_at(begin.max(Instant::now()) + spec.schedule.timeout, planning).await
    {
        Ok(Ok(Ok(plan))) => plan,
        Ok(Ok(Err(reason))) => return nothing(reason),
        Ok(Err(error)) => return nothing(error.to_string()),
        Err(_) => return nothing("the resolv.conf of this place cannot be read in time".to_owned()),
    };
    let begin = begin.max(Instant::now());
    let asked = servers.into_iter().map(|server| {
        let lookup = Lookup { server, names: &names, record_type: questions.record_type, tcp: questions.tcp };
        async move {
            // Its own settings name a server that may be link-local, as node-local caches are.
            let allowed = if questions.servers.is_empty() {
                spec.allowed.check_own(server.ip())
            } else {
                spec.allowed.check(server.ip())
            };
            let found = Found {
                address: Some(server.ip()),
                server: Some(server),
                ..Found::nothing(target.to_string(), String::new())
            };
            if let Err(reason) = allowed {
                return Found { reason, ..found };
            }
            let (attempts, said) = lookup.make_all(&spec.schedule, begin).await;
            Found { attempts, finding: said.map(Finding::Dns), ..found }
        }
    });
    join_all(asked).await
}

/// Whom to ask, and for which names.
fn plan(
    questions: &Questions,
    place: &Place,
    target: &Target,
) -> Result<(Vec<SocketAddr>, Vec<Name>), String> {
    let name = match &target.host {
        Host::Address(address) if questions.record_type == RecordType::PTR => {
            let name = Name::from(*address);
            let servers = if questions.servers.is_empty() {
                Resolver::of(place)?.servers
            } else {
                questions.servers.clone()
            };
            return Ok((servers, vec![name]));
        }
        Host::Address(address) => return Err(format!("{address} is an address; only PTR is asked of one")),
        Host::Name(name) => name,
    };
    let is_complete = !questions.servers.is_empty() && (name.ends_with('.') || !questions.search.is_empty());
    let mut resolver = if is_complete {
        Resolver { servers: Vec::new(), search: Vec::new(), ndots: 1 }
    } else {
        Resolver::of(place)?
    };
    if !questions.servers.is_empty() {
        resolver.servers.clone_from(&questions.servers);
    }
    if !questions.search.is_empty() {
        resolver.search.clone_from(&questions.search);
    }
    let names = resolver.names(name)?;
    Ok((resolver.servers, names))
}

struct Lookup<'a> {
    server: SocketAddr,
    names: &'a [Name],
    record_type: RecordType,
    tcp: bool,
}

impl Lookup<'_> {
    /// The attempts, and the last thing that the server said.
    async fn make_all(&self, schedule: &Schedule, begin: Instant) -> (Vec<Attempt>, Option<Names>) {
        let made = series::run(schedule, begin, async || self.make(Instant::now() + schedule.timeout).await);
        let (attempts, said): (Vec<_>, Vec<_>) = made.await.into_iter().unzip();
        (attempts, said.into_iter().rev().flatten().next())
    }

    /// Name after name, until one has what is asked for.
    async fn make(&self, deadline: Instant) -> (Attempt, Option<Names>) {
        let (sent, began) = (clock::realtime_nanos(), Instant::now());
        let (mut said, mut questions) = (None, 0);
        for (number, name) in self.names.iter().enumerate() {
            questions += 1;
            let question = question(name.clone(), self.record_type);
            let asked = timeout_at(deadline, self.ask(&question, sent, began)).await;
            let (answer, tcp) = match asked {
                Err(_) => {
                    let detail = if number == 0 { String::new() } else { format!("of {name}") };
                    return (Attempt { detail, ..Attempt::silent(sent) }, said);
                }
                Ok(Err(attempt)) => return (attempt, said),
                Ok(Ok(answered)) => answered,
            };
            let code = answer.metadata.response_code;
            let records = answer.answers.iter().filter(|record| record.record_type() == self.record_type);
            let records: Vec<String> = records.take(RECORDS).map(|record| record.data.to_string()).collect();
            let is_there = code == ResponseCode::NoError && !records.is_empty();
            let is_last = number + 1 == self.names.len();
            said = Some(Names { name: name.to_string(), code: code_name(code), records, tcp, questions });
            // As resolvers do: a name that does not exist, or has none of these records, is looked for elsewhere.
            if is_there || is_last || !matches!(code, ResponseCode::NoError | ResponseCode::NXDomain) {
                let (outcome, detail) = judged(code, is_there);
                let delay = Some(began.elapsed());
                return (Attempt { outcome, delay, detail, ..Attempt::silent(sent) }, said);
            }
        }
        (Attempt::silent(sent), said)
    }

    /// One question, and over TCP once more if the answer does not fit a datagram. Or what became of the attempt.
    async fn ask(&self, question: &Message, sent: i64, began: Instant) -> Result<(Message, bool), Attempt> {
        if !self.tcp
            && let Some(answer) = self.ask_by_datagram(question, sent, began).await?
        {
            return Ok((answer, false));
        }
        let after = |what: &str, error: &io::Error| {
            let attempt = Attempt::ended(sent, error, began.elapsed());
            let detail = if attempt.detail.is_empty() { "connection refused" } else { &attempt.detail };
            Attempt { detail: format!("TCP, {what}: {detail}"), ..attempt.clone() }
        };
        let (mut stream, _place) = tcp::connect(self.server).await.map_err(|failure| match failure {
            tcp::Failure::Here(error) => Attempt::not_sent(sent, &error),
            tcp::Failure::There(error) => after("connecting", &error),
        })?;
        let bytes = encoded(question).map_err(|error| Attempt::not_sent(sent, &error))?;
        // RFC 1035 §4.2.2: the length goes before.
        let framed = [&(bytes.len() as u16).to_be_bytes()[..], &bytes].concat();
        let exchange = async {
            stream.write_all(&framed).await?;
            let mut answer = vec![0; usize::from(stream.read_u16().await?)];
            stream.read_exact(&mut answer).await?;
            Ok(answer)
        };
        let answer = exchange.await.map_err(|error| after("waiting for the answer", &error))?;
        let answer = answer_to(question, &answer)
            .ok_or_else(|| after("reading", &io::Error::other("the answer makes no sense")))?;
        Ok((answer, true))
    }

    /// None: the answer does not fit a datagram.
    async fn ask_by_datagram(
        &self,
        question: &Message,
        sent: i64,
        began: Instant,
    ) -> Result<Option<Message>, Attempt> {
        let not_sent = |error: io::Error| Attempt::not_sent(sent, &error);
        let socket = Datagrams::open(Type::DGRAM, None, self.server).map_err(not_sent)?;
        socket.send(&encoded(question).map_err(not_sent)?).map_err(not_sent)?;
        let mut buffer = [0; DATAGRAM_BYTES];
        loop {
            let arrival = socket.next(&mut buffer).await.map_err(not_sent)?;
            let bytes = &buffer[..arrival.length];
            match arrival.heard {
                Heard::Error { kind, code, from, .. } => {
                    let ip = self.server.ip();
                    return Err(Attempt::told(sent, ip, (kind, code), from, began.elapsed()));
                }
                Heard::Datagram if is_cut(question, bytes) => return Ok(None),
                // What is no answer to it may come from whoever guesses, and is not waited less for.
                Heard::Datagram => {
                    if let Some(answer) = answer_to(question, bytes) {
                        return Ok(Some(answer));
                    }
                }
            }
        }
    }
}

/// Whether it is an answer that was cut, perhaps in the middle of a record (RFC 1035 §4.1.1: id, QR and TC).
fn is_cut(question: &Message, bytes: &[u8]) -> bool {
    const QR_AND_TC: u8 = 0x82;
    matches!(bytes, [a, b, flags, ..] if [*a, *b] == question.metadata.id.to_be_bytes() && flags & QR_AND_TC == QR_AND_TC)
}

fn question(name: Name, record_type: RecordType) -> Message {
    let mut message = Message::new(rand::random(), MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name, record_type));
    message
}

fn encoded(message: &Message) -> io::Result<Vec<u8>> {
    message.to_vec().map_err(io::Error::other)
}

/// The message in these bytes, if it answers the question (RFC 5452 §9.1).
fn answer_to(question: &Message, bytes: &[u8]) -> Option<Message> {
    let answer = Message::from_vec(bytes).ok()?;
    let is_answer = answer.metadata.message_type == MessageType::Response
        && answer.metadata.id == question.metadata.id
        // A server that refuses may leave the question out.
        && (answer.queries == question.queries || answer.queries.is_empty());
    is_answer.then_some(answer)
}

fn judged(code: ResponseCode, is_there: bool) -> (Outcome, String) {
    if is_there {
        return (Outcome::Answered, String::new());
    }
    let detail = match code {
        ResponseCode::NoError => "the name has no such records (NODATA)".to_owned(),
        ResponseCode::NXDomain => "there is no such name (NXDOMAIN)".to_owned(),
        ResponseCode::ServFail => "the server failed (SERVFAIL)".to_owned(),
        ResponseCode::Refused => "the server will not answer (REFUSED)".to_owned(),
        other => code_name(other),
    };
    (Outcome::Refused, detail)
}

/// As RFC 1035 and dig(1) write it.
fn code_name(code: ResponseCode) -> String {
    match code {
        ResponseCode::NoError => "NOERROR".to_owned(),
        ResponseCode::FormErr => "FORMERR".to_owned(),
        ResponseCode::ServFail => "SERVFAIL".to_owned(),
        ResponseCode::NXDomain => "NXDOMAIN".to_owned(),
        ResponseCode::NotImp => "NOTIMP".to_owned(),
        ResponseCode::Refused => "REFUSED".to_owned(),
        other => format!("RCODE {}", u16::from(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_cut_in_the_middle_of_a_record_is_known_by_its_header() {
        let question = question("many.".parse().unwrap(), RecordType::A);
        let [high, low] = question.metadata.id.to_be_bytes();
        // Forty records are announced, and none is there.
        let cut = [high, low, 0x82, 0, 0, 1, 0, 40, 0, 0, 0, 0];
        assert!(is_cut(&question, &cut) && answer_to(&question, &cut).is_none());
        assert!(!is_cut(&question, &[high ^ 1, low, 0x82, 0]), "another's");
        assert!(!is_cut(&question, &[high, low, 0x80, 0]), "whole");
        assert!(!is_cut(&question, &[high, low, 0x02, 0]), "a question");
        assert!(!is_cut(&question, &[]));
    }
}
