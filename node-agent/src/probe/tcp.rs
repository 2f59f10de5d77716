//! Connections to a port.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::attempt::{Attempt, Outcome};
use super::spec::Schedule;
use crate::clock;

/// Opens connections and closes them again.
pub(super) async fn run(to: SocketAddr, schedule: &Schedule, begin: Instant) -> Vec<Attempt> {
    let mut attempts = JoinSet::new();
    for number in 0..schedule.count {
        let (at, patience) = (begin + schedule.interval * u32::from(number), schedule.timeout);
        attempts.spawn(async move {
            sleep_until(at).await;
            (number, attempt(to, patience).await)
        });
    }
    let mut done = attempts.join_all().await;
    done.sort_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, attempt)| attempt).collect()
}

async fn attempt(to: SocketAddr, patience: Duration) -> Attempt {
    let (sent, began) = (clock::realtime_nanos(), Instant::now());
    let stream = match begin(to) {
        Ok(stream) => stream,
        // Before anything was sent: this node's own word.
        Err(error) => return Attempt::not_sent(sent, &error),
    };
    let ended = timeout(patience, async {
        stream.writable().await?;
        stream.take_error()
    });
    match ended.await {
        Err(_) => Attempt::silent(sent),
        Ok(Err(error)) => Attempt::not_sent(sent, &error),
        Ok(Ok(error)) => judged(sent, error.as_ref(), began.elapsed()),
    }
}

/// A connection under way.
fn begin(to: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM.nonblocking().cloexec(), None)?;
    match socket.connect(&to.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => TcpStream::from_std(socket.into()),
    }
}

/// What ended the handshake (`SO_ERROR`): the target, or an ICMP error, whose sender TCP does not tell.
fn judged(sent: i64, error: Option<&io::Error>, delay: Duration) -> Attempt {
    let silent = Attempt::silent(sent);
    let with = |outcome, detail: &str| Attempt {
        outcome,
        delay: Some(delay),
        detail: detail.to_owned(),
        ..silent.clone()
    };
    let Some(error) = error else { return with(Outcome::Answered, "") };
    match error.raw_os_error() {
        Some(libc::ECONNREFUSED) => with(Outcome::Refused, ""),
        Some(libc::ECONNRESET) => with(Outcome::Refused, "reset while it was being opened"),
        // The kernel gave up: its own patience was shorter.
        Some(libc::ETIMEDOUT) => silent,
        Some(libc::EHOSTUNREACH) => with(Outcome::Unreachable, "host unreachable"),
        Some(libc::ENETUNREACH) => with(Outcome::Unreachable, "network unreachable"),
        Some(libc::EACCES) => with(Outcome::Unreachable, "administratively prohibited"),
        _ => with(Outcome::Unreachable, &error.to_string()),
    }
}
