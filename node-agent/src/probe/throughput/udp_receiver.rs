//! Counts numbered datagrams.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::ear::Ear;
use super::gate::Gate;
use super::hearing::Hearing;
use super::message::Key;
use super::{Came, DATAGRAM_BYTES, End, Times, arrived, cannot_listen, mean, nothing};
use crate::clock;
use crate::probe::attempt::Attempt;
use crate::probe::report::{Role, Throughput};
use crate::probe::spec::Flow;

/// Listens until everything came, or nothing more does.
pub(super) async fn run(flow: &Flow, at: SocketAddr, key: Key, times: &Times) -> Result<End, String> {
    let sent = clock::realtime_nanos();
    let mut ear = Ear::open(at).map_err(|error| cannot_listen(at, &error))?;
    let mut hearing = Hearing::new(key, Gate::new(&flow.senders), flow.most_datagrams(DATAGRAM_BYTES));
    // One byte more than the longest there should be.
    let mut buffer = [0; DATAGRAM_BYTES + 1];
    // A socket that is never empty would never let the clock have its say.
    while !hearing.is_whole() && Instant::now() < hearing.deadline(times) {
        match timeout_at(hearing.deadline(times), ear.next(&mut buffer)).await {
            Err(_) => break,
            Ok(Err(error)) => return Err(format!("{at} cannot be listened on any more: {error}")),
            Ok(Ok(heard)) => {
                if let Some(answer) = hearing.take(&buffer[..heard.length], heard.from, heard.nanos) {
                    ear.reply(&answer, heard.from);
                }
            }
        }
    }
    let tally = &hearing.tally;
    let attempt = match hearing.came() {
        Came::End(_) if tally.distinct > 0 => arrived(sent),
        // A way that breaks in the middle takes the end with it.
        _ if tally.distinct > 0 => {
            let detail =
                "the sender's end was not heard: what was lost is known from its own count".to_owned();
            Attempt { detail, ..arrived(sent) }
        }
        came => nothing(flow, sent, &came),
    };
    let seen = Throughput {
        role: Role::Receiver,
        bytes: tally.bytes,
        packets: tally.distinct,
        duration: Duration::from_nanos(tally.nanos()),
        bits_per_second: mean(tally.bytes, tally.nanos()),
        lost: hearing.is_ended().then(|| hearing.lost()),
        duplicates: Some(tally.duplicates),
        reordered: Some(tally.reordered),
        jitter: tally.jitter_nanos().map(Duration::from_nanos),
        overflowed: Some(ear.overflowed()),
        strangers: hearing.gate.strangers,
        seconds: tally.seconds.0.clone(),
        ..Throughput::of(Role::Receiver)
    };
    Ok(End { attempt, seen, source: None })
}
