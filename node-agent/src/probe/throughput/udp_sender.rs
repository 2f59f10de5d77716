//! Sends numbered datagrams, so many a second.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::Type;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::message::{BYTES, Key, Message, Word};
use super::pace::Pace;
use super::seconds::Seconds;
use super::{DATAGRAM_BYTES, End, Times, mean};
use crate::clock;
use crate::probe::attempt::{Attempt, Outcome, trouble};
use crate::probe::datagrams::{Datagrams, Heard};
use crate::probe::report::{Role, Throughput};
use crate::probe::spec::Flow;

/// Between two calls, and two words of the end.
const AGAIN: Duration = Duration::from_millis(100);
/// As fine as timers are.
const TICK: Duration = Duration::from_millis(1);
/// Datagrams in a row before others have their turn: what two ticks of the highest rate take.
const ROW: usize = 2_048;

/// Calls, sends, and says how much it was.
pub(super) async fn run(flow: &Flow, to: SocketAddr, key: Key, times: &Times) -> Result<End, String> {
    let socket = Datagrams::open(Type::DGRAM, None, to).map_err(|error| trouble(&error))?;
    let source = socket.source().ok();
    sleep_until(times.begin).await;
    let attempt = call(&socket, to, key, times).await;
    let mut seen = Throughput::of(Role::Sender);
    if attempt.outcome != Outcome::Answered {
        return Ok(End { attempt, seen, source });
    }
    seen.rtt = attempt.delay;
    let detail = send(&socket, flow, key, &mut seen).await;
    let last = Message { word: Word::End, number: seen.packets, stamp: 0 };
    // Whether the receiver knows or not, this end can do no more.
    let _ = ask(&socket, key, last, Word::Done, Instant::now() + times.patience).await;
    Ok(End { attempt: Attempt { detail, ..attempt }, seen, source })
}

/// Until the receiver answers, or it is too late. It may be a little later than we are.
async fn call(socket: &Datagrams, to: SocketAddr, key: Key, times: &Times) -> Attempt {
    let sent = clock::realtime_nanos();
    let message = Message { word: Word::Call, number: 0, stamp: 0 };
    match ask(socket, key, message, Word::Ready, times.called()).await {
        Ok(delay) => Attempt { outcome: Outcome::Answered, delay: Some(delay), ..Attempt::silent(sent) },
        Err(Some(Trouble::Here(error))) => Attempt::not_sent(sent, &error),
        Err(Some(Trouble::There(Heard::Error { kind, code, from, .. }, delay))) => {
            Attempt::told(sent, to.ip(), (kind, code), from, delay)
        }
        Err(None | Some(Trouble::There(Heard::Datagram, _))) => Attempt::silent(sent),
    }
}

/// What came in place of an answer.
enum Trouble {
    /// It could not be sent.
    Here(io::Error),
    /// An ICMP message, so long after what it is about.
    There(Heard, Duration),
}

/// Says `message` again and again until it is answered with `word`: the round trip, or what was last heard instead.
async fn ask(
    socket: &Datagrams,
    key: Key,
    message: Message,
    word: Word,
    until: Instant,
) -> Result<Duration, Option<Trouble>> {
    let (mut trouble, mut buffer) = (None, [0; DATAGRAM_BYTES + 1]);
    while Instant::now() < until {
        let (began, stamp) = (Instant::now(), clock::monotonic_nanos());
        if let Err(error) = socket.send(&key.write(Message { stamp, ..message })) {
            trouble = Some(Trouble::Here(error));
        }
        let next = until.min(began + AGAIN);
        while let Ok(heard) = timeout_at(next, socket.next(&mut buffer)).await {
            match heard {
                Ok(arrival) if arrival.heard == Heard::Datagram => {
                    let answer = key.read(&buffer[..arrival.length]).filter(|answer| answer.word == word);
                    if let Some(answer) = answer {
                        let nanos = clock::monotonic_nanos().saturating_sub(answer.stamp).max(0);
                        return Ok(Duration::from_nanos(nanos as u64));
                    }
                    // A flood of something else must end, and lets others have their turn.
                    if Instant::now() >= next {
                        break;
                    }
                    yield_now().await;
                }
                // It has closed: it knows.
                Ok(_) if word == Word::Done => return Err(None),
                Ok(arrival) => trouble = Some(Trouble::There(arrival.heard, began.elapsed())),
                Err(error) => {
                    trouble = Some(Trouble::Here(error));
                    sleep_until(next).await;
                }
            }
        }
    }
    Err(trouble)
}

/// The data. What the node did not let out, in words.
async fn send(socket: &Datagrams, flow: &Flow, key: Key, seen: &mut Throughput) -> String {
    let begin = Instant::now();
    let end = begin + flow.duration;
    let mut pace = Pace::new(flow.udp_rate(), DATAGRAM_BYTES, begin);
    let (mut datagram, mut seconds) = ([0; DATAGRAM_BYTES], Seconds::default());
    // As good as random: a link that compresses must not seem faster.
    rand::fill(&mut datagram[..]);
    let (most, mut refused) = (flow.most_datagrams(DATAGRAM_BYTES), None);
    loop {
        let now = Instant::now();
        if now >= end || seen.packets >= most {
            break;
        }
        let row = (pace.room(now) / DATAGRAM_BYTES).min(ROW).min((most - seen.packets) as usize);
        for _ in 0..row {
            let stamp = clock::monotonic_nanos();
            let message = Message { word: Word::Data, number: seen.packets, stamp };
            datagram[..BYTES].copy_from_slice(&key.write(message));
            match socket.send(&datagram) {
                Ok(()) => {
                    pace.take(DATAGRAM_BYTES);
                    seen.packets += 1;
                    seconds.add(begin.elapsed().as_nanos() as u64, DATAGRAM_BYTES as u64, 1);
                }
                // The interface is busy, and the next tick is soon.
                Err(error) if is_full(&error) => break,
                Err(error) => {
                    pace.take(DATAGRAM_BYTES);
                    seen.not_sent += 1;
                    refused = Some(error);
                    break;
                }
            }
        }
        sleep_until(end.min(now + pace.until(DATAGRAM_BYTES).max(TICK))).await;
    }
    seen.duration = begin.elapsed();
    seen.bytes = seen.packets * DATAGRAM_BYTES as u64;
    seen.bits_per_second = mean(seen.bytes, seen.duration.as_nanos() as u64);
    seen.seconds = seconds.0;
    refused.map_or_else(String::new, |error| {
        format!("{} datagrams were not sent: {}", seen.not_sent, trouble(&error))
    })
}

fn is_full(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock || error.raw_os_error() == Some(libc::ENOBUFS)
}
