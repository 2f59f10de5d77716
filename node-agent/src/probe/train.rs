//! A series of datagrams to one address, and what came back for each.

use std::future::pending;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::attempt::{Attempt, Outcome, icmp_error};
use super::datagrams::{Arrival, Datagrams, Heard, kernel_nanos};
use super::spec::Schedule;
use crate::clock;

/// No datagram is longer.
const DATAGRAM_BYTES: usize = 1 << 16;
/// What the kernel's clock may gain on ours in one exchange without having been set.
const CLOCK_SLACK_NANOS: i64 = 1_000_000;

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
    /// Hops that it is given; none: as many as there are.
    fn hop_limit(&self, _sequence: u16) -> Option<u8> {
        None
    }
}

struct Sent {
    attempt: Attempt,
    at: Instant,
    kernel_nanos: i64,
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
    let mut is_deaf = false;
    loop {
        let number = sent.len() as u16;
        let is_last = number >= count;
        if is_last && sent.iter().flatten().all(Sent::is_settled) {
            break;
        }
        let wake = if is_last {
            sent.iter().flatten().map(|sent| sent.at).max().unwrap_or(begin) + schedule.timeout
        } else {
            begin + message.offset(number, schedule)
        };
        let next = async { if is_deaf { pending().await } else { socket.next(&mut buffer).await } };
        tokio::select! {
            arrival = next => match arrival {
                Ok(arrival) => settle(&mut sent, message, to, schedule, &buffer[..arrival.length], &arrival),
                Err(error) => {
                    tracing::warn!(%to, %error, "answers to a probe cannot be heard any more");
                    is_deaf = true;
                }
            },
            () = sleep_until(wake) => {
                if is_last {
                    break;
                }
                let hop_limit = message.hop_limit(number);
                if hop_limit.is_some_and(|hops| is_beyond_the_end(&sent, hops)) {
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
                sent.push(Some(Sent { attempt: Attempt { hop_limit, ..attempt }, at, kernel_nanos }));
            }
        }
    }
    sent.into_iter().flatten().map(|sent| sent.attempt).collect()
}

/// Fewer hops led to the target, or to who will not pass it on.
fn is_beyond_the_end(sent: &[Option<Sent>], hops: u8) -> bool {
    sent.iter().flatten().any(|sent| {
        let is_end = matches!(
            sent.attempt.outcome,
            Outcome::Answered | Outcome::Refused | Outcome::Unreachable | Outcome::NotSent
        );
        is_end && sent.attempt.hop_limit.is_some_and(|fewer| fewer < hops)
    })
}

fn settle(
    sent: &mut [Option<Sent>],
    message: &impl Message,
    to: IpAddr,
    schedule: &Schedule,
    bytes: &[u8],
    arrival: &Arrival,
) {
    let about = match arrival.heard {
        Heard::Datagram => message.answered(bytes),
        Heard::Error { .. } => message.quoted(bytes),
    };
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
            let is_target = from.is_none_or(|from| from == to);
            attempt.outcome = match (to.is_ipv6(), kind, code) {
                (false, 3, 3) | (true, 1, 4) if is_target => Outcome::Refused,
                (false, 11, 0) | (true, 3, 0) if attempt.hop_limit.is_some() => Outcome::Expired,
                _ => Outcome::Unreachable,
            };
            if matches!((to.is_ipv6(), kind, code), (false, 3, 4) | (true, 2, _)) {
                attempt.next_mtu = Some(next_mtu).filter(|mtu| *mtu > 0);
            }
            if attempt.outcome == Outcome::Expired {
                attempt.responder = from;
                return;
            }
            attempt.responder = from.filter(|from| *from != to);
            attempt.detail = icmp_error(to.is_ipv6(), kind, code);
        }
    }
}
