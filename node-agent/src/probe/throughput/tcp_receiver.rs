//! Takes one stream, and counts it.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use super::gate::Gate;
use super::message::{BYTES, Key, Message, Word};
use super::seconds::Seconds;
use super::{Came, End, Times, arrived, cannot_listen, mean, nothing};
use crate::clock;
use crate::probe::report::{Role, Throughput};
use crate::probe::spec::Flow;

/// Connections that have not shown the token, at once.
const PENDING: usize = 16;
/// So long they may take to.
const GREETING: Duration = Duration::from_secs(2);
/// Bytes of one read.
const PIECE: usize = 256 << 10;
/// After the system refused a connection: it has too many.
const REST: Duration = Duration::from_millis(10);

/// Listens until the sender has come, and then to it alone until it ends.
pub(super) async fn run(flow: &Flow, at: SocketAddr, key: Key, times: &Times) -> Result<End, String> {
    let sent = clock::realtime_nanos();
    let listener = listen(at).map_err(|error| cannot_listen(at, &error))?;
    let mut gate = Gate::new(&flow.senders);
    let accepted = timeout_at(times.heard(), accept(&listener, key, &mut gate)).await;
    drop(listener);
    let seen = Throughput { strangers: gate.strangers, ..Throughput::of(Role::Receiver) };
    let Ok(mut stream) = accepted else {
        return Ok(End { attempt: nothing(flow, sent, &Came::Nothing), seen, source: None });
    };
    let (bytes, elapsed, seconds) = count(&mut stream, flow, times).await;
    let attempt = if bytes > 0 { arrived(sent) } else { nothing(flow, sent, &Came::Calls) };
    let bits_per_second = mean(bytes, elapsed.as_nanos() as u64);
    Ok(End {
        attempt,
        seen: Throughput { bytes, bits_per_second, duration: elapsed, seconds: seconds.0, ..seen },
        source: None,
    })
}

fn listen(at: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM.nonblocking().cloexec(), None)?;
    // The connection of the run before may still linger on the port.
    socket.set_reuse_address(true)?;
    socket.bind(&at.into())?;
    socket.listen(PENDING as i32)?;
    TcpListener::from_std(socket.into())
}

/// The first connection that comes from the sender and begins with the token.
async fn accept(listener: &TcpListener, key: Key, gate: &mut Gate<'_>) -> TcpStream {
    let mut pending = FuturesUnordered::new();
    loop {
        tokio::select! {
            Some(greeted) = pending.next(), if !pending.is_empty() => match greeted {
                Some(stream) => {
                    (0..pending.len()).for_each(|_| gate.refuse());
                    return stream;
                }
                None => gate.refuse(),
            },
            accepted = listener.accept() => match accepted {
                Ok((stream, from)) if gate.is_open(from.ip()) && pending.len() < PENDING => {
                    pending.push(greet(stream, key));
                }
                Ok(_) => gate.refuse(),
                Err(error) => {
                    tracing::warn!(%error, "a connection of a throughput cannot be accepted; trying again");
                    sleep(REST).await;
                }
            },
        }
    }
}

/// The connection, if it shows the token in time.
async fn greet(mut stream: TcpStream, key: Key) -> Option<TcpStream> {
    let mut bytes = [0; BYTES];
    timeout(GREETING, stream.read_exact(&mut bytes)).await.ok()?.ok()?;
    let call = key.read(&bytes).filter(|message| message.word == Word::Call)?;
    stream.write_all(&key.write(Message { word: Word::Ready, ..call })).await.ok()?;
    Some(stream)
}

/// Bytes until the end, the time from the begin to the last of them, and which came when.
async fn count(stream: &mut TcpStream, flow: &Flow, times: &Times) -> (u64, Duration, Seconds) {
    let (begin, mut last) = (Instant::now(), Duration::ZERO);
    let (mut bytes, mut seconds, mut buffer) = (0, Seconds::default(), vec![0; PIECE]);
    let over = sleep_until(times.over());
    tokio::pin!(over);
    while bytes < flow.max_bytes {
        let read = tokio::select! {
            read = stream.read(&mut buffer) => read,
            () = &mut over => break,
        };
        // A connection that breaks ends as one that is closed: what came came.
        let Ok(read @ 1..) = read else { break };
        last = begin.elapsed();
        bytes += read as u64;
        seconds.add(last.as_nanos() as u64, read as u64, 0);
    }
    (bytes, last, seconds)
}
