//! A series of datagrams to one address, and what came back for each.

use std::future::pending;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::attempt::{Attempt, Outcome};
use super::datagrams::{Arrival, Datagrams, Heard, kernel_nanos};
use super::spec::Schedule;
use crate::clock;

/// No datagram is longer.
const DATAGRAM_BYTES: usize = 1 << 16;
/// What the kernel's clock may gain on ours in one exchange without having been set.
const CLOCK_SLACK_NANOS: i64 = 1_000_000;

/// Arrivals in a row that are looked at before what is due is sent.
const HEARD: u32 = 64;

/// Which datagram of the series something is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    /// This one.
    One(u16),
    /// This one, and it says no.
    Refused(u16),
    /// One of them; it does not say which.
    Some,
    /// None.
    None,
}

/// What is sent, and how it is known again.
pub(super) trait Message {
    /// Number `sequence` of the series.
    fn write(&self, sequence: u16, datagram: &mut Vec<u8>);
    /// What a datagram of the other end answers.
    fn answered(&self, datagram: &[u8]) -> About;
    /// What an ICMP error that quotes these bytes is about.
    fn quoted(&self, original: &[u8]) -> About;
    /// How many there are.
    fn count(&self, schedule: &Schedule) -> u16 {
        schedule.count
    }
    /// When it is sent, after the begin.
    fn offset(&self, sequence: u16, schedule: &Schedule) -> Duration {
        schedule.interval * u32::from(sequence)
    }
    /// It comes in rounds, each of so many messages of which every one has a hop more; none: all have as many as there are.
    fn hops(&self) -> Option<u8> {
        None
    }
}

struct Sent {
    attempt: Attempt,
    at: Instant,
    kernel_nanos: i64,
    /// Of messages in rounds.
    round: u16,
}

impl Sent {
    fn is_settled(&self) -> bool {
        self.attempt.outcome != Outcome::Silent
    }

    /// By the kernel's stamp, unless its clock was set meanwhile.
    fn delay(&self, stamp: Option<i64>) -> Duration {
        let elapsed = self.at.elapsed();
        let latest = elapsed.as_nanos() as i64 + CLOCK_SLACK_NANOS;
        let stamped =
            stamp.map(|stamp| stamp - self.kernel_nanos).filter(|delay| (0..=latest).contains(delay));
        stamped.map_or(elapsed, |nanos| Duration::from_nanos(nanos as u64))
    }
}

/// Sends the series from `begin` on, and listens until each has its answer or its time is up. What has more hops than led
/// to an end before is not sent.
pub(super) async fn run(
    socket: &Datagrams,
    message: &impl Message,
    to: IpAddr,
    schedule: &Schedule,
    begin: Instant,
) -> Vec<Attempt> {
    let (count, mut sent, mut datagram) = (message.count(schedule), Vec::<Option<Sent>>::new(), Vec::new());
    let mut buffer = vec![0; DATAGRAM_BYTES];
    let (mut is_deaf, mut unattributed, mut heard) = (false, Vec::new(), 0);
    loop {
        let number = sent.len() as u16;
        let is_last = number >= count;
        if is_last && sent.iter().flatten().all(Sent::is_settled) {
            break;
        }
        let last = sent.iter().flatten().map(|sent| sent.at).max();
        let wake = if is_last {
            last.unwrap_or(begin) + schedule.timeout
        } else {
            // On a busy machine several are late at once, and must not go in a burst.
            let offset = message.offset(number, schedule);
            let gap = offset.saturating_sub(message.offset(number.saturating_sub(1), schedule)) / 2;
            (begin + offset).max(last.map_or(begin, |last| last + gap))
        };
        let next = async { if is_deaf { pending().await } else { socket.next(&mut buffer).await } };
        tokio::select! {
            // What has come may make what is due needless; but whoever floods us must not hold the series up.
            biased;
            arrival = next, if heard < HEARD || Instant::now() < wake => match arrival {
                Ok(arrival) => {
                    heard += 1;
                    let bytes = &buffer[..arrival.length];
                    let about = match arrival.heard {
                        Heard::Datagram => message.answered(bytes),
                        Heard::Error { .. } => message.quoted(bytes),
                    };
                    if message.hops().is_some() && about == About::Some {
                        unattributed.push(Instant::now());
                    } else {
                        settle(&mut sent, about, to, schedule, &arrival);
                    }
                }
                Err(error) => {
                    tracing::warn!(%to, %error, "answers to a probe cannot be heard any more");
                    is_deaf = true;
                }
            },
            () = sleep_until(wake) => {
                heard = 0;
                if is_last {
                    break;
                }
                let (round, hop_limit) = place(message, number);
                if sent.iter().flatten().next_back().is_some_and(|last| last.round < round) {
                    attribute(&mut sent, &mut unattributed);
                }
                if hop_limit.is_some_and(|hops| !unattributed.is_empty() || is_beyond_the_end(&sent, round, hops)) {
                    sent.push(None);
                    continue;
                }
                datagram.clear();
                message.write(number, &mut datagram);
                let (at, kernel_nanos, now) = (Instant::now(), kernel_nanos(), clock::realtime_nanos());
                let limited = hop_limit.map_or(Ok(()), |hops| socket.set_hop_limit(to.is_ipv6(), hops));
                let attempt = match limited.and_then(|()| socket.send(&datagram)) {
                    Ok(()) => Attempt::silent(now),
                    Err(error) => Attempt::not_sent(now, &error),
                };
                sent.push(Some(Sent { attempt: Attempt { hop_limit, ..attempt }, at, kernel_nanos, round }));
            }
        }
    }
    attribute(&mut sent, &mut unattributed);
    sent.into_iter().flatten().map(|sent| sent.attempt).collect()
}

/// The round of a message, and the hops that it is given.
fn place(message: &impl Message, sequence: u16) -> (u16, Option<u8>) {
    match message.hops() {
        Some(hops) => (sequence / u16::from(hops), Some((sequence % u16::from(hops)) as u8 + 1)),
        None => (0, None),
    }
}

/// Answers of the target that do not say to which of a round: those with the most hops, since who is one hop too short for
/// it is so for all that are shorter. An answer that is lost makes the target seem further away, never nearer.
fn attribute(sent: &mut [Option<Sent>], unattributed: &mut Vec<Instant>) {
    let Some(last) = sent.iter().flatten().next_back().map(|last| last.round) else { return };
    let open = sent.iter_mut().flatten().filter(|sent| sent.round == last && !sent.is_settled());
    let open: Vec<&mut Sent> = open.collect();
    let reached = open.len().saturating_sub(unattributed.len());
    for (sent, arrived) in open.into_iter().skip(reached).zip(unattributed.drain(..)) {
        sent.attempt.outcome = Outcome::Answered;
        sent.attempt.delay = Some(arrived.saturating_duration_since(sent.at));
    }
}

/// Fewer hops led to the target, or in this round to who will not pass it on: that may be over in the next.
fn is_beyond_the_end(sent: &[Option<Sent>], round: u16, hops: u8) -> bool {
    sent.iter().flatten().any(|sent| {
        let is_end = match sent.attempt.outcome {
            Outcome::Answered | Outcome::Refused => true,
            Outcome::Unreachable | Outcome::NotSent => sent.round == round,
            Outcome::Silent | Outcome::Expired => false,
        };
        is_end && sent.attempt.hop_limit.is_some_and(|fewer| fewer < hops)
    })
}

fn settle(sent: &mut [Option<Sent>], about: About, to: IpAddr, schedule: &Schedule, arrival: &Arrival) {
    let sent = match about {
        About::One(number) | About::Refused(number) => {
            sent.get_mut(usize::from(number)).and_then(Option::as_mut)
        }
        // The one that waits longest of those that may still have an answer.
        About::Some => {
            sent.iter_mut().flatten().find(|sent| !sent.is_settled() && sent.at.elapsed() <= schedule.timeout)
        }
        About::None => None,
    };
    // The first word counts.
    let Some(sent) = sent.filter(|sent| !sent.is_settled()) else { return };
    let delay = sent.delay(arrival.stamp);
    if delay > schedule.timeout {
        return;
    }
    let attempt = &mut sent.attempt;
    attempt.delay = Some(delay);
    match arrival.heard {
        Heard::Datagram => {
            let is_refused = matches!(about, About::Refused(_));
            attempt.outcome = if is_refused { Outcome::Refused } else { Outcome::Answered };
        }
        Heard::Error { kind, code, from, next_mtu } => {
            let is_end = matches!((to.is_ipv6(), kind, code), (false, 11, 0) | (true, 3, 0));
            let told = Attempt::told(attempt.sent, to, (kind, code), from, delay);
            let next_mtu = Some(next_mtu).filter(|mtu| told.is_too_large && *mtu > 0);
            *attempt = Attempt { hop_limit: attempt.hop_limit, next_mtu, ..told };
            if is_end && attempt.hop_limit.is_some() {
                (attempt.outcome, attempt.responder) = (Outcome::Expired, from);
            }
        }
    }
}
