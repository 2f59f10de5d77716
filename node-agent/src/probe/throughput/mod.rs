//! How much comes through from one source to another: the one sends, the other counts. Each is a part of the same probe, and
//! knows from its spec which it is. The receiver listens from a second before the begin until the end, takes what begins with
//! the token of the probe and comes from the sender, and never says more than the sender said to it. The sender sends no data
//! before the receiver has answered its call with the token: it cannot be made to flood who does not listen for it.

mod ear;
mod gate;
mod hearing;
mod message;
mod pace;
mod seconds;
mod tally;
mod tcp_info;
mod tcp_receiver;
mod tcp_sender;
mod udp_receiver;
mod udp_sender;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lastseen_proto::limits::PROBE_PAYLOAD_BYTES;
use lastseen_proto::place::Place;
use lastseen_proto::target::Target;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use self::message::Key;
use super::attempt::{Attempt, Outcome};
use super::report::{Finding, Found, Throughput};
use super::run::address;
use super::spec::{Flow, FlowProtocol, Spec};

/// Ends of throughputs at once on this node: each may take a core.
const ENDS: usize = 16;
static OPEN: Semaphore = Semaphore::const_new(ENDS);

/// Bytes of a datagram of data: what every path takes.
const DATAGRAM_BYTES: usize = PROBE_PAYLOAD_BYTES;
/// How far the clocks of two nodes may differ.
const SLACK: Duration = Duration::from_millis(200);

/// When an end does what.
#[derive(Clone, Copy, Debug)]
struct Times {
    begin: Instant,
    duration: Duration,
    /// How long the other end may take to answer.
    patience: Duration,
}

impl Times {
    /// The sender calls until then.
    fn called(&self) -> Instant {
        self.begin + self.patience
    }

    /// The receiver waits for a call until then.
    fn heard(&self) -> Instant {
        self.called() + SLACK
    }

    /// Everything is over then.
    fn over(&self) -> Instant {
        self.begin + self.duration + 2 * self.patience
    }
}

/// What an end comes to.
struct End {
    attempt: Attempt,
    seen: Throughput,
    /// Whence it was sent.
    source: Option<IpAddr>,
}

/// The part of `place` in one run.
pub(super) async fn run(
    spec: &Spec,
    flow: &Flow,
    place: &Place,
    target: &Target,
    number: u64,
    begin: Instant,
) -> Found {
    let mut found = Found::nothing(target.to_string(), String::new());
    match part(spec, flow, place, target, number, begin, &mut found).await {
        Ok(End { attempt, seen, source }) => {
            found.attempts = vec![attempt];
            found.finding = Some(Finding::Throughput(seen));
            found.source = source;
        }
        Err(reason) => found.reason = reason,
    }
    found
}

async fn part(
    spec: &Spec,
    flow: &Flow,
    place: &Place,
    target: &Target,
    number: u64,
    begin: Instant,
    found: &mut Found,
) -> Result<End, String> {
    let address = address(spec, target).await?;
    found.address = Some(address);
    let _permit = OPEN.try_acquire().map_err(|_| {
        format!("{ENDS} ends of throughputs are at work on this node, the limit; stop one or wait")
    })?;
    let at = SocketAddr::new(address, target.port.unwrap_or_default());
    let times =
        Times { begin: begin.max(Instant::now()), duration: flow.duration, patience: spec.schedule.timeout };
    let key = Key::new(flow.token.0, number);
    match (flow.receiver.as_ref() == Some(place), flow.protocol) {
        (true, FlowProtocol::Tcp) => tcp_receiver::run(flow, at, key, &times).await,
        (true, FlowProtocol::Udp) => udp_receiver::run(flow, at, key, &times).await,
        (false, FlowProtocol::Tcp) => Ok(tcp_sender::run(flow, at, key, &times).await),
        (false, FlowProtocol::Udp) => udp_sender::run(flow, at, key, &times).await,
    }
}

/// Bits a second; 0 of no time.
fn mean(bytes: u64, nanos: u64) -> u64 {
    let bits = u128::from(bytes) * 8 * 1_000_000_000;
    bits.checked_div(u128::from(nanos)).map_or(0, |mean| u64::try_from(mean).unwrap_or(u64::MAX))
}

/// How far a sender came of which no data arrived.
enum Came {
    /// Nothing at all.
    Nothing,
    /// It called, and did not go on.
    Calls,
    /// It called, and said in the end that it had sent so many datagrams.
    End(u64),
}

/// What a receiver saw of a sender whose data never came.
fn nothing(flow: &Flow, sent: i64, came: &Came) -> Attempt {
    let whom = flow.senders.first().map_or_else(|| "the sender".to_owned(), ToString::to_string);
    let detail = match came {
        Came::Nothing => format!("nothing arrived from {whom}"),
        Came::Calls => format!("calls of {whom} arrived and no data: the answers do not come back to it"),
        Came::End(count) => {
            format!("calls of {whom} arrived, and none of the {count} datagrams that it sent")
        }
    };
    Attempt { detail, ..Attempt::silent(sent) }
}

/// It arrived.
fn arrived(sent: i64) -> Attempt {
    Attempt { outcome: Outcome::Answered, ..Attempt::silent(sent) }
}

/// Why a receiver cannot listen.
fn cannot_listen(at: SocketAddr, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("port {} of {} is taken there; give another port", at.port(), at.ip())
        }
        io::ErrorKind::AddrNotAvailable => {
            format!("{} is no address of the receiver any more; run the probe anew", at.ip())
        }
        _ => format!("it cannot listen on {at}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_is_bits_over_time_and_nothing_of_no_time() {
        assert_eq!([mean(125, 1_000), mean(0, 5), mean(5, 0)], [1_000_000_000, 0, 0]);
        assert_eq!(mean(u64::MAX, 1), u64::MAX);
    }
}
