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

/// Sends the series from `begin` on, and listens until each has its answer or its time is up.
pub(super) async fn run(
    socket: &Datagrams,
    message: &impl Message,
    to: IpAddr,
    schedule: &Schedule,
    begin: Instant,
) -> Vec<Attempt> {
    let (mut sent, mut datagram) = (Vec::<Sent>::new(), Vec::new());
    let mut buffer = vec![0; DATAGRAM_BYTES];
    let mut is_deaf = false;
    loop {
        let number = sent.len() as u16;
        let is_last = number >= schedule.count;
        if is_last && sent.iter().all(Sent::is_settled) {
            break;
        }
        let wake = if is_last {
            sent.iter().map(|sent| sent.at).max().unwrap_or(begin) + schedule.timeout
        } else {
            begin + schedule.interval * u32::from(number)
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
                datagram.clear();
                message.write(number, &mut datagram);
                let (at, kernel_nanos, now) = (Instant::now(), kernel_nanos(), clock::realtime_nanos());
                let attempt = match socket.send(&datagram) {
                    Ok(()) => Attempt::silent(now),
                    Err(error) => Attempt::not_sent(now, &error),
                };
                sent.push(Sent { attempt, at, kernel_nanos });
            }
        }
    }
    sent.into_iter().map(|sent| sent.attempt).collect()
}

fn settle(
    sent: &mut [Sent],
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
        About::One(number) => sent.get_mut(usize::from(number)),
        // The one that waits longest of those that may still have an answer.
        About::Some => {
            sent.iter_mut().find(|sent| !sent.is_settled() && sent.at.elapsed() <= schedule.timeout)
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
        Heard::Datagram => attempt.outcome = Outcome::Answered,
        Heard::Error { kind, code, from } => {
            let is_port = matches!((to.is_ipv6(), kind, code), (false, 3, 3) | (true, 1, 4));
            let is_target = from.is_none_or(|from| from == to);
            attempt.outcome = if is_port && is_target { Outcome::Refused } else { Outcome::Unreachable };
            attempt.responder = from.filter(|from| *from != to);
            attempt.detail = icmp_error(to.is_ipv6(), kind, code);
        }
    }
}
