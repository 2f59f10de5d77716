//! Connections to a port.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout};

use super::attempt::{Attempt, Outcome};
use super::series;
use super::spec::Schedule;
use crate::clock;

/// Connections of all probes of this node at once: descriptors are for captures too.
const CONNECTIONS: usize = 256;
static OPEN: Semaphore = Semaphore::const_new(CONNECTIONS);

/// A connection, and its place among those of this node.
pub(super) type Connection = (TcpStream, SemaphorePermit<'static>);

/// Opens connections and closes them again.
pub(super) async fn run(to: SocketAddr, schedule: &Schedule, begin: Instant) -> Vec<Attempt> {
    series::run(schedule, begin, async || attempt(to, schedule.timeout).await).await
}

async fn attempt(to: SocketAddr, patience: Duration) -> Attempt {
    let (sent, began) = (clock::realtime_nanos(), Instant::now());
    match timeout(patience, connect(to)).await {
        Err(_) => Attempt::silent(sent),
        Ok(Ok(_)) => {
            Attempt { outcome: Outcome::Answered, delay: Some(began.elapsed()), ..Attempt::silent(sent) }
        }
        Ok(Err(failure)) => failure.attempt(sent, began.elapsed()),
    }
}

/// Why there is no connection.
pub(super) enum Failure {
    /// Nothing was sent: this node's own word.
    Here(io::Error),
    /// What ended the handshake (`SO_ERROR`): the target, or an ICMP error, whose sender TCP does not tell.
    There(io::Error),
}

impl Failure {
    pub(super) fn attempt(&self, sent: i64, delay: Duration) -> Attempt {
        match self {
            Self::Here(error) => Attempt::not_sent(sent, error),
            Self::There(error) => Attempt::ended(sent, error, delay),
        }
    }
}

/// Opens a connection.
pub(super) async fn connect(to: SocketAddr) -> Result<Connection, Failure> {
    let full = |_| {
        let reason = format!(
            "{CONNECTIONS} connections of probes are open on this node, the limit; wait, or probe less at once"
        );
        Failure::Here(io::Error::other(reason))
    };
    let permit = OPEN.try_acquire().map_err(full)?;
    let stream = begin(to).map_err(Failure::Here)?;
    stream.writable().await.map_err(Failure::Here)?;
    match stream.take_error().map_err(Failure::Here)? {
        None => Ok((stream, permit)),
        Some(error) => Err(Failure::There(error)),
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
